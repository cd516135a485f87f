//! Operators and functions on dates, times and intervals.

use crate::error::{SqlError, SqlState};
use crate::types::body::{Args, Scalar, Value};
use crate::types::datetime::{
    DATE_INFINITY, DATE_NEG_INFINITY, DAY, INFINITY, NEG_INFINITY, Zone, arith, civil, fields,
};
use crate::types::datum::{Datum, Interval};
use crate::types::fault::{datetime_out_of_range, wrong_argument};
use crate::types::numeric::Numeric;
use crate::types::registry::EvalContext;

use super::cast::date_micros;

fn date(a: &[Datum], i: usize) -> Result<i32, SqlError> {
    match a.datum(i) {
        Datum::Date(v) => Ok(*v),
        _ => Err(wrong_argument("date function")),
    }
}

fn endless(days: i32) -> bool {
    days == DATE_INFINITY || days == DATE_NEG_INFINITY
}

fn date_plus(days: i32, by: i64) -> Value {
    if endless(days) {
        return Ok(Datum::Date(days));
    }
    Ok(Datum::Date(civil::check_date(i64::from(days) + by)?))
}
fn date_pli(_: &dyn EvalContext, a: &[Datum]) -> Value {
    date_plus(date(a, 0)?, a.int(1)?)
}
fn int_plus_date(_: &dyn EvalContext, a: &[Datum]) -> Value {
    date_plus(date(a, 1)?, a.int(0)?)
}
fn date_mii(_: &dyn EvalContext, a: &[Datum]) -> Value {
    date_plus(date(a, 0)?, -a.int(1)?)
}
fn date_mi(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (x, y) = (date(a, 0)?, date(a, 1)?);
    if endless(x) || endless(y) {
        return Err(SqlError::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            "cannot subtract infinite dates",
        ));
    }
    Ok(Datum::Int4(x.wrapping_sub(y)))
}
fn date_pl_interval(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Timestamp(arith::add_interval(
        date_micros(date(a, 0)?)?,
        a.interval(1)?,
    )?))
}
fn interval_pl_date(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    date_pl_interval(cx, &[a.datum(1).clone(), a.datum(0).clone()])
}
fn date_mi_interval(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let span = arith::neg(a.interval(1)?)?;
    Ok(Datum::Timestamp(arith::add_interval(
        date_micros(date(a, 0)?)?,
        span,
    )?))
}
/// `date + time`
fn datetime_timestamp(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let days = date(a, 0)?;
    let start = date_micros(days)?;
    if endless(days) {
        return Ok(Datum::Timestamp(start));
    }
    Ok(Datum::Timestamp(civil::check_timestamp(
        start + a.moment(1)?,
    )?))
}
fn time_plus_date(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    datetime_timestamp(cx, &[a.datum(1).clone(), a.datum(0).clone()])
}
/// `date + timetz`
fn datetimetz_timestamptz(_: &dyn EvalContext, a: &[Datum]) -> Value {
    match (a.datum(0), a.datum(1)) {
        (Datum::Date(days), Datum::TimeTz(time, zone)) => {
            let local = date_micros(*days)?;
            if endless(*days) {
                return Ok(Datum::Timestamptz(local));
            }
            let utc = local + time - i64::from(*zone) * 1_000_000;
            Ok(Datum::Timestamptz(civil::check_timestamp(utc)?))
        }
        _ => Err(wrong_argument("datetimetz")),
    }
}
fn timetz_plus_date(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    datetimetz_timestamptz(cx, &[a.datum(1).clone(), a.datum(0).clone()])
}

fn timestamp_pl(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Timestamp(arith::add_interval(
        a.moment(0)?,
        a.interval(1)?,
    )?))
}
fn timestamp_mi(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Timestamp(arith::add_interval(
        a.moment(0)?,
        arith::neg(a.interval(1)?)?,
    )?))
}
fn interval_pl_timestamp(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Timestamp(arith::add_interval(
        a.moment(1)?,
        a.interval(0)?,
    )?))
}
fn timestamptz_pl(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let sum = arith::add_interval_tz(a.moment(0)?, a.interval(1)?, cx.time_zone())?;
    Ok(Datum::Timestamptz(sum))
}
fn timestamptz_mi(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let span = arith::neg(a.interval(1)?)?;
    Ok(Datum::Timestamptz(arith::add_interval_tz(
        a.moment(0)?,
        span,
        cx.time_zone(),
    )?))
}
fn interval_pl_timestamptz(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    timestamptz_pl(cx, &[a.datum(1).clone(), a.datum(0).clone()])
}
fn timestamps_mi(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(arith::subtract(
        a.moment(0)?,
        a.moment(1)?,
    )?))
}

fn time_shift(a: &[Datum], time: usize, span: usize, sign: i64) -> Value {
    let by = a.interval(span)?.micros % DAY * sign;
    Ok(match a.datum(time) {
        Datum::TimeTz(v, zone) => Datum::TimeTz(arith::add_time(*v, by), *zone),
        _ => Datum::Time(arith::add_time(a.moment(time)?, by)),
    })
}
fn time_pl(_: &dyn EvalContext, a: &[Datum]) -> Value {
    time_shift(a, 0, 1, 1)
}
fn interval_pl_time(_: &dyn EvalContext, a: &[Datum]) -> Value {
    time_shift(a, 1, 0, 1)
}
fn time_mi(_: &dyn EvalContext, a: &[Datum]) -> Value {
    time_shift(a, 0, 1, -1)
}
fn times_mi(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(Interval {
        months: 0,
        days: 0,
        micros: a.moment(0)? - a.moment(1)?,
    }))
}

fn interval_pl(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(arith::add(a.interval(0)?, a.interval(1)?)?))
}
fn interval_mi(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (x, y) = (a.interval(0)?, a.interval(1)?);
    let difference = || {
        Some(Interval {
            months: x.months.checked_sub(y.months)?,
            days: x.days.checked_sub(y.days)?,
            micros: x.micros.checked_sub(y.micros)?,
        })
    };
    difference()
        .map(Datum::Interval)
        .ok_or_else(arith::interval_out_of_range)
}
fn interval_um(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(arith::neg(a.interval(0)?)?))
}
fn interval_mul(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(arith::multiply(
        a.interval(0)?,
        a.float(1)?,
    )?))
}
fn mul_d_interval(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(arith::multiply(
        a.interval(1)?,
        a.float(0)?,
    )?))
}
fn interval_div(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(arith::divide(a.interval(0)?, a.float(1)?)?))
}
fn justify_hours(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(arith::justify_hours(a.interval(0)?)))
}
fn justify_days(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(arith::justify_days(a.interval(0)?)))
}
fn justify_interval(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(arith::justify(a.interval(0)?)))
}

fn age(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(arith::age(a.moment(0)?, a.moment(1)?)?))
}
fn age_tz(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let zone = cx.time_zone();
    Ok(Datum::Interval(arith::age(
        zone.to_local(a.moment(0)?),
        zone.to_local(a.moment(1)?),
    )?))
}
fn today(cx: &dyn EvalContext) -> i64 {
    cx.time_zone()
        .to_local(cx.transaction_time())
        .div_euclid(DAY)
        * DAY
}
fn age_now(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(arith::age(today(cx), a.moment(0)?)?))
}
fn age_now_tz(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(arith::age(
        today(cx),
        cx.time_zone().to_local(a.moment(0)?),
    )?))
}

/// The parts of any kind of time.
fn part(cx: &dyn EvalContext, a: &[Datum]) -> Result<Option<Numeric>, SqlError> {
    let unit = a.text(0)?;
    match a.datum(1) {
        Datum::Date(v) => fields::extract_date(unit, *v),
        Datum::Time(v) => fields::extract_time(unit, *v, None).map(Some),
        Datum::TimeTz(v, zone) => fields::extract_time(unit, *v, Some(*zone)).map(Some),
        Datum::Timestamp(v) => fields::extract_timestamp(unit, *v, None),
        Datum::Timestamptz(v) => {
            let zone = cx.time_zone();
            fields::extract_timestamp(unit, zone.to_local(*v), Some((*v, zone.offset_at(*v))))
        }
        Datum::Interval(v) => fields::extract_interval(unit, *v).map(Some),
        _ => Err(wrong_argument("extract")),
    }
}
fn extract(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(part(cx, a)?.map_or(Datum::Null, Datum::Numeric))
}
fn date_part(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let value = match a.datum(1) {
        // date_part of a date goes through timestamp
        Datum::Date(v) => part(
            cx,
            &[a.datum(0).clone(), Datum::Timestamp(date_micros(*v)?)],
        )?,
        _ => part(cx, a)?,
    };
    Ok(value.map_or(Datum::Null, |v| Datum::Float8(v.to_f64())))
}

fn trunc_timestamp(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let cut = fields::truncate(a.text(0)?, a.moment(1)?, "timestamp without time zone")?;
    Ok(Datum::Timestamp(cut))
}
fn trunc_timestamptz(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let zone = if a.len() > 2 {
        Zone::parse(a.text(2)?)?
    } else {
        cx.time_zone()
    };
    Ok(Datum::Timestamptz(fields::truncate_tz(
        a.text(0)?,
        a.moment(1)?,
        zone,
    )?))
}
fn trunc_interval(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(fields::truncate_interval(
        a.text(0)?,
        a.interval(1)?,
    )?))
}

fn now(cx: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Timestamptz(cx.transaction_time()))
}
fn statement_timestamp(cx: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Timestamptz(cx.statement_time()))
}
fn clock_timestamp(cx: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Timestamptz(cx.clock_time()))
}

/// `timezone(zone, value)`: AT TIME ZONE.
fn at_zone(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let zone = match a.datum(0) {
        Datum::Interval(span) => arith::interval_zone(*span)?,
        _ => Zone::parse(a.text(0)?)?,
    };
    Ok(match a.datum(1) {
        Datum::Timestamp(v) => Datum::Timestamptz(zone.to_utc(*v)?),
        Datum::Timestamptz(v) => Datum::Timestamp(zone.to_local(*v)),
        Datum::TimeTz(v, own) => {
            let offset = match zone {
                Zone::Fixed(seconds) => seconds,
                named => named.offset_at(*v),
            };
            let shift = i64::from(offset - own) * 1_000_000;
            Datum::TimeTz((v + shift).rem_euclid(DAY), offset)
        }
        _ => return Err(wrong_argument("timezone")),
    })
}

fn make_date(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (year, month, day) = (a.int(0)?, a.int(1)?, a.int(2)?);
    let real = if year < 0 { year + 1 } else { year };
    let bad = || {
        SqlError::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date field value out of range: {real}-{month:02}-{day:02}"),
        )
    };
    if year == 0
        || !(1..=12).contains(&month)
        || !(1..=civil::days_in_month(real, month)).contains(&day)
    {
        return Err(bad());
    }
    civil::check_date(civil::days_from_civil(real, month, day))
        .map(Datum::Date)
        .map_err(|_| {
            SqlError::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("date out of range: {year}-{month:02}-{day:02}"),
            )
        })
}

fn time_micros(h: i64, m: i64, s: f64) -> Result<i64, SqlError> {
    let micros = (s * 1_000_000.0).round_ties_even();
    let total = h * 3_600_000_000 + m * 60_000_000 + micros as i64;
    if !(0..=24).contains(&h) || !(0..60).contains(&m) || !(0.0..=60.0).contains(&s) || total > DAY
    {
        return Err(SqlError::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!(
                "time field value out of range: {h}:{m:02}:{}",
                seconds_text(s)
            ),
        ));
    }
    Ok(total)
}

fn seconds_text(s: f64) -> String {
    let text = format!("{s}");
    if s < 10.0 && s >= 0.0 {
        format!("0{text}")
    } else {
        text
    }
}

fn make_time(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Time(time_micros(a.int(0)?, a.int(1)?, a.float(2)?)?))
}
fn make_local(cx: &dyn EvalContext, a: &[Datum]) -> Result<i64, SqlError> {
    let Datum::Date(days) = make_date(cx, a)? else {
        return Err(wrong_argument("make_timestamp"));
    };
    let time = time_micros(a.int(3)?, a.int(4)?, a.float(5)?)?;
    civil::days_to_timestamp(i64::from(days), time)
}
fn make_timestamp(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Timestamp(make_local(cx, a)?))
}
fn make_timestamptz(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let zone = if a.len() > 6 {
        Zone::parse(a.text(6)?)?
    } else {
        cx.time_zone()
    };
    Ok(Datum::Timestamptz(zone.to_utc(make_local(cx, a)?)?))
}
fn make_interval(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let int = |i: usize| if i < a.len() { a.int(i) } else { Ok(0) };
    let seconds = if a.len() > 6 { a.float(6)? } else { 0.0 };
    let months = int(0)? * 12 + int(1)?;
    let days = int(2)? * 7 + int(3)?;
    let micros = (int(4)? * 3600 + int(5)? * 60) as i128 * 1_000_000;
    let fraction = (seconds * 1_000_000.0).round_ties_even();
    if !fraction.is_finite() || fraction.abs() > 9.3e18 {
        return Err(arith::interval_out_of_range());
    }
    let span = || {
        Some(Interval {
            months: i32::try_from(months).ok()?,
            days: i32::try_from(days).ok()?,
            micros: i64::try_from(micros + fraction as i128).ok()?,
        })
    };
    span()
        .map(Datum::Interval)
        .ok_or_else(arith::interval_out_of_range)
}

/// `to_timestamp(float8)`
fn float_timestamptz(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let seconds = a.float(0)?;
    if seconds.is_nan() {
        return Err(SqlError::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            "timestamp cannot be NaN",
        ));
    }
    if seconds.is_infinite() {
        return Ok(Datum::Timestamptz(if seconds > 0.0 {
            INFINITY
        } else {
            NEG_INFINITY
        }));
    }
    let micros = (seconds * 1_000_000.0).round_ties_even();
    if micros.abs() >= 9.223e18 {
        return Err(datetime_out_of_range("timestamp"));
    }
    Ok(Datum::Timestamptz(civil::check_timestamp(micros as i64)?))
}

fn finite(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(match a.datum(0) {
        Datum::Date(v) => !endless(*v),
        Datum::Timestamp(v) | Datum::Timestamptz(v) => *v != INFINITY && *v != NEG_INFINITY,
        _ => true,
    }))
}

pub(super) const SCALARS: &[Scalar] = &[
    ("date_pli", date_pli),
    ("date_mii", date_mii),
    ("date_mi", date_mi),
    ("date_pl_interval", date_pl_interval),
    ("date_mi_interval", date_mi_interval),
    ("datetime_timestamp", datetime_timestamp),
    ("datetimetz_timestamptz", datetimetz_timestamptz),
    ("timestamp_pl_interval", timestamp_pl),
    ("timestamp_mi_interval", timestamp_mi),
    ("timestamptz_pl_interval", timestamptz_pl),
    ("timestamptz_mi_interval", timestamptz_mi),
    ("timestamp_mi", timestamps_mi),
    ("time_pl_interval", time_pl),
    ("timetz_pl_interval", time_pl),
    ("time_mi_interval", time_mi),
    ("timetz_mi_interval", time_mi),
    ("time_mi_time", times_mi),
    ("interval_pl", interval_pl),
    ("interval_mi", interval_mi),
    ("interval_um", interval_um),
    ("interval_mul", interval_mul),
    ("mul_d_interval", mul_d_interval),
    ("interval_div", interval_div),
    ("interval_justify_hours", justify_hours),
    ("interval_justify_days", justify_days),
    ("interval_justify_interval", justify_interval),
    ("timestamp_age", age),
    ("timestamptz_age", age_tz),
    ("extract_date", extract),
    ("extract_time", extract),
    ("extract_timetz", extract),
    ("extract_timestamp", extract),
    ("extract_timestamptz", extract),
    ("extract_interval", extract),
    ("time_part", date_part),
    ("timetz_part", date_part),
    ("timestamp_part", date_part),
    ("timestamptz_part", date_part),
    ("interval_part", date_part),
    ("timestamp_trunc", trunc_timestamp),
    ("timestamptz_trunc", trunc_timestamptz),
    ("timestamptz_trunc_zone", trunc_timestamptz),
    ("interval_trunc", trunc_interval),
    ("now", now),
    ("statement_timestamp", statement_timestamp),
    ("clock_timestamp", clock_timestamp),
    ("timestamp_zone", at_zone),
    ("timestamptz_zone", at_zone),
    ("timetz_zone", at_zone),
    ("timestamp_izone", at_zone),
    ("timestamptz_izone", at_zone),
    ("timetz_izone", at_zone),
    ("make_date", make_date),
    ("make_time", make_time),
    ("make_timestamp", make_timestamp),
    ("make_timestamptz", make_timestamptz),
    ("make_timestamptz_at_timezone", make_timestamptz),
    ("make_interval", make_interval),
    ("float8_timestamptz", float_timestamptz),
    ("date_finite", finite),
    ("timestamp_finite", finite),
    ("interval_finite", finite),
    // SQL-language functions of PostgreSQL, by number
    ("sql_1386", age_now_tz),
    ("sql_2059", age_now),
    ("sql_1384", date_part),
    ("sql_2546", interval_pl_date),
    ("sql_2547", interval_pl_timetz),
    ("sql_2548", interval_pl_timestamp),
    ("sql_2549", interval_pl_timestamptz),
    ("sql_2550", int_plus_date),
    ("sql_1296", timestamp_of_date_time),
    ("sql_1298", timetz_plus_date),
    ("sql_1848", interval_pl_time),
    ("sql_1176", date_time_timestamptz),
];

fn interval_pl_timetz(_: &dyn EvalContext, a: &[Datum]) -> Value {
    time_shift(a, 1, 0, 1)
}
fn timestamp_of_date_time(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    match a.datum(0) {
        Datum::Date(_) => datetime_timestamp(cx, a),
        _ => time_plus_date(cx, a),
    }
}
fn date_time_timestamptz(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    match datetime_timestamp(cx, a)? {
        Datum::Timestamp(v) => Ok(Datum::Timestamptz(cx.time_zone().to_utc(v)?)),
        other => Ok(other),
    }
}

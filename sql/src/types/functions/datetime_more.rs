//! to_char, to_date, to_timestamp, date_bin, OVERLAPS.

use crate::error::{SqlError, SqlState};
use crate::types::body::{Args, Scalar, Value};
use crate::types::datetime::{INFINITY, NEG_INFINITY, arith, civil, template};
use crate::types::datum::Datum;
use crate::types::fault::datetime_out_of_range;
use crate::types::registry::EvalContext;

use super::number_template;

fn endless(micros: i64) -> bool {
    micros == INFINITY || micros == NEG_INFINITY
}

fn timestamp_to_char(_: &dyn EvalContext, a: &[Datum]) -> Value {
    if endless(a.moment(0)?) {
        return Ok(Datum::Null);
    }
    template::timestamp_to_char(a.moment(0)?, None, a.text(1)?).map(Datum::text)
}
fn timestamptz_to_char(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    if endless(a.moment(0)?) {
        return Ok(Datum::Null);
    }
    template::timestamp_to_char(a.moment(0)?, Some(cx.time_zone()), a.text(1)?).map(Datum::text)
}
fn interval_to_char(_: &dyn EvalContext, a: &[Datum]) -> Value {
    template::interval_to_char(a.interval(0)?, a.text(1)?).map(Datum::text)
}
fn to_date(_: &dyn EvalContext, a: &[Datum]) -> Value {
    civil::check_date(template::read(a.text(0)?, a.text(1)?)?.days).map(Datum::Date)
}
fn to_timestamp(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let read = template::read(a.text(0)?, a.text(1)?)?;
    let local = civil::days_to_timestamp(read.days, read.micros)?;
    let zone = read.zone.unwrap_or_else(|| cx.time_zone());
    zone.to_utc(local).map(Datum::Timestamptz)
}

/// `date_bin(stride, source, origin)`
fn date_bin(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (stride, source, origin) = (a.interval(0)?, a.moment(1)?, a.moment(2)?);
    if endless(source) {
        return Ok(a.datum(1).clone());
    }
    if endless(origin) {
        return Err(datetime_out_of_range("origin"));
    }
    if stride.months != 0 {
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    let step = i64::try_from(stride.comparable()).map_err(|_| arith::interval_out_of_range())?;
    if step <= 0 {
        return Err(SqlError::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            "stride must be greater than zero",
        ));
    }
    let bin = source
        .checked_sub(origin)
        .and_then(|d| d.div_euclid(step).checked_mul(step)?.checked_add(origin))
        .ok_or_else(arith::interval_out_of_range)?;
    Ok(match a.datum(1) {
        Datum::Timestamptz(_) => Datum::Timestamptz(bin),
        _ => Datum::Timestamp(bin),
    })
}

/// One side of OVERLAPS: its two ends in order, of which one may be unknown.
fn period(
    cx: &dyn EvalContext,
    start: &Datum,
    end: &Datum,
) -> Result<Option<(i64, Option<i64>)>, SqlError> {
    let point = |d: &Datum| -> Result<Option<i64>, SqlError> {
        match d {
            Datum::Null => Ok(None),
            Datum::TimeTz(time, zone) => Ok(Some(time - i64::from(*zone) * 1_000_000)),
            other => std::slice::from_ref(other).moment(0).map(Some),
        }
    };
    let from = point(start)?;
    let to = match end {
        Datum::Interval(span) => match (start, from) {
            (_, None) => None,
            (Datum::Timestamptz(_), Some(t)) => {
                Some(arith::add_interval_tz(t, *span, cx.time_zone())?)
            }
            (Datum::Time(_), Some(t)) => Some(arith::add_time(t, span.micros)),
            (_, Some(t)) => Some(arith::add_interval(t, *span)?),
        },
        other => point(other)?,
    };
    Ok(match (from, to) {
        (None, None) => None,
        (Some(a), None) | (None, Some(a)) => Some((a, None)),
        (Some(a), Some(b)) => Some((a.min(b), Some(a.max(b)))),
    })
}
fn overlaps(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let (Some(x), Some(y)) = (
        period(cx, a.datum(0), a.datum(1))?,
        period(cx, a.datum(2), a.datum(3))?,
    ) else {
        return Ok(Datum::Null);
    };
    // the later start must lie before the other's end
    let ((_, early_end), (late, late_end)) = if x.0 <= y.0 { (x, y) } else { (y, x) };
    if x.0 == y.0 {
        return Ok(if early_end.is_none() || late_end.is_none() {
            Datum::Null
        } else {
            Datum::Bool(true)
        });
    }
    Ok(match early_end {
        None => Datum::Null,
        Some(end) if late < end => Datum::Bool(true),
        Some(_) => Datum::Bool(false),
    })
}

fn number_to_char(_: &dyn EvalContext, a: &[Datum]) -> Value {
    number_template::write(a.datum(0), a.text(1)?).map(Datum::text)
}
fn to_number(_: &dyn EvalContext, a: &[Datum]) -> Value {
    number_template::read(a.text(0)?, a.text(1)?).map(Datum::Numeric)
}

pub(super) const SCALARS: &[Scalar] = &[
    ("timestamp_to_char", timestamp_to_char),
    ("timestamptz_to_char", timestamptz_to_char),
    ("interval_to_char", interval_to_char),
    ("to_date", to_date),
    ("to_timestamp", to_timestamp),
    ("timestamp_bin", date_bin),
    ("timestamptz_bin", date_bin),
    ("overlaps_timestamp", overlaps),
    ("overlaps_time", overlaps),
    ("overlaps_timetz", overlaps),
    ("sql_1305", overlaps),
    ("sql_1306", overlaps),
    ("sql_1307", overlaps),
    ("sql_1309", overlaps),
    ("sql_1310", overlaps),
    ("sql_1311", overlaps),
    ("sql_2042", overlaps),
    ("sql_2043", overlaps),
    ("sql_2044", overlaps),
    ("int4_to_char", number_to_char),
    ("int8_to_char", number_to_char),
    ("float4_to_char", number_to_char),
    ("float8_to_char", number_to_char),
    ("numeric_to_char", number_to_char),
    ("numeric_to_number", to_number),
];

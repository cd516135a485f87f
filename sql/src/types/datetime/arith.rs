//! Sums and differences of dates, times and intervals.

use super::civil::{Civil, check_timestamp, days_in_month};
use super::parse::finite;
use super::{DAY, HOUR, INFINITY, NEG_INFINITY, SECOND, Zone};
use crate::error::{SqlError, SqlState};
use crate::types::Interval;
use crate::types::fault::datetime_out_of_range;

fn endless(micros: i64) -> bool {
    micros == INFINITY || micros == NEG_INFINITY
}

/// "interval out of range".
pub fn interval_out_of_range() -> SqlError {
    datetime_out_of_range("interval")
}

/// Adds months (keeping within the month), then days, then the time, on the wall clock.
pub fn add_interval(timestamp: i64, span: Interval) -> Result<i64, SqlError> {
    if endless(timestamp) {
        return Ok(timestamp);
    }
    let mut value = timestamp;
    if span.months != 0 {
        value = add_months(value, i64::from(span.months))?;
    }
    value = i64::from(span.days)
        .checked_mul(DAY)
        .and_then(|d| value.checked_add(d))
        .ok_or_else(|| datetime_out_of_range("timestamp"))?;
    check_timestamp(value)?;
    value = value
        .checked_add(span.micros)
        .ok_or_else(|| datetime_out_of_range("timestamp"))?;
    check_timestamp(value)
}

fn add_months(timestamp: i64, months: i64) -> Result<i64, SqlError> {
    let mut civil = Civil::from_micros(timestamp);
    let month = civil.year * 12 + civil.month - 1 + months;
    civil.year = month.div_euclid(12);
    civil.month = month.rem_euclid(12) + 1;
    civil.day = civil.day.min(days_in_month(civil.year, civil.month));
    civil.to_micros()
}

/// The same on a moment: months and days on the wall clock of the zone, the time in real time.
pub fn add_interval_tz(timestamp: i64, span: Interval, zone: Zone) -> Result<i64, SqlError> {
    if endless(timestamp) {
        return Ok(timestamp);
    }
    let mut value = timestamp;
    if span.months != 0 {
        value = zone.to_utc(add_months(zone.to_local(value), i64::from(span.months))?)?;
    }
    if span.days != 0 {
        let local = zone.to_local(value) + i64::from(span.days) * DAY;
        value = zone.to_utc(check_timestamp(local)?)?;
    }
    check_timestamp(
        value
            .checked_add(span.micros)
            .ok_or_else(|| datetime_out_of_range("timestamp"))?,
    )
}

/// Difference of two timestamps in days and time.
pub fn subtract(a: i64, b: i64) -> Result<Interval, SqlError> {
    if endless(a) || endless(b) {
        return Err(SqlError::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            "cannot subtract infinite timestamps",
        ));
    }
    let micros = a.checked_sub(b).ok_or_else(interval_out_of_range)?;
    Ok(justify_hours(Interval {
        months: 0,
        days: 0,
        micros,
    }))
}

/// Whole days of the time become days.
pub fn justify_hours(span: Interval) -> Interval {
    let mut days = i64::from(span.days) + span.micros / DAY;
    let mut micros = span.micros % DAY;
    if days > 0 && micros < 0 {
        days -= 1;
        micros += DAY;
    } else if days < 0 && micros > 0 {
        days += 1;
        micros -= DAY;
    }
    Interval {
        months: span.months,
        days: days as i32,
        micros,
    }
}

/// Whole 30 days become months.
pub fn justify_days(span: Interval) -> Interval {
    let mut months = span.months + span.days / 30;
    let mut days = span.days % 30;
    if months > 0 && days < 0 {
        months -= 1;
        days += 30;
    } else if months < 0 && days > 0 {
        months += 1;
        days -= 30;
    }
    Interval {
        months,
        days,
        micros: span.micros,
    }
}

/// Both, with one sign for all parts.
pub fn justify(span: Interval) -> Interval {
    let mut days = i64::from(span.days) + span.micros / DAY;
    let mut micros = span.micros % DAY;
    let mut months = i64::from(span.months) + days / 30;
    days %= 30;
    if months > 0 && (days < 0 || (days == 0 && micros < 0)) {
        months -= 1;
        days += 30;
    } else if months < 0 && (days > 0 || (days == 0 && micros > 0)) {
        months += 1;
        days -= 30;
    }
    if days > 0 && micros < 0 {
        days -= 1;
        micros += DAY;
    } else if days < 0 && micros > 0 {
        days += 1;
        micros -= DAY;
    }
    Interval {
        months: months as i32,
        days: days as i32,
        micros,
    }
}

/// `a + b`
pub fn add(a: Interval, b: Interval) -> Result<Interval, SqlError> {
    let sum = || {
        Some(Interval {
            months: a.months.checked_add(b.months)?,
            days: a.days.checked_add(b.days)?,
            micros: a.micros.checked_add(b.micros)?,
        })
    };
    sum().ok_or_else(interval_out_of_range)
}

/// `-a`
pub fn neg(a: Interval) -> Result<Interval, SqlError> {
    let negated = || {
        Some(Interval {
            months: a.months.checked_neg()?,
            days: a.days.checked_neg()?,
            micros: a.micros.checked_neg()?,
        })
    };
    negated().ok_or_else(interval_out_of_range)
}

/// Rounds to microseconds of a second, as PostgreSQL's TSROUND does.
fn ts_round(v: f64) -> f64 {
    (v * 1_000_000.0).round_ties_even() / 1_000_000.0
}

/// `a * factor`: fractions of months spill into days, of days into time.
pub fn multiply(a: Interval, factor: f64) -> Result<Interval, SqlError> {
    scale(a, |v| v * factor)
}

/// `a / divisor`
pub fn divide(a: Interval, divisor: f64) -> Result<Interval, SqlError> {
    if divisor == 0.0 {
        return Err(crate::types::fault::division_by_zero());
    }
    scale(a, |v| v / divisor)
}

fn scale(a: Interval, by: impl Fn(f64) -> f64) -> Result<Interval, SqlError> {
    let int = |v: f64| {
        if v.is_nan() || v >= f64::from(i32::MAX) + 1.0 || v < f64::from(i32::MIN) {
            Err(interval_out_of_range())
        } else {
            Ok(v as i32)
        }
    };
    let months = by(f64::from(a.months));
    let days = by(f64::from(a.days));
    let (whole_months, whole_days) = (int(months)?, int(days)?);
    let month_remainder_days = ts_round((months - f64::from(whole_months)) * 30.0);
    let seconds_per_day = 86_400.0;
    let mut sec_remainder = ts_round(
        (days - f64::from(whole_days) + month_remainder_days - month_remainder_days.trunc())
            * seconds_per_day,
    );
    let mut days = whole_days;
    if sec_remainder.abs() >= seconds_per_day {
        days += (sec_remainder / seconds_per_day) as i32;
        sec_remainder -= f64::from((sec_remainder / seconds_per_day) as i32) * seconds_per_day;
    }
    days = days
        .checked_add(int(month_remainder_days)?)
        .ok_or_else(interval_out_of_range)?;
    let micros = (by(a.micros as f64) + sec_remainder * 1_000_000.0).round_ties_even();
    if micros.is_nan() || micros.abs() >= 9.223_372_036_854_775e18 {
        return Err(interval_out_of_range());
    }
    Ok(Interval {
        months: whole_months,
        days,
        micros: micros as i64,
    })
}

/// `age(a, b)`: years, months, days and time between two wall-clock times.
pub fn age(a: i64, b: i64) -> Result<Interval, SqlError> {
    let (a, b) = (finite(a)?, finite(b)?);
    let (later, earlier, sign) = if a >= b { (a, b, 1) } else { (b, a, -1) };
    let (x, y) = (Civil::from_micros(later), Civil::from_micros(earlier));
    let mut micros = x.micros - y.micros;
    let mut days = x.day - y.day;
    let mut months = (x.year - y.year) * 12 + x.month - y.month;
    if micros < 0 {
        micros += DAY;
        days -= 1;
    }
    while days < 0 {
        // days of the month of the earlier side when counting forward, of the later one's
        // predecessor otherwise
        days += if sign > 0 {
            days_in_month(y.year, y.month)
        } else {
            days_in_month(x.year, x.month)
        };
        if sign < 0 {
            days += days_in_month(y.year, y.month) - days_in_month(x.year, x.month);
        }
        months -= 1;
    }
    Ok(Interval {
        months: (months * sign) as i32,
        days: (days * sign) as i32,
        micros: micros * sign,
    })
}

/// The time of day after adding an interval's time.
pub fn add_time(time: i64, micros: i64) -> i64 {
    (time + micros % DAY).rem_euclid(DAY)
}

/// A zone that an interval stands for (`AT TIME ZONE interval`).
pub fn interval_zone(span: Interval) -> Result<Zone, SqlError> {
    if span.months != 0 || span.days != 0 {
        let mut text = String::new();
        super::write_interval(span, &mut text);
        return Err(crate::types::fault::invalid_parameter(format!(
            "interval time zone \"{text}\" must not include months or days"
        )));
    }
    Ok(Zone::Fixed(
        (span.micros / SECOND).clamp(-168 * HOUR / SECOND, 168 * HOUR / SECOND) as i32,
    ))
}

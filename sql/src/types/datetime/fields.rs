//! `extract`, `date_part` and `date_trunc`.

use super::civil::{Civil, day_of_year, iso_week, iso_week_start, weekday};
use super::words::{Unit, unit, unknown_unit};
use super::{DAY, HOUR, INFINITY, MINUTE, NEG_INFINITY, SECOND, Zone};
use crate::error::{SqlError, SqlState};
use crate::types::Interval;
use crate::types::numeric::Numeric;

fn unsupported_unit(word: &str, ty: &str) -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("unit \"{word}\" not supported for type {ty}"),
    )
}

/// Microseconds as seconds with six digits.
fn seconds(micros: i64) -> Numeric {
    Numeric::new(i128::from(micros), 6)
}

/// Years counted in groups of `size`, without a year 0.
fn group(year: i64, size: i64) -> i64 {
    if year > 0 {
        (year + size - 1) / size
    } else {
        -((size - year) / size)
    }
}

/// A part of a wall-clock time; `utc` is there for timestamptz: the moment and its offset.
pub fn extract_timestamp(
    word: &str,
    local: i64,
    utc: Option<(i64, i32)>,
) -> Result<Option<Numeric>, SqlError> {
    let ty = if utc.is_some() {
        "timestamp with time zone"
    } else {
        "timestamp without time zone"
    };
    let lower = word.to_ascii_lowercase();
    if local == INFINITY || local == NEG_INFINITY {
        return extract_infinite(word, &lower, local == INFINITY, ty);
    }
    let civil = Civil::from_micros(local);
    let integer = |v: i64| Ok(Some(Numeric::from_i64(v)));
    let days = civil.days();
    match lower.as_str() {
        "epoch" => {
            let moment = utc.map_or(local, |(m, _)| m);
            return Ok(Some(seconds(moment)));
        }
        "dow" => return integer(weekday(days)),
        "isodow" => return integer((weekday(days) + 6) % 7 + 1),
        "doy" => return integer(day_of_year(days)),
        "isoyear" => {
            let year = iso_week(days).0;
            return integer(if year <= 0 { year - 1 } else { year });
        }
        "julian" => {
            let whole = Numeric::from_i64(days + 2_440_588);
            let part = Numeric::from_i64(civil.micros).div(&Numeric::from_i64(DAY))?;
            return whole
                .add(&part)
                .map(|v| Some(if civil.micros == 0 { whole } else { v }));
        }
        "timezone" | "timezone_hour" | "timezone_minute" => {
            let Some((_, offset)) = utc else {
                return Err(unsupported_unit(word, ty));
            };
            let offset = i64::from(offset);
            return integer(match lower.as_str() {
                "timezone" => offset,
                "timezone_hour" => offset / 3600,
                _ => offset % 3600 / 60,
            });
        }
        _ => {}
    }
    let Some(unit) = unit(&lower) else {
        return Err(unknown_unit(word, ty));
    };
    if let Some(time) = time_part(unit, civil.micros) {
        return Ok(Some(time));
    }
    let year = civil.year;
    integer(match unit {
        Unit::Day => civil.day,
        Unit::Month => civil.month,
        Unit::Quarter => (civil.month - 1) / 3 + 1,
        Unit::Week => iso_week(days).1,
        Unit::Year => {
            if year > 0 {
                year
            } else {
                year - 1
            }
        }
        Unit::Decade => year.div_euclid(10),
        Unit::Century => group(year, 100),
        Unit::Millennium => group(year, 1000),
        _ => return Err(unsupported_unit(word, ty)),
    })
}

/// Of an infinity: rising parts are infinite, the others NULL.
fn extract_infinite(
    word: &str,
    lower: &str,
    positive: bool,
    ty: &str,
) -> Result<Option<Numeric>, SqlError> {
    let rising = matches!(lower, "epoch" | "julian" | "isoyear")
        || matches!(
            unit(lower),
            Some(Unit::Year | Unit::Decade | Unit::Century | Unit::Millennium)
        );
    let known = rising
        || unit(lower).is_some()
        || matches!(
            lower,
            "dow" | "isodow" | "doy" | "timezone" | "timezone_hour" | "timezone_minute"
        );
    match (known, rising) {
        (false, _) => Err(unknown_unit(word, ty)),
        (true, false) => Ok(None),
        (true, true) => Ok(Some(if positive {
            Numeric::PosInfinity
        } else {
            Numeric::NegInfinity
        })),
    }
}

/// Parts below the hour, of microseconds of a day or of an interval.
fn time_part(unit: Unit, micros: i64) -> Option<Numeric> {
    Some(match unit {
        Unit::Microsecond => Numeric::from_i64(micros % MINUTE),
        Unit::Millisecond => Numeric::new(i128::from(micros % MINUTE), 3),
        Unit::Second => seconds(micros % MINUTE),
        Unit::Minute => Numeric::from_i64(micros % HOUR / MINUTE),
        Unit::Hour => Numeric::from_i64(micros / HOUR),
        _ => return None,
    })
}

/// A part of a date.
pub fn extract_date(word: &str, days: i32) -> Result<Option<Numeric>, SqlError> {
    let lower = word.to_ascii_lowercase();
    let below_day = unit(&lower).is_some_and(|u| {
        matches!(
            u,
            Unit::Microsecond | Unit::Millisecond | Unit::Second | Unit::Minute | Unit::Hour
        )
    });
    if below_day || lower.starts_with("timezone") {
        return Err(unsupported_unit(word, "date"));
    }
    let local = match days {
        super::DATE_INFINITY => INFINITY,
        super::DATE_NEG_INFINITY => NEG_INFINITY,
        _ => i64::from(days) * DAY,
    };
    let integral = |v: Numeric| if v.is_finite() { v.truncate(0) } else { v };
    match extract_timestamp(word, local, None) {
        Ok(v) => Ok(v.map(integral)),
        Err(_) => Err(unknown_unit(word, "date")),
    }
}

/// A part of a time of day.
pub fn extract_time(word: &str, micros: i64, offset: Option<i32>) -> Result<Numeric, SqlError> {
    let ty = if offset.is_some() {
        "time with time zone"
    } else {
        "time without time zone"
    };
    let lower = word.to_ascii_lowercase();
    match (lower.as_str(), offset) {
        ("epoch", _) => {
            return Ok(seconds(micros - i64::from(offset.unwrap_or(0)) * SECOND));
        }
        ("timezone", Some(o)) => return Ok(Numeric::from_i64(i64::from(o))),
        ("timezone_hour", Some(o)) => return Ok(Numeric::from_i64(i64::from(o / 3600))),
        ("timezone_minute", Some(o)) => return Ok(Numeric::from_i64(i64::from(o % 3600 / 60))),
        _ => {}
    }
    match unit(&lower) {
        Some(unit) => time_part(unit, micros).ok_or_else(|| unsupported_unit(word, ty)),
        None if matches!(
            lower.as_str(),
            "dow"
                | "isodow"
                | "doy"
                | "isoyear"
                | "julian"
                | "timezone"
                | "timezone_hour"
                | "timezone_minute"
        ) =>
        {
            Err(unsupported_unit(word, ty))
        }
        None => Err(unknown_unit(word, ty)),
    }
}

/// Words that `extract` knows but that mean nothing without a calendar.
fn is_calendar_word(word: &str) -> bool {
    matches!(
        word,
        "dow"
            | "doy"
            | "isodow"
            | "isoyear"
            | "julian"
            | "timezone"
            | "timezone_hour"
            | "timezone_minute"
    )
}

/// A part of an interval.
pub fn extract_interval(word: &str, span: Interval) -> Result<Numeric, SqlError> {
    let lower = word.to_ascii_lowercase();
    let months = i64::from(span.months);
    if lower == "epoch" {
        // a year counts 365.25 days
        let days = i128::from(months / 12) * 36_525 * 864
            + (i128::from(months % 12) * 30 + i128::from(span.days)) * 86_400;
        return Ok(Numeric::new(days * 1_000_000 + i128::from(span.micros), 6));
    }
    let Some(unit) = unit(&lower) else {
        return Err(if is_calendar_word(&lower) {
            unsupported_unit(word, "interval")
        } else {
            unknown_unit(word, "interval")
        });
    };
    if let Some(time) = time_part(unit, span.micros) {
        return Ok(time);
    }
    Ok(Numeric::from_i64(match unit {
        Unit::Day => i64::from(span.days),
        Unit::Month => months % 12,
        Unit::Quarter => months % 12 / 3 + 1,
        Unit::Year => months / 12,
        Unit::Decade => months / 120,
        Unit::Century => months / 1200,
        Unit::Millennium => months / 12_000,
        _ => return Err(unsupported_unit(word, "interval")),
    }))
}

/// `date_trunc` on a wall-clock time.
pub fn truncate(word: &str, local: i64, ty: &str) -> Result<i64, SqlError> {
    if local == INFINITY || local == NEG_INFINITY {
        return Ok(local);
    }
    let lower = word.to_ascii_lowercase();
    let Some(unit) = unit(&lower) else {
        return Err(if lower.starts_with("timezone") {
            unsupported_unit(word, ty)
        } else {
            unknown_unit(word, ty)
        });
    };
    let mut civil = Civil::from_micros(local);
    let step = match unit {
        Unit::Microsecond => 1,
        Unit::Millisecond => 1000,
        Unit::Second => SECOND,
        Unit::Minute => MINUTE,
        Unit::Hour => HOUR,
        _ => DAY,
    };
    civil.micros -= civil.micros % step;
    match unit {
        Unit::Week => {
            let (year, week) = iso_week(civil.days());
            return super::civil::days_to_timestamp(iso_week_start(year, week), 0);
        }
        Unit::Month => civil.day = 1,
        Unit::Quarter => {
            civil.day = 1;
            civil.month = (civil.month - 1) / 3 * 3 + 1;
        }
        Unit::Year | Unit::Decade | Unit::Century | Unit::Millennium => {
            civil.day = 1;
            civil.month = 1;
            civil.year = truncate_year(civil.year, unit);
        }
        _ => {}
    }
    civil.to_micros()
}

fn truncate_year(year: i64, unit: Unit) -> i64 {
    let by = |size: i64| {
        if year > 0 {
            (year + size - 1) / size * size - size + 1
        } else {
            -((size - 1 - (year - 1)) / size * size) + 1
        }
    };
    match unit {
        Unit::Decade => year.div_euclid(10) * 10,
        Unit::Century => by(100),
        Unit::Millennium => by(1000),
        _ => year,
    }
}

/// `date_trunc` on a moment, in a zone.
pub fn truncate_tz(word: &str, utc: i64, zone: Zone) -> Result<i64, SqlError> {
    let local = zone.to_local(utc);
    let cut = truncate(word, local, "timestamp with time zone")?;
    if cut == INFINITY || cut == NEG_INFINITY {
        return Ok(cut);
    }
    // below a day the offset of the moment itself holds (the repeated hour stays itself)
    if matches!(
        unit(&word.to_ascii_lowercase()),
        Some(Unit::Microsecond | Unit::Millisecond | Unit::Second | Unit::Minute | Unit::Hour)
    ) {
        return Ok(cut - i64::from(zone.offset_at(utc)) * SECOND);
    }
    zone.to_utc(cut)
}

/// `date_trunc` on an interval.
pub fn truncate_interval(word: &str, span: Interval) -> Result<Interval, SqlError> {
    let lower = word.to_ascii_lowercase();
    let Some(unit) = unit(&lower) else {
        return Err(if lower.starts_with("timezone") {
            unsupported_unit(word, "interval")
        } else {
            unknown_unit(word, "interval")
        });
    };
    let step = match unit {
        Unit::Microsecond => 1,
        Unit::Millisecond => 1000,
        Unit::Second => SECOND,
        Unit::Minute => MINUTE,
        Unit::Hour => HOUR,
        Unit::Day => return Ok(Interval { micros: 0, ..span }),
        Unit::Week => {
            return Err(unsupported_unit(word, "interval")
                .with_detail("Months usually have fractional weeks."));
        }
        _ => {
            let months = match unit {
                Unit::Month => 1,
                Unit::Quarter => 3,
                Unit::Year => 12,
                Unit::Decade => 120,
                Unit::Century => 1200,
                _ => 12_000,
            };
            return Ok(Interval {
                months: span.months / months * months,
                days: 0,
                micros: 0,
            });
        }
    };
    Ok(Interval {
        micros: span.micros / step * step,
        ..span
    })
}

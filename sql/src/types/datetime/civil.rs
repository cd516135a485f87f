//! The proleptic Gregorian calendar: days and microseconds to fields and back, and their limits.

use super::{DAY, INFINITY, NEG_INFINITY};
use crate::error::SqlError;
use crate::types::fault::datetime_out_of_range;

/// Year (astronomical: 0 is 1 BC), month, day, microseconds of the day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    /// Year; 0 is 1 BC.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// Since midnight.
    pub micros: i64,
}

/// First day that a date can be: 4714-11-24 BC.
pub const DATE_MIN: i64 = -2_440_588;
/// Day after the last that a date can be (5874897-12-31).
pub const DATE_END: i64 = 2_145_042_906;

/// Days since 1970-01-01.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let mp = (5 * of_year + 2) / 153;
    let day = of_year - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// Whether the year has 366 days.
pub fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

/// Days of a month.
pub fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Day of the week, Sunday 0.
pub fn weekday(days: i64) -> i64 {
    (days + 4).rem_euclid(7)
}

/// Day of the year from 1.
pub fn day_of_year(days: i64) -> i64 {
    let (year, _, _) = civil_from_days(days);
    days - days_from_civil(year, 1, 1) + 1
}

/// ISO year and week.
pub fn iso_week(days: i64) -> (i64, i64) {
    let thursday = days - (weekday(days) + 6) % 7 + 3;
    let (year, _, _) = civil_from_days(thursday);
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

/// The Monday of an ISO week.
pub fn iso_week_start(year: i64, week: i64) -> i64 {
    let fourth = days_from_civil(year, 1, 4);
    fourth - (weekday(fourth) + 6) % 7 + (week - 1) * 7
}

impl Civil {
    /// The fields of a finite timestamp.
    pub fn from_micros(micros: i64) -> Self {
        let (year, month, day) = civil_from_days(micros.div_euclid(DAY));
        Self {
            year,
            month,
            day,
            micros: micros.rem_euclid(DAY),
        }
    }

    /// Days since 1970-01-01.
    pub fn days(&self) -> i64 {
        days_from_civil(self.year, self.month, self.day)
    }

    /// The timestamp; `22008` beyond the limits.
    pub fn to_micros(self) -> Result<i64, SqlError> {
        days_to_timestamp(self.days(), self.micros)
    }
}

/// A timestamp of a day and microseconds.
pub fn days_to_timestamp(days: i64, micros: i64) -> Result<i64, SqlError> {
    days.checked_mul(DAY)
        .and_then(|d| d.checked_add(micros))
        .map_or_else(|| Err(datetime_out_of_range("timestamp")), check_timestamp)
}

/// Refuses timestamps beyond PostgreSQL's limits.
pub fn check_timestamp(micros: i64) -> Result<i64, SqlError> {
    let days = micros.div_euclid(DAY);
    if micros == INFINITY || micros == NEG_INFINITY || !(DATE_MIN..TIMESTAMP_END).contains(&days) {
        return Err(datetime_out_of_range("timestamp"));
    }
    Ok(micros)
}

/// Day after the last that a timestamp can have: what microseconds since 1970 can count.
const TIMESTAMP_END: i64 = 106_751_991;

/// A date of days since 1970-01-01; `22008` beyond the limits.
pub fn check_date(days: i64) -> Result<i32, SqlError> {
    if !(DATE_MIN..DATE_END).contains(&days) {
        return Err(datetime_out_of_range("date"));
    }
    i32::try_from(days).map_err(|_| datetime_out_of_range("date"))
}

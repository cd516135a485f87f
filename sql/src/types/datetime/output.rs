//! ISO output of dates and times.

use super::civil::{Civil, civil_from_days};
use super::zone::write_offset;
use super::{DATE_INFINITY, DATE_NEG_INFINITY, HOUR, INFINITY, MINUTE, NEG_INFINITY, SECOND, Zone};

fn two(v: i64, out: &mut String) {
    let v = v.unsigned_abs() % 100;
    out.push(char::from(b'0' + (v / 10) as u8));
    out.push(char::from(b'0' + (v % 10) as u8));
}

/// Year, month and day; the era follows the time, so the caller writes it.
fn ymd(year: i64, month: i64, day: i64, out: &mut String) {
    let shown = if year > 0 { year } else { 1 - year };
    if shown < 1000 {
        for zero_below in [1000, 100, 10] {
            if shown < zero_below {
                out.push('0');
            }
        }
    }
    out.push_str(itoa::Buffer::new().format(shown));
    out.push('-');
    two(month, out);
    out.push('-');
    two(day, out);
}

/// Writes a date.
pub fn write_date(days: i32, out: &mut String) {
    match days {
        DATE_INFINITY => out.push_str("infinity"),
        DATE_NEG_INFINITY => out.push_str("-infinity"),
        _ => {
            let (year, month, day) = civil_from_days(i64::from(days));
            ymd(year, month, day, out);
            if year <= 0 {
                out.push_str(" BC");
            }
        }
    }
}

/// Writes a time of day.
pub fn write_time(micros: i64, out: &mut String) {
    two(micros / HOUR, out);
    out.push(':');
    two(micros % HOUR / MINUTE, out);
    out.push(':');
    two(micros % MINUTE / SECOND, out);
    fraction(micros % SECOND, out);
}

/// Writes microseconds as a fraction without trailing zeros, nothing for 0.
pub(super) fn fraction(micros: i64, out: &mut String) {
    if micros == 0 {
        return;
    }
    let mut digits = [b'0'; 6];
    let mut rest = micros.unsigned_abs();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.push('.');
    let text = std::str::from_utf8(&digits).unwrap_or("");
    out.push_str(text.trim_end_matches('0'));
}

/// Writes a timetz.
pub fn write_timetz(micros: i64, offset: i32, out: &mut String) {
    write_time(micros, out);
    write_offset(offset, out);
}

fn endless(micros: i64, out: &mut String) -> bool {
    match micros {
        INFINITY => out.push_str("infinity"),
        NEG_INFINITY => out.push_str("-infinity"),
        _ => return false,
    }
    true
}

/// Writes a timestamp.
pub fn write_timestamp(micros: i64, out: &mut String) {
    if endless(micros, out) {
        return;
    }
    let civil = Civil::from_micros(micros);
    ymd(civil.year, civil.month, civil.day, out);
    out.push(' ');
    write_time(civil.micros, out);
    if civil.year <= 0 {
        out.push_str(" BC");
    }
}

/// Writes a timestamptz as the wall-clock time of a zone.
pub fn write_timestamptz(micros: i64, zone: Zone, out: &mut String) {
    if endless(micros, out) {
        return;
    }
    let offset = zone.offset_at(micros);
    let civil = Civil::from_micros(micros.saturating_add(i64::from(offset) * SECOND));
    ymd(civil.year, civil.month, civil.day, out);
    out.push(' ');
    write_time(civil.micros, out);
    write_offset(offset, out);
    if civil.year <= 0 {
        out.push_str(" BC");
    }
}

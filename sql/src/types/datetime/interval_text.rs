//! Intervals as text: PostgreSQL's own style, the SQL standard's and ISO 8601 in, the first out.

use super::output::fraction;
use super::words::{Shape, Unit, split, unit};
use super::{HOUR, MINUTE, SECOND};
use crate::error::{SqlError, SqlState};
use crate::types::Interval;
use crate::types::fault::invalid_datetime;

/// Sums in 128 bits, so that no field can overflow before the final check.
#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    micros: i128,
}

const MICROS_DAY: i128 = 86_400_000_000;

/// A decimal number as billionths.
#[derive(Clone, Copy)]
struct Decimal(i128);

const UNIT: i128 = 1_000_000_000;

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (negative, body) = match text.split_at_checked(1) {
            Some(("-", rest)) => (true, rest),
            Some(("+", rest)) => (false, rest),
            _ => (false, text),
        };
        let (integer, fraction) = body.split_once('.').unwrap_or((body, ""));
        if (integer.is_empty() && fraction.is_empty()) || integer.len() > 19 {
            return None;
        }
        let mut value: i128 = if integer.is_empty() {
            0
        } else {
            integer.parse().ok()?
        };
        for i in 0..9 {
            let digit = fraction.as_bytes().get(i).copied().unwrap_or(b'0');
            if !digit.is_ascii_digit() {
                return None;
            }
            value = value * 10 + i128::from(digit - b'0');
        }
        Some(Self(if negative { -value } else { value }))
    }

    /// The integer part and the fraction in billionths, of the same sign.
    fn parts(self) -> (i128, i128) {
        (self.0 / UNIT, self.0 % UNIT)
    }
}

/// `value / UNIT`, rounded half to even.
fn round(value: i128) -> i128 {
    let (quotient, rest) = (value.div_euclid(UNIT), value.rem_euclid(UNIT));
    if rest * 2 > UNIT || (rest * 2 == UNIT && quotient % 2 != 0) {
        quotient + 1
    } else {
        quotient
    }
}

impl Sum {
    fn fraction_of_days(&mut self, billionths: i128) {
        self.micros += round(billionths * MICROS_DAY);
    }

    fn add(&mut self, value: Decimal, unit: Unit) {
        let (whole, part) = value.parts();
        match unit {
            Unit::Microsecond => self.micros += round(value.0),
            Unit::Millisecond => self.micros += round(value.0 * 1000),
            Unit::Second => self.micros += round(value.0 * 1_000_000),
            Unit::Minute => self.micros += round(value.0 * 60_000_000),
            Unit::Hour => self.micros += round(value.0 * 3_600_000_000),
            Unit::Day => {
                self.days += whole;
                self.fraction_of_days(part);
            }
            Unit::Week => {
                self.days += whole * 7;
                let rest = Decimal(part * 7);
                self.days += rest.parts().0;
                self.fraction_of_days(rest.parts().1);
            }
            Unit::Month => {
                self.months += whole;
                let rest = Decimal(part * 30);
                self.days += rest.parts().0;
                self.fraction_of_days(rest.parts().1);
            }
            Unit::Quarter => self.add(Decimal(value.0 * 3), Unit::Month),
            Unit::Year => self.years(value, 12),
            Unit::Decade => self.years(value, 120),
            Unit::Century => self.years(value, 1200),
            Unit::Millennium => self.years(value, 12_000),
        }
    }

    /// Fractions of years are rounded to months.
    fn years(&mut self, value: Decimal, months: i128) {
        let (whole, part) = value.parts();
        self.months += whole * months + round(part * months);
    }

    fn finish(self, text: &str) -> Result<Interval, SqlError> {
        let overflow = || interval_overflow(text);
        Ok(Interval {
            months: i32::try_from(self.months).map_err(|_| overflow())?,
            days: i32::try_from(self.days).map_err(|_| overflow())?,
            micros: i64::try_from(self.micros).map_err(|_| overflow())?,
        })
    }
}

fn interval_overflow(text: &str) -> SqlError {
    SqlError::new(
        SqlState::INTERVAL_FIELD_OVERFLOW,
        format!("interval field value out of range: \"{text}\""),
    )
}

/// "hh:mm[:ss[.f]]" or "mm:ss.f" in microseconds.
fn clock(text: &str) -> Option<i128> {
    let (negative, body) = match text.split_at_checked(1) {
        Some(("-", rest)) => (true, rest),
        Some(("+", rest)) => (false, rest),
        _ => (false, text),
    };
    let parts: Vec<&str> = body.split(':').collect();
    let integer = |t: &str| {
        if t.is_empty() {
            Some(0)
        } else {
            t.parse::<i128>().ok()
        }
    };
    let seconds = |t: &str| {
        if t.is_empty() {
            Some(0)
        } else {
            Some(round(Decimal::parse(t)?.0 * 1_000_000))
        }
    };
    let (h, m, s) = match parts.as_slice() {
        [m, s] if s.contains('.') => (0, integer(m)?, seconds(s)?),
        [h, m] => (integer(h)?, integer(m)?, 0),
        [h, m, s] => (integer(h)?, integer(m)?, seconds(s)?),
        _ => return None,
    };
    if m > 59 || s > 60_000_000 {
        return None;
    }
    let total = h * i128::from(HOUR) + m * i128::from(MINUTE) + s;
    Some(if negative { -total } else { total })
}

/// Input of `interval`. `last` is the unit of a number without one (from the fields of the
/// type's modifier), seconds otherwise.
pub fn parse_interval(text: &str, last: Option<Unit>) -> Result<Interval, SqlError> {
    let bad = || invalid_datetime("interval", text);
    let trimmed = text.trim();
    if let Some(iso) = trimmed.strip_prefix(['P', 'p']) {
        return parse_iso(iso).ok_or_else(bad)?.finish(text);
    }
    let fields = split(trimmed).ok_or_else(bad)?;
    let mut sum = Sum::default();
    let mut ago = false;
    let mut pending: Option<Unit> = None;
    let mut seen_time = false;
    // from the end, so that a unit is known before its number
    for (i, (shape, field)) in fields.iter().enumerate().rev() {
        match shape {
            Shape::Word => match field.as_str() {
                "ago" if i + 1 == fields.len() => ago = true,
                "at" | "on" => {}
                word => {
                    if pending.is_some() {
                        return Err(bad());
                    }
                    pending = Some(unit(word).filter(|u| *u != Unit::Quarter).ok_or_else(bad)?);
                }
            },
            Shape::Time => {
                sum.micros += clock(field).ok_or_else(|| interval_overflow(text))?;
                seen_time = true;
                pending = if pending.is_some() {
                    return Err(bad());
                } else {
                    None
                };
            }
            Shape::Signed if field.contains(':') => {
                sum.micros += clock(field).ok_or_else(|| interval_overflow(text))?;
                seen_time = true;
            }
            Shape::Number | Shape::Signed
                if !field.trim_start_matches(['+', '-']).contains('-') =>
            {
                let value = Decimal::parse(field).ok_or_else(bad)?;
                let unit = match pending.take() {
                    Some(unit) => unit,
                    // "1 02:03": days before a time
                    None if seen_time => Unit::Day,
                    None if i + 1 == fields.len() => last.unwrap_or(Unit::Second),
                    None => return Err(bad()),
                };
                sum.add(value, unit);
            }
            // "1-2": years and months
            Shape::Date | Shape::Signed => {
                let negative = field.starts_with('-');
                let body = field.trim_start_matches(['+', '-']);
                let (years, months) = body.split_once('-').ok_or_else(bad)?;
                let years: i128 = years.parse().map_err(|_| bad())?;
                let months: i128 = months.parse().map_err(|_| bad())?;
                if months > 11 {
                    return Err(interval_overflow(text));
                }
                let total = years * 12 + months;
                sum.months += if negative { -total } else { total };
                pending = None;
            }
            Shape::SignedWord | Shape::Number => return Err(bad()),
        }
    }
    if fields.is_empty() || pending.is_some() {
        return Err(bad());
    }
    if ago {
        sum = Sum {
            months: -sum.months,
            days: -sum.days,
            micros: -sum.micros,
        };
    }
    sum.finish(text)
}

/// ISO 8601: "1Y2M3DT4H5M6.5S", "3W", "0001-02-03T04:05:06".
fn parse_iso(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let (date, time) = match text.split_once(['T', 't']) {
        Some((d, t)) => (d, Some(t)),
        None => (text, None),
    };
    if date.is_empty() && time.is_none_or(str::is_empty) {
        return None;
    }
    let alternative = |t: &str, sep: char| t.trim_start_matches('-').contains(sep);
    if alternative(date, '-') {
        let parts: Vec<&str> = date.split('-').collect();
        for (part, unit) in parts.iter().zip([Unit::Year, Unit::Month, Unit::Day]) {
            sum.add(Decimal::parse(part)?, unit);
        }
    } else {
        pairs(date, &mut sum, false)?;
    }
    match time {
        Some(time) if alternative(time, ':') => sum.micros += clock(time)?,
        Some(time) => pairs(time, &mut sum, true)?,
        None => {}
    }
    Some(sum)
}

fn pairs(mut text: &str, sum: &mut Sum, time: bool) -> Option<()> {
    while !text.is_empty() {
        let end = text.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, rest) = text.split_at_checked(end)?;
        let (letter, rest) = rest.split_at_checked(1)?;
        let unit = match (letter.to_ascii_uppercase().as_str(), time) {
            ("Y", false) => Unit::Year,
            ("M", false) => Unit::Month,
            ("W", false) => Unit::Week,
            ("D", false) => Unit::Day,
            ("H", true) => Unit::Hour,
            ("M", true) => Unit::Minute,
            ("S", true) => Unit::Second,
            _ => return None,
        };
        sum.add(Decimal::parse(&number.replace(',', "."))?, unit);
        text = rest;
    }
    Some(())
}

/// Writes an interval in PostgreSQL's style.
pub fn write_interval(value: Interval, out: &mut String) {
    let start = out.len();
    let mut negative_before = false;
    let mut part = |v: i64, unit: &str, out: &mut String| {
        if v == 0 {
            return;
        }
        if out.len() > start {
            out.push(' ');
        }
        if negative_before && v > 0 {
            out.push('+');
        }
        out.push_str(itoa::Buffer::new().format(v));
        out.push(' ');
        out.push_str(unit);
        if v != 1 {
            out.push('s');
        }
        negative_before = v < 0;
    };
    part(i64::from(value.months / 12), "year", out);
    part(i64::from(value.months % 12), "mon", out);
    part(i64::from(value.days), "day", out);
    if out.len() == start || value.micros != 0 {
        if out.len() > start {
            out.push(' ');
        }
        if value.micros < 0 {
            out.push('-');
        } else if negative_before {
            out.push('+');
        }
        let micros = value.micros.unsigned_abs();
        let (hour, minute, second) = (HOUR as u64, MINUTE as u64, SECOND as u64);
        let pair = |v: u64, out: &mut String| {
            if v < 10 {
                out.push('0');
            }
            out.push_str(itoa::Buffer::new().format(v));
        };
        pair(micros / hour, out);
        out.push(':');
        pair(micros % hour / minute, out);
        out.push(':');
        pair(micros % minute / second, out);
        fraction((micros % second) as i64, out);
    }
}

//! Input of dates and times: the fields of a text brought into a year, a month, a time, a zone.

use super::civil::{
    check_date, check_timestamp, days_from_civil, days_in_month, days_to_timestamp,
};
use super::words::{Field, Shape, fraction_micros, is_weekday, month, split};
use super::zone::{Zone, abbreviation, parse_hms};
use super::{DATE_INFINITY, DATE_NEG_INFINITY, DAY, HOUR, INFINITY, MINUTE, NEG_INFINITY, SECOND};
use crate::error::{SqlError, SqlState};
use crate::types::fault::{datetime_out_of_range, field_overflow, invalid_datetime};
use crate::types::registry::EvalContext;

/// Why a text was refused.
enum Bad {
    Format,
    Overflow,
    MonthDay,
    Displacement,
    Other(SqlError),
}

impl Bad {
    fn error(self, ty: &str, text: &str) -> SqlError {
        match self {
            Self::Format => invalid_datetime(ty, text),
            Self::Overflow => field_overflow(text),
            Self::MonthDay => field_overflow(text)
                .with_hint("Perhaps you need a different \"datestyle\" setting."),
            Self::Displacement => SqlError::new(
                SqlState::INVALID_TIME_ZONE_DISPLACEMENT_VALUE,
                format!("time zone displacement out of range: \"{text}\""),
            ),
            Self::Other(e) => e,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    Now,
    /// Days from today.
    Today(i64),
    Epoch,
    Infinity,
    NegInfinity,
    Midnight,
}

#[derive(Default)]
struct Read {
    year: Option<i64>,
    two_digit_year: bool,
    month: Option<i64>,
    text_month: bool,
    day: Option<i64>,
    day_of_year: Option<i64>,
    julian: Option<i64>,
    time: Option<i64>,
    zone: Option<Zone>,
    special: Option<Special>,
    bc: bool,
    pm: Option<bool>,
    iso_time: bool,
}

impl Read {
    fn has_date(&self) -> bool {
        (self.year.is_some() && self.month.is_some() && self.day.is_some())
            || self.julian.is_some()
            || (self.year.is_some() && self.day_of_year.is_some())
    }

    fn field(&mut self, fields: &[Field], i: usize) -> Result<(), Bad> {
        let Some((shape, text)) = fields.get(i) else {
            return Ok(());
        };
        match shape {
            Shape::Date => {
                if self.has_date() && self.time.is_some() && self.zone.is_none() {
                    // "... 12:00 EST5-..." and the like
                    self.zone = Some(Zone::lookup(text).ok_or(Bad::Format)?);
                    return Ok(());
                }
                self.date(text)
            }
            Shape::Time => {
                if self.time.is_some() {
                    return Err(Bad::Format);
                }
                self.time = Some(time(text)?);
                Ok(())
            }
            Shape::Number => self.number(text, fields.get(i + 1)),
            Shape::Signed => self.signed(text),
            Shape::SignedWord => match text.as_str() {
                "-infinity" => self.set_special(Special::NegInfinity),
                "+infinity" => self.set_special(Special::Infinity),
                _ => Err(Bad::Format),
            },
            Shape::Word => self.word(text),
        }
    }

    fn set_special(&mut self, special: Special) -> Result<(), Bad> {
        if self.special.is_some() {
            return Err(Bad::Format);
        }
        self.special = Some(special);
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Bad> {
        match word {
            "now" => return self.set_special(Special::Now),
            "today" => return self.set_special(Special::Today(0)),
            "tomorrow" => return self.set_special(Special::Today(1)),
            "yesterday" => return self.set_special(Special::Today(-1)),
            "epoch" => return self.set_special(Special::Epoch),
            "infinity" => return self.set_special(Special::Infinity),
            "allballs" => {
                self.time = Some(0);
                self.zone = Some(Zone::UTC);
                return Ok(());
            }
            "midnight" => return self.set_special(Special::Midnight),
            "am" => self.pm = Some(false),
            "pm" => self.pm = Some(true),
            "ad" => {}
            "bc" => self.bc = true,
            "at" | "on" | "dst" | "timezone" => {}
            "t" => {
                self.iso_time = true;
            }
            "j" | "jd" | "julian" => {}
            _ if is_weekday(word) => {}
            _ => {
                if let Some(m) = month(word) {
                    if self.month.is_some() {
                        // a number taken for the month was the day
                        if self.day.is_some() || self.text_month {
                            return Err(Bad::Format);
                        }
                        self.day = self.month;
                    }
                    self.month = Some(m);
                    self.text_month = true;
                } else if let Some(offset) = abbreviation(word) {
                    if self.zone.is_some() {
                        return Err(Bad::Format);
                    }
                    self.zone = Some(Zone::Fixed(offset));
                } else if word.contains('/') || word.len() > 2 {
                    if self.zone.is_some() {
                        return Err(Bad::Format);
                    }
                    match Zone::lookup(word) {
                        Some(zone) => self.zone = Some(zone),
                        None if word.contains('/') => {
                            return Err(Bad::Other(SqlError::new(
                                SqlState::INVALID_PARAMETER_VALUE,
                                format!("time zone \"{word}\" not recognized"),
                            )));
                        }
                        None => return Err(Bad::Format),
                    }
                } else {
                    return Err(Bad::Format);
                }
            }
        }
        Ok(())
    }

    fn signed(&mut self, text: &str) -> Result<(), Bad> {
        let (sign, digits) = match text.split_at_checked(1) {
            Some(("-", digits)) => (-1, digits),
            Some((_, digits)) => (1, digits),
            None => return Err(Bad::Format),
        };
        let seconds = parse_hms(digits).ok_or(Bad::Format)?;
        if seconds >= 16 * 3600 {
            return Err(Bad::Displacement);
        }
        match self.zone {
            // "UTC+3" is a zone of POSIX style: its offset counts westwards
            Some(Zone::Fixed(base)) => self.zone = Some(Zone::Fixed(base - sign * seconds)),
            Some(Zone::Named(_)) => return Err(Bad::Format),
            None => self.zone = Some(Zone::Fixed(sign * seconds)),
        }
        Ok(())
    }

    fn date(&mut self, text: &str) -> Result<(), Bad> {
        let mut parts: Vec<&str> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let first = rest.as_bytes().first().copied().unwrap_or(0);
            let length = rest
                .find(|c: char| {
                    if first.is_ascii_digit() {
                        !c.is_ascii_digit()
                    } else {
                        !c.is_ascii_alphabetic()
                    }
                })
                .unwrap_or(rest.len());
            let (part, tail) = rest.split_at_checked(length).ok_or(Bad::Format)?;
            if part.is_empty() {
                return Err(Bad::Format);
            }
            parts.push(part);
            rest = tail.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        }
        if parts.len() > 3 {
            return Err(Bad::Format);
        }
        let mut numbers = Vec::new();
        for part in parts {
            if part.bytes().all(|b| b.is_ascii_digit()) {
                numbers.push(part);
            } else if let Some(m) = month(part)
                && self.month.is_none()
            {
                self.month = Some(m);
                self.text_month = true;
            } else {
                return Err(Bad::Format);
            }
        }
        for number in numbers {
            self.date_number(number)?;
        }
        Ok(())
    }

    /// A number of a date, by which fields are still missing (order MDY).
    fn date_number(&mut self, digits: &str) -> Result<(), Bad> {
        let value: i64 = digits.parse().map_err(|_| Bad::Overflow)?;
        let year = |read: &mut Self| {
            read.two_digit_year = digits.len() <= 2;
            read.year = Some(value);
        };
        match (
            self.year.is_some(),
            self.month.is_some(),
            self.day.is_some(),
        ) {
            (false, false, false) if digits.len() >= 3 => year(self),
            (false, false, false) => self.month = Some(value),
            (false, true, false) if self.text_month && digits.len() >= 3 => year(self),
            (false, true, false) => self.day = Some(value),
            (false, true, true) => {
                if digits.len() < 2 && self.text_month {
                    return Err(Bad::Format);
                }
                year(self);
            }
            (false, false, true) => self.month = Some(value),
            (true, false, false) if digits.len() == 3 => self.day_of_year = Some(value),
            (true, false, false) => self.month = Some(value),
            (true, true, false) => self.day = Some(value),
            (true, false, true) => self.month = Some(value),
            (true, true, true) => {
                if self.text_month && self.two_digit_year && digits.len() > 2 {
                    // "08-Jan-1999" read as year, month, day before
                    self.day = self.year;
                    year(self);
                } else {
                    return Err(Bad::Format);
                }
            }
        }
        Ok(())
    }

    fn number(&mut self, text: &str, next: Option<&Field>) -> Result<(), Bad> {
        let (digits, fraction) = match text.split_once('.') {
            Some((d, f)) => (d, Some(f)),
            None => (text, None),
        };
        let part = |from: usize, to: usize| -> i64 {
            digits
                .get(from..to)
                .and_then(|d| d.parse().ok())
                .unwrap_or(0)
        };
        if self.has_date() && self.time.is_none() {
            let n = digits.len();
            if n == 6 || n == 4 || (n == 2 && self.iso_time) {
                let (m, s) = (
                    if n >= 4 { part(2, 4) } else { 0 },
                    if n == 6 { part(4, 6) } else { 0 },
                );
                let micros = fraction.map_or(0, fraction_micros);
                self.time = Some(clock(part(0, 2), m, s, micros)?);
                return Ok(());
            }
            // "8 am"
            if matches!(next, Some((Shape::Word, w)) if w == "am" || w == "pm") && n <= 2 {
                self.time = Some(clock(part(0, n), 0, 0, 0)?);
                return Ok(());
            }
            return Err(Bad::Format);
        }
        if fraction.is_some() {
            if let Some(f) = fraction
                && f.len() == 3
                && digits.len() == 4
                && self.year.is_none()
            {
                self.year = Some(part(0, 4));
                self.day_of_year = f.parse().ok();
                return Ok(());
            }
            return Err(Bad::Format);
        }
        let untouched = self.year.is_none() && self.month.is_none() && self.day.is_none();
        match digits.len() {
            8 if untouched => {
                self.year = Some(part(0, 4));
                self.month = Some(part(4, 6));
                self.day = Some(part(6, 8));
                Ok(())
            }
            6 if untouched => {
                self.year = Some(part(0, 2));
                self.two_digit_year = true;
                self.month = Some(part(2, 4));
                self.day = Some(part(4, 6));
                Ok(())
            }
            n if n > 8 && untouched => {
                self.year = Some(part(0, n - 4));
                self.month = Some(part(n - 4, n - 2));
                self.day = Some(part(n - 2, n));
                Ok(())
            }
            _ => self.date_number(digits),
        }
    }

    /// The day of the date, checked.
    fn days(&self) -> Result<i64, Bad> {
        if let Some(julian) = self.julian {
            return Ok(julian - 2_440_588);
        }
        let mut year = self.year.ok_or(Bad::Format)?;
        if self.bc {
            if year <= 0 {
                return Err(Bad::Overflow);
            }
            year = 1 - year;
        } else if self.two_digit_year {
            year += if year < 70 { 2000 } else { 1900 };
        } else if year <= 0 {
            return Err(Bad::Overflow);
        }
        if let Some(of_year) = self.day_of_year {
            return Ok(days_from_civil(year, 1, 1) + of_year - 1);
        }
        let (month, day) = (self.month.ok_or(Bad::Format)?, self.day.ok_or(Bad::Format)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(Bad::MonthDay);
        }
        if day > days_in_month(year, month) {
            return Err(Bad::Overflow);
        }
        Ok(days_from_civil(year, month, day))
    }

    /// The time of day with AM and PM applied.
    fn clock(&self) -> Result<Option<i64>, Bad> {
        let (Some(time), Some(pm)) = (self.time, self.pm) else {
            return Ok(self.time);
        };
        if time > 12 * HOUR + HOUR - 1 {
            return Err(Bad::Overflow);
        }
        let hour12 = time / HOUR == 12;
        Ok(Some(match (pm, hour12) {
            (false, true) => time - 12 * HOUR,
            (true, false) => time + 12 * HOUR,
            _ => time,
        }))
    }
}

fn clock(h: i64, m: i64, s: i64, micros: i64) -> Result<i64, Bad> {
    let total = h * HOUR + m * MINUTE + s * SECOND + micros;
    if m > 59 || s > 60 || total > DAY {
        return Err(Bad::Overflow);
    }
    Ok(total)
}

/// "hh:mm", "hh:mm:ss", "hh:mm:ss.ffffff", "mm:ss.fff".
fn time(text: &str) -> Result<i64, Bad> {
    let (text, fraction) = match text.split_once('.') {
        Some((t, f)) if f.bytes().all(|b| b.is_ascii_digit()) => (t, Some(f)),
        Some(_) => return Err(Bad::Format),
        None => (text, None),
    };
    let mut numbers = Vec::new();
    for part in text.split(':') {
        numbers.push(part.parse::<i64>().map_err(|_| {
            if part.is_empty() {
                Bad::Format
            } else {
                Bad::Overflow
            }
        })?);
    }
    let micros = fraction.map_or(0, fraction_micros);
    match (numbers.as_slice(), fraction) {
        ([h, m], None) => clock(*h, *m, 0, 0),
        ([m, s], Some(_)) => clock(0, *m, *s, micros),
        ([h, m, s], _) => clock(*h, *m, *s, micros),
        _ => Err(Bad::Format),
    }
}

fn read(text: &str) -> Result<Read, Bad> {
    let fields = split(text).ok_or(Bad::Format)?;
    if fields.is_empty() {
        return Err(Bad::Format);
    }
    let mut read = Read::default();
    // "J2451187"
    if let (Some((Shape::Word, word)), Some((Shape::Number, digits))) =
        (fields.first(), fields.get(1))
        && matches!(word.as_str(), "j" | "jd" | "julian")
    {
        read.julian = Some(digits.parse().map_err(|_| Bad::Format)?);
        for i in 2..fields.len() {
            read.field(&fields, i)?;
        }
        return Ok(read);
    }
    for i in 0..fields.len() {
        read.field(&fields, i)?;
    }
    Ok(read)
}

/// What a text says: a moment or wall-clock time, and the zone written in it.
enum Moment {
    /// Wall-clock days and microseconds, and the zone of the text.
    Local(i64, i64, Option<Zone>),
    /// A moment (`now`).
    Utc(i64),
    /// An infinity.
    Endless(i64),
}

fn moment(text: &str, cx: &dyn EvalContext) -> Result<Moment, Bad> {
    let read = read(text)?;
    let today = || {
        cx.time_zone()
            .to_local(cx.transaction_time())
            .div_euclid(DAY)
    };
    let lone = read.year.is_none() && read.month.is_none() && read.day.is_none();
    if let Some(special) = read.special {
        if !lone {
            return Err(Bad::Format);
        }
        let time = read.clock()?.unwrap_or(0);
        return Ok(match special {
            Special::Infinity => Moment::Endless(INFINITY),
            Special::NegInfinity => Moment::Endless(NEG_INFINITY),
            Special::Now => Moment::Utc(cx.transaction_time()),
            Special::Epoch => Moment::Utc(0),
            Special::Today(by) => Moment::Local(today() + by, time, read.zone),
            Special::Midnight => return Err(Bad::Format),
        });
    }
    Ok(Moment::Local(
        read.days()?,
        read.clock()?.unwrap_or(0),
        read.zone,
    ))
}

/// Input of `date`.
pub fn parse_date(text: &str, cx: &dyn EvalContext) -> Result<i32, SqlError> {
    let out_of_range = || {
        SqlError::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date out of range: \"{text}\""),
        )
    };
    match moment(text, cx).map_err(|e| e.error("date", text))? {
        Moment::Local(days, ..) => check_date(days).map_err(|_| out_of_range()),
        Moment::Utc(0) => Ok(0),
        Moment::Utc(micros) => check_date(cx.time_zone().to_local(micros).div_euclid(DAY)),
        Moment::Endless(INFINITY) => Ok(DATE_INFINITY),
        Moment::Endless(_) => Ok(DATE_NEG_INFINITY),
    }
}

/// Input of `timestamp`: a zone in the text is read and ignored.
pub fn parse_timestamp(text: &str, cx: &dyn EvalContext) -> Result<i64, SqlError> {
    let ranged = |r: Result<i64, SqlError>| {
        r.map_err(|_| {
            SqlError::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("timestamp out of range: \"{text}\""),
            )
        })
    };
    match moment(text, cx).map_err(|e| e.error("timestamp", text))? {
        Moment::Local(days, micros, _) => ranged(days_to_timestamp(days, micros)),
        Moment::Utc(0) => Ok(0),
        Moment::Utc(micros) => Ok(cx.time_zone().to_local(micros)),
        Moment::Endless(v) => Ok(v),
    }
}

/// Input of `timestamptz`.
pub fn parse_timestamptz(text: &str, cx: &dyn EvalContext) -> Result<i64, SqlError> {
    match moment(text, cx).map_err(|e| e.error("timestamp with time zone", text))? {
        Moment::Local(days, micros, zone) => days_to_timestamp(days, micros)
            .and_then(|local| zone.unwrap_or_else(|| cx.time_zone()).to_utc(local))
            .and_then(check_timestamp)
            .map_err(|_| {
                SqlError::new(
                    SqlState::DATETIME_FIELD_OVERFLOW,
                    format!("timestamp out of range: \"{text}\""),
                )
            }),
        Moment::Utc(micros) | Moment::Endless(micros) => Ok(micros),
    }
}

fn clock_text(text: &str, ty: &str, cx: &dyn EvalContext) -> Result<(i64, Option<i32>), SqlError> {
    let bad = |e: Bad| e.error(ty, text);
    let mut fields = split(text).ok_or_else(|| bad(Bad::Format))?;
    // "040506-08": a time without separators and its zone
    if let [(Shape::Date, both)] = fields.as_slice()
        && let Some((time, zone)) = both.split_once('-')
        && matches!(time.len(), 4 | 6)
    {
        let zone = format!("-{zone}");
        fields = vec![(Shape::Number, time.to_owned()), (Shape::Signed, zone)];
    }
    // "040506": digits alone are a time here
    let mut parsed = Read {
        iso_time: true,
        ..Read::default()
    };
    if let Some((shape @ Shape::Number, digits)) = fields.first_mut() {
        let (head, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let head = head.to_owned();
        if matches!(head.len(), 4 | 6) {
            let colons = match head.len() {
                4 => format!(
                    "{}:{}",
                    head.get(..2).unwrap_or(""),
                    head.get(2..).unwrap_or("")
                ),
                6 => format!(
                    "{}:{}:{}.{fraction}",
                    head.get(..2).unwrap_or(""),
                    head.get(2..4).unwrap_or(""),
                    head.get(4..).unwrap_or("")
                ),
                _ => head,
            };
            *digits = colons.trim_end_matches('.').to_owned();
            *shape = Shape::Time;
        }
    }
    for i in 0..fields.len() {
        parsed.field(&fields, i).map_err(bad)?;
    }
    let now = || {
        let zone = cx.time_zone();
        let utc = cx.transaction_time();
        (
            zone.to_local(utc).rem_euclid(DAY),
            Some(zone.offset_at(utc)),
        )
    };
    match parsed.special {
        Some(Special::Now) => return Ok(now()),
        Some(Special::Midnight) => return Ok((0, None)),
        Some(Special::Today(_)) if parsed.time.is_none() => return Ok((0, None)),
        Some(Special::Epoch) => return Ok((0, Some(0))),
        Some(_) => return Err(bad(Bad::Format)),
        None => {}
    }
    let time = parsed
        .clock()
        .map_err(bad)?
        .ok_or_else(|| bad(Bad::Format))?;
    let offset = match parsed.zone {
        None => None,
        Some(Zone::Fixed(seconds)) => Some(seconds),
        Some(zone) => {
            let days = parsed.days().map_err(bad)?;
            let local = days_to_timestamp(days, time)?;
            Some(zone.offset_of_local(local))
        }
    };
    Ok((time, offset))
}

/// Input of `time`.
pub fn parse_time(text: &str, cx: &dyn EvalContext) -> Result<i64, SqlError> {
    clock_text(text, "time", cx).map(|(time, _)| time)
}

/// Input of `timetz`: time and seconds east of UTC.
pub fn parse_timetz(text: &str, cx: &dyn EvalContext) -> Result<(i64, i32), SqlError> {
    let (time, offset) = clock_text(text, "time with time zone", cx)?;
    Ok((
        time,
        offset.unwrap_or_else(|| cx.time_zone().offset_at(cx.transaction_time())),
    ))
}

/// Refuses arithmetic on infinities where there is no answer.
pub(super) fn finite(micros: i64) -> Result<i64, SqlError> {
    if micros == INFINITY || micros == NEG_INFINITY {
        Err(datetime_out_of_range("timestamp"))
    } else {
        Ok(micros)
    }
}

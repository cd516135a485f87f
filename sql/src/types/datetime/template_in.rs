//! `to_date` and `to_timestamp`: a text read along a template.

use super::civil::{days_from_civil, days_in_month, iso_week_start};
use super::template::{Piece, cut};
use super::words::{DAYS, MONTHS};
use super::zone::Zone;
use super::{HOUR, MINUTE, SECOND};
use crate::error::{SqlError, SqlState};

/// What was read: the day, the time, a zone.
#[derive(Default)]
pub struct Read {
    /// Days since 1970-01-01.
    pub days: i64,
    /// Microseconds of the day.
    pub micros: i64,
    /// The zone that the text named.
    pub zone: Option<Zone>,
}

#[derive(Default)]
struct Fields {
    year: Option<i64>,
    iso_year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    iso_week: Option<i64>,
    iso_day: Option<i64>,
    week: Option<i64>,
    week_of_month: Option<i64>,
    julian: Option<i64>,
    century: Option<i64>,
    hour: Option<i64>,
    minute: i64,
    second: i64,
    micros: i64,
    of_day: Option<i64>,
    twelve: bool,
    pm: Option<bool>,
    bc: bool,
    zone: Option<Zone>,
    zone_sign: i32,
    zone_hours: Option<i32>,
}

fn invalid(value: &str, key: &str, detail: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_DATETIME_FORMAT,
        format!("invalid value \"{value}\" for \"{key}\""),
    )
    .with_detail(detail.to_owned())
}

fn out_of_range(text: &str) -> SqlError {
    SqlError::new(
        SqlState::DATETIME_FIELD_OVERFLOW,
        format!("date/time field value out of range: \"{text}\""),
    )
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// An integer of at most `width` digits (any number if `open`).
    fn number(&mut self, width: usize, open: bool, key: &str) -> Result<(i64, usize), SqlError> {
        self.skip_space();
        let sign = usize::from(self.rest.starts_with(['-', '+']));
        let digits = self
            .rest
            .bytes()
            .skip(sign)
            .take_while(u8::is_ascii_digit)
            .take(if open { 18 } else { width })
            .count();
        if digits == 0 {
            let shown: String = self.rest.chars().take(width).collect();
            if shown.is_empty() {
                return Ok((0, 0));
            }
            return Err(invalid(&shown, key, "Value must be an integer."));
        }
        let (number, rest) = self
            .rest
            .split_at_checked(sign + digits)
            .unwrap_or((self.rest, ""));
        self.rest = rest;
        Ok((number.trim_start_matches('+').parse().unwrap_or(0), digits))
    }

    /// One of the names (full, or their first three letters); its position.
    fn name(&mut self, names: &[&str], short: bool, key: &str) -> Result<i64, SqlError> {
        self.skip_space();
        for (i, name) in names.iter().enumerate() {
            let name = if short {
                name.get(..3).unwrap_or(name)
            } else {
                name
            };
            if let Some(head) = self.rest.get(..name.len())
                && head.eq_ignore_ascii_case(name)
            {
                self.rest = self.rest.get(name.len()..).unwrap_or("");
                return Ok(i as i64);
            }
        }
        let shown: String = self
            .rest
            .chars()
            .take_while(|c| !c.is_whitespace())
            .collect();
        Err(invalid(
            &shown,
            key,
            "The given value did not match any of the allowed values for this field.",
        ))
    }
}

/// Whether the next piece is a number without a separator before it.
fn followed_by_number(pieces: &[Piece], i: usize) -> bool {
    match pieces.get(i + 1) {
        Some(Piece::Key { word, .. }) => {
            let upper = word.to_ascii_uppercase();
            !matches!(
                upper.as_str(),
                "AM" | "PM"
                    | "A.M."
                    | "P.M."
                    | "AD"
                    | "BC"
                    | "A.D."
                    | "B.C."
                    | "MONTH"
                    | "MON"
                    | "DAY"
                    | "DY"
                    | "TZ"
                    | "RM"
            )
        }
        Some(Piece::Literal(text)) => text.starts_with(|c: char| c.is_ascii_digit()),
        _ => false,
    }
}

/// Reads a text along a template.
pub fn read(text: &str, template: &str) -> Result<Read, SqlError> {
    let pieces = cut(template);
    let mut reader = Reader { text, rest: text };
    let mut fields = Fields::default();
    let mut exact = false;
    for (i, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Exact => exact = true,
            Piece::Literal(literal) => skip_literal(&mut reader, literal, exact),
            Piece::Key {
                word,
                fill,
                ordinal,
            } => {
                if reader.rest.trim().is_empty() {
                    break;
                }
                let open = *fill || !followed_by_number(&pieces, i);
                key(&mut reader, &mut fields, word, open)?;
                if ordinal.is_some() {
                    reader.rest = reader.rest.get(2..).unwrap_or("");
                }
            }
        }
    }
    fields.finish(reader.text)
}

/// Separators of the template skip any separators and spaces of the text; letters skip one
/// character each.
fn skip_literal(reader: &mut Reader<'_>, literal: &str, exact: bool) {
    for c in literal.chars() {
        if exact {
            let mut chars = reader.rest.chars();
            chars.next();
            reader.rest = chars.as_str();
        } else if c.is_whitespace() || c.is_ascii_punctuation() {
            reader.rest = reader.rest.trim_start();
            let separator =
                reader.rest.chars().next().is_some_and(|n| {
                    n == c || (n.is_ascii_punctuation() && !matches!(n, '-' | '+'))
                });
            if separator {
                let mut chars = reader.rest.chars();
                chars.next();
                reader.rest = chars.as_str().trim_start();
            } else if matches!(c, '-' | '/' | '.' | ',' | ':') {
                if let Some(tail) = reader.rest.strip_prefix(['-', '/', '.', ',', ':']) {
                    reader.rest = tail.trim_start();
                }
            }
        } else {
            let mut chars = reader.rest.chars();
            chars.next();
            reader.rest = chars.as_str();
        }
    }
}

fn key(
    reader: &mut Reader<'_>,
    fields: &mut Fields,
    word: &str,
    open: bool,
) -> Result<(), SqlError> {
    let upper = word.to_ascii_uppercase();
    let short_year = |value: i64, digits: usize, max: usize| match (digits, max) {
        (4.., _) | (_, 4) => value,
        (3, _) => value + if value >= 520 { 1000 } else { 2000 },
        _ if max == 3 && digits > 2 => value,
        _ => {
            if value < 70 {
                value + 2000
            } else {
                value + 1900
            }
        }
    };
    match upper.as_str() {
        "YYYY" | "YYY" | "YY" | "Y" => {
            let max = upper.len();
            let (value, digits) = reader.number(max, open, word)?;
            fields.year = Some(short_year(value, digits, max));
        }
        "Y,YYY" => {
            let (thousands, _) = reader.number(3, true, word)?;
            reader.rest = reader.rest.strip_prefix(',').unwrap_or(reader.rest);
            fields.year = Some(thousands * 1000 + reader.number(3, false, word)?.0);
        }
        "IYYY" | "IYY" | "IY" | "I" => {
            let max = upper.len();
            let (value, digits) = reader.number(max, open, word)?;
            fields.iso_year = Some(short_year(value, digits, max));
        }
        "MM" => fields.month = Some(reader.number(2, open, word)?.0),
        "MONTH" => fields.month = Some(reader.name(&MONTHS, false, word)? + 1),
        "MON" => fields.month = Some(reader.name(&MONTHS, true, word)? + 1),
        "RM" => {
            const ROMAN: [&str; 12] = [
                "VIII", "VII", "VI", "IV", "V", "III", "II", "IX", "XII", "XI", "X", "I",
            ];
            const NUMBER: [i64; 12] = [8, 7, 6, 4, 5, 3, 2, 9, 12, 11, 10, 1];
            let at = reader.name(&ROMAN, false, word)?;
            fields.month = usize::try_from(at)
                .ok()
                .and_then(|i| NUMBER.get(i))
                .copied();
        }
        "DDD" => fields.day_of_year = Some(reader.number(3, open, word)?.0),
        "DD" => fields.day = Some(reader.number(2, open, word)?.0),
        "D" => fields.iso_day = Some((reader.number(1, open, word)?.0 + 5) % 7 + 1),
        "ID" => fields.iso_day = Some(reader.number(1, open, word)?.0),
        "DAY" => {
            reader.name(&DAYS, false, word)?;
        }
        "DY" => {
            reader.name(&DAYS, true, word)?;
        }
        "W" => fields.week_of_month = Some(reader.number(1, open, word)?.0),
        "WW" => fields.week = Some(reader.number(2, open, word)?.0),
        "IW" => fields.iso_week = Some(reader.number(2, open, word)?.0),
        "J" => fields.julian = Some(reader.number(7, true, word)?.0),
        "CC" => fields.century = Some(reader.number(2, open, word)?.0),
        "Q" => {
            reader.number(1, open, word)?;
        }
        "HH" | "HH12" => {
            fields.twelve = true;
            fields.hour = Some(reader.number(2, open, word)?.0);
        }
        "HH24" => fields.hour = Some(reader.number(2, open, word)?.0),
        "MI" => fields.minute = reader.number(2, open, word)?.0,
        "SS" => fields.second = reader.number(2, open, word)?.0,
        "SSSS" | "SSSSS" => fields.of_day = Some(reader.number(5, open, word)?.0),
        "MS" => {
            let (value, digits) = reader.number(3, open, word)?;
            fields.micros += value * 10i64.pow(3u32.saturating_sub(digits as u32)) * 1000;
        }
        "US" | "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => {
            let (value, digits) = reader.number(6, open, word)?;
            fields.micros += value * 10i64.pow(6u32.saturating_sub(digits as u32));
        }
        "AM" | "PM" => fields.pm = Some(reader.name(&["AM", "PM"], false, word)? == 1),
        "A.M." | "P.M." => fields.pm = Some(reader.name(&["A.M.", "P.M."], false, word)? == 1),
        "AD" | "BC" => fields.bc = reader.name(&["AD", "BC"], false, word)? == 1,
        "A.D." | "B.C." => fields.bc = reader.name(&["A.D.", "B.C."], false, word)? == 1,
        "TZH" => {
            reader.skip_space();
            fields.zone_sign = if reader.rest.starts_with('-') { -1 } else { 1 };
            reader.rest = reader.rest.trim_start_matches(['+', '-']);
            fields.zone_hours = Some(reader.number(2, false, word)?.0 as i32);
        }
        "TZM" => {
            let minutes = reader.number(2, false, word)?.0 as i32;
            let hours = fields.zone_hours.unwrap_or(0);
            let sign = if fields.zone_sign == 0 {
                1
            } else {
                fields.zone_sign
            };
            fields.zone = Some(Zone::Fixed(sign * (hours * 3600 + minutes * 60)));
        }
        "TZ" | "OF" => {
            return Err(SqlError::unsupported(format!(
                "formatting field \"{word}\" in to_date and to_timestamp"
            )));
        }
        _ => {}
    }
    Ok(())
}

impl Fields {
    fn finish(self, text: &str) -> Result<Read, SqlError> {
        let days = self.days(text)?;
        let mut hour = self.hour.unwrap_or(0);
        if self.twelve || self.pm.is_some() {
            if self.twelve && !(1..=12).contains(&hour) && self.hour.is_some() {
                return Err(SqlError::new(
                    SqlState::INVALID_DATETIME_FORMAT,
                    format!("hour \"{hour}\" is invalid for the 12-hour clock"),
                )
                .with_hint("Use the 24-hour clock, or give an hour between 1 and 12."));
            }
            match self.pm {
                Some(true) if hour < 12 => hour += 12,
                Some(false) if hour == 12 => hour = 0,
                _ => {}
            }
        }
        let (mut hour, mut minute, mut second) = (hour, self.minute, self.second);
        if let Some(of_day) = self.of_day {
            (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        }
        if !(0..24).contains(&hour) && !(hour == 24 && minute == 0 && second == 0)
            || !(0..60).contains(&minute)
            || !(0..=60).contains(&second)
        {
            return Err(out_of_range(text));
        }
        let zone = self.zone.or_else(|| {
            self.zone_hours
                .map(|h| Zone::Fixed(self.zone_sign * h * 3600))
        });
        Ok(Read {
            days,
            micros: hour * HOUR + minute * MINUTE + second * SECOND + self.micros,
            zone,
        })
    }

    fn days(&self, text: &str) -> Result<i64, SqlError> {
        if let Some(julian) = self.julian {
            return Ok(julian - 2_440_588);
        }
        if let (Some(year), week) = (self.iso_year, self.iso_week) {
            let week = week.unwrap_or(1);
            if !(1..=53).contains(&week) {
                return Err(out_of_range(text));
            }
            return Ok(iso_week_start(year, week) + self.iso_day.unwrap_or(1) - 1);
        }
        let mut year = self.year.unwrap_or_else(|| match self.century {
            Some(century) => (century - 1) * 100 + 1,
            None => 0,
        });
        if let (Some(century), Some(short)) = (self.century, self.year) {
            year = (century - 1) * 100 + short % 100;
        }
        if self.bc {
            year = 1 - year;
        } else if year == 0 && self.year.is_none() {
            // no year at all: 1 BC, as PostgreSQL
            year = 0;
        } else if year == 0 {
            return Err(out_of_range(text));
        }
        if let Some(of_year) = self.day_of_year {
            if !(1..=366).contains(&of_year) {
                return Err(out_of_range(text));
            }
            return Ok(days_from_civil(year, 1, 1) + of_year - 1);
        }
        if let Some(week) = self.week {
            return Ok(days_from_civil(year, 1, 1) + (week - 1) * 7);
        }
        let month = self.month.unwrap_or(1);
        let day = match (self.day, self.week_of_month) {
            (Some(day), _) => day,
            (None, Some(week)) => (week - 1) * 7 + 1,
            (None, None) => 1,
        };
        if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
            return Err(out_of_range(text));
        }
        Ok(days_from_civil(year, month, day))
    }
}

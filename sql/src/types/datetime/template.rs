//! `to_char` on times: templates cut into keywords, keywords filled in.

use super::civil::{Civil, day_of_year, iso_week, weekday};
use super::words::{DAYS, MONTHS};
use super::zone::write_offset;
use super::{DAY, HOUR, MINUTE, SECOND, Zone};
use crate::error::{SqlError, SqlState};
use crate::types::Interval;

/// Keywords, longer ones before their beginnings.
const KEYWORDS: &[&str] = &[
    "A.D.", "A.M.", "B.C.", "P.M.", "a.d.", "a.m.", "b.c.", "p.m.", "AD", "AM", "BC", "PM", "ad",
    "am", "bc", "pm", "CC", "cc", "DAY", "Day", "day", "DDD", "ddd", "DD", "dd", "DY", "Dy", "dy",
    "D", "d", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "ff1", "ff2", "ff3", "ff4", "ff5", "ff6",
    "HH24", "hh24", "HH12", "hh12", "HH", "hh", "IDDD", "iddd", "ID", "id", "IW", "iw", "IYYY",
    "iyyy", "IYY", "iyy", "IY", "iy", "I", "i", "J", "j", "MI", "mi", "MM", "mm", "MONTH", "Month",
    "month", "MON", "Mon", "mon", "MS", "ms", "OF", "Q", "q", "RM", "rm", "SSSSS", "sssss", "SSSS",
    "ssss", "SS", "ss", "TZH", "tzh", "TZM", "tzm", "TZ", "tz", "US", "us", "WW", "ww", "W", "w",
    "Y,YYY", "y,yyy", "YYYY", "yyyy", "YYY", "yyy", "YY", "yy", "Y", "y",
];

/// A piece of a template.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// A keyword with its modifiers.
    Key {
        /// As written.
        word: &'static str,
        /// FM: no padding.
        fill: bool,
        /// TH or th.
        ordinal: Option<bool>,
    },
    /// Text to be copied.
    Literal(String),
    /// FX at the start.
    Exact,
}

/// Cuts a template.
pub(super) fn cut(template: &str) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    let mut rest = template;
    let literal = |text: &str, out: &mut Vec<Piece>| {
        if let Some(Piece::Literal(last)) = out.last_mut() {
            last.push_str(text);
        } else {
            out.push(Piece::Literal(text.to_owned()));
        }
    };
    while let Some(c) = rest.chars().next() {
        if let Some(tail) = rest.strip_prefix("FX").or_else(|| rest.strip_prefix("fx")) {
            out.push(Piece::Exact);
            rest = tail;
            continue;
        }
        if c == '"' {
            let mut text = String::new();
            let mut chars = rest.char_indices().skip(1);
            let mut end = rest.len();
            while let Some((i, c)) = chars.next() {
                match c {
                    '"' => {
                        end = i + 1;
                        break;
                    }
                    '\\' => text.extend(chars.next().map(|(_, c)| c)),
                    c => text.push(c),
                }
            }
            literal(&text, &mut out);
            rest = rest.get(end..).unwrap_or("");
            continue;
        }
        let mut body = rest;
        let mut fill = false;
        loop {
            if let Some(tail) = body.strip_prefix("FM").or_else(|| body.strip_prefix("fm")) {
                fill = true;
                body = tail;
            } else if let Some(tail) = body.strip_prefix("TM").or_else(|| body.strip_prefix("tm")) {
                body = tail;
            } else {
                break;
            }
        }
        match KEYWORDS.iter().find(|k| body.starts_with(**k)) {
            Some(word) => {
                let mut tail = body.get(word.len()..).unwrap_or("");
                let mut ordinal = None;
                if let Some(t) = tail.strip_prefix("TH") {
                    ordinal = Some(true);
                    tail = t;
                } else if let Some(t) = tail.strip_prefix("th") {
                    ordinal = Some(false);
                    tail = t;
                }
                out.push(Piece::Key {
                    word,
                    fill,
                    ordinal,
                });
                rest = tail;
            }
            None => {
                if c == '\\' && rest.get(1..).is_some_and(|t| t.starts_with('"')) {
                    literal("\"", &mut out);
                    rest = rest.get(2..).unwrap_or("");
                } else {
                    literal(rest.get(..c.len_utf8()).unwrap_or(""), &mut out);
                    rest = rest.get(c.len_utf8()..).unwrap_or("");
                }
            }
        }
    }
    out
}

/// What a template can ask of a value.
struct Parts {
    civil: Civil,
    days: i64,
    /// Hours may exceed 24 in intervals.
    hours: i64,
    interval: bool,
    utc: Option<(i64, Zone)>,
}

fn ordinal_suffix(digits: &str, upper: bool) -> &'static str {
    let teens = digits.len() > 1 && digits.as_bytes().iter().rev().nth(1) == Some(&b'1');
    let suffix = match digits.as_bytes().last() {
        Some(b'1') if !teens => ("st", "ST"),
        Some(b'2') if !teens => ("nd", "ND"),
        Some(b'3') if !teens => ("rd", "RD"),
        _ => ("th", "TH"),
    };
    if upper { suffix.1 } else { suffix.0 }
}

fn cased(name: &str, word: &str, width: usize, fill: bool) -> String {
    let mut chars = word.chars();
    let first_upper = chars.next().is_some_and(char::is_uppercase);
    let rest_upper = chars.next().is_some_and(char::is_uppercase);
    let text = match (first_upper, rest_upper) {
        (true, true) => name.to_uppercase(),
        (true, false) => name.to_owned(),
        _ => name.to_lowercase(),
    };
    if fill {
        text
    } else {
        format!("{text:<width$}")
    }
}

const ROMAN: [&str; 12] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII",
];

impl Parts {
    fn write(
        &self,
        word: &str,
        fill: bool,
        ordinal: Option<bool>,
        out: &mut String,
    ) -> Result<(), SqlError> {
        let civil = &self.civil;
        let upper = word.to_ascii_uppercase();
        let micros = civil.micros;
        let name = |list: &[&str], i: i64| -> String {
            usize::try_from(i)
                .ok()
                .and_then(|i| list.get(i))
                .map_or("", |n| n)
                .to_owned()
        };
        let short = |text: String| text.get(..3).unwrap_or("").to_owned();
        // value and width of the numeric keywords
        let year = civil.year;
        let shown_year = if self.interval {
            year
        } else if year <= 0 {
            1 - year
        } else {
            year
        };
        let iso = iso_week(self.days);
        let hour12 = |h: i64| if h % 12 == 0 { 12 } else { h % 12 };
        let (value, width) = match upper.as_str() {
            "HH" | "HH12" => (hour12(self.hours), 2),
            "HH24" => (self.hours, 2),
            "MI" => (micros % HOUR / MINUTE, 2),
            "SS" => (micros % MINUTE / SECOND, 2),
            "MS" => (micros % SECOND / 1000, 3),
            "US" => (micros % SECOND, 6),
            "SSSS" | "SSSSS" => (self.hours * 3600 + micros % HOUR / SECOND, 0),
            "YYYY" => (shown_year, 4),
            "YYY" => (shown_year % 1000, 3),
            "YY" => (shown_year % 100, 2),
            "Y" => (shown_year % 10, 1),
            "IYYY" => (iso.0, 4),
            "IYY" => (iso.0 % 1000, 3),
            "IY" => (iso.0 % 100, 2),
            "I" => (iso.0 % 10, 1),
            "MM" => (civil.month, 2),
            "DDD" => (day_of_year(self.days), 3),
            "IDDD" => (self.days - super::civil::iso_week_start(iso.0, 1) + 1, 3),
            "DD" => (civil.day, 2),
            "D" => (weekday(self.days) + 1, 0),
            "ID" => ((weekday(self.days) + 6) % 7 + 1, 0),
            "W" => ((civil.day - 1) / 7 + 1, 0),
            "WW" => ((day_of_year(self.days) - 1) / 7 + 1, 2),
            "IW" => (iso.1, 2),
            "Q" => ((civil.month - 1) / 3 + 1, 0),
            "J" => (self.days + 2_440_588, 0),
            "CC" => {
                let century = if self.interval {
                    year / 100
                } else if year > 0 {
                    (year - 1) / 100 + 1
                } else {
                    year / 100 - 1
                };
                (century, 2)
            }
            _ => return self.write_word(word, &upper, fill, out, &name, &short),
        };
        let width: usize = if fill { 0 } else { width };
        let digits = if value < 0 {
            // the sign counts for the width except in times and years
            let signed = matches!(upper.as_str(), "DD" | "DDD" | "MM" | "MS" | "US");
            let width = width.saturating_sub(usize::from(signed));
            format!("-{:0width$}", -value)
        } else {
            format!("{value:0width$}")
        };
        out.push_str(&digits);
        if let Some(big) = ordinal {
            out.push_str(ordinal_suffix(&digits, big));
        }
        Ok(())
    }

    fn write_word(
        &self,
        word: &str,
        upper: &str,
        fill: bool,
        out: &mut String,
        name: &dyn Fn(&[&str], i64) -> String,
        short: &dyn Fn(String) -> String,
    ) -> Result<(), SqlError> {
        let civil = &self.civil;
        let lower = word.chars().any(char::is_lowercase);
        let marker = |text: &str| {
            if lower {
                text.to_lowercase()
            } else {
                text.to_owned()
            }
        };
        let fraction = civil.micros.unsigned_abs() % SECOND as u64;
        let no_calendar = || {
            SqlError::new(
                SqlState::INVALID_DATETIME_FORMAT,
                "invalid format specification for an interval value",
            )
            .with_hint("Intervals are not tied to specific calendar dates.")
        };
        if self.interval
            && matches!(
                upper,
                "MONTH"
                    | "MON"
                    | "DAY"
                    | "DY"
                    | "AD"
                    | "BC"
                    | "A.D."
                    | "B.C."
                    | "TZ"
                    | "TZH"
                    | "TZM"
                    | "OF"
            )
        {
            return Err(no_calendar());
        }
        match upper {
            "AM" | "PM" => out.push_str(&marker(if self.hours % 24 >= 12 { "PM" } else { "AM" })),
            "A.M." | "P.M." => {
                out.push_str(&marker(if self.hours % 24 >= 12 {
                    "P.M."
                } else {
                    "A.M."
                }));
            }
            "AD" | "BC" => out.push_str(&marker(if civil.year <= 0 { "BC" } else { "AD" })),
            "A.D." | "B.C." => {
                out.push_str(&marker(if civil.year <= 0 { "B.C." } else { "A.D." }));
            }
            "MONTH" => out.push_str(&cased(&name(&MONTHS, civil.month - 1), word, 9, fill)),
            "MON" => out.push_str(&cased(
                &short(name(&MONTHS, civil.month - 1)),
                word,
                3,
                fill,
            )),
            "DAY" => out.push_str(&cased(&name(&DAYS, weekday(self.days)), word, 9, fill)),
            "DY" => out.push_str(&cased(
                &short(name(&DAYS, weekday(self.days))),
                word,
                3,
                fill,
            )),
            "RM" => {
                let roman = name(&ROMAN, civil.month - 1);
                let roman = if lower { roman.to_lowercase() } else { roman };
                out.push_str(&if fill { roman } else { format!("{roman:<4}") });
            }
            "Y,YYY" => {
                let year = if civil.year <= 0 {
                    1 - civil.year
                } else {
                    civil.year
                };
                out.push_str(&format!("{},{:03}", year / 1000, year % 1000));
            }
            "TZ" => {
                if let Some((utc, zone)) = self.utc {
                    out.push_str(&marker(&zone.abbreviation_at(utc)));
                }
            }
            "OF" => {
                if let Some((utc, zone)) = self.utc {
                    write_offset(zone.offset_at(utc), out);
                } else {
                    out.push_str("+00");
                }
            }
            "TZH" => {
                let offset = self.utc.map_or(0, |(utc, zone)| zone.offset_at(utc));
                out.push_str(&format!(
                    "{}{:02}",
                    if offset < 0 { '-' } else { '+' },
                    offset.abs() / 3600
                ));
            }
            "TZM" => {
                let offset = self.utc.map_or(0, |(utc, zone)| zone.offset_at(utc));
                out.push_str(&format!("{:02}", offset.abs() % 3600 / 60));
            }
            _ => {
                if let Some(digits) = upper
                    .strip_prefix("FF")
                    .and_then(|d| d.parse::<usize>().ok())
                {
                    let text = format!("{fraction:06}");
                    out.push_str(text.get(..digits).unwrap_or(&text));
                }
            }
        }
        Ok(())
    }

    fn fill(&self, template: &str) -> Result<String, SqlError> {
        let mut out = String::new();
        for piece in cut(template) {
            match piece {
                Piece::Literal(text) => out.push_str(&text),
                Piece::Key {
                    word,
                    fill,
                    ordinal,
                } => self.write(word, fill, ordinal, &mut out)?,
                Piece::Exact => {}
            }
        }
        Ok(out)
    }
}

/// `to_char(timestamp, template)` of a finite timestamp; with a zone the moment is shown there.
pub fn timestamp_to_char(
    micros: i64,
    zone: Option<Zone>,
    template: &str,
) -> Result<String, SqlError> {
    let local = zone.map_or(micros, |z| z.to_local(micros));
    let civil = Civil::from_micros(local);
    Parts {
        civil,
        days: local.div_euclid(DAY),
        hours: civil.micros / HOUR,
        interval: false,
        utc: zone.map(|z| (micros, z)),
    }
    .fill(template)
}

/// `to_char(interval, template)`.
pub fn interval_to_char(span: Interval, template: &str) -> Result<String, SqlError> {
    let months = i64::from(span.months);
    let civil = Civil {
        year: months / 12,
        month: months % 12,
        day: i64::from(span.days),
        micros: span.micros,
    };
    Parts {
        civil,
        days: months * 30 + i64::from(span.days),
        hours: span.micros / HOUR,
        interval: true,
        utc: None,
    }
    .fill(template)
}

pub use super::template_in::{Read, read};

//! Time zones: names, abbreviations, offsets at an instant and for a wall-clock time.

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};

use super::civil::{check_timestamp, civil_from_days, days_from_civil, is_leap, weekday};
use super::{DAY, HOUR, INFINITY, NEG_INFINITY, SECOND};
use crate::error::{SqlError, SqlState};

/// A time zone of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// A named zone.
    Named(chrono_tz::Tz),
    /// Seconds east of UTC.
    Fixed(i32),
}

/// Last year of which chrono's tables know the transitions.
const LAST_YEAR: i64 = 2090;

/// The same moment in a year that the tables know and that has the same calendar.
fn known_year(micros: i64) -> i64 {
    if micros < days_from_civil(LAST_YEAR, 1, 1) * DAY {
        return micros;
    }
    let (year, _, _) = civil_from_days(micros.div_euclid(DAY));
    let start = days_from_civil(year, 1, 1);
    let alike = (LAST_YEAR - 28..LAST_YEAR)
        .find(|y| {
            is_leap(*y) == is_leap(year) && weekday(days_from_civil(*y, 1, 1)) == weekday(start)
        })
        .unwrap_or(LAST_YEAR - 1);
    micros - (start - days_from_civil(alike, 1, 1)) * DAY
}

fn naive(micros: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(known_year(micros)).map(|t| t.naive_utc())
}

impl Zone {
    /// UTC.
    pub const UTC: Self = Self::Fixed(0);

    /// The zone of a name, an abbreviation or a POSIX-like offset; `22023` if there is none.
    pub fn parse(name: &str) -> Result<Self, SqlError> {
        Self::lookup(name).ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("time zone \"{name}\" not recognized"),
            )
        })
    }

    /// The zone of a name, if there is one.
    pub fn lookup(name: &str) -> Option<Self> {
        let name = name.trim();
        if let Some(offset) = abbreviation(name) {
            return Some(Self::Fixed(offset));
        }
        Self::full_name(name).map(|zone| match zone {
            Self::Named(chrono_tz::Tz::UTC | chrono_tz::Tz::Etc__UTC) => Self::UTC,
            zone => zone,
        })
    }

    /// The zone of a name that is no abbreviation: one of the tz database in any case, or an
    /// offset as POSIX has it, counted west (`UTC+3`, `<+03>-03`).
    pub fn full_name(name: &str) -> Option<Self> {
        named(name)
            .map(Self::Named)
            .or_else(|| posix(name).map(Self::Fixed))
    }

    /// The name by which SHOW TimeZone and clients know it.
    pub fn name(&self) -> String {
        match self {
            Self::Named(tz) => tz.name().to_owned(),
            Self::Fixed(0) => "UTC".to_owned(),
            Self::Fixed(seconds) => {
                let mut offset = String::new();
                write_offset(*seconds, &mut offset);
                let posix = offset.replace(['+', '-'], "");
                let sign = if *seconds > 0 { '-' } else { '+' };
                format!("<{offset}>{sign}{posix}")
            }
        }
    }

    /// Seconds east of UTC at a moment.
    pub fn offset_at(&self, utc_micros: i64) -> i32 {
        match self {
            Self::Fixed(seconds) => *seconds,
            Self::Named(tz) => naive(utc_micros).map_or(0, |t| {
                tz.offset_from_utc_datetime(&t).fix().local_minus_utc()
            }),
        }
    }

    /// Abbreviation at a moment ("CET").
    pub fn abbreviation_at(&self, utc_micros: i64) -> String {
        match self {
            Self::Fixed(0) => "UTC".to_owned(),
            Self::Fixed(seconds) => {
                let mut out = String::new();
                write_offset(*seconds, &mut out);
                out
            }
            Self::Named(tz) => naive(utc_micros)
                .map_or_else(String::new, |t| tz.offset_from_utc_datetime(&t).to_string()),
        }
    }

    /// Seconds east of UTC for a wall-clock time: before a gap the offset before it, in an
    /// overlap the later one.
    pub fn offset_of_local(&self, local_micros: i64) -> i32 {
        let Self::Named(tz) = self else {
            return self.offset_at(local_micros);
        };
        let seconds = |t: &NaiveDateTime| match tz.offset_from_local_datetime(t) {
            chrono::LocalResult::Single(o) => Some(o.fix().local_minus_utc()),
            chrono::LocalResult::Ambiguous(_, later) => Some(later.fix().local_minus_utc()),
            chrono::LocalResult::None => None,
        };
        naive(local_micros)
            .and_then(|t| seconds(&t))
            .or_else(|| naive(local_micros - 4 * HOUR).and_then(|t| seconds(&t)))
            .unwrap_or(0)
    }

    /// The moment of a wall-clock time.
    pub fn to_utc(&self, local_micros: i64) -> Result<i64, SqlError> {
        if local_micros == INFINITY || local_micros == NEG_INFINITY {
            return Ok(local_micros);
        }
        check_timestamp(
            local_micros.saturating_sub(i64::from(self.offset_of_local(local_micros)) * SECOND),
        )
    }

    /// The wall-clock time of a moment.
    pub fn to_local(&self, utc_micros: i64) -> i64 {
        if utc_micros == INFINITY || utc_micros == NEG_INFINITY {
            return utc_micros;
        }
        utc_micros.saturating_add(i64::from(self.offset_at(utc_micros)) * SECOND)
    }
}

/// The zone of the tz database of that name, in any case.
fn named(name: &str) -> Option<chrono_tz::Tz> {
    static NAMES: LazyLock<HashMap<String, chrono_tz::Tz>> = LazyLock::new(|| {
        chrono_tz::TZ_VARIANTS
            .iter()
            .map(|tz| (tz.name().to_ascii_lowercase(), *tz))
            .collect()
    });
    match name.parse() {
        Ok(tz) => Some(tz),
        Err(_) => NAMES.get(&name.to_ascii_lowercase()).copied(),
    }
}

/// Writes "+02", "+05:30", "-00:01:15".
pub fn write_offset(seconds: i32, out: &mut String) {
    use std::fmt::Write;
    let magnitude = seconds.unsigned_abs();
    let (h, m, s) = (magnitude / 3600, magnitude / 60 % 60, magnitude % 60);
    out.push(if seconds < 0 { '-' } else { '+' });
    let _ = write!(out, "{h:02}");
    if m != 0 || s != 0 {
        let _ = write!(out, ":{m:02}");
    }
    if s != 0 {
        let _ = write!(out, ":{s:02}");
    }
}

/// "+5:30", "-08", "<+05>-05", "EST5": signs count westwards in POSIX names, eastwards in plain
/// ISO offsets only where the caller says so; PostgreSQL reads zone *names* the POSIX way.
fn posix(name: &str) -> Option<i32> {
    let rest = if let Some(quoted) = name.strip_prefix('<') {
        quoted.split_once('>')?.1
    } else {
        let letters = name.find(|c: char| !c.is_ascii_alphabetic())?;
        if letters != 0 && letters < 3 {
            return None;
        }
        name.get(letters..)?
    };
    let (sign, digits) = match rest.as_bytes().first()? {
        b'+' => (-1, rest.get(1..)?),
        b'-' => (1, rest.get(1..)?),
        b'0'..=b'9' => (-1, rest),
        _ => return None,
    };
    parse_hms(digits).map(|s| sign * s)
}

/// "5", "05", "0530", "5:30", "5:30:15" as seconds.
pub fn parse_hms(text: &str) -> Option<i32> {
    let all_digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.split(':').collect();
    let (h, m, s) = match parts.as_slice() {
        [one] if all_digits(one) => match one.len() {
            1 | 2 => (one.parse::<i32>().ok()?, 0, 0),
            3 | 4 => {
                let v: i32 = one.parse().ok()?;
                (v / 100, v % 100, 0)
            }
            5 | 6 => {
                let v: i32 = one.parse().ok()?;
                (v / 10_000, v / 100 % 100, v % 100)
            }
            _ => return None,
        },
        [h, m] if all_digits(h) && all_digits(m) => (h.parse().ok()?, m.parse().ok()?, 0),
        [h, m, s] if all_digits(h) && all_digits(m) && all_digits(s) => {
            (h.parse().ok()?, m.parse().ok()?, s.parse().ok()?)
        }
        _ => return None,
    };
    (h <= 167 && m < 60 && s < 60).then_some(h * 3600 + m * 60 + s)
}

/// PostgreSQL's default abbreviations (those in wide use), in seconds east of UTC.
pub fn abbreviation(name: &str) -> Option<i32> {
    const TABLE: &[(&str, i32)] = &[
        ("acdt", 1030),
        ("acst", 930),
        ("adt", -300),
        ("aedt", 1100),
        ("aest", 1000),
        ("akdt", -800),
        ("akst", -900),
        ("art", -300),
        ("ast", -400),
        ("awst", 800),
        ("azt", 400),
        ("bdt", 600),
        ("bot", -400),
        ("brst", -200),
        ("brt", -300),
        ("bst", 100),
        ("cadt", 1030),
        ("cast", 930),
        ("cct", 800),
        ("cdt", -500),
        ("cest", 200),
        ("cet", 100),
        ("cetdst", 200),
        ("chadt", 1345),
        ("chast", 1245),
        ("clst", -300),
        ("clt", -400),
        ("cot", -500),
        ("cst", -600),
        ("eat", 300),
        ("edt", -400),
        ("eest", 300),
        ("eet", 200),
        ("eetdst", 300),
        ("est", -500),
        ("fjt", 1200),
        ("gmt", 0),
        ("hkt", 800),
        ("hst", -1000),
        ("ict", 700),
        ("idt", 300),
        ("ist", 200),
        ("jst", 900),
        ("kst", 900),
        ("mdt", -600),
        ("mest", 200),
        ("met", 100),
        ("metdst", 200),
        ("msd", 400),
        ("msk", 300),
        ("mst", -700),
        ("myt", 800),
        ("ndt", -230),
        ("npt", 545),
        ("nst", -330),
        ("nzdt", 1300),
        ("nzst", 1200),
        ("pdt", -700),
        ("pet", -500),
        ("pht", 800),
        ("pkt", 500),
        ("pst", -800),
        ("sast", 200),
        ("sgt", 800),
        ("tot", 1300),
        ("uct", 0),
        ("ut", 0),
        ("utc", 0),
        ("uyt", -300),
        ("uzt", 500),
        ("vet", -400),
        ("wadt", 800),
        ("wast", 200),
        ("wat", 100),
        ("west", 100),
        ("wet", 0),
        ("wetdst", 100),
        ("z", 0),
        ("zulu", 0),
    ];
    let lower = name.to_ascii_lowercase();
    let (_, hhmm) = TABLE.iter().find(|(n, _)| *n == lower)?;
    Some(hhmm / 100 * 3600 + hhmm % 100 * 60)
}

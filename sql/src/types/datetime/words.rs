//! Words of date and time texts: months, days, units, and the splitting of a text into fields.

use crate::error::SqlError;

/// English month names.
pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// English day names from Sunday.
pub(super) const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// Number of a month name or its abbreviation.
pub(super) fn month(word: &str) -> Option<i64> {
    if word == "sept" {
        return Some(9);
    }
    let found = MONTHS.iter().position(|m| {
        let m = m.to_ascii_lowercase();
        m == word || (word.len() == 3 && m.starts_with(word))
    })?;
    i64::try_from(found).ok().map(|i| i + 1)
}

/// Whether it is the name of a day of the week.
pub(super) fn is_weekday(word: &str) -> bool {
    matches!(word, "tues" | "weds" | "wednes" | "thur" | "thurs")
        || DAYS.iter().any(|d| {
            let d = d.to_ascii_lowercase();
            d == word || (word.len() == 3 && d.starts_with(word))
        })
}

/// A unit of time as `extract`, `date_trunc` and interval texts name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Microseconds
    Microsecond,
    /// Milliseconds
    Millisecond,
    /// Seconds
    Second,
    /// Minutes
    Minute,
    /// Hours
    Hour,
    /// Days
    Day,
    /// Weeks
    Week,
    /// Months
    Month,
    /// Quarters
    Quarter,
    /// Years
    Year,
    /// Decades
    Decade,
    /// Centuries
    Century,
    /// Millennia
    Millennium,
}

/// The unit of a word.
pub(super) fn unit(word: &str) -> Option<Unit> {
    Some(match word {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds"
        | "microsecon" => Unit::Microsecond,
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds"
        | "millisecon" => Unit::Millisecond,
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Second,
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Minute,
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Hour,
        "d" | "day" | "days" => Unit::Day,
        "w" | "week" | "weeks" => Unit::Week,
        "mon" | "mons" | "month" | "months" => Unit::Month,
        "qtr" | "quarter" => Unit::Quarter,
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Year,
        "dec" | "decs" | "decade" | "decades" => Unit::Decade,
        "c" | "cent" | "century" | "centuries" => Unit::Century,
        "mil" | "mils" | "millennia" | "millennium" => Unit::Millennium,
        _ => return None,
    })
}

/// What a field of a text looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// Digits, perhaps with a fraction.
    Number,
    /// Letters.
    Word,
    /// Parts joined by `-`, `/` or `.`.
    Date,
    /// Parts joined by `:`.
    Time,
    /// A sign and digits, perhaps with `:` or a fraction.
    Signed,
    /// A sign and letters ("-infinity").
    SignedWord,
}

/// A field: its shape and its text in lower case.
pub(super) type Field = (Shape, String);

/// Splits a text into fields by PostgreSQL's rules; `None` if a character fits nowhere.
pub(super) fn split(text: &str) -> Option<Vec<Field>> {
    let bytes: Vec<u8> = text.bytes().map(|b| b.to_ascii_lowercase()).collect();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let mut fields = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let start = i;
        let run = |i: &mut usize, accept: &dyn Fn(u8) -> bool| {
            while *i < bytes.len() && accept(at(*i)) {
                *i += 1;
            }
        };
        let digit = |b: u8| b.is_ascii_digit();
        let shape = match at(i) {
            b if b.is_ascii_whitespace() || b == 0x0b => {
                i += 1;
                continue;
            }
            b'0'..=b'9' => {
                run(&mut i, &digit);
                match at(i) {
                    b':' => {
                        run(&mut i, &|b| digit(b) || b == b':' || b == b'.');
                        Shape::Time
                    }
                    sep @ (b'-' | b'/' | b'.') => {
                        i += 1;
                        if at(i).is_ascii_digit() {
                            let mut shape = if sep == b'.' {
                                Shape::Number
                            } else {
                                Shape::Date
                            };
                            run(&mut i, &digit);
                            if at(i) == sep {
                                shape = Shape::Date;
                                run(&mut i, &|b| digit(b) || b == sep);
                            }
                            shape
                        } else if sep == b'.' && !at(i).is_ascii_alphabetic() {
                            Shape::Number
                        } else {
                            run(&mut i, &|b| b.is_ascii_alphanumeric() || b == sep);
                            Shape::Date
                        }
                    }
                    _ => Shape::Number,
                }
            }
            b'.' => {
                i += 1;
                run(&mut i, &digit);
                Shape::Number
            }
            b if b.is_ascii_alphabetic() => {
                run(&mut i, &|b| b.is_ascii_alphabetic());
                let word = std::str::from_utf8(bytes.get(start..i)?).ok()?;
                if matches!(at(i), b'-' | b'/' | b'.') && month(word).is_some() {
                    let sep = at(i);
                    run(&mut i, &|b| b.is_ascii_alphanumeric() || b == sep);
                    Shape::Date
                } else {
                    // perhaps the name of a zone
                    if matches!(at(i), b'/' | b'_') {
                        run(&mut i, &|b| {
                            b.is_ascii_alphanumeric() || matches!(b, b'_' | b'/' | b'+' | b'-')
                        });
                    }
                    Shape::Word
                }
            }
            b'+' | b'-' => {
                i += 1;
                run(&mut i, &|b| b.is_ascii_whitespace());
                if at(i).is_ascii_digit() || at(i) == b'.' {
                    run(&mut i, &|b| digit(b) || matches!(b, b':' | b'.' | b'-'));
                    Shape::Signed
                } else if at(i).is_ascii_alphabetic() {
                    run(&mut i, &|b| b.is_ascii_alphabetic());
                    Shape::SignedWord
                } else {
                    return None;
                }
            }
            b if b.is_ascii_punctuation() => {
                i += 1;
                continue;
            }
            _ => return None,
        };
        let text: String = std::str::from_utf8(bytes.get(start..i)?).ok()?.to_owned();
        fields.push((shape, text.split_ascii_whitespace().collect()));
        if fields.len() > 25 {
            return None;
        }
    }
    Some(fields)
}

/// The digits of a fraction as microseconds, rounded.
pub(super) fn fraction_micros(digits: &str) -> i64 {
    let mut value = 0i64;
    for i in 0..6 {
        value = value * 10 + digits.as_bytes().get(i).map_or(0, |d| i64::from(d - b'0'));
    }
    let rest = digits.get(6..).unwrap_or("");
    if rest.is_empty() {
        return value;
    }
    // half to even, as PostgreSQL rounds a float
    let lead = rest.as_bytes().first().copied().unwrap_or(b'0');
    let exact_half = lead == b'5' && rest.bytes().skip(1).all(|b| b == b'0');
    if (exact_half && value % 2 == 1) || (!exact_half && lead >= b'5') {
        value + 1
    } else {
        value
    }
}

/// "unit "foo" not recognized for type timestamp ..."
pub(super) fn unknown_unit(word: &str, ty: &str) -> SqlError {
    crate::types::fault::invalid_parameter(format!("unit \"{word}\" not recognized for type {ty}"))
}

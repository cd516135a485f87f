//! What a configuration variable is: how a value is checked, brought to its canonical form and
//! shown. Pure; [`super::settings`] holds the values of a session.
//!
//! A value that PostgreSQL gives a meaning which Pontoon does not have is refused with `0A000`
//! ([`unsupported_value`]); variables that only tune PostgreSQL's planner or memory are accepted,
//! checked and shown, and tune nothing here.

use crate::error::{SqlError, SqlState};

use super::known::VARIABLES;
use super::zone;

/// Type of a variable, with its limits.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// on or off.
    Bool,
    /// A whole number in the variable's unit.
    Int {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// A number.
    Real {
        /// Least value.
        min: f64,
        /// Greatest value.
        max: f64,
    },
    /// One of these words.
    Enum(&'static [&'static str]),
    /// Any text that the check of the variable accepts.
    Text,
}

/// Who may change a variable, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changeable {
    /// Any session, at any time.
    User,
    /// Nobody: it shows what is built in.
    Internal,
    /// Only before the server starts.
    Restart,
    /// Only in the server's configuration.
    Reload,
    /// Only when the connection is made.
    Start,
}

/// A row of the table of variables.
#[derive(Debug)]
pub struct Variable {
    /// Its name, in PostgreSQL's spelling.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its unit ("ms", "s", "min", "B", "kB", "8kB", "MB"), or empty.
    pub unit: &'static str,
    /// Its value when nothing sets it, in its unit.
    pub default: &'static str,
    /// Who may change it.
    pub changeable: Changeable,
    /// Whether clients are told of changes (ParameterStatus).
    pub reported: bool,
    /// `category` of pg_settings.
    pub category: &'static str,
    /// `short_desc` of pg_settings.
    pub description: &'static str,
}

/// The variable of that name, in any case.
pub fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES
        .binary_search_by(|v| {
            v.name
                .bytes()
                .map(|b| b.to_ascii_lowercase())
                .cmp(name.bytes().map(|b| b.to_ascii_lowercase()))
        })
        .ok()
        .and_then(|i| VARIABLES.get(i))
        .or_else(|| match name.to_ascii_lowercase().as_str() {
            "time zone" => find("TimeZone"),
            _ => None,
        })
}

/// `42704`: no such variable.
pub(crate) fn unrecognized(name: &str) -> SqlError {
    SqlError::new(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
}

fn invalid(variable: &Variable, value: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!(
            "invalid value for parameter \"{}\": \"{value}\"",
            variable.name
        ),
    )
}

/// `0A000`: a value that PostgreSQL knows and Pontoon has not.
fn unsupported_value(variable: &Variable, value: &str) -> SqlError {
    SqlError::unsupported(format!(
        "value \"{value}\" of parameter \"{}\"",
        variable.name
    ))
}

/// Reads a boolean as PostgreSQL does: any unique prefix of the words.
pub(crate) fn parse_bool(value: &str) -> Option<bool> {
    let value = value.trim().to_ascii_lowercase();
    let is = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
    if is("true", 1) || is("yes", 1) || is("on", 2) || value == "1" {
        Some(true)
    } else if is("false", 1) || is("no", 1) || is("off", 2) || value == "0" {
        Some(false)
    } else {
        None
    }
}

/// How many of the smallest unit of its family a unit is.
fn unit_size(unit: &str) -> Option<(char, f64)> {
    Some(match unit {
        "us" => ('t', 0.001),
        "ms" => ('t', 1.0),
        "s" => ('t', 1e3),
        "min" => ('t', 6e4),
        "h" => ('t', 3.6e6),
        "d" => ('t', 8.64e7),
        "B" => ('b', 1.0),
        "kB" => ('b', 1024.0),
        "8kB" => ('b', 8192.0),
        "MB" => ('b', 1_048_576.0),
        "GB" => ('b', 1_073_741_824.0),
        "TB" => ('b', 1_099_511_627_776.0),
        _ => return None,
    })
}

/// A number with an optional unit, in the variable's unit.
fn parse_number(variable: &Variable, value: &str) -> Result<f64, SqlError> {
    let text = value.trim();
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    if let Some(hex) = hex {
        return i64::from_str_radix(hex, 16)
            .map(|n| n as f64)
            .map_err(|_| invalid(variable, value));
    }
    let split = text
        .char_indices()
        .find(|(i, c)| {
            !(c.is_ascii_digit()
                || *c == '.'
                || ((*c == '-' || *c == '+') && *i == 0)
                || ((*c == 'e' || *c == 'E')
                    && text.get(i + 1..).is_some_and(|r| {
                        r.starts_with(|d: char| d.is_ascii_digit() || d == '-' || d == '+')
                    }))
                || ((*c == '-' || *c == '+')
                    && text.get(..*i).is_some_and(|h| h.ends_with(['e', 'E']))))
        })
        .map_or(text.len(), |(i, _)| i);
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| invalid(variable, value))?;
    let unit = unit.trim();
    if unit.is_empty() {
        return Ok(number);
    }
    match (unit_size(unit), unit_size(variable.unit)) {
        (Some((a, size)), Some((b, own))) if a == b => Ok(number * size / own),
        (_, None) => Err(invalid(variable, value)),
        (_, Some((family, _))) => Err(invalid(variable, value).with_hint(if family == 't' {
            "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\"."
        } else {
            "Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\"."
        })),
    }
}

/// Checks a value and brings it to its canonical form (numbers in the variable's unit).
pub(crate) fn check(variable: &Variable, value: &str) -> Result<String, SqlError> {
    let out_of_range = |shown: String, min: String, max: String| {
        let unit = if variable.unit.is_empty() {
            String::new()
        } else {
            format!(" {}", variable.unit)
        };
        SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!(
                "{shown}{unit} is outside the valid range for parameter \"{}\" ({min} .. {max})",
                variable.name
            ),
        )
    };
    let canonical = match variable.kind {
        Kind::Bool => parse_bool(value)
            .map(|b| if b { "on" } else { "off" }.to_owned())
            .ok_or_else(|| {
                SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("parameter \"{}\" requires a Boolean value", variable.name),
                )
            })?,
        Kind::Int { min, max } => {
            let number = parse_number(variable, value)?.round_ties_even();
            if !(number >= min as f64 && number <= max as f64) {
                return Err(out_of_range(
                    number.to_string(),
                    min.to_string(),
                    max.to_string(),
                ));
            }
            number.to_string()
        }
        Kind::Real { min, max } => {
            let number = parse_number(variable, value)?;
            if !(number >= min && number <= max) {
                return Err(out_of_range(
                    number.to_string(),
                    min.to_string(),
                    max.to_string(),
                ));
            }
            number.to_string()
        }
        Kind::Enum(words) => {
            let folded = value.trim().to_ascii_lowercase();
            match words.iter().find(|w| **w == folded) {
                Some(word) => (*word).to_owned(),
                // Enumerations with "on" and "off" take the other booleans too.
                None => match parse_bool(&folded).map(|b| if b { "on" } else { "off" }) {
                    Some(word) if words.contains(&word) => word.to_owned(),
                    _ => {
                        return Err(invalid(variable, value)
                            .with_hint(format!("Available values: {}.", words.join(", "))));
                    }
                },
            }
        }
        Kind::Text => value.to_owned(),
    };
    check_meaning(variable, canonical)
}

/// Refuses values whose meaning Pontoon does not have; spells the others canonically.
fn check_meaning(variable: &Variable, value: String) -> Result<String, SqlError> {
    let only = |accepted: &[&str]| {
        if accepted.contains(&value.as_str()) {
            Ok(value.clone())
        } else {
            Err(unsupported_value(variable, &value))
        }
    };
    match variable.name {
        "TimeZone" => zone::parse(&value)
            .map(|z| zone::spell(&z))
            .ok_or_else(|| invalid(variable, &value)),
        "client_encoding" => {
            let folded: String = value
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .map(|c| c.to_ascii_lowercase())
                .collect();
            match folded.as_str() {
                "utf8" | "unicode" => Ok("UTF8".to_owned()),
                "sqlascii" | "latin1" | "iso88591" | "win1252" | "latin9" | "eucjp" | "sjis"
                | "big5" | "gbk" | "euckr" => Err(unsupported_value(variable, &value)),
                _ => Err(invalid(variable, &value)),
            }
        }
        "DateStyle" => check_date_style(variable, &value),
        "standard_conforming_strings" | "integer_datetimes" => only(&["on"]),
        "IntervalStyle" => only(&["postgres"]),
        "bytea_output" => only(&["hex"]),
        "array_nulls" => only(&["on"]),
        "default_tablespace" | "temp_tablespaces" => only(&["", "pg_default"]),
        "default_table_access_method" => only(&["heap"]),
        "extra_float_digits" => only(&["1", "2", "3"]),
        "session_authorization" => match value.as_str() {
            "postgres" | "default" => Ok("postgres".to_owned()),
            _ => Err(no_role(&value)),
        },
        "role" => match value.as_str() {
            "none" | "postgres" => Ok(value),
            _ => Err(no_role(&value)),
        },
        "search_path" => split_names(&value)
            .map(|_| value.clone())
            .ok_or_else(|| invalid(variable, &value).with_detail("List syntax is invalid.")),
        "application_name" | "cluster_name" => Ok(value
            .chars()
            .map(|c| if (' '..='~').contains(&c) { c } else { '?' })
            .take(63)
            .collect()),
        _ => Ok(value),
    }
}

fn no_role(name: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("role \"{name}\" does not exist"),
    )
}

fn check_date_style(variable: &Variable, value: &str) -> Result<String, SqlError> {
    let mut order = "MDY";
    for word in value.split(',').map(|w| w.trim().to_ascii_lowercase()) {
        match word.as_str() {
            "iso" | "default" => {}
            "mdy" | "us" | "noneuro" | "noneuropean" => order = "MDY",
            "dmy" | "euro" | "european" => order = "DMY",
            "ymd" => order = "YMD",
            "sql" | "postgres" | "german" => return Err(unsupported_value(variable, value)),
            _ => return Err(invalid(variable, value)),
        }
    }
    if order != "MDY" {
        return Err(unsupported_value(variable, value));
    }
    Ok(format!("ISO, {order}"))
}

/// A canonical value as SHOW prints it: with the largest unit that divides it.
pub(crate) fn show(variable: &Variable, value: &str) -> String {
    let Kind::Int { .. } = variable.kind else {
        return match (variable.kind, variable.unit) {
            (Kind::Real { .. }, unit) if !unit.is_empty() && value != "0" => {
                format!("{value}{unit}")
            }
            _ => value.to_owned(),
        };
    };
    let (Ok(number), Some((family, own))) = (value.parse::<i64>(), unit_size(variable.unit)) else {
        return value.to_owned();
    };
    if number <= 0 {
        return value.to_owned();
    }
    let units: &[&str] = match family {
        't' => &["d", "h", "min", "s", "ms"],
        _ => &["TB", "GB", "MB", "kB", "B"],
    };
    let base = number as f64 * own;
    for unit in units {
        if let Some((_, size)) = unit_size(unit)
            && base % size == 0.0
        {
            return format!("{}{unit}", base / size);
        }
    }
    value.to_owned()
}

/// Splits a list of identifiers: folds unquoted ones, `None` if the syntax is wrong.
pub(crate) fn split_names(list: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = list.trim_start();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let name;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut text = String::new();
            let mut chars = quoted.char_indices().peekable();
            let mut end = None;
            while let Some((i, c)) = chars.next() {
                if c != '"' {
                    text.push(c);
                } else if chars.peek().is_some_and(|(_, n)| *n == '"') {
                    text.push('"');
                    chars.next();
                } else {
                    end = Some(i + 1);
                    break;
                }
            }
            rest = quoted.get(end?..)?;
            name = text;
        } else {
            let end = rest
                .find(|c: char| c == ',' || c.is_whitespace())
                .unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            if word.is_empty() {
                return None;
            }
            name = word.to_lowercase();
            rest = tail;
        }
        names.push(name);
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

/// An identifier as it must be written: quoted unless it is plain.
pub(crate) fn quote_name(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Result<String, String> {
        let variable = find(name).ok_or("no variable")?;
        check(variable, value)
            .map(|v| show(variable, &v))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_table_is_sorted() {
        for pair in VARIABLES.windows(2) {
            assert!(
                pair[0].name.to_lowercase() < pair[1].name.to_lowercase(),
                "{}",
                pair[1].name
            );
        }
        for variable in VARIABLES {
            assert!(find(variable.name).is_some());
            assert!(
                check(variable, variable.default).is_ok(),
                "{}",
                variable.name
            );
        }
    }

    #[test]
    fn units_and_limits() {
        assert_eq!(set("statement_timeout", "1500").unwrap(), "1500ms");
        assert_eq!(set("statement_timeout", "1min").unwrap(), "1min");
        assert_eq!(set("statement_timeout", "0").unwrap(), "0");
        assert_eq!(set("work_mem", "8MB").unwrap(), "8MB");
        assert_eq!(set("shared_buffers", "16384").unwrap(), "128MB");
        assert_eq!(
            set("statement_timeout", "-1").unwrap_err(),
            "-1 ms is outside the valid range for parameter \"statement_timeout\" \
             (0 .. 2147483647)"
        );
        assert_eq!(
            set("work_mem", "1s").unwrap_err(),
            "invalid value for parameter \"work_mem\": \"1s\""
        );
        assert_eq!(set("ENABLE_SEQSCAN", "of").unwrap(), "off");
        assert_eq!(
            set("enable_seqscan", "maybe").unwrap_err(),
            "parameter \"enable_seqscan\" requires a Boolean value"
        );
    }

    #[test]
    fn lists_of_names() {
        assert_eq!(
            split_names("\"$user\", Public,\"a\"\"b\"").unwrap(),
            vec!["$user", "public", "a\"b"]
        );
        assert!(split_names("a,,b").is_none());
        assert!(split_names("\"a").is_none());
        assert_eq!(split_names("").unwrap().len(), 0);
    }
}

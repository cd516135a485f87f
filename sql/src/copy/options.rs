//! The options of COPY, checked as PostgreSQL checks them.

use crate::error::{SqlError, SqlState};
use crate::parse::statement::CopyOption;
use crate::session::variables::parse_bool;

/// How rows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// What the first line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Header {
    No,
    Yes,
    Match,
}

/// Columns of a FORCE option.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Columns {
    #[default]
    None,
    All,
    These(Vec<String>),
}

impl Columns {
    /// Whether it names the column.
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(names) => names.iter().any(|n| n == name),
        }
    }
}

/// The options.
#[derive(Clone, Debug)]
pub(crate) struct CopyOptions {
    pub(crate) format: CopyFormat,
    pub(crate) delimiter: u8,
    pub(crate) null: String,
    pub(crate) header: Header,
    pub(crate) quote: u8,
    pub(crate) escape: u8,
    pub(crate) force_quote: Columns,
    pub(crate) force_not_null: Columns,
    pub(crate) force_null: Columns,
}

fn refused(message: impl Into<std::borrow::Cow<'static, str>>) -> SqlError {
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn text(name: &str, value: &CopyOption) -> Result<String, SqlError> {
    match value {
        CopyOption::Text(text) => Ok(text.clone()),
        _ => Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!("{name} requires a parameter"),
        )),
    }
}

fn flag(name: &str, value: &CopyOption) -> Result<bool, SqlError> {
    match value {
        CopyOption::On => Ok(true),
        CopyOption::Text(text) => parse_bool(text).ok_or_else(|| {
            SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("{name} requires a Boolean value"),
            )
        }),
        _ => Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!("{name} requires a Boolean value"),
        )),
    }
}

fn columns(name: &str, value: &CopyOption) -> Result<Columns, SqlError> {
    match value {
        CopyOption::All => Ok(Columns::All),
        CopyOption::Columns(names) => Ok(Columns::These(names.clone())),
        _ => Err(invalid(format!(
            "argument to option \"{name}\" must be a list of column names"
        ))),
    }
}

fn one_byte(what: &str, text: &str) -> Result<u8, SqlError> {
    match text.as_bytes() {
        [one] => Ok(*one),
        _ => Err(refused(format!(
            "COPY {what} must be a single one-byte character"
        ))),
    }
}

impl CopyOptions {
    /// Reads the options of a statement.
    pub(crate) fn read(given: &[(String, CopyOption)], from: bool) -> Result<Self, SqlError> {
        let mut format = None;
        let mut seen: Vec<&str> = Vec::new();
        let (mut delimiter, mut null, mut header) = (None, None, None);
        let (mut quote, mut escape) = (None, None);
        let (mut force_quote, mut force_not_null, mut force_null) =
            (Columns::None, Columns::None, Columns::None);
        for (name, value) in given {
            if seen.contains(&name.as_str()) {
                return Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    "conflicting or redundant options",
                ));
            }
            seen.push(name);
            match name.as_str() {
                "format" => {
                    let word = text(name, value)?;
                    format = Some(match word.as_str() {
                        "text" => CopyFormat::Text,
                        "csv" => CopyFormat::Csv,
                        "binary" => CopyFormat::Binary,
                        _ => {
                            return Err(invalid(format!("COPY format \"{word}\" not recognized")));
                        }
                    });
                }
                "csv" => format = Some(CopyFormat::Csv),
                "binary" => format = Some(CopyFormat::Binary),
                "freeze" => {
                    flag(name, value)?;
                }
                "delimiter" => delimiter = Some(text(name, value)?),
                "null" => null = Some(text(name, value)?),
                "header" => {
                    header = Some(match value {
                        CopyOption::Text(word) if word.eq_ignore_ascii_case("match") => {
                            if !from {
                                return Err(refused("cannot use \"match\" with HEADER in COPY TO"));
                            }
                            Header::Match
                        }
                        other if flag(name, other)? => Header::Yes,
                        _ => Header::No,
                    });
                }
                "quote" => quote = Some(text(name, value)?),
                "escape" => escape = Some(text(name, value)?),
                "force_quote" => force_quote = columns(name, value)?,
                "force_not_null" => force_not_null = columns(name, value)?,
                "force_null" => force_null = columns(name, value)?,
                "encoding" => {
                    let word = text(name, value)?;
                    let folded: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
                    if !folded.eq_ignore_ascii_case("utf8") {
                        return Err(SqlError::unsupported(format!("COPY encoding \"{word}\"")));
                    }
                }
                other => {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        format!("option \"{other}\" not recognized"),
                    ));
                }
            }
        }
        let format = format.unwrap_or(CopyFormat::Text);
        let csv = format == CopyFormat::Csv;
        if format == CopyFormat::Binary {
            for (name, is_given) in [
                ("DELIMITER", delimiter.is_some()),
                ("NULL", null.is_some()),
                ("HEADER", header.is_some()),
            ] {
                if is_given {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        format!("cannot specify {name} in BINARY mode"),
                    ));
                }
            }
        }
        for (name, is_given) in [
            ("quote", quote.is_some()),
            ("escape", escape.is_some()),
            ("force quote", force_quote != Columns::None),
            ("force not null", force_not_null != Columns::None),
            ("force null", force_null != Columns::None),
        ] {
            if is_given && !csv {
                return Err(refused(format!("COPY {name} available only in CSV mode")));
            }
        }
        if from && force_quote != Columns::None {
            return Err(refused("COPY force quote only available using COPY TO"));
        }
        if !from && force_not_null != Columns::None {
            return Err(refused(
                "COPY force not null only available using COPY FROM",
            ));
        }
        if !from && force_null != Columns::None {
            return Err(refused("COPY force null only available using COPY FROM"));
        }
        let default_delimiter = if csv { "," } else { "\t" };
        let delimiter = one_byte(
            "delimiter",
            delimiter.as_deref().unwrap_or(default_delimiter),
        )?;
        if matches!(delimiter, b'\r' | b'\n') {
            return Err(invalid(
                "COPY delimiter cannot be newline or carriage return",
            ));
        }
        if !csv && b"\\.abcdefghijklmnopqrstuvwxyz0123456789".contains(&delimiter) {
            return Err(invalid(format!(
                "COPY delimiter cannot be \"{}\"",
                char::from(delimiter)
            )));
        }
        let null = null.unwrap_or_else(|| if csv { String::new() } else { "\\N".to_owned() });
        if null.contains(['\r', '\n']) {
            return Err(invalid(
                "COPY null representation cannot use newline or carriage return",
            ));
        }
        let quote = one_byte("quote", quote.as_deref().unwrap_or("\""))?;
        if csv && delimiter == quote {
            return Err(invalid("COPY delimiter and quote must be different"));
        }
        let escape = match escape {
            Some(text) => one_byte("escape", &text)?,
            None => quote,
        };
        if null.as_bytes().contains(&delimiter) && format != CopyFormat::Binary {
            return Err(invalid(
                "COPY delimiter must not appear in the NULL specification",
            ));
        }
        if csv && null.as_bytes().contains(&quote) {
            return Err(invalid(
                "CSV quote character must not appear in the NULL specification",
            ));
        }
        Ok(Self {
            format,
            delimiter,
            null,
            header: header.unwrap_or(Header::No),
            quote,
            escape,
            force_quote,
            force_not_null,
            force_null,
        })
    }
}

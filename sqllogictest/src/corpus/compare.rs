//! Brings a server's rows into the written form of a dialect and compares.

use md5::{Digest, Md5};

use super::record::{Dialect, SortMode};

/// What was expected and what came, where they differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// Expected lines.
    pub(super) expected: Vec<String>,
    /// The server's lines.
    pub(super) got: Vec<String>,
}

/// Compares rows with the expected lines of a query.
pub(super) fn check(
    dialect: Dialect,
    types: &str,
    sort: SortMode,
    rows: &[Vec<Option<String>>],
    expected: &[String],
) -> Result<(), Mismatch> {
    match dialect {
        Dialect::Values => check_values(types, sort, rows, expected),
        Dialect::Rows => check_rows(sort, rows, expected),
    }
}

fn check_rows(
    sort: SortMode,
    rows: &[Vec<Option<String>>],
    expected: &[String],
) -> Result<(), Mismatch> {
    let mut got: Vec<String> = rows.iter().map(|row| row_line(row)).collect();
    let mut expected = expected.to_vec();
    if sort != SortMode::None {
        got.sort_unstable();
        expected.sort_unstable();
    }
    if got == expected {
        Ok(())
    } else {
        Err(Mismatch { expected, got })
    }
}

/// A row as one line: NULL, `(empty)`, backslash escapes as in COPY, tabs between columns. A line
/// that would be blank is written `(blank)`.
pub(super) fn row_line(row: &[Option<String>]) -> String {
    let line = row
        .iter()
        .map(|value| match value.as_deref() {
            None => "NULL".to_owned(),
            Some("") => "(empty)".to_owned(),
            Some(text) => escaped(text),
        })
        .collect::<Vec<_>>()
        .join("\t");
    if line.trim().is_empty() {
        "(blank)".to_owned()
    } else {
        line
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other => out.push(other),
        }
    }
    out
}

fn check_values(
    types: &str,
    sort: SortMode,
    rows: &[Vec<Option<String>>],
    expected: &[String],
) -> Result<(), Mismatch> {
    let mut printed: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            row.iter()
                .zip(types.chars().chain(std::iter::repeat('T')))
                .map(|(value, letter)| printed_as(letter, value.as_deref()))
                .collect()
        })
        .collect();
    if sort == SortMode::Rows {
        printed.sort_unstable();
    }
    let mut got: Vec<String> = printed.into_iter().flatten().collect();
    if sort == SortMode::Values {
        got.sort_unstable();
    }
    let matches = match expected {
        [line] if is_hash_line(line) => hash_line(&got) == *line,
        _ => got == expected,
    };
    if matches {
        Ok(())
    } else {
        Err(Mismatch {
            expected: expected.to_vec(),
            got,
        })
    }
}

fn is_hash_line(line: &str) -> bool {
    line.contains(" values hashing to ")
}

fn hash_line(values: &[String]) -> String {
    let mut hash = Md5::new();
    for value in values {
        hash.update(value.as_bytes());
        hash.update(b"\n");
    }
    let digest: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{} values hashing to {digest}", values.len())
}

/// A value as SQLite's runner prints it under a column type.
fn printed_as(letter: char, value: Option<&str>) -> String {
    let Some(text) = value else {
        return "NULL".to_owned();
    };
    match letter {
        'I' => as_integer(text),
        'R' => text
            .parse::<f64>()
            .map_or_else(|_| "0.000".to_owned(), |x| format!("{x:.3}")),
        _ if text.is_empty() => "(empty)".to_owned(),
        _ => text
            .chars()
            .map(|c| if (' '..='~').contains(&c) { c } else { '@' })
            .collect(),
    }
}

/// C's conversion to an integer: a boolean is 1 or 0, a fraction is cut, other text counts as 0.
fn as_integer(text: &str) -> String {
    match text {
        "t" => return "1".to_owned(),
        "f" => return "0".to_owned(),
        _ => {}
    }
    if let Ok(whole) = text.parse::<i128>() {
        return whole.to_string();
    }
    text.parse::<f64>()
        .map_or_else(|_| "0".to_owned(), |x| format!("{:.0}", x.trunc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&str>]) -> Vec<Option<String>> {
        values
            .iter()
            .map(|value| value.map(str::to_owned))
            .collect()
    }

    #[test]
    fn prints_by_column_type() {
        assert_eq!(printed_as('I', Some("-3.7")), "-3");
        assert_eq!(printed_as('I', Some("t")), "1");
        assert_eq!(printed_as('I', Some("abc")), "0");
        assert_eq!(printed_as('R', Some("1.23456")), "1.235");
        assert_eq!(printed_as('T', Some("")), "(empty)");
        assert_eq!(printed_as('T', Some("a\nb")), "a@b");
        assert_eq!(printed_as('R', None), "NULL");
    }

    #[test]
    fn a_long_result_is_compared_by_hash() {
        let rows = [row(&[Some("1")]), row(&[Some("2")])];
        // printf '1\n2\n' | md5sum
        let right = ["2 values hashing to 6ddb4095eb719e2a9f0a3f95677d24e0".to_owned()];
        let wrong = ["2 values hashing to 6ddb4095eb719e2a9f0a3f95677d24e1".to_owned()];
        assert!(check(Dialect::Values, "I", SortMode::None, &rows, &right).is_ok());
        assert!(check(Dialect::Values, "I", SortMode::None, &rows, &wrong).is_err());
    }

    #[test]
    fn rows_are_tab_separated_and_escaped() {
        assert_eq!(
            row_line(&row(&[None, Some(""), Some("a\\\n")])),
            "NULL\t(empty)\ta\\\\\\n"
        );
        assert_eq!(row_line(&row(&[Some("  ")])), "(blank)");
    }

    #[test]
    fn order_counts_only_without_a_sort_mode() {
        let rows = [row(&[Some("2")]), row(&[Some("1")])];
        let expected = ["1".to_owned(), "2".to_owned()];
        assert!(check(Dialect::Rows, "I", SortMode::Rows, &rows, &expected).is_ok());
        assert!(check(Dialect::Rows, "I", SortMode::None, &rows, &expected).is_err());
    }
}

//! Reads sqllogictest files of both dialects.
//!
//! A line that is no record where a record should begin is an error: silently skipped records
//! would raise a pass rate.

use std::path::Path;
use std::sync::Arc;

use super::record::{Expectation, Kind, Record, SortMode};

/// A file that cannot be read as a suite.
#[derive(Debug, thiserror::Error)]
pub enum ParseFailure {
    /// The file cannot be opened, or is not UTF-8.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line that no record begins with.
    #[error("{file}:{line}: not a record: {text}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
}

/// Reads a file with everything it includes; `name` is how its records call it.
///
/// # Errors
/// Unreadable files and lines that are no records.
pub fn parse_file(path: &Path, name: &str) -> Result<Vec<Record>, ParseFailure> {
    let text = std::fs::read_to_string(path).map_err(|source| ParseFailure::Io {
        path: path.display().to_string(),
        source,
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    parse_text(&text, name, &|included| {
        let path = folder.join(included);
        let mut records = parse_file(&path, included)?;
        for record in &mut records {
            record.included = true;
        }
        Ok(records)
    })
}

/// Reads the text of a file; `include` delivers the records of included files.
///
/// # Errors
/// As [`parse_file`].
pub fn parse_text(
    text: &str,
    name: &str,
    include: &dyn Fn(&str) -> Result<Vec<Record>, ParseFailure>,
) -> Result<Vec<Record>, ParseFailure> {
    let file: Arc<str> = name.into();
    let mut lines = Lines {
        lines: text.lines().collect(),
        next: 0,
    };
    let mut records = Vec::new();
    let mut skip_if = Vec::new();
    let mut only_if = Vec::new();
    while let Some((line, head)) = lines.take() {
        let words: Vec<&str> = head.split_whitespace().collect();
        let kind = match words.as_slice() {
            [] => continue,
            [first, ..] if first.starts_with('#') => continue,
            ["skipif", label, ..] => {
                skip_if.push((*label).to_owned());
                continue;
            }
            ["onlyif", label, ..] => {
                only_if.push((*label).to_owned());
                continue;
            }
            ["hash-threshold", ..] => continue,
            ["include", path] => {
                records.extend(include(path)?);
                continue;
            }
            ["halt", ..] => Kind::Halt,
            ["statement", "ok", ..] => Kind::Statement(Expectation::Success),
            ["statement", "error", rest @ ..] => Kind::Statement(error_code(rest)),
            ["copy", "ok"] => Kind::Copy(Expectation::Success, Vec::new()),
            ["copy", "error", rest @ ..] => Kind::Copy(error_code(rest), Vec::new()),
            ["query", types, rest @ ..] => Kind::Query {
                types: (*types).to_owned(),
                sort: match rest {
                    ["rowsort", ..] => SortMode::Rows,
                    ["valuesort", ..] => SortMode::Values,
                    _ => SortMode::None,
                },
                expected: Vec::new(),
            },
            _ => {
                return Err(ParseFailure::Line {
                    file: name.to_owned(),
                    line,
                    text: head.to_owned(),
                });
            }
        };
        let (sql, results) = if kind == Kind::Halt {
            (String::new(), Vec::new())
        } else {
            lines.body()
        };
        records.push(Record {
            file: Arc::clone(&file),
            line,
            sql,
            kind: with_results(kind, results),
            skip_if: std::mem::take(&mut skip_if),
            only_if: std::mem::take(&mut only_if),
            included: false,
        });
    }
    Ok(records)
}

fn with_results(kind: Kind, lines: Vec<String>) -> Kind {
    match kind {
        Kind::Query { types, sort, .. } => Kind::Query {
            types,
            sort,
            expected: lines,
        },
        Kind::Copy(expectation, _) => Kind::Copy(expectation, lines),
        other => other,
    }
}

/// `(42P01)` is a SQLSTATE; any other text, or none, stands for any error.
fn error_code(words: &[&str]) -> Expectation {
    let code = words
        .first()
        .and_then(|word| word.strip_prefix('(')?.strip_suffix(')'));
    Expectation::Error(code.map(str::to_owned))
}

struct Lines<'a> {
    lines: Vec<&'a str>,
    next: usize,
}

impl<'a> Lines<'a> {
    /// The next line with its number from 1.
    fn take(&mut self) -> Option<(usize, &'a str)> {
        let line = self.lines.get(self.next)?;
        self.next += 1;
        Some((self.next, line))
    }

    /// The lines of a statement and those after `----`, up to an empty line.
    fn body(&mut self) -> (String, Vec<String>) {
        let mut sql = Vec::new();
        let mut results = Vec::new();
        let mut in_results = false;
        while let Some((_, line)) = self.take() {
            if line.is_empty() {
                break;
            }
            if in_results {
                results.push(line.to_owned());
            } else if line == "----" {
                in_results = true;
            } else {
                sql.push(line);
            }
        }
        (sql.join("\n"), results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Record>, ParseFailure> {
        parse_text(text, "t", &|_| Ok(Vec::new()))
    }

    #[test]
    fn reads_conditions_types_and_results() {
        let text = "# note\n\nonlyif sqlite # why\nquery IT rowsort label-1\nSELECT 1,\n 2\n----\n\
                    1\n2\n\nstatement error (42P01)\nDROP TABLE x\n";
        let records = parse(text).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].line, 4);
        assert_eq!(records[0].sql, "SELECT 1,\n 2");
        assert!(!records[0].applies_to("postgresql"));
        assert!(records[1].applies_to("postgresql"));
        let expected = vec!["1".to_owned(), "2".to_owned()];
        let query = Kind::Query {
            types: "IT".to_owned(),
            sort: SortMode::Rows,
            expected,
        };
        assert_eq!(records[0].kind, query);
        let error = Expectation::Error(Some("42P01".to_owned()));
        assert_eq!(records[1].kind, Kind::Statement(error));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(matches!(
            parse("sleep 3s\n"),
            Err(ParseFailure::Line { line: 1, .. })
        ));
    }

    #[test]
    fn copy_lines_are_data() {
        let records = parse("copy ok\nCOPY t FROM stdin\n----\na\tb\n\\.\n").unwrap();
        let data = vec!["a\tb".to_owned(), "\\.".to_owned()];
        assert_eq!(records[0].kind, Kind::Copy(Expectation::Success, data));
    }
}

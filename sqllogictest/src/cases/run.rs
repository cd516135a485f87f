//! Runs case files and tallies their records. A failed record does not stop its file.

use std::path::{Path, PathBuf};
use std::time::Instant;

use sqllogictest::{ColumnType, Normalizer, Record, Runner, strict_column_validator};

use super::database::{Letter, Session};
use crate::tally::{Failure, FileResult, Tally};
use crate::target::{Target, TargetFailure};

/// Runs the files, each on an empty database; names in reports are relative to `folder`.
///
/// # Errors
/// A database that cannot be emptied. Unreadable files count as one failed record.
pub fn run_cases(
    folder: &Path,
    files: &[PathBuf],
    target: &mut Target,
    progress: &mut dyn FnMut(&FileResult),
) -> Result<Tally, TargetFailure> {
    let mut tally = Tally::default();
    for file in files {
        let name = file.display().to_string();
        drop(target.fresh()?);
        let mut result = FileResult {
            name,
            ..FileResult::default()
        };
        let started = Instant::now();
        run_file(&folder.join(file), target, &mut result);
        result.elapsed_ms = started.elapsed().as_millis();
        progress(&result);
        tally.files.push(result);
    }
    Ok(tally)
}

fn run_file(path: &Path, target: &mut Target, result: &mut FileResult) {
    let records = match sqllogictest::parse_file::<Letter>(path) {
        Ok(records) => records,
        Err(error) => {
            result.counted = 1;
            let place = result.name.clone();
            result
                .failures
                .push(Failure::new(place, "", "not readable", error.to_string()));
            return;
        }
    };
    let engine = target.engine();
    let address = target.address();
    let mut runner = Runner::new(|| {
        let opened = Session::open(&address, engine);
        async { opened }
    });
    runner.add_label(engine.label());
    runner.with_validator(exactly);
    runner.with_column_validator(strict_column_validator);
    for record in records {
        if matches!(record, Record::Halt { .. }) {
            break;
        }
        let Some((line, sql)) = counted(&record, engine.label()) else {
            // Comments and conditions; nothing that can fail.
            let _ = runner.run(record);
            continue;
        };
        result.counted += 1;
        match runner.run(record) {
            Ok(_) => result.passed += 1,
            Err(error) => {
                let detail = error.display(false).to_string();
                let cause = detail.lines().find(|text| !text.trim().is_empty());
                let cause = cause.unwrap_or_default().to_owned();
                let place = format!("{}:{line}", result.name);
                result
                    .failures
                    .push(Failure::new(place, &sql, &cause, detail));
            }
        }
        if !target.alive() {
            result.broken = Some(format!("the server died at line {line}"));
            return;
        }
    }
}

/// Line and text of a record that is executed under this label.
fn counted<T: ColumnType>(record: &Record<T>, label: &str) -> Option<(u32, String)> {
    let (loc, conditions, sql) = match record {
        Record::Statement {
            loc,
            conditions,
            sql,
            ..
        }
        | Record::Query {
            loc,
            conditions,
            sql,
            ..
        } => (loc, conditions, sql),
        _ => return None,
    };
    let skipped = conditions.iter().any(|condition| match condition {
        sqllogictest::Condition::OnlyIf { label: wanted } => wanted != label,
        sqllogictest::Condition::SkipIf { label: unwanted } => unwanted == label,
    });
    (!skipped).then(|| (loc.line(), sql.clone()))
}

/// Lines must be equal to the letter; the crate's default forgives white space.
fn exactly(_: Normalizer, actual: &[Vec<String>], expected: &[String]) -> bool {
    actual.len() == expected.len()
        && actual
            .iter()
            .zip(expected)
            .all(|(row, line)| row.join("\t") == *line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_counts() {
        let normalizer: Normalizer = sqllogictest::default_normalizer;
        let rows = [vec!["a".to_owned(), "b c".to_owned()]];
        assert!(exactly(normalizer, &rows, &["a\tb c".to_owned()]));
        assert!(!exactly(normalizer, &rows, &["a\tb  c".to_owned()]));
        assert!(!exactly(normalizer, &rows, &["a b c".to_owned()]));
    }
}

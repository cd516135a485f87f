//! Runs the files of a suite against a target and tallies the records.
//!
//! A record that gets no answer in time is cancelled, counted as failed, and the file goes on in a
//! new session; after [`LOSSES_MAX`] lost sessions, or when the server died, the rest of the file
//! counts as failed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::compare::{Mismatch, check};
use super::exclude::{Exclusion, Exclusions};
use super::parse::parse_file;
use super::record::{Dialect, Expectation, Kind, Record};
use super::sample::{chosen, is_query, quotas};
use crate::tally::{Failure, FileResult, Tally};
use crate::target::Target;
use crate::wire::{Client, Outcome, WireError};

/// Sessions that one file may lose before it is given up.
const LOSSES_MAX: usize = 5;
/// The database in which the families' answers were recorded.
const RECORDING_DATABASE: &str = "cmp_f0ed1dac";
/// Expected and received lines that a failure shows at most.
const SHOWN_LINES_MAX: usize = 12;

/// A suite and how to run it.
#[derive(Debug)]
pub struct Suite {
    /// The folder its files lie in.
    pub folder: PathBuf,
    /// The files, relative to the folder.
    pub files: Vec<PathBuf>,
    /// How results are written.
    pub dialect: Dialect,
    /// The engine label of `skipif` and `onlyif` lines.
    pub label: String,
    /// Records that do not count.
    pub exclusions: Exclusions,
    /// About how many queries to run in all; `None` runs everything.
    pub query_budget: Option<usize>,
}

/// All files below a folder with this extension, sorted, relative to the folder.
pub fn list_files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(current) = todo.pop() {
        for entry in std::fs::read_dir(&current).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|found| found == extension)
                && let Ok(relative) = path.strip_prefix(folder)
            {
                found.push(relative.to_owned());
            }
        }
    }
    found.sort();
    found
}

impl Suite {
    /// Runs every file; `progress` hears of each as it ends.
    ///
    /// # Errors
    /// A file that is no suite. A server that is gone is a failure of records, not an error here.
    pub fn run(
        &self,
        target: &mut Target,
        progress: &mut dyn FnMut(&FileResult),
    ) -> Result<Tally, super::ParseFailure> {
        let mut parsed = Vec::new();
        for file in &self.files {
            let name = file.display().to_string();
            parsed.push((name.clone(), parse_file(&self.folder.join(file), &name)?));
        }
        let counts: Vec<usize> = parsed
            .iter()
            .map(|(_, records)| records.iter().filter(|record| is_query(record)).count())
            .collect();
        let quota = match self.query_budget {
            Some(budget) => quotas(&counts, budget),
            None => counts,
        };
        let mut tally = Tally::default();
        for ((name, records), quota) in parsed.into_iter().zip(quota) {
            let marks = chosen(&records, quota);
            let result = self.run_file(target, name, &records, &marks);
            progress(&result);
            tally.files.push(result);
        }
        Ok(tally)
    }

    fn run_file(
        &self,
        target: &mut Target,
        name: String,
        records: &[Record],
        marks: &[bool],
    ) -> FileResult {
        let started = Instant::now();
        let mut result = FileResult {
            name,
            ..FileResult::default()
        };
        let mut losses = 0;
        let mut client = match target.fresh() {
            Ok(client) => Some(client),
            Err(error) => {
                result.broken = Some(format!("no empty database: {error}"));
                None
            }
        };
        for (record, mark) in records.iter().zip(marks) {
            if !record.applies_to(&self.label) {
                continue;
            }
            if record.kind == Kind::Halt {
                break;
            }
            let exclusion = self.exclusions.of(&record.file, record.line);
            if !mark || exclusion == Some(Exclusion::Skip) {
                continue;
            }
            let counts = exclusion.is_none() && !record.included && !names_recording(record);
            result.counted += usize::from(counts);
            let Some(session) = client.as_mut() else {
                continue;
            };
            match self.run_record(session, record) {
                Ok(()) => result.passed += usize::from(counts),
                Err(failure) => {
                    if counts {
                        result.failures.push(failure);
                    }
                }
            }
            if session.is_dead() {
                losses += 1;
                client = if losses < LOSSES_MAX {
                    target.reconnect()
                } else {
                    None
                };
                if client.is_none() {
                    let what = if target.alive() {
                        "given up"
                    } else {
                        "the server died"
                    };
                    result.broken = Some(format!("{what} at line {}", record.line));
                }
            }
        }
        result.elapsed_ms = started.elapsed().as_millis();
        result
    }

    fn run_record(&self, client: &mut Client, record: &Record) -> Result<(), Failure> {
        let fail = |cause: &str, detail: String| {
            let place = format!("{}:{}", record.file, record.line);
            Failure::new(place, &record.sql, cause, detail)
        };
        let data = match &record.kind {
            Kind::Copy(_, lines) => Some(
                lines
                    .iter()
                    .map(|line| line.clone() + "\n")
                    .collect::<String>(),
            ),
            _ => None,
        };
        let answer = client.simple_with_copy(&record.sql, data.as_deref().map(str::as_bytes));
        if matches!(answer, Err(WireError::Timeout(_))) {
            // The session is dropped; without this its statement would go on in the server.
            let _ = client.cancel();
        }
        match &record.kind {
            Kind::Statement(expectation) | Kind::Copy(expectation, _) => {
                judge(expectation, &answer).map_err(|cause| fail(&cause, cause.clone()))
            }
            Kind::Query {
                types,
                sort,
                expected,
            } => {
                let outcome = answer.map_err(|error| {
                    let cause = error_cause(&error);
                    fail(&cause, cause.clone())
                })?;
                // Of several statements in one record, the last that returned rows is meant.
                let last = outcome.iter().rev().find(|one| one.columns.is_some());
                let rows = last.map(|last| last.rows.as_slice()).unwrap_or_default();
                check(self.dialect, types, *sort, rows, expected)
                    .map_err(|mismatch| fail("wrong result", shown(&mismatch)))
            }
            Kind::Halt => Ok(()),
        }
    }
}

/// The expected lines hold the name of the database in which they were recorded.
fn names_recording(record: &Record) -> bool {
    matches!(&record.kind, Kind::Query { expected, .. }
        if expected.iter().any(|line| line.contains(RECORDING_DATABASE)))
}

fn judge(
    expectation: &Expectation,
    answer: &Result<Vec<Outcome>, WireError>,
) -> Result<(), String> {
    match (expectation, answer) {
        (Expectation::Success, Ok(_)) => Ok(()),
        (Expectation::Success, Err(error)) => Err(error_cause(error)),
        (Expectation::Error(code), Ok(_)) => Err(format!(
            "expected error {}, got none",
            code.as_deref().unwrap_or("of any kind")
        )),
        (Expectation::Error(None), Err(WireError::Server(_))) => Ok(()),
        (Expectation::Error(Some(code)), Err(error)) if error.code() == Some(code) => Ok(()),
        (Expectation::Error(code), Err(error)) => Err(format!(
            "expected error {}, got {}",
            code.as_deref().unwrap_or("of any kind"),
            error_cause(error)
        )),
    }
}

fn error_cause(error: &WireError) -> String {
    match error {
        WireError::Server(server) => format!("{}: {}", server.code, server.message),
        other => other.to_string(),
    }
}

fn shown(mismatch: &Mismatch) -> String {
    let lines = |all: &[String]| {
        let mut text: Vec<&str> = all
            .iter()
            .take(SHOWN_LINES_MAX)
            .map(String::as_str)
            .collect();
        if all.len() > SHOWN_LINES_MAX {
            text.push("…");
        }
        text.join("\n      ")
    };
    format!(
        "expected {} lines:\n      {}\n    got {} lines:\n      {}",
        mismatch.expected.len(),
        lines(&mismatch.expected),
        mismatch.got.len(),
        lines(&mismatch.got)
    )
}

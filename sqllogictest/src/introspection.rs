//! Replays the statements that tools send while they look at a schema, recorded on PostgreSQL.
//!
//! One JSON object a line: `sql`, `params`, `cols` (null for a command), `n` rows, `rows` in text
//! form (null where only "at least one row" is asked), `mask` (columns whose values are volatile).
//! `{{kind:name}}` in a statement stands for the oid of an object of `schema.sql`.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::corpus::list_files;
use crate::tally::{Failure, FileResult, Tally};
use crate::target::{Target, TargetFailure};
use crate::wire::{Client, Outcome, WireError};

/// Why the replay cannot run at all.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFailure {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not what it should be.
    #[error("{place}: {source}")]
    Json {
        /// `file:line`.
        place: String,
        /// Why.
        source: serde_json::Error,
    },
    /// There is no database.
    #[error(transparent)]
    Target(#[from] TargetFailure),
}

/// Replays every file of the folder whose name contains `filter`.
///
/// # Errors
/// Unreadable files; a database that cannot be emptied.
pub fn replay(
    folder: &Path,
    filter: &str,
    target: &mut Target,
    progress: &mut dyn FnMut(&FileResult),
) -> Result<Tally, ReplayFailure> {
    let schema = read(&folder.join("schema.sql"))?;
    let mut tally = Tally::default();
    for file in list_files(folder, "jsonl") {
        let name = file.display().to_string();
        if !name.contains(filter) {
            continue;
        }
        let text = read(&folder.join(&file))?;
        let mut client = Some(target.fresh()?);
        let started = Instant::now();
        let mut result = FileResult {
            name: name.clone(),
            ..FileResult::default()
        };
        load(client.as_mut(), &schema);
        for (index, line) in text.lines().enumerate() {
            let place = format!("{name}:{}", index + 1);
            let entry: Value =
                serde_json::from_str(line).map_err(|source| ReplayFailure::Json {
                    place: place.clone(),
                    source,
                })?;
            result.counted += 1;
            let Some(session) = client.as_mut() else {
                continue;
            };
            match ask(session, &entry) {
                Ok(()) => result.passed += 1,
                Err((cause, detail)) => {
                    let sql = entry.get("sql").and_then(Value::as_str).unwrap_or_default();
                    result
                        .failures
                        .push(Failure::new(place, sql, &cause, detail));
                }
            }
            if session.is_dead() {
                client = target.reconnect();
                if client.is_none() {
                    result.broken = Some(format!("the server died at line {}", index + 1));
                }
            }
        }
        result.elapsed_ms = started.elapsed().as_millis();
        progress(&result);
        tally.files.push(result);
    }
    Ok(tally)
}

fn read(path: &Path) -> Result<String, ReplayFailure> {
    std::fs::read_to_string(path).map_err(|source| ReplayFailure::Io {
        path: path.display().to_string(),
        source,
    })
}

/// Runs the schema statement by statement and goes on after an error: what is missing shows in
/// the records that ask for it.
fn load(client: Option<&mut Client>, schema: &str) {
    let Some(client) = client else { return };
    let mut statement = String::new();
    for line in schema.lines().filter(|line| !line.starts_with("--")) {
        statement.push_str(line);
        statement.push('\n');
        if line.ends_with(';') {
            let _ = client.query(&statement);
            statement.clear();
        }
    }
}

type Complaint = (String, String);

fn ask(client: &mut Client, entry: &Value) -> Result<(), Complaint> {
    let sql = entry.get("sql").and_then(Value::as_str).unwrap_or_default();
    let sql = with_oids(client, sql)?;
    let parameters: Option<Vec<Option<&str>>> = entry
        .get("params")
        .and_then(Value::as_array)
        .map(|list| list.iter().map(Value::as_str).collect());
    let answer = match &parameters {
        Some(list) => client.extended(&sql, list),
        None => client.query(&sql),
    };
    let outcome = answer.map_err(|error| {
        if matches!(error, WireError::Timeout(_)) {
            let _ = client.cancel();
        }
        let cause = cause_of(&error);
        (cause.clone(), cause)
    })?;
    compare(&outcome, entry, &sql)
}

fn cause_of(error: &WireError) -> String {
    match error {
        WireError::Server(server) => format!("{}: {}", server.code, server.message),
        other => other.to_string(),
    }
}

fn compare(outcome: &Outcome, entry: &Value, sql: &str) -> Result<(), Complaint> {
    let Some(cols) = entry.get("cols").and_then(Value::as_array) else {
        return Ok(());
    };
    let wanted: Vec<&str> = cols.iter().filter_map(Value::as_str).collect();
    let got: Vec<&str> = outcome
        .columns
        .iter()
        .flatten()
        .map(|c| c.name.as_str())
        .collect();
    if wanted != got {
        return Err((
            "wrong columns".to_owned(),
            format!("expected {wanted:?}\n    got {got:?}"),
        ));
    }
    let Some(rows) = entry.get("rows").and_then(Value::as_array) else {
        let asked = entry.get("n").and_then(Value::as_u64).unwrap_or(0);
        return if outcome.rows.is_empty() && asked > 0 {
            Err(("no rows".to_owned(), format!("expected about {asked} rows")))
        } else {
            Ok(())
        };
    };
    let mask: Vec<u64> = entry
        .get("mask")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_u64).collect())
        .unwrap_or_default();
    let masked = |row: Vec<Option<String>>| -> Vec<Option<String>> {
        row.into_iter()
            .enumerate()
            .map(|(at, value)| {
                if mask.contains(&(at as u64)) {
                    None
                } else {
                    value
                }
            })
            .collect()
    };
    let mut expected: Vec<Vec<Option<String>>> = rows
        .iter()
        .filter_map(Value::as_array)
        .map(|row| masked(row.iter().map(|v| v.as_str().map(str::to_owned)).collect()))
        .collect();
    let mut received: Vec<_> = outcome.rows.iter().cloned().map(masked).collect();
    if !sql.to_ascii_lowercase().contains("order by") {
        expected.sort();
        received.sort();
    }
    if expected == received {
        return Ok(());
    }
    let detail = format!("expected {expected:?}\n    got      {received:?}");
    Err(("wrong rows".to_owned(), detail))
}

/// Replaces the placeholders of oids by what the server says they are.
fn with_oids(client: &mut Client, sql: &str) -> Result<String, Complaint> {
    let mut out = String::new();
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((placeholder, tail)) = after.split_once("}}") else {
            break;
        };
        let (kind, name) = placeholder.split_once(':').unwrap_or((placeholder, ""));
        let oid = client
            .scalar(&oid_query(kind, name))
            .ok()
            .flatten()
            .ok_or_else(|| unresolved(kind, name))?;
        out.push_str(before);
        out.push_str(&oid);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn unresolved(kind: &str, name: &str) -> Complaint {
    (
        format!("no oid of {kind} {name}"),
        "the object was not created".to_owned(),
    )
}

fn oid_query(kind: &str, name: &str) -> String {
    let (schema, bare) = name.split_once('.').unwrap_or(("public", name));
    match kind {
        "class" => format!(
            "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
             ON n.oid = c.relnamespace WHERE n.nspname = '{schema}' AND c.relname = '{bare}'"
        ),
        "db" => "SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()".into(),
        "con" => format!("SELECT oid FROM pg_catalog.pg_constraint WHERE conname = '{bare}'"),
        "type" => format!("SELECT oid FROM pg_catalog.pg_type WHERE typname = '{bare}'"),
        "proc" => format!("SELECT oid FROM pg_catalog.pg_proc WHERE proname = '{bare}'"),
        _ => "SELECT NULL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Column;

    fn outcome(rows: &[&[&str]]) -> Outcome {
        Outcome {
            columns: Some(vec![Column {
                name: "a".to_owned(),
                type_oid: 25,
            }]),
            rows: rows
                .iter()
                .map(|row| row.iter().map(|value| Some((*value).to_owned())).collect())
                .collect(),
            ..Outcome::default()
        }
    }

    #[test]
    fn order_counts_only_under_order_by() {
        let entry: Value =
            serde_json::from_str(r#"{"cols": ["a"], "n": 2, "rows": [["1"], ["2"]], "mask": []}"#)
                .unwrap();
        let answer = outcome(&[&["2"], &["1"]]);
        assert!(compare(&answer, &entry, "SELECT a FROM t").is_ok());
        assert!(compare(&answer, &entry, "SELECT a FROM t ORDER BY a").is_err());
    }

    #[test]
    fn masked_columns_do_not_count() {
        let entry: Value =
            serde_json::from_str(r#"{"cols": ["a"], "n": 1, "rows": [[null]], "mask": [0]}"#)
                .unwrap();
        assert!(compare(&outcome(&[&["17"]]), &entry, "SELECT").is_ok());
        assert!(compare(&outcome(&[]), &entry, "SELECT").is_err());
    }
}

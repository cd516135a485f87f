//! Rewrites the expectations of a case file from what a server answers: how cases are written.
//!
//! Run it against PostgreSQL only and read the difference. Every record becomes `statement ok`,
//! `statement error (SQLSTATE)` or `query` with the received rows; comments, conditions,
//! connections and sort modes stay. Records that do not apply to the engine stay as they are.

use std::collections::HashMap;
use std::path::Path;

use sqllogictest::{Condition, Connection, QueryExpect, Record};

use super::database::{Letter, Session, written};
use crate::target::Target;
use crate::wire::WireError;

/// Why a file could not be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum RewriteFailure {
    /// The file is not a case file.
    #[error("{0}")]
    Parse(String),
    /// It cannot be written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A session was lost.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// No empty database.
    #[error(transparent)]
    Target(#[from] crate::target::TargetFailure),
}

/// Rewrites one file in place.
///
/// # Errors
/// When the file is malformed or a session is lost on the way; the file is then unchanged.
pub fn rewrite(path: &Path, target: &mut Target) -> Result<(), RewriteFailure> {
    drop(target.fresh()?);
    let records = sqllogictest::parse_file::<Letter>(path)
        .map_err(|error| RewriteFailure::Parse(error.to_string()))?;
    let mut sessions: HashMap<Connection, Session> = HashMap::new();
    let mut out = String::new();
    for record in records {
        out.push_str(&rewritten(record, target, &mut sessions)?);
        out.push('\n');
    }
    let text = out.trim_end().to_owned() + "\n";
    std::fs::write(path, text)?;
    Ok(())
}

fn rewritten(
    record: Record<Letter>,
    target: &Target,
    sessions: &mut HashMap<Connection, Session>,
) -> Result<String, RewriteFailure> {
    let (conditions, connection, sql, sort) = match &record {
        Record::Statement {
            conditions,
            connection,
            sql,
            ..
        } => (conditions, connection, sql, None),
        Record::Query {
            conditions,
            connection,
            sql,
            expected,
            ..
        } => {
            let sort = match expected {
                QueryExpect::Results { sort_mode, .. } => *sort_mode,
                QueryExpect::Error(_) => None,
            };
            (conditions, connection, sql, sort)
        }
        other => return Ok(other.to_string()),
    };
    let label = target.engine().label();
    let skipped = conditions.iter().any(|condition| match condition {
        Condition::OnlyIf { label: wanted } => wanted != label,
        Condition::SkipIf { label: unwanted } => unwanted == label,
    });
    if skipped {
        return Ok(record.to_string());
    }
    if !sessions.contains_key(connection) {
        let session = Session::open(&target.address(), target.engine())?;
        sessions.insert(connection.clone(), session);
    }
    let Some(session) = sessions.get_mut(connection) else {
        return Ok(record.to_string());
    };
    Ok(match session.last_outcome(sql) {
        Err(WireError::Server(error)) => format!("statement error ({})\n{sql}\n", error.code),
        Err(lost) => return Err(lost.into()),
        Ok(outcome) => match &outcome.columns {
            // Costs and times differ from run to run.
            Some(_) if sql.starts_with("EXPLAIN") => format!("statement ok\n{sql}\n"),
            None => format!("statement ok\n{sql}\n"),
            Some(columns) => {
                let letters: String = columns.iter().map(|c| Letter::of(c).0).collect();
                let mut rows: Vec<Vec<String>> = written(&outcome.rows);
                let order = match sort {
                    Some(sqllogictest::SortMode::RowSort) => {
                        rows.sort_unstable();
                        " rowsort"
                    }
                    _ => "",
                };
                let mut text = format!("query {letters}{order}\n{sql}\n----\n");
                for row in rows {
                    text.push_str(&row.join("\t"));
                    text.push('\n');
                }
                text
            }
        },
    })
}

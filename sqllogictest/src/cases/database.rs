//! The `sqllogictest` crate's view of a session.

use sqllogictest::{ColumnType, DB, DBOutput};

use crate::server::Engine;
use crate::wire::{Address, Client, Column, Outcome, WireError};

/// Column letters: I for integers, R for other numbers, T for the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter(pub(super) char);

impl ColumnType for Letter {
    fn from_char(value: char) -> Option<Self> {
        matches!(value, 'I' | 'R' | 'T').then_some(Self(value))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

impl Letter {
    /// The letter of a column by its type oid.
    pub(super) fn of(column: &Column) -> Self {
        match column.type_oid {
            20 | 21 | 23 | 26 => Self('I'),
            700 | 701 | 1700 => Self('R'),
            _ => Self('T'),
        }
    }
}

/// A session as the crate wants it.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    engine: Engine,
}

impl Session {
    /// Opens one.
    pub(super) fn open(address: &Address, engine: Engine) -> Result<Self, WireError> {
        Ok(Self {
            client: Client::connect(address)?,
            engine,
        })
    }

    /// Runs a statement; the last outcome counts when there are several.
    pub(super) fn last_outcome(&mut self, sql: &str) -> Result<Outcome, WireError> {
        // Waiting for a lost session again and again would turn one hang into a hundred.
        if self.client.is_dead() {
            return Err(WireError::Closed);
        }
        self.client.query(sql)
    }
}

impl DB for Session {
    type Error = WireError;
    type ColumnType = Letter;

    fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, WireError> {
        let outcome = self.last_outcome(sql)?;
        Ok(match &outcome.columns {
            Some(columns) => DBOutput::Rows {
                types: columns.iter().map(Letter::of).collect(),
                rows: written(&outcome.rows),
            },
            None => DBOutput::StatementComplete(outcome.affected()),
        })
    }

    fn engine_name(&self) -> &str {
        self.engine.label()
    }

    fn error_sql_state(error: &WireError) -> Option<String> {
        error.code().map(str::to_owned)
    }
}

/// Rows in the written form of a case file.
pub(super) fn written(rows: &[Vec<Option<String>>]) -> Vec<Vec<String>> {
    rows.iter()
        .map(|row| {
            row.iter()
                .map(|value| match value.as_deref() {
                    None => "NULL".to_owned(),
                    Some("") => "(empty)".to_owned(),
                    Some(text) => text
                        .replace('\\', "\\\\")
                        .replace('\n', "\\n")
                        .replace('\r', "\\r")
                        .replace('\t', "\\t"),
                })
                .collect()
        })
        .collect()
}

//! The extended protocol: Parse, Bind, Describe, Execute, Close, and doing a pipeline again whose
//! commit failed before the client could see more of it than its tags.

use std::sync::Arc;

use super::api::{Format, Outcome, StatementDescription, WireValue};
use super::prepared::{Prepared, is_bindable};
use super::session::{Session, Work};
use crate::bind::tree::OutputColumn;
use crate::error::{SqlError, SqlState};
use crate::parse::{self, Parsed, Statement};
use crate::types::registry::EvalContext;
use crate::types::{Datum, Oid, PgType, io};

/// How often a pipeline is done again.
const REPLAYS_MAX: u32 = 20;

/// A bound statement.
pub(crate) struct Portal {
    prepared: Arc<Prepared>,
    params: Arc<[Datum]>,
    formats: Vec<Format>,
    started: bool,
}

/// The one write that a pipeline has done, and the tag that it gave.
pub(crate) struct Replay {
    prepared: Arc<Prepared>,
    params: Arc<[Datum]>,
    tag: String,
}

fn no_portal(name: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_CURSOR_NAME,
        if name.is_empty() {
            "portal \"\" does not exist".to_owned()
        } else {
            format!("portal \"{name}\" does not exist")
        },
    )
}

impl Session {
    /// Parse.
    pub async fn prepare(&mut self, name: &str, sql: &str, types: &[Oid]) -> Result<(), SqlError> {
        let result = Box::pin(self.try_prepare(name, sql, types)).await;
        if result.is_err() {
            self.abort();
        }
        result
    }

    async fn try_prepare(&mut self, name: &str, sql: &str, types: &[Oid]) -> Result<(), SqlError> {
        let mut parsed = parse::split(sql)?;
        if parsed.len() > 1 {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        let parsed = parsed.pop().unwrap_or_else(|| Parsed {
            text: Arc::from(""),
            statement: Statement::Empty,
            offset: 0,
        });
        self.check_not_failed(&parsed.statement)?;
        if name.is_empty() {
            self.statements.remove("");
        } else if self.statements.contains_key(name) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        self.begin_bounds();
        let prepared = self.make_prepared(Arc::new(parsed), types).await?;
        self.statements.insert(name.to_owned(), Arc::new(prepared));
        Ok(())
    }

    pub(crate) async fn make_prepared(
        &mut self,
        parsed: Arc<Parsed>,
        types: &[Oid],
    ) -> Result<Prepared, SqlError> {
        if !is_bindable(&parsed.statement) {
            let output = self.utility_columns(&parsed.statement);
            return Ok(Prepared::utility(parsed, output));
        }
        let (runner, catalog) = self.catalog_now().await?;
        Prepared::bindable(parsed, &Self::declared(types), &runner, &catalog)
    }

    /// Describe of a statement.
    pub fn describe_statement(&mut self, name: &str) -> Result<StatementDescription, SqlError> {
        let prepared = match self.statement_named(name) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.abort();
                return Err(error);
            }
        };
        let columns = prepared
            .output
            .clone()
            .or_else(|| self.utility_columns(&prepared.parsed.statement));
        Ok(StatementDescription {
            parameters: prepared.params.clone(),
            columns,
        })
    }

    /// Bind.
    pub async fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        parameters: Vec<WireValue>,
        result_formats: &[Format],
    ) -> Result<(), SqlError> {
        let result = self.try_bind(portal, statement, parameters, result_formats);
        if result.is_err() {
            self.abort();
        }
        result
    }

    fn try_bind(
        &mut self,
        portal: &str,
        statement: &str,
        parameters: Vec<WireValue>,
        result_formats: &[Format],
    ) -> Result<(), SqlError> {
        let prepared = self.statement_named(statement)?;
        self.check_not_failed(&prepared.parsed.statement)?;
        if !portal.is_empty()
            && (self.portals.contains_key(portal) || self.cursors.contains_key(portal))
        {
            return Err(SqlError::new(
                SqlState::DUPLICATE_CURSOR,
                format!("cursor \"{portal}\" already exists"),
            ));
        }
        if parameters.len() != prepared.params.len() {
            return Err(SqlError::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{statement}\" \
                     requires {}",
                    parameters.len(),
                    prepared.params.len()
                ),
            ));
        }
        let params: Arc<[Datum]> = if parameters.is_empty() {
            Arc::from([])
        } else {
            let eval = self.output_context();
            let mut values = Vec::with_capacity(parameters.len());
            for (number, (value, oid)) in parameters.iter().zip(&prepared.params).enumerate() {
                values.push(decode(value, *oid, number, eval.as_ref())?);
            }
            values.into()
        };
        let columns = prepared.output.as_ref().map_or(0, |o| o.len());
        let formats = match result_formats {
            [] => vec![Format::Text; columns],
            [one] => vec![*one; columns],
            many if many.len() == columns || columns == 0 => many.to_vec(),
            many => {
                return Err(SqlError::new(
                    SqlState::PROTOCOL_VIOLATION,
                    format!(
                        "bind message has {} result formats but query has {columns} columns",
                        many.len()
                    ),
                ));
            }
        };
        let bound = Portal {
            prepared,
            params,
            formats,
            started: false,
        };
        self.portals.insert(portal.to_owned(), bound);
        Ok(())
    }

    /// Describe of a portal: its columns and their formats, `None` without rows.
    pub fn describe_portal(
        &mut self,
        name: &str,
    ) -> Result<Option<(Arc<[OutputColumn]>, Vec<Format>)>, SqlError> {
        let Some(portal) = self.portals.get(name) else {
            self.abort();
            return Err(no_portal(name));
        };
        let columns = portal
            .prepared
            .output
            .clone()
            .or_else(|| self.utility_columns(&portal.prepared.parsed.statement));
        Ok(columns.map(|columns| {
            let mut formats = portal.formats.clone();
            let fill = match formats.as_slice() {
                [one] => *one,
                _ => Format::Text,
            };
            formats.resize(columns.len(), fill);
            (columns, formats)
        }))
    }

    /// Execute: starts a portal. The server keeps the source of a portal that it suspends.
    pub async fn execute(&mut self, portal: &str) -> Result<Outcome, SqlError> {
        self.begin_command();
        let result = Box::pin(self.try_execute(portal)).await;
        if result.is_err() {
            self.abort();
            self.replay = None;
        }
        result
    }

    async fn try_execute(&mut self, name: &str) -> Result<Outcome, SqlError> {
        let Some(portal) = self.portals.get_mut(name) else {
            return Err(no_portal(name));
        };
        if std::mem::replace(&mut portal.started, true) {
            return Err(SqlError::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("portal \"{name}\" cannot be run"),
            ));
        }
        let prepared = Arc::clone(&portal.prepared);
        let params = Arc::clone(&portal.params);
        let first = self.transaction.as_ref().is_none_or(|t| t.statements == 0);
        let bindable = is_bindable(&prepared.parsed.statement);
        let outcome = if bindable {
            self.check_not_failed(&prepared.parsed.statement)?;
            let work = Work::Prepared(Arc::clone(&prepared));
            self.run_bound(&work, Arc::clone(&params), false).await?
        } else {
            let parsed = Arc::clone(&prepared.parsed);
            let work = Work::Prepared(Arc::clone(&prepared));
            self.dispatch(&parsed.statement, work, Arc::clone(&params), false)
                .await?
        };
        self.replay = match &outcome {
            Outcome::Done(tag) if bindable && first && !self.in_block() => Some(Replay {
                prepared,
                params,
                tag: tag.clone(),
            }),
            _ => None,
        };
        Ok(outcome)
    }

    /// Does the one write of a pipeline again, whose commit failed with `error`.
    pub(crate) async fn run_again(
        &mut self,
        replay: Replay,
        mut error: SqlError,
    ) -> Result<(), SqlError> {
        for _ in 0..REPLAYS_MAX {
            let work = Work::Prepared(Arc::clone(&replay.prepared));
            let outcome = self
                .run_bound(&work, Arc::clone(&replay.params), false)
                .await;
            match outcome {
                Ok(Outcome::Done(tag)) if tag == replay.tag => {}
                Ok(_) => {
                    // The client has been told another tag.
                    self.rollback_work().await;
                    return Err(error);
                }
                Err(other) => {
                    self.rollback_work().await;
                    return Err(other);
                }
            }
            match self.commit_work().await {
                Err(again) if again.state == SqlState::SERIALIZATION_FAILURE => error = again,
                other => return other,
            }
        }
        Err(error)
    }

    /// Close of a statement.
    pub fn close_statement(&mut self, name: &str) {
        self.statements.remove(name);
    }

    /// Close of a portal.
    pub fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }
}

fn decode(
    value: &WireValue,
    oid: Oid,
    number: usize,
    eval: &dyn EvalContext,
) -> Result<Datum, SqlError> {
    let Some(bytes) = &value.bytes else {
        return Ok(Datum::Null);
    };
    match value.format {
        Format::Binary => io::receive(bytes, oid, eval)
            .map_err(|e| e.with_context(format!("unnamed portal parameter ${}", number + 1))),
        Format::Text => {
            let text = std::str::from_utf8(bytes).map_err(|e| {
                let bad = bytes.get(e.valid_up_to()).copied().unwrap_or_default();
                SqlError::new(
                    SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                    format!("invalid byte sequence for encoding \"UTF8\": 0x{bad:02x}"),
                )
            })?;
            if text.contains('\0') {
                return Err(SqlError::new(
                    SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                    "invalid byte sequence for encoding \"UTF8\": 0x00",
                ));
            }
            io::input(text, PgType::new(oid), eval).map_err(|e| {
                e.with_context(format!(
                    "unnamed portal parameter ${} = '{text}'",
                    number + 1
                ))
            })
        }
    }
}

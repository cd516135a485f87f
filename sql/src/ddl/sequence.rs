//! CREATE SEQUENCE, ALTER SEQUENCE.

use super::execute::Ddl;
use super::names;
use crate::bind::resolve_type;
use crate::catalog::cache::POSTGRES_ROLE;
use crate::catalog::desc::{Relation, SequenceDesc};
use crate::catalog::rows;
use crate::error::{SqlError, SqlState};
use crate::parse::statement::{AlterSequence, CreateSequence, Name, SequenceOptions};
use crate::session::sequences::Position;
use crate::types::Oid;

fn invalid(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn limits(ty: Oid) -> Result<(i64, i64), SqlError> {
    match ty {
        Oid::INT2 => Ok((i64::from(i16::MIN), i64::from(i16::MAX))),
        Oid::INT4 => Ok((i64::from(i32::MIN), i64::from(i32::MAX))),
        Oid::INT8 => Ok((i64::MIN, i64::MAX)),
        _ => Err(invalid(
            "sequence type must be smallint, integer, or bigint".to_owned(),
        )),
    }
}

/// Applies options to a sequence; `fresh` ones get defaults for what is not given.
fn apply(
    sequence: &mut SequenceDesc,
    options: &SequenceOptions,
    fresh: bool,
) -> Result<(), SqlError> {
    let old_limits = limits(sequence.ty)?;
    let mut new_type = false;
    if let Some(ty) = &options.ty {
        let ty = resolve_type(ty)?.oid;
        new_type = ty != sequence.ty;
        sequence.ty = ty;
    }
    let (type_min, type_max) = limits(sequence.ty)?;
    if let Some(increment) = options.increment {
        if increment == 0 {
            return Err(invalid("INCREMENT must not be zero".to_owned()));
        }
        sequence.increment = increment;
    }
    let up = sequence.increment > 0;
    let default_max = if up { type_max } else { -1 };
    let default_min = if up { 1 } else { type_min };
    match options.max {
        Some(Some(max)) => sequence.max = max,
        Some(None) => sequence.max = default_max,
        None if fresh => sequence.max = default_max,
        None if new_type && sequence.max == old_limits.1 => sequence.max = type_max,
        None => {}
    }
    match options.min {
        Some(Some(min)) => sequence.min = min,
        Some(None) => sequence.min = default_min,
        None if fresh => sequence.min = default_min,
        None if new_type && sequence.min == old_limits.0 => sequence.min = type_min,
        None => {}
    }
    let type_name = crate::types::format_type(crate::types::PgType::new(sequence.ty));
    for (value, word) in [(sequence.max, "MAXVALUE"), (sequence.min, "MINVALUE")] {
        if !(type_min..=type_max).contains(&value) {
            return Err(invalid(format!(
                "{word} ({value}) is out of range for sequence data type {type_name}"
            )));
        }
    }
    if sequence.min >= sequence.max {
        return Err(invalid(format!(
            "MINVALUE ({}) must be less than MAXVALUE ({})",
            sequence.min, sequence.max
        )));
    }
    match options.start {
        Some(start) => sequence.start = start,
        None if fresh => sequence.start = if up { sequence.min } else { sequence.max },
        None => {}
    }
    let inside = |value: i64, word: &str| {
        if value < sequence.min {
            return Err(invalid(format!(
                "{word} value ({value}) cannot be less than MINVALUE ({})",
                sequence.min
            )));
        }
        if value > sequence.max {
            return Err(invalid(format!(
                "{word} value ({value}) cannot be greater than MAXVALUE ({})",
                sequence.max
            )));
        }
        Ok(())
    };
    inside(sequence.start, "START")?;
    if let Some(Some(restart)) = options.restart {
        inside(restart, "RESTART")?;
    }
    if let Some(cache) = options.cache {
        if cache <= 0 {
            return Err(invalid(format!(
                "CACHE ({cache}) must be greater than zero"
            )));
        }
        sequence.cache = cache;
    }
    if let Some(cycle) = options.cycle {
        sequence.cycle = cycle;
    }
    Ok(())
}

impl Ddl {
    /// A sequence of that name, not yet stored.
    pub(crate) async fn new_sequence(
        &mut self,
        schema: Oid,
        schema_name: &str,
        name: &str,
        ty: Oid,
        options: &SequenceOptions,
    ) -> Result<SequenceDesc, SqlError> {
        let oid = self.new_oid().await?;
        let mut sequence = SequenceDesc {
            oid,
            name: name.to_owned(),
            schema,
            schema_name: schema_name.to_owned(),
            ty,
            start: 1,
            increment: 1,
            min: 1,
            max: i64::MAX,
            cache: 1,
            cycle: false,
            owned_by: None,
            owner: POSTGRES_ROLE,
            storage: oid.0,
            comment: None,
        };
        apply(&mut sequence, options, true)?;
        Ok(sequence)
    }

    pub(crate) async fn create_sequence(
        &mut self,
        create: &CreateSequence,
    ) -> Result<&'static str, SqlError> {
        const TAG: &str = "CREATE SEQUENCE";
        let (schema, schema_name, name) =
            names::creation(self.catalog(), self.search_path(), &create.name)?;
        if self.change.relation_in(schema, &name).is_some() && create.if_not_exists {
            self.notice(
                SqlState::DUPLICATE_TABLE,
                format!("relation \"{name}\" already exists, skipping"),
            );
            return Ok(TAG);
        }
        self.change.check_free(schema, &name)?;
        let mut sequence = self
            .new_sequence(schema, &schema_name, &name, Oid::INT8, &create.options)
            .await?;
        if let Some(owned_by) = &create.options.owned_by {
            sequence.owned_by = self.owner_column(owned_by.as_ref())?;
        }
        self.change.put_sequence(sequence)?;
        Ok(TAG)
    }

    /// OWNED BY table.column.
    fn owner_column(&self, name: Option<&Name>) -> Result<Option<(Oid, usize)>, SqlError> {
        let Some(name) = name else { return Ok(None) };
        let mut table = name.clone();
        let column = table
            .0
            .pop()
            .and_then(|p| p.as_ident().cloned())
            .filter(|_| !table.0.is_empty())
            .ok_or_else(|| {
                SqlError::new(SqlState::SYNTAX_ERROR, "invalid OWNED BY option")
                    .with_hint("Specify OWNED BY table.column or OWNED BY NONE.")
            })?;
        let table = self.table(&table)?;
        Ok(Some((table.oid, super::alter::column(&table, &column)?)))
    }

    pub(crate) async fn alter_sequence(
        &mut self,
        alter: &AlterSequence,
    ) -> Result<&'static str, SqlError> {
        const TAG: &str = "ALTER SEQUENCE";
        let sequence = match self.find(&alter.name)? {
            Some(Relation::Sequence(sequence)) => sequence,
            Some(other) => {
                return Err(SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not a sequence", other.name()),
                ));
            }
            None => {
                let error = self.missing("relation", &alter.name);
                if alter.if_exists {
                    self.notice(
                        SqlState::SUCCESSFUL_COMPLETION,
                        format!("{}, skipping", error.message),
                    );
                    return Ok(TAG);
                }
                return Err(error);
            }
        };
        self.change_sequence(sequence.oid, &alter.options).await?;
        Ok(TAG)
    }

    /// Changes a sequence. Its position moves to a new place in the store with the transaction, so
    /// that blocks of values taken under the old options are not given any more.
    pub(crate) async fn change_sequence(
        &mut self,
        oid: Oid,
        options: &SequenceOptions,
    ) -> Result<(), SqlError> {
        let Some(old) = self
            .catalog()
            .sequences
            .get(&oid)
            .map(std::sync::Arc::clone)
        else {
            return Err(SqlError::internal("a sequence vanished"));
        };
        let mut new = SequenceDesc::clone(&old);
        apply(&mut new, options, false)?;
        if let Some(owned_by) = &options.owned_by {
            new.owned_by = self.owner_column(owned_by.as_ref())?;
        }
        let position = match options.restart {
            Some(Some(value)) => Position {
                last: value,
                called: false,
            },
            Some(None) => Position {
                last: new.start,
                called: false,
            },
            None => {
                let engine = self.engine();
                let now = engine.sequences.position(&engine.db, &old).await?;
                let moved = options.start.is_some() && !now.called;
                Position {
                    last: if moved { new.start } else { now.last },
                    called: now.called,
                }
            }
        };
        if !(new.min..=new.max).contains(&position.last) {
            let (word, limit, side) = if position.last < new.min {
                ("less", new.min, "MINVALUE")
            } else {
                ("greater", new.max, "MAXVALUE")
            };
            return Err(invalid(format!(
                "RESTART value ({}) cannot be {word} than {side} ({limit})",
                position.last
            )));
        }
        self.move_sequence(new, position).await
    }

    /// Gives a sequence a new place in the store, at that position.
    pub(crate) async fn move_sequence(
        &mut self,
        mut sequence: SequenceDesc,
        position: Position,
    ) -> Result<(), SqlError> {
        sequence.storage = self.new_oid().await?.0;
        self.runner
            .txn
            .put(rows::sequence_key(sequence.storage), position.encode())?;
        self.change.put_sequence(sequence)
    }
}

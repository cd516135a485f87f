//! ALTER COLUMN.

use std::sync::Arc;

use sqlparser::ast::{DataType, Expr, Ident};

use super::alter::column;
use super::create_table::{WantedSequence, check_column_type};
use super::execute::Ddl;
use super::names;
use crate::bind::resolve_type;
use crate::catalog::desc::{ColumnDesc, Identity, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::{IdentityDef, SequenceOptions};
use crate::types::registry::{CastContext, registry};
use crate::types::{Oid, PgType, format_type};

fn about(table: &TableDesc, name: &str, state: SqlState, what: &str) -> SqlError {
    SqlError::new(
        state,
        format!("column \"{name}\" of relation \"{}\" {what}", table.name),
    )
}

/// Whether values of `old` are values of `new` as they are stored.
fn same_values(old: PgType, new: PgType) -> bool {
    let unlimited = new.typmod < 0;
    match (old.oid, new.oid) {
        (a, b) if a == b && unlimited && a != Oid::BPCHAR => true,
        (Oid::VARCHAR, Oid::VARCHAR) => old.typmod >= 0 && new.typmod >= old.typmod,
        (Oid::VARCHAR, Oid::TEXT) => true,
        (Oid::TEXT, Oid::VARCHAR) => unlimited,
        _ => false,
    }
}

impl Ddl {
    fn change_column(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
        change: impl FnOnce(&TableDesc, &mut ColumnDesc) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let position = column(table, name)?;
        let mut new = TableDesc::clone(table);
        if let Some(column) = new.columns.get_mut(position) {
            change(table, column)?;
        }
        self.change.put_table(new)?;
        Ok(())
    }

    pub(crate) fn set_default(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
        expr: Option<&Expr>,
    ) -> Result<(), SqlError> {
        let position = column(table, name)?;
        let Some(old) = table.columns.get(position) else {
            return Err(SqlError::internal("a column vanished"));
        };
        if old.identity.is_some() {
            let mut error = about(
                table,
                &name.value,
                SqlState::SYNTAX_ERROR,
                "is an identity column",
            );
            if expr.is_none() {
                error =
                    error.with_hint("Use ALTER TABLE ... ALTER COLUMN ... DROP IDENTITY instead.");
            }
            return Err(error);
        }
        if old.generated.is_some() {
            return Err(about(
                table,
                &name.value,
                SqlState::SYNTAX_ERROR,
                "is a generated column",
            ));
        }
        let default = match expr {
            Some(expr) => Some(self.bind_default(expr, &name.value, old.ty)?.0),
            None => None,
        };
        self.change_column(table, name, |_, column| {
            column.default = default.filter(|text| !text.eq_ignore_ascii_case("null"));
            Ok(())
        })
    }

    pub(crate) async fn set_not_null(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
    ) -> Result<(), SqlError> {
        let position = column(table, name)?;
        self.validate_not_null(table, position).await?;
        self.change_column(table, name, |_, column| {
            column.not_null = true;
            Ok(())
        })
    }

    pub(crate) fn drop_not_null(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
    ) -> Result<(), SqlError> {
        let position = column(table, name)?;
        let in_key = table
            .primary_key()
            .is_some_and(|k| k.columns.iter().any(|c| c.column == position));
        if in_key {
            return Err(SqlError::new(
                SqlState::INVALID_TABLE_DEFINITION,
                format!("column \"{}\" is in a primary key", name.value),
            ));
        }
        self.change_column(table, name, |table, column| {
            if column.identity.is_some() {
                return Err(about(
                    table,
                    &column.name,
                    SqlState::SYNTAX_ERROR,
                    "is an identity column",
                ));
            }
            column.not_null = false;
            Ok(())
        })
    }

    pub(crate) async fn set_type(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
        ty: &DataType,
        using: Option<&Expr>,
    ) -> Result<(), SqlError> {
        let position = column(table, name)?;
        let ty = resolve_type(ty)?;
        check_column_type(&name.value, ty)?;
        let Some(old) = table.columns.get(position) else {
            return Err(SqlError::internal("a column vanished"));
        };
        if old.ty == ty && using.is_none() {
            return Ok(());
        }
        if !self.dependent_views(table.oid).is_empty() {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot alter type of a column used by a view or rule",
            ));
        }
        let mut new = TableDesc::clone(table);
        let shown = format_type(ty);
        if let Some(text) = &old.default {
            // The default must follow; it is cast as the rows are.
            let cast = old.ty.oid == ty.oid
                || registry()
                    .cast(old.ty.oid, ty.oid)
                    .is_some_and(|c| c.context <= CastContext::Assignment);
            if !cast && !text.starts_with('\'') {
                return Err(SqlError::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "default for column \"{}\" cannot be cast automatically to type {shown}",
                        name.value
                    ),
                ));
            }
        }
        let source = match using {
            Some(expr) => expr.to_string(),
            None => {
                let automatic = old.ty.oid == ty.oid
                    || matches!(ty.oid, Oid::TEXT | Oid::VARCHAR | Oid::BPCHAR)
                    || registry()
                        .cast(old.ty.oid, ty.oid)
                        .is_some_and(|c| c.context <= CastContext::Assignment);
                if !automatic {
                    return Err(SqlError::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!(
                            "column \"{}\" cannot be cast automatically to type {shown}",
                            name.value
                        ),
                    )
                    .with_hint(format!(
                        "You might need to specify \"USING {}::{shown}\".",
                        crate::session::variables::quote_name(&name.value)
                    )));
                }
                names::quote(&name.value)
            }
        };
        let in_place = using.is_none() && same_values(old.ty, ty);
        if let Some(column) = new.columns.get_mut(position) {
            column.ty = ty;
        }
        for check in &table.checks {
            // The check must still mean something over the new type.
            let expr = crate::parse::expression(&check.expr)?;
            self.bind_check(&expr, &new.name, &new.columns).map(drop)?;
        }
        if in_place {
            self.change.put_table(new)?;
            return Ok(());
        }
        let limited = format!("CAST(({source}) AS {shown})");
        self.rewrite(table, new, &[(position, limited)]).await
    }

    pub(crate) async fn add_identity(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
        def: &IdentityDef,
    ) -> Result<(), SqlError> {
        let position = column(table, name)?;
        let mut new = TableDesc::clone(table);
        let Some(old) = table.columns.get(position) else {
            return Err(SqlError::internal("a column vanished"));
        };
        let state = SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE;
        if old.identity.is_some() {
            return Err(about(
                table,
                &name.value,
                state,
                "is already an identity column",
            ));
        }
        if old.default.is_some() {
            return Err(about(
                table,
                &name.value,
                state,
                "already has a default value",
            ));
        }
        if !old.not_null {
            return Err(about(
                table,
                &name.value,
                state,
                "must be declared NOT NULL before identity can be added",
            ));
        }
        if !matches!(old.ty.oid, Oid::INT2 | Oid::INT4 | Oid::INT8) {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "identity column type must be smallint, integer, or bigint",
            ));
        }
        let wanted = WantedSequence {
            column: position,
            options: def.options.clone(),
            ty: old.ty.oid,
            identity: Some(if def.always {
                Identity::Always
            } else {
                Identity::ByDefault
            }),
        };
        self.add_sequences(&mut new, vec![wanted]).await?;
        self.change.put_table(new)?;
        Ok(())
    }

    pub(crate) async fn set_identity(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
        always: Option<bool>,
        options: &SequenceOptions,
    ) -> Result<(), SqlError> {
        let position = column(table, name)?;
        let old = table.columns.get(position);
        let Some((sequence, identity)) = old.and_then(|c| c.sequence.zip(c.identity)) else {
            return Err(about(
                table,
                &name.value,
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "is not an identity column",
            ));
        };
        let identity = match always {
            Some(true) => Identity::Always,
            Some(false) => Identity::ByDefault,
            None => identity,
        };
        self.change_column(table, name, |_, column| {
            column.identity = Some(identity);
            Ok(())
        })?;
        self.change_sequence(sequence, options).await
    }

    pub(crate) fn drop_identity(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
        if_exists: bool,
    ) -> Result<(), SqlError> {
        let position = column(table, name)?;
        let old = table.columns.get(position);
        let Some(sequence) = old.and_then(|c| c.identity.and(c.sequence)) else {
            if if_exists {
                self.notice(
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!(
                        "column \"{}\" of relation \"{}\" is not an identity column, skipping",
                        name.value, table.name
                    ),
                );
                return Ok(());
            }
            return Err(about(
                table,
                &name.value,
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "is not an identity column",
            ));
        };
        if let Some(sequence) = self.catalog().sequences.get(&sequence).map(Arc::clone) {
            self.change.remove_sequence(&sequence)?;
        }
        self.change_column(table, name, |_, column| {
            column.identity = None;
            column.sequence = None;
            Ok(())
        })
    }

    pub(crate) fn drop_expression(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
        if_exists: bool,
    ) -> Result<(), SqlError> {
        let position = column(table, name)?;
        if table
            .columns
            .get(position)
            .is_none_or(|c| c.generated.is_none())
        {
            let error = about(
                table,
                &name.value,
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "is not a stored generated column",
            );
            if if_exists {
                self.notice(
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("{}, skipping", error.message),
                );
                return Ok(());
            }
            return Err(error);
        }
        self.change_column(table, name, |_, column| {
            column.generated = None;
            Ok(())
        })
    }
}

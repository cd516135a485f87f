//! ALTER TABLE: one action after the other, each on the table as the one before left it.

use std::sync::Arc;

use sqlparser::ast::Ident;

use super::execute::Ddl;
use super::expression::is_volatile;
use super::names;
use crate::catalog::desc::{Relation, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::exec::interp;
use crate::parse::statement::{AlterAction, AlterTable, ColumnDef, ObjectKind};
use crate::types::{Datum, Oid, io};

/// Position of a live column, `42703` if there is none.
pub(crate) fn column(table: &TableDesc, name: &Ident) -> Result<usize, SqlError> {
    table
        .live_columns()
        .find(|(_, c)| c.name == name.value)
        .map(|(p, _)| p)
        .ok_or_else(|| {
            SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "column \"{}\" of relation \"{}\" does not exist",
                    name.value, table.name
                ),
            )
        })
}

impl Ddl {
    pub(crate) async fn alter_table(
        &mut self,
        alter: &AlterTable,
    ) -> Result<&'static str, SqlError> {
        let (tag, word) = match alter.kind {
            ObjectKind::Table | ObjectKind::Schema => ("ALTER TABLE", "relation"),
            ObjectKind::View => ("ALTER VIEW", "relation"),
            ObjectKind::Index => ("ALTER INDEX", "relation"),
            ObjectKind::Sequence => ("ALTER SEQUENCE", "relation"),
        };
        let Some(relation) = self.find(&alter.name)? else {
            let error = self.missing(word, &alter.name);
            if alter.if_exists {
                self.notice(
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("{}, skipping", error.message),
                );
                return Ok(tag);
            }
            return Err(error);
        };
        let expected = match alter.kind {
            ObjectKind::Table | ObjectKind::Schema => None,
            ObjectKind::View => Some("view"),
            ObjectKind::Index => Some("index"),
            ObjectKind::Sequence => Some("sequence"),
        };
        if let Some(expected) = expected
            && relation.word() != expected
        {
            let article = if expected == "index" { "an" } else { "a" };
            return Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not {article} {expected}", relation.name()),
            ));
        }
        let oid = relation.oid();
        for action in &alter.actions {
            let Some(relation) = self.catalog().relation(oid) else {
                break;
            };
            self.alter_one(relation, action).await?;
        }
        Ok(tag)
    }

    async fn alter_one(
        &mut self,
        relation: Relation,
        action: &AlterAction,
    ) -> Result<(), SqlError> {
        match action {
            AlterAction::Rename(to) => return self.rename_relation(&relation, to).await,
            AlterAction::SetSchema(to) => return self.set_schema(&relation, to),
            AlterAction::Owner(role) => return check_owner(role),
            AlterAction::Storage => return Ok(()),
            AlterAction::SetOptions(options) => return self.set_options(&relation, options),
            AlterAction::ResetOptions(options) => return self.reset_options(&relation, options),
            AlterAction::RenameColumn(from, to) => {
                return match &relation {
                    Relation::Table(table) => self.rename_column(table, from, to),
                    Relation::View(view) => self.rename_view_column(view, from, to),
                    other => Err(not_a_table(other)),
                };
            }
            _ => {}
        }
        let table = match relation {
            Relation::Table(table) => table,
            other => return Err(not_a_table(&other)),
        };
        match action {
            AlterAction::AddColumn {
                if_not_exists,
                column,
            } => self.add_column(&table, *if_not_exists, column).await,
            AlterAction::DropColumn {
                name,
                if_exists,
                cascade,
            } => self.drop_column(&table, name, *if_exists, *cascade).await,
            AlterAction::RenameConstraint(from, to) => self.rename_constraint(&table, from, to),
            AlterAction::AddConstraint(constraint) => self.add_constraint(&table, constraint).await,
            AlterAction::DropConstraint {
                name, if_exists, ..
            } => self.drop_constraint(&table, name, *if_exists).await,
            AlterAction::SetDefault(name, expr) => self.set_default(&table, name, Some(expr)),
            AlterAction::DropDefault(name) => self.set_default(&table, name, None),
            AlterAction::SetNotNull(name) => self.set_not_null(&table, name).await,
            AlterAction::DropNotNull(name) => self.drop_not_null(&table, name),
            AlterAction::SetType { name, ty, using } => {
                self.set_type(&table, name, ty, using.as_ref()).await
            }
            AlterAction::AddIdentity(name, def) => self.add_identity(&table, name, def).await,
            AlterAction::SetIdentity {
                name,
                always,
                options,
            } => self.set_identity(&table, name, *always, options).await,
            AlterAction::DropIdentity(name, if_exists) => {
                self.drop_identity(&table, name, *if_exists)
            }
            AlterAction::DropExpression(name, if_exists) => {
                self.drop_expression(&table, name, *if_exists)
            }
            AlterAction::ValidateConstraint(name) => self.validate_constraint(&table, name).await,
            _ => Err(SqlError::internal(
                "an action of ALTER TABLE without a place to run",
            )),
        }
    }

    /// ADD COLUMN.
    async fn add_column(
        &mut self,
        table: &Arc<TableDesc>,
        if_not_exists: bool,
        def: &ColumnDef,
    ) -> Result<(), SqlError> {
        if table.live_columns().any(|(_, c)| c.name == def.name.value) {
            let message = format!(
                "column \"{}\" of relation \"{}\" already exists",
                def.name.value, table.name
            );
            if if_not_exists {
                self.notice(SqlState::DUPLICATE_COLUMN, format!("{message}, skipping"));
                return Ok(());
            }
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        // The hidden row id stays the last one.
        let place = table.row_id().unwrap_or(table.columns.len());
        let mut wanted = Vec::new();
        let mut column = self
            .new_column(&table.name, &table.columns, def, &mut wanted)
            .await?;
        for want in &mut wanted {
            want.column = place;
        }
        let volatile;
        if let Some(expr) = &def.default {
            let (_, bound) = self.bind_default(expr, &column.name, column.ty)?;
            volatile = is_volatile(&bound);
            if !volatile {
                let catalog = self.change.published();
                let eval = self.runner.eval(&catalog);
                let value = interp::eval(&bound, &interp::NoRow, eval.as_ref(), &[])?;
                if !matches!(value, Datum::Null) {
                    let mut text = String::new();
                    io::output(&value, column.ty, eval.as_ref(), &mut text);
                    column.missing = Some(text);
                }
            }
        } else {
            volatile = !wanted.is_empty() || def.generated.is_some();
        }
        let filled = column.missing.is_some() || volatile;
        let mut new = TableDesc::clone(table);
        let not_null = std::mem::replace(&mut column.not_null, false);
        new.columns.insert(place, column);
        for position in &mut new.storage_key {
            if *position >= place {
                *position += 1;
            }
        }
        if let Some(expr) = &def.generated {
            let text = self.bind_generated(expr, &new.name, place, &new.columns)?;
            if let Some(column) = new.columns.get_mut(place) {
                column.generated = Some(text);
            }
        }
        self.add_sequences(&mut new, wanted).await?;
        if not_null && !filled {
            let sql = format!(
                "SELECT 1 FROM {} LIMIT 1",
                names::quoted(&table.schema_name, &table.name)
            );
            if self.any_row(&sql).await? {
                let mut error = SqlError::new(
                    SqlState::NOT_NULL_VIOLATION,
                    format!(
                        "column \"{}\" of relation \"{}\" contains null values",
                        def.name.value, table.name
                    ),
                );
                error.0.schema = Some(table.schema_name.clone());
                error.0.table = Some(table.name.clone());
                error.0.column = Some(def.name.value.clone());
                return Err(error);
            }
        }
        if let Some(column) = new.columns.get_mut(place) {
            column.not_null = not_null;
        }
        if volatile {
            let source = self.column_source(&new, place)?;
            self.rewrite(table, new, &[(place, source)]).await?;
        } else {
            self.change.put_table(new)?;
        }
        for constraint in &def.constraints {
            let now = self.table_now(table.oid)?;
            self.add_constraint(&now, constraint).await?;
        }
        Ok(())
    }

    /// The expression that fills a new column in existing rows.
    fn column_source(&self, table: &TableDesc, position: usize) -> Result<String, SqlError> {
        let column = table
            .columns
            .get(position)
            .ok_or_else(|| SqlError::internal("a column vanished"))?;
        let text = match &column.generated {
            Some(text) => text.clone(),
            None => super::expression::default_text(self.catalog(), column)?
                .unwrap_or_else(|| "NULL".to_owned()),
        };
        Ok(format!(
            "CAST(({text}) AS {})",
            crate::types::format_type(column.ty)
        ))
    }

    /// DROP COLUMN.
    async fn drop_column(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
        if_exists: bool,
        cascade: bool,
    ) -> Result<(), SqlError> {
        let position = match column(table, name) {
            Ok(position) => position,
            Err(error) if if_exists => {
                self.notice(
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("{}, skipping", error.message),
                );
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.drop_views_of_column(table, name, cascade).await?;
        let table = &self.table_now(table.oid)?;
        for (_, other) in table.live_columns() {
            if let Some(text) = other.generated.clone()
                && self.columns_used(&text, table)?.contains(&position)
                && other.name != name.value
            {
                return Err(SqlError::new(
                    SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                    format!(
                        "cannot drop column {} of table {} because other objects depend on it",
                        name.value, table.name
                    ),
                )
                .with_detail(format!(
                    "column {} of table {} depends on column {} of table {}",
                    other.name, table.name, name.value, table.name
                ))
                .with_hint("Drop the dependent column first."));
            }
        }
        let mut new = TableDesc::clone(table);
        let mut checks = Vec::new();
        for check in &table.checks {
            if !self.columns_used(&check.expr, table)?.contains(&position) {
                checks.push(check.clone());
            }
        }
        new.checks = checks;
        let touches = |i: &crate::catalog::desc::IndexDesc| {
            i.columns.iter().any(|c| c.column == position) || i.include.contains(&position)
        };
        let gone: Vec<_> = table
            .indexes
            .iter()
            .filter(|i| touches(i))
            .map(Arc::clone)
            .collect();
        new.indexes.retain(|i| !touches(i));
        let sequences: Vec<_> = self
            .catalog()
            .sequences
            .values()
            .filter(|s| s.owned_by == Some((table.oid, position)))
            .map(Arc::clone)
            .collect();
        for sequence in sequences {
            self.change.remove_sequence(&sequence)?;
        }
        let Some(column) = new.columns.get_mut(position) else {
            return Err(SqlError::internal("a column vanished"));
        };
        column.dropped = true;
        column.name = format!("........pg.dropped.{}........", column.attnum);
        column.not_null = false;
        column.default = None;
        column.generated = None;
        column.identity = None;
        column.sequence = None;
        column.missing = None;
        column.comment = None;
        if table.storage_key.contains(&position) {
            new.storage_key = vec![new.columns.len()];
            new.columns.push(super::create_table::row_id_column());
            return self.rewrite(table, new, &[]).await;
        }
        self.change.put_table(new)?;
        for index in gone {
            self.change.drop_index_storage(table.storage, index.id)?;
        }
        Ok(())
    }

    /// Views that use a column go with it (CASCADE) or keep it.
    async fn drop_views_of_column(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
        cascade: bool,
    ) -> Result<(), SqlError> {
        let views = self.dependent_views(table.oid);
        if views.is_empty() {
            return Ok(());
        }
        let mut using = Vec::new();
        for view in views {
            let text = view.view.as_deref().unwrap_or_default();
            if super::expression::rename_in_text(text, &name.value, "\u{1}")?.contains('\u{1}')
                || text.contains('*')
            {
                using.push(view);
            }
        }
        if using.is_empty() {
            return Ok(());
        }
        if !cascade {
            let details: Vec<String> = using
                .iter()
                .map(|v| {
                    format!(
                        "view {} depends on column {} of table {}",
                        v.name, name.value, table.name
                    )
                })
                .collect();
            return Err(SqlError::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!(
                    "cannot drop column {} of table {} because other objects depend on it",
                    name.value, table.name
                ),
            )
            .with_detail(details.join("\n"))
            .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        let oids: Vec<Oid> = using.iter().map(|v| v.oid).collect();
        self.drop_cascaded(&oids)
    }
}

pub(crate) fn not_a_table(relation: &Relation) -> SqlError {
    SqlError::new(
        SqlState::WRONG_OBJECT_TYPE,
        format!("\"{}\" is not a table", relation.name()),
    )
}

/// There is one role.
pub(crate) fn check_owner(role: &str) -> Result<(), SqlError> {
    match role {
        "postgres" | "current_user" | "session_user" | "current_role" => Ok(()),
        _ => Err(SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("role \"{role}\" does not exist"),
        )),
    }
}

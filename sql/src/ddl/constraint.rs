//! Constraints: of a new table, added to an existing one, dropped.

use std::sync::Arc;

use sqlparser::ast::Ident;

use super::create_table::row_id_column;
use super::execute::Ddl;
use super::index::NewIndex;
use super::names::{self, ident_position};
use super::options;
use crate::catalog::desc::{CheckDesc, IndexColumn, IndexDesc, IndexKind, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::exec;
use crate::parse::statement::{Constraint, ConstraintKind};

/// Id of the primary storage among the indexes of a table.
pub(crate) const PRIMARY_STORAGE: u32 = 1;

fn taken(table: &str, name: &str) -> SqlError {
    SqlError::new(
        SqlState::DUPLICATE_OBJECT,
        format!("constraint \"{name}\" for relation \"{table}\" already exists"),
    )
}

/// Positions of the columns of a key.
pub(crate) fn key_columns(
    table: &TableDesc,
    columns: &[Ident],
    what: &str,
) -> Result<Vec<usize>, SqlError> {
    let mut positions = Vec::with_capacity(columns.len());
    for ident in columns {
        let position = table
            .live_columns()
            .find(|(_, c)| c.name == ident.value)
            .map(|(p, _)| p)
            .ok_or_else(|| {
                SqlError::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{}\" named in key does not exist", ident.value),
                )
                .at(ident_position(ident))
            })?;
        if positions.contains(&position) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_COLUMN,
                format!(
                    "column \"{}\" appears twice in {what} constraint",
                    ident.value
                ),
            )
            .at(ident_position(ident)));
        }
        positions.push(position);
    }
    Ok(positions)
}

impl Ddl {
    /// The constraints of a table that is being created: there are no rows to look at.
    pub(crate) async fn add_first_constraints(
        &mut self,
        table: &mut TableDesc,
        constraints: &[Constraint],
    ) -> Result<(), SqlError> {
        let is_primary = |c: &&Constraint| matches!(c.kind, ConstraintKind::PrimaryKey { .. });
        if constraints.iter().filter(is_primary).count() > 1 {
            return Err(many_primary(&table.name));
        }
        // PostgreSQL makes the primary key's index first.
        let (primary, others): (Vec<_>, Vec<_>) = constraints.iter().partition(is_primary);
        for constraint in primary.iter().chain(&others) {
            options::check_index(&constraint.options)?;
            let mut used: Vec<String> = vec![table.name.clone()];
            used.extend(table.indexes.iter().map(|i| i.name.clone()));
            match &constraint.kind {
                ConstraintKind::PrimaryKey { columns, include } => {
                    let new = NewIndex {
                        name: constraint.name.as_ref().map(|n| n.value.clone()),
                        columns: key_columns(table, columns, "primary key")?,
                        include: key_columns(table, include, "primary key")?,
                        kind: IndexKind::Primary,
                        nulls_not_distinct: false,
                    };
                    for position in &new.columns {
                        if let Some(column) = table.columns.get_mut(*position) {
                            column.not_null = true;
                        }
                    }
                    table.storage_key.clone_from(&new.columns);
                    let index = self
                        .constraint_index(table, new, PRIMARY_STORAGE, &used)
                        .await?;
                    table.indexes.push(Arc::new(index));
                }
                ConstraintKind::Unique {
                    columns,
                    include,
                    nulls_not_distinct,
                } => {
                    let positions = key_columns(table, columns, "unique")?;
                    let same = |i: &Arc<IndexDesc>| {
                        i.columns
                            .iter()
                            .map(|c| c.column)
                            .eq(positions.iter().copied())
                    };
                    if constraint.name.is_none()
                        && include.is_empty()
                        && !*nulls_not_distinct
                        && table.indexes.iter().any(same)
                    {
                        continue;
                    }
                    let new = NewIndex {
                        name: constraint.name.as_ref().map(|n| n.value.clone()),
                        columns: positions,
                        include: key_columns(table, include, "unique")?,
                        kind: IndexKind::UniqueConstraint,
                        nulls_not_distinct: *nulls_not_distinct,
                    };
                    let id = table.next_index;
                    table.next_index += 1;
                    let index = self.constraint_index(table, new, id, &used).await?;
                    table.indexes.push(Arc::new(index));
                }
                ConstraintKind::Check(expr) => {
                    let check = self.new_check(table, constraint, expr).await?;
                    table.checks.push(check);
                }
                other => return Err(refused(other)),
            }
        }
        if table.storage_key.is_empty() {
            table.storage_key = vec![table.columns.len()];
            table.columns.push(row_id_column());
        }
        Ok(())
    }

    /// A CHECK, named and bound.
    async fn new_check(
        &mut self,
        table: &TableDesc,
        constraint: &Constraint,
        expr: &sqlparser::ast::Expr,
    ) -> Result<CheckDesc, SqlError> {
        let (text, bound) = self.bind_check(expr, &table.name, &table.columns)?;
        let existing = names::constraint_names(table);
        let name = match &constraint.name {
            Some(name) if existing.contains(&name.value.as_str()) => {
                return Err(taken(&table.name, &name.value));
            }
            Some(name) => name.value.clone(),
            None => {
                let used: Vec<_> = bound.columns().into_iter().collect();
                let column = match used.as_slice() {
                    [one] => table.columns.get(one.0 as usize).map(|c| c.name.as_str()),
                    _ => None,
                };
                names::choose(&table.name, column, "check", |n| existing.contains(&n))
            }
        };
        Ok(CheckDesc {
            oid: self.new_oid().await?,
            name,
            expr: text,
            not_valid: false,
        })
    }

    /// The index of a PRIMARY KEY or UNIQUE constraint.
    pub(crate) async fn constraint_index(
        &mut self,
        table: &TableDesc,
        new: NewIndex,
        id: u32,
        used: &[String],
    ) -> Result<IndexDesc, SqlError> {
        for position in &new.columns {
            if let Some(column) = table.columns.get(*position) {
                super::index::check_indexable(column)?;
            }
        }
        let name = match &new.name {
            Some(name) => {
                if names::constraint_names(table).contains(&name.as_str()) {
                    return Err(taken(&table.name, name));
                }
                if used.contains(name) {
                    return Err(SqlError::new(
                        SqlState::DUPLICATE_TABLE,
                        format!("relation \"{name}\" already exists"),
                    ));
                }
                self.change.check_free(table.schema, name)?;
                name.clone()
            }
            None if new.kind == IndexKind::Primary => {
                names::choose_relation(&self.change, table.schema, &table.name, None, "pkey", used)
            }
            None => {
                let columns: Vec<&str> = new
                    .columns
                    .iter()
                    .filter_map(|p| table.columns.get(*p))
                    .map(|c| c.name.as_str())
                    .collect();
                names::choose_relation(
                    &self.change,
                    table.schema,
                    &table.name,
                    Some(&names::index_columns(&columns)),
                    "key",
                    used,
                )
            }
        };
        Ok(IndexDesc {
            oid: self.new_oid().await?,
            id,
            name,
            columns: new
                .columns
                .iter()
                .map(|p| IndexColumn {
                    column: *p,
                    descending: false,
                    nulls_first: false,
                })
                .collect(),
            kind: new.kind,
            constraint: Some(self.new_oid().await?),
            nulls_not_distinct: new.nulls_not_distinct,
            include: new.include,
            comment: None,
        })
    }

    /// ADD constraint: existing rows are checked.
    pub(crate) async fn add_constraint(
        &mut self,
        table: &Arc<TableDesc>,
        constraint: &Constraint,
    ) -> Result<(), SqlError> {
        options::check_index(&constraint.options)?;
        let (columns, include, kind, nulls_not_distinct) = match &constraint.kind {
            ConstraintKind::Check(expr) => {
                let mut check = self.new_check(table, constraint, expr).await?;
                check.not_valid = constraint.not_valid;
                if !check.not_valid {
                    self.validate_check(table, &check).await?;
                }
                let mut new = TableDesc::clone(table);
                new.checks.push(check);
                self.change.put_table(new)?;
                return Ok(());
            }
            ConstraintKind::PrimaryKey { columns, include } => {
                if table.primary_key().is_some() {
                    return Err(many_primary(&table.name));
                }
                (
                    key_columns(table, columns, "primary key")?,
                    key_columns(table, include, "primary key")?,
                    IndexKind::Primary,
                    false,
                )
            }
            ConstraintKind::Unique {
                columns,
                include,
                nulls_not_distinct,
            } => (
                key_columns(table, columns, "unique")?,
                key_columns(table, include, "unique")?,
                IndexKind::UniqueConstraint,
                *nulls_not_distinct,
            ),
            ConstraintKind::UsingIndex { primary, index } => {
                return self.adopt_index(table, constraint, *primary, index).await;
            }
            other => return Err(refused(other)),
        };
        let mut new = TableDesc::clone(table);
        if kind == IndexKind::Primary {
            for position in &columns {
                self.validate_not_null(table, *position).await?;
                if let Some(column) = new.columns.get_mut(*position) {
                    column.not_null = true;
                }
            }
        }
        let index = NewIndex {
            name: constraint.name.as_ref().map(|n| n.value.clone()),
            columns,
            include,
            kind,
            nulls_not_distinct,
        };
        let id = new.next_index;
        new.next_index += 1;
        let index = self.constraint_index(table, index, id, &[]).await?;
        self.publish_index(table, new, index).await
    }

    /// Fails with 23514 when a row breaks a CHECK.
    async fn validate_check(
        &mut self,
        table: &TableDesc,
        check: &CheckDesc,
    ) -> Result<(), SqlError> {
        let sql = format!(
            "SELECT 1 FROM {} WHERE NOT ({}) LIMIT 1",
            names::quoted(&table.schema_name, &table.name),
            check.expr
        );
        if self.any_row(&sql).await? {
            let message = format!(
                "check constraint \"{}\" of relation \"{}\" is violated by some row",
                check.name, table.name
            );
            return Err(
                SqlError::new(SqlState::CHECK_VIOLATION, message).with_constraint(
                    &table.schema_name,
                    &table.name,
                    check.name.clone(),
                ),
            );
        }
        Ok(())
    }

    /// VALIDATE CONSTRAINT: the rows from before a constraint that was added NOT VALID.
    pub(crate) async fn validate_constraint(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
    ) -> Result<(), SqlError> {
        let Some(position) = table.checks.iter().position(|c| c.name == name.value) else {
            let key = |i: &Arc<IndexDesc>| i.constraint.is_some() && i.name == name.value;
            return Err(if table.indexes.iter().any(key) {
                SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!(
                        "constraint \"{}\" of relation \"{}\" is not a foreign key or check \
                         constraint",
                        name.value, table.name
                    ),
                )
            } else {
                SqlError::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!(
                        "constraint \"{}\" of relation \"{}\" does not exist",
                        name.value, table.name
                    ),
                )
            });
        };
        let mut new = TableDesc::clone(table);
        let Some(check) = new.checks.get_mut(position).filter(|c| c.not_valid) else {
            return Ok(());
        };
        self.validate_check(table, check).await?;
        check.not_valid = false;
        self.change.put_table(new)?;
        Ok(())
    }

    /// Fills a new index from the rows and enters it.
    pub(crate) async fn publish_index(
        &mut self,
        old: &Arc<TableDesc>,
        mut new: TableDesc,
        index: IndexDesc,
    ) -> Result<(), SqlError> {
        let catalog = self.change.published();
        let context = self.runner.context(&catalog, Arc::from([]));
        exec::backfill_index(old, &index, &context).await?;
        new.indexes.push(Arc::new(index));
        self.change.put_table(new)?;
        Ok(())
    }

    /// ADD CONSTRAINT ... USING INDEX.
    async fn adopt_index(
        &mut self,
        table: &Arc<TableDesc>,
        constraint: &Constraint,
        primary: bool,
        name: &Ident,
    ) -> Result<(), SqlError> {
        let Some(position) = table.indexes.iter().position(|i| i.name == name.value) else {
            return Err(SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!("index \"{}\" does not exist", name.value),
            ));
        };
        let mut new = TableDesc::clone(table);
        let Some(index) = new.indexes.get_mut(position) else {
            return Err(SqlError::internal("an index vanished"));
        };
        if index.kind != IndexKind::Unique {
            return Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a unique index", name.value),
            ));
        }
        if primary && table.primary_key().is_some() {
            return Err(many_primary(&table.name));
        }
        let mut adopted = IndexDesc::clone(index);
        adopted.kind = if primary {
            IndexKind::Primary
        } else {
            IndexKind::UniqueConstraint
        };
        adopted.constraint = Some(self.new_oid().await?);
        if let Some(to) = &constraint.name
            && to.value != adopted.name
        {
            self.change.check_free(table.schema, &to.value)?;
            self.notice(
                SqlState::SUCCESSFUL_COMPLETION,
                format!(
                    "ALTER TABLE / ADD CONSTRAINT USING INDEX will rename index \"{}\" to \"{}\"",
                    adopted.name, to.value
                ),
            );
            adopted.name.clone_from(&to.value);
        }
        let columns: Vec<usize> = adopted.columns.iter().map(|c| c.column).collect();
        *index = Arc::new(adopted);
        if primary {
            for position in columns {
                self.validate_not_null(table, position).await?;
                if let Some(column) = new.columns.get_mut(position) {
                    column.not_null = true;
                }
            }
        }
        self.change.put_table(new)?;
        Ok(())
    }

    /// Fails with 23502 when a row has NULL in a column.
    pub(crate) async fn validate_not_null(
        &mut self,
        table: &TableDesc,
        position: usize,
    ) -> Result<(), SqlError> {
        let Some(column) = table.columns.get(position).filter(|c| !c.not_null) else {
            return Ok(());
        };
        let sql = format!(
            "SELECT 1 FROM {} WHERE {} IS NULL LIMIT 1",
            names::quoted(&table.schema_name, &table.name),
            names::quote(&column.name)
        );
        if self.any_row(&sql).await? {
            let mut error = SqlError::new(
                SqlState::NOT_NULL_VIOLATION,
                format!(
                    "column \"{}\" of relation \"{}\" contains null values",
                    column.name, table.name
                ),
            );
            error.0.schema = Some(table.schema_name.clone());
            error.0.table = Some(table.name.clone());
            error.0.column = Some(column.name.clone());
            return Err(error);
        }
        Ok(())
    }

    /// DROP CONSTRAINT.
    pub(crate) async fn drop_constraint(
        &mut self,
        table: &Arc<TableDesc>,
        name: &Ident,
        if_exists: bool,
    ) -> Result<(), SqlError> {
        let mut new = TableDesc::clone(table);
        if let Some(position) = new.checks.iter().position(|c| c.name == name.value) {
            new.checks.remove(position);
            self.change.put_table(new)?;
            return Ok(());
        }
        let of_constraint = |i: &Arc<IndexDesc>| i.constraint.is_some() && i.name == name.value;
        let Some(index) = table
            .indexes
            .iter()
            .find(|i| of_constraint(i))
            .map(Arc::clone)
        else {
            let message = format!(
                "constraint \"{}\" of relation \"{}\" does not exist",
                name.value, table.name
            );
            if if_exists {
                self.notice(
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("{message}, skipping"),
                );
                return Ok(());
            }
            return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message));
        };
        self.remove_index(table, &index).await
    }

    /// Takes an index out of a table. Rows that lie in its order move to a storage of their own.
    pub(crate) async fn remove_index(
        &mut self,
        table: &Arc<TableDesc>,
        index: &IndexDesc,
    ) -> Result<(), SqlError> {
        let mut new = TableDesc::clone(table);
        new.indexes.retain(|i| i.oid != index.oid);
        if index.id != PRIMARY_STORAGE {
            self.change.put_table(new)?;
            return self.change.drop_index_storage(table.storage, index.id);
        }
        new.storage_key = vec![new.columns.len()];
        new.columns.push(row_id_column());
        self.rewrite(table, new, &[]).await
    }
}

/// `42P16`.
fn many_primary(table: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_TABLE_DEFINITION,
        format!("multiple primary keys for table \"{table}\" are not allowed"),
    )
}

fn refused(kind: &ConstraintKind) -> SqlError {
    SqlError::unsupported(match kind {
        ConstraintKind::ForeignKey { .. } => "FOREIGN KEY constraint",
        ConstraintKind::Exclude => "EXCLUDE constraint",
        _ => "this constraint",
    })
}

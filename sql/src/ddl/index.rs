//! CREATE INDEX.

use std::sync::Arc;

use sqlparser::ast::Expr;

use super::execute::Ddl;
use super::{names, options};
use crate::catalog::desc::{ColumnDesc, IndexColumn, IndexDesc, IndexKind, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::CreateIndex;
use crate::types::{Oid, format_type};

/// An index that is to be made.
pub(crate) struct NewIndex {
    pub(crate) name: Option<String>,
    pub(crate) columns: Vec<usize>,
    pub(crate) include: Vec<usize>,
    pub(crate) kind: IndexKind,
    pub(crate) nulls_not_distinct: bool,
}

/// Refuses columns of types without an order.
pub(crate) fn check_indexable(column: &ColumnDesc) -> Result<(), SqlError> {
    if matches!(column.ty.oid, Oid::JSON | Oid::XML | Oid::POINT) {
        return Err(SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!(
                "data type {} has no default operator class for access method \"btree\"",
                format_type(column.ty)
            ),
        )
        .with_hint(
            "You must specify an operator class for the index or define a default operator class \
             for the data type.",
        ));
    }
    Ok(())
}

fn no_column(name: &str) -> SqlError {
    SqlError::new(
        SqlState::UNDEFINED_COLUMN,
        format!("column \"{name}\" does not exist"),
    )
}

fn position_of(table: &TableDesc, name: &str) -> Result<usize, SqlError> {
    table
        .live_columns()
        .find(|(_, c)| c.name == name)
        .map(|(p, _)| p)
        .ok_or_else(|| no_column(name))
}

impl Ddl {
    pub(crate) async fn create_index(
        &mut self,
        create: &CreateIndex,
    ) -> Result<&'static str, SqlError> {
        const TAG: &str = "CREATE INDEX";
        let table = self.table(&create.table)?;
        options::check_index(&create.options)?;
        match create.method.as_deref() {
            None | Some("btree") => {}
            Some(method @ ("hash" | "gin" | "gist" | "brin" | "spgist")) => {
                return Err(SqlError::unsupported(format!(
                    "index access method \"{method}\""
                )));
            }
            Some(method) => {
                return Err(SqlError::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("access method \"{method}\" does not exist"),
                ));
            }
        }
        if create.filter.is_some() {
            return Err(SqlError::unsupported("a partial index"));
        }
        let mut columns = Vec::with_capacity(create.columns.len());
        for element in &create.columns {
            let Expr::Identifier(ident) = &element.expr else {
                return Err(SqlError::unsupported("an index on an expression"));
            };
            let position = position_of(&table, &ident.value)?;
            if let Some(column) = table.columns.get(position) {
                check_indexable(column)?;
            }
            if let Some(class) = &element.class {
                let class = names::parts(class).pop().unwrap_or_default();
                if !class.ends_with("_ops") {
                    return Err(SqlError::new(
                        SqlState::UNDEFINED_OBJECT,
                        format!(
                            "operator class \"{class}\" does not exist for access method \
                             \"btree\""
                        ),
                    ));
                }
            }
            columns.push(IndexColumn {
                column: position,
                descending: element.descending,
                nulls_first: element.nulls_first.unwrap_or(element.descending),
            });
        }
        let mut include = Vec::with_capacity(create.include.len());
        for ident in &create.include {
            include.push(position_of(&table, &ident.value)?);
        }
        let name = match &create.name {
            Some(name) => {
                if create.if_not_exists
                    && self.change.relation_in(table.schema, &name.value).is_some()
                {
                    self.notice(
                        SqlState::DUPLICATE_TABLE,
                        format!("relation \"{}\" already exists, skipping", name.value),
                    );
                    return Ok(TAG);
                }
                self.change.check_free(table.schema, &name.value)?;
                name.value.clone()
            }
            None => {
                let used: Vec<&str> = columns
                    .iter()
                    .map(|c| c.column)
                    .chain(include.iter().copied())
                    .filter_map(|p| table.columns.get(p))
                    .map(|c| c.name.as_str())
                    .collect();
                let joined = names::index_columns(&used);
                names::choose_relation(
                    &self.change,
                    table.schema,
                    &table.name,
                    Some(&joined),
                    "idx",
                    &[],
                )
            }
        };
        let mut new = TableDesc::clone(&table);
        let index = IndexDesc {
            oid: self.new_oid().await?,
            id: new.next_index,
            name,
            columns,
            kind: if create.unique {
                IndexKind::Unique
            } else {
                IndexKind::Plain
            },
            constraint: None,
            nulls_not_distinct: create.nulls_not_distinct,
            include,
            comment: None,
        };
        new.next_index += 1;
        self.publish_index(&table, new, index).await?;
        Ok(TAG)
    }

    /// DROP INDEX of one index.
    pub(crate) async fn drop_index(
        &mut self,
        table: &Arc<TableDesc>,
        index: &IndexDesc,
    ) -> Result<(), SqlError> {
        if index.constraint.is_some() {
            return Err(SqlError::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!(
                    "cannot drop index {0} because constraint {0} on table {1} requires it",
                    index.name, table.name
                ),
            )
            .with_hint(format!(
                "You can drop constraint {} on table {} instead.",
                index.name, table.name
            )));
        }
        self.remove_index(table, index).await
    }
}

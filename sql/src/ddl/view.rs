//! CREATE VIEW. A view is kept as the text of its query, with the columns that it showed when it
//! was made.

use std::sync::Arc;

use super::create_table::query_columns;
use super::execute::Ddl;
use super::expression::relations_named;
use super::names;
use crate::catalog::cache::POSTGRES_ROLE;
use crate::catalog::desc::{ColumnDesc, Relation, RelationKind, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::parse::Statement;
use crate::parse::statement::CreateView;
use crate::session::run::output_of;
use crate::types::format_type;

impl Ddl {
    pub(crate) async fn create_view(
        &mut self,
        create: &CreateView,
    ) -> Result<&'static str, SqlError> {
        const TAG: &str = "CREATE VIEW";
        let (schema, schema_name, name) =
            names::creation(self.catalog(), self.search_path(), &create.name)?;
        let existing = self.change.relation_in(schema, &name);
        let replaced = match existing {
            None => None,
            Some(Relation::View(view)) if create.replace => Some(view),
            Some(other) if create.replace => {
                return Err(SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not a view", other.name()),
                ));
            }
            Some(_) => {
                self.change.check_free(schema, &name)?;
                None
            }
        };
        let catalog = self.change.published();
        let query = Statement::Query(create.query.clone());
        let (bound, _) = self.runner.bind(&catalog, &query, &[])?;
        let output = output_of(&bound).unwrap_or_else(|| Arc::from([]));
        if create.columns.len() > output.len() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "CREATE VIEW specifies more column names than columns",
            ));
        }
        let columns = query_columns(&output, &create.columns, RelationKind::View)?;
        if let Some(old) = &replaced {
            check_replacement(old, &columns)?;
        }
        let depends = relations_named(&create.query_text, &catalog, self.search_path())?;
        let oid = match &replaced {
            Some(view) => view.oid,
            None => self.new_oid().await?,
        };
        if depends.contains(&oid) {
            return Err(SqlError::new(
                SqlState::INVALID_OBJECT_DEFINITION,
                format!("infinite recursion detected in rules for relation \"{name}\""),
            ));
        }
        let text = self.runner.view_text(&catalog, &create.query_text)?;
        self.change.put_table(TableDesc {
            oid,
            name,
            schema,
            schema_name,
            kind: RelationKind::View,
            version: replaced.as_ref().map_or(0, |v| v.version),
            columns,
            storage_key: Vec::new(),
            storage: 0,
            indexes: Vec::new(),
            next_index: 2,
            checks: Vec::new(),
            owner: POSTGRES_ROLE,
            view: Some(text),
            depends,
            comment: replaced.as_ref().and_then(|v| v.comment.clone()),
            options: Vec::new(),
        })?;
        Ok(TAG)
    }
}

/// CREATE OR REPLACE may only add columns.
fn check_replacement(old: &TableDesc, new: &[ColumnDesc]) -> Result<(), SqlError> {
    let invalid = |message: String| SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message);
    if new.len() < old.columns.len() {
        return Err(invalid("cannot drop columns from view".to_owned()));
    }
    for (old, new) in old.columns.iter().zip(new) {
        if old.name != new.name {
            return Err(invalid(format!(
                "cannot change name of view column \"{}\" to \"{}\"",
                old.name, new.name
            ))
            .with_hint(
                "Use ALTER VIEW ... RENAME COLUMN ... to change name of view column instead.",
            ));
        }
        if old.ty != new.ty {
            return Err(invalid(format!(
                "cannot change data type of view column \"{}\" from {} to {}",
                old.name,
                format_type(old.ty),
                format_type(new.ty)
            )));
        }
    }
    Ok(())
}

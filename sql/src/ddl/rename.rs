//! RENAME and SET SCHEMA.

use std::sync::Arc;

use sqlparser::ast::Ident;

use super::alter::column;
use super::change::check_user_schema;
use super::create_table::check_column_name;
use super::execute::Ddl;
use super::expression::{nextval, rename_in_text};
use super::names;
use crate::catalog::desc::{IndexDesc, Relation, SequenceDesc, TableDesc};
use crate::error::{SqlError, SqlState};

impl Ddl {
    /// Refuses what would leave a view's text behind.
    fn check_no_views(&self, table: &TableDesc, what: &str) -> Result<(), SqlError> {
        match self.dependent_views(table.oid).first() {
            None => Ok(()),
            Some(view) => Err(SqlError::unsupported(format!(
                "{what} of \"{}\", which view \"{}\" uses,",
                table.name, view.name
            ))),
        }
    }

    pub(crate) async fn rename_relation(
        &mut self,
        relation: &Relation,
        to: &Ident,
    ) -> Result<(), SqlError> {
        self.change.check_free(relation.schema(), &to.value)?;
        match relation {
            Relation::Table(table) | Relation::View(table) => {
                self.check_no_views(table, "a new name")?;
                let mut new = TableDesc::clone(table);
                new.name.clone_from(&to.value);
                self.change.put_table(new)?;
            }
            Relation::Index(table, index) => self.rename_index(table, index, to)?,
            Relation::Sequence(sequence) => {
                let mut new = SequenceDesc::clone(sequence);
                new.name.clone_from(&to.value);
                self.put_moved_sequence(new)?;
            }
        }
        Ok(())
    }

    /// A sequence with another name or schema: the default of its serial column follows.
    fn put_moved_sequence(&mut self, sequence: SequenceDesc) -> Result<(), SqlError> {
        if let Some((table, position)) = sequence.owned_by
            && let Some(table) = self.catalog().tables.get(&table)
            && table
                .columns
                .get(position)
                .is_some_and(|c| c.sequence == Some(sequence.oid) && c.identity.is_none())
        {
            let mut new = TableDesc::clone(table);
            if let Some(column) = new.columns.get_mut(position) {
                column.default = Some(nextval(&sequence.schema_name, &sequence.name));
            }
            self.change.put_table(new)?;
        }
        self.change.put_sequence(sequence)
    }

    fn rename_index(
        &mut self,
        table: &Arc<TableDesc>,
        index: &Arc<IndexDesc>,
        to: &Ident,
    ) -> Result<(), SqlError> {
        let mut new = TableDesc::clone(table);
        for each in new.indexes.iter_mut().filter(|i| i.oid == index.oid) {
            Arc::make_mut(each).name.clone_from(&to.value);
        }
        self.change.put_table(new)?;
        Ok(())
    }

    pub(crate) fn rename_column(
        &mut self,
        table: &Arc<TableDesc>,
        from: &Ident,
        to: &Ident,
    ) -> Result<(), SqlError> {
        let position = column(table, from)?;
        self.check_free_column(table, to)?;
        self.check_no_views(table, "a new name of a column")?;
        let mut new = TableDesc::clone(table);
        for check in &mut new.checks {
            check.expr = rename_in_text(&check.expr, &from.value, &to.value)?;
        }
        for column in &mut new.columns {
            if let Some(text) = &column.generated {
                column.generated = Some(rename_in_text(text, &from.value, &to.value)?);
            }
        }
        if let Some(column) = new.columns.get_mut(position) {
            column.name.clone_from(&to.value);
        }
        self.change.put_table(new)?;
        Ok(())
    }

    fn check_free_column(&self, table: &TableDesc, to: &Ident) -> Result<(), SqlError> {
        if table.live_columns().any(|(_, c)| c.name == to.value) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_COLUMN,
                format!(
                    "column \"{}\" of relation \"{}\" already exists",
                    to.value, table.name
                ),
            ));
        }
        check_column_name(&table.columns, to)
    }

    pub(crate) fn rename_view_column(
        &mut self,
        view: &Arc<TableDesc>,
        from: &Ident,
        to: &Ident,
    ) -> Result<(), SqlError> {
        let position = column(view, from)?;
        self.check_free_column(view, to)?;
        self.check_no_views(view, "a new name of a column")?;
        let mut new = TableDesc::clone(view);
        if let Some(column) = new.columns.get_mut(position) {
            column.name.clone_from(&to.value);
        }
        self.change.put_table(new)?;
        Ok(())
    }

    pub(crate) fn rename_constraint(
        &mut self,
        table: &Arc<TableDesc>,
        from: &Ident,
        to: &Ident,
    ) -> Result<(), SqlError> {
        let existing = names::constraint_names(table);
        if !existing.contains(&from.value.as_str()) {
            return Err(SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!(
                    "constraint \"{}\" for table \"{}\" does not exist",
                    from.value, table.name
                ),
            ));
        }
        if existing.contains(&to.value.as_str()) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_OBJECT,
                format!(
                    "constraint \"{}\" for relation \"{}\" already exists",
                    to.value, table.name
                ),
            ));
        }
        if let Some(index) = table.indexes.iter().find(|i| i.name == from.value) {
            self.change.check_free(table.schema, &to.value)?;
            return self.rename_index(table, &Arc::clone(index), to);
        }
        let mut new = TableDesc::clone(table);
        for check in new.checks.iter_mut().filter(|c| c.name == from.value) {
            check.name.clone_from(&to.value);
        }
        self.change.put_table(new)?;
        Ok(())
    }

    pub(crate) fn set_schema(&mut self, relation: &Relation, to: &Ident) -> Result<(), SqlError> {
        let schema = self.catalog().schema_named(&to.value).ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_SCHEMA_NAME,
                format!("schema \"{}\" does not exist", to.value),
            )
        })?;
        check_user_schema(schema, &to.value, relation.name())?;
        if schema == relation.schema() {
            return Ok(());
        }
        if self
            .catalog()
            .relation_in(schema, relation.name())
            .is_some()
        {
            return Err(SqlError::new(
                SqlState::DUPLICATE_TABLE,
                format!(
                    "relation \"{}\" already exists in schema \"{}\"",
                    relation.name(),
                    to.value
                ),
            ));
        }
        match relation {
            Relation::Table(table) | Relation::View(table) => {
                self.check_no_views(table, "another schema")?;
                for index in &table.indexes {
                    self.change.check_free(schema, &index.name)?;
                }
                let mut new = TableDesc::clone(table);
                new.schema = schema;
                new.schema_name.clone_from(&to.value);
                self.change.put_table(new)?;
                let owned: Vec<_> = self
                    .catalog()
                    .sequences
                    .values()
                    .filter(|s| s.owned_by.is_some_and(|(t, _)| t == table.oid))
                    .map(Arc::clone)
                    .collect();
                for sequence in owned {
                    self.change.check_free(schema, &sequence.name)?;
                    let mut new = SequenceDesc::clone(&sequence);
                    new.schema = schema;
                    new.schema_name.clone_from(&to.value);
                    self.put_moved_sequence(new)?;
                }
                Ok(())
            }
            Relation::Sequence(sequence) if sequence.owned_by.is_some() => Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot move an owned sequence into another schema",
            )),
            Relation::Sequence(sequence) => {
                let mut new = SequenceDesc::clone(sequence);
                new.schema = schema;
                new.schema_name.clone_from(&to.value);
                self.put_moved_sequence(new)
            }
            Relation::Index(..) => Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a table, view, or sequence", relation.name()),
            )),
        }
    }
}

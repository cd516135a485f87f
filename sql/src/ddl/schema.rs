//! CREATE SCHEMA, ALTER SCHEMA ... RENAME.

use std::sync::Arc;

use sqlparser::ast::Ident;

use super::alter::check_owner;
use super::execute::Ddl;
use super::expression::nextval;
use crate::catalog::cache::POSTGRES_ROLE;
use crate::catalog::desc::{SchemaDesc, SequenceDesc, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::CreateSchema;

fn check_name(name: &str) -> Result<(), SqlError> {
    if name.starts_with("pg_") {
        return Err(SqlError::new(
            SqlState::RESERVED_NAME,
            format!("unacceptable schema name \"{name}\""),
        )
        .with_detail("The prefix \"pg_\" is reserved for system schemas."));
    }
    Ok(())
}

impl Ddl {
    fn check_free_schema(&self, name: &str) -> Result<(), SqlError> {
        match self.catalog().schema_named(name) {
            Some(_) => Err(SqlError::new(
                SqlState::DUPLICATE_SCHEMA,
                format!("schema \"{name}\" already exists"),
            )),
            None => Ok(()),
        }
    }

    pub(crate) async fn create_schema(
        &mut self,
        create: &CreateSchema,
    ) -> Result<&'static str, SqlError> {
        const TAG: &str = "CREATE SCHEMA";
        check_name(&create.name)?;
        if let Some(owner) = &create.owner {
            check_owner(owner)?;
        }
        if let Err(error) = self.check_free_schema(&create.name) {
            if create.if_not_exists {
                self.notice(
                    SqlState::DUPLICATE_SCHEMA,
                    format!("{}, skipping", error.message),
                );
                return Ok(TAG);
            }
            return Err(error);
        }
        let oid = self.new_oid().await?;
        let name = create.name.clone();
        self.change.put_schema(SchemaDesc {
            oid,
            name,
            owner: POSTGRES_ROLE,
            comment: None,
        })?;
        Ok(TAG)
    }

    pub(crate) fn rename_schema(
        &mut self,
        name: &Ident,
        to: &Ident,
    ) -> Result<&'static str, SqlError> {
        let schema = self
            .catalog()
            .schema_named(&name.value)
            .and_then(|oid| self.catalog().schemas.get(&oid))
            .map(Arc::clone)
            .ok_or_else(|| {
                SqlError::new(
                    SqlState::INVALID_SCHEMA_NAME,
                    format!("schema \"{}\" does not exist", name.value),
                )
            })?;
        check_name(&schema.name)?;
        check_name(&to.value)?;
        self.check_free_schema(&to.value)?;
        let tables: Vec<_> = self
            .catalog()
            .tables
            .values()
            .filter(|t| t.schema == schema.oid)
            .map(Arc::clone)
            .collect();
        let sequences: Vec<_> = self
            .catalog()
            .sequences
            .values()
            .filter(|s| s.schema == schema.oid)
            .map(Arc::clone)
            .collect();
        for sequence in &sequences {
            let mut new = SequenceDesc::clone(sequence);
            new.schema_name.clone_from(&to.value);
            self.change.put_sequence(new)?;
        }
        for table in tables {
            if let Some(view) = self.dependent_views(table.oid).first() {
                return Err(SqlError::unsupported(format!(
                    "a new name of a schema of which view \"{}\" uses a table",
                    view.name
                )));
            }
            let mut new = TableDesc::clone(&table);
            new.schema_name.clone_from(&to.value);
            for column in new.columns.iter_mut().filter(|c| c.identity.is_none()) {
                let own = sequences.iter().find(|s| Some(s.oid) == column.sequence);
                if let Some(sequence) = own {
                    column.default = Some(nextval(&to.value, &sequence.name));
                }
            }
            self.change.put_table(new)?;
        }
        let mut new = SchemaDesc::clone(&schema);
        new.name.clone_from(&to.value);
        self.change.put_schema(new)?;
        Ok("ALTER SCHEMA")
    }
}

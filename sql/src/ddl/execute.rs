//! The door: which statement is handled where, and what they all need.

use std::sync::Arc;

use super::change::Change;
use super::names;
use crate::catalog::desc::{CatalogSnapshot, Relation, TableDesc};
use crate::error::{Severity, SqlError, SqlState};
use crate::parse::Statement;
use crate::parse::statement::Name;
use crate::session::engine::Engine;
use crate::session::run::Runner;
use crate::types::Oid;

/// What a schema change gives.
pub(crate) struct Done {
    pub(crate) tag: String,
    /// The catalog as the transaction sees it from now on, if it changed.
    pub(crate) catalog: Option<Arc<CatalogSnapshot>>,
    pub(crate) notices: Vec<SqlError>,
}

/// A statement that changes the catalog, while it does.
pub(crate) struct Ddl {
    pub(crate) runner: Runner,
    pub(crate) change: Change,
    pub(crate) notices: Vec<SqlError>,
}

/// Runs a schema change.
pub(crate) async fn execute(
    statement: &Statement,
    runner: Runner,
    catalog: Arc<CatalogSnapshot>,
) -> Result<Done, SqlError> {
    let change = Change::begin(&runner.txn, &catalog, runner.lock_wait()).await?;
    let mut ddl = Ddl {
        runner,
        change,
        notices: Vec::new(),
    };
    let tag = match statement {
        Statement::CreateTable(s) => ddl.create_table(s).await?.to_owned(),
        Statement::CreateTableAs(s) => ddl.create_table_as(s).await?,
        Statement::Drop(s) => ddl.drop(s).await?.to_owned(),
        Statement::AlterTable(s) => ddl.alter_table(s).await?.to_owned(),
        Statement::CreateIndex(s) => ddl.create_index(s).await?.to_owned(),
        Statement::CreateSequence(s) => ddl.create_sequence(s).await?.to_owned(),
        Statement::AlterSequence(s) => ddl.alter_sequence(s).await?.to_owned(),
        Statement::CreateView(s) => ddl.create_view(s).await?.to_owned(),
        Statement::CreateSchema(s) => ddl.create_schema(s).await?.to_owned(),
        Statement::RenameSchema { name, to } => ddl.rename_schema(name, to)?.to_owned(),
        Statement::Truncate(s) => ddl.truncate(s).await?.to_owned(),
        Statement::Comment(s) => ddl.comment(s)?.to_owned(),
        _ => return Err(SqlError::internal("not a schema change")),
    };
    Ok(Done {
        tag,
        catalog: ddl.change.finish(),
        notices: ddl.notices,
    })
}

impl Ddl {
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.runner.shared.engine
    }

    /// A number for a new object.
    pub(crate) async fn new_oid(&self) -> Result<Oid, SqlError> {
        self.engine().oids.next(&self.engine().db).await
    }

    pub(crate) fn search_path(&self) -> &[String] {
        &self.runner.values.search_path
    }

    pub(crate) fn catalog(&self) -> &CatalogSnapshot {
        self.change.catalog()
    }

    /// "... , skipping" and other notices.
    pub(crate) fn notice(&mut self, state: SqlState, message: String) {
        self.notices
            .push(SqlError::notice(Severity::Notice, state, message));
    }

    /// The relation of that name, `None` if there is none.
    pub(crate) fn find(&self, name: &Name) -> Result<Option<Relation>, SqlError> {
        let (schema, relation) = names::split(name)?;
        if let Some(schema) = &schema
            && crate::session::engine::virtual_table(schema, &relation).is_some()
        {
            return Err(SqlError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied: \"{relation}\" is a system catalog"),
            ));
        }
        Ok(names::find(
            self.catalog(),
            self.search_path(),
            schema.as_deref(),
            &relation,
        ))
    }

    /// The error for a name that does not exist.
    pub(crate) fn missing(&self, what: &str, name: &Name) -> SqlError {
        match names::split(name) {
            Ok((schema, relation)) => {
                names::missing(self.catalog(), what, schema.as_deref(), &relation)
            }
            Err(error) => error,
        }
    }

    /// The table of that name.
    pub(crate) fn table(&self, name: &Name) -> Result<Arc<TableDesc>, SqlError> {
        names::table(self.catalog(), self.search_path(), name)
    }

    /// The table of that number, as it is now.
    pub(crate) fn table_now(&self, oid: Oid) -> Result<Arc<TableDesc>, SqlError> {
        self.catalog()
            .tables
            .get(&oid)
            .map(Arc::clone)
            .ok_or_else(|| SqlError::internal("a table vanished while it was changed"))
    }

    /// A relation as messages name it: with its schema unless it is found without.
    pub(crate) fn shown(&self, relation: &Relation) -> String {
        let found = names::find(self.catalog(), self.search_path(), None, relation.name());
        if found.is_some_and(|r| r.oid() == relation.oid()) {
            return relation.name().to_owned();
        }
        let schema = self.catalog().schemas.get(&relation.schema());
        format!(
            "{}.{}",
            schema.map_or("", |s| s.name.as_str()),
            relation.name()
        )
    }

    /// Whether an internal query over the catalog as it is now gives a row.
    pub(crate) async fn any_row(&mut self, sql: &str) -> Result<bool, SqlError> {
        let catalog = self.change.published();
        Ok(!self.runner.query(&catalog, sql).await?.is_empty())
    }
}

//! CREATE TABLE AS and SELECT INTO.

use std::sync::Arc;

use super::create_table::{query_columns, row_id_column};
use super::execute::Ddl;
use super::{names, options};
use crate::catalog::cache::POSTGRES_ROLE;
use crate::catalog::desc::{RelationKind, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::exec;
use crate::parse::Statement;
use crate::parse::statement::CreateTableAs;
use crate::session::run::{output_of, rows_of};

/// Rows written at once.
const BATCH_ROWS: usize = 2_000;

impl Ddl {
    pub(crate) async fn create_table_as(
        &mut self,
        create: &CreateTableAs,
    ) -> Result<String, SqlError> {
        let (schema, schema_name, name) =
            names::creation(self.catalog(), self.search_path(), &create.name)?;
        if self.change.relation_in(schema, &name).is_some() {
            if create.if_not_exists {
                self.notice(
                    SqlState::DUPLICATE_TABLE,
                    format!("relation \"{name}\" already exists, skipping"),
                );
                return Ok("CREATE TABLE AS".to_owned());
            }
            self.change.check_free(schema, &name)?;
        }
        let query = Statement::Query(create.query.clone());
        let before = self.change.published();
        let (bound, _) = self.runner.bind(&before, &query, &[])?;
        let output = output_of(&bound).unwrap_or_else(|| Arc::from([]));
        if create.columns.len() > output.len() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "too many column names were specified",
            ));
        }
        let mut columns = query_columns(&output, &create.columns, RelationKind::Table)?;
        columns.push(row_id_column());
        let oid = self.new_oid().await?;
        let table = TableDesc {
            oid,
            name,
            schema,
            schema_name,
            kind: RelationKind::Table,
            version: 0,
            storage_key: vec![columns.len() - 1],
            columns,
            storage: oid.0,
            indexes: Vec::new(),
            next_index: 2,
            checks: Vec::new(),
            owner: POSTGRES_ROLE,
            view: None,
            depends: Vec::new(),
            comment: None,
            options: options::of_new_table(&create.options)?,
        };
        let table = self.change.put_table(table)?;
        self.warn_of_places(&table);
        if !create.with_data {
            return Ok("CREATE TABLE AS".to_owned());
        }
        let after = self.change.published();
        let (mut source, shown) = self.runner.stream_statement(&before, &query).await?;
        let context = self.runner.context(&after, Arc::from([]));
        let mut count = 0;
        let mut pending = Vec::new();
        loop {
            let batch = source.next().await?;
            let end = batch.is_none();
            if let Some(batch) = batch {
                pending.extend(rows_of(batch, &shown));
            }
            if pending.len() >= BATCH_ROWS || (end && !pending.is_empty()) {
                count += exec::insert_rows(&table, std::mem::take(&mut pending), &context).await?;
            }
            if end {
                return Ok(format!("SELECT {count}"));
            }
        }
    }
}

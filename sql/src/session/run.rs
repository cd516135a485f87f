//! One statement on its way to the executor: what it runs with, and internal statements that
//! schema changes, COPY and EXECUTE run in the same transaction.

use std::sync::Arc;

use futures::future::BoxFuture;
use pontoon_kv::{IsolationLevel, LockWait, Txn};

use super::api::{Outcome, RowBatch, RowSource};
use super::cancel::Bounds;
use super::engine::virtual_table;
use super::eval::{Shared, StatementContext};
use super::settings::Values;
use crate::bind::tree::{BoundStatement, OutputColumn};
use crate::bind::{BindContext, Binder};
use crate::catalog::desc::CatalogSnapshot;
use crate::error::SqlError;
use crate::exec::{self, ExecContext};
use crate::parse::{self, Statement};
use crate::types::registry::EvalContext;
use crate::types::{Datum, Oid, arrow};

/// What one statement runs with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Runner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) txn: Txn,
    pub(crate) values: Arc<Values>,
    pub(crate) bounds: Bounds,
    pub(crate) transaction_time: i64,
    pub(crate) statement_time: i64,
    pub(crate) isolation: IsolationLevel,
    pub(crate) read_only: bool,
}

impl Runner {
    /// What functions may know, over this catalog.
    pub(crate) fn eval(&self, catalog: &Arc<CatalogSnapshot>) -> Arc<dyn EvalContext> {
        Arc::new(StatementContext {
            shared: Arc::clone(&self.shared),
            catalog: Arc::clone(catalog),
            values: Arc::clone(&self.values),
            bounds: self.bounds.clone(),
            transaction_time: self.transaction_time,
            statement_time: self.statement_time,
            isolation: self.isolation,
            read_only: self.read_only,
        })
    }

    /// What the executor wants.
    pub(crate) fn context(
        &self,
        catalog: &Arc<CatalogSnapshot>,
        params: Arc<[Datum]>,
    ) -> ExecContext {
        ExecContext {
            txn: self.txn.clone(),
            catalog: Arc::clone(catalog),
            eval: self.eval(catalog),
            params,
            runtime: Arc::clone(&self.shared.engine.runtime),
            fast_path: self.values.fast_path,
            distribute: self.values.distribute,
            broadcast_max: self.values.broadcast_max,
            account: None,
        }
    }

    /// How long locks are waited for.
    pub(crate) fn lock_wait(&self) -> LockWait {
        let ms = self.values.lock_timeout_ms;
        LockWait::Wait((ms > 0).then_some(ms))
    }

    /// Binds a query or a write.
    pub(crate) fn bind(
        &self,
        catalog: &Arc<CatalogSnapshot>,
        statement: &Statement,
        params: &[Oid],
    ) -> Result<(BoundStatement, Vec<Oid>), SqlError> {
        let eval = self.eval(catalog);
        bind(catalog, &self.values, eval.as_ref(), statement, params)
    }

    /// The query of a view as it is to be stored.
    pub(crate) fn view_text(
        &self,
        catalog: &Arc<CatalogSnapshot>,
        sql: &str,
    ) -> Result<String, SqlError> {
        let eval = self.eval(catalog);
        let cx = BindContext {
            catalog,
            search_path: &self.values.search_path,
            params: &[],
            eval: eval.as_ref(),
            virtual_table,
        };
        crate::bind::view_text(&cx, sql).map(|(_, text)| text)
    }

    /// Runs an internal statement and gives all of its rows.
    pub(crate) async fn query(
        &self,
        catalog: &Arc<CatalogSnapshot>,
        sql: &str,
    ) -> Result<Vec<Vec<Datum>>, SqlError> {
        let mut rows = Vec::new();
        let (mut source, columns) = self.stream(catalog, sql).await?;
        while let Some(batch) = source.next().await? {
            rows.extend(rows_of(batch, &columns));
        }
        Ok(rows)
    }

    /// Runs an internal query and gives its rows as they come.
    pub(crate) async fn stream(
        &self,
        catalog: &Arc<CatalogSnapshot>,
        sql: &str,
    ) -> Result<(Box<dyn RowSource>, Arc<[OutputColumn]>), SqlError> {
        let parsed = parse::split(sql)?;
        let Some(first) = parsed.first() else {
            return Err(SqlError::internal("empty internal statement"));
        };
        self.stream_statement(catalog, &first.statement).await
    }

    /// The same with a statement.
    pub(crate) async fn stream_statement(
        &self,
        catalog: &Arc<CatalogSnapshot>,
        statement: &Statement,
    ) -> Result<(Box<dyn RowSource>, Arc<[OutputColumn]>), SqlError> {
        let (bound, _) = self.bind(catalog, statement, &[])?;
        let context = self.context(catalog, Arc::from([]));
        match exec::execute(&Arc::new(bound), context).await? {
            Outcome::Rows {
                columns, source, ..
            } => Ok((source, columns)),
            _ => Ok((Box::new(NoRows), Arc::from([]))),
        }
    }
}

/// Binds a query or a write; gives the types of its parameters too.
pub(crate) fn bind(
    catalog: &CatalogSnapshot,
    values: &Values,
    eval: &dyn EvalContext,
    statement: &Statement,
    params: &[Oid],
) -> Result<(BoundStatement, Vec<Oid>), SqlError> {
    let cx = BindContext {
        catalog,
        search_path: &values.search_path,
        params,
        eval,
        virtual_table,
    };
    let mut binder = Binder::new(&cx);
    let bound = binder.statement(statement)?;
    let types = binder.parameter_types()?;
    Ok((bound, types))
}

/// The columns that a bound statement shows, `None` for a write without RETURNING.
pub(crate) fn output_of(bound: &BoundStatement) -> Option<Arc<[OutputColumn]>> {
    match bound {
        BoundStatement::Query(q) => Some(Arc::clone(&q.output)),
        BoundStatement::Insert(i) => i.returning.as_ref().map(|r| Arc::clone(&r.output)),
        BoundStatement::Update(u) => u.returning.as_ref().map(|r| Arc::clone(&r.output)),
        BoundStatement::Delete(d) => d.returning.as_ref().map(|r| Arc::clone(&r.output)),
    }
}

/// The rows of a batch as single values.
pub(crate) fn rows_of(batch: RowBatch, columns: &[OutputColumn]) -> Vec<Vec<Datum>> {
    match batch {
        RowBatch::Rows(rows) => rows,
        RowBatch::Columns {
            columns: arrays,
            rows,
        } => (0..rows)
            .map(|row| {
                arrays
                    .iter()
                    .zip(columns)
                    .map(|(array, c)| arrow::datum_at(array.as_ref(), row, c.ty.oid))
                    .collect()
            })
            .collect(),
    }
}

/// A source without rows.
pub(crate) struct NoRows;

impl RowSource for NoRows {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<RowBatch>, SqlError>> {
        Box::pin(async { Ok(None) })
    }
}

/// Rows that are there already.
pub(crate) struct ReadyRows(pub(crate) Option<Vec<Vec<Datum>>>);

impl RowSource for ReadyRows {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<RowBatch>, SqlError>> {
        let rows = self.0.take().filter(|r| !r.is_empty());
        Box::pin(async move { Ok(rows.map(RowBatch::Rows)) })
    }
}

/// A source that ends with an error when its statement is cancelled or takes too long.
pub(crate) struct BoundedRows {
    pub(crate) inner: Box<dyn RowSource>,
    pub(crate) bounds: Bounds,
}

impl RowSource for BoundedRows {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<RowBatch>, SqlError>> {
        Box::pin(async {
            self.bounds.check()?;
            self.bounds.run(self.inner.next()).await
        })
    }
}

//! The stream of batches that a client reads.

use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use crate::bind::tree::Column;
use crate::error::SqlError;
use crate::exec::error::from_datafusion;
use crate::exec::query::order_of;
use crate::exec::remote::is_lost;
use crate::exec::rows::{Executor, Slots};
use crate::plan::node::Plan;
use crate::session::api::{RowBatch, RowSource};
use crate::session::place;
use crate::types::Datum;
use crate::types::arrow::datum_at;

use super::lower::lower;

/// Starts a plan. Should a node go away before it has given its part of the first rows, all of it is
/// run again by this node alone, at the same snapshot.
pub async fn stream(
    executor: &Arc<Executor>,
    plan: &Arc<Plan>,
    wanted: &[Column],
) -> Result<Box<dyn RowSource>, SqlError> {
    place::leave().await;
    let mut batches = match Batches::start(executor, plan, wanted).await {
        Err(error) if is_lost(&error) => return alone(executor, plan, wanted, &error).await,
        started => started?,
    };
    if executor.cx.runtime.fellows().is_none() || !executor.cx.distribute {
        return Ok(Box::new(batches));
    }
    Ok(match batches.next().await {
        Err(error) if is_lost(&error) => return alone(executor, plan, wanted, &error).await,
        first => Box::new(Begun {
            first: Some(first),
            rest: batches,
        }),
    })
}

/// Starts a plan that this node runs alone.
async fn alone(
    executor: &Executor,
    plan: &Arc<Plan>,
    wanted: &[Column],
    error: &SqlError,
) -> Result<Box<dyn RowSource>, SqlError> {
    tracing::info!(%error, "a query is run again without other nodes");
    let mut cx = executor.cx.clone();
    cx.distribute = false;
    let started = Batches::start(&Executor::new(cx), plan, wanted).await?;
    Ok(Box::new(started))
}

/// Rows of which the first are there.
struct Begun {
    first: Option<Result<Option<RowBatch>, SqlError>>,
    rest: Batches,
}

impl RowSource for Begun {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<RowBatch>, SqlError>> {
        match self.first.take() {
            Some(first) => async move { first }.boxed(),
            None => self.rest.next(),
        }
    }
}

struct Batches {
    stream: SendableRecordBatchStream,
    order: Vec<usize>,
    executor: Arc<Executor>,
}

impl Batches {
    async fn start(
        executor: &Arc<Executor>,
        plan: &Plan,
        wanted: &[Column],
    ) -> Result<Self, SqlError> {
        let lowered = lower(executor, plan).await?;
        let order = order_of(&Slots::new(&lowered.columns), wanted)?;
        let stream = lowered
            .exec
            .execute(0, executor.cx.runtime.task_context())
            .map_err(from_datafusion)?;
        Ok(Self {
            stream,
            order,
            executor: Arc::clone(executor),
        })
    }
}

impl RowSource for Batches {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<RowBatch>, SqlError>> {
        async move {
            loop {
                self.executor.cx.eval.check_cancelled()?;
                place::leave().await;
                let Some(batch) = self.stream.next().await else {
                    return Ok(None);
                };
                let batch = batch.map_err(from_datafusion)?;
                if batch.num_rows() == 0 {
                    continue;
                }
                let columns = self
                    .order
                    .iter()
                    .map(|i| batch.columns().get(*i).cloned())
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| SqlError::internal("a batch lacks a column"))?;
                return Ok(Some(RowBatch::Columns {
                    columns,
                    rows: batch.num_rows(),
                }));
            }
        }
        .boxed()
    }
}

/// Appends the rows of some columns.
pub fn rows_of(
    columns: &[ArrayRef],
    rows: usize,
    types: &[Column],
    out: &mut Vec<Vec<Datum>>,
) -> Result<(), SqlError> {
    out.reserve(rows);
    for i in 0..rows {
        out.push(
            columns
                .iter()
                .zip(types)
                .map(|(array, column)| datum_at(array.as_ref(), i, column.ty.oid))
                .collect(),
        );
    }
    Ok(())
}

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
use crate::exec::rows::{Executor, Slots};
use crate::plan::node::Plan;
use crate::session::api::{RowBatch, RowSource};
use crate::session::place;
use crate::types::Datum;
use crate::types::arrow::datum_at;

use super::lower::lower;

/// Starts a plan.
pub async fn stream(
    executor: &Arc<Executor>,
    plan: &Arc<Plan>,
    wanted: &[Column],
) -> Result<Box<dyn RowSource>, SqlError> {
    place::leave().await;
    let lowered = lower(executor, plan).await?;
    let order = order_of(&Slots::new(&lowered.columns), wanted)?;
    let stream = lowered
        .exec
        .execute(0, executor.cx.runtime.task_context())
        .map_err(from_datafusion)?;
    Ok(Box::new(Batches {
        stream,
        order,
        executor: Arc::clone(executor),
    }))
}

struct Batches {
    stream: SendableRecordBatchStream,
    order: Vec<usize>,
    executor: Arc<Executor>,
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

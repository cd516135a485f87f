//! Operators that the row engine runs, between operators of DataFusion.
//!
//! The plan of such an operator is copied with each input replaced by a reference to a CTE of its
//! own, which is then given the input's rows. Where the operator works row by row, it is run for
//! each batch of its input; else all input is collected first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use futures::stream::try_unfold;

use crate::bind::tree::Column;
use crate::error::SqlError;
use crate::exec::error::{from_arrow, from_datafusion, into_datafusion};
use crate::exec::rows::{Executor, Grouper, Values};
use crate::plan::node::{Op, Plan};
use crate::types::Datum;
use crate::types::arrow::build_array;

use super::leaf::{OwnExec, schema_of};
use super::stream::rows_of;

/// Rows of one batch that goes back to DataFusion.
const BATCH_ROWS: usize = 8_192;

/// Numbers of the CTEs that stand for inputs; the binder's count from the other end.
static NEXT_INPUT: AtomicU32 = AtomicU32::new(0x8000_0000);

/// Replaces an input by a reference; gives the reference's number.
pub fn detach(input: &mut Plan) -> u32 {
    let cte = NEXT_INPUT.fetch_add(1, Ordering::Relaxed) | 0x8000_0000;
    let positions = (0..input.columns.len()).collect();
    input.op = Op::CteRef { cte, positions };
    cte
}

/// One input of a bridged operator.
pub struct Input {
    /// Number of the reference.
    pub cte: u32,
    /// Where its rows come from.
    pub exec: Arc<dyn ExecutionPlan>,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// An operator that the row engine runs. `by_batch` (one input only): for each batch by itself.
pub fn bridge(
    executor: &Arc<Executor>,
    plan: Plan,
    inputs: Vec<Input>,
    by_batch: bool,
) -> Arc<dyn ExecutionPlan> {
    let schema = schema_of(&plan.columns);
    let (execs, names): (Vec<_>, Vec<_>) = inputs
        .into_iter()
        .map(|i| (i.exec, (i.cte, i.columns)))
        .unzip();
    let (names, plan) = (Arc::new(names), Arc::new(plan));
    let (executor, start_schema) = (Arc::clone(executor), Arc::clone(&schema));
    let start = move |streams: Vec<SendableRecordBatchStream>| {
        let running = Running {
            executor: Arc::clone(&executor),
            plan: Arc::clone(&plan),
            names: Arc::clone(&names),
            streams,
            by_batch,
            started: false,
            out: Vec::new().into_iter(),
            schema: Arc::clone(&start_schema),
        };
        let batches = try_unfold(running, |mut running| async move {
            let batch = running.next().await.map_err(into_datafusion)?;
            Ok(batch.map(|b| (b, running)))
        });
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&start_schema), batches);
        Ok(Box::pin(stream) as SendableRecordBatchStream)
    };
    OwnExec::new("rows", schema, execs, Arc::new(start))
}

struct Running {
    executor: Arc<Executor>,
    plan: Arc<Plan>,
    names: Arc<Vec<(u32, Vec<Column>)>>,
    streams: Vec<SendableRecordBatchStream>,
    by_batch: bool,
    started: bool,
    out: std::vec::IntoIter<Values>,
    schema: SchemaRef,
}

impl Running {
    async fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        loop {
            let rows: Vec<Values> = self.out.by_ref().take(BATCH_ROWS).collect();
            if !rows.is_empty() {
                return batch_of(&rows, &self.plan.columns, &self.schema).map(Some);
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Computes more rows; false at the end.
    async fn more(&mut self) -> Result<bool, SqlError> {
        if self.by_batch {
            let (Some(stream), Some((cte, columns))) =
                (self.streams.first_mut(), self.names.first())
            else {
                return Ok(false);
            };
            let Some(batch) = stream.next().await else {
                return Ok(false);
            };
            let batch = batch.map_err(from_datafusion)?;
            let mut rows = Vec::with_capacity(batch.num_rows());
            rows_of(batch.columns(), batch.num_rows(), columns, &mut rows)?;
            self.executor.set_cte(*cte, rows);
        } else if std::mem::replace(&mut self.started, true) {
            return Ok(false);
        } else if let (Op::Aggregate { .. }, [stream], [(_, columns)]) = (
            &self.plan.op,
            self.streams.as_mut_slice(),
            self.names.as_slice(),
        ) {
            // Groups need no more than one batch of the input at a time.
            let mut grouper = Grouper::new(&self.plan)?;
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(from_datafusion)?;
                let mut rows = Vec::with_capacity(batch.num_rows());
                rows_of(batch.columns(), batch.num_rows(), columns, &mut rows)?;
                grouper
                    .feed(&self.plan, &self.executor, &rows, None)
                    .await?;
            }
            self.out = grouper.finish(&self.plan)?.into_iter();
            return Ok(true);
        } else {
            for (stream, (cte, columns)) in self.streams.iter_mut().zip(self.names.iter()) {
                let mut rows = Vec::new();
                while let Some(batch) = stream.next().await {
                    let batch = batch.map_err(from_datafusion)?;
                    self.executor.hold(batch.num_rows(), columns.len())?;
                    rows_of(batch.columns(), batch.num_rows(), columns, &mut rows)?;
                }
                self.executor.set_cte(*cte, rows);
            }
        }
        self.out = self.executor.run(&self.plan, None, None).await?.into_iter();
        Ok(true)
    }
}

/// A batch of rows.
pub fn batch_of(
    rows: &[Values],
    columns: &[Column],
    schema: &SchemaRef,
) -> Result<RecordBatch, SqlError> {
    let arrays = columns
        .iter()
        .enumerate()
        .map(|(i, column)| {
            let values = rows.iter().map(|row| row.get(i).unwrap_or(&Datum::Null));
            build_array(column.ty.oid, values)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).map_err(from_arrow)
}

//! The operator that gives a part what it is given.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, StreamExt};
use pontoon_kv::NodeId;

use crate::error::SqlError;
use crate::exec::error::into_datafusion;
use crate::exec::rows::Executor;
use crate::exec::vector::leaf::OwnExec;

use super::fetch::{Batches, Cursor, Pages, Reading};
use super::part::Inlet;
use super::serve::Number;
use super::wire::decode_batches;

/// The rows of an inlet, which have this schema. What it has is looked for when it is run.
pub fn inlet(executor: &Arc<Executor>, number: usize, schema: SchemaRef) -> Arc<dyn ExecutionPlan> {
    let (executor, own) = (Arc::clone(executor), Arc::clone(&schema));
    let start = move |_: Vec<SendableRecordBatchStream>| -> DfResult<SendableRecordBatchStream> {
        let batches = batches(&executor, number, &own).map_err(into_datafusion)?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&own),
            batches,
        )))
    };
    OwnExec::new("given", schema, Vec::new(), Arc::new(start))
}

fn batches(executor: &Executor, number: usize, schema: &SchemaRef) -> Result<Batches, SqlError> {
    match executor.inlets.get(number) {
        None => Err(SqlError::internal("a part lacks what it is to be given")),
        Some(Inlet::Rows(rows)) => {
            let batches = decode_batches(rows, schema)?;
            Ok(stream::iter(batches.into_iter().map(Ok)).boxed())
        }
        Some(Inlet::Shuffled { from, partitions }) => {
            let runtime = &executor.cx.runtime;
            let fellows = runtime.fellows();
            let reading = Reading {
                fellows: fellows.ok_or_else(|| SqlError::internal("there is no other node"))?,
                runtime: Arc::clone(runtime),
                txn: None,
                read: Arc::default(),
                schema: Arc::clone(schema),
                counts: None,
            };
            // All are asked at once: one of them may wait for another partition, and that one
            // for what it gives here.
            let pages = partitions.clone().flat_map(|partition| {
                let of = |from| shuffled(&reading, from, partition);
                from.iter().copied().map(of).collect::<Vec<_>>()
            });
            Ok(stream::select_all(pages).boxed())
        }
    }
}

/// What a part has for one of the partitions.
fn shuffled(reading: &Reading, (node, number): (NodeId, Number), partition: u32) -> Batches {
    let cursor = Cursor {
        node,
        number,
        partition: Some(partition),
        fellows: reading.fellows.clone(),
        open: true,
        account: None,
    };
    Pages::of(cursor, reading.clone()).batches()
}

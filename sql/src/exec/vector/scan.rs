//! The operator that scans a stored table: batches of the columns asked for, filtered, streamed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::try_unfold;

use crate::bind::tree::Column;
use crate::error::SqlError;
use crate::exec::context::ExecContext;
use crate::exec::error::{from_arrow, into_datafusion};
use crate::exec::rows::keys_of;
use crate::plan::node::{Access, TableScan};

use super::columns::{ColumnReader, Columns};
use super::evaluate::Evaluator;
use super::leaf::{OwnExec, schema_of};

/// The operator of a scan. `limit` may be given only if the scan has no filter.
pub fn scan(
    cx: &ExecContext,
    scan: &TableScan,
    columns: &[Column],
    limit: Option<u64>,
) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
    let layout = cx.layout(&scan.table)?;
    let evaluator = Arc::new(Evaluator::new(cx.clone(), columns, Vec::new()));
    let schema = schema_of(columns);
    let (cx, scan) = (cx.clone(), Arc::new(scan.clone()));
    let start_schema = Arc::clone(&schema);
    let start = move |_| {
        let keys = keys_of(&cx, &scan, None).map_err(into_datafusion)?;
        let running = Running {
            reader: ColumnReader::new(&cx, &scan, Arc::clone(&layout), keys, limit),
            scan: Arc::clone(&scan),
            evaluator: Arc::clone(&evaluator),
            schema: Arc::clone(&start_schema),
            read: 0,
            whole: limit.is_none() && matches!(scan.access, Access::Full),
        };
        let batches = try_unfold(running, |mut running| async move {
            let batch = running.next().await.map_err(into_datafusion)?;
            Ok(batch.map(|b| (b, running)))
        });
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&start_schema), batches);
        Ok(Box::pin(stream) as _)
    };
    Ok(OwnExec::new("scan", schema, Vec::new(), Arc::new(start)))
}

struct Running {
    reader: ColumnReader,
    scan: Arc<TableScan>,
    evaluator: Arc<Evaluator>,
    schema: SchemaRef,
    /// Rows read so far.
    read: usize,
    /// All rows of the table are read.
    whole: bool,
}

impl Running {
    async fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        loop {
            let Some(columns) = self.reader.next().await? else {
                if self.whole {
                    let runtime = &self.evaluator.cx.runtime;
                    runtime.set_rows_of(self.scan.table.storage, self.read);
                }
                return Ok(None);
            };
            self.read += columns.rows;
            // Whoever wants only the first rows may not ask again.
            if let Access::Part(part) = &self.scan.access {
                part.read.fetch_add(columns.rows, Ordering::Relaxed);
            }
            self.evaluator.cx.eval.check_cancelled()?;
            let batch = self.filtered(columns)?;
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
    }

    fn filtered(&self, columns: Columns) -> Result<RecordBatch, SqlError> {
        let Columns { arrays, rows } = columns;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(from_arrow)?;
        if self.scan.filter.is_empty() {
            return Ok(batch);
        }
        let mask = self.evaluator.mask(&self.scan.filter, &batch)?;
        if mask.true_count() == rows {
            return Ok(batch);
        }
        filter_record_batch(&batch, &mask).map_err(from_arrow)
    }
}

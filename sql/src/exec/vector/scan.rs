//! Scans of stored tables: rows are decoded column by column, filtered, and streamed; a task only
//! waits for the next block of the store.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::try_unfold;
use pontoon_kv::ScanOptions;

use crate::bind::tree::Column;
use crate::error::SqlError;
use crate::exec::context::ExecContext;
use crate::exec::error::{from_arrow, into_datafusion};
use crate::exec::reader::{Block, RowReader};
use crate::exec::rows::keys_of;
use crate::plan::node::{Access, TableScan};
use crate::table::{Layout, columns};

use super::evaluate::Evaluator;
use super::leaf::{OwnExec, schema_of};

/// Rows of one batch of a scan.
const SCAN_ROWS: usize = 8_192;

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
        let through_index = matches!(&scan.access, Access::Key(k) if k.index.is_some());
        let options = ScanOptions {
            reverse: scan.reverse,
            limit,
            batch_rows: SCAN_ROWS,
        };
        let reader = RowReader::new(
            cx.txn.clone(),
            scan.table.storage,
            keys,
            through_index,
            options,
        );
        let running = Running {
            reader,
            layout: Arc::clone(&layout),
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
    reader: RowReader,
    layout: Arc<Layout>,
    scan: Arc<TableScan>,
    evaluator: Arc<Evaluator>,
    schema: arrow::datatypes::SchemaRef,
    /// Rows read so far.
    read: usize,
    /// All rows of the table are read.
    whole: bool,
}

impl Running {
    async fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        loop {
            let Some(block) = self.reader.next().await? else {
                if self.whole {
                    self.evaluator
                        .cx
                        .runtime
                        .set_rows_of(self.scan.table.storage, self.read);
                }
                return Ok(None);
            };
            self.read += block.len();
            self.evaluator.cx.eval.check_cancelled()?;
            let batch = self.decoded(&block)?;
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
    }

    fn decoded(&self, block: &Block) -> Result<RecordBatch, SqlError> {
        let rows = block.len();
        let columns = if self.scan.positions.is_empty() {
            Vec::new()
        } else {
            let views = (0..rows)
                .map(|i| self.layout.view(block.value(i)))
                .collect::<Result<Vec<_>, _>>()?;
            columns::decode(&self.layout, &views, &self.scan.positions)?
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
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

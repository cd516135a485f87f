//! [`Partitioner`]: shuffles rows by their keys, so that rows with equal keys meet wherever they come
//! from.
//!
//! The partition of a row is the same on every node: the CRC-32C of the keys' bytes as rows of
//! Arrow, modulo the number of partitions.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::row::{RowConverter, SortField};
use datafusion::physical_expr::PhysicalExpr;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::bind::tree::Column;
use crate::error::SqlError;
use crate::exec::context::ExecContext;
use crate::exec::error::{from_arrow, from_datafusion};
use crate::exec::vector::evaluate::Evaluator;
use crate::exec::vector::expr::VectorExpr;

use super::serve::{PAGE_BYTES, Piece, bytes_of};
use super::wire::{Failure, Finished, Page, encode_batches};
use super::work::{Keys, Shuffle};

/// Sends rows to partitions.
pub(super) struct Partitioner<'a> {
    keys: Sorting,
    converter: Option<RowConverter>,
    partitions: Vec<Partition>,
    finished: &'a Mutex<Finished>,
}

/// By what rows are sent.
enum Sorting {
    By(Vec<Arc<dyn PhysicalExpr>>),
    First(usize),
}

/// Whoever has a partition, and what is not sent to it yet.
struct Partition {
    /// `None`: it needs no more.
    to: Option<mpsc::Sender<Piece>>,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl<'a> Partitioner<'a> {
    pub(super) fn new(to: Vec<mpsc::Sender<Piece>>, finished: &'a Mutex<Finished>) -> Self {
        let partition = |to| Partition {
            to: Some(to),
            batches: Vec::new(),
            bytes: 0,
        };
        Self {
            keys: Sorting::First(0),
            converter: None,
            partitions: to.into_iter().map(partition).collect(),
            finished,
        }
    }

    /// By what, of rows with these columns.
    pub(super) fn shuffle_by(&mut self, cx: &ExecContext, shuffle: &Shuffle, columns: &[Column]) {
        let keys = match &shuffle.keys {
            Keys::Exprs(keys) => keys,
            Keys::First(count) => {
                self.keys = Sorting::First(*count);
                return;
            }
        };
        let evaluator = Arc::new(Evaluator::new(cx.clone(), columns, Vec::new()));
        let keys = keys.iter().map(|(key, form)| {
            VectorExpr::new(Arc::clone(&evaluator), Arc::new(key.clone()), *form)
        });
        self.keys = Sorting::By(keys.collect());
    }

    /// Nobody needs any more.
    pub(super) fn is_alone(&self) -> bool {
        self.partitions
            .iter()
            .all(|partition| partition.to.is_none())
    }

    /// Sends the rows of a batch, each where it belongs.
    pub(super) async fn take(&mut self, batch: &RecordBatch) -> Result<(), SqlError> {
        for (number, rows) in self.sorted(batch)?.into_iter().enumerate() {
            let Some(partition) = self.partitions.get_mut(number).filter(|_| !rows.is_empty())
            else {
                continue;
            };
            let own = take_record_batch(batch, &UInt32Array::from(rows)).map_err(from_arrow)?;
            partition.bytes += bytes_of(&own);
            partition.batches.push(own);
            if partition.bytes >= PAGE_BYTES {
                partition.send(None, self.finished).await?;
            }
        }
        Ok(())
    }

    /// Which rows go to whom.
    fn sorted(&mut self, batch: &RecordBatch) -> Result<Vec<Vec<u32>>, SqlError> {
        let evaluated = |key: &Arc<dyn PhysicalExpr>| {
            let value = key.evaluate(batch)?;
            value.into_array(batch.num_rows())
        };
        let keys: Vec<ArrayRef> = match &self.keys {
            Sorting::By(keys) => keys.iter().map(evaluated).collect::<Result<_, _>>(),
            Sorting::First(count) => Ok(batch.columns().iter().take(*count).cloned().collect()),
        }
        .map_err(from_datafusion)?;
        let converter = match &mut self.converter {
            Some(converter) => converter,
            none => {
                let fields = keys
                    .iter()
                    .map(|key| SortField::new(key.data_type().clone()));
                let converter = RowConverter::new(fields.collect()).map_err(from_arrow)?;
                none.insert(converter)
            }
        };
        let rows = converter.convert_columns(&keys).map_err(from_arrow)?;
        let partitions = self.partitions.len().max(1);
        let mut sorted = vec![Vec::new(); partitions];
        for (row, number) in rows.iter().zip(0..) {
            let partition = crc32c::crc32c(row.data()) as usize % partitions;
            if let Some(own) = sorted.get_mut(partition) {
                own.push(number);
            }
        }
        Ok(sorted)
    }

    /// Sends what is left; there is no more.
    pub(super) async fn end(&mut self) -> Result<(), SqlError> {
        for partition in &mut self.partitions {
            partition.send(Some(0), self.finished).await?;
            partition.to = None;
        }
        Ok(())
    }

    /// Tells everybody that it has failed.
    pub(super) async fn fail(&mut self, error: SqlError) {
        let failure = Failure::from(error);
        for partition in &mut self.partitions {
            if let Some(to) = partition.to.take() {
                // It may be gone.
                let _ = to.send(Err(failure.clone())).await;
            }
        }
    }
}

impl Partition {
    async fn send(
        &mut self,
        read: Option<u64>,
        finished: &Mutex<Finished>,
    ) -> Result<(), SqlError> {
        let batches = std::mem::take(&mut self.batches);
        self.bytes = 0;
        let Some(to) = &self.to else {
            return Ok(());
        };
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let page = Page {
            batches: encode_batches(&batches)?,
            read,
            reads: Vec::new(),
        };
        let bytes = page.batches.len();
        if to.send(Ok(page)).await.is_err() {
            self.to = None;
            return Ok(());
        }
        let mut finished = finished.lock();
        finished.rows += rows as u64;
        finished.bytes += bytes as u64;
        Ok(())
    }
}

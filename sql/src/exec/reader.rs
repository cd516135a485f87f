//! Reads the rows of an access in order, block by block: by key, by span, or through an index.

use std::collections::VecDeque;

use pontoon_kv::{Key, KvBatch, Scan, ScanOptions, Span, Txn, Value};

use crate::error::SqlError;
use crate::plan::access::Keys;
use crate::table::key;

/// Keys of one batched read.
const GET_BATCH: usize = 1_024;

/// Some rows.
pub enum Block {
    /// From a scan.
    Batch(KvBatch),
    /// From reads by key.
    Values(Vec<Value>),
}

impl Block {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a row.
    pub fn value(&self, row: usize) -> &[u8] {
        match self {
            Self::Batch(batch) => batch.row(row).1,
            Self::Values(values) => values.get(row).map_or(&[], |v| v.as_ref()),
        }
    }
}

/// A running read. Sees the transaction as of its creation for each span, not later.
pub struct RowReader {
    txn: Txn,
    storage: u32,
    /// The keys name entries of an index, whose values name rows.
    through_index: bool,
    points: VecDeque<Key>,
    spans: VecDeque<Span>,
    running: Option<Scan>,
    met_newer: bool,
    options: ScanOptions,
}

impl RowReader {
    /// A read of these keys.
    pub fn new(
        txn: Txn,
        storage: u32,
        keys: Keys,
        through_index: bool,
        options: ScanOptions,
    ) -> Self {
        let (mut points, mut spans) = match keys {
            Keys::Points(points) => (VecDeque::from(points), VecDeque::new()),
            Keys::Spans(spans) => (VecDeque::new(), VecDeque::from(spans)),
        };
        if options.reverse {
            points.make_contiguous().reverse();
            spans.make_contiguous().reverse();
        }
        Self {
            txn,
            storage,
            through_index,
            points,
            spans,
            running: None,
            met_newer: false,
            options,
        }
    }

    /// Whether a key that was passed so far has a version newer than the transaction reads.
    pub fn met_newer(&self) -> bool {
        self.met_newer
    }

    /// The next rows, `None` at the end. A block may be empty.
    pub async fn next(&mut self) -> Result<Option<Block>, SqlError> {
        if !self.points.is_empty() {
            let count = self.points.len().min(GET_BATCH);
            let keys: Vec<Key> = self.points.drain(..count).collect();
            let values = self.get(&keys).await?;
            return if self.through_index {
                self.rows_of(values.iter().map(|v| v.as_ref()))
                    .await
                    .map(Some)
            } else {
                Ok(Some(Block::Values(values)))
            };
        }
        loop {
            if let Some(scan) = &mut self.running {
                let batch = scan.next_batch().await?;
                self.met_newer |= scan.met_newer();
                if let Some(batch) = batch {
                    if !self.through_index {
                        return Ok(Some(Block::Batch(batch)));
                    }
                    return self.rows_of(batch.iter().map(|(_, v)| v)).await.map(Some);
                }
                self.running = None;
            }
            let Some(span) = self.spans.pop_front() else {
                return Ok(None);
            };
            let mut options = self.options.clone();
            if self.through_index {
                options.batch_rows = options.batch_rows.min(GET_BATCH);
            }
            self.running = Some(self.txn.scan(span, options));
        }
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Value>, SqlError> {
        if let [key] = keys {
            return Ok(self.txn.get(key).await?.into_iter().collect());
        }
        Ok(self
            .txn
            .multi_get(keys)
            .await?
            .into_iter()
            .flatten()
            .collect())
    }

    async fn rows_of<'a>(
        &self,
        entries: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Block, SqlError> {
        let keys: Vec<Key> = entries
            .map(|e| key::row_key_of_entry(self.storage, e))
            .collect();
        Ok(Block::Values(self.get(&keys).await?))
    }
}

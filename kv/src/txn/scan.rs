//! [`Scan`]: a running scan of a transaction, its own writes merged in.
//!
//! It sees the transaction as of the moment it was started: the read timestamp and the writes of
//! then. What it has passed is noted in the transaction's read set batch by batch, so a scan that
//! stops early is validated for what it has seen only. It goes from range to range: one is opened
//! when the one before has nothing left.

use std::ops::Bound;

use bytes::Bytes;
use futures::FutureExt;

use crate::error::Error;
use crate::routing::Rows;
use crate::timestamp::Timestamp;
use crate::txn::api::{KvBatch, ScanOptions, Span};
use crate::txn::buffer::WriteView;
use crate::txn::reads::after;
use crate::txn::transaction::Txn;

/// Bytes after which a batch ends whatever number of rows it has.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// A running scan.
pub struct Scan {
    txn: Txn,
    at: Timestamp,
    /// What is left to pass of the range that is being scanned.
    part: Span,
    /// What is left to pass in the others.
    rest: Span,
    reverse: bool,
    left: u64,
    batch_rows: usize,
    rows: Option<Rows>,
    /// The transaction's writes, when there are some in the span.
    own: Option<WriteView>,
    /// A row of the store that comes after the next own write.
    held: Option<(Bytes, Bytes)>,
    met_newer: bool,
    done: bool,
}

impl Scan {
    pub(crate) fn new(
        txn: Txn,
        at: Timestamp,
        own: WriteView,
        span: Span,
        options: &ScanOptions,
    ) -> Self {
        let own = own.touches(&span).then_some(own);
        let done = span.start >= span.end;
        Self {
            txn,
            at,
            part: Span {
                start: span.start.clone(),
                end: span.start.clone(),
            },
            rest: span,
            reverse: options.reverse,
            left: options.limit.unwrap_or(u64::MAX),
            batch_rows: options.batch_rows.max(1),
            rows: None,
            own,
            held: None,
            met_newer: false,
            done,
        }
    }

    /// Whether a key that was passed so far has a version newer than the scan reads.
    pub fn met_newer(&self) -> bool {
        self.met_newer
    }

    /// The next rows, `None` at the end.
    pub async fn next_batch(&mut self) -> Result<Option<KvBatch>, Error> {
        while !self.done && self.left > 0 {
            let rows = match self.rows.take() {
                Some(rows) => rows,
                None => self.open_part().boxed().await?,
            };
            let batch = self.batch(rows)?;
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Opens the scan of the next range.
    async fn open_part(&mut self) -> Result<Rows, Error> {
        let opened = self.txn.open_scan(&self.rest, self.reverse, self.at);
        let (rows, part) = opened.await?;
        if self.reverse {
            self.rest.end = part.start.clone();
        } else {
            self.rest.start = part.end.clone();
        }
        self.part = part;
        Ok(rows)
    }

    /// The next rows of the range that is being scanned.
    fn batch(&mut self, mut rows: Rows) -> Result<KvBatch, Error> {
        let rows_max = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(self.batch_rows);
        let mut batch = KvBatch::default();
        let more = match self.own.take() {
            None => fill(&mut rows, &mut batch, rows_max)?,
            Some(own) => {
                let more = self.merge(&mut rows, &own, &mut batch, rows_max)?;
                self.own = Some(own);
                more
            }
        };
        self.met_newer |= rows.met_newer();
        self.left -= u64::try_from(batch.len())
            .unwrap_or(u64::MAX)
            .min(self.left);
        self.note(&batch, more)?;
        if more {
            self.rows = Some(rows);
        } else {
            debug_assert!(self.held.is_none(), "a row of the range was left behind");
            self.done = self.rest.start >= self.rest.end;
        }
        Ok(batch)
    }

    /// Notes what this batch has passed.
    fn note(&mut self, batch: &KvBatch, more: bool) -> Result<(), Error> {
        let Span { start, end } = self.part.clone();
        let passed = if !more {
            Span { start, end }
        } else {
            let (last, _) = batch.row(batch.len().saturating_sub(1));
            if self.reverse {
                let last = Bytes::copy_from_slice(last);
                self.part.end = last.clone();
                Span { start: last, end }
            } else {
                let next = after(last);
                self.part.start = next.clone();
                Span { start, end: next }
            }
        };
        self.txn.note_scan(passed, self.at)
    }

    /// Fills `batch` from the store and the own writes; returns whether there may be more.
    fn merge(
        &mut self,
        rows: &mut Rows,
        own: &WriteView,
        batch: &mut KvBatch,
        rows_max: usize,
    ) -> Result<bool, Error> {
        let mut from = Bound::Included(self.part.start.clone());
        let mut to = Bound::Excluded(self.part.end.clone());
        let mut write = own.next(from.as_ref(), to.as_ref(), self.reverse);
        loop {
            if batch.len() >= rows_max || batch.bytes() >= BATCH_BYTES_MAX {
                return Ok(true);
            }
            let stored = match self.held.take() {
                Some(row) => Some(row),
                None => rows.next()?,
            };
            let Some((key, value)) = &write else {
                let Some((key, value)) = stored else {
                    return Ok(false);
                };
                batch.push(&key, &value);
                continue;
            };
            let store_first = stored.as_ref().is_some_and(|(stored, _)| {
                if self.reverse {
                    stored > key
                } else {
                    stored < key
                }
            });
            if store_first {
                if let Some((key, value)) = stored {
                    batch.push(&key, &value);
                }
                continue;
            }
            // An equal key of the store is hidden by the own write.
            self.held = stored.filter(|(stored, _)| stored != key);
            if let Some(value) = value {
                batch.push(key, value);
            }
            *(if self.reverse { &mut to } else { &mut from }) = Bound::Excluded(key.clone());
            write = own.next(from.as_ref(), to.as_ref(), self.reverse);
        }
    }
}

fn fill(rows: &mut Rows, batch: &mut KvBatch, rows_max: usize) -> Result<bool, Error> {
    rows.for_each(&mut |key, value| {
        batch.push(key, value);
        batch.len() < rows_max && batch.bytes() < BATCH_BYTES_MAX
    })
}

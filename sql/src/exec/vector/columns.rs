//! [`ColumnReader`]: the rows of an access as columns, from the cache and from the store.
//!
//! Spans of the table itself are answered from the [`ColumnCache`] as far as it goes. What it
//! lacks is read from the store and, where a whole table is read, kept in the cache. Either way
//! the rows are those that the transaction sees, its own writes included, in key order.
//!
//! [`ColumnCache`]: super::cache::ColumnCache

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::ArrayRef;
use pontoon_kv::{Key, ScanOptions, Span, Txn, Value, Watch};

use crate::error::SqlError;
use crate::exec::context::{ExecContext, Runtime};
use crate::exec::reader::{Block, RowReader};
use crate::plan::access::Keys;
use crate::plan::node::{Access, TableScan};
use crate::table::{Layout, columns};

use super::cache::Found;
use super::chunk::{Change, Chunk, ChunkBuilder};

/// Rows of one batch.
const BATCH_ROWS: usize = 8_192;
/// A chunk of which more than one row in so many has changed is read anew.
const STALE_SHARE: usize = 8;
/// Bytes of keys and values after which a chunk is closed whatever number of rows it has.
const CHUNK_BYTES_MAX: usize = 64 << 20;

/// Some rows by columns.
#[derive(Debug)]
pub struct Columns {
    /// The columns asked for, in that order.
    pub arrays: Vec<ArrayRef>,
    /// Number of rows.
    pub rows: usize,
}

/// A running read. It sees the transaction as of the time each span is begun.
pub struct ColumnReader {
    txn: Txn,
    runtime: Arc<Runtime>,
    layout: Arc<Layout>,
    storage: u32,
    positions: Vec<usize>,
    /// Spans of the table not read yet, in order.
    spans: VecDeque<Span>,
    /// A read of the store, which comes before the spans.
    store: Option<StoreRead>,
    /// Columns of a chunk, which come before both.
    ready: VecDeque<Columns>,
    /// Whether what is read from the store is kept.
    keeps: bool,
}

/// A read of the store.
struct StoreRead {
    rows: RowReader,
    kept: Option<Kept>,
}

/// What becomes a chunk, and what notes the writes to its span and to all that is still to be
/// read after it.
struct Kept {
    builder: ChunkBuilder,
    bytes: usize,
    watch: Watch,
}

impl ColumnReader {
    /// A read of `keys`, which are those of the scan's access; with a `limit`, of the first rows.
    pub fn new(
        cx: &ExecContext,
        scan: &TableScan,
        layout: Arc<Layout>,
        keys: Keys,
        limit: Option<u64>,
    ) -> Self {
        let storage = scan.table.storage;
        let through_index = scan.through_index();
        let options = ScanOptions {
            reverse: scan.reverse,
            limit,
            batch_rows: BATCH_ROWS,
        };
        let (spans, store) = match keys {
            Keys::Spans(spans) if !through_index && !scan.reverse && limit.is_none() => {
                (spans.into(), None)
            }
            keys => {
                let rows = RowReader::new(cx.txn.clone(), storage, keys, through_index, options);
                (VecDeque::new(), Some(StoreRead { rows, kept: None }))
            }
        };
        let reads_all = match &scan.access {
            Access::Full => true,
            Access::Part(part) => part.of_all,
            Access::Key(_) => false,
        };
        let keeps = reads_all
            && cx.runtime.rows_of(storage).is_none_or(|rows| {
                let least = cx.runtime.columns().rows_min();
                rows >= least as f64
            });
        Self {
            txn: cx.txn.clone(),
            runtime: Arc::clone(&cx.runtime),
            layout,
            storage,
            positions: scan.positions.clone(),
            spans,
            store,
            ready: VecDeque::new(),
            keeps,
        }
    }

    /// The next rows, `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Columns>, SqlError> {
        loop {
            if let Some(columns) = self.ready.pop_front() {
                return Ok(Some(columns));
            }
            if self.store.is_some() {
                if let Some(columns) = self.read_store().await? {
                    return Ok(Some(columns));
                }
                continue;
            }
            let Some(span) = self.spans.front().cloned() else {
                return Ok(None);
            };
            if span.start >= span.end {
                self.spans.pop_front();
                continue;
            }
            let cache = self.runtime.columns();
            match cache.find(self.storage, &self.layout, &self.positions, &span) {
                Found::Chunk(chunk) => {
                    let end = span.end.min(chunk.span().end.clone());
                    let part = Span {
                        start: span.start,
                        end,
                    };
                    if self.read_chunk(&chunk, &part).await? {
                        self.pass(part.end);
                    } else {
                        self.runtime.columns().drop_chunk(self.storage, &chunk);
                    }
                }
                Found::Nothing(end) => {
                    let start = span.start;
                    // What is kept is noted by one range.
                    let end = match self.txn.range_end(&start) {
                        Some(range) if start < range => end.min(range),
                        _ => end,
                    };
                    self.pass(end.clone());
                    self.open(Span { start, end });
                }
            }
        }
    }

    /// What comes before `key` is dealt with.
    fn pass(&mut self, key: Key) {
        if let Some(span) = self.spans.front_mut() {
            span.start = key;
        }
    }

    /// Begins to read a span from the store.
    fn open(&mut self, span: Span) {
        let kept = if self.keeps {
            // Before the scan begins, so that no write comes between the two.
            self.txn.watch(&span).map(|watch| {
                let mut positions = self.runtime.columns().positions_of(self.storage);
                positions.retain(|p| *p < self.layout.width());
                positions.extend(&self.positions);
                Kept {
                    builder: ChunkBuilder::new(Arc::clone(&self.layout), positions),
                    bytes: 0,
                    watch,
                }
            })
        } else {
            None
        };
        let options = ScanOptions {
            reverse: false,
            limit: None,
            batch_rows: BATCH_ROWS.min(self.runtime.columns().chunk_rows()),
        };
        let keys = Keys::Spans(vec![span]);
        let rows = RowReader::new(self.txn.clone(), self.storage, keys, false, options);
        self.store = Some(StoreRead { rows, kept });
    }

    async fn read_store(&mut self) -> Result<Option<Columns>, SqlError> {
        let Some(store) = &mut self.store else {
            return Ok(None);
        };
        let Some(block) = store.rows.next().await? else {
            if let Some(kept) = self.store.take().and_then(StoreRead::into_kept) {
                self.keep_last(kept)?;
            }
            return Ok(None);
        };
        let rows = block.len();
        let Some(kept) = &mut store.kept else {
            let values = (0..rows).map(|i| block.value(i));
            let arrays = decode(&self.layout, values, &self.positions)?;
            return Ok(Some(Columns { arrays, rows }));
        };
        let positions = kept.builder.positions();
        let values = (0..rows).map(|i| block.value(i));
        let decoded = decode(&self.layout, values, positions)?;
        let wanted = self.positions.iter().filter_map(|p| {
            let at = positions.binary_search(p).ok()?;
            decoded.get(at).cloned()
        });
        let arrays = wanted.collect();
        let Block::Batch(batch) = &block else {
            return Err(SqlError::internal("a scan of a span has no keys"));
        };
        kept.builder
            .push(batch.iter().map(|(key, _)| key), &decoded);
        kept.bytes += batch.bytes();
        if store.rows.met_newer() {
            // Commits that the watch may not have heard of.
            store.kept = None;
        } else if kept.builder.len() >= self.runtime.columns().chunk_rows()
            || kept.bytes >= CHUNK_BYTES_MAX
        {
            let (last, _) = batch.row(rows.saturating_sub(1));
            if let Some(chunk) = kept.close(last)? {
                self.runtime.columns().keep(self.storage, chunk);
            }
        }
        Ok(Some(Columns { arrays, rows }))
    }

    /// Keeps what was read last, up to the end of its span.
    fn keep_last(&self, mut kept: Kept) -> Result<(), SqlError> {
        let cache = self.runtime.columns();
        // The end of a table that has chunks already, or a table that is worth it.
        let rows = kept.builder.len();
        if rows >= cache.rows_min() || (rows > 0 && cache.has(self.storage)) {
            let chunk = kept.builder.finish(kept.watch)?;
            cache.keep(self.storage, chunk);
        }
        Ok(())
    }

    /// Reads the rows of a chunk with keys in `part`; false when the chunk does not serve.
    async fn read_chunk(&mut self, chunk: &Chunk, part: &Span) -> Result<bool, SqlError> {
        let Some(keys) = self.txn.changes(chunk.watch(), part).await? else {
            return Ok(false);
        };
        if keys.len().saturating_mul(STALE_SHARE) > chunk.len() {
            return Ok(false);
        }
        let rows = chunk.rows_in(part);
        if keys.is_empty() {
            for from in rows.clone().step_by(BATCH_ROWS) {
                let to = rows.end.min(from + BATCH_ROWS);
                let arrays = chunk.slice(&self.positions, from, to);
                let rows = to - from;
                self.ready.push_back(Columns { arrays, rows });
            }
            return Ok(true);
        }
        let values = self.txn.multi_get(&keys).await?;
        let changes = chunk.changes(&keys, |n| values.get(n).is_some_and(Option::is_some));
        let present: Vec<Value> = values.into_iter().flatten().collect();
        let new = present.iter().map(AsRef::as_ref);
        let new = decode(&self.layout, new, &self.positions)?;
        self.merge(chunk, rows, &changes, &new)?;
        Ok(true)
    }

    /// Rows of a chunk with the changes put in, batch by batch.
    fn merge(
        &mut self,
        chunk: &Chunk,
        rows: std::ops::Range<usize>,
        mut changes: &[Change],
        new: &[ArrayRef],
    ) -> Result<(), SqlError> {
        let mut from = rows.start;
        loop {
            let to = rows.end.min(from + BATCH_ROWS);
            // What stands before the first row of the next batch belongs to that one.
            let count = if to == rows.end {
                changes.len()
            } else {
                changes.partition_point(|change| change.row < to)
            };
            let (here, later) = changes.split_at(count);
            let columns = if here.is_empty() {
                Columns {
                    arrays: chunk.slice(&self.positions, from, to),
                    rows: to - from,
                }
            } else {
                let (arrays, rows) = chunk.merge(&self.positions, (from, to), here, new)?;
                Columns { arrays, rows }
            };
            self.ready.push_back(columns);
            if to == rows.end {
                return Ok(());
            }
            (from, changes) = (to, later);
        }
    }
}

impl StoreRead {
    fn into_kept(self) -> Option<Kept> {
        self.kept.filter(|_| !self.rows.met_newer())
    }
}

impl Kept {
    /// A chunk of all rows so far, of which `last` is the last key. What notes the writes goes on
    /// for the rest of the span; `None` when there is no rest.
    fn close(&mut self, last: &[u8]) -> Result<Option<Chunk>, SqlError> {
        let Some(rest) = self.watch.split_after(last) else {
            return Ok(None);
        };
        let watch = std::mem::replace(&mut self.watch, rest);
        self.bytes = 0;
        self.builder.finish(watch).map(Some)
    }
}

fn decode<'a>(
    layout: &Layout,
    values: impl Iterator<Item = &'a [u8]>,
    positions: &[usize],
) -> Result<Vec<ArrayRef>, SqlError> {
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let views = values.map(|value| layout.view(value));
    let views = views.collect::<Result<Vec<_>, _>>()?;
    columns::decode(layout, &views, positions)
}

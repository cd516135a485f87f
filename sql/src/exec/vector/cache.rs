//! [`ColumnCache`]: rows of tables that were scanned, kept by columns for the scans to come.
//!
//! It holds [`Chunk`]s up to a budget of bytes. Nothing here decides whether a chunk still holds:
//! each reader asks the store what was written to the chunk's span since, under its own
//! timestamp. So the cache may forget anything at any time, and need not be told of any write.
//!
//! A table larger than the budget keeps the chunks that came first: to let a scan push out what
//! the next one begins with would make the cache useless to both. The table that was not used for
//! longest gives way to others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use pontoon_kv::{Key, Span};

use crate::table::Layout;

use super::chunk::Chunk;

/// Rows of a chunk.
const CHUNK_ROWS: usize = 65_536;
/// Tables with fewer rows are not kept.
const KEPT_ROWS_MIN: usize = 1_000;

/// Chunks by storage of their tables.
#[derive(Debug)]
pub struct ColumnCache {
    budget: usize,
    chunk_rows: usize,
    rows_min: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    tables: HashMap<u32, Table>,
    memory: usize,
    /// Counts lookups.
    now: u64,
}

#[derive(Debug, Default)]
struct Table {
    by_start: BTreeMap<Key, Arc<Chunk>>,
    used: u64,
}

/// What the cache has of a span, from its beginning on.
#[derive(Debug)]
pub enum Found {
    /// This chunk, in which the span begins.
    Chunk(Arc<Chunk>),
    /// Nothing up to this key, where a chunk begins or the span ends.
    Nothing(Key),
}

impl ColumnCache {
    /// A cache of so many bytes.
    pub fn new(budget: usize) -> Self {
        Self::with_chunks(budget, CHUNK_ROWS, KEPT_ROWS_MIN)
    }

    /// A cache of so many bytes, with chunks of so many rows, of tables of at least `rows_min`.
    pub fn with_chunks(budget: usize, chunk_rows: usize, rows_min: usize) -> Self {
        Self {
            budget,
            chunk_rows: chunk_rows.max(1),
            rows_min,
            held: Mutex::default(),
        }
    }

    /// Rows after which a chunk is closed.
    pub fn chunk_rows(&self) -> usize {
        self.chunk_rows
    }

    /// Rows below which a table is not worth keeping.
    pub fn rows_min(&self) -> usize {
        self.rows_min
    }

    /// Whether there are chunks of a table.
    pub fn has(&self, storage: u32) -> bool {
        let held = self.held.lock();
        held.tables
            .get(&storage)
            .is_some_and(|table| !table.by_start.is_empty())
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.held.lock().memory
    }

    /// What there is of a table's columns from the beginning of `span`, which is not empty.
    pub fn find(
        &self,
        storage: u32,
        layout: &Arc<Layout>,
        positions: &[usize],
        span: &Span,
    ) -> Found {
        let mut held = self.held.lock();
        held.now += 1;
        let now = held.now;
        let Some(table) = held.tables.get_mut(&storage) else {
            return Found::Nothing(span.end.clone());
        };
        table.used = now;
        let below = table.by_start.range::<Key, _>(..=&span.start).next_back();
        if let Some((_, chunk)) = below
            && chunk.span().end > span.start
            && chunk.serves(layout, positions)
        {
            return Found::Chunk(Arc::clone(chunk));
        }
        let mut later = table.by_start.range::<Key, _>(&span.start..&span.end);
        let next =
            later.find(|(start, chunk)| **start > span.start && chunk.serves(layout, positions));
        Found::Nothing(next.map_or(&span.end, |(start, _)| start).clone())
    }

    /// The columns that chunks of a table have: a new one had better have them too.
    pub fn positions_of(&self, storage: u32) -> Vec<usize> {
        let held = self.held.lock();
        let chunks = held.tables.get(&storage).map(|t| t.by_start.values());
        let last = chunks.and_then(|mut chunks| chunks.next_back());
        last.map_or_else(Vec::new, |chunk| chunk.positions().collect())
    }

    /// Keeps a chunk, if there is room, in place of those that its span touches.
    pub fn keep(&self, storage: u32, chunk: Chunk) {
        let mut held = self.held.lock();
        held.remove_span(storage, chunk.span());
        while held.memory + chunk.memory() > self.budget {
            if !held.give_way(storage) {
                return;
            }
        }
        held.memory += chunk.memory();
        let now = held.now;
        let table = held.tables.entry(storage).or_default();
        table.used = now;
        table
            .by_start
            .insert(chunk.span().start.clone(), Arc::new(chunk));
    }

    /// Drops a chunk that no longer serves.
    pub fn drop_chunk(&self, storage: u32, chunk: &Arc<Chunk>) {
        let mut held = self.held.lock();
        let Some(table) = held.tables.get_mut(&storage) else {
            return;
        };
        let start = &chunk.span().start;
        if table
            .by_start
            .get(start)
            .is_some_and(|c| Arc::ptr_eq(c, chunk))
        {
            table.by_start.remove(start);
            held.memory -= chunk.memory();
        }
    }
}

impl Held {
    fn remove_span(&mut self, storage: u32, span: &Span) {
        let Some(table) = self.tables.get_mut(&storage) else {
            return;
        };
        let touched: Vec<Key> = table
            .by_start
            .range::<Key, _>(..&span.end)
            .rev()
            .take_while(|(_, chunk)| chunk.span().end > span.start)
            .map(|(start, _)| start.clone())
            .collect();
        for start in touched {
            if let Some(removed) = table.by_start.remove(&start) {
                self.memory -= removed.memory();
            }
        }
    }

    /// Removes the table that was not used for longest, but not `but`; whether there was one.
    fn give_way(&mut self, but: u32) -> bool {
        let others = self.tables.iter().filter(|(storage, _)| **storage != but);
        let Some(oldest) = others.min_by_key(|(_, table)| table.used).map(|(s, _)| *s) else {
            return false;
        };
        if let Some(removed) = self.tables.remove(&oldest) {
            let chunks = removed.by_start.values();
            self.memory -= chunks.map(|chunk| chunk.memory()).sum::<usize>();
        }
        true
    }
}

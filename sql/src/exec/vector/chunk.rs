//! [`Chunk`]: some rows of a table as columns, in key order, and which of them still hold.
//!
//! A chunk is what a scan found in a span at one timestamp. It never changes; the [`Watch`] on its
//! span tells a later reader which keys have been written since. The reader fetches these rows
//! anew and [`Chunk::merge`] puts them in the place of the old ones.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{concat, interleave};
use pontoon_kv::{Key, Span, Watch};

use crate::error::SqlError;
use crate::exec::error::from_arrow;
use crate::table::Layout;

/// Keys one after another, in order.
#[derive(Debug, Default)]
pub struct KeyList {
    bytes: Vec<u8>,
    /// Where each key ends.
    ends: Vec<u32>,
}

impl KeyList {
    /// Adds a key that is larger than the others.
    pub fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends
            .push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The key number `n`.
    pub fn at(&self, n: usize) -> &[u8] {
        let end = self.ends.get(n).copied().unwrap_or(0) as usize;
        let start = match n.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(0) as usize,
            None => 0,
        };
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Number of keys below `key`.
    pub fn below(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.at(middle) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn memory(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

/// Rows of a span of a table, by columns.
#[derive(Debug)]
pub struct Chunk {
    watch: Watch,
    layout: Arc<Layout>,
    keys: KeyList,
    /// Positions of the table's descriptor, in order, with their values.
    columns: Vec<(usize, ArrayRef)>,
    memory: usize,
}

/// A row that takes the place of one of a chunk, or stands between two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// The row of the chunk before which it stands, or which it replaces.
    pub row: usize,
    /// Whether it replaces.
    pub replaces: bool,
    /// Its number among the new rows; `None`: it is gone.
    pub new: Option<usize>,
}

impl Chunk {
    /// The keys it is about.
    pub fn span(&self) -> &Span {
        self.watch.span()
    }

    /// What tells of changes.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// About how many bytes it holds.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Whether it was decoded with this very layout and has these columns.
    pub fn serves(&self, layout: &Arc<Layout>, positions: &[usize]) -> bool {
        Arc::ptr_eq(&self.layout, layout) && positions.iter().all(|p| self.column(*p).is_some())
    }

    /// The positions it has.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().map(|(position, _)| *position)
    }

    fn column(&self, position: usize) -> Option<&ArrayRef> {
        let found = self
            .columns
            .binary_search_by_key(&position, |(position, _)| *position)
            .ok()?;
        self.columns.get(found).map(|(_, array)| array)
    }

    /// The rows with keys in the span.
    pub fn rows_in(&self, span: &Span) -> std::ops::Range<usize> {
        self.keys.below(&span.start)..self.keys.below(&span.end)
    }

    /// Rows `from..to` of the columns at `positions`, without copying.
    pub fn slice(&self, positions: &[usize], from: usize, to: usize) -> Vec<ArrayRef> {
        let columns = positions.iter().filter_map(|p| self.column(*p));
        columns.map(|array| array.slice(from, to - from)).collect()
    }

    /// Where `keys`, in order, stand among the rows. `present` says which of them still have a
    /// row; those are numbered in order.
    pub fn changes(&self, keys: &[Key], present: impl Fn(usize) -> bool) -> Vec<Change> {
        let mut next_new = 0;
        let place = |(n, key): (usize, &Key)| {
            let row = self.keys.below(key);
            let replaces = row < self.len() && self.keys.at(row) == &key[..];
            let new = present(n).then_some(next_new);
            next_new += usize::from(new.is_some());
            Change { row, replaces, new }
        };
        keys.iter().enumerate().map(place).collect()
    }

    /// Rows `from..to` with `changes` put in, which lie among these rows; `new` are the columns at
    /// `positions` of the new rows.
    pub fn merge(
        &self,
        positions: &[usize],
        (from, to): (usize, usize),
        changes: &[Change],
        new: &[ArrayRef],
    ) -> Result<(Vec<ArrayRef>, usize), SqlError> {
        let mut order: Vec<(usize, usize)> = Vec::with_capacity(to - from + changes.len());
        let mut next = from;
        for change in changes {
            debug_assert!(change.row >= next || !change.replaces, "changes in order");
            order.extend((next..change.row).map(|row| (0, row)));
            order.extend(change.new.map(|new| (1, new)));
            next = next.max(change.row) + usize::from(change.replaces);
        }
        order.extend((next..to).map(|row| (0, row)));
        let merged = positions
            .iter()
            .filter_map(|p| self.column(*p))
            .zip(new)
            .map(|(old, new)| interleave(&[old.as_ref(), new.as_ref()], &order));
        let merged = merged.collect::<Result<Vec<_>, _>>().map_err(from_arrow)?;
        Ok((merged, order.len()))
    }
}

/// A chunk in the making.
#[derive(Debug)]
pub struct ChunkBuilder {
    layout: Arc<Layout>,
    /// In order.
    positions: Vec<usize>,
    keys: KeyList,
    parts: Vec<Vec<ArrayRef>>,
}

impl ChunkBuilder {
    /// A chunk of these columns.
    pub fn new(layout: Arc<Layout>, mut positions: Vec<usize>) -> Self {
        positions.sort_unstable();
        positions.dedup();
        let parts = positions.iter().map(|_| Vec::new()).collect();
        Self {
            layout,
            positions,
            keys: KeyList::default(),
            parts,
        }
    }

    /// The positions it wants, in order.
    pub fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Adds rows: their keys and the columns at [`Self::positions`].
    pub fn push<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>, columns: &[ArrayRef]) {
        for key in keys {
            self.keys.push(key);
        }
        for (parts, column) in self.parts.iter_mut().zip(columns) {
            parts.push(Arc::clone(column));
        }
    }

    /// The chunk, and an empty builder of the same columns. `watch` covers the rows.
    pub fn finish(&mut self, watch: Watch) -> Result<Chunk, SqlError> {
        let fresh = Self::new(Arc::clone(&self.layout), self.positions.clone());
        let Self {
            layout,
            positions,
            keys,
            parts,
        } = std::mem::replace(self, fresh);
        let mut columns = Vec::with_capacity(positions.len());
        for (position, parts) in positions.into_iter().zip(parts) {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            if !parts.is_empty() {
                columns.push((position, concat(&parts).map_err(from_arrow)?));
            }
        }
        let arrays = columns.iter().map(|(_, a)| a.get_array_memory_size());
        let memory = arrays.sum::<usize>() + keys.memory();
        debug_assert!(
            columns.iter().all(|(_, array)| array.len() == keys.len()),
            "Invariant: a chunk has a value for each key in each column"
        );
        Ok(Chunk {
            watch,
            layout,
            keys,
            columns,
            memory,
        })
    }
}

//! The contract of a storage engine.

use bytes::Bytes;

use crate::error::Error;

/// A keyspace of the engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Space {
    /// Newest versions of user keys.
    Kv,
    /// Older versions.
    History,
    /// What the store remembers for itself.
    Meta,
}

/// Changes that reach the engine together.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    /// In order; of two changes of one key the later wins.
    pub(crate) changes: Vec<(Space, Bytes, Option<Bytes>)>,
}

impl WriteBatch {
    /// Sets a key.
    pub fn put(&mut self, space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push((space, key.into(), Some(value.into())));
    }

    /// Removes a key.
    pub fn remove(&mut self, space: Space, key: impl Into<Bytes>) {
        self.changes.push((space, key.into(), None));
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there is no change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// What an engine may yet need of the disk for what has been written to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskNeeds {
    /// Bytes for flushes and merges, at most.
    pub headroom_bytes: u64,
    /// It is flushing or merging now.
    pub busy: bool,
    /// Its next writes may find no room.
    pub starved: bool,
}

/// An ordered store of bytes in a few keyspaces.
///
/// Atomicity: a batch is seen whole or not at all by every snapshot, and by whoever opens the
/// engine after a crash. [`Self::get`] outside of a snapshot may see a part of a batch: changes
/// become visible to it in the order in which they stand in the batch.
///
/// Durability: a batch survives a power failure only once [`Self::persist`] has been called after
/// it; an engine that is opened after a crash holds a prefix of the batches written.
///
/// After a failed write every later write fails: the process should end.
pub trait Engine: Send + Sync + 'static {
    /// The newest value of a key.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// A consistent view of all keyspaces as of now.
    fn snapshot(&self) -> Box<dyn EngineSnapshot>;

    /// Writes a batch. May block when the store cannot keep up.
    fn write(&self, batch: WriteBatch) -> Result<(), Error>;

    /// Makes everything written so far survive a power failure. Blocks on the disk.
    fn persist(&self) -> Result<(), Error>;

    /// Writes out what the next opening would have to read again, and makes it durable. For the
    /// end of a process; blocks on the disk.
    fn flush(&self) -> Result<(), Error> {
        self.persist()
    }

    /// Bytes on disk, roughly.
    fn disk_bytes(&self) -> u64;

    /// Allocates ahead what the next writes need, as far as the disk has room, and says what the
    /// engine may yet need. Called a few times a second; blocks on the disk.
    fn prepare_disk(&self) -> DiskNeeds {
        DiskNeeds::default()
    }
}

/// A consistent view of an engine. It holds back the removal of what it sees: drop it soon.
pub trait EngineSnapshot: Send + Sync {
    /// The value of a key.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// The rows from `start` (inclusive) to `end` (exclusive).
    fn scan(&self, space: Space, start: &[u8], end: &[u8], reverse: bool) -> Box<dyn Cursor>;
}

/// A running scan. It keeps its snapshot alive by itself.
pub trait Cursor: Send + Sync {
    /// The next row.
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error>;

    /// Hands rows to `visit` until it says false or there are none left; returns whether there
    /// may be more. Cheaper than [`Self::next`]: nothing is allocated for a row.
    fn for_each(&mut self, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<bool, Error>;
}

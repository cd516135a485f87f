//! Where the pieces of a snapshot wait until all of them have come and are installed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::ids::GroupId;
use crate::state_machine::StorageError;

/// The place of a store for snapshots that are being received.
pub trait SnapshotSpool: Send + Sync + 'static {
    /// Begins an empty one. May block on the disk.
    fn begin(&self, group: GroupId) -> Result<Box<dyn SpooledSnapshot>, StorageError>;

    /// The one that was sealed under a number; `None` when there is none (any more).
    ///
    /// # Errors
    /// When it is not whole.
    fn find(
        &self,
        group: GroupId,
        number: u64,
    ) -> Result<Option<Box<dyn SpooledSnapshot>>, StorageError>;

    /// Removes all but these.
    fn keep_only(&self, wanted: &[(GroupId, u64)]);
}

/// The pieces of a snapshot. One that was not sealed goes when it is dropped.
pub trait SpooledSnapshot: Send + 'static {
    /// Adds a piece. May block on the disk.
    fn append(&mut self, piece: Bytes) -> Result<(), StorageError>;

    /// Makes all of it survive a power failure, and returns the number under which it is found
    /// again, above zero.
    fn seal(&mut self) -> Result<u64, StorageError>;

    /// The next piece of one that was sealed, in the order in which they came.
    fn next(&mut self) -> Result<Option<Bytes>, StorageError>;

    /// Removes one that was sealed: nobody will ask for it again.
    fn discard(&mut self);
}

type Sealed = Arc<Mutex<BTreeMap<(GroupId, u64), VecDeque<Bytes>>>>;

/// A spool in memory, for tests and simulations: what is sealed is there as long as the spool is.
#[derive(Default)]
pub struct MemorySpool {
    sealed: Sealed,
}

/// A snapshot in memory.
struct MemorySpooled {
    group: GroupId,
    number: u64,
    pieces: VecDeque<Bytes>,
    sealed: Sealed,
}

impl MemorySpool {
    fn holding(
        &self,
        group: GroupId,
        number: u64,
        pieces: VecDeque<Bytes>,
    ) -> Box<dyn SpooledSnapshot> {
        Box::new(MemorySpooled {
            group,
            number,
            pieces,
            sealed: Arc::clone(&self.sealed),
        })
    }
}

impl SnapshotSpool for MemorySpool {
    fn begin(&self, group: GroupId) -> Result<Box<dyn SpooledSnapshot>, StorageError> {
        Ok(self.holding(group, 0, VecDeque::new()))
    }

    fn find(
        &self,
        group: GroupId,
        number: u64,
    ) -> Result<Option<Box<dyn SpooledSnapshot>>, StorageError> {
        let sealed = self.sealed.lock().get(&(group, number)).cloned();
        Ok(sealed.map(|pieces| self.holding(group, number, pieces)))
    }

    fn keep_only(&self, wanted: &[(GroupId, u64)]) {
        self.sealed.lock().retain(|name, _| wanted.contains(name));
    }
}

impl SpooledSnapshot for MemorySpooled {
    fn append(&mut self, piece: Bytes) -> Result<(), StorageError> {
        self.pieces.push_back(piece);
        Ok(())
    }

    fn seal(&mut self) -> Result<u64, StorageError> {
        let mut sealed = self.sealed.lock();
        let of_group = sealed.range((self.group, 0)..=(self.group, u64::MAX));
        let number = of_group.last().map_or(0, |((_, number), _)| *number) + 1;
        sealed.insert((self.group, number), self.pieces.clone());
        self.number = number;
        Ok(number)
    }

    fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        Ok(self.pieces.pop_front())
    }

    fn discard(&mut self) {
        self.sealed.lock().remove(&(self.group, self.number));
    }
}

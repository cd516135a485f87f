//! What a transaction holds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::db::Node;
use crate::oracle::Moment;
use crate::timestamp::Timestamp;
use crate::txn::api::{Key, TxnOptions, Value};
use crate::txn::asked::AskedRanges;
use crate::txn::buffer::{WriteBuffer, WriteView};
use crate::txn::reads::ReadSet;

/// The value of a key, if that is known without looking for it; it may have none.
pub(super) type KnownValue = Option<Option<Value>>;

pub(super) struct Saved {
    pub(super) id: u64,
    pub(super) writes: WriteView,
    pub(super) locks: usize,
}

pub(super) struct State {
    pub(super) read: Timestamp,
    /// What was announced last when the read timestamp was handed out.
    pub(super) announced: Timestamp,
    /// The transaction rests on the catalog as of then.
    pub(super) catalog_at: Option<Timestamp>,
    pub(super) writes: WriteBuffer,
    pub(super) saved: Vec<Saved>,
    pub(super) next_savepoint: u64,
    pub(super) reads: ReadSet,
    /// Keys that this transaction has locked, in order.
    pub(super) locks: Vec<Bytes>,
    pub(super) unwritten: Unwritten,
    pub(super) finished: bool,
}

/// Keys that had no version at all when they were locked, which is after the read timestamp: so
/// there is nothing to be read, and what is written there replaces nothing.
#[derive(Default)]
pub(super) struct Unwritten {
    /// The read timestamp. When that moves, all this is forgotten.
    pub(super) read: Timestamp,
    pub(super) keys: BTreeSet<Bytes>,
}

impl Unwritten {
    pub(super) fn add(&mut self, read: Timestamp, key: Key) {
        if self.read != read {
            self.keys.clear();
            self.read = read;
        }
        self.keys.insert(key);
    }

    pub(super) fn holds(&self, read: Timestamp, key: &[u8]) -> bool {
        self.read == read && self.keys.contains(key)
    }
}

impl State {
    /// The read timestamp moves, unless it is there already.
    pub(super) fn move_to(&mut self, moment: Moment) {
        if moment.at > self.read {
            (self.read, self.announced) = (moment.at, moment.announced);
        }
    }

    /// What is written rests on the catalog as of the read timestamp.
    pub(super) fn rest_on_catalog(&mut self) {
        let before = self.catalog_at.unwrap_or(self.read);
        self.catalog_at = Some(before.min(self.read));
    }
}

pub(super) struct Inner {
    pub(super) node: Arc<Node>,
    pub(super) options: TxnOptions,
    /// Its identity.
    pub(super) start: Timestamp,
    /// What is entered among the active transactions of the node.
    pub(super) entered: Timestamp,
    /// Whether reads are noted for validation.
    pub(super) validates: bool,
    /// Whether they are for now, though the isolation level does not ask for it.
    pub(super) validates_now: AtomicBool,
    pub(super) asked: AskedRanges,
    pub(super) state: Mutex<State>,
}

impl Inner {
    pub(super) fn notes_reads(&self) -> bool {
        self.validates || self.validates_now.load(Ordering::Relaxed)
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.options.read_only || self.options.as_of.is_some()
    }

    pub(super) fn release(&self, keys: Vec<Bytes>) {
        if keys.is_empty() {
            return;
        }
        for replica in self.node.replicas() {
            replica.unlock(self.start, keys.iter());
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let keys = std::mem::take(&mut self.state.get_mut().locks);
        self.release(keys);
        self.node.active.leave(self.entered);
    }
}

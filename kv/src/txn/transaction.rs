//! [`Txn`]: a transaction, its life but for what it reads ([`super::read`]), locks ([`super::lock`]) and
//! commits ([`super::commit`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::db::Node;
use crate::error::Error;
use crate::keys;
use crate::oracle::Moment;
use crate::range::WriteEntry;
use crate::timestamp::Timestamp;
use crate::txn::api::{IsolationLevel, Key, Savepoint, TxnOptions, Value};
use crate::txn::asked::AskedRanges;
use crate::txn::buffer::WriteBuffer;
use crate::txn::reads::ReadSet;
use crate::txn::state::{Inner, Saved, State, Unwritten};

/// A transaction. Clones are handles of the same transaction; it is rolled back when the last one
/// is dropped uncommitted.
///
/// Cancellation: dropping the future of any method but [`Self::commit`] leaves the transaction as
/// it was, save that it may hold locks that it asked for. Dropping a running commit leaves its
/// outcome open.
#[derive(Clone)]
pub struct Txn {
    pub(super) inner: Arc<Inner>,
}

impl Txn {
    pub(crate) async fn begin(node: &Arc<Node>, options: TxnOptions) -> Result<Self, Error> {
        if let Some(at) = options.as_of {
            // A read of the future would not be repeatable.
            if at > node.timestamps.now().await? {
                let message = format!("timestamp {at} lies in the future");
                return Err(Error::Unavailable { message });
            }
            node.active.enter(|| Some(at));
            return Ok(Self::begun(node, options, Moment::alone(at)));
        }
        let mut taken = None;
        node.active.enter(|| {
            taken = node.timestamps.try_moment();
            taken.map(|moment| moment.at)
        });
        let moment = match taken {
            Some(moment) => moment,
            None => {
                let moment = node.timestamps.moment().await?;
                node.active.enter(|| Some(moment.at));
                moment
            }
        };
        Ok(Self::begun(node, options, moment))
    }

    /// A transaction that only reads, as of a timestamp that another one of this cluster reads at:
    /// it does a part of that one's work. The other one keeps the timestamp from being collected on
    /// its node, this one does on this node. It may note what it reads, for the other one to validate.
    pub(crate) fn begin_at(node: &Arc<Node>, at: Timestamp, notes_reads: bool) -> Self {
        node.active.enter(|| Some(at));
        let options = TxnOptions {
            read_only: true,
            as_of: Some(at),
            ..TxnOptions::default()
        };
        let txn = Self::begun(node, options, Moment::alone(at));
        let notes = &txn.inner.validates_now;
        notes.store(notes_reads, Ordering::Relaxed);
        txn
    }

    /// A transaction whose timestamp was entered among those that are read at.
    fn begun(node: &Arc<Node>, options: TxnOptions, moment: Moment) -> Self {
        let start = moment.at;
        let read_only = options.read_only || options.as_of.is_some();
        let validates = !read_only && options.isolation == IsolationLevel::Serializable;
        let state = State {
            read: start,
            announced: moment.announced,
            catalog_at: None,
            writes: WriteBuffer::default(),
            saved: Vec::new(),
            next_savepoint: 0,
            reads: ReadSet::default(),
            locks: Vec::new(),
            unwritten: Unwritten::default(),
            finished: false,
        };
        let inner = Inner {
            node: Arc::clone(node),
            options,
            start,
            entered: start,
            validates,
            validates_now: AtomicBool::new(false),
            asked: AskedRanges::default(),
            state: Mutex::new(state),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Its identity: the timestamp with which it began.
    pub fn start_timestamp(&self) -> Timestamp {
        self.inner.start
    }

    /// The timestamp at which it reads.
    pub fn read_timestamp(&self) -> Timestamp {
        self.inner.state.lock().read
    }

    /// How it was opened.
    pub fn options(&self) -> &TxnOptions {
        &self.inner.options
    }

    /// Whether it has buffered writes.
    pub fn has_writes(&self) -> bool {
        !self.inner.state.lock().writes.is_empty()
    }

    /// Begins a statement: at READ COMMITTED the read timestamp moves to now. Call it before every
    /// statement at every isolation level: what the statement reads is given up when
    /// [`Self::lock`] moves the read timestamp and the statement is run again.
    pub async fn begin_statement(&self) -> Result<(), Error> {
        let moves = self.inner.options.isolation == IsolationLevel::ReadCommitted
            && self.inner.options.as_of.is_none();
        let now = if moves {
            Some(self.inner.node.timestamps.next().await?)
        } else {
            None
        };
        let mut state = self.inner.state.lock();
        if state.finished {
            return Err(Error::Finished);
        }
        state.reads.begin_statement();
        if let Some(now) = now {
            state.move_to(now);
        }
        Ok(())
    }

    /// When the catalog is read that this transaction sees, for what was read of it before to serve
    /// again ([`super::Remembered`]). That counts as a read. `None` when the transaction itself has
    /// changed the catalog.
    pub(super) fn catalog_moment(&self) -> Option<Moment> {
        let mut state = self.inner.state.lock();
        if state.finished || state.writes.get(keys::CATALOG_VERSION).is_some() {
            return None;
        }
        if self.inner.notes_reads() {
            state.rest_on_catalog();
        }
        Some(Moment {
            at: state.read,
            announced: state.announced,
        })
    }

    /// Makes the commit depend on the catalog: whatever the isolation level, it fails with
    /// [`Error::Conflict`] if another transaction has changed the catalog after the read timestamp of
    /// this moment. For what is written rests on it, though no row that was read shows that.
    pub fn require_catalog(&self) {
        if !self.inner.is_read_only() {
            self.inner.state.lock().rest_on_catalog();
        }
    }

    /// From now on, or until it is turned off, all reads are validated at commit, also at the
    /// isolation levels that do not ask for it. For reads that constraints and indexes rest on.
    pub fn validate_reads(&self, on: bool) {
        let on = on && !self.inner.is_read_only();
        self.inner.validates_now.store(on, Ordering::Relaxed);
    }

    /// Whether what it reads is noted, to be validated at commit.
    pub fn notes_reads(&self) -> bool {
        self.inner.notes_reads()
    }

    /// The node that holds it.
    pub(super) fn node(&self) -> &Arc<Node> {
        &self.inner.node
    }

    /// Buffers a write.
    pub fn put(&self, key: Key, value: Value) -> Result<(), Error> {
        self.write(key, Some(value))
    }

    /// Buffers a deletion.
    pub fn delete(&self, key: Key) -> Result<(), Error> {
        self.write(key, None)
    }

    fn write(&self, key: Key, value: Option<Value>) -> Result<(), Error> {
        debug_assert!(
            !self.inner.options.read_only && self.inner.options.as_of.is_none(),
            "a read-only transaction does not write"
        );
        let mut state = self.inner.state.lock();
        if state.finished || self.inner.options.read_only || self.inner.options.as_of.is_some() {
            return Err(Error::Finished);
        }
        let bytes = state.writes.bytes() + WriteBuffer::cost(&key, value.as_ref());
        let limit = self.inner.node.config.txn_bytes_max;
        if bytes > limit {
            return Err(Error::TooLarge { bytes, limit });
        }
        let base = state.read;
        let unwritten = state.unwritten.holds(base, &key);
        let write = WriteEntry {
            value,
            base,
            unwritten,
        };
        state.writes.put(key, write);
        Ok(())
    }

    /// Marks a point to which [`Self::rollback_to`] can return.
    pub fn savepoint(&self) -> Savepoint {
        let mut state = self.inner.state.lock();
        state.next_savepoint += 1;
        let id = state.next_savepoint;
        let (writes, locks) = (state.writes.view(), state.locks.len());
        state.saved.push(Saved { id, writes, locks });
        Savepoint(id)
    }

    /// Takes back all writes since the savepoint, which stays usable, and gives back the locks
    /// taken since.
    pub fn rollback_to(&self, savepoint: Savepoint) -> Result<(), Error> {
        let mut guard = self.inner.state.lock();
        let state = &mut *guard;
        if !state.saved.iter().any(|saved| saved.id == savepoint.0) {
            return Err(Error::Finished);
        }
        state.saved.retain(|saved| saved.id <= savepoint.0);
        let Some(saved) = state.saved.last() else {
            return Err(Error::Finished);
        };
        state.writes.restore(&saved.writes);
        let released = state.locks.split_off(saved.locks.min(state.locks.len()));
        drop(guard);
        self.inner.release(released);
        Ok(())
    }

    /// Forgets the savepoint and those after it; the writes stay.
    pub fn release(&self, savepoint: Savepoint) -> Result<(), Error> {
        self.inner
            .state
            .lock()
            .saved
            .retain(|saved| saved.id < savepoint.0);
        Ok(())
    }
}

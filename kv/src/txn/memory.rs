//! A first form of the transaction over a map in memory, with the signatures of the final one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::Error;
use crate::timestamp::Timestamp;
use crate::txn::api::{
    CommitInfo, Key, KvBatch, LockStrength, LockWait, Savepoint, ScanOptions, Span, TxnOptions,
    Value,
};

type Versions = BTreeMap<Key, Vec<(Timestamp, Option<Value>)>>;
type Writes = BTreeMap<Key, Option<Value>>;

/// The store as one node sees it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Db {
    clock: Arc<AtomicU64>,
    versions: Arc<Mutex<Versions>>,
}

impl Db {
    /// An empty store in memory, for tests.
    pub fn in_memory() -> Self {
        Self::default()
    }

    fn tick(&self) -> Timestamp {
        Timestamp(self.clock.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Opens a transaction.
    pub async fn begin(&self, options: TxnOptions) -> Result<Txn, Error> {
        let read = options.as_of.unwrap_or_else(|| self.tick());
        Ok(Txn {
            inner: Arc::new(Inner {
                db: self.clone(),
                options,
                state: Mutex::new(State {
                    read,
                    ..State::default()
                }),
            }),
        })
    }

    /// A timestamp not below any that was handed out before the call.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        Ok(self.tick())
    }
}

#[derive(Default)]
struct State {
    read: Timestamp,
    writes: Arc<Writes>,
    saved: Vec<(u64, Arc<Writes>)>,
    next_savepoint: u64,
    spans: Vec<Span>,
    finished: bool,
}

struct Inner {
    db: Db,
    options: TxnOptions,
    state: Mutex<State>,
}

/// A transaction. Clones are handles of the same transaction; it is rolled back when the last one
/// is dropped uncommitted.
#[derive(Clone)]
pub struct Txn {
    inner: Arc<Inner>,
}

impl Txn {
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

    /// Begins a statement: at READ COMMITTED the read timestamp moves to now.
    pub async fn begin_statement(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Reads one key.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Value>, Error> {
        let mut state = self.inner.state.lock();
        if state.finished {
            return Err(Error::Finished);
        }
        if let Some(own) = state.writes.get(key) {
            return Ok(own.clone());
        }
        state.spans.push(Span::point(key));
        Ok(visible(&self.inner.db.versions.lock(), key, state.read))
    }

    /// Reads several keys, in the order asked.
    pub async fn multi_get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, Error> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(self.get(key).await?);
        }
        Ok(found)
    }

    /// Starts a scan over what the transaction sees at this moment, its own writes included.
    /// Writes that follow are not seen by it.
    pub fn scan(&self, span: Span, options: ScanOptions) -> Scan {
        let mut state = self.inner.state.lock();
        state.spans.push(span.clone());
        let mut rows: BTreeMap<Key, Value> = BTreeMap::new();
        let versions = self.inner.db.versions.lock();
        for (key, _) in versions.range(span.start.clone()..span.end.clone()) {
            if let Some(value) = visible(&versions, key, state.read) {
                rows.insert(key.clone(), value);
            }
        }
        for (key, value) in state.writes.range(span.start.clone()..span.end.clone()) {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        if !options.reverse {
            rows.reverse();
        }
        Scan {
            rows,
            left: options.limit.unwrap_or(u64::MAX),
            batch_rows: options.batch_rows,
        }
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
        let mut state = self.inner.state.lock();
        if state.finished {
            return Err(Error::Finished);
        }
        Arc::make_mut(&mut state.writes).insert(key, value);
        Ok(())
    }

    /// Locks keys until the end of the transaction; returns the keys that were locked (fewer than
    /// asked only under [`LockWait::SkipLocked`]).
    ///
    /// When a key has a version newer than the read timestamp, the transaction first tries to
    /// move its read timestamp to now (nothing that it has read changed): the caller sees that by
    /// [`Self::read_timestamp`] having moved, and must run its statement again. Otherwise
    /// [`Error::Conflict`].
    pub async fn lock(
        &self,
        keys: &[Key],
        strength: LockStrength,
        wait: LockWait,
    ) -> Result<Vec<Key>, Error> {
        let _ = (strength, wait);
        Ok(keys.to_vec())
    }

    /// Marks a point to which [`Self::rollback_to`] can return.
    pub fn savepoint(&self) -> Savepoint {
        let mut state = self.inner.state.lock();
        state.next_savepoint += 1;
        let id = state.next_savepoint;
        let writes = Arc::clone(&state.writes);
        state.saved.push((id, writes));
        Savepoint(id)
    }

    /// Takes back all writes since the savepoint, which stays usable.
    pub fn rollback_to(&self, savepoint: Savepoint) -> Result<(), Error> {
        let mut state = self.inner.state.lock();
        state.saved.retain(|(id, _)| *id <= savepoint.0);
        let Some((_, writes)) = state.saved.last() else {
            return Err(Error::Finished);
        };
        state.writes = Arc::clone(writes);
        Ok(())
    }

    /// Forgets the savepoint and those after it; the writes stay.
    pub fn release(&self, savepoint: Savepoint) -> Result<(), Error> {
        self.inner
            .state
            .lock()
            .saved
            .retain(|(id, _)| *id < savepoint.0);
        Ok(())
    }

    /// Makes all writes visible at one timestamp, durably, or none.
    pub async fn commit(&self) -> Result<CommitInfo, Error> {
        let mut state = self.inner.state.lock();
        if std::mem::replace(&mut state.finished, true) {
            return Err(Error::Finished);
        }
        if state.writes.is_empty() {
            return Ok(CommitInfo {
                timestamp: state.read,
            });
        }
        let mut versions = self.inner.db.versions.lock();
        let newer = |at: Option<&Vec<(Timestamp, Option<Bytes>)>>| {
            at.and_then(|v| v.last())
                .is_some_and(|(ts, _)| *ts > state.read)
        };
        if state.writes.keys().any(|k| newer(versions.get(k))) {
            return Err(Error::Conflict {
                reason: "concurrent update",
            });
        }
        for span in &state.spans {
            if versions
                .range(span.start.clone()..span.end.clone())
                .any(|(_, v)| newer(Some(v)))
            {
                return Err(Error::Conflict {
                    reason: "read/write dependencies among transactions",
                });
            }
        }
        let timestamp = self.inner.db.tick();
        for (key, value) in state.writes.iter() {
            versions
                .entry(key.clone())
                .or_default()
                .push((timestamp, value.clone()));
        }
        Ok(CommitInfo { timestamp })
    }

    /// Ends the transaction without a trace.
    pub async fn rollback(&self) {
        self.inner.state.lock().finished = true;
    }
}

fn visible(versions: &Versions, key: &[u8], read: Timestamp) -> Option<Value> {
    versions
        .get(key)?
        .iter()
        .rev()
        .find(|(ts, _)| *ts <= read)?
        .1
        .clone()
}

/// A running scan.
pub struct Scan {
    rows: Vec<(Key, Value)>,
    left: u64,
    batch_rows: usize,
}

impl Scan {
    /// The next rows, `None` at the end.
    pub async fn next_batch(&mut self) -> Result<Option<KvBatch>, Error> {
        let mut batch = KvBatch::default();
        while self.left > 0 && batch.len() < self.batch_rows {
            let Some((key, value)) = self.rows.pop() else {
                break;
            };
            batch.push(&key, &value);
            self.left -= 1;
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

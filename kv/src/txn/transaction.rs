//! [`Txn`]: a transaction.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use parking_lot::Mutex;

use crate::db::Node;
use crate::error::{ConflictReason, Error};
use crate::keys;
use crate::oracle::Moment;
use crate::range::{CommitRequest, ReadEntry, Refusal, Watch, WriteEntry};
use crate::routing::{Route, Rows, plain};
use crate::timestamp::Timestamp;
use crate::txn::api::{
    CommitInfo, IsolationLevel, Key, Led, LockStrength, LockWait, Savepoint, ScanOptions, Span,
    TxnOptions, Value,
};
use crate::txn::asked::{Asked, AskedRanges};
use crate::txn::buffer::{WriteBuffer, WriteView};
use crate::txn::reads::{ReadSet, catalog_read};
use crate::txn::scan::Scan;
use crate::txn::several;

/// Writes of its own in a span that a transaction reads through a [`Watch`].
const OWN_CHANGES_MAX: usize = 8_192;

/// The value of a key, if that is known without looking for it; it may have none.
pub(super) type Known = Option<Option<Value>>;

struct Saved {
    id: u64,
    writes: WriteView,
    locks: usize,
}

struct State {
    read: Timestamp,
    /// What was announced last when the read timestamp was handed out.
    announced: Timestamp,
    /// The transaction rests on the catalog as of then.
    catalog_at: Option<Timestamp>,
    writes: WriteBuffer,
    saved: Vec<Saved>,
    next_savepoint: u64,
    reads: ReadSet,
    /// Keys that this transaction has locked, in order.
    locks: Vec<Bytes>,
    unwritten: Unwritten,
    finished: bool,
}

/// Keys that had no version at all when they were locked, which is after the read timestamp: so
/// there is nothing to be read, and what is written there replaces nothing.
#[derive(Default)]
struct Unwritten {
    /// The read timestamp. When that moves, all this is forgotten.
    read: Timestamp,
    keys: BTreeSet<Bytes>,
}

impl Unwritten {
    fn add(&mut self, read: Timestamp, key: Key) {
        if self.read != read {
            self.keys.clear();
            self.read = read;
        }
        self.keys.insert(key);
    }

    fn holds(&self, read: Timestamp, key: &[u8]) -> bool {
        self.read == read && self.keys.contains(key)
    }
}

impl State {
    /// The read timestamp moves, unless it is there already.
    fn move_to(&mut self, moment: Moment) {
        if moment.at > self.read {
            (self.read, self.announced) = (moment.at, moment.announced);
        }
    }

    /// What is written rests on the catalog as of the read timestamp.
    fn rest_on_catalog(&mut self) {
        let before = self.catalog_at.unwrap_or(self.read);
        self.catalog_at = Some(before.min(self.read));
    }

    fn take_for_commit(&mut self, start: Timestamp) -> CommitRequest {
        let writes = self.writes.take();
        let mut reads = self.reads.take_for_commit(&writes);
        let mut catalog_at = self.catalog_at;
        if let Some(version) = writes.get(keys::CATALOG_VERSION) {
            // Its own write is checked anyway, from its base on.
            let unchecked = catalog_at.take().filter(|at| *at < version.base);
            reads.extend(unchecked.map(catalog_read));
        }
        CommitRequest {
            start,
            writes,
            reads,
            catalog_at,
        }
    }
}

struct Inner {
    node: Arc<Node>,
    options: TxnOptions,
    /// Its identity.
    start: Timestamp,
    /// What is entered among the active transactions of the node.
    entered: Timestamp,
    /// Whether reads are noted for validation.
    validates: bool,
    /// Whether they are for now, though the isolation level does not ask for it.
    validates_now: AtomicBool,
    asked: AskedRanges,
    state: Mutex<State>,
}

impl Inner {
    fn notes_reads(&self) -> bool {
        self.validates || self.validates_now.load(Ordering::Relaxed)
    }

    fn is_read_only(&self) -> bool {
        self.options.read_only || self.options.as_of.is_some()
    }

    fn release(&self, keys: Vec<Bytes>) {
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

/// A transaction. Clones are handles of the same transaction; it is rolled back when the last one
/// is dropped uncommitted.
///
/// Cancellation: dropping the future of any method but [`Self::commit`] leaves the transaction as
/// it was, save that it may hold locks that it asked for. Dropping a running commit leaves its
/// outcome open.
#[derive(Clone)]
pub struct Txn {
    inner: Arc<Inner>,
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

    /// Reads one key.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Value>, Error> {
        let (read, is_unwritten) = {
            let state = self.inner.state.lock();
            if state.finished {
                return Err(Error::Finished);
            }
            if let Some(own) = state.writes.get(key) {
                return Ok(own.value.clone());
            }
            (state.read, state.unwritten.holds(state.read, key))
        };
        let value = if is_unwritten {
            None
        } else {
            self.get_stored(key, read).await?
        };
        if self.inner.notes_reads() {
            self.inner.state.lock().reads.add_point(key, read);
        }
        Ok(value)
    }

    async fn get_stored(&self, key: &[u8], read: Timestamp) -> Result<Option<Value>, Error> {
        if let Some(value) = self.stored_at_once(key, read) {
            return value;
        }
        // Whatever may wait is boxed, so that the futures of those above stay small.
        let node = &self.inner.node;
        let found = || async { node.get(&node.route(key)?, key, read).await };
        let value = self.settling(found).boxed().await;
        if self.inner.asked.are_wanted() {
            let found = value.as_ref().ok().and_then(Option::as_ref);
            self.note_asked(key, |away| {
                let value = found.filter(|_| away);
                value.map(|value| (key, value)).into_iter().collect()
            });
        }
        value
    }

    /// What is stored under a key, if that needs neither waiting nor a message.
    pub(super) fn stored_at_once(
        &self,
        key: &[u8],
        read: Timestamp,
    ) -> Option<Result<Option<Value>, Error>> {
        let replica = self.inner.node.ranges.at(key)?;
        let value = replica.try_get(key, read)?;
        if self.inner.asked.are_wanted() {
            self.note_asked(key, |_| Vec::new());
        }
        Some(value)
    }

    /// Begins to note which ranges are asked, until [`Self::take_asked`].
    pub fn count_asked(&self) {
        self.inner.asked.begin();
    }

    /// Which ranges were asked since [`Self::count_asked`].
    pub fn take_asked(&self) -> Vec<Asked> {
        self.inner.asked.take()
    }

    /// Notes a request to the range that holds `key`; `received` gives its rows, told whether the
    /// range is led by another node.
    fn note_asked<'a>(
        &self,
        key: &[u8],
        received: impl FnOnce(bool) -> Vec<(&'a [u8], &'a Bytes)>,
    ) {
        let node = &self.inner.node;
        if let Ok(route) = node.route(key) {
            let leader = node.led_by(&route);
            let away = leader != Some(node.id());
            self.inner.asked.note(route.range(), leader, received(away));
        }
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

    /// Takes out what was noted so far, for [`Self::note_reads`] of the transaction that this one works
    /// for. Of many keys, the spans between neighbours.
    pub fn take_reads(&self) -> Vec<ReadEntry> {
        self.inner.state.lock().reads.take()
    }

    /// Notes what another transaction has read for this one.
    pub fn note_reads(&self, entries: Vec<ReadEntry>) -> Result<(), Error> {
        if !self.inner.notes_reads() {
            return Ok(());
        }
        let mut state = self.inner.state.lock();
        if state.finished {
            return Err(Error::Finished);
        }
        state.reads.add(entries);
        Ok(())
    }

    /// The node that holds it.
    pub(super) fn node(&self) -> &Arc<Node> {
        &self.inner.node
    }

    /// The read timestamp, and of each key the value that is known without looking for it: what was
    /// written here, and none where there was none when it was locked.
    pub(super) fn known(&self, keys: &[Key]) -> Result<(Timestamp, Vec<Known>), Error> {
        let state = self.inner.state.lock();
        if state.finished {
            return Err(Error::Finished);
        }
        let read = state.read;
        let known = |key: &Key| match state.writes.get(key) {
            Some(own) => Some(own.value.clone()),
            None => state.unwritten.holds(read, key).then_some(None),
        };
        Ok((read, keys.iter().map(known).collect()))
    }

    /// Notes that keys were read, but those that were written here.
    pub(super) fn note_gets(&self, keys: &[Key], read: Timestamp) {
        if !self.inner.notes_reads() {
            return;
        }
        let mut guard = self.inner.state.lock();
        let state = &mut *guard;
        for key in keys {
            if state.writes.get(key).is_none() {
                state.reads.add_point(key, read);
            }
        }
    }

    /// Notes a request for several keys, with the values that it brought.
    pub(super) fn note_values(&self, keys: &[Key], values: &[Option<Value>]) {
        let Some(first) = keys.first().filter(|_| self.inner.asked.are_wanted()) else {
            return;
        };
        self.note_asked(first, |away| {
            let rows = keys.iter().zip(values).filter(|_| away);
            let rows = rows.filter_map(|(key, value)| Some((key.as_ref(), value.as_ref()?)));
            rows.collect()
        });
    }

    /// Starts a scan over what the transaction sees at this moment, its own writes included.
    /// Writes that follow are not seen by it.
    pub fn scan(&self, span: Span, options: ScanOptions) -> Scan {
        let (read, view) = {
            let mut state = self.inner.state.lock();
            (state.read, state.writes.view())
        };
        Scan::new(self.clone(), read, view, span, &options)
    }

    /// Where the range ends that holds `key`, as far as is known on this node at this moment.
    pub fn range_end(&self, key: &[u8]) -> Option<Key> {
        let route = self.inner.node.route(key).ok()?;
        Some(route.span().end)
    }

    /// The parts of `span` in different ranges, in order, as far as is known here. Only a hint:
    /// whoever is asked may have to ask others.
    pub fn leaders(&self, span: &Span) -> Vec<Led> {
        let node = &self.inner.node;
        let mut parts = Vec::new();
        let mut left = span.clone();
        while left.start < left.end {
            let part = match node.route_part(&left, false) {
                Ok((route, span)) => Led {
                    span,
                    range: Some(route.range()),
                    leader: node.led_by(&route),
                },
                Err(_) => Led {
                    span: left.clone(),
                    range: None,
                    leader: None,
                },
            };
            left.start = part.span.end.clone();
            parts.push(part);
        }
        parts
    }

    /// Begins to note what others write to `span`, for a cache of what a [`Self::scan`] finds that
    /// is started afterwards. `None` when it would find writes of this transaction too, or when no
    /// one range holds the span.
    pub fn watch(&self, span: &Span) -> Option<Watch> {
        let mut state = self.inner.state.lock();
        if state.finished || state.writes.view().touches(span) {
            return None;
        }
        let replica = self.inner.node.held_whole(span)?;
        let leads = self.inner.node.leads(&replica);
        leads.then(|| replica.watch(span.clone(), state.read))
    }

    /// The keys of `within` that this transaction may see otherwise than the scan at the beginning
    /// of `watch` did, in order: written by others since, or by itself. The span counts as read.
    /// `None` when that is not known, or there are more than a few thousand.
    pub async fn changes(&self, watch: &Watch, within: &Span) -> Result<Option<Vec<Key>>, Error> {
        let (read, own) = {
            let mut state = self.inner.state.lock();
            if state.finished {
                return Err(Error::Finished);
            }
            (state.read, state.writes.view())
        };
        let node = &self.inner.node;
        let replica = node.held_whole(within);
        let Some(replica) = replica.filter(|replica| node.leads(replica)) else {
            return Ok(None);
        };
        let written = || async {
            match replica.written_since(watch, within, read).await {
                Err(Refusal::Moved) => Ok(None),
                other => other,
            }
        };
        let Some(mut keys) = self.settling(written).boxed().await? else {
            return Ok(None);
        };
        if own.touches(within) {
            let Some(own) = own.keys_in(within, OWN_CHANGES_MAX) else {
                return Ok(None);
            };
            keys.extend(own);
            keys.sort_unstable();
            keys.dedup();
        }
        self.note_scan(within.clone(), read)?;
        Ok(Some(keys))
    }

    /// Opens a scan of the part of `span` that comes first (in reverse: last) and lies in one
    /// range; returns that part too.
    pub(crate) async fn open_scan(
        &self,
        span: &Span,
        reverse: bool,
        at: Timestamp,
    ) -> Result<(Rows, Span), Error> {
        if self.inner.state.lock().finished {
            return Err(Error::Finished);
        }
        let node = &self.inner.node;
        let opened = || async {
            let (route, part) = node.route_part(span, reverse)?;
            node.scan(&route, part, reverse, at).await
        };
        let opened = self.settling(opened).await?;
        if self.inner.asked.are_wanted() {
            let (rows, part) = &opened;
            self.note_asked(&part.start, |_| rows.received());
        }
        Ok(opened)
    }

    /// Notes that a scan at `at` has passed `span`, wherever it was done.
    pub fn note_scan(&self, span: Span, at: Timestamp) -> Result<(), Error> {
        if self.inner.notes_reads() {
            let mut state = self.inner.state.lock();
            if state.finished {
                return Err(Error::Finished);
            }
            state.reads.add_range(span, at);
        }
        Ok(())
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

    /// Locks keys until the end of the transaction; returns the keys that were locked (fewer than
    /// asked only under [`LockWait::SkipLocked`]).
    ///
    /// When a key has a version newer than the read timestamp, the transaction first tries to
    /// move its read timestamp to now (nothing that it has read in earlier statements changed):
    /// the caller sees that by [`Self::read_timestamp`] having moved, and must run its statement
    /// again. Otherwise [`Error::Conflict`].
    pub async fn lock(
        &self,
        keys: &[Key],
        strength: LockStrength,
        wait: LockWait,
    ) -> Result<Vec<Key>, Error> {
        let read = {
            let state = self.inner.state.lock();
            if state.finished {
                return Err(Error::Finished);
            }
            state.read
        };
        let mut locked = Vec::with_capacity(keys.len());
        for key in keys {
            if self.lock_one(key, strength, wait).boxed().await? {
                locked.push(key.clone());
            }
        }
        // Also by commits that are under way: their holders may not have locked them.
        let written = self.last_written(&locked).boxed().await?;
        let moved = written.iter().flatten().any(|newest| *newest > read);
        {
            let mut state = self.inner.state.lock();
            for (key, _) in locked.iter().zip(&written).filter(|(_, w)| w.is_none()) {
                state.unwritten.add(read, key.clone());
            }
        }
        if moved {
            self.refresh().boxed().await?;
        }
        Ok(locked)
    }

    /// Locks a key; false when it was skipped.
    async fn lock_one(
        &self,
        key: &Key,
        strength: LockStrength,
        wait: LockWait,
    ) -> Result<bool, Error> {
        let node = &self.inner.node;
        let replica = node.ranges.at(key);
        let Some(replica) = replica.filter(|replica| node.leads(replica)) else {
            // A courtesy that ends at the node: the commit finds what it would have prevented.
            return Ok(true);
        };
        // Entered before, so that it is released whatever becomes of this call.
        self.inner.state.lock().locks.push(key.clone());
        let outcome = replica.lock(self.inner.start, key, strength, wait).await;
        if !matches!(outcome, Ok(Some(true))) {
            let mut state = self.inner.state.lock();
            if let Some(at) = state.locks.iter().rposition(|locked| locked == key) {
                state.locks.remove(at);
            }
        }
        match outcome {
            // As above.
            Err(Refusal::Elsewhere(_)) => Ok(true),
            outcome => Ok(outcome.map_err(plain)?.is_some()),
        }
    }

    /// Moves the read timestamp to now, if nothing that earlier statements have read has changed.
    async fn refresh(&self) -> Result<(), Error> {
        let moment = self.inner.node.timestamps.next().await?;
        let now = moment.at;
        let mut entries = Vec::new();
        if self.inner.options.isolation == IsolationLevel::RepeatableRead {
            // Its one snapshot is a promise; without a record of what it has read, whatever it
            // has done so far stands against moving it.
            return Err(Error::Conflict {
                reason: ConflictReason::ConcurrentUpdate,
            });
        }
        if self.inner.validates {
            let catalog_at = {
                let mut state = self.inner.state.lock();
                entries = state.reads.take_for_refresh();
                state.catalog_at
            };
            let valid = self.validate_upto(&entries, catalog_at, moment);
            if let Err(error) = valid.await {
                self.inner
                    .state
                    .lock()
                    .reads
                    .put_back(entries, Timestamp::ZERO);
                return Err(match error {
                    Error::Conflict { .. } => Error::Conflict {
                        reason: ConflictReason::ConcurrentUpdate,
                    },
                    other => other,
                });
            }
        }
        let mut state = self.inner.state.lock();
        state.reads.put_back(entries, now);
        if self.inner.validates {
            state.catalog_at = state.catalog_at.map(|at| at.max(now));
        }
        state.move_to(moment);
        Ok(())
    }

    /// Checks that nothing of what was read has changed up to `moment`, and not the catalog since
    /// `catalog_at` either.
    async fn validate_upto(
        &self,
        reads: &[ReadEntry],
        catalog_at: Option<Timestamp>,
        moment: Moment,
    ) -> Result<(), Error> {
        let (node, start) = (&self.inner.node, self.inner.start);
        node.validate(reads, start, moment.at, false).await?;
        match catalog_at {
            Some(at) if !moment.is_quiet_since(at) => {
                let read = [catalog_read(at)];
                node.validate(&read, start, moment.at, false).await
            }
            _ => Ok(()),
        }
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

    /// Makes all writes visible at one timestamp, durably, or none.
    pub async fn commit(&self) -> Result<CommitInfo, Error> {
        let (request, read, locks) = {
            let mut state = self.inner.state.lock();
            if std::mem::replace(&mut state.finished, true) {
                return Err(Error::Finished);
            }
            state.saved.clear();
            let locks = std::mem::take(&mut state.locks);
            (state.take_for_commit(self.inner.start), state.read, locks)
        };
        let locks = HeldLocks {
            inner: &self.inner,
            keys: locks,
        };
        if request.writes.is_empty() {
            return Ok(CommitInfo { timestamp: read });
        }
        let timestamp = match self.sole_range(&request)? {
            Some(replica) => match self.inner.node.commit(&replica, &request).await {
                Ok(timestamp) => timestamp,
                Err(Refusal::Error(error)) => return Err(error),
                Err(refused) => self.commit_again(request, refused).boxed().await?,
            },
            None => self.commit_in_several(&request).boxed().await?,
        };
        drop(locks);
        Ok(CommitInfo { timestamp })
    }

    /// Commits though an intent was in the way, the range had moved, or the catalog may have changed.
    async fn commit_again(
        &self,
        mut request: CommitRequest,
        refused: Refusal,
    ) -> Result<Timestamp, Error> {
        let node = &self.inner.node;
        let (mut refused, mut until) = (refused, None);
        loop {
            match refused {
                Refusal::Error(error) => return Err(error),
                Refusal::Moved | Refusal::Elsewhere(_) => node.wait_for_ranges(&mut until).await?,
                Refusal::Intent(foreign) => {
                    let younger = self.inner.start < foreign.start;
                    node.settle(&foreign, younger).await?;
                }
                Refusal::Announced => {
                    let read = request.catalog_at.take().map(catalog_read);
                    request.reads.extend(read);
                }
            }
            let Some(replica) = self.sole_range(&request)? else {
                return self.commit_in_several(&request).await;
            };
            match node.commit(&replica, &request).await {
                Ok(timestamp) => return Ok(timestamp),
                Err(again) => refused = again,
            }
        }
    }

    async fn commit_in_several(&self, request: &CommitRequest) -> Result<Timestamp, Error> {
        several::commit(&self.inner.node, request).await
    }

    /// Does something again and again while intents of others are in its way.
    pub(super) async fn settling<T, F>(&self, what: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let inner = &self.inner;
        inner.node.settling(inner.start, false, what).await
    }

    /// The range that holds every key written and all that is to be validated, if there is one.
    ///
    /// Invariant: a read is validated in the range that holds it.
    fn sole_range(&self, request: &CommitRequest) -> Result<Option<Route>, Error> {
        let CommitRequest { writes, reads, .. } = request;
        let (Some((first, _)), Some((last, _))) =
            (writes.first_key_value(), writes.last_key_value())
        else {
            return Err(Error::Finished);
        };
        let route = self.inner.node.route(first).ok();
        Ok(route.filter(|route| {
            let span = route.span();
            span.contains(last) && reads.iter().all(|read| read.span.lies_in(&span))
        }))
    }

    /// Ends the transaction without a trace.
    pub async fn rollback(&self) {
        let locks = {
            let mut state = self.inner.state.lock();
            state.finished = true;
            state.saved.clear();
            let _ = state.writes.take();
            std::mem::take(&mut state.locks)
        };
        self.inner.release(locks);
    }
}

/// Locks that are given back when this is dropped, also when a commit is given up.
struct HeldLocks<'a> {
    inner: &'a Inner,
    keys: Vec<Bytes>,
}

impl Drop for HeldLocks<'_> {
    fn drop(&mut self) {
        self.inner.release(std::mem::take(&mut self.keys));
    }
}

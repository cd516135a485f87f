//! Latches: all spans of a request at once, first come first served.
//!
//! A request waits for every earlier request, holding or waiting, that it conflicts with. Waiting
//! always points to an earlier request, so there is no deadlock, and nobody is overtaken by those
//! it conflicts with.
//!
//! ```text
//!            acquire            set_commit        in_flight            complete
//!  waiting ----------> holding ------------> c known --------> proposed --------> gone
//!                         \___ read spans are given back after validation
//! ```
//!
//! A request that has been proposed is completed by whoever applies its entry, not by the task
//! that proposed it: that task may be gone, and the entry may still be applied; or the client has
//! heard already that it is committed, and only these latches keep others from reading what it has
//! not written yet. What an earlier term has left behind is dropped when an entry of a later term is
//! applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::timestamp::Timestamp;
use crate::txn::Span;

/// What a request reads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ReadSpan {
    /// One key.
    Point(Bytes),
    /// Keys from a first one to before a last one.
    Range(Span),
}

impl ReadSpan {
    /// Whether all of it lies in `span`.
    pub fn lies_in(&self, span: &Span) -> bool {
        match self {
            Self::Point(key) => span.contains(key),
            Self::Range(read) => span.start <= read.start && read.end <= span.end,
        }
    }

    /// Its first key.
    pub fn first_key(&self) -> &Bytes {
        match self {
            Self::Point(key) => key,
            Self::Range(read) => &read.start,
        }
    }

    /// The parts of it that do not lie in `span`.
    pub fn outside(&self, span: &Span) -> Vec<Self> {
        match self {
            Self::Point(key) if span.contains(key) => Vec::new(),
            Self::Point(_) => vec![self.clone()],
            Self::Range(read) => {
                let parts = read.without(span).into_iter();
                parts.map(Self::Range).collect()
            }
        }
    }

    /// The part of it that lies in `span`.
    pub fn within(&self, span: &Span) -> Option<Self> {
        match self {
            Self::Point(key) => span.contains(key).then(|| self.clone()),
            Self::Range(read) => read.common(span).map(Self::Range),
        }
    }
}

/// Requests with more keys are kept aside instead of in the index by key.
const INDEXED_KEYS_MAX: usize = 64;

type Id = u64;
type Ids = SmallVec<[Id; 2]>;

/// What a request latches.
#[derive(Clone, Debug)]
pub struct LatchRequest {
    /// Keys to write, sorted.
    pub writes: Arc<[Bytes]>,
    /// Keys to read.
    pub reads: Vec<ReadSpan>,
}

struct Request {
    writes: Arc<[Bytes]>,
    reads: Vec<ReadSpan>,
    /// Earlier requests that have to finish first.
    blockers: usize,
    /// Later requests that wait for this one, and whether for one of its writes.
    dependents: Vec<(Id, bool)>,
    /// Readers that wait to see what becomes of this one.
    readers: Vec<oneshot::Sender<()>>,
    wake: Option<oneshot::Sender<()>>,
    commit: Option<Timestamp>,
    /// The term in which it was proposed.
    term: Option<u64>,
    /// Its client has been told that it took effect.
    acknowledged: bool,
}

#[derive(Default)]
struct Table {
    next: Id,
    requests: BTreeMap<Id, Request>,
    write_points: BTreeMap<Bytes, Ids>,
    write_big: Vec<Id>,
    read_points: BTreeMap<Bytes, Ids>,
    read_ranges: Vec<(Id, Span)>,
}

/// The latches of one range.
#[derive(Default)]
pub struct Latches {
    table: Mutex<Table>,
    /// Number of requests, to spare readers the lock when there is none.
    count: AtomicUsize,
    /// A fault that the simulator must find: readers wait for nobody.
    #[cfg(test)]
    pub(crate) skip_waits: std::sync::atomic::AtomicBool,
}

fn contains(sorted: &[Bytes], key: &[u8]) -> bool {
    sorted
        .binary_search_by(|probe| probe.as_ref().cmp(key))
        .is_ok()
}

fn overlaps(sorted: &[Bytes], span: &Span) -> bool {
    let first = sorted.partition_point(|key| *key < span.start);
    sorted.get(first).is_some_and(|key| *key < span.end)
}

/// The conflicts of a new request: with whom, and whether with one of its writes.
#[derive(Default)]
struct Conflicts(BTreeMap<Id, bool>);

impl Conflicts {
    fn add(&mut self, ids: impl IntoIterator<Item = Id>, with_write: bool) {
        for id in ids {
            *self.0.entry(id).or_default() |= with_write;
        }
    }
}

impl Table {
    fn big_writers(&self) -> impl Iterator<Item = (Id, &Request)> {
        self.write_big
            .iter()
            .filter_map(|id| Some((*id, self.requests.get(id)?)))
    }

    fn conflicts(&self, writes: &[Bytes], reads: &[ReadSpan]) -> Conflicts {
        let mut found = Conflicts::default();
        if writes.len() <= self.write_points.len() + self.read_points.len() {
            for key in writes {
                found.add(
                    self.write_points.get(key).into_iter().flatten().copied(),
                    true,
                );
                found.add(
                    self.read_points.get(key).into_iter().flatten().copied(),
                    false,
                );
            }
        } else {
            let touched = |key: &&Bytes| contains(writes, key);
            for (key, ids) in self.write_points.iter().filter(|(key, _)| touched(key)) {
                debug_assert!(contains(writes, key));
                found.add(ids.iter().copied(), true);
            }
            for (_, ids) in self.read_points.iter().filter(|(key, _)| touched(key)) {
                found.add(ids.iter().copied(), false);
            }
        }
        let ranges = self
            .read_ranges
            .iter()
            .filter(|(_, span)| overlaps(writes, span));
        found.add(ranges.map(|(id, _)| *id), false);
        for (id, other) in self.big_writers() {
            let (few, many) = if writes.len() < other.writes.len() {
                (writes, &*other.writes)
            } else {
                (&*other.writes, writes)
            };
            if few.iter().any(|key| contains(many, key)) {
                found.add([id], true);
            }
        }
        for read in reads {
            self.writers_in(read, |id, _| found.add([id], true));
        }
        found
    }

    /// Shows the writers of a span to `visit`.
    fn writers_in(&self, read: &ReadSpan, mut visit: impl FnMut(Id, &Request)) {
        let mut show = |id: &Id| {
            if let Some(request) = self.requests.get(id) {
                visit(*id, request);
            }
        };
        match read {
            ReadSpan::Point(key) => {
                self.write_points
                    .get(key)
                    .into_iter()
                    .flatten()
                    .for_each(&mut show);
            }
            ReadSpan::Range(span) if span.start < span.end => {
                let keys = self.write_points.range::<Bytes, _>(&span.start..&span.end);
                keys.flat_map(|(_, ids)| ids).for_each(&mut show);
            }
            ReadSpan::Range(_) => {}
        }
        for (id, request) in self.big_writers() {
            let hit = match read {
                ReadSpan::Point(key) => contains(&request.writes, key),
                ReadSpan::Range(span) => overlaps(&request.writes, span),
            };
            if hit {
                visit(id, request);
            }
        }
    }

    fn index(&mut self, id: Id, request: &LatchRequest) {
        if request.writes.len() > INDEXED_KEYS_MAX {
            self.write_big.push(id);
        } else {
            for key in request.writes.iter() {
                self.write_points.entry(key.clone()).or_default().push(id);
            }
        }
        for read in &request.reads {
            match read {
                ReadSpan::Point(key) => {
                    self.read_points.entry(key.clone()).or_default().push(id);
                }
                ReadSpan::Range(span) => self.read_ranges.push((id, span.clone())),
            }
        }
    }

    fn unindex_reads(&mut self, id: Id, reads: &[ReadSpan]) {
        for read in reads {
            if let ReadSpan::Point(key) = read {
                remove(&mut self.read_points, key, id);
            }
        }
        self.read_ranges.retain(|(other, _)| *other != id);
    }

    fn unblock(&mut self, id: Id) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        request.blockers = request.blockers.saturating_sub(1);
        if request.blockers == 0
            && let Some(wake) = request.wake.take()
        {
            // A receiver that is gone completes the request by its guard.
            let _ = wake.send(());
        }
    }

    fn complete(&mut self, id: Id) -> bool {
        let Some(request) = self.requests.remove(&id) else {
            return false;
        };
        self.unindex_reads(id, &request.reads);
        if request.writes.len() > INDEXED_KEYS_MAX {
            self.write_big.retain(|other| *other != id);
        } else {
            for key in request.writes.iter() {
                remove(&mut self.write_points, key, id);
            }
        }
        for (dependent, _) in request.dependents {
            self.unblock(dependent);
        }
        for reader in request.readers {
            let _ = reader.send(());
        }
        true
    }
}

fn remove(index: &mut BTreeMap<Bytes, Ids>, key: &Bytes, id: Id) {
    if let Some(ids) = index.get_mut(key) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

impl Latches {
    /// Waits until every conflicting earlier request is over and holds the latches until the guard
    /// is dropped, or until [`Self::complete`] once it is in flight. Cancellation: dropping the
    /// future gives up the place in the queue.
    pub async fn acquire(self: &Arc<Self>, request: LatchRequest) -> LatchGuard {
        let (guard, wait) = self.enqueue(request);
        if let Some(wait) = wait {
            // The sender lives as long as the request, which lives as long as the guard.
            let _ = wait.await;
        }
        guard
    }

    fn enqueue(
        self: &Arc<Self>,
        request: LatchRequest,
    ) -> (LatchGuard, Option<oneshot::Receiver<()>>) {
        // Before anything else, and so before a commit timestamp is fetched: a reader that sees
        // no request has a smaller timestamp than any request that comes after.
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut table = self.table.lock();
        table.next += 1;
        let id = table.next;
        let conflicts = table.conflicts(&request.writes, &request.reads).0;
        table.index(id, &request);
        let blockers = conflicts.len();
        for (other, with_write) in conflicts {
            debug_assert!(other < id, "Invariant: waiting points to earlier requests");
            if let Some(other) = table.requests.get_mut(&other) {
                other.dependents.push((id, with_write));
            }
        }
        let (wake, wait) = if blockers > 0 {
            let (sender, receiver) = oneshot::channel();
            (Some(sender), Some(receiver))
        } else {
            (None, None)
        };
        let LatchRequest { writes, reads } = request;
        let entry = Request {
            writes,
            reads,
            blockers,
            dependents: Vec::new(),
            readers: Vec::new(),
            wake,
            commit: None,
            term: None,
            acknowledged: false,
        };
        table.requests.insert(id, entry);
        (
            LatchGuard {
                latches: Arc::clone(self),
                id,
                armed: true,
            },
            wait,
        )
    }

    /// Ends the request `id` that was proposed in `term`, which has been applied or never will be.
    pub fn complete(&self, term: u64, id: u64) {
        let mut table = self.table.lock();
        if table
            .requests
            .get(&id)
            .is_some_and(|request| request.term == Some(term))
        {
            self.complete_locked(&mut table, id);
        }
    }

    fn complete_locked(&self, table: &mut Table, id: Id) {
        if table.complete(id) {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether the client of a request that was proposed in `term` has been told that it took
    /// effect.
    pub fn is_acknowledged(&self, term: u64, id: u64) -> bool {
        let table = self.table.lock();
        let request = table.requests.get(&id);
        request.is_some_and(|request| request.term == Some(term) && request.acknowledged)
    }

    /// Ends every request that was proposed before `term`: an entry of `term` is applied, so what
    /// earlier leaders proposed is applied or lost.
    pub fn complete_before(&self, term: u64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut table = self.table.lock();
        let old = |request: &Request| request.term.is_some_and(|of| of < term);
        let ids: Vec<Id> = table
            .requests
            .iter()
            .filter(|(_, r)| old(r))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.complete_locked(&mut table, id);
        }
    }

    /// Number of requests, waiting or holding.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Whether there is no request.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a reader at `at` has to wait for: `None` when every commit at or below `at` that writes
    /// to the span is applied; otherwise a signal after which to ask again.
    pub fn blocks_read(&self, read: &ReadSpan, at: Timestamp) -> Option<oneshot::Receiver<()>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        #[cfg(test)]
        if self.skip_waits.load(Ordering::Relaxed) {
            return None;
        }
        let mut table = self.table.lock();
        let mut blocker = None;
        table.writers_in(read, |id, request| {
            // One that still waits will get its commit timestamp later, above `at`.
            if request.blockers == 0 && request.commit.is_none_or(|commit| commit <= at) {
                blocker = Some(id);
            }
        });
        let request = table.requests.get_mut(&blocker?)?;
        let (sender, receiver) = oneshot::channel();
        request.readers.push(sender);
        Some(receiver)
    }
}

/// Held latches.
pub struct LatchGuard {
    latches: Arc<Latches>,
    id: Id,
    armed: bool,
}

impl LatchGuard {
    /// The number of the request.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Says at which timestamp the request commits: readers below it need not wait any more.
    pub fn set_commit(&self, commit: Timestamp) {
        let mut table = self.latches.table.lock();
        if let Some(request) = table.requests.get_mut(&self.id) {
            request.commit = Some(commit);
            for reader in std::mem::take(&mut request.readers) {
                let _ = reader.send(());
            }
        }
    }

    /// Gives back the latches on what was read: validation is done, and who writes there from now
    /// on commits at a later timestamp.
    pub fn release_reads(&self) {
        let mut table = self.latches.table.lock();
        let Some(request) = table.requests.get_mut(&self.id) else {
            return;
        };
        if request.reads.is_empty() {
            return;
        }
        let reads = std::mem::take(&mut request.reads);
        let (stay, go) = std::mem::take(&mut request.dependents)
            .into_iter()
            .partition(|(_, write)| *write);
        request.dependents = stay;
        let go: Vec<(Id, bool)> = go;
        table.unindex_reads(self.id, &reads);
        for (dependent, _) in go {
            table.unblock(dependent);
        }
    }

    /// The request is about to be proposed in `term`: from now on only [`Latches::complete`] ends
    /// it, unless [`Self::not_proposed`] is called.
    pub fn in_flight(&mut self, term: u64) {
        if let Some(request) = self.latches.table.lock().requests.get_mut(&self.id) {
            request.term = Some(term);
        }
        self.armed = false;
    }

    /// The client is about to be told that the request, which was proposed, took effect.
    pub fn acknowledged(&self) {
        let mut table = self.latches.table.lock();
        if let Some(request) = table.requests.get_mut(&self.id) {
            request.acknowledged = true;
        }
    }

    /// The proposal was refused for certain: dropping the guard ends the request again.
    pub fn not_proposed(&mut self) {
        self.armed = true;
    }
}

impl Drop for LatchGuard {
    fn drop(&mut self) {
        if self.armed {
            let mut table = self.latches.table.lock();
            self.latches.complete_locked(&mut table, self.id);
        }
    }
}

//! [`Replica`]: what a node does with a range that it leads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pontoon_raft::{BarrierError, Group, Leadership, ProposeError};

use crate::concurrency::{LatchRequest, LockOutcome, ReadSpan};
use crate::error::Error;
use crate::mvcc::{self, VersionScan};
use crate::oracle::TimestampSource;
use crate::range::command::{Body, Command, Outcome};
use crate::range::evaluate::{self, Checked, CommitRequest, ReadEntry};
use crate::range::state::RangeState;
use crate::range::watch::Watch;
use crate::shell::Runtime;
use crate::storage::Room;
use crate::timestamp::Timestamp;
use crate::txn::{LockStrength, LockWait, Span};

/// How long to wait between two looks for a leader.
const RETRY: Duration = Duration::from_millis(20);
/// Attempts to commit before giving up.
const ATTEMPTS_MAX: usize = 64;

/// A replica with its Raft group. Clones are the same replica.
#[derive(Clone)]
pub struct Replica {
    group: Group,
    state: Arc<RangeState>,
    runtime: Runtime,
    /// How long an operation waits for this replica to lead.
    patience: Duration,
    /// Admission of commits by free space on the disk.
    room: Arc<Room>,
    #[cfg(test)]
    pub(crate) skip_validation: Arc<std::sync::atomic::AtomicBool>,
}

/// What became of an attempt to commit.
enum Attempt {
    Committed(Timestamp),
    /// Nothing happened.
    Again,
    /// It may happen.
    Unknown,
}

impl Replica {
    /// A replica over its group and its state.
    pub fn new(
        group: Group,
        state: Arc<RangeState>,
        runtime: Runtime,
        patience: Duration,
        room: Arc<Room>,
    ) -> Self {
        Self {
            group,
            state,
            runtime,
            patience,
            room,
            #[cfg(test)]
            skip_validation: Arc::default(),
        }
    }

    /// The Raft group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The state.
    pub fn state(&self) -> &Arc<RangeState> {
        &self.state
    }

    /// Whether this replica may serve now. Lock-free for a single voter.
    pub fn leadership(&self) -> Option<Leadership> {
        self.group.leadership()
    }

    /// Waits until this replica leads, at most for the patience of the replica.
    pub async fn lead(&self) -> Result<Leadership, Error> {
        if let Some(leadership) = self.leadership() {
            return Ok(leadership);
        }
        let waited = self
            .runtime
            .timeout(self.patience, self.lead_when_elected())
            .await;
        waited.unwrap_or_else(|| {
            let message = match self.group.leader_hint() {
                Some(peer) => format!("range {} is led by {peer}", self.state.range),
                None => format!("range {} has no leader", self.state.range),
            };
            Err(Error::Unavailable { message })
        })
    }

    async fn lead_when_elected(&self) -> Result<Leadership, Error> {
        loop {
            let group = self.group.clone();
            let barrier = self
                .runtime
                .run(async move { group.read_barrier().await })
                .await;
            match barrier {
                Some(Ok(leadership)) => return Ok(leadership),
                // Somebody else leads: waiting would be in vain more often than not.
                Some(Err(BarrierError::NotLeader { hint: Some(peer) }))
                    if peer.replica != self.group.replica() =>
                {
                    let message = format!("range {} is led by {peer}", self.state.range);
                    return Err(Error::Unavailable { message });
                }
                Some(Err(_)) => self.runtime.sleep(RETRY).await,
                None => {
                    let message = format!("range {} is shutting down", self.state.range);
                    return Err(Error::Unavailable { message });
                }
            }
        }
    }

    fn check_history(&self, at: Timestamp) -> Result<(), Error> {
        let safe_point = self.state.safe_point();
        if at < safe_point {
            Err(Error::HistoryGone { safe_point })
        } else {
            Ok(())
        }
    }

    /// The value of `key` as of `at`, if that needs no waiting: this replica leads and nobody
    /// commits there.
    pub fn try_get(&self, key: &[u8], at: Timestamp) -> Option<Result<Option<Bytes>, Error>> {
        self.leadership()?;
        if !self.state.latches.is_empty() {
            let span = ReadSpan::Point(Bytes::copy_from_slice(key));
            if self.state.latches.blocks_read(&span, at).is_some() {
                return None;
            }
        }
        Some(
            self.check_history(at)
                .and_then(|()| mvcc::get(&*self.state.engine, key, at)),
        )
    }

    /// The value of `key` as of `at`.
    pub async fn get(&self, key: &[u8], at: Timestamp) -> Result<Option<Bytes>, Error> {
        if self.leadership().is_none() {
            self.lead().await?;
        }
        if !self.state.latches.is_empty() {
            let span = ReadSpan::Point(Bytes::copy_from_slice(key));
            self.wait_for_commits(&span, at).await;
        }
        self.check_history(at)?;
        mvcc::get(&*self.state.engine, key, at)
    }

    /// Waits until all that a reader at `at` must see of `span` is applied here.
    async fn settle(&self, span: &Span, at: Timestamp) -> Result<(), Error> {
        if self.leadership().is_none() {
            self.lead().await?;
        }
        if !self.state.latches.is_empty() {
            self.wait_for_commits(&ReadSpan::Range(span.clone()), at)
                .await;
        }
        self.check_history(at)
    }

    /// The keys of `within` that were written between the beginning of `watch` and `at`, in
    /// order; `None` when that is not known.
    pub async fn written_since(
        &self,
        watch: &Watch,
        within: &Span,
        at: Timestamp,
    ) -> Result<Option<Vec<Bytes>>, Error> {
        self.settle(within, at).await?;
        if watch.is_of(&self.state.watches) {
            Ok(watch.written_until(within, at))
        } else {
            Ok(None)
        }
    }

    /// Begins to note what is written to `span`, for one who then scans it at `at`.
    pub fn watch(&self, span: Span, at: Timestamp) -> Watch {
        self.state.watches.begin(span, at)
    }

    /// Starts a scan of `span` as of `at`.
    pub async fn scan(
        &self,
        span: &Span,
        reverse: bool,
        at: Timestamp,
    ) -> Result<VersionScan, Error> {
        self.settle(span, at).await?;
        let snapshot = self.state.engine.snapshot();
        Ok(VersionScan::new(
            snapshot,
            &span.start,
            &span.end,
            reverse,
            at,
        ))
    }

    /// Waits until every commit at or below `at` that writes to the span is applied here.
    ///
    /// Invariant: a read at `at` that comes after this sees all of them. One that comes later
    /// takes its latches later, and so its timestamp.
    pub(crate) async fn wait_for_commits(&self, span: &ReadSpan, at: Timestamp) {
        let Some(signal) = self.state.latches.blocks_read(span, at) else {
            return;
        };
        async move {
            let mut next = Some(signal);
            while let Some(signal) = next {
                // A sender that is gone means that the request is over.
                let _ = signal.await;
                next = self.state.latches.blocks_read(span, at);
            }
        }
        .boxed()
        .await;
    }

    /// Checks that nothing in `reads` has a version newer than the read, up to `upto`.
    pub async fn validate(
        &self,
        reads: &[ReadEntry],
        upto: Timestamp,
        timestamps: &dyn TimestampSource,
    ) -> Result<(), Error> {
        self.lead().await?;
        for read in reads {
            self.wait_for_commits(&read.span, upto).await;
        }
        evaluate::validate(&self.state, reads, timestamps)
    }

    /// When `key` was last written, once every commit at or below `upto` is applied.
    pub async fn last_written(
        &self,
        key: &Bytes,
        upto: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        if self.leadership().is_none() {
            self.lead().await?;
        }
        if !self.state.latches.is_empty() {
            self.wait_for_commits(&ReadSpan::Point(key.clone()), upto)
                .await;
        }
        Ok(mvcc::newest(&*self.state.engine, key)?.map(|newest| newest.commit))
    }

    /// [`Self::last_written`], if that needs no waiting.
    pub fn try_last_written(&self, key: &Bytes) -> Option<Result<Option<Timestamp>, Error>> {
        self.leadership()?;
        if !self.state.latches.is_empty() {
            let span = ReadSpan::Point(key.clone());
            self.state
                .latches
                .blocks_read(&span, Timestamp::MAX)
                .map_or(Some(()), |_| None)?;
        }
        let newest = mvcc::newest(&*self.state.engine, key);
        Some(newest.map(|newest| newest.map(|newest| newest.commit)))
    }

    /// Takes a row lock. Returns whether the transaction did not have it before; `None` when it
    /// was skipped.
    pub async fn lock(
        &self,
        txn: Timestamp,
        key: &Bytes,
        strength: LockStrength,
        wait: LockWait,
    ) -> Result<Option<bool>, Error> {
        let term = self.lead().await?.term;
        if self.state.locks_term.swap(term, Ordering::AcqRel) != term {
            self.state.locks.clear();
        }
        let queue = matches!(wait, LockWait::Wait(_));
        let ticket = match self.state.locks.acquire(txn, key, strength, queue) {
            Ok(LockOutcome::Granted) => return Ok(Some(true)),
            Ok(LockOutcome::Held) => return Ok(Some(false)),
            Ok(LockOutcome::Queued(ticket)) => ticket,
            Err(Error::LockNotAvailable) if wait == LockWait::SkipLocked => return Ok(None),
            Err(error) => return Err(error),
        };
        match wait {
            LockWait::Wait(Some(ms)) => {
                let waited = self
                    .runtime
                    .timeout(Duration::from_millis(ms), ticket.wait())
                    .await;
                waited.unwrap_or(Err(Error::LockNotAvailable))?;
            }
            _ => ticket.wait().await?,
        }
        Ok(Some(true))
    }

    /// Gives back row locks.
    pub fn unlock<'a>(&self, txn: Timestamp, keys: impl IntoIterator<Item = &'a Bytes>) {
        self.state.locks.release(txn, keys);
    }

    /// Commits a transaction whose writes and reads lie in this range, exactly once.
    ///
    /// Durability: when this returns `Ok`, a majority has it on disk. An outcome that was unknown
    /// is looked up under the next leadership, by the start timestamp in the versions.
    /// [`Error::Ambiguous`] only when that leadership is not here. [`Error::NoRoom`] when the disk
    /// is too full for it: nothing was proposed. Cancellation: dropping the
    /// future leaves the outcome open.
    pub async fn commit(
        &self,
        request: &CommitRequest,
        timestamps: &dyn TimestampSource,
    ) -> Result<Timestamp, Error> {
        // Before anything is proposed, and once: what was proposed must be seen through.
        self.room.admit(request.bytes())?;
        let keys: Arc<[Bytes]> = request.writes.keys().cloned().collect();
        let mut unknown = false;
        for _ in 0..ATTEMPTS_MAX {
            let attempt = if unknown {
                let again = self.attempt(request, &keys, timestamps, true);
                let again = self.runtime.timeout(self.patience, again).boxed().await;
                again.unwrap_or(Err(Error::Ambiguous))
            } else {
                self.attempt(request, &keys, timestamps, false)
                    .boxed()
                    .await
            };
            match attempt {
                Ok(Attempt::Committed(at)) => return Ok(at),
                Ok(Attempt::Again) => self.runtime.sleep(RETRY).boxed().await,
                Ok(Attempt::Unknown) => unknown = true,
                Err(Error::Unavailable { .. }) if unknown => return Err(Error::Ambiguous),
                Err(error) => return Err(error),
            }
        }
        if unknown {
            return Err(Error::Ambiguous);
        }
        let message = format!("range {} changes leaders too often", self.state.range);
        Err(Error::Unavailable { message })
    }

    async fn attempt(
        &self,
        request: &CommitRequest,
        keys: &Arc<[Bytes]>,
        timestamps: &dyn TimestampSource,
        retry: bool,
    ) -> Result<Attempt, Error> {
        if self.leadership().is_none() {
            self.lead().await?;
        }
        let reads = request.reads.iter().map(|read| read.span.clone()).collect();
        let latches = LatchRequest {
            writes: Arc::clone(keys),
            reads,
        };
        let mut guard = self.state.latches.acquire(latches).await;
        // Leadership now: the state that is read below is that of this term or later.
        let Some(leadership) = self.leadership() else {
            return Ok(Attempt::Again);
        };
        if retry && let Some(at) = self.committed(request)? {
            return Ok(Attempt::Committed(at));
        }
        let fresh = match evaluate::check_writes(&self.state, request)? {
            Checked::Free(fresh) => fresh,
            Checked::Committed(at) => return Ok(Attempt::Committed(at)),
        };
        let commit = match timestamps.try_now() {
            Some(now) => now,
            None => timestamps.now().await?,
        };
        guard.set_commit(commit);
        debug_assert!(
            request.reads.iter().all(|read| read.at < commit)
                && request.writes.values().all(|write| write.base < commit),
            "Invariant: a commit timestamp is above everything the transaction has read"
        );
        #[cfg(test)]
        let validates = !self.skip_validation.load(Ordering::Relaxed);
        #[cfg(not(test))]
        let validates = true;
        if validates && !request.reads.is_empty() {
            evaluate::validate(&self.state, &request.reads, timestamps)?;
        }
        let command = Command {
            term: leadership.term,
            generation: self.state.descriptor.read().generation,
            request: guard.id(),
            body: Body::Commit(evaluate::rows(request, fresh, commit)),
        };
        guard.release_reads();
        guard.in_flight(leadership.term);
        match self.group.propose(command.encode()).await {
            Ok(done) => match Outcome::decode(&done.reply) {
                Some(Outcome::Applied) => Ok(Attempt::Committed(commit)),
                Some(Outcome::OtherTerm | Outcome::OtherBounds) => Ok(Attempt::Again),
                None => Ok(Attempt::Unknown),
            },
            Err(ProposeError::Ambiguous { .. }) => Ok(Attempt::Unknown),
            Err(ProposeError::NotLeader { .. } | ProposeError::Stopped) => {
                guard.not_proposed();
                Ok(Attempt::Again)
            }
            Err(ProposeError::TooLarge { bytes, limit }) => {
                guard.not_proposed();
                Err(Error::TooLarge { bytes, limit })
            }
        }
    }

    /// Whether the transaction has committed here, and when.
    fn committed(&self, request: &CommitRequest) -> Result<Option<Timestamp>, Error> {
        // All of its writes are in one entry, so any of its keys will do.
        let Some(key) = request.writes.keys().next() else {
            return Ok(None);
        };
        mvcc::committed_by(&*self.state.engine, key, request.start)
    }

    /// Replicates a command that writes no rows. It may use the reserve of the disk: without
    /// windows of timestamps, reads would end too.
    pub(crate) async fn propose(&self, body: Body) -> Result<Leadership, Error> {
        let leadership = self.lead().await?;
        let generation = self.state.descriptor.read().generation;
        let command = Command {
            term: leadership.term,
            generation,
            request: 0,
            body,
        };
        let unavailable = |message: String| Error::Unavailable { message };
        let done = self.group.propose(command.encode()).await;
        let done = done.map_err(|error| unavailable(error.to_string()))?;
        match Outcome::decode(&done.reply) {
            Some(Outcome::Applied) => Ok(leadership),
            _ => Err(unavailable(format!(
                "range {} has changed leader",
                self.state.range
            ))),
        }
    }
}

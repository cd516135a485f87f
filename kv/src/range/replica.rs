//! [`Replica`]: what a node does with a range that it leads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pontoon_raft::{BarrierError, Committed, Group, Leadership, Peer, ProposeError};
use serde::{Deserialize, Serialize};

use crate::concurrency::{LatchGuard, LatchRequest, LockOutcome, ReadSpan};
use crate::error::Error;
use crate::mvcc::{self, VersionScan};
use crate::oracle::TimestampSource;
use crate::range::command::{Body, Command, Outcome};
use crate::range::evaluate::{self, Checked, CommitRequest, ReadEntry};
use crate::range::intents::Foreign;
use crate::range::state::RangeState;
use crate::range::watch::Watch;
use crate::shell::Runtime;
use crate::storage::Room;
use crate::timestamp::Timestamp;
use crate::txn::{LockStrength, LockWait, Span};

/// How long to wait between two looks for a leader.
pub(super) const RETRY: Duration = Duration::from_millis(20);
/// Of what is proposed, one in so many waits where the simulator wants that.
#[cfg(test)]
const LINGERS_EVERY: u64 = 4;
/// Attempts to commit before giving up.
pub(super) const ATTEMPTS_MAX: usize = 64;

/// A replica with its Raft group. Clones are the same replica.
#[derive(Clone)]
pub struct Replica {
    group: Group,
    state: Arc<RangeState>,
    pub(super) runtime: Runtime,
    /// How long an operation waits for this replica to lead.
    pub(super) patience: Duration,
    /// Admission of commits by free space on the disk.
    pub(super) room: Arc<Room>,
    #[cfg(test)]
    pub(crate) skip_validation: Arc<std::sync::atomic::AtomicBool>,
}

/// No transaction: whoever reads has no intents yet.
pub(super) const NOBODY: Timestamp = Timestamp::ZERO;

/// What became of an attempt to commit.
enum Attempt {
    Committed(Timestamp),
    /// Nothing happened.
    Again,
    /// It may happen.
    Unknown,
}

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    /// It takes effect.
    Done,
    /// It does not.
    Refused,
    /// It may.
    Unknown,
}

/// Why something could not be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// An intent of another transaction is in the way.
    Intent(Foreign),
    /// The range does not hold the keys, or does not any more, or it is not on the node that was
    /// asked. Nothing happened.
    Moved,
    /// Anything else.
    Error(Error),
    /// Another node leads, if it is known which. Nothing happened.
    Elsewhere(Option<Peer>),
    /// The catalog, on which a commit rests, may have changed: what it has read of it must be
    /// validated where it lies. Nothing happened.
    Announced,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
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

    /// Whether this replica leads, or led when its group became quiescent: a belief, for whoever
    /// does not want to use the group by asking. Reads ask [`Self::leadership`].
    pub fn leads(&self) -> bool {
        self.group.leads()
    }

    /// Waits until this replica leads, at most for the patience of the replica. Refuses with
    /// [`Refusal::Elsewhere`] as soon as it is known that another one does.
    pub async fn lead(&self) -> Result<Leadership, Refusal> {
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
            Err(Error::Unavailable { message }.into())
        })
    }

    async fn lead_when_elected(&self) -> Result<Leadership, Refusal> {
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
                    return Err(Refusal::Elsewhere(Some(peer)));
                }
                Some(Err(_)) => {
                    if let Some(reason) = self.group.failure() {
                        let message = format!(
                            "range {} has failed: {reason}. Its data on this node is damaged, or \
                             the program has an error: restore the directory, or replace the node",
                            self.state.range
                        );
                        return Err(Error::Storage { message }.into());
                    }
                    self.runtime.sleep(RETRY).await;
                }
                None => {
                    let message = format!("range {} is shutting down", self.state.range);
                    return Err(Error::Unavailable { message }.into());
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
        let replaced = self.replaced();
        self.leadership()?;
        if !self.state.contains(key) {
            return None;
        }
        self.state.load.note(key);
        if !self.state.latches.is_empty() || !self.state.intents.is_empty() {
            let span = ReadSpan::Point(Bytes::copy_from_slice(key));
            if self.state.latches.blocks_read(&span, at).is_some()
                || self.foreign(&span, NOBODY, at).is_some()
            {
                return None;
            }
        }
        let value = self
            .check_history(at)
            .and_then(|()| mvcc::get(&*self.state.engine, key, at));
        (replaced == self.replaced()).then_some(value)
    }

    /// Compared from before the leadership was looked at to after the read.
    ///
    /// Invariant: as long as it stays the same, the rows are those that the leader had, or later
    /// ones: a snapshot is only given to a replica that does not lead.
    pub(super) fn replaced(&self) -> u64 {
        self.state.replaced.load(Ordering::SeqCst)
    }

    /// Refuses what was read when [`Self::replaced`] has changed since it was `before`.
    pub(super) fn not_replaced(&self, before: u64) -> Result<(), Refusal> {
        if self.replaced() == before {
            Ok(())
        } else {
            Err(Refusal::Moved)
        }
    }

    /// The value of `key` as of `at`.
    pub async fn get(&self, key: &[u8], at: Timestamp) -> Result<Option<Bytes>, Refusal> {
        let span = ReadSpan::Point(Bytes::copy_from_slice(key));
        let replaced = self.replaced();
        self.settle(&span, NOBODY, at).await?;
        self.state.load.note(key);
        self.check_history(at)?;
        let value = mvcc::get(&*self.state.engine, key, at)?;
        self.not_replaced(replaced)?;
        Ok(value)
    }

    /// An intent in `span` of another transaction than `own` that may have committed below `at`.
    fn foreign(&self, span: &ReadSpan, own: Timestamp, at: Timestamp) -> Option<Foreign> {
        self.state.intents.foreign(span, own, at)
    }

    /// Waits until all that a reader at `at` must see of `span` is applied here, as far as it is
    /// decided.
    ///
    /// Invariant: after this such a reader sees every commit at or below `at`, save where an intent
    /// refuses it. (A transaction over several ranges gets its commit timestamp when its intents
    /// are applied; one whose intents are not here yet commits above `at`.)
    pub(super) async fn settle(
        &self,
        span: &ReadSpan,
        own: Timestamp,
        at: Timestamp,
    ) -> Result<(), Refusal> {
        if self.leadership().is_none() {
            self.lead().await?;
        }
        if !self.state.latches.is_empty() {
            self.wait_for_commits(span, at).await?;
        }
        // Whoever writes these keys elsewhere from now on commits above `at`.
        if !self.state.holds(span) {
            return Err(Refusal::Moved);
        }
        #[cfg(test)]
        if self.state.intents.blind.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.foreign(span, own, at) {
            Some(foreign) => Err(Refusal::Intent(foreign)),
            None => Ok(()),
        }
    }

    /// The keys of `within` that were written between the beginning of `watch` and `at`, in
    /// order; `None` when that is not known.
    pub async fn written_since(
        &self,
        watch: &Watch,
        within: &Span,
        at: Timestamp,
    ) -> Result<Option<Vec<Bytes>>, Refusal> {
        let read = ReadSpan::Range(within.clone());
        self.settle(&read, NOBODY, at).await?;
        self.check_history(at)?;
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
    ) -> Result<VersionScan, Refusal> {
        let read = ReadSpan::Range(span.clone());
        let replaced = self.replaced();
        self.settle(&read, NOBODY, at).await?;
        self.state.load.note(&span.start);
        self.check_history(at)?;
        let snapshot = self.state.engine.snapshot();
        self.not_replaced(replaced)?;
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
    ///
    /// # Errors
    /// [`Error::Unavailable`] when they can end no more, as this replica does not lead.
    pub(crate) async fn wait_for_commits(
        &self,
        span: &ReadSpan,
        at: Timestamp,
    ) -> Result<(), Error> {
        let Some(signal) = self.state.latches.blocks_read(span, at) else {
            return Ok(());
        };
        let over = async move {
            let mut next = Some(signal);
            while let Some(signal) = next {
                // A sender that is gone means that the request is over.
                let _ = signal.await;
                next = self.state.latches.blocks_read(span, at);
            }
        };
        let waited = self.while_leading(over).boxed().await;
        waited.ok_or_else(|| Error::Unavailable {
            message: format!("range {} has changed leader", self.state.range),
        })
    }

    /// Takes latches; `None` when this replica has stopped leading while it waited for them.
    pub(super) async fn latched(&self, request: LatchRequest) -> Option<LatchGuard> {
        self.while_leading(self.state.latches.acquire(request))
            .await
    }

    /// Waits for what the end of commits brings. Their latches end when they are applied, which may
    /// be never where nobody leads, or the replica was closed: from time to time it is looked whether
    /// this one still leads, and if not, the wait is over without what it was for.
    async fn while_leading<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        let mut wait = std::pin::pin!(wait);
        loop {
            let waited = self.runtime.timeout(self.patience, wait.as_mut()).await;
            if waited.is_some() || self.leadership().is_none() {
                return waited;
            }
        }
    }

    /// Checks that nothing in `reads` has a version newer than the read, up to `upto`, for the
    /// transaction `own`.
    pub async fn validate(
        &self,
        reads: &[ReadEntry],
        own: Timestamp,
        upto: Timestamp,
        timestamps: &dyn TimestampSource,
    ) -> Result<(), Refusal> {
        let replaced = self.replaced();
        for read in reads {
            self.settle(&read.span, own, upto).await?;
            // What was deleted since may be gone without a trace: its transaction may be one of
            // another node, for which the safe point does not wait.
            self.check_history(read.at)?;
        }
        #[cfg(test)]
        if self.skip_validation.load(Ordering::Relaxed) {
            return Ok(());
        }
        evaluate::validate(&self.state, reads, timestamps)?;
        self.not_replaced(replaced)
    }

    /// When `key` was last written, once every commit at or below `upto` is applied.
    pub async fn last_written(
        &self,
        key: &Bytes,
        upto: Timestamp,
    ) -> Result<Option<Timestamp>, Refusal> {
        let replaced = self.replaced();
        self.settle(&ReadSpan::Point(key.clone()), NOBODY, upto)
            .await?;
        let newest = mvcc::newest(&*self.state.engine, key)?;
        self.not_replaced(replaced)?;
        Ok(newest.map(|newest| newest.commit))
    }

    /// [`Self::last_written`], if that needs no waiting.
    pub fn try_last_written(&self, key: &Bytes) -> Option<Result<Option<Timestamp>, Error>> {
        let replaced = self.replaced();
        self.leadership()?;
        if !self.state.contains(key) {
            return None;
        }
        if !self.state.latches.is_empty() || !self.state.intents.is_empty() {
            let span = ReadSpan::Point(key.clone());
            let latched = self.state.latches.blocks_read(&span, Timestamp::MAX);
            let intent = self.foreign(&span, NOBODY, Timestamp::MAX);
            if latched.is_some() || intent.is_some() {
                return None;
            }
        }
        let newest = mvcc::newest(&*self.state.engine, key);
        let written = newest.map(|newest| newest.map(|newest| newest.commit));
        (replaced == self.replaced()).then_some(written)
    }

    /// Takes a row lock. Returns whether the transaction did not have it before; `None` when it
    /// was skipped.
    pub async fn lock(
        &self,
        txn: Timestamp,
        key: &Bytes,
        strength: LockStrength,
        wait: LockWait,
    ) -> Result<Option<bool>, Refusal> {
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
            Err(error) => return Err(error.into()),
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

    /// Commits a transaction whose writes and reads lie in this range, exactly once. `again` says
    /// that it was asked for before, and may have committed.
    ///
    /// Durability: when this returns `Ok`, a majority has it on disk. It may not be applied yet: its
    /// latches are then still held, and whoever reads what it wrote waits for them. An outcome that
    /// was unknown is looked up under the next leadership, by the start timestamp in the versions.
    /// [`Error::Ambiguous`] only when that leadership is not here. [`Error::NoRoom`] when the disk
    /// is too full for it: nothing was proposed. Cancellation: dropping the
    /// future leaves the outcome open.
    pub async fn commit(
        &self,
        request: &CommitRequest,
        again: bool,
        timestamps: &dyn TimestampSource,
    ) -> Result<Timestamp, Refusal> {
        // Before anything is proposed, and once: what was proposed must be seen through.
        self.room.admit(request.bytes())?;
        let keys: Arc<[Bytes]> = request.writes.keys().cloned().collect();
        if let Some(first) = keys.first() {
            self.state.load.note(first);
        }
        let mut unknown = again;
        for _ in 0..ATTEMPTS_MAX {
            let attempt = if unknown {
                let again = self.attempt(request, &keys, timestamps, true);
                let again = self.runtime.timeout(self.patience, again).boxed().await;
                again.unwrap_or(Err(Error::Ambiguous.into()))
            } else {
                self.attempt(request, &keys, timestamps, false)
                    .boxed()
                    .await
            };
            match attempt {
                Ok(Attempt::Committed(at)) => return Ok(at),
                Ok(Attempt::Again) => self.runtime.sleep(RETRY).boxed().await,
                Ok(Attempt::Unknown) => unknown = true,
                Err(Refusal::Error(Error::Unavailable { .. }) | Refusal::Elsewhere(_))
                    if unknown =>
                {
                    return Err(Error::Ambiguous.into());
                }
                Err(refusal) => return Err(refusal),
            }
        }
        if unknown {
            return Err(Error::Ambiguous.into());
        }
        let message = format!("range {} changes leaders too often", self.state.range);
        Err(Error::Unavailable { message }.into())
    }

    async fn attempt(
        &self,
        request: &CommitRequest,
        keys: &Arc<[Bytes]>,
        timestamps: &dyn TimestampSource,
        retry: bool,
    ) -> Result<Attempt, Refusal> {
        if self.leadership().is_none() {
            self.lead().await?;
        }
        let reads = request.reads.iter().map(|read| read.span.clone()).collect();
        let latches = LatchRequest {
            writes: Arc::clone(keys),
            reads,
        };
        let guard = self.latched(latches).await;
        // Leadership now: the state that is read below is that of this term or later.
        let (Some(guard), Some(leadership)) = (guard, self.leadership()) else {
            return Ok(Attempt::Again);
        };
        let moved = self.holds_all(keys.first(), keys.last()).is_err()
            || !request
                .reads
                .iter()
                .all(|read| self.state.holds(&read.span));
        if moved {
            // What became of it before is for another range to say.
            return Err(if retry {
                Error::Ambiguous.into()
            } else {
                Refusal::Moved
            });
        }
        if retry && let Some(at) = self.committed(request)? {
            return Ok(Attempt::Committed(at));
        }
        // Below the safe point the traces of what it did, or of what stood against it, may be gone.
        if request.start < self.state.safe_point() {
            return Err(Refusal::Error(if retry {
                Error::Ambiguous
            } else {
                Error::HistoryGone {
                    safe_point: self.state.safe_point(),
                }
            }));
        }
        self.no_intent_on(request.start, keys)?;
        let fresh = match evaluate::check_writes(&self.state, request, timestamps)? {
            Checked::Free(fresh) => fresh,
            Checked::Committed(at) => return Ok(Attempt::Committed(at)),
        };
        let moment = evaluate::commit_moment(&request.writes, timestamps).await?;
        let commit = moment.at;
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
            for read in &request.reads {
                // One that begins later also commits later.
                if let Some(foreign) = self.foreign(&read.span, request.start, commit) {
                    return Err(Refusal::Intent(foreign));
                }
            }
            evaluate::validate(&self.state, &request.reads, timestamps)?;
        }
        if request
            .catalog_at
            .is_some_and(|at| !moment.is_quiet_since(at))
        {
            return Err(Refusal::Announced);
        }
        guard.release_reads();
        let body = Body::Commit(evaluate::rows(request, fresh, commit));
        Ok(match self.send(guard, leadership, body).await? {
            Sent::Done => Attempt::Committed(commit),
            Sent::Refused => Attempt::Again,
            Sent::Unknown => Attempt::Unknown,
        })
    }

    /// Replicates a command that was evaluated under the latches of `guard` in `leadership`. From
    /// now on the latches end when it is applied.
    pub(super) async fn send(
        &self,
        mut guard: LatchGuard,
        leadership: Leadership,
        body: Body,
    ) -> Result<Sent, Error> {
        let command = Command {
            term: leadership.term,
            generation: self.state.descriptor.read().generation,
            request: guard.id(),
            body,
        };
        #[cfg(test)]
        self.linger().await;
        // Invariant: nothing is proposed for a range that is frozen but its thaw. It was frozen under
        // latches on all of it, so whoever has latches now can tell.
        if self.state.is_frozen() && command.body != Body::Thaw {
            return Ok(Sent::Refused);
        }
        guard.in_flight(leadership.term);
        // It may be refused for another reason than the term and the bounds.
        let proposed = if matches!(command.body, Body::Absorb(_)) {
            let proposed = self.group.propose(command.encode()).await;
            proposed.map(Committed::Applied)
        } else {
            let (command, term) = (command.encode(), leadership.term);
            self.group.propose_unapplied(command, term).await
        };
        match proposed {
            // Invariant: what is acknowledged before it is applied takes effect. Its entry is of
            // the term in which it was evaluated, and the bounds of the range only change under
            // latches on all of it, which its own are in the way of until it is applied. Until
            // then readers and other requests wait for those latches too.
            Ok(Committed::Unapplied) => {
                guard.acknowledged();
                Ok(Sent::Done)
            }
            Ok(Committed::Applied(done)) => match Outcome::decode(&done.reply) {
                Some(Outcome::Applied) => Ok(Sent::Done),
                Some(Outcome::OtherTerm | Outcome::OtherBounds) => Ok(Sent::Refused),
                None => Ok(Sent::Unknown),
            },
            Err(ProposeError::Ambiguous { .. }) => Ok(Sent::Unknown),
            Err(ProposeError::NotLeader { .. } | ProposeError::Stopped) => {
                guard.not_proposed();
                Ok(Sent::Refused)
            }
            Err(ProposeError::TooLarge { bytes, limit }) => {
                guard.not_proposed();
                Err(Error::TooLarge { bytes, limit })
            }
        }
    }

    /// Has some of what is proposed wait in front of the log.
    #[cfg(test)]
    async fn linger(&self) {
        let most = self.state.lingers_ms.load(Ordering::Relaxed);
        if most == 0 {
            return;
        }
        let turn = self.state.lingered.fetch_add(1, Ordering::Relaxed);
        if turn % LINGERS_EVERY == 0 {
            let wait = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) % most;
            self.runtime.sleep(Duration::from_millis(wait)).await;
        }
    }

    /// Refuses when one of `keys` has an intent of another transaction.
    fn no_intent_on(&self, own: Timestamp, keys: &[Bytes]) -> Result<(), Refusal> {
        if self.state.intents.is_empty() {
            return Ok(());
        }
        for key in keys {
            let point = ReadSpan::Point(key.clone());
            if let Some(foreign) = self.foreign(&point, own, Timestamp::MAX) {
                return Err(Refusal::Intent(foreign));
            }
        }
        Ok(())
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
    pub(crate) async fn propose(&self, body: Body) -> Result<Leadership, Refusal> {
        let leadership = self.lead().await?;
        let generation = self.state.descriptor.read().generation;
        let command = Command {
            term: leadership.term,
            generation,
            request: 0,
            body,
        };
        let unavailable = |message: String| Refusal::from(Error::Unavailable { message });
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

//! A replica that is the only member of its group: the log, the state machine and nothing between.
//!
//! Where there is nobody to ask, Raft comes down to a log: an entry is committed when it is durable
//! here. A proposer queues its entry, writes and applies it, in its own task while the disk is
//! quick; what it cannot, the log's thread writes and a task applies. No timers, no messages. When the group shall have a
//! second member, [`GroupInner::take_peers`](crate::group::GroupInner::take_peers) ends this and starts openraft on the same log.
//!
//! ```text
//!  propose --queue, write, sync--> log --synced--> proposer, or task: applies, answers
//! ```
//! Why it is safe (`docs/design/0014-a-replica-alone.md` has the argument):
//! * A replica runs so only while the newest membership in its log names it and nobody else. Nobody
//!   can be elected without its vote, which it gives to nobody.
//! * It begins a term above every one it has seen, and has that on disk, as a committed vote for
//!   itself, before the first entry of the term. So terms name leaderships, as everywhere.
//! * An entry is called committed only when it and all before it are durable.
//! * Entries are applied in the order of the log, by one at a time: whoever has set
//!   [`Queue::applying`].
//! * It ends, for openraft to go on, only when what it has appended is durable and applied.

#[cfg(test)]
mod random_test;
#[cfg(test)]
mod threads_test;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::error::ProposeError;
use crate::group::applier::{Applier, BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use crate::group::handle::{Committed, GroupStatus, Proposed};
use crate::group::leadership::LeaderCell;
use crate::group::proposal::{News, Proposal, ProposalResponder, Proposer};
use crate::host::HostConfig;
use crate::ids::{LogPosition, ReplicaId};
use crate::log_store::GroupLog;
use crate::membership::{Membership, Peer};
use crate::state_machine::{Entry, EntryPayload, StorageError};
use crate::transport::Vote;

/// Bytes of entries kept in its log: it has no peers that could lag, and a long log makes its next
/// start slow.
const BYTES_KEPT: u64 = 8 << 20;

/// The only replica of a group, running. Dropping it ends it.
pub(crate) struct Alone {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    term: u64,
    log: Arc<dyn GroupLog>,
    applier: Applier,
    /// The index of the next entry. Held while one is appended: entries are pending in the order
    /// of the log. Taken before `queue`, never after.
    next: Mutex<u64>,
    queue: Mutex<Queue>,
    /// Proposers that write now. Whoever of them is done looks for what is to be applied, so the
    /// task need not be woken while there are any.
    writers: AtomicUsize,
    /// Wakes the task that applies.
    bell: AtomicWaker,
    /// Something was applied, or it has ended.
    changed: Notify,
    #[cfg(test)]
    fault: Mutex<random_test::Fault>,
}

#[derive(Default)]
struct Queue {
    /// What was appended and is not given to the state machine yet: consecutive entries.
    pending: VecDeque<Pending>,
    /// Entries up to this index are durable.
    synced: u64,
    /// Somebody applies what was first in `pending`. Who ends that looks for more.
    applying: bool,
    end: Option<End>,
}

struct Pending {
    entry: Entry,
    proposer: Option<ProposalResponder<Proposed>>,
}

/// What is applied together.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    /// One for each.
    proposers: Vec<Option<ProposalResponder<Proposed>>>,
    /// Of the commands.
    bytes: usize,
}

/// Why nothing more is appended.
enum End {
    /// What is appended is applied first.
    Drains,
    Stops,
    Failed(String),
}

/// Whether the newest membership that a replica has makes it the only member of its group. Reads
/// what is in the log and not applied.
pub(in crate::group) fn stands_alone(
    me: ReplicaId,
    log: &dyn GroupLog,
    applier: &Applier,
) -> Result<bool, StorageError> {
    let mut newest = applier.membership();
    let mut from = applier.applied().map_or(0, |applied| applied.index) + 1;
    let end = log.state().last.map_or(0, |last| last.index) + 1;
    while from < end {
        let entries = log.entries(from, end, BATCH_BYTES_MAX)?;
        let Some(last) = entries.last() else {
            return Err(StorageError::new("the raft log has a hole"));
        };
        from = last.position.index + 1;
        for entry in &entries {
            if let EntryPayload::Membership(bytes) = &entry.payload {
                newest = Membership::decode(bytes)
                    .map_err(|_| StorageError::new("a membership in the raft log is malformed"))?;
            }
        }
    }
    Ok(newest.sole_voter_is(me) && newest.members.len() == 1)
}

impl Alone {
    /// Begins a term, on a log and a state machine for which [`stands_alone`] says yes, or, if
    /// `founds`, on empty ones, of which that becomes the membership. Returns when the term is on
    /// disk; the replica is ready when the cell says so.
    pub(in crate::group) async fn start(
        me: ReplicaId,
        log: Arc<dyn GroupLog>,
        applier: Applier,
        cell: &LeaderCell,
        founds: Option<Membership>,
    ) -> Result<Self, StorageError> {
        let state = log.state();
        let applied = applier.applied();
        let last = state.last.max(applied).unwrap_or_default();
        if state.last < applied {
            // The state machine began with more than the log has.
            log.purge(last);
        }
        let voted = state.vote.map_or(0, |vote| vote.term);
        let term = voted.max(last.term) + 1;
        let shared = Arc::new(Shared {
            term,
            log,
            applier,
            next: Mutex::new(last.index + 1),
            queue: Mutex::new(Queue {
                // What is in the log comes first.
                applying: true,
                ..Queue::default()
            }),
            writers: AtomicUsize::new(0),
            bell: AtomicWaker::new(),
            changed: Notify::new(),
            #[cfg(test)]
            fault: Mutex::default(),
        });
        // Before the vote: a replica that has voted and has no members could never be founded.
        let founding = founds.map(|membership| {
            let position = LogPosition { term: 0, index: 1 };
            let membership = Membership {
                position: Some(position),
                ..membership
            };
            debug_assert_eq!(last.index, 0, "only an empty group is founded");
            EntryPayload::Membership(membership.encode())
        });
        if let Some(payload) = founding {
            shared.append(0, payload, None);
            shared.log.write_here();
        }
        let vote = Vote {
            term,
            candidate: me,
            committed: true,
        };
        cell.on_vote(&vote);
        let (sender, receiver) = oneshot::channel();
        let done = move |result| {
            let _ = sender.send(result);
        };
        shared.log.save_vote(vote, Box::new(done));
        receiver
            .await
            .unwrap_or_else(|_| Err(StorageError::new("raft log stopped")))?;
        // Invariant: this leader's first entry is applied before it serves reads, and with it all
        // that any leader before it has acknowledged.
        shared.append(term, EntryPayload::Blank, None);
        shared.log.write_here();
        let task = crate::shell::spawn_task(Arc::clone(&shared).run(last.index));
        Ok(Self {
            shared,
            task: Mutex::new(Some(task)),
        })
    }

    pub(in crate::group) fn term(&self) -> u64 {
        self.shared.term
    }

    pub(in crate::group) fn log(&self) -> &Arc<dyn GroupLog> {
        &self.shared.log
    }

    pub(in crate::group) fn applier(&self) -> &Applier {
        &self.shared.applier
    }

    pub(in crate::group) fn status(&self, me: Peer) -> GroupStatus {
        let shared = &self.shared;
        let state = shared.log.state();
        let failure = self.failure();
        let synced = shared.queue.lock().synced;
        GroupStatus {
            running: failure.is_none(),
            failure,
            term: shared.term,
            leads: true,
            quiescent: false,
            leader: Some(me),
            last: state.last,
            committed: shared.log.position(synced).or(state.purged),
            applied: shared.applier.applied(),
            purged: state.purged,
            membership: shared.applier.membership(),
            membership_committed: true,
            matched: BTreeMap::from([(me.replica, state.last)]),
        }
    }

    /// Appends a command and waits until it is applied, or until it is durable, if that is enough
    /// in the term `enough_in`.
    pub(in crate::group) async fn submit(
        &self,
        command: Bytes,
        enough_in: u64,
    ) -> Result<Committed, ProposeError> {
        let proposal = Proposal::new(enough_in);
        let proposer = Proposer::new(&proposal);
        let responder = ProposalResponder::new(&proposal);
        let shared = &self.shared;
        let payload = EntryPayload::Command(command);
        if !shared.append_and_write(payload, responder) {
            return Err(ProposeError::Stopped);
        }
        match proposer.news().await {
            News::Committed => Ok(Committed::Unapplied),
            News::Answered(proposed) => Ok(Committed::Applied(proposed)),
            News::Dropped => Err(ProposeError::Ambiguous { hint: None }),
        }
    }

    /// Waits until `is_so`, which is looked at whenever something was applied; false when this
    /// ends before.
    pub(in crate::group) async fn wait(&self, is_so: impl Fn() -> bool) -> bool {
        loop {
            let changed = self.shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Before the look: what happens between them must not be missed.
            changed.as_mut().enable();
            if is_so() {
                return true;
            }
            if self.shared.queue.lock().end.is_some() {
                return false;
            }
            changed.await;
        }
    }

    /// Why it cannot go on, if it cannot.
    pub(crate) fn failure(&self) -> Option<String> {
        match &self.shared.queue.lock().end {
            Some(End::Failed(reason)) => Some(reason.clone()),
            _ => None,
        }
    }

    /// Whether it has failed because the state machine has panicked.
    pub(crate) fn has_panicked(&self) -> bool {
        self.shared.applier.has_panicked()
    }

    /// Ends it when all that was appended is applied. Nothing is appended after the call.
    ///
    /// # Errors
    /// Why that could not be done.
    pub(in crate::group) async fn drain(&self) -> Result<(), String> {
        self.shared.end(End::Drains);
        self.join().await;
        self.failure().map_or(Ok(()), Err)
    }

    /// Ends it. The outcome of what is under way is not known.
    pub(crate) async fn stop(&self) {
        self.shared.end(End::Stops);
        self.join().await;
    }

    async fn join(&self) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    /// Drops entries that are durable in the state machine, but for some of the newest.
    pub(crate) fn compact(&self, config: &HostConfig) {
        let log = &self.shared.log;
        let durable = self.shared.applier.lock().machine.durable_applied();
        #[cfg(test)]
        let durable = if self.shared.has(random_test::Fault::PurgesAll) {
            self.shared.applier.applied()
        } else {
            durable
        };
        let durable = durable.map_or(0, |position| position.index);
        let state = log.state();
        let purged = state.purged.map_or(0, |position| position.index);
        let last = state.last.map_or(0, |position| position.index);
        let kept = config.log_entries_kept;
        let kept_bytes = config.log_bytes_kept.min(BYTES_KEPT);
        // A replica that joins must begin with a snapshot: no log reaches back to the first entry
        // for longer than it takes to make that durable.
        let mut upto = u64::from(purged == 0);
        if last - purged > kept + kept / 4 {
            upto = upto.max(last - kept);
        }
        if log.bytes() > kept_bytes + kept_bytes / 4 {
            upto = upto.max(log.newest(kept_bytes).saturating_sub(1));
        }
        // Invariant: nothing is purged that a power failure could take from the state machine.
        let upto = upto.min(durable);
        if upto > purged
            && let Some(position) = log.position(upto)
        {
            log.purge(position);
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.shared.end(End::Stops);
    }
}

impl Shared {
    /// Queues an entry; false when this has ended. The caller calls [`GroupLog::write_here`] next.
    fn append(
        self: &Arc<Self>,
        term: u64,
        payload: EntryPayload,
        proposer: Option<ProposalResponder<Proposed>>,
    ) -> bool {
        let mut next = self.next.lock();
        let index = *next;
        let position = LogPosition { term, index };
        let entry = Entry { position, payload };
        {
            let mut queue = self.queue.lock();
            if queue.end.is_some() {
                return false;
            }
            let entry = entry.clone();
            queue.pending.push_back(Pending { entry, proposer });
        }
        #[cfg(test)]
        if self.has(random_test::Fault::CommitsEarly)
            && let Some(Pending { proposer, .. }) = self.queue.lock().pending.back()
        {
            proposer
                .iter()
                .for_each(|proposer| proposer.committed_in(term));
        }
        *next = index + 1;
        let shared = Arc::clone(self);
        let done = move |result| shared.synced(index, result);
        self.log.append_later(vec![entry], Box::new(done));
        true
    }

    #[cfg(test)]
    fn has(&self, fault: random_test::Fault) -> bool {
        *self.fault.lock() == fault
    }

    /// Appends a command, and writes and applies it if that takes nobody else; false when this has
    /// ended.
    fn append_and_write(
        self: &Arc<Self>,
        payload: EntryPayload,
        proposer: ProposalResponder<Proposed>,
    ) -> bool {
        self.writers.fetch_add(1, Ordering::AcqRel);
        let appended = self.append(self.term, payload, Some(proposer));
        if appended {
            self.log.write_here();
        }
        self.writers.fetch_sub(1, Ordering::AcqRel);
        // Invariant: nothing durable is left without somebody who applies it. What was found to be
        // durable while this counted as a writer was left to it.
        self.apply_here();
        appended
    }

    /// The log has the entry at `index` and all before it on disk, or has failed.
    fn synced(&self, index: u64, result: Result<(), StorageError>) {
        let wakes = {
            let mut queue = self.queue.lock();
            match result {
                Ok(()) => {
                    debug_assert!(queue.synced < index, "the log completes in order");
                    queue.synced = index;
                    let first = queue.pending.front();
                    let first = first.map_or(u64::MAX, |pending| pending.entry.position.index);
                    let at = index
                        .checked_sub(first)
                        .and_then(|at| usize::try_from(at).ok());
                    let pending = at.and_then(|at| queue.pending.get(at));
                    if let Some(proposer) = pending.and_then(|pending| pending.proposer.as_ref()) {
                        proposer.committed_in(self.term);
                    }
                }
                Err(error) => queue.fail(error.to_string()),
            }
            let left = queue.applying || self.writers.load(Ordering::Acquire) > 0;
            queue.end.is_some() || !left
        };
        if wakes {
            self.bell.wake();
        }
    }

    fn end(&self, end: End) {
        {
            let mut queue = self.queue.lock();
            match (&queue.end, &end) {
                (None, _) | (Some(End::Drains), End::Stops) => queue.end = Some(end),
                _ => return,
            }
        }
        self.bell.wake();
        self.changed.notify_waiters();
    }

    /// Applies what is in the log up to `replayed`, and then what is appended, until the end.
    async fn run(self: Arc<Self>, replayed: u64) {
        let outcome = self.apply_all(replayed).await;
        let left = {
            let mut queue = self.queue.lock();
            if let Err(error) = outcome {
                queue.fail(error.to_string());
            }
            debug_assert!(queue.end.is_some(), "it ends when it is told to");
            std::mem::take(&mut queue.pending)
        };
        drop(left);
        self.changed.notify_waiters();
    }

    async fn apply_all(&self, replayed: u64) -> Result<(), io::Error> {
        let mut from = self.applier.applied().map_or(0, |applied| applied.index) + 1;
        while from <= replayed && !self.stops() {
            let mut entries = self.log.entries(from, replayed + 1, BATCH_BYTES_MAX)?;
            let Some(last) = entries.last() else {
                return Err(io::Error::other("the raft log has a hole"));
            };
            from = last.position.index + 1;
            // They are durable: the vote, which was queued behind them, is.
            let bytes = entries.iter().map(command_bytes).sum();
            self.applier.apply(&mut entries, bytes).await?;
            self.changed.notify_waiters();
        }
        self.queue.lock().applying = false;
        loop {
            let batch = std::future::poll_fn(|cx| self.poll_batch(cx)).await;
            let Some(mut batch) = batch else {
                return Ok(());
            };
            let positions = batch.positions();
            let replies = self.applier.apply(&mut batch.entries, batch.bytes).await;
            self.applied(positions, batch.proposers, replies?);
        }
    }

    /// Applies what is durable, on the calling thread, unless somebody else does or it may take
    /// long.
    fn apply_here(&self) {
        let batch = {
            let mut queue = self.queue.lock();
            queue.take_batch()
        };
        let Some(mut batch) = batch else { return };
        if self.applier.may_block(batch.entries.len(), batch.bytes) {
            self.queue.lock().put_back(batch);
            return self.bell.wake();
        }
        let positions = batch.positions();
        match self.applier.apply_here(&mut batch.entries) {
            Ok(replies) => self.applied(positions, batch.proposers, replies),
            Err(error) => {
                {
                    let mut queue = self.queue.lock();
                    queue.applying = false;
                    queue.fail(error.to_string());
                }
                self.bell.wake();
            }
        }
    }

    /// Answers those whose entries are applied, and sees to what has become durable meanwhile.
    fn applied(
        &self,
        positions: SmallVec<[LogPosition; 4]>,
        proposers: Vec<Option<ProposalResponder<Proposed>>>,
        replies: Vec<Bytes>,
    ) {
        for ((position, reply), proposer) in positions.into_iter().zip(replies).zip(proposers) {
            if let Some(proposer) = proposer {
                proposer.answer(Proposed { position, reply });
            }
        }
        let more = {
            let mut queue = self.queue.lock();
            queue.applying = false;
            queue.end.is_some() || queue.has_durable()
        };
        if more {
            self.bell.wake();
        }
        self.changed.notify_waiters();
    }

    fn stops(&self) -> bool {
        matches!(self.queue.lock().end, Some(End::Stops | End::Failed(_)))
    }

    /// What is to be applied next; `None` at the end.
    fn poll_batch(&self, cx: &Context<'_>) -> Poll<Option<Batch>> {
        self.bell.register(cx.waker());
        let mut queue = self.queue.lock();
        if queue.applying {
            return Poll::Pending;
        }
        match queue.end {
            Some(End::Stops | End::Failed(_)) => return Poll::Ready(None),
            Some(End::Drains) if queue.pending.is_empty() => return Poll::Ready(None),
            Some(End::Drains) | None => {}
        }
        match queue.take_batch() {
            Some(batch) => Poll::Ready(Some(batch)),
            None => Poll::Pending,
        }
    }
}

impl Batch {
    fn positions(&self) -> SmallVec<[LogPosition; 4]> {
        self.entries.iter().map(|entry| entry.position).collect()
    }
}

impl Queue {
    fn has_durable(&self) -> bool {
        let first = self.pending.front();
        first.is_some_and(|pending| pending.entry.position.index <= self.synced)
    }

    /// Takes what is durable and first in the log, for the caller to apply, unless somebody applies
    /// already, or nothing shall be applied any more.
    fn take_batch(&mut self) -> Option<Batch> {
        let over = matches!(self.end, Some(End::Stops | End::Failed(_)));
        if self.applying || over || !self.has_durable() {
            return None;
        }
        let mut batch = Batch::default();
        while self.has_durable()
            && batch.entries.len() < BATCH_ENTRIES_MAX
            && batch.bytes < BATCH_BYTES_MAX
        {
            let Some(Pending { entry, proposer }) = self.pending.pop_front() else {
                break;
            };
            batch.bytes += command_bytes(&entry);
            batch.entries.push(entry);
            batch.proposers.push(proposer);
        }
        self.applying = true;
        Some(batch)
    }

    /// Undoes [`Self::take_batch`].
    fn put_back(&mut self, batch: Batch) {
        let pending = batch.entries.into_iter().zip(batch.proposers).rev();
        for (entry, proposer) in pending {
            self.pending.push_front(Pending { entry, proposer });
        }
        self.applying = false;
    }

    fn fail(&mut self, reason: String) {
        if !matches!(self.end, Some(End::Failed(_))) {
            self.end = Some(End::Failed(reason));
        }
    }
}

fn command_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Command(command) => command.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

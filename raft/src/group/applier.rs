//! [`Applier`]: the state machine of a replica, and what of its group follows from applying.
//!
//! Both ways in which a replica runs end here: under openraft ([`super::machine`]) and alone
//! ([`super::alone`]). A batch of which the state machine says that it will not block is applied in
//! place; any other on a thread for blocking work, since the caller's task has more to do.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::leadership::LeaderCell;
use crate::ids::LogPosition;
use crate::membership::Membership;
use crate::snapshot::SpooledSnapshot;
use crate::state_machine::{AppliedState, Entry, EntryPayload, StateMachine, StorageError};

/// Opens the state machine of a replica, at first and again after its group has died.
pub(crate) type MachineFactory =
    Arc<dyn Fn() -> Result<Box<dyn StateMachine>, StorageError> + Send + Sync>;

/// Most entries in one batch.
pub(super) const BATCH_ENTRIES_MAX: usize = 256;
/// Most bytes of commands in one batch.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;

/// The state machine of a replica. Clones are the same.
#[derive(Clone)]
pub(crate) struct Applier {
    inner: Arc<Mutex<Inner>>,
    cell: Arc<LeaderCell>,
    panicked: Arc<AtomicBool>,
}

/// A state machine and what has been applied to it.
pub(super) struct Inner {
    pub(super) machine: Box<dyn StateMachine>,
    pub(super) applied: Option<LogPosition>,
    /// Memberships applied, oldest first: the one as of the durable position and those after it.
    pub(super) memberships: VecDeque<Membership>,
    /// Dropped with the state machine; see [`super::handle::GroupInner::machine_alive`].
    _alive: Arc<()>,
}

impl Applier {
    /// Takes over a state machine; `alive` is dropped with it.
    pub(super) fn new(
        machine: Box<dyn StateMachine>,
        cell: Arc<LeaderCell>,
        alive: Arc<()>,
    ) -> Result<Self, StorageError> {
        let AppliedState {
            position,
            membership,
        } = machine.applied()?;
        let membership = Membership::decode(&membership).map_err(|_| {
            StorageError::new("membership stored with the applied state is malformed")
        })?;
        let inner = Inner {
            machine,
            applied: position,
            memberships: VecDeque::from([membership]),
            _alive: alive,
        };
        let applier = Self {
            inner: Arc::new(Mutex::new(inner)),
            cell,
            panicked: Arc::new(AtomicBool::new(false)),
        };
        applier.tell_cell();
        Ok(applier)
    }

    /// Tells the cell, which knows nothing, what is applied.
    pub(super) fn tell_cell(&self) {
        let inner = self.inner.lock();
        if let Some(membership) = inner.memberships.back() {
            self.cell.on_membership_applied(membership);
        }
        if let Some(position) = inner.applied {
            self.cell.on_applied(position.term, position.index);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// The last entry applied.
    pub(crate) fn applied(&self) -> Option<LogPosition> {
        self.inner.lock().applied
    }

    /// Whether nothing was ever applied.
    pub(super) fn is_empty(&self) -> bool {
        let inner = self.inner.lock();
        let nobody = |membership: &Membership| *membership == Membership::default();
        inner.applied.is_none() && inner.memberships.iter().all(nobody)
    }

    /// The newest membership applied.
    pub(super) fn membership(&self) -> Membership {
        let inner = self.inner.lock();
        inner.memberships.back().cloned().unwrap_or_default()
    }

    /// Whether the state machine has panicked: its group shall be opened anew.
    pub(crate) fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::Acquire)
    }

    /// Applies `entries`, whose commands have `bytes` bytes, leaves `entries` empty and gives a
    /// reply for each.
    ///
    /// # Errors
    /// When the state machine fails or panics.
    pub(super) async fn apply(
        &self,
        entries: &mut Vec<Entry>,
        bytes: usize,
    ) -> Result<Vec<Bytes>, io::Error> {
        if !self.may_block(entries.len(), bytes) {
            return self.apply_here(entries);
        }
        let (moved, this) = (std::mem::take(entries), self.clone());
        let applied = crate::shell::blocking(move || {
            let mut moved = moved;
            this.apply_here(&mut moved)
        });
        applied.await?
    }

    /// Whether so many entries with so many bytes must not be applied on a thread of the runtime.
    pub(super) fn may_block(&self, entries: usize, bytes: usize) -> bool {
        self.inner.lock().machine.apply_may_block(entries, bytes)
    }

    /// [`Self::apply`] on the calling thread.
    pub(super) fn apply_here(&self, entries: &mut Vec<Entry>) -> Result<Vec<Bytes>, io::Error> {
        let Some(last) = entries.last().map(|entry| entry.position) else {
            return Ok(Vec::new());
        };
        let outcome = self.inner.lock().apply(entries);
        entries.clear();
        let Some(applied) = outcome else {
            // openraft would notice with the next command only, and the group hang until then.
            self.panicked.store(true, Ordering::Release);
            return Err(io::Error::other("state machine panicked"));
        };
        let Applied {
            replies,
            memberships,
        } = applied?;
        for membership in &memberships {
            self.cell.on_membership_applied(membership);
        }
        self.cell.on_applied(last.term, last.index);
        Ok(replies)
    }

    /// Replaces the state by that of a snapshot.
    pub(super) async fn install(
        &self,
        position: Option<LogPosition>,
        membership: Membership,
        mut pieces: Box<dyn SpooledSnapshot>,
    ) -> Result<(), io::Error> {
        let state = AppliedState {
            position,
            membership: membership.encode(),
        };
        let inner = Arc::clone(&self.inner);
        let memberships = VecDeque::from([membership.clone()]);
        let install = move || {
            let mut inner = inner.lock();
            inner.machine.install_snapshot(state, &mut *pieces)?;
            inner.applied = position;
            inner.memberships = memberships;
            Ok::<_, StorageError>(())
        };
        crate::shell::blocking(install).await??;
        self.cell.on_membership_applied(&membership);
        if let Some(position) = position {
            self.cell.on_applied(position.term, position.index);
        }
        Ok(())
    }
}

/// What came of a batch of entries.
struct Applied {
    /// One for each entry.
    replies: Vec<Bytes>,
    memberships: Vec<Membership>,
}

impl Inner {
    /// Applies a batch; `None` when the state machine panicked.
    fn apply(&mut self, entries: &[Entry]) -> Option<Result<Applied, io::Error>> {
        let machine = &mut self.machine;
        let replies = catch_unwind(AssertUnwindSafe(|| machine.apply(entries))).ok()?;
        Some(self.note_applied(entries, replies))
    }

    fn note_applied(
        &mut self,
        entries: &[Entry],
        replies: Result<Vec<Bytes>, StorageError>,
    ) -> Result<Applied, io::Error> {
        let replies = replies?;
        if replies.len() != entries.len() {
            return Err(io::Error::other(format!(
                "state machine gave {} replies to {} entries",
                replies.len(),
                entries.len()
            )));
        }
        self.applied = entries
            .last()
            .map_or(self.applied, |last| Some(last.position));
        let mut memberships = Vec::new();
        for entry in entries {
            if let EntryPayload::Membership(bytes) = &entry.payload {
                memberships.push(Membership::decode(bytes).map_err(io::Error::other)?);
            }
        }
        self.memberships.extend(memberships.iter().cloned());
        Ok(Applied {
            replies,
            memberships,
        })
    }

    /// The position known to survive a power failure, with the membership as of it.
    pub(super) fn durable(&mut self) -> (Option<LogPosition>, Option<&Membership>) {
        let durable = self.machine.durable_applied();
        let at_or_below = |membership: &Membership| membership.position <= durable;
        while self.memberships.get(1).is_some_and(at_or_below) {
            self.memberships.pop_front();
        }
        (durable, self.memberships.front())
    }
}

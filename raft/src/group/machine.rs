//! openraft's state machine on top of a [`StateMachine`].
//!
//! Applying: what openraft hands over is gathered up to a bound and applied as one batch. A batch
//! of which the state machine says that it will not block is applied in place; any other on a
//! thread for blocking work, since the core shares this task ([`super::together`]).
//!
//! Snapshots: building one returns metadata only, namely the position that is durable, since the
//! state machine keeps its data; data is read when a peer needs it. That is what allows the log
//! to be purged, and never above what is durable.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::convert;
use super::leadership::LeaderCell;
use super::types::{CommandReply, LogId, StoredMembership, Types};
use super::unsynced::Unsynced;
use crate::ids::LogPosition;
use crate::log_store::GroupLog;
use crate::membership::Membership;
use crate::snapshot::{SnapshotData, Staged};
use crate::state_machine::{AppliedState, Entry, EntryPayload, StateMachine, StorageError};

/// Opens the state machine of a replica, at first and again after its group has died.
pub(crate) type MachineFactory =
    Arc<dyn Fn() -> Result<Box<dyn StateMachine>, StorageError> + Send + Sync>;

/// Most entries in one batch.
const BATCH_ENTRIES_MAX: usize = 256;
/// Most bytes of commands in one batch.
const BATCH_BYTES_MAX: usize = 1 << 20;

type Meta = openraft::type_config::alias::SnapshotMetaOf<Types>;
type Snapshot = openraft::type_config::alias::SnapshotOf<Types, SnapshotData>;
type Responder = openraft::storage::ApplyResponder<Types>;

/// The state machine of one replica as openraft sees it.
pub(crate) struct Machine {
    inner: Arc<Mutex<Inner>>,
    log: Arc<dyn GroupLog>,
    unsynced: Arc<Unsynced>,
    cell: Arc<LeaderCell>,
    /// False while openraft starts, when it asks for a snapshot only to see whether the state
    /// machine lags behind one; ours never does.
    running: Arc<AtomicBool>,
    panicked: Arc<AtomicBool>,
}

struct Inner {
    machine: Box<dyn StateMachine>,
    applied: Option<LogPosition>,
    /// Memberships applied, oldest first: the one as of the durable position and those after it.
    memberships: VecDeque<Membership>,
    /// Dropped with the state machine; see [`super::handle::GroupInner::machine_alive`].
    _alive: Arc<()>,
}

impl Machine {
    pub(crate) fn new(
        machine: Box<dyn StateMachine>,
        log: Arc<dyn GroupLog>,
        unsynced: Arc<Unsynced>,
        cell: Arc<LeaderCell>,
        running: Arc<AtomicBool>,
        panicked: Arc<AtomicBool>,
        alive: Arc<()>,
    ) -> Result<Self, StorageError> {
        let AppliedState {
            position,
            membership,
        } = machine.applied()?;
        let membership = Membership::decode(&membership).map_err(|_| {
            StorageError::new("membership stored with the applied state is malformed")
        })?;
        cell.on_membership_applied(&membership);
        if let Some(position) = position {
            cell.on_applied(position.term, position.index);
        }
        let inner = Inner {
            machine,
            applied: position,
            memberships: VecDeque::from([membership]),
            _alive: alive,
        };
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
            log,
            unsynced,
            cell,
            running,
            panicked,
        })
    }

    /// Notes in the log, durably, that the data may be ahead of it from now on; without that note
    /// a log behind its data is a log that has lost records.
    async fn expect_snapshot(&self, position: LogPosition) -> Result<(), io::Error> {
        let (sender, receiver) = oneshot::channel();
        let done = move |result| {
            let _ = sender.send(result);
        };
        self.log.expect_snapshot(position, Box::new(done));
        match receiver.await {
            Ok(result) => result.map_err(io::Error::from),
            Err(_) => Err(io::Error::other("raft log stopped")),
        }
    }

    /// Applies `entries`, answers those who wait, and leaves `entries` empty.
    async fn apply_batch(
        &self,
        entries: &mut Vec<Entry>,
        responders: Vec<Option<Responder>>,
        bytes: usize,
    ) -> Result<(), io::Error> {
        let Some(last) = entries.last().map(|entry| entry.position) else {
            return Ok(());
        };
        self.unsynced.wait(last.index).await?;
        let inner = Arc::clone(&self.inner);
        let blocks = inner.lock().machine.apply_may_block(entries.len(), bytes);
        let outcome = if blocks {
            let moved = std::mem::take(entries);
            crate::shell::blocking(move || inner.lock().apply(&moved)).await
        } else {
            let outcome = inner.lock().apply(entries);
            entries.clear();
            Ok(outcome)
        };
        let Ok(Some(applied)) = outcome else {
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
        for (responder, reply) in responders.into_iter().zip(replies) {
            if let Some(responder) = responder {
                responder.send(CommandReply(reply));
            }
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

    /// The durable position with the membership as of it.
    fn durable(&mut self) -> Meta {
        let durable = self.machine.durable_applied();
        let at_or_below = |membership: &Membership| membership.position <= durable;
        while self.memberships.get(1).is_some_and(at_or_below) {
            self.memberships.pop_front();
        }
        meta(durable, self.memberships.front())
    }
}

fn meta(position: Option<LogPosition>, membership: Option<&Membership>) -> Meta {
    let last_membership = membership
        .and_then(|membership| convert::raft_stored(&membership.encode()).ok())
        .unwrap_or_default();
    Meta {
        last_log_id: position.map(convert::log_id),
        last_membership,
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let inner = self.inner.lock();
        let membership = inner
            .memberships
            .back()
            .map_or(Bytes::new(), Membership::encode);
        let stored = convert::raft_stored(&membership).map_err(io::Error::other)?;
        Ok((inner.applied.map(convert::log_id), stored))
    }

    async fn apply<S>(&mut self, mut stream: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        let mut entries = Vec::new();
        let mut responders = Vec::new();
        let mut bytes = 0;
        while let Some(item) = stream.next().await {
            let (raft_entry, responder) = item?;
            let entry = convert::entry(raft_entry);
            if let EntryPayload::Command(command) = &entry.payload {
                bytes += command.len();
            }
            entries.push(entry);
            responders.push(responder);
            if entries.len() >= BATCH_ENTRIES_MAX || bytes >= BATCH_BYTES_MAX {
                let answers = std::mem::take(&mut responders);
                self.apply_batch(&mut entries, answers, bytes).await?;
                bytes = 0;
            }
        }
        self.apply_batch(&mut entries, responders, bytes).await
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(Builder {
            inner: Arc::clone(&self.inner),
        })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            inner: Arc::clone(&self.inner),
        }
    }

    async fn install_snapshot(&mut self, meta: &Meta, data: SnapshotData) -> Result<(), io::Error> {
        let mut chunks = match data {
            SnapshotData::Staged(Staged { chunks, .. }) => chunks,
            SnapshotData::Live(source) => {
                let mut chunks = VecDeque::new();
                source.write(&mut |chunk| {
                    chunks.push_back(chunk);
                    Ok(())
                })?;
                chunks
            }
            SnapshotData::Metadata => {
                return Err(io::Error::other(
                    "a snapshot without data cannot be installed",
                ));
            }
        };
        let position = meta.last_log_id.as_ref().map(convert::position);
        let membership = convert::stored(&meta.last_membership);
        let state = AppliedState {
            position,
            membership: membership.encode(),
        };
        if let Some(position) = position {
            self.expect_snapshot(position).await?;
        }
        let inner = Arc::clone(&self.inner);
        let memberships = VecDeque::from([membership.clone()]);
        let install = move || {
            let mut inner = inner.lock();
            inner
                .machine
                .install_snapshot(state, &mut || Ok(chunks.pop_front()))?;
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

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        if !self.running.load(Ordering::Acquire) {
            return Ok(None);
        }
        let inner = self.inner.lock();
        let source = inner.machine.open_snapshot()?;
        let AppliedState {
            position,
            membership,
        } = source.state();
        let membership = Membership::decode(&membership).map_err(io::Error::other)?;
        if position.is_none() {
            return Ok(None);
        }
        let meta = meta(position, Some(&membership));
        Ok(Some(Snapshot {
            meta,
            snapshot: SnapshotData::Live(source),
        }))
    }
}

/// Returns the durable position as a snapshot.
pub(crate) struct Builder {
    inner: Arc<Mutex<Inner>>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let meta = self.inner.lock().durable();
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Metadata,
        })
    }
}

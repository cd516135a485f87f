//! openraft's state machine on top of an [`Applier`].
//!
//! Applying: what openraft hands over is gathered up to a bound and applied as one batch.
//!
//! Snapshots: building one returns metadata only, namely the position that is durable, since the
//! state machine keeps its data; data is read when a peer needs it. That is what allows the log
//! to be purged, and never above what is durable.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::oneshot;

use super::applier::{Applier, BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use super::convert;
use super::types::{CommandReply, LogId, StoredMembership, Types};
use super::unsynced::Unsynced;
use crate::ids::{GroupId, LogPosition};
use crate::log_store::GroupLog;
use crate::membership::Membership;
use crate::snapshot::{MemorySpool, SnapshotData, SnapshotSpool};
use crate::state_machine::{AppliedState, Entry, EntryPayload};

type Meta = openraft::type_config::alias::SnapshotMetaOf<Types>;
type Snapshot = openraft::type_config::alias::SnapshotOf<Types, SnapshotData>;
type Responder = openraft::storage::ApplyResponder<Types>;

/// The state machine of one replica as openraft sees it.
pub(crate) struct Machine {
    applier: Applier,
    log: Arc<dyn GroupLog>,
    unsynced: Arc<Unsynced>,
    /// False while openraft starts, when it asks for a snapshot only to see whether the state
    /// machine lags behind one; ours never does.
    running: Arc<AtomicBool>,
}

impl Machine {
    pub(crate) fn new(
        applier: Applier,
        log: Arc<dyn GroupLog>,
        unsynced: Arc<Unsynced>,
        running: Arc<AtomicBool>,
    ) -> Self {
        Self {
            applier,
            log,
            unsynced,
            running,
        }
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
        let replies = self.applier.apply(entries, bytes).await?;
        for (responder, reply) in responders.into_iter().zip(replies) {
            if let Some(responder) = responder {
                responder.send(CommandReply(reply));
            }
        }
        Ok(())
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
        let membership = self.applier.membership().encode();
        let stored = convert::raft_stored(&membership).map_err(io::Error::other)?;
        Ok((self.applier.applied().map(convert::log_id), stored))
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
            applier: self.applier.clone(),
        })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            applier: self.applier.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &Meta, data: SnapshotData) -> Result<(), io::Error> {
        let pieces = match data {
            SnapshotData::Staged(pieces) => pieces,
            // Not from a peer: openraft's own suite does that.
            SnapshotData::Live(source) => {
                let mut pieces = MemorySpool::default().begin(GroupId(0))?;
                source.write(&mut |piece| pieces.append(piece))?;
                pieces
            }
            SnapshotData::Metadata => {
                return Err(io::Error::other(
                    "a snapshot without data cannot be installed",
                ));
            }
        };
        let position = meta.last_log_id.as_ref().map(convert::position);
        let membership = convert::stored(&meta.last_membership);
        if let Some(position) = position {
            self.expect_snapshot(position).await?;
        }
        self.applier.install(position, membership, pieces).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        if !self.running.load(Ordering::Acquire) {
            return Ok(None);
        }
        let source = self.applier.lock().machine.open_snapshot()?;
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
    applier: Applier,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let meta = {
            let mut inner = self.applier.lock();
            let (position, membership) = inner.durable();
            meta(position, membership)
        };
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Metadata,
        })
    }
}

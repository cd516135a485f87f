//! [`RangeMachine`]: applies log entries to the engine.
//!
//! Deterministic: what an entry does depends on the entry and on what was applied before. Replies
//! that refuse an entry are part of that. An entry that cannot be read, or a failure of the engine,
//! stops the replica.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pontoon_raft::{
    AppliedState, Entry, EntryPayload, LogPosition, SnapshotSource, StateMachine, StorageError,
};

use crate::error::Error;
use crate::keys::meta;
use crate::mvcc::{self, Header};
use crate::range::command::{Body, Command, Outcome};
use crate::range::snapshot;
use crate::range::state::{RangeState, encode_applied, read_applied};
use crate::storage::{Space, WriteBatch};
use crate::timestamp::Timestamp;

/// The state machine of a replica.
pub struct RangeMachine {
    state: Arc<RangeState>,
}

/// What a run of entries changes.
struct Effects {
    batch: WriteBatch,
    /// Keys written so far; kept only when there are several commands.
    staged: Option<BTreeMap<Bytes, Bytes>>,
    window: u64,
    safe_point: u64,
    /// Commits with their keys, for the memory of recent writes.
    commits: Vec<(Timestamp, Command)>,
    /// Latches to release.
    requests: Vec<(u64, u64)>,
}

pub(crate) fn storage_error(error: Error) -> StorageError {
    StorageError::new(error.to_string())
}

impl RangeMachine {
    /// The state machine over a state. Reads again from the engine what is applied.
    pub fn new(state: Arc<RangeState>) -> Result<Self, StorageError> {
        let applied = read_applied(&*state.engine, state.range).map_err(storage_error)?;
        *state.applied.lock() = applied;
        Ok(Self { state })
    }

    fn apply_command(
        &self,
        position: LogPosition,
        bytes: &Bytes,
        effects: &mut Effects,
    ) -> Result<Outcome, StorageError> {
        let command = Command::decode(bytes.clone()).map_err(|_| {
            StorageError::new(format!(
                "entry {position} of range {} cannot be read: the node is older than the entry, \
                 or the log is damaged",
                self.state.range
            ))
        })?;
        if command.request != 0 {
            effects.requests.push((command.term, command.request));
        }
        if command.term != position.term {
            return Ok(Outcome::OtherTerm);
        }
        let descriptor = self.state.descriptor.read();
        if command.generation != descriptor.generation {
            return Ok(Outcome::OtherBounds);
        }
        match &command.body {
            Body::Commit(writes) => {
                if writes
                    .iter()
                    .any(|write| !descriptor.span.contains(&write.key))
                {
                    return Ok(Outcome::OtherBounds);
                }
                let engine = &*self.state.engine;
                for write in writes {
                    mvcc::stage(engine, write, effects.staged.as_mut(), &mut effects.batch)
                        .map_err(storage_error)?;
                }
                if let Some(first) = writes.first() {
                    let header = Header::decode(&first.stored).map_err(storage_error)?;
                    drop(descriptor);
                    effects.commits.push((header.commit, command));
                }
            }
            Body::Window(bound) => effects.window = effects.window.max(*bound),
            Body::SafePoint(at) => effects.safe_point = effects.safe_point.max(at.0),
        }
        Ok(Outcome::Applied)
    }

    /// Makes the effects visible, in the order that readers and validators rely on: the data, the
    /// memory of recent writes and the watches, and only then the end of the latches.
    fn publish(&self, effects: Effects, applied: AppliedState, term: u64) {
        let state = &self.state;
        state.window.store(effects.window, Ordering::Release);
        state
            .safe_point
            .store(effects.safe_point, Ordering::Release);
        if !effects.commits.is_empty() {
            let mut recent = state.recent.lock();
            #[cfg(test)]
            let mut noted = false;
            for (commit, command) in &effects.commits {
                let Body::Commit(writes) = &command.body else {
                    continue;
                };
                recent.note(*commit, writes.iter().map(|write| &write.key));
                #[cfg(test)]
                if noted && state.skip_notes.load(Ordering::Relaxed) {
                    continue;
                }
                let keys = writes.iter().map(|write| &write.key);
                state.watches.note(*commit, keys);
                #[cfg(test)]
                {
                    noted = true;
                }
            }
        }
        state.changes.fetch_add(1, Ordering::AcqRel);
        *state.applied.lock() = applied;
        for (term, request) in effects.requests {
            state.latches.complete(term, request);
        }
        state.latches.complete_before(term);
    }
}

impl StateMachine for RangeMachine {
    fn applied(&self) -> Result<AppliedState, StorageError> {
        Ok(self.state.applied())
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<Vec<Bytes>, StorageError> {
        let Some(last) = entries.last() else {
            return Ok(Vec::new());
        };
        let state = Arc::clone(&self.state);
        let gate = state.writes.lock();
        let mut applied = state.applied();
        let mut effects = Effects {
            batch: WriteBatch::default(),
            staged: (entries.len() > 1).then(BTreeMap::new),
            window: state.window.load(Ordering::Acquire),
            safe_point: state.safe_point.load(Ordering::Acquire),
            commits: Vec::new(),
            requests: Vec::new(),
        };
        let (window, safe_point) = (effects.window, effects.safe_point);
        let mut replies = Vec::with_capacity(entries.len());
        for entry in entries {
            debug_assert!(
                applied
                    .position
                    .is_none_or(|at| at.index < entry.position.index),
                "Invariant: entries are applied once and in order"
            );
            applied.position = Some(entry.position);
            replies.push(match &entry.payload {
                EntryPayload::Blank => Bytes::new(),
                EntryPayload::Membership(membership) => {
                    applied.membership = membership.clone();
                    Bytes::new()
                }
                EntryPayload::Command(bytes) => self
                    .apply_command(entry.position, bytes, &mut effects)?
                    .encode(),
            });
        }
        let number = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
        if effects.window != window {
            effects.batch.put(
                Space::Meta,
                meta::window(state.range),
                number(effects.window),
            );
        }
        if effects.safe_point != safe_point {
            let key = meta::safe_point(state.range);
            effects
                .batch
                .put(Space::Meta, key, number(effects.safe_point));
        }
        let key = meta::applied(state.range);
        effects
            .batch
            .put(Space::Meta, key, encode_applied(&applied));
        state
            .engine
            .write(std::mem::take(&mut effects.batch))
            .map_err(storage_error)?;
        drop(gate);
        self.publish(effects, applied, last.position.term);
        Ok(replies)
    }

    fn durable_applied(&self) -> Option<LogPosition> {
        *self.state.durable.lock()
    }

    fn write_snapshot(
        &self,
        sink: &mut dyn FnMut(Bytes) -> Result<(), StorageError>,
    ) -> Result<AppliedState, StorageError> {
        let source = snapshot::open(&self.state).map_err(storage_error)?;
        let state = source.state();
        Box::new(source).write(sink)?;
        Ok(state)
    }

    fn open_snapshot(&self) -> Result<Box<dyn SnapshotSource>, StorageError> {
        Ok(Box::new(
            snapshot::open(&self.state).map_err(storage_error)?,
        ))
    }

    fn install_snapshot(
        &mut self,
        applied: AppliedState,
        source: &mut dyn FnMut() -> Result<Option<Bytes>, StorageError>,
    ) -> Result<(), StorageError> {
        snapshot::install(&self.state, applied, source)
    }
}

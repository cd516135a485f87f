//! What a group replicates into: the contract between a Raft group and the layer above.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::LogPosition;
use crate::snapshot::SpooledSnapshot;

/// A failure of the disk below a state machine or a log. It stops the replica: there is no
/// retry, since after a failed write nobody knows what the disk holds.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct StorageError {
    /// What failed and where, for the operator.
    pub message: String,
}

/// What one log entry carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum EntryPayload {
    /// Written by a new leader; carries nothing.
    Blank,
    /// A command of the layer above, opaque to this one.
    Command(Bytes),
    /// A change of membership, in this crate's encoding. The state machine stores the newest one
    /// beside its applied position and gives it back in [`AppliedState`].
    Membership(Bytes),
}

impl EntryPayload {
    /// How many bytes it carries.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Blank => 0,
            Self::Command(bytes) | Self::Membership(bytes) => bytes.len(),
        }
    }
}

/// One committed log entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands in the log.
    pub position: LogPosition,
    /// What it carries.
    pub payload: EntryPayload,
}

/// What a state machine has applied, as stored with its data.
#[derive(Clone, Debug, Default)]
pub struct AppliedState {
    /// Position of the last applied entry, `None` before the first.
    pub position: Option<LogPosition>,
    /// This crate's encoding of the last applied membership with its log position; empty before
    /// the first.
    pub membership: Bytes,
}

/// The data of one replica.
///
/// Calls come from one task of the group, never two at once, and may block on disk: the group
/// calls them where blocking is allowed.
pub trait StateMachine: Send + 'static {
    /// What was applied when the state machine was last made durable or later.
    fn applied(&self) -> Result<AppliedState, StorageError>;

    /// Applies committed entries in log order and returns one reply for each, in order (replies
    /// to blank and membership entries are ignored).
    ///
    /// Atomicity: the effect of the entries and the new applied position (and membership) reach
    /// the store in one batch. Durability is not asked for here: see [`Self::durable_applied`].
    /// Determinism: the outcome depends on the entries and the applied state only. A command that
    /// is refused (wrong term, wrong bounds) is a reply, not an error.
    fn apply(&mut self, entries: &[Entry]) -> Result<Vec<Bytes>, StorageError>;

    /// Whether applying `entries` entries with `bytes` bytes of commands may block for longer than
    /// a task may hold up its thread (a stalled store, a large batch). When true, the group
    /// applies them where blocking is allowed, which costs a switch of threads.
    fn apply_may_block(&self, entries: usize, bytes: usize) -> bool {
        entries > 64 || bytes > 64 << 10
    }

    /// The last position known to survive a power failure. The log may be purged up to it and
    /// never above.
    fn durable_applied(&self) -> Option<LogPosition>;

    /// Writes the whole state as of the applied position to `sink` in chunks and returns that
    /// state.
    fn write_snapshot(
        &self,
        sink: &mut dyn FnMut(Bytes) -> Result<(), StorageError>,
    ) -> Result<AppliedState, StorageError>;

    /// A consistent view of the state as of the applied position, to be read while entries go on
    /// being applied. Called by the group's task when a peer needs a snapshot: it should be cheap.
    ///
    /// The default copies the state into memory by [`Self::write_snapshot`].
    fn open_snapshot(&self) -> Result<Box<dyn SnapshotSource>, StorageError> {
        let mut chunks = Vec::new();
        let state = self.write_snapshot(&mut |chunk| {
            chunks.push(chunk);
            Ok(())
        })?;
        Ok(Box::new(CopiedSnapshot { state, chunks }))
    }

    /// Replaces the whole state by a snapshot, durably and atomically: after a crash the state
    /// machine opens with either the old or the new state.
    fn install_snapshot(
        &mut self,
        state: AppliedState,
        pieces: &mut dyn SpooledSnapshot,
    ) -> Result<(), StorageError>;
}

/// A view of a state machine at one position.
pub trait SnapshotSource: Send + 'static {
    /// The position and membership of the view.
    fn state(&self) -> AppliedState;

    /// Writes the view to `sink` in chunks of about 1 MiB. Runs where blocking is allowed.
    fn write(
        self: Box<Self>,
        sink: &mut dyn FnMut(Bytes) -> Result<(), StorageError>,
    ) -> Result<(), StorageError>;
}

struct CopiedSnapshot {
    state: AppliedState,
    chunks: Vec<Bytes>,
}

impl SnapshotSource for CopiedSnapshot {
    fn state(&self) -> AppliedState {
        self.state.clone()
    }

    fn write(
        self: Box<Self>,
        sink: &mut dyn FnMut(Bytes) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.chunks.into_iter().try_for_each(sink)
    }
}

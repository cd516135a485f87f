//! The contract between a group and the log of its store.

use std::sync::Arc;

use crate::error::OpenError;
use crate::ids::{GroupId, LogPosition, ReplicaId};
use crate::state_machine::{Entry, StorageError};
use crate::transport::Vote;

/// Called once, when what was asked is durable or has failed. Runs on the thread that writes: it
/// must be short, must not block and must not ask the log for anything.
pub type Done = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// The log of a store, shared by its groups.
///
/// Order: what is asked through one [`GroupLog`] takes effect in the order of the calls, in memory
/// at once and on disk in the same order. Failure: after the first failed write or sync every
/// later call fails; the process should end, since nobody knows what the disk holds. A full disk
/// is no failure: what is queued waits until there is room ([`LogStats::waits_for_room`]).
pub trait LogEngine: Send + Sync + 'static {
    /// Opens the log of a group, creating it when there is none.
    fn open_group(
        &self,
        group: GroupId,
        replica: ReplicaId,
    ) -> Result<Arc<dyn GroupLog>, OpenError>;

    /// Groups that have a log, in order, with the replica each belongs to.
    fn groups(&self) -> Vec<(GroupId, ReplicaId)>;

    /// Forgets a group and all of its log. The caller has shut the group down before.
    fn remove_group(&self, group: GroupId, done: Done);

    /// What has been done since the log was opened.
    fn stats(&self) -> LogStats;

    /// Writes and syncs what is queued, then stops. Later calls fail.
    fn shutdown(&self);
}

/// The log of one group.
pub trait GroupLog: Send + Sync + 'static {
    /// What the log holds now, synced or not.
    fn state(&self) -> LogState;

    /// Appends entries, which must follow the last one without a hole. They can be read when this
    /// returns; `done` is called when they are durable.
    fn append(&self, entries: Vec<Entry>, done: Done);

    /// Like [`Self::append`], for a caller that calls [`Self::write_here`] next: until somebody
    /// does, nobody may write the entries.
    fn append_later(&self, entries: Vec<Entry>, done: Done) {
        self.append(entries, done);
    }

    /// While the disk is quick and nobody else is writing, writes and syncs what is queued before it
    /// returns, with what is done called on the calling thread. That saves two changes of threads,
    /// so it is for a caller who has nothing else to do before its entries are durable. Otherwise
    /// leaves it to the log's own thread.
    fn write_here(&self) {}

    /// Stores the vote. `done` is called when it is durable.
    fn save_vote(&self, vote: Vote, done: Done);

    /// Notes that the state machine may be ahead of the log up to `position`, because a snapshot is
    /// about to be installed. `done` is called when that is durable.
    fn expect_snapshot(&self, position: LogPosition, done: Done);

    /// Drops every entry after `last` (all of them for `None`). Durable with the next append.
    fn truncate_after(&self, last: Option<LogPosition>);

    /// Drops every entry up to and including `upto`, which may lie above the end of the log (after
    /// a snapshot was installed). Durable with the next append, or never: then the entries are
    /// there again after a restart.
    fn purge(&self, upto: LogPosition);

    /// Reads entries `from..to` (indexes, `to` exclusive), stopping early once they exceed
    /// `bytes_max` bytes, but never before the first. Entries outside of the log are left out.
    /// May read from disk.
    fn entries(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Entry>, StorageError>;

    /// Bytes of the entries the log holds.
    fn bytes(&self) -> u64;

    /// The first of the newest entries that together take at most `bytes`.
    fn newest(&self, bytes: u64) -> u64;

    /// The position of the entry at `index`, when the log holds it.
    fn position(&self, index: u64) -> Option<LogPosition>;
}

/// What the log of a group holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogState {
    /// The newest vote.
    pub vote: Option<Vote>,
    /// A snapshot up to here is being installed or the replica began with one: the data may be
    /// ahead of the log up to this position, and no further.
    pub snapshot_expected: Option<LogPosition>,
    /// The last entry purged.
    pub purged: Option<LogPosition>,
    /// The last entry; `purged` when there is none after it.
    pub last: Option<LogPosition>,
}

/// Counters of a log since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogStats {
    /// Batches written, each with one sync.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Segment files in use.
    pub segments: u64,
    /// Bytes of entries written again to free old segments.
    pub bytes_rewritten: u64,
    /// The log cannot go on before there is room on the disk: what is queued waits.
    pub waits_for_room: bool,
}

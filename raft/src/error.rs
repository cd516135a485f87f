//! What can go wrong, one enum per call and one variant per decision the caller takes.

use std::io;
use std::path::PathBuf;

use crate::ids::{GroupId, LogPosition, ReplicaId};
use crate::membership::Peer;
use crate::state_machine::StorageError;

/// Why a proposal has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This replica does not lead now; nothing was proposed. Go to `hint`, or ask elsewhere.
    #[error("replica is not the raft leader")]
    NotLeader {
        /// Who is believed to lead.
        hint: Option<Peer>,
    },
    /// The entry was proposed and its fate is unknown: it may be applied now, later or never.
    /// Retry only what is idempotent.
    #[error("outcome of the proposal is unknown")]
    Ambiguous {
        /// Who is believed to lead.
        hint: Option<Peer>,
    },
    /// The command is longer than [`crate::HostConfig::command_bytes_max`]; nothing was proposed.
    #[error("command of {bytes} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Length of the command.
        bytes: usize,
        /// The longest accepted.
        limit: usize,
    },
    /// The group is shut down, or is down until it has been reopened; nothing was proposed.
    #[error("replica is stopped")]
    Stopped,
}

impl ProposeError {
    /// Whether the entry may yet take effect.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Ambiguous { .. })
    }
}

/// Why a read barrier failed. All are safe to retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// This replica does not lead. Go to `hint`, or ask elsewhere.
    #[error("replica is not the raft leader")]
    NotLeader {
        /// Who is believed to lead.
        hint: Option<Peer>,
    },
    /// This replica believes that it leads and a majority has not confirmed it in time.
    #[error("no majority of the group answered")]
    NoQuorum,
    /// The group is shut down, or is down until it has been reopened.
    #[error("replica is stopped")]
    Stopped,
}

/// Why a change of membership or of leadership failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// This replica does not lead.
    #[error("replica is not the raft leader")]
    NotLeader {
        /// Who is believed to lead.
        hint: Option<Peer>,
    },
    /// Another change is under way: wait for it, then look again.
    #[error("a membership change is in progress")]
    InProgress,
    /// The change makes no sense in the current membership.
    #[error("membership change refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The change was proposed and its fate is unknown: look at the membership.
    #[error("outcome of the membership change is unknown")]
    Ambiguous,
    /// The group is shut down, or is down until it has been reopened.
    #[error("replica is stopped")]
    Stopped,
}

impl MembershipError {
    pub(crate) fn founded() -> Self {
        Self::Refused {
            reason: "the group has members already".to_owned(),
        }
    }

    pub(crate) fn no_voter(replica: ReplicaId) -> Self {
        Self::Refused {
            reason: format!("{replica} is not a voter"),
        }
    }

    pub(crate) fn no_answer(replica: ReplicaId) -> Self {
        Self::Refused {
            reason: format!("{replica} does not answer"),
        }
    }
}

/// Why a group could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The group is open already on this host.
    #[error("group {group} is already open")]
    AlreadyOpen {
        /// The group.
        group: GroupId,
    },
    /// The log belongs to another replica of the group: replica ids are never reused.
    #[error("log of group {group} belongs to replica {found}, not to {expected}")]
    OtherReplica {
        /// The group.
        group: GroupId,
        /// Who the caller says it is.
        expected: ReplicaId,
        /// Whose log is on disk.
        found: ReplicaId,
    },
    /// The data is ahead of the log: synced log records are gone, so votes and acknowledgements
    /// may be forgotten. The replica must not run; replace it under a new replica id.
    #[error(
        "group {group}: data has applied {applied} but the log ends at {last}; \
         the raft log has lost records, so this store must not serve: \
         restore the log file or replace the store"
    )]
    LogBehindData {
        /// The group.
        group: GroupId,
        /// What the state machine has applied.
        applied: LogPosition,
        /// Where the log ends.
        last: LogPosition,
    },
    /// The log has been purged beyond what the data holds: the data was lost or replaced by an
    /// older copy. The replica must not run; replace it under a new replica id.
    #[error(
        "group {group}: data has applied {} but the log is purged up to {purged}; \
         the data is older than the raft log allows, so this store must not serve: \
         restore the data or replace the store",
        applied.unwrap_or_default()
    )]
    DataBehindLog {
        /// The group.
        group: GroupId,
        /// What the state machine has applied.
        applied: Option<LogPosition>,
        /// What is purged from the log.
        purged: LogPosition,
    },
    /// The configuration makes no sense.
    #[error("raft configuration is invalid: {reason}")]
    Config {
        /// Why.
        reason: String,
    },
    /// The host is shut down.
    #[error("host is stopped")]
    Stopped,
    /// Disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why the log of a store could not be opened. None goes away by trying again.
#[derive(Debug, thiserror::Error)]
pub enum LogOpenError {
    /// A synced part of the log is not what was written. What was acknowledged after that place
    /// is lost on this store, which therefore must not serve.
    #[error(
        "raft log is damaged: {} at offset {offset}: {reason}; do not start this store again: \
         restore the file, or replace the store by a new one so that its replicas are rebuilt \
         from the others",
        path.display()
    )]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A whole segment is gone.
    #[error(
        "raft log is damaged: {} is missing; do not start this store again: \
         restore the file, or replace the store by a new one so that its replicas are rebuilt \
         from the others",
        path.display()
    )]
    Missing {
        /// The segment file that should be there.
        path: PathBuf,
    },
    /// The directory was written by another version of the program.
    #[error("raft log {} has format version {found}, this program reads {expected}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What this program reads.
        expected: u32,
    },
    /// The directory belongs to another store.
    #[error("raft log {} belongs to store {found}, not to {expected}", path.display())]
    OtherStore {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
        /// Who the caller says it is.
        expected: u64,
    },
    /// The operating system failed.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl StorageError {
    /// A storage error.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl From<StorageError> for io::Error {
    fn from(error: StorageError) -> Self {
        Self::other(error.message)
    }
}

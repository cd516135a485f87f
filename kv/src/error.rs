//! What can go wrong below SQL: one variant for each decision that a caller takes.

use serde::{Deserialize, Serialize};

use crate::keys::Malformed;
use crate::timestamp::Timestamp;

/// An error of the store.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// Another transaction changed what this one read or wrote. Nothing was committed; the same
    /// work at a new timestamp may succeed (SQLSTATE 40001).
    #[error("could not serialize access due to {reason}")]
    Conflict {
        /// What of.
        reason: ConflictReason,
    },
    /// This transaction was chosen as the victim of a deadlock (SQLSTATE 40P01).
    #[error("deadlock detected")]
    Deadlock {
        /// Who waits for whom, in PostgreSQL's words.
        detail: String,
    },
    /// The lock was not free and the caller did not want to wait, or waited too long (55P03).
    #[error("could not obtain lock")]
    LockNotAvailable,
    /// The outcome of the commit is unknown: it may have happened (SQLSTATE 08007).
    #[error("the outcome of the commit is unknown")]
    Ambiguous,
    /// The transaction is over: committed, rolled back or failed.
    #[error("the transaction is no longer active")]
    Finished,
    /// No leader answered in time; the operation did not happen (57P03).
    #[error("range is unavailable: {message}")]
    Unavailable {
        /// Which range, and why.
        message: String,
    },
    /// The transaction's buffered writes exceed the limit (53200).
    #[error(
        "transaction is too large: {bytes} bytes of buffered writes exceed the limit of {limit}"
    )]
    TooLarge {
        /// Bytes buffered.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The read timestamp lies below the versions that are still kept (22023 / 55000).
    #[error("history before {safe_point} has been removed")]
    HistoryGone {
        /// Oldest timestamp that can still be read.
        safe_point: Timestamp,
    },
    /// The commit would eat into the reserve of the disk. Nothing was proposed; reads go on
    /// (SQLSTATE 53100).
    #[error("could not extend the data directory: no space left on device")]
    NoRoom {
        /// Bytes that the commit may take.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
        /// Bytes that are kept free.
        floor_bytes: u64,
    },
    /// The disk is full; nothing was written (53100).
    #[error("no space left in the data directory")]
    DiskFull,
    /// The store is damaged or cannot be used; the node must not serve (58030, XX001).
    #[error("{message}")]
    Storage {
        /// What failed, which file, what to do.
        message: String,
    },
    /// The node was not let into the cluster, and will not be (58030).
    #[error("{message}")]
    NotAdmitted {
        /// Why, and what to do.
        message: String,
    },
    /// The operation was cancelled by its caller.
    #[error("operation was cancelled")]
    Cancelled,
}

/// What two transactions are in conflict about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConflictReason {
    /// Both have written the same.
    ConcurrentUpdate,
    /// One has written what the other has read.
    ReadWrite,
}

impl std::fmt::Display for ConflictReason {
    /// In PostgreSQL's words.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ConcurrentUpdate => "concurrent update",
            Self::ReadWrite => "read/write dependencies among transactions",
        })
    }
}

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Self {
        Self::Storage {
            message: "a key of the store is damaged".into(),
        }
    }
}

impl Error {
    /// Whether the same transaction, run again from its start, may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Deadlock { .. })
    }

    /// Whether the operation may have taken effect although it failed.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Ambiguous)
    }
}

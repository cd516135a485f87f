//! The transactional key-value store: ranges of one ordered keyspace, each replicated by a Raft
//! group, with MVCC, a timestamp oracle and strictly serializable transactions.
//!
//! The layer above holds a [`Db`] (one a node) and opens a [`Txn`] for each transaction. This crate
//! knows nothing of SQL: keys and values are bytes.

pub mod cluster;
pub mod concurrency;
pub mod db;
pub mod error;
pub mod keys;
pub mod mvcc;
pub mod oracle;
pub mod placement;
pub mod range;
pub mod routing;
pub mod shell;
#[cfg(test)]
mod sim;
pub mod storage;
pub mod timestamp;
pub mod txn;

pub use db::{DataStats, DbConfig};
pub use error::{ConflictReason, Error};
pub use pontoon_raft::NodeId;
pub use range::Watch;
pub use storage::RoomStats;
pub use timestamp::Timestamp;
pub use txn::{
    Asked, CommitInfo, Db, IsolationLevel, Key, KvBatch, Led, LockStrength, LockWait, Remembered,
    Savepoint, Scan, ScanOptions, Span, Txn, TxnOptions, Value,
};

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

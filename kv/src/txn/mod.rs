//! The transaction that a client holds: snapshot reads merged with its own buffered writes,
//! savepoints, locks and the commit.

mod api;
mod memory;

pub use api::{
    CommitInfo, IsolationLevel, Key, KvBatch, LockStrength, LockWait, Savepoint, ScanOptions, Span,
    TxnOptions, Value,
};
pub use memory::{Db, Scan, Txn};

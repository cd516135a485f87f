//! The transaction that a client holds: snapshot reads merged with its own buffered writes,
//! savepoints, locks and the commit.
//!
//! Life of a transaction: it begins with a timestamp, which is its identity and where it reads.
//! Reads go to the leader of the range, see what was committed up to that timestamp, and are
//! remembered as spans. Writes stay here. The commit sends both to the range, which checks, in one
//! round and under latches, that nobody else has written what was written or read here since. When
//! they lie in several ranges it takes intents first ([`several`]).
//!
//! Isolation: SERIALIZABLE validates reads; REPEATABLE READ does not; READ COMMITTED moves its read
//! timestamp with every statement. Write conflicts are found at every level, and so are changes of
//! what a caller says its writes rest on ([`Txn::require_catalog`], [`Txn::validate_reads`]).

mod api;
mod asked;
mod buffer;
mod commit;
mod lock;
mod many;
mod read;
mod reads;
mod remembered;
mod scan;
mod several;
mod state;
mod transaction;

pub use crate::db::Db;
pub use api::{
    CommitInfo, IsolationLevel, Key, KvBatch, Led, LockStrength, LockWait, Savepoint, ScanOptions,
    Span, TxnOptions, Value,
};
pub use asked::Asked;
pub(crate) use reads::after;
pub use remembered::Remembered;
pub use scan::Scan;
pub use transaction::Txn;

#[cfg(test)]
mod several_tests;
#[cfg(test)]
mod tests;

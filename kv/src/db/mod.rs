//! A node's part of the store: its engine, its Raft host, its ranges, its oracle, and the tasks
//! that look after them.
//!
//! ```text
//! Db ---- begin() ----> Txn (crate::txn)
//!  |                     | timestamps        | reads, locks, commits
//!  Node                  v                   v
//!   |-- OracleService (leader of range 1) -- Replica 1    system range
//!   |-- ActiveTxns                           Replica 2..  ranges of user keys
//!   \-- tasks: make data durable, refill the window, collect garbage, end intents that are left,
//!             look at the disk
//! ```
//!
//! A cluster is founded with range 1 (its metadata) and range 2 (everything that SQL transactions
//! touch), or several of the latter ([`DbConfig::founding_splits`]). A range is found by its bounds
//! ([`crate::range::HeldRanges`]). Reads, their validation and commits go over any number of ranges.

mod active;
mod cluster;
mod config;
mod disk;
mod figures;
mod gc;
mod handle;
mod intents;
mod merges;
mod node;
mod open;
mod oracle_service;
mod probe;
mod replicas;
mod sizes;
mod splits;

pub use active::ActiveTxns;
pub use config::DbConfig;
pub use figures::RangeFigures;
pub use handle::Db;
#[cfg(test)]
pub(crate) use handle::start_in_memory;
pub(crate) use intents::certain;
pub(crate) use node::SYSTEM_RANGE;
pub use node::{DataStats, Founding, Node, NodeParts};
pub use open::Belonging;
pub use oracle_service::OracleService;

#[cfg(test)]
mod tests;

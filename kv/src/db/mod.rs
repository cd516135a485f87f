//! A node's part of the store: its engine, its Raft host, its ranges, its oracle, and the tasks
//! that look after them.
//!
//! ```text
//! Db ---- begin() ----> Txn (crate::txn)
//!  |                     | timestamps        | reads, locks, commits
//!  Node                  v                   v
//!   |-- OracleService (leader of range 1) -- Replica 1   system range
//!   |-- ActiveTxns                           Replica 2   user range
//!   \-- tasks: make data durable, refill the window, collect garbage, look at the disk
//! ```
//!
//! A node holds range 1 (cluster metadata) and range 2 (everything that SQL transactions touch).
//! A range is found by its bounds.

mod active;
mod config;
mod disk;
mod gc;
mod handle;
mod node;
mod open;
mod oracle_service;

pub use active::ActiveTxns;
pub use config::DbConfig;
pub use handle::Db;
pub use node::{DataStats, Node, NodeParts};
pub use oracle_service::OracleService;

#[cfg(test)]
mod tests;

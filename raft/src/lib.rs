//! Many Raft groups on one node: openraft behind our own types, one shared durable log with
//! group commit, peer transport as a trait, snapshots, quiescence and supervision.
//!
//! This crate knows nothing of keys, timestamps or SQL: a group replicates opaque commands and
//! hands them, in log order, to a [`StateMachine`] that the caller supplies.

pub mod ids;
pub mod state_machine;

pub use ids::{GroupId, LogPosition, NodeId, ReplicaId, StoreId};
pub use state_machine::{AppliedState, Entry, EntryPayload, StateMachine, StorageError};

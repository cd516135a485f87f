//! Many Raft groups on one node: openraft behind our own types, one shared durable log with
//! group commit, peer transport as a trait, snapshots, quiescence and supervision.
//!
//! This crate knows nothing of keys, timestamps or SQL: a group replicates opaque commands and
//! hands them, in log order, to a [`StateMachine`] that the caller supplies.
//!
//! ```text
//! Host --opens--> Group --propose--> openraft --append--> LogEngine (one log, one sync thread)
//!  |                |                   |  \--messages--> Transport --> Host of another node
//!  |                |                   \--committed--> StateMachine (the caller's)
//!  |                \--leadership(), read_barrier(): may this replica serve reads?
//!  \--supervises: reopens what died, purges what is durable
//! ```
//!
//! Time, randomness, network and disk are reached through [`Clock`], a seed, [`Transport`] and
//! [`LogEngine`]; [`shell`] holds the real ones.

mod clock;
mod codec;
mod error;
mod group;
mod host;
pub mod ids;
pub mod log_store;
mod membership;
pub mod shell;
mod snapshot;
pub mod state_machine;
pub mod transport;

pub use clock::{Clock, SimClock};
pub use codec::Malformed;
pub use error::{BarrierError, LogOpenError, MembershipError, OpenError, ProposeError};
pub use group::{Committed, Group, GroupStatus, Leadership, MemberChange, Proposed};
pub use host::{Host, HostConfig, HostCounts, HostEvents, Timing};
pub use ids::{GroupId, LogPosition, NodeId, ReplicaId, StoreId};
pub use log_store::LogEngine;
pub use membership::{Membership, Peer, Place};
pub use snapshot::{MemorySpool, SnapshotSpool, SpooledSnapshot};
pub use state_machine::{
    AppliedState, Entry, EntryPayload, SnapshotSource, StateMachine, StorageError,
};
pub use transport::{Transport, TransportError};

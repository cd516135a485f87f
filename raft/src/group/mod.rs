//! One replica of one consensus group: propose, read barrier, leadership, membership.
//!
//! This module alone, and the host's supervisor, name openraft's types; the rest of the crate, and everything above, sees
//! [`Group`] and plain values.
//!
//! ```text
//!  propose --> openraft core --append--> GroupLog (shared log) --synced--> core
//!                                   \--> network (other replicas) -------> core
//!                                                     committed --> machine --> StateMachine
//! ```
//! A replica that is the only member of its group runs without openraft ([`alone`]).

mod alone;
mod applier;
mod convert;
mod core;
mod handle;
mod leadership;
mod life;
mod log;
mod machine;
mod network;
mod proposal;
mod quiesce;
mod runtime;
mod serve;
#[cfg(test)]
mod suite_test;
mod together;
mod types;
mod unsynced;
mod watch;

pub use handle::{Committed, Group, GroupStatus, MemberChange, Proposed};
pub use leadership::Leadership;

pub(crate) use applier::MachineFactory;
pub(crate) use core::Core;
pub(crate) use handle::{Admits, GroupInner, Running, Wiring};

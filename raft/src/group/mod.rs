//! One replica of one consensus group: propose, read barrier, leadership, membership.
//!
//! This module alone names openraft's types; the rest of the crate, and everything above, sees
//! [`Group`] and plain values.
//!
//! ```text
//!  propose --> openraft core --append--> GroupLog (shared log) --synced--> core
//!                                   \--> network (other replicas) -------> core
//!                                                     committed --> machine --> StateMachine
//! ```

mod convert;
mod handle;
mod leadership;
mod life;
mod log;
mod machine;
mod network;
mod proposal;
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

pub(crate) use handle::{Admits, Core, GroupInner, Wiring};
pub(crate) use machine::MachineFactory;

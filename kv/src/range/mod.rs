//! A replica of a range: a span of keys with one Raft group.
//!
//! ```text
//!  commit ---> latches ---> evaluate ---> propose ---> (Raft: majority has it on disk)
//!              (leader)     against        one entry            |
//!                           applied state                       v
//!                                                     apply: rows + applied position
//!                                                     in one batch, on every replica
//! ```
//!
//! Evaluation happens on the leader; what is replicated are the bytes to write ([`Command`]).
//! Every replica applies them the same way ([`RangeMachine`]): an entry is refused when its term
//! is not the one it was evaluated in, or when the bounds of the range have changed since.
//!
//! Invariant: rows and applied position reach the engine in one batch.
//! Invariant: latches on written keys are held until the entry is applied or can never be.
//! Absent on purpose: a range never reads another range, and never waits for one under latches.
//!
//! A transaction over several ranges leaves intents in each and is decided at one key
//! ([`several`]).

mod changes;
mod command;
mod descriptor;
mod evaluate;
mod heard;
mod held;
mod install;
mod intents;
mod load;
mod machine;
mod many;
mod recent;
mod replica;
mod reshape;
mod several;
mod snapshot;
mod state;
mod stirs;
mod watch;

pub(crate) use changes::Told;
pub use command::{Body, Command, Outcome, Renounce};
pub use descriptor::{Descriptor, Frozen};
pub(crate) use evaluate::commit_moment;
pub use evaluate::{CommitRequest, ReadEntry, WriteEntry, Writes};
pub(crate) use heard::SAYS_SO;
pub use held::HeldRanges;
pub(crate) use install::{NONE_EVER, finish as finish_installing, remove_rows};
pub use intents::Foreign;
pub use machine::RangeMachine;
pub use replica::{Refusal, Replica};
pub use reshape::{Absorbable, Fate};
pub use several::{PrewriteRequest, Status};
pub(crate) use snapshot::bounds as snapshot_bounds;
pub use state::{Beginning, News, RangeState};
pub use watch::Watch;

#[cfg(test)]
mod install_tests;
#[cfg(test)]
mod merge_tests;
#[cfg(test)]
mod tests;

//! What keeps requests and transactions out of each other's way on the leader of a range.
//!
//! * [`Latches`] belong to a request and last from its evaluation until its entry is applied. They
//!   are what correctness rests on: a commit is evaluated against applied state, and a reader waits
//!   for a commit whose timestamp may lie below its own.
//! * [`LockTable`] holds row locks. They belong to a transaction and last until it ends. They are a
//!   courtesy that makes writers queue instead of abort; a leader change loses them.
//!
//! Both live in memory. Neither knows versions, timestamps' origin or replication.

mod latches;
mod locks;

pub use latches::{LatchGuard, LatchRequest, Latches, ReadSpan};
pub use locks::{LockOutcome, LockTable, LockTicket};

#[cfg(test)]
mod tests;

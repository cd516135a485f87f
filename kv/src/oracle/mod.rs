//! Timestamps: strictly increasing, never behind wall time, from windows whose upper bound is
//! replicated before use.
//!
//! ```text
//!         handed out        window: ours to hand out      replicated bound
//!  -----|xxxxxxxxxxxxxxxxx|------------------------------|----------------->
//!                       next                           limit
//! ```
//!
//! The leader of range 1 hands them out. It asks a replica for its leadership on each call, after
//! the request has arrived, and takes the next number from an atomic: no task switch, no lock. A
//! new leader first applies everything its predecessors have replicated, so it knows the highest
//! bound, and begins above it.
//!
//! Invariant: a timestamp is handed out only below a replicated bound.
//! Invariant: a leader begins at or above every bound of earlier leaders.

mod window;

pub use window::{WINDOW_MS, Window};

use futures::future::BoxFuture;

use crate::error::Error;
use crate::timestamp::Timestamp;

/// Where a node gets its timestamps from.
pub trait TimestampSource: Send + Sync + 'static {
    /// A timestamp at once, if that needs neither waiting nor a message.
    fn try_now(&self) -> Option<Timestamp>;

    /// A timestamp above every one handed out before the call.
    fn now(&self) -> BoxFuture<'_, Result<Timestamp, Error>>;
}

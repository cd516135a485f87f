//! Points in the cluster's time, as the timestamp oracle hands them out.

use serde::{Deserialize, Serialize};

use std::fmt;

/// Bits of the counter within one millisecond.
pub const LOGICAL_BITS: u32 = 18;

/// A point in the cluster's time: 46 bits of milliseconds since 1970-01-01 UTC, then 18 bits of
/// counter.
///
/// Invariant: of two transactions in real-time order the later one has the larger timestamp.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Before all others; never handed out.
    pub const ZERO: Self = Self(0);
    /// After all others; never handed out.
    pub const MAX: Self = Self(u64::MAX);

    /// The timestamp of a wall-clock reading with the counter at zero.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis << LOGICAL_BITS)
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub const fn millis(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}",
            self.millis(),
            self.0 & ((1 << LOGICAL_BITS) - 1)
        )
    }
}

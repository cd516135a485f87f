//! The transactions that are open on this node.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::timestamp::Timestamp;

/// The timestamps that garbage collection must not pass.
///
/// A transaction is entered in the same critical section in which it gets its timestamp, so that
/// the safe point never overtakes one that is about to begin.
#[derive(Debug, Default)]
pub struct ActiveTxns {
    open: Mutex<BTreeMap<Timestamp, u32>>,
}

impl ActiveTxns {
    /// Enters the timestamp that `take` returns.
    pub fn enter(&self, take: impl FnOnce() -> Option<Timestamp>) -> Option<Timestamp> {
        let mut open = self.open.lock();
        let at = take()?;
        *open.entry(at).or_default() += 1;
        Some(at)
    }

    /// Takes back one entry of `at`.
    pub fn leave(&self, at: Timestamp) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                open.remove(&at);
            }
        }
    }

    /// The oldest entry, or what `now` returns when there is none.
    pub fn oldest(&self, now: impl FnOnce() -> Option<Timestamp>) -> Option<Timestamp> {
        let open = self.open.lock();
        open.keys().next().copied().or_else(now)
    }

    /// Number of open transactions.
    pub fn len(&self) -> usize {
        self.open.lock().values().map(|count| *count as usize).sum()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

//! [`HeldRanges`]: the replicas that a node holds, found by key.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::range::replica::Replica;

/// The replicas on a node, by the first key of their ranges.
///
/// Invariant: their spans do not overlap. Where a range has just been split, its last keys are
/// without a replica until the new range is open; whoever looks for them looks again.
#[derive(Default)]
pub struct HeldRanges {
    by_start: RwLock<BTreeMap<Bytes, Arc<Replica>>>,
}

impl HeldRanges {
    /// Adds a replica, or replaces the one of the same first key.
    pub fn insert(&self, replica: Arc<Replica>) {
        let start = replica.state().descriptor().span.start;
        self.by_start.write().insert(start, replica);
    }

    /// The replica that holds `key`.
    pub fn at(&self, key: &[u8]) -> Option<Arc<Replica>> {
        let by_start = self.by_start.read();
        let bounds = (std::ops::Bound::Unbounded, std::ops::Bound::Included(key));
        let (_, replica) = by_start.range::<[u8], _>(bounds).next_back()?;
        replica.state().contains(key).then(|| Arc::clone(replica))
    }

    /// The replica that holds the last keys before `end`.
    pub fn before(&self, end: &[u8]) -> Option<Arc<Replica>> {
        let by_start = self.by_start.read();
        let bounds = (std::ops::Bound::Unbounded, std::ops::Bound::Excluded(end));
        let (_, replica) = by_start.range::<[u8], _>(bounds).next_back()?;
        let span = replica.state().descriptor().span;
        (end <= span.end.as_ref()).then(|| Arc::clone(replica))
    }

    /// The replica of a range.
    pub fn of(&self, range: u64) -> Option<Arc<Replica>> {
        let by_start = self.by_start.read();
        let mut all = by_start.values();
        all.find(|replica| replica.state().range == range).cloned()
    }

    /// All of them, in the order of their keys.
    pub fn all(&self) -> Vec<Arc<Replica>> {
        self.by_start.read().values().cloned().collect()
    }
}

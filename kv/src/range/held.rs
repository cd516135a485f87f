//! [`HeldRanges`]: the replicas that a node holds, found by key.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::range::descriptor::Descriptor;
use crate::range::replica::Replica;
use crate::txn::Span;

/// Ranges in a row that were absorbed and are not closed yet: whoever looks past more of them looks
/// again.
const LEFT_MAX: usize = 4;

/// The replicas on a node.
///
/// Invariant: their spans do not overlap, those included that wait for the snapshot they begin with.
/// Where a range has just been split, its last keys are without a replica until the new range is
/// open; whoever looks for them looks again.
#[derive(Default)]
pub struct HeldRanges {
    held: RwLock<Held>,
}

#[derive(Default)]
struct Held {
    by_range: BTreeMap<u64, Arc<Replica>>,
    /// Those whose keys are here, by the first one.
    by_start: BTreeMap<Bytes, Arc<Replica>>,
}

impl HeldRanges {
    /// Adds a replica, or notes that the keys of one have come.
    pub fn insert(&self, replica: Arc<Replica>) {
        let range = replica.state().range;
        let Descriptor {
            generation, span, ..
        } = replica.state().descriptor();
        let mut held = self.held.write();
        held.by_start
            .retain(|_, known| known.state().range != range);
        if generation > 0 {
            held.by_start.insert(span.start, Arc::clone(&replica));
        }
        held.by_range.insert(range, replica);
    }

    /// Forgets the replica of a range.
    pub fn remove(&self, range: u64) {
        let mut held = self.held.write();
        held.by_start
            .retain(|_, known| known.state().range != range);
        held.by_range.remove(&range);
    }

    /// The replica that holds `key`.
    pub fn at(&self, key: &[u8]) -> Option<Arc<Replica>> {
        let held = self.held.read();
        let bounds = (Bound::Unbounded, Bound::Included(key));
        // One that was absorbed by the range before it may be there yet.
        let mut near = held.by_start.range::<[u8], _>(bounds).rev().take(LEFT_MAX);
        let found = near.find(|(_, replica)| replica.state().contains(key));
        found.map(|(_, replica)| Arc::clone(replica))
    }

    /// The replica that holds the last keys before `end`.
    pub fn before(&self, end: &[u8]) -> Option<Arc<Replica>> {
        let held = self.held.read();
        let bounds = (Bound::Unbounded, Bound::Excluded(end));
        let mut near = held.by_start.range::<[u8], _>(bounds).rev().take(LEFT_MAX);
        let found = near.find(|(_, replica)| {
            let descriptor = replica.state().descriptor();
            descriptor.frozen.is_none() && end <= descriptor.span.end.as_ref()
        });
        found.map(|(_, replica)| Arc::clone(replica))
    }

    /// The replica of a range.
    pub fn of(&self, range: u64) -> Option<Arc<Replica>> {
        self.held.read().by_range.get(&range).cloned()
    }

    /// Another range than `range` whose replica holds, or waits for, keys of the span.
    pub fn overlapping(&self, range: u64, span: &Span) -> Option<u64> {
        let held = self.held.read();
        let mut others = held.by_range.values();
        let found = others.find(|replica| {
            let state = replica.state();
            state.range != range && state.claims().common(span).is_some()
        });
        found.map(|replica| replica.state().range)
    }

    /// All of them, in the order of their numbers.
    pub fn all(&self) -> Vec<Arc<Replica>> {
        self.held.read().by_range.values().cloned().collect()
    }
}

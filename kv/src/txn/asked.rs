//! [`Asked`]: which ranges a transaction has asked, for whoever wants to see it.
//!
//! Nothing is noted until somebody wants it: the path of a read looks at one flag.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use pontoon_raft::NodeId;

/// Ranges that are told apart; requests to further ones are not noted.
const RANGES_MAX: usize = 4_096;

/// What a transaction has asked of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    /// The range.
    pub range: u64,
    /// The node that leads it, as far as was known when it had answered.
    pub leader: Option<NodeId>,
    /// How often it was asked.
    pub requests: u64,
    /// Rows that came from another node.
    pub rows_received: u64,
    /// Bytes of their keys and values.
    pub bytes_received: u64,
}

/// What a transaction has asked, while somebody wants to see it.
#[derive(Debug, Default)]
pub(crate) struct AskedRanges {
    wanted: AtomicBool,
    ranges: Mutex<BTreeMap<(u64, Option<NodeId>), Asked>>,
}

impl AskedRanges {
    /// Whether requests are noted.
    pub(crate) fn are_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Begins anew.
    pub(crate) fn begin(&self) {
        self.ranges.lock().clear();
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Ends it, and gives what was noted, in the order of the ranges' numbers.
    pub(crate) fn take(&self) -> Vec<Asked> {
        self.wanted.store(false, Ordering::Relaxed);
        let ranges = std::mem::take(&mut *self.ranges.lock());
        ranges.into_values().collect()
    }

    /// Notes a request, with the rows that came from another node.
    pub(crate) fn note<'a>(
        &self,
        range: u64,
        leader: Option<NodeId>,
        received: impl IntoIterator<Item = (&'a [u8], &'a Bytes)>,
    ) {
        let mut ranges = self.ranges.lock();
        let known = ranges.contains_key(&(range, leader));
        if !known && ranges.len() >= RANGES_MAX {
            return;
        }
        let asked = ranges.entry((range, leader)).or_insert(Asked {
            range,
            leader,
            ..Asked::default()
        });
        asked.requests += 1;
        for (key, value) in received {
            asked.rows_received += 1;
            asked.bytes_received += (key.len() + value.len()) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_range_and_leader() {
        let asked = AskedRanges::default();
        assert!(!asked.are_wanted());
        asked.begin();
        assert!(asked.are_wanted());
        let value = Bytes::from_static(b"value");
        asked.note(2, Some(NodeId(3)), [(&b"key"[..], &value)]);
        asked.note(2, Some(NodeId(3)), []);
        asked.note(1, None, []);
        let one = Asked {
            range: 1,
            requests: 1,
            ..Asked::default()
        };
        let two = Asked {
            range: 2,
            leader: Some(NodeId(3)),
            requests: 2,
            rows_received: 1,
            bytes_received: 8,
        };
        assert_eq!(asked.take(), [one, two]);
        assert!(!asked.are_wanted());
        assert_eq!(asked.take(), []);
    }
}

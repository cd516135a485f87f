//! [`RecentWrites`]: when keys were last written, as far as memory goes back.
//!
//! Validation asks whether anything in a span was written after a timestamp. For timestamps that
//! this memory covers the answer costs a look into a map, however wide the span; for older ones
//! the store has to be read.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::concurrency::ReadSpan;
use crate::timestamp::Timestamp;

/// Keys remembered.
const KEYS_MAX: usize = 65_536;
/// A commit with more keys is not remembered key by key.
const COMMIT_KEYS_MAX: usize = 4_096;

/// The keys written lately.
#[derive(Debug, Default)]
pub(crate) struct RecentWrites {
    newest: BTreeMap<Bytes, Timestamp>,
    order: VecDeque<(Bytes, Timestamp)>,
    /// Every commit after it is remembered; `None`: nobody has asked yet, so nothing is kept.
    since: Option<Timestamp>,
}

impl RecentWrites {
    /// Notes that `keys` were written at `commit`. Called for every commit that is applied.
    pub(crate) fn note<'a>(
        &mut self,
        commit: Timestamp,
        keys: impl ExactSizeIterator<Item = &'a Bytes>,
    ) {
        let Some(since) = self.since else { return };
        if keys.len() > COMMIT_KEYS_MAX {
            self.newest.clear();
            self.order.clear();
            self.since = Some(since.max(commit));
            return;
        }
        for key in keys {
            let newest = self.newest.entry(key.clone()).or_default();
            *newest = commit.max(*newest);
            self.order.push_back((key.clone(), commit));
        }
        while self.order.len() > KEYS_MAX {
            let Some((key, commit)) = self.order.pop_front() else {
                break;
            };
            if self.newest.get(&key) == Some(&commit) {
                self.newest.remove(&key);
            }
            self.since = self.since.max(Some(commit));
        }
    }

    /// Begins to remember: every commit that has been applied so far is at or below `now`.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.since.get_or_insert(now);
    }

    /// Whether something in the span was written after `at`; `None` when memory does not go back
    /// that far.
    pub(crate) fn written_after(&self, read: &ReadSpan, at: Timestamp) -> Option<bool> {
        if self.since.is_none_or(|since| at < since) {
            return None;
        }
        Some(match read {
            ReadSpan::Point(key) => self.newest.get(key).is_some_and(|newest| *newest > at),
            ReadSpan::Range(span) if span.start < span.end => self
                .newest
                .range::<Bytes, _>(&span.start..&span.end)
                .any(|(_, newest)| *newest > at),
            ReadSpan::Range(_) => false,
        })
    }

    /// Forgets everything: the store was replaced by a snapshot.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

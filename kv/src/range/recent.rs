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
    /// What of `order` has been looked for so far.
    newest: BTreeMap<Bytes, Timestamp>,
    order: VecDeque<(Bytes, Timestamp)>,
    /// So many at the front of `order` are in `newest`: who commits only notes, and who asks puts
    /// the notes into order.
    sorted: usize,
    /// Every commit after it is remembered; `None`: nobody has asked yet, so nothing is kept.
    since: Option<Timestamp>,
    /// The newest commit that was noted.
    last: Timestamp,
    /// Every commit that was applied without being noted is at or below it.
    before: Option<Timestamp>,
}

impl RecentWrites {
    /// Notes that `keys` were written at `commit`. Called for every commit that is applied.
    pub(crate) fn note<'a>(
        &mut self,
        commit: Timestamp,
        keys: impl ExactSizeIterator<Item = &'a Bytes>,
    ) {
        self.last = self.last.max(commit);
        let Some(since) = self.since else { return };
        if keys.len() > COMMIT_KEYS_MAX {
            self.newest.clear();
            self.order.clear();
            self.sorted = 0;
            self.since = Some(since.max(commit));
            return;
        }
        self.order.extend(keys.map(|key| (key.clone(), commit)));
        while self.order.len() > KEYS_MAX {
            let Some((key, commit)) = self.order.pop_front() else {
                break;
            };
            if self.sorted > 0 {
                self.sorted -= 1;
                if self.newest.get(&key) == Some(&commit) {
                    self.newest.remove(&key);
                }
            }
            self.since = self.since.max(Some(commit));
        }
    }

    fn sort(&mut self) {
        for (key, commit) in self.order.range(self.sorted..) {
            let newest = self.newest.entry(key.clone()).or_default();
            *newest = (*newest).max(*commit);
        }
        self.sorted = self.order.len();
    }

    /// Every commit that has been applied so far is at or below `now`.
    pub(crate) fn know(&mut self, now: Timestamp) {
        self.before.get_or_insert(now);
    }

    /// Nothing at all was written after this; `None` when that is not known.
    pub(crate) fn quiet_from(&self) -> Option<Timestamp> {
        self.before.map(|before| before.max(self.last))
    }

    /// Begins to remember: every commit that has been applied so far is at or below `now`.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.since.get_or_insert(now);
        self.know(now);
    }

    /// Whether something in the span was written after `at`; `None` when memory does not go back
    /// that far.
    pub(crate) fn written_after(&mut self, read: &ReadSpan, at: Timestamp) -> Option<bool> {
        if self.quiet_from().is_some_and(|from| at >= from) {
            return Some(false);
        }
        if self.since.is_none_or(|since| at < since) {
            return None;
        }
        self.sort();
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::txn::Span;

    fn key(n: u8) -> Bytes {
        Bytes::copy_from_slice(&[n])
    }

    fn note(recent: &mut RecentWrites, commit: u64, keys: &[u8]) {
        let keys: Vec<Bytes> = keys.iter().map(|n| key(*n)).collect();
        recent.note(Timestamp(commit), keys.iter());
    }

    #[test]
    fn what_was_applied_before_anybody_asked_is_not_known() {
        let mut recent = RecentWrites::default();
        note(&mut recent, 7, &[1]);
        assert_eq!(recent.quiet_from(), None);
        recent.know(Timestamp(9));
        assert_eq!(recent.quiet_from(), Some(Timestamp(9)));
        // What comes later in the log may have an earlier timestamp.
        note(&mut recent, 8, &[1]);
        assert_eq!(recent.quiet_from(), Some(Timestamp(9)));
        note(&mut recent, 12, &[1]);
        assert_eq!(recent.quiet_from(), Some(Timestamp(12)));
        recent.know(Timestamp(20));
        assert_eq!(recent.quiet_from(), Some(Timestamp(12)));
        recent.forget();
        assert_eq!(recent.quiet_from(), None);
        let point = ReadSpan::Point(key(1));
        assert_eq!(recent.written_after(&point, Timestamp(30)), None);
    }

    proptest! {
        /// Whatever is asked in between, the answers are those of all commits.
        #[test]
        fn answers_are_those_of_all_commits(
            steps in proptest::collection::vec((1..200_u64, 0..6_u8, 0..6_u8, any::<bool>()), 1..60)
        ) {
            let mut recent = RecentWrites::default();
            recent.begin(Timestamp(100));
            let mut commits = Vec::new();
            for (n, a, b, asks) in steps {
                let commit = 100 + n;
                note(&mut recent, commit, &[a, b]);
                commits.extend([(a, commit), (b, commit)]);
                if !asks {
                    continue;
                }
                let at = Timestamp(100 + n.wrapping_mul(7) % 200);
                let point = ReadSpan::Point(key(a));
                let written = commits.iter().any(|(k, commit)| *k == a && Timestamp(*commit) > at);
                prop_assert_eq!(recent.written_after(&point, at), Some(written));
                let (start, end) = (a.min(b), a.max(b));
                let span = ReadSpan::Range(Span { start: key(start), end: key(end) });
                let written = commits
                    .iter()
                    .any(|(k, commit)| (start..end).contains(k) && Timestamp(*commit) > at);
                prop_assert_eq!(recent.written_after(&span, at), Some(written));
            }
        }

        /// What is forgotten for want of room is not known any more, and nothing else is.
        #[test]
        fn only_what_is_remembered_is_answered(first in 1..40_usize, asks in any::<bool>()) {
            let mut recent = RecentWrites::default();
            recent.begin(Timestamp(1));
            let many: Vec<Bytes> = (0..COMMIT_KEYS_MAX as u64)
                .map(|n| Bytes::copy_from_slice(&n.to_be_bytes()))
                .collect();
            let commits = KEYS_MAX / COMMIT_KEYS_MAX + first;
            for n in 0..commits as u64 {
                recent.note(Timestamp(10 + n), many.iter());
                if asks {
                    let read = ReadSpan::Point(many[0].clone());
                    prop_assert_eq!(recent.written_after(&read, Timestamp(9 + n)), Some(true));
                }
            }
            prop_assert!(recent.order.len() <= KEYS_MAX);
            let newest = Timestamp(9 + commits as u64);
            let read = ReadSpan::Point(many[0].clone());
            prop_assert_eq!(recent.written_after(&read, newest), Some(false));
            prop_assert_eq!(recent.written_after(&read, Timestamp(newest.0 - 1)), Some(true));
            prop_assert_eq!(recent.written_after(&read, Timestamp(5)), None);
        }
    }
}

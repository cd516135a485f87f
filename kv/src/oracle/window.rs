//! [`Window`]: the numbers that this leader may hand out.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Moment;
use crate::timestamp::Timestamp;

/// How far ahead of the wall clock a window reaches.
pub const WINDOW_MS: u64 = 3_000;

/// The window of the current leadership. All methods may be called at once.
#[derive(Debug, Default)]
pub struct Window {
    /// The last timestamp handed out.
    last: AtomicU64,
    /// The replicated bound: everything handed out lies below.
    limit: AtomicU64,
    /// The leadership to which the window belongs; 0 for none.
    term: AtomicU64,
    /// The last timestamp that was announced, here or by an earlier leader; the largest number while one
    /// is being announced.
    announced: AtomicU64,
    /// Held by whoever changes `announced`.
    announcing: Mutex<()>,
    /// A fault that the simulator must find: what earlier leaders have announced is not reckoned with.
    #[cfg(test)]
    pub(crate) forgets: std::sync::atomic::AtomicBool,
}

impl Window {
    /// The next timestamp, at or above the wall clock, if `term` has a window with room.
    ///
    /// Ordering: sequentially consistent, so that who sees no latch after it has got a timestamp
    /// knows that later latches get later ones.
    pub fn take(&self, term: u64, wall_ms: u64) -> Option<Moment> {
        self.take_block(term, wall_ms, 1)
    }

    /// Like [`Self::take`], as many timestamps as `count` says: the one returned and those behind it.
    pub fn take_block(&self, term: u64, wall_ms: u64, count: u32) -> Option<Moment> {
        let at = self.take_bare(term, wall_ms, count)?;
        // Invariant: looked at after the timestamp was taken. Of an announced commit with a smaller
        // one it was said before that was taken.
        let announced = Timestamp(self.announced.load(Ordering::SeqCst));
        Some(Moment { at, announced })
    }

    /// Like [`Self::take`], for a commit of which everybody is to hear. Later leaders hear of it when it
    /// has been replicated, which must be before it is used.
    pub fn announce(&self, term: u64, wall_ms: u64) -> Option<Timestamp> {
        let _one = self.announcing.lock();
        // Invariant: before the timestamp is taken, so that whoever takes a larger one sees it.
        let before = self.announced.swap(u64::MAX, Ordering::SeqCst);
        let taken = self.take_bare(term, wall_ms, 1);
        let announced = taken.map_or(before, |taken| taken.0);
        debug_assert!(before <= announced, "Invariant: announcements rise");
        self.announced.store(announced, Ordering::SeqCst);
        taken
    }

    fn take_bare(&self, term: u64, wall_ms: u64, count: u32) -> Option<Timestamp> {
        if self.term.load(Ordering::SeqCst) != term {
            return None;
        }
        let wall = Timestamp::from_millis(wall_ms).0;
        let limit = self.limit.load(Ordering::SeqCst);
        let more = u64::from(count.max(1) - 1);
        let end = |last: u64| Some((last + 1).max(wall) + more).filter(|end| *end < limit);
        let last = self
            .last
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, end)
            .ok()?;
        let taken = end(last)? - more;
        debug_assert!(
            last < taken && taken + more < limit,
            "Invariant: below a replicated bound"
        );
        Some(Timestamp(taken))
    }

    /// The bound that a refill should replicate: a window's length above what is handed out, above
    /// the wall clock and above every bound of earlier leaders.
    pub fn next_bound(&self, wall_ms: u64, replicated: u64) -> u64 {
        let wall = Timestamp::from_millis(wall_ms).0;
        let base = self.last.load(Ordering::SeqCst).max(wall);
        let bound = base.saturating_add(Timestamp::from_millis(WINDOW_MS).0);
        // A clock far behind: a fresh leader begins above the old bound and needs room there.
        bound.max(replicated.saturating_add(Timestamp::from_millis(WINDOW_MS / 2).0))
    }

    /// Opens the window up to `bound`, which has been replicated by the leadership `term`, while
    /// the highest bound before it was `before`, and no announced commit of earlier leaders lies above
    /// `announced`.
    pub fn open(&self, term: u64, before: u64, announced: u64, bound: u64) {
        if self.term.load(Ordering::SeqCst) != term {
            let _one = self.announcing.lock();
            self.term.store(0, Ordering::SeqCst);
            self.last.fetch_max(before, Ordering::SeqCst);
            #[cfg(test)]
            let announced = match self.forgets.load(Ordering::SeqCst) {
                true => 0,
                false => announced,
            };
            self.announced.fetch_max(announced, Ordering::SeqCst);
        }
        self.limit.fetch_max(bound, Ordering::SeqCst);
        self.term.store(term, Ordering::SeqCst);
    }

    /// Whether the window of `term` is so short that it should be refilled ahead of need.
    pub fn wants_refill(&self, term: u64, wall_ms: u64) -> bool {
        let base = self
            .last
            .load(Ordering::SeqCst)
            .max(Timestamp::from_millis(wall_ms).0);
        let left = self.limit.load(Ordering::SeqCst).saturating_sub(base);
        self.term.load(Ordering::SeqCst) != term || left < Timestamp::from_millis(WINDOW_MS / 2).0
    }

    /// The last timestamp handed out here.
    pub fn last(&self) -> Timestamp {
        Timestamp(self.last.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_handed_out_beyond_the_bound_or_by_another_term() {
        let window = Window::default();
        assert_eq!(window.take(1, 5), None);
        let bound = window.next_bound(5, 0);
        window.open(1, 0, 0, bound);
        assert_eq!(window.take(2, 5), None);
        let next = |wall_ms| window.take(1, wall_ms).map(|moment| moment.at);
        assert_eq!(next(5), Some(Timestamp::from_millis(5)));
        assert_eq!(next(4), Some(Timestamp(Timestamp::from_millis(5).0 + 1)));
        assert_eq!(window.take(1, 5 + WINDOW_MS), None);
        let block = window.take_block(1, 4, 10).map(|moment| moment.at);
        assert_eq!(block, Some(Timestamp(Timestamp::from_millis(5).0 + 2)));
        assert_eq!(next(4), Some(Timestamp(Timestamp::from_millis(5).0 + 12)));
        assert_eq!(window.take_block(1, 5 + WINDOW_MS - 1, 1 << 20), None);
        assert!(window.wants_refill(1, 5 + WINDOW_MS / 2 + 1));
        assert!(!window.wants_refill(1, 5));
    }

    #[test]
    fn a_new_leader_begins_above_the_old_bound() {
        let window = Window::default();
        let old = Timestamp::from_millis(90_000).0;
        // Its clock is far behind.
        let bound = window.next_bound(5, old);
        let announced = Timestamp(old - 7);
        window.open(7, old, announced.0, bound);
        let first = window.take(7, 5).unwrap();
        assert!(first.at.0 > old && first.at.0 < bound);
        assert_eq!(first.announced, announced, "by an earlier leader");
    }

    #[test]
    fn what_is_announced_is_told_with_every_later_timestamp() {
        let window = Window::default();
        assert_eq!(window.announce(1, 5), None);
        window.open(1, 0, 0, u64::MAX);
        let before = window.take(1, 5).unwrap();
        assert!(before.is_quiet_since(Timestamp::ZERO), "{before:?}");
        let announced = window.announce(1, 5).unwrap();
        assert_eq!(window.announce(2, 5), None);
        let after = window.take_block(1, 5, 7).unwrap();
        assert!(before.at < announced && announced < after.at);
        assert_eq!(after.announced, announced);
        assert!(after.is_quiet_since(announced) && !after.is_quiet_since(before.at));
    }

    #[test]
    fn threads_hear_of_everything_announced_before() {
        let window = Window::default();
        window.open(1, 0, 0, u64::MAX);
        let (taken, announced) = std::thread::scope(|scope| {
            let take = || (0..20_000).filter_map(|_| window.take(1, 3)).collect();
            let announce = || (0..2_000).filter_map(|_| window.announce(1, 3)).collect();
            let taking = [scope.spawn(take), scope.spawn(take)];
            let announcing = [scope.spawn(announce), scope.spawn(announce)];
            let taken: Vec<Vec<Moment>> = taking.map(|thread| thread.join().unwrap()).into();
            let announced: Vec<Vec<Timestamp>> =
                announcing.map(|thread| thread.join().unwrap()).into();
            (taken.concat(), announced.concat())
        });
        let mut announced = announced;
        announced.sort();
        for moment in taken {
            let below = announced.partition_point(|announced| *announced < moment.at);
            let last = below
                .checked_sub(1)
                .map_or(Timestamp::ZERO, |at| announced[at]);
            assert!(
                last <= moment.announced,
                "{last} was announced before {moment:?}"
            );
        }
    }

    #[test]
    fn threads_get_distinct_increasing_timestamps() {
        let window = Window::default();
        window.open(1, 0, 0, u64::MAX);
        let mut all: Vec<Timestamp> = std::thread::scope(|scope| {
            let take = || {
                let taken = (0..5_000).filter_map(|_| window.take(1, 3));
                let taken: Vec<_> = taken.map(|moment| moment.at).collect();
                assert!(taken.is_sorted_by(|a, b| a < b));
                taken
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 20_000);
    }
}

//! [`Watches`]: which keys of a span are written from some moment on.
//!
//! Whoever keeps rows of a span in another form (decoded, by columns) begins a [`Watch`], scans
//! the span, and later asks which of its keys have been written since: the rest is as it was. A
//! commit is noted while it is applied, after its rows can be read and before its latches end.
//!
//! Invariant: a reader at `r` that has waited for the commits at or below `r` hears of every key
//! that one of them wrote after the timestamp of the scan at the beginning. (A commit applied
//! later than the watch began is noted. One applied before is in the store that was scanned: its
//! rows were seen, or passed over as too new, which [`Scan::met_newer`] tells.)
//!
//! [`Scan::met_newer`]: crate::txn::Scan::met_newer

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::timestamp::Timestamp;
use crate::txn::{Span, after};

/// Keys noted for one watch; with more it is lost.
const KEYS_MAX: usize = 8_192;
/// Watches of a replica; more are lost from the beginning.
const WATCHES_MAX: usize = 16_384;

/// The watches of a replica. They do not overlap: a new one ends those in its way.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    by_start: RwLock<BTreeMap<Bytes, Entry>>,
}

#[derive(Debug)]
struct Entry {
    end: Bytes,
    written: Weak<Mutex<Written>>,
}

#[derive(Debug, Default)]
struct Written {
    /// Each key with the first commit that wrote it.
    keys: BTreeMap<Bytes, Timestamp>,
    /// More was written than was noted.
    lost: bool,
}

impl Written {
    fn lose(&mut self) {
        self.keys.clear();
        self.lost = true;
    }
}

/// What is noted of a span. It ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    span: Span,
    since: Timestamp,
    written: Arc<Mutex<Written>>,
    watches: Arc<Watches>,
}

impl Watches {
    /// Begins to note what is written to `span`. The caller scans it afterwards, at `since`.
    pub(crate) fn begin(self: &Arc<Self>, span: Span, since: Timestamp) -> Watch {
        let written = Arc::new(Mutex::new(Written::default()));
        let mut by_start = self.by_start.write();
        let in_the_way: Vec<Bytes> = by_start
            .range::<Bytes, _>(..&span.end)
            .rev()
            .take_while(|(_, entry)| entry.end > span.start)
            .map(|(start, _)| start.clone())
            .collect();
        for start in in_the_way {
            let ended = by_start.remove(&start);
            if let Some(ended) = ended.and_then(|entry| entry.written.upgrade()) {
                ended.lock().lose();
            }
        }
        if by_start.len() >= WATCHES_MAX || span.start >= span.end {
            written.lock().lose();
        } else {
            let entry = Entry {
                end: span.end.clone(),
                written: Arc::downgrade(&written),
            };
            by_start.insert(span.start.clone(), entry);
        }
        Watch {
            span,
            since,
            written,
            watches: Arc::clone(self),
        }
    }

    /// Notes that `keys` were written at `commit`.
    pub(crate) fn note<'a>(&self, commit: Timestamp, keys: impl Iterator<Item = &'a Bytes>) {
        // Under the lock: a watch that begins later scans a store that has these rows.
        let by_start = self.by_start.read();
        if by_start.is_empty() {
            return;
        }
        for key in keys {
            let below = by_start.range::<Bytes, _>(..=key).next_back();
            let Some((_, entry)) = below.filter(|(_, entry)| *key < entry.end) else {
                continue;
            };
            let Some(written) = entry.written.upgrade() else {
                continue;
            };
            let mut written = written.lock();
            if written.lost {
                continue;
            }
            if written.keys.len() >= KEYS_MAX {
                written.lose();
            } else {
                let first = written.keys.entry(key.clone()).or_insert(commit);
                debug_assert!(*first <= commit, "versions of a key are applied in order");
            }
        }
    }

    /// Ends all watches: the store was replaced by a snapshot.
    pub(crate) fn forget(&self) {
        for (_, entry) in std::mem::take(&mut *self.by_start.write()) {
            if let Some(written) = entry.written.upgrade() {
                written.lock().lose();
            }
        }
    }
}

impl Watch {
    /// The keys it is about.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Parts it behind `last`, one of its keys: this one keeps what lies before and `last` itself,
    /// the new one has the rest; `None`, and nothing is done, when there is no rest.
    pub fn split_after(&mut self, last: &[u8]) -> Option<Watch> {
        let next = after(last);
        (next < self.span.end).then(|| self.split_off(next))
    }

    /// Parts it at `key`: this one keeps what lies before, the new one has the rest. Nothing that
    /// is written meanwhile is missed.
    fn split_off(&mut self, key: Bytes) -> Watch {
        debug_assert!(self.span.start < key && key < self.span.end, "not inside");
        let mut by_start = self.watches.by_start.write();
        let mut own = self.written.lock();
        let rest = Written {
            keys: own.keys.split_off(&key),
            lost: own.lost,
        };
        let rest = Arc::new(Mutex::new(rest));
        let end = std::mem::replace(&mut self.span.end, key.clone());
        if !own.lost
            && let Some(entry) = by_start.get_mut(&self.span.start)
        {
            entry.end = key.clone();
            let entry = Entry {
                end: end.clone(),
                written: Arc::downgrade(&rest),
            };
            by_start.insert(key.clone(), entry);
        }
        Watch {
            span: Span { start: key, end },
            since: self.since,
            written: rest,
            watches: Arc::clone(&self.watches),
        }
    }

    /// Whether it belongs to these watches.
    pub(crate) fn is_of(&self, watches: &Arc<Watches>) -> bool {
        Arc::ptr_eq(&self.watches, watches)
    }

    /// The keys of `within` written by commits at or below `at`, in order; `None` when that is not
    /// known. The caller has waited for those commits.
    pub(crate) fn written_until(&self, within: &Span, at: Timestamp) -> Option<Vec<Bytes>> {
        let written = self.written.lock();
        let inside = self.span.start <= within.start && within.end <= self.span.end;
        if written.lost || at < self.since || !inside {
            return None;
        }
        if within.start >= within.end {
            return Some(Vec::new());
        }
        let keys = written.keys.range::<Bytes, _>(&within.start..&within.end);
        let until = keys.filter(|(_, first)| **first <= at);
        Some(until.map(|(key, _)| key.clone()).collect())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut by_start = self.watches.by_start.write();
        let own = by_start
            .get(&self.span.start)
            .is_some_and(|entry| std::ptr::eq(entry.written.as_ptr(), Arc::as_ptr(&self.written)));
        if own {
            by_start.remove(&self.span.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Bytes {
        Bytes::copy_from_slice(&[n])
    }

    fn span(from: u8, to: u8) -> Span {
        Span {
            start: key(from),
            end: key(to),
        }
    }

    fn told(watch: &Watch, at: u64) -> Option<Vec<Bytes>> {
        watch.written_until(watch.span(), Timestamp(at))
    }

    #[test]
    fn what_is_written_is_told_up_to_the_readers_timestamp() {
        let watches = Arc::new(Watches::default());
        let watch = watches.begin(span(10, 20), Timestamp(5));
        watches.note(Timestamp(6), [key(10), key(9), key(20)].iter());
        watches.note(Timestamp(8), [key(10), key(19)].iter());
        assert_eq!(told(&watch, 4), None);
        assert_eq!(told(&watch, 5), Some(vec![]));
        assert_eq!(told(&watch, 7), Some(vec![key(10)]));
        assert_eq!(told(&watch, 8), Some(vec![key(10), key(19)]));
        let some = |from, to| watch.written_until(&span(from, to), Timestamp(8));
        assert_eq!(some(11, 20), Some(vec![key(19)]));
        assert_eq!(some(9, 20), None);
    }

    #[test]
    fn parts_share_what_was_noted_and_go_on() {
        let watches = Arc::new(Watches::default());
        let mut left = watches.begin(span(0, 100), Timestamp(0));
        watches.note(Timestamp(1), [key(3), key(50)].iter());
        let right = left.split_off(key(50));
        watches.note(Timestamp(2), [key(4), key(51)].iter());
        assert_eq!(told(&left, 2), Some(vec![key(3), key(4)]));
        assert_eq!(told(&right, 2), Some(vec![key(50), key(51)]));
        drop(left);
        watches.note(Timestamp(3), [key(5), key(99)].iter());
        assert_eq!(told(&right, 3).unwrap().len(), 3);
    }

    #[test]
    fn a_watch_in_the_way_of_another_is_lost_and_so_is_a_full_one() {
        let watches = Arc::new(Watches::default());
        let (one, two) = (
            watches.begin(span(0, 10), Timestamp(0)),
            watches.begin(span(10, 20), Timestamp(0)),
        );
        let over = watches.begin(span(9, 15), Timestamp(0));
        assert_eq!(told(&one, 9), None);
        assert_eq!(told(&two, 9), None);
        drop((one, two));
        watches.note(Timestamp(1), [key(9)].iter());
        assert_eq!(told(&over, 9), Some(vec![key(9)]));
        watches.forget();
        assert_eq!(told(&over, 9), None);

        let wide = watches.begin(span(0, 255), Timestamp(0));
        let many: Vec<Bytes> = (0..=u16::try_from(KEYS_MAX).unwrap())
            .map(|n| Bytes::copy_from_slice(&[&[1], n.to_be_bytes().as_slice()].concat()))
            .collect();
        watches.note(Timestamp(1), many.iter());
        assert_eq!(told(&wide, 9), None);
    }
}

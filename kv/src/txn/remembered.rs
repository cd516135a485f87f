//! [`Remembered`]: what was read of the catalog once, and for which timestamps it holds.
//!
//! ```text
//!       announced with r          r            announced with s      s
//!  -----------|-------------------|-------------------|--------------|---->
//!             |  read at r: holds from here ...       |
//!             |                   ... to here; at s too, if nothing was announced after r
//! ```
//!
//! Every timestamp comes with that of the last announced change (see [`crate::oracle`]). So a
//! transaction knows whether what another has read is what it would read, without asking the range
//! that holds it.
//!
//! Invariant: what is remembered is what a read would find at every timestamp from `from` to `upto`.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::oracle::Moment;
use crate::timestamp::Timestamp;
use crate::txn::Txn;

struct Entry<T> {
    what: Arc<T>,
    from: Timestamp,
    upto: Timestamp,
}

/// Something that depends on nothing but rows of the catalog, as it was read last. Of one cluster:
/// it may serve the transactions of several nodes.
pub struct Remembered<T> {
    newest: RwLock<Option<Entry<T>>>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self {
            newest: RwLock::default(),
        }
    }
}

impl<T> Remembered<T> {
    /// What the transaction would read, if that is known. It counts as read by the transaction.
    pub fn recall(&self, txn: &Txn) -> Option<Arc<T>> {
        self.at(txn.catalog_moment()?)
    }

    fn at(&self, moment: Moment) -> Option<Arc<T>> {
        let newest = self.newest.read();
        let Entry { what, from, upto } = newest.as_ref()?;
        let holds = *from <= moment.at && (moment.at <= *upto || moment.is_quiet_since(*upto));
        holds.then(|| Arc::clone(what))
    }

    /// Remembers what the transaction has read at its read timestamp, unless something newer was read
    /// already.
    pub fn note(&self, txn: &Txn, what: Arc<T>) {
        if let Some(moment) = txn.catalog_moment() {
            self.note_at(moment, what);
        }
    }

    fn note_at(&self, moment: Moment, what: Arc<T>) {
        let mut newest = self.newest.write();
        if newest.as_ref().is_none_or(|known| known.upto < moment.at) {
            *newest = Some(Entry {
                what,
                from: moment.announced.min(moment.at),
                upto: moment.at,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(at: u64, announced: u64) -> Moment {
        let (at, announced) = (Timestamp(at), Timestamp(announced));
        Moment { at, announced }
    }

    #[test]
    fn it_holds_from_the_last_change_to_the_next() {
        let remembered = Remembered::default();
        let at = |at, announced| remembered.at(moment(at, announced)).map(|what| *what);
        assert_eq!(at(20, 10), None);
        remembered.note_at(moment(20, 10), Arc::new('a'));
        for (when, announced) in [(20, 10), (15, 10), (10, 10), (15, 20), (30, 10), (30, 20)] {
            assert_eq!(at(when, announced), Some('a'), "{when} {announced}");
        }
        // Before it, and after a change.
        assert_eq!(at(9, 5), None);
        assert_eq!(at(30, 25), None);
        // Nothing is known of what was announced.
        assert_eq!(at(30, u64::MAX), None);
        assert_eq!(at(20, u64::MAX), Some('a'));
        remembered.note_at(moment(18, 10), Arc::new('b'));
        assert_eq!(at(20, 10), Some('a'));
        remembered.note_at(moment(30, u64::MAX), Arc::new('c'));
        assert_eq!(at(30, 30), Some('c'));
        assert_eq!(at(29, 10), None);
        assert_eq!(at(31, 30), Some('c'));
    }
}

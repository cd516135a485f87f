//! [`Heard`]: which transactions have shown that they live, so that the others can be given up.
//!
//! A matter of liveness only: rolling back a transaction that lives costs it its work and nothing
//! else. It is in memory of the leader and begins anew with the next one.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::timestamp::Timestamp;

/// A transaction that has not been heard of for so long is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// How often one that lives says so.
pub(crate) const SAYS_SO: Duration = Duration::from_secs(1);
const _: () = assert!(SAYS_SO.as_millis() * 2 < PATIENCE.as_millis());

/// Transactions remembered; beyond it those not heard of for long are forgotten.
const REMEMBERED: usize = 4_096;

/// When transactions were heard of, by primary key and start.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    last: Mutex<BTreeMap<(Bytes, Timestamp), Duration>>,
}

impl Heard {
    /// The transaction says at `now` that it lives.
    pub(crate) fn note(&self, primary: &Bytes, start: Timestamp, now: Duration) {
        self.last.lock().insert((primary.clone(), start), now);
    }

    /// Whether it has not been heard of for too long. The first question counts as hearing of it.
    pub(crate) fn is_lost(&self, primary: &Bytes, start: Timestamp, now: Duration) -> bool {
        let mut last = self.last.lock();
        if last.len() >= REMEMBERED {
            last.retain(|_, at| now.saturating_sub(*at) < PATIENCE * 4);
        }
        let at = *last.entry((primary.clone(), start)).or_insert(now);
        now.saturating_sub(at) >= PATIENCE
    }

    /// It is decided.
    pub(crate) fn forget(&self, primary: &Bytes, start: Timestamp) {
        self.last.lock().remove(&(primary.clone(), start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_lost_when_nothing_was_heard_for_long() {
        let (heard, key) = (Heard::default(), Bytes::from_static(b"k"));
        let (start, second) = (Timestamp(7), Duration::from_secs(1));
        assert!(!heard.is_lost(&key, start, second));
        assert!(!heard.is_lost(&key, start, second * 3));
        assert!(heard.is_lost(&key, start, second * 4));
        heard.note(&key, start, second * 4);
        assert!(!heard.is_lost(&key, start, second * 5));
        heard.forget(&key, start);
        assert!(!heard.is_lost(&key, start, second * 50));
    }
}

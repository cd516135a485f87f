//! [`Stirs`]: a count of events that can be waited for.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// A count. Those who wait for it are woken in the order in which they came: a channel that draws
/// the order would keep a simulation from repeating itself.
#[derive(Debug, Default)]
pub(crate) struct Stirs {
    count: AtomicU64,
    bell: Notify,
}

impl Stirs {
    /// Counts one more.
    pub(crate) fn add(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.bell.notify_waiters();
    }

    /// How many there have been.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until there have been more than `seen`. Dropped, it does nothing.
    pub(crate) async fn beyond(&self, seen: u64) {
        loop {
            // Before the count is looked at: it hears the bell from here on.
            let rung = self.bell.notified();
            if self.count() > seen {
                return;
            }
            rung.await;
        }
    }
}

//! Appends of one group that the log has not synced yet.
//!
//! Invariant: a replica applies no entry before its own log has it on disk. A majority without this
//! replica is enough to commit an entry; were it applied here at once, the state machine could
//! become durable before the log does, and a power failure leave data ahead of the log, which looks
//! like a log that has lost records, and is refused.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::state_machine::StorageError;

/// The appends under way, in their order in the log's queue.
#[derive(Default)]
pub(crate) struct Unsynced {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Index of the first entry of each.
    first: VecDeque<u64>,
    waiters: usize,
    failed: Option<StorageError>,
}

impl Unsynced {
    /// Notes an append whose first entry is at `index`. Called in the order of the queue.
    pub(super) fn begin(&self, index: u64) {
        self.state.lock().first.push_back(index);
    }

    /// Notes the end of the oldest append; the log ends them in the order of its queue.
    pub(super) fn end(&self, result: &Result<(), StorageError>) {
        let mut state = self.state.lock();
        state.first.pop_front();
        if let Err(error) = result {
            state.failed.get_or_insert_with(|| error.clone());
        }
        if state.waiters > 0 {
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Waits until the log has all entries up to `index`, which were appended before, on disk.
    ///
    /// # Errors
    /// When the log has failed.
    pub(super) async fn wait(&self, index: u64) -> Result<(), StorageError> {
        if self.is_synced(index)? {
            return Ok(());
        }
        let _waiter = Waiter::new(self);
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Before the look: what ends between them must not be missed.
            changed.as_mut().enable();
            if self.is_synced(index)? {
                return Ok(());
            }
            changed.await;
        }
    }

    /// An append that begins above `index` cannot hold it. One below it may not hold it either, if
    /// it was truncated since; then this waits longer than it must.
    fn is_synced(&self, index: u64) -> Result<bool, StorageError> {
        let state = self.state.lock();
        match &state.failed {
            Some(error) => Err(error.clone()),
            None => Ok(state.first.iter().all(|first| *first > index)),
        }
    }
}

/// Counts as a waiter for as long as it lives.
struct Waiter<'a>(&'a Unsynced);

impl<'a> Waiter<'a> {
    fn new(unsynced: &'a Unsynced) -> Self {
        unsynced.state.lock().waiters += 1;
        Self(unsynced)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiters -= 1;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn waits_for_the_appends_that_may_hold_an_entry() {
        let unsynced = Unsynced::default();
        assert_eq!(unsynced.wait(7).now_or_never(), Some(Ok(())));
        unsynced.begin(5);
        unsynced.begin(8);
        assert_eq!(unsynced.wait(4).now_or_never(), Some(Ok(())));
        let mut seven = std::pin::pin!(unsynced.wait(7));
        let mut eight = std::pin::pin!(unsynced.wait(8));
        assert_eq!(seven.as_mut().now_or_never(), None);
        assert_eq!(eight.as_mut().now_or_never(), None);
        unsynced.end(&Ok(()));
        assert_eq!(seven.now_or_never(), Some(Ok(())));
        assert_eq!(eight.as_mut().now_or_never(), None);
        // Truncated and written anew: in the queue behind the others.
        unsynced.begin(6);
        unsynced.end(&Ok(()));
        assert_eq!(eight.as_mut().now_or_never(), None);
        unsynced.end(&Ok(()));
        assert_eq!(eight.now_or_never(), Some(Ok(())));
        assert_eq!(unsynced.state.lock().waiters, 0);
    }

    #[test]
    fn a_log_that_has_failed_ends_the_wait() {
        let unsynced = Unsynced::default();
        unsynced.begin(1);
        let mut one = std::pin::pin!(unsynced.wait(1));
        assert_eq!(one.as_mut().now_or_never(), None);
        let failed = StorageError::new("no disk");
        unsynced.end(&Err(failed.clone()));
        assert_eq!(one.now_or_never(), Some(Err(failed)));
    }
}

//! [`HostCounts`]: what the groups of a host have done since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the groups of a host have done since it was opened, for monitoring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostCounts {
    /// Commands that were to be replicated.
    pub proposals: u64,
    /// Elections that replicas here have won.
    pub elections: u64,
    /// Snapshots that other replicas have taken from here.
    pub snapshots_sent: u64,
    /// Snapshots that replicas here were given.
    pub snapshots_received: u64,
}

/// The counters behind [`HostCounts`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) proposals: Counter,
    pub(crate) elections: Counter,
    pub(crate) snapshots_sent: Counter,
    pub(crate) snapshots_received: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn read(&self) -> HostCounts {
        HostCounts {
            proposals: self.proposals.value(),
            elections: self.elections.value(),
            snapshots_sent: self.snapshots_sent.value(),
            snapshots_received: self.snapshots_received.value(),
        }
    }
}

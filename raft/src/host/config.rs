//! What a host is told when it is opened.

use std::time::Duration;

use openraft::{Config, ConfigError, SnapshotPolicy};

use crate::membership::Place;

/// Timers of all groups of a cluster. They must be equal on all nodes: a leader's lease relies on
/// how long the others refuse to vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// A leader that has nothing to say says so this often.
    pub heartbeat_ms: u64,
    /// A follower that hears nothing campaigns after a random time from here...
    pub election_min_ms: u64,
    /// ...to here. Also how long a follower refuses to vote after it has heard a leader.
    pub election_max_ms: u64,
    /// How long a leader may serve reads after it sent a message that a majority answered: what the
    /// others promise, less a tenth for clocks that run at different rates.
    pub lease_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_ms: 200,
            election_min_ms: 750,
            election_max_ms: 1_500,
            lease_ms: 1_350,
        }
    }
}

impl Timing {
    /// Short timers for tests on a paused clock.
    pub fn fast() -> Self {
        Self {
            heartbeat_ms: 50,
            election_min_ms: 200,
            election_max_ms: 400,
            lease_ms: 360,
        }
    }

    /// [`Self::lease_ms`].
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// What the others promise.
    pub(crate) fn promise(&self) -> Duration {
        Duration::from_millis(self.election_max_ms)
    }
}

/// What a host is told when it is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostConfig {
    /// This node and store.
    pub place: Place,
    /// Timers.
    pub timing: Timing,
    /// The longest command that may be proposed.
    pub command_bytes_max: usize,
    /// Entries kept in a log below the newest purge point, so that a peer that lags needs no
    /// snapshot. At least 10,000: openraft may purge what it has yet to apply when it is small
    /// (its issue 2116).
    pub log_entries_kept: u64,
    /// Bytes of entries kept in the log of a group, when that is less: what is above, and durable
    /// in the data, is purged. A peer that lags by more needs a snapshot. Without peers a few MiB
    /// are kept at most.
    pub log_bytes_kept: u64,
    /// How often the host looks after its groups.
    pub supervise_ms: u64,
    /// A group that nobody has used for so long becomes quiescent; 0: none ever does.
    pub quiesce_after_ms: u64,
}

impl HostConfig {
    /// The defaults for a store.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            timing: Timing::default(),
            command_bytes_max: 64 << 20,
            log_entries_kept: 10_000,
            log_bytes_kept: 256 << 20,
            supervise_ms: 500,
            quiesce_after_ms: 10_000,
        }
    }

    pub(crate) fn raft_config(&self) -> Result<Config, ConfigError> {
        let Timing {
            heartbeat_ms,
            election_min_ms,
            election_max_ms,
            lease_ms: _,
        } = self.timing;
        Config {
            cluster_name: "pontoon".to_owned(),
            heartbeat_interval: heartbeat_ms,
            heartbeat_min_interval: Some(heartbeat_ms * 4 / 5),
            election_timeout_min: election_min_ms,
            election_timeout_max: election_max_ms,
            install_snapshot_timeout: 600_000,
            max_payload_entries: 1_024,
            replication_lag_threshold: 50_000,
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.log_entries_kept,
            purge_batch_size: (self.log_entries_kept / 10).clamp(1, 1_024),
            enable_pre_vote: Some(true),
            enable_leader_restore: Some(false),
            enable_elect: false,
            ..Config::default()
        }
        .validate()
    }
}

//! Looking after the groups of a host: what has died is reported and opened again, what may be
//! purged is purged, and replicas that were restarted begin to campaign once it is safe.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;

use super::config::HostConfig;
use super::open::HostInner;
use crate::group::{Core, GroupInner, Running};
use crate::ids::GroupId;
use crate::state_machine::StorageError;

/// What a host tells the process it runs in.
pub trait HostEvents: Send + Sync + 'static {
    /// The disk failed. Nothing more will be made durable; the process should end.
    fn fatal(&self, error: StorageError);

    /// A group has died and will be opened again from disk.
    fn group_down(&self, group: GroupId, reason: String) {
        let _ = (group, reason);
    }

    /// A group that was down runs again.
    fn group_up(&self, group: GroupId) {
        let _ = group;
    }
}

/// Rounds to wait after the n-th failure to reopen a group: 1, 2, 4, ... up to this.
const BACKOFF_ROUNDS_MAX: u32 = 64;

pub(super) async fn supervise(host: Weak<HostInner>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(host) = host.upgrade() else { return };
        let groups: Vec<_> = host.groups.read().values().cloned().collect();
        for group in groups {
            host.look_after(&group).await;
        }
    }
}

/// Lets the log go as far as it is durable in the data and neither its entries nor its bytes are
/// to be kept. openraft purges by entries when it hears what is durable, which it takes for a
/// snapshot; by bytes only when told.
///
/// Entries are kept for peers that lag.
async fn compact_log(core: &Core, config: &HostConfig, applied: u64, snapshot: u64) {
    let bytes_kept = config.log_bytes_kept;
    let purged = core.log.state().purged.map_or(0, |position| position.index);
    let kept = config.log_entries_kept;
    let many = applied.saturating_sub(purged) > kept + kept / 4
        && applied.saturating_sub(snapshot) > kept / 4;
    let large = core.log.bytes() > bytes_kept + bytes_kept / 4;
    if many || (large && applied > snapshot) {
        let _ = core.raft.trigger().snapshot().await;
    }
    let newest = if large {
        core.log.newest(bytes_kept)
    } else {
        0
    };
    // A replica that joins must begin with a snapshot: no log reaches back to the first entry for
    // longer than it takes to make that durable.
    let first = u64::from(purged == 0 && snapshot > 0);
    if purged == 0 && snapshot == 0 && applied > 0 && !many && !large {
        let _ = core.raft.trigger().snapshot().await;
    }
    let upto = newest.saturating_sub(1).min(snapshot).max(first);
    if upto > purged {
        // openraft counts from 0.
        let _ = core.raft.trigger().purge_log(upto - 1).await;
    }
}

impl HostInner {
    async fn look_after(&self, group: &Arc<GroupInner>) {
        match group.running() {
            None => self.try_reopen(group).await,
            Some(Running::Core(core)) => self.look_after_core(group, &core).await,
            Some(Running::Alone(alone)) => match alone.failure() {
                None => alone.compact(&group.wiring.config),
                Some(reason) => {
                    let panicked = alone.has_panicked();
                    drop(alone);
                    self.end_failed(group, reason, panicked, panicked).await;
                }
            },
        }
    }

    async fn look_after_core(&self, group: &Arc<GroupInner>, core: &Arc<Core>) {
        let (running, applied, snapshot) = {
            let metrics = core.metrics.borrow_watched();
            let applied = metrics.last_applied.as_ref().map_or(0, |id| id.index() + 1);
            let snapshot = metrics.snapshot.as_ref().map_or(0, |id| id.index() + 1);
            (metrics.running_state.clone(), applied, snapshot)
        };
        match running {
            Ok(()) => {
                if core.vote_guard.is_some() && !core.vote_guard_holds() {
                    core.raft.runtime_config().elect(true);
                }
                compact_log(core, &group.wiring.config, applied, snapshot).await;
                group.look_after_rest(core);
            }
            Err(error) => {
                let panicked = core.applier.has_panicked();
                let reopens = panicked || !matches!(error, Fatal::StorageError(_));
                self.end_failed(group, error.to_string(), panicked, reopens)
                    .await;
            }
        }
    }

    /// Takes down a replica that has failed. It is opened again, unless it was the disk: then
    /// nobody knows what that holds.
    async fn end_failed(
        &self,
        group: &Arc<GroupInner>,
        reason: String,
        panicked: bool,
        reopens: bool,
    ) {
        if panicked {
            let applied = group.cell.applied_index();
            group.note_panic(applied, reason.clone());
        }
        group.end().await;
        tracing::error!(group = %group.id, reason, "raft group is down");
        self.events.group_down(group.id, reason.clone());
        if reopens {
            self.try_reopen(group).await;
        } else {
            let message = format!("group {}: {reason}", group.id);
            self.events.fatal(StorageError::new(message));
        }
    }

    async fn try_reopen(&self, group: &Arc<GroupInner>) {
        match group.restart(BACKOFF_ROUNDS_MAX).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(group = %group.id, "raft group is up again");
                self.events.group_up(group.id);
            }
            Err(error) => {
                tracing::error!(group = %group.id, %error, "could not reopen raft group");
                if let crate::error::OpenError::Storage(error) = error {
                    self.events.fatal(error);
                }
            }
        }
    }
}

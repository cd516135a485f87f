//! Start and stop of what runs a replica, and the change from one to the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use openraft::async_runtime::Instant as _;
use parking_lot::{Mutex, RwLock};

use super::alone::{Alone, stands_alone};
use super::applier::{Applier, MachineFactory};
use super::core::Core;
use super::handle::{Admits, GroupInner, Running, Wiring};
use super::leadership::{CellView, LeaderCell};
use super::log::LogAdapter;
use super::machine::Machine;
use super::network::Network;
use super::quiesce::Quiescence;
use super::together::gathered;
use super::types::{Instant, Raft, seeded};
use super::unsynced::Unsynced;
use crate::error::{MembershipError, OpenError};
use crate::ids::{GroupId, ReplicaId};
use crate::log_store::GroupLog;
use crate::membership::{Membership, Peer};
use crate::snapshot::Staging;
use crate::state_machine::StorageError;

impl GroupInner {
    pub(crate) fn new(
        id: GroupId,
        replica: ReplicaId,
        wiring: Arc<Wiring>,
        factory: MachineFactory,
        admits: Option<Admits>,
    ) -> Self {
        Self {
            id,
            me: Peer {
                replica,
                place: wiring.config.place,
            },
            wiring,
            cell: Arc::new(LeaderCell::new(replica)),
            factory,
            admits,
            running: RwLock::new(None),
            stays_awake: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            machine_alive: Mutex::default(),
            starting: tokio::sync::Mutex::new(false),
            reopen_failures: AtomicU32::new(0),
            reopen_wait: AtomicU32::new(0),
            panics: Mutex::default(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Opens log and state machine and starts openraft on them, for the first time.
    pub(crate) async fn start(&self) -> Result<(), OpenError> {
        let mut started = self.starting.lock().await;
        if self.is_closed() {
            return Err(OpenError::Stopped);
        }
        self.open().await?;
        *started = true;
        Ok(())
    }

    /// Starts anew what has been taken down. `Ok(false)`: there is nothing to do, or not yet.
    pub(crate) async fn restart(&self, rounds_max: u32) -> Result<bool, OpenError> {
        // Invariant: never two cores of one replica.
        let started = self.starting.lock().await;
        let due = *started
            && !self.is_closed()
            && self.running.read().is_none()
            && self.machine_alive.lock().strong_count() == 0;
        if !due || !self.restart_is_due(rounds_max) {
            return Ok(false);
        }
        let outcome = self.open().await;
        match &outcome {
            // Unless it has panicked before: then it shows only later how long it lasts.
            Ok(()) if self.panics.lock().is_empty() => {
                self.reopen_failures.store(0, Ordering::Relaxed);
            }
            Ok(()) => {}
            Err(_) => {
                self.reopen_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        outcome.map(|()| true)
    }

    /// Counts rounds of the supervisor down; true when the next attempt is due.
    fn restart_is_due(&self, rounds_max: u32) -> bool {
        let wait = self.reopen_wait.load(Ordering::Relaxed);
        if wait > 0 {
            self.reopen_wait.store(wait - 1, Ordering::Relaxed);
            return false;
        }
        let failures = self.reopen_failures.load(Ordering::Relaxed).min(16);
        self.reopen_wait
            .store((1_u32 << failures).min(rounds_max), Ordering::Relaxed);
        true
    }

    async fn open(&self) -> Result<(), OpenError> {
        let log = self.wiring.log.open_group(self.id, self.me.replica)?;
        let machine = (self.factory)()?;
        let applied = machine.applied()?.position;
        let state = log.state();
        let end = state
            .last
            .max(state.snapshot_expected)
            .map_or(0, |position| position.index);
        if let Some(applied) = applied.filter(|applied| applied.index > end) {
            let last = state.last.unwrap_or_default();
            return Err(OpenError::LogBehindData {
                group: self.id,
                applied,
                last,
            });
        }
        let purged = state.purged.map_or(0, |position| position.index);
        if applied.map_or(0, |position| position.index) < purged {
            let purged = state.purged.unwrap_or_default();
            return Err(OpenError::DataBehindLog {
                group: self.id,
                applied,
                purged,
            });
        }

        let alive = Arc::new(());
        *self.machine_alive.lock() = Arc::downgrade(&alive);
        self.cell.reset();
        let applier = Applier::new(machine, Arc::clone(&self.cell), alive)?;
        let running = if stands_alone(self.me.replica, &*log, &applier)? {
            Running::Alone(self.start_alone(log, applier, None).await?)
        } else {
            Running::Core(self.start_core(log, applier).await?)
        };
        *self.running.write() = Some(running);
        Ok(())
    }

    /// Starts a replica that is the only member of its group. The cell knows what is applied.
    async fn start_alone(
        &self,
        log: Arc<dyn GroupLog>,
        applier: Applier,
        founds: Option<Membership>,
    ) -> Result<Arc<Alone>, StorageError> {
        let alone = Alone::start(self.me.replica, log, applier, &self.cell, founds);
        Ok(Arc::new(alone.await?))
    }

    /// Makes this replica, which is open and empty, the only member of its group.
    pub(super) async fn found_alone(&self) -> Result<(), MembershipError> {
        let _starting = self.starting.lock().await;
        let core = match self.running() {
            Some(Running::Core(core)) if !self.is_closed() => core,
            Some(Running::Alone(_)) => return Err(MembershipError::founded()),
            _ => return Err(MembershipError::Stopped),
        };
        let state = core.log.state();
        let is_empty = state.vote.is_none() && state.last.is_none() && core.applier.is_empty();
        if !is_empty || self.admits.is_some() {
            return Err(MembershipError::founded());
        }
        self.running.write().take();
        // Nothing was ever given to the state machine: it is as good as new.
        let _ = core.raft.shutdown().await;
        self.cell.reset();
        let members = BTreeMap::from([(self.me.replica, self.me.place)]);
        let founds = Membership {
            position: None,
            configs: vec![members.keys().copied().collect()],
            members,
        };
        let (log, applier) = (Arc::clone(&core.log), core.applier.clone());
        let alone = self.start_alone(log, applier, Some(founds)).await;
        let alone = alone.map_err(|_| MembershipError::Stopped)?;
        *self.running.write() = Some(Running::Alone(alone));
        Ok(())
    }

    /// Has openraft run a replica that was alone, since it shall have peers, and waits until it
    /// leads again.
    ///
    /// Invariant: openraft begins on a log whose every entry is durable and applied, and nobody
    /// appends to it beside openraft.
    pub(super) async fn take_peers(&self) -> Result<Arc<Core>, MembershipError> {
        let core = {
            let _starting = self.starting.lock().await;
            let alone = match self.running() {
                Some(Running::Alone(alone)) if !self.is_closed() => alone,
                Some(Running::Core(core)) => return Ok(core),
                _ => return Err(MembershipError::Stopped),
            };
            // A failure is for the host to see, who takes the replica down.
            alone.drain().await.map_err(|_| MembershipError::Stopped)?;
            self.running.write().take();
            self.cell.reset();
            let (log, applier) = (Arc::clone(alone.log()), alone.applier().clone());
            drop(alone);
            debug_assert_eq!(
                log.state().last,
                applier.applied(),
                "Invariant: openraft begins where everything is applied"
            );
            applier.tell_cell();
            let core = self.start_core(log, applier).await;
            let core = core.map_err(|error| {
                // The host opens it anew, from disk.
                tracing::error!(group = %self.id, %error, "could not take peers");
                MembershipError::Stopped
            })?;
            *self.running.write() = Some(Running::Core(Arc::clone(&core)));
            core
        };
        let leads = core.wait(|| matches!(self.cell.view(), CellView::Sole(_)));
        match tokio::time::timeout(self.wiring.config.timing.lease(), leads).await {
            Ok(true) => Ok(core),
            Ok(false) => Err(MembershipError::Stopped),
            Err(_) => Err(MembershipError::NotLeader { hint: None }),
        }
    }

    /// Starts openraft. The cell knows what is applied.
    async fn start_core(
        &self,
        log: Arc<dyn GroupLog>,
        applier: Applier,
    ) -> Result<Arc<Core>, StorageError> {
        let voted = log.state().vote.is_some();
        let running = Arc::new(AtomicBool::new(false));
        let unsynced = Arc::new(Unsynced::default());
        let machine = Machine::new(
            applier.clone(),
            Arc::clone(&log),
            Arc::clone(&unsynced),
            Arc::clone(&running),
        );
        let network = Network {
            group: self.id,
            from: self.me,
            transport: Arc::clone(&self.wiring.transport),
            transfers: Arc::clone(&self.wiring.transfers),
            sends: Arc::clone(&self.wiring.sends),
            counters: Arc::clone(&self.wiring.counters),
        };
        let counters = Arc::clone(&self.wiring.counters);
        let adapter = LogAdapter::new(Arc::clone(&log), Arc::clone(&self.cell), unsynced, counters);
        let raft_config = Arc::clone(&self.wiring.raft_config);
        let new = Raft::new(self.me.replica.0, raft_config, network, adapter, machine);
        let fatal = |error: String| StorageError::new(format!("group {}: {error}", self.id));
        let raft = gathered(seeded(self.wiring.next_seed(), new))
            .await
            .map_err(|error| fatal(error.to_string()))?;
        running.store(true, Ordering::Release);

        let me = self.me.replica.0;
        let sole = raft
            .with_raft_state(move |state| {
                let voters: Vec<_> = state.membership_state.effective().voter_ids().collect();
                voters == [me]
            })
            .await
            .map_err(|error| fatal(error.to_string()))?;
        // A sole voter cannot have promised its vote to anybody else.
        let vote_guard =
            (voted && !sole).then(|| Instant::now() + self.wiring.config.timing.promise());
        if vote_guard.is_none() {
            raft.runtime_config().elect(true);
        }
        if sole {
            let elected = raft.trigger().elect(false).await;
            elected.map_err(|error| fatal(error.to_string()))?;
        }
        let metrics = raft.metrics();
        Ok(Arc::new(Core {
            raft,
            metrics,
            log,
            applier,
            staging: Mutex::new(Staging::default()),
            vote_guard,
            quiescence: Quiescence::default(),
            heard: Mutex::new(Instant::now()),
        }))
    }

    /// Stops what runs the replica, for good.
    pub(crate) async fn stop(&self) {
        self.closed.store(true, Ordering::Release);
        let _starting = self.starting.lock().await;
        self.end().await;
    }

    /// Stops what runs the replica.
    pub(crate) async fn end(&self) {
        let running = self.running.write().take();
        self.cell.reset();
        match running {
            Some(Running::Core(core)) => {
                let _ = core.raft.shutdown().await;
            }
            Some(Running::Alone(alone)) => alone.stop().await,
            None => {}
        }
    }
}

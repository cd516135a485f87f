//! Start and stop of a replica's openraft core.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use openraft::async_runtime::Instant as _;
use parking_lot::{Mutex, RwLock};

use super::handle::{Admits, Core, GroupInner, Wiring};
use super::leadership::LeaderCell;
use super::log::LogAdapter;
use super::machine::{Machine, MachineFactory};
use super::network::Network;
use super::together::gathered;
use super::types::{Instant, Raft, seeded};
use super::unsynced::Unsynced;
use crate::error::OpenError;
use crate::ids::{GroupId, ReplicaId};
use crate::membership::Peer;
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
            core: RwLock::new(None),
            parked: AtomicBool::new(false),
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
        self.start_core().await?;
        *started = true;
        Ok(())
    }

    /// Starts anew what has been taken down. `Ok(false)`: there is nothing to do, or not yet.
    pub(crate) async fn restart(&self, rounds_max: u32) -> Result<bool, OpenError> {
        // Invariant: never two cores of one replica.
        let started = self.starting.lock().await;
        let due = *started
            && !self.is_closed()
            && self.core.read().is_none()
            && self.machine_alive.lock().strong_count() == 0;
        if !due || !self.restart_is_due(rounds_max) {
            return Ok(false);
        }
        let outcome = self.start_core().await;
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

    async fn start_core(&self) -> Result<(), OpenError> {
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

        self.cell.reset();
        let running = Arc::new(AtomicBool::new(false));
        let panicked = Arc::new(AtomicBool::new(false));
        let alive = Arc::new(());
        *self.machine_alive.lock() = Arc::downgrade(&alive);
        let unsynced = Arc::new(Unsynced::default());
        let machine = Machine::new(
            machine,
            Arc::clone(&log),
            Arc::clone(&unsynced),
            Arc::clone(&self.cell),
            Arc::clone(&running),
            Arc::clone(&panicked),
            alive,
        )?;
        let network = Network {
            group: self.id,
            from: self.me,
            transport: Arc::clone(&self.wiring.transport),
            transfers: Arc::clone(&self.wiring.transfers),
        };
        let adapter = LogAdapter::new(Arc::clone(&log), Arc::clone(&self.cell), unsynced);
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
        let vote_guard = (state.vote.is_some() && !sole)
            .then(|| Instant::now() + self.wiring.config.timing.promise());
        raft.runtime_config()
            .tick(!self.parked.load(Ordering::Acquire));
        if vote_guard.is_none() {
            raft.runtime_config().elect(true);
        }
        if sole {
            let elected = raft.trigger().elect(false).await;
            elected.map_err(|error| fatal(error.to_string()))?;
        }
        let metrics = raft.metrics();
        let staging = Mutex::new(Staging::default());
        let core = Core {
            raft,
            metrics,
            log,
            staging,
            vote_guard,
            panicked,
        };
        *self.core.write() = Some(Arc::new(core));
        Ok(())
    }

    /// Stops openraft for good.
    pub(crate) async fn stop(&self) {
        self.closed.store(true, Ordering::Release);
        let _starting = self.starting.lock().await;
        let core = self.core.write().take();
        self.cell.reset();
        if let Some(core) = core {
            let _ = core.raft.shutdown().await;
        }
    }
}

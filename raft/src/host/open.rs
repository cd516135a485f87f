//! [`Host`]: opening and closing of groups, and routing of messages to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::config::HostConfig;
use super::counts::HostCounts;
use super::supervise::{HostEvents, supervise};
use crate::clock::Clock;
use crate::error::OpenError;
use crate::group::{Admits, Group, GroupInner, MachineFactory, Wiring};
use crate::ids::{GroupId, LogPosition, ReplicaId};
use crate::log_store::LogEngine;
use crate::snapshot::SnapshotSpool;
use crate::state_machine::{StateMachine, StorageError};
use crate::transport::{Envelope, Refusal, Reply, Transport};

/// Snapshots that a host sends at once. Others wait: each reads a whole range, and those that take
/// part in nothing until they have theirs are better served one after the other.
const SNAPSHOTS_AT_ONCE: usize = 2;

/// The replicas of one store. Clones are the same host.
#[derive(Clone)]
pub struct Host {
    inner: Arc<HostInner>,
}

pub(super) struct HostInner {
    pub(super) wiring: Arc<Wiring>,
    pub(super) events: Arc<dyn HostEvents>,
    pub(super) groups: RwLock<BTreeMap<GroupId, Arc<GroupInner>>>,
    clock: Arc<dyn Clock>,
    stopped: AtomicBool,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl Host {
    /// Opens a host without groups. Call it inside the tokio runtime on which its groups shall
    /// run. All random draws come from `seed`: on a paused single-threaded runtime two runs from
    /// one seed are equal.
    pub fn open(
        config: HostConfig,
        log: Arc<dyn LogEngine>,
        spool: Arc<dyn SnapshotSpool>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        events: Arc<dyn HostEvents>,
        seed: u64,
    ) -> Result<Self, OpenError> {
        let raft_config = config.raft_config().map_err(|error| OpenError::Config {
            reason: error.to_string(),
        })?;
        let every = Duration::from_millis(config.supervise_ms.max(1));
        let wiring = Arc::new(Wiring {
            config,
            raft_config: Arc::new(raft_config),
            log,
            transport,
            seed,
            draws: AtomicU64::new(0),
            transfers: Arc::new(AtomicU64::new(seed)),
            sends: Arc::new(Semaphore::new(SNAPSHOTS_AT_ONCE)),
            spool,
            counters: Arc::default(),
        });
        let inner = Arc::new(HostInner {
            wiring,
            events,
            groups: RwLock::new(BTreeMap::new()),
            clock,
            stopped: AtomicBool::new(false),
            supervisor: Mutex::new(None),
        });
        let supervisor = crate::shell::spawn_task(supervise(Arc::downgrade(&inner), every));
        *inner.supervisor.lock() = Some(supervisor);
        Ok(Self { inner })
    }

    /// Opens a replica: from what log and state machine hold, or as an empty one that waits to be
    /// initialized or to hear from a leader. `machine` is called now, and again whenever the group
    /// has died and is opened anew; the previous state machine has been dropped by then.
    ///
    /// A sole voter leads when this returns or very soon after.
    pub async fn open_group(
        &self,
        group: GroupId,
        replica: ReplicaId,
        machine: impl Fn() -> Result<Box<dyn StateMachine>, StorageError> + Send + Sync + 'static,
    ) -> Result<Group, OpenError> {
        self.open_with(group, replica, Arc::new(machine), None)
            .await
    }

    /// Opens a replica that has joined, or shall join, a group which has run for a while. Until it
    /// has applied something it takes no entries from the beginning of the log, only a snapshot
    /// whose first piece `admits` says yes to.
    pub async fn open_joining(
        &self,
        group: GroupId,
        replica: ReplicaId,
        machine: impl Fn() -> Result<Box<dyn StateMachine>, StorageError> + Send + Sync + 'static,
        admits: impl Fn(&Bytes) -> bool + Send + Sync + 'static,
    ) -> Result<Group, OpenError> {
        let admits: Admits = Arc::new(admits);
        self.open_with(group, replica, Arc::new(machine), Some(admits))
            .await
    }

    async fn open_with(
        &self,
        group: GroupId,
        replica: ReplicaId,
        factory: MachineFactory,
        admits: Option<Admits>,
    ) -> Result<Group, OpenError> {
        let wiring = Arc::clone(&self.inner.wiring);
        let opened = Arc::new(GroupInner::new(group, replica, wiring, factory, admits));
        {
            let mut groups = self.inner.groups.write();
            // Under the lock: what is not among the groups when the host stops is refused here.
            if self.inner.stopped.load(Ordering::Acquire) {
                return Err(OpenError::Stopped);
            }
            if groups.contains_key(&group) {
                return Err(OpenError::AlreadyOpen { group });
            }
            groups.insert(group, Arc::clone(&opened));
        }
        if let Err(error) = opened.start().await {
            self.inner.groups.write().remove(&group);
            return Err(error);
        }
        Ok(Group { inner: opened })
    }

    /// Prepares the log of a replica whose state machine begins at `position` rather than empty
    /// (the child of a split). Durable when this returns; the group is opened after it.
    pub async fn seed_group(
        &self,
        group: GroupId,
        replica: ReplicaId,
        position: LogPosition,
    ) -> Result<(), OpenError> {
        let log = self.inner.wiring.log.open_group(group, replica)?;
        let (sender, receiver) = oneshot::channel();
        log.expect_snapshot(position, done(sender));
        receiver
            .await
            .unwrap_or_else(|_| Err(StorageError::new("raft log stopped")))?;
        Ok(())
    }

    /// The replica of a group, if it is open here.
    pub fn group(&self, group: GroupId) -> Option<Group> {
        self.inner.groups.read().get(&group).map(|inner| Group {
            inner: Arc::clone(inner),
        })
    }

    /// The open groups.
    pub fn groups(&self) -> Vec<Group> {
        let groups = self.inner.groups.read();
        groups
            .values()
            .map(|inner| Group {
                inner: Arc::clone(inner),
            })
            .collect()
    }

    /// What its groups have done since it was opened.
    pub fn counts(&self) -> HostCounts {
        self.inner.wiring.counters.read()
    }

    /// The clock the host was opened with.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.inner.clock)
    }

    /// Handles a message from another host.
    pub async fn handle(&self, envelope: Envelope) -> Result<Reply, Refusal> {
        if envelope.to.place != self.inner.wiring.config.place {
            return Err(Refusal::OtherStore);
        }
        let group = self.inner.groups.read().get(&envelope.group).cloned();
        let group = group.ok_or(Refusal::NoSuchGroup(envelope.group))?;
        if group.me.replica != envelope.to.replica {
            let (wanted, here) = (envelope.to.replica, group.me.replica);
            return Err(Refusal::OtherReplica { wanted, here });
        }
        group.serve(envelope).await
    }

    /// Stops a replica; its log and data stay.
    pub async fn close_group(&self, group: GroupId) {
        let closed = self.inner.groups.write().remove(&group);
        if let Some(closed) = closed {
            closed.stop().await;
        }
    }

    /// Stops a replica and forgets its log, durably. Its data is the caller's to delete. The
    /// replica id must never be used again.
    pub async fn destroy_group(&self, group: GroupId) -> Result<(), StorageError> {
        self.close_group(group).await;
        let (sender, receiver) = oneshot::channel();
        self.inner.wiring.log.remove_group(group, done(sender));
        receiver
            .await
            .unwrap_or_else(|_| Err(StorageError::new("raft log stopped")))
    }

    /// Stops every group and then the log. What was acknowledged is durable.
    pub async fn shutdown(&self) {
        self.inner.stopped.store(true, Ordering::Release);
        if let Some(supervisor) = self.inner.supervisor.lock().take() {
            supervisor.abort();
        }
        let groups = std::mem::take(&mut *self.inner.groups.write());
        futures::future::join_all(groups.values().map(|group| group.stop())).await;
        self.inner.wiring.log.shutdown();
    }
}

fn done(sender: oneshot::Sender<Result<(), StorageError>>) -> crate::log_store::Done {
    Box::new(move |result| {
        let _ = sender.send(result);
    })
}

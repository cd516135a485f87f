//! [`Node`]: assembly and life of what a node holds of the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pontoon_raft::{
    Clock, GroupId, Host, HostConfig, HostEvents, LogEngine, LogPosition, Membership,
    MembershipError, OpenError, Peer, StateMachine, StorageError, Transport,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use crate::db::active::ActiveTxns;
use crate::db::config::DbConfig;
use crate::db::oracle_service::OracleService;
use crate::db::{disk, gc, intents, splits};
use crate::error::Error;
use crate::keys::{self, meta};
use crate::oracle::TimestampSource;
use crate::range::{
    CommitRequest, Descriptor, HeldRanges, RangeMachine, RangeState, Refusal, Replica, WriteEntry,
    Writes,
};
use crate::routing::Peers;
use crate::shell::{DataDirectory, Runtime};
use crate::storage::{Engine, Reserve, Room, Space, Volume};
use crate::timestamp::Timestamp;
use crate::txn::Span;

/// The range of cluster metadata.
const SYSTEM_RANGE: u64 = 1;

/// Puts something between a node and its oracle.
pub(crate) type TimestampWrapper =
    Arc<dyn Fn(Arc<OracleService>) -> Arc<dyn TimestampSource> + Send + Sync>;

/// What a node is made of.
pub struct NodeParts {
    /// Settings.
    pub config: DbConfig,
    /// Where data is kept.
    pub engine: Arc<dyn Engine>,
    /// Where Raft logs are kept.
    pub log: Arc<dyn LogEngine>,
    /// How other nodes are reached.
    pub transport: Arc<dyn Transport>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The failure of the disk is told here.
    pub events: Arc<dyn HostEvents>,
    /// All randomness of the node comes from it.
    pub seed: u64,
    /// The replica on this node of the ranges that a cluster begins with.
    pub me: Peer,
    /// The members to found new ranges with. Only one node of a new cluster has them; the others
    /// wait to be told.
    pub found: Option<Vec<Peer>>,
    /// Timestamps from elsewhere, for a node that may not lead range 1. `None`: only its own.
    pub timestamps: Option<TimestampWrapper>,
    /// How requests reach ranges that are led elsewhere. `None`: there is no other node.
    pub peers: Option<Arc<dyn Peers>>,
    /// The file system that may fill up, and what is kept free on it. `None`: there is no end.
    pub disk: Option<(Arc<dyn Volume>, Reserve)>,
}

/// A node's part of the store.
pub struct Node {
    pub(crate) config: DbConfig,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) host: Host,
    pub(crate) me: Peer,
    pub(crate) peers: Option<Arc<dyn Peers>>,
    pub(crate) runtime: Runtime,
    pub(crate) system: Arc<Replica>,
    pub(crate) ranges: HeldRanges,
    pub(crate) oracle: Arc<OracleService>,
    pub(crate) timestamps: Arc<dyn TimestampSource>,
    pub(crate) active: ActiveTxns,
    pub(crate) events: Arc<dyn HostEvents>,
    pub(crate) log: Arc<dyn LogEngine>,
    pub(crate) room: Arc<Room>,
    opening: Opening,
    /// A fault that the simulator must find: commits over several ranges take their timestamps
    /// before their intents are in place.
    #[cfg(test)]
    pub(crate) early_timestamps: std::sync::atomic::AtomicBool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// The directory this process has to itself, until shutdown.
    pub(crate) directory: Mutex<Option<DataDirectory>>,
}

/// Figures for monitoring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DataStats {
    /// Bytes of data on disk.
    pub disk_bytes: u64,
    /// Transactions open on this node.
    pub active_txns: usize,
    /// Rows locked or waited for.
    pub locked_rows: usize,
    /// Commits that wait or are under way.
    pub latched_requests: usize,
    /// Writes of transactions over several ranges that are not resolved yet.
    pub intents: usize,
}

pub(crate) fn open_error(error: &OpenError) -> Error {
    Error::Storage {
        message: error.to_string(),
    }
}

/// What it takes to open a replica.
#[derive(Clone)]
struct Opening {
    host: Host,
    engine: Arc<dyn Engine>,
    me: Peer,
    found: Option<Vec<Peer>>,
    patience: Duration,
    runtime: Runtime,
    room: Arc<Room>,
    children: UnboundedSender<Descriptor>,
}

/// Descriptors of the ranges in the store.
fn stored_ranges(engine: &dyn Engine) -> Result<Vec<Descriptor>, Error> {
    let (from, to) = meta::ranges();
    let mut rows = engine.snapshot().scan(Space::Meta, from, to, false);
    let mut found = Vec::new();
    while let Some((key, stored)) = rows.next()? {
        if meta::is_descriptor(&key) {
            found.push(Descriptor::decode(&stored)?);
        }
    }
    Ok(found)
}

async fn open_replica(with: &Opening, descriptor: Descriptor) -> Result<Arc<Replica>, Error> {
    let range = descriptor.range;
    let engine = Arc::clone(&with.engine);
    let founders = engine.get(Space::Meta, &meta::founders(range))?;
    let state = RangeState::open(engine, descriptor, with.children.clone())?;
    // The engine was synced before. Without this, a log that was purged would seem to have been
    // purged above what is durable.
    state.set_durable(state.applied().position);
    let shared = Arc::clone(&state);
    let machine = move || -> Result<Box<dyn StateMachine>, StorageError> {
        Ok(Box::new(RangeMachine::new(Arc::clone(&shared))?))
    };
    let group = with
        .host
        .open_group(GroupId(range), with.me.replica, machine)
        .await;
    let group = group.map_err(|error| open_error(&error))?;
    // Every replica of a range that was split off names the same members, so that it does not
    // matter who comes to it.
    let members = match founders {
        Some(stored) => Some(members_of(stored)?),
        None => with.found.clone(),
    };
    if let Some(members) = members {
        match group.initialize(members).await {
            Ok(()) | Err(MembershipError::Refused { .. }) => {}
            Err(error) => {
                return Err(Error::Unavailable {
                    message: error.to_string(),
                });
            }
        }
    }
    let (runtime, room) = (with.runtime.clone(), Arc::clone(&with.room));
    Ok(Arc::new(Replica::new(
        group,
        state,
        runtime,
        with.patience,
        room,
    )))
}

fn members_of(stored: Bytes) -> Result<Vec<Peer>, Error> {
    let membership = Membership::decode(&stored).map_err(|_| Error::Storage {
        message: "the members that a range was founded with are damaged in the store".into(),
    })?;
    let voters = membership.voters().into_iter();
    Ok(voters
        .filter_map(|replica| membership.peer(replica))
        .collect())
}

impl Node {
    /// Opens the ranges of a node and starts its tasks, on the runtime of the caller.
    pub async fn start(parts: NodeParts) -> Result<Arc<Self>, Error> {
        let runtime = Runtime::current()?;
        let mut host_config = HostConfig::new(parts.me.place);
        host_config.timing = parts.config.timing;
        // Room for keys and headers beside the values that the limit counts.
        host_config.command_bytes_max = parts.config.txn_bytes_max.saturating_mul(2).max(1 << 20);
        host_config.log_bytes_kept = parts.config.log_bytes_kept;
        let host = Host::open(
            host_config,
            Arc::clone(&parts.log),
            Arc::clone(&parts.transport),
            Arc::clone(&parts.clock),
            Arc::clone(&parts.events),
            parts.seed,
        );
        let host = host.map_err(|error| open_error(&error))?;
        // What a killed process wrote may not be on disk yet, and is about to be relied on.
        let engine = Arc::clone(&parts.engine);
        let synced = runtime.blocking(move || engine.persist()).await;
        synced.unwrap_or(Ok(()))?;
        let reserve = parts.disk.as_ref().map(|(_, reserve)| *reserve);
        let room = Arc::new(Room::new(reserve.unwrap_or_default()));
        let ranges = HeldRanges::default();
        let (children, born) = tokio::sync::mpsc::unbounded_channel();
        let opening = Opening {
            host: host.clone(),
            engine: Arc::clone(&parts.engine),
            me: parts.me,
            found: parts.found,
            patience: Duration::from_millis(parts.config.patience_ms),
            runtime: runtime.clone(),
            room: Arc::clone(&room),
            children,
        };
        // What the store says of a range counts, and what was split off is only there.
        let stored = stored_ranges(&*parts.engine)?;
        let founding = parts.config.founding_ranges().into_iter();
        for descriptor in founding.chain(stored) {
            if ranges.of(descriptor.range).is_none() {
                ranges.insert(open_replica(&opening, descriptor).await?);
            }
        }
        let system = ranges.of(SYSTEM_RANGE).ok_or_else(|| Error::Storage {
            message: "the range of the cluster's metadata is not here".into(),
        })?;
        let oracle = OracleService::new(Arc::clone(&system), Arc::clone(&parts.clock));
        let timestamps: Arc<dyn TimestampSource> = match &parts.timestamps {
            Some(wrap) => wrap(Arc::clone(&oracle)),
            None => Arc::clone(&oracle) as Arc<dyn TimestampSource>,
        };
        let node = Arc::new(Self {
            config: parts.config,
            engine: parts.engine,
            host,
            me: parts.me,
            peers: parts.peers,
            runtime: runtime.clone(),
            system,
            ranges,
            oracle: Arc::clone(&oracle),
            timestamps,
            active: ActiveTxns::default(),
            events: parts.events,
            log: parts.log,
            room,
            opening,
            #[cfg(test)]
            early_timestamps: std::sync::atomic::AtomicBool::default(),
            tasks: Mutex::default(),
            directory: Mutex::new(None),
        });
        let mut tasks = vec![
            runtime.spawn(oracle.keep_filled()),
            runtime.spawn(keep_durable(Arc::downgrade(&node))),
            runtime.spawn(gc::keep_clean(Arc::downgrade(&node))),
            runtime.spawn(intents::keep_settled(Arc::downgrade(&node))),
            runtime.spawn(splits::open_children(Arc::downgrade(&node), born)),
        ];
        if let Some((volume, _)) = parts.disk {
            node.look_at_disk(&volume).await;
            let watch = disk::watch(Arc::downgrade(&node), volume);
            tasks.push(runtime.spawn(watch));
        }
        *node.tasks.lock() = tasks;
        Ok(node)
    }

    /// Opens a range that was split off from one of this node, unless it is open.
    pub(super) async fn open_child(&self, child: Descriptor) -> Result<(), Error> {
        if self.ranges.of(child.range).is_none() {
            self.ranges
                .insert(open_replica(&self.opening, child).await?);
        }
        Ok(())
    }

    /// The Raft host, to which the transport of other nodes delivers.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The oracle of this node; it answers while the node leads range 1.
    pub fn oracle(&self) -> &Arc<OracleService> {
        &self.oracle
    }

    /// The replicas on this node, in the order of their keys.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.ranges.all()
    }

    /// The replica that holds `key`.
    pub(crate) fn route(&self, key: &[u8]) -> Result<Arc<Replica>, Refusal> {
        self.ranges.at(key).ok_or(Refusal::Moved)
    }

    /// The replica that holds the first keys of `span`, or, in reverse, the last ones; with the part
    /// of the span that it holds.
    pub(crate) fn route_part(
        &self,
        span: &Span,
        reverse: bool,
    ) -> Result<(Arc<Replica>, Span), Refusal> {
        let found = if reverse {
            self.ranges.before(&span.end)
        } else {
            self.ranges.at(&span.start)
        };
        let part = found.and_then(|replica| {
            let part = replica.state().descriptor().span.common(span)?;
            Some((replica, part))
        });
        part.ok_or(Refusal::Moved)
    }

    /// The replica that holds all of `span`, if there is one.
    pub(crate) fn route_span(&self, span: &Span) -> Option<Arc<Replica>> {
        let replica = self.ranges.at(&span.start)?;
        (span.end <= replica.state().descriptor().span.end).then_some(replica)
    }

    /// Makes what is applied survive a power failure, and says so to the Raft groups.
    pub(crate) async fn persist(&self) -> Result<(), Error> {
        let replicas = self.replicas();
        let applied = |replica: &Arc<Replica>| replica.state().applied().position;
        let positions: Vec<_> = replicas.iter().map(applied).collect();
        let engine = Arc::clone(&self.engine);
        let synced = self.runtime.blocking(move || engine.persist()).await;
        synced.unwrap_or(Ok(()))?;
        for (replica, position) in replicas.into_iter().zip(positions) {
            replica.state().set_durable(position);
        }
        Ok(())
    }

    /// Writes the descriptors of the ranges into the system range, if they are not there.
    pub(crate) async fn describe_ranges(&self) -> Result<(), Error> {
        let now = self.timestamps.now().await?;
        let mut writes = Writes::new();
        for replica in self.replicas() {
            let descriptor = replica.state().descriptor();
            let key = Bytes::from(keys::range_key(descriptor.range));
            let found = || self.get(&self.system, &key, now);
            if self.settling(now, false, found).await?.is_none() {
                let value = Some(descriptor.encode());
                writes.insert(key, WriteEntry { value, base: now });
            }
        }
        if !writes.is_empty() {
            let request = CommitRequest {
                start: now,
                writes: Arc::new(writes),
                reads: Vec::new(),
            };
            let commit = || self.commit(&self.system, &request);
            self.settling(now, true, commit).await?;
        }
        Ok(())
    }

    /// Figures for monitoring.
    pub fn stats(&self) -> DataStats {
        DataStats {
            disk_bytes: self.engine.disk_bytes(),
            active_txns: self.active.len(),
            locked_rows: self.replicas().iter().map(|r| r.state().locks.len()).sum(),
            intents: self
                .replicas()
                .iter()
                .map(|r| r.state().intents.len())
                .sum(),
            latched_requests: self
                .replicas()
                .iter()
                .map(|r| r.state().latches.len())
                .sum(),
        }
    }

    /// The oldest timestamp that a transaction of this node reads at, or now.
    pub(crate) fn oldest_active(&self) -> Option<Timestamp> {
        self.active.oldest(|| self.timestamps.try_now())
    }

    /// Stops the tasks and the Raft groups without a word to the disk.
    #[cfg(test)]
    pub(crate) async fn kill(&self) {
        for task in std::mem::take(&mut *self.tasks.lock()) {
            task.abort();
        }
        self.host.shutdown().await;
    }

    /// Stops the tasks and the Raft groups, and makes data durable. What was acknowledged is
    /// durable in any case; this spares the next start a replay.
    pub async fn shutdown(&self) -> Result<(), Error> {
        for task in std::mem::take(&mut *self.tasks.lock()) {
            task.abort();
        }
        let host = self.host.clone();
        let _ = self.runtime.run(async move { host.shutdown().await }).await;
        let persisted = self.persist().await;
        if persisted.is_ok() && !self.room.stats().refuses {
            let engine = Arc::clone(&self.engine);
            // Only saves time later: what it would write is in the Raft log and the journal.
            if let Some(Err(error)) = self.runtime.blocking(move || engine.flush()).await {
                tracing::warn!(%error, "the store was not flushed, the next start takes longer");
            }
        }
        self.directory.lock().take();
        persisted
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for task in std::mem::take(&mut *self.tasks.lock()) {
            task.abort();
        }
    }
}

async fn keep_durable(node: std::sync::Weak<Node>) {
    let mut last = BTreeMap::new();
    loop {
        let Some(strong) = node.upgrade() else { return };
        let (runtime, every) = (strong.runtime.clone(), strong.config.persist_interval_ms);
        let replicas = strong.replicas();
        let applied = replicas.iter().map(|replica| {
            let state = replica.state();
            (state.range, state.applied().position)
        });
        let now: BTreeMap<u64, Option<LogPosition>> = applied.collect();
        if now != last {
            match strong.persist().await {
                Ok(()) => last = now,
                Err(error) => {
                    strong.events.fatal(StorageError::new(error.to_string()));
                    return;
                }
            }
        }
        drop(strong);
        runtime.sleep(Duration::from_millis(every.max(1))).await;
    }
}

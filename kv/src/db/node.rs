//! [`Node`]: assembly and life of what a node holds of the store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use pontoon_raft::{
    Clock, Host, HostConfig, HostEvents, LogEngine, LogPosition, NodeId, OpenError, Peer,
    SnapshotSpool, StorageError, Transport,
};
use tokio::task::JoinHandle;

use crate::cluster::{Book, NodeRow, Roles, Search, View};
use crate::db::active::ActiveTxns;
use crate::db::cluster::{self, Known, Roll};
use crate::db::config::DbConfig;
use crate::db::oracle_service::{ClusterTimestamps, OracleService};
use crate::db::replicas::{self, Opening, Stored};
use crate::db::{disk, gc, intents, merges, sizes, splits};
use crate::error::Error;
use crate::oracle::TimestampSource;
use crate::range::{Beginning, HeldRanges, Replica, finish_installing};
use crate::routing::{AwayRanges, Peers};
use crate::shell::Runtime;
use crate::storage::{Engine, Reserve, Room, Volume};
use crate::timestamp::Timestamp;

/// The range of cluster metadata.
pub(crate) const SYSTEM_RANGE: u64 = 1;

/// How a node stands to the ranges that a cluster begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Founding {
    /// It founds them with these members. Of a new cluster one node does.
    Found(Vec<Peer>),
    /// It is one of the members, and waits to be told.
    Member,
    /// It has nothing to do with them.
    Nothing,
}

/// What a node is made of.
pub struct NodeParts {
    /// Settings.
    pub config: DbConfig,
    /// Where data is kept.
    pub engine: Arc<dyn Engine>,
    /// Where Raft logs are kept.
    pub log: Arc<dyn LogEngine>,
    /// Where snapshots that are received wait.
    pub spool: Arc<dyn SnapshotSpool>,
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
    /// How the node stands to the ranges that a cluster begins with.
    pub founding: Founding,
    /// Where and what the node is; its place is that of `me`.
    pub row: NodeRow,
    /// The cluster; 0 when it has no number yet.
    pub cluster: u64,
    /// What is known of the other nodes.
    pub book: Arc<Book>,
    /// How requests reach ranges that are led elsewhere. `None`: there is no other node.
    pub peers: Option<Arc<dyn Peers>>,
    /// The file system that may fill up, and what is kept free on it. `None`: there is no end.
    pub disk: Option<(Arc<dyn Volume>, Reserve)>,
}

/// A node's part of the store.
pub struct Node {
    /// This node, for tasks that may outlive it.
    pub(crate) myself: Weak<Node>,
    pub(super) search: Arc<Search>,
    pub(crate) config: DbConfig,
    pub(crate) host: Host,
    pub(crate) me: Peer,
    pub(crate) peers: Option<Arc<dyn Peers>>,
    pub(crate) runtime: Runtime,
    pub(crate) ranges: HeldRanges,
    /// Ranges that are elsewhere, as far as they were looked for.
    pub(crate) away: AwayRanges,
    pub(crate) oracle: Arc<OracleService>,
    pub(crate) timestamps: Arc<dyn TimestampSource>,
    pub(crate) book: Arc<Book>,
    /// Where and what this node is.
    pub(crate) row: Mutex<NodeRow>,
    /// The cluster; 0 until it has a number.
    pub(crate) cluster: AtomicU64,
    pub(crate) roll: Roll,
    /// The metadata of the cluster as this node has watched it.
    pub(super) known: Mutex<Known>,
    /// Bytes of the file system; 0 when that is not known.
    pub(crate) volume_bytes: u64,
    /// The node is about to stop.
    pub(crate) stopping: AtomicBool,
    pub(crate) active: ActiveTxns,
    pub(crate) events: Arc<dyn HostEvents>,
    pub(crate) log: Arc<dyn LogEngine>,
    pub(crate) room: Arc<Room>,
    pub(super) opening: Opening,
    /// Held while a replica is opened or closed.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// A fault that the simulator must find: commits over several ranges take their timestamps
    /// before their intents are in place.
    #[cfg(test)]
    pub(crate) early_timestamps: AtomicBool,
    /// Another: ranges are absorbed before they are frozen on all nodes.
    #[cfg(test)]
    pub(crate) skip_settling: AtomicBool,
    /// Another: who watches the metadata listens for changes only after he has read it.
    #[cfg(test)]
    pub(crate) subscribes_late: AtomicBool,
    /// Not a fault: a range that was absorbed is closed so many milliseconds later.
    #[cfg(test)]
    pub(crate) closes_late_ms: AtomicU64,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// The last: the directory is locked until it is closed, and the log lies in there too.
    pub(crate) engine: Arc<dyn Engine>,
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

impl Node {
    /// Opens the ranges of a node and starts its tasks, on the runtime of the caller.
    pub async fn start(parts: NodeParts) -> Result<Arc<Self>, Error> {
        let runtime = Runtime::current()?;
        let mut host_config = HostConfig::new(parts.me.place);
        host_config.timing = parts.config.timing;
        host_config.quiesce_after_ms = parts.config.quiesce_after_ms;
        if let Some(half @ 1..) = parts.config.quiesce_after_ms.checked_div(2) {
            host_config.supervise_ms = host_config.supervise_ms.min(half);
        }
        // Room for keys and headers beside the values that the limit counts.
        host_config.command_bytes_max = parts.config.txn_bytes_max.saturating_mul(2).max(1 << 20);
        host_config.log_bytes_kept = parts.config.log_bytes_kept;
        let host = Host::open(
            host_config,
            Arc::clone(&parts.log),
            Arc::clone(&parts.spool),
            Arc::clone(&parts.transport),
            Arc::clone(&parts.clock),
            Arc::clone(&parts.events),
            parts.seed,
        );
        let host = host.map_err(|error| open_error(&error))?;
        // What a killed process wrote may not be on disk yet, and is about to be relied on.
        let engine = Arc::clone(&parts.engine);
        let spool = Arc::clone(&parts.spool);
        let settle = move || {
            engine
                .persist()
                .and_then(|()| finish_installing(&*engine, &*spool))
        };
        runtime.blocking(settle).await.unwrap_or(Ok(()))?;
        let reserve = parts.disk.as_ref().map(|(_, reserve)| *reserve);
        let room = Arc::new(Room::new(reserve.unwrap_or_default()));
        let ranges = HeldRanges::default();
        let (news, told) = tokio::sync::mpsc::unbounded_channel();
        let founding = match &parts.founding {
            Founding::Nothing => Vec::new(),
            Founding::Found(_) | Founding::Member => parts.config.founding_ranges(),
        };
        let opening = Opening {
            host: host.clone(),
            engine: Arc::clone(&parts.engine),
            me: parts.me,
            found: match parts.founding {
                Founding::Found(members) => Some(members),
                Founding::Member | Founding::Nothing => None,
            },
            patience: Duration::from_millis(parts.config.patience_ms),
            runtime: runtime.clone(),
            room: Arc::clone(&room),
            news,
        };
        // What the store says of a range counts, and what was split off is only there.
        let stored = replicas::stored(&*parts.engine)?;
        let stored = stored.into_iter().map(|stored| match stored {
            Stored::Placed(descriptor) => Beginning::Empty(descriptor),
            Stored::Waits(descriptor) => Beginning::Awaits(descriptor),
        });
        // Before anything is opened: what is opened may replay a split or a merge at once.
        let mut left = replicas::logs_left(&*parts.engine, &*parts.log)?;
        for beginning in stored.chain(founding.into_iter().map(Beginning::Empty)) {
            let (Beginning::Empty(of) | Beginning::Awaits(of)) = &beginning;
            let range = of.range;
            if ranges.of(range).is_some() {
                continue;
            }
            match replicas::open(&opening, beginning).await? {
                Some(replica) => ranges.insert(replica),
                None => left.push(range),
            }
        }
        let search = Arc::new(Search::default());
        let oracle = OracleService::new(ranges.of(SYSTEM_RANGE), Arc::clone(&parts.clock));
        let timestamps: Arc<dyn TimestampSource> = match &parts.peers {
            Some(peers) => Arc::new(ClusterTimestamps::new(
                Arc::clone(&oracle),
                Arc::clone(peers),
                (Arc::clone(&parts.book), Arc::clone(&search)),
                parts.me.place.node,
                runtime.clone(),
                Duration::from_millis(parts.config.patience_ms),
            )),
            None => Arc::clone(&oracle) as Arc<dyn TimestampSource>,
        };
        let volume = parts.disk.as_ref().map(|(volume, _)| volume.total_bytes());
        let volume_bytes = volume.flatten().unwrap_or_default();
        let row = NodeRow {
            place: parts.me.place,
            ..parts.row
        };
        let holds_data = row.roles.data;
        let node = Arc::new_cyclic(|myself| Self {
            myself: Weak::clone(myself),
            search,
            config: parts.config,
            engine: parts.engine,
            host,
            me: parts.me,
            peers: parts.peers,
            runtime: runtime.clone(),
            ranges,
            away: AwayRanges::default(),
            book: parts.book,
            row: Mutex::new(row),
            cluster: AtomicU64::new(parts.cluster),
            roll: Roll::default(),
            known: Mutex::default(),
            stopping: AtomicBool::new(false),
            volume_bytes,
            oracle: Arc::clone(&oracle),
            timestamps,
            active: ActiveTxns::default(),
            events: parts.events,
            log: parts.log,
            room,
            opening,
            changing: tokio::sync::Mutex::default(),
            #[cfg(test)]
            early_timestamps: AtomicBool::default(),
            #[cfg(test)]
            skip_settling: AtomicBool::default(),
            #[cfg(test)]
            subscribes_late: AtomicBool::default(),
            #[cfg(test)]
            closes_late_ms: AtomicU64::default(),
            tasks: Mutex::default(),
        });
        let mut tasks = vec![
            runtime.spawn(oracle.keep_filled()),
            runtime.spawn(keep_durable(Arc::downgrade(&node))),
            runtime.spawn(gc::keep_clean(Arc::downgrade(&node))),
            runtime.spawn(intents::keep_settled(Arc::downgrade(&node))),
            runtime.spawn(splits::hear_news(Arc::downgrade(&node), told)),
            runtime.spawn(sizes::keep_small(Arc::downgrade(&node))),
            runtime.spawn(merges::keep_decided(Arc::downgrade(&node))),
            runtime.spawn(cluster::keep_in_touch(Arc::downgrade(&node))),
            runtime.spawn(cluster::coordinate(Arc::downgrade(&node))),
            runtime.spawn(cluster::follow(Arc::downgrade(&node))),
        ];
        if !holds_data {
            tasks.push(runtime.spawn(cluster::tell_what_is_left(Arc::downgrade(&node))));
        }
        node.clear_closed(&left).await?;
        if let Some((volume, _)) = parts.disk {
            node.look_at_disk(&volume).await;
            let watch = disk::watch(Arc::downgrade(&node), volume);
            tasks.push(runtime.spawn(watch));
        }
        *node.tasks.lock() = tasks;
        Ok(node)
    }

    /// The number of the node.
    pub fn id(&self) -> NodeId {
        self.me.place.node
    }

    /// What this node does.
    pub fn roles(&self) -> Roles {
        self.row.lock().roles
    }

    /// The cluster as this node knows it.
    pub fn view(&self) -> View {
        self.book.view()
    }

    /// The Raft host, to which the transport of other nodes delivers.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The oracle of this node; it answers while the node leads range 1.
    pub fn oracle(&self) -> &Arc<OracleService> {
        &self.oracle
    }

    /// The replica of range 1, if it is on this node.
    pub(crate) fn system(&self) -> Option<Arc<Replica>> {
        self.ranges.of(SYSTEM_RANGE)
    }

    /// Makes a replica of range 1 that has come here known to the oracle.
    pub(super) fn found_system(&self, replica: &Arc<Replica>) {
        if replica.state().range == SYSTEM_RANGE {
            self.oracle.found(Arc::clone(replica));
        }
    }

    /// The replicas on this node, in the order of their numbers.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.ranges.all()
    }

    /// Makes what is applied survive a power failure, and says so to the Raft groups.
    pub(crate) async fn persist(&self) -> Result<(), Error> {
        let replicas = self.replicas();
        let applied = |replica: &Arc<Replica>| replica.state().applied().position;
        let positions: Vec<_> = replicas.iter().map(applied).collect();
        self.sync_engine().await?;
        for (replica, position) in replicas.into_iter().zip(positions) {
            replica.state().set_durable(position);
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
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.abort();
            // Until then it may hold the node.
            let _ = task.await;
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

async fn keep_durable(node: Weak<Node>) {
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

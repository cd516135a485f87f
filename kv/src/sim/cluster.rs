//! The cluster: starting, crashing and cutting off of nodes.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use pontoon_raft::log_store::{LogOptions, PlantedBug, RaftLog, SimDisk};
use pontoon_raft::transport::{Link, MemoryNetwork};
use pontoon_raft::{
    GroupId, HostEvents, NodeId, Peer, Place, ReplicaId, SimClock, StorageError, StoreId, Timing,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::db::{Db, DbConfig, Node, NodeParts, OracleService};
use crate::error::Error;
use crate::oracle::TimestampSource;
use crate::routing::{PeerError, Peers, Request, Response};
use crate::sim::clients::splits;
use crate::storage::MemoryEngine;
use crate::timestamp::Timestamp;
use crate::txn::Key;

/// A fault of the program, planted to see that it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bug {
    None,
    /// 2 % of the syncs of the Raft log are acknowledged and not done.
    SkipSyncs,
    /// Commits do not validate reads.
    SkipValidation,
    /// Of the commits that are applied together, watches hear of the first only.
    SkipNotes,
    /// Readers do not wait for commits that are under way.
    SkipWaits,
    /// Readers do not see intents.
    SkipIntents,
    /// Commits over several ranges take their timestamps before their intents are in place.
    EarlyTimestamps,
    /// Splits wait for nobody, and entries are applied whatever the bounds have become.
    SkipBounds,
}

/// What a simulated cluster looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    /// Number of nodes.
    pub(super) nodes: usize,
    /// Whether what clients touch lies in several ranges.
    pub(super) split: bool,
}

struct Slot {
    disk: SimDisk,
    engine: Arc<MemoryEngine>,
    db: Option<Db>,
    /// Counts starts, so that the end of an old process is no failure of the new one.
    life: u64,
}

/// The cluster. Clones are the same.
#[derive(Clone)]
pub(super) struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    shape: Shape,
    bug: Bug,
    seed: u64,
    network: Arc<MemoryNetwork>,
    slots: Mutex<Vec<Slot>>,
    /// Pairs of nodes that cannot talk.
    cuts: Mutex<BTreeSet<(usize, usize)>>,
    rng: Mutex<SmallRng>,
    failures: Mutex<Vec<String>>,
}

fn peer(node: usize) -> Peer {
    let id = node as u64 + 1;
    Peer {
        replica: ReplicaId(id),
        place: Place {
            node: NodeId(id),
            store: StoreId(id),
        },
    }
}

fn config(shape: Shape) -> DbConfig {
    DbConfig {
        founding_splits: if shape.split { splits() } else { Vec::new() },
        timing: Timing::fast(),
        retention_ms: 3_000,
        gc_interval_ms: 1_100,
        persist_interval_ms: 300,
        patience_ms: 400,
        txn_bytes_max: 1 << 20,
        ..DbConfig::default()
    }
}

struct Events {
    cluster: Weak<Inner>,
    node: usize,
    life: u64,
}

impl Events {
    fn report(&self, what: &str) {
        let Some(cluster) = self.cluster.upgrade() else {
            return;
        };
        let current = cluster
            .slots
            .lock()
            .get(self.node)
            .is_some_and(|slot| slot.life == self.life && slot.db.is_some());
        if current {
            cluster
                .failures
                .lock()
                .push(format!("node {}: {what}", self.node));
        }
    }
}

impl HostEvents for Events {
    fn fatal(&self, error: StorageError) {
        self.report(&format!("fatal: {error}"));
    }

    fn group_down(&self, group: GroupId, reason: String) {
        self.report(&format!("{group} died: {reason}"));
    }
}

/// Timestamps from whichever node leads range 1, over the simulated network.
struct Remote {
    cluster: Weak<Inner>,
    node: usize,
    local: Arc<OracleService>,
}

impl TimestampSource for Remote {
    fn try_now(&self) -> Option<Timestamp> {
        self.local.try_now()
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, Error>> {
        async move {
            if let Ok(now) = self.local.now().await {
                return Ok(now);
            }
            let Some(nodes) = self.cluster.upgrade().map(|cluster| cluster.shape.nodes) else {
                return Err(no_timestamps());
            };
            for step in 1..nodes {
                if let Some(now) = self.ask((self.node + step) % nodes).await {
                    return Ok(now);
                }
            }
            Err(no_timestamps())
        }
        .boxed()
    }
}

fn no_timestamps() -> Error {
    Error::Unavailable {
        message: "no node hands out timestamps".into(),
    }
}

impl Remote {
    async fn ask(&self, other: usize) -> Option<Timestamp> {
        let cluster = Cluster {
            inner: self.cluster.upgrade()?,
        };
        cluster.travel(self.node, other).await?;
        let db = cluster.db(other)?;
        let now = db.node().oracle().now().await.ok()?;
        // Long enough that much may happen between the answer and its arrival.
        cluster.travel(other, self.node).await?;
        Some(now)
    }
}

/// Requests to other nodes, over the simulated network.
struct SimPeers {
    cluster: Weak<Inner>,
    node: usize,
}

impl Peers for SimPeers {
    fn ask(
        &self,
        node: NodeId,
        range: u64,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, PeerError>> {
        let (cluster, from) = (Weak::clone(&self.cluster), self.node);
        let to = node.0 as usize - 1;
        async move {
            let unreachable = || PeerError::Unreachable {
                reason: format!("node {to} does not answer"),
            };
            let inner = cluster.upgrade().ok_or_else(unreachable)?;
            let cluster = Cluster { inner };
            // The sender does not learn at which end a message was lost.
            cluster.travel(from, to).await.ok_or(PeerError::Lost)?;
            let db = cluster.db(to).ok_or_else(unreachable)?;
            let carried_out = async move { db.node().serve(range, request).await };
            // Its sender may give up; the request goes on.
            let answer = tokio::spawn(carried_out).await;
            cluster.travel(to, from).await.ok_or(PeerError::Lost)?;
            answer
                .map_err(|_| PeerError::Lost)?
                .map_err(PeerError::Refused)
        }
        .boxed()
    }
}

impl Cluster {
    /// A cluster none of whose nodes runs.
    pub(super) fn new(shape: Shape, seed: u64, bug: Bug) -> Self {
        let slot = |node: u64| {
            let disk = SimDisk::new(seed.wrapping_mul(31).wrapping_add(node));
            Slot {
                disk,
                engine: Arc::new(MemoryEngine::with_crashes()),
                db: None,
                life: 0,
            }
        };
        let inner = Inner {
            shape,
            bug,
            seed,
            network: MemoryNetwork::new(seed ^ 0x5eed),
            slots: Mutex::new((0..shape.nodes as u64).map(slot).collect()),
            cuts: Mutex::default(),
            rng: Mutex::new(SmallRng::seed_from_u64(seed ^ 0xc10c)),
            failures: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        self.inner.rng.lock().random_range(range)
    }

    /// Number of nodes.
    pub(super) fn nodes(&self) -> usize {
        self.inner.shape.nodes
    }

    /// Whether ranges are split while clients work.
    pub(super) fn splits(&self) -> bool {
        self.inner.shape.split
    }

    /// Has a range split by whoever leads it, in the background.
    pub(super) fn split(&self, key: &Key) {
        for db in (0..self.nodes()).filter_map(|node| self.db(node)) {
            let key = key.clone();
            tokio::spawn(async move {
                let patience = Duration::from_secs(2);
                // Most are not the leader.
                let _ = tokio::time::timeout(patience, db.split_at(&key)).await;
            });
        }
    }

    /// A message on its way; `None` when it is lost.
    async fn travel(&self, from: usize, to: usize) -> Option<()> {
        let delay = self.draw(1..30);
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let pair = (from.min(to), from.max(to));
        (!self.inner.cuts.lock().contains(&pair)).then_some(())
    }

    /// The store of a node, if it runs.
    pub(super) fn db(&self, node: usize) -> Option<Db> {
        self.inner.slots.lock().get(node)?.db.clone()
    }

    /// Notes a wrong answer.
    pub(super) fn fail(&self, what: String) {
        self.inner.failures.lock().push(what);
    }

    /// What went wrong in nodes that should be well.
    pub(super) fn failures(&self) -> Vec<String> {
        self.inner.failures.lock().clone()
    }

    /// Starts a node that is down.
    pub(super) async fn start(&self, node: usize, found: bool) {
        let (disk, engine, life) = {
            let mut slots = self.inner.slots.lock();
            let Some(slot) = slots.get_mut(node) else {
                return;
            };
            if slot.db.is_some() {
                return;
            }
            slot.life += 1;
            (slot.disk.clone(), Arc::clone(&slot.engine), slot.life)
        };
        if let Err(error) = self.try_start(node, disk, engine, life, found).await {
            self.inner
                .failures
                .lock()
                .push(format!("node {node} does not start: {error}"));
        }
    }

    async fn try_start(
        &self,
        node: usize,
        disk: SimDisk,
        engine: Arc<MemoryEngine>,
        life: u64,
        found: bool,
    ) -> Result<(), Error> {
        let me = peer(node);
        let mut options = LogOptions::new(me.place.store);
        options.segment_bytes = 64 << 10;
        let log = RaftLog::open_simulated(&disk, options, Duration::from_millis(1));
        let log = log.map_err(|error| Error::Storage {
            message: error.to_string(),
        })?;
        if self.inner.bug == Bug::SkipSyncs {
            disk.plant(PlantedBug::SkipSync(0.02));
        }
        let cluster = Arc::downgrade(&self.inner);
        let events = Events {
            cluster: Weak::clone(&cluster),
            node,
            life,
        };
        let peers = SimPeers {
            cluster: Weak::clone(&cluster),
            node,
        };
        let started = Node::start(NodeParts {
            peers: Some(Arc::new(peers)),
            config: config(self.inner.shape),
            engine,
            log,
            transport: Arc::clone(&self.inner.network) as Arc<_>,
            clock: SimClock::new(1_700_000_000_000 + life * 7_000 + self.draw(0..2_000)),
            events: Arc::new(events),
            seed: self
                .inner
                .seed
                .wrapping_mul(1_000)
                .wrapping_add(life * 10 + node as u64),
            me,
            found: found.then(|| (0..self.nodes()).map(peer).collect()),
            timestamps: Some(Arc::new(move |local| {
                Arc::new(Remote {
                    cluster: Weak::clone(&cluster),
                    node,
                    local,
                })
            })),
            disk: None,
        });
        let started = started.await?;
        for replica in started.replicas() {
            match self.inner.bug {
                Bug::SkipValidation => replica.skip_validation.store(true, Ordering::Relaxed),
                Bug::SkipWaits => {
                    let latches = &replica.state().latches;
                    latches.skip_waits.store(true, Ordering::Relaxed);
                }
                Bug::SkipNotes => replica.state().skip_notes.store(true, Ordering::Relaxed),
                Bug::SkipIntents => replica.state().intents.blind.store(true, Ordering::Relaxed),
                Bug::EarlyTimestamps => started.early_timestamps.store(true, Ordering::Relaxed),
                Bug::SkipBounds => replica.state().skip_bounds.store(true, Ordering::Relaxed),
                Bug::None | Bug::SkipSyncs => {}
            }
        }
        self.inner
            .network
            .connect(me.place.node, started.host().clone());
        if let Some(slot) = self.inner.slots.lock().get_mut(node) {
            slot.db = Some(Db::over(started));
        }
        Ok(())
    }

    /// Cuts the power of a node.
    pub(super) async fn crash(&self, node: usize) {
        let db = {
            let mut slots = self.inner.slots.lock();
            let Some(slot) = slots.get_mut(node) else {
                return;
            };
            let Some(db) = slot.db.take() else { return };
            slot.disk.crash();
            slot.engine = Arc::new(slot.engine.after_crash());
            db
        };
        self.inner.network.disconnect(peer(node).place.node);
        db.node().kill().await;
    }

    /// Cuts a node off from the others.
    pub(super) fn isolate(&self, node: usize) {
        self.inner.network.isolate(peer(node).place.node);
        let mut cuts = self.inner.cuts.lock();
        cuts.extend(
            (0..self.nodes())
                .filter(|o| *o != node)
                .map(|o| (o.min(node), o.max(node))),
        );
    }

    /// Joins all links again.
    pub(super) fn heal(&self) {
        self.inner.network.heal();
        self.inner.cuts.lock().clear();
    }

    /// Makes messages late and lets some be lost.
    pub(super) fn weather(&self, loss: f64, delay_max_ms: u64) {
        self.inner.network.set_default_link(Link {
            down: false,
            loss,
            delay_min: Duration::from_micros(200),
            delay_max: Duration::from_millis(delay_max_ms),
        });
    }
}

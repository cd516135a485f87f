//! The cluster: starting, crashing and cutting off of nodes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use pontoon_raft::log_store::{LogOptions, PlantedBug, RaftLog, SimDisk};
use pontoon_raft::transport::{Link, MemoryNetwork};
use pontoon_raft::{
    Group, GroupId, HostEvents, MemorySpool, NodeId, Peer, Place, ReplicaId, SimClock,
    StorageError, StoreId, Timing,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::cluster::{
    Alteration, Answer, Book, Call, Change, NodeRow, NodeStatus, RangeReport, View,
};
use crate::db::{Db, DbConfig, Founding, Node, NodeParts};
use crate::error::Error;
use crate::placement::Wishes;
use crate::routing::{PeerError, Peers, Whom};
use crate::sim::clients::splits;
use crate::storage::MemoryEngine;
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
    /// Who watches metadata does not wait for commits that are under way.
    HastyWatches,
    /// Readers do not wait for commits that are under way.
    SkipWaits,
    /// Readers do not see intents.
    SkipIntents,
    /// Commits over several ranges take their timestamps before their intents are in place.
    EarlyTimestamps,
    /// Changes of the catalog are not announced.
    SkipAnnouncing,
    /// Changes of the catalog are announced to those who ask the same coordinator only.
    HastyAnnouncing,
    /// A new coordinator does not reckon with what earlier ones have announced.
    ForgetAnnounced,
    /// Splits wait for nobody, and entries are applied whatever the bounds have become.
    SkipBounds,
    /// Entries are applied whatever the term is that they were evaluated in.
    SkipTerms,
    /// What a transaction knows of a key that it inserts is believed whatever was written since.
    BelieveInserts,
    /// Leaders believe to lead for longer than the others wait before they elect another.
    LongLease,
    /// Ranges are absorbed without being frozen.
    SkipFreeze,
    /// Ranges are absorbed before they are frozen on all nodes.
    SkipSettling,
    /// A node that has lost its disks comes back under its old number, and so do its replicas.
    ReuseReplicas,
}

/// Where leaders change and change back, what was evaluated waits up to so long before it is
/// proposed.
const LINGERS_MS: u64 = 1_500;

/// A range that was absorbed is closed on a node up to so much later.
const CLOSES_LATE_MS: u64 = 1_000;

/// What a simulated cluster looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    /// Number of nodes.
    pub(super) nodes: usize,
    /// Whether what clients touch lies in several ranges.
    pub(super) split: bool,
    /// Whether replicas move, to one node more than ranges have replicas.
    pub(super) moves: bool,
    /// Whether leaders often change, and change back at once.
    pub(super) bounces: bool,
}

impl Shape {
    /// Number of members that ranges are founded with.
    fn founders(self) -> usize {
        self.nodes - usize::from(self.moves)
    }
}

struct Slot {
    disk: SimDisk,
    engine: Arc<MemoryEngine>,
    db: Option<Db>,
    /// It has lost what it was founded with.
    empty: bool,
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
    /// Counts ranges that became parts of others.
    merged: AtomicUsize,
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

/// What every node knows of the others from the start.
fn book(shape: Shape) -> Arc<Book> {
    let book = Book::default();
    let peers = (0..shape.nodes).map(peer);
    let founders = (0..shape.founders()).map(peer);
    let status = |peer: Peer| NodeStatus {
        row: NodeRow {
            place: peer.place,
            ..NodeRow::default()
        },
        alive: true,
        stopping: false,
        usage: Default::default(),
        replicas: 0,
        leads: 0,
    };
    book.learn(View {
        coordinator: NodeId(1),
        revision: (0, 1),
        nodes: peers.map(status).collect(),
        system: founders.collect(),
        system_position: None,
    });
    Arc::new(book)
}

fn config(shape: Shape) -> DbConfig {
    DbConfig {
        placement: Wishes {
            replicas: shape.founders(),
            system_replicas: shape.founders(),
            dead_after: Duration::from_millis(1_500),
            ..Wishes::default()
        },
        founding_splits: if shape.split { splits() } else { Vec::new() },
        timing: Timing::fast(),
        quiesce_after_ms: 200,
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

/// Requests to other nodes, over the simulated network.
struct SimPeers {
    cluster: Weak<Inner>,
    node: usize,
}

impl Peers for SimPeers {
    fn call(&self, whom: Whom, call: Call) -> BoxFuture<'static, Result<Answer, PeerError>> {
        let (cluster, from) = (Weak::clone(&self.cluster), self.node);
        let to = match whom {
            Whom::Node(node) => node.0 as usize - 1,
            Whom::Address(address) => address.parse().unwrap_or(usize::MAX),
        };
        async move {
            let unreachable = || PeerError::Unreachable {
                reason: format!("node {to} does not answer"),
            };
            let inner = cluster.upgrade().ok_or_else(unreachable)?;
            let cluster = Cluster { inner };
            // The sender does not learn at which end a message was lost.
            cluster.travel(from, to).await.ok_or(PeerError::Lost)?;
            let db = cluster.db(to).ok_or_else(unreachable)?;
            let carried_out = async move { db.node().answer(call).await };
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
                empty: false,
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
            merged: AtomicUsize::default(),
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

    /// Has a range absorb the one behind it, in the background.
    pub(super) fn merge(&self) {
        let nodes: Vec<Db> = (0..self.nodes()).filter_map(|node| self.db(node)).collect();
        let mut reports: Vec<RangeReport> = nodes
            .iter()
            .flat_map(|db| db.node().report().leads)
            .collect();
        reports.sort_by_key(|range| range.descriptor.span.start.clone());
        let adjacent: Vec<_> = reports
            .windows(2)
            .filter(|pair| {
                let [left, right] = pair else { return false };
                left.descriptor.range > 1 && left.descriptor.span.end == right.descriptor.span.start
            })
            .collect();
        if adjacent.is_empty() {
            return;
        }
        let [left, right] = adjacent[self.draw(0..adjacent.len() as u64) as usize] else {
            return;
        };
        let change = Change {
            range: left.descriptor.range,
            membership: left.membership.position,
            what: Alteration::Absorb(right.descriptor.range),
        };
        let (db, leader) = (nodes[0].clone(), left.leader.place.node);
        let cluster = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            let patience = Duration::from_secs(4);
            let altered = db.node().alter(change, leader);
            let altered = tokio::time::timeout(patience, altered).await;
            if let (Ok(Ok(())), Some(cluster)) = (altered, cluster.upgrade()) {
                cluster.merged.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// How many ranges became parts of others.
    pub(super) fn merged(&self) -> usize {
        self.inner.merged.load(Ordering::Relaxed)
    }

    /// Whether replicas are moved while clients work.
    pub(super) fn moves(&self) -> bool {
        self.inner.shape.moves
    }

    /// Whether leaders often change, and change back at once.
    pub(super) fn bounces(&self) -> bool {
        self.inner.shape.bounces
    }

    /// Makes all nodes known to the cluster; false when that did not work.
    pub(super) async fn introduce(&self) -> bool {
        let rows = (0..self.nodes()).map(|node| NodeRow {
            place: peer(node).place,
            ..NodeRow::default()
        });
        let rows: Vec<_> = rows.collect();
        match self.db(0) {
            Some(db) => db.node().write_rows(&rows).await.is_ok(),
            None => false,
        }
    }

    /// Has a replica added, a leader changed or a member removed somewhere, in the background.
    pub(super) fn shuffle(&self) {
        let nodes: Vec<Db> = (0..self.nodes()).filter_map(|node| self.db(node)).collect();
        let reports = nodes.iter().flat_map(|db| db.node().report().leads);
        let reports: Vec<RangeReport> = reports.filter(|range| range.settled).collect();
        if reports.is_empty() {
            return;
        }
        let range = &reports[self.draw(0..reports.len() as u64) as usize];
        let members = &range.membership.members;
        let voters: Vec<ReplicaId> = range.membership.voters().into_iter().collect();
        let new = NodeId(self.draw(1..self.nodes() as u64 + 1));
        let replica = voters[self.draw(0..voters.len() as u64) as usize];
        let what = match self.draw(0..3) {
            0 if replica != range.leader.replica => Alteration::Lead(replica),
            1 if replica != range.leader.replica && voters.len() > 2 => {
                let mut voters = range.membership.voters();
                voters.remove(&replica);
                Alteration::Voters(voters)
            }
            _ if members.values().all(|place| place.node != new) => Alteration::Add(new),
            _ => return,
        };
        let change = Change {
            range: range.descriptor.range,
            membership: range.membership.position,
            what,
        };
        let leader = range.leader.place.node;
        let Some(db) = nodes.first().cloned() else {
            return;
        };
        tokio::spawn(async move {
            let patience = Duration::from_secs(3);
            let altered = db.node().alter(change, leader);
            // The leader may be gone by now.
            let _ = tokio::time::timeout(patience, altered).await;
        });
    }

    /// Has the leader of a range changed and changed back, in the background.
    pub(super) fn bounce(&self) {
        let nodes: Vec<Db> = (0..self.nodes()).filter_map(|node| self.db(node)).collect();
        let groups: Vec<Group> = nodes
            .iter()
            .flat_map(|db| db.node().replicas())
            .filter(|replica| replica.leads())
            .map(|replica| replica.group().clone())
            .collect();
        if groups.is_empty() {
            return;
        }
        let group = groups[self.draw(0..groups.len() as u64) as usize].clone();
        let members = group.status().membership;
        let voters: Vec<ReplicaId> = members.voters().into_iter().collect();
        let to = voters[self.draw(0..voters.len() as u64) as usize];
        if to == group.replica() {
            return;
        }
        let other = nodes
            .iter()
            .find(|db| {
                members
                    .peer(to)
                    .is_some_and(|p| p.place.node == db.node().id())
            })
            .and_then(|db| db.node().host().group(group.id()));
        tokio::spawn(async move {
            let there_and_back = async {
                let _ = group.transfer_leader(to).await;
                if let Some(other) = other {
                    let _ = other.transfer_leader(group.replica()).await;
                }
            };
            let _ = tokio::time::timeout(Duration::from_secs(2), there_and_back).await;
        });
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
        let (disk, engine, life, empty) = {
            let mut slots = self.inner.slots.lock();
            let Some(slot) = slots.get_mut(node) else {
                return;
            };
            if slot.db.is_some() {
                return;
            }
            slot.life += 1;
            let engine = Arc::clone(&slot.engine);
            (slot.disk.clone(), engine, slot.life, slot.empty)
        };
        let founding = self.founding(node, found, empty);
        if let Err(error) = self.try_start(node, disk, engine, life, founding).await {
            self.inner
                .failures
                .lock()
                .push(format!("node {node} does not start: {error}"));
        }
    }

    /// How a node stands to the ranges that the cluster begins with.
    fn founding(&self, node: usize, found: bool, empty: bool) -> Founding {
        let founders = self.inner.shape.founders();
        if found {
            Founding::Found((0..founders).map(peer).collect())
        } else if node < founders && !empty {
            Founding::Member
        } else {
            Founding::Nothing
        }
    }

    async fn try_start(
        &self,
        node: usize,
        disk: SimDisk,
        engine: Arc<MemoryEngine>,
        life: u64,
        founding: Founding,
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
        let mut config = config(self.inner.shape);
        if self.inner.bug == Bug::LongLease {
            config.timing.lease_ms *= 4;
        }
        let started = Node::start(NodeParts {
            peers: Some(Arc::new(peers)),
            config,
            engine,
            log,
            // A snapshot is installed in one step here: no crash comes between.
            spool: Arc::new(MemorySpool::default()),
            transport: Arc::clone(&self.inner.network) as Arc<_>,
            clock: SimClock::new(1_700_000_000_000 + life * 7_000 + self.draw(0..2_000)),
            events: Arc::new(events),
            seed: self
                .inner
                .seed
                .wrapping_mul(1_000)
                .wrapping_add(life * 10 + node as u64),
            me,
            founding,
            row: NodeRow::default(),
            cluster: 1,
            book: book(self.inner.shape),
            disk: None,
        });
        let started = started.await?;
        let late = self.draw(0..CLOSES_LATE_MS);
        started.closes_late_ms.store(late, Ordering::Relaxed);
        for replica in started.replicas() {
            if self.bounces() {
                let lingers = &replica.state().lingers_ms;
                lingers.store(LINGERS_MS, Ordering::Relaxed);
            }
            match self.inner.bug {
                Bug::SkipValidation => replica.skip_validation.store(true, Ordering::Relaxed),
                Bug::SkipWaits => {
                    let latches = &replica.state().latches;
                    latches.skip_waits.store(true, Ordering::Relaxed);
                }
                Bug::HastyWatches => replica.state().hasty.store(true, Ordering::Relaxed),
                Bug::SkipNotes => replica.state().skip_notes.store(true, Ordering::Relaxed),
                Bug::SkipIntents => replica.state().intents.blind.store(true, Ordering::Relaxed),
                Bug::EarlyTimestamps => started.early_timestamps.store(true, Ordering::Relaxed),
                Bug::SkipAnnouncing => started.oracle.silent.store(true, Ordering::Relaxed),
                Bug::HastyAnnouncing => started.oracle.hasty.store(true, Ordering::Relaxed),
                Bug::ForgetAnnounced => {
                    let forgets = &started.oracle.window().forgets;
                    forgets.store(true, Ordering::Relaxed);
                }
                Bug::SkipSettling => started.skip_settling.store(true, Ordering::Relaxed),
                Bug::SkipFreeze => {
                    replica.state().skip_freeze.store(true, Ordering::Relaxed);
                    started.skip_settling.store(true, Ordering::Relaxed);
                }
                Bug::SkipTerms => replica.state().skip_terms.store(true, Ordering::Relaxed),
                Bug::BelieveInserts => {
                    replica.state().believes.store(true, Ordering::Relaxed);
                }
                Bug::SkipBounds => replica.state().skip_bounds.store(true, Ordering::Relaxed),
                Bug::None | Bug::SkipSyncs | Bug::LongLease | Bug::ReuseReplicas => {}
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
            if self.inner.bug == Bug::ReuseReplicas && self.draw(0..2) == 0 {
                slot.disk = SimDisk::new(self.draw(0..u64::MAX));
                slot.engine = Arc::new(MemoryEngine::with_crashes());
                slot.empty = true;
            }
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

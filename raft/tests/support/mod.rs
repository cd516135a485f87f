//! What the integration tests share: a state machine that records what it applied and can lose
//! what it did not make durable, and a simulated cluster.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use pontoon_raft::log_store::{LogOptions, RaftLog, SimDisk};
use pontoon_raft::transport::MemoryNetwork;
use pontoon_raft::{
    AppliedState, Entry, EntryPayload, Group, GroupId, Host, HostConfig, HostEvents, LogEngine,
    LogPosition, MemorySpool, NodeId, Peer, Place, ReplicaId, SimClock, SpooledSnapshot,
    StateMachine, StorageError, StoreId, Timing,
};

/// What a machine holds.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct Contents {
    pub position: Option<LogPosition>,
    pub membership: Bytes,
    pub commands: Vec<(LogPosition, Bytes)>,
}

/// The data of one replica: what is visible, and what survives a crash.
#[derive(Clone, Default)]
pub struct Data {
    state: Arc<Mutex<(Contents, Contents)>>,
    held: Arc<AtomicBool>,
}

impl Data {
    pub fn visible(&self) -> Contents {
        self.state.lock().unwrap().0.clone()
    }

    /// Nothing is applied while this is held.
    pub fn hold(&self) -> Held<'_> {
        self.held.store(true, Ordering::SeqCst);
        Held(self.state.lock().unwrap(), &self.held)
    }

    /// Makes everything durable, as the layer above does now and then.
    pub fn persist(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 = state.0.clone();
    }

    /// Loses what is not durable.
    pub fn crash(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = state.1.clone();
    }

    pub fn machine(&self) -> Box<dyn StateMachine> {
        Box::new(Machine { data: self.clone() })
    }
}

/// Keeps a machine from applying.
pub struct Held<'a>(pub MutexGuard<'a, (Contents, Contents)>, &'a AtomicBool);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.1.store(false, Ordering::SeqCst);
    }
}

struct Machine {
    data: Data,
}

impl StateMachine for Machine {
    fn applied(&self) -> Result<AppliedState, StorageError> {
        let contents = self.data.visible();
        Ok(AppliedState {
            position: contents.position,
            membership: contents.membership,
        })
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<Vec<Bytes>, StorageError> {
        let mut state = self.data.state.lock().unwrap();
        let mut replies = Vec::new();
        for entry in entries {
            let next = state.0.position.map_or(1, |position| position.index + 1);
            assert_eq!(
                entry.position.index, next,
                "entries are applied in order, once"
            );
            if matches!(&entry.payload, EntryPayload::Command(bytes) if &bytes[..] == b"panic") {
                drop(state);
                panic!("asked to");
            }
            state.0.position = Some(entry.position);
            match &entry.payload {
                EntryPayload::Blank => replies.push(Bytes::new()),
                EntryPayload::Membership(bytes) => {
                    state.0.membership = bytes.clone();
                    replies.push(Bytes::new());
                }
                EntryPayload::Command(bytes) => {
                    state.0.commands.push((entry.position, bytes.clone()));
                    replies.push(Bytes::from([b"did ", &bytes[..]].concat()));
                }
            }
        }
        Ok(replies)
    }

    fn apply_may_block(&self, _entries: usize, _bytes: usize) -> bool {
        self.data.held.load(Ordering::SeqCst)
    }

    fn durable_applied(&self) -> Option<LogPosition> {
        self.data.state.lock().unwrap().1.position
    }

    fn write_snapshot(
        &self,
        sink: &mut dyn FnMut(Bytes) -> Result<(), StorageError>,
    ) -> Result<AppliedState, StorageError> {
        let contents = self.data.visible();
        for (position, command) in &contents.commands {
            let mut chunk = position.term.to_be_bytes().to_vec();
            chunk.extend(position.index.to_be_bytes());
            chunk.extend(command);
            sink(Bytes::from(chunk))?;
        }
        Ok(AppliedState {
            position: contents.position,
            membership: contents.membership,
        })
    }

    fn install_snapshot(
        &mut self,
        state: AppliedState,
        pieces: &mut dyn SpooledSnapshot,
    ) -> Result<(), StorageError> {
        let mut contents = Contents {
            position: state.position,
            membership: state.membership,
            commands: Vec::new(),
        };
        while let Some(chunk) = pieces.next()? {
            if chunk.is_empty() {
                continue;
            }
            let term = u64::from_be_bytes(chunk[..8].try_into().unwrap());
            let index = u64::from_be_bytes(chunk[8..16].try_into().unwrap());
            contents
                .commands
                .push((LogPosition { term, index }, chunk.slice(16..)));
        }
        *self.data.state.lock().unwrap() = (contents.clone(), contents);
        Ok(())
    }
}

/// Notes what the host reports.
#[derive(Default)]
pub struct Events {
    pub fatal: Mutex<Vec<String>>,
    pub down: Mutex<Vec<GroupId>>,
    pub up: Mutex<Vec<GroupId>>,
}

impl HostEvents for Events {
    fn fatal(&self, error: StorageError) {
        self.fatal.lock().unwrap().push(error.message);
    }

    fn group_down(&self, group: GroupId, reason: String) {
        eprintln!("group {group} is down: {reason}");
        self.down.lock().unwrap().push(group);
    }

    fn group_up(&self, group: GroupId) {
        self.up.lock().unwrap().push(group);
    }
}

/// One simulated node.
pub struct Node {
    pub id: NodeId,
    pub disk: SimDisk,
    pub data: BTreeMap<GroupId, Data>,
    pub host: Option<Host>,
    pub log: Option<Arc<RaftLog>>,
    pub events: Arc<Events>,
    seed: u64,
    starts: u64,
}

/// A simulated cluster: node n has store n and, in every group, replica n.
pub struct Cluster {
    pub network: Arc<MemoryNetwork>,
    pub nodes: BTreeMap<u64, Node>,
    pub groups: Vec<GroupId>,
    pub kept: u64,
    pub bytes_kept: u64,
    pub quiesce_after_ms: u64,
}

pub fn peer(n: u64) -> Peer {
    let place = Place {
        node: NodeId(n),
        store: StoreId(n),
    };
    Peer {
        replica: ReplicaId(n),
        place,
    }
}

pub fn log_options(n: u64) -> LogOptions {
    LogOptions {
        segment_bytes: 64 << 10,
        cache_bytes_per_group: 8 << 10,
        ..LogOptions::new(StoreId(n))
    }
}

impl Cluster {
    /// Nodes 1..=count with `groups` groups each, not yet initialized.
    pub async fn start(seed: u64, count: u64, groups: u64) -> Self {
        let mut cluster = Self {
            network: MemoryNetwork::new(seed),
            nodes: BTreeMap::new(),
            groups: (1..=groups).map(GroupId).collect(),
            kept: 10_000,
            bytes_kept: 256 << 20,
            quiesce_after_ms: 300,
        };
        for n in 1..=count {
            cluster.add(seed, n).await;
        }
        cluster
    }

    pub async fn add(&mut self, seed: u64, n: u64) {
        let node = Node {
            id: NodeId(n),
            disk: SimDisk::new(seed * 1_000 + n),
            data: self
                .groups
                .iter()
                .map(|group| (*group, Data::default()))
                .collect(),
            host: None,
            log: None,
            events: Arc::default(),
            seed: seed * 1_000_000 + n * 1_000,
            starts: 0,
        };
        self.nodes.insert(n, node);
        self.boot(n).await;
    }

    /// Starts a node from its disk.
    pub async fn boot(&mut self, n: u64) {
        let node = self.nodes.get_mut(&n).unwrap();
        node.starts += 1;
        let sync_time = Duration::from_micros(100);
        let log = RaftLog::open_simulated(&node.disk, log_options(n), sync_time).unwrap();
        let config = HostConfig {
            timing: Timing::fast(),
            supervise_ms: 50,
            log_entries_kept: self.kept,
            log_bytes_kept: self.bytes_kept,
            quiesce_after_ms: self.quiesce_after_ms,
            ..HostConfig::new(peer(n).place)
        };
        let host = Host::open(
            config,
            Arc::clone(&log) as Arc<dyn LogEngine>,
            Arc::new(MemorySpool::default()),
            Arc::clone(&self.network) as Arc<dyn pontoon_raft::Transport>,
            SimClock::new(0),
            Arc::clone(&node.events) as Arc<dyn HostEvents>,
            node.seed + node.starts,
        )
        .unwrap();
        for group in &self.groups {
            let data = node.data[group].clone();
            host.open_group(*group, ReplicaId(n), move || Ok(data.machine()))
                .await
                .unwrap();
        }
        self.network.connect(node.id, host.clone());
        node.host = Some(host);
        node.log = Some(log);
    }

    /// Stops a node as a power failure does.
    pub async fn power_off(&mut self, n: u64) {
        let node = self.nodes.get_mut(&n).unwrap();
        self.network.disconnect(node.id);
        node.disk.crash();
        // From here nothing it does reaches its disk; its tasks end.
        let data = std::mem::take(&mut node.data);
        for (group, old) in data {
            old.crash();
            let fresh = Data::default();
            *fresh.state.lock().unwrap() = old.state.lock().unwrap().clone();
            node.data.insert(group, fresh);
        }
        if let Some(host) = node.host.take() {
            host.shutdown().await;
        }
        node.log = None;
    }

    pub fn group(&self, n: u64, group: GroupId) -> Group {
        self.nodes[&n].host.as_ref().unwrap().group(group).unwrap()
    }

    pub async fn initialize(&self, voters: &[u64]) {
        for group in &self.groups {
            let members = voters.iter().map(|n| peer(*n)).collect();
            self.group(voters[0], *group)
                .initialize(members)
                .await
                .unwrap();
        }
    }

    /// Waits for a leader of a group and returns its node.
    pub async fn leader(&self, group: GroupId) -> u64 {
        loop {
            for (n, node) in &self.nodes {
                if let Some(host) = &node.host
                    && host.group(group).is_some_and(|group| group.leads())
                {
                    return *n;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn shutdown(&mut self) {
        for node in self.nodes.values_mut() {
            self.network.disconnect(node.id);
            if let Some(host) = node.host.take() {
                host.shutdown().await;
            }
            node.log = None;
        }
    }
}

/// Shows what happens when `RUST_LOG` asks for it.
pub fn trace() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
}

/// Runs a test on a paused single-threaded runtime.
pub fn simulate<T>(test: impl Future<Output = T>) -> T {
    trace();
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

//! [`Db`]: what the layer above holds of the store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pontoon_raft::log_store::{LogOptions, RaftLog, SimDisk};
use pontoon_raft::shell::SystemClock;
use pontoon_raft::{
    HostEvents, MemorySpool, NodeId, Peer, Place, ReplicaId, StorageError, StoreId,
};

use crate::cluster::NodeRow;
use crate::db::config::DbConfig;
use crate::db::node::{DataStats, Founding, Node, NodeParts};
use crate::db::open::{self, Belonging, NoTransport};
use crate::error::Error;
use crate::routing::plain;
use crate::shell::OwnRuntime;
use crate::storage::{MemoryEngine, Reserve, RoomStats, Volume};
use crate::timestamp::Timestamp;
use crate::txn::{Txn, TxnOptions};

/// The store as one node sees it. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    node: Arc<Node>,
    /// The runtime of a store in memory.
    _runtime: Option<Arc<OwnRuntime>>,
}

struct LogFailure;

impl HostEvents for LogFailure {
    fn fatal(&self, error: StorageError) {
        tracing::error!(%error, "the store in memory has failed");
    }
}

/// A node of its own, in memory, on the runtime of the caller.
pub(crate) async fn start_in_memory(
    config: DbConfig,
    disk: Option<(Arc<dyn Volume>, Reserve)>,
) -> Result<Arc<Node>, Error> {
    let place = Place {
        node: NodeId(1),
        store: StoreId(1),
    };
    let options = LogOptions::new(place.store);
    let log = RaftLog::open_simulated(&SimDisk::new(1), options, Duration::ZERO);
    let log = log.map_err(|error| Error::Storage {
        message: error.to_string(),
    })?;
    let me = Peer {
        replica: ReplicaId(1),
        place,
    };
    let node = Node::start(NodeParts {
        config,
        engine: Arc::new(MemoryEngine::new()),
        log,
        spool: Arc::new(MemorySpool::default()),
        transport: Arc::new(NoTransport),
        clock: SystemClock::new(),
        events: Arc::new(LogFailure),
        seed: 1,
        me,
        founding: Founding::Found(vec![me]),
        row: NodeRow::default(),
        cluster: 0,
        book: Arc::default(),
        peers: None,
        disk,
    })
    .await?;
    for replica in node.replicas() {
        replica.lead().await.map_err(plain)?;
    }
    Ok(node)
}

impl Db {
    /// Opens the store in a directory, creating it when there is none, on the runtime of the
    /// caller.
    ///
    /// # Errors
    /// [`Error::Storage`] when the directory is in use by another process, was written by another
    /// version or is damaged; the message says what to do.
    pub async fn open(path: &Path, config: DbConfig) -> Result<Self, Error> {
        Ok(Self {
            node: open::open(path, config, None).await?,
            _runtime: None,
        })
    }

    /// Opens the store in a directory as a part of a cluster: a new one founds it, or joins it, and
    /// then waits until somebody lets it in.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_in_cluster(
        path: &Path,
        config: DbConfig,
        belonging: Belonging,
    ) -> Result<Self, Error> {
        Ok(Self {
            node: open::open(path, config, Some(belonging)).await?,
            _runtime: None,
        })
    }

    /// An empty store in memory, for tests: all layers, over an engine and a log in memory. It
    /// runs on a thread of its own, so callers may be on any executor or none.
    #[expect(
        clippy::expect_used,
        reason = "for tests; an empty store has nothing that fails"
    )]
    pub fn in_memory() -> Self {
        Self::in_memory_with(DbConfig::default()).expect("an empty store in memory opens")
    }

    /// An empty store in memory with other settings.
    pub fn in_memory_with(config: DbConfig) -> Result<Self, Error> {
        let (runtime, node) = OwnRuntime::start(move || start_in_memory(config, None))?;
        Ok(Self {
            node,
            _runtime: Some(Arc::new(runtime)),
        })
    }

    /// A store over a node that was started by the caller.
    pub fn over(node: Arc<Node>) -> Self {
        Self {
            node,
            _runtime: None,
        }
    }

    /// Opens a transaction.
    pub async fn begin(&self, options: TxnOptions) -> Result<Txn, Error> {
        Txn::begin(&self.node, options).await
    }

    /// Begins a transaction that only reads, as of a timestamp that a transaction on another node
    /// reads at; it may note what it reads, for that one to validate.
    pub fn read_for_another(&self, at: Timestamp, notes_reads: bool) -> Txn {
        Txn::begin_at(self.node(), at, notes_reads)
    }

    /// A timestamp not below any that was handed out before the call.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        self.node.timestamps.now().await
    }

    /// Figures for monitoring.
    pub fn stats(&self) -> DataStats {
        self.node.stats()
    }

    /// How the disk stands.
    pub fn room(&self) -> RoomStats {
        self.node.room.stats()
    }

    /// The node below.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Stops the node in good order. Transactions that are still open fail.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.node.shutdown().await
    }
}

//! Opening a data directory.
//!
//! ```text
//! D/LOCK       held by the running process, with its pid
//! D/VERSION    the format of the directory
//! D/raftlog/   the Raft log, synced by its own thread
//! D/data/      the engine, synced now and then
//! D/ballast    room for a full disk (crate::storage::Room)
//! ```
//!
//! Invariant: the two directories belong together: the engine knows the id of the store, and the
//! log refuses another one. A store whose log is damaged, missing or behind its data does not
//! serve: it may have forgotten votes and acknowledgements.

use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use futures::future::BoxFuture;
use pontoon_raft::log_store::{LogOptions, RaftLog};
use pontoon_raft::shell::{SystemClock, entropy_seed};
use pontoon_raft::transport::{Envelope, Reply};
use pontoon_raft::{
    HostEvents, NodeId, Peer, Place, ReplicaId, StorageError, StoreId, Transport, TransportError,
};

use crate::db::config::DbConfig;
use crate::db::node::{Node, NodeParts};
use crate::error::Error;
use crate::keys::meta;
use crate::shell::disk::DirectoryVolume;
use crate::shell::{DataDirectory, Runtime, abort, random_id};
use crate::storage::{Engine, FjallEngine, Reserve, Space, WriteBatch};

/// A node without peers.
pub(crate) struct NoTransport;

impl Transport for NoTransport {
    fn send(
        &self,
        _: Envelope,
        _: std::time::Duration,
    ) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let reason = "this node has no peers".to_owned();
        Box::pin(async { Err(TransportError::Unreachable { reason }) })
    }
}

struct EndProcess;

impl HostEvents for EndProcess {
    fn fatal(&self, error: StorageError) {
        abort(&error.message);
    }
}

/// Who this store is.
struct Identity {
    place: Place,
    new: bool,
}

fn identity(engine: &dyn Engine) -> Result<Identity, Error> {
    if let Some(mut stored) = engine.get(Space::Meta, meta::STORE)? {
        let damaged = |_| Error::Storage {
            message: "the identity of the store is damaged".into(),
        };
        let node = NodeId(stored.try_get_u64().map_err(damaged)?);
        let store = StoreId(stored.try_get_u64().map_err(damaged)?);
        return Ok(Identity {
            place: Place { node, store },
            new: false,
        });
    }
    let place = Place {
        node: NodeId(random_id()),
        store: StoreId(random_id()),
    };
    let mut encoded = Vec::with_capacity(16);
    encoded.put_u64(place.node.0);
    encoded.put_u64(place.store.0);
    let mut batch = WriteBatch::default();
    batch.put(Space::Meta, meta::STORE, Bytes::from(encoded));
    engine.write(batch)?;
    // Before the log is founded under this identity.
    engine.persist()?;
    Ok(Identity { place, new: true })
}

/// A directory with both databases open.
struct Store {
    directory: DataDirectory,
    engine: Arc<FjallEngine>,
    log: Arc<RaftLog>,
    place: Place,
    volume: Arc<DirectoryVolume>,
    /// What there is of the file system; zero when that is not known.
    volume_bytes: u64,
    config: DbConfig,
}

/// Opens the directory and both databases. Blocks on the disk.
fn open_store(path: &Path, mut config: DbConfig) -> Result<Store, Error> {
    let directory = DataDirectory::open(path)?;
    let volume = Arc::new(DirectoryVolume::open(path));
    let volume_bytes = volume.total_bytes().unwrap_or_default();
    if volume_bytes > 0 {
        config.fit(volume_bytes);
    }
    let engine = Arc::new(FjallEngine::open(&directory.join("data"), config.engine)?);
    let Identity { place, new } = identity(&*engine)?;
    let log_path = directory.join("raftlog");
    if !new && !log_path.is_dir() && has_applied(&*engine)? {
        let message = format!(
            "the raft log {} is missing; this store must not serve: \
             restore the directory or replace the store",
            log_path.display()
        );
        return Err(Error::Storage { message });
    }
    let log = RaftLog::open(
        &log_path,
        LogOptions::new(place.store),
        Box::new(|error| abort(&error.message)),
    );
    let log = log.map_err(|error| Error::Storage {
        message: error.to_string(),
    })?;
    Ok(Store {
        directory,
        engine,
        log,
        place,
        volume,
        volume_bytes,
        config,
    })
}

fn has_applied(engine: &dyn Engine) -> Result<bool, Error> {
    Ok(engine.get(Space::Meta, &meta::applied(1))?.is_some())
}

/// Opens the store in a directory as a cluster of one node.
pub(super) async fn open(path: &Path, config: DbConfig) -> Result<Arc<Node>, Error> {
    let runtime = Runtime::current()?;
    let path = path.to_path_buf();
    let opened = runtime.blocking(move || open_store(&path, config)).await;
    let stopping = || Error::Unavailable {
        message: "the runtime is shutting down".into(),
    };
    let Store {
        directory,
        engine,
        log,
        place,
        volume,
        volume_bytes,
        config,
    } = opened.ok_or_else(stopping)??;
    let me = Peer {
        replica: ReplicaId(1),
        place,
    };
    let reserve = Reserve::new(volume_bytes, config.disk_reserve_bytes);
    let node = Node::start(NodeParts {
        config,
        engine,
        log,
        transport: Arc::new(NoTransport),
        clock: SystemClock::new(),
        events: Arc::new(EndProcess),
        seed: entropy_seed(),
        me,
        found: Some(vec![me]),
        timestamps: None,
        peers: None,
        disk: Some((volume, reserve)),
    })
    .await?;
    *node.directory.lock() = Some(directory);
    node.describe_ranges().await?;
    Ok(node)
}

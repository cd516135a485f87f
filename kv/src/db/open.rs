//! Opening a data directory.
//!
//! ```text
//! D/LOCK       held by the running process, with its pid
//! D/VERSION    the format of the directory
//! D/raftlog/   the Raft log, synced by its own thread
//! D/data/      the engine, synced now and then
//! D/incoming/  snapshots that are being received
//! D/ballast    room for a full disk (crate::storage::Room)
//! ```
//!
//! Invariant: the two directories belong together: the engine knows the id of the store, and the
//! log refuses another one. A store whose log is damaged, missing or behind its data does not
//! serve: it may have forgotten votes and acknowledgements.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures::future::BoxFuture;
use pontoon_raft::log_store::{LogOptions, RaftLog};
use pontoon_raft::shell::{SystemClock, entropy_seed};
use pontoon_raft::transport::{Envelope, Reply};
use pontoon_raft::{
    HostEvents, NodeId, Peer, Place, ReplicaId, StorageError, StoreId, Transport, TransportError,
};

use crate::cluster::{Book, Candidate, Joined, Joining, NodeRow, NotJoined};
use crate::db::config::DbConfig;
use crate::db::node::{Founding, Node, NodeParts};
use crate::error::Error;
use crate::keys::meta;
use crate::routing::Peers;
use crate::shell::disk::DirectoryVolume;
use crate::shell::spool::FileSpool;
use crate::shell::{DataDirectory, Runtime, abort, random_id};
use crate::storage::{Engine, FjallEngine, Reserve, Space, Volume, WriteBatch};

/// A node without peers.
pub(crate) struct NoTransport;

impl Transport for NoTransport {
    fn send(&self, _: Envelope, _: Duration) -> BoxFuture<'static, Result<Reply, TransportError>> {
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

/// How a store belongs to a cluster, and how the other nodes are reached.
pub struct Belonging {
    /// Where and what the node is; its number is filled in.
    pub row: NodeRow,
    /// Nodes that a new store asks to be let in by, `host:port`. None: it founds a cluster.
    pub join: Vec<String>,
    /// A store that has its number asks as well: it cannot prove any more who it is.
    pub rejoin: bool,
    /// How it asks.
    pub joining: Arc<dyn Joining>,
    /// Carries the messages of Raft groups.
    pub transport: Arc<dyn Transport>,
    /// Carries questions.
    pub peers: Arc<dyn Peers>,
    /// What is known of the other nodes; those who carry messages look up addresses in it.
    pub book: Arc<Book>,
    /// Told the cluster and the number of the node, before it says anything.
    pub identify: Arc<dyn Fn(u64, NodeId) + Send + Sync>,
}

/// Who this store is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    /// Its node and number; zeros while it has none.
    place: Place,
    /// The cluster.
    cluster: u64,
    /// Drawn by chance when the store was made.
    birth: u64,
    /// It has founded the cluster.
    founder: bool,
}

impl Identity {
    fn encode(&self) -> Bytes {
        let mut encoded = Vec::with_capacity(33);
        for number in [
            self.place.node.0,
            self.place.store.0,
            self.cluster,
            self.birth,
        ] {
            encoded.put_u64(number);
        }
        encoded.put_u8(u8::from(self.founder));
        encoded.into()
    }

    fn decode(mut stored: Bytes) -> Result<Self, Error> {
        let mut number = || {
            stored.try_get_u64().map_err(|_| Error::Storage {
                message: "the identity of the store is damaged".into(),
            })
        };
        let place = Place {
            node: NodeId(number()?),
            store: StoreId(number()?),
        };
        // Stores of the first days are alone, and have nothing more.
        let Ok(cluster) = number() else {
            return Ok(Self {
                place,
                cluster: place.store.0,
                birth: place.node.0,
                founder: true,
            });
        };
        Ok(Self {
            place,
            cluster,
            birth: number()?,
            founder: stored.try_get_u8().is_ok_and(|founder| founder == 1),
        })
    }

    fn of(engine: &dyn Engine) -> Result<Option<Self>, Error> {
        let stored = engine.get(Space::Meta, meta::STORE)?;
        stored.map(Self::decode).transpose()
    }

    /// Before anything is said or founded under it.
    /// What is known of the others goes with it: whoever has a number holds replicas soon, and
    /// finds nobody again without it.
    fn keep(&self, engine: &dyn Engine, book: Option<&Book>) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        if let Some(book) = book {
            batch.put(Space::Meta, meta::BOOK, book.encode()?);
        }
        batch.put(Space::Meta, meta::STORE, self.encode());
        engine.write(batch)?;
        engine.persist()
    }

    /// Becomes what a cluster has said it is.
    fn accept(&mut self, joined: Joined, book: &Book) -> Result<(), Error> {
        let Joined {
            cluster,
            node,
            view,
        } = joined;
        let place = Place {
            node,
            store: StoreId(node.0),
        };
        // Whoever has a number keeps it: replicas are known by it.
        if self.place != Place::default() && (self.place, self.cluster) != (place, cluster) {
            let message = format!("the cluster takes {} for {node}", self.place.node);
            return Err(Error::NotAdmitted { message });
        }
        (self.cluster, self.place) = (cluster, place);
        book.learn(view);
        tracing::info!(%node, cluster, "joined the cluster");
        Ok(())
    }

    /// That of a store which begins a cluster.
    fn founding() -> Self {
        Self {
            place: Place {
                node: NodeId(1),
                store: StoreId(1),
            },
            cluster: random_id(),
            birth: random_id(),
            founder: true,
        }
    }
}

/// A directory with its engine open.
struct Store {
    directory: Arc<DataDirectory>,
    engine: Arc<FjallEngine>,
    volume: Arc<DirectoryVolume>,
    /// What there is of the file system; zero when that is not known.
    volume_bytes: u64,
    config: DbConfig,
    /// Who it is, if it is somebody.
    identity: Option<Identity>,
}

/// Opens the directory and the engine. Blocks on the disk.
fn open_store(path: &Path, mut config: DbConfig) -> Result<Store, Error> {
    let directory = Arc::new(DataDirectory::open(path)?);
    let volume = Arc::new(DirectoryVolume::open(path));
    let volume_bytes = volume.total_bytes().unwrap_or_default();
    if volume_bytes > 0 {
        config.fit(volume_bytes);
    }
    let engine = Arc::new(FjallEngine::open_within(
        Arc::clone(&directory),
        config.engine,
    )?);
    let identity = Identity::of(&*engine)?;
    Ok(Store {
        directory,
        engine,
        volume,
        volume_bytes,
        config,
        identity,
    })
}

/// Opens the place for snapshots that are received.
fn open_spool(directory: &DataDirectory, reserve: Reserve) -> Result<FileSpool, Error> {
    let path = directory.join("incoming");
    FileSpool::open(&path, reserve.bytes).map_err(|error| Error::Storage {
        message: format!("could not open {}: {error}", path.display()),
    })
}

/// Opens the log of a store. Blocks on the disk.
fn open_log(
    directory: &DataDirectory,
    engine: &dyn Engine,
    place: Place,
) -> Result<Arc<RaftLog>, Error> {
    let path = directory.join("raftlog");
    if !path.is_dir() && has_applied(engine)? {
        let message = format!(
            "the raft log {} is missing; this store must not serve: \
             restore the directory or replace the store",
            path.display()
        );
        return Err(Error::Storage { message });
    }
    let log = RaftLog::open(
        &path,
        LogOptions::new(place.store),
        Box::new(|error| abort(&error.message)),
    );
    log.map_err(|error| Error::Storage {
        message: error.to_string(),
    })
}

/// Whether a replica of the store has applied anything.
fn has_applied(engine: &dyn Engine) -> Result<bool, Error> {
    let (from, to) = meta::ranges();
    let mut rows = engine.snapshot().scan(Space::Meta, from, to, false);
    while let Some((key, _)) = rows.next()? {
        if matches!(meta::of_range(&key), Some((_, meta::APPLIED))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Asks to be let into a cluster, again and again, for as long as nobody answers.
///
/// # Errors
/// [`Error::NotAdmitted`] when a node answers that it will not.
async fn join(runtime: &Runtime, with: &Belonging, identity: &mut Identity) -> Result<(), Error> {
    let mut turn = 0_usize;
    loop {
        let address = with.join.get(turn % with.join.len().max(1));
        let address = address.cloned().unwrap_or_default();
        let candidate = Candidate {
            row: NodeRow {
                birth: identity.birth,
                place: identity.place,
                ..with.row.clone()
            },
        };
        let called = with.joining.ask(address.clone(), candidate);
        let reason = match runtime.timeout(JOIN_ANSWER, called).await {
            Some(Ok(joined)) => return identity.accept(joined, &with.book),
            Some(Err(NotJoined::Ever(message))) => return Err(Error::NotAdmitted { message }),
            Some(Err(NotJoined::Yet(reason))) => reason,
            None => "it does not answer".to_owned(),
        };
        turn += 1;
        tracing::warn!(address, reason, "cannot join yet, trying again");
        runtime.sleep(JOIN_AGAIN).await;
    }
}

/// Whether the node holds data by its role.
fn with_data(belonging: &Option<Belonging>) -> bool {
    belonging.as_ref().is_none_or(|with| with.row.roles.data)
}

/// How long a node may take to let another in.
const JOIN_ANSWER: Duration = Duration::from_secs(5);
/// How long to wait before the next is asked.
const JOIN_AGAIN: Duration = Duration::from_secs(1);

/// Opens the store in a directory, as a part of a cluster or, without others, as one of its own.
pub(super) async fn open(
    path: &Path,
    config: DbConfig,
    belonging: Option<Belonging>,
) -> Result<Arc<Node>, Error> {
    let runtime = Runtime::current()?;
    let path = path.to_path_buf();
    let opened = runtime.blocking(move || open_store(&path, config)).await;
    // A library that panics at what it reads has told so on standard error.
    let stopping = || Error::Storage {
        message: "reading the store ended unexpectedly; its files may be damaged: check the disk, \
                  then restore the directory or replace the store"
            .into(),
    };
    let Store {
        directory,
        engine,
        volume,
        volume_bytes,
        config,
        identity,
    } = opened.ok_or_else(stopping)??;
    let joins = belonging.as_ref().is_some_and(|with| !with.join.is_empty());
    let mut identity = match identity {
        Some(identity) => identity,
        None if joins => Identity {
            place: Place::default(),
            cluster: 0,
            birth: random_id(),
            founder: false,
        },
        None if with_data(&belonging) => Identity::founding(),
        None => {
            let message = "no node of it was named (--join HOST:PORT), and a node without the \
                           role data cannot found a cluster of its own";
            return Err(Error::NotAdmitted {
                message: message.to_owned(),
            });
        }
    };
    // Before it asks: whoever asks twice is one node.
    identity.keep(&*engine, None)?;
    if let Some(with) = &belonging {
        if let Some(stored) = engine.get(Space::Meta, meta::BOOK)? {
            with.book.recall(&stored)?;
        }
        with.book.note_seeds(with.join.clone());
        if identity.place == Place::default() || with.rejoin {
            join(&runtime, with, &mut identity).await?;
            identity.keep(&*engine, Some(&*with.book))?;
        }
        (with.identify)(identity.cluster, identity.place.node);
    }
    let place = identity.place;
    let log = {
        let engine = Arc::clone(&engine);
        let within = Arc::clone(&directory);
        let opened = move || open_log(&within, &*engine, place);
        runtime.blocking(opened).await.ok_or_else(stopping)??
    };
    let me = Peer {
        replica: ReplicaId(1),
        place,
    };
    let reserve = Reserve::new(volume_bytes, config.disk_reserve_bytes);
    let spool = Arc::new(open_spool(&directory, reserve)?);
    let (transport, peers, book, row): (Arc<dyn Transport>, _, _, _) = match belonging {
        Some(with) => (with.transport, Some(with.peers), with.book, with.row),
        None => (
            Arc::new(NoTransport),
            None,
            Arc::default(),
            NodeRow::default(),
        ),
    };
    Node::start(NodeParts {
        config,
        engine,
        log,
        spool,
        transport,
        clock: SystemClock::new(),
        events: Arc::new(EndProcess),
        seed: entropy_seed(),
        me,
        founding: if identity.founder {
            Founding::Found(vec![me])
        } else {
            Founding::Nothing
        },
        row: NodeRow {
            birth: identity.birth,
            ..row
        },
        cluster: identity.cluster,
        book,
        peers,
        disk: Some((volume, reserve)),
    })
    .await
}

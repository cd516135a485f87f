//! Start-up and shutdown of a node, in order.
//!
//! Start: data directory, listeners (so that a taken port is known before any recovery), store,
//! SQL engine; only then are connections served. Shutdown: no new connections, sessions end with
//! `57P01`, the store makes its data durable, the directory is released.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use pontoon_kv::{Db, DbConfig};
use pontoon_sql::session::{Engine, EngineConfig};
use pontoon_sql::{SqlError, SqlState};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::data_dir::DataDir;
use super::peers::Peers;
use super::{Failure, limits};
use crate::admin::http::{self, NodeFacts};
use crate::admin::metrics::{Figures, Metrics};
use crate::cli::NodeConfig;
use crate::pgwire::listener::{self, Front};
use crate::pgwire::tls;

/// Sessions that have not ended by then are left behind, and so is a store.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(10);

/// A node that serves.
pub(crate) struct Node {
    engine: Arc<Engine>,
    db: Db,
    sql_address: SocketAddr,
    admin_address: SocketAddr,
    rpc_address: Option<SocketAddr>,
    shutdown: watch::Sender<bool>,
    shutdown_peers: watch::Sender<bool>,
    sessions: mpsc::Receiver<()>,
    front: Arc<Front>,
    _data_dir: DataDir,
}

/// Ranges that were not taken over by then are left to an election.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// How often what sessions run is cancelled while the node shuts down.
const CANCEL_AGAIN: Duration = Duration::from_millis(100);

impl Node {
    /// Starts a node. With `other_ports` a port that is taken and was not asked for is replaced by
    /// a free one.
    pub(crate) async fn start(
        config: &NodeConfig,
        data_dir: &Path,
        other_ports: bool,
    ) -> Result<Self, Failure> {
        let taken = DataDir::take(data_dir)?;
        let (sql, sql_by_user) = &config.listen_sql;
        let (admin, admin_by_user) = &config.listen_admin;
        let (rpc, rpc_by_user) = &config.listen_rpc;
        let sql = listen(sql, "--listen-sql", other_ports && !sql_by_user).await?;
        let admin = listen(admin, "--listen-admin", other_ports && !admin_by_user).await?;
        let sql_address = address(&sql)?;
        let admin_address = address(&admin)?;
        // Other nodes would not have to say who they are, so nobody is answered unless asked for.
        let mut rpc_address = None;
        let peers = if config.peers {
            let rpc = listen(rpc, "--listen-rpc", other_ports && !rpc_by_user).await?;
            let own = *rpc_address.insert(address(&rpc)?);
            let addresses = [own, sql_address, admin_address];
            Some(Peers::new(config, rpc, addresses))
        } else {
            None
        };
        let tls = match &config.tls {
            Some((cert, key)) => Some(tls::acceptor(cert, key).map_err(Failure::Usage)?),
            None => None,
        };
        warn_of_limits(config, sql_address);

        let store_fail = |source| Failure::Store {
            path: data_dir.to_path_buf(),
            source,
        };
        let (shutdown, watched) = watch::channel(false);
        let (shutdown_peers, peers_watched) = watch::channel(false);
        let network = peers.as_ref().map(Peers::network);
        let opened = open_store(config, data_dir, peers.as_ref()).await;
        let db = opened.map_err(store_fail)?;
        if let Some(peers) = peers {
            peers.serve(&db, peers_watched);
        }
        let defaults = EngineConfig::default();
        let engine_config = EngineConfig {
            // Stores of the first days have drawn a number by chance, and are alone.
            node: u16::try_from(db.node().id().0).unwrap_or(defaults.node),
            columns_bytes: config.column_cache_bytes.unwrap_or(defaults.columns_bytes),
            ..defaults
        };
        let engine = open_engine(&db, engine_config)
            .await
            .map_err(|source| Failure::Catalog {
                path: data_dir.to_path_buf(),
                source,
            })?;
        let (alive, sessions) = mpsc::channel(1);
        let metrics = Arc::new(Metrics::new());
        let front = Arc::new(Front {
            engine: Arc::clone(&engine),
            cancels: Default::default(),
            metrics: Arc::clone(&metrics),
            sessions_max: config.sessions_max,
            insecure: config.insecure,
            tls,
            shutdown: watched.clone(),
            connections: AtomicUsize::new(0),
        });
        tokio::spawn(listener::serve(sql, Arc::clone(&front), alive));
        let facts = NodeFacts {
            sql_address: sql_address.to_string(),
            data_dir: data_dir.display().to_string(),
            db: db.clone(),
            network,
        };
        let gauge = {
            let (db, engine) = (db.clone(), Arc::downgrade(&engine));
            move || Figures {
                room: db.room(),
                column_cache_bytes: engine
                    .upgrade()
                    .map_or(0, |engine| engine.column_cache_bytes()),
            }
        };
        tokio::spawn(http::serve(admin, metrics, Arc::new(gauge), facts, watched));
        Ok(Self {
            engine,
            db,
            sql_address,
            admin_address,
            rpc_address,
            shutdown,
            shutdown_peers,
            sessions,
            front,
            _data_dir: taken,
        })
    }

    /// For sessions within the process.
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Where SQL clients connect.
    pub(crate) fn sql_address(&self) -> SocketAddr {
        self.sql_address
    }

    /// Where the admin pages are.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Where other nodes reach this one, if they do.
    pub(crate) fn rpc_address(&self) -> Option<SocketAddr> {
        self.rpc_address
    }

    /// Serves until SIGTERM or SIGINT, then shuts down, together with `others` in this process.
    pub(crate) async fn run_until_signal(self, others: Vec<Self>) -> Result<(), Failure> {
        let no_signals = |e| Failure::Usage(format!("cannot wait for signals: {e}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "shutting down");
        let stopped = async {
            // One after the other, so that each can hand over what it leads.
            for node in others {
                node.stop().await?;
            }
            self.stop().await
        };
        tokio::select! {
            done = stopped => done,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    }

    /// Ends all sessions and makes the data durable.
    async fn stop(mut self) -> Result<(), Failure> {
        // Nobody may be left to hear it.
        let _ = self.shutdown.send(true);
        let (sessions, cancels) = (&mut self.sessions, &self.front.cancels);
        let ended = async {
            // Sessions cancel what they run by themselves, unless it holds up its task. Again and
            // again, as a string of statements may go on with its next.
            loop {
                cancels.cancel_all();
                if tokio::time::timeout(CANCEL_AGAIN, sessions.recv())
                    .await
                    .is_ok()
                {
                    return;
                }
            }
        };
        if tokio::time::timeout(SHUTDOWN_TIME_MAX, ended)
            .await
            .is_err()
        {
            tracing::warn!("some sessions did not end in time");
        }
        let left = self.db.node().drain(DRAIN_TIME_MAX).await;
        if left > 0 {
            tracing::warn!(left, "ranges that no other node leads yet");
        }
        close_store(&self.db).await;
        // Others were answered up to now, so that they could take over.
        let _ = self.shutdown_peers.send(true);
        tracing::info!("stopped");
        Ok(())
    }
}

/// The store has a directory of its own, which it locks and checks by itself.
async fn open_store(
    config: &NodeConfig,
    data_dir: &Path,
    peers: Option<&Peers>,
) -> Result<Db, pontoon_kv::Error> {
    let settings = DbConfig {
        disk_reserve_bytes: config.disk_reserve_bytes,
        ..DbConfig::default()
    };
    let path = data_dir.join("store");
    match peers {
        Some(peers) => Db::open_in_cluster(&path, settings, peers.belonging()).await,
        None => Db::open(&path, settings).await,
    }
}

/// Opens the database, as soon as enough nodes are there.
async fn open_engine(db: &Db, config: EngineConfig) -> Result<Arc<Engine>, SqlError> {
    loop {
        match Engine::open(db.clone(), config.clone()).await {
            Err(error) if error.state == SqlState::CANNOT_CONNECT_NOW => {
                tracing::warn!(%error, "waiting for other nodes");
            }
            opened => return opened,
        }
    }
}

async fn close_store(db: &Db) {
    // On a full disk it may wait for room.
    match tokio::time::timeout(SHUTDOWN_TIME_MAX, db.shutdown()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(%error, "the store did not close in good order; nothing is lost");
        }
        Err(_) => tracing::error!("the store did not close in time; nothing is lost"),
    }
}

fn warn_of_limits(config: &NodeConfig, sql: SocketAddr) {
    // Tables and sockets need descriptors too.
    let enough = config.sessions_max.saturating_add(1_000);
    if let Some(limit) = limits::open_files().filter(|limit| *limit < enough) {
        tracing::info!(
            limit,
            sessions_max = config.sessions_max,
            "the limit of open files is below the limit of sessions (ulimit -n)"
        );
    }
    if !config.insecure && !sql.ip().is_loopback() {
        tracing::warn!("other machines are refused, as there are no passwords yet (--insecure)");
    }
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener
        .local_addr()
        .map_err(|e| Failure::Usage(format!("cannot tell the own address: {e}")))
}

async fn listen(wanted: &str, flag: &str, or_free: bool) -> Result<TcpListener, Failure> {
    let error = match TcpListener::bind(wanted).await {
        Ok(listener) => return Ok(listener),
        Err(e) => e,
    };
    if or_free
        && error.kind() == std::io::ErrorKind::AddrInUse
        && let Some((host, _)) = wanted.rsplit_once(':')
        && let Ok(listener) = TcpListener::bind(format!("{host}:0")).await
    {
        return Ok(listener);
    }
    let (reason, advice) = match error.kind() {
        std::io::ErrorKind::AddrInUse => (
            "another program uses this port".to_owned(),
            format!("Stop that program, or choose another port with {flag} HOST:PORT."),
        ),
        std::io::ErrorKind::PermissionDenied => (
            "no permission".to_owned(),
            format!("Ports below 1024 are for root; choose another with {flag} HOST:PORT."),
        ),
        std::io::ErrorKind::InvalidInput => (
            "this is not an address".to_owned(),
            format!("Write host and port, as in {flag} 127.0.0.1:5432."),
        ),
        _ => (
            error.to_string(),
            format!("Choose an address of this machine with {flag} HOST:PORT."),
        ),
    };
    Err(Failure::Listen {
        address: wanted.to_owned(),
        reason,
        advice,
    })
}

//! Start-up and shutdown of a node, in order.
//!
//! Start: data directory, listeners (so that a taken port is known before any recovery), store,
//! SQL engine; only then are connections served. Shutdown: no new connections, sessions end with
//! `57P01`, the store makes its data durable, the directory is released.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use pontoon_kv::{Db, DbConfig};
use pontoon_sql::session::{Engine, EngineConfig};
use pontoon_sql::{SqlError, SqlState};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::bound::{Bound, address};
use super::clients::Clients;
use super::data_dir::DataDir;
use super::peers::Peers;
use super::{Failure, limits};
use crate::admin::http::{self, NodeFacts};
use crate::admin::metrics::{Figures, Metrics};
use crate::cli::NodeConfig;
use crate::pgwire::tls;

/// Sessions that have not ended by then are left behind, and so is a store.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(10);

/// A node that serves.
pub(crate) struct Node {
    engine: Arc<Engine>,
    db: Db,
    /// `None`: it answers none.
    clients: Option<Clients>,
    admin_address: SocketAddr,
    rpc_address: Option<SocketAddr>,
    shutdown: watch::Sender<bool>,
    shutdown_peers: watch::Sender<bool>,
    _data_dir: DataDir,
}

/// Ranges that were not taken over by then are left to an election.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

impl Node {
    /// Starts a node on what it has taken.
    pub(crate) async fn start(bound: Bound) -> Result<Self, Failure> {
        let Bound {
            config,
            data_dir,
            taken,
            sql,
            admin,
            peers,
            rpc_address,
        } = bound;
        let (config, data_dir) = (&config, data_dir.as_path());
        let admin_address = address(&admin)?;
        let tls = match &config.tls {
            Some((cert, key)) => Some(tls::acceptor(cert, key).map_err(Failure::Usage)?),
            None => None,
        };
        if let Some(sql) = &sql {
            warn_of_limits(config, address(sql)?);
        }

        let store_fail = |source| match source {
            pontoon_kv::Error::NotAdmitted { message } => Failure::Join(message),
            source => Failure::Store {
                path: data_dir.to_path_buf(),
                source,
            },
        };
        let (shutdown, watched) = watch::channel(false);
        let (shutdown_peers, peers_watched) = watch::channel(false);
        let network = peers.as_ref().map(Peers::network);
        let opened = open_store(config, data_dir, peers.as_ref()).await;
        let db = opened.map_err(store_fail)?;
        if let Some(peers) = &peers {
            peers.certify(&db, watched.clone()).await?;
        }
        let answering = peers.map(|peers| peers.serve(&db, peers_watched));
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
        if let (Some(network), Some(answering)) = (&network, answering) {
            engine.meet(Arc::new(network.clone()));
            // Set once.
            let _ = answering.set(Arc::downgrade(&engine));
        }
        let metrics = Arc::new(Metrics::new());
        let serve = |sql| Clients::serve(sql, tls, config, &engine, &metrics, watched.clone());
        let clients = sql.map(serve).transpose()?;
        let facts = NodeFacts {
            sql_address: clients.as_ref().map(Clients::address),
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
            clients,
            admin_address,
            rpc_address,
            shutdown,
            shutdown_peers,
            _data_dir: taken,
        })
    }

    /// For sessions within the process.
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Where SQL clients connect, if it answers them.
    pub(crate) fn sql_address(&self) -> Option<SocketAddr> {
        self.clients.as_ref().map(Clients::address)
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
            // When all of them go there is nobody to hand anything over to.
            let drain = others.is_empty();
            let all = others.into_iter().chain([self]);
            try_join_all(all.map(|node| node.stop(drain))).await
        };
        tokio::select! {
            done = stopped => done.map(|_| ()),
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    }

    /// Ends all sessions and makes the data durable. With `drain` others take over what it leads.
    async fn stop(mut self, drain: bool) -> Result<(), Failure> {
        // Nobody may be left to hear it.
        let _ = self.shutdown.send(true);
        if let Some(clients) = &mut self.clients {
            let ended = tokio::time::timeout(SHUTDOWN_TIME_MAX, clients.end()).await;
            if ended.is_err() {
                tracing::warn!("some sessions did not end in time");
            }
        }
        if drain {
            let left = self.db.node().drain(DRAIN_TIME_MAX).await;
            if left > 0 {
                tracing::warn!(left, "ranges that no other node leads yet");
            }
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

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
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::data_dir::DataDir;
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
    shutdown: watch::Sender<bool>,
    sessions: mpsc::Receiver<()>,
    front: Arc<Front>,
    _data_dir: DataDir,
}

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
        let sql = listen(sql, "--listen-sql", other_ports && !sql_by_user).await?;
        let admin = listen(admin, "--listen-admin", other_ports && !admin_by_user).await?;
        let sql_address = address(&sql)?;
        let admin_address = address(&admin)?;
        let tls = match &config.tls {
            Some((cert, key)) => Some(tls::acceptor(cert, key).map_err(Failure::Usage)?),
            None => None,
        };
        warn_of_limits(config, sql_address);

        let store_fail = |source| Failure::Store {
            path: data_dir.to_path_buf(),
            source,
        };
        let db = open_store(config, data_dir).await.map_err(store_fail)?;
        let defaults = EngineConfig::default();
        let engine_config = EngineConfig {
            columns_bytes: config.column_cache_bytes.unwrap_or(defaults.columns_bytes),
            ..defaults
        };
        let engine = Engine::open(db.clone(), engine_config)
            .await
            .map_err(|source| Failure::Catalog {
                path: data_dir.to_path_buf(),
                source,
            })?;

        let (shutdown, watched) = watch::channel(false);
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
            shutdown,
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

    /// Serves until SIGTERM or SIGINT, then shuts down.
    pub(crate) async fn run_until_signal(self) -> Result<(), Failure> {
        let no_signals = |e| Failure::Usage(format!("cannot wait for signals: {e}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "shutting down");
        tokio::select! {
            done = self.stop() => done,
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
        close_store(&self.db).await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The store has a directory of its own, which it locks and checks by itself.
async fn open_store(config: &NodeConfig, data_dir: &Path) -> Result<Db, pontoon_kv::Error> {
    let settings = DbConfig {
        disk_reserve_bytes: config.disk_reserve_bytes,
        ..DbConfig::default()
    };
    Db::open(&data_dir.join("store"), settings).await
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
    tracing::debug!(
        rpc = config.listen_rpc,
        "not listening for other nodes: this is the only one"
    );
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

//! The two engines a suite can run against, and a server of either kind.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::process::Child;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::pontoon::PontoonNode;
use super::postgres::PostgresCluster;
use crate::wire::{Address, Client, WireError};

/// How long a server may take from its start to its first answer.
const START_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks at a starting server.
const START_POLL: Duration = Duration::from_millis(10);

/// Which database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The database under test.
    Pontoon,
    /// The reference.
    Postgres,
}

impl Engine {
    /// The engine that integration tests run against: Pontoon, unless `PONTOON_TEST_ENGINE` says
    /// `postgres`. Tests of behaviour are written against PostgreSQL first.
    pub fn under_test() -> Self {
        match std::env::var("PONTOON_TEST_ENGINE").as_deref() {
            Ok("postgres") => Self::Postgres,
            _ => Self::Pontoon,
        }
    }

    /// The label of this engine in `onlyif` and `skipif` lines of our own cases.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pontoon => "pontoon",
            Self::Postgres => "postgres",
        }
    }
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pontoon" => Ok(Self::Pontoon),
            "postgres" => Ok(Self::Postgres),
            other => Err(format!("unknown engine {other:?}: pontoon or postgres")),
        }
    }
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerFailure {
    /// A file or process operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A tool said no.
    #[error("{what} failed: {output}")]
    Tool {
        /// The tool.
        what: String,
        /// The end of its output.
        output: String,
    },
    /// The process ended before it answered.
    #[error("the server ended at once ({status}): {output}")]
    Ended {
        /// The exit status.
        status: String,
        /// The end of its log.
        output: String,
    },
    /// The process runs but does not answer.
    #[error("the server did not answer within {0:?}")]
    Silent(Duration),
}

impl ServerFailure {
    /// An `Io` failure of the named step.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// A running server of either engine.
#[derive(Debug)]
pub enum Server {
    /// A Pontoon node.
    Pontoon(PontoonNode),
    /// A PostgreSQL cluster.
    Postgres(PostgresCluster),
}

impl Server {
    /// Starts a fresh, empty server.
    ///
    /// # Errors
    /// When the binaries are missing or the server does not come up.
    pub fn start(engine: Engine) -> Result<Self, ServerFailure> {
        Ok(match engine {
            Engine::Pontoon => Self::Pontoon(PontoonNode::start_fresh()?),
            Engine::Postgres => Self::Postgres(PostgresCluster::start_fresh()?),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        match self {
            Self::Pontoon(node) => node.address(),
            Self::Postgres(cluster) => cluster.address(),
        }
    }

    /// A session at the isolation level that Pontoon has by default, serializable; PostgreSQL is
    /// told to use it.
    ///
    /// # Errors
    /// When no session can be opened.
    pub fn session(&self) -> Result<Client, WireError> {
        let mut client = Client::connect(&self.address())?;
        if matches!(self, Self::Postgres(_)) {
            client.query("SET default_transaction_isolation = 'serializable'")?;
        }
        Ok(client)
    }

    /// The process still runs.
    pub fn is_alive(&mut self) -> bool {
        match self {
            Self::Pontoon(node) => node.is_alive(),
            Self::Postgres(cluster) => cluster.is_alive(),
        }
    }

    /// The last lines that the server logged.
    pub fn log_tail(&self) -> String {
        match self {
            Self::Pontoon(node) => node.log_tail(),
            Self::Postgres(cluster) => cluster.log_tail(),
        }
    }
}

/// Ports that are drawn begin here.
const PORTS_FROM: u16 = 10_000;
/// Where systems begin to take ports for outgoing connections, unless they say otherwise.
const OUTGOING_FROM: u16 = 32_768;
/// How often another port is drawn.
const DRAWS_MAX: usize = 1_000;

/// A loopback port that nobody uses, below those of outgoing connections: one of them might take it
/// before a server does, or while that is down.
pub(super) fn free_port() -> Result<u16, ServerFailure> {
    let outgoing = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let outgoing = outgoing.and_then(|range| range.split_whitespace().next()?.parse().ok());
    let below = outgoing.unwrap_or(OUTGOING_FROM);
    let count = below.saturating_sub(PORTS_FROM).max(1);
    let mut last = None;
    for draw in 0..DRAWS_MAX {
        // A hasher of its own has a random key: tests draw side by side, in many processes.
        let random = RandomState::new().hash_one(draw);
        let port = PORTS_FROM + u16::try_from(random % u64::from(count)).unwrap_or_default();
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    let last = last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into());
    Err(ServerFailure::io("find a free port")(last))
}

/// Waits until a session can be opened, or the process ends.
pub(super) fn wait_until_ready(
    child: &mut Child,
    address: &Address,
    log_tail: impl Fn() -> String,
) -> Result<(), ServerFailure> {
    wait_until(child, || Client::connect(address).is_ok(), log_tail)
}

/// Waits until something is so, or the process ends.
pub(super) fn wait_until(
    child: &mut Child,
    is_so: impl Fn() -> bool,
    log_tail: impl Fn() -> String,
) -> Result<(), ServerFailure> {
    let started = Instant::now();
    loop {
        if is_so() {
            return Ok(());
        }
        if let Some(status) = child
            .try_wait()
            .map_err(ServerFailure::io("wait for the server"))?
        {
            return Err(ServerFailure::Ended {
                status: status.to_string(),
                output: log_tail(),
            });
        }
        if started.elapsed() > START_MAX {
            return Err(ServerFailure::Silent(START_MAX));
        }
        std::thread::sleep(START_POLL);
    }
}

/// The last 30 lines of a text file; empty when there is none.
pub(super) fn tail(path: &std::path::Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(30);
    lines.get(from..).unwrap_or_default().join("\n")
}

//! Accepting SQL connections: limits, socket options, one task each.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pontoon_sql::session::Engine;
use pontoon_sql::{SqlError, SqlState};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::cancel::CancelRegistry;
use super::homes::Homes;
use super::startup;
use crate::admin::metrics::Metrics;

/// A client that has not started a session by then is dropped.
pub(crate) const AUTHENTICATION_TIME_MAX: Duration = Duration::from_secs(60);
/// Connections beyond the limit of sessions that may still wait for their refusal.
const WAITING_CONNECTIONS_MAX: usize = 1_000;
/// After an idle time of so long the system asks a silent client whether it is there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// What all connections of a node share.
pub(crate) struct Front {
    /// Opens sessions.
    pub(crate) engine: Arc<Engine>,
    /// Who can be cancelled.
    pub(crate) cancels: CancelRegistry,
    /// Where sessions run.
    pub(crate) homes: Arc<Homes>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Sessions at one time.
    pub(crate) sessions_max: usize,
    /// Other machines may connect without a password.
    pub(crate) insecure: bool,
    /// TLS, if configured.
    pub(crate) tls: Option<TlsAcceptor>,
    /// True when the node shuts down.
    pub(crate) shutdown: watch::Receiver<bool>,
    /// Connections now.
    pub(crate) connections: AtomicUsize,
}

impl Front {
    /// Whether there is room for one more session.
    pub(crate) fn admit(&self) -> Result<(), SqlError> {
        if self.connections.load(Ordering::Relaxed) > self.sessions_max {
            return Err(SqlError::new(
                SqlState::TOO_MANY_CONNECTIONS,
                "sorry, too many clients already",
            ));
        }
        Ok(())
    }
}

/// One connection is counted as long as this lives, also when its task panics.
struct Counted(Arc<Front>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts to accept, at a home: long statements may keep all threads busy that share work.
pub(crate) fn start(
    listener: TcpListener,
    front: Arc<Front>,
    alive: mpsc::Sender<()>,
) -> io::Result<()> {
    let listener = listener.into_std()?;
    let homes = Arc::clone(&front.homes);
    homes.spawn(async move {
        match TcpListener::from_std(listener) {
            Ok(listener) => serve(listener, front, alive).await,
            Err(error) => tracing::error!(%error, "cannot accept connections"),
        }
    });
    Ok(())
}

/// Accepts until shutdown. Every connection holds a clone of `alive`.
async fn serve(listener: TcpListener, front: Arc<Front>, alive: mpsc::Sender<()>) {
    let mut shutdown = front.shutdown.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|down| *down) => return,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(e) => {
                // Mostly: too many open files. The listener works again when some are closed.
                tracing::warn!(error = %e, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        front.metrics.connections.add();
        let before = front.connections.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&front));
        if before >= front.sessions_max.saturating_add(WAITING_CONNECTIONS_MAX) {
            continue;
        }
        configure(&socket);
        let alive = alive.clone();
        front.homes.take_in(socket, |socket| async move {
            startup::serve(socket, &counted.0).await;
            drop(alive);
        });
    }
}

fn configure(socket: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(Duration::from_secs(10));
    let reference = socket2::SockRef::from(socket);
    if let Err(e) = socket
        .set_nodelay(true)
        .and_then(|()| reference.set_tcp_keepalive(&keepalive))
    {
        tracing::debug!(error = %e, "could not set socket options");
    }
}

//! [`Clients`]: what a node has that answers SQL clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use pontoon_sql::session::Engine;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::Failure;
use super::bound::address;
use crate::admin::metrics::Metrics;
use crate::cli::NodeConfig;
use crate::pgwire::homes::Homes;
use crate::pgwire::listener::{self, Front};

/// How often what sessions run is cancelled while the node shuts down.
const CANCEL_AGAIN: Duration = Duration::from_millis(100);

/// The sessions of a node.
pub(super) struct Clients {
    address: SocketAddr,
    sessions: mpsc::Receiver<()>,
    front: Arc<Front>,
}

impl Clients {
    /// Answers clients from now on, until `shutdown` is true; by TLS too where there is `tls`.
    pub(super) fn serve(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        config: &NodeConfig,
        engine: &Arc<Engine>,
        metrics: &Arc<Metrics>,
        shutdown: watch::Receiver<bool>,
    ) -> Result<Self, Failure> {
        let address = address(&listener)?;
        let (alive, sessions) = mpsc::channel(1);
        let homes = Homes::start()
            .map(Arc::new)
            .map_err(|e| Failure::Usage(format!("cannot start threads: {e}")))?;
        let front = Arc::new(Front {
            engine: Arc::clone(engine),
            cancels: Default::default(),
            homes,
            metrics: Arc::clone(metrics),
            sessions_max: config.sessions_max,
            insecure: config.insecure,
            tls,
            shutdown,
            connections: AtomicUsize::new(0),
        });
        listener::start(listener, Arc::clone(&front), alive)
            .map_err(|e| Failure::Usage(format!("cannot accept connections: {e}")))?;
        Ok(Self {
            address,
            sessions,
            front,
        })
    }

    /// Where they connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all sessions, after shutdown was said.
    pub(super) async fn end(&mut self) {
        // Sessions cancel what they run by themselves, unless it holds up its task. Again and
        // again, as a string of statements may go on with its next.
        loop {
            self.front.cancels.cancel_all();
            let ended = tokio::time::timeout(CANCEL_AGAIN, self.sessions.recv());
            if ended.await.is_ok() {
                return;
            }
        }
    }
}

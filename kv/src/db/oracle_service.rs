//! [`OracleService`]: timestamps from the replica of range 1 that lives on this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use pontoon_raft::Clock;
use tokio::sync::{Mutex, Notify};

use crate::error::Error;
use crate::oracle::{TimestampSource, Window};
use crate::range::{Body, Replica};
use crate::timestamp::Timestamp;

/// Hands out timestamps while this node leads range 1.
pub struct OracleService {
    replica: Arc<Replica>,
    window: Window,
    clock: Arc<dyn Clock>,
    /// One refill at a time.
    refilling: Mutex<()>,
    /// The background task was asked to refill.
    asked: AtomicBool,
    ask: Notify,
}

impl OracleService {
    /// A service over a replica of range 1.
    pub fn new(replica: Arc<Replica>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            replica,
            window: Window::default(),
            clock,
            refilling: Mutex::default(),
            asked: AtomicBool::new(false),
            ask: Notify::new(),
        })
    }

    fn take(&self) -> Option<Timestamp> {
        // The check comes after the request. A pause after it is harmless: the window ends below
        // where a successor begins.
        let term = self.replica.leadership()?.term;
        let wall_ms = self.clock.wall_ms();
        let taken = self.window.take(term, wall_ms)?;
        if self.window.wants_refill(term, wall_ms) && !self.asked.swap(true, Ordering::Relaxed) {
            self.ask.notify_one();
        }
        Some(taken)
    }

    /// Replicates a new bound and opens the window up to it.
    async fn refill(&self) -> Result<(), Error> {
        let _one = self.refilling.lock().await;
        let term = self.replica.lead().await?.term;
        let wall_ms = self.clock.wall_ms();
        if !self.window.wants_refill(term, wall_ms) {
            return Ok(());
        }
        let before = self.replica.state().window.load(Ordering::Acquire);
        let bound = self.window.next_bound(wall_ms, before);
        let led = self.replica.propose(Body::Window(bound)).await?;
        if led.term == term {
            self.window.open(term, before, bound);
        }
        Ok(())
    }

    /// Refills the window ahead of need, for ever.
    pub(crate) async fn keep_filled(self: Arc<Self>) {
        loop {
            self.ask.notified().await;
            if let Err(error) = self.refill().await {
                tracing::debug!(%error, "could not refill the window of timestamps");
            }
            self.asked.store(false, Ordering::Relaxed);
        }
    }
}

impl TimestampSource for OracleService {
    fn try_now(&self) -> Option<Timestamp> {
        self.take()
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, Error>> {
        async move {
            // A refill may race with a change of leader; the second one is under the new one.
            for _ in 0..8 {
                if let Some(now) = self.take() {
                    return Ok(now);
                }
                self.refill().await?;
            }
            Err(Error::Unavailable {
                message: "the timestamp oracle changes leaders".into(),
            })
        }
        .boxed()
    }
}

//! [`OracleService`]: timestamps from the replica of range 1 that lives on this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use pontoon_raft::{Clock, NodeId};
use tokio::sync::{Mutex, Notify, oneshot};

use crate::cluster::{Answer, Book, Call, Search};
use crate::error::Error;
use crate::oracle::{Moment, TimestampSource, Window};
use crate::range::{Body, Refusal, Replica};
use crate::routing::{PeerError, Peers, Whom, plain};
use crate::shell::Runtime;
use crate::timestamp::Timestamp;

/// Changes of leader that a question outlasts.
const CHANGES_MAX: usize = 8;

fn changes_leaders() -> Error {
    Error::Unavailable {
        message: "the timestamp oracle changes leaders".into(),
    }
}

/// Hands out timestamps while this node leads range 1.
pub struct OracleService {
    /// The replica of range 1 on this node, if there is one.
    replica: RwLock<Option<Arc<Replica>>>,
    window: Window,
    clock: Arc<dyn Clock>,
    /// One refill at a time.
    refilling: Mutex<()>,
    /// The background task was asked to refill.
    asked: AtomicBool,
    ask: Notify,
    /// A fault that the simulator must find: commits are not announced.
    #[cfg(test)]
    pub(crate) silent: AtomicBool,
    /// Another: what is announced is not replicated, save the first time.
    #[cfg(test)]
    pub(crate) hasty: AtomicBool,
}

impl OracleService {
    /// A service over the replica of range 1 on this node, if there is one.
    pub fn new(replica: Option<Arc<Replica>>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            replica: RwLock::new(replica),
            window: Window::default(),
            clock,
            refilling: Mutex::default(),
            asked: AtomicBool::new(false),
            ask: Notify::new(),
            #[cfg(test)]
            silent: AtomicBool::default(),
            #[cfg(test)]
            hasty: AtomicBool::default(),
        })
    }

    #[cfg(test)]
    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    /// A replica of range 1 has come here, in place of what was here before.
    pub(super) fn found(&self, replica: Arc<Replica>) {
        *self.replica.write() = Some(replica);
    }

    fn replica(&self) -> Result<Arc<Replica>, Error> {
        self.replica
            .read()
            .clone()
            .ok_or_else(|| Error::Unavailable {
                message: "range 1 is not on this node".into(),
            })
    }

    /// Whether this node leads range 1.
    fn leads(&self) -> bool {
        let replica = self.replica.read();
        let leadership = replica.as_ref().and_then(|replica| replica.leadership());
        leadership.is_some()
    }

    /// The node that leads range 1, as its replica here believes.
    fn led_by(&self) -> Option<NodeId> {
        let replica = self.replica.read().clone()?;
        replica.group().leader_hint().map(|peer| peer.place.node)
    }

    fn take(&self) -> Option<Moment> {
        self.take_block(1)
    }

    fn take_block(&self, count: u32) -> Option<Moment> {
        self.take_by(|window, term, wall_ms| window.take_block(term, wall_ms, count))
    }

    fn take_by<T>(&self, take: impl FnOnce(&Window, u64, u64) -> Option<T>) -> Option<T> {
        // The check comes after the request. A pause after it is harmless: the window ends below
        // where a successor begins.
        let term = self.replica.read().as_ref()?.leadership()?.term;
        let wall_ms = self.clock.wall_ms();
        let taken = take(&self.window, term, wall_ms)?;
        if self.window.wants_refill(term, wall_ms) && !self.asked.swap(true, Ordering::Relaxed) {
            self.ask.notify_one();
        }
        Some(taken)
    }

    /// As many timestamps as `count` says, all above every one handed out before the call: the one
    /// returned and those behind it.
    pub(crate) async fn block(&self, count: u32) -> Result<Moment, Error> {
        self.filled(|| self.take_block(count)).await
    }

    /// A timestamp for a commit of which everybody is to hear.
    ///
    /// Invariant: it is replicated by the leadership that hands it out before anybody commits with it,
    /// so that every later leader tells of it.
    pub(crate) async fn announced(&self) -> Result<Timestamp, Error> {
        #[cfg(test)]
        if self.silent.load(Ordering::Relaxed) {
            return Ok(self.block(1).await?.at);
        }
        let announce = |window: &Window, term, wall_ms| {
            let at = window.announce(term, wall_ms)?;
            Some((term, at))
        };
        for _ in 0..CHANGES_MAX {
            let (term, at) = self.filled(|| self.take_by(announce)).await?;
            #[cfg(test)]
            if self.hasty.load(Ordering::Relaxed)
                && self.replica()?.state().announced.load(Ordering::Acquire) != 0
            {
                return Ok(at);
            }
            let replicated = self.replica()?.propose(Body::Announced(at)).await;
            if replicated.map_err(plain)?.term == term {
                return Ok(at);
            }
        }
        Err(changes_leaders())
    }

    /// What `take` takes from the window, which is refilled when that has no room.
    async fn filled<T>(&self, take: impl Fn() -> Option<T>) -> Result<T, Error> {
        // A refill may race with a change of leader; the second one is under the new one.
        for _ in 0..CHANGES_MAX {
            if let Some(taken) = take() {
                return Ok(taken);
            }
            self.refill().await?;
        }
        Err(changes_leaders())
    }

    /// Replicates a new bound and opens the window up to it.
    async fn refill(&self) -> Result<(), Error> {
        let _one = self.refilling.lock().await;
        let replica = self.replica()?;
        let term = replica.lead().await.map_err(plain)?.term;
        let wall_ms = self.clock.wall_ms();
        if !self.window.wants_refill(term, wall_ms) {
            return Ok(());
        }
        let before = replica.state().window.load(Ordering::Acquire);
        let announced = match replica.state().announced.load(Ordering::Acquire) {
            // Not known: it may have been anything below.
            0 => before,
            announced => announced,
        };
        let bound = self.window.next_bound(wall_ms, before);
        let led = replica.propose(Body::Window(bound)).await.map_err(plain)?;
        if led.term == term {
            self.window.open(term, before, announced, bound);
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
    fn try_moment(&self) -> Option<Moment> {
        self.take()
    }

    fn moment(&self) -> BoxFuture<'_, Result<Moment, Error>> {
        self.block(1).boxed()
    }

    fn announce(&self) -> BoxFuture<'_, Result<Timestamp, Error>> {
        self.announced().boxed()
    }
}

/// How long to wait before the coordinator is looked for again.
const AGAIN: Duration = Duration::from_millis(20);
/// Callers who are served by one question.
const TOGETHER_MAX: usize = 4_096;
/// How long one node may take to answer.
const ANSWER: Duration = Duration::from_millis(1_000);

/// Timestamps from whichever node leads range 1.
pub(super) struct ClusterTimestamps {
    inner: Arc<Asking>,
}

struct Asking {
    local: Arc<OracleService>,
    peers: Arc<dyn Peers>,
    book: Arc<Book>,
    search: Arc<Search>,
    me: NodeId,
    runtime: Runtime,
    patience: Duration,
    queue: parking_lot::Mutex<Queue>,
}

/// Those who wait for a timestamp of another node.
#[derive(Default)]
struct Queue {
    waiting: Vec<oneshot::Sender<Result<Moment, Error>>>,
    /// Somebody asks for them.
    asked: bool,
}

impl ClusterTimestamps {
    pub(super) fn new(
        local: Arc<OracleService>,
        peers: Arc<dyn Peers>,
        (book, search): (Arc<Book>, Arc<Search>),
        me: NodeId,
        runtime: Runtime,
        patience: Duration,
    ) -> Self {
        let inner = Asking {
            local,
            peers,
            book,
            search,
            me,
            runtime,
            patience,
            queue: parking_lot::Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }
}

impl TimestampSource for ClusterTimestamps {
    fn try_moment(&self) -> Option<Moment> {
        self.inner.local.take()
    }

    fn announce(&self) -> BoxFuture<'_, Result<Timestamp, Error>> {
        // Rare enough to be asked for alone.
        let asked = self.inner.ask(Wanted::Announced);
        asked.map(|answer| Ok(answer?.at)).boxed()
    }

    fn moment(&self) -> BoxFuture<'_, Result<Moment, Error>> {
        async move {
            if let Some(now) = self.inner.local.take() {
                return Ok(now);
            }
            let (sender, receiver) = oneshot::channel();
            let first = {
                let mut queue = self.inner.queue.lock();
                queue.waiting.push(sender);
                !std::mem::replace(&mut queue.asked, true)
            };
            if first {
                // A task of its own: whoever waits may be dropped, and the others wait on.
                let asking = Arc::clone(&self.inner);
                self.inner.runtime.spawn(asking.serve_all());
            }
            receiver
                .await
                .unwrap_or_else(|_| Err(nobody("the node is going down")))
        }
        .boxed()
    }
}

/// What is asked of the coordinator.
#[derive(Clone, Copy)]
enum Wanted {
    /// So many timestamps.
    Block(u32),
    /// One for a commit of which everybody is to hear.
    Announced,
}

fn nobody(reason: &str) -> Error {
    Error::Unavailable {
        message: format!("no node hands out timestamps: {reason}"),
    }
}

impl Asking {
    /// Asks as long as somebody waits. One question at a time, which serves everybody who came
    /// before it was sent: the answer is above all that was handed out before.
    async fn serve_all(self: Arc<Self>) {
        loop {
            let waiting = {
                let mut queue = self.queue.lock();
                if queue.waiting.is_empty() {
                    queue.asked = false;
                    return;
                }
                let now = queue.waiting.len().min(TOGETHER_MAX);
                let later = queue.waiting.split_off(now);
                std::mem::replace(&mut queue.waiting, later)
            };
            let count = u32::try_from(waiting.len()).unwrap_or(1);
            let answer = self.ask(Wanted::Block(count)).await;
            for (n, waits) in (0..).zip(waiting) {
                // Each gets its own: a timestamp is the name of a transaction.
                let own = answer.clone().map(|Moment { at, announced }| Moment {
                    at: Timestamp(at.0 + n),
                    announced,
                });
                // It may have been dropped.
                let _ = waits.send(own);
            }
        }
    }

    /// Timestamps from whoever leads; the first of them.
    async fn ask(&self, wanted: Wanted) -> Result<Moment, Error> {
        let until = self.runtime.monotonic() + self.patience;
        loop {
            let here = Whom::Node(self.me);
            let whom = match self.local.leads() {
                true => Some(here.clone()),
                false => self.search.next(self.local.led_by(), &self.book, None),
            };
            // It may be about to lead when there is nobody else.
            let answer = match whom.unwrap_or(here.clone()) {
                whom if whom == here => self.ask_here(wanted).await,
                whom => self.ask_another(whom, wanted).await,
            };
            let reason = match answer {
                Ok(now) => return Ok(now),
                Err(reason) => reason,
            };
            if self.runtime.monotonic() >= until {
                return Err(nobody(&reason));
            }
            self.runtime.sleep(AGAIN).await;
        }
    }

    async fn ask_here(&self, wanted: Wanted) -> Result<Moment, String> {
        let taken = async {
            match wanted {
                Wanted::Block(count) => self.local.block(count).await,
                Wanted::Announced => self.local.announced().await.map(Moment::alone),
            }
        };
        let reason = match self.runtime.timeout(ANSWER, taken).await {
            Some(Ok(now)) => {
                self.search.found(self.me);
                return Ok(now);
            }
            Some(Err(error)) => error.to_string(),
            None => "range 1 has no leader".to_owned(),
        };
        self.search.failed(&Whom::Node(self.me));
        Err(reason)
    }

    async fn ask_another(&self, whom: Whom, wanted: Wanted) -> Result<Moment, String> {
        let call = match wanted {
            Wanted::Block(count) => Call::Now { count },
            Wanted::Announced => Call::Announce,
        };
        let asked = self.peers.call(whom.clone(), call);
        let reason = match self.runtime.timeout(ANSWER, asked).await {
            Some(Ok(Answer::Now(now))) => {
                if let Whom::Node(node) = whom {
                    self.search.found(node);
                }
                return Ok(now);
            }
            Some(Err(PeerError::Refused(Refusal::Elsewhere(peer)))) => {
                let named = peer.map(|peer| peer.place.node);
                self.search.sent_on(&whom, named);
                return Err(format!("{whom} does not coordinate"));
            }
            Some(Ok(_)) => format!("{whom} gives an odd answer"),
            Some(Err(error)) => format!("{whom}: {error}"),
            None => format!("{whom} does not answer"),
        };
        self.search.failed(&whom);
        Err(reason)
    }
}

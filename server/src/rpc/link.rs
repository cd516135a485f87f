//! The way to one node in one class: at most one [`Exchange`] at a time, opened when there is
//! something to say and opened again after it broke.
//!
//! ```text
//! Idle --call--> Live --broken--> Down --call after the pause--> Live
//!  ^---unused for long---'
//! ```
//!
//! Invariant: the exchange of a live link has not ended: both change under the lock of the state.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pontoon_kv::cluster::Book;
use pontoon_raft::NodeId;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status, Streaming};

use super::class::{Class, Counters};
use super::codec::{FRAME_BYTES_MAX, FrameCodec, PATH};
use super::exchange::{Broken, Exchange, NotTaken, Ticket};
use super::handshake::{Hello, Identity};
use super::socket;

/// The pause after a first failure; it doubles with each.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The pause is doubled no more often.
const DOUBLINGS_MAX: u32 = 5;
/// A node that accepts a connection must accept the stream by then.
const ACCEPT_TIME_MAX: Duration = Duration::from_secs(3);
/// After a failure nobody waits longer for the stream to come up again.
const DOUBT_AFTER: Duration = Duration::from_millis(250);
/// An unused stream is found after its time, and a fraction of it: one of so many.
const IDLE_CHECKS: u32 = 10;

/// Whom a link leads to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Target {
    /// A node, wherever it is.
    Node(NodeId),
    /// Whoever is there.
    Address(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What the links of a node share.
#[derive(Clone)]
pub(super) struct Here {
    /// Where the others are.
    pub(super) book: Arc<Book>,
    /// Who this is.
    pub(super) identity: Arc<Identity>,
    /// An unused stream is closed after so long.
    pub(super) idle_after: Duration,
}

/// The way to one node in one class.
pub(super) struct Link {
    target: Target,
    class: Class,
    here: Here,
    counters: Arc<Counters>,
    /// Failures since the other side answered last.
    failures: AtomicU32,
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    used: Instant,
    /// Until then nobody is asked to pass something on, as nobody could a moment ago.
    no_way_around_until: Instant,
}

enum Stage {
    Idle,
    Live(Arc<Exchange>),
    Down { until: Instant, reason: Arc<str> },
}

/// How an exchange has ended.
enum End {
    /// It was not used.
    Idle,
    /// It broke.
    Broken(String),
}

impl Link {
    /// A link that is idle.
    pub(super) fn new(target: Target, class: Class, here: Here, counters: Arc<Counters>) -> Self {
        Self {
            target,
            class,
            here,
            counters,
            failures: AtomicU32::new(0),
            state: Mutex::new(State {
                stage: Stage::Idle,
                used: Instant::now(),
                no_way_around_until: Instant::now(),
            }),
        }
    }

    /// Fails if a call would: saves the trouble of encoding it.
    pub(super) fn check(&self) -> Result<(), Broken> {
        match &self.state.lock().stage {
            Stage::Down { until, reason } if Instant::now() < *until => {
                Err(Broken::Unsent(Arc::clone(reason)))
            }
            Stage::Live(exchange) => exchange.down().map_or(Ok(()), |reason| {
                // It is being opened, in vain as it seems.
                Err(Broken::Unsent(reason))
            }),
            Stage::Down { .. } | Stage::Idle => Ok(()),
        }
    }

    /// Whether another node may be asked to pass something on.
    pub(super) fn may_go_around(&self) -> bool {
        Instant::now() >= self.state.lock().no_way_around_until
    }

    /// Nobody else has reached the node either.
    pub(super) fn no_way_around(&self) {
        self.state.lock().no_way_around_until = Instant::now() + PAUSE_MAX;
    }

    /// Sends an encoded question. Does not wait.
    pub(super) fn send(self: &Arc<Self>, id: u64, message: Bytes) -> Result<Ticket, Broken> {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.used = now;
        let exchange = match &state.stage {
            Stage::Live(exchange) => exchange,
            Stage::Down { until, reason } if now < *until => {
                return Err(Broken::Unsent(Arc::clone(reason)));
            }
            Stage::Down { .. } | Stage::Idle => {
                let exchange = Exchange::new(Arc::clone(&self.counters));
                state.stage = Stage::Live(Arc::clone(&exchange));
                // It takes the call before anything can go wrong with it.
                let taken = exchange.take(id, message);
                tokio::spawn(Arc::clone(self).run(exchange));
                return taken.map_err(|error| self.unsent(error));
            }
        };
        let taken = exchange.take(id, message);
        taken.map_err(|error| self.unsent(error))
    }

    fn unsent(&self, error: NotTaken) -> Broken {
        Broken::Unsent(match error {
            NotTaken::Full => format!("too many messages wait for {}", self.target).into(),
            NotTaken::Ended => format!("{}: the connection has just ended", self.target).into(),
            NotTaken::Down(reason) => reason,
        })
    }

    /// Ends the exchange that there may be.
    pub(super) fn close(&self) {
        let stage = std::mem::replace(&mut self.state.lock().stage, Stage::Idle);
        if let Stage::Live(exchange) = stage {
            exchange.end("this node shuts down".into());
        }
    }

    /// Whether there is no stream, nor one being opened.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state.lock().stage, Stage::Idle)
    }

    /// The life of an exchange.
    async fn run(self: Arc<Self>, exchange: Arc<Exchange>) {
        let end = tokio::select! {
            end = self.converse(&exchange) => end,
            () = exchange.ended() => return,
        };
        let reason: Arc<str> = match end {
            End::Idle => return,
            End::Broken(reason) => format!("{}: {reason}", self.target).into(),
        };
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        let pause = PAUSE_MIN.saturating_mul(1 << failures.min(DOUBLINGS_MAX));
        if failures == 0 {
            tracing::info!(class = %self.class, %reason, "lost another node");
        }
        let mut state = self.state.lock();
        // Not so if it was closed meanwhile.
        if matches!(&state.stage, Stage::Live(live) if Arc::ptr_eq(live, &exchange)) {
            state.stage = Stage::Down {
                until: Instant::now() + pause.min(PAUSE_MAX),
                reason: Arc::clone(&reason),
            };
        }
        exchange.end(reason);
    }

    async fn converse(&self, exchange: &Arc<Exchange>) -> End {
        let mut answers = match self.open_or_doubt(exchange).await {
            Ok(answers) => answers,
            Err(reason) => return End::Broken(reason),
        };
        exchange.open();
        let mut idle_check = tokio::time::interval(self.here.idle_after / IDLE_CHECKS);
        loop {
            let answer = tokio::select! {
                answer = answers.message() => answer,
                _ = idle_check.tick() => {
                    if self.end_unused(exchange) {
                        return End::Idle;
                    }
                    continue;
                }
            };
            let frame = match answer {
                Ok(Some(frame)) => frame,
                Ok(None) => return End::Broken("the stream was closed".into()),
                Err(status) => return End::Broken(explain(&status)),
            };
            self.failures.store(0, Ordering::Relaxed);
            if exchange.answer(frame).is_err() {
                tracing::warn!(target = %self.target, class = %self.class,
                    "another node has sent an answer that cannot be read");
                return End::Broken("an answer cannot be read".into());
            }
        }
    }

    /// Ends an exchange that was not used for long. Under the lock, so that no call comes between.
    fn end_unused(&self, exchange: &Arc<Exchange>) -> bool {
        let mut state = self.state.lock();
        if state.used.elapsed() < self.here.idle_after || !exchange.is_idle() {
            return false;
        }
        state.stage = Stage::Idle;
        exchange.end("the connection was not used".into());
        true
    }

    /// Opens the stream. A node that has just failed may take as long as any to answer, but nobody
    /// waits for it.
    async fn open_or_doubt(&self, exchange: &Arc<Exchange>) -> Result<Streaming<Bytes>, String> {
        let mut opening = Box::pin(self.open(exchange));
        if self.failures.load(Ordering::Relaxed) > 0 {
            match tokio::time::timeout(DOUBT_AFTER, &mut opening).await {
                Ok(opened) => return opened,
                Err(_) => exchange.doubt(format!("{}: no connection", self.target).into()),
            }
        }
        opening.await
    }

    async fn open(&self, exchange: &Arc<Exchange>) -> Result<Streaming<Bytes>, String> {
        let (node, address) = match &self.target {
            Target::Node(node) => (*node, self.here.book.address(*node)),
            Target::Address(address) => (NodeId(0), Some(address.clone())),
        };
        let address = address.ok_or("its address is not known")?;
        let credentials = self.here.identity.credentials();
        let channel = socket::connect(&address, node, credentials).await?;
        let mut client = Grpc::new(channel).max_decoding_message_size(FRAME_BYTES_MAX);
        let mut request = Request::new(exchange.frames());
        Hello::new(&self.here.identity, node, self.class).write(request.metadata_mut());
        let opening = async {
            client.ready().await.map_err(|error| chain(&error))?;
            let path = PathAndQuery::from_static(PATH);
            let opened = client.streaming(request, path, FrameCodec).await;
            opened.map_err(|status| explain(&status))
        };
        match tokio::time::timeout(ACCEPT_TIME_MAX, opening).await {
            Ok(opened) => Ok(opened?.into_inner()),
            Err(_) => Err("it does not answer".into()),
        }
    }
}

/// What a status says. Those of the other node are sentences already; the ones that the connection
/// makes up tell little without what they come from.
fn explain(status: &Status) -> String {
    match (status.code(), status.source()) {
        (
            Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated,
            _,
        )
        | (_, None) => status.message().to_owned(),
        (_, Some(source)) => chain(source),
    }
}

/// An error with what it comes from.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

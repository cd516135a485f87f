//! [`Network`]: what this node says to others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use pontoon_kv::cluster::{Answer as CallAnswer, Book, Call};
use pontoon_kv::routing::{PeerError, Peers, Whom};
use pontoon_raft::transport::{Envelope, Reply};
use pontoon_raft::{NodeId, Transport, TransportError};
use pontoon_sql::exec::remote::Colleagues;

use super::class::{Class, ClassStats, Counters};
use super::exchange::Broken;
use super::handshake::Identity;
use super::link::{Here, Link, Target};
use super::message::{Answer, Operated, Operation, Question};

/// A connection that was not used for so long is closed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(600);

/// Carries messages to other nodes. Clones are the same network; with the last of them the
/// connections are closed.
#[derive(Clone)]
pub(crate) struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    here: Here,
    links: RwLock<HashMap<(Target, Class), Arc<Link>>>,
    /// Numbers of requests.
    next: AtomicU64,
    counters: [(Class, Arc<Counters>); Class::ALL.len()],
}

impl Network {
    /// The network as a node sees it that is `identity` and knows of others what is in `book`.
    pub(crate) fn new(book: Arc<Book>, identity: Arc<Identity>) -> Self {
        Self::closing_after(book, identity, IDLE_TIME_MAX)
    }

    /// [`Self::new`] with another limit for connections that are not used.
    pub(super) fn closing_after(
        book: Arc<Book>,
        identity: Arc<Identity>,
        idle_after: Duration,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                here: Here {
                    book,
                    identity,
                    idle_after,
                },
                links: RwLock::default(),
                next: AtomicU64::new(0),
                counters: Class::ALL.map(|class| (class, Arc::default())),
            }),
        }
    }

    /// Has a node do what an operator asks of its SQL layer.
    ///
    /// # Errors
    /// What is wrong, or why there is no answer, in plain words.
    pub(crate) async fn operate(
        &self,
        address: String,
        operation: Operation,
    ) -> Result<Operated, String> {
        let class = Class::Data;
        let link = self.inner.link(Target::Address(address), class);
        let reason = match self.inner.ask(&link, Question::Operate(operation)).await {
            Ok(Answer::Operate(answer)) => return answer,
            Ok(_) => "it could not answer".to_owned(),
            Err(Broken::Unsent(reason) | Broken::Lost(reason)) => reason.to_string(),
        };
        self.inner.counters(class).failed();
        Err(reason)
    }

    /// What was sent and answered since the start, class by class.
    pub(crate) fn stats(&self) -> Vec<ClassStats> {
        let counters = self.inner.counters.iter();
        counters
            .map(|(class, counters)| counters.read(*class))
            .collect()
    }

    /// Number of connections that are open or being opened.
    pub(crate) fn connections(&self) -> usize {
        let links = self.inner.links.read();
        links.values().filter(|link| !link.is_idle()).count()
    }
}

impl Inner {
    fn counters(&self, class: Class) -> Arc<Counters> {
        let mut all = self.counters.iter();
        all.find(|(of, _)| *of == class)
            .map(|(_, counters)| Arc::clone(counters))
            .unwrap_or_default()
    }

    /// The link to a node. The map never shrinks: an idle link is a few words, and there is one for
    /// each node that was ever called.
    fn link(&self, target: Target, class: Class) -> Arc<Link> {
        let key = (target, class);
        if let Some(link) = self.links.read().get(&key) {
            return Arc::clone(link);
        }
        let mut links = self.links.write();
        let target = key.0.clone();
        Arc::clone(links.entry(key).or_insert_with(|| {
            let (here, counters) = (self.here.clone(), self.counters(class));
            Arc::new(Link::new(target, class, here, counters))
        }))
    }

    /// Asks, for as long as the stream lives. Dropped, it gives up.
    async fn ask(&self, link: &Arc<Link>, question: Question) -> Result<Answer, Broken> {
        link.check()?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let message = question
            .encode(id)
            .map_err(|error| Broken::Unsent(error.to_string().into()))?;
        drop(question);
        link.send(id, message)?.wait().await
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for link in self.links.get_mut().values() {
            link.close();
        }
    }
}

impl Transport for Network {
    fn send(
        &self,
        envelope: Envelope,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let inner = Arc::clone(&self.inner);
        async move {
            let class = Class::of_envelope(&envelope);
            let node = envelope.to.place.node;
            let link = inner.link(Target::Node(node), class);
            let asking = inner.ask(&link, Question::Raft(envelope));
            let error = match tokio::time::timeout(timeout, asking).await {
                Ok(Ok(Answer::Raft(answer))) => return answer.map_err(TransportError::Refused),
                Ok(Ok(_)) => unreachable(&format!("{node} could not answer")),
                Ok(Err(Broken::Unsent(reason) | Broken::Lost(reason))) => unreachable(&reason),
                Err(_) => TransportError::Timeout,
            };
            inner.counters(class).failed();
            Err(error)
        }
        .boxed()
    }
}

impl Peers for Network {
    fn call(&self, whom: Whom, call: Call) -> BoxFuture<'static, Result<CallAnswer, PeerError>> {
        let inner = Arc::clone(&self.inner);
        async move {
            let class = Class::of_call(&call);
            let target = match whom {
                Whom::Node(node) => Target::Node(node),
                Whom::Address(address) => Target::Address(address),
            };
            let link = inner.link(target, class);
            let error = match inner.ask(&link, Question::Call(call)).await {
                Ok(Answer::Call(answer)) => return answer.map_err(PeerError::Refused),
                Ok(_) | Err(Broken::Lost(_)) => PeerError::Lost,
                Err(Broken::Unsent(reason)) => PeerError::Unreachable {
                    reason: reason.to_string(),
                },
            };
            inner.counters(class).failed();
            Err(error)
        }
        .boxed()
    }
}

impl Colleagues for Network {
    fn ask(&self, node: NodeId, question: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let inner = Arc::clone(&self.inner);
        async move {
            let class = Class::Bulk;
            let link = inner.link(Target::Node(node), class);
            let reason = match inner.ask(&link, Question::Sql(question)).await {
                Ok(Answer::Sql(answer)) => return answer,
                Ok(_) => format!("{node} could not answer"),
                Err(Broken::Unsent(reason) | Broken::Lost(reason)) => reason.to_string(),
            };
            inner.counters(class).failed();
            Err(reason)
        }
        .boxed()
    }
}

fn unreachable(reason: &str) -> TransportError {
    let reason = reason.to_owned();
    TransportError::Unreachable { reason }
}

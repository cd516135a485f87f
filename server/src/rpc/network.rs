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
        let (target, class) = (Target::Address(address), Class::Data);
        let asked = self.inner.ask(target, class, Question::Operate(operation));
        let reason = match asked.await {
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

    /// Who this is.
    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.inner.here.identity
    }

    /// Where the others are.
    pub(super) fn book(&self) -> &Arc<Book> {
        &self.inner.here.book
    }

    /// Passes a question of another node on.
    ///
    /// Invariant: directly or not at all, so that nothing is passed on without end.
    pub(super) async fn pass_on(&self, to: NodeId, class: Class, question: Question) -> Answer {
        if matches!(question, Question::PassOn { .. }) {
            return Answer::NotPassedOn;
        }
        let link = self.inner.link(Target::Node(to), class);
        if link.check().is_err() {
            return Answer::NotPassedOn;
        }
        match self.inner.ask_directly(&link, question).await {
            Ok(answer) => Answer::PassedOn(Box::new(answer)),
            Err(Broken::Unsent(_)) => Answer::NotPassedOn,
            Err(Broken::Lost(_)) => Answer::Failed,
        }
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

    /// Asks, by way of another node if there is no stream to this one. Dropped, it gives up.
    async fn ask(
        &self,
        target: Target,
        class: Class,
        question: Question,
    ) -> Result<Answer, Broken> {
        let around = match target {
            Target::Node(node) => Some(node),
            Target::Address(_) => None,
        };
        let link = self.link(target, class);
        match (link.check(), around) {
            (Err(down), Some(node)) if link.may_go_around() => {
                let asked = self.ask_around(node, &link, class, question).await;
                asked.unwrap_or(Err(down))
            }
            (Err(down), _) => Err(down),
            (Ok(()), _) => self.ask_directly(&link, question).await,
        }
    }

    /// Has another node pass a question on; `None` when none can.
    async fn ask_around(
        &self,
        to: NodeId,
        link: &Link,
        class: Class,
        question: Question,
    ) -> Option<Result<Answer, Broken>> {
        let here = self.here.identity.node();
        let others = self.here.book.alive().into_iter();
        let others = others.filter(|node| *node != to && *node != here);
        let ways = others.map(|node| self.link(Target::Node(node), class));
        let ways: Vec<_> = ways.filter(|way| way.check().is_ok()).collect();
        // Another one each time: one of them may be cut off from it too.
        let turn = usize::try_from(self.next.load(Ordering::Relaxed)).unwrap_or_default();
        let way = ways.get(turn.checked_rem(ways.len())?)?;
        let question = Box::new(question);
        match self
            .ask_directly(way, Question::PassOn { to, question })
            .await
        {
            Ok(Answer::PassedOn(answer)) => Some(Ok(*answer)),
            Ok(Answer::NotPassedOn) => {
                link.no_way_around();
                None
            }
            Ok(_) => Some(Err(Broken::Lost("it could not be passed on".into()))),
            Err(Broken::Unsent(_)) => None,
            Err(lost) => Some(Err(lost)),
        }
    }

    /// Asks, for as long as the stream lives. Dropped, it gives up.
    async fn ask_directly(&self, link: &Arc<Link>, question: Question) -> Result<Answer, Broken> {
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
            let asking = inner.ask(Target::Node(node), class, Question::Raft(envelope));
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
            let error = match inner.ask(target, class, Question::Call(call)).await {
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
            let asking = inner.ask(Target::Node(node), class, Question::Sql(question));
            let reason = match asking.await {
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

//! A network within one process, with faults.
//!
//! Latency and losses are drawn from a seed; on a paused single-threaded runtime two runs from one
//! seed are equal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::message::{Envelope, Reply};
use super::{Transport, TransportError};
use crate::host::Host;
use crate::ids::NodeId;

/// How messages from one node to another fare.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Link {
    /// Nothing gets through; the sender is told at once.
    pub down: bool,
    /// Share of messages, and of replies, that are lost without a sign.
    pub loss: f64,
    /// The least time a message or reply takes.
    pub delay_min: Duration,
    /// The most.
    pub delay_max: Duration,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            down: false,
            loss: 0.0,
            delay_min: Duration::ZERO,
            delay_max: Duration::ZERO,
        }
    }
}

/// A network within one process.
pub struct MemoryNetwork {
    state: Mutex<State>,
}

struct State {
    rng: SmallRng,
    hosts: BTreeMap<NodeId, Host>,
    default_link: Link,
    links: BTreeMap<(NodeId, NodeId), Link>,
    sent: u64,
}

/// What becomes of one message.
struct Fate {
    host: Option<Host>,
    delay: Duration,
    reply_delay: Duration,
    lost: bool,
    reply_lost: bool,
}

impl MemoryNetwork {
    /// A network without hosts and faults.
    pub fn new(seed: u64) -> Arc<Self> {
        let state = State {
            rng: SmallRng::seed_from_u64(seed),
            hosts: BTreeMap::new(),
            default_link: Link::default(),
            links: BTreeMap::new(),
            sent: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// Connects a host. One that was there before for the node is forgotten.
    pub fn connect(&self, node: NodeId, host: Host) {
        self.state.lock().hosts.insert(node, host);
    }

    /// Takes a node off the network, as when its process has died.
    pub fn disconnect(&self, node: NodeId) {
        self.state.lock().hosts.remove(&node);
    }

    /// Sets how messages fare between nodes that have no link of their own.
    pub fn set_default_link(&self, link: Link) {
        self.state.lock().default_link = link;
    }

    /// Sets how messages from `from` to `to` fare.
    pub fn set_link(&self, from: NodeId, to: NodeId, link: Link) {
        self.state.lock().links.insert((from, to), link);
    }

    /// Cuts a node off from all others, in both directions.
    pub fn isolate(&self, node: NodeId) {
        let mut state = self.state.lock();
        let others: Vec<_> = state
            .hosts
            .keys()
            .copied()
            .filter(|other| *other != node)
            .collect();
        for other in others {
            let down = Link {
                down: true,
                ..state.default_link
            };
            state.links.insert((node, other), down);
            state.links.insert((other, node), down);
        }
    }

    /// How many messages were sent, whether they arrived or not.
    pub fn sent(&self) -> u64 {
        self.state.lock().sent
    }

    /// Removes every link of its own.
    pub fn heal(&self) {
        self.state.lock().links.clear();
    }

    fn fate(&self, envelope: &Envelope) -> Fate {
        let mut state = self.state.lock();
        state.sent += 1;
        let (from, to) = (envelope.from.place.node, envelope.to.place.node);
        let there = state
            .links
            .get(&(from, to))
            .copied()
            .unwrap_or(state.default_link);
        let back = state
            .links
            .get(&(to, from))
            .copied()
            .unwrap_or(state.default_link);
        let host = if there.down {
            None
        } else {
            state.hosts.get(&to).cloned()
        };
        Fate {
            host,
            delay: state.draw_delay(there),
            reply_delay: state.draw_delay(back),
            lost: state.draw_loss(there),
            reply_lost: back.down || state.draw_loss(back),
        }
    }
}

impl State {
    fn draw_delay(&mut self, link: Link) -> Duration {
        if link.delay_max <= link.delay_min {
            return link.delay_min;
        }
        self.rng.random_range(link.delay_min..link.delay_max)
    }

    fn draw_loss(&mut self, link: Link) -> bool {
        link.loss > 0.0 && self.rng.random_bool(link.loss.min(1.0))
    }
}

impl Transport for MemoryNetwork {
    fn send(
        &self,
        envelope: Envelope,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let fate = self.fate(&envelope);
        Box::pin(async move {
            let Some(host) = fate.host else {
                return Err(TransportError::Unreachable {
                    reason: "link is down".to_owned(),
                });
            };
            let exchange = async {
                if fate.lost {
                    return futures::future::pending().await;
                }
                pause(fate.delay).await;
                let reply = host.handle(envelope).await;
                if fate.reply_lost {
                    return futures::future::pending().await;
                }
                pause(fate.reply_delay).await;
                reply.map_err(TransportError::from)
            };
            let answer = tokio::time::timeout(timeout, exchange).await;
            answer.unwrap_or(Err(TransportError::Timeout))
        })
    }
}

async fn pause(delay: Duration) {
    if delay > Duration::ZERO {
        tokio::time::sleep(delay).await;
    }
}

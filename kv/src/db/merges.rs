//! Merging of ranges: one absorbs the range behind it ([`crate::range`]).
//!
//! Whoever leads the range before it drives that; when it fails on the way, or dies, the frozen range
//! itself finds out what became of it, and serves again when it was not absorbed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use pontoon_raft::{LogPosition, Membership, NodeId};

use crate::cluster::{Alteration, Answer, Call, Change};
use crate::db::Db;
use crate::db::node::{Node, SYSTEM_RANGE};
use crate::error::Error;
use crate::keys;
use crate::range::{Absorbable, Descriptor, Fate, Frozen, Refusal, Renounce, Replica};
use crate::routing::{Route, Whom, plain};
use crate::txn::Span;

/// How long the nodes of the members may take to have a range frozen durably.
const SETTLING: Duration = Duration::from_secs(2);
/// How often a node looks whether a range is frozen there yet.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How often a node looks for ranges that have been frozen, or without a leader, for long.
const EVERY: Duration = Duration::from_millis(500);
/// The leader of a range that is frozen for so long asks what became of it.
const ASKED_AFTER: Duration = Duration::from_secs(1);
/// And every other replica after this, as it may have no leader.
const ASKED_BY_ALL_AFTER: Duration = Duration::from_secs(4);
/// A replica that knows of no leader for so long asks whether its range was absorbed.
const LOST_AFTER: Duration = Duration::from_secs(10);

fn refuse(message: impl Into<String>) -> Refusal {
    Refusal::Error(Error::Unavailable {
        message: message.into(),
    })
}

/// What names the attempt to absorb a range, while that is frozen.
fn attempt(of: &Descriptor) -> Option<Renounce> {
    of.frozen.as_ref().map(|frozen| Renounce {
        start: frozen.start.clone(),
        right: of.range,
        generation: of.generation,
    })
}

fn nodes(membership: &Membership) -> BTreeSet<NodeId> {
    let places = membership.members.values();
    places.map(|place| place.node).collect()
}

impl Db {
    /// Has the range that begins with `key` become a part of the one before it. Nothing is done, and
    /// that is no error, when no range begins there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when they cannot be one range now: their replicas are on different
    /// nodes or being moved, or they are too large together.
    pub async fn merge_at(&self, key: &Bytes) -> Result<(), Error> {
        let node = self.node();
        let before = Span {
            start: keys::user_span().start,
            end: key.clone(),
        };
        if before.start >= before.end {
            return Ok(());
        }
        let merged = || async {
            let right = node.route(key)?;
            if right.span().start != *key {
                return Ok(());
            }
            let (left, _) = node.route_part(&before, true)?;
            let change = Change {
                range: left.range(),
                membership: None,
                what: Alteration::Absorb(right.range()),
            };
            let leader = node.led_by(&left).or_else(|| left.whom());
            let leader = leader.unwrap_or(node.id());
            match node.have_done(leader, Call::Change(change)).await {
                Err(Refusal::Elsewhere(Some(other))) => {
                    left.ask_another(other.place.node);
                    Err(Refusal::Moved)
                }
                done => done.map(|_| ()),
            }
        };
        node.while_ranges_move(merged).await.map_err(plain)
    }
}

impl Node {
    /// Has a range that this node leads absorb the range `right` behind it. `only_if` names the
    /// membership for which that was decided. The caller keeps other changes of the range away.
    pub(super) async fn absorb(
        &self,
        left: &Replica,
        right: u64,
        only_if: Option<LogPosition>,
    ) -> Result<(), Refusal> {
        let members = left.steady_members()?;
        let span = left.state().descriptor().span;
        let position = members.position.filter(|position| {
            // An operator does not know it, and takes the members that there are.
            only_if.is_none_or(|only_if| only_if == *position)
        });
        let position = position.ok_or_else(|| refuse("the members of the range have changed"))?;
        let other = self.ranges.of(right);
        let Some(other) = other.filter(|other| other.state().descriptor().span.start == span.end)
        else {
            return Err(refuse(format!(
                "range {right} is not behind it, or not here"
            )));
        };
        if left.state().range == SYSTEM_RANGE || span.end >= keys::user_span().end {
            return Err(refuse("the range has to stay as it is"));
        }
        // What is reported of their sizes may be old, and is nothing after a restart.
        let bytes = self.bytes_of(left).await? + self.bytes_of(&other).await?;
        if bytes > self.config.split_bytes / 2 {
            return Err(refuse(format!("{bytes} bytes are too many for one range")));
        }
        let frozen = Frozen {
            into: left.state().range,
            start: span.start,
        };
        let route = Route::Held(other);
        // What it is asked may have been heard though there is no answer; then it finds out by
        // itself that it is to serve again.
        let absorbable = self.freeze(&route, &frozen).await?;
        let absorbed = self.absorb_frozen(left, &absorbable, &members, position);
        let absorbed = absorbed.await;
        if let (Err(_), Some(attempt)) = (&absorbed, attempt(&absorbable.descriptor())) {
            self.decide_on(&route, &attempt)
                .await
                .map_err(Refusal::Error)?;
        }
        absorbed?;
        let left = left.state().range;
        tracing::info!(range = left, absorbed = right, "two ranges are one");
        Ok(())
    }

    async fn absorb_frozen(
        &self,
        left: &Replica,
        right: &Absorbable,
        members: &Membership,
        position: LogPosition,
    ) -> Result<(), Refusal> {
        let nodes_of_both = nodes(members);
        if nodes(&right.membership) != nodes_of_both {
            return Err(refuse("the replicas of the ranges are on different nodes"));
        }
        let Some(myself) = self.myself.upgrade() else {
            return Err(refuse("the node is stopping"));
        };
        let settle = |node| {
            let call = Call::Settle(right.clone());
            let settled = myself.have_done(node, call);
            self.runtime.timeout(SETTLING, settled)
        };
        #[cfg(test)]
        let nodes_of_both = match self
            .skip_settling
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            true => BTreeSet::new(),
            false => nodes_of_both,
        };
        for settled in join_all(nodes_of_both.into_iter().map(settle)).await {
            settled.unwrap_or_else(|| Err(refuse("a node takes too long to freeze the range")))?;
        }
        left.absorb(right, position).await
    }

    /// Waits until a range is frozen here with these bounds, and makes that durable.
    pub(super) async fn settle_frozen(&self, wanted: &Descriptor) -> Result<(), Refusal> {
        let Some(replica) = self.ranges.of(wanted.range) else {
            return Err(refuse(format!("range {} is not here", wanted.range)));
        };
        let frozen = async {
            while replica.state().descriptor() != *wanted {
                self.runtime.sleep(LOOK_AGAIN).await;
            }
        };
        if self.runtime.timeout(SETTLING, frozen).await.is_none() {
            return Err(refuse(format!("range {} is behind", wanted.range)));
        }
        Ok(self.sync_engine().await?)
    }

    /// Finds out what became of a range that is frozen, and has it serve again if it was not
    /// absorbed.
    async fn decide_on(&self, route: &Route, attempt: &Renounce) -> Result<Fate, Error> {
        let fate = self.fate(attempt).await?;
        if fate == Fate::Renounced {
            // Invariant: a range is thawed only after it was renounced.
            let thawed = self.thaw(route, attempt.generation).await;
            thawed.map_err(plain)?;
        }
        Ok(fate)
    }

    /// Sees to a replica whose range has been frozen for long.
    async fn see_to_frozen(&self, replica: &Arc<Replica>, of: &Descriptor) -> Result<(), Error> {
        let (Some(attempt), Some(frozen)) = (attempt(of), &of.frozen) else {
            return Ok(());
        };
        if !replica.leads() {
            if self.fate(&attempt).await? == Fate::Absorbed && self.ranges.of(frozen.into).is_none()
            {
                // The replica that was to absorb it here has left.
                self.close_absorbed_elsewhere(of.range).await?;
            }
            return Ok(());
        }
        let route = Route::Held(Arc::clone(replica));
        self.decide_on(&route, &attempt).await.map(|_| ())
    }

    /// Sees to a replica that has had no leader for long: asks the other members whether its range
    /// has become a part of another while it was away.
    async fn see_to_lost(&self, replica: &Replica) -> Result<(), Error> {
        let (Some(peers), range) = (&self.peers, replica.state().range) else {
            return Ok(());
        };
        for node in nodes(&replica.group().status().membership) {
            if node == self.me.place.node {
                continue;
            }
            let asked = peers.call(Whom::Node(node), Call::IsAbsorbed { range });
            let answer = self.runtime.timeout(SETTLING, asked).await;
            if let Some(Ok(Answer::Absorbed(true))) = answer {
                return self.close_absorbed_elsewhere(range).await;
            }
        }
        Ok(())
    }
}

/// Since when something has been so, by range.
#[derive(Default)]
struct Since(BTreeMap<u64, (u64, Duration)>);

impl Since {
    /// How long a range has been so, in this generation of it.
    fn note(&mut self, of: &Descriptor, now: Duration) -> Duration {
        let entry = self.0.entry(of.range).or_insert((of.generation, now));
        if entry.0 != of.generation {
            *entry = (of.generation, now);
        }
        now.saturating_sub(entry.1)
    }

    fn forget(&mut self, range: u64) {
        self.0.remove(&range);
    }
}

/// Sees to ranges that were frozen and left so, for as long as the node lives.
pub(super) async fn keep_decided(node: Weak<Node>) {
    let (mut frozen, mut lost) = (Since::default(), Since::default());
    loop {
        let Some(strong) = node.upgrade() else { return };
        let runtime = strong.runtime.clone();
        drop(strong);
        runtime.sleep(EVERY).await;
        let Some(strong) = node.upgrade() else { return };
        let now = runtime.monotonic();
        for replica in strong.replicas() {
            let descriptor = replica.state().descriptor();
            let mut seen = Ok(());
            if descriptor.frozen.is_some() {
                let patience = match replica.leads() {
                    true => ASKED_AFTER,
                    false => ASKED_BY_ALL_AFTER,
                };
                if frozen.note(&descriptor, now) >= patience {
                    seen = strong.see_to_frozen(&replica, &descriptor).await;
                }
            } else {
                frozen.forget(descriptor.range);
            }
            let group = replica.group();
            if group.leader_hint().is_none() && !group.leads() && !group.is_quiescent() {
                if lost.note(&descriptor, now) >= LOST_AFTER {
                    seen = seen.and(strong.see_to_lost(&replica).await);
                }
            } else {
                lost.forget(descriptor.range);
            }
            if let Err(error) = seen {
                let range = descriptor.range;
                tracing::debug!(range, %error, "what became of a range is not known yet");
            }
        }
    }
}

//! Changes of the members and bounds of ranges, as their leaders carry them out.
//!
//! Invariant: a change is made only to the membership that it was decided for.
//! Invariant: the number of a new replica was never used before, by any range.

use std::collections::BTreeSet;
use std::time::Duration;

use pontoon_raft::{Group, MemberChange, Membership, MembershipError, NodeId, Peer, ReplicaId};

use crate::cluster::{Alteration, Answer, Call, Change, Opening};
use crate::db::Db;
use crate::db::node::Node;
use crate::error::Error;
use crate::keys;
use crate::range::{Refusal, Replica};
use crate::routing::Whom;

/// How long a node may take to open a replica.
const OPENING: Duration = Duration::from_secs(10);
/// How long a transfer or a change may take.
const CHANGING: Duration = Duration::from_secs(30);

fn refuse(message: impl Into<String>) -> Refusal {
    Refusal::Error(Error::Unavailable {
        message: message.into(),
    })
}

impl Node {
    /// Changes the members of a range that this node leads.
    pub(super) async fn change(&self, change: Change) -> Result<(), Refusal> {
        let Some(replica) = self.ranges.of(change.range) else {
            return Err(Refusal::Moved);
        };
        if !replica.leads() {
            return Err(Refusal::Elsewhere(replica.group().leader_hint()));
        }
        // It may have slept; nobody proposes without a lease.
        replica.lead().await?;
        let Ok(_one) = replica.state().reshaping.try_lock() else {
            return Err(refuse("the range is being changed"));
        };
        // Invariant: the members of a frozen range stay.
        if replica.state().is_frozen() {
            return Err(refuse("the range is about to become a part of another"));
        }
        let only_if = change.membership;
        let group = replica.group();
        let before = group.status().membership;
        let changed = match change.what {
            Alteration::Add(node) => {
                {
                    let peer = self.prepare_member(&replica, node).await?;
                    group.change_members(MemberChange::AddLearner(peer), only_if)
                }
                .await
            }
            Alteration::Voters(voters) => {
                let changed = group.change_members(MemberChange::Voters(voters), only_if);
                self.runtime
                    .timeout(CHANGING, changed)
                    .await
                    .unwrap_or(Err(MembershipError::Ambiguous))
            }
            Alteration::Remove(learner) => {
                let gone = BTreeSet::from([learner]);
                let changed = group.change_members(MemberChange::RemoveLearners(gone), only_if);
                changed.await
            }
            Alteration::Lead(to) => group.transfer_leader(to).await,
            Alteration::Absorb(right) => return self.absorb(&replica, right, only_if).await,
            Alteration::Split(key) => {
                let node = self.myself.upgrade();
                let node = node.ok_or_else(|| refuse("the node is stopping"))?;
                return Ok(Box::pin(Db::over(node).split_at(&key)).await?);
            }
        };
        changed.map_err(|error| refuse(error.to_string()))?;
        self.close_those_who_left(&before, group);
        Ok(())
    }

    /// Has the replicas closed that are not members any more; whoever does not hear it now is told
    /// later by the coordinator.
    fn close_those_who_left(&self, before: &Membership, group: &Group) {
        let status = group.status();
        if !status.membership_committed {
            return;
        }
        for (replica, place) in &before.members {
            if !status.membership.members.contains_key(replica) {
                let call = Call::Close {
                    range: group.id().0,
                    replica: *replica,
                    membership: status.membership.position,
                };
                self.have(place.node, call, None);
            }
        }
    }

    /// Has an empty replica opened on a node.
    async fn prepare_member(&self, replica: &Replica, node: NodeId) -> Result<Peer, Refusal> {
        let status = replica.group().status();
        if status.purged.is_none() {
            // It would be given the log from the first entry on, which does not say what was
            // there before it.
            return Err(refuse(
                "the log of the range reaches back to its beginning yet",
            ));
        }
        let place = self
            .book
            .place(node)
            .ok_or_else(|| refuse(format!("nobody knows where {node} is")))?;
        if !self.book.holds_data(node) {
            return Err(refuse(format!("{node} does not have the role data")));
        }
        // Founders have the first numbers, of nodes that are all known.
        let first = 1 + self.book.highest_node().0.max(FOUNDERS_MAX);
        let number = self.next_number(keys::next_replica_key(), first).await?;
        let opening = Opening {
            descriptor: replica.state().descriptor(),
            replica: ReplicaId(number),
        };
        if node == self.me.place.node {
            return Err(refuse(format!("{node} has a replica already")));
        }
        let peers = self
            .peers
            .as_ref()
            .ok_or_else(|| refuse("there is no other node"))?;
        let called = peers.call(Whom::Node(node), Call::Open(opening));
        match self.runtime.timeout(OPENING, called).await {
            Some(Ok(Answer::Opened(replica))) => Ok(Peer { replica, place }),
            Some(Ok(_)) => Err(refuse(format!("{node} gives an odd answer"))),
            Some(Err(error)) => Err(refuse(format!("{node}: {error}"))),
            None => Err(refuse(format!("{node} does not answer"))),
        }
    }
}

/// No cluster is founded with more members.
const FOUNDERS_MAX: u64 = 100;

//! Ranges as they would be: the planner is asked what it would do with them before it begins anything.

use pontoon_raft::{NodeId, Peer, Place, ReplicaId};

use crate::cluster::{Alteration, RangeReport};
use crate::placement::plan::Plan;

/// The number of a replica that is not there yet.
const NEW: ReplicaId = ReplicaId(u64::MAX);

/// The replica of a range on a node.
pub(super) fn member(range: &RangeReport, node: NodeId) -> Option<ReplicaId> {
    let mut members = range.membership.members.iter();
    let found = members.find(|(_, place)| place.node == node);
    found.map(|(replica, _)| *replica)
}

/// [`member`], if it votes.
pub(super) fn voter(range: &RangeReport, node: NodeId) -> Option<ReplicaId> {
    let voters = range.membership.voters();
    member(range, node).filter(|replica| voters.contains(replica))
}

/// A range as if it did not have a member.
pub(super) fn without(range: &RangeReport, replica: Option<ReplicaId>) -> RangeReport {
    let mut range = range.clone();
    if let Some(replica) = replica {
        range.membership.members.remove(&replica);
        range.behind.retain(|(member, _)| *member != replica);
        for config in &mut range.membership.configs {
            config.remove(&replica);
        }
    }
    range
}

/// A range with one voter more, on a node that holds none; and the number of that.
pub(super) fn joined(range: &RangeReport, node: NodeId) -> (RangeReport, ReplicaId) {
    let mut range = range.clone();
    range.membership.members.insert(NEW, place(node));
    range.behind.push((NEW, Some(0)));
    for config in &mut range.membership.configs {
        config.insert(NEW);
    }
    (range, NEW)
}

/// A range with a voter on `to` in place of the replica `old`. If that led, another leads.
pub(super) fn moved(range: &RangeReport, old: ReplicaId, to: NodeId) -> RangeReport {
    let (after, new) = joined(&without(range, member(range, to)), to);
    let mut after = without(&after, Some(old));
    if after.leader.replica == old {
        let others = after.membership.members.iter();
        let mut others = others.filter(|(replica, _)| **replica != new);
        if let Some((replica, place)) = others.next() {
            after.leader = peer(*replica, *place);
        }
    }
    after
}

/// Whether the planner would leave the members of a range as they are, whoever leads it.
pub(super) fn stays(plan: &Plan<'_>, range: RangeReport) -> bool {
    let mut range = range;
    // To a node that may lead, and from there to one that should.
    for _ in 0..2 {
        match plan.mend(&range) {
            None => return true,
            Some((Alteration::Lead(to), _)) => {
                let Some(place) = range.membership.members.get(&to) else {
                    return false;
                };
                range.leader = peer(to, *place);
            }
            Some(_) => return false,
        }
    }
    plan.mend(&range).is_none()
}

pub(super) fn place(node: NodeId) -> Place {
    Place {
        node,
        ..Place::default()
    }
}

pub(super) fn peer(replica: ReplicaId, place: Place) -> Peer {
    Peer { replica, place }
}

//! What an operator wants of single ranges: whether that would last, and the steps to get there.
//!
//! Invariant: nothing is begun that the planner would undo for a reason other than balance; it is
//! asked what it would do with the range as it would be then. Balance leaves the range alone while
//! the coordinator holds it ([`Picture::held`]), and other ranges make up for it.

use std::collections::BTreeSet;

use pontoon_raft::NodeId;

use crate::cluster::{Alteration, NodeState, RangeReport, Wanted};
use crate::placement::merge;
use crate::placement::plan::{Picture, Plan, SYSTEM_RANGE, Wishes, has_caught_up};
use crate::placement::supposed::{member, moved, peer, place, voter, without};

const WHY: &str = "an operator wants it";

/// Why a range is not changed as an operator wants it, in words; `None` when it can be.
pub fn objection(
    picture: &Picture,
    wishes: &Wishes,
    range: &RangeReport,
    what: &Wanted,
) -> Option<String> {
    let plan = Plan::new(picture, wishes);
    match *what {
        Wanted::Move { from, to } => against_move(&plan, range, from, to),
        Wanted::Lead(node) => against_lead(&plan, range, node),
        Wanted::Absorb(right) => against_absorb(picture, range, right),
    }
}

/// Whether a replica is where it was wanted, and not where it was.
pub fn is_fulfilled(range: &RangeReport, (from, to): (NodeId, NodeId)) -> bool {
    voter(range, to).is_some() && member(range, from).is_none()
}

/// The next step to a replica on another node; `None`: it is there, or has to catch up first.
pub(super) fn next(
    plan: &Plan<'_>,
    range: &RangeReport,
    way: (NodeId, NodeId),
) -> Option<(Alteration, &'static str)> {
    toward(plan, range, way).map(|what| (what, WHY))
}

/// [`next`], whoever wants it.
pub(super) fn toward(
    plan: &Plan<'_>,
    range: &RangeReport,
    (from, to): (NodeId, NodeId),
) -> Option<Alteration> {
    let old = member(range, from)?;
    let Some(new) = member(range, to) else {
        return Some(Alteration::Add(to));
    };
    let mut voters = range.membership.voters();
    if voters.contains(&new) || !has_caught_up(range, new) {
        return None;
    }
    voters.remove(&old);
    if range.leader.replica == old {
        let heir = plan.successor(range, &voters)?;
        return Some(Alteration::Lead(heir));
    }
    voters.insert(new);
    Some(Alteration::Voters(voters))
}

fn against_move(plan: &Plan<'_>, range: &RangeReport, from: NodeId, to: NodeId) -> Option<String> {
    let number = range.descriptor.range;
    let Some(old) = voter(range, from) else {
        return Some(no_vote(range, from));
    };
    if voter(range, to).is_some() {
        return Some(format!("{to} has a replica of range {number} already"));
    }
    if range.membership.voters().len() < 2 {
        return Some(format!(
            "range {number} has no other replica, which could lead it meanwhile"
        ));
    }
    if let Some(why) = unfit(plan, to) {
        return Some(format!("{to} cannot be given a replica: {why}"));
    }
    let before = without(range, member(range, to));
    let after = moved(&before, old, to);
    mended(plan, &before, &after)
}

fn against_lead(plan: &Plan<'_>, range: &RangeReport, node: NodeId) -> Option<String> {
    let number = range.descriptor.range;
    let Some(replica) = voter(range, node) else {
        return Some(no_vote(range, node));
    };
    if range.leader.replica == replica {
        return Some(format!("{node} leads range {number} already"));
    }
    if !plan.spots.get(&node).is_some_and(|spot| spot.leads) {
        let why = unfit(plan, node).unwrap_or_default();
        return Some(format!("{node} cannot lead: {why}"));
    }
    if !has_caught_up(range, replica) {
        return Some(format!("the replica of range {number} on {node} is behind"));
    }
    let mut after = range.clone();
    after.leader = peer(replica, place(node));
    mended(plan, range, &after)
}

fn against_absorb(picture: &Picture, range: &RangeReport, right: u64) -> Option<String> {
    let number = range.descriptor.range;
    let other = picture.ranges.iter();
    let mut other = other.filter(|other| other.descriptor.range == right);
    let span = &range.descriptor.span;
    let other = other.find(|other| other.descriptor.span.start == span.end);
    let Some(other) = other else {
        return Some(format!(
            "range {right} does not begin where range {number} ends"
        ));
    };
    if number == SYSTEM_RANGE {
        return Some("range 1 stays as it is".to_owned());
    }
    if picture.changing.contains(&right) || !other.settled {
        return Some(format!("range {right} is being changed"));
    }
    if picture.wanted_splits.contains(&span.end) {
        return Some(format!(
            "somebody wants range {right} to begin where it does (SPLIT AT); that is to be taken \
             back first (UNSPLIT)"
        ));
    }
    (merge::nodes(range) != merge::nodes(other)).then(|| {
        format!(
            "the replicas of ranges {number} and {right} are on different nodes, and are to be \
             moved together first"
        )
    })
}

/// What the planner would do with a range as it is, or as it would be.
fn mended(plan: &Plan<'_>, before: &RangeReport, after: &RangeReport) -> Option<String> {
    if let Some((_, why)) = plan.mend(before) {
        let number = before.descriptor.range;
        return Some(format!("range {number} is to be changed first: {why}"));
    }
    let (_, why) = plan.mend(after)?;
    Some(format!("it would be undone: {why}"))
}

/// Why a node is given no replicas.
fn unfit(plan: &Plan<'_>, node: NodeId) -> Option<&'static str> {
    let Some(spot) = plan.spots.get(&node) else {
        return Some("there is no such node");
    };
    let status = spot.status;
    match spot.takes {
        true => None,
        false if status.row.state != NodeState::Active => Some("it leaves the cluster"),
        false if !status.row.roles.data => Some("it does not have the role data"),
        false if !status.alive => Some("it is silent"),
        false if status.stopping => Some("it is about to stop"),
        false => Some("its disk is almost full"),
    }
}

fn no_vote(range: &RangeReport, node: NodeId) -> String {
    let number = range.descriptor.range;
    let voters: BTreeSet<_> = range.membership.voters();
    let members = range.membership.members.iter();
    let nodes = members.filter(|(replica, _)| voters.contains(replica));
    let nodes: Vec<_> = nodes.map(|(_, place)| place.node.to_string()).collect();
    format!(
        "{node} has no replica of range {number} that votes; they are on {}",
        nodes.join(", ")
    )
}

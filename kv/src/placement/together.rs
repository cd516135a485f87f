//! Small neighbours on different nodes: the one is brought to the nodes of the other, so that they can
//! become one range ([`super::merge`]).
//!
//! One replica is exchanged at a time, by the steps that an operator's move takes, and only where
//! nothing else is to be done. Nothing is remembered: the pair and the next exchange are found in each
//! picture anew. It is the pair that has the fewest nodes apart, then the fewest bytes. Each step
//! brings that pair nearer, and while it is the nearest balance leaves it alone; so it stays the
//! nearest, unless another gets nearer yet.
//!
//! Invariant: whether a pair can be brought together does not change on the way. All nodes of both
//! take replicas, so each may be exchanged for each.

use std::collections::BTreeSet;

use pontoon_raft::{NodeId, ReplicaId};

use crate::cluster::{Alteration, RangeReport};
use crate::placement::merge::{Pair, bytes, nodes};
use crate::placement::plan::{Picture, Plan, shared};
use crate::placement::supposed::{member, moved, stays, without};
use crate::placement::wish;

const WHY: &str = "two small ranges are to be on the same nodes, to become one";

/// A range on its way to the nodes of its neighbour.
pub(super) struct Approach {
    /// The range that moves.
    range: u64,
    /// Its neighbour.
    other: u64,
    /// The next exchange: from where, and to where.
    way: (NodeId, NodeId),
}

impl Approach {
    /// Whether it is about a range; balance leaves that alone.
    pub(super) fn is_of(&self, range: &RangeReport) -> bool {
        [self.range, self.other].contains(&range.descriptor.range)
    }

    /// Whether it is about a range that has a new member already.
    pub(super) fn is_under_way(&self, range: &RangeReport) -> bool {
        self.range == range.descriptor.range && !range.membership.learners().is_empty()
    }

    /// What is to be done next with the range that moves.
    pub(super) fn step(
        &self,
        plan: &Plan<'_>,
        range: &RangeReport,
    ) -> Option<(Alteration, &'static str)> {
        wish::toward(plan, range, self.way).map(|what| (what, WHY))
    }

    /// The range that moves, when nothing is the matter with either.
    pub(super) fn ready<'r>(&self, rest: &[&'r RangeReport]) -> Option<&'r RangeReport> {
        let find = |number| rest.iter().find(|range| range.descriptor.range == number);
        find(self.other)?;
        find(self.range).copied()
    }
}

/// The pair that is nearest to being on the same nodes, if there is one that can be.
pub(super) fn next(plan: &Plan<'_>, picture: &Picture, pairs: &[Pair<'_>]) -> Option<Approach> {
    let mut apart: Vec<_> = pairs
        .iter()
        .filter(|(left, right)| left.bytes > 0 && right.bytes > 0)
        .map(|pair| (distance(pair), bytes(pair), pair))
        .filter(|(distance, ..)| *distance > 0)
        .collect();
    apart.sort_by_key(|(distance, bytes, (left, _))| (*distance, *bytes, left.descriptor.range));
    let mut found = apart
        .into_iter()
        .filter_map(|(.., pair)| approach(plan, picture, *pair));
    found.next()
}

/// How many nodes hold only one of the two.
fn distance((left, right): &Pair<'_>) -> usize {
    nodes(left).symmetric_difference(&nodes(right)).count()
}

fn approach(plan: &Plan<'_>, picture: &Picture, (left, right): Pair<'_>) -> Option<Approach> {
    let numbers = [left, right].map(|range| range.descriptor.range);
    let all: BTreeSet<NodeId> = nodes(left).union(&nodes(right)).copied().collect();
    let takes = |node: &NodeId| plan.spots.get(node).is_some_and(|spot| spot.takes);
    let alike = votes(left) == votes(right);
    if !alike || !all.iter().all(takes) || numbers.iter().any(|of| picture.held.contains(of)) {
        return None;
    }
    let (moves, other) = direction(plan, (left, right))?;
    let way = way(plan, moves, other)?;
    let quiet =
        |range: &RangeReport| range.settled && !picture.changing.contains(&range.descriptor.range);
    // What is being changed is seen half-way, and looked at again.
    (!quiet(moves) || !quiet(other) || lasts(plan, (moves, other), way)).then_some(Approach {
        range: moves.descriptor.range,
        other: other.descriptor.range,
        way,
    })
}

/// How many voters a range has, or is about to have.
fn votes(range: &RangeReport) -> usize {
    range.membership.configs.last().map_or(0, BTreeSet::len)
}

/// Which of the two moves: the one that has begun to; the one whose replicas are nearer to each other,
/// since those of the new range should be as far apart as they can be; the smaller one.
fn direction<'r>(plan: &Plan<'_>, (left, right): Pair<'r>) -> Option<Pair<'r>> {
    let key = |range: &RangeReport| {
        let (near, number) = (nearness(plan, range), range.descriptor.range);
        (usize::MAX - near, range.bytes, number)
    };
    let comes = |range: &RangeReport, other: &RangeReport| {
        let learners = range.membership.learners();
        let node = |learner| range.membership.members.get(learner);
        let mut places = learners.iter().filter_map(node);
        learners.len() == 1 && places.all(|place| nodes(other).contains(&place.node))
    };
    let is_complete = |range: &RangeReport| range.membership.learners().is_empty();
    match (is_complete(left), is_complete(right)) {
        (true, true) if key(left) <= key(right) => Some((left, right)),
        (true, true) => Some((right, left)),
        (false, true) => comes(left, right).then_some((left, right)),
        (true, false) => comes(right, left).then_some((right, left)),
        (false, false) => None,
    }
}

/// In how many places the voters of a range are together.
fn nearness(plan: &Plan<'_>, range: &RangeReport) -> usize {
    let voters: Vec<ReplicaId> = range.membership.voters().into_iter().collect();
    let spots: Vec<_> = voters
        .iter()
        .filter_map(|of| plan.spot(range, *of))
        .collect();
    let pairs = spots.iter().enumerate().flat_map(|(n, one)| {
        let others = spots.iter().skip(n + 1);
        others.map(move |other| shared(one.status, other.status))
    });
    pairs.sum()
}

/// The next exchange of a range that moves: away from the node with the most replicas, to where a
/// learner is already, or to where it should be led, or to the node with the fewest.
fn way(plan: &Plan<'_>, moves: &RangeReport, other: &RangeReport) -> Option<(NodeId, NodeId)> {
    let (here, there) = (nodes(moves), nodes(other));
    let count = |node: &NodeId| plan.spots.get(node).map_or(0, |spot| spot.replicas);
    let rule = plan.rule(moves);
    let prefers = |node: &NodeId| {
        let spot = plan.spots.get(node);
        spot.is_some_and(|spot| rule.is_none_or(|rule| rule.prefers(&spot.status.row)))
    };
    let from = here.difference(&there).copied();
    let from = from.max_by_key(|node| (count(node), *node))?;
    let learners = moves.membership.learners();
    let comes = learners
        .iter()
        .filter_map(|of| moves.membership.members.get(of));
    let to = comes.map(|place| place.node).next().or_else(|| {
        let to = there.difference(&here).copied();
        to.min_by_key(|node| (!prefers(node), count(node), *node))
    })?;
    Some((from, to))
}

/// Whether nothing is the matter with the two, and would be after the exchange.
fn lasts(plan: &Plan<'_>, (moves, other): Pair<'_>, (from, to): (NodeId, NodeId)) -> bool {
    let before = without(moves, member(moves, to));
    let Some(old) = member(&before, from) else {
        return false;
    };
    let after = moved(&before, old, to);
    stays(plan, before) && stays(plan, after) && stays(plan, other.clone())
}

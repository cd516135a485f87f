//! Load as a reason to move leaders and replicas.
//!
//! The load of a node is the requests a second to the ranges that it leads. A leader moves to a member
//! on a node that is used much less. Where no member is, a replica moves to such a node first; when it
//! votes, the leader follows it like any other. So a replica is moved only where the leader would
//! follow.
//!
//! Invariant: numbers of replicas end as equal as they were, and numbers of leaders within
//! [`LEADERS_APART`]. Where what moves would make them less so, something that is used less goes the
//! other way. Therefore it comes to an end: each step makes the loads more alike by a part of their
//! difference, and [`super::balance`] takes none of them back. What is measured varies; so only much
//! counts, and to copy a replica takes a better reason than to change a leader.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use pontoon_raft::{NodeId, ReplicaId};

use crate::cluster::{Alteration, RangeReport};
use crate::placement::balance::{BALANCING_MAX, LEADERS_APART};
use crate::placement::plan::{Picture, Plan, Planned, SYSTEM_RANGE, Spot};
use crate::placement::supposed::{joined, moved, stays, voter};

/// Leaders are not moved for fewer requests a second.
const LOAD_MIN: u64 = 1_000;
/// Moves of replicas that are thought through in one round, the best first.
const TRIED_MAX: usize = 64;

const LEADS: &str = "nodes are used unequally";
const COMES: &str = "nodes are used unequally, and one that is used less shall lead it";
const GOES: &str = "it makes room on a node that is used less and shall lead another range";

/// What a node leads: how many ranges, and the requests a second to all of them.
#[derive(Clone, Copy)]
struct Load {
    ranges: usize,
    requests: u64,
}

impl Load {
    fn of(spot: &Spot<'_>) -> Self {
        Self {
            ranges: spot.leaders,
            requests: spot.requests,
        }
    }

    /// By how many requests a second it is used more than another node, if that is much.
    fn more(self, other: u64) -> Option<u64> {
        let more = self.requests.checked_sub(other)?;
        (more > LOAD_MIN && more > self.requests / 3).then_some(more)
    }

    /// Half of what is asked of one of its ranges on average: less does not count, unless it is a
    /// good part of a difference. Of many small ranges none is that.
    fn little(self) -> u64 {
        self.requests / (self.ranges.max(1) as u64) / 2
    }

    /// Whether to have `moves` requests a second go to another node makes the two more alike by
    /// much: what moves back would have to be another thing than what is measured wrong.
    fn evens(self, other: u64, moves: u64) -> bool {
        self.more(other)
            .is_some_and(|more| moves > (more / 10).min(self.little()) && moves < more / 3 * 2)
    }

    /// [`Self::evens`], and so much that it is worth a copy of the range.
    fn is_worth_a_copy(self, other: u64, moves: u64) -> bool {
        self.more(other).is_some_and(|more| {
            let much = more > LOAD_MIN * 2 && more > self.requests / 2;
            much && moves > (more / 5).min(self.little()) && moves < more / 5 * 3
        })
    }
}

/// A leader that should change; and one that changes the other way, where that is needed.
type Relief<'r> = (ReplicaId, Option<(&'r RangeReport, ReplicaId)>);

impl<'a> Plan<'a> {
    /// Leaders that move to nodes that are used much less, of ranges in the order of their load.
    pub(super) fn spread_leaders<'r>(&mut self, calm: &[&'r RangeReport]) -> Vec<Planned<'r>> {
        let mut left = calm.to_vec();
        let mut planned: Vec<Planned<'r>> = Vec::new();
        let mut moves = 0;
        for range in calm {
            if moves >= BALANCING_MAX {
                break;
            }
            let number = range.descriptor.range;
            if planned.iter().any(|(of, ..)| of.descriptor.range == number) {
                continue;
            }
            let Some((to, back)) = self.relief(range, &left) else {
                continue;
            };
            let both = [Some((*range, to)), back];
            for (range, to) in both.into_iter().flatten() {
                left.retain(|of| of.descriptor.range != range.descriptor.range);
                let what = Alteration::Lead(to);
                self.note(&what, range);
                planned.push((range, what, LEADS));
            }
            moves += 1;
        }
        planned
    }

    /// The member that should lead a range because its node is used least, if one should.
    fn relief<'r>(&self, range: &RangeReport, calm: &[&'r RangeReport]) -> Option<Relief<'r>> {
        if range.descriptor.range == SYSTEM_RANGE || !range.membership.learners().is_empty() {
            return None;
        }
        let leader = self.spots.get(&range.leader.place.node)?;
        let others = self.successors(range, &self.equals(range)).into_iter();
        let mut others: Vec<(ReplicaId, &Spot<'_>)> = others
            .filter_map(|to| Some((to, self.spot(range, to)?)))
            .collect();
        others.sort_by_key(|(to, spot)| (spot.requests, *to));
        let mut reliefs = others
            .into_iter()
            .filter_map(|(to, spot)| Some((to, self.in_return(range, leader, spot, calm)?)));
        reliefs.next()
    }

    /// What another node would lead no more if it led this range: nothing (`Some(None)`) where it
    /// leads less than the leader. `None`: to lead it would not make the two more alike.
    fn in_return<'r>(
        &self,
        range: &RangeReport,
        leader: &Spot<'_>,
        other: &Spot<'_>,
        calm: &[&'r RangeReport],
    ) -> Option<Option<(&'r RangeReport, ReplicaId)>> {
        let even = |moves| Load::of(leader).evens(other.requests, moves);
        if other.leaders < leader.leaders {
            return even(range.requests).then_some(None);
        }
        let back = self.goes_back(range, leader, other, calm);
        if back.is_some() || other.leaders > leader.leaders || !self.stays_even(leader, other) {
            return back.map(Some);
        }
        even(range.requests).then_some(None)
    }

    /// What another node leads that could be led by the leader of a range instead, if both are more
    /// alike then.
    fn goes_back<'r>(
        &self,
        range: &RangeReport,
        leader: &Spot<'_>,
        other: &Spot<'_>,
        calm: &[&'r RangeReport],
    ) -> Option<(&'r RangeReport, ReplicaId)> {
        let node = leader.status.row.place.node;
        let mut led = calm.iter().filter(|of| {
            of.leader.place.node == other.status.row.place.node
                && of.descriptor.range != SYSTEM_RANGE
                && of.membership.learners().is_empty()
        });
        let (back, heir) = led.find_map(|of| {
            let heir = voter(of, node)?;
            let heirs = self.successors(of, &self.equals(of));
            heirs.contains(&heir).then_some((*of, heir))
        })?;
        // Two that are used much alike would change places for what is measured wrong.
        let moves = range.requests.saturating_sub(back.requests);
        (moves >= back.requests && Load::of(leader).evens(other.requests, moves))
            .then_some((back, heir))
    }

    /// Whether the numbers of leaders do not differ by more than [`LEADERS_APART`] on any two nodes
    /// when one node leads one range less and another one more.
    fn stays_even(&self, less: &Spot<'_>, more: &Spot<'_>) -> bool {
        let spots = self.spots.values().filter(|spot| spot.leads);
        let counts = || spots.clone().map(|spot| spot.leaders);
        let least = counts()
            .min()
            .unwrap_or(0)
            .min(less.leaders.saturating_sub(1));
        let most = counts().max().unwrap_or(0).max(more.leaders + 1);
        most - least <= LEADERS_APART
    }

    /// A replica that moves to a node that is used much less than the one that leads the range, and
    /// one that makes room for it. Only where nothing of the kind is under way: what moves now is not
    /// led there yet.
    pub(super) fn spread_replicas<'r>(
        &mut self,
        picture: &Picture,
        calm: &[&'r RangeReport],
    ) -> Vec<Planned<'r>> {
        let under_way = under_way(picture);
        let mut best = Vec::new();
        for range in calm.iter().filter(|range| is_copied(range)) {
            let from = range.leader.place.node;
            let Some(leader) = self.spots.get(&from) else {
                continue;
            };
            if under_way.contains(&from) {
                continue;
            }
            for (node, spot) in self.candidates(range) {
                let (most, least) = (leader.requests, spot.requests);
                let worth = Load::of(leader).is_worth_a_copy(least, range.requests);
                if worth && !under_way.contains(node) {
                    let more = most.saturating_sub(least);
                    // By how much it makes the sum of the squares of the loads smaller.
                    let gain = range.requests * (more - range.requests);
                    best.push((Reverse(gain), range.descriptor.range, *node, *range));
                }
            }
        }
        best.sort_by_key(|(gain, number, node, _)| (*gain, *number, *node));
        let tried: Vec<_> = best.into_iter().take(TRIED_MAX).collect();
        for (_, _, node, range) in &tried {
            let planned = self.bring(range, *node, calm);
            if !planned.is_empty() {
                return planned;
            }
        }
        let mut room = tried
            .iter()
            .filter_map(|(_, _, node, range)| self.make_room(range, *node, calm));
        room.next().into_iter().collect()
    }

    /// The steps by which a node gets a replica of a range that it shall lead; none where that would
    /// be undone.
    fn bring<'r>(
        &mut self,
        range: &'r RangeReport,
        node: NodeId,
        calm: &[&'r RangeReport],
    ) -> Vec<Planned<'r>> {
        let Some(leaves) = self.leaves_for(range, node, calm) else {
            return Vec::new();
        };
        let comes = (range, Alteration::Add(node), COMES);
        let (here, there) = (self.count(node), self.count(leaves));
        if here < there {
            return vec![comes];
        }
        // It has as many replicas as the other. Something goes there in return, unless numbers would
        // be too unequal while both are under way.
        let takers = self.spots.values().filter(|spot| spot.takes);
        let fewest = takers.map(|spot| spot.replicas).min();
        if fewest.is_none_or(|fewest| here > fewest) {
            return Vec::new();
        }
        self.note(&comes.1, range);
        let mut others = calm.iter().filter(|other| !is_same(other, range));
        if let Some(other) = others.find(|other| self.can_go(other, node, leaves)) {
            return vec![comes, (*other, Alteration::Add(leaves), GOES)];
        }
        if let Some(spot) = self.spots.get_mut(&node) {
            spot.replicas -= 1;
        }
        Vec::new()
    }

    /// A replica that leaves a node so that it has room for one of a range that it shall lead. On its
    /// own that leaves the numbers as they are.
    fn make_room<'r>(
        &mut self,
        range: &RangeReport,
        node: NodeId,
        calm: &[&'r RangeReport],
    ) -> Option<Planned<'r>> {
        self.leaves_for(range, node, calm)?;
        let here = self.count(node);
        for other in calm.iter().filter(|other| !is_same(other, range)) {
            let candidates = self.candidates(other);
            let fewer = candidates.filter(|(_, spot)| spot.replicas < here);
            let fewest = fewer.min_by_key(|(to, spot)| (spot.replicas, **to));
            let Some(to) = fewest.map(|(to, _)| *to) else {
                continue;
            };
            if !self.can_go(other, node, to) {
                continue;
            }
            self.shift(node, to);
            let leaves = self.leaves_for(range, node, calm);
            let has_room = leaves.is_some_and(|leaves| self.count(node) < self.count(leaves));
            self.shift(to, node);
            if has_room {
                return Some((*other, Alteration::Add(to), GOES));
            }
        }
        None
    }

    fn count(&self, node: NodeId) -> usize {
        self.spots.get(&node).map_or(0, |spot| spot.replicas)
    }

    /// Counts a replica elsewhere.
    fn shift(&mut self, from: NodeId, to: NodeId) {
        if let Some(spot) = self.spots.get_mut(&from) {
            spot.replicas = spot.replicas.saturating_sub(1);
        }
        if let Some(spot) = self.spots.get_mut(&to) {
            spot.replicas += 1;
        }
    }

    /// [`Self::leaves`], if the node would lead the range then.
    fn leaves_for(
        &self,
        range: &RangeReport,
        node: NodeId,
        calm: &[&RangeReport],
    ) -> Option<NodeId> {
        let leaves = self.leaves(range, node)?;
        self.would_lead(range, node, leaves, calm).then_some(leaves)
    }

    /// The node that would have no replica of a range any more if another had one; `None`: that
    /// should not be.
    fn leaves(&self, range: &RangeReport, node: NodeId) -> Option<NodeId> {
        let (with, new) = joined(range, node);
        let voters = with.membership.voters();
        let old = self.surplus(&with, &voters, &BTreeSet::from([new]))?;
        let (comes, goes) = (self.spots.get(&node)?, self.spot(range, old)?);
        let after = moved(range, old, node);
        (self.keeps_apart(range, comes.status, goes.status) && stays(self, after))
            .then_some(goes.status.row.place.node)
    }

    /// Whether a node would lead a range if it had a replica in place of the one on `leaves`.
    fn would_lead(
        &self,
        range: &RangeReport,
        node: NodeId,
        leaves: NodeId,
        calm: &[&RangeReport],
    ) -> bool {
        let spots = |node: NodeId| self.spots.get(&node);
        let (Some(leader), Some(comes)) = (spots(range.leader.place.node), spots(node)) else {
            return false;
        };
        let rule = self.rule(range);
        let prefers = |spot: &Spot<'_>| rule.is_none_or(|rule| rule.prefers(&spot.status.row));
        if prefers(leader) && !prefers(comes) {
            return false;
        }
        if leaves != range.leader.place.node {
            return self.in_return(range, leader, comes, calm).is_some();
        }
        // Another leads in between, when the leader leaves.
        let voters = range.membership.voters();
        let heir = self.successor(range, &voters);
        let heir = heir.and_then(|heir| self.spot(range, heir));
        heir.is_some_and(|heir| {
            let meanwhile = Load {
                ranges: heir.leaders + 1,
                requests: heir.requests + range.requests,
            };
            comes.leaders < leader.leaders && meanwhile.evens(comes.requests, range.requests)
        })
    }

    /// Whether a replica that does not lead can go from one node to another.
    fn can_go(&self, range: &RangeReport, from: NodeId, to: NodeId) -> bool {
        let mut free = self.candidates(range);
        is_copied(range)
            // What leads would have to hand that over first.
            && range.leader.place.node != from
            && voter(range, from).is_some()
            && free.any(|(node, _)| *node == to)
            && self.leaves(range, to) == Some(from)
    }
}

fn is_same(one: &RangeReport, other: &RangeReport) -> bool {
    one.descriptor.range == other.descriptor.range
}

/// Whether a range has several replicas that all vote. One that is alone would have to be led by the
/// new one before the old one goes.
fn is_copied(range: &RangeReport) -> bool {
    range.descriptor.range != SYSTEM_RANGE
        && range.membership.learners().is_empty()
        && range.membership.voters().len() > 1
}

/// The nodes of ranges that have a member which does not vote yet, and the leaders of those that are
/// being changed.
fn under_way(picture: &Picture) -> BTreeSet<NodeId> {
    let mut nodes = BTreeSet::new();
    for range in &picture.ranges {
        if !range.membership.learners().is_empty() {
            let places = range.membership.members.values();
            nodes.extend(places.map(|place| place.node));
        }
        if picture.changing.contains(&range.descriptor.range) {
            nodes.insert(range.leader.place.node);
        }
    }
    nodes
}

//! The planner.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use pontoon_raft::{NodeId, ReplicaId};

use crate::cluster::{Alteration, Change, NodeState, NodeStatus, RangeReport, Rules};
use crate::placement::merge::{self, Pair};
use crate::placement::together::{self, Approach};
use crate::placement::wish;

/// A member of so many entries fewer than the leader may vote.
const CAUGHT_UP: u64 = 1_000;
/// A node takes no replicas when less of its file system is free: one part in so many.
const FREE_MIN: u64 = 20;
/// A node that was silent for so long is not to become a leader: it may be dead, though it is not taken
/// for that yet. Nodes report twice a second.
const SILENT: Duration = Duration::from_millis(1_500);
/// The range of the cluster's metadata.
pub(super) const SYSTEM_RANGE: u64 = 1;

/// What the operator wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wishes {
    /// Replicas of a range.
    pub replicas: usize,
    /// Replicas of range 1.
    pub system_replicas: usize,
    /// A node that was silent for so long is replaced.
    pub dead_after: Duration,
    /// Neighbours that have no more bytes together become one range; 0: none do.
    pub merge_bytes: u64,
    /// Only neighbours that have no more requests a second together.
    pub merge_requests: u64,
    /// Only ranges whose bounds have not changed for so long.
    pub merge_after: Duration,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            replicas: 3,
            system_replicas: 5,
            dead_after: Duration::from_secs(60),
            // A quarter of what a range is split at: the two would have to grow fourfold.
            merge_bytes: 32 << 20,
            // Here too a quarter of what a range is split at.
            merge_requests: 2_500,
            merge_after: Duration::from_secs(300),
        }
    }
}

/// What the coordinator sees.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// The nodes, and how long each was silent.
    pub nodes: Vec<(NodeStatus, Duration)>,
    /// The ranges whose leaders were heard of lately.
    pub ranges: Vec<RangeReport>,
    /// Ranges that are being changed.
    pub changing: BTreeSet<u64>,
    /// Members that will never come back.
    pub lost: BTreeSet<(u64, ReplicaId)>,
    /// Keys with which ranges shall begin because somebody wants it.
    pub wanted_splits: BTreeSet<Bytes>,
    /// How long the bounds of ranges have been as they are.
    pub steady: BTreeMap<u64, Duration>,
    /// Replicas that an operator wants elsewhere, by range: from where, and to where.
    pub wanted_moves: BTreeMap<u64, (NodeId, NodeId)>,
    /// Ranges that are where an operator wanted them lately; balance leaves them alone.
    pub held: BTreeSet<u64>,
    /// What somebody wants of some of them.
    pub rules: Rules,
}

/// A change that somebody should make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Who leads the range.
    pub node: NodeId,
    /// What to change.
    pub change: Change,
    /// Why, in words.
    pub why: &'static str,
}

/// What is to be changed about a range, and why.
pub(super) type Planned<'r> = (&'r RangeReport, Alteration, &'static str);

/// A node with what the planner counts of it.
pub(super) struct Spot<'a> {
    pub(super) status: &'a NodeStatus,
    /// It may be given replicas.
    pub(super) takes: bool,
    /// It is to be rid of its replicas.
    bad: bool,
    /// It may lead.
    pub(super) leads: bool,
    /// It was heard of just now.
    heard: bool,
    pub(super) replicas: usize,
    pub(super) leaders: usize,
    /// Requests a second to the ranges that it leads.
    pub(super) requests: u64,
}

/// The state of planning.
pub(super) struct Plan<'a> {
    pub(super) wishes: &'a Wishes,
    pub(super) rules: &'a Rules,
    lost: &'a BTreeSet<(u64, ReplicaId)>,
    pub(super) spots: BTreeMap<NodeId, Spot<'a>>,
}

/// The next steps, the most urgent first.
pub fn plan(picture: &Picture, wishes: &Wishes) -> Vec<Step> {
    let mut plan = Plan::new(picture, wishes);
    let pairs = merge::pairs(&plan, picture);
    let approach = together::next(&plan, picture, &pairs);
    let mut steps = Vec::new();
    // Ranges with which nothing is wrong.
    let mut rest = Vec::new();
    for range in &picture.ranges {
        if picture.changing.contains(&range.descriptor.range) {
            continue;
        }
        if !range.settled {
            steps.extend(half_done(range));
            continue;
        }
        let wanted = picture.wanted_moves.get(&range.descriptor.range);
        match plan.repair(range, wanted, approach.as_ref()) {
            Some((what, why)) => {
                plan.note(&what, range);
                steps.push(step(range, what, why));
            }
            None if wanted.is_some() => {}
            None => rest.push(range),
        }
    }
    let planned = plan.improve(picture, &rest, &pairs, approach.as_ref());
    let planned = planned.into_iter();
    steps.extend(planned.map(|(range, what, why)| step(range, what, why)));
    steps
}

/// The second half of an exchange of members whose leader went away after the first: until then a
/// majority of both the old and the new is needed for everything.
fn half_done(range: &RangeReport) -> Option<Step> {
    let [_, wanted] = range.membership.configs.as_slice() else {
        return None;
    };
    let what = Alteration::Voters(wanted.clone());
    Some(step(
        range,
        what,
        "an exchange of its replicas is half done",
    ))
}

/// Why a range is not as it should be though nothing is planned for it; `None` when it is.
pub fn stuck(picture: &Picture, wishes: &Wishes, range: &RangeReport) -> Option<String> {
    let plan = Plan::new(picture, wishes);
    let members = Members::of(&plan, range);
    let needed = members.needed(&plan, range);
    if needed == 0 {
        return None;
    }
    match plan.candidate(range) {
        Some(_) => None,
        None => {
            let rule = plan.rule(range).and_then(|rule| rule.constraint.as_ref());
            let place = rule.map_or_else(String::new, |place| format!(" of {place}"));
            Some(format!(
                "range {} needs {needed} more replicas, and no other node{place} can hold one",
                range.descriptor.range
            ))
        }
    }
}

fn step(range: &RangeReport, what: Alteration, why: &'static str) -> Step {
    Step {
        node: range.leader.place.node,
        change: Change {
            range: range.descriptor.range,
            membership: range.membership.position,
            what,
        },
        why,
    }
}

/// The members of a range by what becomes of them.
pub(super) struct Members {
    /// Voters that stay.
    pub(super) good: BTreeSet<ReplicaId>,
    /// Voters on nodes that are to be rid of them.
    pub(super) bad: BTreeSet<ReplicaId>,
    /// Members that do not vote yet.
    pub(super) learners: BTreeSet<ReplicaId>,
}

impl Members {
    fn of(plan: &Plan<'_>, range: &RangeReport) -> Self {
        let voters = range.membership.voters();
        let is_bad = |replica: &ReplicaId| plan.is_bad(range, *replica);
        let (bad, good) = voters.into_iter().partition(is_bad);
        Self {
            good,
            bad,
            learners: range.membership.learners(),
        }
    }

    /// How many votes the range should have.
    fn target(&self, plan: &Plan<'_>, range: &RangeReport) -> usize {
        let wanted = plan.wanted(range);
        let takes = |spot: &&Spot<'_>| spot.takes && plan.admits(range, spot.status);
        let takers = plan.spots.values().filter(takes).count();
        let possible = odd(wanted.min(takers));
        // Votes are not given up because nodes are gone.
        let now = self.good.len() + self.bad.len();
        possible.max(odd(now.min(wanted)))
    }

    /// How many votes are missing.
    fn needed(&self, plan: &Plan<'_>, range: &RangeReport) -> usize {
        self.target(plan, range).saturating_sub(self.good.len())
    }
}

/// The largest odd number up to `n`, but at least 1.
fn odd(n: usize) -> usize {
    n.saturating_sub(1 - n % 2).max(1)
}

impl<'a> Plan<'a> {
    pub(super) fn new(picture: &'a Picture, wishes: &'a Wishes) -> Self {
        let spot = |(status, silent): &'a (NodeStatus, Duration)| {
            let dead = *silent >= wishes.dead_after;
            let active = status.row.state == NodeState::Active;
            let usage = &status.usage;
            let full = usage.disk_bytes > 0 && usage.free_bytes < usage.disk_bytes / FREE_MIN;
            let works = status.alive && active && status.row.roles.data && !status.stopping;
            let spot = Spot {
                status,
                takes: works && !full,
                bad: dead || !active || !status.row.roles.data,
                leads: works,
                heard: *silent < SILENT,
                replicas: 0,
                leaders: 0,
                requests: 0,
            };
            (status.row.place.node, spot)
        };
        let mut plan = Self {
            wishes,
            rules: &picture.rules,
            lost: &picture.lost,
            spots: picture.nodes.iter().map(spot).collect(),
        };
        // Range 1 is small, and whoever leads it hands out timestamps: what else it leads is quick.
        let counted = picture.ranges.iter();
        for range in counted.filter(|range| range.descriptor.range != SYSTEM_RANGE) {
            for place in range.membership.members.values() {
                if let Some(spot) = plan.spots.get_mut(&place.node) {
                    spot.replicas += 1;
                }
            }
            if let Some(spot) = plan.spots.get_mut(&range.leader.place.node) {
                spot.leaders += 1;
                spot.requests += range.requests;
            }
        }
        plan
    }

    pub(super) fn spot(&self, range: &RangeReport, replica: ReplicaId) -> Option<&Spot<'a>> {
        let place = range.membership.members.get(&replica)?;
        self.spots.get(&place.node)
    }

    /// Whether a member is to go.
    fn is_bad(&self, range: &RangeReport, replica: ReplicaId) -> bool {
        let lost = self.lost.contains(&(range.descriptor.range, replica));
        let spot = self.spot(range, replica);
        lost || spot.is_none_or(|spot| spot.bad || !self.admits(range, spot.status))
    }

    /// Counts what a step will change.
    pub(super) fn note(&mut self, what: &Alteration, range: &RangeReport) {
        match what {
            Alteration::Add(node) => {
                if let Some(spot) = self.spots.get_mut(node) {
                    spot.replicas += 1;
                }
            }
            Alteration::Lead(to) => {
                if let Some(spot) = self.spots.get_mut(&range.leader.place.node) {
                    spot.leaders = spot.leaders.saturating_sub(1);
                    spot.requests = spot.requests.saturating_sub(range.requests);
                }
                let place = range.membership.members.get(to);
                if let Some(spot) = place.and_then(|place| self.spots.get_mut(&place.node)) {
                    spot.leaders += 1;
                    spot.requests += range.requests;
                }
            }
            Alteration::Voters(voters) => {
                for (member, place) in &range.membership.members {
                    if let Some(spot) = self.spots.get_mut(&place.node)
                        && !voters.contains(member)
                    {
                        spot.replicas = spot.replicas.saturating_sub(1);
                    }
                }
            }
            Alteration::Remove(_) | Alteration::Absorb(_) | Alteration::Split(_) => {}
        }
    }

    /// What should be changed next about a range, whatever the others are like.
    fn repair(
        &self,
        range: &RangeReport,
        wanted: Option<&(NodeId, NodeId)>,
        approach: Option<&Approach>,
    ) -> Option<(Alteration, &'static str)> {
        let part = self.part(range).map(Alteration::Split);
        let part = part.map(|what| (what, "a placement rule holds for a part of it"));
        part.or_else(|| match wanted {
            Some(wanted) => wish::next(self, range, *wanted),
            None => match approach.filter(|approach| approach.is_under_way(range)) {
                Some(approach) => approach.step(self, range),
                None => self.mend(range),
            },
        })
    }

    /// What should be changed about ranges with which nothing is wrong; a little at a time.
    fn improve<'r>(
        &mut self,
        picture: &Picture,
        rest: &[&'r RangeReport],
        pairs: &[Pair<'r>],
        approach: Option<&Approach>,
    ) -> Vec<Planned<'r>> {
        let merge = merge::next(pairs, rest);
        let stays = |range: &RangeReport| {
            let number = range.descriptor.range;
            let merges = merge.is_some_and(|(left, right)| {
                [left, right].iter().any(|of| of.descriptor.range == number)
            });
            let comes = approach.is_some_and(|approach| approach.is_of(range));
            picture.held.contains(&number) || merges || comes
        };
        let calm = rest.iter().filter(|range| !stays(range)).copied();
        let mut calm: Vec<&RangeReport> = calm.collect();
        // What is used least first, as others wait for a leader that changes.
        calm.sort_by_key(|range| range.requests);
        let mut planned = self.balance(&calm);
        if planned.is_empty() {
            planned = self.spread_leaders(&calm);
        }
        if planned.is_empty() {
            planned = self.spread_replicas(picture, &calm);
        }
        if !planned.is_empty() {
            return planned;
        }
        if let Some((left, right)) = merge {
            let what = Alteration::Absorb(right.descriptor.range);
            return vec![(left, what, "two small ranges are to be one")];
        }
        let step = approach.and_then(|approach| {
            let range = approach.ready(rest)?;
            let (what, why) = approach.step(self, range)?;
            Some((range, what, why))
        });
        step.into_iter().collect()
    }

    /// What is wrong with a range, and should be changed next.
    pub(super) fn mend(&self, range: &RangeReport) -> Option<(Alteration, &'static str)> {
        let members = Members::of(self, range);
        let leaves = self.spots.get(&range.leader.place.node);
        if leaves.is_some_and(|spot| !spot.leads || !self.admits(range, spot.status))
            && let Some(to) = self.successor(range, &members.good)
        {
            return Some((Alteration::Lead(to), "its leader's node is not to lead it"));
        }
        if let Some(to) = self.better_leader(range, &members) {
            return Some((
                Alteration::Lead(to),
                "its placement rule prefers that leader",
            ));
        }
        let lost = |learner: &&ReplicaId| {
            let spot = self.spot(range, **learner);
            self.is_bad(range, **learner) || spot.is_none_or(|spot| !spot.status.alive)
        };
        if let Some(learner) = members.learners.iter().find(lost) {
            return Some((
                Alteration::Remove(*learner),
                "the node of a learner is gone, or is to have none",
            ));
        }
        let target = members.target(self, range);
        let needed = target.saturating_sub(members.good.len());
        let seats = usize::from(self.wants_seat(range, &members));
        if members.learners.len() < needed.max(seats)
            && let Some(node) = self.candidate(range)
        {
            let why = if needed == 0 {
                "it has no replica where it should be led"
            } else if members.bad.is_empty() {
                "it has too few replicas"
            } else {
                "a replica is to be replaced"
            };
            return Some((Alteration::Add(node), why));
        }
        self.exchange(range, &members, target)
    }

    /// Who should lead instead of the leader: whoever leads least, where it should be led.
    pub(super) fn successor(
        &self,
        range: &RangeReport,
        among: &BTreeSet<ReplicaId>,
    ) -> Option<ReplicaId> {
        let successors = self.successors(range, among).into_iter();
        successors.min_by_key(|replica| {
            let spot = self.spot(range, *replica);
            let leaders = spot.map_or(usize::MAX, |spot| spot.leaders);
            (self.rank(range, *replica), leaders, *replica)
        })
    }

    /// Who could lead instead of the leader.
    pub(super) fn successors(
        &self,
        range: &RangeReport,
        among: &BTreeSet<ReplicaId>,
    ) -> Vec<ReplicaId> {
        among
            .iter()
            .filter(|replica| **replica != range.leader.replica)
            .filter(|replica| {
                let spot = self.spot(range, **replica);
                spot.is_some_and(|spot| spot.leads && spot.heard)
            })
            .filter(|replica| has_caught_up(range, **replica))
            .copied()
            .collect()
    }

    /// Who should get a replica of a range: who could lead it, if nobody can; as far from the others
    /// as possible; then whoever has the fewest.
    fn candidate(&self, range: &RangeReport) -> Option<NodeId> {
        let members = range.membership.members.keys();
        let stay = members.filter(|replica| !self.is_bad(range, **replica));
        let stay: Vec<ReplicaId> = stay.copied().collect();
        let others: Vec<&NodeStatus> = stay
            .iter()
            .filter_map(|replica| self.spot(range, *replica))
            .map(|spot| spot.status)
            .collect();
        let rule = self.rule(range).filter(|_| self.unseated(range, &stay));
        self.candidates(range)
            .min_by_key(|(node, spot)| {
                let seat = rule.is_none_or(|rule| rule.prefers(&spot.status.row));
                let near: usize = others.iter().map(|o| shared(spot.status, o)).sum();
                (!seat, near, spot.replicas, **node)
            })
            .map(|(node, _)| *node)
    }

    /// Which vote a range can do without: one near to others, on a node with many replicas; not one
    /// that has just come, nor the only one where the range should be led.
    pub(super) fn surplus(
        &self,
        range: &RangeReport,
        voters: &BTreeSet<ReplicaId>,
        new: &BTreeSet<ReplicaId>,
    ) -> Option<ReplicaId> {
        let near = |replica: ReplicaId| -> usize {
            let Some(spot) = self.spot(range, replica) else {
                return usize::MAX;
            };
            let others = voters.iter().filter(|other| **other != replica);
            let others = others.filter_map(|other| self.spot(range, *other));
            others.map(|other| shared(spot.status, other.status)).sum()
        };
        voters
            .iter()
            .filter(|replica| !new.contains(replica))
            .max_by_key(|replica| {
                let spot = self.spot(range, **replica);
                let bad = self.is_bad(range, **replica);
                let many = spot.map_or(usize::MAX, |spot| spot.replicas);
                let follows = **replica != range.leader.replica;
                let seat = self.is_only_seat(range, voters, **replica);
                (bad, !seat, near(**replica), many, follows, **replica)
            })
            .copied()
    }
}

/// Whether the log of a member is near that of the leader.
pub(crate) fn has_caught_up(range: &RangeReport, replica: ReplicaId) -> bool {
    let behind = range.behind.iter().find(|(member, _)| *member == replica);
    behind.is_some_and(|(_, behind)| behind.is_some_and(|n| n <= CAUGHT_UP))
}

/// How many of the wider places two nodes have in common.
pub(super) fn shared(one: &NodeStatus, other: &NodeStatus) -> usize {
    let pairs = one.row.locality.iter().zip(&other.row.locality);
    pairs.take_while(|(a, b)| a == b).count()
}

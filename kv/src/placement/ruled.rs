//! What rules of placement mean to the planner.

use std::collections::BTreeSet;

use bytes::Bytes;
use pontoon_raft::{NodeId, ReplicaId};

use crate::cluster::{NodeStatus, RangeReport, Rule};
use crate::placement::plan::{Members, Plan, SYSTEM_RANGE, Spot};

impl<'a> Plan<'a> {
    /// The rule for a range.
    pub(super) fn rule(&self, range: &RangeReport) -> Option<&'a Rule> {
        self.rules.of(&range.descriptor.span)
    }

    /// Where a range is to be split, so that each part has one rule. With one node there is nothing
    /// that a rule could change.
    pub(super) fn part(&self, range: &RangeReport) -> Option<Bytes> {
        let takers = self.spots.values().filter(|spot| spot.takes);
        let part = self.rules.part(&range.descriptor.span)?;
        (takers.count() > 1).then(|| part.clone())
    }

    /// How many votes are wanted for a range.
    pub(super) fn wanted(&self, range: &RangeReport) -> usize {
        if range.descriptor.range == SYSTEM_RANGE {
            return self.wishes.system_replicas;
        }
        let own = self.rule(range).and_then(|rule| rule.replicas);
        own.map_or(self.wishes.replicas, usize::from)
    }

    /// Whether a node may hold a replica of a range.
    pub(super) fn admits(&self, range: &RangeReport, node: &NodeStatus) -> bool {
        self.rule(range).is_none_or(|rule| rule.admits(&node.row))
    }

    /// Whether a replica is where its range should be led.
    fn is_preferred(&self, range: &RangeReport, replica: ReplicaId) -> bool {
        let rule = self.rule(range);
        let prefers = |spot: &Spot<'_>| rule.is_none_or(|rule| rule.prefers(&spot.status.row));
        self.spot(range, replica).is_some_and(prefers)
    }

    /// Nodes that could get a replica of a range.
    pub(super) fn candidates<'p>(
        &'p self,
        range: &'p RangeReport,
    ) -> impl Iterator<Item = (&'p NodeId, &'p Spot<'a>)> {
        let members = &range.membership.members;
        self.spots.iter().filter(move |(node, spot)| {
            let held = members.values().any(|place| place.node == **node);
            spot.takes && !held && self.admits(range, spot.status)
        })
    }

    /// Whether none of these replicas is where the range should be led.
    pub(super) fn unseated(&self, range: &RangeReport, replicas: &[ReplicaId]) -> bool {
        let mut replicas = replicas.iter();
        !replicas.any(|replica| self.is_preferred(range, *replica))
    }

    /// Whether a range needs a replica more where it should be led, and can have one.
    pub(super) fn wants_seat(&self, range: &RangeReport, members: &Members) -> bool {
        let Some(rule) = self.rule(range) else {
            return false;
        };
        let stay: Vec<_> = members.good.union(&members.learners).copied().collect();
        let mut candidates = self.candidates(range);
        self.unseated(range, &stay) && candidates.any(|(_, spot)| rule.prefers(&spot.status.row))
    }

    /// Whether a replica is the only one of these where the range should be led.
    pub(super) fn is_only_seat(
        &self,
        range: &RangeReport,
        voters: &BTreeSet<ReplicaId>,
        replica: ReplicaId,
    ) -> bool {
        let others = voters.iter().filter(|other| **other != replica);
        let others: Vec<_> = others.copied().collect();
        let prefers = self.rule(range).is_some_and(|rule| rule.leaders.is_some());
        prefers && self.is_preferred(range, replica) && self.unseated(range, &others)
    }

    /// Who should lead as the leader is not where it should be.
    pub(super) fn better_leader(
        &self,
        range: &RangeReport,
        members: &Members,
    ) -> Option<ReplicaId> {
        self.rule(range)?.leaders.as_ref()?;
        if self.is_preferred(range, range.leader.replica) {
            return None;
        }
        let preferred = |replica: &ReplicaId| self.is_preferred(range, *replica);
        let good = members.good.iter().copied();
        self.successor(range, &good.filter(preferred).collect())
    }

    /// Who may lead for balance: nobody who is in a worse place than the leader.
    pub(super) fn equals(&self, range: &RangeReport) -> BTreeSet<ReplicaId> {
        let mut voters = range.membership.voters();
        if self.is_preferred(range, range.leader.replica) {
            voters.retain(|replica| self.is_preferred(range, *replica));
        }
        voters
    }

    /// For the choice of a leader: those where it should be come first.
    pub(super) fn rank(&self, range: &RangeReport, replica: ReplicaId) -> usize {
        usize::from(!self.is_preferred(range, replica))
    }
}

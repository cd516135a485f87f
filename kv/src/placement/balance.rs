//! Equal numbers of replicas and leaders on the nodes.
//!
//! What is moved for its load ([`super::load`]) leaves these numbers nearly as equal as they were, so
//! that neither takes back what the other does.

use crate::cluster::{Alteration, NodeStatus, RangeReport};
use crate::placement::plan::{Plan, Planned, SYSTEM_RANGE, shared};

/// Replicas and leaders that are moved for balance in one round.
pub(super) const BALANCING_MAX: usize = 2;
/// Numbers of leaders may differ by so much where that makes loads more alike.
pub(super) const LEADERS_APART: usize = 2;

impl Plan<'_> {
    /// Steps that make the numbers of nodes more alike, for ranges in this order.
    pub(super) fn balance<'r>(&mut self, calm: &[&'r RangeReport]) -> Vec<Planned<'r>> {
        let mut planned = Vec::new();
        for range in calm {
            if planned.len() >= BALANCING_MAX {
                break;
            }
            if let Some((what, why)) = self.more_alike(range) {
                self.note(&what, range);
                planned.push((*range, what, why));
            }
        }
        planned
    }

    fn more_alike(&self, range: &RangeReport) -> Option<(Alteration, &'static str)> {
        let system = range.descriptor.range == SYSTEM_RANGE;
        if system || !range.membership.learners().is_empty() {
            return None;
        }
        let voters = range.membership.voters();
        let candidates = self.candidates(range);
        let least = candidates.min_by_key(|(node, spot)| (spot.replicas, **node));
        let full = voters
            .iter()
            .filter(|replica| !self.is_only_seat(range, &voters, **replica))
            .filter_map(|replica| self.spot(range, *replica));
        let most = full.max_by_key(|spot| spot.replicas);
        if let (Some((node, least)), Some(most)) = (least, most)
            && least.replicas + 2 <= most.replicas
            && self.keeps_apart(range, least.status, most.status)
        {
            return Some((
                Alteration::Add(*node),
                "nodes hold unequal numbers of replicas",
            ));
        }
        let leader = self.spots.get(&range.leader.place.node)?;
        let to = self.successor(range, &self.equals(range))?;
        let successor = self.spot(range, to)?;
        let more = leader.leaders.checked_sub(successor.leaders)?;
        // Within what load may do only if the loads are not less alike then.
        let alike = leader.requests.saturating_sub(successor.requests) >= range.requests;
        let uneven =
            more > LEADERS_APART || more == LEADERS_APART && (alike || range.requests == 0);
        uneven.then_some((Alteration::Lead(to), "nodes lead unequal numbers of ranges"))
    }

    /// Whether `new` in place of `old` leaves the replicas as far apart as they are.
    pub(super) fn keeps_apart(
        &self,
        range: &RangeReport,
        new: &NodeStatus,
        old: &NodeStatus,
    ) -> bool {
        let others: Vec<_> = range
            .membership
            .members
            .values()
            .filter(|place| place.node != old.row.place.node)
            .filter_map(|place| self.spots.get(&place.node))
            .collect();
        let near = |node: &NodeStatus| -> usize {
            others.iter().map(|other| shared(node, other.status)).sum()
        };
        near(new) <= near(old)
    }
}

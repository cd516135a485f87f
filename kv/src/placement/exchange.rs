//! Who should vote in a range when its new members have caught up.

use std::collections::BTreeSet;

use pontoon_raft::ReplicaId;

use crate::cluster::{Alteration, RangeReport};
use crate::placement::plan::{Members, Plan, has_caught_up};

impl Plan<'_> {
    /// Makes learners vote, and lets those go who are not to stay or are too many. The leader is
    /// never among them: another leads first.
    pub(super) fn exchange(
        &self,
        range: &RangeReport,
        members: &Members,
        target: usize,
    ) -> Option<(Alteration, &'static str)> {
        let leader = range.leader.replica;
        let ready = |learner: &ReplicaId| has_caught_up(range, *learner);
        if !members.learners.iter().all(ready) {
            return None;
        }
        let mut voters: BTreeSet<ReplicaId> = members.good.clone();
        voters.extend(&members.learners);
        // Those who are to go stay while nobody takes their place; the leader before others.
        let mut bad: Vec<_> = members.bad.iter().copied().collect();
        bad.sort_by_key(|replica| *replica != leader);
        let places = target.saturating_sub(voters.len());
        voters.extend(bad.into_iter().take(places));
        while voters.len() > target {
            match self.surplus(range, &voters, &members.learners) {
                Some(surplus) if surplus == leader => {
                    let mut others = voters.clone();
                    others.remove(&leader);
                    let others: BTreeSet<_> = others.intersection(&members.good).copied().collect();
                    match self.successor(range, &others) {
                        Some(to) => {
                            return Some((Alteration::Lead(to), "its leader is to be replaced"));
                        }
                        // Only new ones are left: they vote first, so that one of them can lead.
                        None if others.is_empty() => break,
                        None => return None,
                    }
                }
                Some(surplus) => voters.remove(&surplus),
                None => return None,
            };
        }
        if !voters.contains(&leader) {
            match self.successor(range, &members.good) {
                Some(to) => return Some((Alteration::Lead(to), "its leader is to be replaced")),
                // Who could lead instead must vote first.
                None if members.good.is_empty() => voters.insert(leader),
                None => return None,
            };
        }
        (voters != range.membership.voters())
            .then_some((Alteration::Voters(voters), "its replicas are ready"))
    }
}

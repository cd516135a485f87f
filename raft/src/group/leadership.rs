//! Whether this replica may serve reads now: the check on the hot path.
//!
//! [`LeaderCell`] is written by the log adapter (votes and memberships pass through it before
//! anything they allow can happen) and by the state machine adapter, and read by
//! [`super::Group::leadership`] without a lock.
//!
//! Why it is safe to read from a replica for which the cell says yes:
//! * `led_term` is T: a majority granted this replica the term T, and it has not since voted for
//!   anybody else (the cell is cleared before such a vote is on disk, and the vote is answered
//!   after that).
//! * The newest applied entry is of term T: so everything committed before T began is applied.
//!   What this leader has acknowledged since is applied too, for it acknowledges after applying,
//!   save what was asked for by [`super::Group::propose_unapplied`].
//! * Nobody else can have been elected since: either this replica is the only voter, and nobody
//!   else can be without an entry in this replica's log; or a majority has answered a message
//!   sent less than a lease ago, and refuses to vote for others until the lease is over (a
//!   restarted replica refuses for a whole lease). A transfer of leadership breaks that promise
//!   on purpose, so it clears the cell first.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::ids::ReplicaId;
use crate::membership::Membership;
use crate::transport::Vote;

/// Proof that this replica led `term` at a moment within the call that returned it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Leadership {
    /// The term. It names one leadership: no two replicas ever lead the same term.
    pub term: u64,
}

/// What the check needs to know.
#[derive(Debug)]
pub(crate) struct LeaderCell {
    replica: ReplicaId,
    /// The term this replica was elected in; 0 when it does not lead.
    led_term: AtomicU64,
    /// The term of the last applied entry.
    applied_term: AtomicU64,
    /// The index of the last applied entry.
    applied_index: AtomicU64,
    sole_voter: AtomicBool,
    /// A transfer has begun in the led term, or this replica is being removed.
    leaving: AtomicBool,
    /// The newest membership entry in the log, applied or not: only it may make this replica the
    /// sole voter.
    newest_membership: Mutex<u64>,
}

/// What the cell says about leadership, before the lease is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CellView {
    /// Not the leader, or not yet ready, or leaving.
    No,
    /// Leader of the term, the only voter: no lease needed.
    Sole(u64),
    /// Leader of the term, if its lease holds.
    Leased(u64),
}

impl LeaderCell {
    pub(crate) fn new(replica: ReplicaId) -> Self {
        Self {
            replica,
            led_term: AtomicU64::new(0),
            applied_term: AtomicU64::new(0),
            applied_index: AtomicU64::new(0),
            sole_voter: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            newest_membership: Mutex::new(0),
        }
    }

    pub(crate) fn view(&self) -> CellView {
        let term = self.led_term.load(Ordering::Acquire);
        if term == 0
            || self.applied_term.load(Ordering::Acquire) != term
            || self.leaving.load(Ordering::Acquire)
        {
            return CellView::No;
        }
        if self.sole_voter.load(Ordering::Acquire) {
            CellView::Sole(term)
        } else {
            CellView::Leased(term)
        }
    }

    /// The term this replica leads, whether it is ready or not; 0 when it does not lead.
    pub(crate) fn led_term(&self) -> u64 {
        self.led_term.load(Ordering::Acquire)
    }

    pub(crate) fn applied_index(&self) -> u64 {
        self.applied_index.load(Ordering::Acquire)
    }

    /// A vote is about to be stored; whether a leadership begins with it here. Invariant: called
    /// before the vote can be on disk.
    pub(crate) fn on_vote(&self, vote: &Vote) -> bool {
        let led = vote.committed && vote.candidate == self.replica;
        let term = if led { vote.term } else { 0 };
        let is_new = self.led_term.swap(term, Ordering::AcqRel) != term;
        if is_new {
            self.leaving.store(false, Ordering::Release);
        }
        led && is_new
    }

    /// A membership entry is about to be appended.
    pub(crate) fn on_membership_appended(&self, index: u64, membership: &Membership) {
        let mut newest = self.newest_membership.lock();
        *newest = index;
        if !membership.sole_voter_is(self.replica) {
            self.sole_voter.store(false, Ordering::Release);
        }
        if !membership.voters().contains(&self.replica) {
            self.leaving.store(true, Ordering::Release);
        }
    }

    /// A membership has been applied, or was found when the replica was opened.
    pub(crate) fn on_membership_applied(&self, membership: &Membership) {
        let index = membership.position.map_or(0, |position| position.index);
        let newest = self.newest_membership.lock();
        if index >= *newest {
            self.sole_voter
                .store(membership.sole_voter_is(self.replica), Ordering::Release);
        }
    }

    /// Entries have been applied and can be read.
    pub(crate) fn on_applied(&self, term: u64, index: u64) {
        self.applied_index.store(index, Ordering::Release);
        self.applied_term.store(term, Ordering::Release);
    }

    /// Leadership is about to be handed over.
    pub(crate) fn on_transfer(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// The replica has stopped; what it knew is worth nothing when it is opened again.
    pub(crate) fn reset(&self) {
        self.led_term.store(0, Ordering::Release);
        self.applied_term.store(0, Ordering::Release);
        self.sole_voter.store(false, Ordering::Release);
        self.leaving.store(false, Ordering::Release);
        *self.newest_membership.lock() = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::ids::LogPosition;
    use crate::membership::Place;

    const ME: ReplicaId = ReplicaId(1);

    fn vote(term: u64, candidate: u64, committed: bool) -> Vote {
        Vote {
            term,
            candidate: ReplicaId(candidate),
            committed,
        }
    }

    fn membership(index: u64, voters: &[u64]) -> Membership {
        let voters: BTreeSet<_> = voters.iter().map(|id| ReplicaId(*id)).collect();
        Membership {
            position: Some(LogPosition { term: 1, index }),
            members: voters
                .iter()
                .map(|id| (*id, Place::default()))
                .collect::<BTreeMap<_, _>>(),
            configs: vec![voters],
        }
    }

    #[test]
    fn a_leader_is_ready_once_its_own_term_is_applied() {
        let cell = LeaderCell::new(ME);
        cell.on_membership_applied(&membership(1, &[1]));
        cell.on_applied(1, 9);
        cell.on_vote(&vote(2, 1, false));
        assert_eq!(cell.view(), CellView::No);
        cell.on_vote(&vote(2, 1, true));
        assert_eq!(cell.view(), CellView::No, "its own term is not applied yet");
        cell.on_applied(2, 10);
        assert_eq!(cell.view(), CellView::Sole(2));
        cell.on_vote(&vote(3, 2, false));
        assert_eq!(cell.view(), CellView::No);
    }

    #[test]
    fn a_second_voter_counts_from_the_append() {
        let cell = LeaderCell::new(ME);
        cell.on_vote(&vote(1, 1, true));
        cell.on_applied(1, 2);
        cell.on_membership_appended(1, &membership(1, &[1]));
        cell.on_membership_appended(3, &membership(3, &[1, 2]));
        cell.on_membership_applied(&membership(1, &[1]));
        assert_eq!(
            cell.view(),
            CellView::Leased(1),
            "an older membership must not win"
        );
        cell.on_membership_applied(&membership(3, &[1, 2]));
        assert_eq!(cell.view(), CellView::Leased(1));
    }

    #[test]
    fn a_leaving_leader_serves_no_reads() {
        let cell = LeaderCell::new(ME);
        cell.on_vote(&vote(1, 1, true));
        cell.on_applied(1, 2);
        cell.on_transfer();
        assert_eq!(cell.view(), CellView::No);
        cell.on_vote(&vote(2, 1, true));
        cell.on_applied(2, 3);
        assert_eq!(cell.view(), CellView::Leased(2), "elected again");
        cell.on_membership_appended(4, &membership(4, &[2]));
        assert_eq!(cell.view(), CellView::No, "removed");
    }
}

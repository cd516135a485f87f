//! [`Core`]: a replica that runs under openraft, and what is asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{
    ChangeMembershipError, ClientWriteError, Fatal, ForwardReason, ForwardToLeader,
    InitializeError, LinearizableReadError, RaftError,
};
use openraft::raft::Precondition;
use openraft::{ChangeMembers, ReadPolicy, ServerState};
use parking_lot::Mutex;

use super::applier::Applier;
use super::convert;
use super::handle::{Committed, GroupInner, GroupStatus, MemberChange, Proposed};
use super::leadership::{CellView, Leadership};
use super::proposal::{News, Proposal, ProposalResponder, Proposer};
use super::quiesce::Quiescence;
use super::types::{Command, Instant, LogId, MetricsWatch, Raft, Types};
use crate::error::{BarrierError, MembershipError, ProposeError};
use crate::ids::{LogPosition, ReplicaId};
use crate::log_store::GroupLog;
use crate::membership::Peer;
use crate::snapshot::Staging;

/// How often a call that met an expired lease tries again after a round to a majority.
const LEASE_RETRIES: usize = 2;

/// A running openraft core and what belongs to its life.
pub(crate) struct Core {
    pub(crate) raft: Raft,
    pub(crate) metrics: MetricsWatch,
    pub(crate) log: Arc<dyn GroupLog>,
    pub(crate) applier: Applier,
    pub(crate) staging: Mutex<Staging>,
    /// Until then no votes are granted to others and none is asked for.
    pub(crate) vote_guard: Option<Instant>,
    pub(crate) quiescence: Quiescence,
    /// When a leader was heard last, or when this began to run.
    pub(crate) heard: Mutex<Instant>,
}

impl Core {
    pub(crate) fn vote_guard_holds(&self) -> bool {
        self.vote_guard.is_some_and(|until| Instant::now() < until)
    }

    /// A leader has been heard.
    pub(super) fn note_leader(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// Whether a leader was heard less than that ago.
    pub(super) fn has_heard_within(&self, time: Duration) -> bool {
        Instant::now() < *self.heard.lock() + time
    }

    pub(super) async fn initialize(&self, members: &[Peer]) -> Result<(), MembershipError> {
        let nodes: BTreeMap<u64, _> = members
            .iter()
            .map(|peer| (peer.replica.0, peer.place))
            .collect();
        let initialized = self.raft.initialize(nodes).await;
        initialized.map_err(|error| match error {
            RaftError::APIError(InitializeError::NotAllowed(_)) => MembershipError::founded(),
            RaftError::APIError(InitializeError::NotInMembers(_)) => MembershipError::Refused {
                reason: "this replica is not among them".to_owned(),
            },
            RaftError::Fatal(_) => MembershipError::Stopped,
        })
    }

    /// Proposes a command whose commitment is enough in the term `enough_in`; 0 for none.
    pub(super) async fn submit(
        &self,
        group: &GroupInner,
        command: Bytes,
        enough_in: u64,
    ) -> Result<Committed, ProposeError> {
        for _ in 0..=LEASE_RETRIES {
            let proposal = Proposal::new(enough_in);
            let proposer = Proposer::new(&proposal);
            let write = self
                .raft
                .write(Command(command.clone()))
                .responder(ProposalResponder::new(&proposal));
            write.await.map_err(|_| ProposeError::Stopped)?;
            let outcome = match proposer.news().await {
                News::Committed => return Ok(Committed::Unapplied),
                News::Answered(outcome) => outcome,
                News::Dropped => return Err(ProposeError::Ambiguous { hint: None }),
            };
            match outcome {
                Ok(done) => {
                    let position = convert::position(&done.log_id);
                    return Ok(Committed::Applied(Proposed {
                        position,
                        reply: done.data.0,
                    }));
                }
                Err(ClientWriteError::LogEntryDiscarded(forward)) => {
                    return Err(ProposeError::Ambiguous {
                        hint: hint(&forward),
                    });
                }
                Err(ClientWriteError::ForwardToLeader(forward)) => {
                    if forward.reason != ForwardReason::LeaseExpired
                        || self.confirm(group).await.is_err()
                    {
                        return Err(ProposeError::NotLeader {
                            hint: hint(&forward),
                        });
                    }
                }
                Err(_) => return Err(ProposeError::NotLeader { hint: None }),
            }
        }
        Err(ProposeError::NotLeader { hint: None })
    }

    /// Whether a majority has answered this leader of `term` less than a lease ago.
    pub(super) fn holds_lease(&self, group: &GroupInner, term: u64) -> bool {
        let lease = group.wiring.config.timing.lease();
        let metrics = self.metrics.borrow_watched();
        metrics.last_quorum_acked.is_some_and(|acked| {
            metrics.current_term == term
                && metrics.state == ServerState::Leader
                && Instant::now() < acked.into_inner() + lease
        })
    }

    /// A round to a majority that proves leadership at a moment within this call.
    pub(super) async fn confirm(&self, group: &GroupInner) -> Result<Leadership, BarrierError> {
        let timeout = group.wiring.config.timing.lease();
        for _ in 0..=LEASE_RETRIES {
            let term = group.cell.led_term();
            if term == 0 {
                return Err(BarrierError::NotLeader {
                    hint: self.leader_hint(),
                });
            }
            let linearizer = match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
                Ok(linearizer) => linearizer,
                Err(RaftError::Fatal(_)) => return Err(BarrierError::Stopped),
                Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                    return Err(BarrierError::NoQuorum);
                }
                Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                    if forward.reason == ForwardReason::LeaseExpired {
                        continue;
                    }
                    return Err(BarrierError::NotLeader {
                        hint: hint(&forward),
                    });
                }
            };
            match linearizer.try_await_ready(&self.raft, Some(timeout)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(BarrierError::NoQuorum),
                Err(_) => return Err(BarrierError::Stopped),
            }
            let same = match group.cell.view() {
                CellView::Sole(now) | CellView::Leased(now) => now == term,
                CellView::No => false,
            };
            if same {
                return Ok(Leadership { term });
            }
        }
        Err(BarrierError::NotLeader {
            hint: self.leader_hint(),
        })
    }

    pub(super) fn term(&self) -> u64 {
        self.metrics.borrow_watched().current_term
    }

    pub(super) fn leader_hint(&self) -> Option<Peer> {
        let metrics = self.metrics.borrow_watched();
        let leader = metrics.current_leader?;
        let place = *metrics.membership_config.get_node(&leader)?;
        Some(Peer {
            replica: ReplicaId(leader),
            place,
        })
    }

    /// Waits until `is_so`, which is looked at whenever openraft tells of something; false when it
    /// stops before.
    pub(super) async fn wait(&self, is_so: impl Fn() -> bool) -> bool {
        let mut metrics = self.metrics.clone();
        loop {
            if is_so() {
                return true;
            }
            if metrics.changed().await.is_err() {
                return false;
            }
        }
    }

    pub(super) async fn change_members(
        &self,
        change: MemberChange,
        only_if: Option<LogPosition>,
    ) -> Result<(), MembershipError> {
        let ids = |replicas: BTreeSet<ReplicaId>| replicas.into_iter().map(|r| r.0).collect();
        let (change, retain) = match change {
            MemberChange::AddLearner(peer) => {
                let node = BTreeMap::from([(peer.replica.0, peer.place)]);
                (ChangeMembers::AddNodes(node), true)
            }
            MemberChange::Voters(voters) => (ChangeMembers::ReplaceAllVoters(ids(voters)), false),
            MemberChange::RemoveLearners(gone) => (ChangeMembers::RemoveNodes(ids(gone)), false),
        };
        let conditions = only_if.map(|position| Precondition::LastMembershipLogId {
            last_membership_log_id: Some(convert::log_id(position)),
        });
        let changed = self.raft.change_membership_if(change, retain, conditions);
        changed.await.map(|_| ()).map_err(membership_error)
    }

    fn voter(&self, replica: ReplicaId) -> Option<Peer> {
        let metrics = self.metrics.borrow_watched();
        let members = &metrics.membership_config;
        let votes = members.voter_ids().any(|id| id == replica.0);
        let place = *members.get_node(&replica.0).filter(|_| votes)?;
        Some(Peer { replica, place })
    }

    pub(super) async fn transfer_leader(
        &self,
        group: &GroupInner,
        to: ReplicaId,
    ) -> Result<(), MembershipError> {
        let successor = self.voter(to).ok_or(MembershipError::no_voter(to))?;
        // From the transfer on nobody leads until the successor does, so it has to be there.
        if !group.answers(successor).await {
            return Err(MembershipError::no_answer(to));
        }
        let term = group.cell.led_term();
        if term == 0 {
            return Err(MembershipError::NotLeader {
                hint: self.leader_hint(),
            });
        }
        let mut metrics = self.metrics.clone();
        group.cell.on_transfer();
        self.raft
            .trigger()
            .transfer_leader(to.0)
            .await
            .map_err(|_| MembershipError::Stopped)?;
        let moved = async {
            loop {
                let done = {
                    let metrics = metrics.borrow_and_update();
                    metrics.current_term > term && metrics.current_leader.is_some()
                };
                if done {
                    return Ok(());
                }
                metrics
                    .changed()
                    .await
                    .map_err(|_| MembershipError::Stopped)?;
            }
        };
        let patience = group.wiring.config.timing.lease() * 2;
        tokio::time::timeout(patience, moved)
            .await
            .unwrap_or(Err(MembershipError::Ambiguous))
    }

    pub(super) fn status(&self) -> GroupStatus {
        let log = self.log.state();
        let metrics = self.metrics.borrow_watched();
        let at = |id: &Option<LogId>| id.as_ref().map(convert::position);
        let peer = |id: u64| {
            let place = *metrics.membership_config.get_node(&id)?;
            Some(Peer {
                replica: ReplicaId(id),
                place,
            })
        };
        GroupStatus {
            running: metrics.running_state.is_ok(),
            failure: metrics
                .running_state
                .as_ref()
                .err()
                .map(ToString::to_string),
            term: metrics.current_term,
            leads: metrics.state == ServerState::Leader,
            quiescent: self.is_quiescent(),
            leader: metrics.current_leader.and_then(peer),
            last: log.last,
            committed: at(&metrics.local_committed),
            applied: at(&metrics.last_applied),
            purged: log.purged,
            membership: convert::stored(&metrics.membership_config),
            membership_committed: metrics.membership_config == metrics.committed_membership_config,
            matched: metrics
                .replication
                .iter()
                .flatten()
                .map(|(id, matched)| (ReplicaId(*id), at(matched)))
                .collect(),
        }
    }
}

fn hint(forward: &ForwardToLeader<Types>) -> Option<Peer> {
    Some(Peer {
        replica: ReplicaId(forward.leader_id?),
        place: forward.leader_node?,
    })
}

fn membership_error(error: RaftError<Types, ClientWriteError<Types>>) -> MembershipError {
    match error {
        RaftError::Fatal(Fatal::Stopped) => MembershipError::Stopped,
        RaftError::Fatal(_) => MembershipError::Ambiguous,
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            MembershipError::NotLeader {
                hint: hint(&forward),
            }
        }
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => MembershipError::Ambiguous,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_),
        )) => MembershipError::InProgress,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            MembershipError::Refused {
                reason: error.to_string(),
            }
        }
        RaftError::APIError(ClientWriteError::PreconditionFailed(error)) => {
            MembershipError::Refused {
                reason: error.to_string(),
            }
        }
    }
}

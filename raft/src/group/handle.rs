//! [`Group`]: what the layer above holds of a replica.
//!
//! The handle outlives the openraft core below it: when a core dies the host opens a new one from
//! disk and the same handle goes on. In between, calls answer `Stopped`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
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
use parking_lot::{Mutex, RwLock};

use super::convert;
use super::leadership::{CellView, LeaderCell, Leadership};
use super::machine::MachineFactory;
use super::proposal::{News, ProposalResponder, Proposer, Write};
use super::types::{Command, Instant, MetricsWatch, Raft, Types};
use crate::error::{BarrierError, MembershipError, ProposeError};
use crate::host::HostConfig;
use crate::ids::{GroupId, LogPosition, ReplicaId};
use crate::log_store::{GroupLog, LogEngine};
use crate::membership::{Membership, Peer, Place};
use crate::snapshot::Staging;
use crate::transport::Transport;

/// A command that has been applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposed {
    /// Where it stands in the log.
    pub position: LogPosition,
    /// What the state machine answered.
    pub reply: Bytes,
}

/// A command that is committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Committed {
    /// It is applied here.
    Applied(Proposed),
    /// It will be applied, here and everywhere.
    Unapplied,
}

/// A look at a replica, for people and for placement. Not for decisions about reads.
#[derive(Clone, Debug, Default)]
pub struct GroupStatus {
    /// Whether the replica runs; false while its group is down.
    pub running: bool,
    /// Why it does not.
    pub failure: Option<String>,
    /// The current term.
    pub term: u64,
    /// Whether it believes that it leads.
    pub leads: bool,
    /// Who is believed to lead.
    pub leader: Option<Peer>,
    /// The end of its log.
    pub last: Option<LogPosition>,
    /// What is known to be committed.
    pub committed: Option<LogPosition>,
    /// What is applied.
    pub applied: Option<LogPosition>,
    /// What is purged from the log.
    pub purged: Option<LogPosition>,
    /// The newest membership, committed or not.
    pub membership: Membership,
    /// Whether that membership is committed.
    pub membership_committed: bool,
    /// On a leader: how far each member's log matches.
    pub matched: BTreeMap<ReplicaId, Option<LogPosition>>,
}

/// A change of the members of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberChange {
    /// A member without a vote, which begins to receive the log. Its replica must be open at its
    /// place.
    AddLearner(Peer),
    /// Exactly these vote, who must be members. Those that lose their vote leave the group.
    Voters(BTreeSet<ReplicaId>),
    /// Members without a vote leave.
    RemoveLearners(BTreeSet<ReplicaId>),
}

/// Tells by the first piece of a snapshot whether a replica that has nothing may begin with it.
pub(crate) type Admits = Arc<dyn Fn(&Bytes) -> bool + Send + Sync>;

/// What the groups of a host share.
pub(crate) struct Wiring {
    pub(crate) config: HostConfig,
    pub(crate) raft_config: Arc<openraft::Config>,
    pub(crate) log: Arc<dyn LogEngine>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) seed: u64,
    pub(crate) draws: AtomicU64,
    pub(crate) transfers: Arc<AtomicU64>,
}

impl Wiring {
    /// The next of a sequence of seeds that depends on the host's seed only.
    pub(crate) fn next_seed(&self) -> u64 {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        self.seed
            .wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// A running openraft core and what belongs to its life.
pub(crate) struct Core {
    pub(crate) raft: Raft,
    pub(crate) metrics: MetricsWatch,
    pub(crate) log: Arc<dyn GroupLog>,
    pub(crate) staging: Mutex<Staging>,
    /// Until then no votes are granted to others and none is asked for.
    pub(crate) vote_guard: Option<Instant>,
    /// The state machine has panicked; the group shall be opened anew.
    pub(crate) panicked: Arc<AtomicBool>,
}

impl Core {
    pub(crate) fn vote_guard_holds(&self) -> bool {
        self.vote_guard.is_some_and(|until| Instant::now() < until)
    }
}

/// The part of a replica that survives its core.
pub(crate) struct GroupInner {
    pub(crate) id: GroupId,
    pub(crate) me: Peer,
    pub(crate) wiring: Arc<Wiring>,
    pub(crate) cell: Arc<LeaderCell>,
    pub(crate) factory: MachineFactory,
    /// The replica joined a group that has run for a while: it begins with a snapshot that this
    /// admits, and with no log.
    pub(crate) admits: Option<Admits>,
    pub(crate) core: RwLock<Option<Arc<Core>>>,
    /// Set by park: ticks are off, so nobody campaigns and no heartbeats are sent.
    pub(crate) parked: AtomicBool,
    /// Set when the group is closed on purpose: it must not be reopened.
    pub(crate) closed: AtomicBool,
    /// Whether the state machine of the last core still lives: it may be applying yet while its
    /// core is dead, and no other may be opened beside it.
    pub(crate) machine_alive: Mutex<Weak<()>>,
    /// Held while a core is started or stopped; true once one has been started.
    pub(crate) starting: tokio::sync::Mutex<bool>,
    /// How often in a row the group could not be reopened.
    pub(crate) reopen_failures: AtomicU32,
    /// Rounds of the supervisor until the next attempt.
    pub(crate) reopen_wait: AtomicU32,
    /// The last panics of the state machine.
    pub(crate) panics: Mutex<Panics>,
}

/// Panics of a state machine that has not got any further.
#[derive(Default)]
pub(crate) struct Panics {
    /// What was applied before.
    applied: u64,
    /// How many there were.
    count: u32,
    reason: String,
}

impl Panics {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// From this on, panics at the same entry are taken for more than an accident.
const PANICS_MAX: u32 = 3;

impl GroupInner {
    /// Whether the replica waits for the snapshot that it begins with.
    ///
    /// Invariant: it applies no entry before that, since it lacks what those before them did.
    pub(crate) fn awaits_snapshot(&self) -> bool {
        self.admits.is_some() && self.cell.applied_index() == 0
    }

    /// Notes that the state machine has panicked at what comes after `applied`. Another attempt is
    /// made later and later, since it will most likely end the same way.
    pub(crate) fn note_panic(&self, applied: u64, reason: String) {
        let mut panics = self.panics.lock();
        if panics.applied != applied {
            panics.count = 0;
        }
        *panics = Panics {
            applied,
            count: panics.count + 1,
            reason,
        };
        self.reopen_failures.store(panics.count, Ordering::Relaxed);
    }

    /// Why the group cannot go on, if it has panicked at one place again and again.
    pub(crate) fn failure(&self) -> Option<String> {
        let panics = self.panics.lock();
        let stuck = panics.count >= PANICS_MAX && self.cell.applied_index() <= panics.applied;
        stuck.then(|| panics.reason.clone())
    }

    pub(crate) fn core(&self) -> Option<Arc<Core>> {
        self.core.read().clone()
    }
}

/// A replica of a group. Clones are the same replica.
#[derive(Clone)]
pub struct Group {
    pub(crate) inner: Arc<GroupInner>,
}

/// How often a call that met an expired lease tries again after a round to a majority.
const LEASE_RETRIES: usize = 2;

impl Group {
    /// The group.
    pub fn id(&self) -> GroupId {
        self.inner.id
    }

    /// This replica.
    pub fn replica(&self) -> ReplicaId {
        self.inner.me.replica
    }

    /// Gives a new group its first members. Call it once, on one of them; every other replica is
    /// just opened and waits to be told.
    pub async fn initialize(&self, members: Vec<Peer>) -> Result<(), MembershipError> {
        let core = self.inner.core().ok_or(MembershipError::Stopped)?;
        let nodes: BTreeMap<u64, Place> = members
            .iter()
            .map(|peer| (peer.replica.0, peer.place))
            .collect();
        core.raft
            .initialize(nodes)
            .await
            .map_err(|error| match error {
                RaftError::APIError(InitializeError::NotAllowed(_)) => MembershipError::Refused {
                    reason: "the group has members already".to_owned(),
                },
                RaftError::APIError(InitializeError::NotInMembers(_)) => MembershipError::Refused {
                    reason: "this replica is not among them".to_owned(),
                },
                RaftError::Fatal(_) => MembershipError::Stopped,
            })
    }

    /// Replicates a command and waits until it is applied here.
    ///
    /// Durability: when this returns `Ok`, a majority has the entry on disk. Cancellation: dropping
    /// the future leaves the outcome unknown.
    pub async fn propose(&self, command: Bytes) -> Result<Proposed, ProposeError> {
        match self.submit(command, 0).await? {
            Committed::Applied(proposed) => Ok(proposed),
            // Nobody says so who was not asked.
            Committed::Unapplied => Err(ProposeError::Ambiguous { hint: None }),
        }
    }

    /// Like [`Self::propose`], but may return as soon as the command is committed in `term`, before
    /// it is applied. What the state machine will then answer to a command of that term is for the
    /// caller to know beforehand, and to see to it that nobody reads what it changes until it is
    /// applied.
    pub async fn propose_unapplied(
        &self,
        command: Bytes,
        term: u64,
    ) -> Result<Committed, ProposeError> {
        self.submit(command, term).await
    }

    /// Proposes a command whose commitment is enough in the term `enough_in`; 0 for none.
    async fn submit(&self, command: Bytes, enough_in: u64) -> Result<Committed, ProposeError> {
        let limit = self.inner.wiring.config.command_bytes_max;
        if command.len() > limit {
            return Err(ProposeError::TooLarge {
                bytes: command.len(),
                limit,
            });
        }
        let core = self.inner.core().ok_or(ProposeError::Stopped)?;
        for _ in 0..=LEASE_RETRIES {
            let proposal = Write::new(enough_in);
            let proposer = Proposer::new(&proposal);
            let write = core
                .raft
                .write(Command {
                    bytes: command.clone(),
                    proposal: (enough_in > 0).then(|| Arc::clone(&proposal)),
                })
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
                        || self.confirm(&core).await.is_err()
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

    /// Whether this replica may serve reads at this moment: it leads, an entry of its own term is
    /// applied, and its lease holds at a clock reading taken inside this call. Costs a few atomic
    /// loads for a single voter, and a look at a shared value and the clock otherwise.
    ///
    /// A read is linearizable when the state is read after this call (the pause between them does
    /// not matter, since the read's place in time may be the moment of this call).
    pub fn leadership(&self) -> Option<Leadership> {
        let term = match self.inner.cell.view() {
            CellView::No => return None,
            CellView::Sole(term) => return Some(Leadership { term }),
            CellView::Leased(term) => term,
        };
        let lease = self.inner.wiring.config.timing.lease();
        let core = self.inner.core.read();
        let metrics = core.as_ref()?.metrics.borrow_watched();
        let acked = metrics.last_quorum_acked?.into_inner();
        let holds = metrics.current_term == term
            && metrics.state == ServerState::Leader
            && Instant::now() < acked + lease;
        // The view again: a transfer may have begun since.
        (holds && self.inner.cell.view() == CellView::Leased(term)).then_some(Leadership { term })
    }

    /// Like [`Self::leadership`], asking a majority when the lease does not hold and waiting for
    /// this leader's first entry to be applied.
    pub async fn read_barrier(&self) -> Result<Leadership, BarrierError> {
        if let Some(leadership) = self.leadership() {
            return Ok(leadership);
        }
        let core = self.inner.core().ok_or(BarrierError::Stopped)?;
        self.confirm(&core).await
    }

    /// A round to a majority that proves leadership at a moment within this call.
    async fn confirm(&self, core: &Core) -> Result<Leadership, BarrierError> {
        let timeout = self.inner.wiring.config.timing.lease();
        for _ in 0..=LEASE_RETRIES {
            let term = self.inner.cell.led_term();
            if term == 0 {
                return Err(BarrierError::NotLeader {
                    hint: self.leader_hint(),
                });
            }
            let linearizer = match core.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
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
            match linearizer.try_await_ready(&core.raft, Some(timeout)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(BarrierError::NoQuorum),
                Err(_) => return Err(BarrierError::Stopped),
            }
            let same = match self.inner.cell.view() {
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

    /// The current term as far as this replica knows.
    pub fn term(&self) -> u64 {
        self.inner
            .core
            .read()
            .as_ref()
            .map_or(0, |core| core.metrics.borrow_watched().current_term)
    }

    /// Who leads as far as this replica knows.
    pub fn leader_hint(&self) -> Option<Peer> {
        let core = self.inner.core.read();
        let metrics = core.as_ref()?.metrics.borrow_watched();
        let leader = metrics.current_leader?;
        let place = *metrics.membership_config.get_node(&leader)?;
        Some(Peer {
            replica: ReplicaId(leader),
            place,
        })
    }

    /// Waits until this replica may serve reads, asking nobody. Fails when the group stops.
    pub async fn wait_leadership(&self) -> Result<Leadership, BarrierError> {
        let core = self.inner.core().ok_or(BarrierError::Stopped)?;
        let mut metrics = core.metrics.clone();
        loop {
            if let Some(leadership) = self.leadership() {
                return Ok(leadership);
            }
            metrics.changed().await.map_err(|_| BarrierError::Stopped)?;
        }
    }

    /// Waits until the entry at `index` is applied here. Fails when the group stops.
    pub async fn wait_applied(&self, index: u64) -> Result<(), BarrierError> {
        let core = self.inner.core().ok_or(BarrierError::Stopped)?;
        let mut metrics = core.metrics.clone();
        while self.inner.cell.applied_index() < index {
            metrics.changed().await.map_err(|_| BarrierError::Stopped)?;
        }
        Ok(())
    }

    /// Changes the members, in one or two entries of the log; returns when the new membership is
    /// committed. With `only_if`, the change is made only while the newest membership is the one
    /// that this entry has set: whoever decided by another one is refused.
    pub async fn change_members(
        &self,
        change: MemberChange,
        only_if: Option<LogPosition>,
    ) -> Result<(), MembershipError> {
        let core = self.inner.core().ok_or(MembershipError::Stopped)?;
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
        let changed = core.raft.change_membership_if(change, retain, conditions);
        changed.await.map(|_| ()).map_err(membership_error)
    }

    /// Hands leadership to another voter and waits, up to two leases, until this replica has
    /// heard of a successor. From the call on this replica serves no reads; should the successor
    /// not answer, the group is without a leader until an election timeout has passed.
    pub async fn transfer_leader(&self, to: ReplicaId) -> Result<(), MembershipError> {
        let core = self.inner.core().ok_or(MembershipError::Stopped)?;
        let term = self.inner.cell.led_term();
        if term == 0 {
            return Err(MembershipError::NotLeader {
                hint: self.leader_hint(),
            });
        }
        let mut metrics = core.metrics.clone();
        if !metrics
            .borrow_watched()
            .membership_config
            .voter_ids()
            .any(|id| id == to.0)
        {
            return Err(MembershipError::Refused {
                reason: format!("{to} is not a voter"),
            });
        }
        self.inner.cell.on_transfer();
        core.raft
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
        let patience = self.inner.wiring.config.timing.lease() * 2;
        tokio::time::timeout(patience, moved)
            .await
            .unwrap_or(Err(MembershipError::Ambiguous))
    }

    /// Campaigns now instead of after an election timeout. For the replica that led a range
    /// before it was split, and for tests.
    pub async fn campaign(&self) -> Result<(), BarrierError> {
        let core = self.inner.core().ok_or(BarrierError::Stopped)?;
        core.raft
            .trigger()
            .elect(false)
            .await
            .map_err(|_| BarrierError::Stopped)
    }

    /// Stops this replica's timers: it sends no heartbeats and does not campaign. For groups
    /// without work; all replicas should be parked together.
    pub fn park(&self) {
        self.set_parked(true);
    }

    /// Starts the timers again.
    pub fn unpark(&self) {
        self.set_parked(false);
    }

    fn set_parked(&self, parked: bool) {
        self.inner.parked.store(parked, Ordering::Release);
        if let Some(core) = self.inner.core() {
            core.raft.runtime_config().tick(!parked);
        }
    }

    /// Asks openraft to note what the state machine has made durable and to purge the log up to
    /// there, less what is kept for slow peers. The host calls it now and then.
    pub async fn compact_log(&self) -> Result<(), BarrierError> {
        let core = self.inner.core().ok_or(BarrierError::Stopped)?;
        core.raft
            .trigger()
            .snapshot()
            .await
            .map_err(|_| BarrierError::Stopped)
    }

    /// A look at the replica.
    pub fn status(&self) -> GroupStatus {
        let core = self.inner.core.read();
        let Some(core) = core.as_ref() else {
            return GroupStatus::default();
        };
        let log = core.log.state();
        let metrics = core.metrics.borrow_watched();
        let at = |id: &Option<super::types::LogId>| id.as_ref().map(convert::position);
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

    /// Why the replica cannot go on, if its state machine panics at one entry whenever it is opened.
    /// It is still tried now and then.
    pub fn failure(&self) -> Option<String> {
        self.inner.failure()
    }

    /// The lease of the host this replica lives on; see [`crate::Timing`].
    pub fn lease(&self) -> Duration {
        self.inner.wiring.config.timing.lease()
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

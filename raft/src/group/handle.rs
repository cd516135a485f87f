//! [`Group`]: what the layer above holds of a replica.
//!
//! The handle outlives what runs the replica, a [`Running`]: when that dies the host opens a new
//! one from disk and the same handle goes on. In between, calls answer `Stopped`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, oneshot};

use super::alone::Alone;
use super::applier::MachineFactory;
use super::core::Core;
use super::leadership::{CellView, LeaderCell, Leadership};
use crate::error::{BarrierError, MembershipError, ProposeError};
use crate::host::{Counters, HostConfig};
use crate::ids::{GroupId, LogPosition, ReplicaId};
use crate::log_store::LogEngine;
use crate::membership::{Membership, Peer};
use crate::snapshot::SnapshotSpool;
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
    /// Whether its timers are off, since nobody asks the group for anything.
    pub quiescent: bool,
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
    /// One permit for each snapshot that is being sent.
    pub(crate) sends: Arc<Semaphore>,
    pub(crate) spool: Arc<dyn SnapshotSpool>,
    pub(crate) counters: Arc<Counters>,
}

impl Wiring {
    /// The next of a sequence of seeds that depends on the host's seed only.
    pub(crate) fn next_seed(&self) -> u64 {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        self.seed
            .wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// How a replica runs: a member of a group among others, or the only one.
#[derive(Clone)]
pub(crate) enum Running {
    Core(Arc<Core>),
    Alone(Arc<Alone>),
}

/// The part of a replica that survives what runs it.
pub(crate) struct GroupInner {
    pub(crate) id: GroupId,
    pub(crate) me: Peer,
    pub(crate) wiring: Arc<Wiring>,
    pub(crate) cell: Arc<LeaderCell>,
    pub(crate) factory: MachineFactory,
    /// The replica joined a group that has run for a while: it begins with a snapshot that this
    /// admits, and with no log.
    pub(crate) admits: Option<Admits>,
    pub(crate) running: RwLock<Option<Running>>,
    /// Set when the group must not become quiescent.
    pub(crate) stays_awake: AtomicBool,
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

    pub(crate) fn running(&self) -> Option<Running> {
        self.running.read().clone()
    }
}

/// A replica of a group. Clones are the same replica.
#[derive(Clone)]
pub struct Group {
    pub(crate) inner: Arc<GroupInner>,
}

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
        match self.inner.running() {
            None => Err(MembershipError::Stopped),
            Some(Running::Alone(_)) => Err(MembershipError::founded()),
            Some(Running::Core(_)) if members == [self.inner.me] => {
                let inner = Arc::clone(&self.inner);
                whole(async move { inner.found_alone().await }).await
            }
            Some(Running::Core(core)) => core.initialize(&members).await,
        }
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
        self.inner.wiring.counters.proposals.add();
        match self.inner.running().ok_or(ProposeError::Stopped)? {
            Running::Alone(alone) => alone.submit(command, enough_in).await,
            Running::Core(core) => {
                self.inner.use_core(&core);
                core.submit(&self.inner, command, enough_in).await
            }
        }
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
        let running = self.inner.running.read();
        let Some(Running::Core(core)) = &*running else {
            return None;
        };
        let holds = core.holds_lease(&self.inner, term);
        // The view again: a transfer may have begun since.
        let leads = holds && self.inner.cell.view() == CellView::Leased(term);
        if leads {
            core.note_use();
        }
        leads.then_some(Leadership { term })
    }

    /// Like [`Self::leadership`], asking a majority when the lease does not hold and waiting for
    /// this leader's first entry to be applied.
    pub async fn read_barrier(&self) -> Result<Leadership, BarrierError> {
        if let Some(leadership) = self.leadership() {
            return Ok(leadership);
        }
        match self.inner.running().ok_or(BarrierError::Stopped)? {
            Running::Core(core) => {
                self.inner.use_core(&core);
                core.confirm(&self.inner).await
            }
            // It leads as soon as what is in its log is applied.
            Running::Alone(alone) => {
                let ready = alone.wait(|| self.leadership().is_some());
                let _ = tokio::time::timeout(self.lease(), ready).await;
                self.leadership().ok_or(BarrierError::NoQuorum)
            }
        }
    }

    /// The current term as far as this replica knows.
    pub fn term(&self) -> u64 {
        match &*self.inner.running.read() {
            None => 0,
            Some(Running::Core(core)) => core.term(),
            Some(Running::Alone(alone)) => alone.term(),
        }
    }

    /// Who leads as far as this replica knows.
    pub fn leader_hint(&self) -> Option<Peer> {
        match &*self.inner.running.read() {
            None => None,
            Some(Running::Core(core)) => core.leader_hint(),
            Some(Running::Alone(_)) => Some(self.inner.me),
        }
    }

    /// Whether this replica leads and a majority follows it, or has heard a leader lately, or rests:
    /// for people, as it may be late by the time that followers wait before they campaign.
    pub fn has_leader(&self) -> bool {
        match self.inner.running() {
            None => false,
            Some(Running::Alone(_)) => true,
            Some(Running::Core(core)) => {
                let patience = self.inner.wiring.config.timing.promise();
                core.is_quiescent() || self.leads() || core.has_heard_within(patience * 2)
            }
        }
    }

    /// Waits until this replica may serve reads, asking nobody. Fails when the group stops.
    pub async fn wait_leadership(&self) -> Result<Leadership, BarrierError> {
        self.wait(|| self.leadership().is_some()).await?;
        self.leadership().ok_or(BarrierError::Stopped)
    }

    /// Waits until the entry at `index` is applied here. Fails when the group stops.
    pub async fn wait_applied(&self, index: u64) -> Result<(), BarrierError> {
        self.wait(|| self.inner.cell.applied_index() >= index).await
    }

    async fn wait(&self, is_so: impl Fn() -> bool) -> Result<(), BarrierError> {
        let is_so = match self.inner.running().ok_or(BarrierError::Stopped)? {
            Running::Core(core) => core.wait(is_so).await,
            Running::Alone(alone) => alone.wait(is_so).await,
        };
        is_so.then_some(()).ok_or(BarrierError::Stopped)
    }

    /// Changes the members, in one or two entries of the log; returns when the new membership is
    /// committed. With `only_if`, the change is made only while the newest membership is the one
    /// that this entry has set: whoever decided by another one is refused.
    pub async fn change_members(
        &self,
        change: MemberChange,
        only_if: Option<LogPosition>,
    ) -> Result<(), MembershipError> {
        let core = match self.inner.running().ok_or(MembershipError::Stopped)? {
            Running::Core(core) => core,
            Running::Alone(alone) => {
                let newest = alone.applier().membership().position;
                if only_if.is_some() && only_if != newest {
                    return Err(MembershipError::Refused {
                        reason: "the membership is another one by now".to_owned(),
                    });
                }
                drop(alone);
                let inner = Arc::clone(&self.inner);
                whole(async move { inner.take_peers().await }).await?
            }
        };
        self.inner.use_core(&core);
        core.change_members(change, only_if).await
    }

    /// Hands leadership to another voter and waits, up to two leases, until this replica has
    /// heard of a successor. One that does not answer is refused, and this replica leads on. Once it
    /// has answered, this replica serves no reads; should the successor be lost then, the group is
    /// without a leader until an election timeout has passed.
    pub async fn transfer_leader(&self, to: ReplicaId) -> Result<(), MembershipError> {
        match self.inner.running().ok_or(MembershipError::Stopped)? {
            Running::Core(core) => {
                self.inner.use_core(&core);
                core.transfer_leader(&self.inner, to).await
            }
            Running::Alone(_) => Err(MembershipError::no_voter(to)),
        }
    }

    /// Campaigns now instead of after an election timeout. For the replica that led a range
    /// before it was split, and for tests.
    pub async fn campaign(&self) -> Result<(), BarrierError> {
        match self.inner.running().ok_or(BarrierError::Stopped)? {
            Running::Core(core) => {
                core.rouse();
                let elected = core.raft.trigger().elect(false).await;
                elected.map_err(|_| BarrierError::Stopped)
            }
            // It leads.
            Running::Alone(_) => Ok(()),
        }
    }

    /// A look at the replica.
    pub fn status(&self) -> GroupStatus {
        match &*self.inner.running.read() {
            None => GroupStatus::default(),
            Some(Running::Core(core)) => core.status(),
            Some(Running::Alone(alone)) => alone.status(self.inner.me),
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

/// Runs what must not be left half done when the caller goes away.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = Result<T, MembershipError>> + Send + 'static,
) -> Result<T, MembershipError> {
    let (sender, receiver) = oneshot::channel();
    crate::shell::spawn_task(async move {
        // Nobody may wait for it any more.
        let _ = sender.send(change.await);
    });
    receiver.await.unwrap_or(Err(MembershipError::Stopped))
}

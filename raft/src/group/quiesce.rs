//! Quiescence: a group that nobody asks for anything falls silent. No heartbeats, no ticks, no
//! messages, until somebody asks again.
//!
//! A leader that was not used for a while, and whose members all have applied all of its log,
//! stops its timers and tells the members, who stop theirs if they see it the same way. Should one
//! of them not, the leader goes on as before, and its heartbeats wake those that agreed.
//!
//! What wakes: a use of the leader; every message but those of this module; a use of a follower,
//! which asks its leader to wake. A leader that does not answer is taken for lost, and the follower
//! campaigns at once. So a group whose leader died in its sleep is led again as soon as it is
//! needed; and sooner, if the layer above notices that a node is dead and wakes what it led, or
//! when a follower asks, every minute or so, whether it is still so.
//!
//! A candidate gets no pre-vote from a quiescent replica, which wakes first: one node that starts
//! again would take the lead of every group that sleeps.
//!
//! Nothing about safety rests on this. A quiescent leader's lease ends by itself, and from then on
//! it answers nothing before it has asked a majority; timers matter to whether there is a leader,
//! never to who may be one.
//!
//! Invariant: a replica whose timers are off has a leader that it believes in, and a log that is
//! applied to its end.
//! Invariant: while a leader's timers run, those of its members run, a heartbeat later at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::future::join_all;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;

use super::convert;
use super::core::Core;
use super::handle::{GroupInner, Running};
use super::leadership::CellView;
use crate::ids::{LogPosition, ReplicaId};
use crate::membership::Peer;
use crate::transport::{Envelope, Quiesce, Reply, Request, TransportError};

/// How often a follower asks whether its leader still sleeps, in milliseconds: a node with 600
/// followers sends ten such messages a second.
const PROBE_MS: u64 = 60_000;
/// And how many rounds later at most, by the number of the group, so that not all ask at once.
const PROBE_SPREAD: u64 = 64;

/// What a running replica knows of its rest. A replica that starts is awake.
#[derive(Debug, Default)]
pub(crate) struct Quiescence {
    /// Held while timers are switched, so that what is said here and what they do agree.
    switch: Mutex<()>,
    quiescent: AtomicBool,
    /// Something was asked of the replica since the last round of its host.
    used: AtomicBool,
    /// Rounds of the host since that, or since it became quiescent.
    rounds: AtomicU32,
    /// A follower is asking its leader to wake.
    waking: AtomicBool,
}

impl Core {
    /// Whether the replica's timers are off.
    pub(crate) fn is_quiescent(&self) -> bool {
        self.quiescence.quiescent.load(Ordering::SeqCst)
    }

    /// Notes a use that needs nothing more than the lease.
    pub(super) fn note_use(&self) {
        // Mostly read: the hot path shares the line.
        if !self.quiescence.used.load(Ordering::Relaxed) {
            self.quiescence.used.store(true, Ordering::Relaxed);
        }
    }

    /// Stops the timers, unless the replica was used since the last round; returns whether they
    /// are off.
    fn rest(&self) -> bool {
        let quiescence = &self.quiescence;
        {
            let _switch = quiescence.switch.lock();
            quiescence.rounds.store(0, Ordering::Relaxed);
            quiescence.quiescent.store(true, Ordering::SeqCst);
            self.raft.runtime_config().tick(false);
        }
        // Whoever uses it notes that first and looks then whether it is quiescent: one of the two
        // sees the other.
        if quiescence.used.load(Ordering::SeqCst) {
            self.rouse();
        }
        self.is_quiescent()
    }

    /// Starts the timers again.
    pub(super) fn rouse(&self) {
        let quiescence = &self.quiescence;
        if !self.is_quiescent() {
            return;
        }
        let _switch = quiescence.switch.lock();
        quiescence.rounds.store(0, Ordering::Relaxed);
        quiescence.quiescent.store(false, Ordering::SeqCst);
        self.raft.runtime_config().tick(true);
    }

    /// The end of the log, if all of it is committed and applied here.
    fn is_settled(&self) -> Option<LogPosition> {
        let last = self.log.state().last?;
        let metrics = self.metrics.borrow_watched();
        let applied = metrics.last_applied.as_ref().map(convert::position);
        (applied == Some(last)).then_some(last)
    }

    /// What a leader tells its members when it may rest: every member has all of its log, and
    /// nothing is under way.
    fn may_rest(&self, term: u64) -> Option<(Quiesce, Vec<Peer>)> {
        let last = self.is_settled()?;
        let metrics = self.metrics.borrow_watched();
        let membership = &metrics.membership_config;
        let uniform = membership.membership().get_joint_config().len() == 1
            && *membership == metrics.committed_membership_config;
        let leads = metrics.current_term == term && metrics.state == ServerState::Leader;
        let matched = metrics.replication.as_ref()?;
        let everywhere = membership.nodes().all(|(id, _)| {
            if *id == metrics.id {
                return true;
            }
            let matched = matched.get(id).and_then(|matched| matched.as_ref());
            matched.is_some_and(|matched| convert::position(matched) == last)
        });
        let others = membership.nodes().filter(|(id, _)| **id != metrics.id);
        let others = others.map(|(id, place)| Peer {
            replica: ReplicaId(*id),
            place: *place,
        });
        (leads && uniform && everywhere).then(|| (Quiesce { term, last }, others.collect()))
    }
}

impl GroupInner {
    /// Notes that the replica is used for something that needs its peers, and wakes the group.
    pub(super) fn use_core(&self, core: &Arc<Core>) {
        core.quiescence.used.store(true, Ordering::SeqCst);
        if core.is_quiescent() {
            self.wake(core);
        }
    }

    /// Wakes the group: a leader itself, a follower by its leader.
    pub(super) fn wake(&self, core: &Arc<Core>) {
        if self.cell.led_term() != 0 {
            core.rouse();
            return;
        }
        if !core.is_quiescent() || core.quiescence.waking.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(leader) = core.leader_hint() else {
            core.quiescence.waking.store(false, Ordering::Release);
            core.rouse();
            return;
        };
        let asked = self.send(leader, Request::Wake);
        let timing = self.wiring.config.timing;
        let core = Arc::clone(core);
        crate::shell::spawn_task(async move {
            if let Ok(Reply::Wake { leads: true }) = asked.await {
                // Its heartbeat comes, and with it the end of the rest.
                tokio::time::sleep(Duration::from_millis(timing.heartbeat_ms * 2)).await;
            }
            core.quiescence.waking.store(false, Ordering::Release);
            core.rouse();
        });
    }

    /// Whether a follower answers now, awake.
    pub(super) async fn answers(&self, follower: Peer) -> bool {
        self.send(follower, Request::Wake).await.is_ok()
    }

    fn send(
        &self,
        to: Peer,
        body: Request,
    ) -> impl Future<Output = Result<Reply, TransportError>> + use<> {
        let envelope = Envelope {
            group: self.id,
            from: self.me,
            to,
            body,
        };
        let ttl = Duration::from_millis(self.wiring.config.timing.election_min_ms);
        let sent = self.wiring.transport.send(envelope, ttl);
        async move {
            let answer = tokio::time::timeout(ttl, sent).await;
            answer.unwrap_or(Err(TransportError::Timeout))
        }
    }

    /// A round of the host: a leader without use goes to rest, a follower that rests asks now and
    /// then whether its leader does.
    pub(crate) fn look_after_rest(self: &Arc<Self>, core: &Arc<Core>) {
        let config = &self.wiring.config;
        if config.quiesce_after_ms == 0 || self.stays_awake.load(Ordering::Relaxed) {
            return;
        }
        let quiescence = &core.quiescence;
        let rounds = if quiescence.used.swap(false, Ordering::SeqCst) {
            quiescence.rounds.store(0, Ordering::Relaxed);
            0
        } else {
            quiescence.rounds.fetch_add(1, Ordering::Relaxed) + 1
        };
        let passed_ms = u64::from(rounds) * config.supervise_ms.max(1);
        if core.is_quiescent() {
            let spread_ms = self.id.0 % PROBE_SPREAD * config.supervise_ms;
            if self.cell.led_term() == 0 && passed_ms >= PROBE_MS + spread_ms {
                quiescence.rounds.store(0, Ordering::Relaxed);
                self.probe(core);
            }
        } else if passed_ms >= config.quiesce_after_ms
            && let CellView::Leased(term) = self.cell.view()
            && let Some((quiesce, others)) = core.may_rest(term)
        {
            self.go_to_rest(core, quiesce, others);
        }
    }

    /// Stops the leader's timers and has the others stop theirs.
    fn go_to_rest(self: &Arc<Self>, core: &Arc<Core>, quiesce: Quiesce, others: Vec<Peer>) {
        // First of all: whoever uses the leader from here on wakes it, and its heartbeats wake
        // those that hear of the rest later.
        if !core.rest() {
            return;
        }
        let asked = others.into_iter();
        let asked = join_all(asked.map(|other| self.send(other, Request::Quiesce(quiesce))));
        let core = Arc::clone(core);
        crate::shell::spawn_task(async move {
            let agreed =
                |answer: &Result<Reply, _>| matches!(answer, Ok(Reply::Quiesce { agreed: true }));
            if !asked.await.iter().all(agreed) {
                core.rouse();
            }
        });
    }

    /// Asks the leader whether it still sleeps where this follower does.
    fn probe(self: &Arc<Self>, core: &Arc<Core>) {
        let (Some(leader), Some(last)) = (core.leader_hint(), core.log.state().last) else {
            core.rouse();
            return;
        };
        let term = core.term();
        let asked = self.send(leader, Request::Quiesce(Quiesce { term, last }));
        let (group, core) = (Arc::clone(self), Arc::clone(core));
        crate::shell::spawn_task(async move {
            if !matches!(asked.await, Ok(Reply::Quiesce { agreed: true })) {
                group.wake(&core);
            }
        });
    }

    /// The leader goes to rest, or a follower asks whether it does.
    pub(super) fn serve_quiesce(&self, core: &Core, from: Peer, quiesce: Quiesce) -> Reply {
        let same = core.is_settled() == Some(quiesce.last) && core.term() == quiesce.term;
        if self.cell.led_term() != 0 {
            let agreed = same && core.is_quiescent();
            return Reply::Quiesce { agreed };
        }
        let hears = core
            .leader_hint()
            .is_some_and(|leader| leader.replica == from.replica);
        let may = !self.stays_awake.load(Ordering::Relaxed) && !core.vote_guard_holds();
        let agreed = same && hears && may && core.rest();
        Reply::Quiesce { agreed }
    }

    /// A follower wants the leader to wake.
    pub(super) fn serve_wake(&self, core: &Arc<Core>) -> Reply {
        self.wake(core);
        Reply::Wake {
            leads: self.cell.led_term() != 0,
        }
    }
}

impl super::Group {
    /// Keeps the group from becoming quiescent, on this replica and so as a whole. For groups whose
    /// leader has something to do though nobody asks it.
    pub fn stay_awake(&self) {
        self.inner.stays_awake.store(true, Ordering::Relaxed);
        if let Some(Running::Core(core)) = self.inner.running() {
            self.inner.use_core(&core);
        }
    }

    /// Whether the replica's timers are off, since nobody asks the group for anything.
    pub fn is_quiescent(&self) -> bool {
        match &*self.inner.running.read() {
            Some(Running::Core(core)) => core.is_quiescent(),
            _ => false,
        }
    }

    /// Wakes the group if this replica is quiescent: because its leader is needed, or is believed
    /// to be lost. Returns at once.
    pub fn wake(&self) {
        if let Some(Running::Core(core)) = self.inner.running() {
            self.inner.wake(&core);
        }
    }

    /// Whether this replica leads, or led when the group became quiescent. Unlike
    /// [`Self::leadership`] this is no use of the group, and a belief: not for decisions about
    /// reads.
    pub fn leads(&self) -> bool {
        let term = match self.inner.cell.view() {
            CellView::No => return false,
            CellView::Sole(_) => return true,
            CellView::Leased(term) => term,
        };
        match &*self.inner.running.read() {
            Some(Running::Core(core)) => core.is_quiescent() || core.holds_lease(&self.inner, term),
            _ => false,
        }
    }
}

//! Saying that one lives, and where one's ranges are.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use pontoon_raft::LogPosition;

use crate::cluster::{Answer, Call, RangeReport, Report, Usage, View, decode_row, encode_row};
use crate::db::node::Node;
use crate::error::Error;
use crate::keys::{self, meta};
use crate::range::{Descriptor, Refusal, Replica};
use crate::routing::{Address, PeerError, Whom};
use crate::storage::{Space, WriteBatch};
use crate::txn::{ScanOptions, Span, Txn, TxnOptions, after};

/// How often a node says that it lives.
const EVERY: Duration = Duration::from_millis(500);
/// How long the coordinator may take to answer.
const ANSWER: Duration = Duration::from_millis(1_000);
/// And when it is asked on behalf of another node, which waits for [`ANSWER`].
const PASSED_ON: Duration = Duration::from_millis(700);

/// The bounds and members of ranges as they were made known last.
type Told = BTreeMap<u64, (u64, Option<LogPosition>)>;

/// Runs for as long as the node lives.
pub(in crate::db) async fn keep_in_touch(node: Weak<Node>) {
    let mut told = Told::new();
    loop {
        {
            let Some(node) = node.upgrade() else { return };
            if let Err(error) = node.tell_addresses(&mut told).await {
                tracing::debug!(%error, "where ranges are could not be made known");
            }
            node.say_that_it_lives().await;
        }
        let Some(strong) = node.upgrade() else { return };
        let (runtime, every) = (strong.runtime.clone(), strong.every(EVERY));
        drop(strong);
        runtime.sleep(every).await;
    }
}

impl Node {
    /// Writes where the ranges are that this node leads into the system range, where that has
    /// changed.
    async fn tell_addresses(&self, told: &mut Told) -> Result<(), Error> {
        let mut changed = Vec::new();
        for replica in self.replicas() {
            if !replica.leads() {
                continue;
            }
            let report = report_of(&replica);
            let now = (report.descriptor.generation, report.membership.position);
            if report.settled && told.get(&report.descriptor.range) != Some(&now) {
                changed.push((report, now));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let Some(txn) = self.own_txn(TxnOptions::default()).await? else {
            return Ok(());
        };
        for (report, _) in &changed {
            let key = keys::address_key(&report.descriptor.span.start);
            let members = report.membership.members.iter();
            let members = members.map(|(replica, place)| pontoon_raft::Peer {
                replica: *replica,
                place: *place,
            });
            let address = Address {
                descriptor: report.descriptor.clone(),
                members: members.collect(),
                position: report.membership.position,
            };
            let known = txn
                .get(&key)
                .await?
                .map(|known| decode_row::<Address>(&known));
            let known = known.transpose()?;
            if known.is_none_or(|known| address.is_newer_than(&known)) {
                txn.put(key.into(), encode_row(&address)?)?;
            }
            forget_absorbed(&txn, &address).await?;
        }
        if txn.has_writes() {
            txn.commit().await?;
        } else {
            txn.rollback().await;
        }
        let changed = changed.into_iter();
        told.extend(changed.map(|(report, now)| (report.descriptor.range, now)));
        Ok(())
    }

    /// Reports to the coordinator, which may be this node.
    async fn say_that_it_lives(&self) {
        let report = self.report();
        let own = self.system().filter(|system| system.leadership().is_some());
        let heard = match (own, &self.peers) {
            (Some(_), _) => self.hear_report(report),
            (None, Some(peers)) => {
                let Some(whom) = self.next_coordinator() else {
                    return;
                };
                let called = peers.call(whom.clone(), Call::Heartbeat(report));
                match self.runtime.timeout(ANSWER, called).await {
                    Some(Ok(Answer::View(view))) => {
                        self.search.found(view.coordinator);
                        Ok(view)
                    }
                    Some(Err(PeerError::Refused(Refusal::Elsewhere(leader)))) => {
                        let named = leader.map(|leader| leader.place.node);
                        self.search.sent_on(&whom, named);
                        return;
                    }
                    _ => {
                        self.search.failed(&whom);
                        return;
                    }
                }
            }
            (None, None) => return,
        };
        match heard {
            Ok(view) => self.learn(view).await,
            Err(refusal) => {
                tracing::debug!(error = %crate::routing::plain(refusal), "not heard");
            }
        }
    }

    /// Notes what another node reports, or tells the coordinator of it: that one may have a new
    /// address which the other node does not know, and the other way round.
    pub(super) async fn hear_or_pass_on(&self, report: Report) -> Result<Answer, Refusal> {
        let from = report.row.place.node;
        let refused = match self.hear_report(report.clone()) {
            Err(Refusal::Elsewhere(Some(leader))) if leader.place.node != from => leader,
            heard => return heard.map(Answer::View),
        };
        let elsewhere = Err(Refusal::Elsewhere(Some(refused)));
        let Some(peers) = &self.peers else {
            return elsewhere;
        };
        let whom = Whom::Node(refused.place.node);
        let called = peers.call(whom, Call::PassedOn(report));
        match self.runtime.timeout(PASSED_ON, called).await {
            Some(Ok(view @ Answer::View(_))) => Ok(view),
            _ => elsewhere,
        }
    }

    /// Whom to take for the coordinator, as this node is not.
    pub(super) fn next_coordinator(&self) -> Option<Whom> {
        let system = self.system();
        let leader = system.and_then(|system| system.group().leader_hint());
        let (hint, me) = (leader.map(|leader| leader.place.node), self.me.place.node);
        self.search.next(hint, &self.book, Some(me))
    }

    /// Takes over what the coordinator says, and remembers it over a restart.
    pub(super) async fn learn(&self, view: View) {
        let changed = self.book.learn(view);
        self.wake_what_the_dead_led();
        if !changed {
            return;
        }
        if let Err(error) = self.remember_book().await {
            tracing::warn!(%error, "where the other nodes are could not be remembered");
        }
    }

    /// Has the quiescent ranges woken whose leaders are on nodes that were not heard of: they have
    /// new ones elected before anybody needs them.
    fn wake_what_the_dead_led(&self) {
        for replica in self.replicas() {
            let group = replica.group();
            if !group.is_quiescent() {
                continue;
            }
            let leader = group.leader_hint().map(|leader| leader.place.node);
            if leader.is_some_and(|node| node != self.me.place.node && !self.book.is_alive(node)) {
                group.wake();
            }
        }
    }

    async fn remember_book(&self) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        batch.put(Space::Meta, meta::BOOK, self.book.encode()?);
        self.engine.write(batch)?;
        // Seldom, and a node that has forgotten the others may not be found by them either.
        self.sync_engine().await
    }

    /// What this node tells the coordinator.
    pub fn report(&self) -> Report {
        let replicas = self.replicas();
        let held = |replica: &Arc<Replica>| {
            let state = replica.state();
            (state.range, replica.group().replica(), state.is_placed())
        };
        let leads = replicas.iter().filter(|replica| replica.leads());
        Report {
            row: self.row.lock().clone(),
            usage: Usage {
                disk_bytes: self.volume_bytes,
                free_bytes: self.room.stats().free_bytes.unwrap_or_default(),
                data_bytes: self.engine.disk_bytes(),
            },
            replicas: replicas.iter().map(held).collect(),
            leads: leads.map(|replica| report_of(replica)).collect(),
            stopping: self.stopping.load(Ordering::Relaxed),
        }
    }
}

/// Removes the addresses of ranges that have become parts of another.
async fn forget_absorbed(txn: &Txn, of: &Address) -> Result<(), Error> {
    let Descriptor {
        generation, span, ..
    } = &of.descriptor;
    let inner = Span {
        start: keys::address_key(&after(&span.start)).into(),
        end: keys::address_key(&span.end).into(),
    };
    let mut scan = txn.scan(inner, ScanOptions::default());
    let mut gone = Vec::new();
    while let Some(batch) = scan.next_batch().await? {
        for (key, stored) in batch.iter() {
            // What was split off since is of the same generation or a later one.
            if decode_row::<Address>(stored)?.descriptor.generation < *generation {
                gone.push(Bytes::copy_from_slice(key));
            }
        }
    }
    gone.into_iter().try_for_each(|key| txn.delete(key))
}

/// A range as its leader reports it.
pub(super) fn report_of(replica: &Replica) -> RangeReport {
    let status = replica.group().status();
    let last = status.last.map_or(0, |last| last.index);
    let behind = status.membership.members.keys().map(|member| {
        let matched = status.matched.get(member).copied().flatten();
        let behind = matched.map(|matched| last.saturating_sub(matched.index));
        let own = *member == replica.group().replica();
        (*member, if own { Some(0) } else { behind })
    });
    let behind = behind.collect();
    let place = status.membership.members.get(&replica.group().replica());
    let descriptor = replica.state().descriptor();
    // A range that is frozen may be none any more by the time that others hear of it.
    let stays = descriptor.frozen.is_none();
    RangeReport {
        descriptor,
        leader: pontoon_raft::Peer {
            replica: replica.group().replica(),
            place: place.copied().unwrap_or_default(),
        },
        behind,
        settled: stays && status.membership_committed && status.membership.configs.len() == 1,
        membership: status.membership,
        bytes: replica.state().size(),
        requests: replica.state().load.per_second(),
        term: status.term,
    }
}

//! What the leader of range 1 does for the cluster: it keeps the roll and has replicas moved.

use std::sync::{Arc, Weak};
use std::time::Duration;

use pontoon_raft::NodeId;

use crate::cluster::{
    Answer, Call, Change, Move, NodeRow, NodeState, Opening, Overview, RangeReport, Report, View,
};
use crate::db::node::Node;
use crate::error::Error;
use crate::placement::{self, Step};
use crate::range::Refusal;
use crate::routing::{PeerError, Whom, mismatch, plain};

/// How often the coordinator looks at the cluster.
const EVERY: Duration = Duration::from_millis(500);
/// How long the coordinator may take to say how the cluster is.
const LOOK: Duration = Duration::from_secs(3);
/// Changes of members that are begun in one round.
const BEGUN_MAX: usize = 8;

/// Runs for as long as the node lives.
pub(in crate::db) async fn coordinate(node: Weak<Node>) {
    loop {
        {
            let Some(node) = node.upgrade() else { return };
            if let Err(error) = node.look_around().await {
                tracing::debug!(%error, "the coordinator cannot work");
            }
        }
        let Some(strong) = node.upgrade() else { return };
        let (runtime, every) = (strong.runtime.clone(), strong.every(EVERY));
        drop(strong);
        runtime.sleep(every).await;
    }
}

impl Node {
    /// Notes what a node reports, and tells it how the cluster is.
    pub(super) fn hear_report(&self, report: Report) -> Result<View, Refusal> {
        let (system, leadership) = self.coordinating()?;
        let now = self.runtime.monotonic();
        self.roll.begin(leadership.term, now);
        self.roll.note(report, now);
        Ok(self.view_of(&system))
    }

    /// One round of the coordinator.
    async fn look_around(&self) -> Result<(), Error> {
        let Some(system) = self.system() else {
            return Ok(());
        };
        let Some(leadership) = system.leadership() else {
            return Ok(());
        };
        let now = self.runtime.monotonic();
        self.roll.begin(leadership.term, now);
        self.roll.note(self.report(), now);
        let (mut rows, splits, rules) = self.metadata(&system, leadership.term).await?;
        if !rows.iter().any(|row| row.place == self.me.place) {
            // The first node of a cluster nobody has let in.
            let own = self.row.lock().clone();
            self.write_rows(std::slice::from_ref(&own)).await?;
            rows.push(own);
        }
        let changed: Vec<NodeRow> = self.roll.take_rows(rows);
        if !changed.is_empty() {
            self.write_rows(&changed).await?;
        }
        let view = self.view_of(&system);
        self.learn(view).await;
        if self.peers.is_none() {
            return Ok(());
        }
        let mut picture = self.roll.picture(now);
        (picture.wanted_splits, picture.rules) = (splits, rules);
        self.heed_operators(&mut picture, now);
        for (node, range, replica) in self.roll.strays(&picture, now) {
            tracing::info!(%node, range, %replica, "closing a replica that has left its range");
            let known = picture
                .ranges
                .iter()
                .find(|of| of.descriptor.range == range);
            let call = Call::Close {
                range,
                replica,
                membership: known.and_then(|known| known.membership.position),
            };
            self.have(node, call, None);
        }
        for (node, opening) in self.roll.missing(&picture, now) {
            let (range, replica) = (opening.descriptor.range, opening.replica);
            tracing::info!(%node, range, %replica, "opening a member that is not there");
            self.have_opened(node, opening);
        }
        let steps = placement::plan(&picture, &self.config.placement);
        for Step { node, change, why } in steps.into_iter().take(BEGUN_MAX) {
            tracing::info!(range = change.range, what = ?change.what, why, "moving replicas");
            let range = change.range;
            let begun = Move {
                range,
                what: change.what.clone(),
                why: why.to_owned(),
            };
            self.roll.begin_change(begun, now);
            self.have(node, Call::Change(change), Some(range));
        }
        Ok(())
    }

    /// The cluster as the coordinator sees it, which may be another node.
    pub async fn overview(&self) -> Result<Overview, Refusal> {
        let Ok((system, leadership)) = self.coordinating() else {
            return match self.ask_coordinator(Call::Look, LOOK).await? {
                Answer::Overview(overview) => Ok(overview),
                _ => Err(mismatch()),
            };
        };
        // Of itself it need not wait to hear.
        let now = self.runtime.monotonic();
        self.roll.begin(leadership.term, now);
        self.roll.note(self.report(), now);
        let mut picture = self.roll.picture(now);
        let start = |range: &RangeReport| range.descriptor.span.start.clone();
        picture.ranges.sort_by_key(start);
        let wishes = &self.config.placement;
        let stuck = |range: &RangeReport| {
            let why = placement::stuck(&picture, wishes, range)?;
            Some((range.descriptor.range, why))
        };
        Ok(Overview {
            view: self.view_of(&system),
            stuck: picture.ranges.iter().filter_map(stuck).collect(),
            ranges: picture.ranges,
            moves: self.roll.moves(),
        })
    }

    /// Asks the coordinator, which is another node, once.
    pub(super) async fn ask_coordinator(
        &self,
        call: Call,
        patience: Duration,
    ) -> Result<Answer, Refusal> {
        let (Some(whom), Some(peers)) = (self.next_coordinator(), &self.peers) else {
            return Err(Refusal::Elsewhere(None));
        };
        let called = peers.call(whom.clone(), call);
        match self.runtime.timeout(patience, called).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(PeerError::Refused(refusal))) => {
                if let Refusal::Elsewhere(leader) = &refusal {
                    let named = leader.as_ref().map(|leader| leader.place.node);
                    self.search.sent_on(&whom, named);
                }
                Err(refusal)
            }
            _ => {
                self.search.failed(&whom);
                Err(Refusal::Elsewhere(None))
            }
        }
    }

    /// Notes what the operator wants of a node.
    pub(super) async fn want(&self, node: NodeId, state: NodeState) -> Result<(), Error> {
        let rows = self.node_rows().await?;
        let row = rows.into_iter().find(|row| row.place.node == node);
        let row = row.filter(|row| row.state != NodeState::Gone);
        let Some(row) = row else {
            return Err(Error::Unavailable {
                message: format!("there is no {node} in the cluster"),
            });
        };
        self.write_rows(&[NodeRow { state, ..row }]).await
    }

    /// Asks a node to do something, in the background.
    pub(super) fn have(&self, node: NodeId, call: Call, range: Option<u64>) {
        let Some(strong) = self.myself.upgrade() else {
            return;
        };
        self.runtime.spawn(async move {
            let done = strong.have_done(node, call).await;
            if let Err(refusal) = done {
                let error = plain(refusal);
                tracing::info!(%node, range, %error, "not done, it will be tried again");
            }
            if let Some(range) = range {
                strong.roll.end_change(range);
            }
        });
    }

    /// Has a member opened on its node, in the background; one that was closed there is lost.
    fn have_opened(&self, node: NodeId, opening: Opening) {
        let Some(strong) = self.myself.upgrade() else {
            return;
        };
        self.runtime.spawn(async move {
            let member = (opening.descriptor.range, opening.replica);
            match strong.have_done(node, Call::Open(opening)).await {
                Ok(Answer::Closed) => strong.roll.lose(member),
                Ok(_) => {}
                Err(refusal) => {
                    let error = plain(refusal);
                    tracing::debug!(%node, %error, "not done, it will be tried again");
                }
            }
        });
    }

    pub(in crate::db) async fn have_done(
        self: &Arc<Self>,
        node: NodeId,
        call: Call,
    ) -> Result<Answer, Refusal> {
        if node == self.me.place.node {
            return self.answer(call).await;
        }
        let Some(peers) = &self.peers else {
            return Err(Refusal::Elsewhere(None));
        };
        match peers.call(Whom::Node(node), call).await {
            Ok(answer) => Ok(answer),
            Err(PeerError::Refused(refusal)) => Err(refusal),
            Err(error) => Err(Refusal::Error(Error::Unavailable {
                message: error.to_string(),
            })),
        }
    }

    /// Changes the members of a range now, wherever it is led. For tests and operators.
    pub async fn alter(self: &Arc<Self>, change: Change, leader: NodeId) -> Result<(), Error> {
        let done = self.have_done(leader, Call::Change(change)).await;
        done.map(|_| ()).map_err(plain)
    }
}

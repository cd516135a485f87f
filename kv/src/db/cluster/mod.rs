//! A node among the others: it says that it lives, tells where its ranges are, joins, changes the
//! members of ranges when it is asked to, and coordinates while it leads range 1.

mod change;
mod coordinate;
mod drain;
mod follow;
mod join;
mod roll;
mod token;
mod touch;
mod used;
mod vacate;
mod watch;
#[cfg(test)]
mod watch_tests;
mod wish;

pub(super) use coordinate::coordinate;
pub(super) use follow::{Known, follow};
pub(super) use roll::Roll;
pub(super) use touch::keep_in_touch;
pub(super) use vacate::tell_what_is_left;

use std::time::Duration;

use crate::cluster::{Answer, Call};
use crate::db::node::Node;
use crate::error::Error;
use crate::oracle::Moment;
use crate::range::Refusal;

/// How often a node that has nobody to tell does what others do several times a second.
const EVERY_ALONE: Duration = Duration::from_secs(2);

/// How long handing over what a node leads may take.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

impl Node {
    /// Answers a question of another node.
    pub async fn answer(&self, call: Call) -> Result<Answer, Refusal> {
        match call {
            Call::Range { range, request } => self.serve(range, request).await.map(Answer::Range),
            Call::Now { count } => {
                self.coordinates()?;
                Ok(Answer::Now(self.oracle.block(count).await?))
            }
            Call::Announce => {
                self.coordinates()?;
                let announced = self.oracle.announced().await?;
                Ok(Answer::Now(Moment::alone(announced)))
            }
            Call::Join(candidate) => self.admit(candidate, None).await,
            // Whoever signs certificates takes it for himself, and calls `admit_by_token`.
            Call::JoinByToken { .. } => Err(Refusal::Error(Error::Unavailable {
                message: "the nodes of this cluster have no certificates".into(),
            })),
            Call::KeepToken { hash, ttl_ms } => {
                self.keep_token(&hash, ttl_ms).await?;
                Ok(Answer::Done)
            }
            Call::Heartbeat(report) => self.hear_or_pass_on(report).await,
            Call::PassedOn(report) => self.hear_report(report).map(Answer::View),
            Call::Open(opening) => {
                let opened = self.open_member(&opening).await?;
                Ok(opened.map_or(Answer::Closed, Answer::Opened))
            }
            Call::Close {
                range,
                replica,
                membership,
            } => {
                self.close_member(range, replica, membership).await?;
                Ok(Answer::Done)
            }
            Call::Change(change) => self.change(change).await.map(|()| Answer::Done),
            Call::Settle(frozen) => {
                self.settle_frozen(&frozen.descriptor()).await?;
                Ok(Answer::Done)
            }
            Call::IsAbsorbed { range } => Ok(Answer::Absorbed(self.is_absorbed(range)?)),
            Call::Look => self.overview().await.map(Answer::Overview),
            Call::Watch(asked) => self.watch_here(&asked).await.map(Answer::Watched),
            Call::Want { node, state } => {
                self.want(node, state).await?;
                Ok(Answer::Done)
            }
            Call::WantRange(wish) => {
                self.want_range(wish).await?;
                Ok(Answer::Done)
            }
            Call::Drain => {
                let left = self.drain(DRAIN_PATIENCE).await;
                Ok(Answer::Drained(left as u64))
            }
        }
    }

    /// How often to do what a node of a cluster does every so often.
    fn every(&self, usual: Duration) -> Duration {
        match self.peers {
            Some(_) => usual,
            None => EVERY_ALONE,
        }
    }

    /// Refuses what only the leader of range 1 may answer, with who leads.
    fn coordinates(&self) -> Result<(), Refusal> {
        let Some(system) = self.system() else {
            return Err(Refusal::Elsewhere(None));
        };
        if system.leadership().is_some() {
            return Ok(());
        }
        let leader = system.group().leader_hint();
        match leader.filter(|leader| leader.place.node != self.me.place.node) {
            Some(leader) => Err(Refusal::Elsewhere(Some(leader))),
            // About to be elected, or to hear of somebody else: the call itself waits.
            None => Ok(()),
        }
    }
}

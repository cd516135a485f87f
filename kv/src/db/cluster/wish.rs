//! What operators want of ranges, as the coordinator sees to it.
//!
//! A leader that is wanted, and a range that is to be absorbed, are one change, made at once. A move
//! takes several, which are planned with all others ([`crate::placement`]): its wish is kept until it
//! is fulfilled or makes no sense any more. What was wanted is held for a while after that: balance
//! leaves it alone.
//!
//! Nothing of this is durable. A coordinator that is new knows no wishes; what is half done is
//! completed or taken back like any other change.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use pontoon_raft::NodeId;

use crate::cluster::{Alteration, Call, Change, Move, RangeReport, RangeWish, Wanted};
use crate::db::node::Node;
use crate::error::Error;
use crate::placement::{self, Picture, Wishes};
use crate::range::Refusal;

/// Balance leaves a range alone for so long that is where an operator wanted it.
const HELD: Duration = Duration::from_secs(600);
/// A move that takes longer is given up.
const MOVE_MAX: Duration = Duration::from_secs(3_600);

/// What operators have wanted of ranges, for as long as it matters.
#[derive(Debug, Default)]
pub(super) struct Wanting {
    /// Moves that are not complete: from where, to where, and since when.
    moves: BTreeMap<u64, (NodeId, NodeId, Duration)>,
    /// Ranges that are as they were wanted, and since when.
    held: BTreeMap<u64, Duration>,
}

impl Wanting {
    /// Moves that are not complete, as changes.
    pub(super) fn moves(&self) -> impl Iterator<Item = Move> {
        self.moves.iter().map(|(range, (from, to, _))| Move {
            range: *range,
            what: Alteration::Add(*to),
            why: format!("an operator wants it in place of the one on {from}"),
        })
    }

    /// Takes what the planner has to know into the picture, and gives up what is fulfilled or makes
    /// no sense any more.
    fn heed(&mut self, picture: &mut Picture, wishes: &Wishes, now: Duration) {
        let Self { moves, held } = self;
        moves.retain(|number, (from, to, since)| {
            let found = picture.ranges.iter();
            let mut found = found.filter(|range| range.descriptor.range == *number);
            let Some(range) = found.next().filter(|range| range.settled) else {
                return now.saturating_sub(*since) < MOVE_MAX;
            };
            let (from, to) = (*from, *to);
            if placement::is_fulfilled(range, (from, to)) {
                held.insert(*number, now);
                return false;
            }
            let wanted = Wanted::Move { from, to };
            let why = match now.saturating_sub(*since) < MOVE_MAX {
                true => placement::objection(picture, wishes, range, &wanted),
                false => Some("it takes too long".to_owned()),
            };
            if let Some(why) = &why {
                tracing::warn!(range = number, %from, %to, why, "a move is given up");
            }
            why.is_none()
        });
        held.retain(|_, since| now.saturating_sub(*since) < HELD);
        let wanted = moves
            .iter()
            .map(|(range, (from, to, _))| (*range, (*from, *to)));
        picture.wanted_moves = wanted.collect();
        picture.held = held.keys().copied().collect();
    }
}

fn refuse(message: impl Into<String>) -> Refusal {
    Refusal::Error(Error::Unavailable {
        message: message.into(),
    })
}

impl Node {
    /// Takes what operators want of ranges into the picture that is planned from.
    pub(super) fn heed_operators(&self, picture: &mut Picture, now: Duration) {
        let wishes = &self.config.placement;
        self.roll
            .wanting(|wanting| wanting.heed(picture, wishes, now));
    }

    /// Changes a range as an operator wants it, if this node coordinates; a move has only begun
    /// then.
    ///
    /// Invariant: it is changed only while it has the members that the operator has seen.
    pub(super) async fn want_range(&self, wish: RangeWish) -> Result<(), Refusal> {
        let (system, leadership) = self.coordinating()?;
        let (number, now) = (wish.range, self.runtime.monotonic());
        // Of itself it need not wait to hear.
        self.roll.note(self.report(), now);
        let mut picture = self.roll.picture(now);
        let known = self.metadata(&system, leadership.term).await?;
        (_, picture.wanted_splits, picture.rules) = known;
        self.heed_operators(&mut picture, now);
        let mut ranges = picture.ranges.iter();
        let range = ranges.find(|range| range.descriptor.range == number);
        let range = range.ok_or_else(|| refuse(format!("no node leads a range {number}")))?;
        let changes = picture.changing.contains(&number) || !range.settled;
        if changes || picture.wanted_moves.contains_key(&number) {
            let message = format!("range {number} is being changed at this moment; try it again");
            return Err(refuse(message));
        }
        if range.membership.position != wish.membership {
            let message = format!("the members of range {number} have changed; look at it again");
            return Err(refuse(message));
        }
        let wishes = &self.config.placement;
        if let Some(why) = placement::objection(&picture, wishes, range, &wish.what) {
            return Err(refuse(why));
        }
        tracing::info!(range = number, what = ?wish.what, "an operator wants a range changed");
        let what = match wish.what {
            Wanted::Move { from, to } => {
                let wanted = (from, to, now);
                self.roll
                    .wanting(|wanting| wanting.moves.insert(number, wanted));
                return Ok(());
            }
            Wanted::Lead(node) => {
                let members = range.membership.members.iter();
                let mut on_node = members.filter(|(_, place)| place.node == node);
                let (replica, _) = on_node.next().ok_or(Refusal::Moved)?;
                self.roll
                    .wanting(|wanting| wanting.held.insert(number, now));
                Alteration::Lead(*replica)
            }
            Wanted::Absorb(right) => Alteration::Absorb(right),
        };
        let done = self.change_for_operator(range, what, now).await;
        if done.is_err() {
            self.roll.wanting(|wanting| wanting.held.remove(&number));
        }
        done
    }

    /// Has a range changed now, as one of the steps of the coordinator.
    fn change_for_operator(
        &self,
        range: &RangeReport,
        what: Alteration,
        now: Duration,
    ) -> BoxFuture<'static, Result<(), Refusal>> {
        let Some(strong) = self.myself.upgrade() else {
            return future::ready(Err(refuse("the node is going down"))).boxed();
        };
        let (number, leader) = (range.descriptor.range, range.leader.place.node);
        let begun = Move {
            range: number,
            what: what.clone(),
            why: "an operator wants it".to_owned(),
        };
        let change = Change {
            range: number,
            membership: range.membership.position,
            what,
        };
        self.roll.begin_change(begun, now);
        async move {
            let done = strong.have_done(leader, Call::Change(change)).await;
            strong.roll.end_change(number);
            done.map(|_| ())
        }
        .boxed()
    }
}

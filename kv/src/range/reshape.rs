//! Changes of the bounds of a range: it is split, or absorbed by the range before it.
//!
//! A range is absorbed in three steps, which [`crate::db`] takes one after the other:
//!
//! 1. [`Replica::freeze`]: from then on nothing is written to it, and nobody is served.
//! 2. The nodes of all its members, which are those of the members of the range before it, have
//!    applied that, durably.
//! 3. [`Replica::absorb`]: an entry of the range before it takes its keys in. Rows stay where they
//!    are, since they do not name their range.
//!
//! Whether a frozen range was absorbed is decided in one place: at the first key of the range before
//! it, by the entry that first notes its [`Fate`] there. Whoever finds a range frozen for long asks
//! there, and so decides that it was not, if nothing was noted yet; only then it is thawed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pontoon_raft::{Leadership, LogPosition, Membership};
use serde::{Deserialize, Serialize};

use crate::concurrency::{LatchGuard, LatchRequest, ReadSpan};
use crate::error::Error;
use crate::keys::meta;
use crate::range::command::{Absorb, Body, Renounce, Split};
use crate::range::descriptor::{Descriptor, Frozen};
use crate::range::machine::ABSORBED;
use crate::range::replica::{Refusal, Replica, Sent};
use crate::range::several::Evaluated;
use crate::storage::Space;
use crate::timestamp::Timestamp;

/// How often to look whether new bounds are applied.
const APPLY_WAIT: Duration = Duration::from_millis(1);

/// A range that is frozen, as its leader describes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Absorbable {
    /// Its bounds.
    pub bounds: Descriptor,
    /// What it is frozen for.
    pub frozen: Frozen,
    /// Its members, all of which vote, and which stay.
    pub membership: Membership,
    /// Below this, history may be gone.
    pub safe_point: Timestamp,
    /// Bytes of its rows, roughly.
    pub bytes: u64,
}

impl Absorbable {
    /// The range as its replicas have it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            frozen: Some(self.frozen.clone()),
            ..self.bounds.clone()
        }
    }
}

/// What became of a range that was frozen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fate {
    /// It is a part of the range that it was frozen for.
    Absorbed,
    /// It never will be.
    Renounced,
}

fn unavailable(message: String) -> Refusal {
    Refusal::Error(Error::Unavailable { message })
}

impl Replica {
    /// Gives the keys from `key` on to a new range, on every replica. Returns when that is applied
    /// here.
    ///
    /// Invariant: nothing is under way on the keys that leave: the split holds latches on the whole
    /// range from its evaluation until it is applied.
    pub async fn split(&self, key: &Bytes, child: u64) -> Result<(), Refusal> {
        let (guard, leadership) = self.alone().await?;
        let before = self.state().descriptor();
        if !before.serves(key) || before.span.start == *key {
            return Err(Refusal::Moved);
        }
        let split = Split {
            child,
            key: key.clone(),
        };
        let body = Body::Split(split);
        self.reshape(guard, leadership, body, before.generation)
            .await
    }

    /// Freezes the range, so that the one before it can absorb it. Returns when that is applied
    /// here. Nothing is done when it is frozen for that already.
    ///
    /// Invariant: the members of a frozen range stay: it is frozen while no change of them is under
    /// way, and none begins until it is thawed.
    pub async fn freeze(&self, frozen: &Frozen) -> Result<Absorbable, Refusal> {
        let range = self.state().range;
        let Ok(_one) = self.state().reshaping.try_lock() else {
            return Err(unavailable(format!("range {range} is being changed")));
        };
        #[cfg(test)]
        if self
            .state()
            .skip_freeze
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            return Ok(self.absorbable(frozen));
        }
        let (guard, leadership) = self.alone().await?;
        let before = self.state().descriptor();
        if before.frozen.as_ref() == Some(frozen) {
            return Ok(self.absorbable(frozen));
        }
        self.steady_members()?;
        let body = Body::Freeze(frozen.clone());
        self.reshape(guard, leadership, body, before.generation)
            .await?;
        Ok(self.absorbable(frozen))
    }

    fn absorbable(&self, frozen: &Frozen) -> Absorbable {
        let state = self.state();
        let (bytes, written) = (&state.bytes, &state.written);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        Absorbable {
            bounds: state.descriptor(),
            frozen: frozen.clone(),
            membership: self.group().status().membership,
            safe_point: state.safe_point(),
            bytes: bytes.load(relaxed) + written.load(relaxed),
        }
    }

    /// The members of the range, when they all vote and no change of them is under way.
    pub fn steady_members(&self) -> Result<Membership, Refusal> {
        let status = self.group().status();
        let members = status.membership;
        let settled = status.membership_committed && members.configs.len() == 1;
        if settled && members.learners().is_empty() {
            Ok(members)
        } else {
            let range = self.state().range;
            let message = format!("the members of range {range} are being changed");
            Err(unavailable(message))
        }
    }

    /// Ends that the range is frozen as of `generation`. The caller knows that it was renounced.
    pub async fn thaw(&self, generation: u64) -> Result<(), Refusal> {
        if self.state().descriptor().generation > generation {
            return Ok(());
        }
        let (guard, leadership) = self.alone().await?;
        let before = self.state().descriptor();
        if before.generation != generation || before.frozen.is_none() {
            return Ok(());
        }
        self.reshape(guard, leadership, Body::Thaw, generation)
            .await
    }

    /// Takes the range behind this one in, which is frozen for that, durably on the nodes of all
    /// members of this one, as they were made by the entry at `membership`. Returns when that is
    /// applied here.
    pub async fn absorb(&self, other: &Absorbable, membership: LogPosition) -> Result<(), Refusal> {
        let right = other.descriptor();
        let (guard, leadership) = self.alone().await?;
        let before = self.state().descriptor();
        if before.frozen.is_some() || before.span.end != right.span.start {
            return Err(Refusal::Moved);
        }
        let renounce = Renounce {
            start: before.span.start.clone(),
            right: right.range,
            generation: right.generation,
        };
        if self.noted_fate(&renounce)?.is_some() {
            return Err(unavailable(format!(
                "range {} was not absorbed in time",
                right.range
            )));
        }
        let absorb = Absorb {
            right,
            safe_point: other.safe_point,
            bytes: other.bytes,
            membership,
        };
        let body = Body::Absorb(absorb);
        self.reshape(guard, leadership, body, before.generation)
            .await
    }

    /// What became of a range that was frozen for the one that began with the key `start`. When
    /// nothing is noted yet, it is renounced by this.
    pub async fn fate(&self, of: &Renounce) -> Result<Fate, Refusal> {
        let keys: Arc<[Bytes]> = Arc::from([of.start.clone()]);
        let evaluate = || {
            self.holds_all(Some(&of.start), None)?;
            Ok(match self.noted_fate(of)? {
                Some(fate) => Evaluated::Done(fate),
                None => {
                    let body = Body::Renounce(of.clone());
                    Evaluated::Replicate(body, Timestamp::MAX, Fate::Renounced)
                }
            })
        };
        self.under_latches(&keys, evaluate).await
    }

    fn noted_fate(&self, of: &Renounce) -> Result<Option<Fate>, Error> {
        let key = meta::fate(&of.start, of.right, of.generation);
        let stored = self.state().engine.get(Space::Meta, &key)?;
        Ok(stored.map(|stored| {
            if stored == ABSORBED {
                Fate::Absorbed
            } else {
                Fate::Renounced
            }
        }))
    }

    /// Waits until nothing is under way in the range, and keeps it so.
    async fn alone(&self) -> Result<(LatchGuard, Leadership), Refusal> {
        if self.leadership().is_none() {
            self.lead().await?;
        }
        let span = self.state().descriptor().span;
        #[cfg(test)]
        let waits = !self
            .state()
            .skip_bounds
            .load(std::sync::atomic::Ordering::Relaxed);
        #[cfg(not(test))]
        let waits = true;
        let latches = LatchRequest {
            writes: Arc::from([]),
            reads: Vec::from_iter(waits.then(|| ReadSpan::Range(span.clone()))),
        };
        let guard = self.latched(latches).await;
        let (Some(guard), Some(leadership)) = (guard, self.leadership()) else {
            return Err(self.has_changed_leader());
        };
        // It may have been absorbing another while this waited.
        if self.state().descriptor().span.end > span.end {
            return Err(Refusal::Moved);
        }
        Ok((guard, leadership))
    }

    fn has_changed_leader(&self) -> Refusal {
        let range = self.state().range;
        unavailable(format!("range {range} has changed leader"))
    }

    /// Replicates a change of the bounds, and waits until it is applied here.
    async fn reshape(
        &self,
        guard: LatchGuard,
        leadership: Leadership,
        body: Body,
        before: u64,
    ) -> Result<(), Refusal> {
        match self.send(guard, leadership, body).await? {
            Sent::Done => {}
            Sent::Refused => return Err(self.has_changed_leader()),
            Sent::Unknown => return Err(Error::Ambiguous.into()),
        }
        let applied = async {
            while self.state().descriptor.read().generation == before {
                self.runtime.sleep(APPLY_WAIT).await;
            }
        };
        // The replica may be stopped; then it is applied when it is opened again.
        let applied = self.runtime.timeout(self.patience, applied).await;
        applied.ok_or(Refusal::Error(Error::Ambiguous))
    }
}

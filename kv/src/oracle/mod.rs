//! Timestamps: strictly increasing, never behind wall time, from windows whose upper bound is
//! replicated before use.
//!
//! ```text
//!         handed out        window: ours to hand out      replicated bound
//!  -----|xxxxxxxxxxxxxxxxx|------------------------------|----------------->
//!                       next                           limit
//! ```
//!
//! The leader of range 1 hands them out. It asks a replica for its leadership on each call, after
//! the request has arrived, and takes the next number from an atomic: no task switch, no lock. A
//! new leader first applies everything its predecessors have replicated, so it knows the highest
//! bound, and begins above it.
//!
//! Invariant: a timestamp is handed out only below a replicated bound.
//! Invariant: a leader begins at or above every bound of earlier leaders.
//!
//! Beside each timestamp it tells which commit was *announced* last: some commits, those that change
//! the catalog, take their timestamps by [`TimestampSource::announce`]. So whoever has read the catalog
//! once knows with the next timestamp, without a message more, whether it has changed since.
//!
//! Invariant: every timestamp above that of an announced commit comes with one that is not below it.

mod window;

pub use window::{WINDOW_MS, Window};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::timestamp::Timestamp;

/// A timestamp, and what was known of announcements when it was handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Moment {
    /// The timestamp.
    pub at: Timestamp,
    /// No announced commit has a timestamp above this one and not above [`Self::at`].
    pub announced: Timestamp,
}

impl Moment {
    /// A timestamp of which nothing more is known.
    pub fn alone(at: Timestamp) -> Self {
        let announced = Timestamp::MAX;
        Self { at, announced }
    }

    /// Whether it is known that no announced commit lies above `since` and not above this.
    pub fn is_quiet_since(&self, since: Timestamp) -> bool {
        self.announced <= since
    }
}

/// Where a node gets its timestamps from.
pub trait TimestampSource: Send + Sync + 'static {
    /// A timestamp at once, if that needs neither waiting nor a message.
    fn try_moment(&self) -> Option<Moment>;

    /// A timestamp above every one handed out before the call.
    fn moment(&self) -> BoxFuture<'_, Result<Moment, Error>>;

    /// Like [`Self::now`], for a commit that is to be announced: every timestamp above this one tells
    /// of it, whether the commit takes effect or not.
    fn announce(&self) -> BoxFuture<'_, Result<Timestamp, Error>>;

    /// [`Self::try_moment`], for those who do not care what was announced.
    fn try_now(&self) -> Option<Timestamp> {
        self.try_moment().map(|moment| moment.at)
    }
}

impl dyn TimestampSource {
    /// [`Self::moment`], without the cost of a boxed future where none is needed.
    pub async fn next(&self) -> Result<Moment, Error> {
        match self.try_moment() {
            Some(moment) => Ok(moment),
            None => self.moment().await,
        }
    }

    /// [`Self::next`], for those who do not care what was announced.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        self.next().map(|moment| Ok(moment?.at)).await
    }
}

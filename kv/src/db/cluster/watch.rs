//! Watches of the cluster's metadata, which the coordinator answers (`docs/design/0021`).
//!
//! Nothing is kept for those who watch: a question names the revision that was seen, and the
//! history of the rows is what is told from. So a slow watcher holds up nobody, a new coordinator
//! goes on where the old one ended, and a question may be asked twice.
//!
//! Invariant: an answer tells every commit between the revision that was asked from and its own,
//! each once, in order, and none that is not applied.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use pontoon_raft::Leadership;

use crate::cluster::{Answer, Call, Topic, WatchEvent, Watched, WatchedKind, Watching};
use crate::db::Db;
use crate::db::node::Node;
use crate::error::Error;
use crate::mvcc::Change;
use crate::range::{Refusal, Replica, Told};
use crate::routing::{mismatch, plain};
use crate::timestamp::Timestamp;
use crate::txn::Span;

/// No answer waits longer for a change.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often it is looked, while one waits, whether this node still coordinates.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How much longer than its wait the coordinator may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Changes in one answer, unless one commit has more.
pub(super) const CHANGES_MAX: usize = 1_000;
/// The pause before the coordinator is asked again that was not found.
const AGAIN: Duration = Duration::from_millis(50);
/// One who asks too late, by a planted fault, is so late.
#[cfg(test)]
const LATE: Duration = Duration::from_millis(20);

impl Node {
    /// What has changed of the cluster's metadata, from whichever node coordinates.
    ///
    /// # Errors
    /// [`Refusal::Elsewhere`] when that is not the node that was asked, which names another if it
    /// can.
    pub(crate) async fn watch(&self, asked: Watching) -> Result<Watched, Refusal> {
        if self.coordinating().is_ok() {
            return self.watch_here(&asked).await;
        }
        let patience = Duration::from_millis(asked.wait_ms.into()).min(WAIT_MAX) + ANSWER;
        match self.ask_coordinator(Call::Watch(asked), patience).await? {
            Answer::Watched(watched) => Ok(watched),
            _ => Err(mismatch()),
        }
    }

    /// Answers as the coordinator: at once when there is something to tell, else when there is, or
    /// at the end of the wait.
    pub(super) async fn watch_here(&self, asked: &Watching) -> Result<Watched, Refusal> {
        let wait = Duration::from_millis(asked.wait_ms.into()).min(WAIT_MAX);
        let until = self.runtime.monotonic() + wait;
        loop {
            let (system, _) = self.coordinating()?;
            // Before the store is read: what is applied later is heard of, the rest is read.
            let stirred = system.state().stirred.count();
            let watched = self.read_metadata(&system, asked).await?;
            if watched.tells() || self.runtime.monotonic() >= until {
                return Ok(watched);
            }
            #[cfg(test)]
            let stirred = match self.subscribes_late.load(Ordering::Relaxed) {
                true => {
                    self.runtime.sleep(LATE).await;
                    system.state().stirred.count()
                }
                false => stirred,
            };
            self.wait_for_stir(&system, stirred, until).await?;
        }
    }

    /// Waits until something was written, or the time is over, as long as this node coordinates and
    /// goes on to.
    async fn wait_for_stir(
        &self,
        system: &Replica,
        seen: u64,
        until: Duration,
    ) -> Result<(), Refusal> {
        loop {
            let left = until.saturating_sub(self.runtime.monotonic());
            let look = left.min(LOOK_EVERY);
            let stirred = system.state().stirred.beyond(seen);
            let heard = self.runtime.timeout(look, stirred).await;
            if heard.is_some() || look == left {
                return Ok(());
            }
            self.coordinating()?;
            if self.stopping.load(Ordering::Relaxed) {
                return Err(Refusal::Elsewhere(None));
            }
        }
    }

    async fn read_metadata(&self, system: &Replica, asked: &Watching) -> Result<Watched, Refusal> {
        let spans: Vec<Span> = asked.topics.iter().map(|topic| topic.span()).collect();
        let told = loop {
            let at = match self.timestamps.try_now() {
                Some(now) => now,
                None => self.timestamps.now().await?,
            };
            let told = system.changes(&spans, asked.since, at, CHANGES_MAX).await;
            match told {
                Ok(told) => break (told, at),
                Err(Refusal::Intent(foreign)) => self.settle(&foreign, false).await?,
                Err(refusal) => {
                    // Mostly because another has been elected meanwhile.
                    self.coordinating()?;
                    return Err(refusal);
                }
            }
        };
        Ok(match told {
            (Told::Changes(changes, upto), _) => {
                debug_assert!(asked.since <= upto, "Invariant: revisions do not go back");
                Watched {
                    revision: upto,
                    kind: WatchedKind::Changes,
                    events: changes.into_iter().filter_map(event).collect(),
                }
            }
            (Told::Rows(rows), at) => Watched {
                revision: at,
                kind: match asked.since {
                    Timestamp::ZERO => WatchedKind::Rows,
                    _ => WatchedKind::Compacted,
                },
                events: rows.into_iter().filter_map(event).collect(),
            },
        })
    }

    /// The replica of range 1 and its leadership, if this node coordinates.
    ///
    /// # Errors
    /// [`Refusal::Elsewhere`], with who does if that is known.
    pub(super) fn coordinating(&self) -> Result<(Arc<Replica>, Leadership), Refusal> {
        let system = self.system().ok_or(Refusal::Elsewhere(None))?;
        if let Some(leadership) = system.leadership() {
            return Ok((system, leadership));
        }
        let leader = system.group().leader_hint();
        let other = leader.filter(|leader| leader.place.node != self.me.place.node);
        Err(Refusal::Elsewhere(other))
    }
}

fn event(change: Change) -> Option<WatchEvent> {
    let topic = Topic::of(&change.key)?;
    // A span is all that begins with one byte.
    let prefix = topic.span().start.len();
    Some(WatchEvent {
        revision: change.commit,
        topic,
        key: Bytes::copy_from_slice(change.key.get(prefix..)?),
        value: change.value,
        old: change.old,
    })
}

impl Watched {
    /// Whether it tells more than that time has passed.
    fn tells(&self) -> bool {
        !self.events.is_empty() || self.kind != WatchedKind::Changes
    }
}

impl Db {
    /// What has changed of the cluster's metadata since a revision, from wherever the coordinator is.
    /// Comes at once when there is something to tell, else after `wait` at the latest, which may
    /// take several questions. Zero as revision asks for the rows as they are.
    ///
    /// Cancellation: dropping the future gives up the answer and nothing else.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no coordinator was found for as long as the node is patient.
    pub async fn watch(
        &self,
        topics: &[Topic],
        mut since: Timestamp,
        wait: Duration,
    ) -> Result<Watched, Error> {
        let node = self.node();
        let patience = Duration::from_millis(node.config.patience_ms.max(1));
        let until = node.runtime.monotonic() + wait;
        let mut lost_at = node.runtime.monotonic() + patience;
        loop {
            let left = until.saturating_sub(node.runtime.monotonic());
            let asked = Watching {
                topics: topics.to_vec(),
                since,
                wait_ms: u32::try_from(left.min(WAIT_MAX).as_millis()).unwrap_or(u32::MAX),
            };
            match node.watch(asked).await {
                Ok(watched) => {
                    let now = node.runtime.monotonic();
                    if watched.tells() || now >= until {
                        return Ok(watched);
                    }
                    since = watched.revision;
                    lost_at = now + patience;
                }
                Err(refusal) => match plain(refusal) {
                    error @ Error::Unavailable { .. } if node.runtime.monotonic() < lost_at => {
                        tracing::debug!(%error, "a watch looks for the coordinator");
                        node.runtime.sleep(AGAIN).await;
                    }
                    error => return Err(error),
                },
            }
        }
    }
}

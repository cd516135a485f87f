//! Commits over several ranges: intents everywhere, one timestamp, validation, one decision.
//!
//! ```text
//!  1 prewrite   intents in every range that is written, at once, each naming the primary key
//!  2 timestamp  c, when all of them are in place
//!  3 validate   nothing that was read has a foreign version up to c, or a foreign intent
//!  4 decide     at the primary key: its intents become versions at c, with the record
//!  5 resolve    the other intents, behind the acknowledgement; then the record is forgotten
//! ```
//!
//! Invariant: c is taken when all intents of the transaction are applied, or latched. So of two
//! transactions the one with the larger timestamp validates when the intents of the other are in
//! place, and meets them or what they have become.
//! Invariant: whoever waits for another transaction here waits for an older one; a younger one that
//! is in the way is rolled back through its primary key, unless it has committed. So there is no
//! cycle.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::try_join_all;
use parking_lot::Mutex;

use crate::db::{Node, certain};
use crate::error::{ConflictReason, Error};
use crate::mvcc::Outcome as Ending;
use crate::range::{CommitRequest, PrewriteRequest, Refusal, SAYS_SO, Writes, commit_moment};
use crate::routing::{Route, plain};
use crate::timestamp::Timestamp;
use crate::txn::Span;
use crate::txn::reads::{after, catalog_read};

/// What a transaction writes in one range.
struct Part {
    route: Route,
    writes: Arc<Writes>,
}

impl Part {
    /// A span that holds all of its keys.
    fn span(&self) -> Option<Span> {
        let (first, _) = self.writes.first_key_value()?;
        let (last, _) = self.writes.last_key_value()?;
        Some(Span {
            start: first.clone(),
            end: after(last),
        })
    }
}

/// A commit over several ranges on its way. When it is dropped, whatever it has left behind is
/// cleared away.
struct Commit {
    node: Arc<Node>,
    start: Timestamp,
    primary: Bytes,
    /// Where it may have written intents; none before it begins to.
    spans: Mutex<Vec<Span>>,
    /// How it ended, once that is known here.
    ending: Option<Ending>,
}

/// Commits a transaction whose writes lie in more than one range, or whose reads lie elsewhere than
/// its writes, and returns its timestamp.
///
/// # Errors
/// [`Error::Conflict`] when another transaction was in the way; [`Error::Ambiguous`] when the
/// decision was proposed and nobody can be asked what became of it.
pub(super) async fn commit(node: &Arc<Node>, request: &CommitRequest) -> Result<Timestamp, Error> {
    let CommitRequest { start, writes, .. } = request;
    let primary = writes.keys().next().cloned().ok_or(Error::Finished)?;
    let mut commit = Commit {
        node: Arc::clone(node),
        start: *start,
        primary,
        spans: Mutex::default(),
        ending: None,
    };
    commit.run(request).await
}

/// Parts writes by the ranges that hold them.
fn parts(node: &Node, writes: &Writes) -> Result<Vec<Part>, Refusal> {
    let mut by_range: BTreeMap<u64, (Route, Writes)> = BTreeMap::new();
    let mut current: Option<(Route, Span)> = None;
    for (key, write) in writes {
        let route = match &current {
            Some((route, span)) if span.contains(key) => route,
            _ => {
                let route = node.route(key)?;
                let span = route.span();
                &current.insert((route, span)).0
            }
        };
        let part = by_range
            .entry(route.range())
            .or_insert_with(|| (route.clone(), Writes::new()));
        part.1.insert(key.clone(), write.clone());
    }
    let parts = by_range.into_values().map(|(route, writes)| Part {
        route,
        writes: Arc::new(writes),
    });
    Ok(parts.collect())
}

impl Commit {
    async fn run(&mut self, request: &CommitRequest) -> Result<Timestamp, Error> {
        let outcome = {
            let living = say_so(&self.node, &self.primary, self.start);
            let working = self.prewrite_and_decide(request);
            let (living, working) = (std::pin::pin!(living), std::pin::pin!(working));
            match futures::future::select(living, working).await {
                futures::future::Either::Left((never, _)) => match never {},
                futures::future::Either::Right((outcome, _)) => outcome,
            }
        };
        match outcome {
            Ok(Ending::Committed(commit)) => {
                self.ending = Some(Ending::Committed(commit));
                Ok(commit)
            }
            Ok(Ending::RolledBack) => {
                self.ending = Some(Ending::RolledBack);
                Err(Error::Conflict {
                    reason: ConflictReason::ConcurrentUpdate,
                })
            }
            Err(Error::Ambiguous) => self.look_up().await,
            Err(error) => Err(error),
        }
    }

    async fn prewrite_and_decide(&self, request: &CommitRequest) -> Result<Ending, Error> {
        let node = &self.node;
        let CommitRequest { writes, reads, .. } = request;
        #[cfg(test)]
        let early = node.timestamps.now().await?;
        // Before the decision nothing is open: what is not decided can be rolled back.
        let prewritten = node.while_ranges_move(|| self.prewrite_all(writes)).await;
        prewritten.map_err(plain).map_err(certain)?;
        // Invariant: only now.
        let moment = commit_moment(writes, &*node.timestamps).await?;
        let commit = moment.at;
        #[cfg(test)]
        let commit = {
            let planted = &node.early_timestamps;
            let planted = planted.load(std::sync::atomic::Ordering::Relaxed);
            if planted { early } else { commit }
        };
        debug_assert!(
            self.start < commit && reads.iter().all(|read| read.at < commit),
            "Invariant: a commit timestamp is above everything the transaction has read"
        );
        let valid = node.validate(reads, self.start, commit, true).await;
        valid.map_err(certain)?;
        if let Some(at) = request.catalog_at
            && !moment.is_quiet_since(at)
        {
            let read = [catalog_read(at)];
            let valid = node.validate(&read, self.start, commit, true).await;
            valid.map_err(certain)?;
        }
        let decided = node.while_ranges_move(|| self.decide(writes, commit)).await;
        decided.map_err(plain)
    }

    async fn prewrite_all(&self, writes: &Writes) -> Result<(), Refusal> {
        let parts = parts(&self.node, writes)?;
        *self.spans.lock() = parts.iter().filter_map(Part::span).collect();
        let prewrites = parts.iter().map(|part| self.prewrite(part).boxed());
        try_join_all(prewrites).await?;
        Ok(())
    }

    async fn prewrite(&self, part: &Part) -> Result<(), Refusal> {
        let request = PrewriteRequest {
            start: self.start,
            primary: self.primary.clone(),
            writes: Arc::clone(&part.writes),
        };
        while let Some(foreign) = self.node.prewrite(&part.route, &request).await? {
            let younger = self.start < foreign.start;
            self.node.settle(&foreign, younger).await?;
        }
        Ok(())
    }

    async fn decide(&self, writes: &Writes, commit: Timestamp) -> Result<Ending, Refusal> {
        let parts = parts(&self.node, writes)?;
        let (home, others): (Vec<&Part>, Vec<&Part>) = parts
            .iter()
            .partition(|part| part.writes.contains_key(&self.primary));
        let home = home.first().ok_or(Refusal::Moved)?;
        let keys: Arc<[Bytes]> = home.writes.keys().cloned().collect();
        let spans: Vec<Span> = others.iter().filter_map(|part| part.span()).collect();
        let at = (self.start, commit);
        let decided = self
            .node
            .decide(&home.route, &self.primary, at, keys, spans);
        decided.await
    }

    /// The outcome of a decision that was proposed to a leader that is gone.
    async fn look_up(&mut self) -> Result<Timestamp, Error> {
        // Below the safe point an end that was forgotten looks like none; wherever the primary key
        // lies, that is not above here.
        let Ok(now) = self.node.timestamps.now().await else {
            return Err(Error::Ambiguous);
        };
        let kept = now.millis().saturating_sub(self.node.config.retention_ms);
        if self.start < Timestamp::from_millis(kept) {
            return Err(Error::Ambiguous);
        }
        let status = self.node.push(&self.primary, self.start, true).await;
        match status {
            Ok(crate::range::Status::Ended(ending)) => {
                self.ending = Some(ending);
                match ending {
                    Ending::Committed(commit) => Ok(commit),
                    Ending::RolledBack => Err(Error::Conflict {
                        reason: ConflictReason::ConcurrentUpdate,
                    }),
                }
            }
            _ => Err(Error::Ambiguous),
        }
    }
}

enum Never {}

/// Says now and then, for ever, that the transaction lives.
async fn say_so(node: &Node, primary: &Bytes, start: Timestamp) -> Never {
    loop {
        node.runtime.sleep(SAYS_SO).await;
        node.hear(primary, start).await;
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        let spans = std::mem::take(self.spans.get_mut());
        if spans.is_empty() {
            return;
        }
        let node = Arc::clone(&self.node);
        let (primary, start, ending) = (self.primary.clone(), self.start, self.ending);
        let runtime = node.runtime.clone();
        runtime.spawn(async move {
            let cleared = node.conclude(&primary, start, ending, &spans).await;
            if let Err(error) = cleared {
                tracing::debug!(%error, %start, "intents are left to whoever meets them");
            }
        });
    }
}

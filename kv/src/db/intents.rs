//! What a node does about intents: those in somebody's way, those of transactions that are over,
//! and those that nobody has met for long.

use std::collections::VecDeque;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::db::node::Node;
use crate::error::Error;
use crate::mvcc::Outcome as Ending;
use crate::range::{Foreign, ReadEntry, Refusal, Replica, Status};
use crate::routing::plain;
use crate::timestamp::Timestamp;
use crate::txn::Span;

/// How long to wait for an intent to go before its transaction is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How often a node looks for intents and records that are left.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Intents and records that have been there for so long are left: something is done about them.
const LEFT: Duration = Duration::from_secs(10);
/// Transactions and records that are looked at in one range at a time.
const LOOKED_AT_MAX: usize = 256;

impl Node {
    /// Waits until an intent is gone, or ends it: by how its transaction ended, when it has, or by
    /// rolling it back, when nobody has heard of it for long or `force` asks for it.
    pub(crate) async fn settle(&self, foreign: &Foreign, force: bool) -> Result<(), Error> {
        loop {
            let routed = || async { self.route(&foreign.key) };
            let route = self.while_ranges_move(routed).await.map_err(plain)?;
            // What a replica knows that does not lead may be old.
            let leading = route.held().filter(|held| held.leadership().is_some());
            if leading.is_some_and(|held| !held.state().intents.has(&foreign.key, foreign.start)) {
                return Ok(());
            }
            match (self.end_if_over(foreign, force).await?, leading) {
                (Status::Ended(_), _) => return Ok(()),
                (Status::Pending, Some(held)) => {
                    let gone = held.state().intents.gone(foreign);
                    self.runtime.timeout(ASK_AGAIN, gone).await;
                }
                (Status::Pending, None) => self.runtime.sleep(ASK_AGAIN).await,
            }
        }
    }

    /// Asks how the transaction of an intent stands, and ends the intents that it has in this range
    /// when it is over or is given up, as with [`Self::settle`].
    async fn end_if_over(&self, foreign: &Foreign, force: bool) -> Result<Status, Error> {
        let txn = (&foreign.primary, foreign.start);
        let status = self.push(txn.0, txn.1, force).await.map_err(certain)?;
        if let Status::Ended(ending) = status {
            let resolved = || async {
                let route = self.route(&foreign.key)?;
                self.resolve(&route, txn, ending, route.span()).await
            };
            let resolved = self.while_ranges_move(resolved).await;
            resolved.map_err(|refusal| certain(plain(refusal)))?;
        }
        Ok(status)
    }

    /// Does something again and again while intents are in its way; `own` rolls back transactions
    /// that are younger, if `force` says so.
    pub(crate) async fn settling<T, F>(
        &self,
        own: Timestamp,
        force: bool,
        mut what: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let mut until = None;
        loop {
            match what().await {
                Ok(done) => return Ok(done),
                Err(Refusal::Moved | Refusal::Elsewhere(_)) => {
                    self.wait_for_ranges(&mut until).await?;
                }
                Err(Refusal::Intent(foreign)) => {
                    let younger = own < foreign.start;
                    self.settle(&foreign, force && younger).await?;
                }
                Err(refusal) => return Err(plain(refusal)),
            }
        }
    }

    /// Checks in each range that nothing of what was read there was written up to `upto`, for the
    /// transaction `own`.
    ///
    /// Invariant: every part of every read is checked in the range that holds it.
    pub(crate) async fn validate(
        &self,
        reads: &[ReadEntry],
        own: Timestamp,
        upto: Timestamp,
        force: bool,
    ) -> Result<(), Error> {
        let mut left: Vec<ReadEntry> = reads.to_vec();
        let mut until = None;
        while let Some(next) = left.first() {
            let Ok(route) = self.route(next.span.first_key()) else {
                self.wait_for_ranges(&mut until).await?;
                continue;
            };
            let (here, elsewhere) = part(left.clone(), &route.span());
            match self.validate_in(&route, &here, own, upto).await {
                Ok(()) if here.is_empty() => self.wait_for_ranges(&mut until).await?,
                Ok(()) => left = elsewhere,
                Err(Refusal::Moved | Refusal::Elsewhere(_)) => {
                    self.wait_for_ranges(&mut until).await?;
                }
                Err(Refusal::Intent(foreign)) => {
                    let younger = own < foreign.start;
                    self.settle(&foreign, force && younger).await?;
                }
                Err(refusal) => return Err(plain(refusal)),
            }
        }
        Ok(())
    }

    /// Clears away what a transaction has left: ends it if it has not ended, resolves its intents in
    /// `spans` and, if it committed, forgets its record.
    pub(crate) async fn conclude(
        &self,
        primary: &Bytes,
        start: Timestamp,
        ending: Option<Ending>,
        spans: &[Span],
    ) -> Result<(), Error> {
        let ending = match ending {
            Some(ending) => ending,
            None => match self.push(primary, start, true).await? {
                Status::Ended(ending) => ending,
                // A push with force ends it.
                Status::Pending => return Ok(()),
            },
        };
        for span in spans {
            let mut left = span.clone();
            while left.start < left.end {
                let resolved = || async {
                    let (route, here) = self.route_part(&left, false)?;
                    let end = here.end.clone();
                    self.resolve(&route, (primary, start), ending, here).await?;
                    Ok(end)
                };
                left.start = self.while_ranges_move(resolved).await.map_err(plain)?;
            }
        }
        if let Ending::Committed(_) = ending {
            self.forget(primary, start).await?;
        }
        Ok(())
    }

    /// Looks after what is left in all ranges.
    async fn clear_all(&self, looks: &mut Looks) -> Result<(), Error> {
        let mut replicas = self.replicas();
        replicas.retain(|replica| {
            let state = replica.state();
            !state.intents.is_empty() || state.records.load(Ordering::Acquire) > 0
        });
        if replicas.is_empty() {
            looks.0.clear();
            return Ok(());
        }
        let before = looks.note(self.runtime.monotonic(), self.timestamps.now().await?);
        for replica in replicas {
            if let Err(error) = self.clear(&replica, before).await {
                let range = replica.state().range;
                tracing::debug!(range, %error, "intents that are left have to wait");
            }
        }
        Ok(())
    }

    /// Looks after what transactions that began before `before` have left in a range, if this node
    /// leads it.
    async fn clear(&self, replica: &Replica, before: Timestamp) -> Result<(), Error> {
        if !replica.leads() || replica.state().is_frozen() {
            return Ok(());
        }
        for foreign in replica.state().intents.older_than(before, LOOKED_AT_MAX) {
            // The transaction may live; then it is asked again at the next look.
            self.end_if_over(&foreign, false).await?;
        }
        let safe_point = replica.state().safe_point();
        for (primary, start, record) in replica.records(LOOKED_AT_MAX)? {
            match record.outcome {
                Ending::Committed(_) if start < before => {
                    let spans = &record.spans;
                    self.conclude(&primary, start, Some(record.outcome), spans)
                        .await?;
                }
                // No intent that comes late is admitted below the safe point.
                Ending::RolledBack if start < safe_point => self.forget(&primary, start).await?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// When it was looked, and the timestamp of then. (Timestamps alone stand still while the clock of
/// the coordinator is behind that of the one before.)
#[derive(Debug, Default)]
struct Looks(VecDeque<(Duration, Timestamp)>);

impl Looks {
    /// Notes a look. What began before the timestamp that is returned has been there for [`LEFT`].
    fn note(&mut self, at: Duration, now: Timestamp) -> Timestamp {
        let Self(looks) = self;
        looks.push_back((at, now));
        let long_ago =
            |look: Option<&(Duration, Timestamp)>| look.is_some_and(|l| l.0 + LEFT <= at);
        while long_ago(looks.get(1)) {
            looks.pop_front();
        }
        let first = looks.front().filter(|first| long_ago(Some(first)));
        first.map_or(Timestamp::ZERO, |first| first.1)
    }
}

/// What is unknown of the end of other transactions' intents leaves nothing open in one's own.
pub(crate) fn certain(error: Error) -> Error {
    match error {
        Error::Ambiguous => Error::Unavailable {
            message: "a range has changed leaders".into(),
        },
        other => other,
    }
}

/// Parts reads into what lies in `span` and what does not.
fn part(reads: Vec<ReadEntry>, span: &Span) -> (Vec<ReadEntry>, Vec<ReadEntry>) {
    let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
    for ReadEntry { span: read, at } in reads {
        here.extend(read.within(span).map(|span| ReadEntry { span, at }));
        let rest = read.outside(span).into_iter();
        elsewhere.extend(rest.map(|span| ReadEntry { span, at }));
    }
    (here, elsewhere)
}

/// Runs for as long as the node lives.
pub(super) async fn keep_settled(node: Weak<Node>) {
    let mut looks = Looks::default();
    loop {
        let Some(strong) = node.upgrade() else { return };
        let runtime = strong.runtime.clone();
        drop(strong);
        runtime.sleep(LOOK_EVERY).await;
        let Some(strong) = node.upgrade() else { return };
        if let Err(error) = strong.clear_all(&mut looks).await {
            tracing::debug!(%error, "intents that are left have to wait");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_long_ago_is_left_whatever_the_clock_says() {
        let (mut looks, second) = (Looks::default(), Duration::from_secs(1));
        for n in 0..5 {
            assert_eq!(
                looks.note(second * n * 2, Timestamp(100 + u64::from(n))),
                Timestamp::ZERO
            );
        }
        assert_eq!(looks.note(second * 10, Timestamp(105)), Timestamp(100));
        assert_eq!(looks.note(second * 13, Timestamp(106)), Timestamp(101));
        assert_eq!(looks.note(second * 60, Timestamp(107)), Timestamp(106));
        assert_eq!(looks.0.len(), 2);
    }
}

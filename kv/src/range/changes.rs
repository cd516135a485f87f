//! What was written to a range after a timestamp, for whoever watches it.

use crate::concurrency::ReadSpan;
use crate::mvcc::{Change, Changes, rows_at};
use crate::range::replica::{NOBODY, Refusal, Replica};
use crate::timestamp::Timestamp;
use crate::txn::Span;

/// What a range tells of its spans.
#[derive(Debug)]
pub(crate) enum Told {
    /// The first changes, in the order of their commits, and up to when they are all there.
    Changes(Vec<Change>, Timestamp),
    /// The changes are not known (any more); these are the rows, span by span.
    Rows(Vec<Change>),
}

impl Replica {
    /// What was written to `spans` after `since` and at or below `at`: about `most` changes, or all
    /// of the first commit. The rows as of `at` where `since` is zero, lies below the history that
    /// is kept, or behind `at`.
    ///
    /// Invariant: every commit at or below what is told is told whole, and is applied. (It is
    /// waited for, as by a reader; whoever commits later does so above `at`.)
    pub(crate) async fn changes(
        &self,
        spans: &[Span],
        since: Timestamp,
        at: Timestamp,
        most: usize,
    ) -> Result<Told, Refusal> {
        #[cfg(test)]
        let waits = !self
            .state()
            .hasty
            .load(std::sync::atomic::Ordering::Relaxed);
        #[cfg(not(test))]
        let waits = true;
        let replaced = self.replaced();
        for span in spans.iter().filter(|_| waits) {
            let read = ReadSpan::Range(span.clone());
            self.settle(&read, NOBODY, at).await?;
        }
        let snapshot = self.state().engine.snapshot();
        self.not_replaced(replaced)?;
        // After the snapshot: what is removed for a later safe point is in it.
        let kept = self.state().safe_point() <= since && since <= at;
        if since == Timestamp::ZERO || !kept {
            let mut rows = Vec::new();
            for span in spans {
                rows.extend(rows_at(&*snapshot, (&*span.start, &*span.end), at)?);
            }
            return Ok(Told::Rows(rows));
        }
        let mut changes = Changes::new(since, at, most);
        for span in spans {
            changes.gather(&*snapshot, (&*span.start, &*span.end))?;
        }
        let upto = changes.upto();
        Ok(Told::Changes(changes.into_vec(), upto))
    }
}

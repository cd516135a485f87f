//! Row locks of a transaction, and the move of its read timestamp to now when a row that it has locked is
//! newer.

use futures::FutureExt;

use crate::error::{ConflictReason, Error};
use crate::oracle::Moment;
use crate::range::{ReadEntry, Refusal};
use crate::routing::plain;
use crate::timestamp::Timestamp;
use crate::txn::api::{IsolationLevel, Key, LockStrength, LockWait};
use crate::txn::reads::catalog_read;
use crate::txn::transaction::Txn;

impl Txn {
    /// Locks keys until the end of the transaction; returns the keys that were locked (fewer than
    /// asked only under [`LockWait::SkipLocked`]).
    ///
    /// When a key has a version newer than the read timestamp, the transaction first tries to
    /// move its read timestamp to now (nothing that it has read in earlier statements changed):
    /// the caller sees that by [`Self::read_timestamp`] having moved, and must run its statement
    /// again. Otherwise [`Error::Conflict`].
    pub async fn lock(
        &self,
        keys: &[Key],
        strength: LockStrength,
        wait: LockWait,
    ) -> Result<Vec<Key>, Error> {
        let read = {
            let state = self.inner.state.lock();
            if state.finished {
                return Err(Error::Finished);
            }
            state.read
        };
        let mut locked = Vec::with_capacity(keys.len());
        for key in keys {
            if self.lock_one(key, strength, wait).boxed().await? {
                locked.push(key.clone());
            }
        }
        // Also by commits that are under way: their holders may not have locked them.
        let written = self.last_written(&locked).boxed().await?;
        let moved = written.iter().flatten().any(|newest| *newest > read);
        {
            let mut state = self.inner.state.lock();
            for (key, _) in locked.iter().zip(&written).filter(|(_, w)| w.is_none()) {
                state.unwritten.add(read, key.clone());
            }
        }
        if moved {
            self.refresh().boxed().await?;
        }
        Ok(locked)
    }

    /// Locks a key; false when it was skipped.
    async fn lock_one(
        &self,
        key: &Key,
        strength: LockStrength,
        wait: LockWait,
    ) -> Result<bool, Error> {
        let node = &self.inner.node;
        let replica = node.ranges.at(key);
        let Some(replica) = replica.filter(|replica| node.leads(replica)) else {
            // A courtesy that ends at the node: the commit finds what it would have prevented.
            return Ok(true);
        };
        // Entered before, so that it is released whatever becomes of this call.
        self.inner.state.lock().locks.push(key.clone());
        let outcome = replica.lock(self.inner.start, key, strength, wait).await;
        if !matches!(outcome, Ok(Some(true))) {
            let mut state = self.inner.state.lock();
            if let Some(at) = state.locks.iter().rposition(|locked| locked == key) {
                state.locks.remove(at);
            }
        }
        match outcome {
            // As above.
            Err(Refusal::Elsewhere(_)) => Ok(true),
            outcome => Ok(outcome.map_err(plain)?.is_some()),
        }
    }

    /// Moves the read timestamp to now, if nothing that earlier statements have read has changed.
    async fn refresh(&self) -> Result<(), Error> {
        let moment = self.inner.node.timestamps.next().await?;
        let now = moment.at;
        let mut entries = Vec::new();
        if self.inner.options.isolation == IsolationLevel::RepeatableRead {
            // Its one snapshot is a promise; without a record of what it has read, whatever it
            // has done so far stands against moving it.
            return Err(Error::Conflict {
                reason: ConflictReason::ConcurrentUpdate,
            });
        }
        if self.inner.validates {
            let catalog_at = {
                let mut state = self.inner.state.lock();
                entries = state.reads.take_for_refresh();
                state.catalog_at
            };
            let valid = self.validate_upto(&entries, catalog_at, moment);
            if let Err(error) = valid.await {
                self.inner
                    .state
                    .lock()
                    .reads
                    .put_back(entries, Timestamp::ZERO);
                return Err(match error {
                    Error::Conflict { .. } => Error::Conflict {
                        reason: ConflictReason::ConcurrentUpdate,
                    },
                    other => other,
                });
            }
        }
        let mut state = self.inner.state.lock();
        state.reads.put_back(entries, now);
        if self.inner.validates {
            state.catalog_at = state.catalog_at.map(|at| at.max(now));
        }
        state.move_to(moment);
        Ok(())
    }

    /// Checks that nothing of what was read has changed up to `moment`, and not the catalog since
    /// `catalog_at` either.
    async fn validate_upto(
        &self,
        reads: &[ReadEntry],
        catalog_at: Option<Timestamp>,
        moment: Moment,
    ) -> Result<(), Error> {
        let (node, start) = (&self.inner.node, self.inner.start);
        node.validate(reads, start, moment.at, false).await?;
        match catalog_at {
            Some(at) if !moment.is_quiet_since(at) => {
                let read = [catalog_read(at)];
                node.validate(&read, start, moment.at, false).await
            }
            _ => Ok(()),
        }
    }
}

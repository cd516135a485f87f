//! What a range does for transactions over several ranges: take intents, decide, resolve.
//!
//! ```text
//!           prewrite (every range)       decide (range of the primary key)      resolve (others)
//!  nothing --------------------> intents ---------------------------------> record + versions
//!                                   \---- push by whoever meets one ------> record of a rollback
//! ```
//!
//! Every operation is one evaluation under latches and at most one entry, and may be repeated: what
//! has happened already is found and left as it is.
//!
//! Invariant: whether a transaction committed is decided by the one entry that first writes its
//! record. A commit is written only where the intent at the primary key is, a rollback only where
//! no version of the transaction is, and an intent at the primary key only where no record is.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::concurrency::{LatchRequest, ReadSpan};
use crate::error::{ConflictReason, Error};
use crate::keys::meta;
use crate::mvcc::{self, Intent, Outcome as Ending, Record, Write, encode_version};
use crate::range::command::{Body, Prewrite, RecordChange, Resolve};
use crate::range::evaluate::Writes;
use crate::range::intents::Foreign;
use crate::range::replica::{ATTEMPTS_MAX, RETRY, Refusal, Replica, Sent};
use crate::storage::Space;
use crate::timestamp::Timestamp;
use crate::txn::Span;

/// Intents resolved by one entry, at most.
const RESOLVED_MAX: usize = 4_096;

/// The part of a transaction that lies in one range.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PrewriteRequest {
    /// Its start timestamp, which is its identity.
    pub start: Timestamp,
    /// The key at which it will be decided.
    pub primary: Bytes,
    /// What it writes here.
    pub writes: Arc<Writes>,
}

/// A transaction as the range of its primary key sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Status {
    /// Not decided.
    Pending,
    /// Decided for good.
    Ended(Ending),
}

/// What an evaluation came to.
pub(super) enum Evaluated<T> {
    /// There is nothing to replicate.
    Done(T),
    /// `T` is true once the command is applied. Readers below the timestamp need not wait for it.
    Replicate(Body, Timestamp, T),
}

impl Replica {
    /// Evaluates under latches on `keys` and replicates what comes of it.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] when it was proposed and nobody here can say what became of it; with any
    /// other error nothing has happened.
    pub(super) async fn under_latches<T>(
        &self,
        keys: &Arc<[Bytes]>,
        evaluate: impl Fn() -> Result<Evaluated<T>, Refusal>,
    ) -> Result<T, Refusal> {
        let mut unknown = false;
        for _ in 0..ATTEMPTS_MAX {
            let attempt = self.attempt_under_latches(keys, &evaluate);
            let attempt = if unknown {
                let attempt = self.runtime.timeout(self.patience, attempt).await;
                attempt.unwrap_or(Err(Error::Ambiguous.into()))
            } else {
                attempt.await
            };
            match attempt {
                Ok((Sent::Done, Some(result))) => return Ok(result),
                Ok((Sent::Unknown, _)) => unknown = true,
                Ok(_) => self.runtime.sleep(RETRY).await,
                // What became of it before is for another leader or range to say.
                Err(
                    Refusal::Error(Error::Unavailable { .. })
                    | Refusal::Moved
                    | Refusal::Elsewhere(_),
                ) if unknown => return Err(Error::Ambiguous.into()),
                Err(refusal) => return Err(refusal),
            }
        }
        Err(Refusal::Error(if unknown {
            Error::Ambiguous
        } else {
            let message = format!("range {} changes leaders too often", self.state().range);
            Error::Unavailable { message }
        }))
    }

    async fn attempt_under_latches<T>(
        &self,
        keys: &Arc<[Bytes]>,
        evaluate: &impl Fn() -> Result<Evaluated<T>, Refusal>,
    ) -> Result<(Sent, Option<T>), Refusal> {
        if self.leadership().is_none() {
            self.lead().await?;
        }
        let latches = LatchRequest {
            writes: Arc::clone(keys),
            reads: Vec::new(),
        };
        let guard = self.latched(latches).await;
        let replaced = self.replaced();
        // Leadership now: the state that is read below is that of this term or later.
        let (Some(guard), Some(leadership)) = (guard, self.leadership()) else {
            return Ok((Sent::Refused, None));
        };
        let evaluated = evaluate();
        if replaced != self.replaced() {
            return Ok((Sent::Refused, None));
        }
        match evaluated? {
            Evaluated::Done(result) => Ok((Sent::Done, Some(result))),
            Evaluated::Replicate(body, from, result) => {
                guard.set_commit(from);
                let sent = self.send(guard, leadership, body).await?;
                Ok((sent, Some(result)))
            }
        }
    }

    /// Writes intents. Returns an intent of another transaction that is in the way, if there is
    /// one; then nothing was written.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a key has a version newer than the one the write is based on, or
    /// the transaction has been rolled back.
    pub async fn prewrite(&self, request: &PrewriteRequest) -> Result<Option<Foreign>, Refusal> {
        let bytes = |(key, write): (&Bytes, &crate::range::WriteEntry)| {
            let value = write.value.as_ref().map_or(0, Bytes::len);
            (2 * (key.len() + value) + request.primary.len()) as u64
        };
        self.room.admit(request.writes.iter().map(bytes).sum())?;
        let keys: Arc<[Bytes]> = request.writes.keys().cloned().collect();
        if let Some(first) = keys.first() {
            self.state().load.note(first);
        }
        let evaluate = || self.evaluate_prewrite(request);
        self.under_latches(&keys, evaluate).await
    }

    fn evaluate_prewrite(
        &self,
        request: &PrewriteRequest,
    ) -> Result<Evaluated<Option<Foreign>>, Refusal> {
        let (state, start) = (self.state(), request.start);
        let writes = &request.writes;
        self.holds_all(writes.keys().next(), writes.keys().next_back())?;
        let conflict = || Error::Conflict {
            reason: ConflictReason::ConcurrentUpdate,
        };
        if request.writes.contains_key(&request.primary) {
            let decided = self.record(&request.primary, start)?;
            // Below the safe point the record of a rollback may be gone.
            if decided.is_some() || start < state.safe_point() {
                return Err(conflict().into());
            }
        }
        let mut intents = Vec::with_capacity(request.writes.len());
        for (key, write) in request.writes.iter() {
            if state.intents.has(key, start) {
                continue;
            }
            let read = ReadSpan::Point(key.clone());
            if let Some(foreign) = state.intents.foreign(&read, start, Timestamp::MAX) {
                return Ok(Evaluated::Done(Some(foreign)));
            }
            let newest = mvcc::newest(&*state.engine, key)?;
            if newest.is_some_and(|newest| newest.commit > write.base) {
                return Err(conflict().into());
            }
            intents.push((key.clone(), write.value.clone()));
        }
        if intents.is_empty() {
            return Ok(Evaluated::Done(None));
        }
        let prewrite = Prewrite {
            start,
            primary: request.primary.clone(),
            intents,
        };
        // Whoever reads above the start must see the intents.
        Ok(Evaluated::Replicate(Body::Prewrite(prewrite), start, None))
    }

    /// Refuses when the range does not hold all of some keys, of which these are the first and last.
    pub(super) fn holds_all(
        &self,
        first: Option<&Bytes>,
        last: Option<&Bytes>,
    ) -> Result<(), Refusal> {
        let mut ends = first.into_iter().chain(last);
        if ends.all(|key| self.state().contains(key)) {
            Ok(())
        } else {
            Err(Refusal::Moved)
        }
    }

    fn record(&self, primary: &[u8], start: Timestamp) -> Result<Option<Record>, Error> {
        let stored = self
            .state()
            .engine
            .get(Space::Meta, &meta::record(primary, start))?;
        stored.map(Record::decode).transpose()
    }

    /// How the transaction ended, if it has.
    fn ending(&self, primary: &[u8], start: Timestamp) -> Result<Option<Ending>, Error> {
        if let Some(record) = self.record(primary, start)? {
            return Ok(Some(record.outcome));
        }
        let committed = mvcc::committed_by(&*self.state().engine, primary, start)?;
        Ok(committed.map(Ending::Committed))
    }

    /// Versions of those of `keys` on which the transaction has intents.
    fn versions(
        &self,
        keys: &[Bytes],
        start: Timestamp,
        commit: Timestamp,
    ) -> Result<Vec<Write>, Error> {
        let state = self.state();
        let mut writes = Vec::with_capacity(keys.len());
        for key in keys.iter().filter(|key| state.intents.has(key, start)) {
            let stored = state.engine.get(Space::Meta, &meta::intent(key))?;
            let stored = stored.ok_or_else(|| Error::Storage {
                message: "an intent is missing in the store".into(),
            })?;
            let intent = Intent::decode(stored)?;
            let newest = mvcc::newest(&*state.engine, key)?;
            debug_assert!(
                intent.start == start && newest.is_none_or(|newest| newest.commit < commit),
                "Invariant: while an intent is on a key nobody else writes it"
            );
            let mut version = Vec::with_capacity(mvcc::HEADER_LEN + 16);
            encode_version(&mut version, commit, start, intent.value.as_deref());
            writes.push(Write {
                key: key.clone(),
                stored: version.into(),
                fresh: newest.is_none(),
            });
        }
        Ok(writes)
    }

    /// Commits a transaction at `commit` if it has not ended, and says how it did. `keys` are those
    /// it writes in this range, the primary key among them; `spans` hold all others.
    pub async fn decide(
        &self,
        primary: &Bytes,
        start: Timestamp,
        commit: Timestamp,
        keys: &Arc<[Bytes]>,
        spans: &[Span],
    ) -> Result<Ending, Refusal> {
        debug_assert!(keys.contains(primary), "the primary key is among the keys");
        let evaluate = || {
            self.holds_all(keys.first(), keys.last())?;
            if let Some(ending) = self.ending(primary, start)? {
                return Ok(Evaluated::Done(ending));
            }
            if !self.state().intents.has(primary, start) {
                return Ok(Evaluated::Done(Ending::RolledBack));
            }
            let ending = Ending::Committed(commit);
            let record = Record {
                outcome: ending,
                spans: spans.to_vec(),
            };
            let resolve = Resolve {
                start,
                primary: primary.clone(),
                record: RecordChange::Put(record.encode()),
                writes: self.versions(keys, start, commit)?,
                removed: Vec::new(),
            };
            let body = Body::Resolve(resolve);
            Ok(Evaluated::Replicate(body, commit, ending))
        };
        let ending = self.under_latches(keys, evaluate).await?;
        self.state().heard.forget(primary, start);
        Ok(ending)
    }

    /// Asks how a transaction stands that is decided here. One that has not been heard of for long
    /// is rolled back, with `force` every one that has not committed.
    pub async fn push(
        &self,
        primary: &Bytes,
        start: Timestamp,
        force: bool,
    ) -> Result<Status, Refusal> {
        let now = self.runtime.monotonic();
        let gives_up = self.state().heard.is_lost(primary, start, now) || force;
        let evaluate = || {
            self.holds_all(Some(primary), None)?;
            if let Some(ending) = self.ending(primary, start)? {
                return Ok(Evaluated::Done(Status::Ended(ending)));
            }
            let has = self.state().intents.has(primary, start);
            // Its intent is not here and is not admitted any more: it needs no record, which may
            // have been there and be gone.
            if !has && start < self.state().safe_point() {
                return Ok(Evaluated::Done(Status::Ended(Ending::RolledBack)));
            }
            if !gives_up {
                return Ok(Evaluated::Done(Status::Pending));
            }
            let record = Record {
                outcome: Ending::RolledBack,
                spans: Vec::new(),
            };
            let resolve = Resolve {
                start,
                primary: primary.clone(),
                record: RecordChange::Put(record.encode()),
                writes: Vec::new(),
                removed: has.then(|| primary.clone()).into_iter().collect(),
            };
            let status = Status::Ended(Ending::RolledBack);
            // What readers see does not change.
            let body = Body::Resolve(resolve);
            Ok(Evaluated::Replicate(body, Timestamp::MAX, status))
        };
        let keys = Arc::from([primary.clone()]);
        let status = self.under_latches(&keys, evaluate).await?;
        if status != Status::Pending {
            self.state().heard.forget(primary, start);
        }
        Ok(status)
    }

    /// A transaction that is decided here says that it lives.
    pub fn hear(&self, primary: &Bytes, start: Timestamp) {
        let now = self.runtime.monotonic();
        self.state().heard.note(primary, start, now);
    }

    /// Ends the intents of a transaction in `span`, by how it ended.
    ///
    /// Invariant: `Ok` says that the transaction has no intents in `span` any more, for its record
    /// may be forgotten then. So this replica leads when it looks, has applied what was
    /// acknowledged, and holds all of `span`; a part that was split off meanwhile is for another
    /// range, and [`Refusal::Moved`].
    pub async fn resolve(
        &self,
        primary: &Bytes,
        start: Timestamp,
        ending: Ending,
        span: &Span,
    ) -> Result<(), Refusal> {
        loop {
            if self.leadership().is_none() {
                self.lead().await?;
            }
            let Some(here) = self.state().descriptor().span.common(span) else {
                return Err(Refusal::Moved);
            };
            if !self.state().latches.is_empty() {
                let under_way = ReadSpan::Range(here.clone());
                self.wait_for_commits(&under_way, Timestamp::MAX).await?;
            }
            let leads = self.leadership().is_some();
            let keys = self.state().intents.of(start, &here, RESOLVED_MAX);
            if keys.is_empty() {
                let holds = self.state().holds(&ReadSpan::Range(span.clone()));
                match (leads, holds) {
                    (true, true) => return Ok(()),
                    (true, false) => return Err(Refusal::Moved),
                    (false, _) => continue,
                }
            }
            let keys: Arc<[Bytes]> = keys.into();
            let evaluate = || self.evaluate_resolve(primary, start, ending, &keys);
            self.under_latches(&keys, evaluate).await?;
        }
    }

    fn evaluate_resolve(
        &self,
        primary: &Bytes,
        start: Timestamp,
        ending: Ending,
        keys: &[Bytes],
    ) -> Result<Evaluated<()>, Refusal> {
        let (writes, removed, from) = match ending {
            Ending::Committed(commit) => (self.versions(keys, start, commit)?, Vec::new(), commit),
            Ending::RolledBack => {
                let left = keys
                    .iter()
                    .filter(|key| self.state().intents.has(key, start));
                (Vec::new(), left.cloned().collect(), Timestamp::MAX)
            }
        };
        if writes.is_empty() && removed.is_empty() {
            return Ok(Evaluated::Done(()));
        }
        let resolve = Resolve {
            start,
            primary: primary.clone(),
            record: RecordChange::Stays,
            writes,
            removed,
        };
        Ok(Evaluated::Replicate(Body::Resolve(resolve), from, ()))
    }

    /// Removes the record of a transaction that has no intents any more.
    pub async fn forget(&self, primary: &Bytes, start: Timestamp) -> Result<(), Refusal> {
        let evaluate = || {
            self.holds_all(Some(primary), None)?;
            if self.record(primary, start)?.is_none() {
                return Ok(Evaluated::Done(()));
            }
            let resolve = Resolve {
                start,
                primary: primary.clone(),
                record: RecordChange::Removed,
                writes: Vec::new(),
                removed: Vec::new(),
            };
            let body = Body::Resolve(resolve);
            Ok(Evaluated::Replicate(body, Timestamp::MAX, ()))
        };
        let keys = Arc::from([primary.clone()]);
        self.under_latches(&keys, evaluate).await
    }

    /// The records in this range with their primary keys, up to `most`.
    pub fn records(&self, most: usize) -> Result<Vec<(Bytes, Timestamp, Record)>, Error> {
        let span = self.state().descriptor().span;
        let (from, to) = (
            meta::record_bound(&span.start),
            meta::record_bound(&span.end),
        );
        let snapshot = self.state().engine.snapshot();
        let mut rows = snapshot.scan(Space::Meta, &from, &to, false);
        let mut found = Vec::new();
        while found.len() < most
            && let Some((key, stored)) = rows.next()?
        {
            let (primary, start) = meta::decode_record(&key)?;
            found.push((primary, start, Record::decode(stored)?));
        }
        Ok(found)
    }
}

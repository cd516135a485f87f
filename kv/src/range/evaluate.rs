//! Evaluation of a commit on the leader: pure checks against applied state, under latches.
//!
//! Write conflicts: a key that has a version newer than the one this transaction based its write
//! on. Validation: a key of a span that was read has a version newer than the read.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::concurrency::ReadSpan;
use crate::error::{ConflictReason, Error};
use crate::keys;
use crate::mvcc::{self, Write, encode_version};
use crate::oracle::{Moment, TimestampSource};
use crate::range::state::RangeState;
use crate::timestamp::Timestamp;

/// A buffered write.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WriteEntry {
    /// The new value, `None` to delete.
    pub value: Option<Bytes>,
    /// What the transaction read at when it wrote: a version newer than that is a conflict.
    pub base: Timestamp,
    /// The transaction has seen, at or after the base, that the key had no version at all, not even
    /// a deleted one.
    pub unwritten: bool,
}

/// The buffered writes of a transaction.
pub type Writes = BTreeMap<Bytes, WriteEntry>;

/// A span that a transaction has read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReadEntry {
    /// The span.
    pub span: ReadSpan,
    /// As of when.
    pub at: Timestamp,
}

/// A transaction to be committed in one range.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CommitRequest {
    /// Its start timestamp, which is its identity.
    pub start: Timestamp,
    /// What it writes.
    pub writes: Arc<Writes>,
    /// What it has read and wants validated.
    pub reads: Vec<ReadEntry>,
    /// It rests on the catalog as of then. Where the oracle says that there may have been a change
    /// since, it is refused with [`super::Refusal::Announced`].
    pub catalog_at: Option<Timestamp>,
}

/// A timestamp for the commit of such writes.
///
/// Invariant: a commit that writes the version of the catalog is announced.
pub(crate) async fn commit_moment(
    writes: &Writes,
    timestamps: &dyn TimestampSource,
) -> Result<Moment, Error> {
    if writes.contains_key(keys::CATALOG_VERSION) {
        return timestamps.announce().await.map(Moment::alone);
    }
    timestamps.next().await
}

impl CommitRequest {
    /// Bytes that it asks to be stored.
    pub(super) fn bytes(&self) -> u64 {
        let length = |(key, write): (&Bytes, &WriteEntry)| {
            let value = write.value.as_ref().map_or(0, Bytes::len);
            (mvcc::HEADER_LEN + key.len() + value) as u64
        };
        self.writes.iter().map(length).sum()
    }
}

/// What the check of the writes found.
pub(super) enum Checked {
    /// No conflict. For each key in order, whether it has no version yet.
    Free(Vec<bool>),
    /// The transaction has committed already, at this timestamp.
    Committed(Timestamp),
}

/// Looks for write conflicts. The caller holds latches on what is written.
///
/// A key of which the transaction knows that it had no version needs no look into the store while
/// nothing was written to the range after that: its latch keeps away what is under way. A commit
/// of this transaction itself would have been written after that.
pub(super) fn check_writes(
    state: &RangeState,
    request: &CommitRequest,
    timestamps: &dyn TimestampSource,
) -> Result<Checked, Error> {
    let mut fresh = Vec::with_capacity(request.writes.len());
    let mut conflict = false;
    let quiet_from = quiet_from(state, request, timestamps);
    #[cfg(test)]
    let believes = state.believes.load(std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(test))]
    let believes = false;
    for (key, write) in request.writes.iter() {
        let quiet = believes || quiet_from.is_some_and(|from| write.base >= from);
        if write.unwritten && quiet {
            debug_assert!(
                believes || mvcc::newest(&*state.engine, key)?.is_none(),
                "Invariant: a key that had no version has none while nothing is written"
            );
            fresh.push(true);
            continue;
        }
        let newest = mvcc::newest(&*state.engine, key)?;
        match newest {
            Some(newest) if newest.start == request.start => {
                return Ok(Checked::Committed(newest.commit));
            }
            Some(newest) if newest.commit > write.base => conflict = true,
            _ => {}
        }
        fresh.push(newest.is_none());
    }
    if conflict {
        return Err(Error::Conflict {
            reason: ConflictReason::ConcurrentUpdate,
        });
    }
    Ok(Checked::Free(fresh))
}

/// From when on nothing was written to the range, if that is known and anybody wants to know.
fn quiet_from(
    state: &RangeState,
    request: &CommitRequest,
    timestamps: &dyn TimestampSource,
) -> Option<Timestamp> {
    if !request.writes.values().any(|write| write.unwritten) {
        return None;
    }
    let mut recent = state.recent.lock();
    // Under the lock: see `validate`.
    if recent.quiet_from().is_none()
        && let Some(now) = timestamps.try_now()
    {
        recent.know(now);
    }
    recent.quiet_from()
}

/// Looks for versions that are newer than what was read.
///
/// The caller holds latches on the spans, or has waited for the commits that touch them.
pub(super) fn validate(
    state: &RangeState,
    reads: &[ReadEntry],
    timestamps: &dyn TimestampSource,
) -> Result<(), Error> {
    let conflict = || Error::Conflict {
        reason: ConflictReason::ReadWrite,
    };
    let mut unknown = Vec::new();
    {
        let mut recent = state.recent.lock();
        for read in reads {
            match recent.written_after(&read.span, read.at) {
                Some(true) => return Err(conflict()),
                Some(false) => {}
                None => unknown.push(read),
            }
        }
        // Under the lock: every commit that was applied without being noted has a smaller
        // timestamp than this one.
        if !unknown.is_empty()
            && let Some(now) = timestamps.try_now()
        {
            recent.begin(now);
        }
    }
    for read in unknown {
        if written_after(state, read)? {
            return Err(conflict());
        }
    }
    Ok(())
}

fn written_after(state: &RangeState, read: &ReadEntry) -> Result<bool, Error> {
    match &read.span {
        ReadSpan::Point(key) => {
            let newest = mvcc::newest(&*state.engine, key)?;
            Ok(newest.is_some_and(|newest| newest.commit > read.at))
        }
        ReadSpan::Range(span) => {
            let mut found = false;
            mvcc::newest_in_span(&*state.engine, &span.start, &span.end, |_, newest| {
                found = newest.commit > read.at;
                if found {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
            Ok(found)
        }
    }
}

/// The rows to replicate.
pub(super) fn rows(request: &CommitRequest, fresh: Vec<bool>, commit: Timestamp) -> Vec<Write> {
    let stored = |write: &WriteEntry| {
        let value = write.value.as_deref();
        let mut to = Vec::with_capacity(mvcc::HEADER_LEN + value.map_or(0, <[u8]>::len));
        encode_version(&mut to, commit, request.start, value);
        Bytes::from(to)
    };
    let rows = request.writes.iter().zip(fresh);
    rows.map(|((key, write), fresh)| Write {
        key: key.clone(),
        stored: stored(write),
        fresh,
    })
    .collect()
}

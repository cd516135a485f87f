//! Garbage collection: removal of versions that nobody can read any more.
//!
//! A version may go when a newer one of its key is at or below the safe point; a tombstone at or
//! below the safe point may go when it is the newest. Both are found in `history` alone. A replica
//! does it when it likes; the others may have what it has removed.

use bytes::Bytes;

use crate::error::Error;
use crate::mvcc::read::newest;
use crate::mvcc::version::{Header, decode_history_key, history_bound};
use crate::storage::{Engine, Space, WriteBatch};
use crate::timestamp::Timestamp;

/// How far a pass of garbage collection has come.
#[derive(Clone, Debug)]
pub struct GcProgress {
    /// What to remove.
    pub batch: WriteBatch,
    /// Where to go on; `None` when the span is done.
    pub next: Option<Bytes>,
    /// Entries looked at.
    pub seen: usize,
}

/// Looks at about `limit` entries of `history` for user keys from `start` to `end`, beginning at
/// `from` (what the last call returned as `next`), and says what to remove.
///
/// The caller must keep writes to the span out between this call and writing the batch: the batch
/// may remove a key that is deleted now and must not remove it once it has been written again.
///
/// Invariant: what is visible at or above `safe_point` stays.
pub fn collect(
    engine: &dyn Engine,
    (start, end): (&[u8], &[u8]),
    from: Option<&[u8]>,
    safe_point: Timestamp,
    limit: usize,
) -> Result<GcProgress, Error> {
    let begin = from.map_or_else(|| history_bound(start), <[u8]>::to_vec);
    let mut progress = GcProgress {
        batch: WriteBatch::default(),
        next: None,
        seen: 0,
    };
    let mut rows = engine
        .snapshot()
        .scan(Space::History, &begin, &history_bound(end), false);
    // The key at hand, and whether a version of it at or below the safe point has been passed.
    let mut current: Option<(Vec<u8>, bool)> = None;
    while let Some((history, stored)) = rows.next()? {
        let (key, commit) = decode_history_key(&history)?;
        if current.as_ref().is_none_or(|(at, _)| *at != key) {
            if progress.seen >= limit {
                progress.next = Some(history);
                return Ok(progress);
            }
            let covered = newest(engine, &key)?.is_none_or(|newest| newest.commit <= safe_point);
            current = Some((key.clone(), covered));
        }
        progress.seen += 1;
        let Some((_, covered)) = &mut current else {
            continue;
        };
        let header = Header::decode(&stored)?;
        // Where the key was written again without looking, the mark is the tombstone.
        if header.mark && newest(engine, &key)?.is_some_and(|newest| newest.commit == commit) {
            if commit <= safe_point {
                progress.batch.remove(Space::Kv, key.clone());
                progress.batch.remove(Space::History, history);
            }
            continue;
        }
        if *covered {
            progress.batch.remove(Space::History, history);
        } else if commit <= safe_point {
            *covered = true;
        }
    }
    Ok(progress)
}

/// The span of `history` that holds the versions of one key.
#[cfg(test)]
pub(crate) fn history_span(key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (
        crate::mvcc::history_key(key, Timestamp::MAX),
        crate::mvcc::version::history_end(key),
    )
}

//! Reads of single keys, and the questions that validation asks.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::error::Error;
use crate::mvcc::version::{Header, Version, history_end, history_key};
use crate::storage::{Engine, EngineSnapshot, Space};
use crate::timestamp::Timestamp;

/// The value of `key` as of `at`.
///
/// The common case, where the newest version is old enough, is one lookup outside of a snapshot.
/// Otherwise everything is read again in one: the newest version may have been seen a moment
/// before the batch that wrote it became visible to snapshots.
pub fn get(engine: &dyn Engine, key: &[u8], at: Timestamp) -> Result<Option<Bytes>, Error> {
    let Some(stored) = engine.get(Space::Kv, key)? else {
        return Ok(None);
    };
    let version = Version::decode(stored)?;
    if version.header.commit <= at {
        return Ok(version.into_value());
    }
    let snapshot = engine.snapshot();
    let Some(stored) = snapshot.get(Space::Kv, key)? else {
        return Ok(None);
    };
    let version = Version::decode(stored)?;
    if version.header.commit <= at {
        return Ok(version.into_value());
    }
    Ok(older(&*snapshot, key, at)?.and_then(Version::into_value))
}

/// The newest version of `key` in `history` at or below `at`; that in `kv` is above it.
pub(super) fn older(
    snapshot: &dyn EngineSnapshot,
    key: &[u8],
    at: Timestamp,
) -> Result<Option<Version>, Error> {
    let (from, to) = (history_key(key, at), history_end(key));
    let mut versions = snapshot.scan(Space::History, &from, &to, false);
    let first = versions.next()?;
    first.map(|(_, stored)| Version::decode(stored)).transpose()
}

/// The header of the newest version of `key`.
pub fn newest(engine: &dyn Engine, key: &[u8]) -> Result<Option<Header>, Error> {
    engine
        .get(Space::Kv, key)?
        .map(|stored| Header::decode(&stored))
        .transpose()
}

/// Shows `visit` the header of the newest version of every key from `start` to `end`, deleted keys
/// included, until it breaks.
pub fn newest_in_span(
    engine: &dyn Engine,
    start: &[u8],
    end: &[u8],
    mut visit: impl FnMut(&[u8], Header) -> ControlFlow<()>,
) -> Result<(), Error> {
    let mut damage = None;
    let mut rows = engine.snapshot().scan(Space::Kv, start, end, false);
    rows.for_each(&mut |key, stored| match Header::decode(stored) {
        Ok(header) => visit(key, header).is_continue(),
        Err(error) => {
            damage = Some(error);
            false
        }
    })?;
    damage.map_or(Ok(()), Err)
}

/// When the transaction that started at `start` committed a version of `key`, if it did.
pub fn committed_by(
    engine: &dyn Engine,
    key: &[u8],
    start: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    let snapshot = engine.snapshot();
    let Some(stored) = snapshot.get(Space::Kv, key)? else {
        return Ok(None);
    };
    let header = Header::decode(&stored)?;
    if header.start == start {
        return Ok(Some(header.commit));
    }
    // A transaction commits after it starts.
    let (from, to) = (history_key(key, Timestamp::MAX), history_key(key, start));
    let mut versions = snapshot.scan(Space::History, &from, &to, false);
    while let Some((_, stored)) = versions.next()? {
        let header = Header::decode(&stored)?;
        if header.start == start {
            return Ok(Some(header.commit));
        }
    }
    Ok(None)
}

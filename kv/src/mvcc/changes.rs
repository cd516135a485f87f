//! [`Changes`]: what was written to spans after one timestamp and up to another, in the order of
//! commits.
//!
//! The keys that have changed are found by their newest versions, the rest in `history`. So a walk
//! over a span costs a header for each of its keys, and a look into `history` for each that has
//! changed.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::Error;
use crate::mvcc::read::older;
use crate::mvcc::version::{Header, Version, history_end, history_key};
use crate::storage::{EngineSnapshot, Space};
use crate::timestamp::Timestamp;

/// A version of a key, and the one it has replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// When it was written.
    pub commit: Timestamp,
    /// The new value, `None` when the key was deleted.
    pub value: Option<Bytes>,
    /// The value before, `None` when there was none.
    pub old: Option<Bytes>,
}

/// Gathers changes, and keeps those of the first commits when there are too many.
///
/// Invariant: of each commit at or below [`Self::upto`] all changes are kept, and none of others.
#[derive(Debug)]
pub struct Changes {
    found: BTreeMap<(Timestamp, Bytes), Change>,
    since: Timestamp,
    at: Timestamp,
    upto: Timestamp,
    most: usize,
}

impl Changes {
    /// Gathers what was written after `since` and at or below `at`: about `most` changes, or all
    /// of the first commit if that has more.
    pub fn new(since: Timestamp, at: Timestamp, most: usize) -> Self {
        Self {
            found: BTreeMap::new(),
            since,
            at,
            upto: at,
            most,
        }
    }

    /// Gathers what was written to the keys from `start` to `end`.
    ///
    /// Complete if nothing was removed from the snapshot that was visible at `since` or written
    /// later.
    pub fn gather(
        &mut self,
        snapshot: &dyn EngineSnapshot,
        (start, end): (&[u8], &[u8]),
    ) -> Result<(), Error> {
        let mut rows = snapshot.scan(Space::Kv, start, end, false);
        let mut failed = None;
        rows.for_each(&mut |key, stored| {
            let gathered = match Header::decode(stored) {
                Ok(newest) if newest.commit <= self.since => return true,
                Ok(_) => self.gather_key(snapshot, key, stored),
                Err(error) => Err(error),
            };
            failed = gathered.err();
            failed.is_none()
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn gather_key(
        &mut self,
        snapshot: &dyn EngineSnapshot,
        key: &[u8],
        newest: &[u8],
    ) -> Result<(), Error> {
        let newest = Version::decode(Bytes::copy_from_slice(newest))?;
        let marked = newest.header.commit;
        let mut newer = Some(newest).filter(|newest| newest.header.commit <= self.at);
        let (from, to) = (history_key(key, self.at), history_end(key));
        let mut versions = snapshot.scan(Space::History, &from, &to, false);
        loop {
            let version = loop {
                match versions.next()? {
                    Some((_, stored)) => {
                        let version = Version::decode(stored)?;
                        // The mark of the newest is no other version.
                        if version.header.commit != marked {
                            break Some(version);
                        }
                    }
                    None => break None,
                }
            };
            if let Some(newer) = newer.take() {
                let commit = newer.header.commit;
                let old = version.clone().and_then(Version::into_value);
                self.add(key, commit, newer.into_value(), old);
            }
            match version {
                Some(version) if version.header.commit > self.since => newer = Some(version),
                _ => return Ok(()),
            }
        }
    }

    fn add(&mut self, key: &[u8], commit: Timestamp, value: Option<Bytes>, old: Option<Bytes>) {
        // The deletion of what was not there changes nothing.
        if commit > self.upto || (value.is_none() && old.is_none()) {
            return;
        }
        let key = Bytes::copy_from_slice(key);
        let change = Change {
            key: key.clone(),
            commit,
            value,
            old,
        };
        self.found.insert((commit, key), change);
        while self.found.len() > self.most {
            let first = self.found.first_key_value().map(|((commit, _), _)| *commit);
            let last = self.found.last_key_value().map(|((commit, _), _)| *commit);
            let Some(last) = last.filter(|last| Some(*last) != first) else {
                return;
            };
            drop(self.found.split_off(&(last, Bytes::new())));
            self.upto = Timestamp(last.0.saturating_sub(1));
        }
    }

    /// Up to when they are all there.
    pub fn upto(&self) -> Timestamp {
        self.upto
    }

    /// The changes, by commit and key.
    pub fn into_vec(self) -> Vec<Change> {
        debug_assert!(
            self.found
                .keys()
                .all(|(commit, _)| self.since < *commit && *commit <= self.upto),
            "Invariant: a change lies behind what was seen and not behind what is told"
        );
        self.found.into_values().collect()
    }
}

/// The rows from `start` to `end` as of `at`, each as the change that made it what it is.
pub fn rows_at(
    snapshot: &dyn EngineSnapshot,
    (start, end): (&[u8], &[u8]),
    at: Timestamp,
) -> Result<Vec<Change>, Error> {
    let mut rows = snapshot.scan(Space::Kv, start, end, false);
    let mut found = Vec::new();
    while let Some((key, stored)) = rows.next()? {
        let newest = Version::decode(stored)?;
        let visible = if newest.header.commit <= at {
            Some(newest)
        } else {
            older(snapshot, &key, at)?
        };
        let Some(visible) = visible else { continue };
        let commit = visible.header.commit;
        if let Some(value) = visible.into_value() {
            found.push(Change {
                key,
                commit,
                value: Some(value),
                old: None,
            });
        }
    }
    Ok(found)
}

//! Scans: the visible version of every key of a span, as of one timestamp.

use bytes::Bytes;

use crate::error::Error;
use crate::mvcc::read::older;
use crate::mvcc::version::{HEADER_LEN, Header, Version};
use crate::storage::{Cursor, EngineSnapshot, Space};
use crate::timestamp::Timestamp;

/// A running scan over one snapshot of the engine.
pub struct VersionScan {
    snapshot: Box<dyn EngineSnapshot>,
    cursor: Box<dyn Cursor>,
    at: Timestamp,
    met_newer: bool,
}

impl VersionScan {
    /// Scans from `start` to `end` as of `at`.
    pub fn new(
        snapshot: Box<dyn EngineSnapshot>,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        at: Timestamp,
    ) -> Self {
        let cursor = snapshot.scan(Space::Kv, start, end, reverse);
        Self {
            snapshot,
            cursor,
            at,
            met_newer: false,
        }
    }

    /// Whether a key that was passed so far has a version newer than the scan reads, be it a
    /// deletion.
    pub fn met_newer(&self) -> bool {
        self.met_newer
    }

    /// Hands visible rows to `visit` until it says false; returns whether there may be more.
    pub fn for_each(&mut self, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<bool, Error> {
        let mut failed = None;
        let (snapshot, at, met_newer) = (&*self.snapshot, self.at, &mut self.met_newer);
        let more = self.cursor.for_each(&mut |key, stored| {
            let header = match Header::decode(stored) {
                Ok(header) => header,
                Err(error) => {
                    failed = Some(error);
                    return false;
                }
            };
            if header.commit <= at {
                return header.tombstone || visit(key, Header::value_of(stored));
            }
            *met_newer = true;
            match older(snapshot, key, at) {
                Ok(Some(old)) if !old.header.tombstone => visit(key, &old.value),
                Ok(_) => true,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        })?;
        failed.map_or(Ok(more), Err)
    }

    /// The next visible row.
    #[expect(
        clippy::should_implement_trait,
        reason = "a failed step is not an item"
    )]
    pub fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        while let Some((key, stored)) = self.cursor.next()? {
            let header = Header::decode(&stored)?;
            if header.commit <= self.at {
                if !header.tombstone {
                    return Ok(Some((key, stored.slice(HEADER_LEN..))));
                }
            } else {
                self.met_newer = true;
                let old = older(&*self.snapshot, &key, self.at)?;
                if let Some(value) = old.and_then(Version::into_value) {
                    return Ok(Some((key, value)));
                }
            }
        }
        Ok(None)
    }
}

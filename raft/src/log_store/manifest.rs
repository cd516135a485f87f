//! The manifest: which segments must be there.
//!
//! Written and synced before a new segment is begun, in two copies of which one is written at a
//! time. With it a missing first or last segment is noticed; gaps between show in the sequence.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::disk::DiskFile;
use crate::codec::{Malformed, Reader};

/// The file's name.
pub(super) const NAME: &str = "manifest";
/// Its length: two copies.
pub(super) const LENGTH: u64 = 2 * COPY as u64;

const COPY: usize = 4096;
const MAGIC: u64 = 0x504f_4e54_4d41_4e31;
/// Format version.
pub(super) const VERSION: u32 = 1;
const COVERED: usize = 16 + 7 * 8;

/// What the manifest says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Manifest {
    pub(super) store: u64,
    pub(super) nonce: u64,
    /// Counts the writes of the manifest.
    pub(super) generation: u64,
    /// The first segment that is needed.
    pub(super) oldest: u64,
    /// The last segment begun, or about to be.
    pub(super) highest: u64,
    /// The file of the last segment.
    pub(super) slot: u64,
    /// The length of that file.
    pub(super) slot_length: u64,
}

/// What was found in the file.
pub(super) enum Found {
    /// Nothing was ever written.
    Empty,
    Valid(Manifest),
    Version(u32),
    Damaged,
}

impl Manifest {
    /// Writes and syncs the manifest, leaving the copy of the previous generation alone.
    pub(super) fn write(&self, file: &Arc<dyn DiskFile>) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(COPY);
        buffer.put_u64(MAGIC);
        buffer.put_u32(VERSION);
        buffer.put_u32(0);
        for value in [
            self.store,
            self.nonce,
            self.generation,
            self.oldest,
            self.highest,
            self.slot,
            self.slot_length,
        ] {
            buffer.put_u64(value);
        }
        debug_assert_eq!(buffer.len(), COVERED);
        buffer.put_u32(crc32c::crc32c(&buffer));
        file.write_at((self.generation % 2) * COPY as u64, &buffer)?;
        file.sync()
    }

    /// Reads the newest valid copy.
    pub(super) fn read(file: &Arc<dyn DiskFile>) -> io::Result<Found> {
        let length = usize::try_from(file.length()?)
            .unwrap_or(usize::MAX)
            .min(2 * COPY);
        let mut bytes = vec![0; length];
        file.read_at(0, &mut bytes)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(Found::Empty);
        }
        let mut newest: Option<Self> = None;
        let mut version = None;
        for copy in bytes.chunks(COPY) {
            match Self::parse(copy) {
                Ok(Ok(manifest)) => {
                    if newest.is_none_or(|newest| newest.generation < manifest.generation) {
                        newest = Some(manifest);
                    }
                }
                Ok(Err(other)) => version = Some(other),
                Err(Malformed) => {}
            }
        }
        Ok(match (newest, version) {
            (_, Some(version)) => Found::Version(version),
            (Some(manifest), None) => Found::Valid(manifest),
            (None, None) => Found::Damaged,
        })
    }

    fn parse(copy: &[u8]) -> Result<Result<Self, u32>, Malformed> {
        let covered = copy.get(..COVERED).ok_or(Malformed)?;
        let whole = copy.get(..COVERED + 4).ok_or(Malformed)?;
        let mut reader = Reader::new(Bytes::copy_from_slice(whole));
        if reader.u64()? != MAGIC {
            return Err(Malformed);
        }
        let version = reader.u32()?;
        let _ = reader.u32()?;
        let manifest = Self {
            store: reader.u64()?,
            nonce: reader.u64()?,
            generation: reader.u64()?,
            oldest: reader.u64()?,
            highest: reader.u64()?,
            slot: reader.u64()?,
            slot_length: reader.u64()?,
        };
        if crc32c::crc32c(covered) != reader.u32()? {
            return Err(Malformed);
        }
        Ok(if version == VERSION {
            Ok(manifest)
        } else {
            Err(version)
        })
    }
}

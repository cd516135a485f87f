//! Frames: what is written and synced at once, and the heads of segment files.
//!
//! ```text
//! segment = head (4096) | frame | frame | ... | stale bytes of an earlier use, or zeros
//! frame   = magic u32 | body length u32 | crc32c u32 | kind u8 | 0 u24 | lsn u64 | count u32
//!         | 0 u32 | body | zeros up to a multiple of the segment's block
//! ```
//! The block of a segment is in its head: 16 bytes in version 1, which is still read.
//!
//! A frame's checksum covers the store's nonce and the segment's sequence too, so that frames left
//! from an earlier use of the file, or lying in user data, never count.
//!
//! A *mark* is a frame without a body, written (not synced) where the next frame will go when the
//! log has nothing to do. It shows that the frame before it was complete: damage to the last frame
//! can then be told from a write that was under way when the power failed.

use bytes::{BufMut, Bytes};

use crate::codec::{Malformed, Reader};

/// The smallest block, that of version 1: frames begin at multiples of it at least.
pub(super) const BLOCK_MIN: usize = 16;
/// The largest block.
const BLOCK_MAX: usize = HEAD;
/// Bytes of a frame before its body.
pub(super) const HEADER: usize = 32;
/// Bytes of a segment before its first frame.
pub(super) const HEAD: usize = 4096;

const MAGIC: u32 = 0x504e_5442;
const HEAD_MAGIC: u64 = 0x504f_4e54_4c4f_4731;
const BATCH: u8 = 1;
const MARK: u8 = 2;
/// Format version of segments.
pub(super) const VERSION: u32 = 2;
/// The version in which every block had [`BLOCK_MIN`] bytes.
const VERSION_UNBLOCKED: u32 = 1;

/// What a frame's checksum is tied to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seal {
    pub(super) nonce: u64,
    pub(super) sequence: u64,
}

impl Seal {
    fn checksum(self, header: &[u8], body: &[u8]) -> u32 {
        let seed = crc32c::crc32c(&self.nonce.to_be_bytes());
        let seed = crc32c::crc32c_append(seed, &self.sequence.to_be_bytes());
        let seed = crc32c::crc32c_append(seed, header);
        crc32c::crc32c_append(seed, body)
    }
}

/// A frame that was read.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) mark: bool,
    /// The number of its first record in the whole log.
    pub(super) lsn: u64,
    /// Records in it.
    pub(super) count: u64,
    pub(super) body: Bytes,
    /// Its bytes, without what fills its last block.
    pub(super) length: usize,
}

/// Reserves room for a frame's header in front of its body.
pub(super) fn begin(buffer: &mut Vec<u8>) -> usize {
    let start = buffer.len();
    buffer.resize(start + HEADER, 0);
    start
}

/// Completes a frame whose body follows the header reserved at `start`; its blocks are still to be
/// filled.
pub(super) fn finish(buffer: &mut [u8], start: usize, seal: Seal, lsn: u64, count: u64) {
    finish_kind(buffer, start, seal, lsn, count, BATCH);
}

/// A mark for the end of the log.
pub(super) fn mark(buffer: &mut Vec<u8>, seal: Seal, lsn: u64) {
    let start = begin(buffer);
    finish_kind(buffer, start, seal, lsn, 0, MARK);
}

fn finish_kind(buffer: &mut [u8], start: usize, seal: Seal, lsn: u64, count: u64, kind: u8) {
    let body_length = buffer.len() - start - HEADER;
    let mut tail = Vec::with_capacity(HEADER - 12);
    tail.put_u8(kind);
    tail.put_slice(&[0; 3]);
    tail.put_u64(lsn);
    tail.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
    tail.put_u32(0);
    let length = u32::try_from(body_length).unwrap_or(u32::MAX).to_be_bytes();
    let mut covered = length.to_vec();
    covered.extend_from_slice(&tail);
    let body = buffer.get(start + HEADER..).unwrap_or_default();
    let checksum = seal.checksum(&covered, body);
    let mut header = Vec::with_capacity(HEADER);
    header.put_u32(MAGIC);
    header.put_slice(&length);
    header.put_u32(checksum);
    header.put_slice(&tail);
    if let Some(target) = buffer.get_mut(start..start + HEADER) {
        target.copy_from_slice(&header);
    }
}

/// Reads the frame at the start of `bytes`, if there is a valid one.
pub(super) fn read(bytes: &Bytes, seal: Seal) -> Option<Frame> {
    let mut reader = Reader::new(bytes.get(..HEADER).map(Bytes::copy_from_slice)?);
    if reader.u32().ok()? != MAGIC {
        return None;
    }
    let body_length = usize::try_from(reader.u32().ok()?).ok()?;
    let checksum = reader.u32().ok()?;
    let kind = reader.u8().ok()?;
    let _ = (reader.u8().ok()?, reader.u8().ok()?, reader.u8().ok()?);
    let lsn = reader.u64().ok()?;
    let count = u64::from(reader.u32().ok()?);
    let end = HEADER.checked_add(body_length)?;
    let body = bytes.get(HEADER..end)?;
    let mut covered = bytes.get(4..8)?.to_vec();
    covered.extend_from_slice(bytes.get(12..HEADER)?);
    if seal.checksum(&covered, body) != checksum || !matches!(kind, BATCH | MARK) {
        return None;
    }
    Some(Frame {
        mark: kind == MARK,
        lsn,
        count,
        body: bytes.slice(HEADER..end),
        length: end,
    })
}

/// Whether a frame might begin here; cheap, for the search after damage.
pub(super) fn looks_like_frame(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC.to_be_bytes())
}

/// The first block of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) store: u64,
    pub(super) seal: Seal,
    /// The number of the first record in it.
    pub(super) lsn: u64,
    /// Its length as a file.
    pub(super) length: u64,
    /// Its frames begin at multiples of this.
    pub(super) block: usize,
}

/// Why a head does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadHead {
    /// Nothing was ever written, or not completely, or it is damaged.
    Invalid,
    /// It has another format version.
    Version(u32),
}

impl Head {
    /// Appends the head, filled up to [`HEAD`] bytes.
    pub(super) fn put(&self, buffer: &mut Vec<u8>) {
        let start = buffer.len();
        buffer.put_u64(HEAD_MAGIC);
        if self.block == BLOCK_MIN {
            buffer.put_u32(VERSION_UNBLOCKED);
            buffer.put_u32(0);
        } else {
            buffer.put_u32(VERSION);
            buffer.put_u32(u32::try_from(self.block).unwrap_or(0));
        }
        buffer.put_u64(self.store);
        buffer.put_u64(self.seal.nonce);
        buffer.put_u64(self.seal.sequence);
        buffer.put_u64(self.lsn);
        buffer.put_u64(self.length);
        let checksum = crc32c::crc32c(buffer.get(start..).unwrap_or_default());
        buffer.put_u32(checksum);
        buffer.resize(start + HEAD, 0);
    }

    /// Reads a head from the start of a segment.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, BadHead> {
        Self::parse(bytes).unwrap_or(Err(BadHead::Invalid))
    }

    fn parse(bytes: &[u8]) -> Result<Result<Self, BadHead>, Malformed> {
        let covered = bytes.get(..56).ok_or(Malformed)?;
        let mut reader = Reader::new(Bytes::copy_from_slice(bytes.get(..60).ok_or(Malformed)?));
        if reader.u64()? != HEAD_MAGIC {
            return Err(Malformed);
        }
        let (version, block) = (reader.u32()?, reader.u32()?);
        let store = reader.u64()?;
        let seal = Seal {
            nonce: reader.u64()?,
            sequence: reader.u64()?,
        };
        let (lsn, length) = (reader.u64()?, reader.u64()?);
        if crc32c::crc32c(covered) != reader.u32()? {
            return Err(Malformed);
        }
        let block = match version {
            VERSION_UNBLOCKED => BLOCK_MIN,
            VERSION => usize::try_from(block).map_err(|_| Malformed)?,
            other => return Ok(Err(BadHead::Version(other))),
        };
        if !block.is_power_of_two() || !(BLOCK_MIN..=BLOCK_MAX).contains(&block) {
            return Err(Malformed);
        }
        Ok(Ok(Self {
            store,
            seal,
            lsn,
            length,
            block,
        }))
    }
}

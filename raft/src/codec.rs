//! Reading and writing of this crate's binary formats (log records, memberships): big-endian
//! integers and length-prefixed bytes.
//!
//! Decoding never panics and never trusts a length: whatever it reads came from a disk or a
//! network.

use bytes::{BufMut, Bytes, BytesMut};

/// The bytes end early or hold a value that has no meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed encoding")]
pub struct Malformed;

/// A cursor over encoded bytes.
pub(crate) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A count of things of which each takes at least `bytes_each` bytes; refused when the rest
    /// cannot hold them, so that a damaged count cannot make the caller allocate.
    pub(crate) fn count(&mut self, bytes_each: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        match count.checked_mul(bytes_each) {
            Some(bytes) if bytes <= self.bytes.len() => Ok(count),
            _ => Err(Malformed),
        }
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> Bytes {
        self.bytes
    }

    /// Fails unless everything has been read.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, _) = self.bytes.split_first_chunk::<N>().ok_or(Malformed)?;
        let head = *head;
        let _ = self.bytes.split_to(N);
        Ok(head)
    }
}

/// Writes a count as [`Reader::count`] reads it.
pub(crate) fn put_count(buffer: &mut BytesMut, count: usize) {
    debug_assert!(
        u32::try_from(count).is_ok(),
        "count {count} does not fit the format"
    );
    buffer.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
}

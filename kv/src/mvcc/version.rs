//! How a version is written.

use bytes::{Buf, Bytes};

use crate::error::Error;
use crate::keys;
use crate::timestamp::Timestamp;

/// Bytes before the value of a version.
pub const HEADER_LEN: usize = 17;

const TOMBSTONE: u8 = 1;
const MARK: u8 = 2;

/// What is known of a version beside its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The version says that the key was deleted.
    pub tombstone: bool,
    /// Not a version: says that the newest version is a tombstone of this timestamp.
    pub mark: bool,
    /// When it became visible.
    pub commit: Timestamp,
    /// Start timestamp, and so the identity, of the transaction that wrote it.
    pub start: Timestamp,
}

/// A version with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Its header.
    pub header: Header,
    /// Its value; empty for a tombstone.
    pub value: Bytes,
}

fn damaged() -> Error {
    Error::Storage {
        message: "a version in the store is damaged".into(),
    }
}

impl Header {
    /// Reads the header at the front of a stored version.
    pub fn decode(stored: &[u8]) -> Result<Self, Error> {
        let (head, _) = stored
            .split_first_chunk::<HEADER_LEN>()
            .ok_or_else(damaged)?;
        let [
            flags,
            c0,
            c1,
            c2,
            c3,
            c4,
            c5,
            c6,
            c7,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
        ] = *head;
        if flags > TOMBSTONE | MARK {
            return Err(damaged());
        }
        Ok(Self {
            tombstone: flags & TOMBSTONE != 0,
            mark: flags & MARK != 0,
            commit: Timestamp(u64::from_be_bytes([c0, c1, c2, c3, c4, c5, c6, c7])),
            start: Timestamp(u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7])),
        })
    }

    /// The value behind the header of a stored version.
    pub(crate) fn value_of(stored: &[u8]) -> &[u8] {
        stored.get(HEADER_LEN..).unwrap_or_default()
    }

    pub(crate) fn put(self, to: &mut Vec<u8>) {
        to.push(u8::from(self.tombstone) * TOMBSTONE + u8::from(self.mark) * MARK);
        to.extend_from_slice(&self.commit.0.to_be_bytes());
        to.extend_from_slice(&self.start.0.to_be_bytes());
    }
}

impl Version {
    /// Reads a stored version without copying its value.
    pub fn decode(mut stored: Bytes) -> Result<Self, Error> {
        let header = Header::decode(&stored)?;
        stored.advance(HEADER_LEN);
        Ok(Self {
            header,
            value: stored,
        })
    }

    /// The value, `None` for a tombstone.
    pub fn into_value(self) -> Option<Bytes> {
        (!self.header.tombstone).then_some(self.value)
    }
}

/// Appends a version (`None`: a tombstone) as it is stored.
pub fn encode_version(to: &mut Vec<u8>, commit: Timestamp, start: Timestamp, value: Option<&[u8]>) {
    Header {
        tombstone: value.is_none(),
        mark: false,
        commit,
        start,
    }
    .put(to);
    to.extend_from_slice(value.unwrap_or_default());
}

/// The key in `history` of the version of `key` at `commit`. Newer versions sort before older.
pub fn history_key(key: &[u8], commit: Timestamp) -> Vec<u8> {
    let mut to = Vec::with_capacity(key.len() + 16);
    keys::encode_bytes(&mut to, key, false);
    to.extend_from_slice(&(!commit.0).to_be_bytes());
    to
}

/// The end of the versions of `key` in `history`.
pub(crate) fn history_end(key: &[u8]) -> Vec<u8> {
    let mut to = Vec::with_capacity(key.len() + 16);
    keys::encode_bytes(&mut to, key, false);
    to.extend_from_slice(&[0xff; 9]);
    to
}

/// The first key in `history` of keys at or above `key`.
pub(crate) fn history_bound(key: &[u8]) -> Vec<u8> {
    let mut to = Vec::with_capacity(key.len() + 8);
    keys::encode_bytes(&mut to, key, false);
    // "a" ends with 00 01, "a\0" goes on with 00 ff: without the end both begin alike.
    to.truncate(to.len().saturating_sub(2));
    to
}

/// Splits a key of `history` into the user key and the timestamp.
pub(crate) fn decode_history_key(mut from: &[u8]) -> Result<(Vec<u8>, Timestamp), Error> {
    let mut key = Vec::with_capacity(from.len());
    keys::decode_bytes(&mut from, false, &mut key)?;
    let inverted: [u8; 8] = from.try_into().map_err(|_| damaged())?;
    Ok((key, Timestamp(!u64::from_be_bytes(inverted))))
}

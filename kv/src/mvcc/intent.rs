//! What is undecided of a transaction over several ranges, as it is stored.
//!
//! ```text
//! intent = version (1) ‖ start (8) ‖ flags (1) ‖ length (4) ‖ primary key ‖ value
//! record = version (1) ‖ outcome (1) ‖ commit (8) ‖ count (4) ‖ { length (4) ‖ start ‖ length (4) ‖ end }
//! ```
//!
//! An intent lies beside the versions of its key and names the primary key of its transaction. The
//! record lies at the primary key: it says how the transaction ended and where intents of it may be
//! left. It is there from the decision until no intent is left; the record of a rollback also
//! refuses an intent at the primary key that comes late.

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::timestamp::Timestamp;
use crate::txn::Span;

const VERSION: u8 = 1;
const TOMBSTONE: u8 = 1;
const COMMITTED: u8 = 1;
const ROLLED_BACK: u8 = 2;

/// A write whose transaction is not decided yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intent {
    /// The transaction.
    pub start: Timestamp,
    /// The key at which it is decided.
    pub primary: Bytes,
    /// The new value, `None` to delete.
    pub value: Option<Bytes>,
}

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// Its writes are visible from this timestamp on.
    Committed(Timestamp),
    /// It never wrote anything.
    RolledBack,
}

/// The record of a transaction over several ranges.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// How it ended.
    pub outcome: Outcome,
    /// Where intents of it may be left.
    pub spans: Vec<Span>,
}

fn damaged(what: &str) -> Error {
    Error::Storage {
        message: format!("{what} in the store is damaged"),
    }
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    // Keys are far shorter: the limit on the bytes of a transaction counts them.
    to.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    to.extend_from_slice(bytes);
}

fn take_bytes(from: &mut Bytes) -> Option<Bytes> {
    let length = from.try_get_u32().ok()? as usize;
    (length <= from.len()).then(|| from.split_to(length))
}

impl Intent {
    /// The stored form.
    pub fn encode(start: Timestamp, primary: &[u8], value: Option<&[u8]>) -> Bytes {
        let bytes = value.unwrap_or_default();
        let mut to = Vec::with_capacity(14 + primary.len() + bytes.len());
        to.push(VERSION);
        to.put_u64(start.0);
        to.push(u8::from(value.is_none()) * TOMBSTONE);
        put_bytes(&mut to, primary);
        to.extend_from_slice(bytes);
        to.into()
    }

    /// Reads a stored intent without copying.
    pub fn decode(stored: Bytes) -> Result<Self, Error> {
        Self::read(stored).ok_or_else(|| damaged("an intent"))
    }

    fn read(mut from: Bytes) -> Option<Self> {
        if from.try_get_u8().ok()? != VERSION {
            return None;
        }
        let start = Timestamp(from.try_get_u64().ok()?);
        let tombstone = match from.try_get_u8().ok()? {
            0 => false,
            TOMBSTONE => true,
            _ => return None,
        };
        let primary = take_bytes(&mut from)?;
        Some(Self {
            start,
            primary,
            value: (!tombstone).then_some(from),
        })
    }
}

impl Record {
    /// The stored form.
    pub fn encode(&self) -> Bytes {
        let mut to = Vec::with_capacity(32);
        to.push(VERSION);
        match self.outcome {
            Outcome::Committed(at) => {
                to.push(COMMITTED);
                to.put_u64(at.0);
            }
            Outcome::RolledBack => {
                to.push(ROLLED_BACK);
                to.put_u64(0);
            }
        }
        to.put_u32(u32::try_from(self.spans.len()).unwrap_or(u32::MAX));
        for span in &self.spans {
            put_bytes(&mut to, &span.start);
            put_bytes(&mut to, &span.end);
        }
        to.into()
    }

    /// Reads a stored record.
    pub fn decode(stored: Bytes) -> Result<Self, Error> {
        Self::read(stored).ok_or_else(|| damaged("a transaction record"))
    }

    fn read(mut from: Bytes) -> Option<Self> {
        if from.try_get_u8().ok()? != VERSION {
            return None;
        }
        let kind = from.try_get_u8().ok()?;
        let commit = Timestamp(from.try_get_u64().ok()?);
        let outcome = match kind {
            COMMITTED => Outcome::Committed(commit),
            ROLLED_BACK => Outcome::RolledBack,
            _ => return None,
        };
        let count = from.try_get_u32().ok()? as usize;
        let mut spans = Vec::with_capacity(count.min(from.len() / 8));
        for _ in 0..count {
            spans.push(Span {
                start: take_bytes(&mut from)?,
                end: take_bytes(&mut from)?,
            });
        }
        from.is_empty().then_some(Self { outcome, spans })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..6).prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn intents_round_trip_and_short_ones_are_refused(
            start: u64,
            primary in bytes(),
            value in prop::option::of(bytes()),
        ) {
            let start = Timestamp(start);
            let stored = Intent::encode(start, &primary, value.as_deref());
            let head = 14 + primary.len();
            for cut in 0..head {
                prop_assert!(Intent::decode(stored.slice(..cut)).is_err());
            }
            prop_assert_eq!(Intent::decode(stored).unwrap(), Intent { start, primary, value });
        }

        #[test]
        fn records_round_trip_and_cuts_are_refused(
            commit in prop::option::of(any::<u64>()),
            spans in prop::collection::vec((bytes(), bytes()), 0..4),
        ) {
            let outcome = commit.map_or(Outcome::RolledBack, |at| Outcome::Committed(Timestamp(at)));
            let spans = spans.into_iter().map(|(start, end)| Span { start, end }).collect();
            let record = Record { outcome, spans };
            let stored = record.encode();
            for cut in 0..stored.len() {
                prop_assert!(Record::decode(stored.slice(..cut)).is_err());
            }
            prop_assert_eq!(Record::decode(stored).unwrap(), record);
        }
    }
}

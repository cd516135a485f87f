//! What a range is: its bounds and the generation of them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::keys::Malformed;
use crate::txn::Span;

/// The bounds of a range. Stored beside the applied position on every replica, and as a row of the
/// system range for those who look for a range.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Descriptor {
    /// The range, which is also its Raft group.
    pub range: u64,
    /// Grows with every change of the bounds; 0 where nothing is known of them.
    pub generation: u64,
    /// Its keys.
    pub span: Span,
    /// It is about to become a part of another range, and serves nobody. Not told to others with
    /// the bounds: they could do nothing with it.
    #[serde(skip)]
    pub frozen: Option<Frozen>,
}

/// What a range is frozen for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Frozen {
    /// The range before it, which is to absorb it.
    pub into: u64,
    /// The first key of that range: whether it did is decided there.
    pub start: Bytes,
}

const FORMAT: u8 = 1;
/// The format of a frozen range.
const FROZEN: u8 = 2;

impl Descriptor {
    /// That of a replica which has nothing yet.
    pub fn nothing(range: u64) -> Self {
        Self {
            range,
            generation: 0,
            span: Span {
                start: Bytes::new(),
                end: Bytes::new(),
            },
            frozen: None,
        }
    }

    /// Whether the range serves a key.
    pub fn serves(&self, key: &[u8]) -> bool {
        self.frozen.is_none() && self.span.contains(key)
    }

    /// The encoding.
    pub fn encode(&self) -> Bytes {
        let mut to = Vec::with_capacity(32);
        to.push(if self.frozen.is_some() {
            FROZEN
        } else {
            FORMAT
        });
        to.extend_from_slice(&self.range.to_be_bytes());
        to.extend_from_slice(&self.generation.to_be_bytes());
        crate::keys::encode_bytes(&mut to, &self.span.start, false);
        crate::keys::encode_bytes(&mut to, &self.span.end, false);
        if let Some(frozen) = &self.frozen {
            to.extend_from_slice(&frozen.into.to_be_bytes());
            crate::keys::encode_bytes(&mut to, &frozen.start, false);
        }
        to.into()
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(mut from: &[u8]) -> Result<Self, Error> {
        let Some((&format @ (FORMAT | FROZEN), rest)) = from.split_first() else {
            return Err(Malformed.into());
        };
        from = rest;
        let (range, generation) = (take_number(&mut from)?, take_number(&mut from)?);
        let span = Span {
            start: take_key(&mut from)?,
            end: take_key(&mut from)?,
        };
        let frozen = match format {
            FROZEN => Some(Frozen {
                into: take_number(&mut from)?,
                start: take_key(&mut from)?,
            }),
            _ => None,
        };
        Ok(Self {
            range,
            generation,
            span,
            frozen,
        })
    }
}

fn take_number(from: &mut &[u8]) -> Result<u64, Malformed> {
    let (bytes, rest) = from.split_first_chunk().ok_or(Malformed)?;
    *from = rest;
    Ok(u64::from_be_bytes(*bytes))
}

fn take_key(from: &mut &[u8]) -> Result<Bytes, Malformed> {
    let mut bytes = Vec::new();
    crate::keys::decode_bytes(from, false, &mut bytes)?;
    Ok(bytes.into())
}

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
}

const FORMAT: u8 = 1;

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
        }
    }

    /// The encoding.
    pub fn encode(&self) -> Bytes {
        let mut to = Vec::with_capacity(32);
        to.push(FORMAT);
        to.extend_from_slice(&self.range.to_be_bytes());
        to.extend_from_slice(&self.generation.to_be_bytes());
        crate::keys::encode_bytes(&mut to, &self.span.start, false);
        crate::keys::encode_bytes(&mut to, &self.span.end, false);
        to.into()
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(mut from: &[u8]) -> Result<Self, Error> {
        let Some((&[FORMAT], rest)) = from.split_first_chunk() else {
            return Err(Malformed.into());
        };
        from = rest;
        let mut id = || {
            let (bytes, rest) = from.split_first_chunk().ok_or(Malformed)?;
            from = rest;
            Ok::<_, Malformed>(u64::from_be_bytes(*bytes))
        };
        let (range, generation) = (id()?, id()?);
        let mut bound = || {
            let mut bytes = Vec::new();
            crate::keys::decode_bytes(&mut from, false, &mut bytes)?;
            Ok::<_, Malformed>(Bytes::from(bytes))
        };
        let span = Span {
            start: bound()?,
            end: bound()?,
        };
        Ok(Self {
            range,
            generation,
            span,
        })
    }
}

//! What a range replicates, and its encoding.
//!
//! ```text
//! version (1) ‖ kind (1) ‖ term (8) ‖ generation (8) ‖ request (8) ‖ body
//! commit: count (4) ‖ { flags (1) ‖ key length (4) ‖ stored length (4) ‖ key ‖ stored }
//! window, safe point: timestamp (8)
//! ```
//!
//! Rows are carried as they are stored, so that applying one copies nothing.

use bytes::{Buf, Bytes};

use crate::mvcc::Write;
use crate::timestamp::Timestamp;

const VERSION: u8 = 1;
const COMMIT: u8 = 1;
const WINDOW: u8 = 2;
const SAFE_POINT: u8 = 3;
const FRESH: u8 = 1;

/// A replicated command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// The term in which it was evaluated. In another term it is void.
    pub term: u64,
    /// The generation of the range's descriptor for which it was evaluated.
    pub generation: u64,
    /// The request whose latches end when it is applied; 0 for none.
    pub request: u64,
    /// What to do.
    pub body: Body,
}

/// What a command does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Writes new versions.
    Commit(Vec<Write>),
    /// Raises the bound of the timestamps that may be handed out.
    Window(u64),
    /// Raises the timestamp below which history may be removed.
    SafePoint(Timestamp),
}

/// What applying a command achieved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It took effect.
    Applied,
    /// Nothing happened: another term has begun since it was evaluated.
    OtherTerm,
    /// Nothing happened: the bounds of the range have changed since it was evaluated.
    OtherBounds,
}

/// A command that this version cannot read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable;

impl Command {
    /// The encoding.
    pub fn encode(&self) -> Bytes {
        let rows = match &self.body {
            Body::Commit(writes) => writes
                .iter()
                .map(|w| 9 + w.key.len() + w.stored.len())
                .sum(),
            Body::Window(_) | Body::SafePoint(_) => 8,
        };
        let mut to = Vec::with_capacity(30 + rows);
        let kind = match &self.body {
            Body::Commit(_) => COMMIT,
            Body::Window(_) => WINDOW,
            Body::SafePoint(_) => SAFE_POINT,
        };
        to.extend_from_slice(&[VERSION, kind]);
        to.extend_from_slice(&self.term.to_be_bytes());
        to.extend_from_slice(&self.generation.to_be_bytes());
        to.extend_from_slice(&self.request.to_be_bytes());
        match &self.body {
            Body::Commit(writes) => {
                put_len(&mut to, writes.len());
                for write in writes {
                    to.push(if write.fresh { FRESH } else { 0 });
                    put_len(&mut to, write.key.len());
                    put_len(&mut to, write.stored.len());
                    to.extend_from_slice(&write.key);
                    to.extend_from_slice(&write.stored);
                }
            }
            Body::Window(at) | Body::SafePoint(Timestamp(at)) => {
                to.extend_from_slice(&at.to_be_bytes());
            }
        }
        to.into()
    }

    /// Reads what [`Self::encode`] wrote; keys and rows share the memory of `from`.
    pub fn decode(mut from: Bytes) -> Result<Self, Unreadable> {
        if from.len() < 26 || from.get_u8() != VERSION {
            return Err(Unreadable);
        }
        let kind = from.get_u8();
        let (term, generation, request) = (from.get_u64(), from.get_u64(), from.get_u64());
        let body = match kind {
            COMMIT => Body::Commit(decode_writes(&mut from)?),
            WINDOW if from.len() == 8 => Body::Window(from.get_u64()),
            SAFE_POINT if from.len() == 8 => Body::SafePoint(Timestamp(from.get_u64())),
            _ => return Err(Unreadable),
        };
        if from.is_empty() {
            Ok(Self {
                term,
                generation,
                request,
                body,
            })
        } else {
            Err(Unreadable)
        }
    }
}

fn put_len(to: &mut Vec<u8>, len: usize) {
    // The limit on the bytes of a transaction keeps every length far below.
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    to.extend_from_slice(&len.to_be_bytes());
}

fn decode_writes(from: &mut Bytes) -> Result<Vec<Write>, Unreadable> {
    if from.len() < 4 {
        return Err(Unreadable);
    }
    let count = from.get_u32() as usize;
    let mut writes = Vec::with_capacity(count.min(from.len() / 9));
    for _ in 0..count {
        if from.len() < 9 {
            return Err(Unreadable);
        }
        let fresh = from.get_u8() & FRESH != 0;
        let (key, stored) = (from.get_u32() as usize, from.get_u32() as usize);
        if from.len() < key.saturating_add(stored) {
            return Err(Unreadable);
        }
        writes.push(Write {
            key: from.split_to(key),
            stored: from.split_to(stored),
            fresh,
        });
    }
    Ok(writes)
}

impl Outcome {
    /// The encoding, as replied by the state machine.
    pub fn encode(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Applied => b"a",
            Self::OtherTerm => b"t",
            Self::OtherBounds => b"b",
        })
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(from: &[u8]) -> Option<Self> {
        match from {
            b"a" => Some(Self::Applied),
            b"t" => Some(Self::OtherTerm),
            b"b" => Some(Self::OtherBounds),
            _ => None,
        }
    }
}

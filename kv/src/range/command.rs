//! What a range replicates, and its encoding.
//!
//! ```text
//! version (1) ‖ kind (1) ‖ term (8) ‖ generation (8) ‖ request (8) ‖ body
//! commit: count (4) ‖ { flags (1) ‖ key length (4) ‖ stored length (4) ‖ key ‖ stored }
//! window, safe point: timestamp (8)
//! prewrite: start (8) ‖ length (4) ‖ primary ‖ count (4) ‖ { flags (1) ‖ lengths (8) ‖ key ‖ value }
//! split: child (8) ‖ length (4) ‖ key
//! freeze: into (8) ‖ length (4) ‖ first key of that
//! thaw: nothing
//! absorb: length (4) ‖ descriptor ‖ safe point (8) ‖ bytes (8) ‖ term (8) ‖ index (8)
//! renounce: length (4) ‖ first key ‖ range (8) ‖ generation (8)
//! resolve: start (8) ‖ length (4) ‖ primary ‖ change of the record ‖ rows as in commit
//!          ‖ count (4) ‖ { length (4) ‖ key }
//! change of the record: 0, 1 (removed), or 2 ‖ length (4) ‖ record
//! ```
//!
//! Rows are carried as they are stored, so that applying one copies nothing.

use bytes::{Buf, Bytes};

use pontoon_raft::LogPosition;

use crate::mvcc::Write;
use crate::range::descriptor::{Descriptor, Frozen};
use crate::timestamp::Timestamp;

const VERSION: u8 = 1;
const COMMIT: u8 = 1;
const WINDOW: u8 = 2;
const SAFE_POINT: u8 = 3;
const PREWRITE: u8 = 4;
const RESOLVE: u8 = 5;
const SPLIT: u8 = 6;
const FREEZE: u8 = 7;
const THAW: u8 = 8;
const ABSORB: u8 = 9;
const RENOUNCE: u8 = 10;
const ANNOUNCED: u8 = 11;
const FRESH: u8 = 1;
const TOMBSTONE: u8 = 1;
const RECORD_STAYS: u8 = 0;
const RECORD_REMOVED: u8 = 1;
const RECORD_PUT: u8 = 2;

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
    /// Raises the timestamp of the last announced commit.
    Announced(Timestamp),
    /// Raises the timestamp below which history may be removed.
    SafePoint(Timestamp),
    /// Writes intents.
    Prewrite(Prewrite),
    /// Ends intents, and notes how their transaction ended.
    Resolve(Resolve),
    /// Gives the keys from one on to a new range.
    Split(Split),
    /// Nothing is done in the range any more: another is about to absorb it.
    Freeze(Frozen),
    /// That other one never will.
    Thaw,
    /// Takes the range behind this one in.
    Absorb(Absorb),
    /// Notes that a range is not and will not be absorbed.
    Renounce(Renounce),
}

/// The end of a range as one of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Absorb {
    /// The other range, frozen.
    pub right: Descriptor,
    /// Its safe point.
    pub safe_point: Timestamp,
    /// Bytes of its rows, roughly.
    pub bytes: u64,
    /// The entry that made the members of this range its members. On their nodes the other one is
    /// frozen and durable.
    pub membership: LogPosition,
}

/// A range is not absorbed. Which attempt that was is named by the generation it was frozen as.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Renounce {
    /// The first key of the range that was to absorb it.
    pub start: Bytes,
    /// The range.
    pub right: u64,
    /// Its generation since it is frozen.
    pub generation: u64,
}

/// A new range out of the end of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split {
    /// The new range.
    pub child: u64,
    /// Its first key.
    pub key: Bytes,
}

/// Intents of a transaction over several ranges.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prewrite {
    /// The transaction.
    pub start: Timestamp,
    /// The key at which it is decided.
    pub primary: Bytes,
    /// Each key with its new value, `None` to delete.
    pub intents: Vec<(Bytes, Option<Bytes>)>,
}

/// The end of intents of one transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolve {
    /// The transaction.
    pub start: Timestamp,
    /// The key at which it is decided.
    pub primary: Bytes,
    /// What becomes of its record, which lies in this range if something does.
    pub record: RecordChange,
    /// Intents that become versions.
    pub writes: Vec<Write>,
    /// Keys whose intents are removed.
    pub removed: Vec<Bytes>,
}

/// What becomes of the record of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordChange {
    /// Nothing.
    Stays,
    /// It is written, as stored.
    Put(Bytes),
    /// It is removed: nobody needs it any more.
    Removed,
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
            _ => 8,
        };
        let mut to = Vec::with_capacity(30 + rows);
        let kind = match &self.body {
            Body::Commit(_) => COMMIT,
            Body::Window(_) => WINDOW,
            Body::Announced(_) => ANNOUNCED,
            Body::SafePoint(_) => SAFE_POINT,
            Body::Prewrite(_) => PREWRITE,
            Body::Resolve(_) => RESOLVE,
            Body::Split(_) => SPLIT,
            Body::Freeze(_) => FREEZE,
            Body::Thaw => THAW,
            Body::Absorb(_) => ABSORB,
            Body::Renounce(_) => RENOUNCE,
        };
        to.extend_from_slice(&[VERSION, kind]);
        to.extend_from_slice(&self.term.to_be_bytes());
        to.extend_from_slice(&self.generation.to_be_bytes());
        to.extend_from_slice(&self.request.to_be_bytes());
        match &self.body {
            Body::Commit(writes) => put_writes(&mut to, writes),
            Body::Window(at) | Body::Announced(Timestamp(at)) | Body::SafePoint(Timestamp(at)) => {
                to.extend_from_slice(&at.to_be_bytes());
            }
            Body::Prewrite(prewrite) => prewrite.put(&mut to),
            Body::Resolve(resolve) => resolve.put(&mut to),
            Body::Split(split) => {
                to.extend_from_slice(&split.child.to_be_bytes());
                put_bytes(&mut to, &split.key);
            }
            Body::Freeze(frozen) => {
                to.extend_from_slice(&frozen.into.to_be_bytes());
                put_bytes(&mut to, &frozen.start);
            }
            Body::Thaw => {}
            Body::Absorb(absorb) => absorb.put(&mut to),
            Body::Renounce(renounce) => {
                put_bytes(&mut to, &renounce.start);
                to.extend_from_slice(&renounce.right.to_be_bytes());
                to.extend_from_slice(&renounce.generation.to_be_bytes());
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
            ANNOUNCED if from.len() == 8 => Body::Announced(Timestamp(from.get_u64())),
            SAFE_POINT if from.len() == 8 => Body::SafePoint(Timestamp(from.get_u64())),
            PREWRITE => Body::Prewrite(Prewrite::take(&mut from).ok_or(Unreadable)?),
            RESOLVE => Body::Resolve(Resolve::take(&mut from)?),
            SPLIT => Body::Split(Split {
                child: from.try_get_u64().map_err(|_| Unreadable)?,
                key: take_bytes(&mut from).ok_or(Unreadable)?,
            }),
            FREEZE => Body::Freeze(Frozen {
                into: from.try_get_u64().map_err(|_| Unreadable)?,
                start: take_bytes(&mut from).ok_or(Unreadable)?,
            }),
            THAW => Body::Thaw,
            ABSORB => Body::Absorb(Absorb::take(&mut from).ok_or(Unreadable)?),
            RENOUNCE => Body::Renounce(Renounce {
                start: take_bytes(&mut from).ok_or(Unreadable)?,
                right: from.try_get_u64().map_err(|_| Unreadable)?,
                generation: from.try_get_u64().map_err(|_| Unreadable)?,
            }),
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

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_len(to, bytes.len());
    to.extend_from_slice(bytes);
}

fn take_bytes(from: &mut Bytes) -> Option<Bytes> {
    let length = from.try_get_u32().ok()? as usize;
    (length <= from.len()).then(|| from.split_to(length))
}

fn put_writes(to: &mut Vec<u8>, writes: &[Write]) {
    put_len(to, writes.len());
    for write in writes {
        to.push(if write.fresh { FRESH } else { 0 });
        put_len(to, write.key.len());
        put_len(to, write.stored.len());
        to.extend_from_slice(&write.key);
        to.extend_from_slice(&write.stored);
    }
}

impl Prewrite {
    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.start.0.to_be_bytes());
        put_bytes(to, &self.primary);
        put_len(to, self.intents.len());
        for (key, value) in &self.intents {
            to.push(if value.is_none() { TOMBSTONE } else { 0 });
            put_bytes(to, key);
            put_bytes(to, value.as_deref().unwrap_or_default());
        }
    }

    fn take(from: &mut Bytes) -> Option<Self> {
        let start = Timestamp(from.try_get_u64().ok()?);
        let primary = take_bytes(from)?;
        let count = from.try_get_u32().ok()? as usize;
        let mut intents = Vec::with_capacity(count.min(from.len() / 9));
        for _ in 0..count {
            let tombstone = from.try_get_u8().ok()? & TOMBSTONE != 0;
            let (key, value) = (take_bytes(from)?, take_bytes(from)?);
            intents.push((key, (!tombstone).then_some(value)));
        }
        Some(Self {
            start,
            primary,
            intents,
        })
    }
}

impl Absorb {
    fn put(&self, to: &mut Vec<u8>) {
        put_bytes(to, &self.right.encode());
        for number in [
            self.safe_point.0,
            self.bytes,
            self.membership.term,
            self.membership.index,
        ] {
            to.extend_from_slice(&number.to_be_bytes());
        }
    }

    fn take(from: &mut Bytes) -> Option<Self> {
        let right = Descriptor::decode(&take_bytes(from)?).ok()?;
        Some(Self {
            right,
            safe_point: Timestamp(from.try_get_u64().ok()?),
            bytes: from.try_get_u64().ok()?,
            membership: LogPosition {
                term: from.try_get_u64().ok()?,
                index: from.try_get_u64().ok()?,
            },
        })
    }
}

impl Resolve {
    /// The keys whose intents end.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        let written = self.writes.iter().map(|write| &write.key);
        written.chain(&self.removed)
    }

    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.start.0.to_be_bytes());
        put_bytes(to, &self.primary);
        match &self.record {
            RecordChange::Stays => to.push(RECORD_STAYS),
            RecordChange::Removed => to.push(RECORD_REMOVED),
            RecordChange::Put(stored) => {
                to.push(RECORD_PUT);
                put_bytes(to, stored);
            }
        }
        put_writes(to, &self.writes);
        put_len(to, self.removed.len());
        for key in &self.removed {
            put_bytes(to, key);
        }
    }

    fn take(from: &mut Bytes) -> Result<Self, Unreadable> {
        let mut head = || {
            let start = Timestamp(from.try_get_u64().ok()?);
            let primary = take_bytes(from)?;
            let record = match from.try_get_u8().ok()? {
                RECORD_STAYS => RecordChange::Stays,
                RECORD_REMOVED => RecordChange::Removed,
                RECORD_PUT => RecordChange::Put(take_bytes(from)?),
                _ => return None,
            };
            Some((start, primary, record))
        };
        let (start, primary, record) = head().ok_or(Unreadable)?;
        let writes = decode_writes(from)?;
        let count = from.try_get_u32().map_err(|_| Unreadable)? as usize;
        let mut removed = Vec::with_capacity(count.min(from.len() / 4));
        for _ in 0..count {
            removed.push(take_bytes(from).ok_or(Unreadable)?);
        }
        Ok(Self {
            start,
            primary,
            record,
            writes,
            removed,
        })
    }
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

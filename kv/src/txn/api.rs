//! The vocabulary of transactions: spans, options, batches of rows. No logic.

use bytes::Bytes;
use pontoon_raft::NodeId;
use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// A user key.
pub type Key = Bytes;
/// A user value.
pub type Value = Bytes;

/// Keys from `start` (inclusive) to `end` (exclusive).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Span {
    /// First key.
    pub start: Key,
    /// First key after the span.
    pub end: Key,
}

impl Span {
    /// The span of all keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.last_mut() {
            if *last == 0xff {
                end.pop();
            } else {
                *last += 1;
                break;
            }
        }
        Self {
            start: Bytes::copy_from_slice(prefix),
            end: end.into(),
        }
    }

    /// The span of exactly one key.
    pub fn point(key: &[u8]) -> Self {
        let mut end = Vec::with_capacity(key.len() + 1);
        end.extend_from_slice(key);
        end.push(0);
        Self {
            start: Bytes::copy_from_slice(key),
            end: end.into(),
        }
    }

    /// What it has in common with another, `None` when that is nothing.
    pub fn common(&self, other: &Span) -> Option<Span> {
        let start = (&self.start).max(&other.start);
        let end = (&self.end).min(&other.end);
        (start < end).then(|| Span {
            start: start.clone(),
            end: end.clone(),
        })
    }

    /// The parts of it that do not lie in another.
    pub fn without(&self, other: &Self) -> Vec<Self> {
        if self.common(other).is_none() {
            return vec![self.clone()];
        }
        let before = Self {
            start: self.start.clone(),
            end: other.start.clone().min(self.end.clone()),
        };
        let behind = Self {
            start: other.end.clone().max(self.start.clone()),
            end: self.end.clone(),
        };
        let parts = [before, behind].into_iter();
        parts.filter(|part| part.start < part.end).collect()
    }

    /// Whether `key` lies in the span.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_ref() <= key && key < self.end.as_ref()
    }
}

/// A part of a span that lies in one range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Led {
    /// The part.
    pub span: Span,
    /// The range, where it is known.
    pub range: Option<u64>,
    /// The node that leads it, where that is known.
    pub leader: Option<NodeId>,
}

/// What a transaction may see of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IsolationLevel {
    /// As if transactions ran one at a time in real-time order. The default.
    #[default]
    Serializable,
    /// One snapshot for the whole transaction; write skew is possible.
    RepeatableRead,
    /// A new snapshot for each statement.
    ReadCommitted,
}

/// How a transaction is opened.
#[derive(Clone, Debug, Default)]
pub struct TxnOptions {
    /// What it may see of others.
    pub isolation: IsolationLevel,
    /// Refuses writes and validates nothing at commit.
    pub read_only: bool,
    /// Reads the past instead of now; implies read only.
    pub as_of: Option<Timestamp>,
}

/// Strength of a row lock, as in `SELECT ... FOR`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LockStrength {
    /// FOR KEY SHARE.
    KeyShare,
    /// FOR SHARE.
    Share,
    /// FOR NO KEY UPDATE.
    NoKeyUpdate,
    /// FOR UPDATE, and every write.
    Update,
}

/// What to do when a lock is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockWait {
    /// Queue behind the holder, at most so many milliseconds (`None`: until cancelled).
    Wait(Option<u64>),
    /// Fail with [`crate::Error::LockNotAvailable`].
    NoWait,
    /// Leave the key out.
    SkipLocked,
}

/// How a span is read.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// From the end of the span to its start.
    pub reverse: bool,
    /// At most so many rows in all.
    pub limit: Option<u64>,
    /// Target size of one batch in rows.
    pub batch_rows: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            reverse: false,
            limit: None,
            batch_rows: 8_192,
        }
    }
}

/// A point within a transaction to which its writes can be taken back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Savepoint(pub u64);

/// What a commit achieved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitInfo {
    /// The commit timestamp; the read timestamp for a transaction without writes.
    pub timestamp: Timestamp,
}

/// Rows of a scan, packed: keys and values lie in one buffer.
#[derive(Clone, Debug, Default)]
pub struct KvBatch {
    data: Vec<u8>,
    /// For each row: where its key starts, where its value starts, where its value ends.
    rows: Vec<(u32, u32, u32)>,
}

impl KvBatch {
    /// Adds a row.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        let key_start = self.data.len();
        self.data.extend_from_slice(key);
        let value_start = self.data.len();
        self.data.extend_from_slice(value);
        let at = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.rows
            .push((at(key_start), at(value_start), at(self.data.len())));
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Key and value of row `i`; empty slices beyond the end.
    pub fn row(&self, i: usize) -> (&[u8], &[u8]) {
        let Some(&(k, v, e)) = self.rows.get(i) else {
            return (&[], &[]);
        };
        let (k, v, e) = (k as usize, v as usize, e as usize);
        (
            self.data.get(k..v).unwrap_or_default(),
            self.data.get(v..e).unwrap_or_default(),
        )
    }

    /// All rows in scan order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.len()).map(|i| self.row(i))
    }
}

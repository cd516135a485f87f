//! The messages, and the trait by which they travel.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use pontoon_raft::NodeId;
use serde::{Deserialize, Serialize};

use crate::cluster::{Answer, Call};
use crate::mvcc::Outcome as Ending;
use crate::range::{
    Absorbable, CommitRequest, Fate, Foreign, Frozen, PrewriteRequest, ReadEntry, Refusal,
    Renounce, Status,
};
use crate::routing::plain;
use crate::timestamp::Timestamp;
use crate::txn::Span;

/// What a range is asked. See the methods of [`crate::range::Replica`] of the same names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// The value of a key as of a timestamp.
    Get {
        /// The key.
        key: Bytes,
        /// As of when.
        at: Timestamp,
    },
    /// The values of the first of some keys as of a timestamp.
    GetMany {
        /// The keys.
        keys: Vec<Bytes>,
        /// As of when.
        at: Timestamp,
        /// None more once they have so many bytes.
        bytes_max: usize,
    },
    /// The first rows of a span as of a timestamp; in reverse the last ones.
    Scan {
        /// The span, which the range holds.
        span: Span,
        /// From the end.
        reverse: bool,
        /// As of when.
        at: Timestamp,
        /// No more rows than this.
        rows_max: u64,
        /// No row more once they have so many bytes.
        bytes_max: usize,
    },
    /// Whether nothing that was read was written meanwhile.
    Validate {
        /// What was read.
        reads: Vec<ReadEntry>,
        /// The transaction that asks.
        own: Timestamp,
        /// Until when.
        upto: Timestamp,
    },
    /// When the first of some keys were last written.
    LastWritten {
        /// The keys.
        keys: Vec<Bytes>,
        /// Commits at or below it are waited for.
        upto: Timestamp,
    },
    /// A commit in one range.
    Commit {
        /// The transaction.
        request: CommitRequest,
        /// It was sent before, and may have taken effect.
        again: bool,
    },
    /// Intents.
    Prewrite(PrewriteRequest),
    /// The decision on a transaction over several ranges.
    Decide {
        /// Where it is decided.
        primary: Bytes,
        /// The transaction.
        start: Timestamp,
        /// At which timestamp it commits, if it does.
        commit: Timestamp,
        /// What it writes in this range.
        keys: Arc<[Bytes]>,
        /// What holds its writes elsewhere.
        spans: Vec<Span>,
    },
    /// How a transaction stands.
    Push {
        /// Where it is decided.
        primary: Bytes,
        /// The transaction.
        start: Timestamp,
        /// Ends it if it has not ended.
        force: bool,
    },
    /// A transaction lives.
    Hear {
        /// Where it is decided.
        primary: Bytes,
        /// The transaction.
        start: Timestamp,
    },
    /// The end of a transaction's intents.
    Resolve {
        /// Where it was decided.
        primary: Bytes,
        /// The transaction.
        start: Timestamp,
        /// How it ended.
        ending: Ending,
        /// Where its intents lie.
        span: Span,
    },
    /// A record is not needed any more.
    Forget {
        /// Where the transaction was decided.
        primary: Bytes,
        /// The transaction.
        start: Timestamp,
    },
    /// A new range begins at a key.
    Split {
        /// Its first key.
        key: Bytes,
        /// Its number.
        child: u64,
    },
    /// To serve nobody any more, as another range is to absorb it.
    Freeze(Frozen),
    /// What became of a range that was frozen.
    Fate(Renounce),
    /// To serve again.
    Thaw {
        /// The generation as of which it is frozen.
        generation: u64,
    },
}

impl Request {
    /// Makes it fit to be sent a second time, after the first may have been heard.
    pub(super) fn repeat(&mut self) {
        if let Self::Commit { again, .. } = self {
            *again = true;
        }
    }

    /// Whether somebody must be told when it is not known to have taken effect.
    pub(super) fn decides(&self) -> bool {
        matches!(self, Self::Commit { .. } | Self::Decide { .. })
    }
}

/// What a range answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Get`].
    Value(Option<Bytes>),
    /// To [`Request::Scan`].
    Rows {
        /// Keys and values in the order of the scan.
        rows: Vec<(Bytes, Bytes)>,
        /// A key that was passed has a newer version.
        met_newer: bool,
        /// There may be rows behind the last one.
        more: bool,
    },
    /// To [`Request::GetMany`].
    Values(Vec<Option<Bytes>>),
    /// To [`Request::LastWritten`].
    Timestamps(Vec<Option<Timestamp>>),
    /// To [`Request::Commit`]: its timestamp.
    Committed(Timestamp),
    /// To [`Request::Prewrite`]: what is in the way.
    Intent(Option<Foreign>),
    /// To [`Request::Decide`].
    Ending(Ending),
    /// To [`Request::Push`].
    Status(Status),
    /// To everything else.
    Done,
    /// To [`Request::Freeze`].
    Frozen(Absorbable),
    /// To [`Request::Fate`].
    Fate(Fate),
}

/// Why there is no answer.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum PeerError {
    /// The request has not arrived.
    #[error("{reason}")]
    Unreachable {
        /// What the network says.
        reason: String,
    },
    /// It may have arrived, and may yet be carried out.
    #[error("no answer")]
    Lost,
    /// The other node has refused it.
    #[error("{}", plain(.0.clone()))]
    Refused(Refusal),
}

/// Whom a question is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whom {
    /// A node of the cluster.
    Node(NodeId),
    /// Whoever listens there, `host:port`.
    Address(String),
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Carries questions to other nodes.
///
/// Delivery: at most once for each call, in any order, with any delay; a lost question or answer is
/// [`PeerError::Lost`] in the end, a few seconds after the other node has fallen silent. How long
/// the other node may take is for the caller to limit. Cancellation: dropping the future gives up
/// the answer, not the question.
pub trait Peers: Send + Sync + 'static {
    /// Asks a node, by [`crate::db::Node::answer`].
    fn call(&self, whom: Whom, call: Call) -> BoxFuture<'static, Result<Answer, PeerError>>;
}

//! What nodes ask each other, beside the messages of their Raft groups.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;
use pontoon_raft::{LogPosition, Membership, NodeId, Peer, ReplicaId};
use serde::{Deserialize, Serialize};

use crate::cluster::{NodeRow, NodeState, Report, View, Watched, Watching};
use crate::oracle::Moment;
use crate::range::{Absorbable, Descriptor};
use crate::routing::{Request, Response};

/// A question to a node. New ones are appended at the end: their order is their encoding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Call {
    /// To a range.
    Range {
        /// The range.
        range: u64,
        /// What it is asked.
        request: Request,
    },
    /// For timestamps; the coordinator has them.
    Now {
        /// How many.
        count: u32,
    },
    /// A new node asks to belong to the cluster.
    Join(Candidate),
    /// A node lives; the coordinator keeps the roll.
    Heartbeat(Report),
    /// To hold a replica: an empty one is opened, unless one is waiting there already.
    Open(Opening),
    /// To give up a replica that is not a member of its range any more.
    Close {
        /// The range.
        range: u64,
        /// The replica.
        replica: ReplicaId,
        /// The entry that set a membership without it.
        membership: Option<LogPosition>,
    },
    /// To change the members of a range that the node leads.
    Change(Change),
    /// For the cluster as the coordinator sees it; a node that is not the coordinator asks it.
    Look,
    /// What the operator wants of a node.
    Want {
        /// The node.
        node: NodeId,
        /// What it is to do.
        state: NodeState,
    },
    /// To hand over what the node leads.
    Drain,
    /// A [`Self::Heartbeat`] that was passed on, and is passed on no further.
    PassedOn(Report),
    /// To have a range frozen, durably.
    Settle(Absorbable),
    /// Whether a range has become a part of another, as far as the node knows.
    IsAbsorbed {
        /// The range.
        range: u64,
    },
    /// A new node asks to belong to a cluster whose nodes have certificates. Answered above the
    /// store, which knows nothing of certificates.
    JoinByToken {
        /// The node.
        candidate: Candidate,
        /// The secret of its join token.
        secret: Secret,
        /// What it wants a certificate for.
        request: Bytes,
    },
    /// To let a node in that has the secret of this hash.
    KeepToken {
        /// SHA-256 of the secret.
        hash: TokenHash,
        /// For so long.
        ttl_ms: u64,
    },
    /// What an operator wants of a range; the coordinator sees to it. A move has only begun when
    /// it is answered.
    WantRange(RangeWish),
    /// For what has changed of the cluster's metadata; the coordinator answers, and others name
    /// it.
    Watch(Watching),
    /// Like [`Self::Now`], for one timestamp of a commit of which everybody is to hear.
    Announce,
}

/// SHA-256 of the secret of a join token.
pub type TokenHash = [u8; 32];

/// What must not be shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub Bytes);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a node is not let in, whenever it asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Denial {
    /// Nothing may be told about why: whoever asks has not shown that he may ask.
    #[error("the join token is not valid: it was used, or it has expired")]
    Token,
    /// It was a node of the cluster, and has left.
    #[error("{0} has left the cluster for good")]
    Gone(NodeId),
    /// It has a number, and not of this cluster.
    #[error("the data directory belongs to a node of another cluster")]
    Foreign,
}

/// The cluster as the coordinator sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Overview {
    /// The nodes.
    pub view: View,
    /// The ranges, in the order of their keys.
    pub ranges: Vec<RangeReport>,
    /// Ranges that are not as they should be though nothing can be done about it, and why.
    pub stuck: Vec<(u64, String)>,
    /// What the coordinator has begun and not heard the end of.
    pub moves: Vec<Move>,
}

/// A change of the members of a range that is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Move {
    /// The range.
    pub range: u64,
    /// What changes.
    pub what: Alteration,
    /// Why, in plain words.
    pub why: String,
}

/// A new node, as it introduces itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// Where and what it is; its number is filled in by the cluster.
    pub row: NodeRow,
}

/// A replica that a node shall hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Opening {
    /// The range as its leader knows it.
    pub descriptor: Descriptor,
    /// The number of the replica.
    pub replica: ReplicaId,
}

/// A change of the members of a range, or of its bounds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The range.
    pub range: u64,
    /// The entry that set the membership which the change is meant for.
    pub membership: Option<LogPosition>,
    /// What changes.
    pub what: Alteration,
}

/// What changes about a range. New ones are appended at the end: their order is their encoding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Alteration {
    /// A new member that receives the log and does not vote.
    Add(NodeId),
    /// Exactly these members vote from now on; who voted and is not among them leaves.
    Voters(BTreeSet<ReplicaId>),
    /// A member without a vote leaves.
    Remove(ReplicaId),
    /// Another member leads.
    Lead(ReplicaId),
    /// The range behind it becomes a part of it.
    Absorb(u64),
    /// Its keys from this one on become a range of their own.
    Split(Bytes),
}

/// What an operator wants of a range.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RangeWish {
    /// The range.
    pub range: u64,
    /// The entry that set the members which the operator has seen.
    pub membership: Option<LogPosition>,
    /// What is wanted.
    pub what: Wanted,
}

/// What is wanted of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Wanted {
    /// A replica on one node in place of that on another.
    Move {
        /// Where it is.
        from: NodeId,
        /// Where it shall be.
        to: NodeId,
    },
    /// The replica on that node leads.
    Lead(NodeId),
    /// The range behind it becomes a part of it.
    Absorb(u64),
}

/// What a node is told that was let in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// The cluster.
    pub cluster: u64,
    /// The number of the new node.
    pub node: NodeId,
    /// The cluster as it is.
    pub view: View,
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Call::Range`].
    Range(Response),
    /// To [`Call::Now`]: the first of those asked for, the others follow it. To [`Call::Announce`].
    Now(Moment),
    /// To [`Call::Join`].
    Joined(Joined),
    /// To [`Call::Heartbeat`].
    View(View),
    /// To everything else.
    Done,
    /// To [`Call::Open`]: the number of the replica that is there now.
    Opened(ReplicaId),
    /// To [`Call::Open`]: the replica was closed there for good.
    Closed,
    /// To [`Call::Look`].
    Overview(Overview),
    /// To [`Call::Drain`]: how many ranges the node leads yet.
    Drained(u64),
    /// To [`Call::IsAbsorbed`].
    Absorbed(bool),
    /// To [`Call::JoinByToken`].
    Certified {
        /// What [`Self::Joined`] says.
        joined: Joined,
        /// The certificate of the node.
        certificate: Bytes,
        /// That of the authority which has signed it.
        authority: Bytes,
    },
    /// To [`Call::Join`] and [`Call::JoinByToken`].
    Denied(Denial),
    /// To [`Call::Watch`].
    Watched(Watched),
}

/// A range as its leader reports it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RangeReport {
    /// Its bounds.
    pub descriptor: Descriptor,
    /// Its members.
    pub membership: Membership,
    /// Whether that is settled: committed, no other is under way, and the range is not about to
    /// become a part of another.
    pub settled: bool,
    /// The leader.
    pub leader: Peer,
    /// Members, and how many entries their logs are behind, as far as the leader knows.
    pub behind: Vec<(ReplicaId, Option<u64>)>,
    /// Bytes that it holds, roughly; 0: that is not known.
    pub bytes: u64,
    /// Requests a second to its leader.
    pub requests: u64,
    /// The term in which it leads.
    pub term: u64,
}

/// Asks a node to be let into its cluster, in the way that the nodes of the cluster want.
pub trait Joining: Send + Sync {
    /// Asks the node at an address, `host:port`, once.
    fn ask(
        &self,
        address: String,
        candidate: Candidate,
    ) -> BoxFuture<'static, Result<Joined, NotJoined>>;
}

/// Why a node was not let in, as a sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotJoined {
    /// It may be later, or by another node.
    Yet(String),
    /// It makes no sense to ask again.
    Ever(String),
}

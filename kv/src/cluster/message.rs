//! What nodes ask each other, beside the messages of their Raft groups.

use std::collections::BTreeSet;

use pontoon_raft::{LogPosition, Membership, NodeId, Peer, ReplicaId};
use serde::{Deserialize, Serialize};

use crate::cluster::{NodeRow, NodeState, Report, View};
use crate::range::{Absorbable, Descriptor};
use crate::routing::{Request, Response};
use crate::timestamp::Timestamp;

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

/// A change of the members of a range.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The range.
    pub range: u64,
    /// The entry that set the membership which the change is meant for.
    pub membership: Option<LogPosition>,
    /// What changes.
    pub what: Alteration,
}

/// What changes about the members of a range.
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
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Call::Range`].
    Range(Response),
    /// To [`Call::Now`]: the first of those asked for, the others follow it.
    Now(Timestamp),
    /// To [`Call::Join`].
    Joined {
        /// The cluster.
        cluster: u64,
        /// The number of the new node.
        node: NodeId,
        /// The cluster as it is.
        view: View,
    },
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
    /// Bytes that it holds, roughly.
    pub bytes: u64,
    /// Requests a second to its leader.
    pub requests: u64,
}

//! The messages. They own their bytes and know nothing of how they are put on a wire; whoever does
//! that has them as serde values, and appends new variants at the end.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{GroupId, LogPosition, ReplicaId};
use crate::membership::Peer;
use crate::state_machine::Entry;

/// A vote as stored and sent: who may lead a term, and whether a majority granted it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// The one voted for.
    pub candidate: ReplicaId,
    /// Whether `candidate` has been elected.
    pub committed: bool,
}

/// A message with its address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// The group.
    pub group: GroupId,
    /// Who sends.
    pub from: Peer,
    /// Who shall receive.
    pub to: Peer,
    /// The message.
    pub body: Request,
}

/// A message to a replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Log entries, or a heartbeat without any.
    Append(AppendRequest),
    /// A candidate asks for a vote.
    Vote(VoteRequest),
    /// A would-be candidate asks whether it would get a vote. Changes nothing at the receiver.
    PreVote(VoteRequest),
    /// A leader gives up its lease in favour of a successor. Sent to every peer: all forget the
    /// lease, the successor campaigns.
    TransferLeader {
        /// Who shall campaign.
        successor: ReplicaId,
        /// The leader's vote.
        vote: Vote,
        /// The end of the leader's log, which the successor must hold first.
        last: Option<LogPosition>,
    },
    /// A piece of a snapshot.
    Snapshot(SnapshotChunk),
    /// The leader of an idle group goes to rest; or a follower that rests asks whether it does.
    Quiesce(Quiesce),
    /// A follower that rests needs its leader.
    Wake,
}

/// What a leader and its followers must agree upon to rest: that this is all there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quiesce {
    /// The term of the leader.
    pub term: u64,
    /// The end of its log, which is committed and applied.
    pub last: LogPosition,
}

/// Log entries, or a heartbeat without any.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppendRequest {
    /// The leader's vote.
    pub vote: Vote,
    /// The entry before the first of `entries`.
    pub previous: Option<LogPosition>,
    /// Entries in log order, without holes.
    pub entries: Vec<Entry>,
    /// What is committed as far as the leader knows.
    pub committed: Option<LogPosition>,
}

/// A request for a vote.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VoteRequest {
    /// The vote asked for.
    pub vote: Vote,
    /// The end of the candidate's log.
    pub last: Option<LogPosition>,
    /// The leader itself asked the candidate to campaign, so its lease does not count.
    pub transfer: bool,
}

/// A piece of a snapshot. Pieces come in order; the first carries `state`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotChunk {
    /// The leader's vote.
    pub vote: Vote,
    /// Tells one transfer from another of the same sender.
    pub transfer: u64,
    /// Number of this piece, from 0 on.
    pub sequence: u64,
    /// What the snapshot contains, with every piece.
    pub position: Option<LogPosition>,
    /// The membership as of `position`, in this crate's encoding.
    pub membership: Bytes,
    /// The bytes of this piece.
    pub data: Bytes,
    /// CRC-32C of `data`.
    pub checksum: u32,
    /// No piece follows: the receiver installs the snapshot.
    pub last: bool,
}

/// A reply to a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Append`].
    Append(AppendReply),
    /// To [`Request::Vote`] and [`Request::PreVote`].
    Vote(VoteReply),
    /// To [`Request::TransferLeader`].
    TransferLeader {
        /// False: the receiver's vote has changed or it lacks entries.
        accepted: bool,
    },
    /// To [`Request::Snapshot`].
    Snapshot(SnapshotReply),
    /// To [`Request::Quiesce`].
    Quiesce {
        /// Whether the receiver rests, by the same term and log.
        agreed: bool,
    },
    /// To [`Request::Wake`].
    Wake {
        /// Whether the receiver leads, and is awake now.
        leads: bool,
    },
}

/// The reply to entries. Durable: the entries have been synced when it says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendReply {
    /// All entries are in the log.
    Stored,
    /// Entries up to here are in the log; send the rest again.
    StoredUpTo(Option<LogPosition>),
    /// The entry before the first is not in the log.
    Conflict,
    /// The receiver has seen a higher vote.
    HigherVote(Vote),
}

/// The reply to a request for a vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteReply {
    /// The receiver's vote after the request.
    pub vote: Vote,
    /// Whether it was granted.
    pub granted: bool,
    /// The end of the receiver's log.
    pub last: Option<LogPosition>,
}

/// The reply to a piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotReply {
    /// Send the next piece.
    Next,
    /// The whole snapshot has been installed, or was not needed; the receiver's vote.
    Installed(Vote),
    /// Start again from the first piece.
    Restart,
    /// It has the last piece and is installing the snapshot: ask again by sending that piece again.
    Installing,
}

/// Why a host does not handle a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// The group is not open here (yet, or any more).
    #[error("group {0} is not open here")]
    NoSuchGroup(GroupId),
    /// Another replica of the group lives here.
    #[error("message is for replica {wanted}, here is {here}")]
    OtherReplica {
        /// To whom it is addressed.
        wanted: ReplicaId,
        /// Who is here.
        here: ReplicaId,
    },
    /// The message was delivered to a node or store that it is not addressed to.
    #[error("message is for another store")]
    OtherStore,
    /// The replica has stopped.
    #[error("replica is stopped")]
    Stopped,
    /// The message makes no sense.
    #[error("malformed message")]
    Malformed,
    /// A replica that has just joined needs a snapshot before it takes entries.
    #[error("replica waits for a snapshot")]
    AwaitsSnapshot,
}

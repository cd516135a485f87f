//! The cluster as its nodes know it: who belongs to it, where they are, and who lives.
//!
//! ```text
//! new node --Join--> any node             a row in the system range, and a number
//! node --Heartbeat(Report)--> coordinator (leader of range 1)      keeps the roll, plans
//!      <------View-----------             who is where, who lives, where range 1 is
//! coordinator --Open, Change, Close--> nodes                       moves replicas
//! ```
//!
//! What is durable are the rows of the system range; a [`Book`] is what a node remembers of them, so
//! that it finds the others again after a restart. Who lives is not durable: a new coordinator takes
//! everybody for alive until it has listened for as long as a node may be silent.

mod book;
mod message;
mod row;
mod rule;
mod search;
mod watch;

pub use book::Book;
pub use message::{
    Alteration, Answer, Call, Candidate, Change, Denial, Joined, Joining, Move, NotJoined, Opening,
    Overview, RangeReport, RangeWish, Secret, TokenHash, Wanted,
};
pub use row::{NodeRow, NodeState, NodeStatus, Report, Roles, Usage, View};
pub(crate) use row::{decode_row, encode_row};
pub use rule::{Constraint, NoConstraint, Rule, Rules};
pub(crate) use search::Search;
pub use watch::{Metadata, Topic, WatchEvent, Watched, WatchedKind, Watching};
// What reports and overviews are made of.
pub use pontoon_raft::{Membership, Peer, Place, ReplicaId};

//! Requests to ranges, wherever their leaders are.
//!
//! ```text
//! Txn --get, scan, commit, ...--> Node (calls)  -- leads here --> Replica
//!                                     \--ask--> Peers (network) --> serve() of another node
//! ```
//!
//! A call goes to the replica on this node while that leads; otherwise as a [`Request`] to the node
//! whose replica is believed to lead, again and again until one has answered or patience ends.
//! Requests may be lost, late or delivered twice: each may be repeated, and those whose effect must
//! happen once say so ([`Request::repeat`]).
//!
//! Where a range is that has no replica on this node, and may be led by nobody here, is looked up in
//! the system range and remembered until it turns out to have moved ([`Address`]).
//!
//! Row locks are taken only where the leader is on this node: they are a courtesy, and a lock whose
//! gateway has died would have to be found out first.

mod ask;
#[cfg(test)]
mod ask_tests;
mod away;
mod calls;
mod request;
mod rows;

pub use away::Address;
pub(crate) use away::{AwayRanges, Route};
pub(crate) use calls::{mismatch, plain};
pub use request::{PeerError, Peers, Request, Response, Whom};
pub(crate) use rows::Rows;

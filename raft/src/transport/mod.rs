//! Messages between the replicas of a group, and the trait by which they travel.
//!
//! ```text
//! leader's group --Envelope--> Transport (server: tonic; tests: MemoryNetwork) --> Host::handle
//!                <---Reply----
//! ```
//!
//! A message is addressed to (node, store, group, replica); the receiver checks all four, so that
//! a message to a replica that is gone never reaches its successor.

mod memory;
mod message;

use std::time::Duration;

use futures::future::BoxFuture;

pub use memory::{Link, MemoryNetwork};
pub use message::{
    AppendReply, AppendRequest, Envelope, Quiesce, Refusal, Reply, Request, SnapshotChunk,
    SnapshotReply, Vote, VoteReply, VoteRequest,
};

/// Why a message has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The peer cannot be reached; the sender backs off. Say this, and say it at once, whenever
    /// the connection is known to be down.
    #[error("peer is unreachable: {reason}")]
    Unreachable {
        /// What the network says.
        reason: String,
    },
    /// No reply within the time given.
    #[error("peer did not answer in time")]
    Timeout,
    /// The peer answered that it will not handle this message.
    #[error("peer refused the message: {0}")]
    Refused(#[from] Refusal),
}

/// Carries messages to other stores.
///
/// Delivery: at most once, in any order, with any delay; a lost message or reply is an error
/// within `timeout`. Cancellation: dropping the future gives up the reply, not the message.
/// An implementation may enforce `timeout` itself; the sender does so in any case.
pub trait Transport: Send + Sync + 'static {
    /// Sends a message to `envelope.to` and waits for the reply.
    fn send(
        &self,
        envelope: Envelope,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Reply, TransportError>>;
}

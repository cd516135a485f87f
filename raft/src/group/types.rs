//! The parameters with which openraft is used.
//!
//! Leader ids are those of plain Raft (at most one leader a term), not openraft's default (several,
//! ordered by node): the layer above takes a term as the name of one leadership, and a log position
//! is (term, index) without a node.

use std::fmt;

use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use openraft::{OptionalSend, RaftTypeConfig};
use openraft_rt::deterministic_rng::DeterministicRng;

use super::proposal::ProposalResponder;
use super::runtime::OrderedTokio;
use crate::membership::Place;

/// A command as openraft carries it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the state machine answered to a command.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommandReply(pub(crate) Bytes);

/// Tokio, with random draws (election timeouts, tick phases) from a seed that each task inherits:
/// two runs from one seed on a paused single-threaded runtime are equal.
///
/// Invariant: whatever may spawn an openraft task runs inside [`seeded`].
pub(crate) type Runtime = DeterministicRng<OrderedTokio>;

/// openraft's types as used here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Types;

type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
type Payload = openraft::EntryPayload<Command, u64, Place>;

impl RaftTypeConfig for Types {
    type D = Command;
    type R = CommandReply;
    type NodeId = u64;
    type Node = Place;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::impls::Vote<LeaderId>;
    type Payload = Payload;
    type Entry = openraft::Entry<<LeaderId as RaftLeaderId>::Committed, Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = ProposalResponder<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(crate) type RaftVote = openraft::type_config::alias::VoteOf<Types>;
pub(crate) type RaftEntry = openraft::type_config::alias::EntryOf<Types>;
pub(crate) type RaftMembership = openraft::Membership<u64, Place>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(crate) type Raft = openraft::Raft<Types, super::machine::Machine>;
pub(crate) type Metrics = openraft::RaftMetrics<Types>;
pub(crate) type MetricsWatch = openraft::type_config::alias::WatchReceiverOf<Types, Metrics>;
pub(crate) type Instant = openraft::type_config::alias::InstantOf<Types>;

/// Runs a future whose openraft tasks draw from `seed`.
pub(crate) async fn seeded<F: Future>(seed: u64, future: F) -> F::Output {
    Runtime::scope(seed, future).await
}

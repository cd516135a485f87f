//! The network between nodes: Raft messages and the questions of the key-value layer.
//!
//! ```text
//! Group --Envelope--> Network --Link (node, class)--> Exchange ==HTTP/2 stream=> serve --> Handler
//! Node  ----Call---->         <------------------------answers===============         <--
//! ```
//!
//! A [`Network`] carries what this node says, [`serve`] what it is told. For each node and each
//! class of messages there is one connection with one long-lived stream, opened when there is
//! something to say, so that a snapshot never delays a heartbeat. Requests and answers are written
//! into frames, as many as wait and without a timer, and find each other again by a number; nothing
//! promises an order.
//!
//! The life of a call: `network` picks the link and encodes, `link` finds or opens the exchange,
//! `exchange` notes who waits, `outbox` queues until the stream takes a frame. On the other side
//! `server` reads the frame, handles each message in a task of its own and queues the answer.
//!
//! A peer that is dead or slow costs its callers an error and nobody else anything: queues are
//! limited and refuse at once when they are full, and both ends look after each other by HTTP/2
//! pings, so that silence is noticed in about three seconds.
//!
//! Connections are made in `socket`, by TLS with certificates on both sides unless nodes run with
//! `--insecure`; `handshake` decides who is heard.
//!
//! Beside that there is a service for tools: [`watch`].
//!
//! This module knows nothing of what the messages mean, beyond their class, and which one may be
//! asked without a certificate.

mod class;
mod codec;
mod exchange;
mod handshake;
mod link;
mod message;
mod network;
mod outbox;
mod protobuf;
#[cfg(test)]
mod secure_tests;
mod server;
mod socket;
#[cfg(test)]
mod tests;
pub(crate) mod watch;

pub(crate) use class::ClassStats;
pub(crate) use handshake::Identity;
pub(crate) use message::{Operated, Operation};
pub(crate) use network::Network;
pub(crate) use server::{Handler, serve};

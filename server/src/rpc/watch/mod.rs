//! The gRPC service by which tools watch the cluster's metadata: `proto/watch.proto`.
//!
//! Any node serves it. It asks the coordinator for one page after the other, whichever node that is,
//! and asks for the next when the caller has taken the last: one that is slow holds up nobody, and
//! hears later of more.

mod client;
mod message;
mod service;

pub(crate) use client::watch;
pub(crate) use message::{Event, Request, Response};
pub(super) use service::{PATH, Service};

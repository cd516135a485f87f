//! Many replicas on one store: opening, routing of messages, supervision, shutdown.

mod config;
mod counts;
mod open;
mod supervise;

pub use config::{HostConfig, Timing};
pub(crate) use counts::Counters;
pub use counts::HostCounts;
pub use open::Host;
pub use supervise::HostEvents;

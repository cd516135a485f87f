//! Many replicas on one store: opening, routing of messages, supervision, shutdown.

mod config;
mod open;
mod supervise;

pub use config::{HostConfig, Timing};
pub use open::Host;
pub use supervise::HostEvents;

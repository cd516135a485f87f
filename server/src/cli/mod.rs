//! The command line: `pontoon start`, `pontoon demo`, `pontoon node`, `pontoon --version`.

mod args;
mod config;
mod demo;
mod nodes;
mod run;

pub(crate) use config::{NodeConfig, PeerMode};
pub(crate) use run::run;

/// The version of this binary.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

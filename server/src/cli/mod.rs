//! The command line: `pontoon start`, `pontoon demo`, `pontoon node`, `pontoon range`, `pontoon
//! watch`, `pontoon --version`.

mod args;
mod config;
mod contact;
mod demo;
mod nodes;
mod range_args;
mod ranges;
mod run;
mod watch;

pub(crate) use config::{NodeConfig, PeerMode};
pub(crate) use run::run;

/// The version of this binary.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

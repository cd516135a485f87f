//! What the server speaks to: one [`Session`] for each connection, with its transaction,
//! variables, prepared statements and portals. The vocabulary between the two is [`api`].

pub mod api;
pub(crate) mod cancel;
mod cursor;
pub(crate) mod engine;
pub(crate) mod eval;
mod extended;
pub mod known;
mod operator;
mod parts;
pub mod place;
mod prepared;
mod ranges;
pub(crate) mod run;
pub(crate) mod sequences;
mod session;
pub(crate) mod settings;
mod statement;
mod transaction;
pub mod variables;
pub(crate) mod zone;

pub use crate::parse::Parsed;
pub use cancel::CancelHandle;
pub use engine::{Engine, EngineConfig, SessionStart};
pub use session::Session;
pub(crate) use session::{Work, read_only};

#[cfg(test)]
mod tests;

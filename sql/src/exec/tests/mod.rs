//! Statements built by hand, run end to end over the store in memory.

mod cached;
mod queries;
pub(crate) mod setup;
pub(crate) mod sql;
mod writes;

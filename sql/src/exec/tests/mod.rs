//! Statements built by hand, run end to end over the store in memory.

mod queries;
pub(crate) mod sql;
pub(crate) mod setup;
mod writes;

//! Statements built by hand, run end to end over the store in memory.

mod queries;
mod setup;
mod writes;

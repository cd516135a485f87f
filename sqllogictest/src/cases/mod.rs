//! Our own cases, `cases/<topic>/*.slt`, run by the `sqllogictest` crate.
//!
//! The same files run against Pontoon and against PostgreSQL 15. Values are written as in
//! [`crate::corpus`]'s row dialect (`NULL`, `(empty)`, COPY escapes, tabs between columns) and are
//! compared exactly. `connection NAME` lines open further sessions.

mod database;
mod rewrite;
mod run;

pub use rewrite::{RewriteFailure, rewrite};
pub use run::run_cases;

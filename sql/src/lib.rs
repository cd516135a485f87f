//! PostgreSQL's SQL over the transactional key-value store: types, catalog, binder, planning and
//! execution with DataFusion, sessions.
//!
//! The life of a statement: `parse` makes a syntax tree, `bind` resolves names and types by
//! PostgreSQL's rules into the tree of [`bind::tree`], and that is run either by `point` (compiled
//! key access) or by `plan` and `exec` (DataFusion). `session` owns transactions, prepared
//! statements and portals; the server speaks to it alone.

pub mod bind;
pub mod catalog;
mod copy;
mod ddl;
pub mod error;
pub mod exec;
pub mod parse;
pub mod pg_catalog;
pub mod plan;
pub mod point;
pub mod session;
pub mod table;
pub mod types;

pub use error::{SqlError, SqlState};

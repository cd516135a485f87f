//! Runs a plan through DataFusion, batch by batch.
//!
//! Our plan becomes a tree of DataFusion's physical operators directly; its logical planner and
//! optimizer are not used (they cost more than most statements, fold constants that PostgreSQL
//! would not evaluate, and coerce types by other rules). Expressions are evaluated by [`expr`]
//! with our functions. Joins, grouping and sorting on types whose Arrow bytes do not compare as
//! PostgreSQL compares go through sort keys. What DataFusion has no operator for is computed by
//! the row engine, a batch at a time where the operator allows it ([`bridge`]).

pub mod aggregate;
pub mod bridge;
pub mod cache;
pub mod chunk;
pub mod columns;
pub mod evaluate;
pub mod expr;
pub mod keys;
pub mod leaf;
pub mod lower;
pub mod places;
pub mod scan;
pub mod stream;
pub mod sums;

pub use stream::{rows_of, stream};

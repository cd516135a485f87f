//! Runs a plan row by row, each operator to its end before the next.
//!
//! This engine can do everything that a plan can say, correlated subqueries and LATERAL included:
//! a dependent part is simply run for each outer row, with results remembered by the outer values
//! that it uses. It runs statements that touch few rows, where setting DataFusion up would cost
//! more than the work, and the parts of larger ones that DataFusion cannot express. What it holds
//! is counted against the statement's memory (53200).

mod aggregate;
mod computed;
mod env;
mod executor;
mod join;
mod order;
mod sets;
mod watch;
mod window;

pub use aggregate::Grouper;
pub use env::{Env, Slots};
pub use executor::{Executor, keys_of};
pub use order::{group_key, sort_rows};

/// One row of values.
pub type Values = Vec<crate::types::Datum>;

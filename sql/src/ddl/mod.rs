//! Schema changes: statements that write descriptors, in the user's transaction, and what must
//! happen to rows with them (checks, index entries, rewrites).
//!
//! A change is visible to its own transaction at once and to others after the commit; whatever it
//! leaves behind in the store is marked in the same transaction and removed after it.

mod alter;
mod alter_column;
mod change;
mod comment;
mod constraint;
mod create_as;
mod create_table;
mod drop;
mod execute;
mod expression;
mod index;
pub(crate) mod names;
mod options;
mod rename;
mod rewrite;
mod schema;
mod sequence;
mod truncate;
mod view;

pub(crate) use execute::execute;
pub(crate) use expression::column_default;

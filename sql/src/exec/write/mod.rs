//! Writes: the rows that a statement reads are materialised, turned into [`change::Change`]s, and
//! applied together: all keys are locked, then all constraints are checked, then everything is
//! buffered in the transaction. So nothing is written when the statement must run again.

mod change;
mod constraint;
mod insert;
mod returning;
mod storage;
mod update;

pub use change::{Change, apply, lock, lock_wait};
pub use constraint::{bind_checks, check_row};
pub use insert::{insert, insert_all};
pub use returning::{Returned, outcome};
pub use storage::{backfill_index, delete_storage, insert_rows};
pub use update::{delete, update};

//! PostgreSQL's types: values, names and numbers of types, and the one registry of operators,
//! functions and casts from which both executors and the catalog views come.
//!
//! A function exists once, on [`Datum`]s; what runs on Arrow columns is derived from it by
//! [`kernel`] unless there is a hand-written kernel. Rows of pg_type, pg_proc, pg_operator and
//! pg_cast are PostgreSQL's own (`rows/*.tsv`), joined with the bodies by PostgreSQL's name of the
//! implementing routine (`prosrc`); a row without a body does not exist for us.

pub mod aggregate;
pub mod array;
mod array_io;
pub mod arrow;
pub mod binary;
mod body;
mod compare;
pub mod datetime;
pub mod datum;
#[cfg(test)]
mod differential;
pub mod fault;
mod format_type;
mod functions;
pub mod io;
pub mod json;
pub mod kernel;
mod load;
pub mod numeric;
pub mod oid;
mod regclass;
pub mod registry;
pub mod sort_key;
#[cfg(test)]
pub(crate) mod testing;
mod text;
pub mod travel;
pub mod typmod;
mod vector;
pub mod wire;

pub use array::ArrayValue;
pub use compare::compare;
pub use datum::{Datum, Interval};
pub use format_type::format_type;
pub use numeric::Numeric;
pub use oid::{Oid, PgType};

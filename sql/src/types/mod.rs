//! PostgreSQL's types: values, names and numbers of types, and the one registry of operators,
//! functions and casts from which both executors and the catalog views come.

pub mod array;
pub mod datum;
pub mod oid;
pub mod datetime;
pub mod numeric;
pub mod registry;

pub use array::ArrayValue;
pub use datum::{Datum, Interval};
pub use oid::{Oid, PgType};

//! pg_catalog and information_schema: tables computed from the catalog snapshot of the
//! transaction, joined and filtered like any other. So is pontoon_internal, from what the
//! coordinator of the cluster knows ([`cluster`]).
//!
//! `columns.tsv` holds the columns of PostgreSQL 15's catalogs and views (generated from a server
//! of that version); [`tables`] joins it with the functions that compute rows. A table without such
//! a function is empty because Pontoon has nothing of that kind. [`describe`](describe::describe)
//! answers the functions that print definitions (`pg_get_indexdef` and its family).
//!
//! Nothing here knows which statement asks, and nothing here looks at user data.

mod cluster;
mod constraints;
mod definitions;
mod describe;
mod information_schema;
mod key_text;
mod objects;
mod pretty;
mod registered;
mod relations;
mod roles;
mod row;
mod session_views;
mod tables;
#[cfg(test)]
mod tests;

pub use describe::describe;
pub use key_text::NamedSpan;
pub(crate) use key_text::name_spans;
pub use tables::{TABLES, find};

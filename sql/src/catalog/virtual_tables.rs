//! Tables that are computed from the catalog snapshot when they are read: pg_catalog and
//! information_schema.

use crate::error::SqlError;
use crate::types::registry::EvalContext;
use crate::types::{Datum, Oid};

use super::desc::CatalogSnapshot;

/// A computed table.
pub struct VirtualTable {
    /// PostgreSQL's number of it.
    pub oid: Oid,
    /// "pg_catalog" or "information_schema".
    pub schema: &'static str,
    /// Its name.
    pub name: &'static str,
    /// relkind in PostgreSQL: r for a table, v for a view.
    pub kind: char,
    /// Names and types of its columns.
    pub columns: &'static [(&'static str, Oid)],
    /// Computes its rows.
    pub rows: fn(&CatalogSnapshot, &dyn EvalContext) -> Result<Vec<Vec<Datum>>, SqlError>,
}

impl std::fmt::Debug for VirtualTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

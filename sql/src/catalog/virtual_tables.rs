//! Tables that are computed when they are read: pg_catalog, information_schema and
//! pontoon_internal.

use pontoon_kv::cluster::Overview;

use crate::error::SqlError;
use crate::types::registry::EvalContext;
use crate::types::{Datum, Oid};

use super::desc::CatalogSnapshot;

/// Computes rows from the catalog snapshot of the transaction.
pub type OfCatalog = fn(&CatalogSnapshot, &dyn EvalContext) -> Result<Vec<Vec<Datum>>, SqlError>;
/// Computes rows from the cluster as its coordinator sees it.
pub type OfCluster =
    fn(&Overview, &CatalogSnapshot, &dyn EvalContext) -> Result<Vec<Vec<Datum>>, SqlError>;

/// What rows are computed from.
#[derive(Clone, Copy)]
pub enum Rows {
    /// The catalog, and what functions may know.
    Catalog(OfCatalog),
    /// The cluster too; its coordinator is asked when the table is read.
    Cluster(OfCluster),
}

/// A computed table.
pub struct VirtualTable {
    /// PostgreSQL's number of it.
    pub oid: Oid,
    /// "pg_catalog", "information_schema" or "pontoon_internal".
    pub schema: &'static str,
    /// Its name.
    pub name: &'static str,
    /// relkind in PostgreSQL: r for a table, v for a view.
    pub kind: char,
    /// Names and types of its columns.
    pub columns: &'static [(&'static str, Oid)],
    /// Computes its rows.
    pub rows: Rows,
}

impl std::fmt::Debug for VirtualTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

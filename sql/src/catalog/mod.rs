//! What the database knows of itself: descriptors of schemas, tables, indexes, sequences and
//! views, as rows of the same transactional store; the snapshot of them that a transaction sees.

pub mod cache;
pub mod desc;
pub(crate) mod oids;
pub(crate) mod placement;
pub(crate) mod rows;
pub mod virtual_tables;

pub use cache::CatalogCache;

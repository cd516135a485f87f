//! What the database knows of itself: descriptors of schemas, tables, indexes, sequences and
//! views, as rows of the same transactional store; the snapshot of them that a transaction sees.

pub mod desc;
pub mod virtual_tables;

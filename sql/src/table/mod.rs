//! Rows and index entries as keys and values of the store.
//!
//! The rows of a table lie in its primary storage, `table/<storage>/1/<key columns>`; an index
//! entry lies under `table/<storage>/<index id>/`. [`layout`] is the form of a row's value,
//! [`columns`] decodes many of them into Arrow, [`key`] makes keys. Nothing here reads or writes
//! the store.

pub mod columns;
pub mod key;
pub mod layout;
mod stored;

pub use layout::{Layout, RowView};
pub use stored::Stored;
pub(crate) use stored::damaged;

#[cfg(test)]
mod tests;

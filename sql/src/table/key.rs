//! Keys of rows and index entries.
//!
//! A row: prefix of index 1, then the sort keys of the storage key's columns, which are never
//! NULL. An index entry: prefix of the index, then for each column a marker that places NULLs and
//! the sort key (inverted for DESC). An entry of a unique index without a NULL ends there; any
//! other one is made distinct by the row's key behind it. The value of an entry is the row's key
//! without its prefix.

use bytes::Bytes;
use pontoon_kv::{Key, Span, Value};

use crate::catalog::desc::{IndexDesc, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::types::{Datum, Oid, sort_key};

/// Index id of the primary storage.
pub const PRIMARY: u32 = 1;
/// Length of what [`prefix`] gives.
pub const PREFIX_LEN: usize = 9;
const TABLE: u8 = 0x20;

const NULL_FIRST: u8 = 0x00;
const NOT_NULL: u8 = 0x01;
const NULL_LAST: u8 = 0x02;

/// What every key of an index begins with.
pub fn prefix(storage: u32, index: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(48);
    key.push(TABLE);
    key.extend_from_slice(&storage.to_be_bytes());
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// All keys of a table, rows and indexes.
pub fn table_span(storage: u32) -> Span {
    let mut key = vec![TABLE];
    key.extend_from_slice(&storage.to_be_bytes());
    Span::prefix(&key)
}

/// All keys of one index.
pub fn index_span(storage: u32, index: u32) -> Span {
    Span::prefix(&prefix(storage, index))
}

/// Appends one column of the primary storage's key.
pub fn append_primary(value: &Datum, ty: Oid, to: &mut Vec<u8>) {
    sort_key::append(value, ty, to);
}

/// Appends one column of a secondary index.
pub fn append_secondary(
    value: &Datum,
    ty: Oid,
    descending: bool,
    nulls_first: bool,
    to: &mut Vec<u8>,
) {
    if value.is_null() {
        to.push(if nulls_first { NULL_FIRST } else { NULL_LAST });
        return;
    }
    to.push(NOT_NULL);
    let from = to.len();
    sort_key::append(value, ty, to);
    if descending {
        to.iter_mut().skip(from).for_each(|b| *b = !*b);
    }
}

/// The part of a secondary index's column span that holds no NULL begins and ends with these.
pub(crate) const NOT_NULL_MARKER: u8 = NOT_NULL;

/// The key of a row given by position in the descriptor.
pub fn row_key(table: &TableDesc, row: &[Datum]) -> Result<Key, SqlError> {
    let mut key = prefix(table.storage, PRIMARY);
    for &position in &table.storage_key {
        let (Some(value), Some(column)) = (row.get(position), table.columns.get(position)) else {
            return Err(SqlError::internal("a key column is missing"));
        };
        append_primary(value, column.ty.oid, &mut key);
    }
    Ok(Bytes::from(key))
}

/// Where the rows of a table begin whose leading key columns have these values.
///
/// # Errors
/// `22004` when one is NULL, which no row has there.
pub fn row_start(table: &TableDesc, values: &[Datum]) -> Result<Key, SqlError> {
    let mut key = prefix(table.storage, PRIMARY);
    for (value, position) in values.iter().zip(&table.storage_key) {
        let Some(column) = table.columns.get(*position) else {
            return Err(SqlError::internal("a key column is missing"));
        };
        if value.is_null() {
            let message = format!(
                "column \"{}\" of the primary key is never null",
                column.name
            );
            return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, message));
        }
        append_primary(value, column.ty.oid, &mut key);
    }
    Ok(Bytes::from(key))
}

/// Where the entries of a secondary index begin whose leading columns have these values.
pub fn index_start<'a>(
    table: &TableDesc,
    index: &IndexDesc,
    values: impl IntoIterator<Item = &'a Datum>,
) -> Result<Vec<u8>, SqlError> {
    let mut key = prefix(table.storage, index.id);
    for (value, c) in values.into_iter().zip(&index.columns) {
        let Some(column) = table.columns.get(c.column) else {
            return Err(SqlError::internal("an index column is missing"));
        };
        append_secondary(value, column.ty.oid, c.descending, c.nulls_first, &mut key);
    }
    Ok(key)
}

/// Whether the index is the primary storage itself.
pub fn is_primary(index: &IndexDesc) -> bool {
    index.id == PRIMARY
}

/// Whether an entry of this row stands alone under its key columns, so that another one with the
/// same columns violates the index.
pub fn is_exclusive(index: &IndexDesc, row: &[Datum]) -> bool {
    index.is_unique()
        && (index.nulls_not_distinct
            || index
                .columns
                .iter()
                .all(|c| row.get(c.column).is_some_and(|v| !v.is_null())))
}

/// Key columns of a secondary index, without the row's key.
pub fn index_prefix(
    table: &TableDesc,
    index: &IndexDesc,
    row: &[Datum],
) -> Result<Vec<u8>, SqlError> {
    if index.columns.iter().any(|c| c.column >= row.len()) {
        return Err(SqlError::internal("an index column is missing"));
    }
    let values = index.columns.iter().filter_map(|c| row.get(c.column));
    index_start(table, index, values)
}

/// The entry of a secondary index for a row.
pub fn index_entry(
    table: &TableDesc,
    index: &IndexDesc,
    row: &[Datum],
    row_key: &[u8],
) -> Result<(Key, Value), SqlError> {
    let mut key = index_prefix(table, index, row)?;
    let own = row_key.get(PREFIX_LEN..).unwrap_or_default();
    if !is_exclusive(index, row) {
        key.extend_from_slice(own);
    }
    Ok((Bytes::from(key), Bytes::copy_from_slice(own)))
}

/// The key of the row that an index entry's value points to.
pub fn row_key_of_entry(storage: u32, value: &[u8]) -> Key {
    let mut key = prefix(storage, PRIMARY);
    key.extend_from_slice(value);
    Bytes::from(key)
}

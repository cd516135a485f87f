//! Where descriptors lie in the store, and their bytes.
//!
//! ```text
//! catalog ‖ 'v'                 version of the catalog (8 bytes)
//! catalog ‖ 'o'                 next object number (4 bytes)
//! catalog ‖ 'n' ‖ oid (4)       schema
//! catalog ‖ 't' ‖ oid (4)       table or view, with its indexes and constraints
//! catalog ‖ 's' ‖ oid (4)       sequence
//! state   ‖ 's' ‖ storage (4)   position of a sequence
//! state   ‖ 'd' ‖ storage (4)   storage of a dropped table or sequence that waits for removal
//! state   ‖ 'd' ‖ storage (4) ‖ index (4)   the same of an index
//! ```
//!
//! A descriptor is a format byte and JSON: readable, and a new field with a default needs no
//! conversion. An unknown format byte is an error, never a guess.

use bytes::Bytes;
use pontoon_kv::{Key, Span, keys};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{SqlError, SqlState};
use crate::types::Oid;

/// The format byte of JSON descriptors.
const JSON: u8 = 1;

/// Value of a mark of removal: a table's storage.
pub(crate) const DROPPED_TABLE: u8 = 1;
/// The same: a sequence's position.
pub(crate) const DROPPED_SEQUENCE: u8 = 2;

/// The same: the keys of one index.
pub(crate) const DROPPED_INDEX: u8 = 3;

/// A kind of descriptor rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RowKind {
    /// Schemas.
    Schema,
    /// Tables and views.
    Table,
    /// Sequences.
    Sequence,
}

impl RowKind {
    fn byte(self) -> u8 {
        match self {
            Self::Schema => b'n',
            Self::Table => b't',
            Self::Sequence => b's',
        }
    }

    /// All rows of the kind.
    pub(crate) fn span(self) -> Span {
        let mut prefix = keys::catalog_prefix();
        prefix.push(self.byte());
        Span::prefix(&prefix)
    }

    /// The row of one object.
    pub(crate) fn key(self, oid: Oid) -> Key {
        let mut key = keys::catalog_prefix();
        key.push(self.byte());
        key.extend_from_slice(&oid.0.to_be_bytes());
        key.into()
    }
}

/// The version row.
pub(crate) fn version_key() -> Key {
    Key::from_static(keys::CATALOG_VERSION)
}

/// The counter of object numbers.
pub(crate) fn oid_key() -> Key {
    let mut key = keys::catalog_prefix();
    key.push(b'o');
    key.into()
}

/// Position of a sequence.
pub(crate) fn sequence_key(storage: u32) -> Key {
    let mut key = keys::sql_state_prefix();
    key.push(b's');
    key.extend_from_slice(&storage.to_be_bytes());
    key.into()
}

/// Mark of a table storage that is to be removed.
pub(crate) fn dropped_key(storage: u32) -> Key {
    let mut key = keys::sql_state_prefix();
    key.push(b'd');
    key.extend_from_slice(&storage.to_be_bytes());
    key.into()
}

/// Mark of the keys of an index that are to be removed.
pub(crate) fn dropped_index_key(storage: u32, index: u32) -> Key {
    let mut key = dropped_key(storage).to_vec();
    key.extend_from_slice(&index.to_be_bytes());
    key.into()
}

/// All marks of storages that are to be removed.
pub(crate) fn dropped_span() -> Span {
    let mut prefix = keys::sql_state_prefix();
    prefix.push(b'd');
    Span::prefix(&prefix)
}

/// Storage and index of such a mark.
pub(crate) fn dropped_storage(key: &[u8]) -> Option<(u32, Option<u32>)> {
    let prefix = keys::sql_state_prefix().len() + 1;
    let (storage, rest) = key.get(prefix..)?.split_first_chunk::<4>()?;
    let index = rest.first_chunk::<4>().map(|b| u32::from_be_bytes(*b));
    Some((u32::from_be_bytes(*storage), index))
}

/// A damaged row of the catalog.
pub(crate) fn damaged(what: &str) -> SqlError {
    SqlError::new(
        SqlState::DATA_CORRUPTED,
        format!("a row of the catalog is damaged: {what}"),
    )
}

/// A descriptor as bytes.
pub(crate) fn encode<T: Serialize>(descriptor: &T) -> Result<Bytes, SqlError> {
    let mut bytes = vec![JSON];
    serde_json::to_writer(&mut bytes, descriptor).map_err(SqlError::internal)?;
    Ok(bytes.into())
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SqlError> {
    match bytes.split_first() {
        Some((&JSON, json)) => serde_json::from_slice(json).map_err(|e| damaged(&e.to_string())),
        Some((format, _)) => Err(damaged(&format!("unknown format {format}"))),
        None => Err(damaged("empty")),
    }
}

/// Reads a counter of eight bytes.
pub(crate) fn decode_u64(bytes: &[u8]) -> Result<u64, SqlError> {
    bytes
        .try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| damaged("length of a counter"))
}

/// Reads a counter of four bytes.
pub(crate) fn decode_u32(bytes: &[u8]) -> Result<u32, SqlError> {
    bytes
        .try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| damaged("length of a counter"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_formats_are_refused() {
        let bytes = encode(&"x").unwrap();
        assert_eq!(decode::<String>(&bytes).unwrap(), "x");
        let error = decode::<String>(&[9, b'"', b'"']).unwrap_err();
        assert_eq!(error.state, SqlState::DATA_CORRUPTED);
        assert!(decode::<String>(&[]).is_err());
    }
}

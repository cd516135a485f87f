//! Staging of new versions: what applying a commit writes to the engine.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::Error;
use crate::mvcc::version::{Header, history_key};
use crate::storage::{Engine, Space, WriteBatch};

/// A new version of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// The key.
    pub key: Bytes,
    /// Header and value, as stored.
    pub stored: Bytes,
    /// Whether the key is known to have no version yet.
    pub fresh: bool,
}

/// Adds a new version to `batch`, moving the one it replaces to `history`.
///
/// `staged` holds the keys written by `batch` before, whose newest version is not in the engine
/// yet; `None` when no key is written twice.
///
/// Invariant: versions of a key are written in the order of their timestamps.
pub fn stage(
    engine: &dyn Engine,
    write: &Write,
    staged: Option<&mut BTreeMap<Bytes, Bytes>>,
    batch: &mut WriteBatch,
) -> Result<(), Error> {
    let new = Header::decode(&write.stored)?;
    let before = staged.as_ref().and_then(|staged| staged.get(&write.key));
    let old = match before {
        Some(old) => Some(old.clone()),
        None if write.fresh => None,
        None => engine.get(Space::Kv, &write.key)?,
    };
    if let Some(old) = old {
        let header = Header::decode(&old)?;
        debug_assert!(
            header.commit < new.commit,
            "Invariant: a new version is newer than the one it replaces"
        );
        // This replaces the mark of a tombstone by the tombstone itself.
        batch.put(Space::History, history_key(&write.key, header.commit), old);
    }
    if new.tombstone {
        let mut mark = Vec::with_capacity(crate::mvcc::HEADER_LEN);
        Header { mark: true, ..new }.put(&mut mark);
        batch.put(Space::History, history_key(&write.key, new.commit), mark);
    }
    batch.put(Space::Kv, write.key.clone(), write.stored.clone());
    if let Some(staged) = staged {
        staged.insert(write.key.clone(), write.stored.clone());
    }
    Ok(())
}

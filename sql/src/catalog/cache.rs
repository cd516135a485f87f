//! The catalog snapshot of a transaction, cached by version, and the first rows of a new store.
//!
//! A schema change by another counts as a change of what a transaction has read, and is found when
//! that is validated; [`CatalogCache::hold`] does the same for writers at the isolation levels that do
//! not validate what they read. As long as no change is announced, nothing is read; after one, the
//! version row is, and the descriptors are scanned only when the version is new.

use std::sync::Arc;

use parking_lot::RwLock;
use pontoon_kv::{Db, Remembered, ScanOptions, Txn, TxnOptions};

use super::desc::{
    CatalogSnapshot, FIRST_USER_OID, INFORMATION_SCHEMA, PG_CATALOG, PONTOON_INTERNAL, PUBLIC,
    RelationKind, SchemaDesc, SequenceDesc, TableDesc,
};
use super::rows::{self, RowKind};
use crate::error::SqlError;
use crate::types::Oid;

/// The role that exists from the start.
pub const POSTGRES_ROLE: Oid = Oid(10);
/// The database that exists from the start.
pub const POSTGRES_DATABASE: Oid = Oid(5);
/// Snapshots with uncommitted changes of their own have versions from here on.
pub const OWN_VERSIONS: u64 = 1 << 63;

/// The newest snapshot that this node has loaded.
pub struct CatalogCache {
    version_key: pontoon_kv::Key,
    current: RwLock<Arc<CatalogSnapshot>>,
    remembered: Remembered<CatalogSnapshot>,
}

impl Default for CatalogCache {
    fn default() -> Self {
        Self {
            version_key: rows::version_key(),
            current: RwLock::new(Arc::new(CatalogSnapshot::default())),
            remembered: Remembered::default(),
        }
    }
}

impl CatalogCache {
    /// The snapshot that the transaction sees.
    pub async fn load(&self, txn: &Txn) -> Result<Arc<CatalogSnapshot>, SqlError> {
        if let Some(snapshot) = self.remembered.recall(txn) {
            return Ok(snapshot);
        }
        let snapshot = self.read(txn).await?;
        self.remembered.note(txn, Arc::clone(&snapshot));
        Ok(snapshot)
    }

    async fn read(&self, txn: &Txn) -> Result<Arc<CatalogSnapshot>, SqlError> {
        let version = match txn.get(&self.version_key).await? {
            Some(bytes) => rows::decode_u64(&bytes)?,
            None => return Err(rows::damaged("there is no version row")),
        };
        {
            let cached = self.current.read();
            if cached.version == version {
                return Ok(Arc::clone(&cached));
            }
        }
        let snapshot = Arc::new(scan(txn, version).await?);
        let mut current = self.current.write();
        if current.version < version {
            *current = Arc::clone(&snapshot);
        }
        Ok(snapshot)
    }

    /// Before a transaction writes rows: its commit fails if the catalog has changed since the
    /// snapshot that it writes by. Otherwise a writer at READ COMMITTED, whose reads nobody
    /// validates, would leave rows without entries in an index that was made meanwhile.
    pub fn hold(&self, txn: &Txn) {
        txn.require_catalog();
    }

    /// The newest snapshot that was loaded; possibly not the newest there is.
    pub fn latest(&self) -> Arc<CatalogSnapshot> {
        Arc::clone(&self.current.read())
    }
}

async fn scan(txn: &Txn, version: u64) -> Result<CatalogSnapshot, SqlError> {
    let mut snapshot = CatalogSnapshot {
        version,
        ..CatalogSnapshot::default()
    };
    for kind in [RowKind::Schema, RowKind::Table, RowKind::Sequence] {
        let mut scan = txn.scan(kind.span(), ScanOptions::default());
        while let Some(batch) = scan.next_batch().await? {
            for (_, value) in batch.iter() {
                match kind {
                    RowKind::Schema => {
                        let schema: SchemaDesc = rows::decode(value)?;
                        snapshot.schemas.insert(schema.oid, Arc::new(schema));
                    }
                    RowKind::Table => {
                        let table: TableDesc = rows::decode(value)?;
                        insert_names(&mut snapshot, &table);
                        snapshot.tables.insert(table.oid, Arc::new(table));
                    }
                    RowKind::Sequence => {
                        let sequence: SequenceDesc = rows::decode(value)?;
                        snapshot
                            .names
                            .insert((sequence.schema, sequence.name.clone()), sequence.oid);
                        snapshot.sequences.insert(sequence.oid, Arc::new(sequence));
                    }
                }
            }
        }
    }
    add_internal(&mut snapshot);
    Ok(snapshot)
}

/// Enters the schema pontoon_internal. It is computed, not stored, so that stores of older versions
/// have it too; should users of such a version have made one of that name, theirs stays.
fn add_internal(snapshot: &mut CatalogSnapshot) {
    const NAME: &str = "pontoon_internal";
    if snapshot.schema_named(NAME).is_some() {
        return;
    }
    let schema = SchemaDesc {
        oid: PONTOON_INTERNAL,
        name: NAME.to_owned(),
        owner: POSTGRES_ROLE,
        comment: Some("the cluster as its coordinator sees it".to_owned()),
    };
    snapshot.schemas.insert(PONTOON_INTERNAL, Arc::new(schema));
}

/// Enters the names of a table and its indexes.
pub(super) fn insert_names(snapshot: &mut CatalogSnapshot, table: &TableDesc) {
    snapshot
        .names
        .insert((table.schema, table.name.clone()), table.oid);
    if table.kind == RelationKind::Table {
        for index in &table.indexes {
            snapshot
                .names
                .insert((table.schema, index.name.clone()), index.oid);
        }
    }
}

/// Writes the first rows of the catalog unless they are there.
pub(crate) async fn bootstrap(db: &Db) -> Result<(), SqlError> {
    for attempt in 0.. {
        let txn = db.begin(TxnOptions::default()).await?;
        if txn.get(&rows::version_key()).await?.is_some() {
            return Ok(());
        }
        for (oid, name) in [
            (PG_CATALOG, "pg_catalog"),
            (PUBLIC, "public"),
            (INFORMATION_SCHEMA, "information_schema"),
        ] {
            let comment = match oid {
                PG_CATALOG => Some("system catalog schema".to_owned()),
                PUBLIC => Some("standard public schema".to_owned()),
                _ => None,
            };
            let schema = SchemaDesc {
                oid,
                name: name.to_owned(),
                owner: POSTGRES_ROLE,
                comment,
            };
            txn.put(RowKind::Schema.key(oid), rows::encode(&schema)?)?;
        }
        txn.put(
            rows::oid_key(),
            FIRST_USER_OID.to_be_bytes().to_vec().into(),
        )?;
        txn.put(rows::version_key(), 1_u64.to_be_bytes().to_vec().into())?;
        match txn.commit().await {
            Ok(_) => return Ok(()),
            Err(e) if (e.is_retryable() || e.is_ambiguous()) && attempt < 10 => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

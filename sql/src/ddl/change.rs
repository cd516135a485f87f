//! The catalog as one statement changes it: descriptors go into the transaction's writes and into
//! a snapshot of the statement's own at the same time.
//!
//! Invariant: every change also writes the version row, so two transactions that change the catalog
//! conflict, and so do a change and a transaction that read the catalog before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pontoon_kv::{LockStrength, LockWait, Txn, keys};

use crate::catalog::cache::OWN_VERSIONS;
use crate::catalog::desc::{
    CatalogSnapshot, PG_CATALOG, PONTOON_INTERNAL, Relation, RelationKind, SchemaDesc,
    SequenceDesc, TableDesc,
};
use crate::catalog::placement::rule_of;
use crate::catalog::rows::{self, RowKind};
use crate::error::{SqlError, SqlState};
use crate::types::Oid;

/// Versions of snapshots with uncommitted changes, different on each change.
static OWN_VERSION: AtomicU64 = AtomicU64::new(OWN_VERSIONS);

/// The catalog while a statement changes it.
pub(crate) struct Change {
    txn: Txn,
    snapshot: CatalogSnapshot,
    /// The version row must still be written.
    next_version: Option<u64>,
    dirty: bool,
}

impl Change {
    /// Begins to change the catalog: waits for other transactions that are changing it.
    pub(crate) async fn begin(
        txn: &Txn,
        base: &CatalogSnapshot,
        wait: LockWait,
    ) -> Result<Self, SqlError> {
        let key = rows::version_key();
        // A row that appears while an index is filled or a constraint is checked must be noticed
        // at every isolation level.
        txn.validate_reads(true);
        if base.version < OWN_VERSIONS {
            txn.lock(std::slice::from_ref(&key), LockStrength::Update, wait)
                .await?;
        }
        let stored = match txn.get(&key).await? {
            Some(bytes) => rows::decode_u64(&bytes)?,
            None => return Err(rows::damaged("there is no version row")),
        };
        if base.version < OWN_VERSIONS {
            if stored != base.version {
                // The lock moved the transaction past another change; the statement runs again.
                return Err(pontoon_kv::Error::Conflict {
                    reason: pontoon_kv::ConflictReason::ConcurrentUpdate,
                }
                .into());
            }
        }
        Ok(Self {
            txn: txn.clone(),
            snapshot: base.clone(),
            next_version: (base.version < OWN_VERSIONS).then_some(stored + 1),
            dirty: false,
        })
    }

    /// Before each write.
    fn touch(&mut self) -> Result<(), SqlError> {
        if let Some(version) = self.next_version.take() {
            self.txn
                .put(rows::version_key(), version.to_be_bytes().to_vec().into())?;
        }
        self.dirty = true;
        Ok(())
    }

    /// The catalog as changed, `None` if nothing was.
    pub(crate) fn finish(mut self) -> Option<Arc<CatalogSnapshot>> {
        self.txn.validate_reads(false);
        self.dirty.then(|| self.published())
    }

    /// The catalog as changed so far.
    pub(crate) fn catalog(&self) -> &CatalogSnapshot {
        &self.snapshot
    }

    /// The catalog as changed so far, with a version of its own, for running statements on it.
    pub(crate) fn published(&mut self) -> Arc<CatalogSnapshot> {
        self.snapshot.version = OWN_VERSION.fetch_add(1, Ordering::Relaxed);
        Arc::new(self.snapshot.clone())
    }

    /// Writes a table or view, new or changed; raises its version.
    pub(crate) fn put_table(&mut self, mut table: TableDesc) -> Result<Arc<TableDesc>, SqlError> {
        self.touch()?;
        table.version += 1;
        self.txn
            .put(RowKind::Table.key(table.oid), rows::encode(&table)?)?;
        let old = self.snapshot.tables.get(&table.oid).map(Arc::clone);
        self.put_rule(old.as_deref(), Some(&table))?;
        if let Some(old) = old {
            self.remove_names(&old);
        }
        self.snapshot
            .names
            .insert((table.schema, table.name.clone()), table.oid);
        if table.kind == RelationKind::Table {
            for index in &table.indexes {
                self.snapshot
                    .names
                    .insert((table.schema, index.name.clone()), index.oid);
            }
        }
        let table = Arc::new(table);
        self.snapshot.tables.insert(table.oid, Arc::clone(&table));
        Ok(table)
    }

    /// Keeps the placement rule that the store knows of a table's keys in step with the table.
    fn put_rule(
        &mut self,
        old: Option<&TableDesc>,
        new: Option<&TableDesc>,
    ) -> Result<(), SqlError> {
        let of = |table: &TableDesc| rule_of(table).map(|rule| (table.storage, rule));
        let (old, new) = (old.and_then(of), new.and_then(of));
        if old == new {
            return Ok(());
        }
        if let Some((storage, _)) = old {
            self.txn.delete(keys::placement_rule_key(storage).into())?;
        }
        if let Some((storage, rule)) = new {
            let key = keys::placement_rule_key(storage);
            self.txn.put(key.into(), rule.encode()?)?;
        }
        Ok(())
    }

    fn remove_names(&mut self, table: &TableDesc) {
        self.snapshot
            .names
            .remove(&(table.schema, table.name.clone()));
        for index in &table.indexes {
            self.snapshot
                .names
                .remove(&(table.schema, index.name.clone()));
        }
    }

    /// Removes a table or view; its storage goes after the commit.
    pub(crate) fn remove_table(&mut self, table: &TableDesc) -> Result<(), SqlError> {
        self.touch()?;
        self.txn.delete(RowKind::Table.key(table.oid))?;
        self.put_rule(Some(table), None)?;
        self.remove_names(table);
        self.snapshot.tables.remove(&table.oid);
        if table.kind == RelationKind::Table {
            self.drop_storage(table.storage)?;
        }
        Ok(())
    }

    /// Marks the storage of a table for removal after the commit.
    pub(crate) fn drop_storage(&mut self, storage: u32) -> Result<(), SqlError> {
        Ok(self
            .txn
            .put(rows::dropped_key(storage), vec![rows::DROPPED_TABLE].into())?)
    }

    /// Marks the keys of an index for removal after the commit.
    pub(crate) fn drop_index_storage(&mut self, storage: u32, index: u32) -> Result<(), SqlError> {
        let key = rows::dropped_index_key(storage, index);
        Ok(self.txn.put(key, vec![rows::DROPPED_INDEX].into())?)
    }

    fn drop_sequence_storage(&mut self, storage: u32) -> Result<(), SqlError> {
        Ok(self.txn.put(
            rows::dropped_key(storage),
            vec![rows::DROPPED_SEQUENCE].into(),
        )?)
    }

    /// Writes a sequence, new or changed.
    pub(crate) fn put_sequence(&mut self, sequence: SequenceDesc) -> Result<(), SqlError> {
        self.touch()?;
        self.txn.put(
            RowKind::Sequence.key(sequence.oid),
            rows::encode(&sequence)?,
        )?;
        if let Some(old) = self.snapshot.sequences.get(&sequence.oid).map(Arc::clone) {
            if old.storage != sequence.storage {
                self.drop_sequence_storage(old.storage)?;
            }
            self.snapshot.names.remove(&(old.schema, old.name.clone()));
        }
        self.snapshot
            .names
            .insert((sequence.schema, sequence.name.clone()), sequence.oid);
        self.snapshot
            .sequences
            .insert(sequence.oid, Arc::new(sequence));
        Ok(())
    }

    /// Removes a sequence; its position goes after the commit.
    pub(crate) fn remove_sequence(&mut self, sequence: &SequenceDesc) -> Result<(), SqlError> {
        self.touch()?;
        self.txn.delete(RowKind::Sequence.key(sequence.oid))?;
        self.snapshot
            .names
            .remove(&(sequence.schema, sequence.name.clone()));
        self.snapshot.sequences.remove(&sequence.oid);
        self.drop_sequence_storage(sequence.storage)
    }

    /// Writes a schema, new or changed.
    pub(crate) fn put_schema(&mut self, schema: SchemaDesc) -> Result<(), SqlError> {
        if schema.oid == PONTOON_INTERNAL {
            return Err(SqlError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                "permission denied for schema pontoon_internal",
            )
            .with_detail("The schema is computed, not stored."));
        }
        self.touch()?;
        self.txn
            .put(RowKind::Schema.key(schema.oid), rows::encode(&schema)?)?;
        self.snapshot.schemas.insert(schema.oid, Arc::new(schema));
        Ok(())
    }

    /// Removes a schema.
    pub(crate) fn remove_schema(&mut self, schema: Oid) -> Result<(), SqlError> {
        self.touch()?;
        self.txn.delete(RowKind::Schema.key(schema))?;
        self.snapshot.schemas.remove(&schema);
        Ok(())
    }

    /// The relation of that name, if there is one.
    pub(crate) fn relation_in(&self, schema: Oid, name: &str) -> Option<Relation> {
        self.snapshot
            .relation_in(schema, name)
            .and_then(|oid| self.snapshot.relation(oid))
    }

    /// Fails with 42P07 when the name of a relation is taken.
    pub(crate) fn check_free(&self, schema: Oid, name: &str) -> Result<(), SqlError> {
        match self.snapshot.relation_in(schema, name) {
            Some(_) => Err(SqlError::new(
                SqlState::DUPLICATE_TABLE,
                format!("relation \"{name}\" already exists"),
            )),
            None => Ok(()),
        }
    }
}

/// Refuses changes of system schemas.
pub(crate) fn check_user_schema(
    schema: Oid,
    schema_name: &str,
    name: &str,
) -> Result<(), SqlError> {
    if matches!(schema, PG_CATALOG | PONTOON_INTERNAL) {
        return Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied to create \"{schema_name}.{name}\""),
        )
        .with_detail("System catalog modifications are currently disallowed."));
    }
    Ok(())
}

//! What all sessions of a node share: the store, the catalog cache, sequences, DataFusion's
//! runtime, and the removal of what dropped tables left behind.

use std::sync::Arc;

use pontoon_kv::{Db, Key, ScanOptions, Span, TxnOptions, keys};
use tokio::sync::Notify;

use super::eval::{DATABASE, DATABASE_OWNER, Shared};
use super::sequences::Sequences;
use super::session::Session;
use super::settings::Settings;
use crate::catalog::cache::bootstrap;
use crate::catalog::desc::CatalogSnapshot;
use crate::catalog::oids::OidAllocator;
use crate::catalog::virtual_tables::VirtualTable;
use crate::catalog::{CatalogCache, rows};
use crate::error::{SqlError, SqlState};
use crate::exec;
use crate::types::{Datum, Oid};

/// Rows that one transaction of the removal deletes.
const REMOVAL_ROWS: u64 = 2_000;

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Number of the node, from 1.
    pub node: u16,
    /// Bytes that all queries together may hold before they spill.
    pub memory_bytes: usize,
    /// Bytes of tables that are kept decoded for scans to come.
    pub columns_bytes: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            node: 1,
            memory_bytes: 512 << 20,
            columns_bytes: 512 << 20,
        }
    }
}

/// How a session is opened.
#[derive(Clone, Debug)]
pub struct SessionStart {
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Variables that the client set in its start-up message.
    pub settings: Vec<(String, String)>,
    /// Number of the backend.
    pub pid: i32,
}

/// The SQL layer of a node.
pub struct Engine {
    pub(crate) db: Db,
    pub(crate) catalog: CatalogCache,
    pub(crate) oids: OidAllocator,
    pub(crate) sequences: Sequences,
    pub(crate) runtime: Arc<exec::Runtime>,
    pub(super) cursors: exec::remote::Cursors,
    removal: Arc<Notify>,
}

impl Engine {
    /// Opens the SQL layer over a store; a new store gets its first catalog rows.
    pub async fn open(db: Db, config: EngineConfig) -> Result<Arc<Self>, SqlError> {
        bootstrap(&db).await?;
        let engine = Arc::new(Self {
            db,
            catalog: CatalogCache::default(),
            oids: OidAllocator::default(),
            sequences: Sequences::default(),
            runtime: Arc::new(exec::Runtime::new(
                config.node,
                config.memory_bytes,
                exec::ColumnCache::new(config.columns_bytes),
            )?),
            cursors: exec::remote::Cursors::default(),
            removal: Arc::new(Notify::new()),
        });
        engine.runtime.belong_to(engine.db.clone());
        let txn = engine
            .db
            .begin(TxnOptions {
                read_only: true,
                ..TxnOptions::default()
            })
            .await?;
        engine.catalog.load(&txn).await?;
        // Ends with the engine: the task holds no strong reference while it waits.
        let (weak, removal) = (Arc::downgrade(&engine), Arc::clone(&engine.removal));
        tokio::spawn(async move {
            while let Some(engine) = weak.upgrade() {
                if let Err(error) = engine.remove_dropped().await {
                    tracing::warn!(%error, "removal of dropped tables failed, will be tried again");
                }
                drop(engine);
                removal.notified().await;
            }
        });
        engine.removal.notify_one();
        Ok(engine)
    }

    /// Memory of tables that are kept by columns.
    pub fn column_cache_bytes(&self) -> u64 {
        self.runtime.columns().memory() as u64
    }

    /// Opens a session.
    pub fn session(self: &Arc<Self>, start: SessionStart) -> Result<Session, SqlError> {
        if start.user != DATABASE_OWNER {
            return Err(SqlError::notice(
                crate::error::Severity::Fatal,
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                format!("role \"{}\" does not exist", start.user),
            ));
        }
        if start.database != DATABASE {
            return Err(SqlError::notice(
                crate::error::Severity::Fatal,
                SqlState::INVALID_CATALOG_NAME,
                format!("database \"{}\" does not exist", start.database),
            ));
        }
        let settings = Settings::new(&start.settings)?;
        Ok(Session::new(Shared::new(
            Arc::clone(self),
            start.user,
            start.pid,
            settings,
        )))
    }

    /// Wakes the removal of dropped storages; called after a commit that dropped some.
    pub(crate) fn wake_removal(&self) {
        self.removal.notify_one();
    }

    /// Deletes the keys of all storages marked as dropped, in bounded transactions.
    async fn remove_dropped(&self) -> Result<(), SqlError> {
        let txn = self
            .db
            .begin(TxnOptions {
                read_only: true,
                ..TxnOptions::default()
            })
            .await?;
        let mut marks = Vec::new();
        let mut scan = txn.scan(rows::dropped_span(), ScanOptions::default());
        while let Some(batch) = scan.next_batch().await? {
            for (key, value) in batch.iter() {
                if let Some(what) = rows::dropped_storage(key) {
                    marks.push((Key::from(key.to_vec()), what, value.first().copied()));
                }
            }
        }
        for (key, (storage, index), what) in marks {
            let span = match (what, index) {
                (Some(rows::DROPPED_TABLE), _) => Some(keys::table_span(storage)),
                (Some(rows::DROPPED_INDEX), Some(index)) => Some(keys::index_span(storage, index)),
                _ => None,
            };
            if let Some(span) = span {
                while self.remove_some(span.clone()).await? {}
            }
            let txn = self.db.begin(TxnOptions::default()).await?;
            if what == Some(rows::DROPPED_SEQUENCE) {
                self.sequences.forget(storage);
                txn.delete(rows::sequence_key(storage))?;
            }
            txn.delete(key)?;
            txn.commit().await?;
        }
        Ok(())
    }

    /// Deletes some keys of a span; whether there may be more.
    async fn remove_some(&self, span: Span) -> Result<bool, SqlError> {
        let txn = self.db.begin(TxnOptions::default()).await?;
        let options = ScanOptions {
            limit: Some(REMOVAL_ROWS),
            ..ScanOptions::default()
        };
        let mut scan = txn.scan(span, options);
        let mut count = 0;
        while let Some(batch) = scan.next_batch().await? {
            for (key, _) in batch.iter() {
                txn.delete(key.to_vec().into())?;
                count += 1;
            }
        }
        if count == 0 {
            return Ok(false);
        }
        txn.commit().await?;
        Ok(true)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Lets the removal see that there is no engine any more.
        self.removal.notify_one();
    }
}

/// The computed table of that name.
pub(crate) fn virtual_table(schema: &str, name: &str) -> Option<&'static VirtualTable> {
    crate::pg_catalog::find(schema, name)
}

/// The computed table of that number.
pub(crate) fn virtual_table_by_oid(oid: Oid) -> Option<&'static VirtualTable> {
    crate::pg_catalog::TABLES.iter().find(|t| t.oid == oid)
}

/// Catalog functions.
pub(crate) fn describe(
    catalog: &CatalogSnapshot,
    function: &str,
    args: &[Datum],
) -> Result<Datum, SqlError> {
    crate::pg_catalog::describe(catalog, function, args)
}

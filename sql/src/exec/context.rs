//! What a statement runs with, and what all statements of a node share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;
use parking_lot::{Mutex, RwLock};
use pontoon_kv::{Db, Txn};

use crate::bind::tree::{BoundStatement, Expr};
use crate::catalog::desc::{CatalogSnapshot, ColumnDesc, TableDesc};
use crate::error::SqlError;
use crate::table::Layout;
use crate::types::registry::EvalContext;
use crate::types::{Datum, Oid};

use super::prepared::Prepared;
use super::remote::{Account, Fellows, Number};
use super::vector::cache::ColumnCache;

/// What one execution of a statement runs with. Cheap to clone.
#[derive(Clone)]
pub struct ExecContext {
    /// The transaction.
    pub txn: Txn,
    /// What it sees of the catalog.
    pub catalog: Arc<CatalogSnapshot>,
    /// What functions may know.
    pub eval: Arc<dyn EvalContext>,
    /// Values of the parameters.
    pub params: Arc<[Datum]>,
    /// What all statements share.
    pub runtime: Arc<Runtime>,
    /// Whether compiled key access may be used.
    pub fast_path: bool,
    /// Whether other nodes do parts of a query.
    pub distribute: bool,
    /// Bytes of a side of a join that are sent to every node that does a part of it, at most.
    pub broadcast_max: usize,
    /// Keeps account of those parts, where somebody wants to see what becomes of them.
    pub account: Option<Arc<Account>>,
}

impl ExecContext {
    /// The layout of a table's rows.
    pub fn layout(&self, table: &TableDesc) -> Result<Arc<Layout>, SqlError> {
        self.runtime.layout(table, self.eval.as_ref())
    }
}

/// A CHECK constraint with its condition bound to the table's columns, which have their position
/// as number.
#[derive(Debug)]
pub struct BoundCheck {
    /// Its name.
    pub name: String,
    /// The condition.
    pub condition: Expr,
}

/// What is derived from one version of a table.
#[derive(Clone)]
struct Derived {
    version: u32,
    storage: u32,
    columns: Arc<[ColumnDesc]>,
    layout: Arc<Layout>,
    checks: Option<Arc<[BoundCheck]>>,
}

/// Whether rows are stored alike.
fn same_slots(a: &[ColumnDesc], b: &[ColumnDesc]) -> bool {
    let same = |(a, b): (&ColumnDesc, &ColumnDesc)| {
        a.attnum == b.attnum && a.ty == b.ty && a.missing == b.missing
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// Entries kept of derived tables and prepared statements before stale ones are thrown out.
const CACHED_MAX: usize = 4_096;

/// What all statements of a node share: DataFusion's memory and disk, caches, row ids.
pub struct Runtime {
    environment: Arc<RuntimeEnv>,
    config: SessionConfig,
    tables: Mutex<HashMap<Oid, Derived>>,
    prepared: Mutex<HashMap<usize, (Weak<BoundStatement>, Arc<Prepared>)>>,
    /// Rows of each table, by storage, when it was last read whole, and what was inserted since.
    sizes: RwLock<HashMap<u32, AtomicU64>>,
    node: u16,
    last_row_id: AtomicU64,
    memory_max: usize,
    columns: ColumnCache,
    fellows: OnceLock<Fellows>,
    store: OnceLock<Db>,
    /// Drawn by chance at the start: names parts of queries together with their count.
    life: u64,
    parts: AtomicU64,
}

impl Runtime {
    /// A runtime for a node with this number, whose queries may hold so many bytes.
    pub fn new(node: u16, memory_max: usize, columns: ColumnCache) -> Result<Self, SqlError> {
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(memory_max)))
            .build_arc()
            .map_err(super::error::from_datafusion)?;
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .with_batch_size(8_192)
            .with_collect_statistics(false);
        Ok(Self {
            environment,
            config,
            tables: Mutex::default(),
            prepared: Mutex::default(),
            sizes: RwLock::default(),
            node,
            last_row_id: AtomicU64::new(0),
            memory_max,
            columns,
            fellows: OnceLock::new(),
            store: OnceLock::new(),
            life: rand::random(),
            parts: AtomicU64::new(0),
        })
    }

    /// A context for one execution by DataFusion.
    pub fn task_context(&self) -> Arc<TaskContext> {
        Arc::new(
            TaskContext::default()
                .with_session_config(self.config.clone())
                .with_runtime(Arc::clone(&self.environment)),
        )
    }

    /// Makes the other nodes known, once.
    pub fn meet(&self, fellows: Fellows) {
        // They do not change.
        let _ = self.fellows.set(fellows);
    }

    /// The other nodes, where there are any.
    pub fn fellows(&self) -> Option<Fellows> {
        self.fellows.get().cloned()
    }

    /// Makes the store known whose cluster is shown, once.
    pub fn belong_to(&self, store: Db) {
        // It does not change.
        let _ = self.store.set(store);
    }

    /// The store of this node.
    pub fn store(&self) -> Option<&Db> {
        self.store.get()
    }

    /// A name for a part of a query that another node runs.
    pub fn next_part(&self) -> Number {
        (self.life, self.parts.fetch_add(1, Ordering::Relaxed))
    }

    /// Rows of tables, kept by columns.
    pub fn columns(&self) -> &ColumnCache {
        &self.columns
    }

    /// Bytes that one statement may hold in rows.
    pub fn memory_max(&self) -> usize {
        self.memory_max
    }

    /// The next id of a row without primary key: unique in the cluster, growing with time on each
    /// node (41 bits of milliseconds since 2020, 10 bits of node, 12 bits of counter).
    pub fn next_row_id(&self) -> i64 {
        const EPOCH_MS: u64 = 1_577_836_800_000;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis());
        let now = u64::try_from(now).unwrap_or(0).saturating_sub(EPOCH_MS) << 12;
        let next = |last: u64| Some((last + 1).max(now));
        let last = self
            .last_row_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .unwrap_or(now);
        let own = (last + 1).max(now);
        let (millis, counter) = (own >> 12, own & 0xfff);
        let id = (millis << 22) | (u64::from(self.node & 0x3ff) << 12) | counter;
        (id & 0x7fff_ffff_ffff_ffff).cast_signed()
    }

    /// About how many rows a table has, if it was read whole before.
    pub fn rows_of(&self, storage: u32) -> Option<f64> {
        self.sizes
            .read()
            .get(&storage)
            .map(|n| n.load(Ordering::Relaxed) as f64)
    }

    /// A table was read whole.
    pub fn set_rows_of(&self, storage: u32, rows: usize) {
        let rows = rows as u64;
        if let Some(known) = self.sizes.read().get(&storage) {
            known.store(rows, Ordering::Relaxed);
            return;
        }
        let mut sizes = self.sizes.write();
        if sizes.len() >= CACHED_MAX {
            sizes.clear();
        }
        sizes.insert(storage, AtomicU64::new(rows));
    }

    /// Rows were inserted.
    pub fn add_rows_of(&self, storage: u32, rows: usize) {
        if let Some(known) = self.sizes.read().get(&storage) {
            known.fetch_add(rows as u64, Ordering::Relaxed);
        }
    }

    /// The layout of a table's rows.
    pub fn layout(
        &self,
        table: &TableDesc,
        eval: &dyn EvalContext,
    ) -> Result<Arc<Layout>, SqlError> {
        Ok(self.derived(table, eval)?.layout)
    }

    fn derived(&self, table: &TableDesc, eval: &dyn EvalContext) -> Result<Derived, SqlError> {
        // Of two transactions that both alter the table each makes a descriptor of the same
        // version, and one is rolled back: the number alone does not tell them apart.
        let fits = |d: &Derived| {
            d.version == table.version && d.storage == table.storage && *d.columns == *table.columns
        };
        if let Some(found) = self.tables.lock().get(&table.oid).filter(|d| fits(d)) {
            return Ok(found.clone());
        }
        // The layout of a new version with the same slots (an index was added) stays the same
        // allocation, by which the column cache knows it.
        let known = self.tables.lock().get(&table.oid).cloned();
        let layout = match known.filter(|d| same_slots(&d.columns, &table.columns)) {
            Some(known) => known.layout,
            None => Arc::new(Layout::new(table, eval)?),
        };
        let derived = Derived {
            version: table.version,
            storage: table.storage,
            columns: table.columns.clone().into(),
            layout,
            checks: None,
        };
        let mut tables = self.tables.lock();
        if tables.len() >= CACHED_MAX {
            tables.clear();
        }
        tables.insert(table.oid, derived.clone());
        Ok(derived)
    }

    /// The CHECK constraints of a table, bound once for each version of it.
    pub fn checks(
        &self,
        table: &Arc<TableDesc>,
        cx: &ExecContext,
    ) -> Result<Arc<[BoundCheck]>, SqlError> {
        if table.checks.is_empty() {
            return Ok(Arc::new([]));
        }
        let derived = self.derived(table, cx.eval.as_ref())?;
        if let Some(checks) = derived.checks {
            return Ok(checks);
        }
        let checks: Arc<[BoundCheck]> = super::write::bind_checks(table, cx)?.into();
        if let Some(entry) = self.tables.lock().get_mut(&table.oid)
            && entry.version == table.version
        {
            entry.checks = Some(Arc::clone(&checks));
        }
        Ok(checks)
    }

    /// What was worked out of a statement before, or is now.
    pub fn prepared(&self, statement: &Arc<BoundStatement>) -> Arc<Prepared> {
        // A weak reference keeps the allocation, so its address cannot name another statement.
        let address = Arc::as_ptr(statement) as usize;
        if let Some((_, found)) = self.prepared.lock().get(&address) {
            return Arc::clone(found);
        }
        let made = Arc::new(Prepared::new(statement));
        let mut prepared = self.prepared.lock();
        if prepared.len() >= CACHED_MAX {
            prepared.retain(|_, (statement, _)| statement.strong_count() > 0);
        }
        prepared.insert(address, (Arc::downgrade(statement), Arc::clone(&made)));
        made
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

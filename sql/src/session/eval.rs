//! What functions may know: the statement's view of its session, transaction and catalog.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use pontoon_kv::IsolationLevel;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use super::api::SideMessage;
use super::cancel::{Bounds, CancelHandle, wait};
use super::engine::Engine;
use super::sequences::Position;
use super::settings::{Settings, Values, isolation_name};
use crate::catalog::desc::{CatalogSnapshot, Relation, SequenceDesc};
use crate::error::{SqlError, SqlState};
use crate::types::datetime::Zone;
use crate::types::registry::{CatalogLookup, EvalContext};
use crate::types::{Datum, Oid};

/// Name of the only database.
pub(crate) const DATABASE: &str = "postgres";
/// The role that exists from the start.
pub(crate) const DATABASE_OWNER: &str = "postgres";

/// What a session shares with the statements that it runs.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) user: String,
    pub(crate) pid: i32,
    pub(crate) settings: Mutex<Settings>,
    pub(crate) cancel: CancelHandle,
    messages: Mutex<Vec<SideMessage>>,
    sequences: Mutex<TakenValues>,
    random: Mutex<SmallRng>,
}

/// The values that the session took of sequences.
#[derive(Default)]
struct TakenValues {
    by_sequence: std::collections::BTreeMap<Oid, i64>,
    last: Option<Oid>,
}

impl Shared {
    pub(crate) fn new(engine: Arc<Engine>, user: String, pid: i32, settings: Settings) -> Self {
        Self {
            engine,
            user,
            pid,
            settings: Mutex::new(settings),
            cancel: CancelHandle::default(),
            messages: Mutex::default(),
            sequences: Mutex::default(),
            random: Mutex::new(SmallRng::from_os_rng()),
        }
    }

    /// The variables as they are now.
    pub(crate) fn values(&self) -> Arc<Values> {
        Arc::clone(self.settings.lock().current())
    }

    /// Sets a variable.
    pub(crate) fn assign(
        &self,
        name: &str,
        value: Option<&str>,
        local: bool,
    ) -> Result<(), SqlError> {
        self.settings.lock().assign(name, value, local, false)?;
        if name.eq_ignore_ascii_case("seed") {
            let seed: f64 = value.and_then(|v| v.trim().parse().ok()).unwrap_or(0.0);
            *self.random.lock() = SmallRng::seed_from_u64(seed.to_bits());
        }
        Ok(())
    }

    /// Keeps a notice or warning for the client, unless it does not want it.
    pub(crate) fn notice(&self, notice: SqlError) {
        let values = self.values();
        let wanted = match notice.severity {
            crate::error::Severity::Notice => values.notices,
            _ => values.warnings,
        };
        if wanted {
            self.messages.lock().push(SideMessage::Notice(notice));
        }
    }

    /// Everything that the client is to be told.
    pub(crate) fn take_messages(&self) -> Vec<SideMessage> {
        let mut messages = std::mem::take(&mut *self.messages.lock());
        let reports = self.settings.lock().take_reports();
        messages.extend(
            reports
                .into_iter()
                .map(|(name, v)| SideMessage::Parameter(name, v)),
        );
        messages
    }

    /// Forgets the values taken of sequences (DISCARD).
    pub(crate) fn forget_sequences(&self) {
        *self.sequences.lock() = TakenValues::default();
    }
}

/// Microseconds since 1970.
pub(crate) fn now_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_micros()).ok())
        .unwrap_or(0)
}

/// One statement.
pub(crate) struct StatementContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) catalog: Arc<CatalogSnapshot>,
    pub(crate) values: Arc<Values>,
    pub(crate) bounds: Bounds,
    pub(crate) transaction_time: i64,
    pub(crate) statement_time: i64,
    pub(crate) isolation: IsolationLevel,
    pub(crate) read_only: bool,
}

impl StatementContext {
    fn sequence(&self, oid: Oid) -> Result<Arc<SequenceDesc>, SqlError> {
        match self.catalog.relation(oid) {
            Some(Relation::Sequence(sequence)) => Ok(sequence),
            Some(other) => Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a sequence", other.name()),
            )),
            None => Err(SqlError::new(
                SqlState::UNDEFINED_TABLE,
                format!("could not open relation with OID {}", oid.0),
            )),
        }
    }

    fn check_writable(&self, function: &str) -> Result<(), SqlError> {
        if self.read_only {
            return Err(SqlError::new(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute {function}() in a read-only transaction"),
            ));
        }
        Ok(())
    }

    /// Value of a variable as SHOW prints it.
    pub(crate) fn show(&self, name: &str) -> Option<String> {
        let on_off = |b: bool| Some(if b { "on" } else { "off" }.to_owned());
        match name.to_ascii_lowercase().as_str() {
            "transaction_isolation" => Some(isolation_name(self.isolation).to_owned()),
            "transaction_read_only" => on_off(self.read_only),
            _ => self.shared.settings.lock().current().show(name),
        }
    }
}

impl EvalContext for StatementContext {
    fn transaction_time(&self) -> i64 {
        self.transaction_time
    }

    fn statement_time(&self) -> i64 {
        self.statement_time
    }

    fn clock_time(&self) -> i64 {
        now_micros()
    }

    fn time_zone(&self) -> Zone {
        self.values.time_zone
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.show(name)
    }

    fn lock_timeout_ms(&self) -> u64 {
        self.values.lock_timeout_ms
    }

    fn set_setting(&self, name: &str, value: &str, local: bool) -> Result<String, SqlError> {
        self.shared.assign(name, Some(value), local)?;
        Ok(self.show(name).unwrap_or_default())
    }

    fn sequence_next(&self, sequence: Oid) -> Result<i64, SqlError> {
        self.check_writable("nextval")?;
        let desc = self.sequence(sequence)?;
        let engine = &self.shared.engine;
        let value = engine.sequences.next(&engine.db, &desc)?;
        let mut taken = self.shared.sequences.lock();
        taken.by_sequence.insert(sequence, value);
        taken.last = Some(sequence);
        Ok(value)
    }

    fn sequence_current(&self, sequence: Option<Oid>) -> Result<i64, SqlError> {
        let not_yet = |what: String| {
            SqlError::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{what} is not yet defined in this session"),
            )
        };
        let Some(oid) = sequence else {
            let taken = self.shared.sequences.lock();
            let last = taken
                .last
                .filter(|oid| self.catalog.sequences.contains_key(oid));
            return last
                .and_then(|oid| taken.by_sequence.get(&oid).copied())
                .ok_or_else(|| not_yet("lastval".to_owned()));
        };
        let desc = self.sequence(oid)?;
        let taken = self.shared.sequences.lock();
        taken
            .by_sequence
            .get(&oid)
            .copied()
            .ok_or_else(|| not_yet(format!("currval of sequence \"{}\"", desc.name)))
    }

    fn sequence_set(&self, sequence: Oid, value: i64, called: bool) -> Result<i64, SqlError> {
        self.check_writable("setval")?;
        let desc = self.sequence(sequence)?;
        let engine = &self.shared.engine;
        engine.sequences.set(
            &engine.db,
            &desc,
            Position {
                last: value,
                called,
            },
        )?;
        if called {
            self.shared
                .sequences
                .lock()
                .by_sequence
                .insert(sequence, value);
        }
        Ok(value)
    }

    fn catalog(&self) -> &dyn CatalogLookup {
        self
    }

    fn current_user(&self) -> &str {
        &self.shared.user
    }

    fn current_database(&self) -> &str {
        DATABASE
    }

    fn backend_pid(&self) -> i32 {
        self.shared.pid
    }

    fn random_u64(&self) -> u64 {
        self.shared.random.lock().next_u64()
    }

    fn check_cancelled(&self) -> Result<(), SqlError> {
        self.bounds.check()
    }

    fn sleep(&self, micros: i64) -> Result<(), SqlError> {
        let span = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        wait(self.bounds.run(async {
            tokio::time::sleep(span).await;
            Ok(())
        }))
    }
}

impl CatalogLookup for StatementContext {
    fn relation_oid(&self, schema: Option<&str>, name: &str) -> Option<Oid> {
        match schema {
            Some(schema) => super::engine::virtual_table(schema, name)
                .map(|t| t.oid)
                .or_else(|| {
                    self.catalog
                        .relation_in(self.catalog.schema_named(schema)?, name)
                }),
            None => super::engine::virtual_table("pg_catalog", name)
                .map(|t| t.oid)
                .or_else(|| {
                    crate::ddl::names::path_schemas(&self.catalog, &self.values.search_path)
                        .find_map(|s| self.catalog.relation_in(s, name))
                }),
        }
    }

    fn relation_name(&self, oid: Oid) -> Option<(String, String, bool)> {
        let Some(relation) = self.catalog.relation(oid) else {
            let table = super::engine::virtual_table_by_oid(oid)?;
            let visible = table.schema == "pg_catalog";
            return Some((table.schema.to_owned(), table.name.to_owned(), visible));
        };
        let schema = self.catalog.schemas.get(&relation.schema())?.name.clone();
        let name = relation.name().to_owned();
        let visible = self.relation_oid(None, &name) == Some(oid);
        Some((schema, name, visible))
    }

    fn schema_oid(&self, name: &str) -> Option<Oid> {
        self.catalog.schema_named(name)
    }

    fn schema_name(&self, oid: Oid) -> Option<String> {
        self.catalog.schemas.get(&oid).map(|s| s.name.clone())
    }

    fn search_path(&self, implicit: bool) -> Vec<String> {
        let mut path: Vec<String> = self
            .values
            .search_path
            .iter()
            .map(|n| {
                if n == "$user" {
                    self.shared.user.clone()
                } else {
                    n.clone()
                }
            })
            .filter(|n| self.catalog.schema_named(n).is_some())
            .collect();
        if implicit && !path.iter().any(|n| n == "pg_catalog") {
            path.insert(0, "pg_catalog".to_owned());
        }
        path
    }

    fn describe(&self, function: &str, args: &[Datum]) -> Result<Datum, SqlError> {
        super::engine::describe(&self.catalog, function, args)
    }
}

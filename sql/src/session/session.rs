//! One connection's session: what the server calls, and the running of queries and writes with
//! everything that is tried again for the client.
//!
//! The server runs the statements of a query string one after another ([`Session::run`]) or steps
//! through the extended protocol ([`super::extended`]), and calls [`Session::finish`] at the end of
//! the string or at Sync. After it has sent an error it calls [`Session::fail`]; the state is
//! already that of a failed statement then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::api::{Outcome, SideMessage, TransactionStatus};
use super::cancel::{Bounds, CancelHandle};
use super::cursor::Cursor;
use super::eval::{Shared, now_micros};
use super::extended::{Portal, Replay};
use super::prepared::Prepared;
use super::run::{BoundedRows, Runner};
use super::transaction::Transaction;
use crate::bind::tree::BoundStatement;
use crate::catalog::desc::CatalogSnapshot;
use crate::ddl;
use crate::error::{SqlError, SqlState};
use crate::exec;
use crate::parse::{self, Parsed, Statement};
use crate::types::registry::EvalContext;
use crate::types::{Datum, Oid};

/// How often a statement is run again of which the client has seen nothing.
const RERUNS_MAX: u32 = 64;
/// Longest pause before it is run again.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// What is to be run.
#[derive(Clone)]
pub(crate) enum Work<'a> {
    /// A statement that is bound now.
    Fresh(&'a Statement),
    /// A prepared one.
    Prepared(Arc<Prepared>),
}

impl Work<'_> {
    fn bound(
        &self,
        runner: &Runner,
        catalog: &Arc<CatalogSnapshot>,
    ) -> Result<Arc<BoundStatement>, SqlError> {
        match self {
            Self::Fresh(statement) => runner
                .bind(catalog, statement, &[])
                .map(|(bound, _)| Arc::new(bound)),
            Self::Prepared(prepared) => prepared.bound(runner, catalog),
        }
    }
}

/// A session.
pub struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) transaction: Option<Transaction>,
    pub(crate) statements: HashMap<String, Arc<Prepared>>,
    pub(crate) portals: HashMap<String, Portal>,
    pub(crate) cursors: HashMap<String, Cursor>,
    /// What a pipeline has done so far, if it can be done again.
    pub(crate) replay: Option<Replay>,
    statement_time: i64,
    deadline: Option<Instant>,
}

impl Session {
    pub(crate) fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
            transaction: None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            cursors: HashMap::new(),
            replay: None,
            statement_time: now_micros(),
            deadline: None,
        }
    }

    /// Parses a whole query string.
    pub fn split(&self, sql: &str) -> Result<Vec<Parsed>, SqlError> {
        parse::split(sql)
    }

    /// Runs one statement of a query string; `last` says that it is the only or last one.
    pub async fn run(&mut self, statement: &Parsed, last: bool) -> Result<Outcome, SqlError> {
        self.begin_command();
        let alone = last
            && self
                .transaction
                .as_ref()
                .is_none_or(|t| !t.block && t.statements == 0);
        let work = Work::Fresh(&statement.statement);
        let result =
            Box::pin(self.dispatch(&statement.statement, work, Arc::from([]), alone)).await;
        if result.is_err() {
            self.abort();
        }
        result
    }

    /// End of a query string, or Sync: commits an implicit transaction.
    pub async fn finish(&mut self) -> Result<(), SqlError> {
        let replay = self.replay.take();
        if self.in_block() {
            return Ok(());
        }
        // The time of the last statement may be long over when Sync comes.
        self.begin_bounds();
        let done = match self.commit_work().await {
            Err(error) if error.state == SqlState::SERIALIZATION_FAILURE => match replay {
                Some(replay) => Box::pin(self.run_again(replay, error)).await,
                None => Err(error),
            },
            other => other,
        };
        self.drop_portals();
        done
    }

    /// An error was sent to the client. The session has already ended its implicit transaction,
    /// or marked its block as failed, when the error came from itself; this does the same for
    /// errors that the server met.
    pub fn fail(&mut self) {
        self.replay = None;
        self.abort();
        if !self.in_block() {
            self.drop_portals();
        }
    }

    /// What ReadyForQuery shows.
    pub fn status(&self) -> TransactionStatus {
        match &self.transaction {
            Some(t) if t.block && t.failed => TransactionStatus::Failed,
            Some(t) if t.block => TransactionStatus::InBlock,
            _ => TransactionStatus::Idle,
        }
    }

    /// Notices and changed variables since the last call.
    pub fn take_messages(&mut self) -> Vec<SideMessage> {
        self.shared.take_messages()
    }

    /// A handle by which another task cancels the statement that runs.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.shared.cancel.clone()
    }

    /// The reported variables, for the start of the connection.
    pub fn parameter_statuses(&self) -> Vec<(&'static str, String)> {
        let values = self.shared.values();
        super::known::VARIABLES
            .iter()
            .filter(|v| v.reported)
            .map(|v| (v.name, values.show(v.name).unwrap_or_default()))
            .collect()
    }

    /// What the text form of results depends on.
    pub fn output_context(&self) -> Arc<dyn EvalContext> {
        let catalog = match &self.transaction {
            Some(Transaction {
                catalog: Some(catalog),
                ..
            }) => Arc::clone(catalog),
            _ => self.shared.engine.catalog.latest(),
        };
        Arc::new(super::eval::StatementContext {
            shared: Arc::clone(&self.shared),
            catalog,
            values: self.shared.values(),
            bounds: self.bounds(),
            transaction_time: self.statement_time,
            statement_time: self.statement_time,
            isolation: pontoon_kv::IsolationLevel::Serializable,
            read_only: false,
        })
    }

    /// `idle_in_transaction_session_timeout`, while a block is open.
    pub fn idle_in_transaction_timeout(&self) -> Option<Duration> {
        let ms = self.shared.values().idle_timeout_ms;
        (self.in_block() && ms > 0).then(|| Duration::from_millis(ms))
    }

    /// A statement begins: its time, and what bounds it.
    pub(crate) fn begin_command(&mut self) {
        self.statement_time = now_micros();
        self.begin_bounds();
    }

    /// Cancels that came before are void, and `statement_timeout` runs from now on.
    pub(crate) fn begin_bounds(&mut self) {
        self.shared.cancel.clear();
        let ms = self.shared.values().statement_timeout_ms;
        self.deadline = (ms > 0).then(|| Instant::now() + Duration::from_millis(ms));
    }

    /// What runs now is bounded by later statements' time (a cursor's rows).
    pub(crate) fn without_deadline(&mut self) {
        self.deadline = None;
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            cancel: self.shared.cancel.clone(),
            deadline: self.deadline,
        }
    }

    /// What a statement of this transaction runs with.
    pub(crate) fn runner(&mut self, txn: pontoon_kv::Txn) -> Runner {
        let bounds = self.bounds();
        let statement_time = self.statement_time;
        let shared = Arc::clone(&self.shared);
        let values = shared.values();
        let tx = self.transaction();
        if tx.statements == 0 && !tx.block {
            tx.time = statement_time;
        }
        Runner {
            shared,
            txn,
            values,
            bounds,
            transaction_time: tx.time,
            statement_time,
            isolation: tx.isolation,
            read_only: tx.read_only,
        }
    }

    /// Refuses everything but the end of the block while it is failed.
    pub(crate) fn check_not_failed(&self, statement: &Statement) -> Result<(), SqlError> {
        let ends = matches!(
            statement,
            Statement::Commit { .. } | Statement::Rollback { .. } | Statement::RollbackTo(_)
        );
        if self.status() == TransactionStatus::Failed && !ends {
            return Err(SqlError::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    /// Whether a statement that failed so may be run again in a new transaction.
    fn may_restart(&self, error: &SqlError, attempt: u32) -> bool {
        let retryable = matches!(
            error.state,
            SqlState::SERIALIZATION_FAILURE | SqlState::DEADLOCK_DETECTED
        );
        retryable
            && attempt < RERUNS_MAX
            && self.bounds().check().is_ok()
            && self.transaction.as_ref().is_none_or(|t| t.statements == 0)
    }

    /// Waits a little before the next attempt.
    async fn pause(&mut self, attempt: u32) -> Result<(), SqlError> {
        if attempt < 2 {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let random = self.output_context().random_u64() % 1_000;
        let longest = Duration::from_micros(500) * (1 << attempt.min(10));
        let pause = longest
            .min(PAUSE_MAX)
            .mul_f64(0.5 + random as f64 / 2_000.0);
        self.bounds()
            .run(async {
                tokio::time::sleep(pause).await;
                Ok(())
            })
            .await
    }

    /// Runs a query or a write. `alone`: the client has seen nothing of the transaction and this
    /// statement is all of it, so a write is committed at once.
    pub(crate) async fn run_bound(
        &mut self,
        work: &Work<'_>,
        params: Arc<[Datum]>,
        alone: bool,
    ) -> Result<Outcome, SqlError> {
        let mut attempt = 0;
        loop {
            match self.try_bound(work, Arc::clone(&params), alone).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) if exec::is_rerun(&error) && attempt < RERUNS_MAX => {
                    self.bounds().check()?;
                }
                Err(error) if self.may_restart(&error, attempt) => {
                    self.restart_work().await;
                    self.pause(attempt).await?;
                }
                Err(error) if exec::is_rerun(&error) => {
                    return Err(pontoon_kv::Error::Conflict {
                        reason: pontoon_kv::ConflictReason::ConcurrentUpdate,
                    }
                    .into());
                }
                Err(error) => return Err(error),
            }
            attempt += 1;
        }
    }

    async fn try_bound(
        &mut self,
        work: &Work<'_>,
        params: Arc<[Datum]>,
        alone: bool,
    ) -> Result<Outcome, SqlError> {
        let (txn, catalog) = self.begin_work().await?;
        let runner = self.runner(txn);
        let bounds = runner.bounds.clone();
        let bound = work.bound(&runner, &catalog)?;
        let writes = !matches!(bound.as_ref(), BoundStatement::Query(_));
        if runner.read_only && writes {
            return Err(read_only(match bound.as_ref() {
                BoundStatement::Insert(_) => "INSERT",
                BoundStatement::Update(_) => "UPDATE",
                _ => "DELETE",
            }));
        }
        if writes {
            self.shared.engine.catalog.hold(&runner.txn);
        }
        let context = runner.context(&catalog, params);
        let outcome = bounds.run(Box::pin(exec::execute(&bound, context))).await?;
        if writes && alone {
            // A failure leaves no transaction, and the statement may be run again.
            self.commit_work().await?;
        } else {
            self.transaction().statements += 1;
        }
        Ok(match outcome {
            Outcome::Rows {
                columns,
                source,
                tag,
            } => Outcome::Rows {
                columns,
                source: Box::new(BoundedRows {
                    inner: source,
                    bounds,
                }),
                tag,
            },
            other => other,
        })
    }

    /// Runs a schema change.
    pub(crate) async fn run_ddl(
        &mut self,
        statement: &Statement,
        alone: bool,
    ) -> Result<Outcome, SqlError> {
        let mut attempt = 0;
        loop {
            match self.try_ddl(statement, alone).await {
                Ok(tag) => return Ok(Outcome::Done(tag)),
                Err(error) if self.may_restart(&error, attempt) => {
                    self.restart_work().await;
                    self.pause(attempt).await?;
                }
                Err(error) => return Err(error),
            }
            attempt += 1;
        }
    }

    async fn try_ddl(&mut self, statement: &Statement, alone: bool) -> Result<String, SqlError> {
        let (txn, catalog) = self.begin_work().await?;
        let runner = self.runner(txn);
        let bounds = runner.bounds.clone();
        let done = bounds
            .run(Box::pin(ddl::execute(statement, runner, catalog)))
            .await?;
        let tx = self.transaction();
        tx.statements += 1;
        if let Some(catalog) = done.catalog {
            tx.catalog = Some(catalog);
            tx.own_catalog = true;
        }
        if alone {
            self.transaction().statements = 0;
            self.commit_work().await?;
        }
        for notice in done.notices {
            self.shared.notice(notice);
        }
        Ok(done.tag)
    }

    /// The catalog for what happens before a statement runs (Parse, Describe).
    pub(crate) async fn catalog_now(&mut self) -> Result<(Runner, Arc<CatalogSnapshot>), SqlError> {
        if self.transaction.as_ref().is_some_and(|t| t.txn.is_some()) {
            let (txn, catalog) = self.begin_work().await?;
            return Ok((self.runner(txn), catalog));
        }
        let engine = Arc::clone(&self.shared.engine);
        let options = pontoon_kv::TxnOptions {
            read_only: true,
            ..pontoon_kv::TxnOptions::default()
        };
        let begun = async {
            let txn = engine.db.begin(options).await?;
            let catalog = engine.catalog.load(&txn).await?;
            Ok((txn, catalog))
        };
        let (txn, catalog) = self.bounds().run(begun).await?;
        let implicit = self.transaction.is_none();
        let runner = self.runner(txn);
        if implicit {
            self.transaction = None;
        }
        Ok((runner, catalog))
    }

    /// Types that a caller declared by number, unknown ones left open.
    pub(crate) fn declared(types: &[Oid]) -> Vec<Oid> {
        types
            .iter()
            .map(|t| if *t == Oid::UNKNOWN { Oid::INVALID } else { *t })
            .collect()
    }

    /// Forgets portals, and cursors that do not outlive the transaction.
    pub(crate) fn drop_portals(&mut self) {
        self.portals.clear();
        self.cursors.retain(|_, cursor| cursor.held);
    }
}

/// `25006`.
pub(crate) fn read_only(what: &str) -> SqlError {
    SqlError::new(
        SqlState::READ_ONLY_SQL_TRANSACTION,
        format!("cannot execute {what} in a read-only transaction"),
    )
}

//! The transaction of a session: implicit or a block, when the store's transaction begins, its
//! savepoints and its end.

use std::sync::Arc;

use pontoon_kv::{IsolationLevel, Txn, TxnOptions};

use super::eval::now_micros;
use super::session::Session;
use super::settings::{SavedSettings, isolation_name};
use crate::catalog::desc::CatalogSnapshot;
use crate::error::{Severity, SqlError, SqlState};
use crate::parse::statement::{Isolation, TransactionModes};

/// A named point to which a block can return.
pub(crate) struct SavepointEntry {
    name: String,
    point: pontoon_kv::Savepoint,
    catalog: Option<Arc<CatalogSnapshot>>,
    own_catalog: bool,
    settings: SavedSettings,
}

/// The transaction that is open.
pub(crate) struct Transaction {
    /// The store's, once a statement needed it.
    pub(crate) txn: Option<Txn>,
    /// Opened by BEGIN.
    pub(crate) block: bool,
    /// A statement of the block has failed.
    pub(crate) failed: bool,
    /// What it sees of the catalog.
    pub(crate) catalog: Option<Arc<CatalogSnapshot>>,
    /// It has changed the catalog.
    pub(crate) own_catalog: bool,
    pub(crate) isolation: IsolationLevel,
    pub(crate) read_only: bool,
    /// Microseconds since 1970 at its start.
    pub(crate) time: i64,
    /// Statements that have run in it.
    pub(crate) statements: u32,
    savepoints: Vec<SavepointEntry>,
    settings: SavedSettings,
}

fn level(isolation: Isolation) -> IsolationLevel {
    match isolation {
        Isolation::ReadUncommitted | Isolation::ReadCommitted => IsolationLevel::ReadCommitted,
        Isolation::RepeatableRead => IsolationLevel::RepeatableRead,
        Isolation::Serializable => IsolationLevel::Serializable,
    }
}

fn not_in_block(what: &str) -> SqlError {
    SqlError::new(
        SqlState::NO_ACTIVE_SQL_TRANSACTION,
        format!("{what} can only be used in transaction blocks"),
    )
}

fn before_any_query(what: &'static str) -> SqlError {
    SqlError::new(SqlState::ACTIVE_SQL_TRANSACTION, what)
}

fn warning(state: SqlState, message: &'static str) -> SqlError {
    SqlError::notice(Severity::Warning, state, message)
}

impl Session {
    /// The open transaction; an implicit one is opened when there is none.
    pub(crate) fn transaction(&mut self) -> &mut Transaction {
        let shared = &self.shared;
        self.transaction.get_or_insert_with(|| {
            let settings = shared.settings.lock();
            let values = settings.current();
            Transaction {
                txn: None,
                block: false,
                failed: false,
                catalog: None,
                own_catalog: false,
                isolation: values.isolation,
                read_only: values.read_only,
                time: now_micros(),
                statements: 0,
                savepoints: Vec::new(),
                settings: settings.save(),
            }
        })
    }

    /// Whether a block is open.
    pub(crate) fn in_block(&self) -> bool {
        self.transaction.as_ref().is_some_and(|t| t.block)
    }

    /// The store's transaction with the catalog that it sees; begins it, or a new statement of it.
    pub(crate) async fn begin_work(&mut self) -> Result<(Txn, Arc<CatalogSnapshot>), SqlError> {
        let bounds = self.bounds();
        bounds.run(self.begin_unbounded()).await
    }

    async fn begin_unbounded(&mut self) -> Result<(Txn, Arc<CatalogSnapshot>), SqlError> {
        let engine = Arc::clone(&self.shared.engine);
        let tx = self.transaction();
        let mut fresh = false;
        let txn = match &tx.txn {
            Some(txn) => txn.clone(),
            None => {
                fresh = true;
                let options = TxnOptions {
                    isolation: tx.isolation,
                    read_only: tx.read_only,
                    ..TxnOptions::default()
                };
                let txn = engine.db.begin(options).await?;
                tx.txn = Some(txn.clone());
                txn
            }
        };
        let moves = tx.isolation == IsolationLevel::ReadCommitted && !fresh;
        if moves {
            txn.begin_statement().await?;
        }
        let catalog = match &tx.catalog {
            Some(catalog) if !fresh && (tx.own_catalog || !moves) => Arc::clone(catalog),
            _ => {
                let catalog = engine.catalog.load(&txn).await?;
                tx.catalog = Some(Arc::clone(&catalog));
                catalog
            }
        };
        Ok((txn, catalog))
    }

    /// Ends the store's transaction so that the statement can run again in a new one. Only while
    /// the client has seen nothing of it.
    pub(crate) async fn restart_work(&mut self) {
        if let Some(tx) = &mut self.transaction {
            tx.catalog = None;
            tx.own_catalog = false;
            if let Some(txn) = tx.txn.take() {
                txn.rollback().await;
            }
        }
    }

    /// Commits and closes the open transaction.
    pub(crate) async fn commit_work(&mut self) -> Result<(), SqlError> {
        let Some(tx) = self.transaction.take() else {
            return Ok(());
        };
        let committed = match &tx.txn {
            Some(txn) => self.bounds().see_through(txn).await,
            None => Ok(()),
        };
        match committed {
            Ok(()) => {
                self.shared.settings.lock().end_transaction();
                if tx.own_catalog {
                    self.shared.engine.wake_removal();
                }
                Ok(())
            }
            Err(error) => {
                self.shared.settings.lock().restore(&tx.settings);
                if let Some(txn) = tx.txn {
                    txn.rollback().await;
                }
                Err(error)
            }
        }
    }

    /// Rolls the open transaction back and closes it.
    pub(crate) async fn rollback_work(&mut self) {
        if let Some(tx) = self.transaction.take() {
            self.shared.settings.lock().restore(&tx.settings);
            if let Some(txn) = tx.txn {
                txn.rollback().await;
            }
        }
    }

    /// An error was met: an implicit transaction ends, a block is marked as failed.
    pub(crate) fn abort(&mut self) {
        let Some(tx) = &mut self.transaction else {
            return;
        };
        if tx.block {
            tx.failed = true;
            if !tx.savepoints.is_empty() {
                return;
            }
        } else {
            self.shared.settings.lock().restore(&tx.settings);
        }
        // Locks are given back now, not when the client says ROLLBACK.
        if let Some(txn) = tx.txn.take() {
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => {
                    runtime.spawn(async move { txn.rollback().await });
                }
                Err(_) => drop(txn),
            }
        }
        if !tx.block {
            self.transaction = None;
        }
    }

    fn apply_modes(&mut self, modes: &TransactionModes) -> Result<(), SqlError> {
        let tx = self.transaction();
        let begun = tx.statements > 0 || !tx.savepoints.is_empty();
        if let Some(isolation) = modes.isolation {
            if begun && level(isolation) != tx.isolation {
                return Err(before_any_query(
                    "SET TRANSACTION ISOLATION LEVEL must be called before any query",
                ));
            }
            tx.isolation = level(isolation);
        }
        match modes.read_only {
            Some(true) => tx.read_only = true,
            Some(false) if tx.read_only && begun => {
                return Err(before_any_query(
                    "transaction read-write mode must be set before any query",
                ));
            }
            Some(false) => tx.read_only = false,
            None => {}
        }
        if tx.statements == 0 {
            // Begun under other modes, but nothing was read in it.
            tx.txn = None;
            tx.catalog = None;
        }
        Ok(())
    }

    /// BEGIN.
    pub(crate) fn begin_block(&mut self, modes: &TransactionModes) -> Result<(), SqlError> {
        if self.in_block() {
            self.shared.notice(warning(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "there is already a transaction in progress",
            ));
        }
        self.apply_modes(modes)?;
        self.transaction().block = true;
        Ok(())
    }

    /// COMMIT; gives the tag.
    pub(crate) async fn commit_block(&mut self, chain: bool) -> Result<String, SqlError> {
        let (modes, failed) = self.end_of_block("COMMIT", chain)?;
        if failed {
            self.rollback_work().await;
        } else {
            self.prepare_held_cursors().await?;
            let done = self.commit_work().await;
            self.drop_portals();
            done?;
        }
        self.drop_portals();
        self.chain(modes)?;
        Ok(if failed { "ROLLBACK" } else { "COMMIT" }.to_owned())
    }

    /// ROLLBACK; gives the tag.
    pub(crate) async fn rollback_block(&mut self, chain: bool) -> Result<String, SqlError> {
        let (modes, _) = self.end_of_block("ROLLBACK", chain)?;
        self.rollback_work().await;
        self.drop_portals();
        self.chain(modes)?;
        Ok("ROLLBACK".to_owned())
    }

    fn end_of_block(
        &mut self,
        what: &str,
        chain: bool,
    ) -> Result<(Option<TransactionModes>, bool), SqlError> {
        let Some(tx) = self.transaction.as_ref().filter(|t| t.block) else {
            if chain {
                return Err(not_in_block(&format!("{what} AND CHAIN")));
            }
            self.shared.notice(warning(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "there is no transaction in progress",
            ));
            return Ok((None, false));
        };
        let modes = TransactionModes {
            isolation: Some(match tx.isolation {
                IsolationLevel::ReadCommitted => Isolation::ReadCommitted,
                IsolationLevel::RepeatableRead => Isolation::RepeatableRead,
                IsolationLevel::Serializable => Isolation::Serializable,
            }),
            read_only: Some(tx.read_only),
            deferrable: None,
        };
        Ok((chain.then_some(modes), tx.failed))
    }

    fn chain(&mut self, modes: Option<TransactionModes>) -> Result<(), SqlError> {
        match modes {
            Some(modes) => self.begin_block(&modes),
            None => Ok(()),
        }
    }

    /// SET TRANSACTION and SET SESSION CHARACTERISTICS.
    pub(crate) fn set_transaction(
        &mut self,
        session: bool,
        modes: &TransactionModes,
    ) -> Result<(), SqlError> {
        if session {
            if let Some(isolation) = modes.isolation {
                let name = isolation_name(level(isolation));
                self.shared
                    .assign("default_transaction_isolation", Some(name), false)?;
            }
            if let Some(read_only) = modes.read_only {
                let value = if read_only { "on" } else { "off" };
                self.shared
                    .assign("default_transaction_read_only", Some(value), false)?;
            }
            return Ok(());
        }
        if !self.in_block() {
            self.shared.notice(warning(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "SET TRANSACTION can only be used in transaction blocks",
            ));
        }
        self.apply_modes(modes)
    }

    /// SAVEPOINT.
    pub(crate) async fn savepoint(&mut self, name: &str) -> Result<(), SqlError> {
        if !self.in_block() {
            return Err(not_in_block("SAVEPOINT"));
        }
        let (txn, _) = self.begin_work().await?;
        let settings = self.shared.settings.lock().save();
        let tx = self.transaction();
        tx.savepoints.push(SavepointEntry {
            name: name.to_owned(),
            point: txn.savepoint(),
            catalog: tx.catalog.clone(),
            own_catalog: tx.own_catalog,
            settings,
        });
        Ok(())
    }

    fn savepoint_position(&mut self, name: &str, what: &str) -> Result<usize, SqlError> {
        if !self.in_block() {
            return Err(not_in_block(what));
        }
        self.transaction()
            .savepoints
            .iter()
            .rposition(|s| s.name == name)
            .ok_or_else(|| {
                SqlError::new(
                    SqlState::INVALID_SAVEPOINT_SPECIFICATION,
                    format!("savepoint \"{name}\" does not exist"),
                )
            })
    }

    /// RELEASE SAVEPOINT.
    pub(crate) fn release(&mut self, name: &str) -> Result<(), SqlError> {
        let position = self.savepoint_position(name, "RELEASE SAVEPOINT")?;
        let tx = self.transaction();
        if let (Some(entry), Some(txn)) = (tx.savepoints.get(position), &tx.txn) {
            txn.release(entry.point)?;
        }
        tx.savepoints.truncate(position);
        Ok(())
    }

    /// ROLLBACK TO SAVEPOINT.
    pub(crate) fn rollback_to(&mut self, name: &str) -> Result<(), SqlError> {
        let position = self.savepoint_position(name, "ROLLBACK TO SAVEPOINT")?;
        let shared = Arc::clone(&self.shared);
        let tx = self.transaction();
        if let (Some(entry), Some(txn)) = (tx.savepoints.get(position), &tx.txn) {
            txn.rollback_to(entry.point)?;
            tx.catalog.clone_from(&entry.catalog);
            tx.own_catalog = entry.own_catalog;
            shared.settings.lock().restore(&entry.settings);
        }
        tx.savepoints.truncate(position + 1);
        tx.failed = false;
        Ok(())
    }

    /// Refuses statements that cannot run inside a block.
    pub(crate) fn outside_block(&self, what: &str) -> Result<(), SqlError> {
        if self.in_block() {
            return Err(SqlError::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                format!("{what} cannot run inside a transaction block"),
            ));
        }
        Ok(())
    }

    /// Refuses statements that make sense only inside a block.
    pub(crate) fn inside_block(&self, what: &str) -> Result<(), SqlError> {
        if self.in_block() {
            Ok(())
        } else {
            Err(not_in_block(what))
        }
    }
}

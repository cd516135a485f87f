//! Which statement does what.

use std::sync::Arc;

use super::api::{Outcome, RowsTag};
use super::known::VARIABLES;
use super::place;
use super::prepared::{Prepared, is_bindable};
use super::run::ReadyRows;
use super::session::{Session, Work, read_only};
use super::variables;
use crate::bind::tree::{BoundStatement, OutputColumn};
use crate::error::{Severity, SqlError, SqlState};
use crate::exec::{self, ExplainOptions};
use crate::parse::statement::{
    DiscardWhat, Execute, Explain, LockTable, Name, Prepare, Set, SetValue,
};
use crate::parse::{Parsed, Statement};
use crate::types::{Datum, Oid, PgType};

/// A column of a result that is not a table's.
pub(crate) fn text_column(name: &str) -> OutputColumn {
    OutputColumn {
        name: Arc::from(name),
        ty: PgType::new(Oid::TEXT),
        origin: None,
    }
}

pub(crate) fn done(tag: impl Into<String>) -> Result<Outcome, SqlError> {
    Ok(Outcome::Done(tag.into()))
}

/// What a schema change is called in messages; `None` for other statements.
fn ddl_name(statement: &Statement) -> Option<&'static str> {
    use crate::parse::statement::ObjectKind as K;
    Some(match statement {
        Statement::CreateTable(_) => "CREATE TABLE",
        Statement::CreateTableAs(c) if c.select_into => "SELECT INTO",
        Statement::CreateTableAs(_) => "CREATE TABLE AS",
        Statement::Drop(d) => match d.kind {
            K::Table => "DROP TABLE",
            K::View => "DROP VIEW",
            K::Index => "DROP INDEX",
            K::Sequence => "DROP SEQUENCE",
            K::Schema => "DROP SCHEMA",
        },
        Statement::AlterTable(_) => "ALTER TABLE",
        Statement::CreateIndex(_) => "CREATE INDEX",
        Statement::CreateSequence(_) => "CREATE SEQUENCE",
        Statement::AlterSequence(_) => "ALTER SEQUENCE",
        Statement::CreateView(_) => "CREATE VIEW",
        Statement::CreateSchema(_) => "CREATE SCHEMA",
        Statement::RenameSchema { .. } => "ALTER SCHEMA",
        Statement::Truncate(_) => "TRUNCATE TABLE",
        Statement::Comment(_) => "COMMENT",
        _ => return None,
    })
}

/// Whether a statement that is not bound takes no time worth speaking of, or says itself when its
/// work is long.
fn is_short(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Empty
            | Statement::Begin(_)
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint(_)
            | Statement::Release(_)
            | Statement::RollbackTo(_)
            | Statement::SetTransaction { .. }
            | Statement::SetConstraints
            | Statement::Set(_)
            | Statement::Reset(_)
            | Statement::Show(_)
            | Statement::Execute(_)
            | Statement::Deallocate(_)
            | Statement::Fetch(_)
            | Statement::Close(_)
    )
}

impl Session {
    /// Runs a statement of any kind.
    pub(crate) async fn dispatch(
        &mut self,
        statement: &Statement,
        work: Work<'_>,
        params: Arc<[Datum]>,
        alone: bool,
    ) -> Result<Outcome, SqlError> {
        self.check_not_failed(statement)?;
        if is_bindable(statement) {
            return self.run_bound(&work, params, alone).await;
        }
        if !is_short(statement) {
            place::leave().await;
        }
        if let Some(name) = ddl_name(statement) {
            let is_read_only = match &self.transaction {
                Some(t) => t.read_only,
                None => self.shared.values().read_only,
            };
            if is_read_only {
                return Err(read_only(name));
            }
            return self.run_ddl(statement, alone).await;
        }
        match statement {
            Statement::Empty => Ok(Outcome::Empty),
            Statement::Begin(modes) => {
                self.begin_block(modes)?;
                done("BEGIN")
            }
            Statement::Commit { chain } => done(self.commit_block(*chain).await?),
            Statement::Rollback { chain } => done(self.rollback_block(*chain).await?),
            Statement::Savepoint(name) => {
                self.savepoint(name).await?;
                done("SAVEPOINT")
            }
            Statement::Release(name) => {
                self.release(name)?;
                done("RELEASE")
            }
            Statement::RollbackTo(name) => {
                self.rollback_to(name)?;
                done("ROLLBACK")
            }
            Statement::SetTransaction { session, modes } => {
                self.set_transaction(*session, modes)?;
                done("SET")
            }
            Statement::SetConstraints => done("SET CONSTRAINTS"),
            Statement::Set(set) => self.set(set),
            Statement::Reset(name) => self.reset(name.as_deref()),
            Statement::Show(name) => self.show(name),
            Statement::Prepare(prepare) => self.prepare_sql(prepare).await,
            Statement::Execute(execute) => self.execute_sql(execute, alone).await,
            Statement::Deallocate(name) => self.deallocate(name.as_deref()),
            Statement::Declare(declare) => self.declare(declare).await,
            Statement::Fetch(fetch) => self.fetch(fetch).await,
            Statement::Close(name) => self.close_cursor(name.as_deref()),
            Statement::Copy(copy) => self.copy(copy, alone).await,
            Statement::Explain(explain) => self.explain(explain).await,
            Statement::Vacuum(tables) => {
                self.outside_block("VACUUM")?;
                self.check_tables(tables).await?;
                done("VACUUM")
            }
            Statement::SplitAt(split) => self.split_at(split).await,
            Statement::Analyze(tables) => {
                self.check_tables(tables).await?;
                done("ANALYZE")
            }
            Statement::Discard(what) => self.discard(*what).await,
            Statement::Lock(lock) => self.lock_tables(lock).await,
            Statement::Unlisten(_) => done("UNLISTEN"),
            Statement::Checkpoint => done("CHECKPOINT"),
            Statement::Listen(_) => Err(SqlError::unsupported("LISTEN")),
            Statement::Notify(..) => Err(SqlError::unsupported("NOTIFY")),
            Statement::Unsupported(what) => Err(SqlError::unsupported(what)),
            _ => Err(SqlError::internal("a statement without a place to run")),
        }
    }

    /// The columns that a statement which is not the binder's will show.
    pub(crate) fn utility_columns(&self, statement: &Statement) -> Option<Arc<[OutputColumn]>> {
        match statement {
            Statement::Show(name) => Some(show_columns(name)),
            Statement::Explain(_) => Some(Arc::from([text_column("QUERY PLAN")])),
            Statement::Execute(e) => self.statements.get(&e.name).and_then(|p| p.output.clone()),
            Statement::Fetch(f) if !f.moves => {
                self.cursors.get(&f.cursor).map(|c| Arc::clone(&c.columns))
            }
            _ => None,
        }
    }

    fn set(&mut self, set: &Set) -> Result<Outcome, SqlError> {
        let name = set.name.as_str();
        if set.local && !self.in_block() {
            self.shared.notice(SqlError::notice(
                Severity::Warning,
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "SET LOCAL can only be used in transaction blocks",
            ));
        }
        let value = match &set.values {
            None => None,
            Some(values) => set_text(name, values)?,
        };
        match (name, value.as_deref()) {
            ("transaction_isolation" | "transaction_read_only", Some(value)) => {
                self.set_transaction(false, &transaction_mode(name, value)?)?;
            }
            (_, value) => {
                // A transaction that is opened here takes the change back if it fails.
                self.transaction();
                self.shared.assign(name, value, set.local)?;
            }
        }
        done("SET")
    }

    fn reset(&mut self, name: Option<&str>) -> Result<Outcome, SqlError> {
        self.transaction();
        match name {
            Some(name) => self.shared.assign(name, None, false)?,
            None => self.shared.settings.lock().reset_all(),
        }
        done("RESET")
    }

    fn show(&mut self, name: &str) -> Result<Outcome, SqlError> {
        let columns = show_columns(name);
        let rows = if name.eq_ignore_ascii_case("all") {
            let mut rows = Vec::with_capacity(VARIABLES.len());
            for variable in VARIABLES {
                rows.push(vec![
                    Datum::text(variable.name),
                    Datum::text(self.show_value(variable.name)?),
                    Datum::text(variable.description),
                ]);
            }
            rows
        } else {
            vec![vec![Datum::text(self.show_value(name)?)]]
        };
        Ok(Outcome::Rows {
            columns,
            source: Box::new(ReadyRows(Some(rows))),
            tag: RowsTag::Fixed("SHOW"),
        })
    }

    fn show_value(&mut self, name: &str) -> Result<String, SqlError> {
        let mode = match (&self.transaction, name.to_ascii_lowercase().as_str()) {
            (Some(t), "transaction_isolation") => {
                Some(super::settings::isolation_name(t.isolation).to_owned())
            }
            (Some(t), "transaction_read_only") => {
                Some(if t.read_only { "on" } else { "off" }.to_owned())
            }
            (None, "transaction_isolation") => {
                self.shared.values().show("default_transaction_isolation")
            }
            (None, "transaction_read_only") => {
                self.shared.values().show("default_transaction_read_only")
            }
            _ => None,
        };
        mode.or_else(|| self.shared.values().show(name))
            .ok_or_else(|| variables::unrecognized(name))
    }

    async fn prepare_sql(&mut self, prepare: &Prepare) -> Result<Outcome, SqlError> {
        if self.statements.contains_key(&prepare.name) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{}\" already exists", prepare.name),
            ));
        }
        let mut types = Vec::with_capacity(prepare.types.len());
        for ty in &prepare.types {
            types.push(crate::bind::resolve_type(ty)?.oid);
        }
        let parsed = Arc::new(Parsed {
            text: Arc::from(prepare.text.as_str()),
            statement: prepare.statement.clone(),
            offset: 0,
        });
        let prepared = self.make_prepared(parsed, &types).await?;
        self.statements
            .insert(prepare.name.clone(), Arc::new(prepared));
        done("PREPARE")
    }

    async fn execute_sql(&mut self, execute: &Execute, alone: bool) -> Result<Outcome, SqlError> {
        let prepared = self.statement_named(&execute.name)?;
        if prepared.params.len() != execute.args.len() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!(
                    "wrong number of parameters for prepared statement \"{}\"",
                    execute.name
                ),
            )
            .with_detail(format!(
                "Expected {} parameters but got {}.",
                prepared.params.len(),
                execute.args.len()
            )));
        }
        let params = self.arguments(&prepared, &execute.args).await?;
        let parsed = Arc::clone(&prepared.parsed);
        if let Statement::Execute(_) = &parsed.statement {
            return Err(SqlError::unsupported("EXECUTE of an EXECUTE"));
        }
        Box::pin(self.dispatch(&parsed.statement, Work::Prepared(prepared), params, alone)).await
    }

    /// Computes the arguments of EXECUTE.
    async fn arguments(
        &mut self,
        prepared: &Prepared,
        args: &[sqlparser::ast::Expr],
    ) -> Result<Arc<[Datum]>, SqlError> {
        if args.is_empty() {
            return Ok(Arc::from([]));
        }
        let (runner, catalog) = self.catalog_now().await?;
        let eval = runner.eval(&catalog);
        let cx = crate::bind::BindContext {
            catalog: &catalog,
            search_path: &runner.values.search_path,
            params: &[],
            eval: eval.as_ref(),
            virtual_table: super::engine::virtual_table,
        };
        let mut values = Vec::with_capacity(args.len());
        for (arg, oid) in args.iter().zip(&prepared.params) {
            let expr = crate::bind::Binder::new(&cx).standalone(
                arg,
                Some(PgType::new(*oid)),
                "EXECUTE parameters",
            )?;
            values.push(exec::interp::eval(
                &expr,
                &exec::interp::NoRow,
                eval.as_ref(),
                &[],
            )?);
        }
        Ok(values.into())
    }

    fn deallocate(&mut self, name: Option<&str>) -> Result<Outcome, SqlError> {
        match name {
            None => {
                self.statements.clear();
                done("DEALLOCATE ALL")
            }
            Some(name) => match self.statements.remove(name) {
                Some(_) => done("DEALLOCATE"),
                None => Err(no_statement(name)),
            },
        }
    }

    async fn explain(&mut self, explain: &Explain) -> Result<Outcome, SqlError> {
        let mut options = ExplainOptions::default();
        for (name, value) in &explain.options {
            let on = match value.as_deref() {
                None => true,
                Some(text) => variables::parse_bool(text).unwrap_or(true),
            };
            match name.as_str() {
                "analyze" => options.analyze = on,
                "dist" => options.dist = on,
                "verbose" => options.verbose = on,
                "costs" => options.no_costs = !on,
                "summary" | "timing" | "buffers" | "settings" | "wal" => {}
                "format" => match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
                    Some("text") => {}
                    _ => return Err(SqlError::unsupported("EXPLAIN in a format but text")),
                },
                other => {
                    return Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        format!("unrecognized EXPLAIN option \"{other}\""),
                    ));
                }
            }
        }
        let (inner, params, prepared);
        match &explain.statement {
            Statement::Execute(execute) => {
                prepared = self.statement_named(&execute.name)?;
                params = self.arguments(&prepared, &execute.args).await?;
                inner = Work::Prepared(Arc::clone(&prepared));
                if !is_bindable(&prepared.parsed.statement) {
                    return Err(SqlError::unsupported("EXPLAIN of this statement"));
                }
            }
            statement if is_bindable(statement) => {
                params = Arc::from([]);
                inner = Work::Fresh(statement);
            }
            _ => return Err(SqlError::unsupported("EXPLAIN of this statement")),
        }
        let (txn, catalog) = self.begin_work().await?;
        let runner = self.runner(txn);
        let bounds = runner.bounds.clone();
        let bound = match &inner {
            Work::Fresh(statement) => Arc::new(runner.bind(&catalog, statement, &[])?.0),
            Work::Prepared(prepared) => prepared.bound(&runner, &catalog)?,
        };
        if options.analyze && !matches!(bound.as_ref(), BoundStatement::Query(_)) {
            self.shared.engine.catalog.hold(&runner.txn);
        }
        let context = runner.context(&catalog, params);
        let lines = bounds
            .run(Box::pin(exec::explain(&bound, context, options)))
            .await?;
        self.transaction().statements += 1;
        let rows = lines.into_iter().map(|l| vec![Datum::text(l)]).collect();
        Ok(Outcome::Rows {
            columns: Arc::from([text_column("QUERY PLAN")]),
            source: Box::new(ReadyRows(Some(rows))),
            tag: RowsTag::Fixed("EXPLAIN"),
        })
    }

    async fn check_tables(&mut self, tables: &[Name]) -> Result<(), SqlError> {
        if tables.is_empty() {
            return Ok(());
        }
        let (runner, catalog) = self.catalog_now().await?;
        for name in tables {
            crate::ddl::names::table(&catalog, &runner.values.search_path, name).map_err(
                |mut e| {
                    e.0.position = None;
                    e
                },
            )?;
        }
        Ok(())
    }

    async fn lock_tables(&mut self, lock: &LockTable) -> Result<Outcome, SqlError> {
        self.inside_block("LOCK TABLE")?;
        self.check_tables(&lock.tables).await?;
        match lock.mode.to_ascii_lowercase().as_str() {
            // These exclude nothing but schema changes, which the commit finds by itself.
            "access share" | "row share" | "row exclusive" => done("LOCK TABLE"),
            mode => Err(SqlError::unsupported(format!(
                "LOCK TABLE in {} MODE",
                mode.to_ascii_uppercase()
            ))
            .with_hint("Transactions are serializable without table locks.")),
        }
    }

    async fn discard(&mut self, what: DiscardWhat) -> Result<Outcome, SqlError> {
        match what {
            DiscardWhat::All => {
                self.outside_block("DISCARD ALL")?;
                self.rollback_work().await;
                self.portals.clear();
                self.cursors.clear();
                self.statements.clear();
                self.shared.settings.lock().reset_all();
                self.shared.forget_sequences();
                done("DISCARD ALL")
            }
            DiscardWhat::Plans => done("DISCARD PLANS"),
            DiscardWhat::Sequences => {
                self.shared.forget_sequences();
                done("DISCARD SEQUENCES")
            }
            DiscardWhat::Temp => done("DISCARD TEMP"),
        }
    }

    /// The prepared statement of that name, `26000` if there is none.
    pub(crate) fn statement_named(&self, name: &str) -> Result<Arc<Prepared>, SqlError> {
        self.statements
            .get(name)
            .map(Arc::clone)
            .ok_or_else(|| no_statement(name))
    }
}

fn no_statement(name: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_SQL_STATEMENT_NAME,
        if name.is_empty() {
            "unnamed prepared statement does not exist".to_owned()
        } else {
            format!("prepared statement \"{name}\" does not exist")
        },
    )
}

fn show_columns(name: &str) -> Arc<[OutputColumn]> {
    if name.eq_ignore_ascii_case("all") {
        return Arc::from([
            text_column("name"),
            text_column("setting"),
            text_column("description"),
        ]);
    }
    let name = variables::find(name).map_or(name, |v| v.name);
    Arc::from([text_column(name)])
}

/// The values of SET as one text; `None` resets.
fn set_text(name: &str, values: &[SetValue]) -> Result<Option<String>, SqlError> {
    let list = matches!(name, "search_path" | "datestyle" | "temp_tablespaces");
    match values {
        [SetValue::Word(word)] if word == "default" => Ok(None),
        [SetValue::Word(word)] if name == "timezone" && word == "local" => Ok(None),
        [SetValue::Interval(text)] => interval_zone(text).map(Some),
        [one] if name == "datestyle" => Ok(Some(one.text().to_owned())),
        many if name == "search_path" => {
            let names: Vec<String> = many
                .iter()
                .map(|v| variables::quote_name(v.text()))
                .collect();
            Ok(Some(names.join(", ")))
        }
        [one] => Ok(Some(one.text().to_owned())),
        many if list => Ok(Some(
            many.iter()
                .map(SetValue::text)
                .collect::<Vec<_>>()
                .join(", "),
        )),
        _ => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("SET {name} takes only one argument"),
        )),
    }
}

/// `INTERVAL '-08:00' HOUR TO MINUTE` as a zone: counted east.
fn interval_zone(text: &str) -> Result<String, SqlError> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = digits.split(':').map(str::parse::<i32>);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(hours)), minutes, None) if hours <= 168 => {
            let minutes = match minutes {
                None => 0,
                Some(Ok(m)) if m < 60 => m,
                _ => {
                    return Err(SqlError::unsupported(format!(
                        "time zone interval \"{text}\""
                    )));
                }
            };
            Ok(super::zone::spell(&crate::types::datetime::Zone::Fixed(
                sign * (hours * 3600 + minutes * 60),
            )))
        }
        _ => Err(SqlError::unsupported(format!(
            "time zone interval \"{text}\""
        ))),
    }
}

fn transaction_mode(
    name: &str,
    value: &str,
) -> Result<crate::parse::statement::TransactionModes, SqlError> {
    use crate::parse::statement::{Isolation, TransactionModes};
    let Some(variable) = variables::find(name) else {
        return Err(variables::unrecognized(name));
    };
    let value = variables::check(variable, value)?;
    let mut modes = TransactionModes::default();
    if name == "transaction_read_only" {
        modes.read_only = Some(value == "on");
    } else {
        modes.isolation = Some(match value.as_str() {
            "read uncommitted" => Isolation::ReadUncommitted,
            "read committed" => Isolation::ReadCommitted,
            "repeatable read" => Isolation::RepeatableRead,
            _ => Isolation::Serializable,
        });
    }
    Ok(modes)
}

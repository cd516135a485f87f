//! The operators that make or pass rows, and the running of subqueries.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use pontoon_kv::{ScanOptions, Span};

use crate::bind::tree::{ColId, Expr, Subquery, SubqueryKind};
use crate::error::{SqlError, SqlState};
use crate::exec::context::ExecContext;
use crate::exec::interp::{NoRow, SubqueryRows, eval};
use crate::exec::reader::RowReader;
use crate::exec::remote::Inlet;
use crate::plan::access::{Keys, resolve};
use crate::plan::node::{Access, Op, Plan, TableScan};
use crate::plan::{build, free};
use crate::session::place;
use crate::table::key;
use crate::types::registry::{Comparison, Function, FunctionBody, SetBody};
use crate::types::{Datum, Oid, sort_key};

use super::Values;
use super::computed::Cluster;
use super::env::{Env, Slots};

/// Results remembered for one subquery before they are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// The rows of each CTE that is being used.
type Ctes = HashMap<u32, Arc<Vec<Values>>>;

/// A subquery made ready to run.
struct SubPlan {
    plan: Plan,
    /// Where the columns that count lie in the plan's rows.
    order: Vec<usize>,
    /// Columns of enclosing rows that it uses.
    free: Vec<ColId>,
    /// It reads a CTE that changes between its runs, or is volatile where that can be seen.
    remember: bool,
    results: Mutex<HashMap<Vec<u8>, Arc<SubqueryRows>>>,
}

/// One execution of one statement, or of a part of one.
pub struct Executor {
    /// What the statement runs with.
    pub cx: ExecContext,
    /// What a part is given besides what it reads.
    pub inlets: Vec<Inlet>,
    subplans: Mutex<HashMap<usize, Arc<SubPlan>>>,
    ctes: Mutex<Ctes>,
    held: AtomicUsize,
    pub(super) cluster: Cluster,
}

impl Executor {
    /// An executor for one statement.
    pub fn new(cx: ExecContext) -> Arc<Self> {
        Self::for_part(cx, Vec::new())
    }

    /// An executor for a part that is given something.
    pub fn for_part(cx: ExecContext, inlets: Vec<Inlet>) -> Arc<Self> {
        Arc::new(Self {
            cx,
            inlets,
            subplans: Mutex::default(),
            ctes: Mutex::default(),
            held: AtomicUsize::new(0),
            cluster: Cluster::default(),
        })
    }

    /// Counts rows that are held; fails when the statement holds too much.
    pub fn hold(&self, rows: usize, width: usize) -> Result<(), SqlError> {
        let bytes = rows.saturating_mul(24 + width * 24);
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held > self.cx.runtime.memory_max() {
            return Err(
                SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory").with_detail(format!(
                    "The statement's rows exceed {} bytes.",
                    self.cx.runtime.memory_max()
                )),
            );
        }
        Ok(())
    }

    fn let_go(&self, rows: usize, width: usize) {
        let bytes = rows.saturating_mul(24 + width * 24);
        let _ = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |h| {
                Some(h.saturating_sub(bytes))
            });
    }

    /// Evaluates an expression whose subqueries have been run.
    pub(super) fn eval(&self, expr: &Expr, env: &Env<'_>) -> Result<Datum, SqlError> {
        eval(expr, env, self.cx.eval.as_ref(), &self.cx.params)
    }

    /// Whether all conditions are true.
    pub(super) fn all_true(&self, conditions: &[Expr], env: &Env<'_>) -> Result<bool, SqlError> {
        for condition in conditions {
            if !matches!(self.eval(condition, env)?, Datum::Bool(true)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs a plan within the enclosing rows `outer`. At most `wanted` rows are needed.
    pub fn run<'a>(
        &'a self,
        plan: &'a Plan,
        outer: Option<&'a Env<'a>>,
        wanted: Option<u64>,
    ) -> BoxFuture<'a, Result<Vec<Values>, SqlError>> {
        async move {
            self.pause().await?;
            let rows = self.run_op(plan, outer, wanted).await?;
            self.hold(rows.len(), plan.columns.len())?;
            // What the operator's inputs held is gone by now; count only results that are alive.
            self.let_go(rows.len(), plan.columns.len());
            Ok(rows)
        }
        .boxed()
    }

    /// Ends what was cancelled, and gives way to others after long work.
    pub(super) async fn pause(&self) -> Result<(), SqlError> {
        self.cx.eval.check_cancelled()?;
        place::pause_when_long().await;
        Ok(())
    }

    async fn run_op<'a>(
        &'a self,
        plan: &'a Plan,
        outer: Option<&'a Env<'a>>,
        wanted: Option<u64>,
    ) -> Result<Vec<Values>, SqlError> {
        match &plan.op {
            Op::Unit => Ok(vec![Vec::new()]),
            Op::Empty => Ok(Vec::new()),
            Op::Scan(scan) => self.scan(scan, plan, outer, wanted).await,
            Op::Virtual { table, positions } => self.computed_table(table, positions).await,
            Op::Values(rows) => {
                let slots = Slots::default();
                let mut out = Vec::with_capacity(rows.len());
                for exprs in rows {
                    out.push(self.computed(exprs, &slots, &[], outer).await?);
                }
                Ok(out)
            }
            Op::Function {
                function,
                args,
                ordinality,
            } => {
                let args = self.computed(args, &Slots::default(), &[], outer).await?;
                let mut rows = self.call_set(function, &args).await?;
                if *ordinality {
                    for (i, row) in rows.iter_mut().enumerate() {
                        row.push(Datum::Int8(i64::try_from(i).unwrap_or(i64::MAX - 1) + 1));
                    }
                }
                Ok(rows)
            }
            Op::Project { input, exprs } => {
                let rows = self.run(input, outer, wanted).await?;
                let slots = Slots::new(&input.columns);
                let simple: Option<Vec<usize>> = exprs
                    .iter()
                    .map(|e| match e {
                        Expr::Column(id, _) => slots.get(*id),
                        _ => None,
                    })
                    .collect();
                if let Some(order) = simple {
                    return Ok(rows
                        .into_iter()
                        .map(|row| {
                            order
                                .iter()
                                .map(|i| row.get(*i).cloned().unwrap_or_default())
                                .collect()
                        })
                        .collect());
                }
                let needed = Subqueries::of(exprs);
                let mut out = Vec::with_capacity(rows.len());
                for row in &rows {
                    let env = Env::new(&slots, row, outer);
                    let results = needed.run(self, &env).await?;
                    let env = env.with(&results);
                    out.push(
                        exprs
                            .iter()
                            .map(|e| self.eval(e, &env))
                            .collect::<Result<Values, _>>()?,
                    );
                }
                Ok(out)
            }
            Op::ProjectSet { input, sets } => self.project_set(input, sets, outer).await,
            Op::Filter { input, conditions } => {
                let mut rows = self.run(input, outer, None).await?;
                let slots = Slots::new(&input.columns);
                let needed = Subqueries::of(conditions);
                if needed.0.is_empty() {
                    let mut failed = None;
                    rows.retain(|row| {
                        failed.is_none()
                            && match self.all_true(conditions, &Env::new(&slots, row, outer)) {
                                Ok(keep) => keep,
                                Err(e) => {
                                    failed = Some(e);
                                    false
                                }
                            }
                    });
                    return failed.map_or(Ok(rows), Err);
                }
                // Conditions without subqueries first: they are cheaper.
                let (heavy, light): (Vec<_>, Vec<_>) =
                    conditions.iter().partition(|c| c.has_subquery());
                let mut out = Vec::new();
                'rows: for row in rows {
                    let env = Env::new(&slots, &row, outer);
                    for condition in &light {
                        if !matches!(self.eval(condition, &env)?, Datum::Bool(true)) {
                            continue 'rows;
                        }
                    }
                    for condition in &heavy {
                        let results = Subqueries::of(std::iter::once(*condition))
                            .run(self, &env)
                            .await?;
                        let env = env.with(&results);
                        if !matches!(self.eval(condition, &env)?, Datum::Bool(true)) {
                            continue 'rows;
                        }
                    }
                    out.push(row);
                }
                Ok(out)
            }
            Op::Join { .. } => self.join(plan, outer).await,
            Op::Aggregate { .. } => self.aggregate(plan, outer).await,
            Op::Window { input, calls } => self.window(input, calls, outer).await,
            Op::Distinct { input, on } => self.distinct(input, on, outer).await,
            Op::Sort { input, keys } => self.sort(input, keys, outer).await,
            Op::Limit {
                input,
                limit,
                offset,
                with_ties,
            } => {
                self.limit(
                    input,
                    limit.as_ref(),
                    offset.as_ref(),
                    with_ties.as_deref(),
                    outer,
                )
                .await
            }
            Op::SetOp {
                op,
                all,
                left,
                right,
            } => self.set_operation(*op, *all, left, right, outer).await,
            Op::With {
                cte,
                query,
                recursive,
                body,
                ..
            } => {
                let rows = match recursive {
                    None => self.run(query, outer, None).await?,
                    Some((step, all)) => {
                        let enough = self.enough(body, *cte, outer).await?;
                        self.recursive(*cte, query, step, *all, outer, enough)
                            .await?
                    }
                };
                self.set_cte(*cte, rows);
                self.run(body, outer, wanted).await
            }
            Op::CteRef { cte, positions } => {
                let rows = self.ctes.lock().get(cte).cloned();
                let rows = rows.ok_or_else(|| SqlError::internal("a CTE was not computed"))?;
                Ok(rows
                    .iter()
                    .map(|row| {
                        positions
                            .iter()
                            .map(|p| row.get(*p).cloned().unwrap_or_default())
                            .collect()
                    })
                    .collect())
            }
            Op::Inlet(_) => Err(SqlError::internal(
                "what a part is given is not read by rows",
            )),
        }
    }

    /// Makes the rows of a CTE known to its uses.
    pub fn set_cte(&self, cte: u32, rows: Vec<Values>) {
        self.ctes.lock().insert(cte, Arc::new(rows));
    }

    /// Forgets results of subqueries: a CTE that they may read has changed.
    pub(super) fn forget(&self) {
        self.subplans
            .lock()
            .values()
            .for_each(|s| s.results.lock().clear());
    }

    /// The values of expressions on one row.
    pub(super) async fn computed(
        &self,
        exprs: &[Expr],
        slots: &Slots,
        row: &[Datum],
        outer: Option<&Env<'_>>,
    ) -> Result<Values, SqlError> {
        let env = Env::new(slots, row, outer);
        let results = Subqueries::of(exprs).run(self, &env).await?;
        let env = env.with(&results);
        exprs.iter().map(|e| self.eval(e, &env)).collect()
    }

    pub(super) async fn call_set(
        &self,
        function: &Function,
        args: &[Datum],
    ) -> Result<Vec<Values>, SqlError> {
        match &function.body {
            FunctionBody::Set { .. } if function.strict && args.iter().any(Datum::is_null) => {
                Ok(Vec::new())
            }
            FunctionBody::Set { body, .. } => match body {
                SetBody::Computed(rows) => rows(self.cx.eval.as_ref(), args),
                SetBody::Cluster(call) => self.ask_cluster(*call, args).await,
            },
            // A scalar function in FROM gives one row.
            _ => Ok(vec![vec![crate::exec::interp::call(
                function,
                args,
                self.cx.eval.as_ref(),
            )?]]),
        }
    }

    async fn project_set(
        &self,
        input: &Plan,
        sets: &[(&'static Function, Vec<Expr>)],
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<Values>, SqlError> {
        let slots = Slots::new(&input.columns);
        let mut out = Vec::new();
        for row in self.run(input, outer, None).await? {
            let mut parts = Vec::with_capacity(sets.len());
            for (function, args) in sets {
                let args = self.computed(args, &slots, &row, outer).await?;
                parts.push(self.call_set(function, &args).await?);
            }
            let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
            self.hold(longest, row.len() + sets.len())?;
            for i in 0..longest {
                let mut new = row.clone();
                for part in &mut parts {
                    let value = part.get_mut(i).map(std::mem::take).unwrap_or_default();
                    new.push(match value.len() {
                        0 => Datum::Null,
                        1 => value.into_iter().next().unwrap_or_default(),
                        _ => Datum::Record(
                            value
                                .into_iter()
                                .map(|v| (Oid::UNKNOWN, v))
                                .collect::<Vec<_>>()
                                .into(),
                        ),
                    });
                }
                out.push(new);
            }
        }
        Ok(out)
    }

    /// The keys that a scan reads.
    pub fn keys_of(&self, scan: &TableScan, env: Option<&Env<'_>>) -> Result<Keys, SqlError> {
        keys_of(&self.cx, scan, env)
    }

    async fn scan(
        &self,
        scan: &TableScan,
        plan: &Plan,
        outer: Option<&Env<'_>>,
        wanted: Option<u64>,
    ) -> Result<Vec<Values>, SqlError> {
        let layout = self.cx.layout(&scan.table)?;
        let keys = self.keys_of(scan, outer)?;
        let exact = scan.filter.is_empty();
        let through_index = scan.through_index();
        let most = usize::try_from(wanted.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let options = ScanOptions {
            reverse: scan.reverse,
            limit: wanted.filter(|_| exact),
            batch_rows: most
                .saturating_mul(2)
                .clamp(16, ScanOptions::default().batch_rows),
        };
        let wanted = most;
        let mut reader = RowReader::new(
            self.cx.txn.clone(),
            scan.table.storage,
            keys,
            through_index,
            options,
        );
        let slots = Slots::new(&plan.columns);
        let mut out = Vec::new();
        let mut read = 0;
        while let Some(block) = reader.next().await? {
            self.pause().await?;
            read += block.len();
            let before = out.len();
            for i in 0..block.len() {
                let view = layout.view(block.value(i))?;
                let row = scan
                    .positions
                    .iter()
                    .map(|p| layout.datum(&view, *p))
                    .collect::<Result<Values, _>>()?;
                if exact || self.all_true(&scan.filter, &Env::new(&slots, &row, outer))? {
                    out.push(row);
                    if out.len() >= wanted {
                        return Ok(out);
                    }
                }
            }
            self.hold(out.len() - before, plan.columns.len())?;
        }
        if matches!(scan.access, Access::Full) && (wanted == usize::MAX || !exact) {
            self.cx.runtime.set_rows_of(scan.table.storage, read);
        }
        self.let_go(out.len(), plan.columns.len());
        Ok(out)
    }

    /// Runs a subquery for a row.
    pub async fn subquery(
        &self,
        query: &Subquery,
        env: &Env<'_>,
    ) -> Result<Arc<SubqueryRows>, SqlError> {
        let address = std::ptr::from_ref(query) as usize;
        let known = self.subplans.lock().get(&address).cloned();
        let subplan = match known {
            Some(known) => known,
            None => {
                let made = Arc::new(SubPlan::new(query, &self.cx)?);
                self.subplans.lock().insert(address, Arc::clone(&made));
                made
            }
        };
        let mut remembered = Vec::new();
        for id in &subplan.free {
            let value = crate::exec::interp::Row::column(env, *id)
                .ok_or_else(|| SqlError::internal(format!("column {} is not in scope", id.0)))?;
            super::order::append_untyped(&value, &mut remembered);
        }
        if subplan.remember
            && let Some(found) = subplan.results.lock().get(&remembered)
        {
            return Ok(Arc::clone(found));
        }
        let wanted = match query.kind {
            SubqueryKind::Exists => Some(1),
            SubqueryKind::Scalar => Some(2),
            _ => None,
        };
        let rows = self.run(&subplan.plan, Some(env), wanted).await?;
        let rows: Vec<Values> = rows
            .into_iter()
            .map(|row| {
                subplan
                    .order
                    .iter()
                    .map(|i| row.get(*i).cloned().unwrap_or_default())
                    .collect()
            })
            .collect();
        let found = Arc::new(gathered(query, rows));
        if subplan.remember {
            let mut results = subplan.results.lock();
            if results.len() >= REMEMBERED_MAX {
                results.clear();
            }
            results.insert(remembered, Arc::clone(&found));
        }
        Ok(found)
    }
}

impl SubPlan {
    fn new(query: &Subquery, cx: &ExecContext) -> Result<Self, SqlError> {
        let sizes = |storage| cx.runtime.rows_of(storage);
        let plan = build::plan(&query.rel, &query.columns, &sizes);
        let slots = Slots::new(&plan.columns);
        let order = query
            .columns
            .iter()
            .map(|c| slots.get(c.id))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| SqlError::internal("a subquery lacks a column"))?;
        let free = free::of_subquery(query).into_iter().collect();
        Ok(Self {
            plan,
            order,
            free,
            remember: true,
            results: Mutex::default(),
        })
    }
}

fn gathered(query: &Subquery, rows: Vec<Values>) -> SubqueryRows {
    let SubqueryKind::Compare {
        left,
        comparison,
        all,
        ..
    } = &query.kind
    else {
        return SubqueryRows {
            rows,
            ..SubqueryRows::default()
        };
    };
    let by_key = matches!(
        (comparison, all),
        (Comparison::Eq, false) | (Comparison::Ne, true)
    ) && left
        .iter()
        .zip(&query.columns)
        .all(|(l, c)| l.ty().oid == c.ty.oid);
    if !by_key {
        return SubqueryRows {
            rows,
            ..SubqueryRows::default()
        };
    }
    let mut keys = std::collections::HashSet::with_capacity(rows.len());
    let mut has_null = false;
    for row in &rows {
        if row.iter().any(Datum::is_null) {
            has_null = true;
            continue;
        }
        let mut key = Vec::new();
        for (value, column) in row.iter().zip(&query.columns) {
            sort_key::append(value, column.ty.oid, &mut key);
        }
        keys.insert(key);
    }
    SubqueryRows {
        rows,
        keys: Some(keys),
        has_null,
    }
}

/// The subqueries of some expressions.
pub(super) struct Subqueries<'a>(Vec<&'a Subquery>);

impl<'a> Subqueries<'a> {
    /// Finds them.
    pub(super) fn of(exprs: impl IntoIterator<Item = &'a Expr>) -> Self {
        let mut found = Vec::new();
        exprs
            .into_iter()
            .for_each(|e| free::subqueries(e, &mut found));
        Self(found)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs them for a row.
    pub(super) async fn run(
        &self,
        executor: &Executor,
        env: &Env<'_>,
    ) -> Result<Vec<(usize, Arc<SubqueryRows>)>, SqlError> {
        let mut out = Vec::with_capacity(self.0.len());
        for query in &self.0 {
            let rows = executor.subquery(query, env).await?;
            out.push((std::ptr::from_ref::<Subquery>(query) as usize, rows));
        }
        Ok(out)
    }
}

/// The keys that a scan reads, with columns of enclosing rows from `env`.
pub fn keys_of(
    cx: &ExecContext,
    scan: &TableScan,
    env: Option<&Env<'_>>,
) -> Result<Keys, SqlError> {
    match &scan.access {
        Access::Full => {
            let span: Span = key::index_span(scan.table.storage, key::PRIMARY);
            Ok(Keys::Spans(vec![span]))
        }
        Access::Part(part) => Ok(Keys::Spans(part.spans.to_vec())),
        Access::Key(access) => match env {
            Some(env) => resolve(&scan.table, access, env, cx.eval.as_ref(), &cx.params),
            None => resolve(&scan.table, access, &NoRow, cx.eval.as_ref(), &cx.params),
        },
    }
}

//! Queries: which engine runs them, row locks, the stream that the client reads.

use std::collections::HashSet;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use pontoon_kv::{Key, LockWait};

use crate::bind::tree::{BoundQuery, Column, Expr, RowLock};
use crate::error::SqlError;
use crate::plan::node::{Access, Op, Plan};
use crate::plan::prune::children;
use crate::session::api::{Outcome, RowBatch, RowSource, RowsTag};
use crate::session::place;
use crate::table::key;
use crate::types::Datum;

use super::context::{ExecContext, Runtime};
use super::error::rerun;
use super::prepared::{Prepared, StatementSource};
use super::rows::{Executor, Slots};
use super::vector;

/// Rows of one batch to the client.
const BATCH_ROWS: usize = 1_024;

/// Rows that were computed before the client reads them.
pub struct Materialised {
    rows: std::vec::IntoIter<Vec<Datum>>,
}

impl Materialised {
    /// A source of these rows.
    pub fn new(rows: Vec<Vec<Datum>>) -> Self {
        Self {
            rows: rows.into_iter(),
        }
    }
}

impl RowSource for Materialised {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<RowBatch>, SqlError>> {
        let rows: Vec<_> = self.rows.by_ref().take(BATCH_ROWS).collect();
        let batch = (!rows.is_empty()).then_some(RowBatch::Rows(rows));
        async move { Ok(batch) }.boxed()
    }
}

/// A table of up to this many rows is read whole by the row engine.
const SMALL_TABLE: f64 = 500.0;

/// Whether DataFusion is worth its set-up: the plan reads whole tables that are not known to be
/// small.
pub fn is_large(plan: &Plan, runtime: &Runtime) -> bool {
    match &plan.op {
        Op::Scan(scan) => match &scan.access {
            Access::Full => runtime
                .rows_of(scan.table.storage)
                .is_none_or(|n| n > SMALL_TABLE),
            Access::Key(access) => !access.unique && plan.rows > SMALL_TABLE,
            Access::Part(_) => true,
        },
        Op::Inlet(_) => true,
        // The first rows of a scan: the row engine stops when it has them.
        Op::Limit {
            input,
            limit: Some(Expr::Const(n, _)),
            ..
        } if is_scan(input) && n.as_i64().is_some_and(|n| n <= SMALL_LIMIT) => false,
        Op::Limit {
            input,
            limit: Some(Expr::Param(..)),
            ..
        } if is_scan(input) => false,
        Op::Join {
            lateral: true,
            left,
            ..
        } => is_large(left, runtime),
        _ => children(plan).into_iter().any(|p| is_large(p, runtime)),
    }
}

/// A LIMIT up to this many rows over a plain scan is run by the row engine.
const SMALL_LIMIT: i64 = 1_000;

fn is_scan(plan: &Plan) -> bool {
    match &plan.op {
        // Of a part it is counted how much is read.
        Op::Scan(scan) => !matches!(scan.access, Access::Part(_)),
        Op::Project { input, .. } => is_scan(input),
        _ => false,
    }
}

/// Rows that the operators of a plan may touch together for the plan to count as short.
const LIGHT: f64 = 1_000.0;

/// A guess of the rows that the operators of a plan touch together.
fn work_of(plan: &Plan) -> f64 {
    let below: f64 = children(plan).into_iter().map(work_of).sum();
    let own = match &plan.op {
        // Nobody knows how many.
        Op::Virtual { .. } | Op::Function { .. } | Op::ProjectSet { .. } | Op::With { .. } => {
            f64::INFINITY
        }
        Op::Join {
            left, right, keys, ..
        } if keys.is_empty() => left.rows * right.rows,
        _ => plan.rows,
    };
    below + own
}

/// Runs a query.
pub async fn run(
    query: &BoundQuery,
    prepared: &Prepared,
    cx: ExecContext,
) -> Result<Outcome, SqlError> {
    let mut wanted = query.columns.clone();
    for lock in &query.locks {
        wanted.extend(lock.key.iter().cloned());
    }
    let plan = prepared.plan(
        &StatementSource {
            rel: &query.rel,
            wanted: wanted.clone(),
        },
        &cx.runtime,
    );
    let tag = RowsTag::Counted("SELECT");
    let columns = query.output.clone();
    if !query.locks.is_empty() {
        let rows = locked(query, &plan, &wanted, &cx).await?;
        return Ok(Outcome::Rows {
            columns,
            source: Box::new(Materialised::new(rows)),
            tag,
        });
    }
    if is_large(&plan, &cx.runtime) {
        let executor = Executor::new(cx.clone());
        let source = vector::stream(&executor, &plan, &wanted).await?;
        return Ok(Outcome::Rows {
            columns,
            source,
            tag,
        });
    }
    let rows = collect_by_rows(&plan, &wanted, &cx).await?;
    Ok(Outcome::Rows {
        columns,
        source: Box::new(Materialised::new(rows)),
        tag,
    })
}

/// All rows of a plan, with the wanted columns in their order.
pub async fn collect(
    plan: Arc<Plan>,
    wanted: &[Column],
    cx: &ExecContext,
) -> Result<Vec<Vec<Datum>>, SqlError> {
    if !is_large(&plan, &cx.runtime) {
        return collect_by_rows(&plan, wanted, cx).await;
    }
    let executor = Executor::new(cx.clone());
    let mut source = vector::stream(&executor, &plan, wanted).await?;
    let mut out = Vec::new();
    while let Some(batch) = source.next().await? {
        match batch {
            RowBatch::Rows(rows) => out.extend(rows),
            RowBatch::Columns { columns, rows } => {
                vector::rows_of(&columns, rows, wanted, &mut out)?;
            }
        }
        if out.len().saturating_mul(24 + wanted.len() * 24) > cx.runtime.memory_max() {
            return Err(SqlError::new(
                crate::SqlState::OUT_OF_MEMORY,
                "out of memory",
            ));
        }
    }
    Ok(out)
}

/// The same by the row engine.
pub async fn collect_by_rows(
    plan: &Plan,
    wanted: &[Column],
    cx: &ExecContext,
) -> Result<Vec<Vec<Datum>>, SqlError> {
    if work_of(plan) > LIGHT {
        place::leave().await;
    }
    let executor = Executor::new(cx.clone());
    let rows = executor.run(plan, None, None).await?;
    project(rows, &plan.columns, wanted)
}

/// Brings rows into the order of the wanted columns.
fn project(
    rows: Vec<Vec<Datum>>,
    columns: &[Column],
    wanted: &[Column],
) -> Result<Vec<Vec<Datum>>, SqlError> {
    if columns.iter().map(|c| c.id).eq(wanted.iter().map(|c| c.id)) {
        return Ok(rows);
    }
    let slots = Slots::new(columns);
    let order = order_of(&slots, wanted)?;
    Ok(rows
        .into_iter()
        .map(|row| {
            order
                .iter()
                .map(|i| row.get(*i).cloned().unwrap_or_default())
                .collect()
        })
        .collect())
}

/// Where the wanted columns lie.
pub fn order_of(slots: &Slots, wanted: &[Column]) -> Result<Vec<usize>, SqlError> {
    wanted
        .iter()
        .map(|c| slots.get(c.id))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| SqlError::internal("a plan lacks a column"))
}

/// FOR UPDATE and family: locks the rows that are given to the client.
async fn locked(
    query: &BoundQuery,
    plan: &Plan,
    wanted: &[Column],
    cx: &ExecContext,
) -> Result<Vec<Vec<Datum>>, SqlError> {
    let executor = Executor::new(cx.clone());
    let skips = query.locks.iter().any(|l| l.wait == LockWait::SkipLocked);
    // Rows that others hold do not count against LIMIT.
    let (input, limit, offset) = match &plan.op {
        Op::Limit {
            input,
            limit,
            offset,
            with_ties: None,
        } if skips => {
            let (limit, offset) = executor
                .bounds(limit.as_ref(), offset.as_ref(), None)
                .await?;
            (input.as_ref(), limit, offset)
        }
        _ => (plan, None, 0),
    };
    let rows = executor.run(input, None, None).await?;
    let mut rows = project(rows, &input.columns, wanted)?;
    let enough = limit.map_or(usize::MAX, |l| {
        usize::try_from(l.saturating_add(offset)).unwrap_or(usize::MAX)
    });
    let mut at = query.columns.len();
    if enough == usize::MAX {
        for lock in &query.locks {
            rows = lock_rows(rows, lock, at, cx).await?;
            at += lock.key.len();
        }
    } else {
        let mut kept = Vec::new();
        for row in rows {
            if kept.len() >= enough {
                break;
            }
            let (mut one, mut at) = (vec![row], query.columns.len());
            for lock in &query.locks {
                one = lock_rows(one, lock, at, cx).await?;
                at += lock.key.len();
            }
            kept.append(&mut one);
        }
        rows = kept.split_off(
            kept.len()
                .min(usize::try_from(offset).unwrap_or(usize::MAX)),
        );
    }
    for row in &mut rows {
        row.truncate(query.columns.len());
    }
    Ok(rows)
}

/// Locks the rows of one table of the query; gives those rows that were locked.
async fn lock_rows(
    rows: Vec<Vec<Datum>>,
    lock: &RowLock,
    at: usize,
    cx: &ExecContext,
) -> Result<Vec<Vec<Datum>>, SqlError> {
    let mut keys: Vec<Option<Key>> = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut bytes = key::prefix(lock.table.storage, key::PRIMARY);
        let values = row.get(at..at + lock.key.len()).unwrap_or_default();
        for (value, column) in values.iter().zip(&lock.key) {
            key::append_primary(value, column.ty.oid, &mut bytes);
        }
        // A row of the other side of an outer join has no key here.
        keys.push((!values.iter().any(Datum::is_null)).then(|| Key::from(bytes)));
    }
    let asked: Vec<Key> = keys.iter().flatten().cloned().collect();
    let before = cx.txn.read_timestamp();
    let wait = match lock.wait {
        LockWait::Wait(None) => super::write::lock_wait(cx.eval.as_ref()),
        wait => wait,
    };
    let got = cx.txn.lock(&asked, lock.strength, wait).await?;
    if cx.txn.read_timestamp() != before {
        return Err(rerun());
    }
    if got.len() == asked.len() {
        return Ok(rows);
    }
    let got: HashSet<Key> = got.into_iter().collect();
    Ok(rows
        .into_iter()
        .zip(keys)
        .filter(|(_, k)| k.as_ref().is_none_or(|k| got.contains(k)))
        .map(|(row, _)| row)
        .collect())
}

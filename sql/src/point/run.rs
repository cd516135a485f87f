//! Executes compiled statements.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use pontoon_kv::{Key, Value};

use crate::bind::tree::{Column, Expr, Returning};
use crate::error::{SqlError, SqlState};
use crate::exec::context::ExecContext;
use crate::exec::interp::{NoRow, eval, holds};
use crate::exec::rows::{Env, Slots};
use crate::exec::write::{Change, Returned, apply, check_row, insert_all, outcome};
use crate::plan::access::{Keys, resolve};
use crate::session::api::{Outcome, RowBatch, RowSource, RowsTag};
use crate::table::key;
use crate::types::Datum;

use super::{PointPlan, PointRead};

/// The few rows of a point read.
struct Few(Option<Vec<Vec<Datum>>>);

impl RowSource for Few {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<RowBatch>, SqlError>> {
        let rows = self.0.take().filter(|r| !r.is_empty()).map(RowBatch::Rows);
        std::future::ready(Ok(rows)).boxed()
    }
}

/// Runs a compiled statement; `None` if this execution must take the general path.
pub async fn run(plan: &PointPlan, cx: &ExecContext) -> Result<Option<Outcome>, SqlError> {
    match plan {
        PointPlan::Select {
            read,
            exprs,
            plain,
            output,
            limit,
        } => {
            let limit = match limit {
                None => usize::MAX,
                Some(limit) => match eval(limit, &NoRow, cx.eval.as_ref(), &cx.params)?.as_i64() {
                    None => usize::MAX,
                    Some(n) => usize::try_from(n).map_err(|_| {
                        SqlError::new(
                            SqlState::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE,
                            "LIMIT must not be negative",
                        )
                    })?,
                },
            };
            let mut out = Vec::new();
            read.rows(cx, |row, env| {
                if out.len() >= limit {
                    return Ok(());
                }
                out.push(match plain {
                    Some(order) => order
                        .iter()
                        .map(|i| row.get(*i).cloned().unwrap_or_default())
                        .collect(),
                    None => evaluated(exprs, env, cx)?,
                });
                Ok(())
            })
            .await?;
            Ok(Some(Outcome::Rows {
                columns: Arc::clone(output),
                source: Box::new(Few(Some(out))),
                tag: RowsTag::Counted("SELECT"),
            }))
        }
        PointPlan::Insert { rows, insert } => {
            let mut values = Vec::with_capacity(rows.len());
            for row in rows {
                values.push(
                    row.iter()
                        .map(|e| eval(e, &NoRow, cx.eval.as_ref(), &cx.params))
                        .collect::<Result<Vec<_>, _>>()?,
                );
            }
            let returned = insert_all(insert, values, cx).await?;
            outcome(returned, insert.returning.as_ref(), "INSERT 0").map(Some)
        }
        PointPlan::Update {
            read,
            set,
            returning,
            returning_row,
        } => update(read, set, returning.as_ref(), returning_row, cx)
            .await
            .map(Some),
        PointPlan::Delete { read, returning } => {
            let (mut changes, mut returned) = (Vec::new(), Returned::default());
            read.rows(cx, |row, env| {
                if let Some(returning) = returning {
                    returned.rows.push(evaluated(&returning.exprs, env, cx)?);
                }
                changes.push(Change {
                    old: Some(read.full(row)),
                    new: None,
                });
                Ok(())
            })
            .await?;
            apply(&read.table, &changes, cx).await?;
            returned.count = changes.len();
            outcome(returned, returning.as_ref(), "DELETE").map(Some)
        }
    }
}

async fn update(
    read: &PointRead,
    set: &[(usize, Expr)],
    returning: Option<&Returning>,
    returning_row: &[(usize, Column)],
    cx: &ExecContext,
) -> Result<Outcome, SqlError> {
    let checks = cx.runtime.checks(&read.table, cx)?;
    let (mut changes, mut decoded) = (Vec::new(), Vec::new());
    read.rows(cx, |row, env| {
        let old = read.full(row);
        let mut new = old.clone();
        for (position, expr) in set {
            if let Some(place) = new.get_mut(*position) {
                *place = eval(expr, env, cx.eval.as_ref(), &cx.params)?;
            }
        }
        check_row(&read.table, &checks, &new, cx)?;
        changes.push(Change {
            old: Some(old),
            new: Some(new),
        });
        if returning.is_some() {
            decoded.push(row.to_vec());
        }
        Ok(())
    })
    .await?;
    apply(&read.table, &changes, cx).await?;
    let mut returned = Returned {
        rows: Vec::new(),
        count: changes.len(),
    };
    if let Some(returning) = returning {
        let columns: Vec<Column> = returning_row.iter().map(|(_, c)| c.clone()).collect();
        let slots = Slots::new(&columns);
        for (change, row) in changes.iter().zip(&decoded) {
            let new = change.new.as_deref().unwrap_or_default();
            let values: Vec<Datum> = returning_row
                .iter()
                .map(|(p, _)| new.get(*p).cloned().unwrap_or_default())
                .collect();
            let outer = Env::new(&read.slots, row, None);
            let env = Env::new(&slots, &values, Some(&outer));
            returned.rows.push(evaluated(&returning.exprs, &env, cx)?);
        }
    }
    outcome(returned, returning, "UPDATE")
}

fn evaluated(exprs: &[Expr], env: &Env<'_>, cx: &ExecContext) -> Result<Vec<Datum>, SqlError> {
    exprs
        .iter()
        .map(|e| eval(e, env, cx.eval.as_ref(), &cx.params))
        .collect()
}

impl PointRead {
    /// A full row by position out of a decoded one.
    fn full(&self, row: &[Datum]) -> Vec<Datum> {
        let mut out = vec![Datum::Null; self.table.columns.len()];
        for (position, value) in self.positions.iter().zip(row) {
            if let Some(place) = out.get_mut(*position) {
                *place = value.clone();
            }
        }
        out
    }

    /// Reads the rows and calls `take` with each one that passes the filter.
    async fn rows(
        &self,
        cx: &ExecContext,
        mut take: impl FnMut(&[Datum], &Env<'_>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let keys = match resolve(
            &self.table,
            &self.access,
            &NoRow,
            cx.eval.as_ref(),
            &cx.params,
        )? {
            Keys::Points(keys) => keys,
            Keys::Spans(_) => return Err(SqlError::internal("a point read with spans")),
        };
        let mut values = get(cx, &keys).await?;
        if self.access.index.is_some() {
            let keys: Vec<Key> = values
                .iter()
                .map(|entry| key::row_key_of_entry(self.table.storage, entry))
                .collect();
            values = get(cx, &keys).await?;
        }
        let layout = cx.layout(&self.table)?;
        for value in &values {
            let view = layout.view(value)?;
            let mut row = Vec::with_capacity(self.positions.len());
            for position in &self.positions {
                row.push(layout.datum(&view, *position)?);
            }
            let env = Env::new(&self.slots, &row, None);
            let mut passes = true;
            for condition in &self.filter {
                passes = holds(condition, &env, cx.eval.as_ref(), &cx.params)?;
                if !passes {
                    break;
                }
            }
            if passes {
                take(&row, &env)?;
            }
        }
        Ok(())
    }
}

async fn get(cx: &ExecContext, keys: &[Key]) -> Result<Vec<Value>, SqlError> {
    match keys {
        [] => Ok(Vec::new()),
        [key] => Ok(cx.txn.get(key).await?.into_iter().collect()),
        keys => Ok(cx
            .txn
            .multi_get(keys)
            .await?
            .into_iter()
            .flatten()
            .collect()),
    }
}

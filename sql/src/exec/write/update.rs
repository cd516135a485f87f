//! UPDATE and DELETE.

use std::collections::HashSet;

use crate::bind::tree::{BoundDelete, BoundUpdate, Column, Expr};
use crate::catalog::desc::TableDesc;
use crate::error::SqlError;
use crate::exec::context::ExecContext;
use crate::exec::interp::eval;
use crate::exec::prepared::{Prepared, StatementSource};
use crate::exec::query;
use crate::exec::rows::{Env, Slots};
use crate::session::api::Outcome;
use crate::table::key;
use crate::types::Datum;

use super::change::{Change, apply};
use super::constraint::check_row;
use super::returning::{Returned, outcome};

/// A full row by position out of a row of the source.
fn row_of(
    table: &TableDesc,
    columns: &[(usize, Column)],
    slots: &Slots,
    row: &[Datum],
) -> Vec<Datum> {
    let mut out = vec![Datum::Null; table.columns.len()];
    for (position, column) in columns {
        let value = slots.get(column.id).and_then(|s| row.get(s));
        if let (Some(place), Some(value)) = (out.get_mut(*position), value) {
            *place = value.clone();
        }
    }
    out
}

/// Runs UPDATE.
pub async fn update(
    update: &BoundUpdate,
    prepared: &Prepared,
    cx: ExecContext,
) -> Result<Outcome, SqlError> {
    let table = &update.table;
    let wanted = update.source.output();
    let source = StatementSource {
        rel: &update.source,
        wanted: wanted.clone(),
    };
    let sources = query::collect(prepared.plan(&source, &cx.runtime), &wanted, &cx).await?;
    let slots = Slots::new(&wanted);
    let checks = cx.runtime.checks(table, &cx)?;
    let mut seen = HashSet::with_capacity(sources.len());
    let (mut changes, mut kept) = (Vec::with_capacity(sources.len()), Vec::new());
    for source in sources {
        let old = row_of(table, &update.old, &slots, &source);
        if !seen.insert(key::row_key(table, &old)?) {
            continue;
        }
        let mut new = old.clone();
        for (position, column) in &update.set {
            let value = slots.get(column.id).and_then(|s| source.get(s));
            if let (Some(place), Some(value)) = (new.get_mut(*position), value) {
                *place = value.clone();
            }
        }
        check_row(table, &checks, &new, &cx)?;
        changes.push(Change {
            old: Some(old),
            new: Some(new),
        });
        if update.returning.is_some() {
            kept.push(source);
        }
    }
    apply(table, &changes, &cx).await?;
    let mut returned = Returned {
        rows: Vec::new(),
        count: changes.len(),
    };
    if let Some(returning) = &update.returning {
        let columns: Vec<_> = update
            .returning_row
            .iter()
            .map(|(_, c)| c.clone())
            .collect();
        let new_slots = Slots::new(&columns);
        for (change, source) in changes.iter().zip(&kept) {
            let new = change.new.as_deref().unwrap_or_default();
            let row: Vec<Datum> = update
                .returning_row
                .iter()
                .map(|(p, _)| new.get(*p).cloned().unwrap_or_default())
                .collect();
            let outer = Env::new(&slots, source, None);
            let env = Env::new(&new_slots, &row, Some(&outer));
            returned.rows.push(evaluated(&returning.exprs, &env, &cx)?);
        }
    }
    outcome(returned, update.returning.as_ref(), "UPDATE")
}

/// Runs DELETE.
pub async fn delete(
    delete: &BoundDelete,
    prepared: &Prepared,
    cx: ExecContext,
) -> Result<Outcome, SqlError> {
    let table = &delete.table;
    let wanted = delete.source.output();
    let source = StatementSource {
        rel: &delete.source,
        wanted: wanted.clone(),
    };
    let sources = query::collect(prepared.plan(&source, &cx.runtime), &wanted, &cx).await?;
    let slots = Slots::new(&wanted);
    let mut seen = HashSet::with_capacity(sources.len());
    let (mut changes, mut returned) = (Vec::with_capacity(sources.len()), Returned::default());
    for source in sources {
        let old = row_of(table, &delete.old, &slots, &source);
        if !seen.insert(key::row_key(table, &old)?) {
            continue;
        }
        if let Some(returning) = &delete.returning {
            let env = Env::new(&slots, &source, None);
            returned.rows.push(evaluated(&returning.exprs, &env, &cx)?);
        }
        changes.push(Change {
            old: Some(old),
            new: None,
        });
    }
    apply(table, &changes, &cx).await?;
    returned.count = changes.len();
    outcome(returned, delete.returning.as_ref(), "DELETE")
}

fn evaluated(exprs: &[Expr], env: &Env<'_>, cx: &ExecContext) -> Result<Vec<Datum>, SqlError> {
    exprs
        .iter()
        .map(|e| eval(e, env, cx.eval.as_ref(), &cx.params))
        .collect()
}

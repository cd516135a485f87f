//! Rows and entries in bulk, for COPY and for changes of the schema.

use std::collections::HashSet;
use std::sync::Arc;

use pontoon_kv::ScanOptions;

use crate::catalog::desc::{IndexDesc, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::exec::context::ExecContext;
use crate::table::key;
use crate::types::Datum;

use super::change::{Change, apply, key_text};
use super::constraint::check_row;

/// Inserts complete rows: one value for each live column in the order of the descriptor, of the
/// column's type. Gives their number.
pub async fn insert_rows(
    table: &Arc<TableDesc>,
    rows: Vec<Vec<Datum>>,
    cx: &ExecContext,
) -> Result<u64, SqlError> {
    let checks = cx.runtime.checks(table, cx)?;
    let positions: Vec<usize> = table.live_columns().map(|(p, _)| p).collect();
    let mut changes = Vec::with_capacity(rows.len());
    for source in rows {
        let mut row = vec![Datum::Null; table.columns.len()];
        for (value, position) in source.into_iter().zip(&positions) {
            if let Some(place) = row.get_mut(*position) {
                *place = value;
            }
        }
        if let Some(place) = table.row_id().and_then(|p| row.get_mut(p)) {
            *place = Datum::Int8(cx.runtime.next_row_id());
        }
        check_row(table, &checks, &row, cx)?;
        changes.push(Change {
            old: None,
            new: Some(row),
        });
    }
    apply(table, &changes, cx).await?;
    Ok(changes.len() as u64)
}

/// Writes the entries of a new secondary index for all rows of a table. `table` describes the
/// rows as they are stored; the index need not be in it.
pub async fn backfill_index(
    table: &TableDesc,
    index: &IndexDesc,
    cx: &ExecContext,
) -> Result<(), SqlError> {
    let layout = cx.layout(table)?;
    let mut scan = cx.txn.scan(
        key::index_span(table.storage, key::PRIMARY),
        ScanOptions::default(),
    );
    let mut seen = HashSet::new();
    while let Some(batch) = scan.next_batch().await? {
        cx.eval.check_cancelled()?;
        for (row_key, value) in batch.iter() {
            let row = layout.datums(value)?;
            let (entry, value) = key::index_entry(table, index, &row, row_key)?;
            if key::is_exclusive(index, &row) && !seen.insert(entry.clone()) {
                let columns: Vec<_> = index.columns.iter().map(|c| c.column).collect();
                let text = key_text(table, &columns, &row, cx.eval.as_ref());
                return Err(SqlError::new(
                    SqlState::UNIQUE_VIOLATION,
                    format!("could not create unique index \"{}\"", index.name),
                )
                .with_detail(format!("{text} is duplicated."))
                .with_constraint(&table.schema_name, &table.name, &index.name));
            }
            cx.txn.put(entry, value)?;
        }
    }
    Ok(())
}

/// Removes all rows and index entries of a table's storage.
pub async fn delete_storage(table: &TableDesc, cx: &ExecContext) -> Result<(), SqlError> {
    let mut scan = cx
        .txn
        .scan(key::table_span(table.storage), ScanOptions::default());
    while let Some(batch) = scan.next_batch().await? {
        cx.eval.check_cancelled()?;
        for (k, _) in batch.iter() {
            cx.txn.delete(pontoon_kv::Key::copy_from_slice(k))?;
        }
    }
    Ok(())
}

//! Changes of rows, and their application to the transaction.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pontoon_kv::{Key, LockStrength, LockWait, Value};

use crate::catalog::desc::{IndexDesc, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::exec::context::ExecContext;
use crate::exec::error::rerun;
use crate::table::key;
use crate::types::registry::EvalContext;
use crate::types::{Datum, io};

/// A row before and after, by position in the descriptor. Neither is no change.
#[derive(Debug, Default)]
pub struct Change {
    /// The row as it is.
    pub old: Option<Vec<Datum>>,
    /// The row as it shall be.
    pub new: Option<Vec<Datum>>,
}

/// Locks keys for a write as the session's `lock_timeout` says.
pub async fn lock(cx: &ExecContext, keys: &[Key]) -> Result<(), SqlError> {
    if keys.is_empty() {
        return Ok(());
    }
    let before = cx.txn.read_timestamp();
    cx.txn
        .lock(keys, LockStrength::Update, lock_wait(cx.eval.as_ref()))
        .await?;
    if cx.txn.read_timestamp() == before {
        Ok(())
    } else {
        Err(rerun())
    }
}

/// How long a lock may be waited for.
pub fn lock_wait(eval: &dyn EvalContext) -> LockWait {
    LockWait::Wait(Some(eval.lock_timeout_ms()).filter(|ms| *ms > 0))
}

/// A key that a change adds.
struct Added {
    value: Value,
    /// The row of the changes list and the index (`None`: the primary storage) whose uniqueness
    /// it stands for.
    exclusive: Option<(usize, Option<Arc<IndexDesc>>)>,
}

/// Locks, checks uniqueness and buffers the changes.
pub async fn apply(
    table: &Arc<TableDesc>,
    changes: &[Change],
    cx: &ExecContext,
) -> Result<(), SqlError> {
    let layout = cx.layout(table)?;
    let secondary: Vec<&Arc<IndexDesc>> = table
        .indexes
        .iter()
        .filter(|i| !key::is_primary(i))
        .collect();
    let hidden = table.row_id().is_some_and(|p| table.storage_key == [p]);
    let mut locks: Vec<Key> = Vec::with_capacity(changes.len());
    let mut removed: HashMap<Key, Option<Value>> = HashMap::new();
    for change in changes {
        let Some(old) = &change.old else { continue };
        let row_key = key::row_key(table, old)?;
        for index in &secondary {
            let (entry, value) = key::index_entry(table, index, old, &row_key)?;
            removed.insert(entry, Some(value));
        }
        locks.push(row_key.clone());
        removed.insert(row_key, None);
    }
    let mut added: Vec<(Key, Added)> = Vec::with_capacity(changes.len() * (1 + secondary.len()));
    for (n, change) in changes.iter().enumerate() {
        let Some(new) = &change.new else { continue };
        let row_key = key::row_key(table, new)?;
        for index in &secondary {
            let (entry, value) = key::index_entry(table, index, new, &row_key)?;
            let exclusive = key::is_exclusive(index, new).then(|| (n, Some(Arc::clone(index))));
            added.push((entry, Added { value, exclusive }));
        }
        let value = Value::from(layout.encode(new)?);
        let exclusive = (!hidden).then_some((n, None));
        added.push((row_key, Added { value, exclusive }));
    }
    let check: Vec<Key> = added
        .iter()
        .filter(|(k, a)| a.exclusive.is_some() && !removed.contains_key(k))
        .map(|(k, _)| k.clone())
        .collect();
    locks.extend(check.iter().cloned());
    lock(cx, &locks).await?;
    let mut taken: HashSet<Key> = HashSet::new();
    if !check.is_empty() {
        let found = cx.txn.multi_get(&check).await?;
        taken.extend(
            check
                .into_iter()
                .zip(found)
                .filter(|(_, v)| v.is_some())
                .map(|(k, _)| k),
        );
    }
    for (k, a) in &added {
        if let Some((n, index)) = &a.exclusive
            && !taken.insert(k.clone())
        {
            let row = changes
                .get(*n)
                .and_then(|c| c.new.as_deref())
                .unwrap_or_default();
            return Err(duplicate(table, index.as_deref(), row, cx.eval.as_ref()));
        }
    }
    for (k, a) in added {
        match removed.remove(&k) {
            // The entry stays as it is.
            Some(Some(before)) if before == a.value => {}
            _ => cx.txn.put(k, a.value)?,
        }
    }
    for (k, _) in removed {
        cx.txn.delete(k)?;
    }
    let inserted = changes
        .iter()
        .filter(|c| c.old.is_none() && c.new.is_some())
        .count();
    if inserted > 0 {
        cx.runtime.add_rows_of(table.storage, inserted);
    }
    Ok(())
}

/// The values of some columns as the detail of an error shows them.
pub(super) fn key_text(
    table: &TableDesc,
    columns: &[usize],
    row: &[Datum],
    eval: &dyn EvalContext,
) -> String {
    let mut names = String::new();
    let mut values = String::new();
    for (i, position) in columns.iter().enumerate() {
        let Some(column) = table.columns.get(*position) else {
            continue;
        };
        if i > 0 {
            names.push_str(", ");
            values.push_str(", ");
        }
        names.push_str(&column.name);
        match row.get(*position) {
            None | Some(Datum::Null) => values.push_str("null"),
            Some(value) => {
                io::output(value, column.ty, eval, &mut values);
            }
        }
    }
    format!("Key ({names})=({values})")
}

fn duplicate(
    table: &TableDesc,
    index: Option<&IndexDesc>,
    row: &[Datum],
    eval: &dyn EvalContext,
) -> SqlError {
    let primary = table
        .indexes
        .iter()
        .find(|i| key::is_primary(i))
        .map(Arc::as_ref);
    let (name, columns) = match index.or(primary) {
        Some(index) => (
            index.name.as_str(),
            index.columns.iter().map(|c| c.column).collect::<Vec<_>>(),
        ),
        None => ("", table.storage_key.clone()),
    };
    SqlError::new(
        SqlState::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{name}\""),
    )
    .with_detail(format!(
        "{} already exists.",
        key_text(table, &columns, row, eval)
    ))
    .with_constraint(&table.schema_name, &table.name, name)
}

//! INSERT and ON CONFLICT.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pontoon_kv::{Key, Value};

use crate::bind::tree::{BoundInsert, ConflictUpdate, OnConflict};
use crate::catalog::desc::{IndexDesc, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::exec::context::ExecContext;
use crate::exec::interp::{eval, holds};
use crate::exec::prepared::{Prepared, StatementSource};
use crate::exec::query;
use crate::exec::rows::{Env, Slots};
use crate::session::api::Outcome;
use crate::table::key;
use crate::types::Datum;

use super::change::{Change, apply, lock};
use super::constraint::check_row;
use super::returning::{Returned, outcome};

/// Runs INSERT.
pub async fn insert(
    insert: &BoundInsert,
    prepared: &Prepared,
    cx: ExecContext,
) -> Result<Outcome, SqlError> {
    let wanted: Vec<_> = insert.columns.iter().map(|(_, c)| c.clone()).collect();
    let source = StatementSource {
        rel: &insert.source,
        wanted: wanted.clone(),
    };
    let plan = prepared.plan(&source, &cx.runtime);
    let sources = query::collect(plan, &wanted, &cx).await?;
    let returned = insert_all(insert, sources, &cx).await?;
    outcome(returned, insert.returning.as_ref(), "INSERT 0")
}

/// Inserts rows whose values are in the order of `insert.columns`.
pub async fn insert_all(
    insert: &BoundInsert,
    sources: Vec<Vec<Datum>>,
    cx: &ExecContext,
) -> Result<Returned, SqlError> {
    let table = &insert.table;
    let checks = cx.runtime.checks(table, cx)?;
    let mut rows = Vec::with_capacity(sources.len());
    for source in sources {
        let mut row = vec![Datum::Null; table.columns.len()];
        for (value, (position, _)) in source.into_iter().zip(&insert.columns) {
            if let Some(place) = row.get_mut(*position) {
                *place = value;
            }
        }
        if let Some(place) = table.row_id().and_then(|p| row.get_mut(p)) {
            *place = Datum::Int8(cx.runtime.next_row_id());
        }
        check_row(table, &checks, &row, cx)?;
        rows.push(row);
    }
    let changes = match &insert.on_conflict {
        None => rows
            .into_iter()
            .map(|new| Change {
                old: None,
                new: Some(new),
            })
            .collect(),
        Some(conflict) => {
            let changes = Arbiter::new(insert, conflict, &rows, cx)
                .await?
                .decide(rows)
                .await?;
            for change in changes.iter().filter(|c| c.old.is_some()) {
                if let Some(new) = &change.new {
                    check_row(table, &checks, new, cx)?;
                }
            }
            changes
        }
    };
    apply(table, &changes, cx).await?;
    let mut returned = Returned {
        rows: Vec::new(),
        count: changes.len(),
    };
    if let Some(returning) = &insert.returning {
        let columns: Vec<_> = insert.columns.iter().map(|(_, c)| c.clone()).collect();
        let slots = Slots::new(&columns);
        for change in &changes {
            let new = change.new.as_deref().unwrap_or_default();
            let row: Vec<Datum> = insert
                .columns
                .iter()
                .map(|(p, _)| new.get(*p).cloned().unwrap_or_default())
                .collect();
            let env = Env::new(&slots, &row, None);
            returned.rows.push(
                returning
                    .exprs
                    .iter()
                    .map(|e| eval(e, &env, cx.eval.as_ref(), &cx.params))
                    .collect::<Result<Vec<_>, _>>()?,
            );
        }
    }
    Ok(returned)
}

/// Finds the rows that proposed rows conflict with.
struct Arbiter<'a> {
    insert: &'a BoundInsert,
    conflict: &'a OnConflict,
    cx: &'a ExecContext,
    /// Arbiter indexes; `None` is the primary storage.
    indexes: Vec<Option<Arc<IndexDesc>>>,
    /// Values under the arbiters' keys.
    stored: HashMap<Key, Value>,
}

/// The key of a row in an arbiter; `None` if it conflicts with nothing.
fn arbiter_key(
    table: &TableDesc,
    index: Option<&IndexDesc>,
    row: &[Datum],
) -> Result<Option<Key>, SqlError> {
    match index {
        None => key::row_key(table, row).map(Some),
        Some(index) if key::is_exclusive(index, row) => {
            Ok(Some(Key::from(key::index_prefix(table, index, row)?)))
        }
        Some(_) => Ok(None),
    }
}

impl<'a> Arbiter<'a> {
    async fn new(
        insert: &'a BoundInsert,
        conflict: &'a OnConflict,
        rows: &[Vec<Datum>],
        cx: &'a ExecContext,
    ) -> Result<Self, SqlError> {
        let table = &insert.table;
        let given = if conflict.arbiters.is_empty() {
            table
                .indexes
                .iter()
                .filter(|i| i.is_unique())
                .cloned()
                .collect()
        } else {
            conflict.arbiters.clone()
        };
        let indexes: Vec<_> = given
            .into_iter()
            .map(|i| (!key::is_primary(&i)).then_some(i))
            .collect();
        let mut keys = Vec::with_capacity(rows.len() * indexes.len());
        for row in rows {
            for index in &indexes {
                keys.extend(arbiter_key(table, index.as_deref(), row)?);
            }
        }
        keys.sort_unstable();
        keys.dedup();
        lock(cx, &keys).await?;
        let found = cx.txn.multi_get(&keys).await?;
        let stored: HashMap<Key, Value> = keys
            .into_iter()
            .zip(found)
            .filter_map(|(k, v)| Some((k, v?)))
            .collect();
        Ok(Self {
            insert,
            conflict,
            cx,
            indexes,
            stored,
        })
    }

    async fn decide(self, rows: Vec<Vec<Datum>>) -> Result<Vec<Change>, SqlError> {
        let table = &self.insert.table;
        // Arbiter keys of rows that this statement inserts, and keys of rows that it updates.
        let mut proposed: HashSet<Key> = HashSet::new();
        let mut touched: HashSet<Key> = HashSet::new();
        let mut changes = Vec::with_capacity(rows.len());
        for row in rows {
            let mut keys = Vec::with_capacity(self.indexes.len());
            let mut existing: Option<Key> = None;
            let mut own = false;
            for index in &self.indexes {
                let Some(k) = arbiter_key(table, index.as_deref(), &row)? else {
                    continue;
                };
                own |= proposed.contains(&k);
                if let Some(value) = self.stored.get(&k) {
                    existing.get_or_insert_with(|| match index {
                        None => k.clone(),
                        Some(_) => key::row_key_of_entry(table.storage, value),
                    });
                }
                keys.push(k);
            }
            if !own && existing.is_none() {
                proposed.extend(keys);
                changes.push(Change {
                    old: None,
                    new: Some(row),
                });
                continue;
            }
            let Some(update) = &self.conflict.update else {
                continue;
            };
            let second = own || existing.as_ref().is_some_and(|k| touched.contains(k));
            if second {
                return Err(SqlError::new(
                    SqlState::CARDINALITY_VIOLATION,
                    "ON CONFLICT DO UPDATE command cannot affect row a second time",
                )
                .with_hint(
                    "Ensure that no rows proposed for insertion within the same command have \
                     duplicate constrained values.",
                ));
            }
            let Some(row_key) = existing else { continue };
            let stored = match self.stored.get(&row_key) {
                Some(value) => Some(value.clone()),
                None => {
                    lock(self.cx, std::slice::from_ref(&row_key)).await?;
                    self.cx.txn.get(&row_key).await?
                }
            };
            let Some(stored) = stored else {
                return Err(SqlError::internal("an index entry has no row"));
            };
            let old = self.cx.layout(table)?.datums(&stored)?;
            touched.insert(row_key);
            if let Some(new) = self.updated(update, &old, &row)? {
                changes.push(Change {
                    old: Some(old),
                    new: Some(new),
                });
            }
        }
        Ok(changes)
    }

    /// The existing row after DO UPDATE; `None` if WHERE is not true.
    fn updated(
        &self,
        update: &ConflictUpdate,
        old: &[Datum],
        proposed: &[Datum],
    ) -> Result<Option<Vec<Datum>>, SqlError> {
        let of = |columns: &[(usize, crate::bind::tree::Column)], row: &[Datum]| {
            let slots = Slots::new(&columns.iter().map(|(_, c)| c.clone()).collect::<Vec<_>>());
            let values: Vec<Datum> = columns
                .iter()
                .map(|(p, _)| row.get(*p).cloned().unwrap_or_default())
                .collect();
            (slots, values)
        };
        let (excluded_slots, excluded) = of(&self.insert.columns, proposed);
        let (existing_slots, existing) = of(&update.existing, old);
        let outer = Env::new(&excluded_slots, &excluded, None);
        let env = Env::new(&existing_slots, &existing, Some(&outer));
        let (cx, params) = (self.cx.eval.as_ref(), &self.cx.params);
        if let Some(filter) = &update.filter
            && !holds(filter, &env, cx, params)?
        {
            return Ok(None);
        }
        let mut new = old.to_vec();
        for (position, expr) in &update.set {
            if let Some(place) = new.get_mut(*position) {
                *place = eval(expr, &env, cx, params)?;
            }
        }
        Ok(Some(new))
    }
}

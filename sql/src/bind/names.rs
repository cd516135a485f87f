//! Scopes: which tables and columns a query level sees, and how names find them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use sqlparser::ast::{Ident, NamedWindowDefinition};

use super::table_oid::{TABLEOID, TableOid};
use super::tree::{AggCall, ColId, Column, Expr, WindowCall};
use crate::catalog::desc::TableDesc;
use crate::error::{SqlError, SqlState};
use crate::types::Oid;
use crate::types::registry::Function;

/// A column that a scope shows.
#[derive(Clone, Debug)]
pub(crate) struct NamedColumn {
    pub(crate) name: Arc<str>,
    /// A column, or what stands for it (a merged column of a full join).
    pub(crate) expr: Expr,
    /// The table column that it is.
    pub(crate) origin: Option<(Oid, i16)>,
}

/// A table of FROM, by its alias.
#[derive(Clone, Debug)]
pub(crate) struct NamedTable {
    pub(crate) alias: String,
    /// Schema, for references `schema.table.column`; none with an alias.
    pub(crate) schema: Option<String>,
    pub(crate) columns: Vec<NamedColumn>,
    /// The stored table.
    pub(crate) table: Option<Arc<TableDesc>>,
    /// The scan's key columns, for row locks.
    pub(crate) key: Vec<Column>,
    /// A function of one scalar column: the alias alone means that column.
    pub(crate) scalar: bool,
    /// Of a stored table or a catalog view: its system column.
    pub(crate) table_oid: Option<TableOid>,
}

/// What FROM makes visible.
#[derive(Clone, Debug, Default)]
pub(crate) struct Namespace {
    pub(crate) tables: Vec<NamedTable>,
    /// What `*` shows and unqualified names find.
    pub(crate) columns: Vec<NamedColumn>,
}

impl Namespace {
    pub(crate) fn of_table(table: NamedTable) -> Self {
        Self {
            columns: table.columns.clone(),
            tables: vec![table],
        }
    }

    pub(crate) fn of_columns(alias: &str, columns: &[Column]) -> Self {
        let columns = columns
            .iter()
            .map(|c| NamedColumn {
                name: Arc::clone(&c.name),
                expr: Expr::Column(c.id, c.ty),
                origin: None,
            })
            .collect();
        Self::of_table(NamedTable {
            alias: alias.to_owned(),
            schema: None,
            columns,
            table: None,
            key: Vec::new(),
            scalar: false,
            table_oid: None,
        })
    }

    /// Adds what another item of FROM shows; no alias may come twice.
    pub(crate) fn add(&mut self, other: Self) -> Result<(), SqlError> {
        for t in &other.tables {
            if self.tables.iter().any(|o| {
                !t.alias.is_empty()
                    && o.alias == t.alias
                    && (o.schema.is_none() || t.schema.is_none() || o.schema == t.schema)
            }) {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_ALIAS,
                    format!("table name \"{}\" specified more than once", t.alias),
                ));
            }
        }
        self.tables.extend(other.tables);
        self.columns.extend(other.columns);
        Ok(())
    }
}

/// Where an expression stands, for what it may contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Clause {
    /// Select list, ORDER BY, DISTINCT ON: aggregates, window and set-returning functions.
    Target,
    /// HAVING: aggregates only.
    Having,
    /// Within the arguments of an aggregate.
    Aggregate,
    /// Within a window definition or the arguments of a window function: aggregates only.
    Window,
    /// Anything else, by its name.
    Plain(&'static str),
}

/// What an expression's binding has collected at its query level.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) aggregates: Vec<(AggCall, Column)>,
    pub(crate) windows: Vec<(WindowCall, Column)>,
    pub(crate) sets: Vec<(&'static Function, Vec<Expr>, Column)>,
    /// GROUPING(...) calls by their arguments.
    pub(crate) groupings: Vec<(Vec<Expr>, Column)>,
}

/// One query level.
pub(crate) struct Level<'p> {
    pub(crate) ns: Namespace,
    pub(crate) parent: Option<&'p Level<'p>>,
    pub(crate) clause: Cell<Clause>,
    pub(crate) collected: RefCell<Collected>,
    pub(crate) windows: &'p [NamedWindowDefinition],
    /// Columns of FROM, to tell own columns from outer ones.
    own: BTreeSet<ColId>,
    /// Where columns were named first, for messages.
    pub(crate) seen: RefCell<Vec<(ColId, String, usize)>>,
    /// Whether a column was resolved here (for LATERAL).
    pub(crate) used: Cell<bool>,
    /// Number of the query whose FROM this is a part of: the level only passes names on to LATERAL
    /// items and is no query level of its own.
    pub(crate) lateral: Option<u32>,
}

impl<'p> Level<'p> {
    pub(crate) fn new(ns: Namespace, parent: Option<&'p Level<'p>>) -> Self {
        let mut own = BTreeSet::new();
        for c in ns
            .columns
            .iter()
            .chain(ns.tables.iter().flat_map(|t| &t.columns))
        {
            own.extend(c.expr.columns());
        }
        for t in ns.tables.iter().filter_map(|t| t.table_oid.as_ref()) {
            own.extend(t.column.expr.columns());
        }
        Self {
            ns,
            parent,
            clause: Cell::new(Clause::Target),
            collected: RefCell::default(),
            windows: &[],
            own,
            seen: RefCell::default(),
            used: Cell::new(false),
            lateral: None,
        }
    }

    /// Whether FROM of this level makes the column.
    pub(crate) fn owns(&self, id: ColId) -> bool {
        self.own.contains(&id)
    }

    /// Runs something with another clause.
    pub(crate) fn within<T>(&self, clause: Clause, f: impl FnOnce() -> T) -> T {
        let before = self.clause.replace(clause);
        let out = f();
        self.clause.set(before);
        out
    }

    fn find(&self, name: &str, position: usize) -> Result<Option<Expr>, SqlError> {
        let mut found: Option<&NamedColumn> = None;
        for c in &self.ns.columns {
            if &*c.name == name {
                if found.is_some() {
                    return Err(ambiguous(name, position));
                }
                found = Some(c);
            }
        }
        match found {
            Some(c) => Ok(Some(self.take(c, position))),
            None if name == TABLEOID => self.table_oid(position),
            None => Ok(None),
        }
    }

    fn table_oid(&self, position: usize) -> Result<Option<Expr>, SqlError> {
        let mut oids = self.ns.tables.iter().filter_map(|t| t.table_oid.as_ref());
        match (oids.next(), oids.next()) {
            (Some(one), None) => {
                one.mark_used();
                Ok(Some(self.take(&one.column, position)))
            }
            (Some(_), Some(_)) => Err(ambiguous(TABLEOID, position)),
            (None, _) => Ok(None),
        }
    }

    fn take(&self, c: &NamedColumn, position: usize) -> Expr {
        self.used.set(true);
        for id in c.expr.columns() {
            self.seen
                .borrow_mut()
                .push((id, c.name.to_string(), position));
        }
        c.expr.clone()
    }

    fn table(&self, schema: Option<&str>, alias: &str) -> Result<Option<&NamedTable>, SqlError> {
        let mut found = None;
        for t in &self.ns.tables {
            if t.alias == alias && (schema.is_none() || t.schema.as_deref() == schema) {
                if found.is_some() {
                    return Err(SqlError::new(
                        SqlState::AMBIGUOUS_ALIAS,
                        format!("table reference \"{alias}\" is ambiguous"),
                    ));
                }
                found = Some(t);
            }
        }
        Ok(found)
    }

    /// A column by its unqualified name, here or outside.
    pub(crate) fn column(&self, ident: &Ident) -> Result<Expr, SqlError> {
        let position = ident.span.start.line as usize;
        let mut level = Some(self);
        while let Some(l) = level {
            if let Some(e) = l.find(&ident.value, position)? {
                return Ok(e);
            }
            level = l.parent;
        }
        // A table's alias: the whole row.
        let mut level = Some(self);
        while let Some(l) = level {
            if let Some(t) = l.table(None, &ident.value)? {
                return Ok(l.whole_row(t, position));
            }
            level = l.parent;
        }
        Err(self.missing(None, &ident.value, position))
    }

    /// The names of the columns that a table's alias alone stands for.
    pub(crate) fn row_names(&self, alias: &str) -> Option<Vec<Arc<str>>> {
        let mut level = Some(self);
        while let Some(l) = level {
            if let Ok(Some(t)) = l.table(None, alias) {
                return Some(t.columns.iter().map(|c| Arc::clone(&c.name)).collect());
            }
            level = l.parent;
        }
        None
    }

    fn whole_row(&self, t: &NamedTable, position: usize) -> Expr {
        if let (true, [one]) = (t.scalar, t.columns.as_slice()) {
            return self.take(one, position);
        }
        Expr::Row(t.columns.iter().map(|c| self.take(c, position)).collect())
    }

    /// A column by a qualified name.
    pub(crate) fn qualified(&self, parts: &[Ident]) -> Result<Expr, SqlError> {
        let (schema, table, column) = match parts {
            [t, c] => (None, t, c),
            [s, t, c] => (Some(s.value.as_str()), t, c),
            [_, s, t, c] => (Some(s.value.as_str()), t, c),
            _ => {
                return Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    "improper qualified name (too many dotted names)",
                ));
            }
        };
        let position = parts.first().map_or(0, |i| i.span.start.line as usize);
        let mut level = Some(self);
        while let Some(l) = level {
            if let Some(t) = l.table(schema, &table.value).map_err(|e| e.at(position))? {
                let mut found = t.columns.iter().filter(|c| *c.name == column.value);
                return match (found.next(), found.next()) {
                    (Some(c), None) => Ok(l.take(c, position)),
                    (Some(_), Some(_)) => Err(ambiguous(&column.value, position)),
                    (None, _) => match &t.table_oid {
                        Some(oid) if column.value == TABLEOID => {
                            oid.mark_used();
                            Ok(l.take(&oid.column, position))
                        }
                        Some(_) if is_system(&column.value) => Err(SqlError::unsupported(format!(
                            "system column \"{}\"",
                            column.value
                        ))
                        .at(position)),
                        _ => Err(self.missing(Some(&table.value), &column.value, position)),
                    },
                };
            }
            level = l.parent;
        }
        Err(self.no_table(&table.value, position))
    }

    /// `42P01`, with the alias of the table if it has one.
    fn no_table(&self, name: &str, position: usize) -> SqlError {
        let mut level = Some(self);
        while let Some(l) = level {
            let hidden = |t: &&NamedTable| t.table.as_ref().is_some_and(|d| d.name == name);
            if let Some(t) = l.ns.tables.iter().find(hidden) {
                return SqlError::new(
                    SqlState::UNDEFINED_TABLE,
                    format!("invalid reference to FROM-clause entry for table \"{name}\""),
                )
                .with_hint(format!(
                    "Perhaps you meant to reference the table alias \"{}\".",
                    t.alias
                ))
                .at(position);
            }
            level = l.parent;
        }
        SqlError::new(
            SqlState::UNDEFINED_TABLE,
            format!("missing FROM-clause entry for table \"{name}\""),
        )
        .at(position)
    }

    /// The table that `alias.*` names.
    pub(crate) fn star(
        &self,
        schema: Option<&str>,
        alias: &Ident,
    ) -> Result<Vec<NamedColumn>, SqlError> {
        let position = alias.span.start.line as usize;
        let mut level = Some(self);
        while let Some(l) = level {
            if let Some(t) = l.table(schema, &alias.value).map_err(|e| e.at(position))? {
                for c in &t.columns {
                    let _ = l.take(c, position);
                }
                return Ok(t.columns.clone());
            }
            level = l.parent;
        }
        Err(self.no_table(&alias.value, position))
    }

    fn missing(&self, table: Option<&str>, name: &str, position: usize) -> SqlError {
        let stored = |t: &NamedTable| t.table_oid.is_some();
        if table.is_none() && is_system(name) && self.ns.tables.iter().any(stored) {
            return SqlError::unsupported(format!("system column \"{name}\"")).at(position);
        }
        let message = match table {
            Some(t) => format!("column {t}.{name} does not exist"),
            None => format!("column \"{name}\" does not exist"),
        };
        let e = SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(position);
        match self.nearest(table, name) {
            Some(hint) => e.with_hint(hint),
            None => e,
        }
    }

    /// PostgreSQL's guess at what was meant.
    fn nearest(&self, table: Option<&str>, name: &str) -> Option<String> {
        let mut best: Option<(usize, String)> = None;
        let mut tied = false;
        for t in &self.ns.tables {
            for c in &t.columns {
                let mut distance = edit_distance(name, &c.name);
                if let Some(q) = table {
                    distance += edit_distance(q, &t.alias);
                }
                if distance > 3 || distance > name.len() / 2 {
                    continue;
                }
                let text = format!("{}.{}", t.alias, c.name);
                match &best {
                    Some((d, _)) if *d < distance => {}
                    Some((d, _)) if *d == distance => tied = true,
                    _ => {
                        tied = false;
                        best = Some((distance, text));
                    }
                }
            }
        }
        best.filter(|_| !tied)
            .map(|(_, text)| format!("Perhaps you meant to reference the column \"{text}\"."))
    }
}

fn ambiguous(name: &str, position: usize) -> SqlError {
    SqlError::new(
        SqlState::AMBIGUOUS_COLUMN,
        format!("column reference \"{name}\" is ambiguous"),
    )
    .at(position)
}

fn is_system(name: &str) -> bool {
    matches!(name, "ctid" | "xmin" | "xmax" | "cmin" | "cmax")
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = *cell;
            left = substituted.min(left + 1).min(diagonal + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

//! pg_constraint and pg_depend.

use super::definitions::{columns_named, default_text};
use super::relations::{PG_ATTRDEF, PG_CLASS, PG_REWRITE, derived_oid};
use super::row::*;
use crate::catalog::desc::{CatalogSnapshot, IndexDesc, IndexKind, RelationKind, TableDesc};
use crate::error::SqlError;
use crate::types::Oid;
use crate::types::registry::EvalContext;

/// Oid of pg_constraint.
pub(super) const PG_CONSTRAINT: u32 = 2606;
/// Oid of pg_namespace.
pub(super) const PG_NAMESPACE: u32 = 2615;

type Rows = Result<Vec<Row>, SqlError>;

/// attnums of columns by position.
pub(super) fn attnums(table: &TableDesc, positions: impl IntoIterator<Item = usize>) -> Vec<i16> {
    positions
        .into_iter()
        .filter_map(|i| table.columns.get(i))
        .map(|c| c.attnum)
        .collect()
}

/// Key columns of an index.
pub(super) fn key_attnums(table: &TableDesc, index: &IndexDesc) -> Vec<i16> {
    attnums(table, index.columns.iter().map(|c| c.column))
}

struct Constraint<'a> {
    oid: Oid,
    name: &'a str,
    kind: &'a str,
    index: Oid,
    columns: Vec<i16>,
    expr: Option<&'a str>,
    valid: bool,
}

fn constraint_row(table: &TableDesc, c: Constraint<'_>) -> Row {
    vec![
        o(c.oid),
        t(c.name),
        o(table.schema),
        t(c.kind),
        b(false),
        b(false),
        b(c.valid),
        o(table.oid),
        NONE,
        o(c.index),
        NONE,
        NONE,
        t(" "),
        t(" "),
        t(" "),
        b(true),
        i4(0),
        b(c.kind != "c"),
        int2s(c.columns),
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
        t_or_null(c.expr),
    ]
}

/// The indexes that are constraints, with the constraint's number.
pub(super) fn key_constraints(table: &TableDesc) -> impl Iterator<Item = (&IndexDesc, Oid)> {
    let is_key = |k| matches!(k, IndexKind::Primary | IndexKind::UniqueConstraint);
    let indexes = table.indexes.iter().filter(move |i| is_key(i.kind));
    indexes.filter_map(|i| i.constraint.map(|oid| (i.as_ref(), oid)))
}

pub(super) fn pg_constraint(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for table in s.tables.values() {
        for check in &table.checks {
            let columns = attnums(table, columns_named(table, &check.expr));
            let c = Constraint {
                oid: check.oid,
                name: &check.name,
                kind: "c",
                index: Oid::INVALID,
                columns,
                expr: Some(&check.expr),
                valid: !check.not_valid,
            };
            rows.push(constraint_row(table, c));
        }
        for (index, oid) in key_constraints(table) {
            let kind = if index.kind == IndexKind::Primary {
                "p"
            } else {
                "u"
            };
            let columns = key_attnums(table, index);
            let c = Constraint {
                oid,
                name: &index.name,
                kind,
                index: index.oid,
                columns,
                expr: None,
                valid: true,
            };
            rows.push(constraint_row(table, c));
        }
    }
    Ok(rows)
}

/// Object, what it depends on, how.
type Edge = (u32, Oid, i32, u32, Oid, i32, &'static str);

fn edge_row(e: Edge) -> Row {
    vec![n(e.0), o(e.1), i4(e.2), n(e.3), o(e.4), i4(e.5), t(e.6)]
}

pub(super) fn pg_depend(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut edges: Vec<Edge> = Vec::new();
    for table in s.tables.values() {
        table_edges(table, &mut edges);
    }
    for seq in s.sequences.values() {
        edges.push((PG_CLASS, seq.oid, 0, PG_NAMESPACE, seq.schema, 0, "n"));
        let owner = seq
            .owned_by
            .and_then(|(oid, i)| Some((s.tables.get(&oid)?, i)));
        if let Some((table, column)) = owner.and_then(|(t, i)| Some((t, t.columns.get(i)?))) {
            let how = if column.identity.is_some() { "i" } else { "a" };
            let attnum = i32::from(column.attnum);
            edges.push((PG_CLASS, seq.oid, 0, PG_CLASS, table.oid, attnum, how));
        }
    }
    Ok(edges.into_iter().map(edge_row).collect())
}

fn table_edges(table: &TableDesc, edges: &mut Vec<Edge>) {
    edges.push((PG_CLASS, table.oid, 0, PG_NAMESPACE, table.schema, 0, "n"));
    if table.kind == RelationKind::View {
        let rule = derived_oid(table.oid, 0);
        edges.push((PG_REWRITE, rule, 0, PG_CLASS, table.oid, 0, "i"));
        for read in &table.depends {
            edges.push((PG_REWRITE, rule, 0, PG_CLASS, *read, 0, "n"));
        }
    }
    for (_, column) in table.live_columns() {
        if default_text(column).is_some() {
            let oid = derived_oid(table.oid, column.attnum);
            let attnum = i32::from(column.attnum);
            edges.push((PG_ATTRDEF, oid, 0, PG_CLASS, table.oid, attnum, "a"));
            if let Some(sequence) = column.sequence {
                edges.push((PG_ATTRDEF, oid, 0, PG_CLASS, sequence, 0, "n"));
            }
        }
    }
    for index in &table.indexes {
        match index.constraint {
            Some(constraint) => {
                edges.push((PG_CLASS, index.oid, 0, PG_CONSTRAINT, constraint, 0, "i"));
            }
            None => {
                for attnum in key_attnums(table, index) {
                    let attnum = i32::from(attnum);
                    edges.push((PG_CLASS, index.oid, 0, PG_CLASS, table.oid, attnum, "a"));
                }
            }
        }
    }
    let keys = key_constraints(table).map(|(index, oid)| (oid, key_attnums(table, index)));
    let checks = table
        .checks
        .iter()
        .map(|check| (check.oid, attnums(table, columns_named(table, &check.expr))));
    for (oid, columns) in keys.chain(checks) {
        for attnum in columns {
            let attnum = i32::from(attnum);
            edges.push((PG_CONSTRAINT, oid, 0, PG_CLASS, table.oid, attnum, "a"));
        }
    }
}

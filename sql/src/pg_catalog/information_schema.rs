//! The views of information_schema.
//!
//! As in PostgreSQL they show what the user may see: everything, as there is one role.

use super::constraints::{attnums, key_attnums, key_constraints};
use super::definitions::{columns_named, parenthesized, view_definition};
use super::registered::collation_of;
use super::row::*;
use super::tables::TABLES;
use crate::catalog::desc::{
    CatalogSnapshot, ColumnDesc, Identity, IndexKind, RelationKind, SequenceDesc, TableDesc,
};
use crate::catalog::virtual_tables::OfCatalog;
use crate::error::SqlError;
use crate::types::registry::{EvalContext, registry};
use crate::types::{Datum, Oid, PgType};

type Rows = Result<Vec<Row>, SqlError>;

/// Name of the database, the catalog of the standard.
const CATALOG: &str = "postgres";

/// The function that computes a view.
pub(super) fn rows(name: &str) -> Option<OfCatalog> {
    Some(match name {
        "information_schema_catalog_name" => |_, _| Ok(vec![vec![t(CATALOG)]]),
        "schemata" => schemata,
        "tables" => tables,
        "columns" => columns,
        "views" => views,
        "sequences" => sequences,
        "table_constraints" => table_constraints,
        "key_column_usage" => key_column_usage,
        "constraint_column_usage" => constraint_column_usage,
        "constraint_table_usage" => constraint_table_usage,
        "check_constraints" => check_constraints,
        "character_sets" => character_sets,
        "collations" => collations,
        "collation_character_set_applicability" => collation_sets,
        "enabled_roles" => |_, _| Ok(vec![vec![t("postgres")]]),
        "table_privileges" | "role_table_grants" => table_privileges,
        "column_privileges" | "role_column_grants" => column_privileges,
        _ => return None,
    })
}

fn schemata(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |name: &str| {
        let owner = if name == "public" {
            "pg_database_owner"
        } else {
            "postgres"
        };
        vec![t(CATALOG), t(name), t(owner), NULL, NULL, NULL, NULL]
    };
    Ok(s.schemas.values().map(|x| row(&x.name)).collect())
}

fn table_row(schema: &str, name: &str, view: bool, writable: bool) -> Row {
    vec![
        t(CATALOG),
        t(schema),
        t(name),
        t(if view { "VIEW" } else { "BASE TABLE" }),
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
        yes(writable),
        yes(false),
        NULL,
    ]
}

fn tables(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows: Vec<Row> = TABLES
        .iter()
        .map(|v| table_row(v.schema, v.name, v.kind == 'v', false))
        .collect();
    for x in s.tables.values() {
        let view = x.kind == RelationKind::View;
        rows.push(table_row(&x.schema_name, &x.name, view, !view));
    }
    Ok(rows)
}

/// What information_schema derives from a type and its modifier.
struct Shape {
    data_type: String,
    udt_name: &'static str,
    length: Datum,
    octets: Datum,
    precision: Datum,
    radix: Datum,
    scale: Datum,
    datetime: Datum,
}

fn shape(ty: PgType) -> Shape {
    let info = registry().type_info(ty.oid);
    let array = info.is_some_and(|i| i.category == 'A');
    let mut s = Shape {
        data_type: match info {
            _ if array => "ARRAY".to_owned(),
            Some(i) => i.sql_name.to_owned(),
            None => "USER-DEFINED".to_owned(),
        },
        udt_name: info.map_or("", |i| i.name),
        length: NULL,
        octets: NULL,
        precision: NULL,
        radix: NULL,
        scale: NULL,
        datetime: NULL,
    };
    match ty.oid {
        Oid::TEXT => s.octets = i4(1 << 30),
        Oid::VARCHAR | Oid::BPCHAR if ty.typmod >= 4 => {
            s.length = i4(ty.typmod - 4);
            s.octets = i4((ty.typmod - 4).saturating_mul(4));
        }
        Oid::VARCHAR | Oid::BPCHAR => s.octets = i4(1 << 30),
        Oid::INT2 => (s.precision, s.radix, s.scale) = (i4(16), i4(2), i4(0)),
        Oid::INT4 => (s.precision, s.radix, s.scale) = (i4(32), i4(2), i4(0)),
        Oid::INT8 => (s.precision, s.radix, s.scale) = (i4(64), i4(2), i4(0)),
        Oid::FLOAT4 => (s.precision, s.radix) = (i4(24), i4(2)),
        Oid::FLOAT8 => (s.precision, s.radix) = (i4(53), i4(2)),
        Oid::NUMERIC => {
            s.radix = i4(10);
            if ty.typmod >= 4 {
                let packed = ty.typmod - 4;
                s.precision = i4(packed >> 16 & 0xffff);
                // The scale has 11 bits and a sign.
                s.scale = i4(((packed & 0x7ff) ^ 1024) - 1024);
            }
        }
        Oid::DATE => s.datetime = i4(0),
        Oid::TIME | Oid::TIMETZ | Oid::TIMESTAMP | Oid::TIMESTAMPTZ => {
            s.datetime = i4(if ty.typmod < 0 { 6 } else { ty.typmod });
        }
        Oid::INTERVAL => {
            let precision = ty.typmod & 0xffff;
            s.datetime = i4(if ty.typmod < 0 || precision == 0xffff {
                6
            } else {
                precision
            });
        }
        _ => {}
    }
    s
}

/// A column of any relation.
struct Described<'a> {
    schema: &'a str,
    table: &'a str,
    name: &'a str,
    ordinal: i32,
    ty: PgType,
    column: Option<&'a ColumnDesc>,
    writable: bool,
}

fn columns(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for v in TABLES.iter() {
        for (ordinal, (name, ty)) in (1..).zip(v.columns) {
            rows.push(column_row(
                s,
                &Described {
                    schema: v.schema,
                    table: v.name,
                    name,
                    ordinal,
                    ty: PgType::new(*ty),
                    column: None,
                    writable: false,
                },
            ));
        }
    }
    for table in s.tables.values() {
        for (_, column) in table.live_columns() {
            rows.push(column_row(
                s,
                &Described {
                    schema: &table.schema_name,
                    table: &table.name,
                    name: &column.name,
                    ordinal: i32::from(column.attnum),
                    ty: column.ty,
                    column: Some(column),
                    writable: table.kind == RelationKind::Table,
                },
            ));
        }
    }
    Ok(rows)
}

fn column_row(s: &CatalogSnapshot, d: &Described<'_>) -> Row {
    let x = shape(d.ty);
    let identity = d.column.and_then(|c| c.identity);
    let sequence: Option<&SequenceDesc> = identity
        .and(d.column)
        .and_then(|c| c.sequence)
        .and_then(|oid| s.sequences.get(&oid))
        .map(AsRef::as_ref);
    let number = |f: fn(&SequenceDesc) -> i64| t_or_null(sequence.map(|q| f(q).to_string()));
    let generated = d.column.and_then(|c| c.generated.as_deref());
    let default = d
        .column
        .filter(|c| c.identity.is_none())
        .and_then(|c| c.default.as_deref());
    let not_null = d.column.is_some_and(|c| c.not_null);
    let mut row = vec![
        t(CATALOG),
        t(d.schema),
        t(d.table),
        t(d.name),
        i4(d.ordinal),
        t_or_null(default),
        yes(!not_null),
        t(x.data_type),
        x.length,
        x.octets,
        x.precision,
        x.radix,
        x.scale,
        x.datetime,
    ];
    row.extend(std::iter::repeat_n(NULL, 5));
    // Only a collation other than the default one is named; name columns have C.
    match collation_of(d.ty.oid) {
        950 => row.extend([t(CATALOG), t("pg_catalog"), t("C")]),
        _ => row.extend([NULL, NULL, NULL]),
    }
    row.extend([NULL, NULL, NULL, t(CATALOG), t("pg_catalog"), t(x.udt_name)]);
    row.extend([NULL, NULL, NULL, NULL, t(d.ordinal.to_string()), yes(false)]);
    row.extend([
        yes(identity.is_some()),
        match identity {
            Some(Identity::Always) => t("ALWAYS"),
            Some(Identity::ByDefault) => t("BY DEFAULT"),
            None => NULL,
        },
        number(|q| q.start),
        number(|q| q.increment),
        number(|q| q.max),
        number(|q| q.min),
        yes(sequence.is_some_and(|q| q.cycle)),
        t(if generated.is_some() {
            "ALWAYS"
        } else {
            "NEVER"
        }),
        t_or_null(generated),
        yes(d.writable),
    ]);
    row
}

fn views(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |schema: &str, name: &str, text: Datum| {
        let mut row = vec![t(CATALOG), t(schema), t(name), text, t("NONE")];
        row.resize(10, yes(false));
        row
    };
    let computed = TABLES.iter().filter(|v| v.kind == 'v');
    let mut rows: Vec<Row> = computed.map(|v| row(v.schema, v.name, NULL)).collect();
    let own = s.tables.values().filter(|x| x.kind == RelationKind::View);
    rows.extend(own.map(|x| row(&x.schema_name, &x.name, t(view_definition(x)))));
    Ok(rows)
}

fn sequences(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    // Those of identity columns are part of their column.
    let internal = |q: &SequenceDesc| {
        let table = q
            .owned_by
            .and_then(|(oid, i)| Some((s.tables.get(&oid)?, i)));
        table
            .and_then(|(t, i)| t.columns.get(i))
            .is_some_and(|c| c.identity.is_some())
    };
    let row = |q: &SequenceDesc| {
        let x = shape(PgType::new(q.ty));
        vec![
            t(CATALOG),
            t(q.schema_name.as_str()),
            t(q.name.as_str()),
            t(x.data_type),
            x.precision,
            x.radix,
            x.scale,
            t(q.start.to_string()),
            t(q.min.to_string()),
            t(q.max.to_string()),
            t(q.increment.to_string()),
            yes(q.cycle),
        ]
    };
    Ok(s.sequences
        .values()
        .filter(|q| !internal(q))
        .map(|q| row(q))
        .collect())
}

/// Catalog, schema and name, twice: of a constraint and of its table.
fn six(table: &TableDesc, constraint: &str) -> Row {
    let schema = table.schema_name.as_str();
    vec![
        t(CATALOG),
        t(schema),
        t(constraint),
        t(CATALOG),
        t(schema),
        t(table.name.as_str()),
    ]
}

/// PostgreSQL shows NOT NULL as a CHECK of this name.
fn not_null_name(table: &TableDesc, column: &ColumnDesc) -> String {
    format!(
        "{}_{}_{}_not_null",
        table.schema.0, table.oid.0, column.attnum
    )
}

fn not_nulls(table: &TableDesc) -> impl Iterator<Item = &ColumnDesc> {
    table.live_columns().map(|(_, c)| c).filter(|c| c.not_null)
}

fn table_constraints(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for table in s.tables.values() {
        let mut add = |name: &str, kind: &str, distinct: Datum| {
            let mut row = six(table, name);
            row.extend([t(kind), yes(false), yes(false), yes(true), distinct]);
            rows.push(row);
        };
        for (index, _) in key_constraints(table) {
            match index.kind {
                IndexKind::Primary => add(&index.name, "PRIMARY KEY", NULL),
                _ => add(&index.name, "UNIQUE", yes(!index.nulls_not_distinct)),
            }
        }
        for check in &table.checks {
            add(&check.name, "CHECK", NULL);
        }
        for column in not_nulls(table) {
            add(&not_null_name(table, column), "CHECK", NULL);
        }
    }
    Ok(rows)
}

fn column_names(table: &TableDesc, attnums: &[i16]) -> Vec<String> {
    let name = |n: &i16| {
        table
            .columns
            .iter()
            .find(|c| c.attnum == *n)
            .map(|c| c.name.clone())
    };
    attnums.iter().filter_map(name).collect()
}

fn key_column_usage(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for table in s.tables.values() {
        for (index, _) in key_constraints(table) {
            let names = column_names(table, &key_attnums(table, index));
            for (ordinal, column) in (1..).zip(names) {
                let mut row = six(table, &index.name);
                row.extend([t(column), i4(ordinal), NULL]);
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

fn constraint_column_usage(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for table in s.tables.values() {
        let keys = key_constraints(table).map(|(i, _)| (i.name.as_str(), key_attnums(table, i)));
        let checks = table.checks.iter().map(|c| {
            (
                c.name.as_str(),
                attnums(table, columns_named(table, &c.expr)),
            )
        });
        for (constraint, columns) in keys.chain(checks) {
            for column in column_names(table, &columns) {
                let schema = table.schema_name.as_str();
                rows.push(vec![
                    t(CATALOG),
                    t(schema),
                    t(table.name.as_str()),
                    t(column),
                    t(CATALOG),
                    t(schema),
                    t(constraint),
                ]);
            }
        }
    }
    Ok(rows)
}

fn constraint_table_usage(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for table in s.tables.values() {
        for (index, _) in key_constraints(table) {
            let mut row = six(table, &index.name);
            row.rotate_left(3);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn check_constraints(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for table in s.tables.values() {
        let schema = table.schema_name.as_str();
        for check in &table.checks {
            let clause = parenthesized(&check.expr);
            rows.push(vec![
                t(CATALOG),
                t(schema),
                t(check.name.as_str()),
                t(clause),
            ]);
        }
        for column in not_nulls(table) {
            let clause = format!("{} IS NOT NULL", column.name);
            rows.push(vec![
                t(CATALOG),
                t(schema),
                t(not_null_name(table, column)),
                t(clause),
            ]);
        }
    }
    Ok(rows)
}

fn character_sets(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    Ok(vec![vec![
        NULL,
        NULL,
        t("UTF8"),
        t("UCS"),
        t("UTF8"),
        t(CATALOG),
        t("pg_catalog"),
        t("default"),
    ]])
}

fn collations(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |name: &str| vec![t(CATALOG), t("pg_catalog"), t(name), t("NO PAD")];
    Ok(["default", "C", "POSIX"].map(row).to_vec())
}

fn collation_sets(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |name: &str| vec![t(CATALOG), t("pg_catalog"), t(name), NULL, NULL, t("UTF8")];
    Ok(["default", "C", "POSIX"].map(row).to_vec())
}

fn table_privileges(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let rights = [
        "INSERT",
        "SELECT",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "REFERENCES",
        "TRIGGER",
    ];
    let mut rows = Vec::new();
    for x in s.tables.values() {
        for right in rights {
            rows.push(vec![
                t("postgres"),
                t("postgres"),
                t(CATALOG),
                t(x.schema_name.as_str()),
                t(x.name.as_str()),
                t(right),
                yes(true),
                yes(right == "SELECT"),
            ]);
        }
    }
    Ok(rows)
}

fn column_privileges(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for x in s.tables.values() {
        for (_, column) in x.live_columns() {
            for right in ["INSERT", "SELECT", "UPDATE", "REFERENCES"] {
                rows.push(vec![
                    t("postgres"),
                    t("postgres"),
                    t(CATALOG),
                    t(x.schema_name.as_str()),
                    t(x.name.as_str()),
                    t(column.name.as_str()),
                    t(right),
                    yes(true),
                ]);
            }
        }
    }
    Ok(rows)
}

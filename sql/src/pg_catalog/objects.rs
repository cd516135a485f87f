//! Schemas, the database, comments, and the fixed objects: access methods, operator classes,
//! collations, languages, tablespaces.

use std::sync::LazyLock;

use super::constraints::PG_NAMESPACE;
use super::relations::PG_CLASS;
use super::row::*;
use crate::catalog::desc::{
    CatalogSnapshot, INFORMATION_SCHEMA, PG_CATALOG, PONTOON_INTERNAL, PUBLIC, SchemaDesc,
};
use crate::error::SqlError;
use crate::types::registry::EvalContext;
use crate::types::{Datum, Oid};

/// Number of the database.
pub(super) const DATABASE: u32 = 5;
/// Oid of pg_database.
pub(super) const PG_DATABASE: u32 = 1262;
const PG_AM: u32 = 2601;
const B_TREE: u32 = 403;

/// oid, name, input type, family, default, key type: the b-tree operator classes of PostgreSQL 15.
const OPCLASSES: &str = include_str!("opclass.tsv");
/// oid, name: the b-tree operator families.
const OPFAMILIES: &str = include_str!("opfamily.tsv");

type Rows = Result<Vec<Row>, SqlError>;

struct OpClass {
    oid: Oid,
    name: &'static str,
    input: Oid,
    family: Oid,
    default: bool,
    key: Oid,
}

static OPCLASS: LazyLock<Vec<OpClass>> = LazyLock::new(|| {
    let parse = |line: &'static str| {
        let mut fields = line.split('\t');
        let mut next = || fields.next();
        let oid = |s: Option<&str>| s.and_then(|s| s.parse().ok()).map(Oid);
        Some(OpClass {
            oid: oid(next())?,
            name: next()?,
            input: oid(next())?,
            family: oid(next())?,
            default: next()? == "t",
            key: oid(next())?,
        })
    };
    OPCLASSES.lines().filter_map(parse).collect()
});

/// The b-tree operator class that an index on a column of that type uses.
pub(super) fn default_opclass(ty: Oid) -> Oid {
    let of = |ty: Oid| {
        OPCLASS
            .iter()
            .find(|c| c.default && c.input == ty)
            .map(|c| c.oid)
    };
    let base = match ty {
        Oid::VARCHAR => Oid::TEXT,
        Oid::REGCLASS | Oid::REGTYPE | Oid::REGPROC => Oid::OID,
        other => other,
    };
    of(base).or_else(|| of(Oid::ANYARRAY)).unwrap_or_default()
}

pub(super) fn pg_opclass(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |c: &OpClass| {
        vec![
            o(c.oid),
            n(B_TREE),
            t(c.name),
            o(PG_CATALOG),
            n(10),
            o(c.family),
            o(c.input),
            b(c.default),
            o(c.key),
        ]
    };
    Ok(OPCLASS.iter().map(row).collect())
}

pub(super) fn pg_opfamily(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |line: &'static str| {
        let (oid, name) = line.split_once('\t')?;
        Some(vec![
            n(oid.parse().ok()?),
            n(B_TREE),
            t(name),
            o(PG_CATALOG),
            n(10),
        ])
    };
    Ok(OPFAMILIES.lines().filter_map(row).collect())
}

pub(super) fn pg_am(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    Ok(vec![
        vec![n(2), t("heap"), n(3), t("t")],
        vec![n(B_TREE), t("btree"), n(330), t("i")],
    ])
}

pub(super) fn pg_collation(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |oid: u32, name: &str, provider: &str, locale: Option<&str>| {
        vec![
            n(oid),
            t(name),
            o(PG_CATALOG),
            n(10),
            t(provider),
            b(true),
            i4(-1),
            t_or_null(locale),
            t_or_null(locale),
            NULL,
            NULL,
        ]
    };
    Ok(vec![
        row(100, "default", "d", None),
        row(950, "C", "c", Some("C")),
        row(951, "POSIX", "c", Some("POSIX")),
    ])
}

pub(super) fn pg_language(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    Ok(vec![vec![
        n(12),
        t("internal"),
        n(10),
        b(false),
        b(false),
        NONE,
        NONE,
        n(2246),
        NULL,
    ]])
}

pub(super) fn pg_tablespace(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    Ok(vec![
        vec![n(1663), t("pg_default"), n(10), NULL, NULL],
        vec![n(1664), t("pg_global"), n(10), NULL, NULL],
    ])
}

/// Access rights as the text forms of aclitems.
fn acl(items: &[&str]) -> Datum {
    array(Oid::ACLITEM, items.iter().map(|i| t(*i)).collect())
}

pub(super) fn pg_namespace(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |schema: &SchemaDesc| {
        let (owner, rights) = match schema.oid {
            PUBLIC => (
                Oid(6171),
                acl(&[
                    "pg_database_owner=UC/pg_database_owner",
                    "=U/pg_database_owner",
                ]),
            ),
            PG_CATALOG | INFORMATION_SCHEMA | PONTOON_INTERNAL => {
                (schema.owner, acl(&["postgres=UC/postgres", "=U/postgres"]))
            }
            _ => (schema.owner, NULL),
        };
        vec![o(schema.oid), t(schema.name.as_str()), o(owner), rights]
    };
    Ok(s.schemas.values().map(|x| row(x)).collect())
}

pub(super) fn pg_database(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    Ok(vec![vec![
        n(DATABASE),
        t("postgres"),
        n(10),
        i4(6),
        t("c"),
        b(false),
        b(true),
        i4(-1),
        NONE,
        NONE,
        n(1663),
        t("C.UTF-8"),
        t("C.UTF-8"),
        NULL,
        NULL,
        NULL,
    ]])
}

pub(super) fn pg_description(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |oid: Oid, class: u32, column: i16, text: &str| {
        vec![o(oid), n(class), i4(i32::from(column)), t(text)]
    };
    let mut rows = vec![
        row(Oid(2), PG_AM, 0, "heap table access method"),
        row(Oid(B_TREE), PG_AM, 0, "b-tree index access method"),
    ];
    for schema in s.schemas.values() {
        if let Some(text) = &schema.comment {
            rows.push(row(schema.oid, PG_NAMESPACE, 0, text));
        }
    }
    for seq in s.sequences.values() {
        if let Some(text) = &seq.comment {
            rows.push(row(seq.oid, PG_CLASS, 0, text));
        }
    }
    for table in s.tables.values() {
        if let Some(text) = &table.comment {
            rows.push(row(table.oid, PG_CLASS, 0, text));
        }
        for (_, column) in table.live_columns() {
            if let Some(text) = &column.comment {
                rows.push(row(table.oid, PG_CLASS, column.attnum, text));
            }
        }
        for index in &table.indexes {
            if let Some(text) = &index.comment {
                rows.push(row(index.oid, PG_CLASS, 0, text));
            }
        }
    }
    Ok(rows)
}

/// Comment of the database.
pub(super) const DATABASE_COMMENT: &str = "default administrative connection database";

pub(super) fn pg_shdescription(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    Ok(vec![vec![n(DATABASE), n(PG_DATABASE), t(DATABASE_COMMENT)]])
}

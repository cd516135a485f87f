//! Rows about tables, views, indexes and sequences: pg_class, pg_attribute and their views.

use super::definitions::{default_text, index_definition, qualified, view_definition};
use super::registered::{collation_of, storage_of, type_facts};
use super::roles::role_name;
use super::row::*;
use super::tables::TABLES;
use crate::catalog::desc::{
    CatalogSnapshot, ColumnDesc, FIRST_USER_OID, Identity, IndexDesc, IndexKind, RelationKind,
    SequenceDesc, TableDesc,
};
use crate::catalog::virtual_tables::VirtualTable;
use crate::error::SqlError;
use crate::types::registry::EvalContext;
use crate::types::{Datum, Oid, PgType};

/// Oid of pg_class, for the class columns of other catalogs.
pub(super) const PG_CLASS: u32 = 1259;
/// Oid of pg_attrdef.
pub(super) const PG_ATTRDEF: u32 = 2604;
/// Oid of pg_rewrite.
pub(super) const PG_REWRITE: u32 = 2618;

type Rows = Result<Vec<Row>, SqlError>;

/// A number for an object that has none of its own (a default, a rule): the same as long as the
/// table lives, and none of a table's.
pub(super) fn derived_oid(table: Oid, n: i16) -> Oid {
    let n = u32::from(n.unsigned_abs()) & 0x3ff;
    Oid(0x8000_0000 | (table.0 << 10) & 0x7fff_fc00 | n)
}

/// Number of the schema of a computed table.
pub(super) fn virtual_schema(snapshot: &CatalogSnapshot, table: &VirtualTable) -> Oid {
    snapshot
        .schema_named(table.schema)
        .unwrap_or(match table.schema {
            "pg_catalog" => crate::catalog::desc::PG_CATALOG,
            "pontoon_internal" => crate::catalog::desc::PONTOON_INTERNAL,
            _ => crate::catalog::desc::INFORMATION_SCHEMA,
        })
}

/// What differs between the rows of pg_class.
struct Class<'a> {
    oid: Oid,
    name: &'a str,
    schema: Oid,
    owner: Oid,
    access_method: u32,
    has_index: bool,
    kind: &'a str,
    columns: usize,
    checks: usize,
    has_rules: bool,
    options: &'a [String],
}

fn class_row(c: &Class<'_>) -> Row {
    let stored = matches!(c.kind, "r" | "i" | "S");
    let is_table = c.kind == "r";
    vec![
        o(c.oid),
        t(c.name),
        o(c.schema),
        NONE,
        NONE,
        o(c.owner),
        n(c.access_method),
        if stored { o(c.oid) } else { NONE },
        NONE,
        // As of an index just made; of a table they are not known.
        i4(i32::from(c.kind == "i")),
        Datum::Float4(if c.kind == "i" { 0.0 } else { -1.0 }),
        i4(0),
        NONE,
        b(c.has_index),
        b(false),
        t("p"),
        t(c.kind),
        count2(c.columns),
        count2(c.checks),
        b(c.has_rules),
        b(false),
        b(false),
        b(false),
        b(false),
        b(true),
        t(if is_table { "d" } else { "n" }),
        b(false),
        NONE,
        NONE,
        NONE,
        NULL,
        if c.options.is_empty() {
            NULL
        } else {
            let options = c.options.iter().map(|option| t(option.as_str()));
            array(Oid::TEXT, options.collect())
        },
        NULL,
    ]
}

pub(super) fn pg_class(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for v in TABLES.iter() {
        rows.push(class_row(&Class {
            oid: v.oid,
            name: v.name,
            schema: virtual_schema(s, v),
            owner: Oid(10),
            access_method: if v.kind == 'r' { 2 } else { 0 },
            has_index: false,
            kind: if v.kind == 'r' { "r" } else { "v" },
            columns: v.columns.len(),
            checks: 0,
            has_rules: v.kind == 'v',
            options: &[],
        }));
    }
    for table in s.tables.values() {
        let view = table.kind == RelationKind::View;
        rows.push(class_row(&Class {
            oid: table.oid,
            name: &table.name,
            schema: table.schema,
            owner: table.owner,
            access_method: if view { 0 } else { 2 },
            has_index: !table.indexes.is_empty(),
            kind: if view { "v" } else { "r" },
            columns: table.columns.iter().filter(|c| c.attnum > 0).count(),
            checks: table.checks.len(),
            has_rules: view,
            options: &table.options,
        }));
        for index in &table.indexes {
            rows.push(class_row(&Class {
                oid: index.oid,
                name: &index.name,
                schema: table.schema,
                owner: table.owner,
                access_method: 403,
                has_index: false,
                kind: "i",
                columns: index.columns.len() + index.include.len(),
                checks: 0,
                has_rules: false,
                options: &[],
            }));
        }
    }
    for seq in s.sequences.values() {
        rows.push(class_row(&Class {
            oid: seq.oid,
            name: &seq.name,
            schema: seq.schema,
            owner: seq.owner,
            access_method: 0,
            has_index: false,
            kind: "S",
            columns: 3,
            checks: 0,
            has_rules: false,
            options: &[],
        }));
    }
    Ok(rows)
}

/// What differs between the rows of pg_attribute.
struct Attribute<'a> {
    relation: Oid,
    name: &'a str,
    ty: PgType,
    attnum: i16,
    not_null: bool,
    has_default: bool,
    has_missing: bool,
    identity: &'a str,
    generated: &'a str,
    dropped: bool,
}

impl<'a> Attribute<'a> {
    fn plain(relation: Oid, name: &'a str, ty: PgType, attnum: i16) -> Self {
        Self {
            relation,
            name,
            ty,
            attnum,
            not_null: false,
            has_default: false,
            has_missing: false,
            identity: "",
            generated: "",
            dropped: false,
        }
    }

    fn row(&self) -> Row {
        let facts = type_facts(self.ty.oid);
        let dimensions = i32::from(facts.is_some_and(|f| f.category == 'A' && f.len == -1));
        vec![
            o(self.relation),
            t(self.name),
            if self.dropped { NONE } else { o(self.ty.oid) },
            i4(if self.dropped { 0 } else { -1 }),
            i2(facts.map_or(-1, |f| f.len)),
            i2(self.attnum),
            i4(dimensions),
            i4(-1),
            i4(self.ty.typmod),
            b(facts.is_some_and(|f| f.by_value)),
            t(facts.map_or_else(|| "i".to_owned(), |f| f.align.to_string())),
            t(storage_of(self.ty.oid)),
            t(""),
            b(self.not_null),
            b(self.has_default),
            b(self.has_missing),
            t(self.identity),
            t(self.generated),
            b(self.dropped),
            b(true),
            i4(0),
            n(if self.dropped {
                0
            } else {
                collation_of(self.ty.oid)
            }),
            NULL,
            NULL,
            NULL,
            NULL,
        ]
    }
}

/// `attidentity` of a column.
pub(super) fn identity_code(column: &ColumnDesc) -> &'static str {
    match column.identity {
        Some(Identity::Always) => "a",
        Some(Identity::ByDefault) => "d",
        None => "",
    }
}

fn column_row(table: &TableDesc, column: &ColumnDesc) -> Row {
    let dropped_name = format!("........pg.dropped.{}........", column.attnum);
    Attribute {
        relation: table.oid,
        name: if column.dropped {
            &dropped_name
        } else {
            &column.name
        },
        ty: column.ty,
        attnum: column.attnum,
        not_null: column.not_null && !column.dropped,
        has_default: default_text(column).is_some() && !column.dropped,
        has_missing: column.missing.is_some() && !column.dropped,
        identity: if column.dropped {
            ""
        } else {
            identity_code(column)
        },
        generated: if column.generated.is_some() && !column.dropped {
            "s"
        } else {
            ""
        },
        dropped: column.dropped,
    }
    .row()
}

/// Name and type of each column of an index.
pub(super) fn index_columns<'a>(
    table: &'a TableDesc,
    index: &'a IndexDesc,
) -> impl Iterator<Item = &'a ColumnDesc> {
    let keys = index.columns.iter().map(|c| c.column);
    keys.chain(index.include.iter().copied())
        .filter_map(|i| table.columns.get(i))
}

/// attnums from 1.
fn numbered<T>(items: impl Iterator<Item = T>) -> impl Iterator<Item = (i16, T)> {
    (1..=i16::MAX).zip(items)
}

/// attnum, name and type of the columns that every table has.
const SYSTEM_COLUMNS: &[(i16, &str, u32)] = &[
    (-1, "ctid", 27),
    (-2, "xmin", 28),
    (-3, "cmin", 29),
    (-4, "xmax", 28),
    (-5, "cmax", 29),
    (-6, "tableoid", 26),
];

pub(super) fn pg_attribute(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for v in TABLES.iter() {
        for (attnum, (name, ty)) in numbered(v.columns.iter()) {
            rows.push(Attribute::plain(v.oid, name, PgType::new(*ty), attnum).row());
        }
    }
    let stored = TABLES.iter().filter(|v| v.kind == 'r').map(|v| v.oid);
    let tables = s.tables.values();
    let tables = tables.filter(|t| t.kind == RelationKind::Table);
    for relation in stored.chain(tables.map(|t| t.oid)) {
        for (attnum, name, ty) in SYSTEM_COLUMNS {
            let ty = PgType::new(Oid(*ty));
            let mut column = Attribute::plain(relation, name, ty, *attnum);
            column.not_null = true;
            rows.push(column.row());
        }
    }
    for table in s.tables.values() {
        rows.extend(
            table
                .columns
                .iter()
                .filter(|c| c.attnum > 0)
                .map(|c| column_row(table, c)),
        );
        for index in &table.indexes {
            for (attnum, column) in numbered(index_columns(table, index)) {
                rows.push(Attribute::plain(index.oid, &column.name, column.ty, attnum).row());
            }
        }
    }
    let columns = [
        ("last_value", Oid::INT8),
        ("log_cnt", Oid::INT8),
        ("is_called", Oid::BOOL),
    ];
    for seq in s.sequences.values() {
        for (attnum, (name, ty)) in numbered(columns.iter()) {
            let mut column = Attribute::plain(seq.oid, name, PgType::new(*ty), attnum);
            column.not_null = true;
            rows.push(column.row());
        }
    }
    Ok(rows)
}

pub(super) fn pg_attrdef(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for table in s.tables.values() {
        for (_, column) in table.live_columns() {
            if let Some(text) = default_text(column) {
                let oid = derived_oid(table.oid, column.attnum);
                rows.push(vec![o(oid), o(table.oid), i2(column.attnum), t(text)]);
            }
        }
    }
    Ok(rows)
}

pub(super) fn pg_index(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for table in s.tables.values().filter(|t| t.kind == RelationKind::Table) {
        for index in &table.indexes {
            rows.push(index_row(table, index));
        }
    }
    Ok(rows)
}

fn index_row(table: &TableDesc, index: &IndexDesc) -> Row {
    let keys: Vec<&ColumnDesc> = index
        .columns
        .iter()
        .filter_map(|c| table.columns.get(c.column))
        .collect();
    let attnums = index_columns(table, index)
        .map(|c| Datum::Int2(c.attnum))
        .collect();
    let collations = keys.iter().map(|c| n(collation_of(c.ty.oid))).collect();
    let classes = keys
        .iter()
        .map(|c| o(super::objects::default_opclass(c.ty.oid)))
        .collect();
    let options = index
        .columns
        .iter()
        .map(|c| Datum::Int2(i16::from(c.descending) | i16::from(c.nulls_first) << 1))
        .collect();
    vec![
        o(index.oid),
        o(table.oid),
        count2(index.columns.len() + index.include.len()),
        count2(index.columns.len()),
        b(index.is_unique()),
        b(index.nulls_not_distinct),
        b(index.kind == IndexKind::Primary),
        b(false),
        b(true),
        b(false),
        b(true),
        b(false),
        b(true),
        b(true),
        b(false),
        vector(Oid::INT2, attnums),
        vector(Oid::OID, collations),
        vector(Oid::OID, classes),
        vector(Oid::INT2, options),
        NULL,
        NULL,
    ]
}

pub(super) fn pg_sequence(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |q: &SequenceDesc| {
        vec![
            o(q.oid),
            o(q.ty),
            i8(q.start),
            i8(q.increment),
            i8(q.max),
            i8(q.min),
            i8(q.cache),
            b(q.cycle),
        ]
    };
    Ok(s.sequences.values().map(|q| row(q)).collect())
}

/// User views with their query.
fn views(s: &CatalogSnapshot) -> impl Iterator<Item = &TableDesc> {
    s.tables
        .values()
        .map(AsRef::as_ref)
        .filter(|t| t.kind == RelationKind::View)
}

fn stored(s: &CatalogSnapshot) -> impl Iterator<Item = &TableDesc> {
    s.tables
        .values()
        .map(AsRef::as_ref)
        .filter(|t| t.kind == RelationKind::Table)
}

pub(super) fn pg_rewrite(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |v: &TableDesc| {
        vec![
            o(derived_oid(v.oid, 0)),
            t("_RETURN"),
            o(v.oid),
            t("1"),
            t("O"),
            b(true),
            t("<>"),
            t(view_definition(v)),
        ]
    };
    Ok(views(s).map(row).collect())
}

pub(super) fn pg_tables(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |schema: &str, name: &str, owner: Oid, indexed: bool| {
        vec![
            t(schema),
            t(name),
            t(role_name(owner)),
            NULL,
            b(indexed),
            b(false),
            b(false),
            b(false),
        ]
    };
    let computed = TABLES.iter().filter(|v| v.kind == 'r');
    let mut rows: Vec<Row> = computed
        .map(|v| row(v.schema, v.name, Oid(10), false))
        .collect();
    rows.extend(stored(s).map(|x| row(&x.schema_name, &x.name, x.owner, !x.indexes.is_empty())));
    Ok(rows)
}

pub(super) fn pg_views(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let computed = TABLES.iter().filter(|v| v.kind == 'v');
    let mut rows: Vec<Row> = computed
        .map(|v| vec![t(v.schema), t(v.name), t("postgres"), NULL])
        .collect();
    rows.extend(views(s).map(|v| {
        vec![
            t(v.schema_name.as_str()),
            t(v.name.as_str()),
            t(role_name(v.owner)),
            t(view_definition(v)),
        ]
    }));
    Ok(rows)
}

pub(super) fn pg_indexes(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for table in stored(s) {
        for index in &table.indexes {
            rows.push(vec![
                t(table.schema_name.as_str()),
                t(table.name.as_str()),
                t(index.name.as_str()),
                NULL,
                t(index_definition(
                    table,
                    index,
                    &qualified(&table.schema_name, &table.name),
                )),
            ]);
        }
    }
    Ok(rows)
}

pub(super) fn pg_sequences(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |q: &SequenceDesc| {
        vec![
            t(q.schema_name.as_str()),
            t(q.name.as_str()),
            t(role_name(q.owner)),
            o(q.ty),
            i8(q.start),
            i8(q.min),
            i8(q.max),
            i8(q.increment),
            b(q.cycle),
            i8(q.cache),
            NULL,
        ]
    };
    Ok(s.sequences.values().map(|q| row(q)).collect())
}

/// Nothing is counted yet: NULL, not zero.
pub(super) fn pg_stat_tables(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |x: &TableDesc| {
        let mut row = vec![o(x.oid), t(x.schema_name.as_str()), t(x.name.as_str())];
        row.resize(23, NULL);
        row
    };
    Ok(stored(s)
        .filter(|x| x.oid.0 >= FIRST_USER_OID)
        .map(row)
        .collect())
}

pub(super) fn pg_stat_indexes(s: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for table in stored(s) {
        for index in &table.indexes {
            rows.push(vec![
                o(table.oid),
                o(index.oid),
                t(table.schema_name.as_str()),
                t(table.name.as_str()),
                t(index.name.as_str()),
                NULL,
                NULL,
                NULL,
            ]);
        }
    }
    Ok(rows)
}

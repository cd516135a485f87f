//! Every computed table on a small catalog: rows fit their columns, definitions read as
//! PostgreSQL's.

use std::sync::Arc;

use super::{TABLES, describe, find};
use crate::catalog::desc::*;
use crate::catalog::virtual_tables::{Rows, VirtualTable};
use crate::types::testing::Fixed;
use crate::types::{Datum, Oid, PgType};

/// Knows one variable.
const CONTEXT: Fixed = Fixed {
    setting: Some(("statement_timeout", "2min")),
    ..Fixed::UTC
};

fn column(attnum: i16, name: &str, ty: PgType) -> ColumnDesc {
    ColumnDesc {
        not_null: attnum == 1,
        ..ColumnDesc::plain(attnum, name, ty)
    }
}

fn computed(table: &VirtualTable, s: &CatalogSnapshot) -> Vec<Vec<Datum>> {
    match table.rows {
        Rows::Catalog(rows) => rows(s, &CONTEXT).unwrap(),
        Rows::Cluster(rows) => rows(&super::cluster::tests::overview(), s, &CONTEXT).unwrap(),
    }
}

fn sample() -> CatalogSnapshot {
    let mut s = CatalogSnapshot::default();
    for (oid, name) in [
        (PG_CATALOG, "pg_catalog"),
        (PUBLIC, "public"),
        (INFORMATION_SCHEMA, "information_schema"),
    ] {
        let schema = SchemaDesc {
            oid,
            name: name.to_owned(),
            owner: Oid(10),
            comment: Some("c".to_owned()),
        };
        s.schemas.insert(oid, Arc::new(schema));
    }
    let mut id = column(1, "id", PgType::new(Oid::INT4));
    id.identity = Some(Identity::Always);
    id.sequence = Some(Oid(20_001));
    let mut label = column(2, "Label", PgType::with_typmod(Oid::VARCHAR, 24));
    label.default = Some("'x'::character varying".to_owned());
    label.comment = Some("a label".to_owned());
    let mut gone = column(3, "gone", PgType::new(Oid::TEXT));
    gone.dropped = true;
    let price = column(
        4,
        "price",
        PgType::with_typmod(Oid::NUMERIC, (8 << 16 | 2) + 4),
    );
    let key = |column, descending| IndexColumn {
        column,
        descending,
        nulls_first: descending,
    };
    let index = |oid: u32, id, name: &str, columns, kind, constraint: Option<u32>| {
        Arc::new(IndexDesc {
            oid: Oid(oid),
            id,
            name: name.to_owned(),
            columns,
            kind,
            constraint: constraint.map(Oid),
            nulls_not_distinct: false,
            include: Vec::new(),
            comment: None,
        })
    };
    let table = TableDesc {
        oid: Oid(20_000),
        name: "thing".to_owned(),
        schema: PUBLIC,
        schema_name: "public".to_owned(),
        kind: RelationKind::Table,
        version: 1,
        columns: vec![id, label, gone, price],
        storage_key: vec![0],
        storage: 20_000,
        indexes: vec![
            index(
                20_002,
                1,
                "thing_pkey",
                vec![key(0, false)],
                IndexKind::Primary,
                Some(20_003),
            ),
            index(
                20_004,
                2,
                "thing_i",
                vec![key(3, true), key(1, false)],
                IndexKind::Plain,
                None,
            ),
        ],
        next_index: 3,
        checks: vec![CheckDesc {
            oid: Oid(20_005),
            name: "thing_check".to_owned(),
            expr: "(price > 0.5) AND (\"Label\" <> 'id')".to_owned(),
            not_valid: false,
        }],
        owner: Oid(10),
        view: None,
        comment: Some("things".to_owned()),
        depends: Vec::new(),
        options: Vec::new(),
    };
    let view = TableDesc {
        oid: Oid(20_010),
        name: "v".to_owned(),
        kind: RelationKind::View,
        columns: vec![column(1, "id", PgType::new(Oid::INT4))],
        storage_key: Vec::new(),
        indexes: Vec::new(),
        checks: Vec::new(),
        view: Some("SELECT id FROM thing".to_owned()),
        ..table.clone()
    };
    let sequence = SequenceDesc {
        oid: Oid(20_001),
        name: "thing_id_seq".to_owned(),
        schema: PUBLIC,
        schema_name: "public".to_owned(),
        ty: Oid::INT4,
        start: 1,
        increment: 1,
        min: 1,
        max: 2_147_483_647,
        cache: 1,
        cycle: false,
        owned_by: Some((Oid(20_000), 0)),
        owner: Oid(10),
        comment: Some("numbers".to_owned()),
        storage: 20_001,
    };
    s.names.insert((PUBLIC, "thing".to_owned()), Oid(20_000));
    s.names.insert((PUBLIC, "v".to_owned()), Oid(20_010));
    s.tables.insert(table.oid, Arc::new(table));
    s.tables.insert(view.oid, Arc::new(view));
    s.sequences.insert(sequence.oid, Arc::new(sequence));
    s
}

/// Whether a value may stand in a column of that type.
fn fits(value: &Datum, ty: Oid) -> bool {
    match value {
        Datum::Null => true,
        Datum::Bool(_) => ty == Oid::BOOL,
        Datum::Int2(_) => ty == Oid::INT2,
        Datum::Int4(_) => ty == Oid::INT4,
        Datum::Int8(_) => ty == Oid::INT8,
        Datum::Float4(_) => ty == Oid::FLOAT4,
        Datum::Oid(_) => matches!(ty, Oid::OID | Oid::REGPROC | Oid::XID | Oid::REGTYPE),
        Datum::Text(_) => {
            matches!(
                ty,
                Oid::TEXT | Oid::NAME | Oid::CHAR | Oid::VARCHAR | Oid::PG_NODE_TREE
            )
        }
        Datum::Timestamptz(_) => ty == Oid::TIMESTAMPTZ,
        Datum::Interval(_) => ty == Oid::INTERVAL,
        Datum::Array(a) => match ty {
            Oid::INT2VECTOR => a.element == Oid::INT2,
            Oid::OIDVECTOR => a.element == Oid::OID,
            Oid::INT8_ARRAY => a.element == Oid::INT8,
            Oid::INT2_ARRAY => a.element == Oid::INT2,
            Oid::OID_ARRAY => a.element == Oid::OID,
            Oid::TEXT_ARRAY => a.element == Oid::TEXT,
            Oid::CHAR_ARRAY => a.element == Oid::CHAR,
            Oid::ACLITEM_ARRAY => a.element == Oid::ACLITEM,
            _ => false,
        },
        _ => false,
    }
}

#[test]
fn rows_fit_their_columns() {
    let s = sample();
    let mut filled = 0;
    for table in TABLES.iter() {
        let rows = computed(table, &s);
        filled += usize::from(!rows.is_empty());
        for row in &rows {
            assert_eq!(row.len(), table.columns.len(), "{table:?}");
            for (value, (name, ty)) in row.iter().zip(table.columns) {
                assert!(fits(value, *ty), "{table:?}.{name}: {value:?}");
            }
        }
    }
    assert!(filled > 50, "{filled}");
}

#[test]
fn oids_are_unique() {
    let mut oids: Vec<Oid> = TABLES.iter().map(|t| t.oid).collect();
    oids.sort_unstable();
    oids.dedup();
    assert_eq!(oids.len(), TABLES.len());
    assert!(find("pg_catalog", "pg_class").is_some());
    assert!(find("public", "pg_class").is_none());
}

fn cell(table: &str, column: &str, key: (&str, Oid)) -> Datum {
    let table = find("pg_catalog", table).unwrap();
    let at = |name: &str| table.columns.iter().position(|(n, _)| *n == name).unwrap();
    let rows = computed(table, &sample());
    let row = rows
        .into_iter()
        .find(|r| matches!(r[at(key.0)], Datum::Oid(o) if o == key.1));
    row.unwrap()[at(column)].clone()
}

#[test]
fn keys_and_conditions_name_their_columns() {
    let ints = |d: Datum| match d {
        Datum::Array(a) => a.items.iter().filter_map(Datum::as_i64).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    assert_eq!(
        ints(cell("pg_constraint", "conkey", ("oid", Oid(20_005)))),
        [4, 2]
    );
    assert_eq!(
        ints(cell("pg_index", "indkey", ("indexrelid", Oid(20_004)))),
        [4, 2]
    );
    assert_eq!(
        ints(cell("pg_index", "indoption", ("indexrelid", Oid(20_004)))),
        [3, 0]
    );
    assert_eq!(
        ints(cell("pg_index", "indclass", ("indexrelid", Oid(20_004)))),
        [3125, 3126]
    );
}

#[test]
fn definitions() {
    let s = sample();
    let told = |function: &str, args: &[Datum]| match describe(&s, function, args).unwrap() {
        Datum::Text(text) => text.to_string(),
        other => format!("{other:?}"),
    };
    let of = |oid: u32| [Datum::Oid(Oid(oid))];
    assert_eq!(
        told("pg_get_indexdef", &of(20_004)),
        "CREATE INDEX thing_i ON public.thing USING btree (price DESC, \"Label\")"
    );
    let second = [Datum::Oid(Oid(20_004)), Datum::Int4(2), Datum::Bool(true)];
    assert_eq!(told("pg_get_indexdef", &second), "\"Label\"");
    assert_eq!(
        told("pg_get_constraintdef", &of(20_003)),
        "PRIMARY KEY (id)"
    );
    assert_eq!(
        told("pg_get_constraintdef", &of(20_005)),
        "CHECK ((price > 0.5) AND (\"Label\" <> 'id'))"
    );
    assert_eq!(
        told("pg_get_viewdef", &of(20_010)),
        " SELECT id FROM thing;"
    );
    let args = [Datum::text("public.thing"), Datum::text("id")];
    assert_eq!(told("pg_get_serial_sequence", &args), "public.thing_id_seq");
    assert_eq!(
        told(
            "obj_description",
            &[Datum::Oid(Oid(20_000)), Datum::text("pg_class")]
        ),
        "things"
    );
    assert_eq!(
        told(
            "col_description",
            &[Datum::Oid(Oid(20_000)), Datum::Int4(2)]
        ),
        "a label"
    );
    assert_eq!(told("pg_get_userbyid", &of(10)), "postgres");
    assert_eq!(told("pg_get_userbyid", &of(99)), "unknown (OID=99)");
    assert!(describe(&s, "no_such_thing", &[]).is_err());
}

#[test]
fn settings_are_in_their_unit() {
    let table = find("pg_catalog", "pg_settings").unwrap();
    let rows = computed(table, &sample());
    let row = rows
        .iter()
        .find(|r| r[0].as_str() == Some("statement_timeout"))
        .unwrap();
    assert_eq!(
        (row[1].as_str(), row[2].as_str()),
        (Some("120000"), Some("ms"))
    );
}

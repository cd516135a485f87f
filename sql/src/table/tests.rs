//! Rows and keys against themselves: what is written is read, bytes sort as values do.

use proptest::prelude::*;

use crate::catalog::desc::TableDesc;
use crate::exec::tests::setup::{row_text, table};
use crate::types::arrow::datum_at;
use crate::types::testing::Fixed;
use crate::types::{Datum, Oid, PgType};

use super::{Layout, columns, key};

fn wide() -> TableDesc {
    let mut desc = TableDesc::clone(&table());
    let template = desc.columns[0].clone();
    let types = [
        Oid::BOOL,
        Oid::INT2,
        Oid::TEXT,
        Oid::FLOAT8,
        Oid::DATE,
        Oid::TIMESTAMPTZ,
        Oid::UUID,
        Oid::BYTEA,
        Oid::NUMERIC,
        Oid::INT8,
        Oid::JSONB,
    ];
    desc.columns = types
        .iter()
        .enumerate()
        .map(|(i, oid)| {
            let mut column = template.clone();
            column.attnum = i16::try_from(i + 1).expect("attnum");
            column.ty = PgType::new(*oid);
            column
        })
        .collect();
    desc.indexes.clear();
    desc
}

fn value(oid: Oid) -> BoxedStrategy<Datum> {
    let some = match oid {
        Oid::BOOL => any::<bool>().prop_map(Datum::Bool).boxed(),
        Oid::INT2 => any::<i16>().prop_map(Datum::Int2).boxed(),
        Oid::TEXT => ".{0,30}".prop_map(|s: String| Datum::text(s)).boxed(),
        Oid::FLOAT8 => any::<f64>().prop_map(Datum::Float8).boxed(),
        Oid::DATE => any::<i32>().prop_map(Datum::Date).boxed(),
        Oid::TIMESTAMPTZ => any::<i64>().prop_map(Datum::Timestamptz).boxed(),
        Oid::UUID => any::<[u8; 16]>().prop_map(Datum::Uuid).boxed(),
        Oid::BYTEA => any::<Vec<u8>>()
            .prop_map(|b| Datum::Bytea(b.into()))
            .boxed(),
        Oid::NUMERIC => "-?[0-9]{1,12}\\.[0-9]{0,6}"
            .prop_map(|s: String| {
                crate::types::io::input(&s, PgType::new(Oid::NUMERIC), &Fixed::UTC)
                    .expect("numeric")
            })
            .boxed(),
        Oid::JSONB => Just(Datum::Json("{\"a\": 1}".into())).boxed(),
        _ => any::<i64>().prop_map(Datum::Int8).boxed(),
    };
    prop_oneof![1 => Just(Datum::Null), 4 => some].boxed()
}

fn row() -> BoxedStrategy<Vec<Datum>> {
    wide()
        .columns
        .iter()
        .map(|c| value(c.ty.oid))
        .collect::<Vec<_>>()
        .boxed()
}

fn text(row: &[Datum]) -> String {
    // Debug form: exact for every type.
    row.iter().map(|d| format!("{d:?};")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_are_read_as_written(rows in prop::collection::vec(row(), 1..20)) {
        let desc = wide();
        let layout = Layout::new(&desc, &Fixed::UTC).expect("layout");
        let bytes: Vec<_> = rows.iter().map(|r| layout.encode(r).expect("encode")).collect();
        let views: Vec<_> = bytes.iter().map(|b| layout.view(b).expect("view")).collect();
        let positions: Vec<usize> = (0..desc.columns.len()).rev().collect();
        let arrays = columns::decode(&layout, &views, &positions).expect("decode");
        for (i, row) in rows.iter().enumerate() {
            prop_assert_eq!(text(&layout.datums(&bytes[i]).expect("datums")), text(row));
            for (array, position) in arrays.iter().zip(&positions) {
                let found = datum_at(array.as_ref(), i, desc.columns[*position].ty.oid);
                prop_assert_eq!(text(&[found]), text(&row[*position..=*position]));
            }
        }
    }

    #[test]
    fn columns_added_later_are_filled(row in row(), cut in 1_usize..10) {
        let now = wide();
        let mut before = wide();
        before.columns.truncate(cut);
        let mut now_filled = now;
        now_filled.columns[10].missing = Some("[1]".to_owned());
        let old = Layout::new(&before, &Fixed::UTC).expect("layout");
        let new = Layout::new(&now_filled, &Fixed::UTC).expect("layout");
        let bytes = old.encode(&row[..cut]).expect("encode");
        let read = new.datums(&bytes).expect("datums");
        prop_assert_eq!(text(&read[..cut]), text(&row[..cut]));
        prop_assert_eq!(row_text(&read[cut..10]), vec!["-"; 10 - cut].join("|"));
        prop_assert_eq!(text(&read[10..]), text(&[Datum::Json("[1]".into())]));
    }

    #[test]
    fn damaged_rows_never_panic(bytes in any::<Vec<u8>>()) {
        let layout = Layout::new(&wide(), &Fixed::UTC).expect("layout");
        let _ = layout.datums(&bytes);
    }

    #[test]
    fn entries_sort_as_values(a in value(Oid::INT8), b in value(Oid::INT8), desc: bool, first: bool) {
        let bytes = |v: &Datum| {
            let mut out = Vec::new();
            key::append_secondary(v, Oid::INT8, desc, first, &mut out);
            out
        };
        let rank = |v: &Datum| match v.as_i64() {
            None => (if first { 0 } else { 2 }, 0),
            Some(n) => (1, if desc { -i128::from(n) } else { i128::from(n) }),
        };
        prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), rank(&a).cmp(&rank(&b)));
    }
}

#[test]
fn long_rows_take_wide_offsets() {
    let desc = wide();
    let layout = Layout::new(&desc, &Fixed::UTC).expect("layout");
    let mut row = vec![Datum::Null; desc.columns.len()];
    row[2] = Datum::text("x".repeat(70_000));
    row[7] = Datum::Bytea(vec![7; 10].into());
    let bytes = layout.encode(&row).expect("encode");
    assert_eq!(text(&layout.datums(&bytes).expect("datums")), text(&row));
}

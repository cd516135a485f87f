//! Keys of the store as people read them: `table 105, index 1, 17`.
//!
//! Bounds of ranges are cut anywhere, within a value too. What is no whole value of a column whose
//! type is known is shown in hexadecimal, like every key that is of no table.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use pontoon_kv::{Span, keys};
use serde::{Deserialize, Serialize};

use crate::catalog::desc::{CatalogSnapshot, PUBLIC, RelationKind, TableDesc};
use crate::table::key::{PRIMARY, index_span};
use crate::types::registry::EvalContext;
use crate::types::{Datum, Oid, PgType, io};

/// Tables by the numbers under which their rows are stored.
pub(super) struct Storages<'a>(HashMap<u32, &'a Arc<TableDesc>>);

/// A span of keys as people read it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NamedSpan {
    /// Its first key.
    pub start: String,
    /// The first key after it.
    pub end: String,
    /// The tables with keys in it; with their schemas, but for those in `public`.
    pub tables: Vec<String>,
}

/// Spans by the names of tables and indexes, where these are known.
pub(crate) fn name_spans(
    spans: &[Span],
    catalog: &CatalogSnapshot,
    eval: &dyn EvalContext,
) -> Vec<NamedSpan> {
    let storages = Storages::of(catalog);
    let named = spans.iter().map(|span| NamedSpan {
        start: storages.named(&span.start, eval),
        end: storages.named(&span.end, eval),
        tables: storages.within(span),
    });
    named.collect()
}

/// What a key begins with.
struct Place {
    storage: u32,
    index: Option<u32>,
}

impl<'a> Storages<'a> {
    pub(super) fn of(catalog: &'a CatalogSnapshot) -> Self {
        let tables = catalog.tables.values();
        let stored = tables.filter(|table| table.kind == RelationKind::Table);
        Self(stored.map(|table| (table.storage, table)).collect())
    }

    /// The table that a key belongs to.
    pub(super) fn table(&self, key: &[u8]) -> Option<&'a TableDesc> {
        let (place, _) = place(key)?;
        let table = self.0.get(&place.storage).copied()?;
        Some(table.as_ref())
    }

    /// A bound of a range.
    pub(super) fn text(&self, key: &[u8], eval: &dyn EvalContext) -> String {
        if key == keys::SYSTEM_MIN {
            return "start".to_owned();
        }
        if key == keys::END {
            return "end".to_owned();
        }
        let Some((place, rest)) = place(key) else {
            return hex(key);
        };
        let mut text = format!("table {}", place.storage);
        let Some(index) = place.index else {
            return text;
        };
        let _ = write!(text, ", index {index}");
        for value in values(self.0.get(&place.storage).copied(), index, rest, eval) {
            let _ = write!(text, ", {value}");
        }
        text
    }

    /// [`Self::text`] with the name of the table or index, where that is known: `inventory (17)`.
    pub(super) fn named(&self, key: &[u8], eval: &dyn EvalContext) -> String {
        let known = place(key).and_then(|(place, rest)| {
            let table = self.0.get(&place.storage).copied()?;
            let index = place.index.unwrap_or(PRIMARY);
            Some((table, index, relation_name(table, index)?, rest))
        });
        let Some((table, index, name, rest)) = known else {
            return self.text(key, eval);
        };
        match values(Some(table), index, rest, eval) {
            values if values.is_empty() => name,
            values => format!("{name} ({})", values.join(", ")),
        }
    }

    /// The names of the tables with keys in a span, in the order of their keys.
    pub(super) fn within(&self, span: &Span) -> Vec<String> {
        let tables = self.0.values().filter(|table| {
            let indexes = table.indexes.iter().map(|index| index.id);
            let mut indexes = indexes.chain([PRIMARY]);
            indexes.any(|index| index_span(table.storage, index).common(span).is_some())
        });
        let mut tables: Vec<_> = tables.collect();
        tables.sort_by_key(|table| table.storage);
        let names = tables
            .into_iter()
            .map(|table| qualified(table, &table.name));
        names.collect()
    }
}

/// The name of a table, or of one of its secondary indexes.
fn relation_name(table: &TableDesc, index: u32) -> Option<String> {
    if index == PRIMARY {
        return Some(qualified(table, &table.name));
    }
    let found = table.indexes.iter().find(|found| found.id == index);
    found.map(|index| qualified(table, &index.name))
}

/// The name of what lies in the schema of a table, with the schema unless that is public.
fn qualified(table: &TableDesc, name: &str) -> String {
    match table.schema {
        PUBLIC => name.to_owned(),
        _ => format!("{}.{name}", table.schema_name),
    }
}

/// What follows the number of the index in a key: values of its columns, as far as they can be
/// read, and what is left.
fn values(
    table: Option<&Arc<TableDesc>>,
    index: u32,
    mut rest: &[u8],
    eval: &dyn EvalContext,
) -> Vec<String> {
    let mut values = Vec::new();
    for column in table.into_iter().flat_map(|table| columns(table, index)) {
        let mut left = rest;
        let Some(value) = column.read(&mut left).filter(|_| !rest.is_empty()) else {
            break;
        };
        rest = left;
        let mut text = String::new();
        shown(&value, column.ty, eval, &mut text);
        values.push(text);
    }
    if !rest.is_empty() {
        values.push(hex(rest));
    }
    values
}

/// Where a key of a table belongs, and what follows.
fn place(key: &[u8]) -> Option<(Place, &[u8])> {
    let (prefix, rest) = key.split_first()?;
    let (storage, rest) = rest.split_first_chunk()?;
    if *prefix != keys::TABLE {
        return None;
    }
    let storage = u32::from_be_bytes(*storage);
    let (index, rest) = match rest.split_first_chunk() {
        Some((index, rest)) => (Some(u32::from_be_bytes(*index)), rest),
        None if rest.is_empty() => (None, rest),
        None => return None,
    };
    Some((Place { storage, index }, rest))
}

fn hex(key: &[u8]) -> String {
    let mut text = "\\x".to_owned();
    for byte in key {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn shown(value: &Datum, ty: PgType, eval: &dyn EvalContext, to: &mut String) {
    if value.is_null() {
        to.push_str("NULL");
        return;
    }
    let mut text = String::new();
    io::output(value, ty, eval, &mut text);
    match value {
        Datum::Bool(_) | Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) | Datum::Oid(_) => {
            to.push_str(&text);
        }
        _ => {
            let _ = write!(to, "'{}'", text.replace('\'', "''"));
        }
    }
}

/// A column of a key.
struct KeyColumn {
    ty: PgType,
    descending: bool,
    /// A marker stands before it, as it may be NULL.
    marked: bool,
}

/// The columns that keys of an index begin with.
fn columns(table: &TableDesc, index: u32) -> Vec<KeyColumn> {
    let ty = |position: usize| table.columns.get(position).map(|column| column.ty);
    if index == PRIMARY {
        let key = table.storage_key.iter();
        let column = |position: &usize| {
            Some(KeyColumn {
                ty: ty(*position)?,
                descending: false,
                marked: false,
            })
        };
        return key.map_while(column).collect();
    }
    let found = table.indexes.iter().find(|found| found.id == index);
    let key = found.into_iter().flat_map(|found| &found.columns);
    key.map_while(|column| {
        Some(KeyColumn {
            ty: ty(column.column)?,
            descending: column.descending,
            marked: true,
        })
    })
    .collect()
}

impl KeyColumn {
    /// Reads a value and moves `from` behind it; `None` where there is no whole one, or its type
    /// cannot be read back.
    fn read(&self, from: &mut &[u8]) -> Option<Datum> {
        if self.marked && keys::decode_is_null(from).ok()? {
            return Some(Datum::Null);
        }
        let desc = self.descending;
        Some(match self.ty.oid {
            Oid::BOOL => Datum::Bool(keys::decode_bool(from, desc).ok()?),
            Oid::INT2 => Datum::Int2(keys::decode_i16(from, desc).ok()?),
            Oid::INT4 => Datum::Int4(keys::decode_i32(from, desc).ok()?),
            Oid::DATE => Datum::Date(keys::decode_i32(from, desc).ok()?),
            Oid::INT8 => Datum::Int8(keys::decode_i64(from, desc).ok()?),
            Oid::TIMESTAMP => Datum::Timestamp(keys::decode_i64(from, desc).ok()?),
            Oid::TIMESTAMPTZ => Datum::Timestamptz(keys::decode_i64(from, desc).ok()?),
            Oid::UUID => Datum::Uuid(keys::decode_fixed16(from, desc).ok()?),
            Oid::TEXT | Oid::VARCHAR | Oid::NAME => {
                let text = String::from_utf8(bytes(from, desc)?).ok()?;
                Datum::Text(text.into())
            }
            _ => return None,
        })
    }
}

/// The way back from `types::sort_key`'s strings: 0 is written as 0 0xFF, the end as 0 0.
fn bytes(from: &mut &[u8], desc: bool) -> Option<Vec<u8>> {
    let flip = |byte: u8| if desc { !byte } else { byte };
    let mut read = Vec::new();
    let mut left = *from;
    loop {
        let (first, rest) = left.split_first()?;
        left = rest;
        if flip(*first) != 0 {
            read.push(flip(*first));
            continue;
        }
        let (second, rest) = left.split_first()?;
        left = rest;
        match flip(*second) {
            0 => break,
            0xFF => read.push(0),
            _ => return None,
        }
    }
    *from = left;
    Some(read)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::catalog::desc::{ColumnDesc, IndexColumn, IndexDesc, IndexKind};
    use crate::table::key;
    use crate::types::testing::Fixed;

    fn table() -> TableDesc {
        let types = [Oid::INT4, Oid::TEXT, Oid::NUMERIC, Oid::TIMESTAMP];
        let columns = (1..).zip(types).map(|(n, ty)| ColumnDesc {
            not_null: true,
            ..ColumnDesc::plain(n, format!("c{n}"), PgType::new(ty))
        });
        let by = |column, descending| IndexColumn {
            column,
            descending,
            nulls_first: descending,
        };
        TableDesc {
            oid: Oid(20_000),
            name: "t".to_owned(),
            schema: PUBLIC,
            schema_name: "public".to_owned(),
            kind: RelationKind::Table,
            version: 1,
            columns: columns.collect(),
            storage_key: vec![0, 1],
            storage: 105,
            indexes: vec![Arc::new(IndexDesc {
                oid: Oid(20_001),
                id: 2,
                name: "i".to_owned(),
                columns: vec![by(1, true), by(3, false), by(2, false)],
                kind: IndexKind::Plain,
                constraint: None,
                nulls_not_distinct: false,
                include: Vec::new(),
                comment: None,
            })],
            next_index: 3,
            checks: Vec::new(),
            owner: Oid(10),
            view: None,
            comment: None,
            depends: Vec::new(),
            options: Vec::new(),
        }
    }

    #[test]
    fn keys_are_readable() {
        let mut catalog = CatalogSnapshot::default();
        let table = Arc::new(table());
        catalog.tables.insert(table.oid, Arc::clone(&table));
        let storages = Storages::of(&catalog);
        let text = |key: &[u8]| storages.text(key, &Fixed::UTC);
        assert_eq!(text(keys::SYSTEM_MIN), "start");
        assert_eq!(text(keys::END), "end");
        assert_eq!(text(&[0x10, 0xab]), "\\x10ab");
        let part = key::row_start(&table, &[Datum::Int4(-17)]).unwrap();
        assert_eq!(text(&part), "table 105, index 1, -17");
        let whole = [Datum::Int4(17), Datum::text("it's\0")];
        let whole = key::row_start(&table, &whole).unwrap();
        assert_eq!(text(&whole), "table 105, index 1, 17, 'it''s\0'");
        // The text is cut off, and the integer, and the number of the index.
        assert_eq!(
            text(&whole[..whole.len() - 2]),
            "table 105, index 1, 17, \\x6974277300ff"
        );
        assert_eq!(text(&part[..11]), "table 105, index 1, \\x7fff");
        assert_eq!(text(&part[..9]), "table 105, index 1");
        assert_eq!(text(&part[..7]), "\\x20000000690000");
        assert_eq!(text(&part[..5]), "table 105");
        let entry = [Datum::text("b"), Datum::Null, Datum::Int4(1)];
        let entry = key::index_start(&table, &table.indexes[0], &entry).unwrap();
        assert!(
            text(&entry).starts_with("table 105, index 2, 'b', NULL, \\x01"),
            "{}",
            text(&entry)
        );
        // Of a table that is not there any more.
        let gone = key::prefix(99, 1);
        assert_eq!(
            text(&[&gone[..], &[1]].concat()),
            "table 99, index 1, \\x01"
        );
        assert!(storages.table(&gone).is_none());
        let named = |key: &[u8]| storages.named(key, &Fixed::UTC);
        assert_eq!(named(&whole), "t (17, 'it''s\0')");
        assert_eq!(named(&part[..9]), "t");
        assert_eq!(named(&part[..5]), "t");
        assert!(named(&entry).starts_with("i ('b', NULL, \\x01"));
        assert_eq!(named(&gone), "table 99, index 1");
        assert_eq!(named(keys::END), "end");
        assert_eq!(storages.table(&whole).map(|t| t.name.as_str()), Some("t"));
        let within = |start: &[u8], end: &[u8]| {
            let [start, end] = [start, end].map(Bytes::copy_from_slice);
            storages.within(&Span { start, end })
        };
        assert_eq!(within(&whole, keys::END), ["t"]);
        assert_eq!(within(keys::SYSTEM_MIN, &part), ["t"]);
        assert!(within(keys::SYSTEM_MIN, &part[..9]).is_empty());
        assert!(within(&key::prefix(105, 3), keys::END).is_empty());
    }
}

//! Short constructors for the values of catalog rows.

use std::sync::Arc;

use crate::types::{ArrayValue, Datum, Oid};

/// A row.
pub(super) type Row = Vec<Datum>;

/// NULL.
pub(super) const NULL: Datum = Datum::Null;

/// text, name, "char", pg_node_tree.
pub(super) fn t(s: impl Into<Arc<str>>) -> Datum {
    Datum::Text(s.into())
}

/// The same, or NULL.
pub(super) fn t_or_null(s: Option<impl Into<Arc<str>>>) -> Datum {
    s.map_or(NULL, t)
}

/// oid, reg*, xid.
pub(super) fn o(oid: Oid) -> Datum {
    Datum::Oid(oid)
}

/// A fixed oid.
pub(super) fn n(oid: u32) -> Datum {
    Datum::Oid(Oid(oid))
}

/// No object.
pub(super) const NONE: Datum = Datum::Oid(Oid::INVALID);

/// bool.
pub(super) fn b(value: bool) -> Datum {
    Datum::Bool(value)
}

/// int2.
pub(super) fn i2(value: i16) -> Datum {
    Datum::Int2(value)
}

/// int4.
pub(super) fn i4(value: i32) -> Datum {
    Datum::Int4(value)
}

/// int8.
pub(super) fn i8(value: i64) -> Datum {
    Datum::Int8(value)
}

/// A number of things as int2.
pub(super) fn count2(value: usize) -> Datum {
    Datum::Int2(i16::try_from(value).unwrap_or(i16::MAX))
}

/// `YES` or `NO` of information_schema.
pub(super) fn yes(value: bool) -> Datum {
    t(if value { "YES" } else { "NO" })
}

/// A one-dimensional array.
pub(super) fn array(element: Oid, items: Vec<Datum>) -> Datum {
    Datum::Array(Arc::new(ArrayValue::vector(element, items)))
}

/// int2[].
pub(super) fn int2s(items: impl IntoIterator<Item = i16>) -> Datum {
    array(Oid::INT2, items.into_iter().map(Datum::Int2).collect())
}

/// An int2vector or oidvector: lower bound 0.
pub(super) fn vector(element: Oid, items: Vec<Datum>) -> Datum {
    let dims = vec![(i32::try_from(items.len()).unwrap_or(0), 0)];
    Datum::Array(Arc::new(ArrayValue {
        element,
        dims,
        items,
    }))
}

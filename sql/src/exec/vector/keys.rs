//! Values of different integer types under one hash key.

use crate::types::{Datum, Oid};

/// A value of one side of an equality between two types, in the wider one of them.
pub fn widened(value: Datum, left: Oid, right: Oid) -> (Datum, Oid) {
    if left == right {
        return (value, left);
    }
    match value.as_i64() {
        Some(v) if left != Oid::OID && right != Oid::OID => (Datum::Int8(v), Oid::INT8),
        _ => (value, left),
    }
}

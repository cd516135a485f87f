//! PostgreSQL's order of two values of one type. NULLs come last.

use std::cmp::Ordering;

use super::array::ArrayValue;
use super::datum::Datum;
use super::json;

/// PostgreSQL's order of floats: NaN is the greatest and equal to itself, -0 equals 0.
pub(crate) fn float(a: f64, b: f64) -> Ordering {
    match a.partial_cmp(&b) {
        Some(order) => order,
        None => a.is_nan().cmp(&b.is_nan()),
    }
}

/// PostgreSQL's order. Values of different numeric types compare by value; of other different
/// types by an order that has no meaning but is total.
pub fn compare(a: &Datum, b: &Datum) -> Ordering {
    use Datum as D;
    match (a, b) {
        (D::Null, D::Null) => Ordering::Equal,
        (D::Null, _) => Ordering::Greater,
        (_, D::Null) => Ordering::Less,
        (D::Bool(a), D::Bool(b)) => a.cmp(b),
        (D::Float4(a), D::Float4(b)) => float(f64::from(*a), f64::from(*b)),
        (D::Float8(a), D::Float8(b)) => float(*a, *b),
        (D::Float4(a), D::Float8(b)) => float(f64::from(*a), *b),
        (D::Float8(a), D::Float4(b)) => float(*a, f64::from(*b)),
        (D::Numeric(a), D::Numeric(b)) => a.cmp(b),
        (D::Text(a), D::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (D::Json(a), D::Json(b)) => json::compare_text(a, b),
        (D::Bytea(a), D::Bytea(b)) => a.cmp(b),
        (D::Date(a), D::Date(b)) => a.cmp(b),
        (D::Time(a), D::Time(b)) => a.cmp(b),
        (D::TimeTz(a, za), D::TimeTz(b, zb)) => {
            let utc = |t: i64, z: i32| t - i64::from(z) * 1_000_000;
            utc(*a, *za).cmp(&utc(*b, *zb)).then(zb.cmp(za))
        }
        (D::Timestamp(a), D::Timestamp(b)) | (D::Timestamptz(a), D::Timestamptz(b)) => a.cmp(b),
        (D::Interval(a), D::Interval(b)) => a.comparable().cmp(&b.comparable()),
        (D::Uuid(a), D::Uuid(b)) => a.cmp(b),
        (D::Array(a), D::Array(b)) => arrays(a, b),
        (D::Record(a), D::Record(b)) => a
            .iter()
            .zip(b.iter())
            .map(|((_, a), (_, b))| compare(a, b))
            .find(|o| o.is_ne())
            .unwrap_or_else(|| a.len().cmp(&b.len())),
        _ => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => rank(a).cmp(&rank(b)),
        },
    }
}

/// Elements first, then their number, then the shape.
fn arrays(a: &ArrayValue, b: &ArrayValue) -> Ordering {
    a.items
        .iter()
        .zip(b.items.iter())
        .map(|(a, b)| compare(a, b))
        .find(|o| o.is_ne())
        .unwrap_or_else(|| a.items.len().cmp(&b.items.len()))
        .then_with(|| a.dims.len().cmp(&b.dims.len()))
        .then_with(|| a.dims.cmp(&b.dims))
}

fn rank(value: &Datum) -> u8 {
    match value {
        Datum::Null => 255,
        Datum::Bool(_) => 0,
        Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) | Datum::Oid(_) => 1,
        Datum::Float4(_) | Datum::Float8(_) => 2,
        Datum::Numeric(_) => 3,
        Datum::Text(_) => 4,
        Datum::Json(_) => 5,
        Datum::Bytea(_) => 6,
        Datum::Date(_) => 7,
        Datum::Time(_) => 8,
        Datum::TimeTz(..) => 9,
        Datum::Timestamp(_) => 10,
        Datum::Timestamptz(_) => 11,
        Datum::Interval(_) => 12,
        Datum::Uuid(_) => 13,
        Datum::Array(_) => 14,
        Datum::Record(_) => 15,
    }
}

//! Bytes whose order and equality are PostgreSQL's, for any type; they delimit themselves, so
//! that several can follow each other in a key.
//!
//! Invariant: `append(a) < append(b)` exactly when `compare(a, b)` is less.

use super::datum::Datum;
use super::json;
use super::oid::Oid;

/// Whether values of the type must be compared through their sort keys, because their Arrow form
/// does not compare as PostgreSQL compares.
pub fn needs_key(ty: Oid) -> bool {
    match ty {
        Oid::NUMERIC | Oid::INTERVAL | Oid::JSONB | Oid::TIMETZ | Oid::RECORD => true,
        Oid::FLOAT4 | Oid::FLOAT8 => false,
        Oid::INT2VECTOR | Oid::OIDVECTOR => true,
        _ => super::registry::registry()
            .type_info(ty)
            .is_some_and(|t| t.category == 'A'),
    }
}

/// Appends the key of a value. NULL is greater than everything, as within arrays; an executor
/// that wants NULLs elsewhere marks them itself.
pub fn append(value: &Datum, ty: Oid, out: &mut Vec<u8>) {
    match value {
        Datum::Null => out.push(0xFF),
        Datum::Json(text) if ty != Oid::JSON => json::append_key(text, out),
        Datum::Text(text) if ty == Oid::JSONB => json::append_key(text, out),
        _ => append_value(value, out),
    }
}

fn append_value(value: &Datum, out: &mut Vec<u8>) {
    match value {
        Datum::Null => out.push(0xFF),
        Datum::Bool(v) => out.push(u8::from(*v)),
        Datum::Int2(v) => out.extend_from_slice(&((*v as u16) ^ 0x8000).to_be_bytes()),
        Datum::Int4(v) | Datum::Date(v) => {
            out.extend_from_slice(&((*v as u32) ^ 0x8000_0000).to_be_bytes());
        }
        Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::Timestamptz(v) => {
            append_i64(*v, out);
        }
        Datum::Oid(v) => out.extend_from_slice(&v.0.to_be_bytes()),
        Datum::Float4(v) => append_f64(f64::from(*v), out),
        Datum::Float8(v) => append_f64(*v, out),
        Datum::Numeric(v) => v.append_key(out),
        Datum::Text(v) => append_bytes(v.as_bytes(), out),
        Datum::Json(v) => json::append_key(v, out),
        Datum::Bytea(v) => append_bytes(v, out),
        Datum::TimeTz(time, zone) => {
            append_i64(time - i64::from(*zone) * 1_000_000, out);
            out.extend_from_slice(&((-*zone as u32) ^ 0x8000_0000).to_be_bytes());
        }
        Datum::Interval(v) => {
            out.extend_from_slice(&((v.comparable() as u128) ^ (1 << 127)).to_be_bytes());
        }
        Datum::Uuid(v) => out.extend_from_slice(v),
        Datum::Array(array) => {
            for item in &array.items {
                append_item(item, out);
            }
            out.push(0);
            out.push(array.dims.len() as u8);
            for (length, lower) in &array.dims {
                append_value(&Datum::Int4(*length), out);
                append_value(&Datum::Int4(*lower), out);
            }
        }
        Datum::Record(fields) => {
            for (_, item) in fields.iter() {
                append_item(item, out);
            }
            out.push(0);
        }
    }
}

fn append_item(item: &Datum, out: &mut Vec<u8>) {
    if item.is_null() {
        out.push(2);
    } else {
        out.push(1);
        append_value(item, out);
    }
}

fn append_i64(v: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&((v as u64) ^ (1 << 63)).to_be_bytes());
}

fn append_f64(v: f64, out: &mut Vec<u8>) {
    let bits = if v.is_nan() {
        f64::NAN.to_bits() & !(1 << 63)
    } else if v == 0.0 {
        0
    } else {
        v.to_bits()
    };
    let ordered = if bits >> 63 == 1 {
        !bits
    } else {
        bits | (1 << 63)
    };
    out.extend_from_slice(&ordered.to_be_bytes());
}

/// Bytes with 0 escaped as 0 0xFF and 0 0 at the end.
pub(super) fn append_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    for b in bytes {
        out.push(*b);
        if *b == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

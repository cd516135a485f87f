//! Output: the text of a value.

use super::scalar::{write_bytea, write_float4, write_float8, write_uuid};
use crate::parse::keywords;
use crate::types::datum::Datum;
use crate::types::oid::{Oid, PgType};
use crate::types::registry::{EvalContext, registry};
use crate::types::{array_io, datetime, regclass};

/// Appends the text of a value (nothing for NULL). `bpchar(n)` is padded here.
pub fn output(value: &Datum, ty: PgType, cx: &dyn EvalContext, out: &mut String) {
    match value {
        Datum::Null => {}
        Datum::Bool(v) => out.push(if *v { 't' } else { 'f' }),
        Datum::Int2(v) => out.push_str(itoa::Buffer::new().format(*v)),
        Datum::Int4(v) => out.push_str(itoa::Buffer::new().format(*v)),
        Datum::Int8(v) => out.push_str(itoa::Buffer::new().format(*v)),
        Datum::Oid(v) => match ty.oid {
            Oid::OID | Oid::XID | Oid::CID | Oid::INVALID => {
                out.push_str(itoa::Buffer::new().format(v.0));
            }
            kind => regclass::output(*v, kind, cx, out),
        },
        Datum::Float4(v) => write_float4(*v, out),
        Datum::Float8(v) => write_float8(*v, out),
        Datum::Numeric(v) => v.write(out),
        Datum::Text(v) => {
            out.push_str(v);
            if ty.oid == Oid::BPCHAR && ty.typmod > 4 {
                let width = (ty.typmod - 4) as usize;
                let have = if v.is_ascii() {
                    v.len()
                } else {
                    v.chars().count()
                };
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(have)));
            }
        }
        Datum::Json(v) => out.push_str(v),
        Datum::Bytea(v) => write_bytea(v, out),
        Datum::Date(v) => datetime::write_date(*v, out),
        Datum::Time(v) => datetime::write_time(*v, out),
        Datum::TimeTz(v, offset) => datetime::write_timetz(*v, *offset, out),
        Datum::Timestamp(v) => datetime::write_timestamp(*v, out),
        Datum::Timestamptz(v) => datetime::write_timestamptz(*v, cx.time_zone(), out),
        Datum::Interval(v) => datetime::write_interval(*v, out),
        Datum::Uuid(v) => write_uuid(v, out),
        Datum::Array(v) => {
            if matches!(ty.oid, Oid::INT2VECTOR | Oid::OIDVECTOR) {
                array_io::write_vector(v, cx, out);
            } else {
                array_io::write(v, ty.typmod, cx, out);
            }
        }
        Datum::Record(fields) => array_io::write_record(fields, cx, out),
    }
}

/// The text of a value as a new string.
pub fn to_text(value: &Datum, ty: Oid, cx: &dyn EvalContext) -> String {
    let mut out = String::new();
    output(value, PgType::new(ty), cx, &mut out);
    out
}

/// Appends an identifier, quoted where it must be.
pub fn quote_identifier(name: &str, out: &mut String) {
    out.push_str(&keywords::quoted(name));
}

/// The element type of an array type and the like, for callers that hold only the value.
pub(crate) fn type_of(value: &Datum) -> Oid {
    match value {
        Datum::Null => Oid::UNKNOWN,
        Datum::Bool(_) => Oid::BOOL,
        Datum::Int2(_) => Oid::INT2,
        Datum::Int4(_) => Oid::INT4,
        Datum::Int8(_) => Oid::INT8,
        Datum::Oid(_) => Oid::OID,
        Datum::Float4(_) => Oid::FLOAT4,
        Datum::Float8(_) => Oid::FLOAT8,
        Datum::Numeric(_) => Oid::NUMERIC,
        Datum::Text(_) => Oid::TEXT,
        Datum::Json(_) => Oid::JSONB,
        Datum::Bytea(_) => Oid::BYTEA,
        Datum::Date(_) => Oid::DATE,
        Datum::Time(_) => Oid::TIME,
        Datum::TimeTz(..) => Oid::TIMETZ,
        Datum::Timestamp(_) => Oid::TIMESTAMP,
        Datum::Timestamptz(_) => Oid::TIMESTAMPTZ,
        Datum::Interval(_) => Oid::INTERVAL,
        Datum::Uuid(_) => Oid::UUID,
        Datum::Array(a) => registry().array_of(a.element).unwrap_or(Oid::TEXT_ARRAY),
        Datum::Record(_) => Oid::RECORD,
    }
}

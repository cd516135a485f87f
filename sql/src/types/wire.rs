//! Encoders straight into a message buffer: from values and from Arrow columns, without boxing
//! for the types that are most common. They write the value alone; the caller writes its length
//! and handles NULL.

use std::cell::RefCell;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};

use super::datum::Datum;
use super::oid::{Oid, PgType};
use super::registry::EvalContext;
use super::{binary, datetime, io};

thread_local! {
    static SCRATCH: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Writes through a text buffer that the thread keeps.
fn through_text(out: &mut Vec<u8>, write: impl FnOnce(&mut String)) {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut text) => {
            text.clear();
            write(&mut text);
            out.extend_from_slice(text.as_bytes());
        }
        Err(_) => {
            let mut text = String::new();
            write(&mut text);
            out.extend_from_slice(text.as_bytes());
        }
    });
}

fn integer(v: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(v).as_bytes());
}

/// Appends the text of a value.
pub fn wire_text(value: &Datum, ty: PgType, cx: &dyn EvalContext, out: &mut Vec<u8>) {
    match value {
        Datum::Null => {}
        Datum::Bool(v) => out.push(if *v { b't' } else { b'f' }),
        Datum::Int2(v) => integer(*v, out),
        Datum::Int4(v) => integer(*v, out),
        Datum::Int8(v) => integer(*v, out),
        Datum::Text(v) if ty.oid != Oid::BPCHAR => out.extend_from_slice(v.as_bytes()),
        Datum::Json(v) => out.extend_from_slice(v.as_bytes()),
        other => through_text(out, |text| io::output(other, ty, cx, text)),
    }
}

/// Appends the binary form of a value.
pub fn wire_binary(value: &Datum, ty: PgType, out: &mut Vec<u8>) {
    match value {
        Datum::Text(v) if ty.oid == Oid::BPCHAR && ty.typmod > 4 => {
            through_text(out, |text| pad(v, ty.typmod, text));
        }
        other => binary::send(other, ty.oid, out),
    }
}

fn pad(value: &str, typmod: i32, out: &mut String) {
    out.push_str(value);
    let width = usize::try_from(typmod - 4).unwrap_or(0);
    out.extend(std::iter::repeat_n(
        ' ',
        width.saturating_sub(value.chars().count()),
    ));
}

/// Appends the text of the value at a row of a column (nothing for NULL).
pub fn wire_text_at(
    column: &dyn Array,
    row: usize,
    ty: PgType,
    cx: &dyn EvalContext,
    out: &mut Vec<u8>,
) {
    if column.is_null(row) {
        return;
    }
    match ty.oid {
        Oid::INT4 => {
            if let Some(a) = column.as_primitive_opt::<Int32Type>() {
                return integer(a.value(row), out);
            }
        }
        Oid::INT8 => {
            if let Some(a) = column.as_primitive_opt::<Int64Type>() {
                return integer(a.value(row), out);
            }
        }
        Oid::INT2 => {
            if let Some(a) = column.as_primitive_opt::<Int16Type>() {
                return integer(a.value(row), out);
            }
        }
        Oid::TEXT | Oid::VARCHAR | Oid::NAME | Oid::JSON | Oid::JSONB | Oid::UNKNOWN => {
            if let Some(a) = column.as_string_opt::<i32>() {
                return out.extend_from_slice(a.value(row).as_bytes());
            }
        }
        Oid::BOOL => {
            if let Some(a) = column.as_boolean_opt() {
                return out.push(if a.value(row) { b't' } else { b'f' });
            }
        }
        Oid::FLOAT8 => {
            if let Some(a) = column.as_primitive_opt::<Float64Type>() {
                return through_text(out, |text| io::write_float8(a.value(row), text));
            }
        }
        Oid::DATE => {
            if let Some(a) = column.as_primitive_opt::<Date32Type>() {
                return through_text(out, |text| datetime::write_date(a.value(row), text));
            }
        }
        Oid::TIMESTAMP => {
            if let Some(a) = column.as_primitive_opt::<TimestampMicrosecondType>() {
                return through_text(out, |text| datetime::write_timestamp(a.value(row), text));
            }
        }
        _ => {}
    }
    let value = super::arrow::datum_at(column, row, ty.oid);
    wire_text(&value, ty, cx, out);
}

/// Appends the binary form of the value at a row of a column (nothing for NULL).
pub fn wire_binary_at(column: &dyn Array, row: usize, ty: PgType, out: &mut Vec<u8>) {
    if column.is_null(row) {
        return;
    }
    match ty.oid {
        Oid::INT4 => {
            if let Some(a) = column.as_primitive_opt::<Int32Type>() {
                return out.extend_from_slice(&a.value(row).to_be_bytes());
            }
        }
        Oid::INT8 => {
            if let Some(a) = column.as_primitive_opt::<Int64Type>() {
                return out.extend_from_slice(&a.value(row).to_be_bytes());
            }
        }
        Oid::TEXT | Oid::VARCHAR | Oid::NAME | Oid::JSON | Oid::UNKNOWN => {
            if let Some(a) = column.as_string_opt::<i32>() {
                return out.extend_from_slice(a.value(row).as_bytes());
            }
        }
        Oid::FLOAT8 => {
            if let Some(a) = column.as_primitive_opt::<Float64Type>() {
                return out.extend_from_slice(&a.value(row).to_be_bytes());
            }
        }
        Oid::FLOAT4 => {
            if let Some(a) = column.as_primitive_opt::<Float32Type>() {
                return out.extend_from_slice(&a.value(row).to_be_bytes());
            }
        }
        Oid::TIMESTAMP | Oid::TIMESTAMPTZ => {
            if let Some(a) = column.as_primitive_opt::<TimestampMicrosecondType>() {
                return out.extend_from_slice(&binary::timestamp(a.value(row)).to_be_bytes());
            }
        }
        _ => {}
    }
    wire_binary(&super::arrow::datum_at(column, row, ty.oid), ty, out);
}

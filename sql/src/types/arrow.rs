//! Between values and Arrow columns, in the forms that [`super::datum`] lists.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, NullArray,
    PrimitiveBuilder, StringBuilder,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use bytes::Bytes;

use super::array::{ArrayValue, read_record, write_record};
use super::datum::{Datum, Interval};
use super::numeric::Numeric;
use super::oid::Oid;
use super::registry::registry;
use crate::error::SqlError;

/// The Arrow type of a PostgreSQL type.
pub fn arrow_type(ty: Oid) -> DataType {
    match ty {
        Oid::BOOL => DataType::Boolean,
        Oid::INT2 => DataType::Int16,
        Oid::INT4 => DataType::Int32,
        Oid::INT8 => DataType::Int64,
        Oid::OID
        | Oid::XID
        | Oid::CID
        | Oid::REGCLASS
        | Oid::REGTYPE
        | Oid::REGPROC
        | Oid::REGPROCEDURE
        | Oid::REGOPER
        | Oid::REGOPERATOR
        | Oid::REGNAMESPACE
        | Oid::REGROLE => DataType::UInt32,
        Oid::FLOAT4 => DataType::Float32,
        Oid::FLOAT8 => DataType::Float64,
        Oid::NUMERIC | Oid::BYTEA | Oid::RECORD => DataType::Binary,
        Oid::DATE => DataType::Date32,
        Oid::TIME => DataType::Time64(TimeUnit::Microsecond),
        Oid::TIMESTAMP | Oid::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, None),
        Oid::TIMETZ => DataType::FixedSizeBinary(12),
        Oid::INTERVAL | Oid::UUID => DataType::FixedSizeBinary(16),
        Oid::VOID => DataType::Null,
        Oid::INT2VECTOR | Oid::OIDVECTOR | Oid::ANYARRAY => DataType::Binary,
        _ => match registry().type_info(ty) {
            Some(info) if info.category == 'A' => DataType::Binary,
            _ => DataType::Utf8,
        },
    }
}

/// The value at a row. A column of another Arrow type than [`arrow_type`] gives what it can (wider
/// integers narrow, string views read), else NULL.
pub fn datum_at(column: &dyn Array, row: usize, ty: Oid) -> Datum {
    if row >= column.len() || column.is_null(row) {
        return Datum::Null;
    }
    match column.data_type() {
        DataType::Boolean => Datum::Bool(column.as_boolean().value(row)),
        DataType::Int16 => integer(i64::from(column.as_primitive::<Int16Type>().value(row)), ty),
        DataType::Int32 => integer(i64::from(column.as_primitive::<Int32Type>().value(row)), ty),
        DataType::Int64 => integer(column.as_primitive::<Int64Type>().value(row), ty),
        DataType::UInt32 => integer(
            i64::from(column.as_primitive::<UInt32Type>().value(row)),
            ty,
        ),
        DataType::UInt64 => integer(column.as_primitive::<UInt64Type>().value(row) as i64, ty),
        DataType::Float32 => {
            let v = column.as_primitive::<Float32Type>().value(row);
            if ty == Oid::FLOAT8 {
                Datum::Float8(f64::from(v))
            } else {
                Datum::Float4(v)
            }
        }
        DataType::Float64 => {
            let v = column.as_primitive::<Float64Type>().value(row);
            if ty == Oid::FLOAT4 {
                Datum::Float4(v as f32)
            } else {
                Datum::Float8(v)
            }
        }
        DataType::Utf8 => text(column.as_string::<i32>().value(row), ty),
        DataType::LargeUtf8 => text(column.as_string::<i64>().value(row), ty),
        DataType::Utf8View => text(column.as_string_view().value(row), ty),
        DataType::Date32 => Datum::Date(column.as_primitive::<Date32Type>().value(row)),
        DataType::Time64(TimeUnit::Microsecond) => {
            Datum::Time(column.as_primitive::<Time64MicrosecondType>().value(row))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let v = column.as_primitive::<TimestampMicrosecondType>().value(row);
            if ty == Oid::TIMESTAMPTZ {
                Datum::Timestamptz(v)
            } else {
                Datum::Timestamp(v)
            }
        }
        DataType::FixedSizeBinary(_) => fixed(column.as_fixed_size_binary().value(row), ty),
        DataType::Binary => binary(column.as_binary::<i32>().value(row), ty),
        DataType::LargeBinary => binary(column.as_binary::<i64>().value(row), ty),
        DataType::BinaryView => binary(column.as_binary_view().value(row), ty),
        DataType::Dictionary(_, _) => arrow::compute::cast(&column.slice(row, 1), &arrow_type(ty))
            .map_or(Datum::Null, |plain| datum_at(&plain, 0, ty)),
        _ => Datum::Null,
    }
}

fn integer(v: i64, ty: Oid) -> Datum {
    match ty {
        Oid::INT2 => Datum::Int2(v as i16),
        Oid::INT4 => Datum::Int4(v as i32),
        Oid::INT8 => Datum::Int8(v),
        Oid::NUMERIC => Datum::Numeric(Numeric::from_i64(v)),
        _ => Datum::Oid(Oid(v as u32)),
    }
}

fn text(v: &str, ty: Oid) -> Datum {
    if ty == Oid::JSON || ty == Oid::JSONB {
        Datum::Json(v.into())
    } else {
        Datum::Text(v.into())
    }
}

fn fixed(bytes: &[u8], ty: Oid) -> Datum {
    match ty {
        Oid::INTERVAL => Interval::from_bytes(bytes).map_or(Datum::Null, Datum::Interval),
        Oid::TIMETZ => bytes
            .split_first_chunk::<8>()
            .and_then(|(time, zone)| {
                let zone: [u8; 4] = zone.try_into().ok()?;
                Some(Datum::TimeTz(
                    i64::from_be_bytes(*time),
                    i32::from_be_bytes(zone),
                ))
            })
            .unwrap_or_default(),
        _ => bytes.try_into().map_or(Datum::Null, Datum::Uuid),
    }
}

fn binary(bytes: &[u8], ty: Oid) -> Datum {
    match ty {
        Oid::NUMERIC => Numeric::from_bytes(bytes).map_or(Datum::Null, Datum::Numeric),
        Oid::BYTEA => Datum::Bytea(Bytes::copy_from_slice(bytes)),
        Oid::RECORD => read_record(&mut &*bytes).unwrap_or_default(),
        _ => ArrayValue::from_bytes(bytes).map_or(Datum::Null, |a| Datum::Array(Arc::new(a))),
    }
}

fn primitive<'a, T: ArrowPrimitiveType>(
    values: impl Iterator<Item = &'a Datum>,
    read: impl Fn(&Datum) -> Option<T::Native>,
) -> Result<ArrayRef, SqlError> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(values.size_hint().0);
    for value in values {
        match read(value) {
            Some(v) => builder.append_value(v),
            None if value.is_null() => builder.append_null(),
            None => return Err(mismatch(value)),
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn mismatch(value: &Datum) -> SqlError {
    SqlError::internal(format!("value {value:?} does not belong into this column"))
}

/// A column of values of one type.
pub fn build_array<'a>(
    ty: Oid,
    values: impl Iterator<Item = &'a Datum>,
) -> Result<ArrayRef, SqlError> {
    match arrow_type(ty) {
        DataType::Boolean => {
            let mut builder = BooleanBuilder::with_capacity(values.size_hint().0);
            for value in values {
                match value {
                    Datum::Bool(v) => builder.append_value(*v),
                    Datum::Null => builder.append_null(),
                    other => return Err(mismatch(other)),
                }
            }
            Ok(Arc::new(builder.finish()))
        }
        DataType::Int16 => {
            primitive::<Int16Type>(values, |d| d.as_i64().and_then(|v| i16::try_from(v).ok()))
        }
        DataType::Int32 => {
            primitive::<Int32Type>(values, |d| d.as_i64().and_then(|v| i32::try_from(v).ok()))
        }
        DataType::Int64 => primitive::<Int64Type>(values, Datum::as_i64),
        DataType::UInt32 => {
            primitive::<UInt32Type>(values, |d| d.as_i64().and_then(|v| u32::try_from(v).ok()))
        }
        DataType::Float32 => primitive::<Float32Type>(values, |d| match d {
            Datum::Float4(v) => Some(*v),
            _ => None,
        }),
        DataType::Float64 => primitive::<Float64Type>(values, |d| match d {
            Datum::Float8(v) => Some(*v),
            Datum::Float4(v) => Some(f64::from(*v)),
            _ => None,
        }),
        DataType::Date32 => primitive::<Date32Type>(values, |d| match d {
            Datum::Date(v) => Some(*v),
            _ => None,
        }),
        DataType::Time64(_) => primitive::<Time64MicrosecondType>(values, |d| match d {
            Datum::Time(v) => Some(*v),
            _ => None,
        }),
        DataType::Timestamp(..) => primitive::<TimestampMicrosecondType>(values, |d| match d {
            Datum::Timestamp(v) | Datum::Timestamptz(v) => Some(*v),
            _ => None,
        }),
        DataType::Utf8 => {
            let mut builder = StringBuilder::new();
            for value in values {
                match value {
                    Datum::Text(v) | Datum::Json(v) => builder.append_value(v),
                    Datum::Null => builder.append_null(),
                    other => return Err(mismatch(other)),
                }
            }
            Ok(Arc::new(builder.finish()))
        }
        DataType::Binary => build_binary(values),
        DataType::FixedSizeBinary(width) => build_fixed(width, values),
        _ => Ok(Arc::new(NullArray::new(values.count()))),
    }
}

fn build_binary<'a>(values: impl Iterator<Item = &'a Datum>) -> Result<ArrayRef, SqlError> {
    let mut builder = BinaryBuilder::new();
    let mut buffer = Vec::new();
    for value in values {
        match value {
            Datum::Null => builder.append_null(),
            Datum::Bytea(v) => builder.append_value(v),
            Datum::Numeric(v) => {
                buffer.clear();
                v.append_bytes(&mut buffer);
                builder.append_value(&buffer);
            }
            Datum::Array(v) => builder.append_value(v.to_bytes()),
            Datum::Record(fields) => {
                buffer.clear();
                write_record(fields, &mut buffer);
                builder.append_value(&buffer);
            }
            other => return Err(mismatch(other)),
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn build_fixed<'a>(
    width: i32,
    values: impl Iterator<Item = &'a Datum>,
) -> Result<ArrayRef, SqlError> {
    let mut builder = FixedSizeBinaryBuilder::new(width);
    let failed = |e: arrow::error::ArrowError| SqlError::internal(e);
    for value in values {
        match value {
            Datum::Null => builder.append_null(),
            Datum::Uuid(v) => builder.append_value(v).map_err(failed)?,
            Datum::Interval(v) => builder.append_value(v.to_bytes()).map_err(failed)?,
            Datum::TimeTz(time, zone) => {
                let mut bytes = [0; 12];
                let parts = time.to_be_bytes().into_iter().chain(zone.to_be_bytes());
                for (to, from) in bytes.iter_mut().zip(parts) {
                    *to = from;
                }
                builder.append_value(bytes).map_err(failed)?;
            }
            other => return Err(mismatch(other)),
        }
    }
    Ok(Arc::new(builder.finish()))
}

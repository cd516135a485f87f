//! How a value of each type lies within a row: bytes of fixed width, or a string of bytes.
//!
//! Little endian, because rows are decoded far more often than they are compared; keys have an
//! encoding of their own.

use std::sync::Arc;

use arrow::datatypes::DataType;
use bytes::Bytes;

use crate::error::{SqlError, SqlState};
use crate::types::numeric::Numeric;
use crate::types::{ArrayValue, Datum, Interval, Oid};

/// The stored form of a type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored {
    /// bool, one byte
    Bool,
    /// int2
    Int2,
    /// int4
    Int4,
    /// int8
    Int8,
    /// oid and family
    Oid,
    /// float4
    Float4,
    /// float8
    Float8,
    /// date
    Date,
    /// time
    Time,
    /// timestamp
    Timestamp,
    /// timestamptz
    Timestamptz,
    /// interval, 16 bytes big endian as in Arrow
    Interval,
    /// uuid
    Uuid,
    /// timetz, 12 bytes big endian as in Arrow
    TimeTz,
    /// UTF-8
    Text,
    /// json, jsonb
    Json,
    /// bytea
    Bytea,
    /// numeric, as in Arrow
    Numeric,
    /// arrays, as in Arrow
    Array,
}

/// A row whose bytes cannot be what was written.
pub(crate) fn damaged() -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, "a stored row is damaged")
}

impl Stored {
    /// The stored form of a type; `None` for types that no column can have.
    pub fn of(oid: Oid) -> Option<Self> {
        Some(match crate::types::arrow::arrow_type(oid) {
            DataType::Boolean => Self::Bool,
            DataType::Int16 => Self::Int2,
            DataType::Int32 => Self::Int4,
            DataType::Int64 => Self::Int8,
            DataType::UInt32 => Self::Oid,
            DataType::Float32 => Self::Float4,
            DataType::Float64 => Self::Float8,
            DataType::Date32 => Self::Date,
            DataType::Time64(_) => Self::Time,
            DataType::Timestamp(..) if oid == Oid::TIMESTAMPTZ => Self::Timestamptz,
            DataType::Timestamp(..) => Self::Timestamp,
            DataType::FixedSizeBinary(_) if oid == Oid::UUID => Self::Uuid,
            DataType::FixedSizeBinary(12) => Self::TimeTz,
            DataType::FixedSizeBinary(_) => Self::Interval,
            DataType::Utf8 if matches!(oid, Oid::JSON | Oid::JSONB) => Self::Json,
            DataType::Utf8 => Self::Text,
            DataType::Binary if oid == Oid::BYTEA => Self::Bytea,
            DataType::Binary if oid == Oid::NUMERIC => Self::Numeric,
            DataType::Binary if oid != Oid::RECORD => Self::Array,
            _ => return None,
        })
    }

    /// Bytes of the fixed slot; `None` for variable length.
    pub fn width(self) -> Option<usize> {
        match self {
            Self::Bool => Some(1),
            Self::Int2 => Some(2),
            Self::Int4 | Self::Oid | Self::Float4 | Self::Date => Some(4),
            Self::Int8 | Self::Float8 | Self::Time | Self::Timestamp | Self::Timestamptz => Some(8),
            Self::Interval | Self::Uuid => Some(16),
            Self::TimeTz => Some(12),
            Self::Text | Self::Json | Self::Bytea | Self::Numeric | Self::Array => None,
        }
    }

    /// Appends a value that is not NULL.
    pub fn append(self, value: &Datum, to: &mut Vec<u8>) -> Result<(), SqlError> {
        match (self, value) {
            (Self::Bool, Datum::Bool(v)) => to.push(u8::from(*v)),
            (Self::Int2, Datum::Int2(v)) => to.extend_from_slice(&v.to_le_bytes()),
            (Self::Int4, Datum::Int4(v)) | (Self::Date, Datum::Date(v)) => {
                to.extend_from_slice(&v.to_le_bytes());
            }
            (Self::Int8, Datum::Int8(v))
            | (Self::Time, Datum::Time(v))
            | (Self::Timestamp, Datum::Timestamp(v))
            | (Self::Timestamptz, Datum::Timestamptz(v)) => to.extend_from_slice(&v.to_le_bytes()),
            (Self::Oid, Datum::Oid(v)) => to.extend_from_slice(&v.0.to_le_bytes()),
            (Self::Float4, Datum::Float4(v)) => to.extend_from_slice(&v.to_le_bytes()),
            (Self::Float8, Datum::Float8(v)) => to.extend_from_slice(&v.to_le_bytes()),
            (Self::Interval, Datum::Interval(v)) => to.extend_from_slice(&v.to_bytes()),
            (Self::TimeTz, Datum::TimeTz(time, zone)) => {
                to.extend_from_slice(&time.to_be_bytes());
                to.extend_from_slice(&zone.to_be_bytes());
            }
            (Self::Uuid, Datum::Uuid(v)) => to.extend_from_slice(v),
            (Self::Text | Self::Json, Datum::Text(v) | Datum::Json(v)) => {
                to.extend_from_slice(v.as_bytes())
            }
            (Self::Bytea, Datum::Bytea(v)) => to.extend_from_slice(v),
            (Self::Numeric, Datum::Numeric(v)) => v.append_bytes(to),
            (Self::Array, Datum::Array(v)) => to.extend_from_slice(&v.to_bytes()),
            (stored, value) => {
                return Err(SqlError::internal(format!(
                    "value {value:?} does not fit a column stored as {stored:?}"
                )));
            }
        }
        Ok(())
    }

    /// Reads a value from exactly the bytes that [`Self::append`] wrote.
    pub fn read(self, bytes: &[u8]) -> Result<Datum, SqlError> {
        fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], SqlError> {
            bytes.try_into().map_err(|_| damaged())
        }
        Ok(match self {
            Self::Bool => Datum::Bool(fixed::<1>(bytes)? != [0]),
            Self::Int2 => Datum::Int2(i16::from_le_bytes(fixed(bytes)?)),
            Self::Int4 => Datum::Int4(i32::from_le_bytes(fixed(bytes)?)),
            Self::Int8 => Datum::Int8(i64::from_le_bytes(fixed(bytes)?)),
            Self::Oid => Datum::Oid(Oid(u32::from_le_bytes(fixed(bytes)?))),
            Self::Float4 => Datum::Float4(f32::from_le_bytes(fixed(bytes)?)),
            Self::Float8 => Datum::Float8(f64::from_le_bytes(fixed(bytes)?)),
            Self::Date => Datum::Date(i32::from_le_bytes(fixed(bytes)?)),
            Self::Time => Datum::Time(i64::from_le_bytes(fixed(bytes)?)),
            Self::Timestamp => Datum::Timestamp(i64::from_le_bytes(fixed(bytes)?)),
            Self::Timestamptz => Datum::Timestamptz(i64::from_le_bytes(fixed(bytes)?)),
            Self::Interval => Datum::Interval(Interval::from_bytes(bytes).ok_or_else(damaged)?),
            Self::TimeTz => {
                let [a, b, c, d, e, f, g, h, zone @ ..] = fixed::<12>(bytes)?;
                Datum::TimeTz(
                    i64::from_be_bytes([a, b, c, d, e, f, g, h]),
                    i32::from_be_bytes(zone),
                )
            }
            Self::Uuid => Datum::Uuid(fixed(bytes)?),
            Self::Text => Datum::Text(Arc::from(
                std::str::from_utf8(bytes).map_err(|_| damaged())?,
            )),
            Self::Json => Datum::Json(Arc::from(
                std::str::from_utf8(bytes).map_err(|_| damaged())?,
            )),
            Self::Bytea => Datum::Bytea(Bytes::copy_from_slice(bytes)),
            Self::Numeric => Datum::Numeric(Numeric::from_bytes(bytes).ok_or_else(damaged)?),
            Self::Array => {
                Datum::Array(Arc::new(ArrayValue::from_bytes(bytes).ok_or_else(damaged)?))
            }
        })
    }
}

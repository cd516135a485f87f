//! One value of any type.
//!
//! How values lie in Arrow columns (the executors and the kernels agree on this):
//!
//! | type | Arrow | remark |
//! |---|---|---|
//! | bool | Boolean | |
//! | int2, int4, int8 | Int16, Int32, Int64 | |
//! | oid, reg*, xid | UInt32 | |
//! | float4, float8 | Float32, Float64 | never -0.0 in keys |
//! | numeric | Binary | [`super::numeric`]'s form: bytes that sort by value, then the display scale |
//! | text, varchar, bpchar, name, "char", unknown, json, jsonb | Utf8 | bpchar without its padding; jsonb in canonical text |
//! | bytea | Binary | |
//! | date | Date32 | days since 1970-01-01, extremes are the infinities |
//! | time | Time64(us) | |
//! | timetz | FixedSizeBinary(12) | microseconds i64, seconds east of UTC i32, big endian |
//! | timestamp, timestamptz | Timestamp(us), no zone | since 1970-01-01 (UTC), extremes are the infinities |
//! | interval | FixedSizeBinary(16) | months i32, days i32, microseconds i64, big endian |
//! | uuid | FixedSizeBinary(16) | |
//! | arrays | Binary | [`super::array`]'s form |
//! | record | Binary | [`super::array`]'s form |
//! | void | Null | |
//!
//! Types whose Arrow bytes do not compare as PostgreSQL compares (numeric with equal value and
//! other scale, interval, arrays, jsonb) are compared, grouped, joined and sorted through their
//! *sort key*: a function to Binary that the lowering puts around the expression.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::array::ArrayValue;
use super::numeric::Numeric;
use super::oid::Oid;

/// A span of time in PostgreSQL's three parts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Interval {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

impl Interval {
    /// The form in Arrow columns.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        let parts = self
            .months
            .to_be_bytes()
            .into_iter()
            .chain(self.days.to_be_bytes());
        for (to, from) in out.iter_mut().zip(parts.chain(self.micros.to_be_bytes())) {
            *to = from;
        }
        out
    }

    /// Reads [`Self::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (months, rest) = bytes.split_first_chunk::<4>()?;
        let (days, rest) = rest.split_first_chunk::<4>()?;
        let (micros, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            months: i32::from_be_bytes(*months),
            days: i32::from_be_bytes(*days),
            micros: i64::from_be_bytes(*micros),
        })
    }

    /// The length by which intervals compare: a month is 30 days, a day 24 hours.
    pub fn comparable(self) -> i128 {
        (i128::from(self.months) * 30 + i128::from(self.days)) * 86_400_000_000
            + i128::from(self.micros)
    }
}

/// One value. Cheap to clone. The order of the variants is an encoding between nodes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub enum Datum {
    /// No value.
    #[default]
    Null,
    /// bool
    Bool(bool),
    /// int2
    Int2(i16),
    /// int4
    Int4(i32),
    /// int8
    Int8(i64),
    /// oid, regclass and family, xid
    Oid(Oid),
    /// float4
    Float4(f32),
    /// float8
    Float8(f64),
    /// numeric
    Numeric(Numeric),
    /// text, varchar, bpchar (without padding), name, "char", unknown
    Text(Arc<str>),
    /// json, jsonb (canonical text); functions take [`Datum::Text`] in its place too
    Json(Arc<str>),
    /// bytea
    Bytea(Bytes),
    /// date: days since 1970-01-01; `i32::MIN`/`MAX` are the infinities
    Date(i32),
    /// time: microseconds since midnight
    Time(i64),
    /// timetz: microseconds since midnight, seconds east of UTC
    TimeTz(i64, i32),
    /// timestamp: microseconds since 1970-01-01; `i64::MIN`/`MAX` are the infinities
    Timestamp(i64),
    /// timestamptz: the same in UTC
    Timestamptz(i64),
    /// interval
    Interval(Interval),
    /// uuid
    Uuid([u8; 16]),
    /// any array type, int2vector, oidvector
    Array(Arc<ArrayValue>),
    /// record
    Record(Arc<[(Oid, Datum)]>),
}

impl Datum {
    /// A text value.
    pub fn text(s: impl Into<Arc<str>>) -> Self {
        Self::Text(s.into())
    }
    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
    /// The text of a textual value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(s) | Self::Json(s) => Some(s),
            _ => None,
        }
    }
    /// The truth value of a bool.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }
    /// The value of any integer type or oid.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int2(v) => Some(i64::from(*v)),
            Self::Int4(v) => Some(i64::from(*v)),
            Self::Int8(v) => Some(*v),
            Self::Oid(v) => Some(i64::from(v.0)),
            _ => None,
        }
    }
}

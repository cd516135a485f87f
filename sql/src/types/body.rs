//! What the bodies of functions need: typed access to arguments, and the tables that name them.
//!
//! The registry checks types before a body is called, so a value of another type is an internal
//! error.

use std::sync::Arc;

use super::array::ArrayValue;
use super::datum::{Datum, Interval};
use super::fault::wrong_argument;
use super::numeric::Numeric;
use super::oid::Oid;
use super::registry::{ScalarFn, SetFn, VectorFn};
use crate::error::SqlError;

/// Body of a routine of that `prosrc`.
pub(super) type Scalar = (&'static str, ScalarFn);
/// Body of a set-returning routine, with the columns of its result.
pub(super) type Set = (&'static str, SetFn, &'static [(&'static str, Oid)]);
/// Kernel of a routine.
pub(super) type Vector = (&'static str, VectorFn);

/// What a body returns.
pub(super) type Value = Result<Datum, SqlError>;

/// Typed access to arguments.
pub(super) trait Args {
    /// The value; NULL beyond the end.
    fn datum(&self, i: usize) -> &Datum;
    /// An integer of any width.
    fn int(&self, i: usize) -> Result<i64, SqlError>;
    /// An integer that must fit 32 bits.
    fn int4(&self, i: usize) -> Result<i32, SqlError>;
    /// A float of any width.
    fn float(&self, i: usize) -> Result<f64, SqlError>;
    /// A numeric; integers become numerics.
    fn numeric(&self, i: usize) -> Result<Numeric, SqlError>;
    /// A text.
    fn text(&self, i: usize) -> Result<&str, SqlError>;
    /// Bytes.
    fn bytes(&self, i: usize) -> Result<&[u8], SqlError>;
    /// A truth value.
    fn bool(&self, i: usize) -> Result<bool, SqlError>;
    /// An array.
    fn array(&self, i: usize) -> Result<&Arc<ArrayValue>, SqlError>;
    /// An interval.
    fn interval(&self, i: usize) -> Result<Interval, SqlError>;
    /// A date, time or timestamp of any kind as its integer.
    fn moment(&self, i: usize) -> Result<i64, SqlError>;
    /// An oid.
    fn oid(&self, i: usize) -> Result<Oid, SqlError>;
}

static NULL: Datum = Datum::Null;

impl Args for [Datum] {
    fn datum(&self, i: usize) -> &Datum {
        self.get(i).unwrap_or(&NULL)
    }
    fn int(&self, i: usize) -> Result<i64, SqlError> {
        self.datum(i)
            .as_i64()
            .ok_or_else(|| wrong_argument("integer function"))
    }
    fn int4(&self, i: usize) -> Result<i32, SqlError> {
        i32::try_from(self.int(i)?).map_err(|_| wrong_argument("int4 function"))
    }
    fn float(&self, i: usize) -> Result<f64, SqlError> {
        match self.datum(i) {
            Datum::Float8(v) => Ok(*v),
            Datum::Float4(v) => Ok(f64::from(*v)),
            _ => Err(wrong_argument("float function")),
        }
    }
    fn numeric(&self, i: usize) -> Result<Numeric, SqlError> {
        match self.datum(i) {
            Datum::Numeric(v) => Ok(v.clone()),
            other => other
                .as_i64()
                .map(Numeric::from_i64)
                .ok_or_else(|| wrong_argument("numeric function")),
        }
    }
    fn text(&self, i: usize) -> Result<&str, SqlError> {
        self.datum(i)
            .as_str()
            .ok_or_else(|| wrong_argument("text function"))
    }
    fn bytes(&self, i: usize) -> Result<&[u8], SqlError> {
        match self.datum(i) {
            Datum::Bytea(v) => Ok(v),
            _ => Err(wrong_argument("bytea function")),
        }
    }
    fn bool(&self, i: usize) -> Result<bool, SqlError> {
        self.datum(i)
            .as_bool()
            .ok_or_else(|| wrong_argument("boolean function"))
    }
    fn array(&self, i: usize) -> Result<&Arc<ArrayValue>, SqlError> {
        match self.datum(i) {
            Datum::Array(v) => Ok(v),
            _ => Err(wrong_argument("array function")),
        }
    }
    fn interval(&self, i: usize) -> Result<Interval, SqlError> {
        match self.datum(i) {
            Datum::Interval(v) => Ok(*v),
            _ => Err(wrong_argument("interval function")),
        }
    }
    fn moment(&self, i: usize) -> Result<i64, SqlError> {
        match self.datum(i) {
            Datum::Date(v) => Ok(i64::from(*v)),
            Datum::Time(v) | Datum::Timestamp(v) | Datum::Timestamptz(v) | Datum::TimeTz(v, _) => {
                Ok(*v)
            }
            _ => Err(wrong_argument("date/time function")),
        }
    }
    fn oid(&self, i: usize) -> Result<Oid, SqlError> {
        match self.datum(i) {
            Datum::Oid(v) => Ok(*v),
            other => other
                .as_i64()
                .and_then(|v| u32::try_from(v).ok())
                .map(Oid)
                .ok_or_else(|| wrong_argument("oid function")),
        }
    }
}

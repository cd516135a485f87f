//! Hand-written kernels for what queries compute most: integer and float arithmetic, conversions
//! between machine numbers, a few text functions. All give NULL where an argument is NULL and the
//! same errors as the bodies on single values.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, Int32Array, PrimitiveArray,
    StringArray, StringBuilder,
};
use arrow::datatypes::{Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type};

use super::body::Vector;
use super::fault::{division_by_zero, out_of_range};
use super::numeric::Numeric;
use super::registry::EvalContext;
use crate::error::{SqlError, SqlState};

type Column = Result<ArrayRef, SqlError>;

fn column<T: ArrowPrimitiveType>(
    columns: &[ArrayRef],
    i: usize,
) -> Result<&PrimitiveArray<T>, SqlError> {
    columns
        .get(i)
        .and_then(|c| c.as_primitive_opt::<T>())
        .ok_or_else(|| SqlError::internal("a kernel got a column of another type"))
}

fn strings(columns: &[ArrayRef], i: usize) -> Result<&StringArray, SqlError> {
    columns
        .get(i)
        .and_then(|c| c.as_string_opt::<i32>())
        .ok_or_else(|| SqlError::internal("a kernel got a column of another type"))
}

/// Applies a function to the rows where both sides have values. A column of one row stands for
/// all rows.
fn binary<A, B, R>(
    a: &PrimitiveArray<A>,
    b: &PrimitiveArray<B>,
    rows: usize,
    f: impl Fn(A::Native, B::Native) -> Result<R::Native, SqlError>,
) -> Column
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    R: ArrowPrimitiveType,
{
    if a.len() == rows && b.len() == rows && a.null_count() == 0 && b.null_count() == 0 {
        let mut values = Vec::with_capacity(rows);
        for (x, y) in a.values().iter().zip(b.values()) {
            values.push(f(*x, *y)?);
        }
        return Ok(Arc::new(PrimitiveArray::<R>::from_iter_values(values)));
    }
    let at = |len: usize, row: usize| if len == 1 { 0 } else { row };
    let mut out = PrimitiveArray::<R>::builder(rows);
    for row in 0..rows {
        let (i, j) = (at(a.len(), row), at(b.len(), row));
        if a.is_null(i) || b.is_null(j) {
            out.append_null();
        } else {
            out.append_value(f(a.value(i), b.value(j))?);
        }
    }
    Ok(Arc::new(out.finish()))
}

fn unary<A: ArrowPrimitiveType, R: ArrowPrimitiveType>(
    a: &PrimitiveArray<A>,
    f: impl Fn(A::Native) -> Result<R::Native, SqlError>,
) -> Column {
    let mut out = PrimitiveArray::<R>::builder(a.len());
    for value in a {
        match value {
            Some(v) => out.append_value(f(v)?),
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

macro_rules! integers {
    ($($name:ident $a:ty, $b:ty => $r:ty, $n:ty, $method:ident, $what:literal;)*) => {$(
        fn $name(_: &dyn EvalContext, c: &[ArrayRef], rows: usize) -> Column {
            binary::<$a, $b, $r>(column(c, 0)?, column(c, 1)?, rows, |x, y| {
                <$n>::from(x).$method(<$n>::from(y)).ok_or_else(|| out_of_range($what))
            })
        }
    )*};
}

integers! {
    add22 Int16Type, Int16Type => Int16Type, i16, checked_add, "smallint";
    sub22 Int16Type, Int16Type => Int16Type, i16, checked_sub, "smallint";
    mul22 Int16Type, Int16Type => Int16Type, i16, checked_mul, "smallint";
    add44 Int32Type, Int32Type => Int32Type, i32, checked_add, "integer";
    sub44 Int32Type, Int32Type => Int32Type, i32, checked_sub, "integer";
    mul44 Int32Type, Int32Type => Int32Type, i32, checked_mul, "integer";
    add88 Int64Type, Int64Type => Int64Type, i64, checked_add, "bigint";
    sub88 Int64Type, Int64Type => Int64Type, i64, checked_sub, "bigint";
    mul88 Int64Type, Int64Type => Int64Type, i64, checked_mul, "bigint";
    add48 Int32Type, Int64Type => Int64Type, i64, checked_add, "bigint";
    sub48 Int32Type, Int64Type => Int64Type, i64, checked_sub, "bigint";
    mul48 Int32Type, Int64Type => Int64Type, i64, checked_mul, "bigint";
    add84 Int64Type, Int32Type => Int64Type, i64, checked_add, "bigint";
    sub84 Int64Type, Int32Type => Int64Type, i64, checked_sub, "bigint";
    mul84 Int64Type, Int32Type => Int64Type, i64, checked_mul, "bigint";
}

macro_rules! divisions {
    ($($div:ident $rem:ident $t:ty, $what:literal;)*) => {$(
        fn $div(_: &dyn EvalContext, c: &[ArrayRef], rows: usize) -> Column {
            binary::<$t, $t, $t>(column(c, 0)?, column(c, 1)?, rows, |x, y| {
                if y == 0 {
                    return Err(division_by_zero());
                }
                x.checked_div(y).ok_or_else(|| out_of_range($what))
            })
        }
        fn $rem(_: &dyn EvalContext, c: &[ArrayRef], rows: usize) -> Column {
            binary::<$t, $t, $t>(column(c, 0)?, column(c, 1)?, rows, |x, y| {
                if y == 0 { Err(division_by_zero()) } else { Ok(x.checked_rem(y).unwrap_or(0)) }
            })
        }
    )*};
}

divisions! {
    div44 rem44 Int32Type, "integer";
    div88 rem88 Int64Type, "bigint";
}

fn range(what: &'static str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, what)
}

/// Infinite only if an operand was.
fn sound(v: f64, a: f64, b: f64) -> Result<f64, SqlError> {
    if v.is_infinite() && !a.is_infinite() && !b.is_infinite() {
        Err(range("value out of range: overflow"))
    } else {
        Ok(v)
    }
}

fn float_kernel(
    c: &[ArrayRef],
    rows: usize,
    f: impl Fn(f64, f64) -> Result<f64, SqlError>,
) -> Column {
    binary::<Float64Type, Float64Type, Float64Type>(column(c, 0)?, column(c, 1)?, rows, f)
}

fn float_add(_: &dyn EvalContext, c: &[ArrayRef], rows: usize) -> Column {
    float_kernel(c, rows, |a, b| sound(a + b, a, b))
}
fn float_sub(_: &dyn EvalContext, c: &[ArrayRef], rows: usize) -> Column {
    float_kernel(c, rows, |a, b| sound(a - b, a, b))
}
fn float_mul(_: &dyn EvalContext, c: &[ArrayRef], rows: usize) -> Column {
    float_kernel(c, rows, |a, b| {
        let v = a * b;
        if v == 0.0 && a != 0.0 && b != 0.0 {
            return Err(range("value out of range: underflow"));
        }
        sound(v, a, b)
    })
}
fn float_div(_: &dyn EvalContext, c: &[ArrayRef], rows: usize) -> Column {
    float_kernel(c, rows, |a, b| {
        if b == 0.0 && !a.is_nan() {
            return Err(division_by_zero());
        }
        let v = a / b;
        if v == 0.0 && a != 0.0 && !b.is_infinite() {
            return Err(range("value out of range: underflow"));
        }
        sound(v, a, b)
    })
}

fn narrow(_: &dyn EvalContext, c: &[ArrayRef], _: usize) -> Column {
    unary::<Int64Type, Int32Type>(column(c, 0)?, |v| {
        i32::try_from(v).map_err(|_| out_of_range("integer"))
    })
}
fn widen(_: &dyn EvalContext, c: &[ArrayRef], _: usize) -> Column {
    unary::<Int32Type, Int64Type>(column(c, 0)?, |v| Ok(i64::from(v)))
}
fn int4_float8(_: &dyn EvalContext, c: &[ArrayRef], _: usize) -> Column {
    unary::<Int32Type, Float64Type>(column(c, 0)?, |v| Ok(f64::from(v)))
}
fn int8_float8(_: &dyn EvalContext, c: &[ArrayRef], _: usize) -> Column {
    unary::<Int64Type, Float64Type>(column(c, 0)?, |v| Ok(v as f64))
}
fn float4_float8(_: &dyn EvalContext, c: &[ArrayRef], _: usize) -> Column {
    unary::<Float32Type, Float64Type>(column(c, 0)?, |v| Ok(f64::from(v)))
}
fn abs4(_: &dyn EvalContext, c: &[ArrayRef], _: usize) -> Column {
    unary::<Int32Type, Int32Type>(column(c, 0)?, |v| {
        v.checked_abs().ok_or_else(|| out_of_range("integer"))
    })
}
fn abs8(_: &dyn EvalContext, c: &[ArrayRef], _: usize) -> Column {
    unary::<Int64Type, Int64Type>(column(c, 0)?, |v| {
        v.checked_abs().ok_or_else(|| out_of_range("bigint"))
    })
}
fn neg4(_: &dyn EvalContext, c: &[ArrayRef], _: usize) -> Column {
    unary::<Int32Type, Int32Type>(column(c, 0)?, |v| {
        v.checked_neg().ok_or_else(|| out_of_range("integer"))
    })
}

fn to_numeric<T: ArrowPrimitiveType>(c: &[ArrayRef]) -> Column
where
    T::Native: Into<i64>,
{
    let values = column::<T>(c, 0)?;
    let mut out = BinaryBuilder::with_capacity(values.len(), values.len() * 8);
    let mut bytes = Vec::with_capacity(32);
    for value in values {
        match value {
            Some(v) => {
                bytes.clear();
                Numeric::from_i64(v.into()).append_bytes(&mut bytes);
                out.append_value(&bytes);
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}
fn int4_numeric(_: &dyn EvalContext, c: &[ArrayRef], _: usize) -> Column {
    to_numeric::<Int32Type>(c)
}
fn int8_numeric(_: &dyn EvalContext, c: &[ArrayRef], _: usize) -> Column {
    to_numeric::<Int64Type>(c)
}

fn length(_: &dyn EvalContext, c: &[ArrayRef], _: usize) -> Column {
    let out: Int32Array = strings(c, 0)?
        .iter()
        .map(|v| {
            v.map(|t| if t.is_ascii() { t.len() } else { t.chars().count() } as i32)
        })
        .collect();
    Ok(Arc::new(out))
}
fn lower(_: &dyn EvalContext, c: &[ArrayRef], _: usize) -> Column {
    let out: StringArray = strings(c, 0)?
        .iter()
        .map(|v| v.map(str::to_lowercase))
        .collect();
    Ok(Arc::new(out))
}
fn concat(_: &dyn EvalContext, c: &[ArrayRef], rows: usize) -> Column {
    let (a, b) = (strings(c, 0)?, strings(c, 1)?);
    let at = |len: usize, row: usize| if len == 1 { 0 } else { row };
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    let mut text = String::new();
    for row in 0..rows {
        let (i, j) = (at(a.len(), row), at(b.len(), row));
        if a.is_null(i) || b.is_null(j) {
            out.append_null();
        } else {
            text.clear();
            text.push_str(a.value(i));
            text.push_str(b.value(j));
            out.append_value(&text);
        }
    }
    Ok(Arc::new(out.finish()))
}

fn days_between(_: &dyn EvalContext, c: &[ArrayRef], rows: usize) -> Column {
    binary::<Date32Type, Date32Type, Int32Type>(column(c, 0)?, column(c, 1)?, rows, |a, b| {
        let endless = |v: i32| v == i32::MAX || v == i32::MIN;
        if endless(a) || endless(b) {
            return Err(SqlError::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                "cannot subtract infinite dates",
            ));
        }
        Ok(a.wrapping_sub(b))
    })
}

/// The kernels by the name of PostgreSQL's routine.
pub(super) const VECTORS: &[Vector] = &[
    ("int2pl", add22),
    ("int2mi", sub22),
    ("int2mul", mul22),
    ("int4pl", add44),
    ("int4mi", sub44),
    ("int4mul", mul44),
    ("int4div", div44),
    ("int4mod", rem44),
    ("int8pl", add88),
    ("int8mi", sub88),
    ("int8mul", mul88),
    ("int8div", div88),
    ("int8mod", rem88),
    ("int48pl", add48),
    ("int48mi", sub48),
    ("int48mul", mul48),
    ("int84pl", add84),
    ("int84mi", sub84),
    ("int84mul", mul84),
    ("float8pl", float_add),
    ("float8mi", float_sub),
    ("float8mul", float_mul),
    ("float8div", float_div),
    ("int84", narrow),
    ("int48", widen),
    ("i4tod", int4_float8),
    ("i8tod", int8_float8),
    ("ftod", float4_float8),
    ("int4abs", abs4),
    ("int8abs", abs8),
    ("int4um", neg4),
    ("int4_numeric", int4_numeric),
    ("int8_numeric", int8_numeric),
    ("textlen", length),
    ("lower", lower),
    ("textcat", concat),
    ("date_mi", days_between),
];

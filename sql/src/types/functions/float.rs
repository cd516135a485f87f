//! Float arithmetic and mathematics. Overflow and underflow are errors, as in PostgreSQL.

use std::f64::consts::PI;

use crate::error::{SqlError, SqlState};
use crate::types::body::{Args, Scalar, Value};
use crate::types::datum::Datum;
use crate::types::fault::division_by_zero;
use crate::types::registry::EvalContext;

fn overflow() -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        "value out of range: overflow",
    )
}
fn underflow() -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        "value out of range: underflow",
    )
}
fn input_range() -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        "input is out of range",
    )
}

/// Infinite only when an operand was, zero only when it may be.
fn checked(v: f64, infinite_in: bool, zero_ok: bool) -> Result<f64, SqlError> {
    if v.is_infinite() && !infinite_in {
        return Err(overflow());
    }
    if v == 0.0 && !zero_ok {
        return Err(underflow());
    }
    Ok(v)
}

#[derive(Clone, Copy)]
enum Op {
    Add,
    Sub,
    Mul,
    Div,
}

fn compute(op: Op, a: f64, b: f64, single: bool) -> Result<f64, SqlError> {
    let infinite = a.is_infinite() || b.is_infinite();
    let narrow = |v: f64| if single { f64::from(v as f32) } else { v };
    match op {
        Op::Add => checked(narrow(a + b), infinite, true),
        Op::Sub => checked(narrow(a - b), infinite, true),
        Op::Mul => checked(narrow(a * b), infinite, a == 0.0 || b == 0.0),
        Op::Div if b == 0.0 && !a.is_nan() => Err(division_by_zero()),
        Op::Div => checked(narrow(a / b), infinite, a == 0.0 || b.is_infinite()),
    }
}

macro_rules! arithmetic {
    ($($single:ident $double:ident $op:expr;)*) => {$(
        fn $single(_: &dyn EvalContext, a: &[Datum]) -> Value {
            Ok(Datum::Float4(compute($op, a.float(0)?, a.float(1)?, true)? as f32))
        }
        fn $double(_: &dyn EvalContext, a: &[Datum]) -> Value {
            Ok(Datum::Float8(compute($op, a.float(0)?, a.float(1)?, false)?))
        }
    )*};
}

arithmetic! {
    add4 add8 Op::Add;
    sub4 sub8 Op::Sub;
    mul4 mul8 Op::Mul;
    div4 div8 Op::Div;
}

fn each(a: &[Datum], f: impl Fn(f64) -> f64) -> Value {
    Ok(match a.datum(0) {
        Datum::Float4(v) => Datum::Float4(f(f64::from(*v)) as f32),
        _ => Datum::Float8(f(a.float(0)?)),
    })
}

fn abs(_: &dyn EvalContext, a: &[Datum]) -> Value {
    each(a, f64::abs)
}
fn neg(_: &dyn EvalContext, a: &[Datum]) -> Value {
    each(a, |v| -v)
}
fn plus(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(a.datum(0).clone())
}

/// A function of one float8 whose result is infinite only for an infinite argument.
macro_rules! plain {
    ($($name:ident |$v:ident| $body:expr;)*) => {$(
        fn $name(_: &dyn EvalContext, a: &[Datum]) -> Value {
            let $v = a.float(0)?;
            Ok(Datum::Float8($body))
        }
    )*};
}

plain! {
    ceil |v| v.ceil();
    floor |v| v.floor();
    round |v| v.round_ties_even();
    trunc |v| v.trunc();
    sign |v| if v > 0.0 { 1.0 } else if v < 0.0 { -1.0 } else { 0.0 };
    cbrt |v| v.cbrt();
    degrees |v| checked(v / (PI / 180.0), v.is_infinite(), true)?;
    radians |v| v * (PI / 180.0);
    atan |v| v.atan();
    sinh |v| v.sinh();
    cosh |v| v.cosh();
    tanh |v| v.tanh();
    asinh |v| v.asinh();
    sin |v| finite(v)?.sin();
    cos |v| finite(v)?.cos();
    tan |v| finite(v)?.tan();
    cot |v| 1.0 / finite(v)?.tan();
    asin |v| within(v, -1.0, 1.0)?.asin();
    acos |v| within(v, -1.0, 1.0)?.acos();
    acosh |v| if v < 1.0 { return Err(input_range()) } else { v.acosh() };
    atanh |v| within(v, -1.0, 1.0)?.atanh();
    sind |v| { let q = Quadrant::of(finite(v)?); sin_first(q.angle) * q.sin };
    cosd |v| { let q = Quadrant::of(finite(v)?); cos_first(q.angle) * q.cos };
    tand |v| {
        let q = Quadrant::of(finite(v)?);
        let t = q.tan * (sin_first(q.angle) / cos_first(q.angle) / (sin_first(45.0) / cos_first(45.0)));
        if t == 0.0 { 0.0 } else { t }
    };
    cotd |v| {
        let q = Quadrant::of(finite(v)?);
        let t = q.tan * (cos_first(q.angle) / sin_first(q.angle) / (cos_first(45.0) / sin_first(45.0)));
        if t == 0.0 { 0.0 } else { t }
    };
    asind |v| { let x = within(v, -1.0, 1.0)?; if x >= 0.0 { asin_first(x) } else { -asin_first(-x) } };
    acosd |v| { let x = within(v, -1.0, 1.0)?; if x >= 0.0 { acos_first(x) } else { 90.0 + asin_first(-x) } };
    atand |v| v.atan() / 1f64.atan() * 45.0;
    exp |v| checked(v.exp(), v.is_infinite(), v == f64::NEG_INFINITY)?;
    ln |v| logarithm(v)?.ln();
    log10 |v| logarithm(v)?.log10();
}

fn finite(v: f64) -> Result<f64, SqlError> {
    if v.is_infinite() {
        Err(input_range())
    } else {
        Ok(v)
    }
}

fn within(v: f64, min: f64, max: f64) -> Result<f64, SqlError> {
    if v < min || v > max {
        Err(input_range())
    } else {
        Ok(v)
    }
}

fn logarithm(v: f64) -> Result<f64, SqlError> {
    let error = |message: &'static str| {
        Err(SqlError::new(
            SqlState::INVALID_ARGUMENT_FOR_LOGARITHM,
            message,
        ))
    };
    if v == 0.0 {
        error("cannot take logarithm of zero")
    } else if v < 0.0 {
        error("cannot take logarithm of a negative number")
    } else {
        Ok(v)
    }
}

const RADIANS_PER_DEGREE: f64 = 0.017_453_292_519_943_295;

/// An angle in degrees brought into the first quadrant, and the signs of its functions.
struct Quadrant {
    angle: f64,
    sin: f64,
    cos: f64,
    tan: f64,
}

impl Quadrant {
    fn of(degrees: f64) -> Self {
        let mut q = Self {
            angle: degrees % 360.0,
            sin: 1.0,
            cos: 1.0,
            tan: 1.0,
        };
        if q.angle < 0.0 {
            q.angle = -q.angle;
            q.sin = -q.sin;
            q.tan = -q.tan;
        }
        if q.angle > 180.0 {
            q.angle = 360.0 - q.angle;
            q.sin = -q.sin;
            q.tan = -q.tan;
        }
        if q.angle > 90.0 {
            q.angle = 180.0 - q.angle;
            q.cos = -q.cos;
            q.tan = -q.tan;
        }
        q
    }
}

/// Sine up to 30 degrees, scaled so that 30 gives exactly 0.5.
fn sin_to_30(x: f64) -> f64 {
    (x * RADIANS_PER_DEGREE).sin() / (30.0 * RADIANS_PER_DEGREE).sin() / 2.0
}
/// Cosine up to 60 degrees, scaled so that 60 gives exactly 0.5.
fn cos_to_60(x: f64) -> f64 {
    let less = 1.0 - (x * RADIANS_PER_DEGREE).cos();
    1.0 - less / (1.0 - (60.0 * RADIANS_PER_DEGREE).cos()) / 2.0
}
fn sin_first(x: f64) -> f64 {
    if x <= 30.0 {
        sin_to_30(x)
    } else {
        cos_to_60(90.0 - x)
    }
}
fn cos_first(x: f64) -> f64 {
    if x <= 60.0 {
        cos_to_60(x)
    } else {
        sin_to_30(90.0 - x)
    }
}
fn asin_first(x: f64) -> f64 {
    if x <= 0.5 {
        x.asin() / 0.5f64.asin() * 30.0
    } else {
        90.0 - x.acos() / 0.5f64.acos() * 60.0
    }
}
fn acos_first(x: f64) -> f64 {
    if x <= 0.5 {
        90.0 - x.asin() / 0.5f64.asin() * 30.0
    } else {
        x.acos() / 0.5f64.acos() * 60.0
    }
}

fn atan2(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Float8(a.float(0)?.atan2(a.float(1)?)))
}
fn atan2d(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Float8(
        a.float(0)?.atan2(a.float(1)?) / 1f64.atan() * 45.0,
    ))
}

fn sqrt(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let v = a.float(0)?;
    if v < 0.0 {
        return Err(SqlError::new(
            SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
            "cannot take square root of a negative number",
        ));
    }
    Ok(Datum::Float8(v.sqrt()))
}

fn power(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (base, exponent) = (a.float(0)?, a.float(1)?);
    let error = |message: &'static str| {
        Err(SqlError::new(
            SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
            message,
        ))
    };
    if base == 0.0 && exponent < 0.0 {
        return error("zero raised to a negative power is undefined");
    }
    if base < 0.0 && exponent.is_finite() && exponent.floor() != exponent {
        return error("a negative number raised to a non-integer power yields a complex result");
    }
    let infinite = base.is_infinite() || exponent.is_infinite();
    let result = base.powf(exponent);
    Ok(Datum::Float8(checked(
        result,
        infinite,
        infinite || base == 0.0,
    )?))
}

fn pi(_: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Float8(PI))
}

fn random(cx: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Float8(
        (cx.random_u64() >> 11) as f64 / (1u64 << 53) as f64,
    ))
}

fn setseed(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let seed = a.float(0)?;
    if !(-1.0..=1.0).contains(&seed) {
        return Err(crate::types::fault::invalid_parameter(
            "setseed parameter is out of allowed range [-1,1]",
        ));
    }
    Err(SqlError::unsupported("setseed"))
}

fn bucket_error(message: &'static str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_ARGUMENT_FOR_WIDTH_BUCKET_FUNCTION,
        message,
    )
}

fn width_bucket(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (v, low, high, count) = (a.float(0)?, a.float(1)?, a.float(2)?, a.int(3)?);
    if count <= 0 {
        return Err(bucket_error("count must be greater than zero"));
    }
    if v.is_nan() || low.is_nan() || high.is_nan() {
        return Err(bucket_error(
            "operand, lower bound, and upper bound cannot be NaN",
        ));
    }
    if low.is_infinite() || high.is_infinite() {
        return Err(bucket_error("lower and upper bounds must be finite"));
    }
    if low == high {
        return Err(bucket_error("lower bound cannot equal upper bound"));
    }
    let (v, low, high) = if low < high {
        (v, low, high)
    } else {
        (-v, -low, -high)
    };
    let bucket = if v < low {
        0
    } else if v >= high {
        count + 1
    } else {
        ((v - low) / (high - low) * count as f64) as i64 + 1
    };
    i32::try_from(bucket)
        .map(Datum::Int4)
        .map_err(|_| crate::types::fault::out_of_range("integer"))
}

pub(super) const SCALARS: &[Scalar] = &[
    ("float4pl", add4),
    ("float4mi", sub4),
    ("float4mul", mul4),
    ("float4div", div4),
    ("float8pl", add8),
    ("float8mi", sub8),
    ("float8mul", mul8),
    ("float8div", div8),
    ("float48pl", add8),
    ("float48mi", sub8),
    ("float48mul", mul8),
    ("float48div", div8),
    ("float84pl", add8),
    ("float84mi", sub8),
    ("float84mul", mul8),
    ("float84div", div8),
    ("float4abs", abs),
    ("float8abs", abs),
    ("float4um", neg),
    ("float8um", neg),
    ("float4up", plus),
    ("float8up", plus),
    ("dceil", ceil),
    ("dfloor", floor),
    ("dround", round),
    ("dtrunc", trunc),
    ("dsign", sign),
    ("dsqrt", sqrt),
    ("dcbrt", cbrt),
    ("dpow", power),
    ("dexp", exp),
    ("dlog1", ln),
    ("dlog10", log10),
    ("dpi", pi),
    ("degrees", degrees),
    ("radians", radians),
    ("dsin", sin),
    ("dcos", cos),
    ("dtan", tan),
    ("dcot", cot),
    ("dasin", asin),
    ("dacos", acos),
    ("datan", atan),
    ("datan2", atan2),
    ("dsinh", sinh),
    ("dcosh", cosh),
    ("dtanh", tanh),
    ("dasinh", asinh),
    ("dacosh", acosh),
    ("datanh", atanh),
    ("dsind", sind),
    ("dcosd", cosd),
    ("dtand", tand),
    ("dcotd", cotd),
    ("dasind", asind),
    ("dacosd", acosd),
    ("datand", atand),
    ("datan2d", atan2d),
    ("drandom", random),
    ("setseed", setseed),
    ("width_bucket_float8", width_bucket),
];

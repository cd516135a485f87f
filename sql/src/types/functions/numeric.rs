//! Functions and operators on numeric.

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use crate::error::{SqlError, SqlState};
use crate::types::body::{Args, Scalar, Value};
use crate::types::datum::Datum;
use crate::types::numeric::Numeric;
use crate::types::oid::{Oid, PgType};
use crate::types::registry::EvalContext;

macro_rules! binary {
    ($($name:ident $method:ident;)*) => {$(
        fn $name(_: &dyn EvalContext, a: &[Datum]) -> Value {
            match a {
                [Datum::Numeric(x), Datum::Numeric(y)] => Ok(Datum::Numeric(x.$method(y)?)),
                _ => Ok(Datum::Numeric(a.numeric(0)?.$method(&a.numeric(1)?)?)),
            }
        }
    )*};
}

binary! {
    add add;
    sub sub;
    mul mul;
    div div;
    div_trunc div_trunc;
    rem rem;
    power power;
    log log;
    lcm lcm;
}

macro_rules! unary {
    ($($name:ident |$v:ident| $body:expr;)*) => {$(
        fn $name(_: &dyn EvalContext, a: &[Datum]) -> Value {
            let $v = a.numeric(0)?;
            Ok(Datum::Numeric($body))
        }
    )*};
}

unary! {
    neg |v| v.neg();
    plus |v| v;
    abs |v| v.abs();
    ceil |v| v.ceil();
    floor |v| v.floor();
    sqrt |v| v.sqrt()?;
    exp |v| v.exp()?;
    ln |v| v.ln()?;
    log10 |v| Numeric::new(10, 0).log(&v)?;
    sign |v| if v.is_nan() { v } else { Numeric::new(i128::from(v.signum()), 0) };
    trim_scale |v| v.normalized();
    inc |v| v.add(&Numeric::new(1, 0))?;
}

fn round(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let digits = if a.len() > 1 { a.int4(1)? } else { 0 };
    Ok(Datum::Numeric(a.numeric(0)?.round(digits)))
}

fn trunc(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let digits = if a.len() > 1 { a.int4(1)? } else { 0 };
    Ok(Datum::Numeric(a.numeric(0)?.trunc(digits)))
}

fn gcd(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Numeric(a.numeric(0)?.gcd(&a.numeric(1)?)))
}

fn scale(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let v = a.numeric(0)?;
    Ok(if v.is_finite() {
        Datum::Int4(i32::from(v.scale()))
    } else {
        Datum::Null
    })
}

fn min_scale(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let v = a.numeric(0)?;
    Ok(if v.is_finite() {
        Datum::Int4(i32::from(v.normalized().scale()))
    } else {
        Datum::Null
    })
}

fn factorial(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let n = a.int(0)?;
    if n < 0 {
        return Err(SqlError::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            "factorial of a negative number is undefined",
        ));
    }
    Ok(Datum::Numeric(Numeric::factorial(n)?))
}

/// The cast to a modifier, as a function.
fn fit(_: &dyn EvalContext, a: &[Datum]) -> Value {
    crate::types::typmod::apply(
        a.datum(0).clone(),
        PgType::with_typmod(Oid::NUMERIC, a.int4(1)?),
        true,
    )
}

fn bucket_error(message: &'static str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_ARGUMENT_FOR_WIDTH_BUCKET_FUNCTION,
        message,
    )
}

fn width_bucket(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (v, low, high, count) = (a.numeric(0)?, a.numeric(1)?, a.numeric(2)?, a.int(3)?);
    if count <= 0 {
        return Err(bucket_error("count must be greater than zero"));
    }
    if v.is_nan() || low.is_nan() || high.is_nan() {
        return Err(bucket_error(
            "operand, lower bound, and upper bound cannot be NaN",
        ));
    }
    if !low.is_finite() || !high.is_finite() {
        return Err(bucket_error("lower and upper bounds must be finite"));
    }
    if low == high {
        return Err(bucket_error("lower bound cannot equal upper bound"));
    }
    let rising = low < high;
    let before = if rising { v < low } else { v > low };
    let beyond = if rising { v >= high } else { v <= high };
    let bucket = if before {
        0
    } else if beyond {
        count + 1
    } else {
        let whole = v.sub(&low)?.mul(&Numeric::from_i64(count))?;
        let bucket: BigInt = whole.div_trunc(&high.sub(&low)?)?.unscaled();
        bucket.to_i64().unwrap_or(0) + 1
    };
    i32::try_from(bucket)
        .map(Datum::Int4)
        .map_err(|_| crate::types::fault::out_of_range("integer"))
}

pub(super) const SCALARS: &[Scalar] = &[
    ("numeric_add", add),
    ("numeric_sub", sub),
    ("numeric_mul", mul),
    ("numeric_div", div),
    ("numeric_mod", rem),
    ("numeric_div_trunc", div_trunc),
    ("numeric_power", power),
    ("numeric_log", log),
    ("numeric_uminus", neg),
    ("numeric_uplus", plus),
    ("numeric_abs", abs),
    ("numeric_ceil", ceil),
    ("numeric_floor", floor),
    ("numeric_sqrt", sqrt),
    ("numeric_exp", exp),
    ("numeric_ln", ln),
    ("numeric_sign", sign),
    ("numeric_inc", inc),
    ("numeric_round", round),
    ("numeric_trunc", trunc),
    ("numeric_gcd", gcd),
    ("numeric_lcm", lcm),
    ("numeric_scale", scale),
    ("numeric_min_scale", min_scale),
    ("numeric_trim_scale", trim_scale),
    ("numeric_fac", factorial),
    ("numeric", fit),
    ("width_bucket_numeric", width_bucket),
    // SQL-language functions of PostgreSQL: log(numeric), log10(numeric), round and trunc with
    // one argument
    ("sql_1741", log10),
    ("sql_1481", log10),
    ("sql_1708", round),
    ("sql_1710", trunc),
];

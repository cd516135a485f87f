//! Integer arithmetic, checked: `22003` out of range, `22012` division by zero.

use crate::error::SqlError;
use crate::types::body::{Args, Scalar, Value};
use crate::types::datum::Datum;
use crate::types::fault::{division_by_zero, out_of_range};
use crate::types::registry::EvalContext;

fn int2(v: Option<i64>) -> Value {
    v.and_then(|v| i16::try_from(v).ok())
        .map(Datum::Int2)
        .ok_or_else(|| out_of_range("smallint"))
}
fn int4(v: Option<i64>) -> Value {
    v.and_then(|v| i32::try_from(v).ok())
        .map(Datum::Int4)
        .ok_or_else(|| out_of_range("integer"))
}
fn int8(v: Option<i64>) -> Value {
    v.map(Datum::Int8).ok_or_else(|| out_of_range("bigint"))
}

fn divide(a: i64, b: i64) -> Result<Option<i64>, SqlError> {
    if b == 0 {
        Err(division_by_zero())
    } else {
        Ok(a.checked_div(b))
    }
}

fn modulo(a: i64, b: i64) -> Result<Option<i64>, SqlError> {
    if b == 0 {
        Err(division_by_zero())
    } else {
        Ok(Some(a.checked_rem(b).unwrap_or(0)))
    }
}

macro_rules! arithmetic {
    ($add:ident $sub:ident $mul:ident $div:ident $rem:ident => $result:ident) => {
        fn $add(_: &dyn EvalContext, a: &[Datum]) -> Value {
            $result(a.int(0)?.checked_add(a.int(1)?))
        }
        fn $sub(_: &dyn EvalContext, a: &[Datum]) -> Value {
            $result(a.int(0)?.checked_sub(a.int(1)?))
        }
        fn $mul(_: &dyn EvalContext, a: &[Datum]) -> Value {
            $result(a.int(0)?.checked_mul(a.int(1)?))
        }
        fn $div(_: &dyn EvalContext, a: &[Datum]) -> Value {
            $result(divide(a.int(0)?, a.int(1)?)?)
        }
        fn $rem(_: &dyn EvalContext, a: &[Datum]) -> Value {
            $result(modulo(a.int(0)?, a.int(1)?)?)
        }
    };
}

arithmetic!(add2 sub2 mul2 div2 rem2 => int2);
arithmetic!(add4 sub4 mul4 div4 rem4 => int4);
arithmetic!(add8 sub8 mul8 div8 rem8 => int8);

macro_rules! unary_and_bits {
    ($result:ident: $abs:ident $neg:ident $not:ident $and:ident $or:ident $xor:ident $gcd:ident $lcm:ident) => {
        fn $abs(_: &dyn EvalContext, a: &[Datum]) -> Value {
            $result(a.int(0)?.checked_abs())
        }
        fn $neg(_: &dyn EvalContext, a: &[Datum]) -> Value {
            $result(a.int(0)?.checked_neg())
        }
        fn $not(_: &dyn EvalContext, a: &[Datum]) -> Value {
            $result(Some(!a.int(0)?))
        }
        fn $and(_: &dyn EvalContext, a: &[Datum]) -> Value {
            $result(Some(a.int(0)? & a.int(1)?))
        }
        fn $or(_: &dyn EvalContext, a: &[Datum]) -> Value {
            $result(Some(a.int(0)? | a.int(1)?))
        }
        fn $xor(_: &dyn EvalContext, a: &[Datum]) -> Value {
            $result(Some(a.int(0)? ^ a.int(1)?))
        }
        fn $gcd(_: &dyn EvalContext, a: &[Datum]) -> Value {
            $result(i64::try_from(gcd(a.int(0)?, a.int(1)?)).ok())
        }
        fn $lcm(_: &dyn EvalContext, a: &[Datum]) -> Value {
            let (x, y) = (a.int(0)?, a.int(1)?);
            let divisor = gcd(x, y);
            if divisor == 0 {
                return $result(Some(0));
            }
            let product = (i128::from(x) / i128::from(divisor)) * i128::from(y);
            $result(i64::try_from(product.abs()).ok())
        }
    };
}

unary_and_bits!(int2: abs2 neg2 not2 and2 or2 xor2 _gcd2 _lcm2);
unary_and_bits!(int4: abs4 neg4 not4 and4 or4 xor4 gcd4 lcm4);
unary_and_bits!(int8: abs8 neg8 not8 and8 or8 xor8 gcd8 lcm8);

fn gcd(a: i64, b: i64) -> u64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn plus(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(a.datum(0).clone())
}

macro_rules! shifts {
    ($left:ident $right:ident $result:ident $machine:ty) => {
        fn $left(_: &dyn EvalContext, a: &[Datum]) -> Value {
            let v = a.int(0)? as $machine;
            $result(Some(i64::from(v.wrapping_shl(a.int(1)? as u32))))
        }
        fn $right(_: &dyn EvalContext, a: &[Datum]) -> Value {
            let v = a.int(0)? as $machine;
            $result(Some(i64::from(v.wrapping_shr(a.int(1)? as u32))))
        }
    };
}

shifts!(shl4 shr4 int4 i32);
shifts!(shl8 shr8 int8 i64);

/// PostgreSQL shifts an int2 as a C int and cuts the result.
fn shl2(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int2(
        (a.int(0)? as i32).wrapping_shl(a.int(1)? as u32) as i16,
    ))
}
fn shr2(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int2(
        (a.int(0)? as i32).wrapping_shr(a.int(1)? as u32) as i16,
    ))
}

fn to_hex32(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(format!("{:x}", a.int4(0)?)))
}
fn to_hex64(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(format!("{:x}", a.int(0)?)))
}

pub(super) const SCALARS: &[Scalar] = &[
    ("int2pl", add2),
    ("int2mi", sub2),
    ("int2mul", mul2),
    ("int2div", div2),
    ("int2mod", rem2),
    ("int4pl", add4),
    ("int4mi", sub4),
    ("int4mul", mul4),
    ("int4div", div4),
    ("int4mod", rem4),
    ("int8pl", add8),
    ("int8mi", sub8),
    ("int8mul", mul8),
    ("int8div", div8),
    ("int8mod", rem8),
    ("int24pl", add4),
    ("int24mi", sub4),
    ("int24mul", mul4),
    ("int24div", div4),
    ("int42pl", add4),
    ("int42mi", sub4),
    ("int42mul", mul4),
    ("int42div", div4),
    ("int28pl", add8),
    ("int28mi", sub8),
    ("int28mul", mul8),
    ("int28div", div8),
    ("int82pl", add8),
    ("int82mi", sub8),
    ("int82mul", mul8),
    ("int82div", div8),
    ("int48pl", add8),
    ("int48mi", sub8),
    ("int48mul", mul8),
    ("int48div", div8),
    ("int84pl", add8),
    ("int84mi", sub8),
    ("int84mul", mul8),
    ("int84div", div8),
    ("int2abs", abs2),
    ("int4abs", abs4),
    ("int8abs", abs8),
    ("int2um", neg2),
    ("int4um", neg4),
    ("int8um", neg8),
    ("int2up", plus),
    ("int4up", plus),
    ("int8up", plus),
    ("int2not", not2),
    ("int4not", not4),
    ("int8not", not8),
    ("int2and", and2),
    ("int4and", and4),
    ("int8and", and8),
    ("int2or", or2),
    ("int4or", or4),
    ("int8or", or8),
    ("int2xor", xor2),
    ("int4xor", xor4),
    ("int8xor", xor8),
    ("int2shl", shl2),
    ("int4shl", shl4),
    ("int8shl", shl8),
    ("int2shr", shr2),
    ("int4shr", shr4),
    ("int8shr", shr8),
    ("int4gcd", gcd4),
    ("int8gcd", gcd8),
    ("int4lcm", lcm4),
    ("int8lcm", lcm8),
    ("to_hex32", to_hex32),
    ("to_hex64", to_hex64),
];

//! Comparison: one body for each of the six operators, for all types; dates against timestamps.

use std::cmp::Ordering;

use crate::error::SqlError;
use crate::types::body::{Args, Scalar, Value};
use crate::types::compare::compare;
use crate::types::datetime::{DATE_INFINITY, DATE_NEG_INFINITY, DAY, INFINITY, NEG_INFINITY};
use crate::types::datum::Datum;
use crate::types::oid::Oid;
use crate::types::registry::{Comparison, EvalContext, ScalarFn};

/// Order of two arguments; dates, timestamps and timestamptzs compare with each other.
fn order(cx: &dyn EvalContext, args: &[Datum]) -> Result<Ordering, SqlError> {
    let (a, b) = (args.datum(0), args.datum(1));
    Ok(match (a, b) {
        (Datum::Date(_), Datum::Timestamp(_) | Datum::Timestamptz(_))
        | (Datum::Timestamp(_), Datum::Date(_) | Datum::Timestamptz(_))
        | (Datum::Timestamptz(_), Datum::Date(_) | Datum::Timestamp(_)) => {
            let zoned = matches!(a, Datum::Timestamptz(_)) || matches!(b, Datum::Timestamptz(_));
            instant(cx, a, zoned).cmp(&instant(cx, b, zoned))
        }
        _ => compare(a, b),
    })
}

fn instant(cx: &dyn EvalContext, value: &Datum, zoned: bool) -> i128 {
    let local = match value {
        Datum::Date(DATE_INFINITY) => return i128::from(INFINITY),
        Datum::Date(DATE_NEG_INFINITY) => return i128::from(NEG_INFINITY),
        Datum::Date(v) => i128::from(*v) * i128::from(DAY),
        Datum::Timestamptz(v) => return i128::from(*v),
        Datum::Timestamp(v) => i128::from(*v),
        _ => return 0,
    };
    match i64::try_from(local) {
        Ok(micros) if zoned && micros != INFINITY && micros != NEG_INFINITY => {
            local - i128::from(cx.time_zone().offset_of_local(micros)) * 1_000_000
        }
        _ => local,
    }
}

fn eq(cx: &dyn EvalContext, args: &[Datum]) -> Value {
    if let [Datum::Text(a), Datum::Text(b)] = args {
        return Ok(Datum::Bool(a == b));
    }
    Ok(Datum::Bool(order(cx, args)?.is_eq()))
}
fn ne(cx: &dyn EvalContext, args: &[Datum]) -> Value {
    Ok(Datum::Bool(order(cx, args)?.is_ne()))
}
fn lt(cx: &dyn EvalContext, args: &[Datum]) -> Value {
    Ok(Datum::Bool(order(cx, args)?.is_lt()))
}
fn le(cx: &dyn EvalContext, args: &[Datum]) -> Value {
    Ok(Datum::Bool(order(cx, args)?.is_le()))
}
fn gt(cx: &dyn EvalContext, args: &[Datum]) -> Value {
    Ok(Datum::Bool(order(cx, args)?.is_gt()))
}
fn ge(cx: &dyn EvalContext, args: &[Datum]) -> Value {
    Ok(Datum::Bool(order(cx, args)?.is_ge()))
}

/// Records are equal field by field, NULLs with each other; with `<` the types must agree.
fn record_eq(cx: &dyn EvalContext, args: &[Datum]) -> Value {
    eq(cx, args)
}

/// The body for an operator on arguments of these types.
pub(in crate::types) fn comparison(meaning: Comparison, args: &[Oid]) -> Option<ScalarFn> {
    if args.len() != 2 || args.contains(&Oid::ANYENUM) {
        return None;
    }
    Some(match meaning {
        Comparison::Eq if args.contains(&Oid::RECORD) => record_eq,
        Comparison::Eq => eq,
        Comparison::Ne => ne,
        Comparison::Lt => lt,
        Comparison::Le => le,
        Comparison::Gt => gt,
        Comparison::Ge => ge,
    })
}

fn three_way(cx: &dyn EvalContext, args: &[Datum]) -> Value {
    Ok(Datum::Int4(order(cx, args)? as i32))
}

fn larger(cx: &dyn EvalContext, args: &[Datum]) -> Value {
    Ok(args.datum(usize::from(order(cx, args)?.is_lt())).clone())
}

fn smaller(cx: &dyn EvalContext, args: &[Datum]) -> Value {
    Ok(args.datum(usize::from(order(cx, args)?.is_gt())).clone())
}

/// Operators that compare byte by byte whatever the collation: with our one collation the same.
fn pattern_lt(cx: &dyn EvalContext, args: &[Datum]) -> Value {
    lt(cx, args)
}

pub(super) const SCALARS: &[Scalar] = &[
    ("btint2cmp", three_way),
    ("btint4cmp", three_way),
    ("btint8cmp", three_way),
    ("btint24cmp", three_way),
    ("btint28cmp", three_way),
    ("btint42cmp", three_way),
    ("btint48cmp", three_way),
    ("btint82cmp", three_way),
    ("btint84cmp", three_way),
    ("btfloat4cmp", three_way),
    ("btfloat8cmp", three_way),
    ("bttextcmp", three_way),
    ("btnamecmp", three_way),
    ("btoidcmp", three_way),
    ("btboolcmp", three_way),
    ("numeric_cmp", three_way),
    ("uuid_cmp", three_way),
    ("byteacmp", three_way),
    ("jsonb_cmp", three_way),
    ("date_cmp", three_way),
    ("time_cmp", three_way),
    ("timestamp_cmp", three_way),
    ("interval_cmp", three_way),
    ("btarraycmp", three_way),
    ("bpcharcmp", three_way),
    ("int2larger", larger),
    ("int4larger", larger),
    ("int8larger", larger),
    ("float8larger", larger),
    ("numeric_larger", larger),
    ("text_larger", larger),
    ("int2smaller", smaller),
    ("int4smaller", smaller),
    ("int8smaller", smaller),
    ("float8smaller", smaller),
    ("numeric_smaller", smaller),
    ("text_smaller", smaller),
    ("text_pattern_lt", pattern_lt),
    ("text_pattern_le", le),
    ("text_pattern_gt", gt),
    ("text_pattern_ge", ge),
];

//! generate_series.

use std::cmp::Ordering;

use crate::error::{SqlError, SqlState};
use crate::types::body::{Args, Set};
use crate::types::datetime::{INFINITY, NEG_INFINITY, arith};
use crate::types::datum::{Datum, Interval};
use crate::types::numeric::Numeric;
use crate::types::registry::EvalContext;

type Rows = Result<Vec<Vec<Datum>>, SqlError>;

fn invalid(message: &'static str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn integers(cx: &dyn EvalContext, a: &[Datum], make: fn(i64) -> Datum) -> Rows {
    if a.iter().any(Datum::is_null) {
        return Ok(Vec::new());
    }
    let (start, stop) = (a.int(0)?, a.int(1)?);
    let step = if a.len() > 2 { a.int(2)? } else { 1 };
    if step == 0 {
        return Err(invalid("step size cannot equal zero"));
    }
    let mut out = Vec::new();
    let mut at = Some(start);
    while let Some(v) = at {
        if (step > 0 && v > stop) || (step < 0 && v < stop) {
            break;
        }
        if out.len() % 4096 == 0 {
            cx.check_cancelled()?;
        }
        out.push(vec![make(v)]);
        at = v.checked_add(step);
    }
    Ok(out)
}

fn int4(cx: &dyn EvalContext, a: &[Datum]) -> Rows {
    integers(cx, a, |v| Datum::Int4(v as i32))
}
fn int8(cx: &dyn EvalContext, a: &[Datum]) -> Rows {
    integers(cx, a, Datum::Int8)
}

fn numeric(cx: &dyn EvalContext, a: &[Datum]) -> Rows {
    if a.iter().any(Datum::is_null) {
        return Ok(Vec::new());
    }
    let (start, stop) = (a.numeric(0)?, a.numeric(1)?);
    let step = if a.len() > 2 {
        a.numeric(2)?
    } else {
        Numeric::new(1, 0)
    };
    let finite = |v: &Numeric, what: &str| {
        if v.is_finite() {
            return Ok(());
        }
        let kind = if v.is_nan() { "NaN" } else { "infinity" };
        Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("{what} cannot be {kind}"),
        ))
    };
    finite(&start, "start value")?;
    finite(&stop, "stop value")?;
    finite(&step, "step size")?;
    if step.is_zero() {
        return Err(invalid("step size cannot equal zero"));
    }
    let beyond = if step.signum() > 0 {
        Ordering::Greater
    } else {
        Ordering::Less
    };
    let mut out = Vec::new();
    let mut at = start;
    while at.cmp(&stop) != beyond {
        if out.len() % 4096 == 0 {
            cx.check_cancelled()?;
        }
        out.push(vec![Datum::Numeric(at.clone())]);
        at = at.add(&step)?;
    }
    Ok(out)
}

fn moments(
    cx: &dyn EvalContext,
    a: &[Datum],
    make: fn(i64) -> Datum,
    add: &dyn Fn(i64, Interval) -> Result<i64, SqlError>,
) -> Rows {
    if a.iter().any(Datum::is_null) {
        return Ok(Vec::new());
    }
    let (start, stop, step) = (a.moment(0)?, a.moment(1)?, a.interval(2)?);
    let sign = step.comparable().cmp(&0);
    if sign.is_eq() {
        return Err(invalid("step size cannot equal zero"));
    }
    if start == INFINITY || start == NEG_INFINITY {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    let mut at = start;
    while (sign.is_gt() && at <= stop) || (sign.is_lt() && at >= stop) {
        if out.len() % 4096 == 0 {
            cx.check_cancelled()?;
        }
        out.push(vec![make(at)]);
        at = add(at, step)?;
    }
    Ok(out)
}

fn timestamp(cx: &dyn EvalContext, a: &[Datum]) -> Rows {
    moments(cx, a, Datum::Timestamp, &arith::add_interval)
}
fn timestamptz(cx: &dyn EvalContext, a: &[Datum]) -> Rows {
    let zone = cx.time_zone();
    moments(cx, a, Datum::Timestamptz, &|t, step| {
        arith::add_interval_tz(t, step, zone)
    })
}

pub(super) const SETS: &[Set] = &[
    ("generate_series_int4", int4, &[]),
    ("generate_series_step_int4", int4, &[]),
    ("generate_series_int8", int8, &[]),
    ("generate_series_step_int8", int8, &[]),
    ("generate_series_numeric", numeric, &[]),
    ("generate_series_step_numeric", numeric, &[]),
    ("generate_series_timestamp", timestamp, &[]),
    ("generate_series_timestamptz", timestamptz, &[]),
];

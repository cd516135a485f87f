//! Functions and operators on arrays.

use std::sync::Arc;

use crate::error::{SqlError, SqlState};
use crate::types::array::ArrayValue;
use crate::types::body::{Args, Scalar, Value};
use crate::types::compare::compare;
use crate::types::datum::Datum;
use crate::types::io;
use crate::types::oid::Oid;
use crate::types::registry::EvalContext;

fn make(element: Oid, dims: Vec<(i32, i32)>, items: Vec<Datum>) -> Datum {
    let dims = if items.is_empty() { Vec::new() } else { dims };
    Datum::Array(Arc::new(ArrayValue {
        element,
        dims,
        items,
    }))
}

fn subscript_error(message: &'static str) -> SqlError {
    SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message)
}

fn incompatible(detail: String) -> SqlError {
    subscript_error("cannot concatenate incompatible arrays").with_detail(detail)
}

/// The single dimension of an array that must have at most one.
fn flat(array: &ArrayValue) -> Result<(i32, i32), SqlError> {
    match array.dims.as_slice() {
        [] => Ok((0, 1)),
        [one] => Ok(*one),
        _ => Err(SqlError::new(
            SqlState::DATA_EXCEPTION,
            "argument must be empty or one-dimensional array",
        )),
    }
}

fn append(_: &dyn EvalContext, a: &[Datum]) -> Value {
    if let Datum::Null = a.datum(0) {
        let element = io::type_of(a.datum(1));
        return Ok(make(element, vec![(1, 1)], vec![a.datum(1).clone()]));
    }
    let array = a.array(0)?;
    let (length, lower) = flat(array)?;
    let mut items = array.items.clone();
    items.push(a.datum(1).clone());
    Ok(make(array.element, vec![(length + 1, lower)], items))
}
fn prepend(_: &dyn EvalContext, a: &[Datum]) -> Value {
    if let Datum::Null = a.datum(1) {
        let element = io::type_of(a.datum(0));
        return Ok(make(element, vec![(1, 1)], vec![a.datum(0).clone()]));
    }
    let array = a.array(1)?;
    let (length, lower) = flat(array)?;
    let mut items = vec![a.datum(0).clone()];
    items.extend(array.items.iter().cloned());
    // the new element goes before the first, whose subscript stays unless the array was empty
    Ok(make(array.element, vec![(length + 1, lower)], items))
}

fn cat(_: &dyn EvalContext, a: &[Datum]) -> Value {
    match (a.datum(0), a.datum(1)) {
        (Datum::Null, other) | (other, Datum::Null) => return Ok(other.clone()),
        _ => {}
    }
    let (x, y) = (a.array(0)?, a.array(1)?);
    if x.items.is_empty() {
        return Ok(a.datum(1).clone());
    }
    if y.items.is_empty() {
        return Ok(a.datum(0).clone());
    }
    let (m, n) = (x.dims.len(), y.dims.len());
    let mut items = x.items.clone();
    items.extend(y.items.iter().cloned());
    let tail_equal =
        |a: &[(i32, i32)], b: &[(i32, i32)]| a.iter().map(|d| d.0).eq(b.iter().map(|d| d.0));
    let grown = |dims: &[(i32, i32)], by: i32| {
        let mut dims = dims.to_vec();
        if let Some(first) = dims.first_mut() {
            first.0 += by;
        }
        dims
    };
    let dims = if m == n {
        if !tail_equal(
            x.dims.get(1..).unwrap_or(&[]),
            y.dims.get(1..).unwrap_or(&[]),
        ) {
            return Err(incompatible(
                "Arrays with differing element dimensions are not compatible for concatenation."
                    .to_owned(),
            ));
        }
        grown(&x.dims, y.dims.first().map_or(0, |d| d.0))
    } else if m == n + 1 && tail_equal(x.dims.get(1..).unwrap_or(&[]), &y.dims) {
        grown(&x.dims, 1)
    } else if n == m + 1 && tail_equal(y.dims.get(1..).unwrap_or(&[]), &x.dims) {
        grown(&y.dims, 1)
    } else {
        return Err(incompatible(format!(
            "Arrays of {m} and {n} dimensions are not compatible for concatenation."
        )));
    };
    Ok(make(x.element, dims, items))
}

fn ndims(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let n = a.array(0)?.dims.len();
    Ok(if n == 0 {
        Datum::Null
    } else {
        Datum::Int4(n as i32)
    })
}
fn dims(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let array = a.array(0)?;
    if array.dims.is_empty() {
        return Ok(Datum::Null);
    }
    let text: String = array
        .dims
        .iter()
        .map(|(n, l)| format!("[{l}:{}]", l + n - 1))
        .collect();
    Ok(Datum::text(text))
}
fn dim(a: &[Datum]) -> Result<Option<(i32, i32)>, SqlError> {
    let i = a.int(1)?;
    Ok(usize::try_from(i - 1)
        .ok()
        .and_then(|i| a.array(0).ok()?.dims.get(i).copied()))
}
fn lower(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(dim(a)?.map_or(Datum::Null, |(_, l)| Datum::Int4(l)))
}
fn upper(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(dim(a)?.map_or(Datum::Null, |(n, l)| Datum::Int4(l + n - 1)))
}
fn length(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(dim(a)?.map_or(Datum::Null, |(n, _)| Datum::Int4(n)))
}
fn cardinality(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int4(a.array(0)?.items.len() as i32))
}

/// Equal, NULLs with each other.
fn same(a: &Datum, b: &Datum) -> bool {
    match (a.is_null(), b.is_null()) {
        (true, true) => true,
        (false, false) => compare(a, b).is_eq(),
        _ => false,
    }
}

fn search_dims(array: &ArrayValue) -> Result<i32, SqlError> {
    if array.dims.len() > 1 {
        return Err(SqlError::unsupported(
            "searching for elements in multidimensional arrays",
        ));
    }
    Ok(array.dims.first().map_or(1, |d| d.1))
}
fn position(_: &dyn EvalContext, a: &[Datum]) -> Value {
    if a.datum(0).is_null() {
        return Ok(Datum::Null);
    }
    let array = a.array(0)?;
    let lower = search_dims(array)?;
    let start = if a.len() > 2 {
        if a.datum(2).is_null() {
            return Err(SqlError::new(
                SqlState::NULL_VALUE_NOT_ALLOWED,
                "initial position must not be null",
            ));
        }
        (a.int(2)? - i64::from(lower)).max(0) as usize
    } else {
        0
    };
    let found = array
        .items
        .iter()
        .skip(start)
        .position(|i| same(i, a.datum(1)));
    Ok(found.map_or(Datum::Null, |i| Datum::Int4((i + start) as i32 + lower)))
}
fn positions(_: &dyn EvalContext, a: &[Datum]) -> Value {
    if a.datum(0).is_null() {
        return Ok(Datum::Null);
    }
    let array = a.array(0)?;
    let lower = search_dims(array)?;
    let items = array
        .items
        .iter()
        .enumerate()
        .filter(|(_, v)| same(v, a.datum(1)))
        .map(|(i, _)| Datum::Int4(i as i32 + lower))
        .collect();
    Ok(Datum::Array(Arc::new(ArrayValue::vector(Oid::INT4, items))))
}
fn remove(_: &dyn EvalContext, a: &[Datum]) -> Value {
    if a.datum(0).is_null() {
        return Ok(Datum::Null);
    }
    let array = a.array(0)?;
    if array.dims.len() > 1 {
        return Err(SqlError::unsupported(
            "removing elements from multidimensional arrays",
        ));
    }
    let items: Vec<Datum> = array
        .items
        .iter()
        .filter(|v| !same(v, a.datum(1)))
        .cloned()
        .collect();
    let lower = array.dims.first().map_or(1, |d| d.1);
    Ok(make(
        array.element,
        vec![(items.len() as i32, lower)],
        items,
    ))
}
fn replace(_: &dyn EvalContext, a: &[Datum]) -> Value {
    if a.datum(0).is_null() {
        return Ok(Datum::Null);
    }
    let array = a.array(0)?;
    let swap = |v: &Datum| {
        if same(v, a.datum(1)) {
            a.datum(2).clone()
        } else {
            v.clone()
        }
    };
    Ok(make(
        array.element,
        array.dims.clone(),
        array.items.iter().map(swap).collect(),
    ))
}
fn fill(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let null = || {
        SqlError::new(
            SqlState::NULL_VALUE_NOT_ALLOWED,
            "dimension array or low bound array cannot be null",
        )
    };
    if a.datum(1).is_null() || (a.len() > 2 && a.datum(2).is_null()) {
        return Err(null());
    }
    let ints = |i: usize| -> Result<Vec<i32>, SqlError> {
        a.array(i)?
            .items
            .iter()
            .map(|v| {
                v.as_i64().map(|v| v as i32).ok_or_else(|| {
                    SqlError::new(
                        SqlState::NULL_VALUE_NOT_ALLOWED,
                        "dimension values cannot be null",
                    )
                })
            })
            .collect()
    };
    let lengths = ints(1)?;
    let lowers = if a.len() > 2 {
        ints(2)?
    } else {
        vec![1; lengths.len()]
    };
    if lowers.len() != lengths.len() {
        return Err(subscript_error("wrong number of array subscripts")
            .with_detail("Low bound array has different size than dimensions array."));
    }
    let count: i64 = lengths.iter().map(|n| i64::from(*n)).product();
    if lengths.is_empty() || count == 0 {
        return Ok(make(io::type_of(a.datum(0)), Vec::new(), Vec::new()));
    }
    if !(0..=134_217_727).contains(&count) {
        return Err(SqlError::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            "array size exceeds the maximum allowed (134217727)",
        ));
    }
    let dims = lengths.into_iter().zip(lowers).collect();
    Ok(make(
        io::type_of(a.datum(0)),
        dims,
        vec![a.datum(0).clone(); count as usize],
    ))
}
fn trim(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (array, n) = (a.array(0)?, a.int(1)?);
    let length = array.dims.first().map_or(0, |d| d.0);
    if n < 0 || n > i64::from(length) {
        return Err(SqlError::new(
            SqlState::ARRAY_SUBSCRIPT_ERROR,
            format!("number of elements to trim must be between 0 and {length}"),
        ));
    }
    let kept = length - n as i32;
    let per = if length == 0 {
        0
    } else {
        array.items.len() / length as usize
    };
    let items = array
        .items
        .iter()
        .take(per * kept as usize)
        .cloned()
        .collect();
    let mut dims = array.dims.clone();
    if let Some(first) = dims.first_mut() {
        *first = (kept, 1);
    }
    Ok(make(array.element, dims, items))
}

fn has(array: &ArrayValue, value: &Datum) -> bool {
    !value.is_null()
        && array
            .items
            .iter()
            .any(|v| !v.is_null() && compare(v, value).is_eq())
}
fn contains(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (x, y) = (a.array(0)?, a.array(1)?);
    Ok(Datum::Bool(y.items.iter().all(|v| has(x, v))))
}
fn contained(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (x, y) = (a.array(0)?, a.array(1)?);
    Ok(Datum::Bool(x.items.iter().all(|v| has(y, v))))
}
fn overlap(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (x, y) = (a.array(0)?, a.array(1)?);
    Ok(Datum::Bool(x.items.iter().any(|v| has(y, v))))
}
/// `width_bucket(anyelement, anyarray)`
fn width_bucket(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let array = a.array(1)?;
    if array.dims.len() > 1 {
        return Err(subscript_error("thresholds must be one-dimensional array"));
    }
    if array.items.iter().any(Datum::is_null) {
        return Err(SqlError::new(
            SqlState::NULL_VALUE_NOT_ALLOWED,
            "thresholds array must not contain NULLs",
        ));
    }
    let below = array
        .items
        .partition_point(|t| compare(t, a.datum(0)).is_le());
    Ok(Datum::Int4(below as i32))
}

pub(super) const SCALARS: &[Scalar] = &[
    ("array_append", append),
    ("array_prepend", prepend),
    ("array_cat", cat),
    ("array_ndims", ndims),
    ("array_dims", dims),
    ("array_lower", lower),
    ("array_upper", upper),
    ("array_length", length),
    ("array_cardinality", cardinality),
    ("array_position", position),
    ("array_position_start", position),
    ("array_positions", positions),
    ("array_remove", remove),
    ("array_replace", replace),
    ("array_fill", fill),
    ("array_fill_with_lower_bounds", fill),
    ("trim_array", trim),
    ("arraycontains", contains),
    ("arraycontained", contained),
    ("arrayoverlap", overlap),
    ("width_bucket_array", width_bucket),
];

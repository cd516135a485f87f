//! Splitting texts into arrays and rows, joining arrays into texts.

use std::sync::Arc;

use crate::error::SqlError;
use crate::types::array::ArrayValue;
use crate::types::body::{Args, Scalar, Set, Value};
use crate::types::datum::Datum;
use crate::types::fault::invalid_parameter;
use crate::types::io;
use crate::types::oid::{Oid, PgType};
use crate::types::registry::EvalContext;

fn split_part(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (text, sep, n) = (a.text(0)?, a.text(1)?, a.int(2)?);
    if n == 0 {
        return Err(invalid_parameter("field position must not be zero"));
    }
    let parts: Vec<&str> = if sep.is_empty() {
        vec![text]
    } else {
        text.split(sep).collect()
    };
    let at = if n > 0 { n - 1 } else { parts.len() as i64 + n };
    let part = usize::try_from(at).ok().and_then(|i| parts.get(i)).copied();
    Ok(Datum::text(part.unwrap_or("")))
}

/// The parts of `string_to_array`: NULL separator splits into characters.
fn parts(a: &[Datum]) -> Result<Option<Vec<Datum>>, SqlError> {
    if a.datum(0).is_null() {
        return Ok(None);
    }
    let text = a.text(0)?;
    let null = a.datum(2).as_str();
    let make = |part: &str| {
        if Some(part) == null {
            Datum::Null
        } else {
            Datum::text(part)
        }
    };
    if text.is_empty() {
        return Ok(Some(Vec::new()));
    }
    Ok(Some(match a.datum(1).as_str() {
        None => text
            .chars()
            .map(|c| make(c.encode_utf8(&mut [0; 4])))
            .collect(),
        Some("") => vec![make(text)],
        Some(sep) => text.split(sep).map(make).collect(),
    }))
}
fn string_to_array(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(parts(a)?.map_or(Datum::Null, |items| {
        Datum::Array(Arc::new(ArrayValue::vector(Oid::TEXT, items)))
    }))
}
fn string_to_table(_: &dyn EvalContext, a: &[Datum]) -> Result<Vec<Vec<Datum>>, SqlError> {
    Ok(parts(a)?
        .unwrap_or_default()
        .into_iter()
        .map(|v| vec![v])
        .collect())
}

fn array_to_string(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    if a.datum(0).is_null() || a.datum(1).is_null() {
        return Ok(Datum::Null);
    }
    let (array, sep) = (a.array(0)?, a.text(1)?);
    let null = a.datum(2).as_str();
    let mut out = String::new();
    let mut first = true;
    for item in &array.items {
        if item.is_null() && null.is_none() {
            continue;
        }
        if !first {
            out.push_str(sep);
        }
        first = false;
        match (item, null) {
            (Datum::Null, Some(text)) => out.push_str(text),
            (item, _) => io::output(item, PgType::new(array.element), cx, &mut out),
        }
    }
    Ok(Datum::text(out))
}

pub(super) const SCALARS: &[Scalar] = &[
    ("split_part", split_part),
    ("text_to_array", string_to_array),
    ("text_to_array_null", string_to_array),
    ("array_to_text", array_to_string),
    ("array_to_text_null", array_to_string),
];

pub(super) const SETS: &[Set] = &[
    ("text_to_table", string_to_table, &[]),
    ("text_to_table_null", string_to_table, &[]),
];

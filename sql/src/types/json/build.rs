//! Values to JSON: to_json, the builders, row_to_json.

use std::fmt::Write;

use crate::error::{SqlError, SqlState};
use crate::types::array::ArrayValue;
use crate::types::body::{Args, Scalar, Value};
use crate::types::datetime;
use crate::types::datum::Datum;
use crate::types::io;
use crate::types::numeric::Numeric;
use crate::types::registry::EvalContext;

use super::parse::parse_value;
use super::value::Json;

/// Appends a JSON string.
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The text of a time with a `T` between date and time.
fn iso(text: String) -> String {
    text.replacen(' ', "T", 1)
}

/// The text of a scalar that JSON shows as a string.
fn scalar_text(value: &Datum) -> String {
    let mut out = String::new();
    match value {
        Datum::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
        Datum::Int2(v) => out.push_str(&v.to_string()),
        Datum::Int4(v) => out.push_str(&v.to_string()),
        Datum::Int8(v) => out.push_str(&v.to_string()),
        Datum::Oid(v) => out.push_str(&v.0.to_string()),
        Datum::Float4(v) => io::write_float4(*v, &mut out),
        Datum::Float8(v) => io::write_float8(*v, &mut out),
        Datum::Numeric(v) => v.write(&mut out),
        Datum::Text(v) | Datum::Json(v) => out.push_str(v),
        Datum::Bytea(v) => io::write_bytea(v, &mut out),
        Datum::Date(v) => datetime::write_date(*v, &mut out),
        Datum::Time(v) => datetime::write_time(*v, &mut out),
        Datum::TimeTz(v, zone) => datetime::write_timetz(*v, *zone, &mut out),
        Datum::Timestamp(v) => {
            datetime::write_timestamp(*v, &mut out);
            return iso(out);
        }
        Datum::Timestamptz(v) => {
            datetime::write_timestamptz(*v, session_zone(), &mut out);
            let mut out = iso(out);
            // JSON shows the minutes of the offset always
            if out
                .as_bytes()
                .iter()
                .rev()
                .nth(2)
                .is_some_and(|b| matches!(b, b'+' | b'-'))
            {
                out.push_str(":00");
            }
            return out;
        }
        Datum::Interval(v) => datetime::write_interval(*v, &mut out),
        Datum::Uuid(v) => io::write_uuid(v, &mut out),
        Datum::Null | Datum::Array(_) | Datum::Record(_) => {}
    }
    out
}

thread_local! {
    static ZONE: std::cell::Cell<datetime::Zone> = const { std::cell::Cell::new(datetime::Zone::UTC) };
}

/// The zone in which timestamptz values are shown: that of the last call on this thread that knew
/// one (aggregates have no context of their own).
fn session_zone() -> datetime::Zone {
    ZONE.get()
}

fn number_like(value: &Datum) -> bool {
    match value {
        Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) => true,
        Datum::Float4(v) => v.is_finite(),
        Datum::Float8(v) => v.is_finite(),
        Datum::Numeric(v) => v.is_finite(),
        _ => false,
    }
}

/// Appends a value as JSON text, as to_json does.
pub(crate) fn append_datum(value: &Datum, out: &mut String) -> Result<(), SqlError> {
    match value {
        Datum::Null => out.push_str("null"),
        Datum::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
        Datum::Json(v) => out.push_str(v),
        Datum::Array(array) => append_array(array, out)?,
        Datum::Record(fields) => {
            out.push('{');
            for (i, (_, field)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                let _ = write!(out, "\"f{}\":", i + 1);
                append_datum(field, out)?;
            }
            out.push('}');
        }
        value if number_like(value) => out.push_str(&scalar_text(value)),
        other => quote(&scalar_text(other), out),
    }
    Ok(())
}

fn append_array(array: &ArrayValue, out: &mut String) -> Result<(), SqlError> {
    fn level(
        dims: &[(i32, i32)],
        items: &mut std::slice::Iter<'_, Datum>,
        out: &mut String,
    ) -> Result<(), SqlError> {
        out.push('[');
        if let Some(((length, _), rest)) = dims.split_first() {
            for i in 0..*length {
                if i > 0 {
                    out.push(',');
                }
                if rest.is_empty() {
                    append_datum(items.next().unwrap_or(&Datum::Null), out)?;
                } else {
                    level(rest, items, out)?;
                }
            }
        }
        out.push(']');
        Ok(())
    }
    level(&array.dims, &mut array.items.iter(), out)
}

/// A value as jsonb.
pub(crate) fn datum_to_value(value: &Datum) -> Result<Json, SqlError> {
    Ok(match value {
        Datum::Null => Json::Null,
        Datum::Bool(v) => Json::Bool(*v),
        Datum::Json(v) => parse_value(v)?,
        Datum::Numeric(v) if v.is_finite() => Json::Number(v.clone()),
        value if number_like(value) => Json::Number(Numeric::parse(&scalar_text(value))?),
        Datum::Array(_) | Datum::Record(_) => {
            let mut text = String::new();
            append_datum(value, &mut text)?;
            parse_value(&text)?
        }
        other => Json::String(scalar_text(other)),
    })
}

fn to_json(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    ZONE.set(cx.time_zone());
    let mut out = String::new();
    append_datum(a.datum(0), &mut out)?;
    Ok(Datum::Json(out.into()))
}
fn to_jsonb(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    ZONE.set(cx.time_zone());
    Ok(Datum::Json(datum_to_value(a.datum(0))?.to_text().into()))
}

/// Arrays with line feeds between their elements.
fn to_json_pretty(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    ZONE.set(cx.time_zone());
    let pretty = a.len() > 1 && a.bool(1)?;
    let mut out = String::new();
    match a.datum(0) {
        Datum::Array(array) if pretty && !array.dims.is_empty() => {
            out.push('[');
            let rows = array.dims.first().map_or(1, |d| d.0.max(1)) as usize;
            for (i, items) in array.items.chunks(array.items.len() / rows).enumerate() {
                if i > 0 {
                    out.push_str(",\n ");
                }
                match array.dims.get(1..) {
                    Some(rest) if !rest.is_empty() => append_array(
                        &ArrayValue {
                            element: array.element,
                            dims: rest.to_vec(),
                            items: items.to_vec(),
                        },
                        &mut out,
                    )?,
                    _ => append_datum(items.datum(0), &mut out)?,
                }
            }
            out.push(']');
        }
        other => append_datum(other, &mut out)?,
    }
    Ok(Datum::Json(out.into()))
}

fn build_error(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// A value as the key of an object.
fn key(value: &Datum, position: usize) -> Result<String, SqlError> {
    match value {
        Datum::Null => Err(build_error(format!(
            "argument {position}: key must not be null"
        ))),
        Datum::Array(_) | Datum::Record(_) | Datum::Json(_) => Err(build_error(
            "key value must be scalar, not array, composite, or json".to_owned(),
        )),
        other => Ok(scalar_text(other)),
    }
}

fn even(a: &[Datum]) -> Result<(), SqlError> {
    if a.len() % 2 == 0 {
        return Ok(());
    }
    Err(
        build_error("argument list must have even number of elements".to_owned()).with_hint(
            "The arguments of json_build_object() must consist of alternating keys and values.",
        ),
    )
}

fn build_object(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    ZONE.set(cx.time_zone());
    even(a)?;
    let mut out = String::from("{");
    for (i, pair) in a.chunks(2).enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        quote(&key(pair.datum(0), 2 * i + 1)?, &mut out);
        out.push_str(" : ");
        append_datum(pair.datum(1), &mut out)?;
    }
    out.push('}');
    Ok(Datum::Json(out.into()))
}
fn build_object_b(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    ZONE.set(cx.time_zone());
    even(a)?;
    let pairs = a
        .chunks(2)
        .enumerate()
        .map(|(i, pair)| {
            Ok((
                key(pair.datum(0), 2 * i + 1)?,
                datum_to_value(pair.datum(1))?,
            ))
        })
        .collect::<Result<_, SqlError>>()?;
    Ok(Datum::Json(Json::object(pairs).to_text().into()))
}
fn build_array(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    ZONE.set(cx.time_zone());
    let mut out = String::from("[");
    for (i, value) in a.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        append_datum(value, &mut out)?;
    }
    out.push(']');
    Ok(Datum::Json(out.into()))
}
fn build_array_b(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    ZONE.set(cx.time_zone());
    let items = a.iter().map(datum_to_value).collect::<Result<_, _>>()?;
    Ok(Datum::Json(Json::Array(items).to_text().into()))
}

/// A row as an object: the names as an array, then the values.
fn named_row(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    ZONE.set(cx.time_zone());
    let mut out = String::from("{");
    for (i, (name, value)) in a.array(0)?.items.iter().zip(a.iter().skip(1)).enumerate() {
        if i > 0 {
            out.push(',');
        }
        quote(name.as_str().unwrap_or(""), &mut out);
        out.push(':');
        append_datum(value, &mut out)?;
    }
    out.push('}');
    Ok(Datum::Json(out.into()))
}

/// `json_object(text[])` and `json_object(text[], text[])`.
fn pairs(a: &[Datum]) -> Result<Vec<(String, Option<String>)>, SqlError> {
    let owned = |v: &Datum| v.as_str().map(str::to_owned);
    let first = a.array(0)?;
    let list: Vec<(Option<String>, Option<String>)> = if a.len() > 1 {
        let second = a.array(1)?;
        if first.items.len() != second.items.len() {
            return Err(SqlError::new(
                SqlState::ARRAY_SUBSCRIPT_ERROR,
                "mismatched array dimensions",
            ));
        }
        first
            .items
            .iter()
            .zip(&second.items)
            .map(|(k, v)| (owned(k), owned(v)))
            .collect()
    } else {
        if first.dims.len() == 1 && first.items.len() % 2 != 0 {
            return Err(SqlError::new(
                SqlState::ARRAY_SUBSCRIPT_ERROR,
                "array must have even number of elements",
            ));
        }
        if first.dims.len() > 2
            || (first.dims.len() == 2 && first.dims.get(1).is_some_and(|d| d.0 != 2))
        {
            return Err(SqlError::new(
                SqlState::ARRAY_SUBSCRIPT_ERROR,
                "array must have two columns",
            ));
        }
        first
            .items
            .chunks(2)
            .map(|p| (owned(p.datum(0)), owned(p.datum(1))))
            .collect()
    };
    list.into_iter()
        .map(|(k, v)| {
            k.map(|k| (k, v)).ok_or_else(|| {
                SqlError::new(
                    SqlState::NULL_VALUE_NOT_ALLOWED,
                    "null value not allowed for object key",
                )
            })
        })
        .collect()
}
fn json_object(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let mut out = String::from("{");
    for (i, (key, value)) in pairs(a)?.into_iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        quote(&key, &mut out);
        out.push_str(" : ");
        match value {
            Some(v) => quote(&v, &mut out),
            None => out.push_str("null"),
        }
    }
    out.push('}');
    Ok(Datum::Json(out.into()))
}
fn jsonb_object(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let pairs = pairs(a)?
        .into_iter()
        .map(|(k, v)| (k, v.map_or(Json::Null, Json::String)))
        .collect();
    Ok(Datum::Json(Json::object(pairs).to_text().into()))
}

pub(in crate::types) const SCALARS: &[Scalar] = &[
    ("to_json", to_json),
    ("to_jsonb", to_jsonb),
    ("row_to_json", to_json),
    ("row_to_json_pretty", to_json_pretty),
    ("array_to_json", to_json),
    ("array_to_json_pretty", to_json_pretty),
    ("json_build_object", build_object),
    ("json_build_object_noargs", build_object),
    ("jsonb_build_object", build_object_b),
    ("jsonb_build_object_noargs", build_object_b),
    ("json_build_array", build_array),
    ("json_build_array_noargs", build_array),
    ("jsonb_build_array", build_array_b),
    ("jsonb_build_array_noargs", build_array_b),
    ("pontoon_json_row", named_row),
    ("json_object", json_object),
    ("json_object_two_arg", json_object),
    ("jsonb_object", jsonb_object),
    ("jsonb_object_two_arg", jsonb_object),
];

//! Operators and functions that take JSON apart or change it.

use crate::error::{SqlError, SqlState};
use crate::types::body::{Args, Scalar, Set, Value};
use crate::types::datum::Datum;
use crate::types::fault::invalid_parameter;
use crate::types::oid::Oid;
use crate::types::registry::EvalContext;

use super::parse::{Raw, RawKind, parse_raw, parse_value};
use super::value::{Json, position};

fn jsonb(value: Json) -> Datum {
    Datum::Json(value.to_text().into())
}
fn parsed(a: &[Datum], i: usize) -> Result<Json, SqlError> {
    parse_value(a.text(i)?)
}

/// A jsonb value as the text operators give it: strings bare, null as NULL.
fn as_text(value: &Json) -> Datum {
    match value {
        Json::Null => Datum::Null,
        Json::String(s) => Datum::text(s.as_str()),
        other => Datum::text(other.to_text()),
    }
}
/// The same of a json value, in its text as written.
fn raw_text(value: &Raw<'_>) -> Datum {
    match &value.kind {
        RawKind::Null => Datum::Null,
        RawKind::String(s) => Datum::text(s.as_str()),
        _ => Datum::text(value.text),
    }
}
fn raw_json(value: &Raw<'_>) -> Datum {
    Datum::Json(value.text.into())
}

fn member<'a, 'b>(value: &'b Raw<'a>, key: &str) -> Option<&'b Raw<'a>> {
    match &value.kind {
        RawKind::Object(pairs) => pairs.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v),
        _ => None,
    }
}
fn element<'a, 'b>(value: &'b Raw<'a>, index: i64) -> Option<&'b Raw<'a>> {
    match &value.kind {
        RawKind::Array(items) => position(index, items.len()).and_then(|i| items.get(i)),
        _ => None,
    }
}

fn json_field(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(member(&parse_raw(a.text(0)?)?, a.text(1)?).map_or(Datum::Null, raw_json))
}
fn json_field_text(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(member(&parse_raw(a.text(0)?)?, a.text(1)?).map_or(Datum::Null, raw_text))
}
fn json_element(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(element(&parse_raw(a.text(0)?)?, a.int(1)?).map_or(Datum::Null, raw_json))
}
fn json_element_text(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(element(&parse_raw(a.text(0)?)?, a.int(1)?).map_or(Datum::Null, raw_text))
}
fn jsonb_field(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(parsed(a, 0)?
        .get(a.text(1)?)
        .map_or(Datum::Null, |v| jsonb(v.clone())))
}
fn jsonb_field_text(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(parsed(a, 0)?.get(a.text(1)?).map_or(Datum::Null, as_text))
}
/// The element of an array; a scalar counts as an array of itself.
fn element_b(a: &[Datum]) -> Result<Option<Json>, SqlError> {
    let value = parsed(a, 0)?;
    let index = a.int(1)?;
    if value.is_scalar() {
        return Ok((index == 0 || index == -1).then_some(value));
    }
    Ok(value.at(index).cloned())
}
fn jsonb_element(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(element_b(a)?.map_or(Datum::Null, jsonb))
}
fn jsonb_element_text(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(element_b(a)?.as_ref().map_or(Datum::Null, as_text))
}

/// The steps of a path: an array argument or spread texts; `None` if one is NULL.
fn path(a: &[Datum], from: usize) -> Result<Option<Vec<String>>, SqlError> {
    let items: Vec<&Datum> = match a.datum(from) {
        Datum::Array(array) if a.len() == from + 1 => array.items.iter().collect(),
        _ => a.iter().skip(from).collect(),
    };
    if items.iter().any(|i| i.is_null()) {
        return Ok(None);
    }
    Ok(Some(
        items
            .into_iter()
            .filter_map(|i| i.as_str().map(str::to_owned))
            .collect(),
    ))
}

fn raw_walk<'a, 'b>(mut value: &'b Raw<'a>, path: &[String]) -> Option<&'b Raw<'a>> {
    for step in path {
        value = match &value.kind {
            RawKind::Object(_) => member(value, step)?,
            RawKind::Array(_) => element(value, step.trim().parse().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}
fn walk<'a>(mut value: &'a Json, path: &[String]) -> Option<&'a Json> {
    for step in path {
        value = match value {
            Json::Object(_) => value.get(step)?,
            Json::Array(_) => value.at(step.trim().parse().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

fn json_path(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let Some(path) = path(a, 1)? else {
        return Ok(Datum::Null);
    };
    Ok(raw_walk(&parse_raw(a.text(0)?)?, &path).map_or(Datum::Null, raw_json))
}
fn json_path_text(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let Some(path) = path(a, 1)? else {
        return Ok(Datum::Null);
    };
    Ok(raw_walk(&parse_raw(a.text(0)?)?, &path).map_or(Datum::Null, raw_text))
}
fn jsonb_path(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let Some(path) = path(a, 1)? else {
        return Ok(Datum::Null);
    };
    Ok(walk(&parsed(a, 0)?, &path).map_or(Datum::Null, |v| jsonb(v.clone())))
}
fn jsonb_path_text(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let Some(path) = path(a, 1)? else {
        return Ok(Datum::Null);
    };
    Ok(walk(&parsed(a, 0)?, &path).map_or(Datum::Null, as_text))
}

fn contains(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(parsed(a, 0)?.contains(&parsed(a, 1)?)))
}
fn contained(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(parsed(a, 1)?.contains(&parsed(a, 0)?)))
}
fn has_key(value: &Json, key: &str) -> bool {
    match value {
        Json::Object(_) => value.get(key).is_some(),
        Json::Array(items) => items
            .iter()
            .any(|i| matches!(i, Json::String(s) if s == key)),
        Json::String(s) => s == key,
        _ => false,
    }
}
fn exists(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(has_key(&parsed(a, 0)?, a.text(1)?)))
}
fn exists_any(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let value = parsed(a, 0)?;
    Ok(Datum::Bool(
        a.array(1)?
            .items
            .iter()
            .filter_map(Datum::as_str)
            .any(|k| has_key(&value, k)),
    ))
}
fn exists_all(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let value = parsed(a, 0)?;
    Ok(Datum::Bool(
        a.array(1)?
            .items
            .iter()
            .filter_map(Datum::as_str)
            .all(|k| has_key(&value, k)),
    ))
}
fn concat(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(jsonb(parsed(a, 0)?.concat(parsed(a, 1)?)))
}

fn scalar_error(what: &str) -> SqlError {
    invalid_parameter(format!("cannot {what} scalar"))
}
fn delete_key(value: Json, keys: &[&str]) -> Result<Json, SqlError> {
    match value {
        Json::Object(pairs) => Ok(Json::Object(
            pairs
                .into_iter()
                .filter(|(k, _)| !keys.contains(&k.as_str()))
                .collect(),
        )),
        Json::Array(items) => Ok(Json::Array(
            items
                .into_iter()
                .filter(|i| !matches!(i, Json::String(s) if keys.contains(&s.as_str())))
                .collect(),
        )),
        _ => Err(scalar_error("delete from")),
    }
}
fn delete(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(jsonb(delete_key(parsed(a, 0)?, &[a.text(1)?])?))
}
fn delete_array(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let keys: Vec<&str> = match a.datum(1) {
        Datum::Array(array) => array.items.iter().filter_map(Datum::as_str).collect(),
        _ => a.iter().skip(1).filter_map(Datum::as_str).collect(),
    };
    Ok(jsonb(delete_key(parsed(a, 0)?, &keys)?))
}
fn delete_index(_: &dyn EvalContext, a: &[Datum]) -> Value {
    match parsed(a, 0)? {
        Json::Array(mut items) => {
            if let Some(i) = position(a.int(1)?, items.len()) {
                items.remove(i);
            }
            Ok(jsonb(Json::Array(items)))
        }
        Json::Object(_) => Err(invalid_parameter(
            "cannot delete from object using integer index",
        )),
        _ => Err(scalar_error("delete from")),
    }
}

/// What to do at the end of a path.
enum Change {
    Delete,
    Set { value: Json, create: bool },
    Insert { value: Json, after: bool },
}

impl Change {
    fn creates(&self) -> bool {
        !matches!(self, Self::Delete | Self::Set { create: false, .. })
    }
}

fn step_index(step: &str, depth: usize) -> Result<i64, SqlError> {
    step.trim().parse().map_err(|_| {
        SqlError::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("path element at position {depth} is not an integer: \"{step}\""),
        )
    })
}

fn change(
    value: Json,
    path: &[Option<String>],
    depth: usize,
    what: &Change,
) -> Result<Json, SqlError> {
    let Some((step, rest)) = path.split_first() else {
        return Ok(value);
    };
    let Some(step) = step else {
        return Err(SqlError::new(
            SqlState::NULL_VALUE_NOT_ALLOWED,
            format!("path element at position {depth} is null"),
        ));
    };
    match value {
        Json::Object(mut pairs) => {
            let at = pairs.iter().position(|(k, _)| k == step);
            match (at, rest.is_empty(), what) {
                (Some(i), true, Change::Delete) => {
                    pairs.remove(i);
                }
                (Some(i), true, Change::Set { value, .. }) => {
                    if let Some((_, slot)) = pairs.get_mut(i) {
                        *slot = value.clone();
                    }
                }
                (Some(_), true, Change::Insert { .. }) => {
                    return Err(invalid_parameter("cannot replace existing key")
                        .with_hint("Try using the function jsonb_set to replace key value."));
                }
                (
                    None,
                    true,
                    Change::Set {
                        value,
                        create: true,
                    }
                    | Change::Insert { value, .. },
                ) => {
                    pairs.push((step.clone(), value.clone()));
                    return Ok(Json::object(pairs));
                }
                (Some(i), false, _) => {
                    if let Some((_, slot)) = pairs.get_mut(i) {
                        *slot = change(slot.clone(), rest, depth + 1, what)?;
                    }
                }
                _ => {}
            }
            Ok(Json::Object(pairs))
        }
        Json::Array(items) if items.is_empty() && !what.creates() => Ok(Json::Array(items)),
        Json::Array(mut items) => {
            let index = step_index(step, depth)?;
            let at = position(index, items.len());
            match (at, rest.is_empty(), what) {
                (Some(i), true, Change::Delete) => {
                    items.remove(i);
                }
                (Some(i), true, Change::Set { value, .. }) => {
                    if let Some(slot) = items.get_mut(i) {
                        *slot = value.clone();
                    }
                }
                (Some(i), true, Change::Insert { value, after }) => {
                    items.insert(i + usize::from(*after), value.clone());
                }
                (
                    None,
                    true,
                    Change::Set {
                        value,
                        create: true,
                    }
                    | Change::Insert { value, .. },
                ) => {
                    if index < 0 {
                        items.insert(0, value.clone());
                    } else {
                        items.push(value.clone());
                    }
                }
                (Some(i), false, _) => {
                    if let Some(slot) = items.get_mut(i) {
                        *slot = change(slot.clone(), rest, depth + 1, what)?;
                    }
                }
                _ => {}
            }
            Ok(Json::Array(items))
        }
        scalar => Ok(scalar),
    }
}

fn change_at(a: &[Datum], verb: &str, what: &Change) -> Value {
    let array = a.array(1)?;
    if array.dims.len() > 1 {
        return Err(SqlError::new(
            SqlState::ARRAY_SUBSCRIPT_ERROR,
            "wrong number of array subscripts",
        ));
    }
    let path: Vec<Option<String>> = array
        .items
        .iter()
        .map(|i| i.as_str().map(str::to_owned))
        .collect();
    let value = parsed(a, 0)?;
    if value.is_scalar() {
        return Err(scalar_error(verb));
    }
    Ok(jsonb(change(value, &path, 1, what)?))
}
fn delete_path(_: &dyn EvalContext, a: &[Datum]) -> Value {
    change_at(a, "delete path in", &Change::Delete)
}
fn set(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let create = a.len() < 4 || a.bool(3)?;
    change_at(
        a,
        "set path in",
        &Change::Set {
            value: parsed(a, 2)?,
            create,
        },
    )
}
fn set_lax(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    if a.datum(0).is_null() || a.datum(1).is_null() || (a.len() > 3 && a.datum(3).is_null()) {
        return Ok(Datum::Null);
    }
    if !a.datum(2).is_null() {
        return set(cx, a.get(..4.min(a.len())).unwrap_or(a));
    }
    let mode = if a.len() > 4 {
        a.text(4)?
    } else {
        "use_json_null"
    };
    let create = a.len() < 4 || a.bool(3)?;
    match mode {
        "raise_exception" => Err(SqlError::new(
            SqlState::NULL_VALUE_NOT_ALLOWED,
            "JSON value must not be null",
        )),
        "use_json_null" => change_at(
            a,
            "set path in",
            &Change::Set {
                value: Json::Null,
                create,
            },
        ),
        "delete_key" => change_at(a, "delete path in", &Change::Delete),
        "return_target" => Ok(a.datum(0).clone()),
        _ => Err(invalid_parameter(
            "null_value_treatment must be \"delete_key\", \"return_target\", \"use_json_null\", \
             or \"raise_exception\"",
        )),
    }
}
fn insert(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let after = a.len() > 3 && a.bool(3)?;
    change_at(
        a,
        "set path in",
        &Change::Insert {
            value: parsed(a, 2)?,
            after,
        },
    )
}

fn json_typeof(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(parse_raw(a.text(0)?)?.type_name()))
}
fn array_length(_: &dyn EvalContext, a: &[Datum]) -> Value {
    match parse_raw(a.text(0)?)?.kind {
        RawKind::Array(items) => Ok(Datum::Int4(items.len() as i32)),
        RawKind::Object(_) => Err(invalid_parameter("cannot get array length of a non-array")),
        _ => Err(invalid_parameter("cannot get array length of a scalar")),
    }
}
fn pretty(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let mut out = String::new();
    parsed(a, 0)?.write_pretty(0, &mut out);
    Ok(Datum::text(out))
}
fn strip_nulls(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(jsonb(parsed(a, 0)?.strip_nulls()))
}
fn json_strip_nulls(_: &dyn EvalContext, a: &[Datum]) -> Value {
    fn write(value: &Raw<'_>, out: &mut String) {
        match &value.kind {
            RawKind::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write(item, out);
                }
                out.push(']');
            }
            RawKind::Object(pairs) => {
                out.push('{');
                let kept = pairs
                    .iter()
                    .filter(|(_, v)| !matches!(v.kind, RawKind::Null));
                for (i, (key, item)) in kept.enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    super::quote(key, out);
                    out.push(':');
                    write(item, out);
                }
                out.push('}');
            }
            _ => out.push_str(value.text),
        }
    }
    let mut out = String::new();
    write(&parse_raw(a.text(0)?)?, &mut out);
    Ok(Datum::Json(out.into()))
}

type Rows = Result<Vec<Vec<Datum>>, SqlError>;

fn raw_items<'a>(raw: &'a Raw<'a>, function: &str) -> Result<&'a [Raw<'a>], SqlError> {
    match &raw.kind {
        RawKind::Array(items) => Ok(items),
        RawKind::Object(_) => {
            let _ = function;
            Err(invalid_parameter("cannot extract elements from an object"))
        }
        _ => Err(invalid_parameter("cannot extract elements from a scalar")),
    }
}
fn raw_pairs<'a>(raw: &'a Raw<'a>, function: &str) -> Result<&'a [(String, Raw<'a>)], SqlError> {
    match &raw.kind {
        RawKind::Object(pairs) => Ok(pairs),
        RawKind::Array(_) => Err(invalid_parameter(format!(
            "cannot call {function} on an array"
        ))),
        _ => Err(invalid_parameter(format!(
            "cannot call {function} on a scalar"
        ))),
    }
}
fn elements(_: &dyn EvalContext, a: &[Datum]) -> Rows {
    if a.datum(0).is_null() {
        return Ok(Vec::new());
    }
    let raw = parse_raw(a.text(0)?)?;
    Ok(raw_items(&raw, "json_array_elements")?
        .iter()
        .map(|v| vec![raw_json(v)])
        .collect())
}
fn elements_text(_: &dyn EvalContext, a: &[Datum]) -> Rows {
    if a.datum(0).is_null() {
        return Ok(Vec::new());
    }
    let raw = parse_raw(a.text(0)?)?;
    Ok(raw_items(&raw, "json_array_elements_text")?
        .iter()
        .map(|v| vec![raw_text(v)])
        .collect())
}
fn each_of(a: &[Datum], function: &str, value: fn(&Raw<'_>) -> Datum) -> Rows {
    if a.datum(0).is_null() {
        return Ok(Vec::new());
    }
    let raw = parse_raw(a.text(0)?)?;
    Ok(raw_pairs(&raw, function)?
        .iter()
        .map(|(k, v)| vec![Datum::text(k.as_str()), value(v)])
        .collect())
}
fn each(_: &dyn EvalContext, a: &[Datum]) -> Rows {
    each_of(a, "json_each", raw_json)
}
fn each_text(_: &dyn EvalContext, a: &[Datum]) -> Rows {
    each_of(a, "json_each_text", raw_text)
}
fn each_b(_: &dyn EvalContext, a: &[Datum]) -> Rows {
    each_of(a, "jsonb_each", raw_json)
}
fn each_text_b(_: &dyn EvalContext, a: &[Datum]) -> Rows {
    each_of(a, "jsonb_each_text", raw_text)
}
fn keys_of(a: &[Datum], function: &str) -> Rows {
    if a.datum(0).is_null() {
        return Ok(Vec::new());
    }
    let raw = parse_raw(a.text(0)?)?;
    Ok(raw_pairs(&raw, function)?
        .iter()
        .map(|(k, _)| vec![Datum::text(k.as_str())])
        .collect())
}
fn keys(_: &dyn EvalContext, a: &[Datum]) -> Rows {
    keys_of(a, "json_object_keys")
}
fn keys_b(_: &dyn EvalContext, a: &[Datum]) -> Rows {
    keys_of(a, "jsonb_object_keys")
}

pub(in crate::types) const SCALARS: &[Scalar] = &[
    ("json_object_field", json_field),
    ("json_object_field_text", json_field_text),
    ("json_array_element", json_element),
    ("json_array_element_text", json_element_text),
    ("jsonb_object_field", jsonb_field),
    ("jsonb_object_field_text", jsonb_field_text),
    ("jsonb_array_element", jsonb_element),
    ("jsonb_array_element_text", jsonb_element_text),
    ("json_extract_path", json_path),
    ("json_extract_path_text", json_path_text),
    ("jsonb_extract_path", jsonb_path),
    ("jsonb_extract_path_text", jsonb_path_text),
    ("jsonb_contains", contains),
    ("jsonb_contained", contained),
    ("jsonb_exists", exists),
    ("jsonb_exists_any", exists_any),
    ("jsonb_exists_all", exists_all),
    ("jsonb_concat", concat),
    ("jsonb_delete", delete),
    ("jsonb_delete_array", delete_array),
    ("jsonb_delete_idx", delete_index),
    ("jsonb_delete_path", delete_path),
    ("jsonb_set", set),
    ("jsonb_set_lax", set_lax),
    ("jsonb_insert", insert),
    ("json_typeof", json_typeof),
    ("jsonb_typeof", json_typeof),
    ("json_array_length", array_length),
    ("jsonb_array_length", array_length),
    ("jsonb_pretty", pretty),
    ("jsonb_strip_nulls", strip_nulls),
    ("json_strip_nulls", json_strip_nulls),
];

pub(in crate::types) const SETS: &[Set] = &[
    ("json_array_elements", elements, &[("value", Oid::JSON)]),
    ("jsonb_array_elements", elements, &[("value", Oid::JSONB)]),
    (
        "json_array_elements_text",
        elements_text,
        &[("value", Oid::TEXT)],
    ),
    (
        "jsonb_array_elements_text",
        elements_text,
        &[("value", Oid::TEXT)],
    ),
    (
        "json_each",
        each,
        &[("key", Oid::TEXT), ("value", Oid::JSON)],
    ),
    (
        "jsonb_each",
        each_b,
        &[("key", Oid::TEXT), ("value", Oid::JSONB)],
    ),
    (
        "json_each_text",
        each_text,
        &[("key", Oid::TEXT), ("value", Oid::TEXT)],
    ),
    (
        "jsonb_each_text",
        each_text_b,
        &[("key", Oid::TEXT), ("value", Oid::TEXT)],
    ),
    ("json_object_keys", keys, &[]),
    ("jsonb_object_keys", keys_b, &[]),
];

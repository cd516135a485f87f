//! string_agg, array_agg, json(b)_agg, json(b)_object_agg.

use std::sync::Arc;

use super::State;
use crate::error::{SqlError, SqlState};
use crate::types::array::ArrayValue;
use crate::types::datum::Datum;
use crate::types::json::{Json, append_datum, datum_to_value, quote};
use crate::types::oid::{Oid, PgType};
use crate::types::registry::{AggregateImpl, AggregateState};

/// What becomes of the collected rows.
#[derive(Clone, Copy)]
enum Into {
    Text,
    Bytes,
    Array(Oid),
    Json,
    Jsonb,
    JsonObject,
    JsonbObject,
}

/// Keeps the rows; the partial state is the rows as an array of records.
struct Collect {
    rows: Vec<Vec<Datum>>,
    into: Into,
    bytes: usize,
}

fn size(value: &Datum) -> usize {
    size_of::<Datum>()
        + match value {
            Datum::Text(v) | Datum::Json(v) => v.len(),
            Datum::Bytea(v) => v.len(),
            Datum::Array(v) => v.items.len() * size_of::<Datum>(),
            _ => 0,
        }
}

impl AggregateState for Collect {
    fn update(&mut self, args: &[Datum]) -> Result<(), SqlError> {
        let skip = matches!(self.into, Into::Text | Into::Bytes)
            && args.first().is_none_or(Datum::is_null);
        if matches!(self.into, Into::JsonObject | Into::JsonbObject)
            && args.first().is_none_or(Datum::is_null)
        {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "field name must not be null",
            ));
        }
        if !skip {
            self.bytes += args.iter().map(size).sum::<usize>();
            self.rows.push(args.to_vec());
        }
        Ok(())
    }
    fn merge(&mut self, partial: &[Datum]) -> Result<(), SqlError> {
        if let [Datum::Array(rows)] = partial {
            for row in &rows.items {
                if let Datum::Record(fields) = row {
                    self.rows
                        .push(fields.iter().map(|(_, v)| v.clone()).collect());
                }
            }
        }
        Ok(())
    }
    fn partial(&self) -> Result<Vec<Datum>, SqlError> {
        let rows = self
            .rows
            .iter()
            .map(|row| Datum::Record(row.iter().map(|v| (Oid::INVALID, v.clone())).collect()))
            .collect();
        Ok(vec![Datum::Array(Arc::new(ArrayValue::vector(
            Oid::RECORD,
            rows,
        )))])
    }
    fn finish(&self) -> Result<Datum, SqlError> {
        if self.rows.is_empty() {
            return Ok(Datum::Null);
        }
        let value = |row: &Vec<Datum>, i: usize| row.get(i).cloned().unwrap_or_default();
        Ok(match self.into {
            Into::Text => {
                let mut out = String::new();
                for (i, row) in self.rows.iter().enumerate() {
                    if i > 0 {
                        out.push_str(value(row, 1).as_str().unwrap_or(""));
                    }
                    out.push_str(value(row, 0).as_str().unwrap_or(""));
                }
                Datum::text(out)
            }
            Into::Bytes => {
                let mut out = Vec::new();
                for (i, row) in self.rows.iter().enumerate() {
                    if let (true, Datum::Bytea(v)) = (i > 0, value(row, 1)) {
                        out.extend_from_slice(&v);
                    }
                    if let Datum::Bytea(v) = value(row, 0) {
                        out.extend_from_slice(&v);
                    }
                }
                Datum::Bytea(out.into())
            }
            Into::Array(element) => {
                let items: Vec<Datum> = self.rows.iter().map(|row| value(row, 0)).collect();
                array_of(element, items)?
            }
            Into::Json => {
                let mut out = String::from("[");
                for (i, row) in self.rows.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    append_datum(&value(row, 0), &mut out)?;
                }
                out.push(']');
                Datum::Json(out.into())
            }
            Into::Jsonb => {
                let items = self
                    .rows
                    .iter()
                    .map(|row| datum_to_value(&value(row, 0)))
                    .collect::<Result<_, _>>()?;
                Datum::Json(Json::Array(items).to_text().into())
            }
            Into::JsonObject => {
                let mut out = String::from("{ ");
                for (i, row) in self.rows.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    quote(&key(&value(row, 0))?, &mut out);
                    out.push_str(" : ");
                    append_datum(&value(row, 1), &mut out)?;
                }
                out.push_str(" }");
                Datum::Json(out.into())
            }
            Into::JsonbObject => {
                let pairs = self
                    .rows
                    .iter()
                    .map(|row| Ok((key(&value(row, 0))?, datum_to_value(&value(row, 1))?)))
                    .collect::<Result<_, SqlError>>()?;
                Datum::Json(Json::object(pairs).to_text().into())
            }
        })
    }
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.bytes
    }
}

/// The key of a JSON object.
fn key(value: &Datum) -> Result<String, SqlError> {
    let mut out = String::new();
    append_datum(value, &mut out)?;
    Ok(value
        .as_str()
        .map_or_else(|| out.trim_matches('"').to_owned(), str::to_owned))
}

/// An array of values, or an array of one more dimension of arrays.
fn array_of(element: Oid, items: Vec<Datum>) -> Result<Datum, SqlError> {
    let Some(Datum::Array(first)) = items.first() else {
        return Ok(Datum::Array(Arc::new(ArrayValue::vector(element, items))));
    };
    let mut dims = vec![(items.len() as i32, 1)];
    dims.extend(first.dims.iter().copied());
    let inner = first.element;
    let shape = first.dims.clone();
    let mut all = Vec::new();
    for item in &items {
        match item {
            Datum::Array(a) if a.dims == shape && !shape.is_empty() => {
                all.extend(a.items.iter().cloned());
            }
            Datum::Array(a) if a.dims.is_empty() => {
                return Err(SqlError::new(
                    SqlState::ARRAY_SUBSCRIPT_ERROR,
                    "cannot accumulate empty arrays",
                ));
            }
            Datum::Null => {
                return Err(SqlError::new(
                    SqlState::NULL_VALUE_NOT_ALLOWED,
                    "cannot accumulate null arrays",
                ));
            }
            _ => {
                return Err(SqlError::new(
                    SqlState::ARRAY_SUBSCRIPT_ERROR,
                    "cannot accumulate arrays of different dimensionality",
                ));
            }
        }
    }
    Ok(Datum::Array(Arc::new(ArrayValue {
        element: inner,
        dims,
        items: all,
    })))
}

fn collect(into: Into) -> State {
    Box::new(Collect {
        rows: Vec::new(),
        into,
        bytes: 0,
    })
}
fn string_agg(_: &[PgType]) -> State {
    collect(Into::Text)
}
fn bytes_agg(_: &[PgType]) -> State {
    collect(Into::Bytes)
}
fn array_agg(args: &[PgType]) -> State {
    collect(Into::Array(args.first().map_or(Oid::TEXT, |t| t.oid)))
}
fn json_agg(_: &[PgType]) -> State {
    collect(Into::Json)
}
fn jsonb_agg(_: &[PgType]) -> State {
    collect(Into::Jsonb)
}
fn json_object_agg(_: &[PgType]) -> State {
    collect(Into::JsonObject)
}
fn jsonb_object_agg(_: &[PgType]) -> State {
    collect(Into::JsonbObject)
}

/// The aggregates of this file.
pub(super) fn body(name: &str, args: &[Oid]) -> Option<AggregateImpl> {
    let start: fn(&[PgType]) -> State = match (name, args) {
        ("string_agg", [Oid::BYTEA, _]) => bytes_agg,
        ("string_agg", _) => string_agg,
        ("array_agg", _) => array_agg,
        ("json_agg", _) => json_agg,
        ("jsonb_agg", _) => jsonb_agg,
        ("json_object_agg", _) => json_object_agg,
        ("jsonb_object_agg", _) => jsonb_object_agg,
        _ => return None,
    };
    Some(AggregateImpl {
        start,
        partial: &[Oid::RECORD_ARRAY],
        strict: false,
        native: None,
    })
}

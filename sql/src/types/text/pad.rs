//! Trimming and padding.

use crate::error::{SqlError, SqlState};
use crate::types::body::{Args, Scalar, Value};
use crate::types::datum::Datum;
use crate::types::registry::EvalContext;

use super::basic::{char_count, slice};

fn set(a: &[Datum]) -> Result<Vec<char>, SqlError> {
    Ok(if a.len() > 1 {
        a.text(1)?.chars().collect()
    } else {
        vec![' ']
    })
}
fn btrim(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let set = set(a)?;
    Ok(Datum::text(a.text(0)?.trim_matches(|c| set.contains(&c))))
}
fn ltrim(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let set = set(a)?;
    Ok(Datum::text(
        a.text(0)?.trim_start_matches(|c| set.contains(&c)),
    ))
}
fn rtrim(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let set = set(a)?;
    Ok(Datum::text(
        a.text(0)?.trim_end_matches(|c| set.contains(&c)),
    ))
}

fn padded(a: &[Datum], left: bool) -> Value {
    let text = a.text(0)?;
    let width = a.int(1)?.max(0) as usize;
    let fill = if a.len() > 2 { a.text(2)? } else { " " };
    if width > 1 << 28 {
        return Err(SqlError::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            "requested length too large",
        ));
    }
    let have = char_count(text);
    if have >= width {
        return Ok(Datum::text(slice(text, 0, width)));
    }
    if fill.is_empty() {
        return Ok(Datum::text(text));
    }
    let padding: String = fill.chars().cycle().take(width - have).collect();
    Ok(Datum::text(if left {
        padding + text
    } else {
        text.to_owned() + &padding
    }))
}
fn lpad(_: &dyn EvalContext, a: &[Datum]) -> Value {
    padded(a, true)
}
fn rpad(_: &dyn EvalContext, a: &[Datum]) -> Value {
    padded(a, false)
}

pub(super) const SCALARS: &[Scalar] = &[
    ("btrim", btrim),
    ("btrim1", btrim),
    ("ltrim", ltrim),
    ("ltrim1", ltrim),
    ("rtrim", rtrim),
    ("rtrim1", rtrim),
    ("lpad", lpad),
    ("rpad", rpad),
    ("sql_879", lpad),
    ("sql_880", rpad),
];

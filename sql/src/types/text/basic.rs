//! Length, position, substring, case, concatenation.

use crate::error::{SqlError, SqlState};
use crate::types::body::{Args, Scalar, Value};
use crate::types::datum::Datum;
use crate::types::fault::invalid_parameter;
use crate::types::io;
use crate::types::oid::Oid;
use crate::types::registry::EvalContext;

/// Number of characters.
pub(super) fn char_count(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.chars().count()
    }
}

/// The characters from `from` up to `to`, counted from 0.
pub(super) fn slice(text: &str, from: usize, to: usize) -> &str {
    if text.is_ascii() {
        let end = to.min(text.len());
        return text.get(from.min(end)..end).unwrap_or("");
    }
    let offset = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(i, _)| i);
    let (start, end) = (offset(from), offset(to.max(from)));
    text.get(start..end).unwrap_or("")
}

fn length(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int4(char_count(a.text(0)?) as i32))
}
fn octet_length(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int4(a.text(0)?.len() as i32))
}
fn bit_length(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int4(match a.datum(0) {
        Datum::Bytea(v) => v.len() as i32 * 8,
        _ => a.text(0)?.len() as i32 * 8,
    }))
}

fn lower(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(a.text(0)?.to_lowercase()))
}
fn upper(_: &dyn EvalContext, a: &[Datum]) -> Value {
    // one character for one, as PostgreSQL's towupper does
    let text = a.text(0)?;
    let one = |c: char| {
        let mut up = c.to_uppercase();
        match (up.next(), up.next()) {
            (Some(u), None) => u,
            _ => c,
        }
    };
    Ok(Datum::text(if text.is_ascii() {
        text.to_ascii_uppercase()
    } else {
        text.chars().map(one).collect()
    }))
}
fn initcap(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let mut out = String::new();
    let mut inside = false;
    for c in a.text(0)?.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric();
    }
    Ok(Datum::text(out))
}

fn concat2(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (x, y) = (a.text(0)?, a.text(1)?);
    let mut out = String::with_capacity(x.len() + y.len());
    out.push_str(x);
    out.push_str(y);
    Ok(Datum::text(out))
}

/// A value as concat and `||` show it.
fn shown(value: &Datum, cx: &dyn EvalContext) -> String {
    match value {
        Datum::Text(v) | Datum::Json(v) => v.to_string(),
        other => io::to_text(other, Oid::INVALID, cx),
    }
}
fn any_concat(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(shown(a.datum(0), cx) + &shown(a.datum(1), cx)))
}
fn concat(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(
        a.iter().map(|v| shown(v, cx)).collect::<String>(),
    ))
}
fn concat_ws(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    if a.datum(0).is_null() {
        return Ok(Datum::Null);
    }
    let parts: Vec<String> = a
        .iter()
        .skip(1)
        .filter(|v| !v.is_null())
        .map(|v| shown(v, cx))
        .collect();
    Ok(Datum::text(parts.join(a.text(0)?)))
}

fn negative_length() -> SqlError {
    SqlError::new(
        SqlState::SUBSTRING_ERROR,
        "negative substring length not allowed",
    )
}

/// From where to where `substr(x, from, for)` takes, counted from 0; positions before the start
/// count too, as in PostgreSQL.
pub(super) fn substr_bounds(a: &[Datum]) -> Result<(usize, usize), SqlError> {
    let start = a.int(1)?;
    let end = if a.len() > 2 {
        let count = a.int(2)?;
        if count < 0 {
            return Err(negative_length());
        }
        start + count
    } else {
        i64::MAX
    };
    Ok(((start.max(1) - 1) as usize, (end.max(1) - 1) as usize))
}

/// Where the head ends and the tail begins that `overlay(x, new, from, for)` keeps, counted from
/// 0; `length` is that of what is new.
pub(super) fn overlay_bounds(a: &[Datum], length: usize) -> Result<(usize, usize), SqlError> {
    let start = a.int(2)?;
    let count = if a.len() > 3 {
        a.int(3)?
    } else {
        length as i64
    };
    if start + count > i64::from(i32::MAX) {
        return Err(crate::types::fault::out_of_range("integer"));
    }
    if start <= 0 {
        return Err(negative_length());
    }
    Ok(((start - 1) as usize, (start - 1 + count).max(0) as usize))
}

fn substr(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (from, to) = substr_bounds(a)?;
    Ok(Datum::text(slice(a.text(0)?, from, to)))
}

fn position(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let text = a.text(0)?;
    Ok(Datum::Int4(match text.find(a.text(1)?) {
        Some(at) => char_count(text.get(..at).unwrap_or("")) as i32 + 1,
        None => 0,
    }))
}

fn overlay(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (text, new) = (a.text(0)?, a.text(1)?);
    let (head, tail) = overlay_bounds(a, char_count(new))?;
    Ok(Datum::text(format!(
        "{}{new}{}",
        slice(text, 0, head),
        slice(text, tail, usize::MAX)
    )))
}

fn left(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (text, n) = (a.text(0)?, a.int(1)?);
    let count = if n < 0 {
        (char_count(text) as i64 + n).max(0)
    } else {
        n
    } as usize;
    Ok(Datum::text(slice(text, 0, count)))
}
fn right(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (text, n) = (a.text(0)?, a.int(1)?);
    let from = if n < 0 {
        -n
    } else {
        (char_count(text) as i64 - n).max(0)
    };
    Ok(Datum::text(slice(text, from as usize, usize::MAX)))
}

fn reverse(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(a.text(0)?.chars().rev().collect::<String>()))
}
fn repeat(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (text, n) = (a.text(0)?, a.int(1)?.max(0) as usize);
    if text.len().saturating_mul(n) > 1 << 30 {
        return Err(SqlError::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            "requested length too large",
        ));
    }
    Ok(Datum::text(text.repeat(n)))
}
fn replace(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (text, from, to) = (a.text(0)?, a.text(1)?, a.text(2)?);
    Ok(Datum::text(if from.is_empty() {
        text.to_owned()
    } else {
        text.replace(from, to)
    }))
}
fn translate(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let from: Vec<char> = a.text(1)?.chars().collect();
    let to: Vec<char> = a.text(2)?.chars().collect();
    let out: String = a
        .text(0)?
        .chars()
        .filter_map(|c| match from.iter().position(|f| *f == c) {
            Some(i) => to.get(i).copied(),
            None => Some(c),
        })
        .collect();
    Ok(Datum::text(out))
}
fn starts_with(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(a.text(0)?.starts_with(a.text(1)?)))
}
fn ascii(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int4(
        a.text(0)?.chars().next().map_or(0, |c| c as i32),
    ))
}
fn chr(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let error = |message: String| Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
    match a.int(0)? {
        0 => error("null character not permitted".to_owned()),
        n if n < 0 => Err(invalid_parameter("character number must be positive")),
        n => match u32::try_from(n).ok().and_then(char::from_u32) {
            Some(c) => Ok(Datum::text(c.to_string())),
            None => error(format!("requested character too large for encoding: {n}")),
        },
    }
}
fn name_concat_oid(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(format!("{}_{}", a.text(0)?, a.oid(1)?.0)))
}
fn normalize(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let form = a.text(1)?;
    if a.text(0)?.is_ascii()
        && matches!(
            form.to_ascii_uppercase().as_str(),
            "NFC" | "NFD" | "NFKC" | "NFKD"
        )
    {
        return Ok(a.datum(0).clone());
    }
    if !matches!(
        form.to_ascii_uppercase().as_str(),
        "NFC" | "NFD" | "NFKC" | "NFKD"
    ) {
        return Err(invalid_parameter(format!(
            "invalid normalization form: {form}"
        )));
    }
    Err(SqlError::unsupported("normalize of text beyond ASCII"))
}

pub(super) const SCALARS: &[Scalar] = &[
    ("textlen", length),
    ("bpcharlen", length),
    ("textoctetlen", octet_length),
    ("bpcharoctetlen", octet_length),
    ("sql_1811", bit_length),
    ("sql_1810", bit_length),
    ("lower", lower),
    ("upper", upper),
    ("initcap", initcap),
    ("textcat", concat2),
    ("sql_2003", any_concat),
    ("sql_2004", any_concat),
    ("text_concat", concat),
    ("text_concat_ws", concat_ws),
    ("text_substr", substr),
    ("text_substr_no_len", substr),
    ("textpos", position),
    ("textoverlay", overlay),
    ("textoverlay_no_len", overlay),
    ("text_left", left),
    ("text_right", right),
    ("text_reverse", reverse),
    ("repeat", repeat),
    ("replace_text", replace),
    ("translate", translate),
    ("text_starts_with", starts_with),
    ("ascii", ascii),
    ("chr", chr),
    ("nameconcatoid", name_concat_oid),
    ("unicode_normalize_func", normalize),
];

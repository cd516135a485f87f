//! LIKE, ILIKE, SIMILAR TO and the regular expression operators.

use crate::error::{SqlError, SqlState};
use crate::types::body::{Args, Scalar, Value};
use crate::types::datum::Datum;
use crate::types::registry::EvalContext;

use super::regexp::{compile, is_match};

fn dangling() -> SqlError {
    SqlError::new(
        SqlState::INVALID_ESCAPE_SEQUENCE,
        "LIKE pattern must not end with escape character",
    )
}

/// Whether text matches a LIKE pattern with backslash escapes.
pub(crate) fn like(text: &[u8], pattern: &[u8]) -> Result<bool, SqlError> {
    let (mut t, mut p) = (0, 0);
    // where to go on after the last %: pattern position, text position
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let matched = match pattern.get(p) {
            Some(b'%') => {
                while pattern.get(p) == Some(&b'%') {
                    p += 1;
                }
                if p == pattern.len() {
                    return Ok(true);
                }
                retry = Some((p, t));
                continue;
            }
            Some(b'_') if t < text.len() => {
                t += 1;
                while text.get(t).is_some_and(|b| b & 0xC0 == 0x80) {
                    t += 1;
                }
                p += 1;
                true
            }
            Some(b'\\') => {
                let Some(literal) = pattern.get(p + 1) else {
                    return Err(dangling());
                };
                let same = text.get(t) == Some(literal);
                if same {
                    t += 1;
                    p += 2;
                }
                same
            }
            Some(literal) if *literal != b'_' => {
                let same = text.get(t) == Some(literal);
                if same {
                    t += 1;
                    p += 1;
                }
                same
            }
            Some(_) => false,
            None if t == text.len() => return Ok(true),
            None => false,
        };
        if !matched {
            let Some((after, start)) = retry else {
                return Ok(false);
            };
            if start >= text.len() {
                return Ok(false);
            }
            let mut next = start + 1;
            while text.get(next).is_some_and(|b| b & 0xC0 == 0x80) {
                next += 1;
            }
            retry = Some((after, next));
            p = after;
            t = next;
        }
    }
}

fn text_like(a: &[Datum]) -> Result<bool, SqlError> {
    match (a.datum(0), a.datum(1)) {
        (Datum::Bytea(t), Datum::Bytea(p)) => like(t, p),
        _ => like(a.text(0)?.as_bytes(), a.text(1)?.as_bytes()),
    }
}
fn yes_like(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(text_like(a)?))
}
fn no_like(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(!text_like(a)?))
}
fn folded(a: &[Datum]) -> Result<bool, SqlError> {
    like(
        a.text(0)?.to_lowercase().as_bytes(),
        a.text(1)?.to_lowercase().as_bytes(),
    )
}
fn yes_ilike(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(folded(a)?))
}
fn no_ilike(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(!folded(a)?))
}

/// `like_escape(pattern, escape)`: the pattern with backslash as its escape.
fn like_escape(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (pattern, escape) = (a.text(0)?, a.text(1)?);
    let mut escapes = escape.chars();
    let escape = escapes.next();
    if escapes.next().is_some() {
        return Err(escape_error());
    }
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            out.push('\\');
            out.extend(chars.next());
        } else {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
        }
    }
    Ok(Datum::text(out))
}

fn escape_error() -> SqlError {
    SqlError::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
        .with_hint("Escape string must be empty or one character.")
}

/// The regular expression of a SIMILAR TO pattern.
fn similar(pattern: &str, escape: Option<char>) -> String {
    let mut out = String::from("^(?:");
    let mut class = false;
    let mut escaped = false;
    let mut quotes = 0;
    for c in pattern.chars() {
        if escaped {
            // the parts of substring(... similar ...) between escape-double-quotes
            if c == '"' && !class {
                out.push_str(match quotes {
                    0 => "){1,1}?(",
                    _ => "){1,1}(?:",
                });
                quotes += 1;
            } else {
                out.push('\\');
                out.push(c);
            }
            escaped = false;
        } else if Some(c) == escape {
            escaped = true;
        } else if class {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
            class = c != ']';
        } else {
            match c {
                '[' => {
                    class = true;
                    out.push('[');
                }
                '%' => out.push_str(".*"),
                '_' => out.push('.'),
                '(' => out.push_str("(?:"),
                '\\' | '.' | '^' | '$' => {
                    out.push('\\');
                    out.push(c);
                }
                _ => out.push(c),
            }
        }
    }
    out.push_str(")$");
    out
}

pub(super) fn similar_to_escape(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let escape = if a.len() > 1 {
        if a.datum(1).is_null() {
            return Ok(Datum::Null);
        }
        let mut chars = a.text(1)?.chars();
        let first = chars.next();
        if chars.next().is_some() {
            return Err(escape_error());
        }
        first
    } else {
        Some('\\')
    };
    if a.datum(0).is_null() {
        return Ok(Datum::Null);
    }
    Ok(Datum::text(similar(a.text(0)?, escape)))
}
/// The old form: a NULL escape means the default.
fn similar_escape(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    if a.datum(1).is_null() {
        similar_to_escape(cx, a.get(..1).unwrap_or(a))
    } else {
        similar_to_escape(cx, a)
    }
}

fn regex(a: &[Datum], flags: &str) -> Result<bool, SqlError> {
    let expression = compile(a.text(1)?, flags)?;
    is_match(&expression, a.text(0)?)
}
fn regex_eq(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(regex(a, "")?))
}
fn regex_ne(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(!regex(a, "")?))
}
fn iregex_eq(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(regex(a, "i")?))
}
fn iregex_ne(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(!regex(a, "i")?))
}

pub(super) const SCALARS: &[Scalar] = &[
    ("textlike", yes_like),
    ("textnlike", no_like),
    ("namelike", yes_like),
    ("namenlike", no_like),
    ("bytealike", yes_like),
    ("byteanlike", no_like),
    ("texticlike", yes_ilike),
    ("texticnlike", no_ilike),
    ("nameiclike", yes_ilike),
    ("nameicnlike", no_ilike),
    ("like_escape", like_escape),
    ("similar_to_escape_1", similar_to_escape),
    ("similar_to_escape_2", similar_to_escape),
    ("similar_escape", similar_escape),
    ("textregexeq", regex_eq),
    ("textregexne", regex_ne),
    ("nameregexeq", regex_eq),
    ("nameregexne", regex_ne),
    ("texticregexeq", iregex_eq),
    ("texticregexne", iregex_ne),
    ("nameicregexeq", iregex_eq),
    ("nameicregexne", iregex_ne),
];

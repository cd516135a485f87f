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

/// Where the character behind the one at `at` begins.
fn next_char(text: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    while text.get(next).is_some_and(|b| b & 0xC0 == 0x80) {
        next += 1;
    }
    next
}

/// Whether text matches a LIKE pattern with backslash escapes. A backslash at the end of the
/// pattern is an error only where text is left for it, and behind `%`, as in PostgreSQL's
/// like_match.c.
pub(crate) fn like(text: &[u8], pattern: &[u8]) -> Result<bool, SqlError> {
    let (mut t, mut p) = (0, 0);
    // where to go on after the last %: pattern position, text position
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if t >= text.len() {
            // No later start helps: it would leave less text for the same pattern.
            let rest = pattern.get(p..).unwrap_or_default();
            return Ok(rest.iter().all(|b| *b == b'%'));
        }
        let matched = match pattern.get(p) {
            Some(b'%') => {
                loop {
                    match pattern.get(p) {
                        Some(b'%') => {}
                        Some(b'_') if t >= text.len() => return Ok(false),
                        Some(b'_') => t = next_char(text, t),
                        Some(_) => break,
                        None => return Ok(true),
                    }
                    p += 1;
                }
                if pattern.get(p..) == Some(b"\\") {
                    return Err(dangling());
                }
                retry = Some((p, t));
                continue;
            }
            Some(b'_') => {
                t = next_char(text, t);
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
            Some(literal) => {
                let same = text.get(t) == Some(literal);
                if same {
                    t += 1;
                    p += 1;
                }
                same
            }
            None => false,
        };
        if !matched {
            let Some((after, start)) = retry else {
                return Ok(false);
            };
            t = next_char(text, start);
            p = after;
            retry = Some((p, t));
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

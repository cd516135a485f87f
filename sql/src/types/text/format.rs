//! `format`, `parse_ident`, `unistr`.

use std::sync::Arc;

use crate::error::{SqlError, SqlState};
use crate::types::array::ArrayValue;
use crate::types::body::{Args, Scalar, Value};
use crate::types::datum::Datum;
use crate::types::fault::invalid_parameter;
use crate::types::io;
use crate::types::oid::Oid;
use crate::types::registry::EvalContext;

use super::basic::char_count;
use super::bytes::literal;

fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<i64>, SqlError> {
    let mut out: Option<i64> = None;
    while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        out = Some(
            out.unwrap_or(0)
                .checked_mul(10)
                .and_then(|v| v.checked_add(i64::from(d)))
                .filter(|v| *v <= i64::from(i32::MAX))
                .ok_or_else(|| {
                    SqlError::new(
                        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                        "number is out of range",
                    )
                })?,
        );
    }
    Ok(out)
}

/// `format(text, ...)`: %s, %I, %L with positions, widths and the minus flag.
fn format(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    if a.datum(0).is_null() {
        return Ok(Datum::Null);
    }
    let few = || invalid_parameter("too few arguments for format()");
    let mut out = String::new();
    let mut next = 1;
    let mut chars = a.text(0)?.chars().peekable();
    let unterminated = || {
        invalid_parameter("unterminated format() type specifier")
            .with_hint("For a single \"%\" use \"%%\".")
    };
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut position = None;
        let mut left = false;
        let mut width = 0i64;
        let lead = number(&mut chars)?;
        let mut need_width = true;
        if let Some(n) = lead {
            if chars.peek() == Some(&'$') {
                chars.next();
                if n == 0 {
                    return Err(invalid_parameter(
                        "format specifies argument 0, but arguments are numbered from 1",
                    ));
                }
                position = Some(n as usize);
            } else {
                width = n;
                need_width = false;
            }
        }
        if need_width {
            while chars.peek() == Some(&'-') {
                chars.next();
                left = true;
            }
            if chars.peek() == Some(&'*') {
                chars.next();
                let at = match number(&mut chars)? {
                    Some(n) => {
                        if chars.next() != Some('$') {
                            return Err(invalid_parameter(
                                "width argument position must be ended by \"$\"",
                            ));
                        }
                        n as usize
                    }
                    None => {
                        next += 1;
                        next - 1
                    }
                };
                if at >= a.len() {
                    return Err(few());
                }
                width = a.datum(at).as_i64().unwrap_or(0);
                if width < 0 {
                    left = true;
                    width = -width;
                }
            } else {
                width = number(&mut chars)?.unwrap_or(0);
            }
        }
        let kind = chars.next().ok_or_else(unterminated)?;
        if !matches!(kind, 's' | 'I' | 'L') {
            return Err(invalid_parameter(format!(
                "unrecognized format() type specifier \"{kind}\""
            ))
            .with_hint("For a single \"%\" use \"%%\"."));
        }
        let at = position.unwrap_or(next);
        next = at + 1;
        if at >= a.len() {
            return Err(few());
        }
        let value = a.datum(at);
        let text = io::to_text(value, Oid::INVALID, cx);
        let shown = match (kind, value.is_null()) {
            ('s', true) => String::new(),
            ('s', false) => text,
            ('L', true) => "NULL".to_owned(),
            ('L', false) => literal(&text),
            (_, true) => {
                return Err(SqlError::new(
                    SqlState::NULL_VALUE_NOT_ALLOWED,
                    "null values cannot be formatted as an SQL identifier",
                ));
            }
            (_, false) => {
                let mut quoted = String::new();
                io::quote_identifier(&text, &mut quoted);
                quoted
            }
        };
        let fill = (width as usize).saturating_sub(char_count(&shown));
        if !left {
            out.extend(std::iter::repeat_n(' ', fill));
        }
        out.push_str(&shown);
        if left {
            out.extend(std::iter::repeat_n(' ', fill));
        }
    }
    Ok(Datum::text(out))
}

fn parse_ident(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let text = a.text(0)?;
    let parts = crate::types::regclass::split_name(text)
        .map_err(|_| invalid_parameter(format!("string is not a valid identifier: \"{text}\"")))?;
    let items = parts.into_iter().map(Datum::text).collect();
    Ok(Datum::Array(Arc::new(ArrayValue::vector(Oid::TEXT, items))))
}

/// `unistr`: \XXXX, \+XXXXXX, \uXXXX, \UXXXXXXXX.
fn unistr(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let bad = || {
        SqlError::new(SqlState::SYNTAX_ERROR, "invalid Unicode escape")
            .with_hint("Unicode escapes must be \\XXXX, \\+XXXXXX, \\uXXXX, or \\UXXXXXXXX.")
    };
    let mut out = String::new();
    let mut rest = a.text(0)?;
    while let Some(at) = rest.find('\\') {
        out.push_str(rest.get(..at).unwrap_or(""));
        rest = rest.get(at + 1..).unwrap_or("");
        if let Some(tail) = rest.strip_prefix('\\') {
            out.push('\\');
            rest = tail;
            continue;
        }
        let (skip, digits) = match rest.as_bytes().first() {
            Some(b'+') => (1, 6),
            Some(b'u') => (1, 4),
            Some(b'U') => (1, 8),
            _ => (0, 4),
        };
        let hex = rest.get(skip..skip + digits).ok_or_else(bad)?;
        let code = u32::from_str_radix(hex, 16).map_err(|_| bad())?;
        out.push(char::from_u32(code).ok_or_else(bad)?);
        rest = rest.get(skip + digits..).unwrap_or("");
    }
    out.push_str(rest);
    Ok(Datum::text(out))
}

pub(super) const SCALARS: &[Scalar] = &[
    ("text_format", format),
    ("text_format_nv", format),
    ("parse_ident", parse_ident),
    ("unistr", unistr),
];

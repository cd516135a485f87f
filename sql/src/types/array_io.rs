//! Text forms of arrays, vectors and records.

use std::sync::Arc;

use super::array::ArrayValue;
use super::datum::Datum;
use super::io;
use super::oid::{Oid, PgType};
use super::registry::{EvalContext, TypeInfo};
use crate::error::{SqlError, SqlState};

const DIMS_MAX: usize = 6;

fn malformed(text: &str, detail: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("malformed array literal: \"{text}\""),
    )
    .with_detail(detail.to_owned())
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    element: PgType,
    cx: &'a dyn EvalContext,
    items: Vec<Datum>,
    lengths: Vec<Option<i32>>,
    /// Depth at which elements lie.
    leaf: Option<usize>,
}

/// Input of an array type.
pub(super) fn parse(
    text: &str,
    ty: &TypeInfo,
    typmod: i32,
    cx: &dyn EvalContext,
) -> Result<Datum, SqlError> {
    let element = PgType::with_typmod(ty.element, typmod);
    let mut parser = Parser {
        text,
        at: 0,
        element,
        cx,
        items: Vec::new(),
        lengths: Vec::new(),
        leaf: None,
    };
    let lower = parser.bounds()?;
    parser.space();
    if parser.peek() != Some(b'{') {
        let detail = if lower.is_empty() {
            "Array value must start with \"{\" or dimension information."
        } else {
            "Array contents must start with \"{\"."
        };
        return Err(malformed(text, detail));
    }
    parser.level(0)?;
    parser.space();
    if parser.at < text.len() {
        return Err(malformed(text, "Junk after closing right brace."));
    }
    let Parser { items, lengths, .. } = parser;
    let mut dims: Vec<(i32, i32)> = if items.is_empty() {
        Vec::new()
    } else {
        lengths.into_iter().map(|l| (l.unwrap_or(0), 1)).collect()
    };
    if !lower.is_empty() {
        if lower.len() != dims.len()
            || lower
                .iter()
                .zip(&dims)
                .any(|((l, u), (n, _))| u - l + 1 != *n)
        {
            return Err(malformed(
                text,
                "Specified array dimensions do not match array contents.",
            ));
        }
        for (dim, (l, _)) in dims.iter_mut().zip(&lower) {
            dim.1 = *l;
        }
    }
    Ok(Datum::Array(Arc::new(ArrayValue {
        element: ty.element,
        dims,
        items,
    })))
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// "[1:2][0:3]=" before the braces.
    fn bounds(&mut self) -> Result<Vec<(i32, i32)>, SqlError> {
        let mut out = Vec::new();
        loop {
            self.space();
            if self.peek() != Some(b'[') {
                break;
            }
            let rest = self.text.get(self.at + 1..).unwrap_or("");
            let end = rest
                .find(']')
                .ok_or_else(|| malformed(self.text, "Missing \"]\" after array dimensions."))?;
            let body = rest.get(..end).unwrap_or("");
            let number = |t: &str| {
                t.trim().parse::<i32>().map_err(|_| {
                    malformed(
                        self.text,
                        "\"[\" must introduce explicitly-specified array dimensions.",
                    )
                })
            };
            let (lower, upper) = match body.split_once(':') {
                Some((l, u)) => (number(l)?, number(u)?),
                None => (1, number(body)?),
            };
            if upper < lower {
                return Err(SqlError::new(
                    SqlState::ARRAY_SUBSCRIPT_ERROR,
                    "upper bound cannot be less than lower bound",
                ));
            }
            out.push((lower, upper));
            self.at += end + 2;
        }
        if !out.is_empty() {
            if self.peek() != Some(b'=') {
                return Err(malformed(
                    self.text,
                    "Missing \"=\" after array dimensions.",
                ));
            }
            self.at += 1;
        }
        Ok(out)
    }

    /// One pair of braces at a depth.
    fn level(&mut self, depth: usize) -> Result<(), SqlError> {
        if depth >= DIMS_MAX {
            return Err(SqlError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!(
                    "number of array dimensions ({}) exceeds the maximum allowed ({DIMS_MAX})",
                    depth + 1
                ),
            ));
        }
        if self.lengths.len() <= depth {
            self.lengths.push(None);
        }
        self.at += 1;
        let mut count = 0;
        self.space();
        if self.peek() == Some(b'}') {
            if depth > 0 {
                return Err(malformed(self.text, "Unexpected \"}\" character."));
            }
            self.at += 1;
            return self.close(depth, 0);
        }
        loop {
            self.space();
            if self.peek() == Some(b'{') {
                if self.leaf.is_some_and(|leaf| leaf <= depth) {
                    return Err(self.ragged());
                }
                self.level(depth + 1)?;
            } else {
                if self.lengths.len() > depth + 1 {
                    return Err(self.ragged());
                }
                self.leaf = Some(depth);
                self.item()?;
            }
            count += 1;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return self.close(depth, count);
                }
                Some(_) => return Err(malformed(self.text, "Unexpected array element.")),
                None => return Err(malformed(self.text, "Unexpected end of input.")),
            }
        }
    }

    fn ragged(&self) -> SqlError {
        malformed(
            self.text,
            "Multidimensional arrays must have sub-arrays with matching dimensions.",
        )
    }

    fn close(&mut self, depth: usize, count: i32) -> Result<(), SqlError> {
        match self.lengths.get_mut(depth) {
            Some(known @ None) => *known = Some(count),
            Some(Some(known)) if *known != count => return Err(self.ragged()),
            _ => {}
        }
        Ok(())
    }

    fn item(&mut self) -> Result<(), SqlError> {
        let mut value = String::new();
        let mut quoted = false;
        if self.peek() == Some(b'"') {
            quoted = true;
            self.at += 1;
            let mut chars = self.text.get(self.at..).unwrap_or("").char_indices();
            let end = loop {
                match chars.next() {
                    Some((i, '"')) => break i + 1,
                    Some((_, '\\')) => value.extend(chars.next().map(|(_, c)| c)),
                    Some((_, c)) => value.push(c),
                    None => return Err(malformed(self.text, "Unexpected end of input.")),
                }
            };
            self.at += end;
        } else {
            let mut keep = 0;
            let mut chars = self.text.get(self.at..).unwrap_or("").char_indices();
            let end = loop {
                match chars.next() {
                    Some((i, ',' | '}')) => break i,
                    Some((_, '{')) => {
                        return Err(malformed(self.text, "Unexpected \"{\" character."));
                    }
                    Some((_, '"')) => {
                        return Err(malformed(self.text, "Unexpected array element."));
                    }
                    Some((_, '\\')) => {
                        quoted = true;
                        value.extend(chars.next().map(|(_, c)| c));
                        keep = value.len();
                    }
                    Some((_, c)) => {
                        value.push(c);
                        if !c.is_ascii_whitespace() {
                            keep = value.len();
                        }
                    }
                    None => return Err(malformed(self.text, "Unexpected end of input.")),
                }
            };
            self.at += end;
            value.truncate(keep);
            if value.is_empty() && !quoted {
                return Err(malformed(self.text, "Unexpected \"}\" character."));
            }
        }
        let datum = if !quoted && value.eq_ignore_ascii_case("null") {
            Datum::Null
        } else {
            let datum = io::input(&value, self.element, self.cx)?;
            super::typmod::apply(datum, self.element, false)?
        };
        self.items.push(datum);
        Ok(())
    }
}

/// Output of an array.
pub(super) fn write(array: &ArrayValue, typmod: i32, cx: &dyn EvalContext, out: &mut String) {
    if array.dims.is_empty() {
        out.push_str("{}");
        return;
    }
    if array.dims.iter().any(|(_, lower)| *lower != 1) {
        for (length, lower) in &array.dims {
            let upper = i64::from(*lower) + i64::from(*length) - 1;
            out.push_str(&format!("[{lower}:{upper}]"));
        }
        out.push('=');
    }
    let mut items = array.items.iter();
    write_level(
        &array.dims,
        &mut items,
        PgType::with_typmod(array.element, typmod),
        cx,
        out,
    );
}

fn write_level(
    dims: &[(i32, i32)],
    items: &mut std::slice::Iter<'_, Datum>,
    element: PgType,
    cx: &dyn EvalContext,
    out: &mut String,
) {
    let Some(((length, _), rest)) = dims.split_first() else {
        return;
    };
    out.push('{');
    for i in 0..*length {
        if i > 0 {
            out.push(',');
        }
        if !rest.is_empty() {
            write_level(rest, items, element, cx, out);
            continue;
        }
        match items.next() {
            None | Some(Datum::Null) => out.push_str("NULL"),
            Some(item) => {
                let start = out.len();
                io::output(item, element, cx, out);
                quote_from(start, out);
            }
        }
    }
    out.push('}');
}

/// Puts what was written since `start` into quotes where the array syntax needs them.
fn quote_from(start: usize, out: &mut String) {
    let text = out.get(start..).unwrap_or("");
    let needs = text.is_empty()
        || text.eq_ignore_ascii_case("null")
        || text.bytes().any(|b| {
            matches!(b, b'{' | b'}' | b',' | b'"' | b'\\') || b.is_ascii_whitespace() || b == 0x0b
        });
    if needs {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        out.truncate(start);
        out.push('"');
        out.push_str(&escaped);
        out.push('"');
    }
}

/// Input of int2vector and oidvector: numbers between spaces.
pub(super) fn parse_vector(text: &str, ty: Oid, cx: &dyn EvalContext) -> Result<Datum, SqlError> {
    let element = if ty == Oid::INT2VECTOR {
        Oid::INT2
    } else {
        Oid::OID
    };
    let items = text
        .split_ascii_whitespace()
        .map(|t| io::input(t, PgType::new(element), cx))
        .collect::<Result<Vec<_>, _>>()?;
    let dims = if items.is_empty() {
        Vec::new()
    } else {
        vec![(items.len() as i32, 0)]
    };
    Ok(Datum::Array(Arc::new(ArrayValue {
        element,
        dims,
        items,
    })))
}

/// Output of int2vector and oidvector.
pub(super) fn write_vector(array: &ArrayValue, cx: &dyn EvalContext, out: &mut String) {
    for (i, item) in array.items.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        io::output(item, PgType::new(array.element), cx, out);
    }
}

/// Output of a record.
pub(super) fn write_record(fields: &[(Oid, Datum)], cx: &dyn EvalContext, out: &mut String) {
    out.push('(');
    for (i, (ty, value)) in fields.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        if value.is_null() {
            continue;
        }
        let start = out.len();
        io::output(value, PgType::new(*ty), cx, out);
        let text = out.get(start..).unwrap_or("");
        let needs = text.is_empty()
            || text
                .bytes()
                .any(|b| matches!(b, b'(' | b')' | b',' | b'"' | b'\\') || b.is_ascii_whitespace());
        if needs {
            let escaped = text.replace('\\', "\\\\").replace('"', "\"\"");
            out.truncate(start);
            out.push('"');
            out.push_str(&escaped);
            out.push('"');
        }
    }
    out.push(')');
}

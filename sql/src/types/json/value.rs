//! A parsed jsonb value: canonical text, order, containment.

use std::cmp::Ordering;

use crate::types::numeric::Numeric;
use crate::types::sort_key::append_bytes;

use super::build::quote;

/// A jsonb value. Objects are sorted by key length, then bytes, without duplicates.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// null
    Null,
    /// true, false
    Bool(bool),
    /// A number
    Number(Numeric),
    /// A string
    String(String),
    /// An array
    Array(Vec<Json>),
    /// An object
    Object(Vec<(String, Json)>),
}

/// The order in which jsonb keeps keys.
pub(super) fn key_order(a: &str, b: &str) -> Ordering {
    a.len()
        .cmp(&b.len())
        .then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

impl Json {
    /// An object of pairs in any order; of equal keys the last one stays.
    pub fn object(mut pairs: Vec<(String, Self)>) -> Self {
        pairs.reverse();
        pairs.sort_by(|(a, _), (b, _)| key_order(a, b));
        pairs.dedup_by(|(a, _), (b, _)| a == b);
        Self::Object(pairs)
    }

    /// The member of that name.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(pairs) => pairs
                .binary_search_by(|(k, _)| key_order(k, key))
                .ok()
                .and_then(|i| pairs.get(i))
                .map(|(_, v)| v),
            _ => None,
        }
    }

    /// The element at a position; negative counts from the end.
    pub fn at(&self, index: i64) -> Option<&Self> {
        match self {
            Self::Array(items) => position(index, items.len()).and_then(|i| items.get(i)),
            _ => None,
        }
    }

    /// What jsonb_typeof says.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// Whether it is neither array nor object.
    pub fn is_scalar(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// The canonical text.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
            Self::Number(v) => v.write(out),
            Self::String(v) => quote(v, out),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(pairs) => {
                out.push('{');
                for (i, (key, value)) in pairs.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    quote(key, out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// What jsonb_pretty prints.
    pub fn write_pretty(&self, indent: usize, out: &mut String) {
        let line = |depth: usize, out: &mut String| {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', depth * 4));
        };
        match self {
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    line(indent + 1, out);
                    item.write_pretty(indent + 1, out);
                }
                line(indent, out);
                out.push(']');
            }
            Self::Object(pairs) => {
                out.push('{');
                for (i, (key, value)) in pairs.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    line(indent + 1, out);
                    quote(key, out);
                    out.push_str(": ");
                    value.write_pretty(indent + 1, out);
                }
                line(indent, out);
                out.push('}');
            }
            scalar => scalar.write(out),
        }
    }

    /// The canonical text as a new string.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    /// Without object members that are null.
    pub fn strip_nulls(self) -> Self {
        match self {
            Self::Array(items) => Self::Array(items.into_iter().map(Self::strip_nulls).collect()),
            Self::Object(pairs) => Self::Object(
                pairs
                    .into_iter()
                    .filter(|(_, v)| *v != Self::Null)
                    .map(|(k, v)| (k, v.strip_nulls()))
                    .collect(),
            ),
            other => other,
        }
    }

    /// `self @> other`
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            // a top-level array contains a scalar that is one of its elements
            (Self::Array(items), other) if other.is_scalar() => items.contains(other),
            _ => self.contains_nested(other),
        }
    }

    fn contains_nested(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(_), Self::Object(pairs)) => pairs
                .iter()
                .all(|(k, v)| self.get(k).is_some_and(|own| own.contains_nested(v))),
            (Self::Array(items), Self::Array(wanted)) => wanted
                .iter()
                .all(|w| items.iter().any(|item| item.contains_nested(w))),
            (a, b) => a == b,
        }
    }

    /// `self || other`
    pub fn concat(self, other: Self) -> Self {
        match (self, other) {
            (Self::Object(mut a), Self::Object(b)) => {
                a.extend(b);
                Self::object(a)
            }
            (Self::Array(mut a), Self::Array(b)) => {
                a.extend(b);
                Self::Array(a)
            }
            (Self::Array(mut a), b) => {
                a.push(b);
                Self::Array(a)
            }
            (a, Self::Array(mut b)) => {
                b.insert(0, a);
                Self::Array(b)
            }
            (a, b) => Self::Array(vec![a, b]),
        }
    }

    /// Appends the sort key of the whole value.
    pub(super) fn append_key(&self, out: &mut Vec<u8>) {
        match self {
            Self::Array(items) if items.is_empty() => out.push(1),
            scalar if scalar.is_scalar() => {
                out.push(2);
                scalar.append_nested(out);
            }
            container => {
                out.push(3);
                container.append_nested(out);
            }
        }
    }

    fn append_nested(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(5),
            Self::String(s) => {
                out.push(6);
                append_bytes(s.as_bytes(), out);
            }
            Self::Number(v) => {
                out.push(7);
                v.append_key(out);
            }
            Self::Bool(v) => out.extend_from_slice(&[8, u8::from(*v)]),
            Self::Array(items) => {
                out.push(9);
                out.extend_from_slice(&(items.len() as u32).to_be_bytes());
                for item in items {
                    item.append_nested(out);
                }
            }
            Self::Object(pairs) => {
                out.push(10);
                out.extend_from_slice(&(pairs.len() as u32).to_be_bytes());
                for (key, value) in pairs {
                    append_bytes(key.as_bytes(), out);
                    value.append_nested(out);
                }
            }
        }
    }
}

/// A position from 0 for an index that may count from the end.
pub(super) fn position(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let at = if index < 0 {
        length.checked_add(index)?
    } else {
        index
    };
    usize::try_from(at).ok().filter(|_| at < length)
}

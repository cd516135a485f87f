//! json and jsonb: one parser, the canonical text of jsonb, and the operators on both.
//!
//! A json value keeps its text as written; a jsonb value is text too, in the canonical form that
//! PostgreSQL prints (keys sorted by length and bytes, last duplicate kept, numbers as numerics).

mod build;
mod ops;
mod parse;
mod value;

pub(super) use build::{SCALARS as BUILD_SCALARS, append_datum, datum_to_value, quote};
pub(super) use ops::{SCALARS as OP_SCALARS, SETS};
pub use parse::{Raw, parse_raw, parse_value};
pub use value::Json;

use std::cmp::Ordering;

/// Order of two jsonb texts.
pub(super) fn compare_text(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let key = |text: &str| {
        let mut out = Vec::new();
        append_key(text, &mut out);
        out
    };
    key(a).cmp(&key(b))
}

/// Appends the sort key of a jsonb text.
pub(super) fn append_key(text: &str, out: &mut Vec<u8>) {
    match parse_value(text) {
        Ok(value) => value.append_key(out),
        // not ours: any total order will do
        Err(_) => super::sort_key::append_bytes(text.as_bytes(), out),
    }
}

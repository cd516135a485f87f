//! Functions on bytea, encodings, digests, quoting.

use md5::{Digest, Md5};

use crate::error::{SqlError, SqlState};
use crate::types::binary::invalid_utf8;
use crate::types::body::{Args, Scalar, Value};
use crate::types::datum::Datum;
use crate::types::fault::invalid_parameter;
use crate::types::io;
use crate::types::oid::Oid;
use crate::types::registry::EvalContext;

use super::basic::{overlay_bounds, substr_bounds};

use super::sha::{sha224, sha256, sha384, sha512};

fn bytea(bytes: Vec<u8>) -> Datum {
    Datum::Bytea(bytes.into())
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        io::push_hex(*b, &mut out);
    }
    out
}

fn md5_text(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(hex(&Md5::digest(a.text(0)?.as_bytes()))))
}
fn md5_bytea(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(hex(&Md5::digest(a.bytes(0)?))))
}
fn digest224(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(bytea(sha224(a.bytes(0)?)))
}
fn digest256(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(bytea(sha256(a.bytes(0)?)))
}
fn digest384(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(bytea(sha384(a.bytes(0)?)))
}
fn digest512(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(bytea(sha512(a.bytes(0)?)))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut line = 0;
    for chunk in bytes.chunks(3) {
        if line >= 76 {
            out.push('\n');
            line = 0;
        }
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = (at(0) << 16) | (at(1) << 8) | at(2);
        for i in 0..4 {
            let six = (word >> (18 - 6 * i)) & 63;
            out.push(if i > chunk.len() {
                '='
            } else {
                BASE64.get(six as usize).map_or('=', |b| char::from(*b))
            });
        }
        line += 4;
    }
    out
}

fn base64_decode(text: &str) -> Result<Vec<u8>, SqlError> {
    let bad = |message: String| invalid_parameter(message);
    let mut out = Vec::new();
    let (mut word, mut count, mut padding) = (0u32, 0, 0);
    for c in text.chars().filter(|c| !c.is_ascii_whitespace()) {
        let six = if c == '=' {
            padding += 1;
            if count < 2 || padding > 2 {
                return Err(bad(
                    "unexpected \"=\" while decoding base64 sequence".to_owned()
                ));
            }
            0
        } else {
            BASE64
                .iter()
                .position(|b| char::from(*b) == c)
                .filter(|_| padding == 0)
                .ok_or_else(|| {
                    bad(format!(
                        "invalid symbol \"{c}\" found while decoding base64 sequence"
                    ))
                })? as u32
        };
        word = (word << 6) | six;
        count += 1;
        if count == 4 {
            out.extend(word.to_be_bytes().iter().skip(1).take(3 - padding));
            (word, count) = (0, 0);
        }
    }
    if count != 0 {
        return Err(bad("invalid base64 end sequence".to_owned())
            .with_hint("Input data is missing padding, is truncated, or is otherwise corrupted."));
    }
    Ok(out)
}

fn encode(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let bytes = a.bytes(0)?;
    Ok(Datum::text(
        match a.text(1)?.to_ascii_lowercase().as_str() {
            "hex" => hex(bytes),
            "base64" => base64_encode(bytes),
            "escape" => {
                let mut out = String::new();
                for b in bytes {
                    match b {
                        0 | 0x80.. => out.push_str(&format!("\\{b:03o}")),
                        b'\\' => out.push_str("\\\\"),
                        b => out.push(char::from(*b)),
                    }
                }
                out
            }
            _ => return Err(unknown_encoding(a.text(1)?)),
        },
    ))
}
fn unknown_encoding(name: &str) -> SqlError {
    invalid_parameter(format!("unrecognized encoding: \"{name}\""))
}
fn decode(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let text = a.text(0)?;
    Ok(bytea(match a.text(1)?.to_ascii_lowercase().as_str() {
        "hex" => io::parse_bytea(&format!("\\x{text}"))?,
        "base64" => base64_decode(text)?,
        "escape" => io::parse_bytea(text.strip_prefix("\\x").map_or(text, |_| text))?,
        _ => return Err(unknown_encoding(a.text(1)?)),
    }))
}

fn concat(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(bytea([a.bytes(0)?, a.bytes(1)?].concat()))
}
fn length(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int4(a.bytes(0)?.len() as i32))
}
fn substr(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let bytes = a.bytes(0)?;
    let (from, to) = substr_bounds(a)?;
    let from = from.min(bytes.len());
    let to = to.clamp(from, bytes.len());
    Ok(bytea(bytes.get(from..to).unwrap_or(&[]).to_vec()))
}
fn position(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (text, part) = (a.bytes(0)?, a.bytes(1)?);
    if part.is_empty() {
        return Ok(Datum::Int4(1));
    }
    let at = text.windows(part.len()).position(|w| w == part);
    Ok(Datum::Int4(at.map_or(0, |i| i as i32 + 1)))
}
fn overlay(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (bytes, new) = (a.bytes(0)?, a.bytes(1)?);
    let (head, tail) = overlay_bounds(a, new.len())?;
    let head = bytes.get(..head).unwrap_or(bytes);
    let tail = bytes.get(tail..).unwrap_or(&[]);
    Ok(bytea([head, new, tail].concat()))
}
fn trimmed(a: &[Datum], left: bool, right: bool) -> Value {
    let (mut text, set) = (a.bytes(0)?, a.bytes(1)?);
    while left
        && let [first, rest @ ..] = text
        && set.contains(first)
    {
        text = rest;
    }
    while right
        && let [rest @ .., last] = text
        && set.contains(last)
    {
        text = rest;
    }
    Ok(bytea(text.to_vec()))
}
fn btrim(_: &dyn EvalContext, a: &[Datum]) -> Value {
    trimmed(a, true, true)
}
fn ltrim(_: &dyn EvalContext, a: &[Datum]) -> Value {
    trimmed(a, true, false)
}
fn rtrim(_: &dyn EvalContext, a: &[Datum]) -> Value {
    trimmed(a, false, true)
}

fn index_error(index: i64, length: usize) -> SqlError {
    SqlError::new(
        SqlState::ARRAY_SUBSCRIPT_ERROR,
        format!("index {index} out of valid range, 0..{}", length as i64 - 1),
    )
}
fn get_byte(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (bytes, i) = (a.bytes(0)?, a.int(1)?);
    usize::try_from(i)
        .ok()
        .and_then(|i| bytes.get(i))
        .map(|b| Datum::Int4(i32::from(*b)))
        .ok_or_else(|| index_error(i, bytes.len()))
}
fn set_byte(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (mut bytes, i, new) = (a.bytes(0)?.to_vec(), a.int(1)?, a.int(2)?);
    let length = bytes.len();
    match usize::try_from(i).ok().and_then(|i| bytes.get_mut(i)) {
        Some(slot) => *slot = new as u8,
        None => return Err(index_error(i, length)),
    }
    Ok(bytea(bytes))
}
fn get_bit(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (bytes, i) = (a.bytes(0)?, a.int(1)?);
    usize::try_from(i)
        .ok()
        .and_then(|i| {
            bytes
                .get(i / 8)
                .map(|b| Datum::Int4(i32::from(b >> (i % 8) & 1)))
        })
        .ok_or_else(|| index_error(i, bytes.len() * 8))
}
fn set_bit(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let (mut bytes, i, new) = (a.bytes(0)?.to_vec(), a.int(1)?, a.int(2)?);
    let length = bytes.len();
    let at = usize::try_from(i).ok();
    let Some((slot, bit)) = at.and_then(|i| bytes.get_mut(i / 8).map(|b| (b, i % 8))) else {
        return Err(index_error(i, length * 8));
    };
    match new {
        0 => *slot &= !(1 << bit),
        1 => *slot |= 1 << bit,
        _ => return Err(invalid_parameter("new bit must be 0 or 1")),
    }
    Ok(bytea(bytes))
}
fn bit_count(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int8(
        a.bytes(0)?.iter().map(|b| i64::from(b.count_ones())).sum(),
    ))
}

fn utf8(name: &str) -> Result<(), SqlError> {
    match name.to_ascii_uppercase().replace(['-', '_'], "").as_str() {
        "UTF8" | "UNICODE" | "SQLASCII" => Ok(()),
        _ => Err(SqlError::unsupported(format!("encoding \"{name}\""))),
    }
}
fn convert_from(_: &dyn EvalContext, a: &[Datum]) -> Value {
    utf8(a.text(1)?)?;
    let bytes = a.bytes(0)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Datum::text(text)),
        Err(e) => Err(invalid_utf8(bytes, e.valid_up_to())),
    }
}
fn convert_to(_: &dyn EvalContext, a: &[Datum]) -> Value {
    utf8(a.text(1)?)?;
    Ok(bytea(a.text(0)?.as_bytes().to_vec()))
}

fn quote_ident(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let mut out = String::new();
    io::quote_identifier(a.text(0)?, &mut out);
    Ok(Datum::text(out))
}
/// A string literal.
pub(super) fn literal(text: &str) -> String {
    let body = text.replace('\'', "''");
    if body.contains('\\') {
        format!("E'{}'", body.replace('\\', "\\\\"))
    } else {
        format!("'{body}'")
    }
}
fn quote_literal(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(literal(&io::to_text(
        a.datum(0),
        Oid::INVALID,
        cx,
    ))))
}
fn quote_nullable(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    if a.datum(0).is_null() {
        Ok(Datum::text("NULL"))
    } else {
        quote_literal(cx, a)
    }
}

pub(super) const SCALARS: &[Scalar] = &[
    ("md5_text", md5_text),
    ("md5_bytea", md5_bytea),
    ("sha224_bytea", digest224),
    ("sha256_bytea", digest256),
    ("sha384_bytea", digest384),
    ("sha512_bytea", digest512),
    ("binary_encode", encode),
    ("binary_decode", decode),
    ("byteacat", concat),
    ("byteaoctetlen", length),
    ("bytea_substr", substr),
    ("bytea_substr_no_len", substr),
    ("byteapos", position),
    ("byteaoverlay", overlay),
    ("byteaoverlay_no_len", overlay),
    ("byteatrim", btrim),
    ("bytealtrim", ltrim),
    ("byteartrim", rtrim),
    ("byteaGetByte", get_byte),
    ("byteaSetByte", set_byte),
    ("byteaGetBit", get_bit),
    ("byteaSetBit", set_bit),
    ("bytea_bit_count", bit_count),
    ("pg_convert_from", convert_from),
    ("pg_convert_to", convert_to),
    ("quote_ident", quote_ident),
    ("quote_literal", quote_literal),
    ("sql_1285", quote_literal),
    ("quote_nullable", quote_nullable),
    ("sql_1290", quote_nullable),
];

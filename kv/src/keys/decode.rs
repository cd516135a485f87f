//! The way back from an order-preserving encoding to values.
//!
//! Every function reads from the front of a slice and moves it behind what it has read. Keys come
//! from disk and from the network, so each refuses what no encoder writes.

use crate::keys::encode::{ESCAPE, ESCAPED_ZERO, NOT_NULL, NULL_FIRST, NULL_LAST, TERMINATOR};

/// Bytes that no encoder of this crate has written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed encoding")]
pub struct Malformed;

fn take<const N: usize>(from: &mut &[u8], desc: bool) -> Result<[u8; N], Malformed> {
    let Some((bytes, rest)) = from.split_first_chunk::<N>() else {
        return Err(Malformed);
    };
    *from = rest;
    Ok(if desc { bytes.map(|b| !b) } else { *bytes })
}

/// Reads the marker of a nullable column: true for NULL, false when a value follows.
pub fn decode_is_null(from: &mut &[u8]) -> Result<bool, Malformed> {
    match take(from, false)? {
        [NOT_NULL] => Ok(false),
        [NULL_FIRST | NULL_LAST] => Ok(true),
        _ => Err(Malformed),
    }
}

/// Reads a boolean.
pub fn decode_bool(from: &mut &[u8], desc: bool) -> Result<bool, Malformed> {
    match take(from, desc)? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Malformed),
    }
}

/// Reads an integer of two bytes.
pub fn decode_i16(from: &mut &[u8], desc: bool) -> Result<i16, Malformed> {
    Ok(i16::from_be_bytes(take(from, desc)?) ^ i16::MIN)
}

/// Reads an integer of four bytes.
pub fn decode_i32(from: &mut &[u8], desc: bool) -> Result<i32, Malformed> {
    Ok(i32::from_be_bytes(take(from, desc)?) ^ i32::MIN)
}

/// Reads an integer of eight bytes.
pub fn decode_i64(from: &mut &[u8], desc: bool) -> Result<i64, Malformed> {
    Ok(i64::from_be_bytes(take(from, desc)?) ^ i64::MIN)
}

/// Reads a float.
pub fn decode_f32(from: &mut &[u8], desc: bool) -> Result<f32, Malformed> {
    let ordered = u32::from_be_bytes(take(from, desc)?);
    let bits = if ordered >> 31 == 1 {
        ordered ^ (1 << 31)
    } else {
        !ordered
    };
    Ok(f32::from_bits(bits))
}

/// Reads a double.
pub fn decode_f64(from: &mut &[u8], desc: bool) -> Result<f64, Malformed> {
    let ordered = u64::from_be_bytes(take(from, desc)?);
    let bits = if ordered >> 63 == 1 {
        ordered ^ (1 << 63)
    } else {
        !ordered
    };
    Ok(f64::from_bits(bits))
}

/// Calls `piece` with the parts of an escaped string, zeros included.
fn walk(from: &mut &[u8], desc: bool, mut piece: impl FnMut(&[u8])) -> Result<(), Malformed> {
    let flip = |b: u8| if desc { !b } else { b };
    let mut rest = *from;
    loop {
        let Some(escape) = rest.iter().position(|b| flip(*b) == ESCAPE) else {
            return Err(Malformed);
        };
        let (head, tail) = rest.split_at(escape);
        piece(head);
        let Some(([_, second], tail)) = tail.split_first_chunk::<2>() else {
            return Err(Malformed);
        };
        rest = tail;
        match flip(*second) {
            TERMINATOR => break,
            ESCAPED_ZERO => piece(&[flip(ESCAPE)]),
            _ => return Err(Malformed),
        }
    }
    *from = rest;
    Ok(())
}

/// Reads a string of bytes and appends it to `to`.
pub fn decode_bytes(from: &mut &[u8], desc: bool, to: &mut Vec<u8>) -> Result<(), Malformed> {
    let start = to.len();
    walk(from, desc, |piece| to.extend_from_slice(piece))?;
    if desc {
        to.iter_mut().skip(start).for_each(|b| *b = !*b);
    }
    Ok(())
}

/// Moves `from` behind a string of bytes.
pub fn skip_bytes(from: &mut &[u8], desc: bool) -> Result<(), Malformed> {
    walk(from, desc, |_| ())
}

/// Reads a text.
pub fn decode_str(from: &mut &[u8], desc: bool) -> Result<String, Malformed> {
    let mut bytes = Vec::new();
    decode_bytes(from, desc, &mut bytes)?;
    String::from_utf8(bytes).map_err(|_| Malformed)
}

/// Reads sixteen bytes.
pub fn decode_fixed16(from: &mut &[u8], desc: bool) -> Result<[u8; 16], Malformed> {
    take(from, desc)
}

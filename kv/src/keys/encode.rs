//! Order-preserving encoding: byte order of what is written is the order of the values.
//!
//! Every function appends to a buffer. `desc` reverses the order by inverting every byte written.
//! No encoding is a prefix of another one of the same type, so columns may follow each other.

/// Sorts before every value.
pub(super) const NULL_FIRST: u8 = 0x00;
/// Stands before a value that is not NULL.
pub(super) const NOT_NULL: u8 = 0x01;
/// Sorts after every value.
pub(super) const NULL_LAST: u8 = 0x02;

/// Escapes: 0x00 in a string becomes 0x00 0xff; the end is 0x00 0x01.
pub(super) const ESCAPE: u8 = 0x00;
pub(super) const ESCAPED_ZERO: u8 = 0xff;
pub(super) const TERMINATOR: u8 = 0x01;

fn put<const N: usize>(to: &mut Vec<u8>, mut bytes: [u8; N], desc: bool) {
    if desc {
        bytes = bytes.map(|b| !b);
    }
    to.extend_from_slice(&bytes);
}

/// Appends the marker of a NULL. PostgreSQL's default is last in ascending order and first in
/// descending order. The marker is not inverted by `desc`: the caller says where NULLs go.
pub fn encode_null(to: &mut Vec<u8>, nulls_first: bool) {
    to.push(if nulls_first { NULL_FIRST } else { NULL_LAST });
}

/// Appends the marker that goes before a value of a nullable column.
pub fn encode_not_null(to: &mut Vec<u8>) {
    to.push(NOT_NULL);
}

/// Appends a boolean: false before true.
pub fn encode_bool(to: &mut Vec<u8>, value: bool, desc: bool) {
    put(to, [u8::from(value)], desc);
}

/// Appends an integer of two bytes.
pub fn encode_i16(to: &mut Vec<u8>, value: i16, desc: bool) {
    put(to, (value ^ i16::MIN).to_be_bytes(), desc);
}

/// Appends an integer of four bytes.
pub fn encode_i32(to: &mut Vec<u8>, value: i32, desc: bool) {
    put(to, (value ^ i32::MIN).to_be_bytes(), desc);
}

/// Appends an integer of eight bytes.
pub fn encode_i64(to: &mut Vec<u8>, value: i64, desc: bool) {
    put(to, (value ^ i64::MIN).to_be_bytes(), desc);
}

/// Appends a float in PostgreSQL's order: -0 equals 0, NaN equals NaN and is larger than all.
pub fn encode_f32(to: &mut Vec<u8>, value: f32, desc: bool) {
    let value = if value.is_nan() {
        f32::NAN.abs()
    } else if value == 0.0 {
        0.0
    } else {
        value
    };
    let bits = value.to_bits();
    let ordered = if bits >> 31 == 1 {
        !bits
    } else {
        bits ^ (1 << 31)
    };
    put(to, ordered.to_be_bytes(), desc);
}

/// Appends a double in PostgreSQL's order: -0 equals 0, NaN equals NaN and is larger than all.
pub fn encode_f64(to: &mut Vec<u8>, value: f64, desc: bool) {
    let value = if value.is_nan() {
        f64::NAN.abs()
    } else if value == 0.0 {
        0.0
    } else {
        value
    };
    let bits = value.to_bits();
    let ordered = if bits >> 63 == 1 {
        !bits
    } else {
        bits ^ (1 << 63)
    };
    put(to, ordered.to_be_bytes(), desc);
}

/// Appends a string of bytes of any length.
pub fn encode_bytes(to: &mut Vec<u8>, value: &[u8], desc: bool) {
    let from = to.len();
    to.reserve(value.len() + 2);
    let mut rest = value;
    while let Some(zero) = rest.iter().position(|b| *b == ESCAPE) {
        let (head, tail) = rest.split_at(zero);
        to.extend_from_slice(head);
        to.extend_from_slice(&[ESCAPE, ESCAPED_ZERO]);
        rest = tail.get(1..).unwrap_or_default();
    }
    to.extend_from_slice(rest);
    to.extend_from_slice(&[ESCAPE, TERMINATOR]);
    if desc {
        to.iter_mut().skip(from).for_each(|b| *b = !*b);
    }
}

/// Appends a text: the order of its bytes (collation "C").
pub fn encode_str(to: &mut Vec<u8>, value: &str, desc: bool) {
    encode_bytes(to, value.as_bytes(), desc);
}

/// Appends sixteen bytes (a UUID) as they are.
pub fn encode_fixed16(to: &mut Vec<u8>, value: &[u8; 16], desc: bool) {
    put(to, *value, desc);
}

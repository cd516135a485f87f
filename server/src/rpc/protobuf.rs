//! Protocol Buffers on the wire, as far as `proto/watch.proto` uses them.

use bytes::{Buf, Bytes};

/// A field holds a number of variable length.
const VARINT: u64 = 0;
/// A field holds eight bytes.
const FIXED64: u64 = 1;
/// A field holds a length and so many bytes.
const BYTES: u64 = 2;
/// A field holds four bytes.
const FIXED32: u64 = 5;
/// Bits of a key that say what a field holds.
const KIND_BITS: u32 = 3;

/// What cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed message")]
pub(super) struct Malformed;

/// What a field holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    /// A number.
    Number(u64),
    /// Bytes: a string, or a message.
    Bytes(Bytes),
}

impl Value {
    /// As a number.
    pub(super) fn number(&self) -> Result<u64, Malformed> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Bytes(_) => Err(Malformed),
        }
    }

    /// As a message.
    pub(super) fn message(self) -> Result<Bytes, Malformed> {
        match self {
            Self::Number(_) => Err(Malformed),
            Self::Bytes(bytes) => Ok(bytes),
        }
    }

    /// As text.
    pub(super) fn text(self) -> Result<String, Malformed> {
        String::from_utf8(self.message()?.to_vec()).map_err(|_| Malformed)
    }
}

/// Appends a field with a number; 0 is what a field holds that is not there.
pub(super) fn put_number(to: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        put_varint(to, field << KIND_BITS | VARINT);
        put_varint(to, number);
    }
}

/// Appends a field with text; none is what a field holds that is not there.
pub(super) fn put_text(to: &mut Vec<u8>, field: u64, text: &str) {
    if !text.is_empty() {
        put_message(to, field, text.as_bytes());
    }
}

/// Appends a field with bytes, empty ones too.
pub(super) fn put_message(to: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(to, field << KIND_BITS | BYTES);
    put_varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn put_varint(to: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            to.push(low);
            return;
        }
        to.push(low | 0x80);
    }
}

fn take_varint(from: &mut Bytes) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = from.try_get_u8().map_err(|_| Malformed)?;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if bits << shift >> shift != bits {
            return Err(Malformed);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

/// Takes the next field off a message: its number and what it holds; `None` at the end.
pub(super) fn take_field(from: &mut Bytes) -> Result<Option<(u64, Value)>, Malformed> {
    if from.is_empty() {
        return Ok(None);
    }
    let key = take_varint(from)?;
    let value = match key & ((1 << KIND_BITS) - 1) {
        VARINT => Value::Number(take_varint(from)?),
        FIXED64 => Value::Number(from.try_get_u64_le().map_err(|_| Malformed)?),
        FIXED32 => Value::Number(from.try_get_u32_le().map_err(|_| Malformed)?.into()),
        BYTES => {
            let length = usize::try_from(take_varint(from)?).map_err(|_| Malformed)?;
            if length > from.len() {
                return Err(Malformed);
            }
            Value::Bytes(from.split_to(length))
        }
        _ => return Err(Malformed),
    };
    Ok(Some((key >> KIND_BITS, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u64, Value)>, Malformed> {
        let mut from = Bytes::copy_from_slice(bytes);
        let mut found = Vec::new();
        while let Some(field) = take_field(&mut from)? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn fields_are_those_of_the_specification() {
        let mut to = Vec::new();
        put_number(&mut to, 1, 150);
        put_text(&mut to, 2, "testing");
        put_number(&mut to, 3, 0);
        // The examples of the encoding guide.
        assert_eq!(to, b"\x08\x96\x01\x12\x07testing");
        let expected = vec![
            (1, Value::Number(150)),
            (2, Value::Bytes(Bytes::from_static(b"testing"))),
        ];
        assert_eq!(fields(&to), Ok(expected));
        let mut to = Vec::new();
        put_number(&mut to, 1 << 20, u64::MAX);
        assert_eq!(fields(&to), Ok(vec![(1 << 20, Value::Number(u64::MAX))]));
        let others = b"\x0d\x01\x00\x00\x00\x11\x02\x00\x00\x00\x00\x00\x00\x00";
        let expected = vec![(1, Value::Number(1)), (2, Value::Number(2))];
        assert_eq!(fields(others), Ok(expected));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let cases: [&[u8]; 6] = [
            b"\x08",
            b"\x0b",
            b"\x12\x07short",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ];
        for case in cases {
            assert_eq!(fields(case), Err(Malformed), "{case:?}");
        }
    }
}

//! Text in, text out, and PostgreSQL's binary form (base-10000 digits).

use std::fmt;

use num_bigint::BigInt;

use super::value::{MAX_INTEGER_DIGITS, MAX_SCALE, Numeric, overflow, pow10};
use crate::error::{SqlError, SqlState};
use crate::types::fault::invalid_input;

impl Numeric {
    /// PostgreSQL's input.
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        let bad = || invalid_input("numeric", text);
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        let (negative, body) = match trimmed.as_bytes().first() {
            Some(b'-') => (true, trimmed.get(1..).unwrap_or("")),
            Some(b'+') => (false, trimmed.get(1..).unwrap_or("")),
            _ => (false, trimmed),
        };
        match body.as_bytes().first() {
            Some(b'0'..=b'9' | b'.') => {}
            _ => {
                let lower = body.to_ascii_lowercase();
                return match lower.as_str() {
                    "nan" if body.len() == trimmed.len() => Ok(Self::NaN),
                    "infinity" | "inf" if negative => Ok(Self::NegInfinity),
                    "infinity" | "inf" => Ok(Self::PosInfinity),
                    _ => Err(bad()),
                };
            }
        }
        let bytes = body.as_bytes();
        let mut at = 0;
        let mut small: i128 = 0;
        let mut digits = 0usize;
        let mut scale: i64 = 0;
        let mut point = false;
        let mut long = String::new();
        while let Some(&b) = bytes.get(at) {
            match b {
                b'0'..=b'9' => {
                    digits += 1;
                    if digits <= 38 {
                        small = small * 10 + i128::from(b - b'0');
                    } else {
                        if digits == 39 {
                            long = small.to_string();
                        }
                        long.push(char::from(b));
                    }
                    scale += i64::from(point);
                }
                b'.' if !point => point = true,
                _ => break,
            }
            at += 1;
        }
        if digits == 0 {
            return Err(bad());
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            let exponent = body.get(at + 1..).unwrap_or("");
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad());
            }
            let exponent: i64 = exponent
                .parse()
                .ok()
                .filter(|e: &i64| e.abs() < i64::from(i32::MAX / 2))
                .ok_or_else(overflow)?;
            scale -= exponent;
        } else if at != bytes.len() {
            return Err(bad());
        }
        let mut unscaled = if digits <= 38 {
            BigInt::from(small)
        } else {
            long.parse::<BigInt>().map_err(|_| bad())?
        };
        if scale <= i64::from(MAX_SCALE) && scale >= 0 && digits <= 38 {
            return Ok(Self::new(
                if negative { -small } else { small },
                scale as u16,
            ));
        }
        if negative {
            unscaled = -unscaled;
        }
        if scale < 0 {
            if small == 0 && long.is_empty() {
                return Ok(Self::ZERO);
            }
            if -scale > MAX_INTEGER_DIGITS {
                return Err(overflow());
            }
            return Self::checked(unscaled * pow10((-scale) as u32), 0);
        }
        if scale > i64::from(MAX_SCALE) + 200_000 {
            return Ok(Self::new(0, MAX_SCALE as u16));
        }
        Self::checked(unscaled, scale as u32)
    }

    /// PostgreSQL's output.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::NaN => out.push_str("NaN"),
            Self::PosInfinity => out.push_str("Infinity"),
            Self::NegInfinity => out.push_str("-Infinity"),
            Self::Small { unscaled, scale } => {
                if *unscaled < 0 {
                    out.push('-');
                }
                let mut buffer = itoa::Buffer::new();
                place_point(
                    buffer.format(unscaled.unsigned_abs()),
                    usize::from(*scale),
                    out,
                );
            }
            Self::Big { unscaled, scale } => {
                if self.signum() < 0 {
                    out.push('-');
                }
                place_point(&unscaled.magnitude().to_string(), usize::from(*scale), out);
            }
        }
    }

    /// PostgreSQL's binary form.
    pub fn send(&self, out: &mut Vec<u8>) {
        let header = |n: u16, weight: i16, sign: u16, scale: u16, out: &mut Vec<u8>| {
            out.extend_from_slice(&n.to_be_bytes());
            out.extend_from_slice(&weight.to_be_bytes());
            out.extend_from_slice(&sign.to_be_bytes());
            out.extend_from_slice(&scale.to_be_bytes());
        };
        match self {
            Self::NaN => return header(0, 0, 0xC000, 0, out),
            Self::PosInfinity => return header(0, 0, 0xD000, 0, out),
            Self::NegInfinity => return header(0, 0, 0xF000, 0, out),
            _ => {}
        }
        let scale = usize::from(self.scale());
        let mut digits = self.digits().into_bytes();
        while digits.len() <= scale {
            digits.insert(0, b'0');
        }
        let pad = |v: usize| (4 - v % 4) % 4;
        let integer = digits.len() - scale;
        let mut groups = vec![b'0'; pad(integer)];
        groups.append(&mut digits);
        groups.extend(std::iter::repeat_n(b'0', pad(scale)));
        let mut weight = (integer + pad(integer)) as i64 / 4 - 1;
        let mut values: Vec<u16> = groups
            .chunks(4)
            .map(|c| c.iter().fold(0, |v, d| v * 10 + u16::from(d - b'0')))
            .collect();
        while values.last() == Some(&0) {
            values.pop();
        }
        let zeros = values.iter().take_while(|v| **v == 0).count();
        values.drain(..zeros);
        weight -= zeros as i64;
        if values.is_empty() {
            weight = 0;
        }
        let sign = if self.signum() < 0 { 0x4000 } else { 0 };
        header(values.len() as u16, weight as i16, sign, self.scale(), out);
        for v in values {
            out.extend_from_slice(&v.to_be_bytes());
        }
    }

    /// Reads PostgreSQL's binary form.
    pub fn receive(bytes: &[u8]) -> Result<Self, SqlError> {
        let bad = |what: &str| {
            SqlError::new(
                SqlState::INVALID_BINARY_REPRESENTATION,
                format!("invalid {what} in external \"numeric\" value"),
            )
        };
        let word = |i: usize| -> Option<u16> {
            Some(u16::from_be_bytes([
                *bytes.get(i * 2)?,
                *bytes.get(i * 2 + 1)?,
            ]))
        };
        let (Some(n), Some(weight), Some(sign), Some(scale)) = (word(0), word(1), word(2), word(3))
        else {
            return Err(bad("length"));
        };
        match sign {
            0xC000 => return Ok(Self::NaN),
            0xD000 => return Ok(Self::PosInfinity),
            0xF000 => return Ok(Self::NegInfinity),
            0 | 0x4000 => {}
            _ => return Err(bad("sign")),
        }
        if bytes.len() != 8 + usize::from(n) * 2 {
            return Err(bad("length"));
        }
        let mut value = BigInt::from(0);
        for i in 0..usize::from(n) {
            let digit = word(4 + i)
                .filter(|d| *d < 10_000)
                .ok_or_else(|| bad("digit"))?;
            value = value * 10_000u32 + digit;
        }
        let exponent = (i64::from(weight as i16) - i64::from(n) + 1) * 4;
        if sign == 0x4000 {
            value = -value;
        }
        let target = i64::from(scale);
        let shift = exponent + target;
        let value = if shift >= 0 {
            value * pow10(shift as u32)
        } else {
            value / pow10((-shift) as u32)
        };
        Self::checked(value, u32::from(scale))
    }
}

/// Writes digits with a point before the last `scale` of them.
fn place_point(digits: &str, scale: usize, out: &mut String) {
    if scale == 0 {
        out.push_str(digits);
    } else if digits.len() > scale {
        let (integer, fraction) = digits.split_at(digits.len() - scale);
        out.push_str(integer);
        out.push('.');
        out.push_str(fraction);
    } else {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', scale - digits.len()));
        out.push_str(digits);
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        f.write_str(&text)
    }
}

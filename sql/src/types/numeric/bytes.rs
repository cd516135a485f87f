//! The form in which numerics lie in Arrow columns and in keys: bytes that sort by value, then
//! two bytes of display scale.
//!
//! ```text
//! class | exponent, 3 bytes biased | two digits a byte, each + 1 | 0 || scale, 2 bytes
//! ```
//! The digits carry no trailing zeros, so equal numbers have equal bytes before the scale.
//! Negative numbers have the complement of all bytes between class and scale.

use super::value::{Numeric, pow10};
use num_bigint::BigInt;

const NEG_INFINITY: u8 = 0x10;
const NEGATIVE: u8 = 0x20;
const ZERO: u8 = 0x30;
const POSITIVE: u8 = 0x40;
const POS_INFINITY: u8 = 0x50;
const NAN: u8 = 0x60;
const BIAS: i64 = 0x40_0000;

impl Numeric {
    /// Appends the bytes that sort and compare as the value does, without the scale.
    pub fn append_key(&self, out: &mut Vec<u8>) {
        match self {
            Self::NaN => return out.push(NAN),
            Self::PosInfinity => return out.push(POS_INFINITY),
            Self::NegInfinity => return out.push(NEG_INFINITY),
            _ if self.is_zero() => return out.push(ZERO),
            _ => {}
        }
        let mut text = itoa::Buffer::new();
        let long;
        let digits: &str = match self {
            Self::Small { unscaled, .. } => text.format(unscaled.unsigned_abs()),
            _ => {
                long = self.digits();
                &long
            }
        };
        let exponent = digits.len() as i64 - i64::from(self.scale());
        let digits = digits.trim_end_matches('0').as_bytes();
        let negative = self.signum() < 0;
        let mask = if negative { 0xFF } else { 0 };
        out.push(if negative { NEGATIVE } else { POSITIVE });
        let biased = (exponent + BIAS) as u32;
        out.extend(biased.to_be_bytes().iter().skip(1).map(|b| b ^ mask));
        for pair in digits.chunks(2) {
            let high = pair.first().map_or(0, |d| d - b'0');
            let low = pair.get(1).map_or(0, |d| d - b'0');
            out.push((high * 10 + low + 1) ^ mask);
        }
        out.push(mask);
    }

    /// Appends the full form: the sorting bytes and the scale.
    pub fn append_bytes(&self, out: &mut Vec<u8>) {
        self.append_key(out);
        out.extend_from_slice(&self.scale().to_be_bytes());
    }

    /// The full form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        self.append_bytes(&mut out);
        out
    }

    /// Reads the full form; `None` if these are not its bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (body, scale) = bytes.split_at_checked(bytes.len().checked_sub(2)?)?;
        let scale = u16::from_be_bytes([*scale.first()?, *scale.get(1)?]);
        let (class, rest) = body.split_first()?;
        let mask = match *class {
            NAN => return Some(Self::NaN),
            POS_INFINITY => return Some(Self::PosInfinity),
            NEG_INFINITY => return Some(Self::NegInfinity),
            ZERO => return Some(Self::new(0, scale)),
            POSITIVE => 0,
            NEGATIVE => 0xFF,
            _ => return None,
        };
        let (exponent, digits) = rest.split_at_checked(3)?;
        let exponent = exponent
            .iter()
            .fold(0i64, |v, b| (v << 8) | i64::from(b ^ mask))
            - BIAS;
        let digits = digits.split_last()?.1;
        // value = D * 10^(exponent - 2n) with D of n base-100 digits; unscaled = value * 10^scale
        let shift = exponent - 2 * digits.len() as i64 + i64::from(scale);
        if digits.len() <= 18 {
            let mut value = digits
                .iter()
                .fold(0i128, |v, b| v * 100 + i128::from((b ^ mask) as i8 - 1));
            let shifted = if shift >= 0 {
                10i128
                    .checked_pow(u32::try_from(shift).ok()?)
                    .and_then(|p| value.checked_mul(p))
            } else {
                // only the padding digit can be cut
                for _ in 0..-shift {
                    value /= 10;
                }
                Some(value)
            };
            if let Some(v) = shifted {
                return Some(Self::new(if mask == 0 { v } else { -v }, scale));
            }
        }
        let mut value = digits
            .iter()
            .fold(BigInt::from(0), |v, b| v * 100u8 + ((b ^ mask) as i8 - 1));
        if shift >= 0 {
            value *= pow10(u32::try_from(shift).ok()?);
        } else {
            value /= pow10(u32::try_from(-shift).ok()?);
        }
        Some(Self::from_big(
            if mask == 0 { value } else { -value },
            scale,
        ))
    }
}

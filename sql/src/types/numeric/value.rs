//! The number itself: construction, comparison, conversion to and from machine numbers.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use num_bigint::{BigInt, Sign};
use num_traits::{Signed, ToPrimitive, Zero};

use crate::error::{SqlError, SqlState};

/// The largest display scale.
pub const MAX_SCALE: u32 = 16_383;
/// The most decimal digits before the point.
pub(super) const MAX_INTEGER_DIGITS: i64 = 131_072;

/// A numeric: an integer divided by a power of ten, or one of the three special values.
#[derive(Clone, Debug)]
pub enum Numeric {
    /// `unscaled / 10^scale`.
    Small {
        /// The digits as an integer.
        unscaled: i128,
        /// Digits after the point.
        scale: u16,
    },
    /// The same, for digits that do not fit 128 bits.
    Big {
        /// The digits as an integer.
        unscaled: Arc<BigInt>,
        /// Digits after the point.
        scale: u16,
    },
    /// -Infinity
    NegInfinity,
    /// Infinity
    PosInfinity,
    /// NaN: equal to itself, greater than everything else
    NaN,
}

impl Default for Numeric {
    fn default() -> Self {
        Self::ZERO
    }
}

/// 10^n for n up to 38.
pub(super) fn pow10_i128(n: u32) -> Option<i128> {
    10i128.checked_pow(n)
}

/// 10^n.
pub(super) fn pow10(n: u32) -> BigInt {
    match pow10_i128(n) {
        Some(v) => BigInt::from(v),
        None => BigInt::from(10u8).pow(n),
    }
}

/// `a / b` rounded half away from zero.
pub(super) fn div_round(a: &BigInt, b: &BigInt) -> BigInt {
    let quotient = a / b;
    let rest = a - &quotient * b;
    if (rest.abs() * 2u8) >= b.abs() {
        if (a.sign() == Sign::Minus) != (b.sign() == Sign::Minus) {
            quotient - 1
        } else {
            quotient + 1
        }
    } else {
        quotient
    }
}

impl Numeric {
    /// 0
    pub const ZERO: Self = Self::Small {
        unscaled: 0,
        scale: 0,
    };

    /// `unscaled / 10^scale`.
    pub const fn new(unscaled: i128, scale: u16) -> Self {
        Self::Small { unscaled, scale }
    }

    /// From digits of any length; keeps to the small form where it fits.
    pub fn from_big(unscaled: BigInt, scale: u16) -> Self {
        match unscaled.to_i128() {
            Some(unscaled) => Self::Small { unscaled, scale },
            None => Self::Big {
                unscaled: Arc::new(unscaled),
                scale,
            },
        }
    }

    /// As [`Self::from_big`], refusing what PostgreSQL's format cannot hold.
    pub(super) fn checked(unscaled: BigInt, scale: u32) -> Result<Self, SqlError> {
        let (unscaled, scale) = if scale > MAX_SCALE {
            (div_round(&unscaled, &pow10(scale - MAX_SCALE)), MAX_SCALE)
        } else {
            (unscaled, scale)
        };
        let value = Self::from_big(unscaled, scale as u16);
        if let Self::Big { .. } = &value
            && value.decimal_exponent().unwrap_or(0) >= MAX_INTEGER_DIGITS
        {
            return Err(overflow());
        }
        Ok(value)
    }

    /// An integer.
    pub fn from_i64(v: i64) -> Self {
        Self::new(i128::from(v), 0)
    }

    /// Digits after the point.
    pub fn scale(&self) -> u16 {
        match self {
            Self::Small { scale, .. } | Self::Big { scale, .. } => *scale,
            _ => 0,
        }
    }

    /// Whether it is NaN.
    pub fn is_nan(&self) -> bool {
        matches!(self, Self::NaN)
    }

    /// Whether it is neither NaN nor an infinity.
    pub fn is_finite(&self) -> bool {
        matches!(self, Self::Small { .. } | Self::Big { .. })
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        matches!(self, Self::Small { unscaled: 0, .. })
    }

    /// The digits as an integer; zero for the special values.
    pub fn unscaled(&self) -> BigInt {
        match self {
            Self::Small { unscaled, .. } => BigInt::from(*unscaled),
            Self::Big { unscaled, .. } => unscaled.as_ref().clone(),
            _ => BigInt::zero(),
        }
    }

    /// -1, 0, 1 (NaN: 1).
    pub fn signum(&self) -> i32 {
        match self {
            Self::Small { unscaled, .. } => unscaled.signum() as i32,
            Self::Big { unscaled, .. } => {
                if unscaled.is_negative() {
                    -1
                } else {
                    1
                }
            }
            Self::NegInfinity => -1,
            Self::PosInfinity | Self::NaN => 1,
        }
    }

    /// The decimal digits without sign.
    pub(super) fn digits(&self) -> String {
        match self {
            Self::Small { unscaled, .. } => unscaled.unsigned_abs().to_string(),
            Self::Big { unscaled, .. } => unscaled.magnitude().to_string(),
            _ => String::new(),
        }
    }

    /// E where the value is d.ddd * 10^E; `None` for zero and special values.
    pub(super) fn decimal_exponent(&self) -> Option<i64> {
        if self.is_zero() || !self.is_finite() {
            return None;
        }
        let digits = match self {
            Self::Small { unscaled, .. } => i64::from(unscaled.unsigned_abs().ilog10()) + 1,
            Self::Big { unscaled, .. } => unscaled.magnitude().to_string().len() as i64,
            _ => return None,
        };
        Some(digits - 1 - i64::from(self.scale()))
    }

    /// PostgreSQL's weight (position of the first base-10000 digit) and the first two of those
    /// digits.
    pub(super) fn weight(&self) -> (i64, u32, Option<u32>) {
        let Some(exponent) = self.decimal_exponent() else {
            return (0, 0, None);
        };
        let weight = exponent.div_euclid(4);
        let lead = (exponent.rem_euclid(4) + 1) as usize;
        let digits = self.digits();
        let digits = digits.trim_end_matches('0');
        let take = |from: usize, n: usize| -> u32 {
            (from..from + n).fold(0, |v, i| {
                v * 10 + digits.as_bytes().get(i).map_or(0, |d| u32::from(d - b'0'))
            })
        };
        let second = (digits.len() > lead).then(|| take(lead, 4));
        (weight, take(0, lead), second)
    }

    /// Both as numbers of the same scale, which is the larger one; `None` where they do not fit.
    pub(super) fn aligned(&self, other: &Self) -> Option<(i128, i128, u16)> {
        let (
            Self::Small {
                unscaled: a,
                scale: s,
            },
            Self::Small {
                unscaled: b,
                scale: t,
            },
        ) = (self, other)
        else {
            return None;
        };
        let widen = |v: i128, by: u16| pow10_i128(u32::from(by))?.checked_mul(v);
        Some(match s.cmp(t) {
            Ordering::Equal => (*a, *b, *s),
            Ordering::Less => (widen(*a, t - s)?, *b, *t),
            Ordering::Greater => (*a, widen(*b, s - t)?, *s),
        })
    }

    /// The same of finite numbers of any size.
    pub(super) fn aligned_big(&self, other: &Self) -> (BigInt, BigInt, u16) {
        let scale = self.scale().max(other.scale());
        let widened = |v: &Self| v.unscaled() * pow10(u32::from(scale - v.scale()));
        (widened(self), widened(other), scale)
    }

    /// The same value with that many digits after the point, rounded half away from zero.
    pub fn rescale(&self, to: u16) -> Self {
        match self {
            Self::Small { unscaled, scale } if *scale == to => Self::Small {
                unscaled: *unscaled,
                scale: to,
            },
            Self::Small { unscaled, scale } if *scale < to => {
                match pow10_i128(u32::from(to - scale)).and_then(|p| unscaled.checked_mul(p)) {
                    Some(unscaled) => Self::Small {
                        unscaled,
                        scale: to,
                    },
                    None => {
                        Self::from_big(BigInt::from(*unscaled) * pow10(u32::from(to - scale)), to)
                    }
                }
            }
            Self::Small { unscaled, scale } => match pow10_i128(u32::from(scale - to)) {
                Some(p) => {
                    let quotient = unscaled / p;
                    let rest = unscaled % p;
                    let up = rest.unsigned_abs() >= p.unsigned_abs() - rest.unsigned_abs();
                    let unscaled = if up {
                        quotient + if *unscaled < 0 { -1 } else { 1 }
                    } else {
                        quotient
                    };
                    Self::Small {
                        unscaled,
                        scale: to,
                    }
                }
                None => Self::Small {
                    unscaled: 0,
                    scale: to,
                },
            },
            Self::Big { unscaled, scale } if *scale <= to => {
                Self::from_big(unscaled.as_ref() * pow10(u32::from(to - scale)), to)
            }
            Self::Big { unscaled, scale } => {
                Self::from_big(div_round(unscaled, &pow10(u32::from(scale - to))), to)
            }
            other => other.clone(),
        }
    }

    /// As [`Self::rescale`], cutting instead of rounding.
    pub fn truncate(&self, to: u16) -> Self {
        if !self.is_finite() || self.scale() <= to {
            return self.rescale(to);
        }
        Self::from_big(self.unscaled() / pow10(u32::from(self.scale() - to)), to)
    }

    /// Rounded to an integer, half away from zero.
    pub fn round_to_integer(&self) -> BigInt {
        self.rescale(0).unscaled()
    }

    /// As int8, rounded; `None` if it does not fit or is special.
    pub fn to_i64(&self) -> Option<i64> {
        match self.rescale(0) {
            Self::Small { unscaled, .. } => i64::try_from(unscaled).ok(),
            _ => None,
        }
    }

    /// As float8.
    pub fn to_f64(&self) -> f64 {
        match self {
            Self::NaN => f64::NAN,
            Self::PosInfinity => f64::INFINITY,
            Self::NegInfinity => f64::NEG_INFINITY,
            Self::Small { unscaled, scale: 0 } if unscaled.unsigned_abs() < 1 << 53 => {
                *unscaled as f64
            }
            _ => {
                let sign = if self.signum() < 0 { "-" } else { "" };
                format!("{sign}{}e-{}", self.digits(), self.scale())
                    .parse()
                    .unwrap_or(f64::NAN)
            }
        }
    }

    /// From a float: its shortest text with at most `digits` significant digits (15 for float8,
    /// 6 for float4), as PostgreSQL does.
    pub fn from_f64(v: f64, digits: usize) -> Self {
        if v.is_nan() {
            return Self::NaN;
        }
        if v.is_infinite() {
            return if v > 0.0 {
                Self::PosInfinity
            } else {
                Self::NegInfinity
            };
        }
        let text = format!("{:.*e}", digits.saturating_sub(1), v);
        let Some((mantissa, exponent)) = text.split_once('e') else {
            return Self::NaN;
        };
        let negative = mantissa.starts_with('-');
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        let mut value: i128 = digits.parse().unwrap_or(0);
        let mut exponent = exponent.parse::<i64>().unwrap_or(0) - (digits.len() as i64 - 1);
        while value != 0 && value % 10 == 0 {
            value /= 10;
            exponent += 1;
        }
        if value == 0 {
            return Self::ZERO;
        }
        if negative {
            value = -value;
        }
        if exponent >= 0 {
            Self::from_big(BigInt::from(value) * pow10(exponent as u32), 0)
        } else {
            Self::new(value, (-exponent) as u16)
        }
    }

    /// The value times 10^`by`.
    pub fn scaled_by_ten(&self, by: i32) -> Self {
        if !self.is_finite() {
            return self.clone();
        }
        let scale = i64::from(self.scale()) - i64::from(by);
        if scale >= 0 {
            Self::from_big(self.unscaled(), scale.min(i64::from(MAX_SCALE)) as u16)
        } else {
            Self::from_big(self.unscaled() * pow10((-scale) as u32), 0)
        }
    }

    fn rank(&self) -> i8 {
        match self {
            Self::NegInfinity => -1,
            Self::Small { .. } | Self::Big { .. } => 0,
            Self::PosInfinity => 1,
            Self::NaN => 2,
        }
    }

    /// Digits without trailing zeros after the point.
    pub fn normalized(&self) -> Self {
        match self {
            Self::Small { unscaled, scale } => {
                let (mut unscaled, mut scale) = (*unscaled, *scale);
                while scale > 0 && unscaled % 10 == 0 {
                    unscaled /= 10;
                    scale -= 1;
                }
                Self::Small { unscaled, scale }
            }
            Self::Big { unscaled, scale } => {
                let digits = unscaled.magnitude().to_string();
                let zeros = digits.len() - digits.trim_end_matches('0').len();
                let cut = zeros.min(usize::from(*scale)) as u16;
                Self::from_big(unscaled.as_ref() / pow10(u32::from(cut)), scale - cut)
            }
            other => other.clone(),
        }
    }
}

/// "value overflows numeric format".
pub(super) fn overflow() -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        "value overflows numeric format",
    )
}

impl Ord for Numeric {
    fn cmp(&self, other: &Self) -> Ordering {
        if let Some((a, b, _)) = self.aligned(other) {
            return a.cmp(&b);
        }
        if self.is_finite() && other.is_finite() {
            let (a, b, _) = self.aligned_big(other);
            return a.cmp(&b);
        }
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Numeric {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Numeric {}

impl Hash for Numeric {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let value = self.normalized();
        self.rank().hash(state);
        value.unscaled().hash(state);
        value.scale().hash(state);
    }
}

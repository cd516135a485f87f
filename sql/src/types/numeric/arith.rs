//! `+ - * / %`, div, and the choice of the result's scale.

use num_bigint::BigInt;
use num_traits::{One, Signed, Zero};

use super::value::{Numeric, div_round, overflow, pow10, pow10_i128};
use crate::error::SqlError;
use crate::types::fault::division_by_zero;

/// Significant digits that a division yields at least.
const MIN_SIGNIFICANT: i64 = 16;
/// The most digits after the point that a division yields.
const MAX_DISPLAY_SCALE: i64 = 1000;

/// Clamps a result scale as PostgreSQL does.
pub(super) fn clamp_scale(wanted: i64, at_least: &[u16]) -> u16 {
    let floor = at_least.iter().map(|s| i64::from(*s)).max().unwrap_or(0);
    wanted.max(floor).clamp(0, MAX_DISPLAY_SCALE) as u16
}

impl Numeric {
    /// `self + other`
    pub fn add(&self, other: &Self) -> Result<Self, SqlError> {
        if let Some((a, b, scale)) = self.aligned(other)
            && let Some(unscaled) = a.checked_add(b)
        {
            return Ok(Self::Small { unscaled, scale });
        }
        match (self, other) {
            (Self::NaN, _) | (_, Self::NaN) => Ok(Self::NaN),
            (Self::PosInfinity, Self::NegInfinity) | (Self::NegInfinity, Self::PosInfinity) => {
                Ok(Self::NaN)
            }
            (Self::PosInfinity | Self::NegInfinity, _) => Ok(self.clone()),
            (_, Self::PosInfinity | Self::NegInfinity) => Ok(other.clone()),
            _ => {
                let (a, b, scale) = self.aligned_big(other);
                Self::checked(a + b, u32::from(scale))
            }
        }
    }

    /// `-self`
    pub fn neg(&self) -> Self {
        match self {
            Self::Small { unscaled, scale } => match unscaled.checked_neg() {
                Some(unscaled) => Self::Small {
                    unscaled,
                    scale: *scale,
                },
                None => Self::from_big(-BigInt::from(*unscaled), *scale),
            },
            Self::Big { unscaled, scale } => Self::from_big(-unscaled.as_ref(), *scale),
            Self::NegInfinity => Self::PosInfinity,
            Self::PosInfinity => Self::NegInfinity,
            Self::NaN => Self::NaN,
        }
    }

    /// `|self|`
    pub fn abs(&self) -> Self {
        if self.signum() < 0 {
            self.neg()
        } else {
            self.clone()
        }
    }

    /// `self - other`
    pub fn sub(&self, other: &Self) -> Result<Self, SqlError> {
        self.add(&other.neg())
    }

    /// `self * other`
    pub fn mul(&self, other: &Self) -> Result<Self, SqlError> {
        if let (
            Self::Small {
                unscaled: a,
                scale: s,
            },
            Self::Small {
                unscaled: b,
                scale: t,
            },
        ) = (self, other)
            && let Some(unscaled) = a.checked_mul(*b)
            && u32::from(*s) + u32::from(*t) <= super::MAX_SCALE
        {
            return Ok(Self::Small {
                unscaled,
                scale: s + t,
            });
        }
        if self.is_nan() || other.is_nan() {
            return Ok(Self::NaN);
        }
        if !self.is_finite() || !other.is_finite() {
            return Ok(match self.signum() * other.signum() {
                0 => Self::NaN,
                1 => Self::PosInfinity,
                _ => Self::NegInfinity,
            });
        }
        Self::checked(
            self.unscaled() * other.unscaled(),
            u32::from(self.scale()) + u32::from(other.scale()),
        )
    }

    /// The scale of a quotient: at least 16 significant digits and no fewer digits after the
    /// point than either operand.
    fn quotient_scale(&self, other: &Self) -> u16 {
        let (weight1, first1, _) = self.weight();
        let (weight2, first2, _) = other.weight();
        let mut weight = weight1 - weight2;
        if first1 <= first2 {
            weight -= 1;
        }
        clamp_scale(MIN_SIGNIFICANT - weight * 4, &[self.scale(), other.scale()])
    }

    /// `self / other`
    pub fn div(&self, other: &Self) -> Result<Self, SqlError> {
        if self.is_nan() || other.is_nan() {
            return Ok(Self::NaN);
        }
        if other.is_zero() {
            return Err(division_by_zero());
        }
        match (self.is_finite(), other.is_finite()) {
            (false, false) => return Ok(Self::NaN),
            (false, true) => {
                return Ok(if self.signum() * other.signum() > 0 {
                    Self::PosInfinity
                } else {
                    Self::NegInfinity
                });
            }
            (true, false) => return Ok(Self::ZERO),
            (true, true) => {}
        }
        let scale = self.quotient_scale(other);
        self.div_to(other, scale)
    }

    /// The quotient of finite numbers, other than by zero, rounded to that scale.
    pub(super) fn div_to(&self, other: &Self, scale: u16) -> Result<Self, SqlError> {
        let shift = i64::from(scale) + i64::from(other.scale()) - i64::from(self.scale());
        if let (Self::Small { unscaled: a, .. }, Self::Small { unscaled: b, .. }) = (self, other)
            && shift >= 0
            && let Some(a) = u32::try_from(shift)
                .ok()
                .and_then(pow10_i128)
                .and_then(|p| a.checked_mul(p))
            && *b != 0
        {
            let (quotient, rest) = (a / b, a % b);
            let up = rest.unsigned_abs() >= b.unsigned_abs() - rest.unsigned_abs();
            let step = if (a < 0) == (*b < 0) { 1 } else { -1 };
            return Ok(Self::new(
                if up { quotient + step } else { quotient },
                scale,
            ));
        }
        let (mut a, mut b) = (self.unscaled(), other.unscaled());
        if shift >= 0 {
            a *= pow10(shift as u32);
        } else {
            b *= pow10((-shift) as u32);
        }
        Self::checked(div_round(&a, &b), u32::from(scale))
    }

    /// `div(self, other)`: the quotient cut to an integer.
    pub fn div_trunc(&self, other: &Self) -> Result<Self, SqlError> {
        if self.is_nan() || other.is_nan() {
            return Ok(Self::NaN);
        }
        if other.is_zero() {
            return Err(division_by_zero());
        }
        if !self.is_finite() || !other.is_finite() {
            return self.div(other);
        }
        let a = self.unscaled() * pow10(u32::from(other.scale()));
        let b = other.unscaled() * pow10(u32::from(self.scale()));
        Self::checked(a / b, 0)
    }

    /// `self % other`, with the sign of `self`.
    pub fn rem(&self, other: &Self) -> Result<Self, SqlError> {
        if self.is_nan() || other.is_nan() {
            return Ok(Self::NaN);
        }
        if other.is_zero() {
            return Err(division_by_zero());
        }
        if !self.is_finite() {
            return Ok(Self::NaN);
        }
        if !other.is_finite() {
            return Ok(self.clone());
        }
        let scale = self.scale().max(other.scale());
        let a = self.unscaled() * pow10(u32::from(scale - self.scale()));
        let b = other.unscaled() * pow10(u32::from(scale - other.scale()));
        Ok(Self::from_big(a % b, scale))
    }

    /// Rounds to `digits` after the point; negative counts digits before it.
    pub fn round(&self, digits: i32) -> Self {
        self.cut(digits, true)
    }

    /// Cuts to `digits` after the point.
    pub fn trunc(&self, digits: i32) -> Self {
        self.cut(digits, false)
    }

    fn cut(&self, digits: i32, round: bool) -> Self {
        if !self.is_finite() {
            return self.clone();
        }
        let digits = digits.clamp(-131_072, super::MAX_SCALE as i32);
        if digits >= 0 {
            return if round {
                self.rescale(digits as u16)
            } else {
                self.truncate(digits as u16)
            };
        }
        let unit = pow10(u32::from(self.scale()) + digits.unsigned_abs());
        let cut = if round {
            div_round(&self.unscaled(), &unit)
        } else {
            self.unscaled() / &unit
        };
        Self::from_big(cut * pow10(digits.unsigned_abs()), 0)
    }

    /// The smallest integer not less.
    pub fn ceil(&self) -> Self {
        self.neg().floor().neg()
    }

    /// The largest integer not greater.
    pub fn floor(&self) -> Self {
        if !self.is_finite() {
            return self.clone();
        }
        let cut = self.truncate(0);
        if cut > *self {
            Self::from_big(cut.unscaled() - 1, 0)
        } else {
            cut
        }
    }

    /// Greatest common divisor.
    pub fn gcd(&self, other: &Self) -> Self {
        if !self.is_finite() || !other.is_finite() {
            return Self::NaN;
        }
        let scale = self.scale().max(other.scale());
        let mut a = (self.unscaled() * pow10(u32::from(scale - self.scale()))).abs();
        let mut b = (other.unscaled() * pow10(u32::from(scale - other.scale()))).abs();
        while !b.is_zero() {
            (a, b) = (b.clone(), a % b);
        }
        Self::from_big(a, scale)
    }

    /// Least common multiple.
    pub fn lcm(&self, other: &Self) -> Result<Self, SqlError> {
        if !self.is_finite() || !other.is_finite() {
            return Ok(Self::NaN);
        }
        let scale = self.scale().max(other.scale());
        if self.is_zero() || other.is_zero() {
            return Ok(Self::new(0, scale));
        }
        let gcd = self.gcd(other);
        Ok(self.div_trunc(&gcd)?.mul(other)?.abs().rescale(scale))
    }

    /// `n!`
    pub fn factorial(n: i64) -> Result<Self, SqlError> {
        if n > 32_177 {
            return Err(overflow());
        }
        Self::checked(
            (2..=n.max(1)).fold(BigInt::one(), |product, i| product * i),
            0,
        )
    }
}

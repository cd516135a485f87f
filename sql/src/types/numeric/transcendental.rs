//! sqrt, exp, ln, log and power on fixed-point big integers, with PostgreSQL's result scales.

use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive, Zero};

use super::arith::clamp_scale;
use super::value::{Numeric, div_round, overflow, pow10};
use crate::error::{SqlError, SqlState};

const SIGNIFICANT: i64 = 16;
/// Digits kept beyond the result's while computing.
const GUARD: u32 = 12;
/// Largest decimal weight of a result that is computed at all.
const MAX_RESULT: f64 = 2000.0;

fn log_error(negative: bool) -> SqlError {
    SqlError::new(
        SqlState::INVALID_ARGUMENT_FOR_LOGARITHM,
        if negative {
            "cannot take logarithm of a negative number"
        } else {
            "cannot take logarithm of zero"
        },
    )
}

fn power_error(message: &'static str) -> SqlError {
    SqlError::new(SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION, message)
}

/// A number as an integer of units of 10^-scale.
fn fixed(value: &Numeric, scale: u32) -> BigInt {
    let own = u32::from(value.scale());
    if scale >= own {
        value.unscaled() * pow10(scale - own)
    } else {
        div_round(&value.unscaled(), &pow10(own - scale))
    }
}

/// e^x for |x| small, in units of 10^-scale, by halving the argument and the Taylor series.
fn exp_fixed(x: &BigInt, scale: u32) -> BigInt {
    let unit = pow10(scale);
    // x = k * ln2-free reduction: halve until small, square back
    let bits = (x.abs() / &unit).bits() as u32 + 8;
    let work = scale + bits + 4;
    let extra = pow10(work - scale);
    let one = &unit * &extra;
    let x = x * &extra / (BigInt::from(1) << bits);
    let mut term = one.clone();
    let mut sum = one.clone();
    for n in 1u32.. {
        term = &term * &x / &one / n;
        if term.is_zero() {
            break;
        }
        sum += &term;
    }
    for _ in 0..bits {
        sum = &sum * &sum / &one;
    }
    sum / extra
}

/// ln x for x > 0, in units of 10^-scale: square roots towards 1, then the atanh series.
fn ln_fixed(x: &BigInt, scale: u32) -> BigInt {
    let work = scale + 20;
    let extra = pow10(work - scale);
    let one = pow10(work);
    let mut x = x * &extra;
    let mut factor = 1u32;
    let limit = &one / 10u8;
    let mut roots = 0;
    while (&x - &one).abs() > limit && roots < 40 {
        x = (&x * &one).sqrt();
        factor = factor.saturating_mul(2);
        roots += 1;
    }
    let y = (&x - &one) * &one / (&x + &one);
    let square = &y * &y / &one;
    let mut power = y.clone();
    let mut sum = y;
    for n in 1u32.. {
        power = &power * &square / &one;
        if power.is_zero() {
            break;
        }
        sum += &power / (2 * n + 1);
    }
    let total = sum * 2u8 * factor;
    div_round(&total, &extra)
}

impl Numeric {
    /// Approximate decimal weight of `ln self`.
    fn ln_weight(&self) -> i64 {
        let near = |text: i128| Self::new(text, 1);
        if *self >= near(9) && *self <= near(11) {
            let rest = match self.sub(&Self::new(1, 0)) {
                Ok(rest) if !rest.is_zero() => rest,
                _ => return 0,
            };
            let (weight, first, _) = rest.weight();
            weight * 4 + f64::from(first).log10() as i64
        } else {
            let (weight, first, second) = self.weight();
            let (digits, weight) = match second {
                Some(second) => (first * 10_000 + second, weight * 4 - 4),
                None => (first, weight * 4),
            };
            let ln = f64::from(digits).ln() + weight as f64 * std::f64::consts::LN_10;
            ln.abs().log10() as i64
        }
    }

    /// ln of a positive finite number at that scale.
    fn ln_to(&self, scale: u16) -> Self {
        let weight = self.decimal_exponent().unwrap_or(0).unsigned_abs() as u32;
        let work = u32::from(scale) + GUARD;
        // the argument needs its own leading digits beyond the point
        let work_in = work + if *self < Self::new(1, 0) { weight } else { 0 };
        let ln = ln_fixed(&fixed(self, work_in), work_in);
        Self::from_big(div_round(&ln, &pow10(work_in - u32::from(scale))), scale)
    }

    /// Square root.
    pub fn sqrt(&self) -> Result<Self, SqlError> {
        if self.signum() < 0 {
            return Err(power_error("cannot take square root of a negative number"));
        }
        if !self.is_finite() {
            return Ok(self.clone());
        }
        let (weight, _, _) = self.weight();
        let root_weight = (weight + 1) * 4 / 2 - 1;
        let scale = clamp_scale(SIGNIFICANT - root_weight, &[self.scale()]);
        let work = u32::from(scale) + 1;
        let root = (fixed(self, 2 * work)).sqrt();
        Ok(Self::from_big(div_round(&root, &BigInt::from(10)), scale))
    }

    /// e^self
    pub fn exp(&self) -> Result<Self, SqlError> {
        match self {
            Self::NaN | Self::PosInfinity => return Ok(self.clone()),
            Self::NegInfinity => return Ok(Self::ZERO),
            _ => {}
        }
        let weight = (self.to_f64() * std::f64::consts::LOG10_E).clamp(-MAX_RESULT, MAX_RESULT);
        let scale = clamp_scale(SIGNIFICANT - weight as i64, &[self.scale()]);
        self.exp_to(scale)
    }

    fn exp_to(&self, scale: u16) -> Result<Self, SqlError> {
        let value = self.to_f64();
        if value.abs() >= MAX_RESULT * 3.0 {
            if value > 0.0 {
                return Err(overflow());
            }
            return Ok(Self::new(0, scale));
        }
        let digits = (value * std::f64::consts::LOG10_E).max(0.0) as u32;
        let work = u32::from(scale) + digits + GUARD;
        let magnitude = if value < 0.0 {
            self.neg()
        } else {
            self.clone()
        };
        let work = work
            + if value < 0.0 {
                (-value * 0.87) as u32
            } else {
                0
            };
        let mut result = exp_fixed(&fixed(&magnitude, work), work);
        if value < 0.0 {
            result = pow10(2 * work) / result;
        }
        Self::checked(
            div_round(&result, &pow10(work - u32::from(scale))),
            u32::from(scale),
        )
    }

    /// Natural logarithm.
    pub fn ln(&self) -> Result<Self, SqlError> {
        if self.is_nan() {
            return Ok(Self::NaN);
        }
        if self.signum() <= 0 {
            return Err(log_error(self.signum() < 0));
        }
        if !self.is_finite() {
            return Ok(Self::PosInfinity);
        }
        let scale = clamp_scale(SIGNIFICANT - self.ln_weight(), &[self.scale()]);
        Ok(self.ln_to(scale))
    }

    /// Logarithm of `num` to the base `self`.
    pub fn log(&self, num: &Self) -> Result<Self, SqlError> {
        if self.is_nan() || num.is_nan() {
            return Ok(Self::NaN);
        }
        for v in [self, num] {
            if v.signum() <= 0 {
                return Err(log_error(v.signum() < 0));
            }
        }
        match (self.is_finite(), num.is_finite()) {
            (false, false) => return Ok(Self::NaN),
            (false, true) => return Ok(Self::ZERO),
            (true, false) => return Ok(Self::PosInfinity),
            _ => {}
        }
        let weight = num.ln_weight() - self.ln_weight();
        let scale = clamp_scale(SIGNIFICANT - weight, &[self.scale(), num.scale()]);
        let work = (i64::from(scale) + 8 + weight.abs() + self.ln_weight().abs()) as u16;
        let base = self.ln_to(work);
        if base.is_zero() {
            return Err(crate::types::fault::division_by_zero());
        }
        num.ln_to(work).div_to(&base, scale)
    }

    /// self^exponent
    pub fn power(&self, exponent: &Self) -> Result<Self, SqlError> {
        let one = Self::new(1, 0);
        if self.is_nan() || exponent.is_nan() {
            let known =
                (self.is_nan() && exponent.is_zero()) || (exponent.is_nan() && *self == one);
            return Ok(if known { one } else { Self::NaN });
        }
        let integral = exponent.is_finite() && exponent.truncate(0) == *exponent;
        let even = integral && (exponent.truncate(0).unscaled() % 2u8).is_zero();
        if self.is_zero() && exponent.signum() < 0 {
            return Err(power_error("zero raised to a negative power is undefined"));
        }
        if self.signum() < 0 && exponent.is_finite() && !integral {
            return Err(power_error(
                "a negative number raised to a non-integer power yields a complex result",
            ));
        }
        if !self.is_finite() || !exponent.is_finite() {
            return Ok(self.power_special(exponent, even));
        }
        if self.is_zero() {
            let v = if exponent.is_zero() { 1 } else { 0 };
            return Ok(Self::new(v, 0).rescale(SIGNIFICANT as u16));
        }
        if integral && let Some(n) = exponent.to_i64().and_then(|n| i32::try_from(n).ok()) {
            let scale = clamp_scale(SIGNIFICANT, &[self.scale()]);
            return self.power_integer(n, scale);
        }
        let negative = self.signum() < 0 && !even;
        let base = self.abs();
        let local = (8 - base.ln_weight()).clamp(0, 1000) as u16;
        let estimate = base.ln_to(local).mul(exponent)?.rescale(local).to_f64();
        if estimate.abs() > MAX_RESULT * 3.01 {
            if estimate > 0.0 {
                return Err(overflow());
            }
            return Ok(Self::new(0, 1000));
        }
        let weight = (estimate * std::f64::consts::LOG10_E) as i64;
        let scale = clamp_scale(SIGNIFICANT - weight, &[self.scale(), exponent.scale()]);
        let digits = i64::from(scale) + weight.abs() + 8;
        let work = (digits + exponent.decimal_exponent().unwrap_or(0).max(0)).clamp(0, 4000) as u16;
        let product = base.ln_to(work).mul(exponent)?.rescale(work);
        let result = product.exp_to(scale)?;
        Ok(if negative { result.neg() } else { result })
    }

    fn power_special(&self, exponent: &Self, even: bool) -> Self {
        let one = Self::new(1, 0);
        if *self == one || exponent.is_zero() {
            return one;
        }
        if exponent.is_finite() {
            return match (exponent.signum() > 0, self.signum() > 0 || even) {
                (false, _) => Self::ZERO,
                (true, true) => Self::PosInfinity,
                (true, false) => Self::NegInfinity,
            };
        }
        let magnitude = self.abs();
        if magnitude == one {
            return one;
        }
        if (magnitude > one) == (exponent.signum() > 0) {
            Self::PosInfinity
        } else {
            Self::ZERO
        }
    }

    fn power_integer(&self, n: i32, scale: u16) -> Result<Self, SqlError> {
        let magnitude = n.unsigned_abs();
        let exponent = self.decimal_exponent().unwrap_or(0);
        let mantissa = self.abs().to_f64().abs().max(f64::MIN_POSITIVE).log10();
        let weight = if mantissa.is_finite() {
            mantissa
        } else {
            exponent as f64
        } * f64::from(n);
        if weight > 131_072.0 {
            return Err(overflow());
        }
        if weight < -f64::from(scale) - 2.0 {
            return Ok(Self::new(0, scale));
        }
        // digits beyond this cannot matter for the result
        let needed = (f64::from(scale) + weight.abs() + 40.0) as u64;
        let exact_digits = (self.digits().len() as u64) * u64::from(magnitude);
        if exact_digits <= 4 * needed + 2000 {
            let power = self.unscaled().pow(magnitude);
            let own = u64::from(self.scale()) * u64::from(magnitude);
            let own = own.to_u32().ok_or_else(overflow)?;
            let result = if n >= 0 {
                if own > u32::from(scale) {
                    div_round(&power, &pow10(own - u32::from(scale)))
                } else {
                    power * pow10(u32::from(scale) - own)
                }
            } else {
                div_round(&pow10(own + u32::from(scale)), &power)
            };
            return Self::checked(result, u32::from(scale));
        }
        let work = needed.clamp(0, 8000) as u16;
        let ln = self.abs().ln_to(work);
        let result = ln
            .mul(&Self::from_i64(i64::from(n)))?
            .rescale(work)
            .exp_to(scale)?;
        Ok(if self.signum() < 0 && n % 2 != 0 {
            result.neg()
        } else {
            result
        })
    }
}

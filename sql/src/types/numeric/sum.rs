//! Sums of many numerics without intermediate numbers.

use num_bigint::BigInt;
use num_traits::Zero;

use super::value::{Numeric, pow10, pow10_i128};
use crate::error::SqlError;

/// A running sum: 128 bits at one scale, spilling to a big integer.
#[derive(Clone, Debug, Default)]
pub struct NumericSum {
    small: i128,
    scale: u16,
    spilled: Option<BigInt>,
    nan: u64,
    positive: u64,
    negative: u64,
    count: u64,
}

impl NumericSum {
    /// Adds a number.
    pub fn add(&mut self, value: &Numeric) {
        self.count += 1;
        match value {
            Numeric::Small { unscaled, scale } => self.add_small(*unscaled, *scale),
            Numeric::Big { unscaled, scale } => self.add_big(unscaled.as_ref().clone(), *scale),
            Numeric::NaN => self.nan += 1,
            Numeric::PosInfinity => self.positive += 1,
            Numeric::NegInfinity => self.negative += 1,
        }
    }

    /// Adds an integer.
    pub fn add_integer(&mut self, value: i128) {
        self.count += 1;
        self.add_small(value, 0);
    }

    fn add_small(&mut self, unscaled: i128, scale: u16) {
        if scale == self.scale
            && let Some(sum) = self.small.checked_add(unscaled)
        {
            self.small = sum;
            return;
        }
        if scale > self.scale {
            self.widen(scale);
        }
        let scaled = pow10_i128(u32::from(self.scale - scale))
            .and_then(|p| unscaled.checked_mul(p))
            .and_then(|v| self.small.checked_add(v));
        match scaled {
            Some(sum) => self.small = sum,
            None => self.add_big(BigInt::from(unscaled), scale),
        }
    }

    /// Brings the sum to a greater scale.
    fn widen(&mut self, scale: u16) {
        let by = u32::from(scale - self.scale);
        match pow10_i128(by).and_then(|p| self.small.checked_mul(p)) {
            Some(v) => self.small = v,
            None => {
                let spill = BigInt::from(self.small);
                *self.spilled.get_or_insert_with(BigInt::zero) += spill;
                self.small = 0;
            }
        }
        let small_moved = self.small;
        if let Some(spilled) = &mut self.spilled {
            *spilled *= pow10(by);
        }
        self.small = small_moved;
        self.scale = scale;
    }

    fn add_big(&mut self, unscaled: BigInt, scale: u16) {
        if scale > self.scale {
            self.widen(scale);
        }
        let scaled = unscaled * pow10(u32::from(self.scale - scale));
        *self.spilled.get_or_insert_with(BigInt::zero) += scaled;
    }

    /// How many numbers were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes in another sum of `count` numbers.
    pub fn merge(&mut self, total: &Numeric, count: u64) {
        self.add(total);
        self.count = self.count - 1 + count;
    }

    /// The sum.
    pub fn total(&self) -> Result<Numeric, SqlError> {
        if self.nan > 0 || (self.positive > 0 && self.negative > 0) {
            return Ok(Numeric::NaN);
        }
        if self.positive > 0 {
            return Ok(Numeric::PosInfinity);
        }
        if self.negative > 0 {
            return Ok(Numeric::NegInfinity);
        }
        match &self.spilled {
            None => Ok(Numeric::new(self.small, self.scale)),
            Some(spilled) => Numeric::checked(spilled + self.small, u32::from(self.scale)),
        }
    }

    /// The average.
    pub fn average(&self) -> Result<Numeric, SqlError> {
        self.total()?.div(&Numeric::new(i128::from(self.count), 0))
    }
}

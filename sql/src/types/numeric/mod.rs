//! Exact numbers of any size: value and display scale, with PostgreSQL's arithmetic.
//!
//! Nearly all values fit 128 bits; those are kept in place and computed with checked machine
//! arithmetic. What does not fit spills to a big integer. NaN and the infinities are values too.

mod arith;
mod bytes;
mod sum;
mod text;
mod transcendental;
mod value;

pub use sum::NumericSum;
pub use value::{MAX_SCALE, Numeric};

//! Exact numbers of any size: value and display scale, with PostgreSQL's arithmetic.

/// A numeric.
#[derive(Clone, Debug, Default)]
pub struct Numeric {
    /// The digits as an integer.
    pub unscaled: i128,
    /// Digits after the point.
    pub scale: u16,
}

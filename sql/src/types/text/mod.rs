//! Functions on text and bytes, pattern matching, regular expressions.

mod basic;
mod pad;
mod pattern;
mod regexp;

use super::body::{Scalar, Set};

/// All scalar bodies of this module.
pub(super) fn scalars() -> Vec<Scalar> {
    [
        basic::SCALARS,
        pad::SCALARS,
        pattern::SCALARS,
    ]
    .concat()
}

/// All set-returning bodies of this module.
pub(super) fn sets() -> Vec<Set> {
    Vec::new()
}

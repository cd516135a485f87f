//! Functions on text and bytes, pattern matching, regular expressions.

mod basic;
mod bytes;
mod format;
mod pad;
mod pattern;
mod regexp;
mod regexp_find;
mod sha;
mod split;

use super::body::{Scalar, Set};

/// All scalar bodies of this module.
pub(super) fn scalars() -> Vec<Scalar> {
    [
        basic::SCALARS,
        bytes::SCALARS,
        format::SCALARS,
        regexp_find::SCALARS,
        split::SCALARS,
        pad::SCALARS,
        pattern::SCALARS,
    ]
    .concat()
}

/// All set-returning bodies of this module.
pub(super) fn sets() -> Vec<Set> {
    [regexp_find::SETS, split::SETS].concat()
}

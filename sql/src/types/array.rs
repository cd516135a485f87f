//! Array values: element type, dimensions with lower bounds, elements in row-major order.

use super::datum::Datum;
use super::oid::Oid;

/// An array of any number of dimensions.
#[derive(Clone, Debug)]
pub struct ArrayValue {
    /// Type of the elements.
    pub element: Oid,
    /// Length and lower bound of each dimension; empty for the empty array.
    pub dims: Vec<(i32, i32)>,
    /// Elements in row-major order.
    pub items: Vec<Datum>,
}

impl ArrayValue {
    /// A one-dimensional array with lower bound 1.
    pub fn vector(element: Oid, items: Vec<Datum>) -> Self {
        let dims = match i32::try_from(items.len()) {
            Ok(0) | Err(_) => Vec::new(),
            Ok(n) => vec![(n, 1)],
        };
        Self { element, dims, items }
    }
}

//! Aggregate functions. Each state takes rows, can be split into a partial state of plain values
//! and merged from one, so that parts of a query can run apart.

mod collect;
mod count;
mod extreme;
mod ordered;
mod statistics;
mod sums;

use super::oid::Oid;
use super::registry::{AggregateImpl, AggregateState};

/// A boxed state.
pub(super) type State = Box<dyn AggregateState>;

/// The body of an aggregate of that name on these argument types.
pub(super) fn body(name: &str, args: &[Oid]) -> Option<AggregateImpl> {
    count::body(name, args)
        .or_else(|| sums::body(name, args))
        .or_else(|| extreme::body(name, args))
        .or_else(|| collect::body(name, args))
        .or_else(|| statistics::body(name, args))
        .or_else(|| ordered::body(name, args))
}

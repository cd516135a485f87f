//! From the bound tree to a plan: predicates go down to the scans and become key spans, inner
//! joins are ordered and get hash keys or look-ups, columns that nobody reads are dropped.
//!
//! [`node`] is the vocabulary, [`build`] makes plans, [`access`] chooses keys of a scan,
//! [`prune`] drops columns, [`order`] needless sorts. A plan keeps parameters and columns of enclosing queries as
//! expressions: it can be cached and run many times. Two engines run it: `exec::rows` row by row,
//! and [`crate::exec::vector`] through DataFusion.

pub mod access;
pub mod build;
pub mod free;
mod join;
pub mod node;
pub mod order;
pub mod prune;
pub mod semi;

//! A node: opening its data directory and listeners, and shutting them down in order.

mod bound;
mod clients;
mod data_dir;
mod failure;
mod joining;
mod limits;
mod peers;
mod start;

pub(crate) use bound::Bound;
pub(crate) use failure::Failure;
pub(crate) use start::Node;

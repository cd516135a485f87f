//! What the binder makes of statements over a small catalog, and what it says of wrong ones.

mod corpus;
mod errors;
mod fixture;
mod shapes;

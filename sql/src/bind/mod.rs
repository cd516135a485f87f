//! From syntax to meaning: names, types, operators and parameters are resolved by PostgreSQL's
//! rules; the result is the tree of [`tree`]. A clause that is not consumed is an error.

pub mod tree;

//! From text to syntax: PostgreSQL's lexical rules and grammar, with the trees of the sqlparser
//! crate for queries and expressions and own structs for all other statements.

mod cursor;
pub mod depth;
mod dml;
mod expr;
mod from;
pub(crate) mod keywords;
mod lexer;
mod object;
mod primary;
mod query;
mod schema_change;
mod special;
mod split;
pub mod statement;
mod storage;
mod table;
mod type_name;
mod utility;

pub use split::{expression, query_text, split, type_text};
pub use statement::{Parsed, Statement};

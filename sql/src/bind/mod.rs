//! From syntax to meaning: names, types, operators and parameters are resolved by PostgreSQL's
//! rules; the result is the tree of [`tree`]. A clause that is not consumed is an error.

mod aggregate;
mod call;
mod coerce;
mod conflict;
mod context;
mod cte;
mod deparse;
mod expr;
mod fold;
mod from;
mod from_function;
mod group;
mod insert;
mod json_row;
mod key_values;
mod names;
mod output_name;
mod query;
mod resolve;
mod select;
mod stored;
mod subquery;
mod table_oid;
pub mod tree;
mod type_name;
mod update;
pub(crate) mod walk;
mod window;
mod write;

pub use context::{BindContext, Binder};
pub use deparse::{deparse, identifier, literal};
pub use key_values::KeyColumn;
pub use stored::{StoredKind, canonical, default_value, expression_text, storable, view_text};
pub use type_name::resolve_type;

/// Position of an expression in the statement, from 1; 0 if unknown.
pub(crate) fn position_of(e: &sqlparser::ast::Expr) -> usize {
    position::of(e)
}

mod position;

#[cfg(test)]
mod tests;

//! Whole rows as arguments of functions that make JSON. A record value does not know the names
//! of its fields, so the row becomes a JSON object before the call, names and all.

use std::sync::Arc;

use sqlparser::ast::Expr as Ast;

use super::context::Binder;
use super::names::Level;
use super::tree::Expr;
use crate::error::SqlError;
use crate::types::registry::registry;
use crate::types::{ArrayValue, Datum, Oid, PgType};

/// Functions that show the names of a row's columns.
fn makes_json(name: &str) -> bool {
    matches!(
        name,
        "row_to_json"
            | "to_json"
            | "to_jsonb"
            | "json_agg"
            | "jsonb_agg"
            | "json_object_agg"
            | "jsonb_object_agg"
            | "json_build_object"
            | "jsonb_build_object"
            | "json_build_array"
            | "jsonb_build_array"
    )
}

impl Binder<'_> {
    /// Binds the arguments of a function of that name.
    pub(crate) fn bind_arguments(
        &mut self,
        name: &str,
        args: &[&Ast],
        level: &Level<'_>,
    ) -> Result<Vec<Expr>, SqlError> {
        let mut bound = self.bind_all(args, level)?;
        if !makes_json(name) || (name == "row_to_json" && args.len() != 1) {
            return Ok(bound);
        }
        let [function] = registry().functions_named("pontoon_json_row") else {
            return Ok(bound);
        };
        for (expr, ast) in bound.iter_mut().zip(args) {
            let Ast::Identifier(ident) = ast else {
                continue;
            };
            if let Expr::Row(items) = expr
                && let Some(names) = level.row_names(&ident.value)
                && names.len() == items.len()
            {
                let names = names.into_iter().map(Datum::Text).collect();
                let names = ArrayValue::vector(Oid::TEXT, names);
                let mut call = vec![Expr::Const(
                    Datum::Array(Arc::new(names)),
                    PgType::new(Oid::TEXT_ARRAY),
                )];
                call.append(items);
                *expr = self.make_call(function, call, PgType::new(Oid::JSON), None);
            }
        }
        Ok(bound)
    }
}

/// The function to call when the row has become JSON already.
pub(crate) fn renamed<'a>(name: &'a str, args: &[Expr]) -> &'a str {
    match args {
        [one] if name == "row_to_json" && one.ty().oid == Oid::JSON => "to_json",
        _ => name,
    }
}

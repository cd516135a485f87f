//! Expressions that descriptors hold as text: defaults, checks, generated columns. They are bound
//! when they are declared, so that a wrong one is refused then.

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::execute::Ddl;
use super::names;
use crate::bind::tree::{ColId, Column, Expr};
use crate::bind::{BindContext, StoredKind, canonical, default_value, expression_text};
use crate::catalog::desc::{CatalogSnapshot, ColumnDesc, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::session::engine::virtual_table;
use crate::types::registry::{EvalContext, Volatility};
use crate::types::{Oid, PgType, format_type};

/// The live columns of a table for the binder; numbers are positions.
pub(crate) fn table_columns(columns: &[ColumnDesc]) -> Vec<Column> {
    columns
        .iter()
        .enumerate()
        .filter(|(_, c)| !c.dropped && c.attnum != 0)
        .map(|(position, c)| Column {
            id: ColId(u32::try_from(position).unwrap_or(u32::MAX)),
            name: Arc::from(c.name.as_str()),
            ty: c.ty,
        })
        .collect()
}

/// Whether a function without a fixed result is called.
pub(crate) fn is_volatile(expr: &Expr) -> bool {
    calls(expr, &|v| v == Volatility::Volatile)
}

fn calls(expr: &Expr, wanted: &dyn Fn(Volatility) -> bool) -> bool {
    let own = match expr {
        Expr::Call { function, .. } => wanted(function.volatility),
        Expr::Cast {
            kind: crate::bind::tree::CastKind::Function(f),
            ..
        } => wanted(f.volatility),
        _ => false,
    };
    if own {
        return true;
    }
    let mut found = false;
    expr.for_each_child(&mut |child| found |= calls(child, wanted));
    found
}

/// The value that a column gets when none is given, bound: its default, or the next value of its
/// identity sequence; `None` for NULL and for generated columns.
pub(crate) fn column_default(
    catalog: &CatalogSnapshot,
    search_path: &[String],
    eval: &dyn EvalContext,
    column: &ColumnDesc,
) -> Result<Option<Expr>, SqlError> {
    let Some(text) = default_text(catalog, column)? else {
        return Ok(None);
    };
    let cx = BindContext {
        catalog,
        search_path,
        params: &[],
        eval,
        virtual_table,
    };
    default_value(&cx, &text, column.ty).map(Some)
}

/// The default of a column as text that means the same under any search path.
pub(crate) fn default_text(
    catalog: &CatalogSnapshot,
    column: &ColumnDesc,
) -> Result<Option<String>, SqlError> {
    let serial = column
        .default
        .as_ref()
        .is_some_and(|text| text.starts_with("nextval("));
    match column.sequence {
        Some(sequence) if serial || column.identity.is_some() => {
            let sequence = catalog
                .sequences
                .get(&sequence)
                .ok_or_else(|| SqlError::internal("a column without its sequence"))?;
            let name = names::quoted(&sequence.schema_name, &sequence.name).replace('\'', "''");
            Ok(Some(format!("nextval('{name}'::regclass)")))
        }
        _ => Ok(column.default.clone()),
    }
}

/// The default of a serial column as it is shown; what is run names the sequence by number.
pub(crate) fn nextval(schema: &str, sequence: &str) -> String {
    let quote = crate::session::variables::quote_name;
    let name = match schema {
        "public" => quote(sequence),
        _ => format!("{}.{}", quote(schema), quote(sequence)),
    }
    .replace('\'', "''");
    format!("nextval('{name}'::regclass)")
}

impl Ddl {
    /// Binds an expression that is to be stored; gives its stored text too.
    fn bind_stored(
        &mut self,
        expr: &ast::Expr,
        kind: StoredKind,
        table: &str,
        columns: &[Column],
    ) -> Result<(Expr, String), SqlError> {
        let catalog = self.change.published();
        let eval = self.runner.eval(&catalog);
        let cx = BindContext {
            catalog: &catalog,
            search_path: &self.runner.values.search_path,
            params: &[],
            eval: eval.as_ref(),
            virtual_table,
        };
        canonical(&cx, expr, kind, table, columns)
    }

    /// Binds a DEFAULT; gives its stored text and itself.
    pub(crate) fn bind_default(
        &mut self,
        expr: &ast::Expr,
        column: &str,
        ty: PgType,
    ) -> Result<(String, Expr), SqlError> {
        let (bound, text) = self
            .bind_stored(expr, StoredKind::Default(ty), "", &[])
            .map_err(|e| default_mismatch(e, column, ty))?;
        Ok((text, bound))
    }

    /// Binds a CHECK over columns.
    pub(crate) fn bind_check(
        &mut self,
        expr: &ast::Expr,
        table: &str,
        columns: &[ColumnDesc],
    ) -> Result<(String, Expr), SqlError> {
        let columns = table_columns(columns);
        let (bound, text) = self.bind_stored(expr, StoredKind::Check, table, &columns)?;
        Ok((text, bound))
    }

    /// Binds the expression of a generated column; gives its stored text.
    pub(crate) fn bind_generated(
        &mut self,
        expr: &ast::Expr,
        table: &str,
        column: usize,
        columns: &[ColumnDesc],
    ) -> Result<String, SqlError> {
        let visible = table_columns(columns);
        let ty = columns.get(column).map_or(PgType::new(Oid::TEXT), |c| c.ty);
        let (bound, text) = self.bind_stored(expr, StoredKind::Generated(ty), table, &visible)?;
        for used in bound.columns() {
            let position = used.0 as usize;
            let Some(used) = columns.get(position) else {
                continue;
            };
            if used.generated.is_some() || position == column {
                return Err(SqlError::new(
                    SqlState::INVALID_OBJECT_DEFINITION,
                    format!(
                        "cannot use generated column \"{}\" in column generation expression",
                        used.name
                    ),
                )
                .with_detail("A generated column cannot reference another generated column."));
            }
        }
        Ok(text)
    }

    /// The positions of columns that a stored expression uses.
    pub(crate) fn columns_used(
        &mut self,
        text: &str,
        table: &TableDesc,
    ) -> Result<Vec<usize>, SqlError> {
        let columns = table_columns(&table.columns);
        let catalog = self.change.published();
        let eval = self.runner.eval(&catalog);
        let cx = BindContext {
            catalog: &catalog,
            search_path: &self.runner.values.search_path,
            params: &[],
            eval: eval.as_ref(),
            virtual_table,
        };
        let bound = expression_text(&cx, text, &columns)?;
        Ok(bound.columns().into_iter().map(|c| c.0 as usize).collect())
    }
}

fn default_mismatch(error: SqlError, column: &str, ty: PgType) -> SqlError {
    if error.state == SqlState::UNDEFINED_COLUMN {
        let refused = SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "cannot use column reference in DEFAULT expression",
        );
        return refused.at(error.position.unwrap_or(0));
    }
    if error.state != SqlState::DATATYPE_MISMATCH {
        return error;
    }
    let from = error
        .message
        .rsplit_once("is of type ")
        .map_or_else(String::new, |(_, from)| from.to_owned());
    if from.is_empty() {
        return error;
    }
    SqlError::new(
        SqlState::DATATYPE_MISMATCH,
        format!(
            "column \"{column}\" is of type {} but default expression is of type {from}",
            format_type(ty)
        ),
    )
    .with_hint("You will need to rewrite or cast the expression.")
}

/// Replaces a column's name in a stored expression.
pub(crate) fn rename_in_text(text: &str, old: &str, new: &str) -> Result<String, SqlError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text)
        .tokenize()
        .map_err(|e| SqlError::internal(e.message))?;
    let quoted = crate::session::variables::quote_name(new);
    let mut out = String::with_capacity(text.len() + new.len());
    for (i, token) in tokens.iter().enumerate() {
        let call = tokens
            .iter()
            .skip(i + 1)
            .find(|t| !matches!(t, Token::Whitespace(_)))
            .is_some_and(|t| matches!(t, Token::LParen | Token::Period));
        match token {
            Token::Word(w) if w.value == old && !call => out.push_str(&quoted),
            token => out.push_str(&token.to_string()),
        }
    }
    Ok(out)
}

/// The relations that a query text names after FROM, JOIN and the like. May name too many (a
/// column of the same name), never too few.
pub(crate) fn relations_named(
    text: &str,
    catalog: &CatalogSnapshot,
    search_path: &[String],
) -> Result<Vec<Oid>, SqlError> {
    let tokens: Vec<Token> = Tokenizer::new(&PostgreSqlDialect {}, text)
        .tokenize()
        .map_err(|e| SqlError::internal(e.message))?
        .into_iter()
        .filter(|t| !matches!(t, Token::Whitespace(_)))
        .collect();
    let word = |i: usize| match tokens.get(i) {
        Some(Token::Word(w)) if w.quote_style.is_none() => Some(w.value.to_lowercase()),
        Some(Token::Word(w)) => Some(w.value.clone()),
        _ => None,
    };
    let mut found = Vec::new();
    for i in 0..tokens.len() {
        let Some(name) = word(i) else { continue };
        let before = i.checked_sub(1);
        let starts = before.is_none_or(|b| match tokens.get(b) {
            Some(Token::Comma | Token::LParen) => true,
            Some(Token::Word(w)) => {
                matches!(
                    w.value.to_lowercase().as_str(),
                    "from" | "join" | "only" | "lateral" | "table"
                )
            }
            _ => false,
        });
        let relation = if starts && tokens.get(i + 1) == Some(&Token::Period) {
            word(i + 2).and_then(|r| names::find(catalog, search_path, Some(&name), &r))
        } else if starts {
            names::find(catalog, search_path, None, &name)
        } else {
            None
        };
        if let Some(relation) = relation
            && !found.contains(&relation.oid())
        {
            found.push(relation.oid());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_stored_text_follow_a_rename() {
        assert_eq!(
            rename_in_text("a > 0 AND lower(a) <> 'a'", "a", "B c").unwrap(),
            "\"B c\" > 0 AND lower(\"B c\") <> 'a'"
        );
        assert_eq!(rename_in_text("a(1) + x", "a", "b").unwrap(), "a(1) + x");
    }
}

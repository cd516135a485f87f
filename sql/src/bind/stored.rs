//! Expressions that the catalog stores as text: defaults, checks, generated columns. They are
//! stored in canonical form and bound again where they are used.

use sqlparser::ast::Expr as Ast;

use super::context::{BindContext, Binder};
use super::deparse::deparse;
use super::tree::{Column, Expr};
use crate::error::{SqlError, SqlState};
use crate::types::{Oid, PgType};

/// Binds a stored expression (a check, a generated column) against the columns of its table, which
/// the caller numbers.
pub fn expression_text(
    cx: &BindContext<'_>,
    sql: &str,
    columns: &[Column],
) -> Result<Expr, SqlError> {
    let ast = crate::parse::expression(sql)?;
    let bound = Binder::new(cx).over_columns(&ast, "", columns, "stored expressions");
    bound.map_err(without_position)
}

/// Binds a stored default, cast to its column's type.
pub fn default_value(cx: &BindContext<'_>, sql: &str, ty: PgType) -> Result<Expr, SqlError> {
    let ast = crate::parse::expression(sql)?;
    let bound = Binder::new(cx).standalone(&ast, Some(ty), "DEFAULT expressions");
    bound.map_err(without_position)
}

fn without_position(mut e: SqlError) -> SqlError {
    e.0.position = None;
    e
}

/// What kind of stored expression it is, for what it may contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoredKind {
    /// DEFAULT, for a column of this type.
    Default(PgType),
    /// CHECK.
    Check,
    /// GENERATED ALWAYS AS, for a column of this type.
    Generated(PgType),
}

/// Checks an expression that is to be stored and gives it bound and in canonical text.
pub fn canonical(
    cx: &BindContext<'_>,
    e: &Ast,
    kind: StoredKind,
    table: &str,
    columns: &[Column],
) -> Result<(Expr, String), SqlError> {
    let mut binder = Binder::new(cx).without_folding();
    let (bound, what) = match kind {
        StoredKind::Default(ty) => {
            let what = "DEFAULT expressions";
            let bound = binder.standalone(e, Some(ty), what).map_err(|error| {
                // A column is there, but may not be used.
                let column = error.state == SqlState::UNDEFINED_COLUMN
                    && Binder::new(cx)
                        .over_columns(e, table, columns, what)
                        .is_ok();
                if column {
                    SqlError::new(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "cannot use column reference in DEFAULT expression",
                    )
                    .at(super::position_of(e))
                } else {
                    error
                }
            })?;
            (bound, "DEFAULT expression")
        }
        StoredKind::Check => {
            let bound = binder.over_columns(e, table, columns, "check constraints")?;
            let bound = binder.to_bool(bound, "CHECK", super::position_of(e))?;
            (bound, "check constraint")
        }
        StoredKind::Generated(ty) => {
            let bound = binder.over_columns(e, table, columns, "column generation expressions")?;
            if !immutable(&bound) {
                return Err(SqlError::new(
                    SqlState::INVALID_OBJECT_DEFINITION,
                    "generation expression is not immutable",
                ));
            }
            let bound = binder.coerce_assign(bound, ty, super::position_of(e), None)?;
            (bound, "column generation expression")
        }
    };
    if bound.has_subquery() {
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("cannot use subquery in {what}"),
        ));
    }
    let name = |id| {
        columns
            .iter()
            .find(|c| c.id == id)
            .map_or_else(|| "?".to_owned(), |c| super::deparse::identifier(&c.name))
    };
    let text = deparse(&bound, &name, cx.eval)?;
    Ok((bound, text))
}

fn immutable(e: &Expr) -> bool {
    use crate::types::registry::Volatility;
    let own = match e {
        Expr::Call { function, .. } => function.volatility == Volatility::Immutable,
        Expr::Cast {
            kind: super::tree::CastKind::Function(f),
            ..
        } => f.volatility == Volatility::Immutable,
        _ => true,
    };
    let mut all = own;
    e.for_each_child(&mut |c| all &= immutable(c));
    all
}

/// Whether a type may be the type of a stored column.
pub fn storable(ty: PgType) -> Result<(), SqlError> {
    let pseudo = crate::types::registry::registry()
        .type_info(ty.oid)
        .is_none_or(|t| t.kind == 'p');
    if pseudo || ty.oid == Oid::UNKNOWN {
        return Err(SqlError::new(
            SqlState::INVALID_TABLE_DEFINITION,
            format!("column has pseudo-type {}", crate::types::format_type(ty)),
        ));
    }
    Ok(())
}

/// Checks the query of a view and gives it bound and as text that means the same on every search
/// path and after columns were added: tables with their schemas, stars spelled out.
pub fn view_text(
    cx: &BindContext<'_>,
    sql: &str,
) -> Result<(super::tree::BoundQuery, String), SqlError> {
    let query = crate::parse::query_text(sql)?;
    let mut binder = Binder::new(cx);
    binder.notes = Some(Vec::new());
    let bound = binder.query(&query)?;
    let mut notes = binder.notes.take().unwrap_or_default();
    notes.sort_by_key(|n| std::cmp::Reverse(n.0));
    notes.dedup();
    let mut chars: Vec<char> = sql.chars().collect();
    for (start, end, text) in notes {
        if start == 0 || end <= start || end - 1 > chars.len() {
            continue;
        }
        chars.splice(start - 1..end - 1, text.chars());
    }
    Ok((bound, chars.into_iter().collect()))
}

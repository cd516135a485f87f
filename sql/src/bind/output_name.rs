//! Names of output columns that have no alias, as PostgreSQL's FigureColname gives them.

use sqlparser::ast::{AccessExpr, DataType, Expr, Query, SelectItem, SetExpr, UnaryOperator};

/// The name.
pub(crate) fn of(e: &Expr) -> String {
    figure(e).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
}

/// The name and how good it is (2: of its own; 1: of a type).
fn figure(e: &Expr) -> Option<(String, u8)> {
    let own = |s: &str| Some((s.to_owned(), 2));
    match e {
        Expr::Identifier(i) => own(&i.value),
        Expr::CompoundIdentifier(parts) => parts.last().and_then(|i| own(&i.value)),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|a| match a {
                AccessExpr::Dot(Expr::Identifier(i)) => Some(i.value.clone()),
                _ => None,
            });
            match field {
                Some(name) => Some((name, 2)),
                None => figure(root),
            }
        }
        Expr::Function(f) => match f.name.0.last().and_then(|p| p.as_ident()) {
            Some(i) => own(match i.value.as_str() {
                "current_role" => "current_role",
                other => other,
            }),
            None => None,
        },
        Expr::Cast {
            expr, data_type, ..
        } => match figure(expr) {
            Some((name, 2)) => Some((name, 2)),
            _ => type_label(data_type).map(|n| (n, 1)),
        },
        Expr::TypedString(t) => type_label(&t.data_type).map(|n| (n, 1)),
        Expr::Value(v) => match v.value {
            sqlparser::ast::Value::Boolean(_) => Some(("bool".to_owned(), 1)),
            _ => None,
        },
        Expr::Collate { expr, .. } | Expr::Nested(expr) => figure(expr),
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(figure) {
            Some((name, 2)) => Some((name, 2)),
            _ => Some(("case".to_owned(), 1)),
        },
        Expr::Array(_) => own("array"),
        Expr::Tuple(_) | Expr::Struct { .. } => own("row"),
        Expr::Exists { .. } => own("exists"),
        Expr::Subquery(q) => subquery(q),
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            ..
        } => None,
        _ => None,
    }
}

fn subquery(q: &Query) -> Option<(String, u8)> {
    fn first(body: &SetExpr) -> Option<(String, u8)> {
        match body {
            SetExpr::Select(s) => match s.projection.first()? {
                SelectItem::ExprWithAlias { alias, .. } => Some((alias.value.clone(), 2)),
                SelectItem::UnnamedExpr(e) => figure(e),
                _ => None,
            },
            SetExpr::Query(q) => first(&q.body),
            SetExpr::SetOperation { left, .. } => first(left),
            SetExpr::Values(_) => Some(("column1".to_owned(), 2)),
            _ => None,
        }
    }
    first(&q.body)
}

fn type_label(ty: &DataType) -> Option<String> {
    match ty {
        DataType::Custom(name, _) => name
            .0
            .last()
            .and_then(|p| p.as_ident())
            .map(|i| i.value.clone()),
        DataType::Array(sqlparser::ast::ArrayElemTypeDef::SquareBracket(element, _)) => {
            type_label(element)
        }
        _ => None,
    }
}

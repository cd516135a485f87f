//! Where an expression starts in the statement, for errors.

use sqlparser::ast::{AccessExpr, Expr, ObjectNamePart, Spanned};

/// The position, from 1; 0 if unknown.
pub(crate) fn of(e: &Expr) -> usize {
    crate::parse::depth::with_stack(|| match e {
        Expr::Identifier(i) => i.span.start.line as usize,
        Expr::CompoundIdentifier(parts) => parts.first().map_or(0, |i| i.span.start.line as usize),
        Expr::Value(v) => v.span.start.line as usize,
        Expr::TypedString(t) => t.value.span.start.line as usize,
        Expr::Prefixed { prefix, .. } => prefix.span.start.line as usize,
        Expr::Function(f) => f
            .name
            .0
            .iter()
            .map(|p| match p {
                ObjectNamePart::Identifier(i) => i.span.start.line as usize,
                ObjectNamePart::Function(_) => 0,
            })
            .next()
            .unwrap_or(0),
        Expr::BinaryOp { left, .. } => of(left),
        Expr::Nested(e) | Expr::Cast { expr: e, .. } | Expr::Collate { expr: e, .. } => of(e),
        Expr::UnaryOp { expr, .. } => of(expr),
        Expr::IsNull(e) | Expr::IsNotNull(e) => of(e),
        Expr::Between { expr, .. } | Expr::InList { expr, .. } | Expr::InSubquery { expr, .. } => {
            of(expr)
        }
        Expr::CompoundFieldAccess { root, access_chain } => match of(root) {
            0 => access_chain
                .iter()
                .map(|a| match a {
                    AccessExpr::Dot(e) => of(e),
                    AccessExpr::Subscript(_) => 0,
                })
                .next()
                .unwrap_or(0),
            p => p,
        },
        Expr::Tuple(items) => items.first().map_or(0, of),
        Expr::Case { case_token, .. } => case_token.0.span.start.line as usize,
        other => other.span().start.line as usize,
    })
}

/// Position of a binary operator, from its encoding.
pub(crate) fn of_operator(parts: &[String]) -> (String, usize) {
    let name = parts.first().cloned().unwrap_or_default();
    let position = parts.get(1).and_then(|p| p.parse().ok()).unwrap_or(0);
    (name, position)
}

//! Which expressions mean the same on every node.

use crate::bind::tree::{CastKind, Expr};
use crate::bind::walk::children_mut;
use crate::types::Datum;
use crate::types::registry::{Function, FunctionBody, Volatility};

/// Expressions nested deeper stay here: they are read by recursion elsewhere.
const DEPTH_MAX: usize = 64;

/// Puts the values of parameters into expressions. False when one of them must be evaluated here:
/// it has a subquery, or depends on the session.
pub(super) fn make_portable<'a>(
    exprs: impl IntoIterator<Item = &'a mut Expr>,
    params: &[Datum],
) -> bool {
    exprs.into_iter().all(|expr| visit(expr, params, 0))
}

fn visit(expr: &mut Expr, params: &[Datum], depth: usize) -> bool {
    let own = depth < DEPTH_MAX
        && match expr {
            Expr::Param(n, ty) => match params.get(*n) {
                Some(value) => {
                    *expr = Expr::Const(value.clone(), *ty);
                    true
                }
                None => false,
            },
            Expr::Call { function, .. } | Expr::ArrayCompare { function, .. } => is_fixed(function),
            Expr::IsDistinct { equals, .. } => is_fixed(equals),
            Expr::Extreme { less, .. } => is_fixed(less),
            Expr::Cast { kind, .. } => is_fixed_cast(kind),
            Expr::Row(_) | Expr::Field { .. } | Expr::Subquery(_) => false,
            Expr::Const(..)
            | Expr::Column(..)
            | Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::IsNull { .. }
            | Expr::IsBool { .. }
            | Expr::Case { .. }
            | Expr::Coalesce(..)
            | Expr::Array { .. }
            | Expr::Subscript { .. } => true,
        };
    let mut all = own;
    children_mut(expr, &mut |child| {
        all = all && visit(child, params, depth + 1)
    });
    all
}

fn is_fixed(function: &Function) -> bool {
    function.volatility == Volatility::Immutable
        && matches!(function.body, FunctionBody::Scalar { .. })
}

/// Casts by text depend on settings of the session.
fn is_fixed_cast(kind: &CastKind) -> bool {
    match kind {
        CastKind::Function(function) => is_fixed(function),
        CastKind::Binary | CastKind::Typmod => true,
        CastKind::InOut => false,
        CastKind::Array(element) => is_fixed_cast(element),
    }
}

//! What a bound statement says before any row is seen: constants that decide a part of an
//! expression, by the rules of PostgreSQL's eval_const_expressions.
//!
//! A strict function of a constant NULL is NULL, whatever its other arguments are: they are not
//! computed, so they cannot fail either. AND, OR, CASE and COALESCE lose what constants decide.
//! Calls whose arguments are all constant are computed where they are bound already. This runs on
//! the whole statement, after everything in it was checked: what folding takes away must still
//! have been right (a column outside GROUP BY is an error though its value would not matter).

use super::tree::{BoundStatement, ColId, Expr, Rel, Returning};
use super::walk::{children_mut, parts_mut};
use crate::parse::depth::with_stack;
use crate::types::registry::FunctionBody;
use crate::types::{Datum, Oid, PgType};

/// Folds a statement.
pub(crate) fn statement(bound: &mut BoundStatement) {
    match bound {
        BoundStatement::Query(q) => rel(&mut q.rel),
        BoundStatement::Insert(i) => {
            rel(&mut i.source);
            if let Some(update) = i.on_conflict.as_mut().and_then(|c| c.update.as_mut()) {
                update.set.iter_mut().for_each(|(_, e)| expr(e));
                update.filter.iter_mut().for_each(expr);
            }
            returning(i.returning.as_mut());
        }
        BoundStatement::Update(u) => {
            rel(&mut u.source);
            returning(u.returning.as_mut());
        }
        BoundStatement::Delete(d) => {
            rel(&mut d.source);
            returning(d.returning.as_mut());
        }
    }
}

fn returning(returning: Option<&mut Returning>) {
    if let Some(returning) = returning {
        returning.exprs.iter_mut().for_each(expr);
    }
}

/// Folds all expressions of a tree.
pub(crate) fn rel(tree: &mut Rel) {
    with_stack(|| {
        let sets = sets_used(tree);
        parts_mut(tree, &mut expr, &mut rel);
        drop_sets(tree, &sets);
        if let Rel::Filter { input, predicate } = tree
            && known(predicate) == Some(Some(true))
        {
            *tree = std::mem::replace(&mut **input, Rel::Unit);
        }
    });
}

/// The columns of set-returning functions that a select list uses.
fn sets_used(tree: &Rel) -> Vec<ColId> {
    let Rel::Project { input, exprs } = tree else {
        return Vec::new();
    };
    let Rel::ProjectSet { sets, .. } = &**input else {
        return Vec::new();
    };
    let used = |id: &ColId| exprs.iter().any(|(e, _)| e.columns().contains(id));
    sets.iter().map(|(_, _, c)| c.id).filter(used).collect()
}

/// A set-returning function within what was folded away makes no rows any more.
fn drop_sets(tree: &mut Rel, before: &[ColId]) {
    if before.is_empty() {
        return;
    }
    let after = sets_used(tree);
    let Rel::Project { input, .. } = tree else {
        return;
    };
    let Rel::ProjectSet { input: below, sets } = &mut **input else {
        return;
    };
    sets.retain(|(_, _, c)| after.contains(&c.id) || !before.contains(&c.id));
    if sets.is_empty() {
        **input = std::mem::replace(&mut **below, Rel::Unit);
    }
}

fn expr(e: &mut Expr) {
    with_stack(|| {
        children_mut(e, &mut expr);
        if let Expr::Subquery(s) = e {
            rel(&mut s.rel);
        }
        if let Some(folded) = decided(e) {
            *e = folded;
        }
    });
}

fn boolean(value: Option<bool>) -> Expr {
    Expr::Const(
        value.map_or(Datum::Null, Datum::Bool),
        PgType::new(Oid::BOOL),
    )
}

fn is_null(e: &Expr) -> bool {
    matches!(e, Expr::Const(Datum::Null, _))
}

/// The value of a constant boolean.
fn known(e: &Expr) -> Option<Option<bool>> {
    match e {
        Expr::Const(Datum::Bool(b), _) => Some(Some(*b)),
        Expr::Const(Datum::Null, _) => Some(None),
        _ => None,
    }
}

/// What an expression is whose operands are folded, `None` if it stays as it is.
fn decided(e: &mut Expr) -> Option<Expr> {
    match e {
        Expr::Call {
            function, args, ty, ..
        } => {
            let scalar = matches!(function.body, FunctionBody::Scalar { .. });
            (scalar && function.strict && args.iter().any(is_null))
                .then(|| Expr::Const(Datum::Null, *ty))
        }
        Expr::Cast { arg, ty, .. } if is_null(arg) => Some(Expr::Const(Datum::Null, *ty)),
        Expr::And(items) => junction(items, false),
        Expr::Or(items) => junction(items, true),
        Expr::Not(arg) => known(arg).map(|value| boolean(value.map(|b| !b))),
        Expr::IsNull { arg, negated } => match &**arg {
            Expr::Const(Datum::Null, _) => Some(boolean(Some(!*negated))),
            // A row that is not NULL may consist of NULLs.
            Expr::Const(_, ty) if ty.oid != Oid::RECORD => Some(boolean(Some(*negated))),
            _ => None,
        },
        Expr::IsBool {
            arg,
            value,
            negated,
        } => known(arg).map(|found| boolean(Some((found == *value) != *negated))),
        Expr::Case {
            whens,
            otherwise,
            ty,
        } => case(whens, otherwise, *ty),
        Expr::Coalesce(items, ty) => coalesce(items, *ty),
        _ => None,
    }
}

/// AND, which a false item decides, or OR, which a true one does.
fn junction(items: &mut Vec<Expr>, decides: bool) -> Option<Expr> {
    if items.iter().any(|i| known(i) == Some(Some(decides))) {
        return Some(boolean(Some(decides)));
    }
    let mut null = false;
    items.retain(|i| match known(i) {
        Some(Some(_)) => false,
        // One NULL says as much as several.
        Some(None) => !std::mem::replace(&mut null, true),
        None => true,
    });
    match items.len() {
        0 => Some(boolean(Some(!decides))),
        1 => items.pop(),
        _ => None,
    }
}

/// CASE without the branches that are never taken.
fn case(
    whens: &mut Vec<(Expr, Expr)>,
    otherwise: &mut Option<Box<Expr>>,
    ty: PgType,
) -> Option<Expr> {
    whens.retain(|(condition, _)| !matches!(known(condition), Some(None | Some(false))));
    let always = whens
        .iter()
        .position(|(condition, _)| known(condition) == Some(Some(true)));
    if let Some(at) = always {
        let taken = whens.drain(at..).next();
        *otherwise = taken.map(|(_, result)| Box::new(result));
    }
    if !whens.is_empty() {
        return None;
    }
    Some(match otherwise.take() {
        Some(e) => *e,
        None => Expr::Const(Datum::Null, ty),
    })
}

/// COALESCE up to the first constant that is not NULL.
fn coalesce(items: &mut Vec<Expr>, ty: PgType) -> Option<Expr> {
    items.retain(|i| !is_null(i));
    if let Some(last) = items.iter().position(|i| matches!(i, Expr::Const(..))) {
        items.truncate(last + 1);
    }
    match items.len() {
        0 => Some(Expr::Const(Datum::Null, ty)),
        1 => items.pop(),
        _ => None,
    }
}

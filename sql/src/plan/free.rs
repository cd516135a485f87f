//! Which columns an expression or a relation takes from outside, and whether an expression may be
//! moved.

use std::collections::BTreeSet;

use crate::bind::tree::{ColId, Expr, Rel, Subquery};
use crate::bind::walk::{children_mut, parts};
use crate::types::registry::Volatility;

/// Columns that are used and columns that are produced below some point.
#[derive(Default)]
pub struct Usage {
    /// Named by expressions.
    pub used: BTreeSet<ColId>,
    /// Produced by operators.
    pub produced: BTreeSet<ColId>,
}

impl Usage {
    /// Adds what an expression uses, its subqueries included.
    pub fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Column(id, _) => {
                self.used.insert(*id);
            }
            Expr::Subquery(query) => self.rel(&query.rel),
            _ => {}
        }
        expr.for_each_child(&mut |c| self.expr(c));
    }

    /// Adds what a relation uses and produces.
    pub fn rel(&mut self, rel: &Rel) {
        rel.for_each_made(&mut |c| {
            self.produced.insert(c.id);
        });
        parts(rel, &mut |e| self.expr(e), &mut |_| {});
        parts(rel, &mut |_| {}, &mut |input| self.rel(input));
    }
}

/// The columns that an expression takes from its row or from further outside.
pub fn of_expr(expr: &Expr) -> BTreeSet<ColId> {
    let mut usage = Usage::default();
    usage.expr(expr);
    &usage.used - &usage.produced
}

/// The columns that a subquery takes from outside (not those of its left operands).
pub fn of_subquery(query: &Subquery) -> BTreeSet<ColId> {
    let mut usage = Usage::default();
    usage.rel(&query.rel);
    &usage.used - &usage.produced
}

/// The columns that a relation takes from outside.
pub fn of_rel(rel: &Rel) -> BTreeSet<ColId> {
    let mut usage = Usage::default();
    usage.rel(rel);
    &usage.used - &usage.produced
}

/// Whether evaluating it more or less often, or elsewhere, could be noticed.
pub fn is_volatile(expr: &Expr) -> bool {
    if let Expr::Call { function, .. } = expr
        && function.volatility == Volatility::Volatile
    {
        return true;
    }
    let mut found = false;
    expr.for_each_child(&mut |c| found |= is_volatile(c));
    found
}

/// The subqueries of an expression, not those within them.
pub fn subqueries<'a>(expr: &'a Expr, out: &mut Vec<&'a Subquery>) {
    if let Expr::Subquery(query) = expr {
        out.push(query);
    }
    expr.for_each_child(&mut |c| subqueries(c, out));
}

/// Splits into conjuncts.
pub fn conjuncts(expr: &Expr, out: &mut Vec<Expr>) {
    match expr {
        Expr::And(items) => items.iter().for_each(|i| conjuncts(i, out)),
        other => out.push(other.clone()),
    }
}

/// Replaces columns by expressions; `None` if it has a subquery that names one of them.
pub fn substitute(expr: &Expr, by: &dyn Fn(ColId) -> Option<Expr>) -> Option<Expr> {
    let mut failed = false;
    let mut out = expr.clone();
    rewrite(&mut out, &mut |e| match e {
        Expr::Column(id, _) => {
            if let Some(new) = by(*id) {
                *e = new;
            }
        }
        Expr::Subquery(query) if of_subquery(query).into_iter().any(|id| by(id).is_some()) => {
            failed = true;
        }
        _ => {}
    });
    (!failed).then_some(out)
}

/// Calls `f` on every node, operands first.
pub fn rewrite(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
    children_mut(expr, &mut |e| rewrite(e, f));
    f(expr);
}

//! Which columns an expression or a relation takes from outside, and whether an expression may be
//! moved.

use std::collections::BTreeSet;

use crate::bind::tree::{ColId, Expr, FrameBound, Rel, SortKey, Subquery};
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

    fn exprs<'a>(&mut self, exprs: impl IntoIterator<Item = &'a Expr>) {
        exprs.into_iter().for_each(|e| self.expr(e));
    }

    fn keys(&mut self, keys: &[SortKey]) {
        self.exprs(keys.iter().map(|k| &k.expr));
    }

    /// Adds what a relation uses and produces.
    pub fn rel(&mut self, rel: &Rel) {
        match rel {
            Rel::Unit => {}
            Rel::Scan { columns, .. } | Rel::Virtual { columns, .. } => {
                self.produced.extend(columns.iter().map(|(_, c)| c.id));
            }
            Rel::Values { rows, columns } => {
                rows.iter().for_each(|r| self.exprs(r));
                self.produced.extend(columns.iter().map(|c| c.id));
            }
            Rel::FunctionScan {
                args,
                columns,
                ordinality,
                ..
            } => {
                self.exprs(args);
                self.produced
                    .extend(columns.iter().chain(ordinality).map(|c| c.id));
            }
            Rel::Project { input, exprs } => {
                self.rel(input);
                self.exprs(exprs.iter().map(|(e, _)| e));
                self.produced.extend(exprs.iter().map(|(_, c)| c.id));
            }
            Rel::ProjectSet { input, sets } => {
                self.rel(input);
                for (_, args, column) in sets {
                    self.exprs(args);
                    self.produced.insert(column.id);
                }
            }
            Rel::Filter { input, predicate } => {
                self.rel(input);
                self.expr(predicate);
            }
            Rel::Join {
                left, right, on, ..
            } => {
                self.rel(left);
                self.rel(right);
                self.exprs(on);
            }
            Rel::Aggregate {
                input,
                keys,
                grouping,
                calls,
                ..
            } => {
                self.rel(input);
                self.exprs(keys.iter().map(|(e, _)| e));
                self.produced.extend(keys.iter().map(|(_, c)| c.id));
                self.produced.extend(grouping.iter().map(|(_, c)| c.id));
                for (call, column) in calls {
                    self.exprs(&call.args);
                    self.keys(&call.order);
                    self.exprs(&call.filter);
                    self.produced.insert(column.id);
                }
            }
            Rel::Window { input, calls } => {
                self.rel(input);
                for (call, column) in calls {
                    self.exprs(&call.args);
                    self.exprs(&call.filter);
                    self.exprs(&call.partition);
                    self.keys(&call.order);
                    if let Some((_, a, b)) = &call.frame {
                        for bound in [a, b] {
                            if let FrameBound::Preceding(e) | FrameBound::Following(e) = bound {
                                self.expr(e);
                            }
                        }
                    }
                    self.produced.insert(column.id);
                }
            }
            Rel::Distinct { input, on } => {
                self.rel(input);
                self.exprs(on);
            }
            Rel::Sort { input, keys } => {
                self.rel(input);
                self.keys(keys);
            }
            Rel::Limit {
                input,
                limit,
                offset,
                with_ties,
            } => {
                self.rel(input);
                self.exprs(limit);
                self.exprs(offset);
                with_ties.iter().for_each(|k| self.keys(k));
            }
            Rel::SetOp {
                left,
                right,
                columns,
                ..
            } => {
                self.rel(left);
                self.rel(right);
                self.produced.extend(columns.iter().map(|c| c.id));
            }
            Rel::With {
                query,
                recursive,
                columns,
                body,
                ..
            } => {
                self.rel(query);
                if let Some((r, _)) = recursive {
                    self.rel(r);
                }
                self.rel(body);
                self.produced.extend(columns.iter().map(|c| c.id));
            }
            Rel::CteRef { columns, .. } => {
                self.produced.extend(columns.iter().map(|c| c.id));
            }
        }
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
    match expr {
        Expr::Const(..) | Expr::Param(..) | Expr::Column(..) => {}
        Expr::Call { args, .. }
        | Expr::And(args)
        | Expr::Or(args)
        | Expr::Coalesce(args, _)
        | Expr::Extreme { args, .. }
        | Expr::Row(args) => args.iter_mut().for_each(|a| rewrite(a, f)),
        Expr::Array { items, .. } => items.iter_mut().for_each(|a| rewrite(a, f)),
        Expr::Cast { arg, .. }
        | Expr::Not(arg)
        | Expr::IsNull { arg, .. }
        | Expr::IsBool { arg, .. } => rewrite(arg, f),
        Expr::IsDistinct { left, right, .. } => {
            rewrite(left, f);
            rewrite(right, f);
        }
        Expr::Case {
            whens, otherwise, ..
        } => {
            for (c, r) in whens {
                rewrite(c, f);
                rewrite(r, f);
            }
            if let Some(o) = otherwise {
                rewrite(o, f);
            }
        }
        Expr::ArrayCompare { left, array, .. } => {
            rewrite(left, f);
            rewrite(array, f);
        }
        Expr::Subscript { array, bounds, .. } => {
            rewrite(array, f);
            for (a, b) in bounds {
                a.iter_mut().chain(b).for_each(|e| rewrite(e, f));
            }
        }
        Expr::Field { record, .. } => rewrite(record, f),
        Expr::Subquery(query) => {
            if let crate::bind::tree::SubqueryKind::Compare { left, .. } = &mut query.kind {
                left.iter_mut().for_each(|e| rewrite(e, f));
            }
        }
    }
    f(expr);
}

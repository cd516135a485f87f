//! Drops columns that nobody reads, from the top down, so that scans decode only what is used.

use std::collections::BTreeSet;

use crate::bind::tree::{ColId, Expr, FrameBound, SortKey};

use super::free;
use super::node::{Access, KeyTerm, Op, Plan};

type Needed = BTreeSet<ColId>;

fn add<'a>(needed: &mut Needed, exprs: impl IntoIterator<Item = &'a Expr>) {
    for expr in exprs {
        needed.append(&mut free::of_expr(expr));
    }
}

fn add_keys(needed: &mut Needed, keys: &[SortKey]) {
    add(needed, keys.iter().map(|k| &k.expr));
}

/// The expressions of a key access.
pub fn access_exprs(access: &Access) -> Vec<&Expr> {
    let Access::Key(key) = access else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for term in &key.equal {
        match term {
            KeyTerm::Equal(e) | KeyTerm::AnyElement(e) => out.push(e),
            KeyTerm::AnyOf(items) => out.extend(items),
            KeyTerm::IsNull => {}
        }
    }
    if let Some(range) = &key.range {
        out.extend(range.low.iter().chain(&range.high).map(|(e, _)| e));
    }
    out
}

/// The columns that a plan takes from rows outside of it: everything it names and does not
/// produce.
fn outer_of(plan: &Plan, used: &mut Needed, produced: &mut Needed) {
    produced.extend(plan.columns.iter().map(|c| c.id));
    for_each_expr(plan, &mut |e| used.append(&mut free::of_expr(e)));
    for child in children(plan) {
        outer_of(child, used, produced);
    }
}

/// The inputs of an operator, once to be read and once to be changed.
macro_rules! inputs {
    ($children:ident, $iter:ident, $as:ident, $($mutable:tt)?) => {
        /// The inputs of an operator.
        pub fn $children(plan: &$($mutable)? Plan) -> Vec<&$($mutable)? Plan> {
            match &$($mutable)? plan.op {
                Op::Unit
                | Op::Empty
                | Op::Scan(_)
                | Op::Virtual { .. }
                | Op::Values(_)
                | Op::Function { .. }
                | Op::CteRef { .. }
                | Op::Inlet(_) => Vec::new(),
                Op::Project { input, .. }
                | Op::ProjectSet { input, .. }
                | Op::Filter { input, .. }
                | Op::Aggregate { input, .. }
                | Op::Window { input, .. }
                | Op::Distinct { input, .. }
                | Op::Sort { input, .. }
                | Op::Limit { input, .. } => vec![input],
                Op::Join { left, right, .. } | Op::SetOp { left, right, .. } => vec![left, right],
                Op::With {
                    query,
                    recursive,
                    body,
                    ..
                } => {
                    let mut out: Vec<&$($mutable)? Plan> = vec![query];
                    out.extend(recursive.$iter().map(|(r, _)| r.$as()));
                    out.push(body);
                    out
                }
            }
        }
    };
}

inputs!(children, iter, as_ref,);
inputs!(children_mut, iter_mut, as_mut, mut);

/// Calls `f` for each expression of the operator itself.
pub fn for_each_expr<'a>(plan: &'a Plan, f: &mut dyn FnMut(&'a Expr)) {
    match &plan.op {
        Op::Unit | Op::Empty | Op::Virtual { .. } | Op::SetOp { .. } | Op::With { .. } => {}
        Op::CteRef { .. } | Op::Inlet(_) => {}
        Op::Scan(scan) => {
            scan.filter.iter().for_each(&mut *f);
            access_exprs(&scan.access).into_iter().for_each(f);
        }
        Op::Values(rows) => rows.iter().flatten().for_each(f),
        Op::Function { args, .. } => args.iter().for_each(f),
        Op::Project { exprs, .. } => exprs.iter().for_each(f),
        Op::ProjectSet { sets, .. } => sets.iter().flat_map(|(_, a)| a).for_each(f),
        Op::Filter { conditions, .. } => conditions.iter().for_each(f),
        Op::Join { keys, residual, .. } => {
            for key in keys {
                f(&key.left);
                f(&key.right);
            }
            residual.iter().for_each(f);
        }
        Op::Aggregate { keys, calls, .. } => {
            keys.iter().for_each(&mut *f);
            for call in calls {
                call.args.iter().for_each(&mut *f);
                call.order.iter().for_each(|k| f(&k.expr));
                call.filter.iter().for_each(&mut *f);
            }
        }
        Op::Window { calls, .. } => {
            for call in calls {
                call.args.iter().for_each(&mut *f);
                call.filter.iter().for_each(&mut *f);
                call.partition.iter().for_each(&mut *f);
                call.order.iter().for_each(|k| f(&k.expr));
                if let Some((_, a, b)) = &call.frame {
                    for bound in [a, b] {
                        if let FrameBound::Preceding(e) | FrameBound::Following(e) = bound {
                            f(e);
                        }
                    }
                }
            }
        }
        Op::Distinct { on, .. } => on.iter().for_each(f),
        Op::Sort { keys, .. } => keys.iter().for_each(|k| f(&k.expr)),
        Op::Limit {
            limit,
            offset,
            with_ties,
            ..
        } => {
            limit.iter().chain(offset).for_each(&mut *f);
            with_ties.iter().flatten().for_each(|k| f(&k.expr));
        }
    }
}

/// Keeps of `plan`'s columns at least those in `needed`.
pub fn prune(plan: &mut Plan, needed: &Needed) {
    let mut below = needed.clone();
    for_each_expr(plan, &mut |e| below.append(&mut free::of_expr(e)));
    let Plan { op, columns, .. } = plan;
    match op {
        Op::Unit | Op::Empty | Op::Values(_) | Op::Function { .. } | Op::Inlet(_) => {}
        Op::Virtual { positions, .. } | Op::CteRef { positions, .. } => {
            keep(columns, positions, needed);
        }
        Op::Scan(scan) => keep(columns, &mut scan.positions, &below),
        Op::Project { input, exprs } => {
            let mut kept: Vec<bool> = columns.iter().map(|c| needed.contains(&c.id)).collect();
            // A volatile expression is evaluated although nobody looks.
            for (keep, expr) in kept.iter_mut().zip(exprs.iter()) {
                *keep |= free::is_volatile(expr);
            }
            let mut flags = kept.iter();
            columns.retain(|_| flags.next().copied().unwrap_or(true));
            let mut flags = kept.iter();
            exprs.retain(|_| flags.next().copied().unwrap_or(true));
            let mut used = Needed::new();
            add(&mut used, exprs.iter());
            prune(input, &used);
        }
        Op::ProjectSet { input, .. } | Op::Window { input, .. } => {
            let own = columns.split_off(input.columns.len());
            prune(input, &below);
            columns.clone_from(&input.columns);
            columns.extend(own);
        }
        Op::Filter { input, .. } | Op::Sort { input, .. } | Op::Limit { input, .. } => {
            prune(input, &below);
            columns.clone_from(&input.columns);
        }
        Op::Distinct { input, on } => {
            if on.is_empty() {
                below.extend(input.columns.iter().map(|c| c.id));
            }
            prune(input, &below);
            columns.clone_from(&input.columns);
        }
        Op::Join {
            left,
            right,
            lateral,
            kind,
            ..
        } => {
            if *lateral {
                let (mut used, mut produced) = (Needed::new(), Needed::new());
                outer_of(right, &mut used, &mut produced);
                below.append(&mut (&used - &produced));
            }
            prune(left, &below);
            prune(right, &below);
            columns.clone_from(&left.columns);
            if !matches!(
                kind,
                super::node::JoinType::Semi | super::node::JoinType::Anti
            ) {
                columns.extend(right.columns.iter().cloned());
            }
        }
        Op::Aggregate {
            input,
            keys,
            sets: _,
            grouping,
            calls,
        } => {
            let fixed = keys.len() + grouping.len();
            let mut at = fixed;
            let own = columns.split_off(fixed.min(columns.len()));
            let mut own = own.into_iter();
            calls.retain(|_| {
                at += 1;
                match own.next() {
                    Some(column) if needed.contains(&column.id) => {
                        columns.push(column);
                        true
                    }
                    _ => false,
                }
            });
            let mut used = Needed::new();
            add(&mut used, keys.iter());
            for call in calls.iter() {
                add(&mut used, &call.args);
                add_keys(&mut used, &call.order);
                add(&mut used, &call.filter);
            }
            prune(input, &used);
        }
        Op::SetOp { left, right, .. } => {
            for side in [left, right] {
                let every = side.columns.iter().map(|c| c.id).collect();
                prune(side, &every);
            }
        }
        Op::With {
            query,
            recursive,
            body,
            ..
        } => {
            for part in std::iter::once(query).chain(recursive.iter_mut().map(|(r, _)| r)) {
                let every = part.columns.iter().map(|c| c.id).collect();
                prune(part, &every);
            }
            prune(body, needed);
            columns.clone_from(&body.columns);
        }
    }
}

fn keep(columns: &mut Vec<crate::bind::tree::Column>, positions: &mut Vec<usize>, needed: &Needed) {
    let kept: Vec<bool> = columns.iter().map(|c| needed.contains(&c.id)).collect();
    let mut flags = kept.iter();
    columns.retain(|_| flags.next().copied().unwrap_or(true));
    let mut flags = kept.iter();
    positions.retain(|_| flags.next().copied().unwrap_or(true));
}

//! Walking and comparing bound trees.

use super::tree::{ColId, Expr, FrameBound, Rel, SubqueryKind, WindowCall};
use crate::types::Datum;

/// Whether two expressions are the same, column for column.
pub(crate) fn same(a: &Expr, b: &Expr) -> bool {
    fn all(a: &[Expr], b: &[Expr]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
    }
    fn opt(a: Option<&Expr>, b: Option<&Expr>) -> bool {
        match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => same(a, b),
            _ => false,
        }
    }
    match (a, b) {
        (Expr::Const(x, t), Expr::Const(y, u)) => t == u && same_datum(x, y),
        (Expr::Param(i, t), Expr::Param(j, u)) => i == j && t == u,
        (Expr::Column(i, _), Expr::Column(j, _)) => i == j,
        (
            Expr::Call {
                function: f,
                args: x,
                ty: t,
                ..
            },
            Expr::Call {
                function: g,
                args: y,
                ty: u,
                ..
            },
        ) => std::ptr::eq(*f, *g) && t == u && all(x, y),
        (
            Expr::Cast {
                arg: x,
                ty: t,
                kind: k,
                ..
            },
            Expr::Cast {
                arg: y,
                ty: u,
                kind: l,
                ..
            },
        ) => t == u && std::mem::discriminant(k) == std::mem::discriminant(l) && same(x, y),
        (Expr::And(x), Expr::And(y))
        | (Expr::Or(x), Expr::Or(y))
        | (Expr::Row(x), Expr::Row(y)) => all(x, y),
        (Expr::Not(x), Expr::Not(y)) => same(x, y),
        (Expr::IsNull { arg: x, negated: n }, Expr::IsNull { arg: y, negated: m }) => {
            n == m && same(x, y)
        }
        (
            Expr::IsBool {
                arg: x,
                value: v,
                negated: n,
            },
            Expr::IsBool {
                arg: y,
                value: w,
                negated: m,
            },
        ) => v == w && n == m && same(x, y),
        (
            Expr::IsDistinct {
                left: a1,
                right: a2,
                negated: n,
                ..
            },
            Expr::IsDistinct {
                left: b1,
                right: b2,
                negated: m,
                ..
            },
        ) => n == m && same(a1, b1) && same(a2, b2),
        (
            Expr::Case {
                whens: x,
                otherwise: o,
                ..
            },
            Expr::Case {
                whens: y,
                otherwise: p,
                ..
            },
        ) => {
            x.len() == y.len()
                && x.iter()
                    .zip(y)
                    .all(|(a, b)| same(&a.0, &b.0) && same(&a.1, &b.1))
                && opt(o.as_deref(), p.as_deref())
        }
        (Expr::Coalesce(x, _), Expr::Coalesce(y, _)) => all(x, y),
        (
            Expr::Extreme {
                args: x,
                greatest: g,
                ..
            },
            Expr::Extreme {
                args: y,
                greatest: h,
                ..
            },
        ) => g == h && all(x, y),
        (
            Expr::ArrayCompare {
                left: a1,
                function: f,
                array: a2,
                all: n,
                ..
            },
            Expr::ArrayCompare {
                left: b1,
                function: g,
                array: b2,
                all: m,
                ..
            },
        ) => n == m && std::ptr::eq(*f, *g) && same(a1, b1) && same(a2, b2),
        (Expr::Array { items: x, ty: t }, Expr::Array { items: y, ty: u }) => t == u && all(x, y),
        (
            Expr::Subscript {
                array: x,
                bounds: b,
                slice: s,
                ..
            },
            Expr::Subscript {
                array: y,
                bounds: c,
                slice: t,
                ..
            },
        ) => {
            s == t
                && same(x, y)
                && b.len() == c.len()
                && b.iter().zip(c).all(|(p, q)| {
                    opt(p.0.as_ref(), q.0.as_ref()) && opt(p.1.as_ref(), q.1.as_ref())
                })
        }
        (
            Expr::Field {
                record: x,
                index: i,
                ..
            },
            Expr::Field {
                record: y,
                index: j,
                ..
            },
        ) => i == j && same(x, y),
        (Expr::Subquery(_), Expr::Subquery(_)) => renumbered(a) == renumbered(b),
        _ => false,
    }
}

/// A printed tree in which the columns that it makes itself are numbered from 0.
fn renumbered(e: &Expr) -> String {
    const DEFINED: &str = "Column { id: ColId(";
    const USED: &str = "ColId(";
    let text = format!("{e:?}");
    let number = |rest: &str| -> String { rest.chars().take_while(char::is_ascii_digit).collect() };
    let mut own: Vec<String> = Vec::new();
    for (at, _) in text.match_indices(DEFINED) {
        let id = number(text.get(at + DEFINED.len()..).unwrap_or(""));
        if !own.contains(&id) {
            own.push(id);
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find(USED) {
        let (before, after) = rest.split_at(at + USED.len());
        out.push_str(before);
        let id = number(after);
        match own.iter().position(|o| *o == id) {
            Some(i) => out.push_str(&format!("own {i}")),
            None => out.push_str(&id),
        }
        rest = after.get(id.len()..).unwrap_or("");
    }
    out.push_str(rest);
    out
}

fn same_datum(a: &Datum, b: &Datum) -> bool {
    match (a, b) {
        (Datum::Null, Datum::Null) => true,
        (Datum::Bool(x), Datum::Bool(y)) => x == y,
        (Datum::Text(x), Datum::Text(y)) => x == y,
        (Datum::Float4(x), Datum::Float4(y)) => x.to_bits() == y.to_bits(),
        (Datum::Float8(x), Datum::Float8(y)) => x.to_bits() == y.to_bits(),
        (Datum::Numeric(_), Datum::Numeric(_)) => {
            crate::types::compare(a, b) == std::cmp::Ordering::Equal
        }
        _ => {
            std::mem::discriminant(a) == std::mem::discriminant(b)
                && format!("{a:?}") == format!("{b:?}")
        }
    }
}

/// The walkers over direct parts, once for trees that are read and once for those that are changed.
macro_rules! walkers {
    ($children:ident, $parts:ident, $window:ident, $iter:ident, $($mutable:tt)?) => {
        /// Calls `f` for each direct operand (not into subqueries' relations).
        pub(crate) fn $children<'a>(
            e: &'a $($mutable)? Expr,
            f: &mut dyn FnMut(&'a $($mutable)? Expr),
        ) {
            match e {
                Expr::Const(..) | Expr::Param(..) | Expr::Column(..) => {}
                Expr::Call { args, .. }
                | Expr::And(args)
                | Expr::Or(args)
                | Expr::Coalesce(args, _)
                | Expr::Extreme { args, .. }
                | Expr::Row(args) => args.$iter().for_each(f),
                Expr::Array { items, .. } => items.$iter().for_each(f),
                Expr::Cast { arg, .. }
                | Expr::Not(arg)
                | Expr::IsNull { arg, .. }
                | Expr::IsBool { arg, .. } => f(arg),
                Expr::IsDistinct { left, right, .. } => {
                    f(left);
                    f(right);
                }
                Expr::Case {
                    whens, otherwise, ..
                } => {
                    for (c, r) in whens {
                        f(c);
                        f(r);
                    }
                    if let Some(o) = otherwise {
                        f(o);
                    }
                }
                Expr::ArrayCompare { left, array, .. } => {
                    f(left);
                    f(array);
                }
                Expr::Subscript { array, bounds, .. } => {
                    f(array);
                    for (a, b) in bounds {
                        a.$iter().for_each(&mut *f);
                        b.$iter().for_each(&mut *f);
                    }
                }
                Expr::Field { record, .. } => f(record),
                Expr::Subquery(s) => {
                    if let SubqueryKind::Compare { left, .. } = &$($mutable)? s.kind {
                        left.$iter().for_each(f);
                    }
                }
            }
        }

        /// Calls `f` for each expression of the operator itself and `g` for each input.
        pub(crate) fn $parts<'a>(
            rel: &'a $($mutable)? Rel,
            f: &mut dyn FnMut(&'a $($mutable)? Expr),
            g: &mut dyn FnMut(&'a $($mutable)? Rel),
        ) {
            match rel {
                Rel::Unit | Rel::Scan { .. } | Rel::Virtual { .. } | Rel::CteRef { .. } => {}
                Rel::Values { rows, .. } => rows.$iter().flatten().for_each(f),
                Rel::FunctionScan { args, .. } => args.$iter().for_each(f),
                Rel::Project { input, exprs } => {
                    exprs.$iter().for_each(|(e, _)| f(e));
                    g(input);
                }
                Rel::ProjectSet { input, sets } => {
                    sets.$iter()
                        .for_each(|(_, args, _)| args.$iter().for_each(&mut *f));
                    g(input);
                }
                Rel::Filter { input, predicate } => {
                    f(predicate);
                    g(input);
                }
                Rel::Join {
                    left, right, on, ..
                } => {
                    on.$iter().for_each(f);
                    g(left);
                    g(right);
                }
                Rel::Aggregate {
                    input, keys, calls, ..
                } => {
                    keys.$iter().for_each(|(e, _)| f(e));
                    for (call, _) in calls {
                        call.args.$iter().for_each(&mut *f);
                        call.order.$iter().for_each(|k| f(&$($mutable)? k.expr));
                        call.filter.$iter().for_each(&mut *f);
                    }
                    g(input);
                }
                Rel::Window { input, calls } => {
                    calls.$iter().for_each(|(c, _)| $window(c, f));
                    g(input);
                }
                Rel::Distinct { input, on } => {
                    on.$iter().for_each(f);
                    g(input);
                }
                Rel::Sort { input, keys } => {
                    keys.$iter().for_each(|k| f(&$($mutable)? k.expr));
                    g(input);
                }
                Rel::Limit {
                    input,
                    limit,
                    offset,
                    with_ties,
                } => {
                    limit.$iter().for_each(&mut *f);
                    offset.$iter().for_each(&mut *f);
                    for keys in with_ties.$iter() {
                        keys.$iter().for_each(|k| f(&$($mutable)? k.expr));
                    }
                    g(input);
                }
                Rel::SetOp { left, right, .. } => {
                    g(left);
                    g(right);
                }
                Rel::With {
                    query,
                    recursive,
                    body,
                    ..
                } => {
                    g(query);
                    if let Some((r, _)) = recursive {
                        g(r);
                    }
                    g(body);
                }
            }
        }

        /// Calls `f` for each expression of a window call.
        pub(crate) fn $window<'a>(
            call: &'a $($mutable)? WindowCall,
            f: &mut dyn FnMut(&'a $($mutable)? Expr),
        ) {
            call.args.$iter().for_each(&mut *f);
            call.filter.$iter().for_each(&mut *f);
            call.partition.$iter().for_each(&mut *f);
            call.order.$iter().for_each(|k| f(&$($mutable)? k.expr));
            if let Some((_, start, end)) = &$($mutable)? call.frame {
                for bound in [start, end] {
                    if let FrameBound::Preceding(e) | FrameBound::Following(e) = bound {
                        f(e);
                    }
                }
            }
        }
    };
}

walkers!(children, parts, window, iter,);
walkers!(children_mut, parts_mut, window_mut, iter_mut, mut);

/// Calls `f` for every relation in an expression's subqueries (not below them).
fn subqueries_mut(e: &mut Expr, f: &mut dyn FnMut(&mut Rel)) {
    if let Expr::Subquery(s) = e {
        f(&mut s.rel);
    }
    children_mut(e, &mut |c| subqueries_mut(c, f));
}

/// Calls `f` for every expression anywhere in the tree, also within subqueries, outer ones first.
pub(crate) fn every_expr_mut(rel: &mut Rel, f: &mut dyn FnMut(&mut Expr)) {
    fn expr(e: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
        f(e);
        if let Expr::Subquery(s) = e {
            every_expr_mut(&mut s.rel, f);
        }
        children_mut(e, &mut |c| expr(c, f));
    }
    crate::parse::depth::with_stack(|| {
        let mut exprs = |e: &mut Expr| expr(e, f);
        parts_mut(rel, &mut exprs, &mut |_| {});
    });
    parts_mut(rel, &mut |_| {}, &mut |input| {
        crate::parse::depth::with_stack(|| every_expr_mut(input, f));
    });
}

/// Calls `f` for every operator of the tree, also within subqueries; `f` tells whether to go on
/// into what it left there.
pub(crate) fn every_rel_mut(rel: &mut Rel, f: &mut dyn FnMut(&mut Rel) -> bool) {
    crate::parse::depth::with_stack(|| {
        if !f(rel) {
            return;
        }
        parts_mut(
            rel,
            &mut |e| subqueries_mut(e, &mut |r| every_rel_mut(r, f)),
            &mut |_| {},
        );
        parts_mut(rel, &mut |_| {}, &mut |r| every_rel_mut(r, f));
    });
}

/// The columns that an expression uses, those of its subqueries' inside included.
pub(crate) fn used_columns(e: &mut Expr, out: &mut Vec<ColId>) {
    if let Expr::Column(id, _) = e {
        out.push(*id);
    }
    if let Expr::Subquery(s) = e {
        every_expr_mut(&mut s.rel, &mut |inner| {
            if let Expr::Column(id, _) = inner {
                out.push(*id);
            }
        });
    }
    children_mut(e, &mut |c| used_columns(c, out));
}

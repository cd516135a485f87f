//! Makes a plan of a bound relation.
//!
//! Conditions travel downwards as conjuncts. A group of inner joins is flattened into leaves and
//! conditions and joined again greedily: the next leaf is the cheapest one that an equality
//! connects, by hash, or by look-up where the left side is small and the right side has a key.
//! The result is right for any order; guesses of rows only decide what is fast.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::bind::tree::{ColId, Column, Expr, JoinKind, Rel, SortKey};
use crate::catalog::desc::TableDesc;
use crate::types::registry::Function;

use super::access::{self, UNKNOWN_ROWS};
use super::free;
use super::join::{equality, group, join};
use super::node::{JoinKey, JoinType, Op, Plan, TableScan};
use super::{prune, semi};

/// Number of rows of a table by its storage, if something is known of it.
pub type Sizes<'a> = dyn Fn(u32) -> Option<f64> + Send + Sync + 'a;

/// Makes a plan that produces at least `wanted`.
pub fn plan(rel: &Rel, wanted: &[Column], sizes: &Sizes<'_>) -> Plan {
    let mut plan = build(rel, Vec::new(), sizes);
    let needed = wanted.iter().map(|c| c.id).collect();
    prune::prune(&mut plan, &needed);
    super::order::remove_sorts(&mut plan);
    plan
}

/// Applies conditions to rows: subqueries as semi joins where that is possible, the rest by a
/// filter.
pub(super) fn filter(mut input: Plan, conditions: Vec<Expr>, sizes: &Sizes<'_>) -> Plan {
    let mut kept = Vec::with_capacity(conditions.len());
    let mut joins = Vec::new();
    for condition in conditions {
        match semi::semi_join(&condition, &input.columns).and_then(|s| hashed(s, &input, sizes)) {
            Some(join) => joins.push(join),
            None => kept.push(condition),
        }
    }
    // Conditions without subqueries make the joins' input smaller.
    let (subqueries, plain): (Vec<_>, Vec<_>) = kept.into_iter().partition(Expr::has_subquery);
    let (first, last) = if joins.is_empty() {
        ([plain, subqueries].concat(), Vec::new())
    } else {
        (plain, subqueries)
    };
    input = filtered(input, first);
    for (kind, right, keys, residual) in joins {
        let (columns, rows) = (input.columns.clone(), (input.rows * 0.5).max(1.0));
        let op = Op::Join {
            kind,
            left: Box::new(input),
            right: Box::new(right),
            keys,
            residual,
            lateral: false,
        };
        input = Plan { op, columns, rows };
    }
    filtered(input, last)
}

type HashedSemi = (JoinType, Plan, Vec<JoinKey>, Vec<Expr>);

/// The parts of a semi join if it has a key to hash.
fn hashed(join: semi::SemiJoin, input: &Plan, sizes: &Sizes<'_>) -> Option<HashedSemi> {
    let left = ids(&input.columns);
    let right_ids = ids(&join.right.output());
    let (mut keys, mut residual) = (Vec::new(), Vec::new());
    for condition in join.conditions {
        match equality(&condition, &left, &right_ids) {
            Some(key) => keys.push(key),
            None => residual.push(condition),
        }
    }
    (!keys.is_empty()).then(|| {
        (
            join.kind,
            build(&join.right, Vec::new(), sizes),
            keys,
            residual,
        )
    })
}

fn filtered(input: Plan, conditions: Vec<Expr>) -> Plan {
    if conditions.is_empty() {
        return input;
    }
    let columns = input.columns.clone();
    let rows = (input.rows * 0.3_f64.powi(i32::try_from(conditions.len()).unwrap_or(3))).max(1.0);
    Plan {
        op: Op::Filter {
            input: Box::new(input),
            conditions,
        },
        columns,
        rows,
    }
}

/// Builds a relation whose columns are taken by position.
fn in_order(rel: &Rel, sizes: &Sizes<'_>) -> Plan {
    let wanted = rel.output();
    let plan = build(rel, Vec::new(), sizes);
    if plan
        .columns
        .iter()
        .map(|c| c.id)
        .eq(wanted.iter().map(|c| c.id))
    {
        return plan;
    }
    let rows = plan.rows;
    let exprs = wanted.iter().map(|c| Expr::Column(c.id, c.ty)).collect();
    Plan {
        op: Op::Project {
            input: Box::new(plan),
            exprs,
        },
        columns: wanted,
        rows,
    }
}

pub(super) fn ids(columns: &[Column]) -> BTreeSet<ColId> {
    columns.iter().map(|c| c.id).collect()
}

/// Takes out the elements for which `f` is true.
pub(super) fn extract(from: &mut Vec<Expr>, mut f: impl FnMut(&Expr) -> bool) -> Vec<Expr> {
    let (out, kept) = std::mem::take(from).into_iter().partition(|e| f(e));
    *from = kept;
    out
}

/// An operator with the conditions that stay above it.
fn over(op: Op, columns: Vec<Column>, rows: f64, conditions: Vec<Expr>, sizes: &Sizes<'_>) -> Plan {
    filter(Plan { op, columns, rows }, conditions, sizes)
}

/// Builds `rel` with `conditions` applied; they name columns of `rel` or of enclosing rows.
pub(super) fn build(rel: &Rel, conditions: Vec<Expr>, sizes: &Sizes<'_>) -> Plan {
    match rel {
        Rel::Unit => over(Op::Unit, Vec::new(), 1.0, conditions, sizes),
        Rel::Scan { table, columns } => table_scan(table, columns, conditions, sizes),
        Rel::Virtual { table, columns } => {
            let op = Op::Virtual {
                table,
                positions: columns.iter().map(|(p, _)| *p).collect(),
            };
            let columns = columns.iter().map(|(_, c)| c.clone()).collect();
            over(op, columns, 200.0, conditions, sizes)
        }
        Rel::Values { rows, columns } => {
            let guess = rows.len() as f64;
            let op = Op::Values(rows.clone());
            over(op, columns.clone(), guess, conditions, sizes)
        }
        Rel::FunctionScan {
            function,
            args,
            columns,
            ordinality,
        } => {
            let op = Op::Function {
                function,
                args: args.clone(),
                ordinality: ordinality.is_some(),
            };
            let columns = columns.iter().chain(ordinality).cloned().collect();
            over(op, columns, 100.0, conditions, sizes)
        }
        Rel::Project { input, exprs } => project(input, exprs, conditions, sizes),
        Rel::ProjectSet { input, sets } => project_set(input, sets, conditions, sizes),
        Rel::Filter { .. } => group(rel, conditions, sizes),
        Rel::Join {
            kind: JoinKind::Inner,
            lateral: false,
            ..
        } => group(rel, conditions, sizes),
        Rel::Join {
            kind,
            left,
            right,
            on,
            lateral,
        } => join(*kind, left, right, on.as_ref(), *lateral, conditions, sizes),
        Rel::Aggregate { .. } => aggregate(rel, conditions, sizes),
        Rel::Window { input, calls } => {
            let input = build(input, Vec::new(), sizes);
            let (mut columns, rows) = (input.columns.clone(), input.rows);
            columns.extend(calls.iter().map(|(_, c)| c.clone()));
            let op = Op::Window {
                input: Box::new(input),
                calls: calls.iter().map(|(c, _)| c.clone()).collect(),
            };
            over(op, columns, rows, conditions, sizes)
        }
        Rel::Distinct { input, on } => distinct(input, on, conditions, sizes),
        Rel::Sort { input, keys } => sort(build(input, conditions, sizes), keys),
        Rel::Limit {
            input,
            limit,
            offset,
            with_ties,
        } => {
            let input = build(input, Vec::new(), sizes);
            let (columns, mut rows) = (input.columns.clone(), input.rows);
            if let Some(Expr::Const(n, _)) = limit {
                rows = rows.min(n.as_i64().unwrap_or(i64::MAX) as f64);
            }
            let op = Op::Limit {
                input: Box::new(input),
                limit: limit.clone(),
                offset: offset.clone(),
                with_ties: with_ties.clone(),
            };
            over(op, columns, rows, conditions, sizes)
        }
        Rel::SetOp {
            op,
            all,
            left,
            right,
            columns,
        } => {
            let (left, right) = (in_order(left, sizes), in_order(right, sizes));
            let rows = left.rows + right.rows;
            let op = Op::SetOp {
                op: *op,
                all: *all,
                left: Box::new(left),
                right: Box::new(right),
            };
            over(op, columns.clone(), rows, conditions, sizes)
        }
        Rel::With { .. } => with(rel, conditions, sizes),
        Rel::CteRef { cte, columns } => {
            let op = Op::CteRef {
                cte: *cte,
                positions: (0..columns.len()).collect(),
            };
            over(op, columns.clone(), UNKNOWN_ROWS, conditions, sizes)
        }
    }
}

/// A scan with the keys that the conditions give it; what it cannot test stays above.
fn table_scan(
    table: &Arc<TableDesc>,
    columns: &[(usize, Column)],
    mut conditions: Vec<Expr>,
    sizes: &Sizes<'_>,
) -> Plan {
    let local: BTreeMap<_, _> = columns.iter().map(|(p, c)| (c.id, *p)).collect();
    let total = sizes(table.storage).unwrap_or(UNKNOWN_ROWS).max(1.0);
    let above = extract(&mut conditions, |c| {
        c.has_subquery() || free::is_volatile(c)
    });
    let (access, rows) = access::choose(table, &local, &mut conditions, total);
    let rows = (rows * 0.3_f64.powi(i32::try_from(conditions.len()).unwrap_or(3))).max(1.0);
    let scan = TableScan {
        table: Arc::clone(table),
        positions: columns.iter().map(|(p, _)| *p).collect(),
        access,
        filter: conditions,
        reverse: false,
    };
    let columns = columns.iter().map(|(_, c)| c.clone()).collect();
    over(Op::Scan(Box::new(scan)), columns, rows, above, sizes)
}

/// Set-returning functions; conditions that do not name their columns go below.
fn project_set(
    input: &Rel,
    sets: &[(&'static Function, Vec<Expr>, Column)],
    mut conditions: Vec<Expr>,
    sizes: &Sizes<'_>,
) -> Plan {
    let produced: BTreeSet<_> = sets.iter().map(|(_, _, c)| c.id).collect();
    let below = extract(&mut conditions, |c| {
        free::of_expr(c).is_disjoint(&produced) && !free::is_volatile(c)
    });
    let input = build(input, below, sizes);
    let mut columns = input.columns.clone();
    columns.extend(sets.iter().map(|(_, _, c)| c.clone()));
    let rows = input.rows * 10.0;
    let op = Op::ProjectSet {
        input: Box::new(input),
        sets: sets.iter().map(|(f, a, _)| (*f, a.clone())).collect(),
    };
    over(op, columns, rows, conditions, sizes)
}

/// Groups; conditions that name only keys go below.
fn aggregate(rel: &Rel, mut conditions: Vec<Expr>, sizes: &Sizes<'_>) -> Plan {
    let Rel::Aggregate {
        input,
        keys,
        sets,
        grouping,
        calls,
    } = rel
    else {
        return build(rel, conditions, sizes);
    };
    let by_key: BTreeMap<_, _> = keys.iter().map(|(e, c)| (c.id, e)).collect();
    let mut below = Vec::new();
    if sets.is_none() && !keys.is_empty() {
        let produced: BTreeSet<_> = grouping
            .iter()
            .map(|(_, c)| c.id)
            .chain(calls.iter().map(|(_, c)| c.id))
            .collect();
        conditions.retain(|c| {
            if free::is_volatile(c) || !free::of_expr(c).is_disjoint(&produced) {
                return true;
            }
            match free::substitute(c, &|id| by_key.get(&id).map(|e| (*e).clone())) {
                Some(moved) if !keys.iter().any(|(e, _)| free::is_volatile(e)) => {
                    below.push(moved);
                    false
                }
                _ => true,
            }
        });
    }
    let input = build(input, below, sizes);
    let rows = if keys.is_empty() {
        1.0
    } else {
        (input.rows / 3.0).max(1.0)
    };
    let op = Op::Aggregate {
        input: Box::new(input),
        keys: keys.iter().map(|(e, _)| e.clone()).collect(),
        sets: sets.clone(),
        grouping: grouping.iter().map(|(g, _)| g.clone()).collect(),
        calls: calls.iter().map(|(c, _)| c.clone()).collect(),
    };
    over(op, rel.output(), rows, conditions, sizes)
}

/// Distinct rows; with DISTINCT ON all conditions stay above, since they would change which row
/// is the first.
fn distinct(input: &Rel, on: &[Expr], mut conditions: Vec<Expr>, sizes: &Sizes<'_>) -> Plan {
    let below = if on.is_empty() {
        extract(&mut conditions, |c| !free::is_volatile(c))
    } else {
        Vec::new()
    };
    let input = build(input, below, sizes);
    let (columns, rows) = (input.columns.clone(), input.rows);
    let op = Op::Distinct {
        input: Box::new(input),
        on: on.to_vec(),
    };
    over(op, columns, rows, conditions, sizes)
}

fn sort(input: Plan, keys: &[SortKey]) -> Plan {
    let (columns, rows) = (input.columns.clone(), input.rows);
    let mut keys = keys.to_vec();
    if matches!(input.op, Op::Distinct { .. }) {
        // As PostgreSQL, whose distinct rows come sorted by all columns.
        let named: Vec<_> = keys
            .iter()
            .filter_map(|k| match &k.expr {
                Expr::Column(id, _) => Some(*id),
                _ => None,
            })
            .collect();
        let rest = columns.iter().filter(|c| !named.contains(&c.id));
        keys.extend(rest.map(|c| SortKey {
            expr: Expr::Column(c.id, c.ty),
            descending: false,
            nulls_first: false,
        }));
    }
    let op = Op::Sort {
        input: Box::new(input),
        keys,
    };
    Plan { op, columns, rows }
}

fn with(rel: &Rel, conditions: Vec<Expr>, sizes: &Sizes<'_>) -> Plan {
    let Rel::With {
        cte,
        query,
        recursive,
        columns,
        body,
    } = rel
    else {
        return build(rel, conditions, sizes);
    };
    let query = in_order(query, sizes);
    let body = build(body, conditions, sizes);
    let recursive = recursive
        .as_ref()
        .map(|(r, all)| (Box::new(in_order(r, sizes)), *all));
    let (out, rows) = (body.columns.clone(), body.rows);
    let op = Op::With {
        cte: *cte,
        query: Box::new(query),
        recursive,
        order: columns.iter().map(|c| c.id).collect(),
        body: Box::new(body),
    };
    Plan {
        op,
        columns: out,
        rows,
    }
}

fn project(
    input: &Rel,
    exprs: &[(Expr, Column)],
    mut conditions: Vec<Expr>,
    sizes: &Sizes<'_>,
) -> Plan {
    let by: BTreeMap<_, _> = exprs.iter().map(|(e, c)| (c.id, e)).collect();
    let mut below = Vec::new();
    conditions.retain(|c| {
        let moves = !free::is_volatile(c)
            && free::of_expr(c)
                .iter()
                .filter_map(|id| by.get(id))
                .all(|e| !free::is_volatile(e) && !e.has_subquery());
        let moved = moves
            .then(|| free::substitute(c, &|id| by.get(&id).map(|e| (*e).clone())))
            .flatten();
        match moved {
            Some(moved) => {
                below.push(moved);
                false
            }
            None => true,
        }
    });
    let input = build(input, below, sizes);
    let rows = input.rows;
    let op = Op::Project {
        input: Box::new(input),
        exprs: exprs.iter().map(|(e, _)| e.clone()).collect(),
    };
    let columns = exprs.iter().map(|(_, c)| c.clone()).collect();
    filter(Plan { op, columns, rows }, conditions, sizes)
}

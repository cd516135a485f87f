//! Makes a plan of a bound relation.
//!
//! Conditions travel downwards as conjuncts. A group of inner joins is flattened into leaves and
//! conditions and joined again greedily: the next leaf is the cheapest one that an equality
//! connects, by hash, or by look-up where the left side is small and the right side has a key.
//! The result is right for any order; guesses of rows only decide what is fast.

use std::collections::{BTreeMap, BTreeSet};

use crate::bind::tree::{ColId, Column, Expr, JoinKind, Rel, SortKey};
use crate::types::registry::Comparison;

use super::access::{self, UNKNOWN_ROWS};
use super::free;
use super::node::{Access, JoinKey, JoinType, Op, Plan, TableScan};
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
fn filter(mut input: Plan, conditions: Vec<Expr>, sizes: &Sizes<'_>) -> Plan {
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

fn ids(columns: &[Column]) -> BTreeSet<ColId> {
    columns.iter().map(|c| c.id).collect()
}

/// Takes out the elements for which `f` is true.
fn extract(from: &mut Vec<Expr>, mut f: impl FnMut(&Expr) -> bool) -> Vec<Expr> {
    let (out, kept) = std::mem::take(from).into_iter().partition(|e| f(e));
    *from = kept;
    out
}

/// Builds `rel` with `conditions` applied; they name columns of `rel` or of enclosing rows.
fn build(rel: &Rel, mut conditions: Vec<Expr>, sizes: &Sizes<'_>) -> Plan {
    match rel {
        Rel::Unit => filter(
            Plan {
                op: Op::Unit,
                columns: Vec::new(),
                rows: 1.0,
            },
            conditions,
            sizes,
        ),
        Rel::Scan { table, columns } => {
            let local: BTreeMap<_, _> = columns.iter().map(|(p, c)| (c.id, *p)).collect();
            let total = sizes(table.storage).unwrap_or(UNKNOWN_ROWS).max(1.0);
            let above = extract(&mut conditions, |c| {
                c.has_subquery() || free::is_volatile(c)
            });
            let (access, rows) = access::choose(table, &local, &mut conditions, total);
            let rows = (rows * 0.3_f64.powi(i32::try_from(conditions.len()).unwrap_or(3))).max(1.0);
            let scan = TableScan {
                table: table.clone(),
                positions: columns.iter().map(|(p, _)| *p).collect(),
                access,
                filter: conditions,
                reverse: false,
            };
            let columns = columns.iter().map(|(_, c)| c.clone()).collect();
            filter(
                Plan {
                    op: Op::Scan(Box::new(scan)),
                    columns,
                    rows,
                },
                above,
                sizes,
            )
        }
        Rel::Virtual { table, columns } => {
            let op = Op::Virtual {
                table,
                positions: columns.iter().map(|(p, _)| *p).collect(),
            };
            let columns = columns.iter().map(|(_, c)| c.clone()).collect();
            filter(
                Plan {
                    op,
                    columns,
                    rows: 200.0,
                },
                conditions,
                sizes,
            )
        }
        Rel::Values { rows, columns } => {
            let guess = rows.len() as f64;
            let op = Op::Values(rows.clone());
            filter(
                Plan {
                    op,
                    columns: columns.clone(),
                    rows: guess,
                },
                conditions,
                sizes,
            )
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
            filter(
                Plan {
                    op,
                    columns,
                    rows: 100.0,
                },
                conditions,
                sizes,
            )
        }
        Rel::Project { input, exprs } => project(input, exprs, conditions, sizes),
        Rel::ProjectSet { input, sets } => {
            let produced: BTreeSet<_> = sets.iter().map(|(_, _, c)| c.id).collect();
            let below = extract(&mut conditions, |c| {
                free::of_expr(c).is_disjoint(&produced) && !free::is_volatile(c)
            });
            let input = build(input, below, sizes);
            let mut columns = input.columns.clone();
            columns.extend(sets.iter().map(|(_, _, c)| c.clone()));
            let rows = input.rows * 10.0;
            let sets = sets.iter().map(|(f, a, _)| (*f, a.clone())).collect();
            filter(
                Plan {
                    op: Op::ProjectSet {
                        input: Box::new(input),
                        sets,
                    },
                    columns,
                    rows,
                },
                conditions,
                sizes,
            )
        }
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
        Rel::Aggregate {
            input,
            keys,
            sets,
            grouping,
            calls,
        } => {
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
            filter(
                Plan {
                    op,
                    columns: rel.output(),
                    rows,
                },
                conditions,
                sizes,
            )
        }
        Rel::Window { input, calls } => {
            let input = build(input, Vec::new(), sizes);
            let (mut columns, rows) = (input.columns.clone(), input.rows);
            columns.extend(calls.iter().map(|(_, c)| c.clone()));
            let calls = calls.iter().map(|(c, _)| c.clone()).collect();
            filter(
                Plan {
                    op: Op::Window {
                        input: Box::new(input),
                        calls,
                    },
                    columns,
                    rows,
                },
                conditions,
                sizes,
            )
        }
        Rel::Distinct { input, on } => {
            let below = if on.is_empty() {
                extract(&mut conditions, |c| !free::is_volatile(c))
            } else {
                Vec::new()
            };
            let input = build(input, below, sizes);
            let (columns, rows) = (input.columns.clone(), input.rows);
            let op = Op::Distinct {
                input: Box::new(input),
                on: on.clone(),
            };
            filter(Plan { op, columns, rows }, conditions, sizes)
        }
        Rel::Sort { input, keys } => {
            let input = build(input, conditions, sizes);
            let (columns, rows) = (input.columns.clone(), input.rows);
            let mut keys = keys.clone();
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
            Plan {
                op: Op::Sort {
                    input: Box::new(input),
                    keys,
                },
                columns,
                rows,
            }
        }
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
            filter(Plan { op, columns, rows }, conditions, sizes)
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
            filter(
                Plan {
                    op,
                    columns: columns.clone(),
                    rows,
                },
                conditions,
                sizes,
            )
        }
        Rel::With {
            cte,
            query,
            recursive,
            columns,
            body,
        } => {
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
        Rel::CteRef { cte, columns } => {
            let op = Op::CteRef {
                cte: *cte,
                positions: (0..columns.len()).collect(),
            };
            filter(
                Plan {
                    op,
                    columns: columns.clone(),
                    rows: UNKNOWN_ROWS,
                },
                conditions,
                sizes,
            )
        }
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

/// A group of inner joins and filters.
fn group(rel: &Rel, mut conditions: Vec<Expr>, sizes: &Sizes<'_>) -> Plan {
    let mut leaves = Vec::new();
    flatten(rel, &mut leaves, &mut conditions);
    let outputs: Vec<BTreeSet<ColId>> = leaves.iter().map(|l| ids(&l.output())).collect();
    let all: BTreeSet<ColId> = outputs.iter().flatten().copied().collect();
    // Columns that a condition takes from the group, once.
    let mut pending: Vec<(Expr, BTreeSet<ColId>)> = conditions
        .into_iter()
        .map(|c| {
            let used = &free::of_expr(&c) & &all;
            (c, used)
        })
        .collect();
    add_transitive(&mut pending);
    if let [leaf] = leaves.as_slice() {
        return build(leaf, pending.into_iter().map(|(c, _)| c).collect(), sizes);
    }
    // Volatile conditions and those with subqueries over several leaves stay on top.
    let mut own: Vec<Vec<Expr>> = vec![Vec::new(); leaves.len()];
    pending.retain(|(c, used)| {
        if used.is_empty() || free::is_volatile(c) {
            return true;
        }
        match outputs.iter().position(|o| used.is_subset(o)) {
            Some(i) => {
                if let Some(list) = own.get_mut(i) {
                    list.push(c.clone());
                }
                false
            }
            None => true,
        }
    });
    let mut left: Vec<Option<(&Rel, Vec<Expr>, Plan)>> = leaves
        .iter()
        .zip(own)
        .map(|(rel, own)| Some((*rel, own.clone(), build(rel, own, sizes))))
        .collect();
    let rows = |entry: &Option<(&Rel, Vec<Expr>, Plan)>| {
        entry.as_ref().map_or(f64::MAX, |(_, _, p)| p.rows)
    };
    // The first in FROM order unless another one is much smaller.
    let smallest = (0..left.len())
        .min_by(|a, b| {
            let of = |i: usize| left.get(i).map_or(f64::MAX, rows);
            of(*a).total_cmp(&of(*b))
        })
        .unwrap_or(0);
    let first = match (left.first().map(rows), left.get(smallest).map(rows)) {
        (Some(a), Some(b)) if b * 5.0 < a => smallest,
        _ => 0,
    };
    let Some((_, _, mut current)) = left.get_mut(first).and_then(Option::take) else {
        return Plan {
            op: Op::Unit,
            columns: Vec::new(),
            rows: 1.0,
        };
    };
    let mut have = outputs.get(first).cloned().unwrap_or_default();
    while left.iter().any(Option::is_some) {
        let mut best: Option<(bool, f64, usize)> = None;
        for (i, entry) in left.iter().enumerate() {
            let (Some(_), Some(output)) = (entry, outputs.get(i)) else {
                continue;
            };
            let connected = pending.iter().any(|(c, used)| {
                !used.is_disjoint(output)
                    && used.is_subset(&(&have | output))
                    && equality(c, &have, output).is_some()
            });
            let candidate = (!connected, rows(entry), i);
            if best.is_none_or(|b| {
                candidate
                    .0
                    .cmp(&b.0)
                    .then(candidate.1.total_cmp(&b.1))
                    .is_lt()
            }) {
                best = Some(candidate);
            }
        }
        let Some((_, _, next)) = best else { break };
        let Some((rel, own, right)) = left.get_mut(next).and_then(Option::take) else {
            break;
        };
        let output = outputs.get(next).cloned().unwrap_or_default();
        let both = &have | &output;
        let mut usable = Vec::new();
        pending.retain(|(c, used)| {
            let now = !used.is_empty()
                && used.is_subset(&both)
                && !c.has_subquery()
                && !free::is_volatile(c);
            if now {
                usable.push(c.clone());
            }
            !now
        });
        current = combine(current, &have, rel, own, right, &output, usable, sizes);
        have = both;
    }
    filter(
        current,
        pending.into_iter().map(|(c, _)| c).collect(),
        sizes,
    )
}

/// From `a = b` and `a = constant` follows `b = constant`.
fn add_transitive(pending: &mut Vec<(Expr, BTreeSet<ColId>)>) {
    let columns = |e: &Expr| match e {
        Expr::Call {
            args,
            comparison: Some(Comparison::Eq),
            ..
        } => match args.as_slice() {
            [Expr::Column(a, ta), Expr::Column(b, tb)] if ta.oid == tb.oid => Some((*a, *b)),
            _ => None,
        },
        _ => None,
    };
    let mut added = Vec::new();
    for (condition, used) in pending.iter() {
        let (
            Expr::Call {
                args,
                comparison: Some(Comparison::Eq),
                ..
            },
            1,
        ) = (condition, used.len())
        else {
            continue;
        };
        let [Expr::Column(id, ty), Expr::Const(..) | Expr::Param(..)] = args.as_slice() else {
            continue;
        };
        for (other, both) in pending.iter() {
            let Some((a, b)) = columns(other) else {
                continue;
            };
            if both.len() != 2 || (a != *id && b != *id) {
                continue;
            }
            let target = if a == *id { b } else { a };
            if let Some(moved) = free::substitute(condition, &|c| {
                (c == *id).then(|| Expr::Column(target, *ty))
            }) {
                added.push((moved, BTreeSet::from([target])));
            }
        }
    }
    pending.extend(added);
}

fn flatten<'a>(rel: &'a Rel, leaves: &mut Vec<&'a Rel>, conditions: &mut Vec<Expr>) {
    match rel {
        Rel::Filter { input, predicate } => {
            free::conjuncts(predicate, conditions);
            flatten(input, leaves, conditions);
        }
        Rel::Join {
            kind: JoinKind::Inner,
            left,
            right,
            on,
            lateral: false,
        } => {
            if let Some(on) = on {
                free::conjuncts(on, conditions);
            }
            flatten(left, leaves, conditions);
            flatten(right, leaves, conditions);
        }
        leaf => leaves.push(leaf),
    }
}

/// The sides of an equality between `left` and `right` columns that can be hashed.
fn equality(condition: &Expr, left: &BTreeSet<ColId>, right: &BTreeSet<ColId>) -> Option<JoinKey> {
    let Expr::Call {
        args,
        comparison: Some(Comparison::Eq),
        ..
    } = condition
    else {
        return None;
    };
    let [a, b] = args.as_slice() else { return None };
    let (a, b) = (access::strip(a), access::strip(b));
    if a.has_subquery() || b.has_subquery() || !access::comparable(a.ty().oid, b.ty().oid) {
        return None;
    }
    let (in_a, in_b) = (a.columns(), b.columns());
    let touches = |used: &BTreeSet<ColId>, l: &BTreeSet<ColId>, r: &BTreeSet<ColId>| {
        !used.is_disjoint(l) && used.is_disjoint(r)
    };
    if touches(&in_a, left, right) && touches(&in_b, right, left) {
        Some(JoinKey {
            left: a.clone(),
            right: b.clone(),
        })
    } else if touches(&in_a, right, left) && touches(&in_b, left, right) {
        Some(JoinKey {
            left: b.clone(),
            right: a.clone(),
        })
    } else {
        None
    }
}

/// Joins the next leaf of a group.
fn combine(
    current: Plan,
    have: &BTreeSet<ColId>,
    rel: &Rel,
    mut own: Vec<Expr>,
    right: Plan,
    output: &BTreeSet<ColId>,
    usable: Vec<Expr>,
    sizes: &Sizes<'_>,
) -> Plan {
    // Look-up: the right side's scan takes its key from the left row.
    if matches!(rel, Rel::Scan { .. }) && !usable.is_empty() && current.rows <= 100.0 {
        own.extend(usable.iter().cloned());
        let lookup = build(rel, own, sizes);
        if is_lookup(&lookup) && lookup.rows * current.rows < right.rows {
            let columns = [current.columns.as_slice(), &lookup.columns].concat();
            let rows = (current.rows * lookup.rows).max(1.0);
            let op = Op::Join {
                kind: JoinType::Inner,
                left: Box::new(current),
                right: Box::new(lookup),
                keys: Vec::new(),
                residual: Vec::new(),
                lateral: true,
            };
            return Plan { op, columns, rows };
        }
    }
    let (mut keys, mut residual) = (Vec::new(), Vec::new());
    for condition in usable {
        match equality(&condition, have, output) {
            Some(key) => keys.push(key),
            None => residual.push(condition),
        }
    }
    let columns = [current.columns.as_slice(), &right.columns].concat();
    let rows = if keys.is_empty() {
        current.rows * right.rows
    } else {
        current.rows.max(right.rows)
    };
    let op = Op::Join {
        kind: JoinType::Inner,
        left: Box::new(current),
        right: Box::new(right),
        keys,
        residual,
        lateral: false,
    };
    Plan { op, columns, rows }
}

/// Outer and lateral joins.
fn join(
    kind: JoinKind,
    left: &Rel,
    right: &Rel,
    on: Option<&Expr>,
    lateral: bool,
    mut conditions: Vec<Expr>,
    sizes: &Sizes<'_>,
) -> Plan {
    let (left_ids, right_ids) = (ids(&left.output()), ids(&right.output()));
    let mut on_conditions = Vec::new();
    if let Some(on) = on {
        free::conjuncts(on, &mut on_conditions);
    }
    let movable = |c: &Expr| !free::is_volatile(c);
    let within = |c: &Expr, side: &BTreeSet<ColId>, other: &BTreeSet<ColId>| {
        let used = free::of_expr(c);
        !used.is_disjoint(side) && used.is_disjoint(other)
    };
    // WHERE conditions on the preserved side go below; ON conditions on the other one do.
    let (mut left_own, mut right_own) = (Vec::new(), Vec::new());
    if matches!(kind, JoinKind::Inner | JoinKind::Left) {
        left_own = extract(&mut conditions, |c| {
            movable(c) && within(c, &left_ids, &right_ids)
        });
        right_own = extract(&mut on_conditions, |c| {
            movable(c) && within(c, &right_ids, &left_ids)
        });
    }
    if kind == JoinKind::Right {
        right_own = extract(&mut conditions, |c| {
            movable(c) && within(c, &right_ids, &left_ids)
        });
        left_own = extract(&mut on_conditions, |c| {
            movable(c) && within(c, &left_ids, &right_ids)
        });
    }
    if kind == JoinKind::Inner {
        on_conditions.append(&mut conditions);
    }
    let left_plan = build(left, left_own, sizes);
    let mut right_plan = build(right, right_own.clone(), sizes);
    let mut lateral = lateral;
    if kind == JoinKind::Left
        && !lateral
        && matches!(right, Rel::Scan { .. })
        && left_plan.rows <= 100.0
        && on_conditions
            .iter()
            .all(|c| !c.has_subquery() && !free::is_volatile(c))
    {
        let own = right_own
            .into_iter()
            .chain(on_conditions.iter().cloned())
            .collect();
        let lookup = build(right, own, sizes);
        if is_lookup(&lookup) && lookup.rows * left_plan.rows < right_plan.rows {
            right_plan = lookup;
            on_conditions.clear();
            lateral = true;
        }
    }
    let (mut keys, mut residual) = (Vec::new(), Vec::new());
    for condition in on_conditions {
        match equality(&condition, &left_ids, &right_ids) {
            Some(key) if !lateral => keys.push(key),
            _ => residual.push(condition),
        }
    }
    let columns = [left_plan.columns.as_slice(), &right_plan.columns].concat();
    let rows = left_plan.rows.max(right_plan.rows);
    let op = Op::Join {
        kind: match kind {
            JoinKind::Inner => JoinType::Inner,
            JoinKind::Left => JoinType::Left,
            JoinKind::Right => JoinType::Right,
            JoinKind::Full => JoinType::Full,
        },
        left: Box::new(left_plan),
        right: Box::new(right_plan),
        keys,
        residual,
        lateral,
    };
    filter(Plan { op, columns, rows }, conditions, sizes)
}

fn is_lookup(plan: &Plan) -> bool {
    matches!(&plan.op, Op::Scan(scan) if matches!(scan.access, Access::Key(_)))
}

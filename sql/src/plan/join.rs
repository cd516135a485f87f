//! Joins: a group of inner joins flattened into leaves and conditions and joined again greedily,
//! and one join of two plans by hash, look-up or nested loops.

use std::collections::BTreeSet;

use super::access;
use super::build::{Sizes, build, extract, filter, ids};
use super::free;
use super::node::{Access, JoinKey, JoinType, Op, Plan};
use crate::bind::tree::{ColId, Expr, JoinKind, Rel};
use crate::types::registry::Comparison;

/// A group of inner joins and filters.
pub(super) fn group(rel: &Rel, mut conditions: Vec<Expr>, sizes: &Sizes<'_>) -> Plan {
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
pub(super) fn equality(
    condition: &Expr,
    left: &BTreeSet<ColId>,
    right: &BTreeSet<ColId>,
) -> Option<JoinKey> {
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
pub(super) fn join(
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

//! Takes out sorts whose order the scan below has already.
//!
//! Rows of the primary storage come in the order of the key; those of an index in the order of
//! its columns. Columns that the access fixes to one value do not count. A sort that wants exactly
//! the opposite order reverses the scan.

use std::sync::Arc;

use crate::bind::tree::{ColId, Expr, SortKey};
use crate::catalog::desc::IndexDesc;

use super::node::{Access, KeyTerm, Op, Plan, TableScan};
use super::prune;

/// One column of the order in which a scan gives rows.
struct Ordered {
    column: ColId,
    descending: bool,
    /// Where NULLs are; `None` if the column has none.
    nulls_first: Option<bool>,
}

/// Removes needless sorts in the whole plan.
pub fn remove_sorts(plan: &mut Plan) {
    for child in prune::children_mut(plan) {
        remove_sorts(child);
    }
    let Op::Sort { input, keys } = &mut plan.op else {
        return;
    };
    let Some(reverse) = given(input, keys) else {
        return;
    };
    let mut below = std::mem::replace(
        input.as_mut(),
        Plan {
            op: Op::Empty,
            columns: Vec::new(),
            rows: 0.0,
        },
    );
    if reverse {
        if let Some(scan) = scan_below(&mut below) {
            scan.reverse = true;
        }
    }
    *plan = below;
}

/// The scan under operators that keep the order of rows.
fn scan_below(plan: &mut Plan) -> Option<&mut TableScan> {
    match &mut plan.op {
        Op::Scan(scan) => Some(scan),
        Op::Filter { input, .. } | Op::Project { input, .. } => scan_below(input),
        _ => None,
    }
}

/// Whether the rows of `plan` come ordered by `keys`: forwards (false) or backwards (true).
fn given(plan: &Plan, keys: &[SortKey]) -> Option<bool> {
    match &plan.op {
        Op::Filter { input, .. } => given(input, keys),
        Op::Project { input, exprs } => {
            // The same keys over the columns below.
            let moved: Option<Vec<SortKey>> = keys
                .iter()
                .map(|key| {
                    let Expr::Column(id, _) = &key.expr else {
                        return None;
                    };
                    let at = plan.columns.iter().position(|c| c.id == *id)?;
                    match exprs.get(at) {
                        Some(e @ Expr::Column(..)) => Some(SortKey {
                            expr: e.clone(),
                            ..key.clone()
                        }),
                        _ => None,
                    }
                })
                .collect();
            given(input, &moved?)
        }
        Op::Scan(scan) if !scan.reverse => {
            let order = order_of(scan, &plan.columns)?;
            let matches = |reverse: bool| {
                keys.len() <= order.len()
                    && keys.iter().zip(&order).all(|(key, have)| {
                        matches!(&key.expr, Expr::Column(id, _) if *id == have.column)
                            && key.descending == (have.descending != reverse)
                            && have
                                .nulls_first
                                .is_none_or(|n| key.nulls_first == (n != reverse))
                    })
            };
            if matches(false) {
                Some(false)
            } else if matches(true) {
                Some(true)
            } else {
                None
            }
        }
        _ => None,
    }
}

fn order_of(scan: &TableScan, columns: &[crate::bind::tree::Column]) -> Option<Vec<Ordered>> {
    let (index, fixed): (Option<&Arc<IndexDesc>>, usize) = match &scan.access {
        Access::Full => (None, 0),
        Access::Part(part) if part.through_index => return None,
        Access::Part(_) => (None, 0),
        Access::Key(access) => {
            let single = |t: &KeyTerm| matches!(t, KeyTerm::Equal(_) | KeyTerm::IsNull);
            if access.unique || !access.equal.iter().all(single) {
                return None;
            }
            (access.index.as_ref(), access.equal.len())
        }
    };
    let of = |position: usize| -> Option<ColId> {
        let at = scan.positions.iter().position(|p| *p == position)?;
        columns.get(at).map(|c| c.id)
    };
    let mut order = Vec::new();
    match index {
        None => {
            for position in scan.table.storage_key.iter().skip(fixed) {
                let Some(column) = of(*position) else { break };
                order.push(Ordered {
                    column,
                    descending: false,
                    nulls_first: None,
                });
            }
        }
        Some(index) => {
            for c in index.columns.iter().skip(fixed) {
                let Some(column) = of(c.column) else { break };
                let not_null = scan.table.columns.get(c.column).is_some_and(|d| d.not_null);
                order.push(Ordered {
                    column,
                    descending: c.descending,
                    nulls_first: (!not_null).then_some(c.nulls_first),
                });
            }
        }
    }
    Some(order)
}

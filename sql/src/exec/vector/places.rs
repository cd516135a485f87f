//! Where the parts of a plan would run, without running anything of it.
//!
//! It goes through a plan as `lower` does, and what spreads there spreads here. What subqueries
//! would read is not looked at: lowering runs them.

use crate::bind::tree::Expr;
use crate::error::SqlError;
use crate::exec::query::is_large;
use crate::exec::remote::{Top, Wanted, placed};
use crate::exec::rows::Executor;
use crate::plan::node::{Op, Plan};
use crate::plan::prune::children;
use crate::types::Datum;

use super::aggregate::has_halves;

/// Places the parts of a plan; they are entered in the account of the executor's context.
pub fn place(executor: &Executor, plan: &Plan) -> Result<(), SqlError> {
    if !is_large(plan, &executor.cx.runtime) {
        return Ok(());
    }
    match &plan.op {
        Op::Scan(_) => place_as(executor, plan, Wanted::Scan, None),
        Op::Aggregate { input, .. } if has_halves(plan) => {
            place_as(executor, plan, Wanted::Groups, Some(input))
        }
        // Read from here, as far as it is needed.
        Op::Limit {
            input,
            with_ties: None,
            ..
        } if matches!(&input.op, Op::Scan(scan) if scan.filter.is_empty()) => Ok(()),
        Op::Limit {
            input,
            limit,
            offset,
            with_ties: None,
        } => {
            let (rows, keys) = match &input.op {
                Op::Sort { input, keys } => (input, keys.clone()),
                _ => (input, Vec::new()),
            };
            match most(limit.as_ref(), offset.as_ref(), &executor.cx.params) {
                Some(most) => {
                    let wanted = Wanted::First(Top { keys, most });
                    place_as(executor, rows, wanted, Some(rows))
                }
                None => place(executor, rows),
            }
        }
        Op::Join {
            lateral: true,
            left,
            ..
        } => place(executor, left),
        Op::Join { .. } => match placed(executor, plan, Wanted::Joined)? {
            Some(needs) => place_all(executor, needs),
            None => place_all(executor, children(plan)),
        },
        Op::With {
            recursive: Some(_),
            body,
            ..
        } => place(executor, body),
        _ => place_all(executor, children(plan)),
    }
}

fn place_all(executor: &Executor, plans: Vec<&Plan>) -> Result<(), SqlError> {
    plans.into_iter().try_for_each(|plan| place(executor, plan))
}

/// Places a plan that nodes may do side by side; if they do not, what is `below` it.
fn place_as(
    executor: &Executor,
    plan: &Plan,
    wanted: Wanted,
    below: Option<&Plan>,
) -> Result<(), SqlError> {
    match placed(executor, plan, wanted)? {
        Some(needs) => place_all(executor, needs),
        None => below.map_or(Ok(()), |below| place(executor, below)),
    }
}

/// How many rows are wanted at most, where that is said without a query.
fn most(limit: Option<&Expr>, offset: Option<&Expr>, params: &[Datum]) -> Option<u64> {
    let value = |expr: &Expr| {
        let value = match expr {
            Expr::Const(value, _) => Some(value),
            Expr::Param(n, _) => params.get(*n),
            _ => None,
        };
        value
            .and_then(Datum::as_i64)
            .map(|n| n.max(0).unsigned_abs())
    };
    let offset = offset.map_or(Some(0), value)?;
    Some(value(limit?)?.saturating_add(offset))
}

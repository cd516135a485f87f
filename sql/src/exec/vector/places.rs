//! Where the parts of a plan would run, without running anything of it.
//!
//! It goes through a plan as `lower` does, and what spreads there spreads here. What subqueries
//! would read is not looked at: lowering runs them.

use crate::bind::tree::Expr;
use crate::error::SqlError;
use crate::exec::query::is_large;
use crate::exec::remote::{Top, spread_of_first, spread_of_groups, spread_of_rows};
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
        Op::Scan(_) => {
            if let Some(spread) = spread_of_rows(executor, plan)? {
                // Each part that is placed is entered.
                let _ = spread.in_order();
            }
            Ok(())
        }
        Op::Aggregate { input, .. } => {
            let spread = match has_halves(plan) {
                true => spread_of_groups(executor, plan)?,
                false => None,
            };
            match spread {
                Some(spread) => {
                    // As above.
                    let _ = spread.away();
                    Ok(())
                }
                None => place(executor, input),
            }
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
            let params = &executor.cx.params;
            let sorts = !keys.is_empty();
            let spread = match most(limit.as_ref(), offset.as_ref(), params) {
                Some(most) => spread_of_first(executor, rows, Top { keys, most })?,
                None => None,
            };
            match spread {
                Some(spread) if sorts => drop(spread.away()),
                Some(spread) => drop(spread.in_order()),
                None => place(executor, rows)?,
            }
            Ok(())
        }
        Op::Join {
            lateral: true,
            left,
            ..
        } => place(executor, left),
        Op::With {
            recursive: Some(_),
            body,
            ..
        } => place(executor, body),
        _ => {
            for child in children(plan) {
                place(executor, child)?;
            }
            Ok(())
        }
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

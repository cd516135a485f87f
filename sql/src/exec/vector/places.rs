//! Where the parts of a plan would run, without running anything of it.
//!
//! It goes through a plan as `lower` does, and what spreads there spreads here. What subqueries
//! would read is not looked at: lowering runs them.

use crate::error::SqlError;
use crate::exec::query::is_large;
use crate::exec::remote::{spread_of_groups, spread_of_rows};
use crate::exec::rows::Executor;
use crate::plan::node::{Op, Plan};
use crate::plan::prune::children;

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

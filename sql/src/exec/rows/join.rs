//! Joins: by hash where there are keys, else by trying all pairs; lateral ones by running the
//! right side for each left row.

use std::collections::HashMap;

use crate::bind::tree::Expr;
use crate::error::SqlError;
use crate::exec::vector::keys::widened;
use crate::plan::node::{JoinKey, JoinType, Op, Plan};
use crate::types::{Datum, sort_key};

use super::Values;
use super::env::{Env, Slots};
use super::executor::{Executor, Subqueries};

/// One join's right side and how its partners are found.
struct Partners<'a> {
    rows: &'a [Values],
    /// Positions by key; `None` without keys: every row.
    by_key: Option<HashMap<Vec<u8>, Vec<u32>>>,
}

/// A join gives others a chance to go on, or to cancel it, after so many pairs of rows.
const PAUSE_PAIRS: usize = 1_024;

impl Executor {
    pub(super) async fn join(
        &self,
        plan: &Plan,
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<Values>, SqlError> {
        let Op::Join {
            kind,
            left,
            right,
            keys,
            residual,
            lateral,
        } = &plan.op
        else {
            return Err(SqlError::internal("not a join"));
        };
        let left_rows = self.run(left, outer, None).await?;
        self.hold(left_rows.len(), left.columns.len())?;
        let (left_slots, right_slots) = (Slots::new(&left.columns), Slots::new(&right.columns));
        let width = right.columns.len();
        let residual_subqueries = Subqueries::of(residual.iter());
        let mut out = Vec::new();
        if *lateral {
            for row in left_rows {
                let env = Env::new(&left_slots, &row, outer);
                let right_rows = self.run(right, Some(&env), None).await?;
                let mut matched = false;
                for other in right_rows {
                    let env = Env::new(&right_slots, &other, Some(&env));
                    let results = residual_subqueries.run(self, &env).await?;
                    if self.all_true(residual, &env.with(&results))? {
                        matched = true;
                        if emit(*kind, &row, &other, &mut out) {
                            break;
                        }
                    }
                }
                unmatched_left(*kind, matched, row, width, &mut out);
            }
            self.hold(out.len(), plan.columns.len())?;
            return Ok(out);
        }
        let right_rows =
            if left_rows.is_empty() && !matches!(kind, JoinType::Right | JoinType::Full) {
                Vec::new()
            } else {
                self.run(right, outer, None).await?
            };
        self.hold(right_rows.len(), width)?;
        let by_key = if keys.is_empty() {
            None
        } else {
            let mut by_key: HashMap<Vec<u8>, Vec<u32>> = HashMap::with_capacity(right_rows.len());
            for (i, row) in right_rows.iter().enumerate() {
                let env = Env::new(&right_slots, row, outer);
                if let Some(key) = self.join_key(keys, false, &env)? {
                    by_key
                        .entry(key)
                        .or_default()
                        .push(u32::try_from(i).unwrap_or(u32::MAX));
                }
            }
            Some(by_key)
        };
        let partners = Partners {
            rows: &right_rows,
            by_key,
        };
        let mut used = vec![false; right_rows.len()];
        // Rows and pairs of rows so far: one row may meet a million others.
        let mut looked_at = 0_usize;
        for row in left_rows {
            if looked_at.is_multiple_of(PAUSE_PAIRS) {
                self.pause().await?;
            }
            looked_at += 1;
            let env = Env::new(&left_slots, &row, outer);
            let candidates: Box<dyn Iterator<Item = usize> + Send + '_> = match &partners.by_key {
                None => Box::new(0..partners.rows.len()),
                Some(by_key) => match self.join_key(keys, true, &env)? {
                    Some(key) => match by_key.get(&key) {
                        Some(found) => Box::new(found.iter().map(|i| *i as usize)),
                        None => Box::new(std::iter::empty()),
                    },
                    None => Box::new(std::iter::empty()),
                },
            };
            let mut matched = false;
            let before = out.len();
            for i in candidates {
                let Some(other) = partners.rows.get(i) else {
                    continue;
                };
                if looked_at.is_multiple_of(PAUSE_PAIRS) {
                    self.pause().await?;
                }
                looked_at += 1;
                let env = Env::new(&right_slots, other, Some(&env));
                let holds = if residual_subqueries.is_empty() {
                    self.all_true(residual, &env)?
                } else {
                    let results = residual_subqueries.run(self, &env).await?;
                    self.all_true(residual, &env.with(&results))?
                };
                if holds {
                    matched = true;
                    if let Some(flag) = used.get_mut(i) {
                        *flag = true;
                    }
                    if emit(*kind, &row, other, &mut out) {
                        break;
                    }
                }
            }
            unmatched_left(*kind, matched, row, width, &mut out);
            self.hold(out.len() - before, plan.columns.len())?;
        }
        if matches!(kind, JoinType::Right | JoinType::Full) {
            for (row, used) in right_rows.iter().zip(used) {
                if !used {
                    let mut new = vec![Datum::Null; left.columns.len()];
                    new.extend_from_slice(row);
                    out.push(new);
                }
            }
        }
        Ok(out)
    }

    /// The hash key of one side, `None` if a part is NULL.
    fn join_key(
        &self,
        keys: &[JoinKey],
        left: bool,
        env: &Env<'_>,
    ) -> Result<Option<Vec<u8>>, SqlError> {
        let mut bytes = Vec::with_capacity(keys.len() * 9);
        for key in keys {
            let expr: &Expr = if left { &key.left } else { &key.right };
            let value = self.eval(expr, env)?;
            if value.is_null() {
                return Ok(None);
            }
            let (value, oid) = widened(value, key.left.ty().oid, key.right.ty().oid);
            sort_key::append(&value, oid, &mut bytes);
        }
        Ok(Some(bytes))
    }
}

/// Adds a pair; true when the left row needs no more partners.
fn emit(kind: JoinType, left: &[Datum], right: &[Datum], out: &mut Vec<Values>) -> bool {
    match kind {
        JoinType::Semi => {
            out.push(left.to_vec());
            true
        }
        JoinType::Anti => true,
        _ => {
            let mut row = Vec::with_capacity(left.len() + right.len());
            row.extend_from_slice(left);
            row.extend_from_slice(right);
            out.push(row);
            false
        }
    }
}

fn unmatched_left(
    kind: JoinType,
    matched: bool,
    mut row: Values,
    right_width: usize,
    out: &mut Vec<Values>,
) {
    if matched {
        return;
    }
    match kind {
        JoinType::Left | JoinType::Full => {
            row.resize(row.len() + right_width, Datum::Null);
            out.push(row);
        }
        JoinType::Anti => out.push(row),
        _ => {}
    }
}

//! DISTINCT, LIMIT, UNION and family, recursive CTEs.

use std::collections::{HashMap, HashSet};

use crate::bind::tree::{Column, Expr, SetOp, SortKey};
use crate::error::{SqlError, SqlState};
use crate::plan::node::{Op, Plan};
use crate::types::Datum;

use super::Values;
use super::env::{Env, Slots};
use super::executor::{Executor, Subqueries};
use super::order::group_key;

fn row_key(row: &[Datum], columns: &[Column]) -> Vec<u8> {
    let mut key = Vec::with_capacity(row.len() * 9);
    for (value, column) in row.iter().zip(columns) {
        group_key(value, column.ty.oid, &mut key);
    }
    key
}

fn is_use_of(plan: &Plan, cte: u32) -> bool {
    match &plan.op {
        Op::CteRef { cte: used, .. } => *used == cte,
        Op::Project { input, .. } => is_use_of(input, cte),
        _ => false,
    }
}

impl Executor {
    pub(super) async fn distinct(
        &self,
        input: &Plan,
        on: &[Expr],
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<Values>, SqlError> {
        let rows = self.run(input, outer, None).await?;
        let mut seen = HashSet::with_capacity(rows.len());
        let mut out = Vec::new();
        let slots = Slots::new(&input.columns);
        let needed = Subqueries::of(on);
        for row in rows {
            let key = if on.is_empty() {
                row_key(&row, &input.columns)
            } else {
                let env = Env::new(&slots, &row, outer);
                let results = needed.run(self, &env).await?;
                self.key_of(on, &env.with(&results))?
            };
            if seen.insert(key) {
                out.push(row);
            }
        }
        Ok(out)
    }

    /// The value of a LIMIT or OFFSET; `None` if there is none.
    async fn count(
        &self,
        expr: Option<&Expr>,
        outer: Option<&Env<'_>>,
        name: &str,
        state: SqlState,
    ) -> Result<Option<u64>, SqlError> {
        let Some(expr) = expr else { return Ok(None) };
        let slots = Slots::default();
        let values = self
            .computed(std::slice::from_ref(expr), &slots, &[], outer)
            .await?;
        match values.first().and_then(Datum::as_i64) {
            None => Ok(None),
            Some(n) => match u64::try_from(n) {
                Ok(n) => Ok(Some(n)),
                Err(_) => Err(SqlError::new(state, format!("{name} must not be negative"))),
            },
        }
    }

    /// The values of LIMIT and OFFSET.
    pub async fn bounds(
        &self,
        limit: Option<&Expr>,
        offset: Option<&Expr>,
        outer: Option<&Env<'_>>,
    ) -> Result<(Option<u64>, u64), SqlError> {
        let offset = self
            .count(
                offset,
                outer,
                "OFFSET",
                SqlState::INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE,
            )
            .await?
            .unwrap_or(0);
        let limit = self
            .count(
                limit,
                outer,
                "LIMIT",
                SqlState::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE,
            )
            .await?;
        Ok((limit, offset))
    }

    pub(super) async fn limit(
        &self,
        input: &Plan,
        limit: Option<&Expr>,
        offset: Option<&Expr>,
        with_ties: Option<&[SortKey]>,
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<Values>, SqlError> {
        let (limit, offset) = self.bounds(limit, offset, outer).await?;
        if limit == Some(0) {
            return Ok(Vec::new());
        }
        let wanted = limit
            .map(|l| l.saturating_add(offset))
            .filter(|_| with_ties.is_none());
        let rows = self.run(input, outer, wanted).await?;
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let keep = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let Some(keys) = with_ties else {
            return Ok(rows.into_iter().skip(skip).take(keep).collect());
        };
        let keyed = self.keyed(rows, &input.columns, keys, outer).await?;
        let mut out: Vec<(Vec<u8>, Values)> = Vec::new();
        for (key, row) in keyed.into_iter().skip(skip) {
            if out.len() >= keep && out.last().is_some_and(|(last, _)| *last != key) {
                break;
            }
            out.push((key, row));
        }
        Ok(out.into_iter().map(|(_, row)| row).collect())
    }

    pub(super) async fn set_operation(
        &self,
        op: SetOp,
        all: bool,
        left: &Plan,
        right: &Plan,
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<Values>, SqlError> {
        let mut rows = self.run(left, outer, None).await?;
        self.hold(rows.len(), left.columns.len())?;
        let others = self.run(right, outer, None).await?;
        if op == SetOp::Union {
            rows.extend(others);
            if !all {
                let mut seen = HashSet::with_capacity(rows.len());
                rows.retain(|row| seen.insert(row_key(row, &left.columns)));
            }
            return Ok(rows);
        }
        let mut counts: HashMap<Vec<u8>, usize> = HashMap::with_capacity(others.len());
        for row in &others {
            *counts.entry(row_key(row, &right.columns)).or_default() += 1;
        }
        let mut emitted = HashSet::new();
        rows.retain(|row| {
            let key = row_key(row, &left.columns);
            if all {
                let left = counts.get_mut(&key).filter(|n| **n > 0);
                let found = left.is_some();
                if let Some(n) = left {
                    *n -= 1;
                }
                return found == (op == SetOp::Intersect);
            }
            counts.contains_key(&key) == (op == SetOp::Intersect) && emitted.insert(key)
        });
        Ok(rows)
    }

    /// How many rows of a recursive CTE its use can see: a LIMIT directly above it ends recursions
    /// that would not end by themselves.
    pub(super) async fn enough(
        &self,
        body: &Plan,
        cte: u32,
        outer: Option<&Env<'_>>,
    ) -> Result<usize, SqlError> {
        let Op::Limit {
            input,
            limit,
            offset,
            with_ties: None,
        } = &body.op
        else {
            return Ok(usize::MAX);
        };
        if !is_use_of(input, cte) {
            return Ok(usize::MAX);
        }
        let (limit, offset) = self.bounds(limit.as_ref(), offset.as_ref(), outer).await?;
        let enough = limit.map_or(u64::MAX, |l| l.saturating_add(offset));
        Ok(usize::try_from(enough).unwrap_or(usize::MAX))
    }

    pub(super) async fn recursive(
        &self,
        cte: u32,
        first: &Plan,
        step: &Plan,
        all: bool,
        outer: Option<&Env<'_>>,
        enough: usize,
    ) -> Result<Vec<Values>, SqlError> {
        let mut seen = HashSet::new();
        let mut working = self.run(first, outer, None).await?;
        if !all {
            working.retain(|row| seen.insert(row_key(row, &first.columns)));
        }
        let mut out = working.clone();
        while !working.is_empty() && out.len() < enough {
            self.pause().await?;
            self.hold(working.len(), first.columns.len())?;
            self.set_cte(cte, std::mem::take(&mut working));
            self.forget();
            working = self.run(step, outer, None).await?;
            if !all {
                working.retain(|row| seen.insert(row_key(row, &first.columns)));
            }
            out.extend(working.iter().cloned());
        }
        self.forget();
        Ok(out)
    }
}

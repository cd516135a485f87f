//! Window functions: each partition is sorted, each row gets its frame, the function looks at it.

use std::collections::HashMap;
use std::ops::Range;

use crate::bind::tree::{Column, FrameBound, FrameUnit, WindowCall};
use crate::error::{SqlError, SqlState};
use crate::plan::node::Plan;
use crate::types::registry::{FunctionBody, registry};
use crate::types::{Datum, Oid};

use super::Values;
use super::aggregate::{argument_types, body};
use super::env::{Env, Slots};
use super::executor::{Executor, Subqueries};

/// One sorted partition.
struct Partition {
    /// Positions of the rows in order.
    rows: Vec<usize>,
    /// For each of them the number of its peer group.
    peers: Vec<usize>,
    /// Where each peer group lies.
    groups: Vec<Range<usize>>,
}

impl Executor {
    pub(super) async fn window(
        &self,
        input: &Plan,
        calls: &[WindowCall],
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<Values>, SqlError> {
        let rows = self.run(input, outer, None).await?;
        self.hold(rows.len(), input.columns.len() + calls.len())?;
        let mut results: Vec<Vec<Datum>> = Vec::with_capacity(calls.len());
        for call in calls {
            results.push(self.window_call(&rows, &input.columns, call, outer).await?);
        }
        // The order of the last call's window is what PostgreSQL would show.
        let mut out = Vec::with_capacity(rows.len());
        let order = match calls.first() {
            Some(call) => {
                self.window_order(&rows, &input.columns, call, outer)
                    .await?
            }
            None => (0..rows.len()).collect(),
        };
        let mut rows: Vec<Option<Values>> = rows.into_iter().map(Some).collect();
        for i in order {
            let Some(mut row) = rows.get_mut(i).and_then(Option::take) else {
                continue;
            };
            for column in &mut results {
                row.push(column.get_mut(i).map(std::mem::take).unwrap_or_default());
            }
            out.push(row);
        }
        Ok(out)
    }

    async fn window_order(
        &self,
        rows: &[Values],
        columns: &[Column],
        call: &WindowCall,
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<usize>, SqlError> {
        let mut keyed = self.window_keys(rows, columns, call, outer).await?;
        keyed.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Ok(keyed.into_iter().map(|(_, _, i)| i).collect())
    }

    /// Partition bytes and order bytes of each row.
    async fn window_keys(
        &self,
        rows: &[Values],
        columns: &[Column],
        call: &WindowCall,
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>, usize)>, SqlError> {
        let slots = Slots::new(columns);
        let needed = Subqueries::of(
            call.partition
                .iter()
                .chain(call.order.iter().map(|k| &k.expr)),
        );
        let mut keyed = Vec::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            let env = Env::new(&slots, row, outer);
            let results = needed.run(self, &env).await?;
            let env = env.with(&results);
            let partition = self.key_of(&call.partition, &env)?;
            let mut order = Vec::new();
            for key in &call.order {
                crate::table::key::append_secondary(
                    &self.eval(&key.expr, &env)?,
                    key.expr.ty().oid,
                    key.descending,
                    key.nulls_first,
                    &mut order,
                );
            }
            keyed.push((partition, order, i));
        }
        Ok(keyed)
    }

    async fn window_call(
        &self,
        rows: &[Values],
        columns: &[Column],
        call: &WindowCall,
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<Datum>, SqlError> {
        let slots = Slots::new(columns);
        let needed = Subqueries::of(call.args.iter().chain(&call.filter));
        let mut args: Vec<Option<Values>> = Vec::with_capacity(rows.len());
        for row in rows {
            let env = Env::new(&slots, row, outer);
            let results = needed.run(self, &env).await?;
            let env = env.with(&results);
            let taken = match &call.filter {
                Some(filter) => matches!(self.eval(filter, &env)?, Datum::Bool(true)),
                None => true,
            };
            let values = call
                .args
                .iter()
                .map(|a| self.eval(a, &env))
                .collect::<Result<Values, _>>()?;
            args.push(taken.then_some(values));
        }
        let mut partitions: HashMap<Vec<u8>, Vec<(Vec<u8>, usize)>> = HashMap::new();
        for (partition, order, i) in self.window_keys(rows, columns, call, outer).await? {
            partitions.entry(partition).or_default().push((order, i));
        }
        let mut out = vec![Datum::Null; rows.len()];
        for mut members in partitions.into_values() {
            self.pause().await?;
            members.sort_by(|a, b| a.0.cmp(&b.0));
            let partition = Partition::new(&members);
            let values = match &call.function.body {
                FunctionBody::Window { native } => {
                    self.ranking(native, call, &partition, rows, &slots, &args, outer)?
                }
                _ => self.framed_aggregate(call, &partition, rows, &slots, &args, outer)?,
            };
            for (i, value) in partition.rows.iter().zip(values) {
                if let Some(place) = out.get_mut(*i) {
                    *place = value;
                }
            }
        }
        Ok(out)
    }

    fn framed_aggregate(
        &self,
        call: &WindowCall,
        partition: &Partition,
        rows: &[Values],
        slots: &Slots,
        args: &[Option<Values>],
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<Datum>, SqlError> {
        let aggregate = body(call.function)?;
        let types = argument_types(&call.args);
        let mut out = Vec::with_capacity(partition.rows.len());
        let mut state = (aggregate.start)(&types);
        let mut covered = 0..0;
        let mut last: Option<(Range<usize>, Datum)> = None;
        for at in 0..partition.rows.len() {
            let frame = self.frame(call, partition, at, rows, slots, outer)?;
            if let Some((before, value)) = &last
                && *before == frame
            {
                out.push(value.clone());
                continue;
            }
            // A frame that only grows at its end goes on with the same state.
            if frame.start != covered.start || frame.end < covered.end {
                state = (aggregate.start)(&types);
                covered = frame.start..frame.start;
            }
            for i in covered.end..frame.end {
                if let Some(values) = partition.args_at(i, args)
                    && !(aggregate.strict && values.iter().any(Datum::is_null))
                {
                    state.update(values)?;
                }
            }
            covered = frame.start..frame.end.max(frame.start);
            let value = state.finish()?;
            out.push(value.clone());
            last = Some((frame, value));
        }
        Ok(out)
    }

    #[expect(clippy::too_many_arguments, reason = "one call's whole state")]
    fn ranking(
        &self,
        name: &str,
        call: &WindowCall,
        partition: &Partition,
        rows: &[Values],
        slots: &Slots,
        args: &[Option<Values>],
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<Datum>, SqlError> {
        let count = partition.rows.len();
        let int = |n: usize| Datum::Int8(i64::try_from(n).unwrap_or(i64::MAX));
        let arg = |at: usize, n: usize| -> Datum {
            let row = partition.args_at(at, args);
            row.and_then(|a| a.get(n)).cloned().unwrap_or_default()
        };
        let mut out = Vec::with_capacity(count);
        for at in 0..count {
            let peer = partition.peers.get(at).copied().unwrap_or(0);
            let group = partition.groups.get(peer).cloned().unwrap_or(at..at + 1);
            out.push(match name {
                "row_number" => int(at + 1),
                "rank" => int(group.start + 1),
                "dense_rank" => int(peer + 1),
                "percent_rank" if count <= 1 => Datum::Float8(0.0),
                "percent_rank" => Datum::Float8(group.start as f64 / (count - 1) as f64),
                "cume_dist" => Datum::Float8(group.end as f64 / count as f64),
                "ntile" => {
                    let Some(buckets) = arg(0, 0).as_i64() else {
                        out.push(Datum::Null);
                        continue;
                    };
                    let buckets = usize::try_from(buckets)
                        .ok()
                        .filter(|n| *n > 0)
                        .ok_or_else(|| {
                            SqlError::new(
                                SqlState::INVALID_ARGUMENT_FOR_NTILE,
                                "argument of ntile must be greater than zero",
                            )
                        })?;
                    let (small, large) = (count / buckets, count % buckets);
                    let boundary = large * (small + 1);
                    let bucket = if at < boundary {
                        at / (small + 1)
                    } else {
                        large + (at - boundary) / small.max(1)
                    };
                    Datum::Int4(i32::try_from(bucket + 1).unwrap_or(i32::MAX))
                }
                "lag" | "lead" => {
                    let offset = if call.args.len() > 1 {
                        arg(at, 1).as_i64()
                    } else {
                        Some(1)
                    };
                    let Some(offset) = offset else {
                        out.push(Datum::Null);
                        continue;
                    };
                    let offset = if name == "lag" {
                        offset.saturating_neg()
                    } else {
                        offset
                    };
                    let target = i64::try_from(at).unwrap_or(i64::MAX).checked_add(offset);
                    match target
                        .and_then(|t| usize::try_from(t).ok())
                        .filter(|t| *t < count)
                    {
                        Some(target) => arg(target, 0),
                        None => arg(at, 2),
                    }
                }
                "first_value" | "last_value" | "nth_value" => {
                    let frame = self.frame(call, partition, at, rows, slots, outer)?;
                    let wanted = match name {
                        "first_value" => Some(frame.start),
                        "last_value" => frame.end.checked_sub(1),
                        _ => {
                            let Some(n) = arg(at, 1).as_i64() else {
                                out.push(Datum::Null);
                                continue;
                            };
                            let n =
                                usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| {
                                    SqlError::new(
                                        SqlState::INVALID_ARGUMENT_FOR_NTH_VALUE,
                                        "argument of nth_value must be greater than zero",
                                    )
                                })?;
                            Some(frame.start + n - 1)
                        }
                    };
                    match wanted.filter(|w| frame.contains(w)) {
                        Some(wanted) => arg(wanted, 0),
                        None => Datum::Null,
                    }
                }
                other => {
                    return Err(SqlError::unsupported(format_args!(
                        "window function {other}"
                    )));
                }
            });
        }
        Ok(out)
    }

    /// The frame of the row at `at`, as positions within the partition.
    fn frame(
        &self,
        call: &WindowCall,
        partition: &Partition,
        at: usize,
        rows: &[Values],
        slots: &Slots,
        outer: Option<&Env<'_>>,
    ) -> Result<Range<usize>, SqlError> {
        let count = partition.rows.len();
        let peer = partition.peers.get(at).copied().unwrap_or(0);
        let group = |g: usize| partition.groups.get(g).cloned().unwrap_or(count..count);
        let Some((unit, start, end)) = &call.frame else {
            return Ok(0..group(peer).end);
        };
        let offset = |bound: &crate::bind::tree::Expr, which: &str| -> Result<usize, SqlError> {
            let slots = Slots::default();
            let value = self.eval(bound, &Env::new(&slots, &[], outer))?;
            let Some(n) = value.as_i64() else {
                return Err(SqlError::new(
                    SqlState::NULL_VALUE_NOT_ALLOWED,
                    format!("frame {which} offset must not be null"),
                ));
            };
            usize::try_from(n).map_err(|_| {
                SqlError::new(
                    SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE,
                    format!("frame {which} offset must not be negative"),
                )
            })
        };
        let first = match (unit, start) {
            (_, FrameBound::UnboundedPreceding) => 0,
            (_, FrameBound::UnboundedFollowing) => count,
            (FrameUnit::Rows, FrameBound::CurrentRow) => at,
            (_, FrameBound::CurrentRow) => group(peer).start,
            (FrameUnit::Rows, FrameBound::Preceding(n)) => {
                at.saturating_sub(offset(n, "starting")?)
            }
            (FrameUnit::Rows, FrameBound::Following(n)) => {
                at.saturating_add(offset(n, "starting")?).min(count)
            }
            (FrameUnit::Groups, FrameBound::Preceding(n)) => {
                group(peer.saturating_sub(offset(n, "starting")?)).start
            }
            (FrameUnit::Groups, FrameBound::Following(n)) => {
                group(peer.saturating_add(offset(n, "starting")?)).start
            }
            (FrameUnit::Range, FrameBound::Preceding(n) | FrameBound::Following(n)) => {
                let before = matches!(start, FrameBound::Preceding(_));
                self.range_edge(call, partition, at, rows, slots, outer, n, before, true)?
            }
        };
        let last = match (unit, end) {
            (_, FrameBound::UnboundedPreceding) => 0,
            (_, FrameBound::UnboundedFollowing) => count,
            (FrameUnit::Rows, FrameBound::CurrentRow) => at + 1,
            (_, FrameBound::CurrentRow) => group(peer).end,
            (FrameUnit::Rows, FrameBound::Preceding(n)) => {
                (at + 1).saturating_sub(offset(n, "ending")?)
            }
            (FrameUnit::Rows, FrameBound::Following(n)) => at
                .saturating_add(offset(n, "ending")?)
                .saturating_add(1)
                .min(count),
            (FrameUnit::Groups, FrameBound::Preceding(n)) => {
                match peer.checked_sub(offset(n, "ending")?) {
                    Some(g) => group(g).end,
                    None => 0,
                }
            }
            (FrameUnit::Groups, FrameBound::Following(n)) => {
                let wanted = peer.saturating_add(offset(n, "ending")?);
                group(wanted.min(partition.groups.len().saturating_sub(1))).end
            }
            (FrameUnit::Range, FrameBound::Preceding(n) | FrameBound::Following(n)) => {
                let before = matches!(end, FrameBound::Preceding(_));
                self.range_edge(call, partition, at, rows, slots, outer, n, before, false)?
            }
        };
        Ok(first..last.max(first))
    }

    /// RANGE with an offset: the first row (or the row after the last) whose key lies within it.
    #[expect(clippy::too_many_arguments, reason = "one row's whole state")]
    fn range_edge(
        &self,
        call: &WindowCall,
        partition: &Partition,
        at: usize,
        rows: &[Values],
        slots: &Slots,
        outer: Option<&Env<'_>>,
        offset: &crate::bind::tree::Expr,
        before: bool,
        start: bool,
    ) -> Result<usize, SqlError> {
        let [key] = call.order.as_slice() else {
            return Err(SqlError::new(
                SqlState::WINDOWING_ERROR,
                "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column",
            ));
        };
        let value_at = |i: usize| -> Result<Datum, SqlError> {
            let row = partition.rows.get(i).and_then(|r| rows.get(*r));
            self.eval(
                &key.expr,
                &Env::new(slots, row.map_or(&[], Vec::as_slice), outer),
            )
        };
        let peer = partition.peers.get(at).copied().unwrap_or(0);
        let group = partition.groups.get(peer).cloned().unwrap_or(at..at + 1);
        let current = value_at(at)?;
        if current.is_null() {
            return Ok(if start { group.start } else { group.end });
        }
        let empty = Slots::default();
        let offset_value = self.eval(offset, &Env::new(&empty, &[], outer))?;
        let subtract = before != key.descending;
        let edge = shifted(
            &current,
            key.expr.ty().oid,
            &offset_value,
            offset.ty().oid,
            subtract,
            self.cx.eval.as_ref(),
        )?;
        for i in 0..partition.rows.len() {
            let value = value_at(i)?;
            if value.is_null() {
                // NULLs lie at one end, outside of every frame of a value.
                let leading = i < group.start;
                if leading || start {
                    if !leading {
                        return Ok(i);
                    }
                    continue;
                }
                return Ok(i);
            }
            let ordering = widest(&value, &edge);
            let ordering = if key.descending {
                ordering.reverse()
            } else {
                ordering
            };
            if (start && ordering.is_ge()) || (!start && ordering.is_gt()) {
                return Ok(i);
            }
        }
        Ok(partition.rows.len())
    }
}

fn widest(a: &Datum, b: &Datum) -> std::cmp::Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => crate::types::compare(a, b),
    }
}

/// `value - offset` or `value + offset` by the operator for these types.
fn shifted(
    value: &Datum,
    ty: Oid,
    offset: &Datum,
    offset_ty: Oid,
    subtract: bool,
    cx: &dyn crate::types::registry::EvalContext,
) -> Result<Datum, SqlError> {
    if let (Some(v), Some(o)) = (value.as_i64(), offset.as_i64()) {
        if o < 0 {
            return Err(SqlError::new(
                SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE,
                "invalid preceding or following size in window function",
            ));
        }
        return Ok(Datum::Int8(if subtract {
            v.saturating_sub(o)
        } else {
            v.saturating_add(o)
        }));
    }
    let name = if subtract { "-" } else { "+" };
    let found = registry()
        .operators_named(name)
        .iter()
        .find(|o| o.left == ty && o.right == offset_ty)
        .ok_or_else(|| {
            SqlError::unsupported("RANGE with offset PRECEDING/FOLLOWING for these types")
        })?;
    crate::exec::interp::call(found.function, &[value.clone(), offset.clone()], cx)
}

impl Partition {
    fn new(members: &[(Vec<u8>, usize)]) -> Self {
        let (mut peers, mut groups) = (Vec::with_capacity(members.len()), Vec::new());
        let mut from = 0;
        for (i, (order, _)) in members.iter().enumerate() {
            if i > 0
                && members
                    .get(i - 1)
                    .is_some_and(|(before, _)| before != order)
            {
                groups.push(from..i);
                from = i;
            }
            peers.push(groups.len());
        }
        groups.push(from..members.len());
        Self {
            rows: members.iter().map(|(_, i)| *i).collect(),
            peers,
            groups,
        }
    }

    /// The arguments of a call in the row at a place of the partition, `None` where FILTER leaves
    /// the row out.
    fn args_at<'a>(&self, at: usize, args: &'a [Option<Values>]) -> Option<&'a Values> {
        args.get(*self.rows.get(at)?)?.as_ref()
    }
}

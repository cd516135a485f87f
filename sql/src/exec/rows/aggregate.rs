//! GROUP BY with grouping sets, DISTINCT, FILTER and ORDER BY within aggregates.

use std::collections::{HashMap, HashSet};

use crate::bind::tree::{AggCall, Expr};
use crate::error::SqlError;
use crate::plan::node::{Op, Plan};
use crate::types::registry::{AggregateImpl, AggregateState, Function, FunctionBody};
use crate::types::{Datum, PgType};

use super::Values;
use super::env::{Env, Slots};
use super::executor::{Executor, Subqueries};
use super::order::group_key;

/// The aggregate's body of a function.
pub(super) fn body(function: &'static Function) -> Result<&'static AggregateImpl, SqlError> {
    match &function.body {
        FunctionBody::Aggregate(body) => Ok(body),
        _ => Err(SqlError::internal(format!(
            "{} is not an aggregate",
            function.name
        ))),
    }
}

/// One aggregate of one group.
struct Running {
    state: Box<dyn AggregateState>,
    seen: Option<HashSet<Vec<u8>>>,
    /// Arguments that wait to be sorted.
    waiting: Vec<(Vec<u8>, Values)>,
}

struct Group {
    keys: Values,
    calls: Vec<Running>,
}

/// The groups of an aggregation while its input arrives.
pub struct Grouper {
    sets: Vec<Vec<usize>>,
    /// For each set the position of each group by key.
    index: Vec<HashMap<Vec<u8>, usize>>,
    groups: Vec<Vec<Group>>,
    slots: Slots,
}

/// The parts of an aggregation.
fn parts(plan: &Plan) -> Result<(&Plan, &[Expr], &[Vec<usize>], &[AggCall]), SqlError> {
    match &plan.op {
        Op::Aggregate {
            input,
            keys,
            grouping,
            calls,
            ..
        } => Ok((input, keys, grouping, calls)),
        _ => Err(SqlError::internal("not an aggregate")),
    }
}

impl Grouper {
    /// No groups yet. `plan` is the same in all calls.
    pub fn new(plan: &Plan) -> Result<Self, SqlError> {
        let (input, keys, ..) = parts(plan)?;
        let sets = match &plan.op {
            Op::Aggregate {
                sets: Some(sets), ..
            } => sets.clone(),
            _ => vec![(0..keys.len()).collect()],
        };
        Ok(Self {
            index: vec![HashMap::new(); sets.len()],
            groups: sets.iter().map(|_| Vec::new()).collect(),
            slots: Slots::new(&input.columns),
            sets,
        })
    }

    /// Takes rows of the input.
    pub async fn feed(
        &mut self,
        plan: &Plan,
        executor: &Executor,
        rows: &[Values],
        outer: Option<&Env<'_>>,
    ) -> Result<(), SqlError> {
        let (_, keys, _, calls) = parts(plan)?;
        let needed = Subqueries::of(keys.iter().chain(calls.iter().flat_map(|c| {
            c.args
                .iter()
                .chain(&c.filter)
                .chain(c.order.iter().map(|k| &k.expr))
        })));
        for (n, row) in rows.iter().enumerate() {
            if n % 1_024 == 0 {
                executor.pause().await?;
            }
            let env = Env::new(&self.slots, row, outer);
            let results = if needed.is_empty() {
                Vec::new()
            } else {
                needed.run(executor, &env).await?
            };
            let env = env.with(&results);
            let values = keys
                .iter()
                .map(|k| executor.eval(k, &env))
                .collect::<Result<Values, _>>()?;
            let inputs = executor.inputs(calls, &env)?;
            for ((set, index), groups) in
                self.sets.iter().zip(&mut self.index).zip(&mut self.groups)
            {
                let mut bytes = Vec::with_capacity(set.len() * 9);
                for at in set {
                    if let (Some(value), Some(key)) = (values.get(*at), keys.get(*at)) {
                        group_key(value, key.ty().oid, &mut bytes);
                    }
                }
                let at = match index.get(&bytes) {
                    Some(at) => *at,
                    None => {
                        index.insert(bytes, groups.len());
                        executor.hold(1, keys.len() + calls.len() * 2)?;
                        groups.push(Group {
                            keys: values.clone(),
                            calls: start(calls)?,
                        });
                        groups.len() - 1
                    }
                };
                if let Some(group) = groups.get_mut(at) {
                    take(calls, &mut group.calls, &inputs)?;
                }
            }
        }
        Ok(())
    }

    /// The rows of all groups.
    pub fn finish(self, plan: &Plan) -> Result<Vec<Values>, SqlError> {
        let (_, keys, grouping, calls) = parts(plan)?;
        let mut out = Vec::new();
        for (set, mut groups) in self.sets.iter().zip(self.groups) {
            // Without keys there is a group even without rows.
            if groups.is_empty() && set.is_empty() {
                groups.push(Group {
                    keys: vec![Datum::Null; keys.len()],
                    calls: start(calls)?,
                });
            }
            for group in groups {
                let mut row: Values = group
                    .keys
                    .into_iter()
                    .enumerate()
                    .map(|(i, v)| if set.contains(&i) { v } else { Datum::Null })
                    .collect();
                for asked in grouping {
                    let bits = asked
                        .iter()
                        .fold(0, |bits, key| bits << 1 | i32::from(!set.contains(key)));
                    row.push(Datum::Int4(bits));
                }
                for running in group.calls {
                    row.push(running.finish()?);
                }
                out.push(row);
            }
        }
        Ok(out)
    }
}

impl Executor {
    pub(super) async fn aggregate(
        &self,
        plan: &Plan,
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<Values>, SqlError> {
        let (input, ..) = parts(plan)?;
        let rows = self.run(input, outer, None).await?;
        let mut grouper = Grouper::new(plan)?;
        grouper.feed(plan, self, &rows, outer).await?;
        grouper.finish(plan)
    }

    /// What each call takes of one row: nothing if FILTER says so, else order bytes and arguments.
    #[expect(clippy::type_complexity, reason = "named by the doc comment")]
    fn inputs(
        &self,
        calls: &[AggCall],
        env: &Env<'_>,
    ) -> Result<Vec<Option<(Vec<u8>, Values)>>, SqlError> {
        calls
            .iter()
            .map(|call| {
                if let Some(filter) = &call.filter
                    && !matches!(self.eval(filter, env)?, Datum::Bool(true))
                {
                    return Ok(None);
                }
                let args = call
                    .args
                    .iter()
                    .map(|a| self.eval(a, env))
                    .collect::<Result<Values, _>>()?;
                let mut order = Vec::new();
                for key in &call.order {
                    crate::table::key::append_secondary(
                        &self.eval(&key.expr, env)?,
                        key.expr.ty().oid,
                        key.descending,
                        key.nulls_first,
                        &mut order,
                    );
                }
                Ok(Some((order, args)))
            })
            .collect()
    }
}

/// Types of the arguments of a call.
pub(super) fn argument_types(args: &[Expr]) -> Vec<PgType> {
    args.iter().map(Expr::ty).collect()
}

fn start(calls: &[AggCall]) -> Result<Vec<Running>, SqlError> {
    calls
        .iter()
        .map(|call| {
            Ok(Running {
                state: (body(call.function)?.start)(&argument_types(&call.args)),
                seen: call.distinct.then(HashSet::new),
                waiting: Vec::new(),
            })
        })
        .collect()
}

fn take(
    calls: &[AggCall],
    running: &mut [Running],
    inputs: &[Option<(Vec<u8>, Values)>],
) -> Result<(), SqlError> {
    for ((call, running), input) in calls.iter().zip(running).zip(inputs) {
        let Some((order, args)) = input else { continue };
        if body(call.function)?.strict && args.iter().any(Datum::is_null) {
            continue;
        }
        if let Some(seen) = &mut running.seen {
            let mut bytes = Vec::new();
            for (value, arg) in args.iter().zip(&call.args) {
                group_key(value, arg.ty().oid, &mut bytes);
            }
            if !seen.insert(bytes.clone()) {
                continue;
            }
            // DISTINCT without ORDER BY comes sorted, as PostgreSQL does it.
            if call.order.is_empty() {
                running.waiting.push((bytes, args.clone()));
                continue;
            }
        }
        if call.order.is_empty() {
            running.state.update(args)?;
        } else {
            running.waiting.push((order.clone(), args.clone()));
        }
    }
    Ok(())
}

impl Running {
    fn finish(mut self) -> Result<Datum, SqlError> {
        super::order::sort_rows(&mut self.waiting);
        for (_, args) in &self.waiting {
            self.state.update(args)?;
        }
        self.state.finish()
    }
}

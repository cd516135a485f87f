//! Aggregates by DataFusion: whole, or in two halves where parts of the rows are read elsewhere.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::functions_aggregate::{average, bool_and_or, count, min_max, sum};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::lit;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};

use crate::bind::tree::AggCall;
use crate::error::SqlError;
use crate::exec::error::from_datafusion;
use crate::exec::remote::{self, Distribution, Half, Wanted};
use crate::exec::rows::Executor;
use crate::plan::node::{Op, Plan};
use crate::types::Oid;
use crate::types::registry::FunctionBody;

use super::expr::{Form, VectorExpr};
use super::leaf::schema_of;
use super::lower::{Lowered, all_away, bridge_one, lower, physical, plain_key, ready, unexpected};
use super::sums::{self, Exact};

/// DataFusion's aggregate for a call, and the form of its argument.
fn native(call: &AggCall) -> Option<(Arc<AggregateUDF>, Form)> {
    let FunctionBody::Aggregate(body) = &call.function.body else {
        return None;
    };
    let name = body.native?;
    let oid = call.args.first().map(|a| a.ty().oid);
    if !call.order.is_empty() || call.args.len() > 1 {
        return None;
    }
    let small_int = matches!(oid, Some(Oid::INT2 | Oid::INT4));
    let int = small_int || oid == Some(Oid::INT8);
    let exact = matches!(oid, Some(Oid::INT8 | Oid::NUMERIC));
    let moment = matches!(
        oid,
        Some(Oid::DATE | Oid::TIMESTAMP | Oid::TIMESTAMPTZ | Oid::TIME)
    );
    let text = matches!(
        oid,
        Some(Oid::TEXT | Oid::VARCHAR | Oid::BPCHAR | Oid::NAME)
    );
    if call.distinct {
        return (name == "count" && (int || moment || text))
            .then(|| (count::count_udaf(), Form::Plain));
    }
    match name {
        "count" => Some((count::count_udaf(), Form::Plain)),
        "sum" if small_int => Some((sum::sum_udaf(), Form::Widened)),
        "sum" if oid == Some(Oid::FLOAT8) => Some((sum::sum_udaf(), Form::Plain)),
        "sum" if exact => Some((sums::exact(Exact::Sum), Form::Plain)),
        "avg" if exact || small_int => Some((sums::exact(Exact::Average), Form::Plain)),
        "avg" if oid == Some(Oid::FLOAT8) => Some((average::avg_udaf(), Form::Plain)),
        "min" if int || moment || text => Some((min_max::min_udaf(), Form::Plain)),
        "max" if int || moment || text => Some((min_max::max_udaf(), Form::Plain)),
        "bool_and" | "every" => Some((bool_and_or::bool_and_udaf(), Form::Plain)),
        "bool_or" => Some((bool_and_or::bool_or_udaf(), Form::Plain)),
        _ => None,
    }
}

/// A grouping as DataFusion has it.
struct Grouped {
    by: PhysicalGroupBy,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// Of the rows that are grouped.
    schema: SchemaRef,
}

impl Grouped {
    fn exec(
        &self,
        mode: AggregateMode,
        input: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
        let by = match mode {
            AggregateMode::Final => self.by.as_final(),
            _ => self.by.clone(),
        };
        let (aggregates, filters) = (self.aggregates.clone(), self.filters.clone());
        let schema = Arc::clone(&self.schema);
        let exec = AggregateExec::try_new(mode, by, aggregates, filters, input, schema);
        Ok(Arc::new(exec.map_err(from_datafusion)?))
    }
}

/// Lowers an aggregate.
pub(super) async fn aggregate(executor: &Arc<Executor>, plan: &Plan) -> Result<Lowered, SqlError> {
    let Op::Aggregate { input, .. } = &plan.op else {
        return Err(unexpected());
    };
    if let Some(natives) = natives(plan)
        && let Some(distribution) = remote::distribution(executor, plan, Wanted::Groups).await?
    {
        return in_halves(executor, plan, natives, distribution).await;
    }
    let below = lower(executor, input).await?;
    let grouped = match natives(plan) {
        Some(natives) => grouped(executor, plan, natives, &below).await?,
        None => None,
    };
    let Some(grouped) = grouped else {
        return bridge_one(executor, plan, below, false);
    };
    Ok(Lowered {
        exec: grouped.exec(AggregateMode::Single, below.exec)?,
        columns: plan.columns.clone(),
    })
}

/// Whether nodes can do the first half of an aggregate of their rows.
pub(super) fn has_halves(plan: &Plan) -> bool {
    natives(plan).is_some()
}

/// A half of an aggregate that a part does.
pub async fn half_of(
    executor: &Arc<Executor>,
    plan: &Plan,
    half: Half,
) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
    let natives = natives(plan).ok_or_else(unexpected)?;
    let (grouped, first) = halved(executor, plan, natives).await?;
    match half {
        Half::First => Ok(first),
        Half::Second => {
            let firsts = remote::inlet(executor, 0, first.schema());
            grouped.exec(AggregateMode::Final, firsts)
        }
    }
}

/// Lowers an aggregate whose rows several nodes have: each does the first half of its own.
async fn in_halves(
    executor: &Arc<Executor>,
    plan: &Plan,
    natives: Natives,
    distribution: Distribution,
) -> Result<Lowered, SqlError> {
    let cx = &executor.cx;
    let (grouped, gathered) = match distribution {
        Distribution::Spread(spread) => {
            let here = spread.here();
            let own = here.work.plan(&here.spans, &spread.read);
            let (grouped, half) = halved(&here.executor(cx), &own, natives).await?;
            let away = all_away(executor, &spread).await?;
            (grouped, remote::gather(executor, &spread, half, away))
        }
        Distribution::Shuffled(shuffled) if shuffled.work.half() == Some(Half::Second) => {
            return Ok(Lowered {
                exec: remote::shuffle(executor, shuffled, schema_of(&plan.columns)),
                columns: plan.columns.clone(),
            });
        }
        Distribution::Shuffled(shuffled) => {
            // What the parts do; it is not run here.
            let own = shuffled.work.plan(&[], &Arc::default());
            let (grouped, half) = halved(&Executor::new(cx.clone()), &own, natives).await?;
            (grouped, remote::shuffle(executor, shuffled, half.schema()))
        }
    };
    Ok(Lowered {
        exec: grouped.exec(AggregateMode::Final, gathered)?,
        columns: plan.columns.clone(),
    })
}

/// An aggregate with its first half.
async fn halved(
    executor: &Arc<Executor>,
    plan: &Plan,
    natives: Natives,
) -> Result<(Grouped, Arc<dyn ExecutionPlan>), SqlError> {
    let Op::Aggregate { input, .. } = &plan.op else {
        return Err(unexpected());
    };
    let below = lower(executor, input).await?;
    let grouped = grouped(executor, plan, natives, &below).await?;
    let grouped = grouped.ok_or_else(unexpected)?;
    let half = grouped.exec(AggregateMode::Partial, below.exec)?;
    Ok((grouped, half))
}

type Natives = Vec<(Arc<AggregateUDF>, Form)>;

/// DataFusion's aggregates for the calls of a plan, if it can do all of it.
fn natives(plan: &Plan) -> Option<Natives> {
    let Op::Aggregate {
        keys,
        sets,
        grouping,
        calls,
        ..
    } = &plan.op
    else {
        return None;
    };
    let simple =
        sets.is_none() && grouping.is_empty() && keys.iter().all(|k| plain_key(k.ty().oid));
    if !simple {
        return None;
    }
    calls.iter().map(native).collect()
}

/// The grouping of rows that `below` gives; `None` when DataFusion cannot do it.
async fn grouped(
    executor: &Arc<Executor>,
    plan: &Plan,
    natives: Natives,
    below: &Lowered,
) -> Result<Option<Grouped>, SqlError> {
    let Op::Aggregate { keys, calls, .. } = &plan.op else {
        return Err(unexpected());
    };
    let mut all = keys.clone();
    for call in calls {
        all.extend(call.args.iter().chain(&call.filter).cloned());
    }
    let Some((evaluator, exprs)) = ready(executor, all, &below.columns).await? else {
        return Ok(None);
    };
    let mut exprs = exprs.into_iter();
    let mut names = plan.columns.iter().map(|c| format!("c{}", c.id.0));
    let mut next = || exprs.next().ok_or_else(unexpected);
    let mut group = Vec::with_capacity(keys.len());
    for _ in keys {
        let name = names.next().ok_or_else(unexpected)?;
        group.push((physical(&evaluator, next()?, below), name));
    }
    let schema = below.exec.schema();
    let (mut aggregates, mut filters) = (Vec::new(), Vec::new());
    for (call, (function, form)) in calls.iter().zip(natives) {
        let mut args: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        for _ in &call.args {
            args.push(VectorExpr::new(Arc::clone(&evaluator), next()?, form));
        }
        if args.is_empty() {
            args.push(lit(1_i64));
        }
        filters.push(match &call.filter {
            Some(_) => Some(VectorExpr::new(Arc::clone(&evaluator), next()?, Form::Mask)),
            None => None,
        });
        let built: AggregateFunctionExpr = AggregateExprBuilder::new(function, args)
            .schema(Arc::clone(&schema))
            .alias(names.next().ok_or_else(unexpected)?)
            .with_distinct(call.distinct)
            .build()
            .map_err(from_datafusion)?;
        aggregates.push(Arc::new(built));
    }
    Ok(Some(Grouped {
        by: PhysicalGroupBy::new_single(group),
        aggregates,
        filters,
        schema,
    }))
}

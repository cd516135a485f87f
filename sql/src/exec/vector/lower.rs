//! Our plan as a tree of DataFusion's physical operators.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::SortOptions;
use datafusion::common::{JoinSide, JoinType as DfJoin, NullEquality};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::expressions::Column as DfColumn;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use pontoon_kv::NodeId;

use crate::bind::tree::{Column, Expr, SetOp, SortKey};
use crate::error::SqlError;
use crate::exec::error::{from_arrow, from_datafusion, into_datafusion};
use crate::exec::query::{is_large, order_of};
use crate::exec::remote::{self, Away, Distribution, Placed, Placement, Spread, Top, Wanted};
use crate::exec::rows::{Env, Executor, Slots};
use crate::plan::free;
use crate::plan::node::{JoinKey, JoinType, Op, Plan};
use crate::types::{Oid, sort_key};

use super::aggregate::aggregate;
use super::bridge::{Input, bridge, detach};
use super::evaluate::{Evaluator, Results};
use super::expr::{Form, VectorExpr};
use super::leaf::{OwnExec, schema_of};
use super::scan::scan;
use super::stream::rows_of;

/// An operator of DataFusion and the columns of ours that it produces, in its order.
pub struct Lowered {
    /// The operator.
    pub exec: Arc<dyn ExecutionPlan>,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// Lowers a plan. CTEs and subqueries that do not depend on rows are run now.
pub fn lower<'a>(
    executor: &'a Arc<Executor>,
    plan: &'a Plan,
) -> BoxFuture<'a, Result<Lowered, SqlError>> {
    async move {
        if !is_large(plan, &executor.cx.runtime) {
            return Ok(by_rows(executor, plan.clone(), Vec::new(), false));
        }
        match &plan.op {
            Op::Scan(s) => {
                let exec = match remote::distribution(executor, plan, Wanted::Scan).await? {
                    Some(Distribution::Spread(spread)) => in_parts(executor, plan, &spread).await?,
                    _ => scan(&executor.cx, s, &plan.columns, None)?,
                };
                Ok(Lowered {
                    exec,
                    columns: plan.columns.clone(),
                })
            }
            Op::Filter { input, conditions } => {
                let below = lower(executor, input).await?;
                let all = Expr::And(conditions.clone());
                match ready(executor, vec![all], &below.columns).await? {
                    Some((evaluator, conditions)) => {
                        let predicate = VectorExpr::new(evaluator, only(conditions)?, Form::Mask);
                        let exec =
                            FilterExec::try_new(predicate, below.exec).map_err(from_datafusion)?;
                        Ok(Lowered {
                            exec: Arc::new(exec),
                            columns: below.columns,
                        })
                    }
                    None => bridge_one(executor, plan, below, true),
                }
            }
            Op::Project { input, exprs } => project(executor, plan, input, exprs).await,
            Op::ProjectSet { input, .. } => {
                let below = lower(executor, input).await?;
                bridge_one(executor, plan, below, true)
            }
            Op::Join {
                lateral: true,
                left,
                ..
            } => {
                let below = lower(executor, left).await?;
                let mut copy = plan.clone();
                let Op::Join { left, .. } = &mut copy.op else {
                    return Err(unexpected());
                };
                left.columns.clone_from(&below.columns);
                let cte = detach(left);
                let right = copy
                    .columns
                    .split_off(below.columns.len().min(copy.columns.len()));
                copy.columns = below.columns.iter().cloned().chain(right).collect();
                let input = Input {
                    cte,
                    exec: below.exec,
                    columns: below.columns,
                };
                Ok(by_rows(executor, copy, vec![input], true))
            }
            Op::Join { .. } => match remote::distribution(executor, plan, Wanted::Joined).await? {
                Some(distribution) => Ok(Lowered {
                    exec: side_by_side(executor, plan, distribution).await?,
                    columns: plan.columns.clone(),
                }),
                None => join(executor, plan).await,
            },
            Op::Aggregate { .. } => aggregate(executor, plan).await,
            Op::Distinct { input, on } => {
                let below = lower(executor, input).await?;
                if on.is_empty() && below.columns.iter().all(|c| plain_key(c.ty.oid)) {
                    return distinct(below);
                }
                bridge_one(executor, plan, below, false)
            }
            Op::Window { input, .. } => {
                let below = lower(executor, input).await?;
                bridge_one(executor, plan, below, false)
            }
            Op::Sort { input, keys } => sort(executor, plan, input, keys, None).await,
            Op::Limit {
                input,
                limit,
                offset,
                with_ties,
            } => {
                if with_ties.is_some() {
                    let below = lower(executor, input).await?;
                    return bridge_one(executor, plan, below, false);
                }
                let (limit, offset) = executor
                    .bounds(limit.as_ref(), offset.as_ref(), None)
                    .await?;
                if limit == Some(0) {
                    // DataFusion's sort for the first rows does not take it, and nothing is to be read.
                    let none = Plan {
                        op: Op::Empty,
                        columns: plan.columns.clone(),
                        rows: 0.0,
                    };
                    return Ok(by_rows(executor, none, Vec::new(), false));
                }
                let wanted = limit.map(|l| l.saturating_add(offset));
                let below = match &input.op {
                    Op::Sort {
                        input: sorted,
                        keys,
                    } => match first_in_parts(executor, sorted, keys, wanted).await? {
                        Some(below) => sort_of(executor, input, below, keys, wanted).await?,
                        None => sort(executor, input, sorted, keys, wanted).await?,
                    },
                    Op::Scan(s) if s.filter.is_empty() => Lowered {
                        exec: scan(&executor.cx, s, &input.columns, wanted)?,
                        columns: input.columns.clone(),
                    },
                    _ => match first_in_parts(executor, input, &[], wanted).await? {
                        Some(below) => below,
                        None => lower(executor, input).await?,
                    },
                };
                let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
                let exec = GlobalLimitExec::new(below.exec, size(offset), limit.map(size));
                Ok(Lowered {
                    exec: Arc::new(exec),
                    columns: below.columns,
                })
            }
            Op::SetOp {
                op: SetOp::Union,
                all,
                left,
                right,
            } if *all || plan.columns.iter().all(|c| plain_key(c.ty.oid)) => {
                let left = lower(executor, left).await?;
                let right = lower(executor, right).await?;
                let both = concat(plan, left, right);
                if *all { Ok(both) } else { distinct(both) }
            }
            Op::SetOp { .. } => set_operation(executor, plan).await,
            Op::With {
                cte,
                query,
                recursive,
                body,
                ..
            } => {
                match recursive {
                    None => {
                        let lowered = lower(executor, query).await?;
                        let rows = collect(executor, lowered).await?;
                        executor.set_cte(*cte, rows);
                    }
                    Some(_) if matches!(body.op, Op::Limit { .. }) => {
                        return Ok(by_rows(executor, plan.clone(), Vec::new(), false));
                    }
                    Some(_) => {
                        // Running it with an empty body leaves the rows behind.
                        let mut only = plan.clone();
                        only.columns.clear();
                        if let Op::With { body, .. } = &mut only.op {
                            **body = Plan {
                                op: Op::Unit,
                                columns: Vec::new(),
                                rows: 1.0,
                            };
                        }
                        executor.run(&only, None, None).await?;
                    }
                }
                lower(executor, body).await
            }
            Op::Inlet(number) => Ok(Lowered {
                exec: remote::inlet(executor, *number, schema_of(&plan.columns)),
                columns: plan.columns.clone(),
            }),
            Op::Unit
            | Op::Empty
            | Op::Virtual { .. }
            | Op::Values(_)
            | Op::Function { .. }
            | Op::CteRef { .. } => Ok(by_rows(executor, plan.clone(), Vec::new(), false)),
        }
    }
    .boxed()
}

/// The first rows of a plan over ranges of which other nodes lead some, sorted by keys if there are
/// any: the first of each part, which together hold those that are wanted.
async fn first_in_parts(
    executor: &Arc<Executor>,
    plan: &Plan,
    keys: &[SortKey],
    wanted: Option<u64>,
) -> Result<Option<Lowered>, SqlError> {
    let Some(most) = wanted else {
        return Ok(None);
    };
    let (sorts, keys) = (!keys.is_empty(), keys.to_vec());
    let wanted = Wanted::First(Top { keys, most });
    let exec = match remote::distribution(executor, plan, wanted).await? {
        None => return Ok(None),
        Some(Distribution::Spread(spread)) if !sorts => in_parts(executor, plan, &spread).await?,
        Some(distribution) => side_by_side(executor, plan, distribution).await?,
    };
    let columns = plan.columns.clone();
    Ok(Some(Lowered { exec, columns }))
}

/// What nodes make of a plan side by side, in any order.
async fn side_by_side(
    executor: &Arc<Executor>,
    plan: &Plan,
    distribution: Distribution,
) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
    match distribution {
        Distribution::Spread(spread) => {
            let here = spread.here().lowered(&executor.cx, &spread.read).await?;
            let away = all_away(executor, &spread).await?;
            Ok(remote::gather(executor, &spread, here, away))
        }
        Distribution::Shuffled(shuffled) => Ok(remote::shuffle(
            executor,
            shuffled,
            schema_of(&plan.columns),
        )),
    }
}

/// The parts for other nodes.
pub(super) async fn all_away(
    executor: &Arc<Executor>,
    spread: &Spread,
) -> Result<Vec<Away>, SqlError> {
    let mut away = Vec::new();
    for (node, placement) in spread.away() {
        away.push(away_of(executor, spread, node, placement).await?);
    }
    Ok(away)
}

/// A part for another node, with what is done should that not do it.
async fn away_of(
    executor: &Arc<Executor>,
    spread: &Spread,
    node: NodeId,
    placement: Placement,
) -> Result<Away, SqlError> {
    let Placement { part, account, .. } = placement;
    let instead = part.lowered(&executor.cx, &spread.read).await?;
    Ok(Away {
        node,
        part,
        instead: Some(instead),
        account,
    })
}

/// What is done with the rows of ranges of which other nodes lead some, in the order of the parts.
async fn in_parts(
    executor: &Arc<Executor>,
    plan: &Plan,
    spread: &Spread,
) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
    let mut placed = Vec::new();
    for placement in spread.in_order() {
        placed.push(match placement.node {
            None => {
                let part = placement.part;
                Placed::Here(part.lowered(&executor.cx, &spread.read).await?)
            }
            Some(node) => Placed::Away(away_of(executor, spread, node, placement).await?),
        });
    }
    let schema = schema_of(&plan.columns);
    Ok(remote::in_order(executor, spread, schema, placed))
}

/// A lowered plan with its columns in this order.
pub fn with_columns(
    lowered: Lowered,
    columns: &[Column],
) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
    let Lowered { exec, columns: has } = lowered;
    if has.iter().map(|c| c.id).eq(columns.iter().map(|c| c.id)) {
        return Ok(exec);
    }
    let order = order_of(&Slots::new(&has), columns)?;
    let projections = order.into_iter().zip(columns).map(|(at, column)| {
        let alias = format!("c{}", column.id.0);
        ProjectionExpr {
            expr: Arc::new(DfColumn::new(&alias, at)),
            alias,
        }
    });
    let projections: Vec<_> = projections.collect();
    let exec = ProjectionExec::try_new(projections, exec).map_err(from_datafusion)?;
    Ok(Arc::new(exec))
}

pub(super) fn unexpected() -> SqlError {
    SqlError::internal("an operator of another kind was expected")
}

/// Types whose Arrow bytes are equal exactly when the values are.
pub(super) fn plain_key(oid: Oid) -> bool {
    !sort_key::needs_key(oid) && !matches!(oid, Oid::FLOAT4 | Oid::FLOAT8 | Oid::TIMETZ)
}

/// The one expression of a list; subqueries are known by address, so it is not copied.
fn only(exprs: Vec<Arc<Expr>>) -> Result<Arc<Expr>, SqlError> {
    exprs.into_iter().next().ok_or_else(unexpected)
}

/// All rows of a lowered plan.
async fn collect(
    executor: &Arc<Executor>,
    lowered: Lowered,
) -> Result<Vec<Vec<crate::types::Datum>>, SqlError> {
    let mut stream = lowered
        .exec
        .execute(0, executor.cx.runtime.task_context())
        .map_err(from_datafusion)?;
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(from_datafusion)?;
        executor.hold(batch.num_rows(), lowered.columns.len())?;
        rows_of(
            batch.columns(),
            batch.num_rows(),
            &lowered.columns,
            &mut rows,
        )?;
    }
    Ok(rows)
}

/// Expressions with an evaluator for them, their subqueries run; `None` if a subquery depends on
/// the row.
pub(super) async fn ready(
    executor: &Arc<Executor>,
    exprs: Vec<Expr>,
    columns: &[Column],
) -> Result<Option<(Arc<Evaluator>, Vec<Arc<Expr>>)>, SqlError> {
    let exprs: Vec<Arc<Expr>> = exprs.into_iter().map(Arc::new).collect();
    let mut results: Results = Vec::new();
    for expr in &exprs {
        let mut queries = Vec::new();
        free::subqueries(expr, &mut queries);
        if queries.iter().any(|q| !free::of_subquery(q).is_empty()) {
            return Ok(None);
        }
        for query in queries {
            let slots = Slots::default();
            let rows = executor
                .subquery(query, &Env::new(&slots, &[], None))
                .await?;
            results.push((std::ptr::from_ref(query) as usize, rows));
        }
    }
    let evaluator = Evaluator::new(executor.cx.clone(), columns, results);
    Ok(Some((Arc::new(evaluator), exprs)))
}

fn by_rows(executor: &Arc<Executor>, plan: Plan, inputs: Vec<Input>, by_batch: bool) -> Lowered {
    let columns = plan.columns.clone();
    Lowered {
        exec: bridge(executor, plan, inputs, by_batch),
        columns,
    }
}

/// Runs an operator of one input by the row engine over a lowered input.
pub(super) fn bridge_one(
    executor: &Arc<Executor>,
    plan: &Plan,
    below: Lowered,
    by_batch: bool,
) -> Result<Lowered, SqlError> {
    let mut copy = plan.clone();
    let passes = match &mut copy.op {
        Op::ProjectSet { input, .. } | Op::Window { input, .. } => Some((input, true)),
        Op::Filter { input, .. }
        | Op::Distinct { input, .. }
        | Op::Sort { input, .. }
        | Op::Limit { input, .. } => Some((input, true)),
        Op::Project { input, .. } | Op::Aggregate { input, .. } => Some((input, false)),
        _ => None,
    };
    let Some((input, passes)) = passes else {
        return Err(unexpected());
    };
    let before = input.columns.len();
    input.columns.clone_from(&below.columns);
    let cte = detach(input);
    if passes {
        let own = copy.columns.split_off(before.min(copy.columns.len()));
        copy.columns = below.columns.iter().cloned().chain(own).collect();
    }
    let input = Input {
        cte,
        exec: below.exec,
        columns: below.columns,
    };
    Ok(by_rows(executor, copy, vec![input], by_batch))
}

async fn project(
    executor: &Arc<Executor>,
    plan: &Plan,
    input: &Plan,
    exprs: &[Expr],
) -> Result<Lowered, SqlError> {
    let below = lower(executor, input).await?;
    let Some((evaluator, exprs)) = ready(executor, exprs.to_vec(), &below.columns).await? else {
        return bridge_one(executor, plan, below, true);
    };
    let projections: Vec<ProjectionExpr> = exprs
        .into_iter()
        .zip(&plan.columns)
        .map(|(expr, column)| ProjectionExpr {
            alias: format!("c{}", column.id.0),
            expr: physical(&evaluator, expr, &below),
        })
        .collect();
    let exec = ProjectionExec::try_new(projections, below.exec).map_err(from_datafusion)?;
    Ok(Lowered {
        exec: Arc::new(exec),
        columns: plan.columns.clone(),
    })
}

/// An expression; plain columns as DataFusion's own.
pub(super) fn physical(
    evaluator: &Arc<Evaluator>,
    expr: Arc<Expr>,
    below: &Lowered,
) -> Arc<dyn PhysicalExpr> {
    if let Expr::Column(id, _) = expr.as_ref()
        && let Some(at) = evaluator.slots.get(*id)
        && let Some(field) = below.exec.schema().fields().get(at)
    {
        return Arc::new(DfColumn::new(field.name(), at));
    }
    VectorExpr::new(Arc::clone(evaluator), expr, Form::Plain)
}

async fn sort(
    executor: &Arc<Executor>,
    plan: &Plan,
    input: &Plan,
    keys: &[SortKey],
    fetch: Option<u64>,
) -> Result<Lowered, SqlError> {
    let below = lower(executor, input).await?;
    sort_of(executor, plan, below, keys, fetch).await
}

async fn sort_of(
    executor: &Arc<Executor>,
    plan: &Plan,
    below: Lowered,
    keys: &[SortKey],
    fetch: Option<u64>,
) -> Result<Lowered, SqlError> {
    let Some((evaluator, exprs)) = ready(
        executor,
        keys.iter().map(|k| k.expr.clone()).collect(),
        &below.columns,
    )
    .await?
    else {
        return bridge_one(executor, plan, below, false);
    };
    let ordering = LexOrdering::new(exprs.into_iter().zip(keys).map(|(expr, key)| {
        let expr = if plain_key(expr.ty().oid) {
            physical(&evaluator, expr, &below)
        } else {
            VectorExpr::new(Arc::clone(&evaluator), expr, Form::SortKey)
        };
        let options = SortOptions {
            descending: key.descending,
            nulls_first: key.nulls_first,
        };
        PhysicalSortExpr { expr, options }
    }));
    let Some(ordering) = ordering else {
        return Ok(below);
    };
    let fetch = fetch.map(|f| usize::try_from(f).unwrap_or(usize::MAX));
    let exec = SortExec::new(ordering, below.exec).with_fetch(fetch);
    Ok(Lowered {
        exec: Arc::new(exec),
        columns: below.columns,
    })
}

fn distinct(below: Lowered) -> Result<Lowered, SqlError> {
    let schema = below.exec.schema();
    let group = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, f)| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(DfColumn::new(f.name(), i));
            (column, f.name().clone())
        })
        .collect();
    let exec = AggregateExec::try_new(
        AggregateMode::Single,
        PhysicalGroupBy::new_single(group),
        Vec::new(),
        Vec::new(),
        below.exec,
        schema,
    )
    .map_err(from_datafusion)?;
    Ok(Lowered {
        exec: Arc::new(exec),
        columns: below.columns,
    })
}

fn concat(plan: &Plan, left: Lowered, right: Lowered) -> Lowered {
    let schema = schema_of(&plan.columns);
    let own = Arc::clone(&schema);
    let start = move |streams: Vec<SendableRecordBatchStream>| {
        let schema = Arc::clone(&own);
        let batches = futures::stream::iter(streams).flatten().map(move |batch| {
            let batch = batch?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(
                Arc::clone(&schema),
                batch.columns().to_vec(),
                &options,
            )
            .map_err(|e| into_datafusion(from_arrow(e)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&own), batches)) as _)
    };
    let exec = OwnExec::new(
        "append",
        schema,
        vec![left.exec, right.exec],
        Arc::new(start),
    );
    Lowered {
        exec,
        columns: plan.columns.clone(),
    }
}

async fn set_operation(executor: &Arc<Executor>, plan: &Plan) -> Result<Lowered, SqlError> {
    let mut copy = plan.clone();
    let Op::SetOp { left, right, .. } = &mut copy.op else {
        return Err(unexpected());
    };
    let mut inputs = Vec::with_capacity(2);
    for side in [left, right] {
        let below = lower(executor, side).await?;
        side.columns.clone_from(&below.columns);
        inputs.push(Input {
            cte: detach(side),
            exec: below.exec,
            columns: below.columns,
        });
    }
    Ok(by_rows(executor, copy, inputs, false))
}

async fn join(executor: &Arc<Executor>, plan: &Plan) -> Result<Lowered, SqlError> {
    let Op::Join {
        kind,
        left,
        right,
        keys,
        residual,
        ..
    } = &plan.op
    else {
        return Err(unexpected());
    };
    let (left_rows, right_rows) = (left.rows, right.rows);
    let left = lower(executor, left).await?;
    let right = lower(executor, right).await?;
    let both: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
    let of_left = keys.iter().map(|k| k.left.clone()).collect();
    let left_keys = ready(executor, of_left, &left.columns).await?;
    let of_right = keys.iter().map(|k| k.right.clone()).collect();
    let right_keys = ready(executor, of_right, &right.columns).await?;
    let all = Expr::And(residual.clone());
    let residuals = ready(executor, vec![all], &both).await?;
    let (Some(left_keys), Some(right_keys), Some(residuals)) = (left_keys, right_keys, residuals)
    else {
        let mut copy = plan.clone();
        let Op::Join {
            left: l, right: r, ..
        } = &mut copy.op
        else {
            return Err(unexpected());
        };
        l.columns.clone_from(&left.columns);
        r.columns.clone_from(&right.columns);
        let inputs = vec![
            Input {
                cte: detach(l),
                exec: left.exec,
                columns: left.columns,
            },
            Input {
                cte: detach(r),
                exec: right.exec,
                columns: right.columns,
            },
        ];
        if !matches!(kind, JoinType::Semi | JoinType::Anti) {
            copy.columns = both;
        }
        return Ok(by_rows(executor, copy, inputs, false));
    };
    // DataFusion builds its table of the left side: that shall be the smaller one of an inner
    // join, and the side that is not preserved of an outer one.
    let swap = match kind {
        JoinType::Inner => right_rows <= left_rows,
        JoinType::Left => true,
        JoinType::Right | JoinType::Full | JoinType::Semi | JoinType::Anti => false,
    };
    let df_kind = match kind {
        JoinType::Inner => DfJoin::Inner,
        JoinType::Left => DfJoin::Right,
        JoinType::Right => DfJoin::Right,
        JoinType::Full => DfJoin::Full,
        JoinType::Semi => DfJoin::LeftSemi,
        JoinType::Anti => DfJoin::LeftAnti,
    };
    let mut on = Vec::with_capacity(keys.len());
    for ((key, l), r) in keys.iter().zip(left_keys.1).zip(right_keys.1) {
        let form = form_of(key);
        let l = VectorExpr::new(Arc::clone(&left_keys.0), l, form);
        let r = VectorExpr::new(Arc::clone(&right_keys.0), r, form);
        on.push(if swap { (r, l) } else { (l, r) });
    }
    let filter = if residual.is_empty() {
        None
    } else {
        let (l_side, r_side) = if swap {
            (JoinSide::Right, JoinSide::Left)
        } else {
            (JoinSide::Left, JoinSide::Right)
        };
        let indices = (0..left.columns.len())
            .map(|index| ColumnIndex {
                index,
                side: l_side,
            })
            .chain((0..right.columns.len()).map(|index| ColumnIndex {
                index,
                side: r_side,
            }))
            .collect();
        let (evaluator, conditions) = residuals;
        let predicate = VectorExpr::new(evaluator, only(conditions)?, Form::Mask);
        Some(JoinFilter::new(predicate, indices, schema_of(&both)))
    };
    let columns: Vec<Column> = match (kind, swap) {
        (JoinType::Semi | JoinType::Anti, _) => left.columns.clone(),
        (_, true) => right.columns.iter().chain(&left.columns).cloned().collect(),
        (_, false) => both,
    };
    let (build, probe) = if swap {
        (right.exec, left.exec)
    } else {
        (left.exec, right.exec)
    };
    let exec: Arc<dyn ExecutionPlan> = if on.is_empty() {
        Arc::new(
            NestedLoopJoinExec::try_new(build, probe, filter, &df_kind, None)
                .map_err(from_datafusion)?,
        )
    } else {
        Arc::new(
            HashJoinExec::try_new(
                build,
                probe,
                on,
                filter,
                &df_kind,
                None,
                PartitionMode::CollectLeft,
                NullEquality::NullEqualsNothing,
                false,
            )
            .map_err(from_datafusion)?,
        )
    };
    Ok(Lowered { exec, columns })
}

/// The form in which the sides of a key are equal bytes when they are equal values.
pub fn form_of(key: &JoinKey) -> Form {
    let (l, r) = (key.left.ty().oid, key.right.ty().oid);
    let int = |o| matches!(o, Oid::INT2 | Oid::INT4 | Oid::INT8);
    if l != r && int(l) && int(r) {
        Form::Widened
    } else if plain_key(l) {
        Form::Plain
    } else {
        Form::SortKey
    }
}

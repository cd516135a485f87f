//! [`Spread`]: which node does which part of a query.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use pontoon_kv::{NodeId, Span, Timestamp};

use crate::error::SqlError;
use crate::exec::rows::{Executor, keys_of};
use crate::plan::access::Keys;
use crate::plan::node::{Access, Op, Plan, TableScan};

use super::Fellows;
use super::account::{PartAccount, SpreadAccount};
use super::part::{Part, Top, Work};

/// More spans than this are read from here.
const SPANS_MAX: usize = 4_096;
/// More rows than this are not worth being sorted in parts first.
const TOP_MAX: u64 = 100_000;

/// The parts of a query, and who does them.
pub struct Spread {
    /// What is done with each.
    pub work: Arc<Work>,
    /// The other nodes.
    pub fellows: Fellows,
    /// Rows that the parts have read so far.
    pub read: Arc<AtomicUsize>,
    read_at: Timestamp,
    /// Runs of spans with the same leader, in the order of their keys.
    runs: Vec<Run>,
    account: Option<Arc<SpreadAccount>>,
}

/// Spans that one node leads.
struct Run {
    /// `None`: this node, or nobody knows.
    leader: Option<NodeId>,
    spans: Vec<Span>,
    ranges: Vec<u64>,
}

/// A part, where it is to be done, and the ranges that it lies in.
pub struct Placement {
    /// `None`: this node.
    pub node: Option<NodeId>,
    /// What is done.
    pub part: Part,
    /// Keeps account of it, where somebody wants to know.
    pub account: Option<Arc<PartAccount>>,
}

/// The spread of a scan, if other nodes lead parts of what it reads and can do it.
pub fn spread_of_rows(executor: &Executor, plan: &Plan) -> Result<Option<Spread>, SqlError> {
    let wanted = matches!(plan.op, Op::Scan(_));
    spread(executor, plan, wanted, Some)
}

/// The spread of an aggregate over the rows of a table, in the same way.
pub fn spread_of_groups(executor: &Executor, plan: &Plan) -> Result<Option<Spread>, SqlError> {
    let wanted = matches!(plan.op, Op::Aggregate { .. });
    spread(executor, plan, wanted, Some)
}

/// The spread of the first rows of what a plan makes of the rows of a table, in the same way.
pub fn spread_of_first(
    executor: &Executor,
    plan: &Plan,
    top: Top,
) -> Result<Option<Spread>, SqlError> {
    let wanted = is_of_rows(plan) && top.most <= TOP_MAX;
    let params = &executor.cx.params;
    spread(executor, plan, wanted, |work| work.first(top, params))
}

/// Whether a plan makes something of each row of a table.
fn is_of_rows(plan: &Plan) -> bool {
    match &plan.op {
        Op::Scan(_) => true,
        Op::Filter { input, .. } | Op::Project { input, .. } => is_of_rows(input),
        _ => false,
    }
}

fn spread(
    executor: &Executor,
    plan: &Plan,
    wanted: bool,
    more: impl FnOnce(Work) -> Option<Work>,
) -> Result<Option<Spread>, SqlError> {
    let cx = &executor.cx;
    // What the transaction has written, its changes to the schema among that, is known here only.
    let may = cx.distribute && wanted && !cx.txn.has_writes();
    let Some(fellows) = cx.runtime.fellows().filter(|_| may) else {
        return Ok(None);
    };
    let Some(spans) = spans_of(executor, plan)? else {
        return Ok(None);
    };
    let runs = runs(executor, &spans, fellows.me);
    if runs.iter().all(|run| run.leader.is_none()) {
        return Ok(None);
    }
    let Some(work) = Work::of(plan, &cx.params).and_then(more) else {
        return Ok(None);
    };
    let read_at = cx.txn.read_timestamp();
    if cx.account.as_ref().is_none_or(|account| !account.planned) {
        for span in spans {
            cx.txn.note_scan(span, read_at)?;
        }
    }
    let read = Arc::default();
    let account = cx.account.as_ref().map(|account| {
        let own = runs.iter().filter(|run| run.leader.is_none());
        let here = own.flat_map(|run| run.ranges.clone()).collect();
        account.open(work.title(), fellows.me, here, &read)
    });
    Ok(Some(Spread {
        work: Arc::new(work),
        fellows,
        read,
        read_at,
        runs,
        account,
    }))
}

/// Cuts spans into runs with the same leader.
fn runs(executor: &Executor, spans: &[Span], me: NodeId) -> Vec<Run> {
    let txn = &executor.cx.txn;
    let mut runs: Vec<Run> = Vec::new();
    for led in spans.iter().flat_map(|span| txn.leaders(span)) {
        let leader = led.leader.filter(|leader| *leader != me);
        match runs.last_mut() {
            Some(run) if run.leader == leader => {
                match run.spans.last_mut() {
                    Some(last) if last.end == led.span.start => last.end = led.span.end,
                    _ => run.spans.push(led.span),
                }
                // Spans of one range follow each other.
                if run.ranges.last() != led.range.as_ref() {
                    run.ranges.extend(led.range);
                }
            }
            _ => runs.push(Run {
                leader,
                spans: vec![led.span],
                ranges: led.range.into_iter().collect(),
            }),
        }
    }
    runs
}

/// The spans of the primary storage that a plan over one table reads, in order.
fn spans_of(executor: &Executor, plan: &Plan) -> Result<Option<Vec<Span>>, SqlError> {
    let scan: &TableScan = match &plan.op {
        Op::Scan(scan) => scan,
        Op::Filter { input, .. } | Op::Project { input, .. } | Op::Aggregate { input, .. } => {
            return spans_of(executor, input);
        }
        _ => return Ok(None),
    };
    let in_order = match &scan.access {
        Access::Full => true,
        Access::Key(access) => access.index.is_none(),
        Access::Part(_) => false,
    };
    if !in_order || scan.reverse {
        return Ok(None);
    }
    Ok(match keys_of(&executor.cx, scan, None)? {
        Keys::Spans(spans) if spans.len() <= SPANS_MAX => Some(spans),
        _ => None,
    })
}

impl Spread {
    /// The plan of what this node does, when the order of rows does not matter.
    pub fn here(&self) -> Plan {
        let own = self.runs.iter().filter(|run| run.leader.is_none());
        let spans: Vec<Span> = own.flat_map(|run| run.spans.clone()).collect();
        self.work.plan(&spans, &self.read)
    }

    /// What each other node does, when the order of rows does not matter.
    pub fn away(&self) -> Vec<(NodeId, Placement)> {
        let mut all: Vec<(NodeId, Run)> = Vec::new();
        for run in &self.runs {
            let Some(leader) = run.leader else { continue };
            let (spans, ranges) = (run.spans.iter().cloned(), run.ranges.iter());
            match all.iter_mut().find(|(node, _)| *node == leader) {
                Some((_, known)) => {
                    known.spans.extend(spans);
                    known.ranges.extend(ranges);
                }
                None => all.push((
                    leader,
                    Run {
                        leader: run.leader,
                        spans: spans.collect(),
                        ranges: ranges.copied().collect(),
                    },
                )),
            }
        }
        let placed = all.iter().map(|(node, run)| (*node, self.placement(run)));
        placed.collect()
    }

    /// The parts in the order of their keys; those without a node are done here.
    pub fn in_order(&self) -> Vec<Placement> {
        self.runs.iter().map(|run| self.placement(run)).collect()
    }

    fn placement(&self, run: &Run) -> Placement {
        let account = self.account.as_ref().zip(run.leader);
        Placement {
            node: run.leader,
            part: Part {
                work: Arc::clone(&self.work),
                read_at: self.read_at,
                spans: run.spans.clone(),
            },
            account: account.map(|(account, node)| account.part(node, run.ranges.clone())),
        }
    }
}

//! [`Spread`]: which node does which part of a query.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use pontoon_kv::{NodeId, Span, Timestamp};

use crate::error::SqlError;
use crate::exec::rows::{Executor, keys_of};
use crate::plan::access::Keys;
use crate::plan::node::{Access, Op, Plan, TableScan};

use super::Fellows;
use super::part::{Part, Work};

/// More spans than this are read from here.
const SPANS_MAX: usize = 4_096;

/// The parts of a query, and who does them.
pub struct Spread {
    /// What is done with each.
    pub work: Arc<Work>,
    /// The other nodes.
    pub fellows: Fellows,
    /// Rows that the parts have read so far.
    pub read: Arc<AtomicUsize>,
    read_at: Timestamp,
    /// Runs of spans with the same leader, in the order of their keys; `None`: this node.
    runs: Vec<(Option<NodeId>, Vec<Span>)>,
}

/// The spread of a scan, if other nodes lead parts of what it reads and can do it.
pub fn spread_of_rows(executor: &Executor, plan: &Plan) -> Result<Option<Spread>, SqlError> {
    spread(executor, plan, |plan| matches!(plan.op, Op::Scan(_)))
}

/// The spread of an aggregate over the rows of a table, in the same way.
pub fn spread_of_groups(executor: &Executor, plan: &Plan) -> Result<Option<Spread>, SqlError> {
    spread(executor, plan, |plan| {
        matches!(plan.op, Op::Aggregate { .. })
    })
}

fn spread(
    executor: &Executor,
    plan: &Plan,
    wanted: impl Fn(&Plan) -> bool,
) -> Result<Option<Spread>, SqlError> {
    let cx = &executor.cx;
    // What the transaction has written, its changes to the schema among that, is known here only.
    let may = cx.distribute && wanted(plan) && !cx.txn.has_writes();
    let Some(fellows) = cx.runtime.fellows().filter(|_| may) else {
        return Ok(None);
    };
    let Some(spans) = spans_of(executor, plan)? else {
        return Ok(None);
    };
    let leaders = spans.iter().flat_map(|span| cx.txn.leaders(span));
    let mut runs: Vec<(Option<NodeId>, Vec<Span>)> = Vec::new();
    for (span, leader) in leaders {
        let leader = leader.filter(|leader| *leader != fellows.me);
        match runs.last_mut() {
            Some((last, run)) if *last == leader => match run.last_mut() {
                Some(last) if last.end == span.start => last.end = span.end,
                _ => run.push(span),
            },
            _ => runs.push((leader, vec![span])),
        }
    }
    if runs.iter().all(|(leader, _)| leader.is_none()) {
        return Ok(None);
    }
    let Some(work) = Work::of(plan, &cx.params) else {
        return Ok(None);
    };
    let read_at = cx.txn.read_timestamp();
    for span in spans {
        cx.txn.note_scan(span, read_at)?;
    }
    Ok(Some(Spread {
        work: Arc::new(work),
        fellows,
        read: Arc::default(),
        read_at,
        runs,
    }))
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
        let own = self.runs.iter().filter(|(leader, _)| leader.is_none());
        let spans: Vec<Span> = own.flat_map(|(_, spans)| spans.clone()).collect();
        self.work.plan(&spans, &self.read)
    }

    /// What each other node does, when the order of rows does not matter.
    pub fn away(&self) -> Vec<(NodeId, Part)> {
        let mut parts: Vec<(NodeId, Part)> = Vec::new();
        for (leader, spans) in &self.runs {
            let Some(leader) = leader else { continue };
            match parts.iter_mut().find(|(node, _)| node == leader) {
                Some((_, part)) => part.spans.extend(spans.iter().cloned()),
                None => parts.push((*leader, self.part(spans))),
            }
        }
        parts
    }

    /// The parts in the order of their keys; those without a node are done here.
    pub fn in_order(&self) -> Vec<(Option<NodeId>, Part)> {
        let runs = self.runs.iter();
        runs.map(|(leader, spans)| (*leader, self.part(spans)))
            .collect()
    }

    fn part(&self, spans: &[Span]) -> Part {
        Part {
            work: Arc::clone(&self.work),
            read_at: self.read_at,
            spans: spans.to_vec(),
        }
    }
}

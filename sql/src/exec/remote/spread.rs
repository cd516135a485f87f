//! [`Spread`]: which node does which part of a query.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use pontoon_kv::{NodeId, Span, Timestamp};

use crate::error::SqlError;
use crate::exec::rows::{Executor, keys_of};
use crate::plan::access::Keys;
use crate::plan::node::{Access, TableScan};

use super::Fellows;
use super::account::{PartAccount, SpreadAccount};
use super::part::{Inlet, Part};
use super::work::Work;

/// More spans than this are read from here.
const SPANS_MAX: usize = 4_096;

/// The parts of a query that read the rows of one table, and who does them.
pub struct Spread {
    /// What is done with each.
    pub work: Arc<Work>,
    /// The other nodes.
    pub fellows: Fellows,
    /// Rows that the parts have read so far.
    pub read: Arc<AtomicUsize>,
    pub(super) read_at: Timestamp,
    /// Each part tells which rows it has read.
    notes_reads: bool,
    /// What every part is given.
    inlets: Vec<Inlet>,
    /// Runs of spans with the same leader, in the order of their keys.
    runs: Vec<Run>,
    account: Option<Arc<SpreadAccount>>,
}

/// What a scan reads, by who leads it.
pub(super) struct Led {
    through_index: bool,
    spans: Vec<Span>,
    runs: Vec<Run>,
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

impl Led {
    /// What a scan reads; `None` when it does not read spans in order.
    pub(super) fn by(
        executor: &Executor,
        scan: &TableScan,
        me: NodeId,
    ) -> Result<Option<Self>, SqlError> {
        let spans = spans_of(executor, scan)?;
        Ok(spans.map(|spans| Self {
            runs: runs(executor, &spans, me),
            through_index: scan.through_index(),
            spans,
        }))
    }

    /// The other nodes that lead something of it.
    pub(super) fn others(&self) -> impl Iterator<Item = NodeId> {
        self.runs.iter().filter_map(|run| run.leader)
    }
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

/// The spans of the primary storage, or of an index, that a scan reads, in order.
fn spans_of(executor: &Executor, scan: &TableScan) -> Result<Option<Vec<Span>>, SqlError> {
    if matches!(scan.access, Access::Part(_)) || scan.reverse {
        return Ok(None);
    }
    Ok(match keys_of(&executor.cx, scan, None)? {
        Keys::Spans(spans) if spans.len() <= SPANS_MAX => Some(spans),
        _ => None,
    })
}

impl Spread {
    /// Spreads work over what a scan reads; that is noted for validation, and in the account.
    pub(super) fn new(
        executor: &Executor,
        fellows: Fellows,
        work: Work,
        led: Led,
        inlets: Vec<Inlet>,
    ) -> Result<Self, SqlError> {
        let cx = &executor.cx;
        let read_at = cx.txn.read_timestamp();
        if cx.account.as_ref().is_none_or(|account| !account.planned) {
            for span in led.spans {
                cx.txn.note_scan(span, read_at)?;
            }
        }
        let read = Arc::default();
        let account = cx.account.as_ref().map(|account| {
            let own = led.runs.iter().filter(|run| run.leader.is_none());
            let here = own.flat_map(|run| run.ranges.clone()).collect();
            account.open(work.title(), fellows.me, here, &read)
        });
        Ok(Self {
            work: Arc::new(work),
            fellows,
            read,
            read_at,
            notes_reads: led.through_index && cx.txn.notes_reads(),
            inlets,
            runs: led.runs,
            account,
        })
    }

    /// What this node does, when the order of rows does not matter.
    pub fn here(&self) -> Part {
        let own = self.runs.iter().filter(|run| run.leader.is_none());
        self.part(own.flat_map(|run| run.spans.clone()).collect())
    }

    fn part(&self, spans: Vec<Span>) -> Part {
        Part {
            work: Arc::clone(&self.work),
            read_at: self.read_at,
            notes_reads: self.notes_reads,
            spans,
            inlets: self.inlets.clone(),
        }
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
            part: self.part(run.spans.clone()),
            account: account.map(|(account, node)| account.part(node, run.ranges.clone())),
        }
    }
}

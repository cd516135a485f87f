//! [`Part`]: what a node does for another one.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use pontoon_kv::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::bind::tree::{AggCall, Column, Expr, SortKey};
use crate::catalog::desc::TableDesc;
use crate::plan::node::{Access, Op, Plan, SpanPart, TableScan};
use crate::types::{Datum, Oid, PgType};

use super::portable::make_portable;

/// A part of a query: some spans of a table, and what is done with their rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// What is done.
    pub work: Arc<Work>,
    /// When.
    pub read_at: Timestamp,
    /// With which keys, in order.
    pub spans: Vec<Span>,
}

/// What is done with rows of a table, wherever they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    table: Arc<TableDesc>,
    columns: Vec<Column>,
    positions: Vec<usize>,
    filter: Vec<Expr>,
    /// All rows of the table are read, part by part.
    of_all: bool,
    steps: Vec<Step>,
    groups: Option<Groups>,
    top: Option<Top>,
}

/// An operator above the scan.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Step {
    Filter(Vec<Expr>),
    Project(Vec<Expr>, Vec<Column>),
}

/// The first half of an aggregate.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Groups {
    keys: Vec<Expr>,
    calls: Vec<AggCall>,
    columns: Vec<Column>,
}

/// The first rows: those of every part together hold those of all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Top {
    /// In which order; none: that of the keys of the table.
    pub keys: Vec<SortKey>,
    /// How many.
    pub most: u64,
}

impl Work {
    /// What a plan does with the rows of one table, if it does no more than that and other nodes can
    /// do it too.
    pub fn of(plan: &Plan, params: &[Datum]) -> Option<Self> {
        match &plan.op {
            Op::Scan(scan) => {
                let mut filter = scan.filter.clone();
                make_portable(&mut filter, params).then(|| Self {
                    table: Arc::clone(&scan.table),
                    columns: plan.columns.clone(),
                    positions: scan.positions.clone(),
                    filter,
                    of_all: matches!(scan.access, Access::Full),
                    steps: Vec::new(),
                    groups: None,
                    top: None,
                })
            }
            Op::Filter { input, conditions } => {
                let mut conditions = conditions.clone();
                let portable = make_portable(&mut conditions, params);
                let work = Self::of(input, params).filter(|_| portable)?;
                work.and_then(Step::Filter(conditions))
            }
            Op::Project { input, exprs } => {
                let mut exprs = exprs.clone();
                let portable = make_portable(&mut exprs, params);
                let work = Self::of(input, params).filter(|_| portable)?;
                work.and_then(Step::Project(exprs, plan.columns.clone()))
            }
            Op::Aggregate {
                input, keys, calls, ..
            } => {
                let (mut keys, mut calls) = (keys.clone(), calls.clone());
                // What is distinct in each part may not be in all of them.
                let mut portable = !calls.iter().any(|call| call.distinct);
                portable = portable && make_portable(&mut keys, params);
                for call in &mut calls {
                    let parts = call.args.iter_mut().chain(&mut call.filter);
                    portable = portable && make_portable(parts, params);
                }
                let work = Self::of(input, params).filter(|_| portable)?;
                work.groups.is_none().then(|| Self {
                    groups: Some(Groups {
                        keys,
                        calls,
                        columns: plan.columns.clone(),
                    }),
                    ..work
                })
            }
            _ => None,
        }
    }

    /// The same, as far as it gives the first rows.
    pub fn first(mut self, mut top: Top, params: &[Datum]) -> Option<Self> {
        let keys = top.keys.iter_mut().map(|key| &mut key.expr);
        let can = make_portable(keys, params) && self.groups.is_none() && self.top.is_none();
        // A part ends when it has enough, if it need not see all rows for that.
        self.of_all &= !top.keys.is_empty();
        self.top = Some(top);
        can.then_some(self)
    }

    fn and_then(mut self, step: Step) -> Option<Self> {
        self.steps.push(step);
        self.groups.is_none().then_some(self)
    }

    /// Number of the storage of its table.
    pub fn storage(&self) -> u32 {
        self.table.storage
    }

    /// What it is, in words.
    pub fn title(&self) -> String {
        let table = &self.table.name;
        match (&self.groups, &self.top) {
            (Some(_), _) => format!("Aggregate over {table}"),
            (None, Some(top)) => format!("First {} rows of {table}", top.most),
            (None, None) => format!("Scan of {table}"),
        }
    }

    /// Whether all rows of the table are read, by all parts together.
    pub fn reads_all(&self) -> bool {
        self.of_all
    }

    /// Whether it gives the first half of an aggregate.
    pub fn groups(&self) -> bool {
        self.groups.is_some()
    }

    /// The plan for some spans, which adds what it has read to `read`.
    pub fn plan(&self, spans: &[Span], read: &Arc<AtomicUsize>) -> Plan {
        let part = SpanPart {
            spans: spans.into(),
            of_all: self.of_all,
            read: Arc::clone(read),
        };
        let scan = TableScan {
            table: Arc::clone(&self.table),
            positions: self.positions.clone(),
            access: Access::Part(part),
            filter: self.filter.clone(),
            reverse: false,
        };
        let over = |op, columns: &[Column]| Plan {
            op,
            columns: columns.to_vec(),
            rows: f64::MAX,
        };
        let mut plan = over(Op::Scan(Box::new(scan)), &self.columns);
        for step in &self.steps {
            let columns = plan.columns.clone();
            let input = Box::new(plan);
            plan = match step {
                Step::Filter(conditions) => {
                    let conditions = conditions.clone();
                    over(Op::Filter { input, conditions }, &columns)
                }
                Step::Project(exprs, columns) => {
                    let exprs = exprs.clone();
                    over(Op::Project { input, exprs }, columns)
                }
            };
        }
        if let Some(Groups {
            keys,
            calls,
            columns,
        }) = &self.groups
        {
            let op = Op::Aggregate {
                input: Box::new(plan),
                keys: keys.clone(),
                sets: None,
                grouping: Vec::new(),
                calls: calls.clone(),
            };
            return over(op, columns);
        }
        let Some(Top { keys, most }) = &self.top else {
            return plan;
        };
        let columns = plan.columns.clone();
        if !keys.is_empty() {
            let (input, keys) = (Box::new(plan), keys.clone());
            plan = over(Op::Sort { input, keys }, &columns);
        }
        let most = Datum::Int8(i64::try_from(*most).unwrap_or(i64::MAX));
        let limit = Op::Limit {
            input: Box::new(plan),
            limit: Some(Expr::Const(most, PgType::new(Oid::INT8))),
            offset: None,
            with_ties: None,
        };
        over(limit, &columns)
    }
}

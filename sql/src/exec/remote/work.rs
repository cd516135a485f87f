//! [`Work`]: what is done with rows, wherever they are.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use pontoon_kv::Span;
use serde::{Deserialize, Serialize};

use crate::bind::tree::{AggCall, Column, Expr, SortKey};
use crate::catalog::desc::TableDesc;
use crate::exec::vector::expr::Form;
use crate::plan::node::{Access, JoinKey, JoinType, Op, Plan, SpanPart, TableScan};
use crate::types::{Datum, Oid, PgType};

/// What is done with rows, wherever they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    pub(super) source: Source,
    pub(super) steps: Vec<Step>,
    pub(super) groups: Option<Groups>,
    pub(super) top: Option<Top>,
    /// By what the rows are shuffled; if they are not, whoever asks gets them all.
    pub(super) shuffle: Option<Shuffle>,
}

/// Where the rows come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Source {
    /// Spans of a table.
    Table(Rows),
    /// The first inlet: columns, and a guess how many rows.
    Inlet(Vec<Column>, f64),
}

/// Rows of a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Rows {
    pub(super) table: Arc<TableDesc>,
    pub(super) columns: Vec<Column>,
    pub(super) positions: Vec<usize>,
    pub(super) filter: Vec<Expr>,
    /// The name of the index through which they are read, if they are.
    pub(super) index: Option<String>,
    /// All rows of the table are read, part by part.
    pub(super) of_all: bool,
}

/// An operator above the source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Step {
    Filter(Vec<Expr>),
    Project(Vec<Expr>, Vec<Column>),
    Join(Box<Joined>),
}

/// A join with the rows of an inlet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Joined {
    pub(super) kind: JoinType,
    pub(super) keys: Vec<JoinKey>,
    pub(super) residual: Vec<Expr>,
    /// Number of the inlet.
    pub(super) inlet: usize,
    /// Its columns.
    pub(super) given: Vec<Column>,
    /// A guess how many rows it has.
    pub(super) rows: f64,
    /// The inlet is the left side.
    pub(super) is_left: bool,
    /// What the join gives.
    pub(super) columns: Vec<Column>,
}

/// A half of an aggregate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Groups {
    pub(super) half: Half,
    pub(super) keys: Vec<Expr>,
    pub(super) calls: Vec<AggCall>,
    pub(super) columns: Vec<Column>,
}

/// Which half of an aggregate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Half {
    /// Of the rows of a part.
    First,
    /// Of first halves with the same keys, which are the first inlet.
    Second,
}

/// The first rows: those of every part together hold those of all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Top {
    /// In which order; none: that of the keys of the table.
    pub keys: Vec<SortKey>,
    /// How many.
    pub most: u64,
}

/// Rows are shuffled: those with equal keys go to the same partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shuffle {
    /// The keys.
    pub keys: Keys,
    /// Groups of so many bytes are few.
    pub few: usize,
    /// Among how many.
    pub partitions: u32,
}

/// By what rows are shuffled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Keys {
    /// Expressions, and in which form equal ones have equal bytes.
    Exprs(Vec<(Expr, Form)>),
    /// The first columns, which have.
    First(usize),
}

impl Work {
    /// What does nothing with rows yet.
    pub(super) fn with(source: Source) -> Self {
        Self {
            source,
            steps: Vec::new(),
            groups: None,
            top: None,
            shuffle: None,
        }
    }

    /// Number of the storage of its table, if all rows of one are read by all parts together.
    pub fn whole_table(&self) -> Option<u32> {
        match &self.source {
            Source::Table(rows) => rows.of_all.then_some(rows.table.storage),
            Source::Inlet(..) => None,
        }
    }

    /// What it is, in words.
    pub fn title(&self) -> String {
        let rows = match &self.source {
            Source::Table(rows) => match &rows.index {
                Some(index) => format!("{} through {index}", rows.table.name),
                None => rows.table.name.to_string(),
            },
            Source::Inlet(..) => "shuffled rows".to_owned(),
        };
        let joins = self
            .steps
            .iter()
            .filter(|step| matches!(step, Step::Join(_)));
        let rows = match joins.count() {
            0 => rows,
            1 => format!("a join of {rows}"),
            n => format!("{n} joins of {rows}"),
        };
        let second = |groups: &Groups| groups.half == Half::Second;
        match (&self.groups, &self.top, &self.shuffle) {
            (Some(groups), ..) if second(groups) => "Groups merged".to_owned(),
            (Some(_), _, Some(shuffle)) => {
                let partitions = shuffle.partitions;
                format!("Aggregate over {rows}, shuffled to {partitions} nodes")
            }
            (Some(_), ..) => format!("Aggregate over {rows}"),
            (None, Some(top), _) => format!("First {} rows of {rows}", top.most),
            (None, None, Some(shuffle)) => {
                format!("Scan of {rows}, shuffled to {} nodes", shuffle.partitions)
            }
            (None, None, None) => match rows.strip_prefix("a join of ") {
                Some(rows) => format!("Join of {rows}"),
                None => format!("Scan of {rows}"),
            },
        }
    }

    /// Which half of an aggregate it gives, if it does.
    pub fn half(&self) -> Option<Half> {
        self.groups.as_ref().map(|groups| groups.half)
    }

    /// By what its rows are shuffled.
    pub fn shuffle(&self) -> Option<&Shuffle> {
        self.shuffle.as_ref()
    }

    /// The plan for some spans, which adds what it has read to `read`.
    pub fn plan(&self, spans: &[Span], read: &Arc<AtomicUsize>) -> Plan {
        let mut plan = self.source.plan(spans, read);
        for step in &self.steps {
            plan = step.over(plan);
        }
        if let Some(Groups {
            keys,
            calls,
            columns,
            ..
        }) = &self.groups
        {
            let op = Op::Aggregate {
                input: Box::new(plan),
                keys: keys.clone(),
                sets: None,
                grouping: Vec::new(),
                calls: calls.clone(),
            };
            return many(op, columns);
        }
        match &self.top {
            Some(top) => top.of(plan),
            None => plan,
        }
    }
}

/// Of a part it is not known how many rows it has; they are many.
fn many(op: Op, columns: &[Column]) -> Plan {
    Plan {
        op,
        columns: columns.to_vec(),
        rows: f64::MAX,
    }
}

impl Source {
    fn plan(&self, spans: &[Span], read: &Arc<AtomicUsize>) -> Plan {
        match self {
            Self::Table(rows) => {
                let part = SpanPart {
                    spans: spans.into(),
                    through_index: rows.index.is_some(),
                    of_all: rows.of_all,
                    read: Arc::clone(read),
                };
                let scan = TableScan {
                    table: Arc::clone(&rows.table),
                    positions: rows.positions.clone(),
                    access: Access::Part(part),
                    filter: rows.filter.clone(),
                    reverse: false,
                };
                many(Op::Scan(Box::new(scan)), &rows.columns)
            }
            Self::Inlet(columns, rows) => Plan {
                rows: *rows,
                ..many(Op::Inlet(0), columns)
            },
        }
    }
}

impl Step {
    fn over(&self, below: Plan) -> Plan {
        let columns = below.columns.clone();
        let input = Box::new(below);
        match self {
            Self::Filter(conditions) => {
                let conditions = conditions.clone();
                many(Op::Filter { input, conditions }, &columns)
            }
            Self::Project(exprs, columns) => {
                let exprs = exprs.clone();
                many(Op::Project { input, exprs }, columns)
            }
            Self::Join(join) => {
                let given = Box::new(Plan {
                    op: Op::Inlet(join.inlet),
                    columns: join.given.clone(),
                    rows: join.rows,
                });
                let (left, right) = match join.is_left {
                    true => (given, input),
                    false => (input, given),
                };
                let op = Op::Join {
                    kind: join.kind,
                    left,
                    right,
                    keys: join.keys.clone(),
                    residual: join.residual.clone(),
                    lateral: false,
                };
                many(op, &join.columns)
            }
        }
    }
}

impl Top {
    fn of(&self, mut plan: Plan) -> Plan {
        let columns = plan.columns.clone();
        if !self.keys.is_empty() {
            let (input, keys) = (Box::new(plan), self.keys.clone());
            plan = many(Op::Sort { input, keys }, &columns);
        }
        let most = Datum::Int8(i64::try_from(self.most).unwrap_or(i64::MAX));
        let limit = Op::Limit {
            input: Box::new(plan),
            limit: Some(Expr::Const(most, PgType::new(Oid::INT8))),
            offset: None,
            with_ties: None,
        };
        many(limit, &columns)
    }
}

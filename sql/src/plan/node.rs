//! The operators of a plan. No logic.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use pontoon_kv::Span;
use serde::{Deserialize, Serialize};

use crate::bind::tree::{AggCall, ColId, Column, Expr, SetOp, SortKey, WindowCall};
use crate::catalog::desc::{IndexDesc, TableDesc};
use crate::catalog::virtual_tables::VirtualTable;
use crate::types::registry::Function;

/// An operator with its inputs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it does.
    pub op: Op,
    /// The columns that it produces, in order.
    pub columns: Vec<Column>,
    /// A guess of the number of rows.
    pub rows: f64,
}

/// How a join keeps rows without a partner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum JoinType {
    /// Neither side's.
    Inner,
    /// The left side's.
    Left,
    /// The right side's.
    Right,
    /// Both sides'.
    Full,
    /// Left rows with a partner, once, without its columns.
    Semi,
    /// Left rows without a partner.
    Anti,
}

/// An equality between the sides of a join that can be hashed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinKey {
    /// Over the left side.
    pub left: Expr,
    /// Over the right side, of the same type or another integer type.
    pub right: Expr,
}

/// What an operator does.
#[derive(Clone, Debug)]
pub enum Op {
    /// One row without columns.
    Unit,
    /// No row.
    Empty,
    /// Rows of a stored table.
    Scan(Box<TableScan>),
    /// A computed catalog table.
    Virtual {
        /// Which.
        table: &'static VirtualTable,
        /// Positions of the columns.
        positions: Vec<usize>,
    },
    /// Rows of expressions.
    Values(Vec<Vec<Expr>>),
    /// A set-returning function.
    Function {
        /// Which.
        function: &'static Function,
        /// Arguments.
        args: Vec<Expr>,
        /// Whether a last column counts the rows.
        ordinality: bool,
    },
    /// Computes columns.
    Project {
        /// Input.
        input: Box<Plan>,
        /// One for each column.
        exprs: Vec<Expr>,
    },
    /// Set-returning functions of the select list; the input's columns pass.
    ProjectSet {
        /// Input.
        input: Box<Plan>,
        /// Function and arguments.
        sets: Vec<(&'static Function, Vec<Expr>)>,
    },
    /// Rows for which all are true.
    Filter {
        /// Input.
        input: Box<Plan>,
        /// Conjuncts.
        conditions: Vec<Expr>,
    },
    /// A join.
    Join {
        /// Kind.
        kind: JoinType,
        /// Left input.
        left: Box<Plan>,
        /// Right input.
        right: Box<Plan>,
        /// Hashable equalities.
        keys: Vec<JoinKey>,
        /// Other conditions.
        residual: Vec<Expr>,
        /// The right side names columns of the left and is run for each left row.
        lateral: bool,
    },
    /// Groups.
    Aggregate {
        /// Input.
        input: Box<Plan>,
        /// Keys; the first columns.
        keys: Vec<Expr>,
        /// Grouping sets as positions in `keys`.
        sets: Option<Vec<Vec<usize>>>,
        /// GROUPING() calls; the columns after the keys.
        grouping: Vec<Vec<usize>>,
        /// Aggregates; the last columns.
        calls: Vec<AggCall>,
    },
    /// Window functions behind the input's columns.
    Window {
        /// Input.
        input: Box<Plan>,
        /// Calls.
        calls: Vec<WindowCall>,
    },
    /// Distinct rows, or the first of each value of `on`.
    Distinct {
        /// Input.
        input: Box<Plan>,
        /// DISTINCT ON.
        on: Vec<Expr>,
    },
    /// Sorts.
    Sort {
        /// Input.
        input: Box<Plan>,
        /// Keys.
        keys: Vec<SortKey>,
    },
    /// Cuts.
    Limit {
        /// Input.
        input: Box<Plan>,
        /// LIMIT.
        limit: Option<Expr>,
        /// OFFSET.
        offset: Option<Expr>,
        /// WITH TIES.
        with_ties: Option<Vec<SortKey>>,
    },
    /// UNION and family, by position.
    SetOp {
        /// Which.
        op: SetOp,
        /// ALL.
        all: bool,
        /// Left input.
        left: Box<Plan>,
        /// Right input.
        right: Box<Plan>,
    },
    /// Computes a CTE, then its use.
    With {
        /// Its number.
        cte: u32,
        /// Its query.
        query: Box<Plan>,
        /// Recursive part, and whether UNION ALL.
        recursive: Option<(Box<Plan>, bool)>,
        /// Columns in the order in which uses see them.
        order: Vec<ColId>,
        /// Where it is used.
        body: Box<Plan>,
    },
    /// Rows of a CTE.
    CteRef {
        /// Its number.
        cte: u32,
        /// Which of its columns.
        positions: Vec<usize>,
    },
    /// Rows that a part of a query is given, by their number among those of the part.
    Inlet(usize),
}

/// A scan of a stored table.
#[derive(Clone, Debug)]
pub struct TableScan {
    /// The table.
    pub table: Arc<TableDesc>,
    /// Position in the descriptor of each column of the plan.
    pub positions: Vec<usize>,
    /// Which keys are read.
    pub access: Access,
    /// What the keys do not say.
    pub filter: Vec<Expr>,
    /// From the end.
    pub reverse: bool,
}

/// Which keys a scan reads.
#[derive(Clone, Debug)]
pub enum Access {
    /// All rows.
    Full,
    /// Some keys of the primary storage or of a secondary index.
    Key(KeyAccess),
    /// A part of what one of the others reads.
    Part(SpanPart),
}

impl TableScan {
    /// Whether the keys that it reads are entries of an index, which name rows.
    pub fn through_index(&self) -> bool {
        match &self.access {
            Access::Full => false,
            Access::Key(access) => access.index.is_some(),
            Access::Part(part) => part.through_index,
        }
    }
}

/// A part of a scan: others do the rest.
#[derive(Clone, Debug)]
pub struct SpanPart {
    /// Spans of keys, in order.
    pub spans: Arc<[Span]>,
    /// They are keys of an index.
    pub through_index: bool,
    /// The whole scan reads all rows of the table.
    pub of_all: bool,
    /// Counts the rows that the parts have read so far.
    pub read: Arc<AtomicUsize>,
}

/// Keys given by conditions on the leading columns.
#[derive(Clone, Debug)]
pub struct KeyAccess {
    /// The secondary index; `None` is the primary storage.
    pub index: Option<Arc<IndexDesc>>,
    /// What its leading columns equal.
    pub equal: Vec<KeyTerm>,
    /// Bounds of the column after those.
    pub range: Option<KeyRange>,
    /// Each combination of terms names at most one row.
    pub unique: bool,
    /// The conditions that the access stands for, for EXPLAIN.
    pub conditions: Vec<Expr>,
}

/// What a key column equals. Expressions do not name columns of the scan.
#[derive(Clone, Debug)]
pub enum KeyTerm {
    /// One value.
    Equal(Expr),
    /// Any of these.
    AnyOf(Vec<Expr>),
    /// Any element of this array.
    AnyElement(Expr),
    /// NULL.
    IsNull,
}

/// Bounds of a key column, with whether they belong to it.
#[derive(Clone, Debug, Default)]
pub struct KeyRange {
    /// Lower bounds.
    pub low: Vec<(Expr, bool)>,
    /// Upper bounds.
    pub high: Vec<(Expr, bool)>,
}

//! The bound tree: what a statement means, without a name left to resolve.
//!
//! Relational operators with scalar expressions. Every column that any operator produces has a
//! number of its own ([`ColId`]) within the statement, so a tree can be rearranged freely and the
//! lowering to DataFusion names columns `c<number>`. A column of an enclosing query (a correlated
//! reference) is a [`Expr::Column`] whose number the operators below do not produce.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalog::desc::{IndexDesc, TableDesc};
use crate::types::registry::{Comparison, Function};
use crate::types::{Datum, Oid, PgType, travel};

/// Number of a column within one statement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ColId(pub u32);

/// A column that an operator produces.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Column {
    /// Its number.
    pub id: ColId,
    /// PostgreSQL's name for it (for messages and outputs; not unique).
    pub name: Arc<str>,
    /// Its type.
    pub ty: PgType,
}

/// How a value is brought to another type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum CastKind {
    /// By a function of pg_cast.
    Function(#[serde(with = "travel::function")] &'static Function),
    /// The bytes stay.
    Binary,
    /// Text form out, text form in.
    InOut,
    /// Applies the type modifier of the target (length of varchar, scale of numeric, ...).
    Typmod,
    /// Element by element.
    Array(Box<CastKind>),
}

/// A scalar expression. All but subqueries can be sent to other nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Expr {
    /// A constant.
    Const(Datum, PgType),
    /// Parameter `$n`, from 0.
    Param(usize, PgType),
    /// A column, of this query or an enclosing one.
    Column(ColId, PgType),
    /// A call of a scalar function or operator.
    Call {
        /// What is called.
        #[serde(with = "travel::function")]
        function: &'static Function,
        /// Arguments, already cast to the declared types. Variadic ones are spread.
        args: Vec<Expr>,
        /// The result type, polymorphism resolved.
        ty: PgType,
        /// The comparison that an operator stands for.
        comparison: Option<Comparison>,
    },
    /// A cast.
    Cast {
        /// What.
        arg: Box<Expr>,
        /// How.
        kind: CastKind,
        /// To which type.
        ty: PgType,
        /// Written by the user (truncates varchar) rather than by assignment (checks it).
        explicit: bool,
    },
    /// All true.
    And(Vec<Expr>),
    /// Any true.
    Or(Vec<Expr>),
    /// Not.
    Not(Box<Expr>),
    /// IS [NOT] NULL; for records: all fields.
    IsNull {
        /// What.
        arg: Box<Expr>,
        /// IS NOT NULL.
        negated: bool,
    },
    /// IS [NOT] TRUE / FALSE / UNKNOWN (`None`).
    IsBool {
        /// What.
        arg: Box<Expr>,
        /// Compared with.
        value: Option<bool>,
        /// IS NOT.
        negated: bool,
    },
    /// IS [NOT] DISTINCT FROM, on operands of one type with this equality.
    IsDistinct {
        /// Left.
        left: Box<Expr>,
        /// Right.
        right: Box<Expr>,
        /// The equality function.
        #[serde(with = "travel::function")]
        equals: &'static Function,
        /// IS NOT DISTINCT FROM.
        negated: bool,
    },
    /// CASE WHEN; `CASE x WHEN` is bound to comparisons.
    Case {
        /// Conditions and results.
        whens: Vec<(Expr, Expr)>,
        /// ELSE, NULL if missing.
        otherwise: Option<Box<Expr>>,
        /// Type of all results.
        ty: PgType,
    },
    /// COALESCE.
    Coalesce(Vec<Expr>, PgType),
    /// GREATEST / LEAST, by this `<` function.
    Extreme {
        /// Operands of one type.
        args: Vec<Expr>,
        /// The `<` of that type.
        #[serde(with = "travel::function")]
        less: &'static Function,
        /// GREATEST.
        greatest: bool,
        /// The type.
        ty: PgType,
    },
    /// `left op ANY|ALL (array)`; IN lists of any expressions are bound to it with
    /// [`Expr::Array`] on the right.
    ArrayCompare {
        /// Left operand.
        left: Box<Expr>,
        /// The operator's function (element on the right).
        #[serde(with = "travel::function")]
        function: &'static Function,
        /// Its meaning.
        comparison: Option<Comparison>,
        /// The array.
        array: Box<Expr>,
        /// ALL instead of ANY.
        all: bool,
    },
    /// ARRAY[...] with elements of one type.
    Array {
        /// Elements (arrays themselves for more dimensions).
        items: Vec<Expr>,
        /// The array type.
        ty: PgType,
    },
    /// `array[i]`, `array[i:j]`.
    Subscript {
        /// The array.
        array: Box<Expr>,
        /// Lower and upper bound; for plain subscripts only the second.
        bounds: Vec<(Option<Expr>, Option<Expr>)>,
        /// Slice syntax.
        slice: bool,
        /// Type of the result.
        ty: PgType,
    },
    /// ROW(...).
    Row(Vec<Expr>),
    /// `(record).field`, by position.
    Field {
        /// The record.
        record: Box<Expr>,
        /// Position from 0.
        index: usize,
        /// Type of the field.
        ty: PgType,
    },
    /// A subquery as a value.
    #[serde(skip)]
    Subquery(Box<Subquery>),
}

/// A subquery within an expression.
#[derive(Clone, Debug)]
pub struct Subquery {
    /// The query.
    pub rel: Rel,
    /// The columns of it that count, in order.
    pub columns: Vec<Column>,
    /// What it stands for.
    pub kind: SubqueryKind,
    /// Type of the value.
    pub ty: PgType,
}

/// What a subquery stands for.
#[derive(Clone, Debug)]
pub enum SubqueryKind {
    /// Its one value, NULL without a row, error 21000 with two.
    Scalar,
    /// Whether there is a row.
    Exists,
    /// `left op ANY|ALL (subquery)`, row-wise for several; IN is `= ANY`, NOT IN is `<> ALL`.
    Compare {
        /// Left operands, as many as `columns`.
        left: Vec<Expr>,
        /// One operator function for each column.
        functions: Vec<&'static Function>,
        /// Meaning of the operator.
        comparison: Comparison,
        /// ALL.
        all: bool,
    },
    /// ARRAY(subquery).
    Array,
}

/// A key of ORDER BY.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SortKey {
    /// By what.
    pub expr: Expr,
    /// DESC.
    pub descending: bool,
    /// NULLs first (PostgreSQL's default: with DESC).
    pub nulls_first: bool,
}

/// An aggregate call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AggCall {
    /// The aggregate.
    #[serde(with = "travel::function")]
    pub function: &'static Function,
    /// Arguments (none: `count(*)`).
    pub args: Vec<Expr>,
    /// DISTINCT.
    pub distinct: bool,
    /// ORDER BY within the call (also WITHIN GROUP).
    pub order: Vec<SortKey>,
    /// FILTER.
    pub filter: Option<Expr>,
    /// Type of the result.
    pub ty: PgType,
}

/// A window frame bound.
#[derive(Clone, Debug)]
pub enum FrameBound {
    /// UNBOUNDED PRECEDING
    UnboundedPreceding,
    /// n PRECEDING
    Preceding(Expr),
    /// CURRENT ROW
    CurrentRow,
    /// n FOLLOWING
    Following(Expr),
    /// UNBOUNDED FOLLOWING
    UnboundedFollowing,
}

/// Unit of a window frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameUnit {
    /// ROWS
    Rows,
    /// RANGE
    Range,
    /// GROUPS
    Groups,
}

/// A call with OVER.
#[derive(Clone, Debug)]
pub struct WindowCall {
    /// A window function or an aggregate.
    pub function: &'static Function,
    /// Arguments.
    pub args: Vec<Expr>,
    /// FILTER (aggregates only).
    pub filter: Option<Expr>,
    /// PARTITION BY.
    pub partition: Vec<Expr>,
    /// ORDER BY.
    pub order: Vec<SortKey>,
    /// Unit and bounds; `None`: PostgreSQL's default frame.
    pub frame: Option<(FrameUnit, FrameBound, FrameBound)>,
    /// Type of the result.
    pub ty: PgType,
}

/// Kind of a join.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinKind {
    /// INNER, CROSS
    Inner,
    /// LEFT
    Left,
    /// RIGHT
    Right,
    /// FULL
    Full,
}

/// A set operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetOp {
    /// UNION
    Union,
    /// INTERSECT
    Intersect,
    /// EXCEPT
    Except,
}

/// A relational operator.
#[derive(Clone, Debug)]
pub enum Rel {
    /// One row without columns.
    Unit,
    /// A stored table. `columns` are the live (not dropped) columns that the query may use, by
    /// position in [`TableDesc::columns`]; with `row_id` also the hidden row id.
    Scan {
        /// The table.
        table: Arc<TableDesc>,
        /// Position in the descriptor and the column.
        columns: Vec<(usize, Column)>,
    },
    /// A catalog view computed from the catalog snapshot (pg_catalog, information_schema).
    Virtual {
        /// Schema and name.
        table: &'static crate::catalog::virtual_tables::VirtualTable,
        /// Position in its columns and the column.
        columns: Vec<(usize, Column)>,
    },
    /// Rows of expressions.
    Values {
        /// The rows.
        rows: Vec<Vec<Expr>>,
        /// Their columns.
        columns: Vec<Column>,
    },
    /// A set-returning function in FROM (arguments may be correlated: LATERAL).
    FunctionScan {
        /// The function.
        function: &'static Function,
        /// Its arguments.
        args: Vec<Expr>,
        /// Columns of the result.
        columns: Vec<Column>,
        /// WITH ORDINALITY: the extra int8 column.
        ordinality: Option<Column>,
    },
    /// Computes columns; nothing of the input passes unless it is named.
    Project {
        /// Input.
        input: Box<Rel>,
        /// Expressions and the columns that they make.
        exprs: Vec<(Expr, Column)>,
    },
    /// Set-returning functions in the select list: input columns pass, rows multiply.
    ProjectSet {
        /// Input.
        input: Box<Rel>,
        /// Function, arguments, column.
        sets: Vec<(&'static Function, Vec<Expr>, Column)>,
    },
    /// Rows for which the predicate is true.
    Filter {
        /// Input.
        input: Box<Rel>,
        /// Predicate.
        predicate: Expr,
    },
    /// A join; columns of both sides pass.
    Join {
        /// Kind.
        kind: JoinKind,
        /// Left input.
        left: Box<Rel>,
        /// Right input.
        right: Box<Rel>,
        /// Condition; none is true.
        on: Option<Expr>,
        /// The right side refers to columns of the left.
        lateral: bool,
    },
    /// Groups; only keys and aggregates pass.
    Aggregate {
        /// Input.
        input: Box<Rel>,
        /// Keys.
        keys: Vec<(Expr, Column)>,
        /// Grouping sets as positions in `keys`; `None`: one set of all.
        sets: Option<Vec<Vec<usize>>>,
        /// GROUPING(...) calls: positions in `keys`, column.
        grouping: Vec<(Vec<usize>, Column)>,
        /// Aggregates.
        calls: Vec<(AggCall, Column)>,
    },
    /// Window functions; input columns pass too.
    Window {
        /// Input.
        input: Box<Rel>,
        /// Calls.
        calls: Vec<(WindowCall, Column)>,
    },
    /// Distinct rows (`on` empty) or the first row for each value of `on` in the input's order.
    Distinct {
        /// Input.
        input: Box<Rel>,
        /// DISTINCT ON.
        on: Vec<Expr>,
    },
    /// ORDER BY.
    Sort {
        /// Input.
        input: Box<Rel>,
        /// Keys.
        keys: Vec<SortKey>,
    },
    /// LIMIT and OFFSET, as int8 expressions without columns.
    Limit {
        /// Input.
        input: Box<Rel>,
        /// LIMIT.
        limit: Option<Expr>,
        /// OFFSET.
        offset: Option<Expr>,
        /// FETCH ... WITH TIES, by the sort keys of the input.
        with_ties: Option<Vec<SortKey>>,
    },
    /// UNION and family; inputs have the same number and types of columns, by position.
    SetOp {
        /// Which.
        op: SetOp,
        /// ALL.
        all: bool,
        /// Left input.
        left: Box<Rel>,
        /// Right input.
        right: Box<Rel>,
        /// The columns of the result.
        columns: Vec<Column>,
    },
    /// A common table expression that is used more than once or is recursive: binds `name` for
    /// [`Rel::CteRef`] in `body`.
    With {
        /// Number of the CTE within the statement.
        cte: u32,
        /// Its query; for a recursive one the non-recursive part.
        query: Box<Rel>,
        /// The recursive part (refers to itself by [`Rel::CteRef`]), and whether UNION ALL.
        recursive: Option<(Box<Rel>, bool)>,
        /// Columns of the query in order.
        columns: Vec<Column>,
        /// Where it is used.
        body: Box<Rel>,
    },
    /// A use of a CTE, with column numbers of its own.
    CteRef {
        /// Number of the CTE.
        cte: u32,
        /// Columns.
        columns: Vec<Column>,
    },
}

/// A column of the result that a client sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputColumn {
    /// PostgreSQL's name.
    pub name: Arc<str>,
    /// Type.
    pub ty: PgType,
    /// The table column that it is, if it is one: table oid and attnum.
    pub origin: Option<(Oid, i16)>,
}

/// A query with its outputs.
#[derive(Clone, Debug)]
pub struct BoundQuery {
    /// The operators.
    pub rel: Rel,
    /// Which columns of `rel` are shown, in order.
    pub columns: Vec<Column>,
    /// How the client sees them.
    pub output: Arc<[OutputColumn]>,
    /// FOR UPDATE and family.
    pub locks: Vec<RowLock>,
}

/// FOR UPDATE / NO KEY UPDATE / SHARE / KEY SHARE on a table of the query.
#[derive(Clone, Debug)]
pub struct RowLock {
    /// The scan's table.
    pub table: Arc<TableDesc>,
    /// Columns of the scan that make the row's key, in key order.
    pub key: Vec<Column>,
    /// Strength.
    pub strength: pontoon_kv::LockStrength,
    /// NOWAIT, SKIP LOCKED.
    pub wait: pontoon_kv::LockWait,
}

/// What a write gives back: expressions over the columns of its input and the row as written.
#[derive(Clone, Debug)]
pub struct Returning {
    /// Expressions (subqueries are not allowed).
    pub exprs: Vec<Expr>,
    /// How the client sees them.
    pub output: Arc<[OutputColumn]>,
}

/// INSERT.
#[derive(Clone, Debug)]
pub struct BoundInsert {
    /// Into which table.
    pub table: Arc<TableDesc>,
    /// Produces one column for each live column of the table, in the order of
    /// [`TableDesc::columns`], defaults filled in and cast to the column's type.
    pub source: Rel,
    /// The columns of `source`, beside their position in the descriptor.
    pub columns: Vec<(usize, Column)>,
    /// ON CONFLICT.
    pub on_conflict: Option<OnConflict>,
    /// RETURNING, over `columns` (the row as inserted, or as updated by ON CONFLICT).
    pub returning: Option<Returning>,
}

/// ON CONFLICT.
#[derive(Clone, Debug)]
pub struct OnConflict {
    /// The arbiter indexes; empty for any unique index (DO NOTHING only).
    pub arbiters: Vec<Arc<IndexDesc>>,
    /// DO UPDATE; `None`: DO NOTHING.
    pub update: Option<ConflictUpdate>,
}

/// DO UPDATE SET.
#[derive(Clone, Debug)]
pub struct ConflictUpdate {
    /// Columns that stand for the existing row in the expressions, beside their position.
    pub existing: Vec<(usize, Column)>,
    /// Position and new value, over `existing` and the insert's `columns` (EXCLUDED).
    pub set: Vec<(usize, Expr)>,
    /// WHERE.
    pub filter: Option<Expr>,
}

/// UPDATE.
#[derive(Clone, Debug)]
pub struct BoundUpdate {
    /// The table.
    pub table: Arc<TableDesc>,
    /// Produces the old row and the new values (and what RETURNING needs of other tables). A row
    /// that comes twice is updated once.
    pub source: Rel,
    /// The old row: every live column (and the hidden row id), by position in the descriptor.
    pub old: Vec<(usize, Column)>,
    /// New values, by position.
    pub set: Vec<(usize, Column)>,
    /// RETURNING, over the columns of `source`, where the columns of `returning_row` stand for
    /// the new row.
    pub returning: Option<Returning>,
    /// Columns that stand for the new row in RETURNING, by position.
    pub returning_row: Vec<(usize, Column)>,
}

/// DELETE.
#[derive(Clone, Debug)]
pub struct BoundDelete {
    /// The table.
    pub table: Arc<TableDesc>,
    /// Produces the old row (and what RETURNING needs of other tables).
    pub source: Rel,
    /// The old row: every live column (and the hidden row id), by position in the descriptor.
    pub old: Vec<(usize, Column)>,
    /// RETURNING, over the columns of `source`.
    pub returning: Option<Returning>,
}

/// A statement that reads or writes rows.
#[derive(Clone, Debug)]
pub enum BoundStatement {
    /// SELECT, VALUES, TABLE.
    Query(BoundQuery),
    /// INSERT.
    Insert(BoundInsert),
    /// UPDATE.
    Update(BoundUpdate),
    /// DELETE.
    Delete(BoundDelete),
}

impl Expr {
    /// Type of the value.
    pub fn ty(&self) -> PgType {
        match self {
            Self::Const(_, ty)
            | Self::Param(_, ty)
            | Self::Column(_, ty)
            | Self::Call { ty, .. }
            | Self::Cast { ty, .. }
            | Self::Case { ty, .. }
            | Self::Coalesce(_, ty)
            | Self::Extreme { ty, .. }
            | Self::Array { ty, .. }
            | Self::Subscript { ty, .. }
            | Self::Field { ty, .. } => *ty,
            Self::Subquery(s) => s.ty,
            Self::Row(_) => PgType::new(Oid::RECORD),
            Self::And(_)
            | Self::Or(_)
            | Self::Not(_)
            | Self::IsNull { .. }
            | Self::IsBool { .. }
            | Self::IsDistinct { .. }
            | Self::ArrayCompare { .. } => PgType::new(Oid::BOOL),
        }
    }

    /// Calls `f` for each direct operand (not into subqueries' relations).
    pub fn for_each_child<'a>(&'a self, f: &mut dyn FnMut(&'a Self)) {
        super::walk::children(self, f);
    }

    /// The columns that it uses outside of subqueries.
    pub fn columns(&self) -> BTreeSet<ColId> {
        fn walk(e: &Expr, out: &mut BTreeSet<ColId>) {
            if let Expr::Column(id, _) = e {
                out.insert(*id);
            }
            e.for_each_child(&mut |c| walk(c, out));
        }
        let mut out = BTreeSet::new();
        walk(self, &mut out);
        out
    }

    /// Whether it has a subquery anywhere.
    pub fn has_subquery(&self) -> bool {
        if matches!(self, Self::Subquery(_)) {
            return true;
        }
        let mut found = false;
        self.for_each_child(&mut |c| found |= c.has_subquery());
        found
    }
}

impl Rel {
    /// Calls `f` for each column that the operator itself makes.
    pub fn for_each_made(&self, f: &mut dyn FnMut(&Column)) {
        match self {
            Self::Unit
            | Self::Filter { .. }
            | Self::Join { .. }
            | Self::Distinct { .. }
            | Self::Sort { .. }
            | Self::Limit { .. } => {}
            Self::Scan { columns, .. } | Self::Virtual { columns, .. } => {
                columns.iter().for_each(|(_, c)| f(c));
            }
            Self::Values { columns, .. }
            | Self::SetOp { columns, .. }
            | Self::With { columns, .. }
            | Self::CteRef { columns, .. } => columns.iter().for_each(f),
            Self::FunctionScan {
                columns,
                ordinality,
                ..
            } => columns.iter().chain(ordinality).for_each(f),
            Self::Project { exprs, .. } => exprs.iter().for_each(|(_, c)| f(c)),
            Self::ProjectSet { sets, .. } => sets.iter().for_each(|(_, _, c)| f(c)),
            Self::Aggregate {
                keys,
                grouping,
                calls,
                ..
            } => {
                keys.iter().for_each(|(_, c)| f(c));
                grouping.iter().for_each(|(_, c)| f(c));
                calls.iter().for_each(|(_, c)| f(c));
            }
            Self::Window { calls, .. } => calls.iter().for_each(|(_, c)| f(c)),
        }
    }

    /// The columns that it produces, in order.
    pub fn output(&self) -> Vec<Column> {
        let seconds = |v: &[(usize, Column)]| v.iter().map(|(_, c)| c.clone()).collect::<Vec<_>>();
        match self {
            Self::Unit => Vec::new(),
            Self::Scan { columns, .. } | Self::Virtual { columns, .. } => seconds(columns),
            Self::Values { columns, .. }
            | Self::SetOp { columns, .. }
            | Self::CteRef { columns, .. } => columns.clone(),
            Self::FunctionScan {
                columns,
                ordinality,
                ..
            } => columns.iter().chain(ordinality).cloned().collect(),
            Self::Project { exprs, .. } => exprs.iter().map(|(_, c)| c.clone()).collect(),
            Self::ProjectSet { input, sets } => {
                let mut out = input.output();
                out.extend(sets.iter().map(|(_, _, c)| c.clone()));
                out
            }
            Self::Filter { input, .. }
            | Self::Distinct { input, .. }
            | Self::Sort { input, .. }
            | Self::Limit { input, .. } => input.output(),
            Self::Join { left, right, .. } => {
                let mut out = left.output();
                out.extend(right.output());
                out
            }
            Self::Aggregate {
                keys,
                grouping,
                calls,
                ..
            } => keys
                .iter()
                .map(|(_, c)| c.clone())
                .chain(grouping.iter().map(|(_, c)| c.clone()))
                .chain(calls.iter().map(|(_, c)| c.clone()))
                .collect(),
            Self::Window { input, calls } => {
                let mut out = input.output();
                out.extend(calls.iter().map(|(_, c)| c.clone()));
                out
            }
            Self::With { body, .. } => body.output(),
        }
    }
}

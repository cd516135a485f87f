//! The one registry of types, operators, functions and casts: what the binder resolves names in,
//! what both executors call, and what pg_type, pg_proc, pg_operator and pg_cast show.

use arrow::array::ArrayRef;
use serde::{Deserialize, Serialize};

use super::datum::Datum;
use super::oid::{Oid, PgType};
use crate::error::SqlError;

/// PostgreSQL's `typcategory`.
pub type Category = char;

/// A row of pg_type.
#[derive(Debug)]
pub struct TypeInfo {
    /// Its number.
    pub oid: Oid,
    /// Its name in pg_type ("int4").
    pub name: &'static str,
    /// The SQL name that format_type prints ("integer").
    pub sql_name: &'static str,
    /// typcategory.
    pub category: Category,
    /// typispreferred.
    pub preferred: bool,
    /// typlen.
    pub len: i16,
    /// typbyval.
    pub by_value: bool,
    /// typtype: b, c, d, e, p.
    pub kind: char,
    /// Element type, for arrays and vectors.
    pub element: Oid,
    /// The array type of this type.
    pub array: Oid,
    /// typdelim.
    pub delimiter: char,
    /// typalign.
    pub align: char,
}

/// How often the same arguments give the same result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Volatility {
    /// Always.
    Immutable,
    /// Within one statement.
    Stable,
    /// Never to be relied on.
    Volatile,
}

/// What a function may know of the session and the statement.
///
/// One trait object for each statement, shared by all threads that run it.
pub trait EvalContext: Send + Sync {
    /// Microseconds since 1970-01-01 UTC at the start of the transaction (`now()`).
    fn transaction_time(&self) -> i64;
    /// The same at the start of the statement.
    fn statement_time(&self) -> i64;
    /// The same at this moment (`clock_timestamp()`).
    fn clock_time(&self) -> i64;
    /// The session's zone.
    fn time_zone(&self) -> super::datetime::Zone;
    /// A session variable as text (`current_setting`), `None` if there is none of that name.
    fn setting(&self, name: &str) -> Option<String>;
    /// How long to wait for a row lock, in milliseconds (`lock_timeout`); 0: without end.
    fn lock_timeout_ms(&self) -> u64 {
        0
    }
    /// Sets a session variable (`set_config`).
    fn set_setting(&self, name: &str, value: &str, local: bool) -> Result<String, SqlError>;
    /// The next value of a sequence.
    fn sequence_next(&self, sequence: Oid) -> Result<i64, SqlError>;
    /// The last value that this session took of a sequence (`None`: of any).
    fn sequence_current(&self, sequence: Option<Oid>) -> Result<i64, SqlError>;
    /// Sets a sequence.
    fn sequence_set(&self, sequence: Oid, value: i64, called: bool) -> Result<i64, SqlError>;
    /// Catalog look-ups (`regclass` input and output, `format_type`, `pg_get_indexdef` ...).
    fn catalog(&self) -> &dyn CatalogLookup;
    /// The session's user, database, backend number.
    fn current_user(&self) -> &str;
    /// Name of the database.
    fn current_database(&self) -> &str;
    /// Number of the backend.
    fn backend_pid(&self) -> i32;
    /// A random number of 64 bits.
    fn random_u64(&self) -> u64;
    /// Fails when the statement was cancelled or timed out; long loops call it.
    fn check_cancelled(&self) -> Result<(), SqlError>;
    /// Sleeps (`pg_sleep`), ended early by a cancel.
    fn sleep(&self, micros: i64) -> Result<(), SqlError>;
}

/// What functions ask of the catalog. Implemented by the session over its catalog snapshot.
pub trait CatalogLookup: Send + Sync {
    /// Number of the relation of that (possibly qualified, already folded) name.
    fn relation_oid(&self, schema: Option<&str>, name: &str) -> Option<Oid>;
    /// Schema and name of a relation, and whether the search path makes it visible unqualified.
    fn relation_name(&self, oid: Oid) -> Option<(String, String, bool)>;
    /// Number of a schema.
    fn schema_oid(&self, name: &str) -> Option<Oid>;
    /// Name of a schema.
    fn schema_name(&self, oid: Oid) -> Option<String>;
    /// The existing schemas of the search path, in order (`current_schemas`).
    fn search_path(&self, implicit: bool) -> Vec<String>;
    /// Any other look-up by name of the SQL function that asks, e.g. `pg_get_indexdef`,
    /// `pg_get_constraintdef`, `pg_get_expr`, `obj_description`, `pg_get_viewdef`: arguments in,
    /// result out.
    fn describe(&self, function: &str, args: &[Datum]) -> Result<Datum, SqlError>;
}

pub use super::load::{Registry, registry};

/// The body of a scalar function on single values.
pub type ScalarFn = fn(&dyn EvalContext, &[Datum]) -> Result<Datum, SqlError>;

/// A hand-written kernel on whole columns (all of the same length, in the Arrow form of
/// [`super::datum`]); where there is none it is derived from the [`ScalarFn`].
pub type VectorFn = fn(&dyn EvalContext, &[ArrayRef], usize) -> Result<ArrayRef, SqlError>;

/// A running aggregate.
pub trait AggregateState: Send + Sync {
    /// Takes one row's arguments (strict aggregates are not called with NULLs).
    fn update(&mut self, args: &[Datum]) -> Result<(), SqlError>;
    /// Takes in what another instance has seen, as its [`Self::partial`] gives it.
    fn merge(&mut self, partial: &[Datum]) -> Result<(), SqlError>;
    /// The state as values of the types of [`AggregateImpl::partial`].
    fn partial(&self) -> Result<Vec<Datum>, SqlError>;
    /// The result.
    fn finish(&self) -> Result<Datum, SqlError>;
    /// Bytes held.
    fn bytes(&self) -> usize;
}

/// An aggregate function.
pub struct AggregateImpl {
    /// A fresh state for arguments of these types.
    pub start: fn(&[PgType]) -> Box<dyn AggregateState>,
    /// Types of the partial state.
    pub partial: &'static [Oid],
    /// Whether rows with a NULL argument are left out.
    pub strict: bool,
    /// DataFusion's aggregate that gives exactly the same on the Arrow form, if there is one
    /// ("count", "min", "max", "sum", "bool_and" ...): used instead, because it is faster.
    pub native: Option<&'static str>,
}

/// A set-returning function: arguments in, rows out.
pub type SetFn = fn(&dyn EvalContext, &[Datum]) -> Result<Vec<Vec<Datum>>, SqlError>;

/// The body of a set-returning function.
#[derive(Clone, Copy)]
pub enum SetBody {
    /// Computes the rows.
    Computed(SetFn),
    /// The cluster is asked, by the executor: the answer may have to be waited for.
    Cluster(ClusterCall),
}

/// What the cluster is asked by a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterCall {
    /// What has changed of its metadata.
    Watch,
    /// The revision up to which everything has happened.
    Revision,
}

/// What kind of function it is, with its body.
pub enum FunctionBody {
    /// Value in, value out.
    Scalar {
        /// On single values.
        eval: ScalarFn,
        /// On columns.
        vector: Option<VectorFn>,
    },
    /// Many rows in, one value out.
    Aggregate(AggregateImpl),
    /// A window function that is not an aggregate; DataFusion's of that name gives the values.
    Window {
        /// DataFusion's name ("row_number", "rank", "lag" ...).
        native: &'static str,
    },
    /// One row in, many out.
    Set {
        /// The body.
        body: SetBody,
        /// Names and types of the columns of the result; a single column of the function's own
        /// name if empty.
        columns: &'static [(&'static str, Oid)],
    },
}

/// A row of pg_proc.
pub struct Function {
    /// Its number: PostgreSQL's own.
    pub oid: Oid,
    /// Its name, folded; that of a function of pontoon_internal begins with the schema and a dot.
    pub name: &'static str,
    /// Argument types; may be the polymorphic ones.
    pub args: &'static [Oid],
    /// Element type of a final VARIADIC argument (which is not among `args`).
    pub variadic: Option<Oid>,
    /// How many of the last arguments may be left out (the body sees fewer values).
    pub defaults: u8,
    /// Result type; may be a polymorphic one.
    pub result: Oid,
    /// Whether a NULL argument makes the result NULL without a call.
    pub strict: bool,
    /// See [`Volatility`].
    pub volatility: Volatility,
    /// Its body.
    pub body: FunctionBody,
}

impl Function {
    /// Its schema, if that is not pg_catalog, and its name within it.
    pub fn qualified(&self) -> (Option<&'static str>, &'static str) {
        match self.name.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, self.name),
        }
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.name, self.args)
    }
}

/// A row of pg_operator.
#[derive(Debug)]
pub struct Operator {
    /// Its number: PostgreSQL's own.
    pub oid: Oid,
    /// Its name ("+").
    pub name: &'static str,
    /// Left argument; `Oid::INVALID` for prefix operators.
    pub left: Oid,
    /// Right argument.
    pub right: Oid,
    /// The function that does the work (also result type).
    pub function: &'static Function,
    /// Comparison meaning, for planning: what native comparison gives the same truth value on the
    /// Arrow forms (or on the sort keys) of both sides.
    pub comparison: Option<Comparison>,
    /// oprcom, oprnegate by name.
    pub commutator: Option<&'static str>,
    /// The operator that is true where this one is false.
    pub negator: Option<&'static str>,
}

/// The six comparisons.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `<>`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

/// When a cast is applied without being asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CastContext {
    /// Anywhere.
    Implicit,
    /// When a value is stored in a column.
    Assignment,
    /// Only when written.
    Explicit,
}

/// How a cast works.
#[derive(Debug, Clone, Copy)]
pub enum CastMethod {
    /// By a function of one argument.
    Function(&'static Function),
    /// The value stays as it is (`castmethod` b).
    Binary,
    /// Through the text form of both types.
    InOut,
}

/// A row of pg_cast.
#[derive(Debug)]
pub struct Cast {
    /// From.
    pub source: Oid,
    /// To.
    pub target: Oid,
    /// When.
    pub context: CastContext,
    /// How.
    pub method: CastMethod,
}

//! The vocabulary between the server and a session. No logic.

use std::sync::Arc;

use arrow::array::ArrayRef;
use futures::future::BoxFuture;

use crate::bind::tree::OutputColumn;
use crate::error::SqlError;
use crate::types::Datum;

/// Wire format of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Text.
    Text,
    /// Binary.
    Binary,
}

/// The state that ReadyForQuery shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionStatus {
    /// No transaction block.
    Idle,
    /// In a transaction block.
    InBlock,
    /// In a failed transaction block.
    Failed,
}

/// Some rows of a result.
#[derive(Clone, Debug)]
pub enum RowBatch {
    /// Rows of single values, from the point path.
    Rows(Vec<Vec<Datum>>),
    /// Columns, from DataFusion; all have `rows` values.
    Columns {
        /// The columns in the Arrow form of [`crate::types::datum`].
        columns: Vec<ArrayRef>,
        /// Number of rows.
        rows: usize,
    },
}

impl RowBatch {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Columns { rows, .. } => *rows,
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Rows that arrive while the client reads them.
pub trait RowSource: Send {
    /// The next rows, `None` at the end.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<RowBatch>, SqlError>>;
}

/// What one statement gives.
pub enum Outcome {
    /// Rows, then a command tag made of `tag` and the number of rows ("SELECT 5"). A write with
    /// RETURNING has done its work before the first row.
    Rows {
        /// Columns.
        columns: Arc<[OutputColumn]>,
        /// Rows.
        source: Box<dyn RowSource>,
        /// What the tag is made of.
        tag: RowsTag,
    },
    /// No rows; the tag is complete ("INSERT 0 1").
    Done(String),
    /// An empty statement.
    Empty,
    /// COPY ... FROM STDIN: the server hands the data to the sink, then ends it.
    CopyIn(Box<dyn CopySink>),
    /// COPY ... TO STDOUT.
    CopyOut(Box<dyn CopySource>),
}

/// How the tag of a statement with rows is made.
#[derive(Clone, Debug)]
pub enum RowsTag {
    /// "SELECT n", "FETCH n", "INSERT 0 n": this text, a blank, the number of rows sent.
    Counted(&'static str),
    /// Complete already ("SHOW", "EXPLAIN").
    Fixed(&'static str),
}

/// Receives the data of COPY FROM STDIN.
pub trait CopySink: Send {
    /// Number of columns and whether the format is binary.
    fn shape(&self) -> (usize, bool);
    /// Takes a piece of the stream, cut anywhere.
    fn data<'a>(&'a mut self, piece: &'a [u8]) -> BoxFuture<'a, Result<(), SqlError>>;
    /// The client has sent everything; gives the tag.
    fn done(self: Box<Self>) -> BoxFuture<'static, Result<String, SqlError>>;
}

/// Gives the data of COPY TO STDOUT.
pub trait CopySource: Send {
    /// Number of columns and whether the format is binary.
    fn shape(&self) -> (usize, bool);
    /// The next rows, one CopyData message each.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<Vec<u8>>>, SqlError>>;
    /// The tag, after the last rows.
    fn tag(&self) -> String;
}

/// What Describe answers for a statement.
#[derive(Clone, Debug)]
pub struct StatementDescription {
    /// Types of the parameters.
    pub parameters: Vec<crate::types::Oid>,
    /// Columns, `None` for a statement without rows.
    pub columns: Option<Arc<[OutputColumn]>>,
}

/// A parameter as it came from the client.
#[derive(Clone, Debug)]
pub struct WireValue {
    /// `None` for NULL.
    pub bytes: Option<bytes::Bytes>,
    /// Its format.
    pub format: Format,
}

/// Something to tell the client beside results.
#[derive(Clone, Debug)]
pub enum SideMessage {
    /// NOTICE, WARNING, INFO.
    Notice(SqlError),
    /// A reported variable has a new value.
    Parameter(&'static str, String),
}

// The methods of `Session` (in session.rs):
//
// Engine::open(db: pontoon_kv::Db, config: EngineConfig) -> Result<Arc<Engine>, SqlError>
// Engine::session(self: &Arc<Self>, start: SessionStart { user, database, settings, pid }) -> Result<Session, SqlError>
// Session::split(&self, sql: &str) -> Result<Vec<Parsed>, SqlError>            simple protocol: parse the whole string
// async Session::run(&mut self, statement: &Parsed, last: bool) -> Result<Outcome, SqlError>     one statement of it
// async Session::finish(&mut self) -> Result<(), SqlError>      end of the string / Sync: commits the implicit transaction, drops its portals
// Session::fail(&mut self)                                      an error was sent: rolls back the implicit transaction, marks a block failed
// async Session::prepare(&mut self, name: &str, sql: &str, types: &[Oid]) -> Result<(), SqlError>    Parse
// Session::describe_statement(&mut self, name) -> Result<StatementDescription, SqlError>
// async Session::bind(&mut self, portal, statement, parameters: Vec<WireValue>, result_formats: &[Format]) -> Result<(), SqlError>
// Session::describe_portal(&mut self, name) -> Result<Option<(Arc<[OutputColumn]>, Vec<Format>)>, SqlError>
// async Session::execute(&mut self, portal) -> Result<Outcome, SqlError>   starts a portal; the server keeps a suspended source and its formats
// Session::close_statement(name), close_portal(name)
// Session::status() -> TransactionStatus
// Session::take_messages() -> Vec<SideMessage>
// Session::cancel_handle() -> CancelHandle (Arc<AtomicBool> + Notify; usable from another task)
// Session::parameter_statuses() -> Vec<(&'static str, String)>   at start-up

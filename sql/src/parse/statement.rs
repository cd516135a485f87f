//! Statements as syntax: queries and expressions in the tree of the sqlparser crate, everything
//! else in own structs with their names unresolved. No logic.

use std::sync::Arc;

use sqlparser::ast::{Expr, Ident, ObjectName, Query, SelectItem, TableWithJoins, With};

pub use super::schema_change::*;
pub use sqlparser::ast::DataType;

/// One statement of a query string.
#[derive(Debug)]
pub struct Parsed {
    /// Its text, without the semicolon.
    pub text: Arc<str>,
    /// What it says.
    pub statement: Statement,
    /// Characters of the whole string before it. Positions in errors are already counted from
    /// the start of the whole string, as PostgreSQL counts them.
    pub offset: usize,
}

impl std::ops::Drop for Parsed {
    fn drop(&mut self) {
        // Long chains of operators are deep trees, and dropping a tree recurses.
        let statement = std::mem::replace(&mut self.statement, Statement::Empty);
        if matches!(statement, Statement::Empty) {
            return;
        }
        super::depth::with_stack(move || drop(statement));
    }
}

/// A name of one or more parts (`schema.table`), folded.
pub type Name = ObjectName;

/// A statement.
#[derive(Debug, Clone)]
pub enum Statement {
    /// Nothing but blanks.
    Empty,
    /// SELECT, VALUES, TABLE, WITH.
    Query(Box<Query>),
    /// INSERT.
    Insert(Box<Insert>),
    /// UPDATE.
    Update(Box<Update>),
    /// DELETE.
    Delete(Box<Delete>),
    /// CREATE TABLE.
    CreateTable(Box<CreateTable>),
    /// CREATE TABLE AS and SELECT INTO.
    CreateTableAs(Box<CreateTableAs>),
    /// DROP TABLE, VIEW, INDEX, SEQUENCE, SCHEMA.
    Drop(Drop),
    /// ALTER TABLE (and ALTER VIEW / INDEX / SEQUENCE with the same actions).
    AlterTable(Box<AlterTable>),
    /// ALTER TABLE | INDEX ... SPLIT AT.
    SplitAt(Box<SplitAt>),
    /// CREATE INDEX.
    CreateIndex(Box<CreateIndex>),
    /// CREATE SEQUENCE.
    CreateSequence(Box<CreateSequence>),
    /// ALTER SEQUENCE.
    AlterSequence(Box<AlterSequence>),
    /// CREATE VIEW.
    CreateView(Box<CreateView>),
    /// CREATE SCHEMA.
    CreateSchema(CreateSchema),
    /// ALTER SCHEMA ... RENAME TO.
    RenameSchema {
        /// Old name.
        name: Ident,
        /// New name.
        to: Ident,
    },
    /// TRUNCATE.
    Truncate(Truncate),
    /// COMMENT ON.
    Comment(Comment),
    /// BEGIN, START TRANSACTION.
    Begin(TransactionModes),
    /// COMMIT, END.
    Commit {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        /// AND CHAIN.
        chain: bool,
    },
    /// SAVEPOINT.
    Savepoint(String),
    /// RELEASE SAVEPOINT.
    Release(String),
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo(String),
    /// SET TRANSACTION, or SET SESSION CHARACTERISTICS AS TRANSACTION.
    SetTransaction {
        /// For the session's later transactions.
        session: bool,
        /// The modes.
        modes: TransactionModes,
    },
    /// SET CONSTRAINTS.
    SetConstraints,
    /// SET name TO value (also SET TIME ZONE, NAMES, SCHEMA, ROLE ... by their variables).
    Set(Set),
    /// RESET name; `None` for ALL.
    Reset(Option<String>),
    /// SHOW name; `all` for all.
    Show(String),
    /// PREPARE.
    Prepare(Box<Prepare>),
    /// EXECUTE.
    Execute(Execute),
    /// DEALLOCATE; `None` for ALL.
    Deallocate(Option<String>),
    /// DECLARE CURSOR.
    Declare(Box<DeclareCursor>),
    /// FETCH and MOVE.
    Fetch(Fetch),
    /// CLOSE; `None` for ALL.
    Close(Option<String>),
    /// COPY.
    Copy(Box<Copy>),
    /// EXPLAIN.
    Explain(Box<Explain>),
    /// VACUUM.
    Vacuum(Vec<Name>),
    /// ANALYZE.
    Analyze(Vec<Name>),
    /// DISCARD.
    Discard(DiscardWhat),
    /// LOCK TABLE.
    Lock(LockTable),
    /// LISTEN.
    Listen(String),
    /// NOTIFY with its payload.
    Notify(String, String),
    /// UNLISTEN; `None` for `*`.
    Unlisten(Option<String>),
    /// CHECKPOINT.
    Checkpoint,
    /// A statement that PostgreSQL has and we refuse, by its name ("CREATE FUNCTION").
    Unsupported(&'static str),
}

/// INSERT.
#[derive(Debug, Clone)]
pub struct Insert {
    /// WITH.
    pub with: Option<With>,
    /// Into which table.
    pub table: Name,
    /// Its alias.
    pub alias: Option<Ident>,
    /// Columns, if given.
    pub columns: Vec<Ident>,
    /// OVERRIDING.
    pub overriding: Option<Overriding>,
    /// Rows; `None` for DEFAULT VALUES.
    pub source: Option<Box<Query>>,
    /// ON CONFLICT.
    pub on_conflict: Option<OnConflict>,
    /// RETURNING.
    pub returning: Vec<SelectItem>,
}

/// OVERRIDING ... VALUE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overriding {
    /// SYSTEM
    System,
    /// USER
    User,
}

/// ON CONFLICT.
#[derive(Debug, Clone)]
pub struct OnConflict {
    /// What conflicts.
    pub target: Option<ConflictTarget>,
    /// DO UPDATE; `None`: DO NOTHING.
    pub update: Option<(Vec<SetClause>, Option<Expr>)>,
    /// Position of the clause.
    pub position: usize,
}

/// The target of ON CONFLICT.
#[derive(Debug, Clone)]
pub enum ConflictTarget {
    /// Columns or expressions, and a WHERE.
    Columns(Vec<Expr>, Option<Expr>),
    /// ON CONSTRAINT.
    Constraint(Ident),
}

/// One part of SET.
#[derive(Debug, Clone)]
pub enum SetClause {
    /// `a = expr`
    One(Ident, Expr),
    /// `(a, b) = (...)` or `= (SELECT ...)`
    Many(Vec<Ident>, Expr),
}

/// UPDATE.
#[derive(Debug, Clone)]
pub struct Update {
    /// WITH.
    pub with: Option<With>,
    /// The table.
    pub table: Name,
    /// Its alias.
    pub alias: Option<Ident>,
    /// SET.
    pub set: Vec<SetClause>,
    /// FROM.
    pub from: Vec<TableWithJoins>,
    /// WHERE.
    pub filter: Option<Expr>,
    /// RETURNING.
    pub returning: Vec<SelectItem>,
}

/// DELETE.
#[derive(Debug, Clone)]
pub struct Delete {
    /// WITH.
    pub with: Option<With>,
    /// The table.
    pub table: Name,
    /// Its alias.
    pub alias: Option<Ident>,
    /// USING.
    pub using: Vec<TableWithJoins>,
    /// WHERE.
    pub filter: Option<Expr>,
    /// RETURNING.
    pub returning: Vec<SelectItem>,
}

/// An isolation level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// READ UNCOMMITTED
    ReadUncommitted,
    /// READ COMMITTED
    ReadCommitted,
    /// REPEATABLE READ
    RepeatableRead,
    /// SERIALIZABLE
    Serializable,
}

/// Modes of a transaction; what is not given is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransactionModes {
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
    /// READ ONLY (true), READ WRITE (false).
    pub read_only: Option<bool>,
    /// DEFERRABLE.
    pub deferrable: Option<bool>,
}

/// SET.
#[derive(Debug, Clone)]
pub struct Set {
    /// The variable, folded.
    pub name: String,
    /// LOCAL.
    pub local: bool,
    /// Values as text, in order; `None` for DEFAULT.
    pub values: Option<Vec<SetValue>>,
}

/// A value of SET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValue {
    /// A word (folded) or quoted identifier.
    Word(String),
    /// A string.
    String(String),
    /// A number.
    Number(String),
    /// An interval in time zones, as text.
    Interval(String),
}

impl SetValue {
    /// The text.
    pub fn text(&self) -> &str {
        match self {
            Self::Word(s) | Self::String(s) | Self::Number(s) | Self::Interval(s) => s,
        }
    }
}

/// PREPARE.
#[derive(Debug, Clone)]
pub struct Prepare {
    /// Its name.
    pub name: String,
    /// Types of the parameters.
    pub types: Vec<DataType>,
    /// The statement.
    pub statement: Statement,
    /// Its text.
    pub text: String,
}

/// EXECUTE.
#[derive(Debug, Clone)]
pub struct Execute {
    /// Which.
    pub name: String,
    /// Arguments.
    pub args: Vec<Expr>,
}

/// DECLARE CURSOR.
#[derive(Debug, Clone)]
pub struct DeclareCursor {
    /// Its name.
    pub name: String,
    /// BINARY.
    pub binary: bool,
    /// SCROLL (true), NO SCROLL (false).
    pub scroll: Option<bool>,
    /// WITH HOLD.
    pub hold: bool,
    /// The query.
    pub query: Box<Query>,
    /// Its text.
    pub text: String,
}

/// Where FETCH goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchDirection {
    /// FORWARD n (negative: backward); `i64::MAX` for ALL, `i64::MIN` for BACKWARD ALL.
    Relative(i64),
    /// ABSOLUTE n, one row.
    Absolute(i64),
    /// RELATIVE n, one row.
    RelativeOne(i64),
}

/// FETCH, MOVE.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// The cursor.
    pub cursor: String,
    /// Where to.
    pub direction: FetchDirection,
    /// MOVE.
    pub moves: bool,
}

/// What COPY copies.
#[derive(Debug, Clone)]
pub enum CopySubject {
    /// A table and columns.
    Table(Name, Vec<Ident>),
    /// A query, with its text.
    Query(Box<Statement>),
}

/// COPY.
#[derive(Debug, Clone)]
pub struct Copy {
    /// What.
    pub subject: CopySubject,
    /// FROM rather than TO.
    pub from: bool,
    /// STDIN / STDOUT (`None`), or a file or program, to be refused.
    pub file: Option<String>,
    /// Options: name (folded) and value; lists have their own form.
    pub options: Vec<(String, CopyOption)>,
    /// WHERE.
    pub filter: Option<Expr>,
}

/// A value of an option of COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyOption {
    /// Without a value.
    On,
    /// A word, string or number.
    Text(String),
    /// A list of columns.
    Columns(Vec<String>),
    /// `*`
    All,
}

/// EXPLAIN.
#[derive(Debug, Clone)]
pub struct Explain {
    /// Options: name (folded) and value.
    pub options: Vec<(String, Option<String>)>,
    /// The statement.
    pub statement: Statement,
}

/// DISCARD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscardWhat {
    /// ALL
    All,
    /// PLANS
    Plans,
    /// SEQUENCES
    Sequences,
    /// TEMP
    Temp,
}

/// LOCK TABLE.
#[derive(Debug, Clone)]
pub struct LockTable {
    /// Which.
    pub tables: Vec<Name>,
    /// The mode ("access exclusive").
    pub mode: String,
    /// NOWAIT.
    pub nowait: bool,
}

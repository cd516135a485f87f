//! Statements as syntax: queries and expressions in the tree of the sqlparser crate, everything
//! else in own structs with their names unresolved. No logic.

use std::sync::Arc;

use sqlparser::ast::{Expr, Ident, ObjectName, Query, SelectItem, TableWithJoins, With};

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

/// CREATE TABLE.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// Its name.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Columns, constraints and LIKE clauses in the order written.
    pub elements: Vec<TableElement>,
    /// WITH (fillfactor = ...) and so on.
    pub options: Vec<(String, Option<String>)>,
}

/// A part of CREATE TABLE.
#[derive(Debug, Clone)]
pub enum TableElement {
    /// A column.
    Column(ColumnDef),
    /// A table constraint.
    Constraint(Constraint),
    /// LIKE source.
    Like(LikeClause),
}

/// LIKE source INCLUDING ...
#[derive(Debug, Clone)]
pub struct LikeClause {
    /// The source table.
    pub source: Name,
    /// INCLUDING DEFAULTS.
    pub defaults: bool,
    /// INCLUDING CONSTRAINTS (CHECK).
    pub constraints: bool,
    /// INCLUDING INDEXES.
    pub indexes: bool,
    /// INCLUDING IDENTITY.
    pub identity: bool,
    /// INCLUDING GENERATED.
    pub generated: bool,
    /// INCLUDING COMMENTS.
    pub comments: bool,
}

/// A column.
#[derive(Debug, Clone)]
pub struct ColumnDef {
    /// Its name.
    pub name: Ident,
    /// Its type; for serial columns the integer type.
    pub ty: DataType,
    /// smallserial, serial, bigserial.
    pub serial: bool,
    /// COLLATE.
    pub collation: Option<Name>,
    /// NOT NULL (true), NULL (false), neither.
    pub not_null: Option<bool>,
    /// DEFAULT.
    pub default: Option<Expr>,
    /// GENERATED ... AS IDENTITY.
    pub identity: Option<IdentityDef>,
    /// GENERATED ALWAYS AS (...) STORED.
    pub generated: Option<Expr>,
    /// PRIMARY KEY, UNIQUE, CHECK, REFERENCES of this column (with `columns` holding it).
    pub constraints: Vec<Constraint>,
}

/// GENERATED ... AS IDENTITY.
#[derive(Debug, Clone)]
pub struct IdentityDef {
    /// ALWAYS rather than BY DEFAULT.
    pub always: bool,
    /// Options of the sequence.
    pub options: SequenceOptions,
}

/// A constraint.
#[derive(Debug, Clone)]
pub struct Constraint {
    /// CONSTRAINT name.
    pub name: Option<Ident>,
    /// What it is.
    pub kind: ConstraintKind,
    /// NOT VALID: existing rows are not checked.
    pub not_valid: bool,
}

/// What a constraint is.
#[derive(Debug, Clone)]
pub enum ConstraintKind {
    /// PRIMARY KEY.
    PrimaryKey {
        /// Key columns.
        columns: Vec<Ident>,
        /// INCLUDE.
        include: Vec<Ident>,
    },
    /// UNIQUE.
    Unique {
        /// Key columns.
        columns: Vec<Ident>,
        /// INCLUDE.
        include: Vec<Ident>,
        /// NULLS NOT DISTINCT.
        nulls_not_distinct: bool,
    },
    /// CHECK.
    Check(Expr),
    /// PRIMARY KEY / UNIQUE USING INDEX.
    UsingIndex {
        /// PRIMARY KEY.
        primary: bool,
        /// The index.
        index: Ident,
    },
    /// REFERENCES: parsed, to be refused.
    ForeignKey {
        /// Columns.
        columns: Vec<Ident>,
        /// The other table.
        table: Name,
    },
    /// EXCLUDE: parsed, to be refused.
    Exclude,
}

/// CREATE TABLE AS, SELECT INTO.
#[derive(Debug, Clone)]
pub struct CreateTableAs {
    /// Its name.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Column names, if given.
    pub columns: Vec<Ident>,
    /// The query.
    pub query: Box<Query>,
    /// WITH DATA (the default).
    pub with_data: bool,
    /// Came as SELECT INTO (other command tag).
    pub select_into: bool,
}

/// What DROP drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// TABLE
    Table,
    /// VIEW
    View,
    /// INDEX
    Index,
    /// SEQUENCE
    Sequence,
    /// SCHEMA
    Schema,
}

/// DROP.
#[derive(Debug, Clone)]
pub struct Drop {
    /// What.
    pub kind: ObjectKind,
    /// Which.
    pub names: Vec<Name>,
    /// IF EXISTS.
    pub if_exists: bool,
    /// CASCADE.
    pub cascade: bool,
}

/// ALTER TABLE.
#[derive(Debug, Clone)]
pub struct AlterTable {
    /// TABLE, VIEW, INDEX, SEQUENCE.
    pub kind: ObjectKind,
    /// Which.
    pub name: Name,
    /// IF EXISTS.
    pub if_exists: bool,
    /// Actions.
    pub actions: Vec<AlterAction>,
}

/// An action of ALTER TABLE.
#[derive(Debug, Clone)]
pub enum AlterAction {
    /// ADD COLUMN.
    AddColumn {
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// The column.
        column: Box<ColumnDef>,
    },
    /// DROP COLUMN.
    DropColumn {
        /// Which.
        name: Ident,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// RENAME TO.
    Rename(Ident),
    /// RENAME COLUMN.
    RenameColumn(Ident, Ident),
    /// RENAME CONSTRAINT.
    RenameConstraint(Ident, Ident),
    /// ADD constraint.
    AddConstraint(Constraint),
    /// DROP CONSTRAINT.
    DropConstraint {
        /// Which.
        name: Ident,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// ALTER COLUMN SET DEFAULT.
    SetDefault(Ident, Expr),
    /// ALTER COLUMN DROP DEFAULT.
    DropDefault(Ident),
    /// ALTER COLUMN SET NOT NULL.
    SetNotNull(Ident),
    /// ALTER COLUMN DROP NOT NULL.
    DropNotNull(Ident),
    /// ALTER COLUMN TYPE.
    SetType {
        /// Which.
        name: Ident,
        /// The new type.
        ty: DataType,
        /// USING.
        using: Option<Expr>,
    },
    /// ALTER COLUMN ADD GENERATED AS IDENTITY.
    AddIdentity(Ident, IdentityDef),
    /// ALTER COLUMN SET GENERATED (always) and sequence options.
    SetIdentity {
        /// Which.
        name: Ident,
        /// SET GENERATED ALWAYS / BY DEFAULT.
        always: Option<bool>,
        /// Options of the sequence.
        options: SequenceOptions,
    },
    /// ALTER COLUMN DROP IDENTITY (IF EXISTS).
    DropIdentity(Ident, bool),
    /// ALTER COLUMN DROP EXPRESSION (IF EXISTS).
    DropExpression(Ident, bool),
    /// OWNER TO.
    Owner(String),
    /// SET SCHEMA.
    SetSchema(Ident),
    /// VALIDATE CONSTRAINT.
    ValidateConstraint(Ident),
    /// Something without effect here (storage parameters, statistics target, CLUSTER ...).
    Storage,
}

/// CREATE INDEX.
#[derive(Debug, Clone)]
pub struct CreateIndex {
    /// UNIQUE.
    pub unique: bool,
    /// CONCURRENTLY.
    pub concurrently: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Its name, if given.
    pub name: Option<Ident>,
    /// On which table.
    pub table: Name,
    /// USING ("btree").
    pub method: Option<String>,
    /// Key columns or expressions.
    pub columns: Vec<IndexElement>,
    /// INCLUDE.
    pub include: Vec<Ident>,
    /// NULLS NOT DISTINCT.
    pub nulls_not_distinct: bool,
    /// WHERE.
    pub filter: Option<Expr>,
}

/// A key of an index.
#[derive(Debug, Clone)]
pub struct IndexElement {
    /// A column is an identifier.
    pub expr: Expr,
    /// Operator class.
    pub class: Option<Name>,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST / LAST.
    pub nulls_first: Option<bool>,
}

/// Options of CREATE and ALTER SEQUENCE; what is not given is `None`.
#[derive(Debug, Clone, Default)]
pub struct SequenceOptions {
    /// AS type.
    pub ty: Option<DataType>,
    /// START.
    pub start: Option<i64>,
    /// RESTART: `Some(None)` without a value.
    pub restart: Option<Option<i64>>,
    /// INCREMENT.
    pub increment: Option<i64>,
    /// MINVALUE; `Some(None)` for NO MINVALUE.
    pub min: Option<Option<i64>>,
    /// MAXVALUE; `Some(None)` for NO MAXVALUE.
    pub max: Option<Option<i64>>,
    /// CACHE.
    pub cache: Option<i64>,
    /// CYCLE.
    pub cycle: Option<bool>,
    /// OWNED BY table.column; `Some(None)` for NONE.
    pub owned_by: Option<Option<Name>>,
    /// SEQUENCE NAME (identity columns).
    pub name: Option<Name>,
}

/// CREATE SEQUENCE.
#[derive(Debug, Clone)]
pub struct CreateSequence {
    /// Its name.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Options.
    pub options: SequenceOptions,
}

/// ALTER SEQUENCE.
#[derive(Debug, Clone)]
pub struct AlterSequence {
    /// Which.
    pub name: Name,
    /// IF EXISTS.
    pub if_exists: bool,
    /// Options.
    pub options: SequenceOptions,
}

/// CREATE VIEW.
#[derive(Debug, Clone)]
pub struct CreateView {
    /// Its name.
    pub name: Name,
    /// OR REPLACE.
    pub replace: bool,
    /// Column names, if given.
    pub columns: Vec<Ident>,
    /// The query.
    pub query: Box<Query>,
    /// Its text as written.
    pub query_text: String,
}

/// CREATE SCHEMA.
#[derive(Debug, Clone)]
pub struct CreateSchema {
    /// Its name.
    pub name: String,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// AUTHORIZATION.
    pub owner: Option<String>,
}

/// TRUNCATE.
#[derive(Debug, Clone)]
pub struct Truncate {
    /// Which tables.
    pub tables: Vec<Name>,
    /// RESTART IDENTITY.
    pub restart_identity: bool,
    /// CASCADE.
    pub cascade: bool,
}

/// What COMMENT comments on.
#[derive(Debug, Clone)]
pub enum CommentTarget {
    /// TABLE, VIEW, INDEX, SEQUENCE, SCHEMA.
    Object(ObjectKind, Name),
    /// COLUMN table.column.
    Column(Name),
    /// CONSTRAINT name ON table.
    Constraint(Ident, Name),
    /// DATABASE.
    Database(String),
}

/// COMMENT ON.
#[derive(Debug, Clone)]
pub struct Comment {
    /// On what.
    pub target: CommentTarget,
    /// The text; `None` removes it.
    pub text: Option<String>,
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

//! Statements that change the catalog, as syntax: names unresolved. No logic.

use sqlparser::ast::{DataType, Expr, Ident, Query};

use super::statement::Name;

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
    pub options: Vec<StorageOption>,
}

/// A storage parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageOption {
    /// Its name, with that of its namespace: `toast.autovacuum_enabled`.
    pub name: String,
    /// Its value, if there is one.
    pub value: Option<String>,
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
    /// WITH (...), of the index behind it.
    pub options: Vec<StorageOption>,
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
    /// WITH (...).
    pub options: Vec<StorageOption>,
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

/// ALTER TABLE | INDEX ... SPLIT AT and UNSPLIT: ranges shall begin, or need not any more, where rows
/// or entries with these leading key columns would stand.
#[derive(Debug, Clone)]
pub struct SplitAt {
    /// TABLE, INDEX.
    pub kind: ObjectKind,
    /// Which.
    pub name: Name,
    /// IF EXISTS.
    pub if_exists: bool,
    /// Where.
    pub points: SplitPoints,
}

/// Where ranges shall begin, or need not any more.
#[derive(Debug, Clone)]
pub enum SplitPoints {
    /// SPLIT AT: values of the leading key columns, a row for each range.
    Split(Box<Query>),
    /// UNSPLIT AT, likewise.
    Unsplit(Box<Query>),
    /// UNSPLIT ALL.
    UnsplitAll,
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
    /// SET (parameter = value, ...).
    SetOptions(Vec<StorageOption>),
    /// RESET (parameter, ...).
    ResetOptions(Vec<StorageOption>),
    /// Something without effect here (statistics target, CLUSTER ...).
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
    /// WITH (...).
    pub options: Vec<StorageOption>,
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

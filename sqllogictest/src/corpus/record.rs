//! What a suite's file consists of.

use std::sync::Arc;

/// How results are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite's: one value a line, values printed by the declared column type, long results as an
    /// MD5 hash; labels of engines are SQLite's (`postgresql`).
    Values,
    /// One row a line, columns separated by tabs, PostgreSQL's own text form.
    Rows,
}

/// What a statement should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// Succeed.
    Success,
    /// Fail, with this SQLSTATE if one is given.
    Error(Option<String>),
}

/// How result lines are ordered before they are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortMode {
    /// As the server sent them.
    None,
    /// By row.
    Rows,
    /// Every value for itself.
    Values,
}

/// The kinds of records that are executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A statement whose rows do not matter.
    Statement(Expectation),
    /// A query with its expected lines.
    Query {
        /// One letter a column: I, R or T.
        types: String,
        /// Order of the lines.
        sort: SortMode,
        /// The expected lines.
        expected: Vec<String>,
    },
    /// COPY FROM STDIN with the lines to send.
    Copy(Expectation, Vec<String>),
    /// Nothing after this line is run.
    Halt,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The file it stands in.
    pub file: Arc<str>,
    /// The line of its head, from 1.
    pub line: usize,
    /// The statement.
    pub sql: String,
    /// What it is.
    pub kind: Kind,
    /// `skipif` labels.
    pub skip_if: Vec<String>,
    /// `onlyif` labels.
    pub only_if: Vec<String>,
    /// It stands in an included file: it is run, but does not count.
    pub included: bool,
}

impl Record {
    /// It is meant for the engine with this label.
    pub fn applies_to(&self, label: &str) -> bool {
        !self.skip_if.iter().any(|name| name == label)
            && (self.only_if.is_empty() || self.only_if.iter().any(|name| name == label))
    }
}

//! Statements compiled to key access: they never enter the planner or DataFusion.
//!
//! [`compile`] recognises, once for each bound statement, reads of rows by the whole primary key
//! or a unique index, inserts of VALUES, and updates and deletes by key; [`run`] executes them
//! with a handful of allocations. Everything is expressed in the bound tree's own expressions and
//! evaluated by [`crate::exec::interp`], so both paths share their semantics; the tests run random
//! statements on both.

mod compile;
mod run;

pub use compile::compile;
pub use run::run;

use std::sync::Arc;

use crate::bind::tree::{BoundInsert, Column, Expr, OutputColumn, Returning};
use crate::catalog::desc::TableDesc;
use crate::exec::rows::Slots;
use crate::plan::node::KeyAccess;

/// Rows of one table by key.
pub struct PointRead {
    table: Arc<TableDesc>,
    access: KeyAccess,
    /// Positions of the columns that are decoded.
    positions: Vec<usize>,
    /// The same columns' places in the decoded row.
    slots: Slots,
    /// What the key does not say.
    filter: Vec<Expr>,
}

/// A compiled statement.
pub enum PointPlan {
    /// SELECT by key.
    Select {
        /// The rows.
        read: PointRead,
        /// What is shown.
        exprs: Vec<Expr>,
        /// For plain columns their place in the decoded row.
        plain: Option<Vec<usize>>,
        /// How the client sees it.
        output: Arc<[OutputColumn]>,
        /// LIMIT without columns.
        limit: Option<Expr>,
    },
    /// INSERT of rows of expressions.
    Insert {
        /// One expression for each of the statement's columns.
        rows: Vec<Vec<Expr>>,
        /// The statement (table, columns, RETURNING).
        insert: Arc<BoundInsert>,
    },
    /// UPDATE by key.
    Update {
        /// The rows.
        read: PointRead,
        /// Position and new value, over the decoded row.
        set: Vec<(usize, Expr)>,
        /// RETURNING over the decoded row and the new one.
        returning: Option<Returning>,
        /// Columns that stand for the new row, by position.
        returning_row: Vec<(usize, Column)>,
    },
    /// DELETE by key.
    Delete {
        /// The rows.
        read: PointRead,
        /// RETURNING over the decoded row.
        returning: Option<Returning>,
    },
}

impl PointPlan {
    /// What a plan that reads by key reads.
    pub fn read(&self) -> Option<&PointRead> {
        match self {
            Self::Select { read, .. } | Self::Update { read, .. } | Self::Delete { read, .. } => {
                Some(read)
            }
            Self::Insert { .. } => None,
        }
    }
}

impl PointRead {
    /// The table.
    pub fn table(&self) -> &Arc<TableDesc> {
        &self.table
    }
    /// Its keys.
    pub fn access(&self) -> &KeyAccess {
        &self.access
    }
    /// The remaining conditions.
    pub fn filter(&self) -> &[Expr] {
        &self.filter
    }
}

//! What is worked out of a bound statement once and used by every execution of it.

use std::sync::{Arc, OnceLock};

use crate::bind::tree::{BoundStatement, Column};
use crate::plan::build;
use crate::plan::node::Plan;
use crate::point::PointPlan;

use super::context::Runtime;

/// A statement's compiled key access, if it has one, and its plan, made when first needed.
pub struct Prepared {
    /// Compiled key access.
    pub point: Option<PointPlan>,
    plan: OnceLock<Arc<Plan>>,
}

impl Prepared {
    /// Compiles a statement.
    pub fn new(statement: &BoundStatement) -> Self {
        Self {
            point: crate::point::compile(statement),
            plan: OnceLock::new(),
        }
    }

    /// The plan of what the statement reads.
    pub fn plan(&self, statement: &StatementSource<'_>, runtime: &Runtime) -> Arc<Plan> {
        let sizes = |storage| runtime.rows_of(storage);
        let made = || Arc::new(build::plan(statement.rel, &statement.wanted, &sizes));
        Arc::clone(self.plan.get_or_init(made))
    }
}

/// The reading part of a statement.
pub struct StatementSource<'a> {
    /// The relation.
    pub rel: &'a crate::bind::tree::Rel,
    /// The columns that are used of it.
    pub wanted: Vec<Column>,
}

//! [`Part`]: what a node does for another one.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use datafusion::physical_plan::ExecutionPlan;
use pontoon_kv::{NodeId, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::bind::tree::Column;
use crate::error::SqlError;
use crate::exec::context::ExecContext;
use crate::exec::rows::Executor;
use crate::exec::vector::aggregate::half_of;
use crate::exec::vector::lower::{lower, with_columns};

use super::serve::Number;
use super::work::Work;

/// A part of a query: some spans of a table, and what is done with their rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// What is done.
    pub work: Arc<Work>,
    /// When.
    pub read_at: Timestamp,
    /// Its pages tell what was read for them: the spans do not show it.
    pub notes_reads: bool,
    /// With which keys, in order.
    pub spans: Vec<Span>,
    /// What it is given besides, by the numbers that its work has for them.
    pub inlets: Vec<Inlet>,
}

/// Rows that a part is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Inlet {
    /// These, as a stream of Arrow.
    Rows(Bytes),
    /// Partitions of what other parts shuffle.
    Shuffled {
        /// The parts, and the nodes that run them.
        from: Vec<(NodeId, Number)>,
        /// Which.
        partitions: Range<u32>,
    },
}

impl Part {
    /// Its operators. Rows of the table that they have read are added to `read`.
    pub async fn lowered(
        &self,
        cx: &ExecContext,
        read: &Arc<AtomicUsize>,
    ) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
        let plan = self.work.plan(&self.spans, read);
        let executor = self.executor(cx);
        match self.work.half() {
            Some(half) => half_of(&executor, &plan, half).await,
            None => {
                let lowered = lower(&executor, &plan).await?;
                with_columns(lowered, &plan.columns)
            }
        }
    }

    /// The columns of its rows.
    pub fn columns(&self) -> Vec<Column> {
        self.work.plan(&[], &Arc::default()).columns
    }

    /// What runs it.
    pub fn executor(&self, cx: &ExecContext) -> Arc<Executor> {
        Executor::for_part(cx.clone(), self.inlets.clone())
    }
}

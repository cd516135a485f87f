//! The operator of DataFusion that all of ours are: named inputs and a function that makes the
//! stream.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::bind::tree::Column;
use crate::types::arrow::arrow_type;

/// Makes the stream of an operator out of the streams of its inputs.
pub type Start =
    Arc<dyn Fn(Vec<SendableRecordBatchStream>) -> Result<SendableRecordBatchStream> + Send + Sync>;

/// An operator of ours.
pub struct OwnExec {
    name: &'static str,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    start: Start,
    properties: Arc<PlanProperties>,
}

/// The Arrow schema of columns: `c<number>`, all nullable.
pub fn schema_of(columns: &[Column]) -> SchemaRef {
    let field = |c: &Column| -> Field {
        let ty: DataType = arrow_type(c.ty.oid);
        Field::new(format!("c{}", c.id.0), ty, true)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

impl OwnExec {
    /// An operator with one partition.
    pub fn new(
        name: &'static str,
        schema: SchemaRef,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        start: Start,
    ) -> Arc<dyn ExecutionPlan> {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Arc::new(Self {
            name,
            inputs,
            start,
            properties: Arc::new(properties),
        })
    }
}

impl fmt::Debug for OwnExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl DisplayAs for OwnExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl ExecutionPlan for OwnExec {
    fn name(&self) -> &'static str {
        self.name
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self {
            name: self.name,
            inputs,
            start: Arc::clone(&self.start),
            properties: Arc::clone(&self.properties),
        }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(DataFusionError::Internal(format!(
                "no partition {partition}"
            )));
        }
        let inputs = self
            .inputs
            .iter()
            .map(|i| i.execute(0, Arc::clone(&context)))
            .collect::<Result<Vec<_>>>()?;
        (self.start)(inputs)
    }
}

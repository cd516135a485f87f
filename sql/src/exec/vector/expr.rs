//! A bound expression as an expression of DataFusion.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use serde::{Deserialize, Serialize};

use crate::bind::tree::Expr;
use crate::exec::error::into_datafusion;
use crate::types::arrow::arrow_type;

use super::evaluate::Evaluator;

/// What the expression gives of its values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Form {
    /// The values.
    Plain,
    /// Their sort keys.
    SortKey,
    /// Integers as int8.
    Widened,
    /// True only where the value is true (for filters).
    Mask,
}

/// An expression of ours. Two of them are equal only if they are the same object.
pub struct VectorExpr {
    evaluator: Arc<Evaluator>,
    expr: Arc<Expr>,
    form: Form,
    id: u64,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl VectorExpr {
    /// An expression over the evaluator's columns.
    pub fn new(evaluator: Arc<Evaluator>, expr: Arc<Expr>, form: Form) -> Arc<dyn PhysicalExpr> {
        Arc::new(Self {
            evaluator,
            expr,
            form,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
        })
    }
}

impl fmt::Debug for VectorExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expression {}", self.id)
    }
}

impl fmt::Display for VectorExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expression {}", self.id)
    }
}

impl PartialEq for VectorExpr {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for VectorExpr {}

impl Hash for VectorExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl PhysicalExpr for VectorExpr {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(match self.form {
            Form::Plain => arrow_type(self.expr.ty().oid),
            Form::SortKey => DataType::Binary,
            Form::Widened => DataType::Int64,
            Form::Mask => DataType::Boolean,
        })
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = match self.form {
            Form::Plain => self.evaluator.array(&self.expr, batch),
            Form::SortKey => self.evaluator.sort_keys(&self.expr, batch),
            Form::Widened => {
                let array = self
                    .evaluator
                    .array(&self.expr, batch)
                    .map_err(into_datafusion)?;
                return Ok(ColumnarValue::Array(arrow::compute::cast(
                    &array,
                    &DataType::Int64,
                )?));
            }
            Form::Mask => self
                .evaluator
                .mask(std::slice::from_ref(self.expr.as_ref()), batch)
                .map(|m| Arc::new(m) as _),
        };
        array.map(ColumnarValue::Array).map_err(into_datafusion)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(self)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

//! Evaluates a bound expression on a batch of columns.
//!
//! Comparisons, logic and functions with kernels work on whole columns; everything else goes row
//! by row through [`crate::exec::interp`]. CASE, COALESCE, AND and OR evaluate an operand only on
//! the rows that need it, so an error that PostgreSQL would not raise is not raised here.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, RecordBatch, Scalar, UInt32Array,
};
use arrow::compute::kernels::{boolean, cmp};
use arrow::compute::{filter_record_batch, interleave, take};

use crate::bind::tree::{CastKind, ColId, Column, Expr, Subquery};
use crate::error::SqlError;
use crate::exec::context::ExecContext;
use crate::exec::error::from_arrow;
use crate::exec::interp::{NoRow, Row, SubqueryRows, eval};
use crate::exec::rows::Slots;
use crate::types::arrow::{arrow_type, build_array, datum_at};
use crate::types::registry::{Comparison, Function, FunctionBody};
use crate::types::{Datum, Oid, sort_key};

/// Results of subqueries that do not depend on the row, by address.
pub type Results = Vec<(usize, Arc<SubqueryRows>)>;

/// What expressions over one kind of batch need.
pub struct Evaluator {
    /// What the statement runs with.
    pub cx: ExecContext,
    /// Where the columns lie.
    pub slots: Slots,
    /// Their types.
    pub types: Vec<Oid>,
    /// Subqueries that were run.
    pub subqueries: Results,
}

/// A column or one value for all rows.
enum Value {
    Column(ArrayRef),
    Single(Datum),
}

/// One row of a batch.
struct BatchRow<'a> {
    evaluator: &'a Evaluator,
    batch: &'a RecordBatch,
    row: usize,
}

impl Row for BatchRow<'_> {
    fn column(&self, id: ColId) -> Option<Datum> {
        let slot = self.evaluator.slots.get(id)?;
        let column = self.batch.columns().get(slot)?;
        Some(datum_at(
            column.as_ref(),
            self.row,
            *self.evaluator.types.get(slot)?,
        ))
    }

    fn subquery(&self, query: &Subquery) -> Option<Arc<SubqueryRows>> {
        let address = std::ptr::from_ref(query) as usize;
        let found = self
            .evaluator
            .subqueries
            .iter()
            .find(|(a, _)| *a == address);
        found.map(|(_, rows)| Arc::clone(rows))
    }
}

impl Evaluator {
    /// An evaluator over batches of these columns.
    pub fn new(cx: ExecContext, columns: &[Column], subqueries: Results) -> Self {
        Self {
            cx,
            slots: Slots::new(columns),
            types: columns.iter().map(|c| c.ty.oid).collect(),
            subqueries,
        }
    }

    /// The values of an expression.
    pub fn array(&self, expr: &Expr, batch: &RecordBatch) -> Result<ArrayRef, SqlError> {
        let value = self.value(expr, batch)?;
        self.spread(value, expr.ty().oid, batch.num_rows())
    }

    /// The rows for which all conditions are true.
    pub fn mask(&self, conditions: &[Expr], batch: &RecordBatch) -> Result<BooleanArray, SqlError> {
        let value = self.connective(conditions, false, batch)?;
        let array = self.spread(value, Oid::BOOL, batch.num_rows())?;
        let array = booleans(&array)?;
        Ok(if array.null_count() == 0 {
            array.clone()
        } else {
            arrow::compute::prep_null_mask_filter(array)
        })
    }

    /// Sort keys of the values of an expression.
    pub fn sort_keys(&self, expr: &Expr, batch: &RecordBatch) -> Result<ArrayRef, SqlError> {
        let array = self.array(expr, batch)?;
        let oid = expr.ty().oid;
        let mut out = arrow::array::BinaryBuilder::with_capacity(array.len(), array.len() * 12);
        let mut bytes = Vec::new();
        for row in 0..array.len() {
            match datum_at(array.as_ref(), row, oid) {
                Datum::Null => out.append_null(),
                value => {
                    bytes.clear();
                    sort_key::append(&value, oid, &mut bytes);
                    out.append_value(&bytes);
                }
            }
        }
        Ok(Arc::new(out.finish()))
    }

    fn spread(&self, value: Value, oid: Oid, rows: usize) -> Result<ArrayRef, SqlError> {
        match value {
            Value::Column(array) => Ok(array),
            Value::Single(value) => build_array(oid, std::iter::repeat_n(&value, rows)),
        }
    }

    fn value(&self, expr: &Expr, batch: &RecordBatch) -> Result<Value, SqlError> {
        match expr {
            Expr::Const(..) | Expr::Param(..) => {
                eval(expr, &NoRow, self.cx.eval.as_ref(), &self.cx.params).map(Value::Single)
            }
            Expr::Column(id, _) => self
                .slots
                .get(*id)
                .and_then(|slot| batch.columns().get(slot))
                .map(|column| Value::Column(Arc::clone(column)))
                .ok_or_else(|| SqlError::internal(format!("column {} is not in scope", id.0))),
            Expr::And(items) => self.connective(items, false, batch),
            Expr::Or(items) => self.connective(items, true, batch),
            Expr::Not(arg) => {
                let array = self.array(arg, batch)?;
                let not = boolean::not(booleans(&array)?).map_err(from_arrow)?;
                Ok(Value::Column(Arc::new(not)))
            }
            Expr::IsNull { arg, negated } if arg.ty().oid != Oid::RECORD => {
                let array = self.array(arg, batch)?;
                let kernel = if *negated {
                    boolean::is_not_null
                } else {
                    boolean::is_null
                };
                Ok(Value::Column(Arc::new(
                    kernel(array.as_ref()).map_err(from_arrow)?,
                )))
            }
            Expr::Call {
                function,
                args,
                comparison,
                ty,
            } => {
                if let (Some(comparison), [left, right]) = (comparison, args.as_slice())
                    && let Some(done) = self.compare(*comparison, left, right, batch)?
                {
                    return Ok(done);
                }
                match &function.body {
                    FunctionBody::Scalar {
                        vector: Some(kernel),
                        ..
                    } => {
                        let columns = args
                            .iter()
                            .map(|a| self.array(a, batch))
                            .collect::<Result<Vec<_>, _>>()?;
                        kernel(self.cx.eval.as_ref(), &columns, batch.num_rows()).map(Value::Column)
                    }
                    _ => self.call(function, args, ty.oid, batch),
                }
            }
            Expr::Cast {
                arg,
                kind: CastKind::Binary,
                ty,
                ..
            } if arrow_type(arg.ty().oid) == arrow_type(ty.oid)
                && !is_array(arg.ty().oid)
                && !is_array(ty.oid) =>
            {
                self.value(arg, batch)
            }
            Expr::Cast {
                arg,
                kind: CastKind::Function(function),
                ty,
                ..
            } => match &function.body {
                FunctionBody::Scalar {
                    vector: Some(kernel),
                    ..
                } => {
                    let column = self.array(arg, batch)?;
                    kernel(self.cx.eval.as_ref(), &[column], batch.num_rows()).map(Value::Column)
                }
                _ => self.call(function, std::slice::from_ref(arg.as_ref()), ty.oid, batch),
            },
            Expr::Case {
                whens,
                otherwise,
                ty,
            } => self.case(whens, otherwise.as_deref(), ty.oid, batch),
            _ => self.by_rows(expr, batch),
        }
    }

    /// Row by row through the interpreter.
    fn by_rows(&self, expr: &Expr, batch: &RecordBatch) -> Result<Value, SqlError> {
        let (cx, params) = (self.cx.eval.as_ref(), &self.cx.params);
        let mut values = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            values.push(eval(
                expr,
                &BatchRow {
                    evaluator: self,
                    batch,
                    row,
                },
                cx,
                params,
            )?);
        }
        build_array(expr.ty().oid, values.iter()).map(Value::Column)
    }

    /// A function without kernel, over columns of its arguments.
    fn call(
        &self,
        function: &Function,
        args: &[Expr],
        oid: Oid,
        batch: &RecordBatch,
    ) -> Result<Value, SqlError> {
        let columns = args
            .iter()
            .map(|a| self.value(a, batch))
            .collect::<Result<Vec<_>, _>>()?;
        let mut values = Vec::with_capacity(batch.num_rows());
        let mut row_args: Vec<Datum> = Vec::with_capacity(args.len());
        for row in 0..batch.num_rows() {
            row_args.clear();
            for (column, arg) in columns.iter().zip(args) {
                row_args.push(match column {
                    Value::Column(array) => datum_at(array.as_ref(), row, arg.ty().oid),
                    Value::Single(value) => value.clone(),
                });
            }
            values.push(crate::exec::interp::call(
                function,
                &row_args,
                self.cx.eval.as_ref(),
            )?);
        }
        build_array(oid, values.iter()).map(Value::Column)
    }

    /// A comparison by a kernel of Arrow, where that compares as PostgreSQL does.
    fn compare(
        &self,
        comparison: Comparison,
        left: &Expr,
        right: &Expr,
        batch: &RecordBatch,
    ) -> Result<Option<Value>, SqlError> {
        let (a, b) = (left.ty().oid, right.ty().oid);
        let native = |oid: Oid| {
            !sort_key::needs_key(oid)
                && !matches!(
                    arrow_type(oid),
                    arrow::datatypes::DataType::FixedSizeBinary(12)
                )
        };
        if arrow_type(a) != arrow_type(b) || !native(a) || !native(b) {
            return Ok(None);
        }
        let (left, right) = (self.value(left, batch)?, self.value(right, batch)?);
        let rows = batch.num_rows();
        if let (Value::Single(_), Value::Single(_)) = (&left, &right) {
            let columns = [self.spread(left, a, rows)?, self.spread(right, b, rows)?];
            let [l, r] = &columns;
            return compared(comparison, l, false, r, false).map(Some);
        }
        let place = |value: Value, oid: Oid| -> Result<(ArrayRef, bool), SqlError> {
            Ok(match value {
                Value::Column(array) => (array, false),
                Value::Single(value) => (build_array(oid, std::iter::once(&value))?, true),
            })
        };
        let ((l, l_single), (r, r_single)) = (place(left, a)?, place(right, b)?);
        compared(comparison, &l, l_single, &r, r_single).map(Some)
    }

    /// AND (`decisive` false) or OR (`decisive` true).
    fn connective(
        &self,
        items: &[Expr],
        decisive: bool,
        batch: &RecordBatch,
    ) -> Result<Value, SqlError> {
        let rows = batch.num_rows();
        let mut state: Option<BooleanArray> = None;
        for item in items {
            let Some(before) = state else {
                state = Some(booleans(&self.array(item, batch)?)?.clone());
                continue;
            };
            // Rows that are not decided.
            let open: BooleanArray = before.iter().map(|v| Some(v != Some(decisive))).collect();
            let left = open.true_count();
            if left == 0 {
                return Ok(Value::Column(Arc::new(before)));
            }
            let next = if left == rows || is_harmless(item) {
                booleans(&self.array(item, batch)?)?.clone()
            } else {
                let some = filter_record_batch(batch, &open).map_err(from_arrow)?;
                let found = self.array(item, &some)?;
                booleans(&scattered(&found, &open)?)?.clone()
            };
            let joined = if decisive {
                boolean::or_kleene(&before, &next)
            } else {
                boolean::and_kleene(&before, &next)
            };
            state = Some(joined.map_err(from_arrow)?);
        }
        Ok(match state {
            Some(array) => Value::Column(Arc::new(array)),
            None => Value::Single(Datum::Bool(!decisive)),
        })
    }

    fn case(
        &self,
        whens: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
        oid: Oid,
        batch: &RecordBatch,
    ) -> Result<Value, SqlError> {
        let rows = batch.num_rows();
        let null = build_array(oid, std::iter::once(&Datum::Null))?;
        let mut parts: Vec<ArrayRef> = vec![null];
        let mut places = vec![(0_usize, 0_usize); rows];
        let mut open: Vec<usize> = (0..rows).collect();
        let always = Expr::Const(Datum::Bool(true), crate::types::PgType::new(Oid::BOOL));
        let last = otherwise.map(|o| (&always, o));
        for (condition, result) in whens.iter().map(|(c, r)| (c, r)).chain(last) {
            if open.is_empty() {
                break;
            }
            let some = taken(batch, &open)?;
            let truth = self.array(condition, &some)?;
            let truth = booleans(&truth)?;
            let (mut hit, mut rest) = (Vec::new(), Vec::new());
            for (i, row) in open.iter().enumerate() {
                if truth.is_valid(i) && truth.value(i) {
                    &mut hit
                } else {
                    &mut rest
                }
                .push(*row);
            }
            open = rest;
            if hit.is_empty() {
                continue;
            }
            let values = self.array(result, &taken(batch, &hit)?)?;
            for (i, row) in hit.iter().enumerate() {
                if let Some(place) = places.get_mut(*row) {
                    *place = (parts.len(), i);
                }
            }
            parts.push(values);
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        interleave(&parts, &places)
            .map(Value::Column)
            .map_err(from_arrow)
    }
}

fn is_array(oid: Oid) -> bool {
    crate::types::registry::registry()
        .type_info(oid)
        .is_some_and(|t| t.element != Oid::INVALID)
}

/// Whether an expression can be evaluated on rows that do not need it: comparisons of columns and
/// constants never fail.
fn is_harmless(expr: &Expr) -> bool {
    match expr {
        Expr::Const(..) | Expr::Param(..) | Expr::Column(..) => true,
        Expr::Call {
            args,
            comparison: Some(_),
            ..
        }
        | Expr::And(args)
        | Expr::Or(args) => args.iter().all(is_harmless),
        Expr::Not(arg) | Expr::IsNull { arg, .. } | Expr::IsBool { arg, .. } => is_harmless(arg),
        _ => false,
    }
}

fn booleans(array: &ArrayRef) -> Result<&BooleanArray, SqlError> {
    array
        .as_any()
        .downcast_ref::<BooleanArray>()
        .ok_or_else(|| SqlError::internal("a condition is not boolean"))
}

fn taken(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch, SqlError> {
    if rows.len() == batch.num_rows() {
        return Ok(batch.clone());
    }
    let indices: UInt32Array = rows
        .iter()
        .map(|r| u32::try_from(*r).unwrap_or(u32::MAX))
        .collect::<Vec<_>>()
        .into();
    let columns = batch
        .columns()
        .iter()
        .map(|c| take(c.as_ref(), &indices, None))
        .collect::<Result<Vec<_>, _>>()
        .map_err(from_arrow)?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options).map_err(from_arrow)
}

/// Brings values of the rows where `mask` is true back to their places, NULL elsewhere.
fn scattered(values: &ArrayRef, mask: &BooleanArray) -> Result<ArrayRef, SqlError> {
    let mut next = 0_u32;
    let indices: UInt32Array = mask
        .iter()
        .map(|m| {
            (m == Some(true)).then(|| {
                next += 1;
                next - 1
            })
        })
        .collect();
    take(values.as_ref(), &indices, None).map_err(from_arrow)
}

fn compared(
    comparison: Comparison,
    left: &ArrayRef,
    left_single: bool,
    right: &ArrayRef,
    right_single: bool,
) -> Result<Value, SqlError> {
    // Zero and minus zero are equal, and NaN is larger than all: not Arrow's total order.
    let (left, right) = (&without_minus_zero(left), &without_minus_zero(right));
    let kernel = match comparison {
        Comparison::Eq => cmp::eq,
        Comparison::Ne => cmp::neq,
        Comparison::Lt => cmp::lt,
        Comparison::Le => cmp::lt_eq,
        Comparison::Gt => cmp::gt,
        Comparison::Ge => cmp::gt_eq,
    };
    let done = match (left_single, right_single) {
        (true, _) => kernel(&Scalar::new(left), right),
        (_, true) => kernel(left, &Scalar::new(right)),
        _ => kernel(left, right),
    };
    Ok(Value::Column(Arc::new(done.map_err(from_arrow)?)))
}

fn without_minus_zero(array: &ArrayRef) -> ArrayRef {
    // Adding zero makes zero of minus zero; NaN is brought to its one positive form.
    if let Some(floats) = array.as_any().downcast_ref::<Float64Array>() {
        Arc::new(floats.unary::<_, arrow::datatypes::Float64Type>(|v| {
            if v.is_nan() { f64::NAN.abs() } else { v + 0.0 }
        }))
    } else if let Some(floats) = array.as_any().downcast_ref::<Float32Array>() {
        Arc::new(floats.unary::<_, arrow::datatypes::Float32Type>(|v| {
            if v.is_nan() { f32::NAN.abs() } else { v + 0.0 }
        }))
    } else {
        Arc::clone(array)
    }
}

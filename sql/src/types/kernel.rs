//! Functions on whole columns: hand-written kernels where there are, else derived from the bodies
//! on single values.

use arrow::array::{Array, ArrayRef};

use super::arrow::{build_array, datum_at};
use super::datum::Datum;
use super::oid::Oid;
use super::registry::{EvalContext, Function, FunctionBody};
use crate::error::SqlError;

/// Rows between two looks at cancellation.
const CANCEL_ROWS: usize = 1024;

/// Calls a scalar function on columns of `rows` rows. NULL handling of strict functions is done
/// here. `arg_oids` are the actual types of the columns, `result_oid` that of the result.
pub fn call(
    function: &Function,
    cx: &dyn EvalContext,
    columns: &[ArrayRef],
    rows: usize,
    arg_oids: &[Oid],
    result_oid: Oid,
) -> Result<ArrayRef, SqlError> {
    let FunctionBody::Scalar { eval, vector } = &function.body else {
        return Err(SqlError::internal(format!(
            "{function:?} is no scalar function"
        )));
    };
    if let Some(vector) = vector {
        return vector(cx, columns, rows);
    }
    let mut args = vec![Datum::Null; columns.len()];
    let mut results = Vec::with_capacity(rows);
    for row in 0..rows {
        if row % CANCEL_ROWS == 0 {
            cx.check_cancelled()?;
        }
        let mut null = false;
        for ((slot, column), ty) in args.iter_mut().zip(columns).zip(arg_oids) {
            // one row stands for all in a constant column
            let at = if column.len() == 1 { 0 } else { row };
            *slot = datum_at(column.as_ref(), at, *ty);
            null |= slot.is_null();
        }
        results.push(if null && function.strict {
            Datum::Null
        } else {
            eval(cx, &args)?
        });
    }
    build_array(result_oid, results.iter())
}

/// Calls a scalar function on single values, NULL handling included.
pub fn call_row(
    function: &Function,
    cx: &dyn EvalContext,
    args: &[Datum],
) -> Result<Datum, SqlError> {
    let FunctionBody::Scalar { eval, .. } = &function.body else {
        return Err(SqlError::internal(format!(
            "{function:?} is no scalar function"
        )));
    };
    if function.strict && args.iter().any(Datum::is_null) {
        return Ok(Datum::Null);
    }
    eval(cx, args)
}

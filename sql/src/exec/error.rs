//! Errors of DataFusion and Arrow with SQLSTATEs, and the signal that a statement must run again.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use crate::error::{SqlError, SqlState};

const RERUN: &str = "the statement must run again at its transaction's new snapshot";

/// The signal that the transaction's read timestamp moved while the statement took locks.
pub fn rerun() -> SqlError {
    SqlError::new(SqlState::SERIALIZATION_FAILURE, RERUN)
}

/// Whether an error is [`rerun`]: the caller runs the statement again; no client sees it.
pub fn is_rerun(error: &SqlError) -> bool {
    error.state == SqlState::SERIALIZATION_FAILURE && error.message == RERUN
}

/// Carries an error of ours through DataFusion.
pub fn into_datafusion(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// An error that comes out of DataFusion.
pub fn from_datafusion(error: DataFusionError) -> SqlError {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<SqlError>() {
            Ok(ours) => *ours,
            Err(other) => match other.downcast::<DataFusionError>() {
                Ok(inner) => from_datafusion(*inner),
                Err(other) => SqlError::internal(other),
            },
        },
        DataFusionError::Context(_, inner) => from_datafusion(*inner),
        DataFusionError::Diagnostic(_, inner) => from_datafusion(*inner),
        DataFusionError::ArrowError(inner, _) => from_arrow(*inner),
        DataFusionError::ResourcesExhausted(message) => {
            SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory").with_detail(message)
        }
        DataFusionError::Shared(inner) => match inner.as_ref() {
            DataFusionError::External(e) => match e.downcast_ref::<SqlError>() {
                Some(ours) => ours.clone(),
                None => SqlError::internal(inner),
            },
            _ => SqlError::internal(inner),
        },
        other => SqlError::internal(other),
    }
}

/// An error of an Arrow kernel.
pub fn from_arrow(error: ArrowError) -> SqlError {
    match error {
        ArrowError::DivideByZero => SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(_) => {
            SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range")
        }
        ArrowError::ExternalError(inner) => match inner.downcast::<SqlError>() {
            Ok(ours) => *ours,
            Err(other) => match other.downcast::<DataFusionError>() {
                Ok(inner) => from_datafusion(*inner),
                Err(other) => SqlError::internal(other),
            },
        },
        other => SqlError::internal(other),
    }
}

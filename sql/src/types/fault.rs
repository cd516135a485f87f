//! The errors that many functions share, worded as PostgreSQL words them.

use crate::error::{SqlError, SqlState};

/// `22003`: "integer out of range" and family.
pub fn out_of_range(what: &'static str) -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("{what} out of range"),
    )
}

/// `22003`: a value written as text does not fit.
pub fn text_out_of_range(text: &str, ty: &str) -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("value \"{text}\" is out of range for type {ty}"),
    )
}

/// `22012`.
pub fn division_by_zero() -> SqlError {
    SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

/// `22P02`: text that is no value of a type.
pub fn invalid_input(ty: &str, text: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {ty}: \"{text}\""),
    )
}

/// `22007`: text that is no date or time.
pub fn invalid_datetime(ty: &str, text: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_DATETIME_FORMAT,
        format!("invalid input syntax for type {ty}: \"{text}\""),
    )
}

/// `22008`: a date or time field out of its range.
pub fn field_overflow(text: &str) -> SqlError {
    SqlError::new(
        SqlState::DATETIME_FIELD_OVERFLOW,
        format!("date/time field value out of range: \"{text}\""),
    )
}

/// `22008`: "timestamp out of range" and family.
pub fn datetime_out_of_range(what: &'static str) -> SqlError {
    SqlError::new(
        SqlState::DATETIME_FIELD_OVERFLOW,
        format!("{what} out of range"),
    )
}

/// `22023`: a parameter has a value that it may not have.
pub fn invalid_parameter(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message.into())
}

/// A function got a value of a type that its declaration excludes.
pub fn wrong_argument(function: &str) -> SqlError {
    SqlError::internal(format!("{function} called with a value of another type"))
}

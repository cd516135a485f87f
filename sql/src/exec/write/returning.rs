//! What a write gives back.

use crate::bind::tree::Returning;
use crate::error::SqlError;
use crate::exec::query::Materialised;
use crate::session::api::{Outcome, RowsTag};
use crate::types::Datum;

/// Rows of RETURNING and the number of rows written.
#[derive(Default)]
pub struct Returned {
    /// The rows.
    pub rows: Vec<Vec<Datum>>,
    /// How many rows were written.
    pub count: usize,
}

/// The outcome of a write.
pub fn outcome(
    returned: Returned,
    returning: Option<&Returning>,
    tag: &'static str,
) -> Result<Outcome, SqlError> {
    Ok(match returning {
        Some(returning) => Outcome::Rows {
            columns: returning.output.clone(),
            source: Box::new(Materialised::new(returned.rows)),
            tag: RowsTag::Counted(tag),
        },
        None => Outcome::Done(format!("{tag} {}", returned.count)),
    })
}

//! Runs bound statements.
//!
//! [`execute`] takes the compiled key access of [`crate::point`] where there is one; else a query
//! is planned ([`crate::plan`]) and run row by row ([`rows`]) or through DataFusion ([`vector`]),
//! and a write is such a query whose rows are materialised first and then applied ([`write`]).
//! Nothing here begins or ends transactions.

pub mod context;
pub mod error;
pub mod explain;
mod explain_dist;
pub mod interp;
pub mod prepared;
pub mod query;
pub mod reader;
pub mod remote;
pub mod rows;
pub mod vector;
pub mod write;

use std::sync::Arc;

use crate::bind::tree::BoundStatement;
use crate::session::api::Outcome;

pub use context::{ExecContext, Runtime};
pub use error::{is_rerun, rerun};
pub use explain::{ExplainOptions, explain};
pub use vector::cache::ColumnCache;
pub use write::{backfill_index, delete_storage, insert_rows};

use crate::error::SqlError;

/// Runs a statement. Its writes are buffered in the transaction when this returns; the rows of a
/// query are computed while they are read.
///
/// An error for which [`is_rerun`] holds asks the caller to run the whole statement again: its
/// transaction has moved to a newer snapshot. Nothing was written then.
pub async fn execute(
    statement: &Arc<BoundStatement>,
    cx: ExecContext,
) -> Result<Outcome, SqlError> {
    let prepared = cx.runtime.prepared(statement);
    if cx.fast_path
        && let Some(point) = &prepared.point
        && let Some(outcome) = crate::point::run(point, &cx).await?
    {
        return Ok(outcome);
    }
    match statement.as_ref() {
        BoundStatement::Query(query) => query::run(query, &prepared, cx).await,
        BoundStatement::Insert(insert) => write::insert(insert, &prepared, cx).await,
        BoundStatement::Update(update) => write::update(update, &prepared, cx).await,
        BoundStatement::Delete(delete) => write::delete(delete, &prepared, cx).await,
    }
}

#[cfg(test)]
pub(crate) mod tests;

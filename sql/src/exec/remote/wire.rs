//! What nodes say to each other about parts of queries. Changes need a new version of the nodes'
//! protocol; new variants are appended.

use std::borrow::Cow;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use pontoon_kv::range::ReadEntry;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Fields, Severity, SqlError, SqlState};
use crate::exec::error::from_arrow;

/// A reply.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Rows.
    Page(Page),
    /// The part has failed, as it would have here.
    Failed(Failure),
    /// The node does not run it.
    Refused(String),
    /// What became of a part whose rows were shuffled.
    Finished(Finished),
    /// Whether a part whose groups are shuffled has few.
    Few(bool),
}

/// What became of a part whose rows were shuffled.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Finished {
    /// Rows of the table that were read.
    pub(super) read: u64,
    /// Rows that were given away.
    pub(super) rows: u64,
    /// Bytes of them.
    pub(super) bytes: u64,
    /// All rows were read: nobody had enough before.
    pub(super) all: bool,
}

/// Some rows of a part.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Page {
    /// Batches as a stream of Arrow; nothing when there are none.
    pub(super) batches: Bytes,
    /// At the end: rows of the table that were read.
    pub(super) read: Option<u64>,
    /// What was read for it, if whoever asks validates that.
    pub(super) reads: Vec<ReadEntry>,
}

/// An error of SQL.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    state: [u8; 5],
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        let Fields {
            state,
            message,
            detail,
            hint,
            ..
        } = *error.0;
        Self {
            state: state.0,
            message: message.into_owned(),
            detail,
            hint,
        }
    }
}

impl From<Failure> for SqlError {
    fn from(failure: Failure) -> Self {
        let mut error = Self::new(SqlState(failure.state), Cow::from(failure.message));
        error.0.severity = Severity::Error;
        error.0.detail = failure.detail;
        error.0.hint = failure.hint;
        error
    }
}

/// Writes a message.
pub(super) fn encode(message: &impl Serialize) -> Result<Bytes, SqlError> {
    let bytes = postcard::to_stdvec(message).map_err(SqlError::internal)?;
    Ok(bytes.into())
}

/// Reads a message.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SqlError> {
    postcard::from_bytes(bytes).map_err(SqlError::internal)
}

/// Writes batches.
pub(super) fn encode_batches(batches: &[RecordBatch]) -> Result<Bytes, SqlError> {
    let Some(first) = batches.first() else {
        return Ok(Bytes::new());
    };
    let mut writer = StreamWriter::try_new(Vec::new(), &first.schema()).map_err(from_arrow)?;
    for batch in batches {
        writer.write(batch).map_err(from_arrow)?;
    }
    Ok(writer.into_inner().map_err(from_arrow)?.into())
}

/// Reads batches, which have the columns of `schema`.
pub(super) fn decode_batches(
    bytes: &Bytes,
    schema: &SchemaRef,
) -> Result<Vec<RecordBatch>, SqlError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let reader = StreamReader::try_new(bytes.as_ref(), None).map_err(from_arrow)?;
    let fits = {
        let own = reader.schema();
        let types = own.fields().iter().map(|field| field.data_type());
        types.eq(schema.fields().iter().map(|field| field.data_type()))
    };
    if !fits {
        return Err(SqlError::internal("a part of a query has other columns"));
    }
    let batches = reader.map(|batch| {
        let batch = batch.map_err(from_arrow)?;
        batch.with_schema(schema.clone()).map_err(from_arrow)
    });
    batches.collect()
}

//! COPY ... TO STDOUT.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::decode::SIGNATURE;
use super::encode::{csv_field, text_field};
use super::options::{CopyFormat, CopyOptions, Header};
use crate::bind::tree::OutputColumn;
use crate::error::{SqlError, SqlState};
use crate::session::api::{CopySource, RowSource};
use crate::session::run::rows_of;
use crate::types::registry::EvalContext;
use crate::types::{Datum, io};

/// Gives the rows of a query as COPY data.
pub(crate) struct CopyOut {
    pub(crate) source: Box<dyn RowSource>,
    pub(crate) columns: Arc<[OutputColumn]>,
    pub(crate) options: CopyOptions,
    pub(crate) eval: Arc<dyn EvalContext>,
    pub(crate) count: u64,
    pub(crate) begun: bool,
    pub(crate) ended: bool,
}

impl CopyOut {
    fn first(&self) -> Option<Vec<u8>> {
        match self.options.format {
            CopyFormat::Binary => {
                let mut header = SIGNATURE.to_vec();
                header.extend_from_slice(&[0; 8]);
                Some(header)
            }
            _ if self.options.header == Header::No => None,
            format => {
                let mut line = Vec::new();
                for (i, column) in self.columns.iter().enumerate() {
                    if i > 0 {
                        line.push(self.options.delimiter);
                    }
                    if format == CopyFormat::Csv {
                        let alone = self.columns.len() == 1;
                        csv_field(&column.name, &self.options, false, alone, &mut line);
                    } else {
                        text_field(&column.name, &self.options, &mut line);
                    }
                }
                line.push(b'\n');
                Some(line)
            }
        }
    }

    fn row(&self, row: &[Datum], text: &mut String) -> Result<Vec<u8>, SqlError> {
        let mut line = Vec::with_capacity(16 * row.len());
        if self.options.format == CopyFormat::Binary {
            let count = i16::try_from(row.len()).map_err(SqlError::internal)?;
            line.extend_from_slice(&count.to_be_bytes());
            let mut bytes = Vec::new();
            for (value, column) in row.iter().zip(self.columns.iter()) {
                if value.is_null() {
                    line.extend_from_slice(&(-1_i32).to_be_bytes());
                    continue;
                }
                bytes.clear();
                io::send(value, column.ty.oid, &mut bytes);
                let length = i32::try_from(bytes.len()).map_err(|_| {
                    SqlError::new(
                        SqlState::PROGRAM_LIMIT_EXCEEDED,
                        "a value is too long for COPY",
                    )
                })?;
                line.extend_from_slice(&length.to_be_bytes());
                line.extend_from_slice(&bytes);
            }
            return Ok(line);
        }
        let csv = self.options.format == CopyFormat::Csv;
        for (i, (value, column)) in row.iter().zip(self.columns.iter()).enumerate() {
            if i > 0 {
                line.push(self.options.delimiter);
            }
            if value.is_null() {
                line.extend_from_slice(self.options.null.as_bytes());
                continue;
            }
            text.clear();
            io::output(value, column.ty, self.eval.as_ref(), text);
            if csv {
                let force = self.options.force_quote.has(&column.name);
                csv_field(text, &self.options, force, row.len() == 1, &mut line);
            } else {
                text_field(text, &self.options, &mut line);
            }
        }
        line.push(b'\n');
        Ok(line)
    }
}

impl CopySource for CopyOut {
    fn shape(&self) -> (usize, bool) {
        (
            self.columns.len(),
            self.options.format == CopyFormat::Binary,
        )
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<Vec<u8>>>, SqlError>> {
        Box::pin(async {
            if !std::mem::replace(&mut self.begun, true)
                && let Some(first) = self.first()
            {
                return Ok(Some(vec![first]));
            }
            if self.ended {
                return Ok(None);
            }
            let Some(batch) = self.source.next().await? else {
                self.ended = true;
                let trailer = (-1_i16).to_be_bytes().to_vec();
                let binary = self.options.format == CopyFormat::Binary;
                return Ok(binary.then(|| vec![trailer]));
            };
            let mut text = String::new();
            let rows = rows_of(batch, &self.columns);
            self.count += rows.len() as u64;
            rows.iter()
                .map(|row| self.row(row, &mut text))
                .collect::<Result<_, _>>()
                .map(Some)
        })
    }

    fn tag(&self) -> String {
        format!("COPY {}", self.count)
    }
}

//! Result rows to DataRow messages, straight into the output buffer.
//!
//! How a column is written is chosen once per result ([`RowEncoder::new`]); the common types are
//! written from the Arrow arrays or datums without an intermediate form, all others through
//! `types::io`. A row that cannot be written leaves nothing in the buffer.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    StringArray, UInt32Array,
};
use pontoon_sql::bind::tree::OutputColumn;
use pontoon_sql::session::api::{Format, RowBatch};
use pontoon_sql::types::io;
use pontoon_sql::types::registry::EvalContext;
use pontoon_sql::types::{Datum, Oid, PgType};
use pontoon_sql::{SqlError, SqlState};

use super::out;

/// How the values of a column are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Decimal digits.
    IntText,
    /// `t` or `f`.
    BoolText,
    /// The characters themselves (either format).
    Chars,
    /// Big-endian bytes of the integer, float or bool.
    Fixed,
    /// The type's text.
    Text,
    /// The type's binary form.
    Binary,
}

fn way(ty: PgType, format: Format) -> Way {
    match (ty.oid, format) {
        (Oid::TEXT | Oid::VARCHAR | Oid::NAME | Oid::UNKNOWN | Oid::JSON, _)
        | (Oid::JSONB, Format::Text) => Way::Chars,
        (Oid::INT2 | Oid::INT4 | Oid::INT8 | Oid::OID, Format::Text) => Way::IntText,
        (Oid::BOOL, Format::Text) => Way::BoolText,
        (
            Oid::INT2 | Oid::INT4 | Oid::INT8 | Oid::OID | Oid::BOOL | Oid::FLOAT4 | Oid::FLOAT8,
            Format::Binary,
        ) => Way::Fixed,
        (_, Format::Text) => Way::Text,
        (_, Format::Binary) => Way::Binary,
    }
}

/// Writes the rows of one result.
pub(crate) struct RowEncoder {
    columns: Vec<(Way, PgType)>,
    context: Arc<dyn EvalContext>,
}

/// An Arrow column with its type known.
enum Typed<'a> {
    Bool(&'a BooleanArray),
    I16(&'a Int16Array),
    I32(&'a Int32Array),
    I64(&'a Int64Array),
    U32(&'a UInt32Array),
    F32(&'a Float32Array),
    F64(&'a Float64Array),
    Utf8(&'a StringArray),
    Other,
}

fn typed(array: &dyn Array) -> Typed<'_> {
    let any = array.as_any();
    if let Some(a) = any.downcast_ref() {
        Typed::I32(a)
    } else if let Some(a) = any.downcast_ref() {
        Typed::I64(a)
    } else if let Some(a) = any.downcast_ref() {
        Typed::Utf8(a)
    } else if let Some(a) = any.downcast_ref() {
        Typed::F64(a)
    } else if let Some(a) = any.downcast_ref() {
        Typed::Bool(a)
    } else if let Some(a) = any.downcast_ref() {
        Typed::I16(a)
    } else if let Some(a) = any.downcast_ref() {
        Typed::U32(a)
    } else if let Some(a) = any.downcast_ref() {
        Typed::F32(a)
    } else {
        Typed::Other
    }
}

impl RowEncoder {
    /// For these columns in these formats, with the settings (zone and the like) of the session.
    pub(crate) fn new(
        columns: &[OutputColumn],
        formats: &[Format],
        context: Arc<dyn EvalContext>,
    ) -> Self {
        let columns = columns
            .iter()
            .enumerate()
            .map(|(i, c)| (way(c.ty, out::format_of(formats, i)), c.ty))
            .collect();
        Self { columns, context }
    }

    /// Writes the rows `range` of a batch; stops early, after a whole row, when `out` exceeds
    /// `bytes_max`. Gives the number of rows written.
    pub(crate) fn write(
        &mut self,
        batch: &RowBatch,
        range: Range<usize>,
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<usize, SqlError> {
        let arrays: Vec<(Typed<'_>, &ArrayRef)> = match batch {
            RowBatch::Rows(_) => Vec::new(),
            RowBatch::Columns { columns, .. } => {
                columns.iter().map(|a| (typed(a.as_ref()), a)).collect()
            }
        };
        let mut written = 0;
        for row in range {
            let start = out.len();
            let done = match batch {
                RowBatch::Rows(rows) => self.datum_row(rows.get(row).map(Vec::as_slice), out),
                RowBatch::Columns { .. } => self.column_row(&arrays, row, out),
            };
            if let Err(e) = done {
                out.truncate(start);
                return Err(e);
            }
            written += 1;
            if out.len() >= bytes_max {
                break;
            }
        }
        Ok(written)
    }

    fn begin(&self, out: &mut Vec<u8>) -> usize {
        out.push(b'D');
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(
            &u16::try_from(self.columns.len())
                .unwrap_or(u16::MAX)
                .to_be_bytes(),
        );
        at
    }

    fn datum_row(&mut self, row: Option<&[Datum]>, out: &mut Vec<u8>) -> Result<(), SqlError> {
        let row = row.filter(|r| r.len() == self.columns.len());
        let row = row.ok_or_else(|| SqlError::internal("a row does not fit its description"))?;
        let at = self.begin(out);
        for (value, &(way, ty)) in row.iter().zip(&self.columns) {
            datum(value, way, ty, &*self.context, out)?;
        }
        end(out, at)
    }

    fn column_row(
        &mut self,
        arrays: &[(Typed<'_>, &ArrayRef)],
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SqlError> {
        if arrays.len() != self.columns.len() || arrays.iter().any(|(_, a)| row >= a.len()) {
            return Err(SqlError::internal("a batch does not fit its description"));
        }
        let at = self.begin(out);
        for ((array, raw), &(way, ty)) in arrays.iter().zip(&self.columns) {
            if raw.is_null(row) {
                out.extend_from_slice(&(-1i32).to_be_bytes());
                continue;
            }
            match (array, way) {
                (Typed::Utf8(a), Way::Chars) => value(out, a.value(row).as_bytes())?,
                (Typed::I16(a), Way::IntText) => digits(out, a.value(row))?,
                (Typed::I32(a), Way::IntText) => digits(out, a.value(row))?,
                (Typed::I64(a), Way::IntText) => digits(out, a.value(row))?,
                (Typed::U32(a), Way::IntText) => digits(out, a.value(row))?,
                (Typed::Bool(a), Way::BoolText) => value(out, truth(a.value(row)))?,
                (Typed::Bool(a), Way::Fixed) => value(out, &[u8::from(a.value(row))])?,
                (Typed::I16(a), Way::Fixed) => value(out, &a.value(row).to_be_bytes())?,
                (Typed::I32(a), Way::Fixed) => value(out, &a.value(row).to_be_bytes())?,
                (Typed::I64(a), Way::Fixed) => value(out, &a.value(row).to_be_bytes())?,
                (Typed::U32(a), Way::Fixed) => value(out, &a.value(row).to_be_bytes())?,
                (Typed::F32(a), Way::Fixed) => value(out, &a.value(row).to_be_bytes())?,
                (Typed::F64(a), Way::Fixed) => value(out, &a.value(row).to_be_bytes())?,
                (_, Way::Fixed | Way::Binary) => {
                    sized(out, |o| io::wire_binary_at(raw.as_ref(), row, ty, o))?;
                }
                _ => sized(out, |o| {
                    io::wire_text_at(raw.as_ref(), row, ty, &*self.context, o)
                })?,
            }
        }
        end(out, at)
    }
}

fn end(out: &mut [u8], at: usize) -> Result<(), SqlError> {
    if out.len() - at > i32::MAX as usize {
        return Err(too_large());
    }
    out::close_frame(out, at);
    Ok(())
}

fn too_large() -> SqlError {
    SqlError::new(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        "row is too large to be sent",
    )
}

fn truth(b: bool) -> &'static [u8] {
    if b { b"t" } else { b"f" }
}

fn value(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), SqlError> {
    let length = i32::try_from(bytes.len()).map_err(|_| too_large())?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// A value of a length that is known when it is written.
fn sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), SqlError> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = i32::try_from(out.len() - at - 4).map_err(|_| too_large())?;
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

fn digits(out: &mut Vec<u8>, n: impl itoa::Integer) -> Result<(), SqlError> {
    value(out, itoa::Buffer::new().format(n).as_bytes())
}

fn datum(
    d: &Datum,
    way: Way,
    ty: PgType,
    context: &dyn EvalContext,
    out: &mut Vec<u8>,
) -> Result<(), SqlError> {
    match (way, d) {
        (_, Datum::Null) => {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            Ok(())
        }
        (Way::Chars, Datum::Text(s)) => value(out, s.as_bytes()),
        (Way::IntText, Datum::Int2(v)) => digits(out, *v),
        (Way::IntText, Datum::Int4(v)) => digits(out, *v),
        (Way::IntText, Datum::Int8(v)) => digits(out, *v),
        (Way::IntText, Datum::Oid(v)) => digits(out, v.0),
        (Way::BoolText, Datum::Bool(b)) => value(out, truth(*b)),
        (Way::Fixed, Datum::Bool(v)) => value(out, &[u8::from(*v)]),
        (Way::Fixed, Datum::Int2(v)) => value(out, &v.to_be_bytes()),
        (Way::Fixed, Datum::Int4(v)) => value(out, &v.to_be_bytes()),
        (Way::Fixed, Datum::Int8(v)) => value(out, &v.to_be_bytes()),
        (Way::Fixed, Datum::Oid(v)) => value(out, &v.0.to_be_bytes()),
        (Way::Fixed, Datum::Float4(v)) => value(out, &v.to_be_bytes()),
        (Way::Fixed, Datum::Float8(v)) => value(out, &v.to_be_bytes()),
        (Way::Fixed | Way::Binary, _) => sized(out, |o| io::wire_binary(d, ty, o)),
        (Way::Chars | Way::IntText | Way::BoolText | Way::Text, _) => {
            sized(out, |o| io::wire_text(d, ty, context, o))
        }
    }
}

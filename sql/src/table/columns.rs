//! Many rows into Arrow, column by column: only the columns asked for, no value of single rows in
//! between.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, PrimitiveBuilder,
    StringBuilder,
};
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, UInt32Type,
};

use crate::error::SqlError;
use crate::types::Datum;

use super::layout::{Field, Layout, RowView};
use super::stored::{Stored, damaged};

/// Decodes the columns at `positions` of the descriptor from the values of rows.
pub fn decode(
    layout: &Layout,
    rows: &[RowView<'_>],
    positions: &[usize],
) -> Result<Vec<ArrayRef>, SqlError> {
    positions
        .iter()
        .map(|p| decode_column(layout, rows, *p))
        .collect()
}

fn decode_column(
    layout: &Layout,
    rows: &[RowView<'_>],
    position: usize,
) -> Result<ArrayRef, SqlError> {
    let Some(slot) = layout.slot_number(position) else {
        let ids = rows
            .iter()
            .map(RowView::row_id)
            .collect::<Result<Vec<_>, _>>()?;
        return Ok(Arc::new(arrow::array::Int64Array::from(ids)));
    };
    let stored = layout.slot(position).ok_or_else(damaged)?.stored;
    let mut missing_bytes = Vec::new();
    let missing = match layout.missing(slot) {
        None | Some(Datum::Null) => None,
        Some(value) => {
            stored.append(value, &mut missing_bytes)?;
            Some(missing_bytes.as_slice())
        }
    };
    let source = Source {
        layout,
        rows,
        slot,
        missing,
    };
    match stored {
        Stored::Bool => {
            let mut b = BooleanBuilder::with_capacity(rows.len());
            source.each(|v| {
                b.append_option(v.map(|v| v != [0]));
                Ok(())
            })?;
            Ok(Arc::new(b.finish()))
        }
        Stored::Int2 => source.primitive::<Int16Type, 2>(i16::from_le_bytes),
        Stored::Int4 => source.primitive::<Int32Type, 4>(i32::from_le_bytes),
        Stored::Int8 => source.primitive::<Int64Type, 8>(i64::from_le_bytes),
        Stored::Oid => source.primitive::<UInt32Type, 4>(u32::from_le_bytes),
        Stored::Float4 => source.primitive::<Float32Type, 4>(f32::from_le_bytes),
        Stored::Float8 => source.primitive::<Float64Type, 8>(f64::from_le_bytes),
        Stored::Date => source.primitive::<Date32Type, 4>(i32::from_le_bytes),
        Stored::Time => source.primitive::<Time64MicrosecondType, 8>(i64::from_le_bytes),
        Stored::Timestamp | Stored::Timestamptz => {
            source.primitive::<TimestampMicrosecondType, 8>(i64::from_le_bytes)
        }
        Stored::Interval | Stored::Uuid | Stored::TimeTz => {
            let width = if stored == Stored::TimeTz { 12 } else { 16 };
            let mut b = FixedSizeBinaryBuilder::with_capacity(rows.len(), width);
            source.each(|v| match v {
                Some(v) => b.append_value(v).map_err(|_| damaged()),
                None => {
                    b.append_null();
                    Ok(())
                }
            })?;
            Ok(Arc::new(b.finish()))
        }
        Stored::Text | Stored::Json => {
            let mut b = StringBuilder::with_capacity(rows.len(), rows.len() * 16);
            source.each(|v| {
                match v {
                    Some(v) => b.append_value(std::str::from_utf8(v).map_err(|_| damaged())?),
                    None => b.append_null(),
                }
                Ok(())
            })?;
            Ok(Arc::new(b.finish()))
        }
        Stored::Bytea | Stored::Numeric | Stored::Array => {
            let mut b = BinaryBuilder::with_capacity(rows.len(), rows.len() * 12);
            source.each(|v| {
                match v {
                    Some(v) => b.append_value(v),
                    None => b.append_null(),
                }
                Ok(())
            })?;
            Ok(Arc::new(b.finish()))
        }
    }
}

struct Source<'a> {
    layout: &'a Layout,
    rows: &'a [RowView<'a>],
    slot: usize,
    missing: Option<&'a [u8]>,
}

impl Source<'_> {
    fn each(
        &self,
        mut take: impl FnMut(Option<&[u8]>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        for row in self.rows {
            take(match self.layout.field(row, self.slot)? {
                Field::Bytes(_, bytes) => Some(bytes),
                Field::Null => None,
                Field::Missing(_) => self.missing,
            })?;
        }
        Ok(())
    }

    fn primitive<T: ArrowPrimitiveType, const N: usize>(
        &self,
        read: fn([u8; N]) -> T::Native,
    ) -> Result<ArrayRef, SqlError> {
        let mut b = PrimitiveBuilder::<T>::with_capacity(self.rows.len());
        self.each(|v| {
            match v {
                Some(v) => b.append_value(read(v.try_into().map_err(|_| damaged())?)),
                None => b.append_null(),
            }
            Ok(())
        })?;
        Ok(Arc::new(b.finish()))
    }
}

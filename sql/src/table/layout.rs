//! The value of a row: fixed slots first, so that any column is found in constant time.
//!
//! ```text
//! flags 1 | slots n 2 | row id 8 (if flagged) | null bitmap (n+7)/8 | fixed slots
//!         | end offset of each variable column, 2 or 4 bytes (flag) | their bytes
//! ```
//!
//! A row has a slot for each attnum from 1 to `n`, dropped columns included (they hold NULL), so a
//! row of an older table is a row with fewer slots: what it lacks is filled from
//! [`ColumnDesc::missing`]. A column's type never changes in place. Key columns are stored in the
//! value too, so that decoding never inverts keys.
//!
//! [`ColumnDesc::missing`]: crate::catalog::desc::ColumnDesc::missing

use crate::catalog::desc::TableDesc;
use crate::error::SqlError;
use crate::types::Datum;
use crate::types::registry::EvalContext;

use super::stored::{Stored, damaged};

/// Low bits of the flags: the version of this format.
const VERSION: u8 = 1;
const VERSION_MASK: u8 = 0x0f;
/// End offsets take four bytes instead of two.
const WIDE: u8 = 0x10;
/// The hidden row id follows the header.
const ROW_ID: u8 = 0x20;

/// One slot of the rows of a table.
#[derive(Clone, Debug)]
pub struct Slot {
    /// How the value is stored.
    pub stored: Stored,
    /// Its fixed offset, or its number among the variable columns.
    at: usize,
    /// The value in rows that have no such slot.
    missing: Datum,
}

/// Where the values of a table's rows lie. Made once for each statement or compiled plan.
#[derive(Clone, Debug)]
pub struct Layout {
    /// By attnum - 1.
    slots: Vec<Slot>,
    /// Bytes of the fixed section and number of variable columns of a row with `n` slots.
    sections: Vec<(usize, usize)>,
    /// For each position in the descriptor its slot; `None` for the hidden row id.
    positions: Vec<Option<usize>>,
    row_id: Option<usize>,
}

impl Layout {
    /// The layout of a table's rows.
    pub fn new(table: &TableDesc, eval: &dyn EvalContext) -> Result<Self, SqlError> {
        let mut positions = Vec::with_capacity(table.columns.len());
        let mut row_id = None;
        let mut order: Vec<(usize, usize)> = Vec::with_capacity(table.columns.len());
        for (position, column) in table.columns.iter().enumerate() {
            match usize::try_from(column.attnum)
                .ok()
                .and_then(|n| n.checked_sub(1))
            {
                Some(slot) => {
                    positions.push(Some(slot));
                    order.push((slot, position));
                }
                None => {
                    positions.push(None);
                    row_id = Some(position);
                }
            }
        }
        order.sort_unstable();
        let (mut slots, mut sections) = (Vec::with_capacity(order.len()), vec![(0, 0)]);
        let (mut fixed, mut variable) = (0, 0);
        for (expected, (slot, position)) in order.into_iter().enumerate() {
            let column = table
                .columns
                .get(position)
                .filter(|_| slot == expected)
                .ok_or_else(|| SqlError::internal("column numbers have a gap"))?;
            let stored = Stored::of(column.ty.oid).ok_or_else(|| {
                SqlError::unsupported(format_args!("a column of type {}", column.ty.oid.0))
            })?;
            let at = match stored.width() {
                Some(width) => {
                    fixed += width;
                    fixed - width
                }
                None => {
                    variable += 1;
                    variable - 1
                }
            };
            let missing = match &column.missing {
                Some(text) => crate::types::io::input(text, column.ty, eval)?,
                None => Datum::Null,
            };
            slots.push(Slot {
                stored,
                at,
                missing,
            });
            sections.push((fixed, variable));
        }
        Ok(Self {
            slots,
            sections,
            positions,
            row_id,
        })
    }

    /// Number of positions of the descriptor.
    pub fn width(&self) -> usize {
        self.positions.len()
    }

    /// The slot of a position; `None` for the hidden row id.
    pub fn slot(&self, position: usize) -> Option<&Slot> {
        self.slots.get((*self.positions.get(position)?)?)
    }

    /// Encodes a row given by position in the descriptor.
    pub fn encode(&self, row: &[Datum]) -> Result<Vec<u8>, SqlError> {
        let (fixed, variable) = self.sections.last().copied().unwrap_or_default();
        let count = self.slots.len();
        let slots_u16 = u16::try_from(count).map_err(|_| SqlError::internal("too many columns"))?;
        let mut by_slot: Vec<&Datum> = vec![&Datum::Null; count];
        for (position, value) in row.iter().enumerate() {
            if let Some(Some(slot)) = self.positions.get(position)
                && let Some(place) = by_slot.get_mut(*slot)
            {
                *place = value;
            }
        }
        let mut out = Vec::with_capacity(16 + count / 8 + fixed + variable * 12);
        out.push(VERSION);
        out.extend_from_slice(&slots_u16.to_le_bytes());
        if let Some(Datum::Int8(id)) = self.row_id.and_then(|p| row.get(p)) {
            set_flag(&mut out, ROW_ID);
            out.extend_from_slice(&id.to_le_bytes());
        }
        for eight in by_slot.chunks(8) {
            let bits = eight
                .iter()
                .enumerate()
                .map(|(i, v)| u8::from(v.is_null()) << i)
                .sum();
            out.push(bits);
        }
        for (slot, value) in self.slots.iter().zip(&by_slot) {
            match slot.stored.width() {
                Some(width) if value.is_null() => out.resize(out.len() + width, 0),
                Some(_) => slot.stored.append(value, &mut out)?,
                None => {}
            }
        }
        if variable == 0 {
            return Ok(out);
        }
        let (mut ends, mut data) = (Vec::with_capacity(variable), Vec::new());
        for (slot, value) in self.slots.iter().zip(&by_slot) {
            if slot.stored.width().is_none() {
                if !value.is_null() {
                    slot.stored.append(value, &mut data)?;
                }
                ends.push(data.len());
            }
        }
        if data.len() > usize::from(u16::MAX) {
            set_flag(&mut out, WIDE);
            for end in ends {
                let end = u32::try_from(end).map_err(|_| {
                    SqlError::new(crate::SqlState::PROGRAM_LIMIT_EXCEEDED, "row is too big")
                })?;
                out.extend_from_slice(&end.to_le_bytes());
            }
        } else {
            for end in ends {
                out.extend_from_slice(&u16::try_from(end).unwrap_or(u16::MAX).to_le_bytes());
            }
        }
        out.extend_from_slice(&data);
        Ok(out)
    }

    /// Finds the sections of a row.
    pub fn view<'a>(&self, bytes: &'a [u8]) -> Result<RowView<'a>, SqlError> {
        let [flags, low, high, ..] = *bytes else {
            return Err(damaged());
        };
        if flags & VERSION_MASK != VERSION {
            return Err(damaged());
        }
        let slots = usize::from(u16::from_le_bytes([low, high]));
        // Rows written by a transaction that added columns may meet an older descriptor only
        // after that was rolled back; they are not visible then.
        let &(fixed_bytes, variable) = self.sections.get(slots).ok_or_else(damaged)?;
        let bitmap = 3 + if flags & ROW_ID != 0 { 8 } else { 0 };
        let fixed = bitmap + slots.div_ceil(8);
        let offsets = fixed + fixed_bytes;
        let wide = flags & WIDE != 0;
        let data = offsets + variable * if wide { 4 } else { 2 };
        if bytes.len() < data {
            return Err(damaged());
        }
        Ok(RowView {
            bytes,
            slots,
            bitmap,
            fixed,
            offsets,
            data,
            wide,
        })
    }

    /// The value at a position of the descriptor.
    pub fn datum(&self, row: &RowView<'_>, position: usize) -> Result<Datum, SqlError> {
        match self.positions.get(position) {
            Some(Some(slot)) => match self.field(row, *slot)? {
                Field::Bytes(stored, bytes) => stored.read(bytes),
                Field::Null => Ok(Datum::Null),
                Field::Missing(value) => Ok(value.clone()),
            },
            Some(None) => row.row_id().map(Datum::Int8),
            None => Err(SqlError::internal("no such column position")),
        }
    }

    /// All values by position in the descriptor.
    pub fn datums(&self, bytes: &[u8]) -> Result<Vec<Datum>, SqlError> {
        let view = self.view(bytes)?;
        (0..self.positions.len())
            .map(|p| self.datum(&view, p))
            .collect()
    }

    /// The bytes of the slot number `slot`.
    pub(super) fn field<'a>(
        &'a self,
        row: &RowView<'a>,
        slot: usize,
    ) -> Result<Field<'a>, SqlError> {
        let desc = self.slots.get(slot).ok_or_else(damaged)?;
        if slot >= row.slots {
            return Ok(Field::Missing(&desc.missing));
        }
        if row.is_null(slot) {
            return Ok(Field::Null);
        }
        let bytes = match desc.stored.width() {
            Some(width) => {
                let from = row.fixed + desc.at;
                row.bytes.get(from..from + width)
            }
            None => {
                let end = row.end(desc.at).ok_or_else(damaged)?;
                let start = match desc.at.checked_sub(1) {
                    Some(before) => row.end(before).ok_or_else(damaged)?,
                    None => 0,
                };
                row.bytes.get(row.data + start..row.data + end)
            }
        };
        bytes
            .map(|b| Field::Bytes(desc.stored, b))
            .ok_or_else(damaged)
    }

    /// The slot number of a position; `None` for the hidden row id.
    pub(super) fn slot_number(&self, position: usize) -> Option<usize> {
        self.positions.get(position).copied().flatten()
    }

    /// The value of rows without this slot.
    pub(super) fn missing(&self, slot: usize) -> Option<&Datum> {
        self.slots.get(slot).map(|s| &s.missing)
    }
}

/// What a row holds in a slot.
pub(super) enum Field<'a> {
    /// A value.
    Bytes(Stored, &'a [u8]),
    /// NULL.
    Null,
    /// The row is older than the column.
    Missing(&'a Datum),
}

/// A row's value with its sections found.
#[derive(Clone, Copy, Debug)]
pub struct RowView<'a> {
    bytes: &'a [u8],
    slots: usize,
    bitmap: usize,
    fixed: usize,
    offsets: usize,
    data: usize,
    wide: bool,
}

impl RowView<'_> {
    fn is_null(&self, slot: usize) -> bool {
        self.bytes
            .get(self.bitmap + slot / 8)
            .is_none_or(|b| b >> (slot % 8) & 1 == 1)
    }

    fn end(&self, variable: usize) -> Option<usize> {
        if self.wide {
            let from = self.offsets + variable * 4;
            let bytes = self.bytes.get(from..from + 4)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(bytes)).ok()
        } else {
            let from = self.offsets + variable * 2;
            let bytes = self.bytes.get(from..from + 2)?.try_into().ok()?;
            Some(usize::from(u16::from_le_bytes(bytes)))
        }
    }

    /// The hidden row id.
    pub fn row_id(&self) -> Result<i64, SqlError> {
        let bytes = self
            .bytes
            .get(3..11)
            .filter(|_| self.bitmap == 11)
            .ok_or_else(damaged)?;
        Ok(i64::from_le_bytes(bytes.try_into().map_err(|_| damaged())?))
    }
}

fn set_flag(out: &mut [u8], flag: u8) {
    if let Some(first) = out.first_mut() {
        *first |= flag;
    }
}

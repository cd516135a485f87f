//! Array values: element type, dimensions with lower bounds, elements in row-major order.

use super::datum::Datum;
use super::oid::Oid;

/// An array of any number of dimensions.
#[derive(Clone, Debug)]
pub struct ArrayValue {
    /// Type of the elements.
    pub element: Oid,
    /// Length and lower bound of each dimension; empty for the empty array.
    pub dims: Vec<(i32, i32)>,
    /// Elements in row-major order.
    pub items: Vec<Datum>,
}

impl ArrayValue {
    /// A one-dimensional array with lower bound 1.
    pub fn vector(element: Oid, items: Vec<Datum>) -> Self {
        let dims = match i32::try_from(items.len()) {
            Ok(0) | Err(_) => Vec::new(),
            Ok(n) => vec![(n, 1)],
        };
        Self {
            element,
            dims,
            items,
        }
    }
}

impl ArrayValue {
    /// The empty array.
    pub fn empty(element: Oid) -> Self {
        Self {
            element,
            dims: Vec::new(),
            items: Vec::new(),
        }
    }

    /// The bytes that stand for it in Arrow columns and in rows.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.items.len() * 8);
        write_array(self, &mut out);
        out
    }

    /// Reads [`Self::to_bytes`].
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        read_array(&mut bytes, 0)
    }
}

/// How deep records and arrays may nest in the byte form.
const DEPTH_MAX: usize = 64;

fn write_array(array: &ArrayValue, out: &mut Vec<u8>) {
    out.extend_from_slice(&array.element.0.to_be_bytes());
    out.push(array.dims.len() as u8);
    for (length, lower) in &array.dims {
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&lower.to_be_bytes());
    }
    out.extend_from_slice(&(array.items.len() as u32).to_be_bytes());
    for item in &array.items {
        write_datum(item, out);
    }
}

fn read_array(from: &mut &[u8], depth: usize) -> Option<ArrayValue> {
    if depth > DEPTH_MAX {
        return None;
    }
    let element = Oid(u32::from_be_bytes(take(from)?));
    let [dims] = take::<1>(from)?;
    let dims = (0..dims)
        .map(|_| {
            Some((
                i32::from_be_bytes(take(from)?),
                i32::from_be_bytes(take(from)?),
            ))
        })
        .collect::<Option<Vec<_>>>()?;
    let count = u32::from_be_bytes(take(from)?);
    let items = (0..count)
        .map(|_| read_datum(from, depth + 1))
        .collect::<Option<Vec<_>>>()?;
    Some(ArrayValue {
        element,
        dims,
        items,
    })
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*head)
}

fn take_slice<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(take(from)?) as usize;
    let (head, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(head)
}

fn write_slice(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a value of any type in a form that names its own kind.
pub fn write_datum(value: &Datum, out: &mut Vec<u8>) {
    let mut fixed = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(bytes);
    };
    match value {
        Datum::Null => fixed(0, &[]),
        Datum::Bool(v) => fixed(1, &[u8::from(*v)]),
        Datum::Int2(v) => fixed(2, &v.to_be_bytes()),
        Datum::Int4(v) => fixed(3, &v.to_be_bytes()),
        Datum::Int8(v) => fixed(4, &v.to_be_bytes()),
        Datum::Oid(v) => fixed(5, &v.0.to_be_bytes()),
        Datum::Float4(v) => fixed(6, &v.to_be_bytes()),
        Datum::Float8(v) => fixed(7, &v.to_be_bytes()),
        Datum::Numeric(v) => write_slice(8, &v.to_bytes(), out),
        Datum::Text(v) => write_slice(9, v.as_bytes(), out),
        Datum::Json(v) => write_slice(10, v.as_bytes(), out),
        Datum::Bytea(v) => write_slice(11, v, out),
        Datum::Date(v) => fixed(12, &v.to_be_bytes()),
        Datum::Time(v) => fixed(13, &v.to_be_bytes()),
        Datum::TimeTz(v, zone) => {
            fixed(14, &v.to_be_bytes());
            out.extend_from_slice(&zone.to_be_bytes());
        }
        Datum::Timestamp(v) => fixed(15, &v.to_be_bytes()),
        Datum::Timestamptz(v) => fixed(16, &v.to_be_bytes()),
        Datum::Interval(v) => fixed(17, &v.to_bytes()),
        Datum::Uuid(v) => fixed(18, v),
        Datum::Array(v) => {
            out.push(19);
            write_array(v, out);
        }
        Datum::Record(fields) => {
            out.push(20);
            write_record(fields, out);
        }
    }
}

/// Appends the fields of a record.
pub fn write_record(fields: &[(Oid, Datum)], out: &mut Vec<u8>) {
    out.extend_from_slice(&(fields.len() as u32).to_be_bytes());
    for (ty, value) in fields {
        out.extend_from_slice(&ty.0.to_be_bytes());
        write_datum(value, out);
    }
}

/// Reads [`write_record`].
pub fn read_record(from: &mut &[u8]) -> Option<Datum> {
    read_fields(from, 0)
}

fn read_fields(from: &mut &[u8], depth: usize) -> Option<Datum> {
    let count = u32::from_be_bytes(take(from)?);
    let fields = (0..count)
        .map(|_| {
            Some((
                Oid(u32::from_be_bytes(take(from)?)),
                read_datum(from, depth + 1)?,
            ))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Datum::Record(fields.into()))
}

/// Reads [`write_datum`]; `None` if these are not its bytes.
pub fn read_datum(from: &mut &[u8], depth: usize) -> Option<Datum> {
    if depth > DEPTH_MAX {
        return None;
    }
    let text = |from: &mut &[u8]| Some(std::str::from_utf8(take_slice(from)?).ok()?.to_owned());
    let [tag] = take::<1>(from)?;
    Some(match tag {
        0 => Datum::Null,
        1 => Datum::Bool(take::<1>(from)? != [0]),
        2 => Datum::Int2(i16::from_be_bytes(take(from)?)),
        3 => Datum::Int4(i32::from_be_bytes(take(from)?)),
        4 => Datum::Int8(i64::from_be_bytes(take(from)?)),
        5 => Datum::Oid(Oid(u32::from_be_bytes(take(from)?))),
        6 => Datum::Float4(f32::from_be_bytes(take(from)?)),
        7 => Datum::Float8(f64::from_be_bytes(take(from)?)),
        8 => Datum::Numeric(super::Numeric::from_bytes(take_slice(from)?)?),
        9 => Datum::text(text(from)?),
        10 => Datum::Json(text(from)?.into()),
        11 => Datum::Bytea(bytes::Bytes::copy_from_slice(take_slice(from)?)),
        12 => Datum::Date(i32::from_be_bytes(take(from)?)),
        13 => Datum::Time(i64::from_be_bytes(take(from)?)),
        14 => Datum::TimeTz(
            i64::from_be_bytes(take(from)?),
            i32::from_be_bytes(take(from)?),
        ),
        15 => Datum::Timestamp(i64::from_be_bytes(take(from)?)),
        16 => Datum::Timestamptz(i64::from_be_bytes(take(from)?)),
        17 => Datum::Interval(super::Interval::from_bytes(&take::<16>(from)?)?),
        18 => Datum::Uuid(take(from)?),
        19 => Datum::Array(std::sync::Arc::new(read_array(from, depth + 1)?)),
        20 => read_fields(from, depth + 1)?,
        _ => return None,
    })
}

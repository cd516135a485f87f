//! PostgreSQL's binary forms: what drivers send and receive.

use std::sync::Arc;

use bytes::Bytes;

use super::array::ArrayValue;
use super::datetime::{
    DATE_INFINITY, DATE_NEG_INFINITY, INFINITY, NEG_INFINITY, POSTGRES_EPOCH_DAYS,
    POSTGRES_EPOCH_MICROS, civil,
};
use super::datum::{Datum, Interval};
use super::io;
use super::numeric::Numeric;
use super::oid::{Oid, PgType};
use super::registry::{EvalContext, registry};
use crate::error::{SqlError, SqlState};

fn bad(what: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_BINARY_REPRESENTATION, what.to_owned())
}

fn incorrect(bytes: &[u8]) -> SqlError {
    let _ = bytes;
    bad("incorrect binary data format")
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], SqlError> {
    bytes.try_into().map_err(|_| {
        if bytes.len() < N {
            SqlError::new(
                SqlState::PROTOCOL_VIOLATION,
                "insufficient data left in message",
            )
        } else {
            incorrect(bytes)
        }
    })
}

fn text(bytes: &[u8]) -> Result<&str, SqlError> {
    let text = std::str::from_utf8(bytes).map_err(|e| invalid_utf8(bytes, e.valid_up_to()))?;
    if text.contains('\0') {
        return Err(invalid_utf8(bytes, text.find('\0').unwrap_or(0)));
    }
    Ok(text)
}

/// `22021`: bytes that are no text.
pub fn invalid_utf8(bytes: &[u8], at: usize) -> SqlError {
    let shown: Vec<String> = bytes
        .get(at..)
        .unwrap_or(&[])
        .iter()
        .take(1)
        .map(|b| format!("0x{b:02x}"))
        .collect();
    SqlError::new(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        format!(
            "invalid byte sequence for encoding \"UTF8\": {}",
            shown.join(" ")
        ),
    )
}

/// Reads a value in binary form.
pub fn receive(bytes: &[u8], ty: Oid, cx: &dyn EvalContext) -> Result<Datum, SqlError> {
    let shifted = |v: i64| {
        if v == INFINITY || v == NEG_INFINITY {
            return Ok(v);
        }
        v.checked_add(POSTGRES_EPOCH_MICROS).map_or_else(
            || Err(super::fault::datetime_out_of_range("timestamp")),
            civil::check_timestamp,
        )
    };
    Ok(match ty {
        Oid::BOOL => Datum::Bool(fixed::<1>(bytes)? != [0]),
        Oid::INT2 => Datum::Int2(i16::from_be_bytes(fixed(bytes)?)),
        Oid::INT4 => Datum::Int4(i32::from_be_bytes(fixed(bytes)?)),
        Oid::INT8 => Datum::Int8(i64::from_be_bytes(fixed(bytes)?)),
        Oid::OID
        | Oid::XID
        | Oid::CID
        | Oid::REGCLASS
        | Oid::REGTYPE
        | Oid::REGPROC
        | Oid::REGPROCEDURE
        | Oid::REGNAMESPACE
        | Oid::REGROLE
        | Oid::REGOPER
        | Oid::REGOPERATOR => Datum::Oid(Oid(u32::from_be_bytes(fixed(bytes)?))),
        Oid::FLOAT4 => Datum::Float4(f32::from_be_bytes(fixed(bytes)?)),
        Oid::FLOAT8 => Datum::Float8(f64::from_be_bytes(fixed(bytes)?)),
        Oid::NUMERIC => Datum::Numeric(Numeric::receive(bytes)?),
        Oid::TEXT | Oid::VARCHAR | Oid::UNKNOWN | Oid::XML | Oid::CSTRING => {
            Datum::text(text(bytes)?)
        }
        Oid::BPCHAR => Datum::text(text(bytes)?.trim_end_matches(' ')),
        Oid::NAME => io::input(text(bytes)?, PgType::new(Oid::NAME), cx)?,
        Oid::CHAR => Datum::text(text(bytes)?.trim_end_matches('\0')),
        Oid::JSON => io::input(text(bytes)?, PgType::new(ty), cx)?,
        Oid::JSONB => match bytes.split_first() {
            Some((1, rest)) => io::input(text(rest)?, PgType::new(ty), cx)?,
            Some((version, _)) => {
                return Err(SqlError::new(
                    SqlState::INTERNAL_ERROR,
                    format!("unsupported jsonb version number {version}"),
                ));
            }
            None => {
                return Err(SqlError::new(
                    SqlState::PROTOCOL_VIOLATION,
                    "no data left in message",
                ));
            }
        },
        Oid::BYTEA => Datum::Bytea(Bytes::copy_from_slice(bytes)),
        Oid::DATE => Datum::Date(match i32::from_be_bytes(fixed(bytes)?) {
            v @ (DATE_INFINITY | DATE_NEG_INFINITY) => v,
            v => civil::check_date(i64::from(v) + i64::from(POSTGRES_EPOCH_DAYS))?,
        }),
        Oid::TIME => Datum::Time(time_of_day(i64::from_be_bytes(fixed(bytes)?))?),
        Oid::TIMETZ => {
            let (time, zone) = bytes.split_at_checked(8).ok_or_else(|| incorrect(bytes))?;
            Datum::TimeTz(
                time_of_day(i64::from_be_bytes(fixed(time)?))?,
                -i32::from_be_bytes(fixed(zone)?),
            )
        }
        Oid::TIMESTAMP => Datum::Timestamp(shifted(i64::from_be_bytes(fixed(bytes)?))?),
        Oid::TIMESTAMPTZ => Datum::Timestamptz(shifted(i64::from_be_bytes(fixed(bytes)?))?),
        Oid::INTERVAL => {
            let all: [u8; 16] = fixed(bytes)?;
            let (micros, rest) = all.split_at(8);
            let (days, months) = rest.split_at(4);
            Datum::Interval(Interval {
                micros: i64::from_be_bytes(fixed(micros)?),
                days: i32::from_be_bytes(fixed(days)?),
                months: i32::from_be_bytes(fixed(months)?),
            })
        }
        Oid::UUID => Datum::Uuid(fixed(bytes)?),
        Oid::VOID => Datum::Null,
        other => match registry().type_info(other) {
            Some(info) if info.category == 'A' => array(bytes, info.element, cx)?,
            _ => {
                return Err(SqlError::unsupported(format!(
                    "binary input of type {}",
                    other.0
                )));
            }
        },
    })
}

fn time_of_day(micros: i64) -> Result<i64, SqlError> {
    if (0..=super::datetime::DAY).contains(&micros) {
        Ok(micros)
    } else {
        Err(super::fault::datetime_out_of_range("time"))
    }
}

fn array(bytes: &[u8], element: Oid, cx: &dyn EvalContext) -> Result<Datum, SqlError> {
    let mut rest = bytes;
    let mut word = || -> Result<i32, SqlError> {
        let (head, tail) = rest.split_at_checked(4).ok_or_else(|| {
            SqlError::new(
                SqlState::PROTOCOL_VIOLATION,
                "insufficient data left in message",
            )
        })?;
        rest = tail;
        Ok(i32::from_be_bytes(fixed(head)?))
    };
    let dims = word()?;
    if !(0..=6).contains(&dims) {
        return Err(bad("invalid number of dimensions"));
    }
    let _flags = word()?;
    let sent = Oid(word()? as u32);
    if sent != element {
        return Err(SqlError::new(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "binary data has array element type {} ({}) instead of expected {} ({})",
                sent.0,
                super::format_type::bare(sent),
                element.0,
                super::format_type::bare(element)
            ),
        ));
    }
    let mut shape = Vec::new();
    let mut count = 1i64;
    for _ in 0..dims {
        let (length, lower) = (word()?, word()?);
        if length < 0 {
            return Err(bad("invalid array dimension"));
        }
        count = count.saturating_mul(i64::from(length));
        shape.push((length, lower));
    }
    let count = if dims == 0 { 0 } else { count };
    let mut items = Vec::new();
    for _ in 0..count {
        let (head, tail) = rest.split_at_checked(4).ok_or_else(|| incorrect(bytes))?;
        let length = i32::from_be_bytes(fixed(head)?);
        rest = tail;
        if length < 0 {
            items.push(Datum::Null);
            continue;
        }
        let (value, tail) = rest
            .split_at_checked(length as usize)
            .ok_or_else(|| incorrect(bytes))?;
        rest = tail;
        items.push(receive(value, element, cx)?);
    }
    if items.is_empty() {
        shape.clear();
    }
    Ok(Datum::Array(Arc::new(ArrayValue {
        element,
        dims: shape,
        items,
    })))
}

/// Appends the binary form of a value (nothing for NULL).
pub fn send(value: &Datum, ty: Oid, out: &mut Vec<u8>) {
    match value {
        Datum::Null => {}
        Datum::Bool(v) => out.push(u8::from(*v)),
        Datum::Int2(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Int4(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Int8(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Oid(v) => out.extend_from_slice(&v.0.to_be_bytes()),
        Datum::Float4(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Float8(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Numeric(v) => v.send(out),
        Datum::Text(v) => out.extend_from_slice(v.as_bytes()),
        Datum::Json(v) => {
            if ty == Oid::JSONB {
                out.push(1);
            }
            out.extend_from_slice(v.as_bytes());
        }
        Datum::Bytea(v) => out.extend_from_slice(v),
        Datum::Date(v) => out.extend_from_slice(&date(*v).to_be_bytes()),
        Datum::Time(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::TimeTz(v, zone) => {
            out.extend_from_slice(&v.to_be_bytes());
            out.extend_from_slice(&(-zone).to_be_bytes());
        }
        Datum::Timestamp(v) | Datum::Timestamptz(v) => {
            out.extend_from_slice(&timestamp(*v).to_be_bytes());
        }
        Datum::Interval(v) => {
            out.extend_from_slice(&v.micros.to_be_bytes());
            out.extend_from_slice(&v.days.to_be_bytes());
            out.extend_from_slice(&v.months.to_be_bytes());
        }
        Datum::Uuid(v) => out.extend_from_slice(v),
        Datum::Array(v) => send_array(v, out),
        Datum::Record(fields) => {
            out.extend_from_slice(&(fields.len() as i32).to_be_bytes());
            for (ty, value) in fields.iter() {
                out.extend_from_slice(&ty.0.to_be_bytes());
                send_counted(value, *ty, out);
            }
        }
    }
}

/// A date counted from 2000-01-01.
pub(super) fn date(days: i32) -> i32 {
    match days {
        DATE_INFINITY | DATE_NEG_INFINITY => days,
        _ => days.wrapping_sub(POSTGRES_EPOCH_DAYS),
    }
}

/// A timestamp counted from 2000-01-01.
pub(super) fn timestamp(micros: i64) -> i64 {
    match micros {
        INFINITY | NEG_INFINITY => micros,
        _ => micros.wrapping_sub(POSTGRES_EPOCH_MICROS),
    }
}

fn send_counted(value: &Datum, ty: Oid, out: &mut Vec<u8>) {
    if value.is_null() {
        out.extend_from_slice(&(-1i32).to_be_bytes());
        return;
    }
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    send(value, ty, out);
    let length = (out.len() - at - 4) as i32;
    if let Some(slot) = out.get_mut(at..at + 4) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
}

fn send_array(array: &ArrayValue, out: &mut Vec<u8>) {
    out.extend_from_slice(&(array.dims.len() as i32).to_be_bytes());
    let nulls = i32::from(array.items.iter().any(Datum::is_null));
    out.extend_from_slice(&nulls.to_be_bytes());
    out.extend_from_slice(&array.element.0.to_be_bytes());
    for (length, lower) in &array.dims {
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&lower.to_be_bytes());
    }
    for item in &array.items {
        send_counted(item, array.element, out);
    }
}

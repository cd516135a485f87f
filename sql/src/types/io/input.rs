//! Input: the value that a text stands for. Type modifiers are applied by [`super::super::typmod`].

use super::scalar::{parse_bool, parse_bytea, parse_float, parse_integer, parse_uuid};
use crate::error::SqlError;
use crate::types::datum::Datum;
use crate::types::numeric::Numeric;
use crate::types::oid::{Oid, PgType};
use crate::types::registry::{EvalContext, registry};
use crate::types::{array_io, datetime, json, regclass};

/// The value of a text; `22P02`, `22007`, `22003` ... with PostgreSQL's wording.
pub fn input(text: &str, ty: PgType, cx: &dyn EvalContext) -> Result<Datum, SqlError> {
    let int = |name: &str, min: i64, max: i64| parse_integer(text, name, min, max);
    Ok(match ty.oid {
        Oid::TEXT
        | Oid::VARCHAR
        | Oid::UNKNOWN
        | Oid::CSTRING
        | Oid::XML
        | Oid::PG_NODE_TREE
        | Oid::ACLITEM => Datum::text(text),
        Oid::BPCHAR => Datum::text(text.trim_end_matches(' ')),
        Oid::NAME => Datum::text(name(text)),
        Oid::CHAR => Datum::text(single_char(text)),
        Oid::INT2 => Datum::Int2(int("smallint", i64::from(i16::MIN), i64::from(i16::MAX))? as i16),
        Oid::INT4 => Datum::Int4(int("integer", i64::from(i32::MIN), i64::from(i32::MAX))? as i32),
        Oid::INT8 => Datum::Int8(int("bigint", i64::MIN, i64::MAX)?),
        Oid::OID => Datum::Oid(Oid(
            int("oid", i64::from(i32::MIN), i64::from(u32::MAX))? as u32
        )),
        Oid::XID | Oid::CID => Datum::Oid(Oid(
            int("xid", i64::from(i32::MIN), i64::from(u32::MAX))? as u32,
        )),
        Oid::BOOL => Datum::Bool(parse_bool(text)?),
        Oid::FLOAT4 => Datum::Float4(parse_float(text, "real")? as f32),
        Oid::FLOAT8 => Datum::Float8(parse_float(text, "double precision")?),
        Oid::NUMERIC => Datum::Numeric(Numeric::parse(text)?),
        Oid::BYTEA => Datum::Bytea(parse_bytea(text)?.into()),
        Oid::UUID => Datum::Uuid(parse_uuid(text)?),
        Oid::JSON => {
            json::parse_raw(text)?;
            Datum::Json(text.into())
        }
        Oid::JSONB => Datum::Json(json::parse_value(text)?.to_text().into()),
        Oid::DATE => Datum::Date(datetime::parse_date(text, cx)?),
        Oid::TIME => Datum::Time(datetime::parse_time(text, cx)?),
        Oid::TIMETZ => {
            let (micros, offset) = datetime::parse_timetz(text, cx)?;
            Datum::TimeTz(micros, offset)
        }
        Oid::TIMESTAMP => Datum::Timestamp(datetime::parse_timestamp(text, cx)?),
        Oid::TIMESTAMPTZ => Datum::Timestamptz(datetime::parse_timestamptz(text, cx)?),
        Oid::INTERVAL => {
            let unit = crate::types::typmod::interval_last_unit(ty.typmod);
            Datum::Interval(datetime::parse_interval(text, unit)?)
        }
        Oid::REGCLASS
        | Oid::REGTYPE
        | Oid::REGPROC
        | Oid::REGPROCEDURE
        | Oid::REGNAMESPACE
        | Oid::REGROLE
        | Oid::REGOPER
        | Oid::REGOPERATOR => regclass::input(text, ty.oid, cx)?,
        Oid::INT2VECTOR | Oid::OIDVECTOR => array_io::parse_vector(text, ty.oid, cx)?,
        Oid::VOID => Datum::Null,
        other => match registry().type_info(other) {
            Some(info) if info.category == 'A' => array_io::parse(text, info, ty.typmod, cx)?,
            Some(info) if info.kind == 'p' => {
                return Err(SqlError::new(
                    crate::error::SqlState::FEATURE_NOT_SUPPORTED,
                    format!("cannot accept a value of type {}", info.sql_name),
                ));
            }
            _ => return Err(SqlError::unsupported(format!("input of type {}", other.0))),
        },
    })
}

/// A name: at most 63 bytes.
pub(crate) fn name(text: &str) -> &str {
    let mut end = text.len().min(63);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

/// The one byte of a "char" (a character beyond ASCII stays whole).
pub(crate) fn single_char(text: &str) -> String {
    text.chars().next().map_or_else(String::new, String::from)
}

//! Names of types with their modifiers become numbers.

use sqlparser::ast::{ArrayElemTypeDef, DataType, ObjectName};

use super::coerce::array_of;
use crate::error::{SqlError, SqlState};
use crate::types::registry::registry;
use crate::types::{Oid, PgType};

/// Longest char and varchar.
const LENGTH_MAX: i64 = 10_485_760;
/// Highest precision of numeric.
const PRECISION_MAX: i64 = 1_000;

fn invalid(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// The type that a parsed type name means. `42704` if there is none.
pub fn resolve_type(ty: &DataType) -> Result<PgType, SqlError> {
    match ty {
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) => {
            let element = resolve_type(element)?;
            // Arrays of arrays are arrays.
            if super::coerce::category(element.oid) == 'A' {
                return Ok(element);
            }
            match array_of(element.oid) {
                Some(array) => Ok(PgType::with_typmod(array, element.typmod)),
                None => Err(SqlError::unsupported(format!(
                    "an array of {}",
                    crate::types::format_type(element)
                ))),
            }
        }
        DataType::Custom(name, modifiers) => named(name, modifiers),
        other => Err(SqlError::unsupported(format!("type {other}"))),
    }
}

fn named(name: &ObjectName, modifiers: &[String]) -> Result<PgType, SqlError> {
    let parts = name
        .0
        .iter()
        .filter_map(|p| p.as_ident())
        .map(|i| (i.value.as_str(), i.span.start.line as usize))
        .collect::<Vec<_>>();
    let position = parts.first().map_or(0, |p| p.1);
    let (schema, base) = match parts.as_slice() {
        [(base, _)] => (None, *base),
        [(schema, _), (base, _)] => (Some(*schema), *base),
        _ => (None, ""),
    };
    let shown = parts.iter().map(|p| p.0).collect::<Vec<_>>().join(".");
    let missing = || {
        SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("type \"{shown}\" does not exist"),
        )
        .at(position)
    };
    if schema.is_some_and(|s| s != "pg_catalog") {
        return Err(missing());
    }
    let oid = registry()
        .types()
        .find(|t| t.name == base)
        .map(|t| t.oid)
        .or_else(|| {
            // `_int4` is the name of an array type.
            let element = base.strip_prefix('_')?;
            registry()
                .types()
                .find(|t| t.name == element)
                .and_then(|t| array_of(t.oid))
        });
    let Some(oid) = oid else {
        return match base {
            "money" | "inet" | "cidr" | "macaddr" | "macaddr8" | "bit" | "varbit" | "xml"
            | "point" | "line" | "lseg" | "box" | "path" | "polygon" | "circle" | "tsvector"
            | "tsquery" | "int4range" | "int8range" | "numrange" | "tsrange" | "tstzrange"
            | "daterange" | "timetz" | "jsonpath" => {
                Err(SqlError::unsupported(format!("type {base}")).at(position))
            }
            _ => Err(missing()),
        };
    };
    Ok(PgType::with_typmod(
        oid,
        modifier(oid, modifiers).map_err(|e| e.at(position))?,
    ))
}

fn modifier(oid: Oid, modifiers: &[String]) -> Result<i32, SqlError> {
    if modifiers.is_empty() {
        return Ok(-1);
    }
    let numbers = || -> Result<Vec<i64>, SqlError> {
        modifiers
            .iter()
            .map(|m| {
                m.parse().map_err(|_| {
                    SqlError::new(
                        SqlState::INVALID_TEXT_REPRESENTATION,
                        format!("invalid input syntax for type integer: \"{m}\""),
                    )
                })
            })
            .collect()
    };
    let small = |n: i64| i32::try_from(n).unwrap_or(-1);
    match oid {
        Oid::VARCHAR | Oid::BPCHAR => {
            let name = if oid == Oid::VARCHAR {
                "varchar"
            } else {
                "char"
            };
            match numbers()?.as_slice() {
                [n] if *n < 1 => Err(invalid(format!(
                    "length for type {name} must be at least 1"
                ))),
                [n] if *n > LENGTH_MAX => Err(invalid(format!(
                    "length for type {name} cannot exceed {LENGTH_MAX}"
                ))),
                [n] => Ok(small(*n + 4)),
                _ => Err(invalid("invalid type modifier".into())),
            }
        }
        Oid::NUMERIC => {
            let n = numbers()?;
            let (precision, scale) = match n.as_slice() {
                [p] => (*p, 0),
                [p, s] => (*p, *s),
                _ => return Err(invalid("invalid NUMERIC type modifier".into())),
            };
            if !(1..=PRECISION_MAX).contains(&precision) {
                return Err(invalid(format!(
                    "NUMERIC precision {precision} must be between 1 and {PRECISION_MAX}"
                )));
            }
            if !(-PRECISION_MAX..=PRECISION_MAX).contains(&scale) {
                return Err(invalid(format!(
                    "NUMERIC scale {scale} must be between -{PRECISION_MAX} and {PRECISION_MAX}"
                )));
            }
            Ok(small(((precision << 16) | (scale & 0x7ff)) + 4))
        }
        Oid::TIME | Oid::TIMESTAMP | Oid::TIMESTAMPTZ | Oid::TIMETZ => {
            match numbers()?.as_slice() {
                [n] if *n < 0 => Err(invalid(format!(
                    "{}({n}) precision must not be negative",
                    if matches!(oid, Oid::TIME | Oid::TIMETZ) {
                        "TIME"
                    } else {
                        "TIMESTAMP"
                    }
                ))),
                [n] => Ok(small((*n).min(6))),
                _ => Err(invalid("invalid type modifier".into())),
            }
        }
        Oid::INTERVAL => interval_modifier(modifiers),
        _ => Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!(
                "type modifier is not allowed for type \"{}\"",
                registry().type_info(oid).map_or("", |t| t.name)
            ),
        )),
    }
}

/// `(p)` or fields: precision in the low half (0xFFFF for none), a mask of fields above it.
fn interval_modifier(modifiers: &[String]) -> Result<i32, SqlError> {
    const FULL_RANGE: i32 = 0x7FFF;
    const FULL_PRECISION: i32 = 0xFFFF;
    let Some(text) = modifiers.first() else {
        return Ok(-1);
    };
    if let Ok(precision) = text.parse::<i32>() {
        return Ok((FULL_RANGE << 16) | precision.clamp(0, 6));
    }
    let (fields, precision) = match text.split_once('(') {
        Some((f, p)) => (
            f,
            p.trim_end_matches(')')
                .parse::<i32>()
                .unwrap_or(FULL_PRECISION)
                .clamp(0, 6),
        ),
        None => (text.as_str(), FULL_PRECISION),
    };
    // PostgreSQL's bit numbers: MONTH 1, YEAR 2, DAY 3, HOUR 10, MINUTE 11, SECOND 12.
    const ORDER: [(&str, i32); 6] = [
        ("year", 2),
        ("month", 1),
        ("day", 3),
        ("hour", 10),
        ("minute", 11),
        ("second", 12),
    ];
    let at = |name: &str| ORDER.iter().position(|(n, _)| *n == name);
    let (first, last) = match fields.split_once(" to ") {
        Some((a, b)) => (at(a), at(b)),
        None => (at(fields), at(fields)),
    };
    let (Some(first), Some(last)) = (first, last) else {
        return Err(invalid("invalid INTERVAL type modifier".into()));
    };
    let mut mask = 0;
    for (_, bit) in ORDER
        .iter()
        .skip(first)
        .take((last + 1).saturating_sub(first))
    {
        mask |= 1 << bit;
    }
    Ok((mask << 16) | precision)
}

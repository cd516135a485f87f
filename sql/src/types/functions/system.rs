//! Session and system functions: version, settings, sequences, sizes, uuid, sleep.

use num_traits::ToPrimitive;

use crate::error::{SqlError, SqlState};
use crate::types::array::ArrayValue;
use crate::types::body::{Args, Scalar, Value};
use crate::types::datum::Datum;
use crate::types::fault::invalid_parameter;
use crate::types::io;
use crate::types::numeric::Numeric;
use crate::types::oid::{Oid, PgType};
use crate::types::registry::EvalContext;

fn version(_: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::text(concat!(
        "PostgreSQL 15.0 (Pontoon ",
        env!("CARGO_PKG_VERSION"),
        ") on ",
        "x86_64-unknown-linux-gnu, 64-bit"
    )))
}
fn current_user(cx: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::text(cx.current_user()))
}
fn current_database(cx: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::text(cx.current_database()))
}
fn current_schema(cx: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(cx
        .catalog()
        .search_path(false)
        .into_iter()
        .next()
        .map_or(Datum::Null, Datum::text))
}
fn current_schemas(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let items = cx
        .catalog()
        .search_path(a.bool(0)?)
        .into_iter()
        .map(Datum::text)
        .collect();
    Ok(Datum::Array(std::sync::Arc::new(ArrayValue::vector(
        Oid::NAME,
        items,
    ))))
}
fn backend_pid(cx: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Int4(cx.backend_pid()))
}

fn current_setting(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let name = a.text(0)?;
    match cx.setting(name) {
        Some(value) => Ok(Datum::text(value)),
        None if a.len() > 1 && a.bool(1)? => Ok(Datum::Null),
        None => Err(SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{name}\""),
        )),
    }
}
fn set_config(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    if a.datum(0).is_null() {
        return Err(SqlError::new(
            SqlState::NULL_VALUE_NOT_ALLOWED,
            "SET requires parameter name",
        ));
    }
    let value = a.datum(1).as_str().unwrap_or("");
    let local = a.datum(2).as_bool().unwrap_or(false);
    cx.set_setting(a.text(0)?, value, local).map(Datum::text)
}

fn nextval(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    cx.sequence_next(a.oid(0)?).map(Datum::Int8)
}
fn currval(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    cx.sequence_current(Some(a.oid(0)?)).map(Datum::Int8)
}
fn lastval(cx: &dyn EvalContext, _: &[Datum]) -> Value {
    cx.sequence_current(None).map(Datum::Int8)
}
fn setval(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let called = a.len() < 3 || a.bool(2)?;
    cx.sequence_set(a.oid(0)?, a.int(1)?, called)
        .map(Datum::Int8)
}

fn random_uuid(cx: &dyn EvalContext, _: &[Datum]) -> Value {
    let mut bytes = [0u8; 16];
    let random = cx
        .random_u64()
        .to_be_bytes()
        .into_iter()
        .chain(cx.random_u64().to_be_bytes());
    for (to, from) in bytes.iter_mut().zip(random) {
        *to = from;
    }
    if let Some(version) = bytes.get_mut(6) {
        *version = (*version & 0x0F) | 0x40;
    }
    if let Some(variant) = bytes.get_mut(8) {
        *variant = (*variant & 0x3F) | 0x80;
    }
    Ok(Datum::Uuid(bytes))
}

fn sleep(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let micros = match a.datum(0) {
        Datum::Interval(v) => v.comparable().clamp(0, i128::from(i64::MAX)) as i64,
        Datum::Timestamptz(v) => v.saturating_sub(cx.clock_time()).max(0),
        _ => (a.float(0)?.max(0.0) * 1_000_000.0) as i64,
    };
    cx.sleep(micros)?;
    Ok(Datum::Null)
}

const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];

fn size_pretty(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let size = a.numeric(0)?;
    let Some(mut value) = size
        .trunc(0)
        .unscaled()
        .to_i128()
        .filter(|_| size.is_finite())
    else {
        return Ok(Datum::text(format!("{size} PB")));
    };
    let mut unit = 0;
    // half units are rounded from the unit below, as PostgreSQL does
    if value.abs() < 10 * 1024 {
        return Ok(Datum::text(format!("{size} bytes")));
    }
    value /= 512;
    unit += 1;
    while value.abs() >= 20 * 1024 - 1 && unit < UNITS.len() - 1 {
        value /= 1024;
        unit += 1;
    }
    let rounded = if value < 0 {
        (value - 1) / 2
    } else {
        (value + 1) / 2
    };
    Ok(Datum::text(format!(
        "{rounded} {}",
        UNITS.get(unit).copied().unwrap_or("PB")
    )))
}
fn size_bytes(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let text = a.text(0)?;
    let bad = || invalid_parameter(format!("invalid size: \"{text}\""));
    let trimmed = text.trim();
    let split = trimmed
        .find(|c: char| c.is_ascii_alphabetic() && c != 'e' && c != 'E')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at_checked(split).ok_or_else(bad)?;
    let factor: i64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        "tb" => 1 << 40,
        "pb" => 1 << 50,
        _ => {
            return Err(bad()
                .with_detail(format!("Invalid size unit: \"{}\".", unit.trim()))
                .with_hint(
                    "Valid units are \"bytes\", \"B\", \"kB\", \"MB\", \"GB\", \"TB\", and \"PB\".",
                ));
        }
    };
    let number = Numeric::parse(number.trim()).map_err(|_| bad())?;
    number
        .mul(&Numeric::from_i64(factor))?
        .to_i64()
        .map(Datum::Int8)
        .ok_or_else(|| crate::types::fault::out_of_range("bigint"))
}

fn typeof_(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let _ = cx;
    Ok(Datum::Oid(io::type_of(a.datum(0))))
}
fn format_type(_: &dyn EvalContext, a: &[Datum]) -> Value {
    if a.datum(0).is_null() {
        return Ok(Datum::Null);
    }
    let oid = a.oid(0)?;
    Ok(Datum::text(match a.datum(1).as_i64() {
        Some(typmod) => crate::types::format_type(PgType::with_typmod(oid, typmod as i32)),
        None => crate::types::format_type::bare(oid),
    }))
}

fn nulls(a: &[Datum]) -> Vec<bool> {
    match a {
        [Datum::Array(array)] => array.items.iter().map(Datum::is_null).collect(),
        _ => a.iter().map(Datum::is_null).collect(),
    }
}
fn num_nulls(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int4(
        nulls(a).into_iter().filter(|n| *n).count() as i32
    ))
}
fn num_nonnulls(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int4(
        nulls(a).into_iter().filter(|n| !*n).count() as i32
    ))
}

fn encoding_name(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(match a.int(0)? {
        0 => "SQL_ASCII",
        6 => "UTF8",
        8 => "LATIN1",
        _ => "",
    }))
}
fn encoding_number(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int4(
        match a
            .text(0)?
            .to_ascii_uppercase()
            .replace(['-', '_'], "")
            .as_str()
        {
            "UTF8" | "UNICODE" => 6,
            "SQLASCII" => 0,
            "LATIN1" | "ISO88591" => 8,
            _ => -1,
        },
    ))
}
fn encoding_length(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Int4(if a.int(0)? == 6 { 4 } else { 1 }))
}
fn utf8(_: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::text("UTF8"))
}
fn no(_: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Bool(false))
}
fn yes(_: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Bool(true))
}
fn null(_: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Null)
}
fn zero_oid(_: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Oid(Oid::INVALID))
}
fn zero4(_: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Int4(0))
}
fn column_size(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let mut out = Vec::new();
    io::send(a.datum(0), io::type_of(a.datum(0)), &mut out);
    Ok(Datum::Int4(out.len() as i32))
}
fn timeofday(cx: &dyn EvalContext, _: &[Datum]) -> Value {
    let pattern = "Dy Mon DD HH24:MI:SS.US YYYY TZ";
    crate::types::datetime::template::timestamp_to_char(
        cx.clock_time(),
        Some(cx.time_zone()),
        pattern,
    )
    .map(Datum::text)
}

pub(super) const SCALARS: &[Scalar] = &[
    ("pgsql_version", version),
    ("current_user", current_user),
    ("session_user", current_user),
    ("current_database", current_database),
    ("current_schema", current_schema),
    ("current_schemas", current_schemas),
    ("pg_backend_pid", backend_pid),
    ("show_config_by_name", current_setting),
    ("show_config_by_name_missing_ok", current_setting),
    ("set_config_by_name", set_config),
    ("nextval_oid", nextval),
    ("currval_oid", currval),
    ("lastval", lastval),
    ("setval_oid", setval),
    ("setval3_oid", setval),
    ("gen_random_uuid", random_uuid),
    ("pg_sleep", sleep),
    ("sql_3935", sleep),
    ("sql_3936", sleep),
    ("pg_size_pretty", size_pretty),
    ("pg_size_pretty_numeric", size_pretty),
    ("pg_size_bytes", size_bytes),
    ("pg_typeof", typeof_),
    ("format_type", format_type),
    ("pg_num_nulls", num_nulls),
    ("pg_num_nonnulls", num_nonnulls),
    ("PG_encoding_to_char", encoding_name),
    ("PG_char_to_encoding", encoding_number),
    ("pg_encoding_max_length_sql", encoding_length),
    ("getdatabaseencoding", utf8),
    ("pg_client_encoding", utf8),
    ("pg_is_in_recovery", no),
    ("pg_is_wal_replay_paused", no),
    ("pg_jit_available", no),
    ("pg_is_other_temp_schema", no),
    ("row_security_active", no),
    ("row_security_active_name", no),
    ("inet_server_port", null),
    ("inet_client_port", null),
    ("pg_my_temp_schema", zero_oid),
    ("pg_trigger_depth", zero4),
    ("timeofday", timeofday),
    ("pg_column_size", column_size),
    ("pg_column_compression", null),
    ("pg_reload_conf", yes),
    ("pg_current_logfile", null),
    ("pg_conf_load_time", null),
];

//! The functions of pg_cast.

use crate::error::{SqlError, SqlState};
use crate::types::body::{Args, Scalar, Value};
use crate::types::datetime::{
    DATE_INFINITY, DATE_NEG_INFINITY, DAY, INFINITY, NEG_INFINITY, civil,
};
use crate::types::datum::{Datum, Interval};
use crate::types::fault::{out_of_range, wrong_argument};
use crate::types::json::{Json, parse_value};
use crate::types::numeric::Numeric;
use crate::types::oid::{Oid, PgType};
use crate::types::registry::EvalContext;
use crate::types::{regclass, typmod};

fn int2(v: Option<i64>) -> Value {
    v.and_then(|v| i16::try_from(v).ok())
        .map(Datum::Int2)
        .ok_or_else(|| out_of_range("smallint"))
}
fn int4(v: Option<i64>) -> Value {
    v.and_then(|v| i32::try_from(v).ok())
        .map(Datum::Int4)
        .ok_or_else(|| out_of_range("integer"))
}
fn int8(v: Option<i64>) -> Value {
    v.map(Datum::Int8).ok_or_else(|| out_of_range("bigint"))
}

fn to_int2(_: &dyn EvalContext, a: &[Datum]) -> Value {
    int2(Some(a.int(0)?))
}
fn to_int4(_: &dyn EvalContext, a: &[Datum]) -> Value {
    match a.datum(0) {
        Datum::Bool(v) => Ok(Datum::Int4(i32::from(*v))),
        _ => int4(Some(a.int(0)?)),
    }
}
fn to_int8(_: &dyn EvalContext, a: &[Datum]) -> Value {
    int8(Some(a.int(0)?))
}
fn to_oid(_: &dyn EvalContext, a: &[Datum]) -> Value {
    u32::try_from(a.int(0)?)
        .map(|v| Datum::Oid(Oid(v)))
        .map_err(|_| out_of_range("OID"))
}

/// A float rounded half to even, if it fits 64 bits.
fn rounded(v: f64) -> Option<i64> {
    let v = v.round_ties_even();
    (v >= -9_223_372_036_854_775_808.0 && v < 9_223_372_036_854_775_808.0).then_some(v as i64)
}
fn float_int2(_: &dyn EvalContext, a: &[Datum]) -> Value {
    int2(rounded(a.float(0)?))
}
fn float_int4(_: &dyn EvalContext, a: &[Datum]) -> Value {
    int4(rounded(a.float(0)?))
}
fn float_int8(_: &dyn EvalContext, a: &[Datum]) -> Value {
    int8(rounded(a.float(0)?))
}
fn to_float4(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Float4(a.int(0)? as f32))
}
fn to_float8(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Float8(a.int(0)? as f64))
}
fn widen(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Float8(a.float(0)?))
}
fn narrow(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let v = a.float(0)?;
    let single = v as f32;
    let error = |what: &'static str| Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, what));
    if single.is_infinite() && !v.is_infinite() {
        return error("value out of range: overflow");
    }
    if single == 0.0 && v != 0.0 {
        return error("value out of range: underflow");
    }
    Ok(Datum::Float4(single))
}

fn to_numeric(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Numeric(match a.datum(0) {
        Datum::Float4(v) => Numeric::from_f64(f64::from(*v), 6),
        Datum::Float8(v) => Numeric::from_f64(*v, 15),
        _ => a.numeric(0)?,
    }))
}

fn integral(v: &Numeric, ty: &'static str) -> Result<Option<i64>, SqlError> {
    if v.is_finite() {
        return Ok(v.to_i64());
    }
    let what = if v.is_nan() { "NaN" } else { "infinity" };
    Err(SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("cannot convert {what} to {ty}"),
    ))
}
fn numeric_int2(_: &dyn EvalContext, a: &[Datum]) -> Value {
    int2(integral(&a.numeric(0)?, "smallint")?)
}
fn numeric_int4(_: &dyn EvalContext, a: &[Datum]) -> Value {
    int4(integral(&a.numeric(0)?, "integer")?)
}
fn numeric_int8(_: &dyn EvalContext, a: &[Datum]) -> Value {
    int8(integral(&a.numeric(0)?, "bigint")?)
}
fn numeric_float8(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let v = a.numeric(0)?;
    let float = v.to_f64();
    if float.is_infinite() && v.is_finite() {
        return Err(SqlError::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("\"{v}\" is out of range for type double precision"),
        ));
    }
    Ok(Datum::Float8(float))
}
fn numeric_float4(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let v = a.numeric(0)?;
    let float = v.to_f64() as f32;
    if float.is_infinite() && v.is_finite() {
        return Err(SqlError::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("\"{v}\" is out of range for type real"),
        ));
    }
    Ok(Datum::Float4(float))
}

fn int_bool(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Bool(a.int(0)? != 0))
}
fn bool_text(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(if a.bool(0)? { "true" } else { "false" }))
}

fn same(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(a.datum(0).clone())
}
fn to_name(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let text = a.text(0)?;
    let mut end = text.len().min(63);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Ok(Datum::text(text.get(..end).unwrap_or("")))
}
fn to_char(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::text(
        a.text(0)?
            .chars()
            .next()
            .map_or_else(String::new, String::from),
    ))
}
fn char_int4(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let byte = a.text(0)?.bytes().next().unwrap_or(0);
    Ok(Datum::Int4(i32::from(byte as i8)))
}
fn int4_char(_: &dyn EvalContext, a: &[Datum]) -> Value {
    match i8::try_from(a.int(0)?) {
        Ok(0) => Ok(Datum::text("")),
        Ok(v) => Ok(Datum::text(char::from(v as u8).to_string())),
        Err(_) => Err(out_of_range("\"char\"")),
    }
}
/// `bpchar(text, typmod, explicit)` and `varchar(...)`.
fn fit_bpchar(_: &dyn EvalContext, a: &[Datum]) -> Value {
    typmod::apply(
        a.datum(0).clone(),
        PgType::with_typmod(Oid::BPCHAR, a.int4(1)?),
        a.bool(2)?,
    )
}
fn fit_varchar(_: &dyn EvalContext, a: &[Datum]) -> Value {
    typmod::apply(
        a.datum(0).clone(),
        PgType::with_typmod(Oid::VARCHAR, a.int4(1)?),
        a.bool(2)?,
    )
}
fn fit_time(_: &dyn EvalContext, a: &[Datum]) -> Value {
    typmod::apply(
        a.datum(0).clone(),
        PgType::with_typmod(Oid::TIME, a.int4(1)?),
        true,
    )
}
fn text_regclass(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    regclass::input(a.text(0)?, Oid::REGCLASS, cx)
}

fn endless(micros: i64) -> bool {
    micros == INFINITY || micros == NEG_INFINITY
}

fn date_timestamp(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Timestamp(match a.datum(0) {
        Datum::Date(days) => date_micros(*days)?,
        _ => return Err(wrong_argument("timestamp")),
    }))
}
/// Midnight of a date.
pub(super) fn date_micros(days: i32) -> Result<i64, SqlError> {
    match days {
        DATE_INFINITY => Ok(INFINITY),
        DATE_NEG_INFINITY => Ok(NEG_INFINITY),
        _ => civil::days_to_timestamp(i64::from(days), 0)
            .map_err(|_| crate::types::fault::datetime_out_of_range("date")),
    }
}
fn date_timestamptz(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    match a.datum(0) {
        Datum::Date(days) => Ok(Datum::Timestamptz(
            cx.time_zone().to_utc(date_micros(*days)?)?,
        )),
        _ => Err(wrong_argument("timestamptz")),
    }
}
fn days_of(micros: i64) -> Datum {
    Datum::Date(match micros {
        INFINITY => DATE_INFINITY,
        NEG_INFINITY => DATE_NEG_INFINITY,
        _ => micros.div_euclid(DAY) as i32,
    })
}
fn timestamp_date(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(days_of(a.moment(0)?))
}
fn timestamptz_date(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(days_of(cx.time_zone().to_local(a.moment(0)?)))
}
fn timestamp_time(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let v = a.moment(0)?;
    Ok(if endless(v) {
        Datum::Null
    } else {
        Datum::Time(v.rem_euclid(DAY))
    })
}
fn timestamptz_time(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let v = a.moment(0)?;
    if endless(v) {
        return Ok(Datum::Null);
    }
    Ok(Datum::Time(cx.time_zone().to_local(v).rem_euclid(DAY)))
}
fn timestamptz_timetz(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let v = a.moment(0)?;
    if endless(v) {
        return Ok(Datum::Null);
    }
    let zone = cx.time_zone();
    Ok(Datum::TimeTz(
        zone.to_local(v).rem_euclid(DAY),
        zone.offset_at(v),
    ))
}
fn timestamp_timestamptz(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Timestamptz(cx.time_zone().to_utc(a.moment(0)?)?))
}
fn timestamptz_timestamp(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Timestamp(cx.time_zone().to_local(a.moment(0)?)))
}
fn time_interval(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Interval(Interval {
        months: 0,
        days: 0,
        micros: a.moment(0)?,
    }))
}
fn interval_time(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Time(a.interval(0)?.micros.rem_euclid(DAY)))
}
fn time_timetz(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::TimeTz(
        a.moment(0)?,
        cx.time_zone().offset_at(cx.transaction_time()),
    ))
}
fn timetz_time(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Time(a.moment(0)?))
}
fn fit_interval(_: &dyn EvalContext, a: &[Datum]) -> Value {
    typmod::apply(
        a.datum(0).clone(),
        PgType::with_typmod(Oid::INTERVAL, a.int4(1)?),
        true,
    )
}

fn json_error(value: &Json, ty: &str) -> SqlError {
    let kind = match value {
        Json::Null => "null",
        Json::String(_) => "string",
        Json::Number(_) => "numeric",
        Json::Bool(_) => "boolean",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("cannot cast jsonb {kind} to type {ty}"),
    )
}
fn json_number(a: &[Datum], ty: &str) -> Result<Numeric, SqlError> {
    match parse_value(a.text(0)?)? {
        Json::Number(v) => Ok(v),
        other => Err(json_error(&other, ty)),
    }
}
fn json_bool(_: &dyn EvalContext, a: &[Datum]) -> Value {
    match parse_value(a.text(0)?)? {
        Json::Bool(v) => Ok(Datum::Bool(v)),
        other => Err(json_error(&other, "boolean")),
    }
}
fn json_numeric(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Numeric(json_number(a, "numeric")?))
}
fn json_int2(_: &dyn EvalContext, a: &[Datum]) -> Value {
    int2(json_number(a, "smallint")?.to_i64())
}
fn json_int4(_: &dyn EvalContext, a: &[Datum]) -> Value {
    int4(json_number(a, "integer")?.to_i64())
}
fn json_int8(_: &dyn EvalContext, a: &[Datum]) -> Value {
    int8(json_number(a, "bigint")?.to_i64())
}
fn json_float4(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Float4(json_number(a, "real")?.to_f64() as f32))
}
fn json_float8(_: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(Datum::Float8(json_number(a, "double precision")?.to_f64()))
}

pub(super) const SCALARS: &[Scalar] = &[
    ("i4toi2", to_int2),
    ("int82", to_int2),
    ("i2toi4", to_int4),
    ("int84", to_int4),
    ("int28", to_int8),
    ("int48", to_int8),
    ("oidtoi8", to_int8),
    ("i8tooid", to_oid),
    ("dtoi2", float_int2),
    ("ftoi2", float_int2),
    ("dtoi4", float_int4),
    ("ftoi4", float_int4),
    ("dtoi8", float_int8),
    ("ftoi8", float_int8),
    ("i2tof", to_float4),
    ("i4tof", to_float4),
    ("i8tof", to_float4),
    ("i2tod", to_float8),
    ("i4tod", to_float8),
    ("i8tod", to_float8),
    ("ftod", widen),
    ("dtof", narrow),
    ("int2_numeric", to_numeric),
    ("int4_numeric", to_numeric),
    ("int8_numeric", to_numeric),
    ("float4_numeric", to_numeric),
    ("float8_numeric", to_numeric),
    ("numeric_int2", numeric_int2),
    ("numeric_int4", numeric_int4),
    ("numeric_int8", numeric_int8),
    ("numeric_float4", numeric_float4),
    ("numeric_float8", numeric_float8),
    ("int4_bool", int_bool),
    ("bool_int4", to_int4),
    ("booltext", bool_text),
    ("bpchar_name", to_name),
    ("text_name", to_name),
    ("name_text", same),
    ("name_bpchar", same),
    ("char_bpchar", same),
    ("char_text", same),
    ("text_char", to_char),
    ("chartoi4", char_int4),
    ("i4tochar", int4_char),
    ("bpchar", fit_bpchar),
    ("varchar", fit_varchar),
    ("text_regclass", text_regclass),
    ("date_timestamp", date_timestamp),
    ("date_timestamptz", date_timestamptz),
    ("timestamp_date", timestamp_date),
    ("timestamptz_date", timestamptz_date),
    ("timestamp_time", timestamp_time),
    ("timestamptz_time", timestamptz_time),
    ("timestamptz_timetz", timestamptz_timetz),
    ("timestamp_timestamptz", timestamp_timestamptz),
    ("timestamptz_timestamp", timestamptz_timestamp),
    ("time_interval", time_interval),
    ("interval_time", interval_time),
    ("time_timetz", time_timetz),
    ("timetz_time", timetz_time),
    ("time_scale", fit_time),
    ("timetz_scale", fit_time),
    ("timestamp_scale", fit_time),
    ("timestamptz_scale", fit_time),
    ("interval_scale", fit_interval),
    ("jsonb_bool", json_bool),
    ("jsonb_numeric", json_numeric),
    ("jsonb_int2", json_int2),
    ("jsonb_int4", json_int4),
    ("jsonb_int8", json_int8),
    ("jsonb_float4", json_float4),
    ("jsonb_float8", json_float8),
];

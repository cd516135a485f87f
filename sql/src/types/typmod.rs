//! Type modifiers: the length of character types, precision and scale of numeric, fractional
//! digits of times, fields of intervals.

use std::sync::Arc;

use super::array::ArrayValue;
use super::datetime::{HOUR, INFINITY, MINUTE, NEG_INFINITY};
use super::datum::{Datum, Interval};
use super::numeric::Numeric;
use super::oid::{Oid, PgType};
use crate::error::{SqlError, SqlState};

pub use super::datetime::Unit as IntervalUnit;

/// "No precision" in an interval's modifier.
pub const INTERVAL_FULL_PRECISION: i32 = 0xFFFF;
const YEAR_BIT: i32 = 1 << 2;
const MONTH_BIT: i32 = 1 << 1;
const DAY_BIT: i32 = 1 << 3;
const HOUR_BIT: i32 = 1 << 10;
const MINUTE_BIT: i32 = 1 << 11;
const SECOND_BIT: i32 = 1 << 12;
const ALL_FIELDS: i32 = 0x7FFF;

/// Precision and scale of a numeric's modifier.
pub fn numeric_parts(typmod: i32) -> (i32, i32) {
    let packed = typmod - 4;
    let scale = ((packed & 0x7FF) ^ 0x400) - 0x400;
    ((packed >> 16) & 0xFFFF, scale)
}

/// The modifier of `numeric(precision, scale)`.
pub const fn numeric(precision: i32, scale: i32) -> i32 {
    ((precision << 16) | (scale & 0x7FF)) + 4
}

/// " day to second" and the like for an interval's modifier.
pub(super) fn interval_fields(typmod: i32) -> &'static str {
    match (typmod >> 16) & ALL_FIELDS {
        YEAR_BIT => " year",
        MONTH_BIT => " month",
        DAY_BIT => " day",
        HOUR_BIT => " hour",
        MINUTE_BIT => " minute",
        SECOND_BIT => " second",
        f if f == YEAR_BIT | MONTH_BIT => " year to month",
        f if f == DAY_BIT | HOUR_BIT => " day to hour",
        f if f == DAY_BIT | HOUR_BIT | MINUTE_BIT => " day to minute",
        f if f == DAY_BIT | HOUR_BIT | MINUTE_BIT | SECOND_BIT => " day to second",
        f if f == HOUR_BIT | MINUTE_BIT => " hour to minute",
        f if f == HOUR_BIT | MINUTE_BIT | SECOND_BIT => " hour to second",
        f if f == MINUTE_BIT | SECOND_BIT => " minute to second",
        _ => "",
    }
}

/// The unit of a bare number in an interval of that modifier.
pub(super) fn interval_last_unit(typmod: i32) -> Option<IntervalUnit> {
    if typmod < 0 {
        return None;
    }
    let fields = (typmod >> 16) & ALL_FIELDS;
    if fields == ALL_FIELDS {
        return None;
    }
    [
        (SECOND_BIT, IntervalUnit::Second),
        (MINUTE_BIT, IntervalUnit::Minute),
        (HOUR_BIT, IntervalUnit::Hour),
        (DAY_BIT, IntervalUnit::Day),
        (MONTH_BIT, IntervalUnit::Month),
        (YEAR_BIT, IntervalUnit::Year),
    ]
    .into_iter()
    .find(|(bit, _)| fields & bit != 0)
    .map(|(_, unit)| unit)
}

/// Brings a value to the modifier of its type. `explicit` is a cast that was written (cuts text),
/// otherwise it is an assignment (refuses what is too long).
pub fn apply(value: Datum, ty: PgType, explicit: bool) -> Result<Datum, SqlError> {
    if ty.typmod < 0 {
        return Ok(value);
    }
    Ok(match value {
        Datum::Text(text) => match ty.oid {
            Oid::VARCHAR => Datum::Text(character(
                text,
                ty.typmod - 4,
                explicit,
                "character varying",
            )?),
            Oid::BPCHAR => {
                let cut = character(text, ty.typmod - 4, explicit, "character")?;
                let trimmed = cut.trim_end_matches(' ');
                if trimmed.len() == cut.len() {
                    Datum::Text(cut)
                } else {
                    Datum::text(trimmed)
                }
            }
            _ => Datum::Text(text),
        },
        Datum::Numeric(v) => Datum::Numeric(fit_numeric(v, ty.typmod)?),
        Datum::Time(v) => Datum::Time(round(v, ty.typmod)),
        Datum::TimeTz(v, zone) => Datum::TimeTz(round(v, ty.typmod), zone),
        Datum::Timestamp(v) => Datum::Timestamp(round(v, ty.typmod)),
        Datum::Timestamptz(v) => Datum::Timestamptz(round(v, ty.typmod)),
        Datum::Interval(v) => Datum::Interval(fit_interval(v, ty.typmod)),
        Datum::Array(array) => {
            let element = PgType::with_typmod(array.element, ty.typmod);
            let items = array
                .items
                .iter()
                .map(|item| apply(item.clone(), element, explicit))
                .collect::<Result<Vec<_>, _>>()?;
            Datum::Array(Arc::new(ArrayValue {
                element: array.element,
                dims: array.dims.clone(),
                items,
            }))
        }
        other => other,
    })
}

fn character(text: Arc<str>, limit: i32, explicit: bool, name: &str) -> Result<Arc<str>, SqlError> {
    let limit = usize::try_from(limit).unwrap_or(0);
    if text.len() <= limit {
        return Ok(text);
    }
    let Some((end, _)) = text.char_indices().nth(limit) else {
        return Ok(text);
    };
    let (kept, cut) = text.split_at(end);
    if !explicit && cut.bytes().any(|b| b != b' ') {
        return Err(SqlError::new(
            SqlState::STRING_DATA_RIGHT_TRUNCATION,
            format!("value too long for type {name}({limit})"),
        ));
    }
    Ok(kept.into())
}

fn fit_numeric(value: Numeric, typmod: i32) -> Result<Numeric, SqlError> {
    let (precision, scale) = numeric_parts(typmod);
    let overflow = |detail: String| {
        SqlError::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            "numeric field overflow",
        )
        .with_detail(detail)
    };
    if !value.is_finite() {
        if value.is_nan() {
            return Ok(value);
        }
        return Err(overflow(format!(
            "A field with precision {precision}, scale {scale} cannot hold an infinite value."
        )));
    }
    let rounded = if scale >= 0 {
        value.rescale(scale as u16)
    } else {
        value.round(scale)
    };
    let digits = precision - scale;
    let fits = rounded.is_zero() || rounded.abs() < Numeric::new(1, 0).scaled_by_ten(digits);
    if !fits {
        let bound = if digits == 0 {
            "1".to_owned()
        } else {
            format!("10^{digits}")
        };
        return Err(overflow(format!(
            "A field with precision {precision}, scale {scale} must round to an absolute value \
             less than {bound}."
        )));
    }
    Ok(rounded)
}

/// Rounds microseconds to that many digits, half away from zero.
fn round(micros: i64, digits: i32) -> i64 {
    if !(0..6).contains(&digits) || micros == INFINITY || micros == NEG_INFINITY {
        return micros;
    }
    let unit = 10i64.pow((6 - digits) as u32);
    if micros >= 0 {
        micros.saturating_add(unit / 2) / unit * unit
    } else {
        -((-micros).saturating_add(unit / 2) / unit * unit)
    }
}

fn fit_interval(v: Interval, typmod: i32) -> Interval {
    let fields = (typmod >> 16) & ALL_FIELDS;
    let has = |bit: i32| fields & bit != 0;
    let mut v = v;
    if fields != ALL_FIELDS && fields != 0 {
        if has(SECOND_BIT) {
            // all of it stays
        } else if has(MINUTE_BIT) {
            v.micros -= v.micros % MINUTE;
        } else if has(HOUR_BIT) {
            v.micros -= v.micros % HOUR;
        } else if has(DAY_BIT) {
            v.micros = 0;
        } else if has(MONTH_BIT) {
            v = Interval {
                months: v.months,
                days: 0,
                micros: 0,
            };
        } else if has(YEAR_BIT) {
            v = Interval {
                months: v.months / 12 * 12,
                days: 0,
                micros: 0,
            };
        }
    }
    let precision = typmod & 0xFFFF;
    if precision != INTERVAL_FULL_PRECISION {
        v.micros = round(v.micros, precision);
    }
    v
}

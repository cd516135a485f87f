//! Dates, times, zones: input, output and arithmetic.
//!
//! Inside, dates are days and timestamps microseconds since 1970-01-01; the extremes of the
//! integers are the infinities. Texts are read by PostgreSQL's token rules with DateStyle
//! "ISO, MDY" and written in ISO form.

pub mod arith;
pub mod civil;
pub mod fields;
mod interval_text;
mod output;
mod parse;
pub mod template;
mod template_in;
mod words;
pub mod zone;

pub use civil::Civil;
pub use interval_text::{parse_interval, write_interval};
pub use output::{write_date, write_time, write_timestamp, write_timestamptz, write_timetz};
pub use parse::{parse_date, parse_time, parse_timestamp, parse_timestamptz, parse_timetz};
pub use words::Unit;
pub use zone::Zone;

/// Microseconds of a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds of a minute.
pub const MINUTE: i64 = 60 * SECOND;
/// Microseconds of an hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Microseconds of a day.
pub const DAY: i64 = 24 * HOUR;
/// The date `infinity`.
pub const DATE_INFINITY: i32 = i32::MAX;
/// The date `-infinity`.
pub const DATE_NEG_INFINITY: i32 = i32::MIN;
/// The timestamp `infinity`.
pub const INFINITY: i64 = i64::MAX;
/// The timestamp `-infinity`.
pub const NEG_INFINITY: i64 = i64::MIN;
/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL counts from on the wire.
pub const POSTGRES_EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub const POSTGRES_EPOCH_MICROS: i64 = POSTGRES_EPOCH_DAYS as i64 * DAY;

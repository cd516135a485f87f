//! Dates, times, zones: input, output and arithmetic.

/// A time zone of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// A named zone.
    Named(chrono_tz::Tz),
    /// Seconds east of UTC.
    Fixed(i32),
}

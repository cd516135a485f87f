//! Foreign suites: SQLite's original sqllogictest files and the sqllogictest-rs style families.
//!
//! One parser reads both (the formats differ only in how results are written), one runner runs
//! both; what counts and how answers are compared depends on the [`Dialect`]. A failed record
//! never stops a file.

mod compare;
mod exclude;
mod parse;
mod record;
mod run;
mod sample;

pub use exclude::Exclusions;
pub use parse::{ParseFailure, parse_file, parse_text};
pub use record::{Dialect, Expectation, Kind, Record, SortMode};
pub use run::{Suite, list_files};

//! The bodies of scalar and set-returning functions, by the name of PostgreSQL's routine.

mod cast;
mod comparison;
mod datetime;
mod float;
mod integer;
mod numeric;
mod series;

pub(super) use comparison::comparison;

use super::body::{Scalar, Set};

/// All scalar bodies of this module.
pub(super) fn scalars() -> Vec<Scalar> {
    [
        cast::SCALARS,
        comparison::SCALARS,
        datetime::SCALARS,
        float::SCALARS,
        integer::SCALARS,
        numeric::SCALARS,
    ]
    .concat()
}

/// All set-returning bodies of this module.
pub(super) fn sets() -> Vec<Set> {
    series::SETS.to_vec()
}

/// DataFusion's name of a window function of ours.
pub(super) fn window(source: &str) -> Option<&'static str> {
    Some(match source {
        "window_row_number" => "row_number",
        "window_rank" => "rank",
        "window_dense_rank" => "dense_rank",
        "window_percent_rank" => "percent_rank",
        "window_cume_dist" => "cume_dist",
        "window_ntile" => "ntile",
        "window_lag" | "window_lag_with_offset" | "window_lag_with_offset_and_default" => "lag",
        "window_lead" | "window_lead_with_offset" | "window_lead_with_offset_and_default" => "lead",
        "window_first_value" => "first_value",
        "window_last_value" => "last_value",
        "window_nth_value" => "nth_value",
        _ => return None,
    })
}

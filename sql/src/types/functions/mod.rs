//! The bodies of scalar and set-returning functions, by the name of PostgreSQL's routine.

mod access;
mod array;
mod array_sets;
mod cast;
mod cluster;
mod comparison;
mod datetime;
mod datetime_more;
mod float;
mod integer;
mod number_template;
mod numeric;
mod series;
mod system;
mod system_catalog;

pub(super) use cluster::cluster;
pub(super) use comparison::comparison;

use super::body::{Scalar, Set};

/// All scalar bodies of this module.
pub(super) fn scalars() -> Vec<Scalar> {
    [
        access::SCALARS,
        array::SCALARS,
        cast::SCALARS,
        comparison::SCALARS,
        datetime::SCALARS,
        datetime_more::SCALARS,
        float::SCALARS,
        integer::SCALARS,
        numeric::SCALARS,
        system::SCALARS,
        system_catalog::SCALARS,
    ]
    .concat()
}

/// All set-returning bodies of this module.
pub(super) fn sets() -> Vec<Set> {
    [access::SETS, series::SETS, array_sets::SETS].concat()
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

/// The body of a family of routines that are told by their name alone.
pub(super) fn family(source: &str) -> Option<super::registry::ScalarFn> {
    system_catalog::asks_privilege(source).then_some(system_catalog::privilege)
}

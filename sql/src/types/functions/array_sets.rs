//! unnest, generate_subscripts, and the catalog's own set-returning functions.

use crate::error::SqlError;
use crate::types::body::{Args, Set};
use crate::types::datum::Datum;
use crate::types::oid::Oid;
use crate::types::registry::EvalContext;

type Rows = Result<Vec<Vec<Datum>>, SqlError>;

fn unnest(_: &dyn EvalContext, a: &[Datum]) -> Rows {
    if a.datum(0).is_null() {
        return Ok(Vec::new());
    }
    Ok(a.array(0)?.items.iter().map(|v| vec![v.clone()]).collect())
}

fn subscripts(_: &dyn EvalContext, a: &[Datum]) -> Rows {
    if a.iter().any(Datum::is_null) {
        return Ok(Vec::new());
    }
    let array = a.array(0)?;
    let i = a.int(1)?;
    let Some((length, lower)) = usize::try_from(i - 1).ok().and_then(|i| array.dims.get(i)) else {
        return Ok(Vec::new());
    };
    let mut rows: Vec<Vec<Datum>> = (0..*length).map(|n| vec![Datum::Int4(lower + n)]).collect();
    if a.len() > 2 && a.bool(2)? {
        rows.reverse();
    }
    Ok(rows)
}

/// The zones of the tz database with their offset at this moment.
fn timezone_names(cx: &dyn EvalContext, _: &[Datum]) -> Rows {
    use crate::types::datetime::Zone;
    let now = cx.transaction_time();
    Ok(chrono_tz::TZ_VARIANTS
        .iter()
        .map(|tz| {
            let zone = Zone::Named(*tz);
            let offset = i64::from(zone.offset_at(now)) * 1_000_000;
            let january = zone.offset_at(now - now.rem_euclid(31_557_600_000_000));
            vec![
                Datum::text(tz.name()),
                Datum::text(zone.abbreviation_at(now)),
                Datum::Interval(crate::types::Interval {
                    months: 0,
                    days: 0,
                    micros: offset,
                }),
                Datum::Bool(zone.offset_at(now) > january),
            ]
        })
        .collect())
}

pub(super) const SETS: &[Set] = &[
    ("array_unnest", unnest, &[]),
    ("generate_subscripts", subscripts, &[]),
    ("generate_subscripts_nodir", subscripts, &[]),
    (
        "pg_timezone_names",
        timezone_names,
        &[
            ("name", Oid::TEXT),
            ("abbrev", Oid::TEXT),
            ("utc_offset", Oid::INTERVAL),
            ("is_dst", Oid::BOOL),
        ],
    ),
];

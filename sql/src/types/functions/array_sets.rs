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

/// `information_schema._pg_expandarray`: elements and their positions, from 1.
fn expandarray(_: &dyn EvalContext, a: &[Datum]) -> Rows {
    let items = a.array(0)?.items.iter().zip(1..);
    Ok(items
        .map(|(v, n)| vec![v.clone(), Datum::Int4(n)])
        .collect())
}

/// `pg_partition_ancestors`: there are no partitions.
fn no_rows(_: &dyn EvalContext, _: &[Datum]) -> Rows {
    Ok(Vec::new())
}

/// `pg_options_to_table`: "name=value" in two columns.
fn options(_: &dyn EvalContext, a: &[Datum]) -> Rows {
    let items = a.array(0)?.items.iter().filter_map(Datum::as_str);
    let row = |item: &str| match item.split_once('=') {
        Some((name, value)) => vec![Datum::text(name), Datum::text(value)],
        None => vec![Datum::text(item), Datum::Null],
    };
    Ok(items.map(row).collect())
}

/// PostgreSQL's words.
fn keywords(_: &dyn EvalContext, _: &[Datum]) -> Rows {
    use crate::parse::keywords::{Category, all};
    let row = |k: &crate::parse::keywords::Keyword| {
        let (code, meaning) = match k.category {
            Category::Unreserved => ("U", "unreserved"),
            Category::ColumnName => ("C", "unreserved (cannot be function or type name)"),
            Category::TypeFunction => ("T", "reserved (can be function or type name)"),
            Category::Reserved => ("R", "reserved"),
        };
        let label = if k.bare_label {
            "can be bare label"
        } else {
            "requires AS"
        };
        vec![
            Datum::text(k.word),
            Datum::text(code),
            Datum::Bool(k.bare_label),
            Datum::text(meaning),
            Datum::text(label),
        ]
    };
    Ok(all().iter().map(row).collect())
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
        "_pg_expandarray",
        expandarray,
        &[("x", Oid::ANYELEMENT), ("n", Oid::INT4)],
    ),
    (
        "pg_get_keywords",
        keywords,
        &[
            ("word", Oid::TEXT),
            ("catcode", Oid::CHAR),
            ("barelabel", Oid::BOOL),
            ("catdesc", Oid::TEXT),
            ("baredesc", Oid::TEXT),
        ],
    ),
    (
        "pg_partition_ancestors",
        no_rows,
        &[("relid", Oid::REGCLASS)],
    ),
    (
        "pg_options_to_table",
        options,
        &[("option_name", Oid::TEXT), ("option_value", Oid::TEXT)],
    ),
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

//! Views about settings and the session itself.

use super::objects::DATABASE;
use super::row::*;
use crate::catalog::desc::CatalogSnapshot;
use crate::error::SqlError;
use crate::session::known::VARIABLES;
use crate::session::variables::{Changeable, Kind, Variable};
use crate::types::registry::EvalContext;
use crate::types::{Datum, Interval, Oid};

type Rows = Result<Vec<Row>, SqlError>;

pub(super) fn pg_settings(_: &CatalogSnapshot, cx: &dyn EvalContext) -> Rows {
    Ok(VARIABLES.iter().map(|v| setting_row(v, cx)).collect())
}

fn setting_row(v: &Variable, cx: &dyn EvalContext) -> Row {
    let shown = cx.setting(v.name).unwrap_or_else(|| v.default.to_owned());
    let value = bare_value(v, &shown).unwrap_or_else(|| shown.clone());
    let (kind, min, max, words) = match v.kind {
        Kind::Bool => ("bool", NULL, NULL, NULL),
        Kind::Int { min, max } => ("integer", t(min.to_string()), t(max.to_string()), NULL),
        Kind::Real { min, max } => ("real", t(format!("{min}")), t(format!("{max}")), NULL),
        Kind::Enum(words) => {
            let words = words.iter().map(|w| t(*w)).collect();
            ("enum", NULL, NULL, array(Oid::TEXT, words))
        }
        Kind::Text => ("string", NULL, NULL, NULL),
    };
    let context = match v.changeable {
        Changeable::User => "user",
        Changeable::Internal => "internal",
        Changeable::Restart => "postmaster",
        Changeable::Reload => "sighup",
        Changeable::Start => "backend",
    };
    let source = if value == v.default {
        "default"
    } else {
        "session"
    };
    vec![
        t(v.name),
        t(value),
        if v.unit.is_empty() { NULL } else { t(v.unit) },
        t(v.category),
        t(v.description),
        NULL,
        t(context),
        t(kind),
        t(source),
        min,
        max,
        words,
        t(v.default),
        t(v.default),
        NULL,
        NULL,
        b(false),
    ]
}

/// SHOW prints "1min" where pg_settings has the number in the variable's unit.
fn bare_value(v: &Variable, shown: &str) -> Option<String> {
    if v.unit.is_empty() {
        return None;
    }
    let digits = shown.find(|c: char| c != '-' && !c.is_ascii_digit())?;
    let number: i64 = shown.get(..digits)?.parse().ok()?;
    let scale = |unit: &str| -> Option<i64> {
        Some(match unit {
            "ms" | "B" => 1,
            "s" => 1_000,
            "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "kB" => 1_024,
            "8kB" => 8_192,
            "MB" => 1 << 20,
            "GB" => 1 << 30,
            "TB" => 1 << 40,
            _ => return None,
        })
    };
    let factor = scale(shown.get(digits..)?)?;
    Some((number.checked_mul(factor)? / scale(v.unit)?).to_string())
}

/// The session that asks; of other sessions nothing is shown yet.
pub(super) fn pg_stat_activity(_: &CatalogSnapshot, cx: &dyn EvalContext) -> Rows {
    Ok(vec![vec![
        n(DATABASE),
        t(cx.current_database()),
        i4(cx.backend_pid()),
        NULL,
        n(10),
        t(cx.current_user()),
        t(cx.setting("application_name").unwrap_or_default()),
        NULL,
        NULL,
        NULL,
        NULL,
        Datum::Timestamptz(cx.transaction_time()),
        Datum::Timestamptz(cx.statement_time()),
        Datum::Timestamptz(cx.statement_time()),
        NULL,
        NULL,
        t("active"),
        NULL,
        NULL,
        NULL,
        NULL,
        t("client backend"),
    ]])
}

/// Nothing is counted yet: NULL, not zero.
pub(super) fn pg_stat_database(_: &CatalogSnapshot, cx: &dyn EvalContext) -> Rows {
    let mut row = vec![n(DATABASE), t(cx.current_database())];
    row.resize(28, NULL);
    Ok(vec![row])
}

pub(super) fn pg_timezone_names(_: &CatalogSnapshot, cx: &dyn EvalContext) -> Rows {
    use chrono::{Offset, TimeZone};
    use chrono_tz::OffsetName;
    let now = chrono::DateTime::from_timestamp_micros(cx.statement_time()).unwrap_or_default();
    let row = |zone: &chrono_tz::Tz| {
        let offset = zone.offset_from_utc_datetime(&now.naive_utc());
        let east = i64::from(offset.fix().local_minus_utc());
        let winter =
            zone.offset_from_utc_datetime(&(now - chrono::Duration::days(183)).naive_utc());
        let shift = Interval {
            months: 0,
            days: 0,
            micros: east * 1_000_000,
        };
        vec![
            t(zone.name()),
            t_or_null(offset.abbreviation()),
            Datum::Interval(shift),
            b(i64::from(winter.fix().local_minus_utc()) < east),
        ]
    };
    Ok(chrono_tz::TZ_VARIANTS.iter().map(row).collect())
}

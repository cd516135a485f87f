//! Types as SQL writes them: "character varying(10)", "timestamp(3) with time zone", "int4[]".

use super::oid::{Oid, PgType};
use super::registry::registry;
use super::typmod::{INTERVAL_FULL_PRECISION, interval_fields};

/// What `format_type(oid, typmod)` gives.
pub fn format_type(ty: PgType) -> String {
    let Some(info) = registry().type_info(ty.oid) else {
        return if ty.oid == Oid::INVALID {
            "-".to_owned()
        } else {
            "???".to_owned()
        };
    };
    if info.category == 'A' && info.element != Oid::INVALID {
        return format!(
            "{}[]",
            format_type(PgType::with_typmod(info.element, ty.typmod))
        );
    }
    let modifier = ty.typmod;
    match ty.oid {
        Oid::BPCHAR if modifier < 0 => "bpchar".to_owned(),
        Oid::BPCHAR | Oid::VARCHAR if modifier >= 4 => {
            format!("{}({})", info.sql_name, modifier - 4)
        }
        Oid::NUMERIC if modifier >= 4 => {
            let (precision, scale) = super::typmod::numeric_parts(modifier);
            format!("numeric({precision},{scale})")
        }
        Oid::TIMESTAMP | Oid::TIMESTAMPTZ | Oid::TIME | Oid::TIMETZ if modifier >= 0 => {
            match info.sql_name.split_once(' ') {
                Some((head, tail)) => format!("{head}({modifier}) {tail}"),
                None => format!("{}({modifier})", info.sql_name),
            }
        }
        Oid::INTERVAL if modifier >= 0 => {
            let mut out = "interval".to_owned();
            out.push_str(interval_fields(modifier));
            let precision = modifier & 0xFFFF;
            if precision != INTERVAL_FULL_PRECISION {
                out.push_str(&format!("({precision})"));
            }
            out
        }
        _ => info.sql_name.to_owned(),
    }
}

/// What `format_type(oid, NULL)` gives.
pub(crate) fn bare(oid: Oid) -> String {
    match registry().type_info(oid) {
        Some(info) => info.sql_name.to_owned(),
        None => format_type(PgType::new(oid)),
    }
}

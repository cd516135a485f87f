//! min and max.

use std::cmp::Ordering;

use super::State;
use crate::error::SqlError;
use crate::types::compare::compare;
use crate::types::datum::Datum;
use crate::types::oid::{Oid, PgType};
use crate::types::registry::{AggregateImpl, AggregateState};

/// Of equal values the last one stays (1.5 after 1.50), as in PostgreSQL.
struct Extreme {
    value: Datum,
    wanted: Ordering,
}

impl AggregateState for Extreme {
    fn update(&mut self, args: &[Datum]) -> Result<(), SqlError> {
        if let Some(next) = args.first().filter(|v| !v.is_null())
            && (self.value.is_null() || compare(next, &self.value) != self.wanted.reverse())
        {
            self.value = next.clone();
        }
        Ok(())
    }
    fn merge(&mut self, partial: &[Datum]) -> Result<(), SqlError> {
        self.update(partial)
    }
    fn partial(&self) -> Result<Vec<Datum>, SqlError> {
        Ok(vec![self.value.clone()])
    }
    fn finish(&self) -> Result<Datum, SqlError> {
        Ok(self.value.clone())
    }
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.value.as_str().map_or(0, str::len)
    }
}

fn min(_: &[PgType]) -> State {
    Box::new(Extreme {
        value: Datum::Null,
        wanted: Ordering::Less,
    })
}
fn max(_: &[PgType]) -> State {
    Box::new(Extreme {
        value: Datum::Null,
        wanted: Ordering::Greater,
    })
}

/// The aggregates of this file.
pub(super) fn body(name: &str, args: &[Oid]) -> Option<AggregateImpl> {
    let (start, native): (fn(&[PgType]) -> State, _) = match name {
        "min" => (min, "min"),
        "max" => (max, "max"),
        _ => return None,
    };
    macro_rules! own {
        ($($oid:ident)*) => {
            match args {
                $([Oid::$oid] => &[Oid::$oid],)*
                _ => return None,
            }
        };
    }
    let partial: &'static [Oid] = own!(
        INT2 INT4 INT8 OID FLOAT4 FLOAT8 NUMERIC TEXT BPCHAR DATE TIME TIMETZ TIMESTAMP
        TIMESTAMPTZ INTERVAL ANYARRAY
    );
    // Arrow's order is PostgreSQL's on these forms
    let native = matches!(
        args,
        [Oid::INT2
            | Oid::INT4
            | Oid::INT8
            | Oid::OID
            | Oid::TEXT
            | Oid::BPCHAR
            | Oid::DATE
            | Oid::TIME
            | Oid::TIMESTAMP
            | Oid::TIMESTAMPTZ]
    )
    .then_some(native);
    Some(AggregateImpl {
        start,
        partial,
        strict: true,
        native,
    })
}

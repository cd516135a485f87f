//! count, bool_and and family, bit_and and family.

use super::State;
use crate::error::SqlError;
use crate::types::datum::Datum;
use crate::types::oid::{Oid, PgType};
use crate::types::registry::{AggregateImpl, AggregateState};

struct Count(i64);

impl AggregateState for Count {
    fn update(&mut self, _: &[Datum]) -> Result<(), SqlError> {
        self.0 += 1;
        Ok(())
    }
    fn merge(&mut self, partial: &[Datum]) -> Result<(), SqlError> {
        self.0 += partial.first().and_then(Datum::as_i64).unwrap_or(0);
        Ok(())
    }
    fn partial(&self) -> Result<Vec<Datum>, SqlError> {
        Ok(vec![Datum::Int8(self.0)])
    }
    fn finish(&self) -> Result<Datum, SqlError> {
        Ok(Datum::Int8(self.0))
    }
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

fn count(_: &[PgType]) -> State {
    Box::new(Count(0))
}

/// A value folded by an operation that is its own merge.
struct Fold {
    value: Datum,
    step: fn(&Datum, &Datum) -> Datum,
}

impl AggregateState for Fold {
    fn update(&mut self, args: &[Datum]) -> Result<(), SqlError> {
        let Some(next) = args.first().filter(|v| !v.is_null()) else {
            return Ok(());
        };
        self.value = if self.value.is_null() {
            next.clone()
        } else {
            (self.step)(&self.value, next)
        };
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
        size_of::<Self>()
    }
}

fn truth(a: &Datum, b: &Datum, f: fn(bool, bool) -> bool) -> Datum {
    match (a, b) {
        (Datum::Bool(a), Datum::Bool(b)) => Datum::Bool(f(*a, *b)),
        _ => Datum::Null,
    }
}

fn bits(a: &Datum, b: &Datum, f: fn(i64, i64) -> i64) -> Datum {
    match (a, b) {
        (Datum::Int2(a), Datum::Int2(b)) => Datum::Int2(f(i64::from(*a), i64::from(*b)) as i16),
        (Datum::Int4(a), Datum::Int4(b)) => Datum::Int4(f(i64::from(*a), i64::from(*b)) as i32),
        (Datum::Int8(a), Datum::Int8(b)) => Datum::Int8(f(*a, *b)),
        _ => Datum::Null,
    }
}

fn all(_: &[PgType]) -> State {
    Box::new(Fold {
        value: Datum::Null,
        step: |a, b| truth(a, b, |a, b| a && b),
    })
}
fn any(_: &[PgType]) -> State {
    Box::new(Fold {
        value: Datum::Null,
        step: |a, b| truth(a, b, |a, b| a || b),
    })
}
fn bit_and(_: &[PgType]) -> State {
    Box::new(Fold {
        value: Datum::Null,
        step: |a, b| bits(a, b, |a, b| a & b),
    })
}
fn bit_or(_: &[PgType]) -> State {
    Box::new(Fold {
        value: Datum::Null,
        step: |a, b| bits(a, b, |a, b| a | b),
    })
}
fn bit_xor(_: &[PgType]) -> State {
    Box::new(Fold {
        value: Datum::Null,
        step: |a, b| bits(a, b, |a, b| a ^ b),
    })
}

/// The aggregates of this file.
pub(super) fn body(name: &str, args: &[Oid]) -> Option<AggregateImpl> {
    let partial: &'static [Oid] = match args {
        [Oid::INT2] => &[Oid::INT2],
        [Oid::INT4] => &[Oid::INT4],
        [Oid::INT8] => &[Oid::INT8],
        [Oid::BOOL] => &[Oid::BOOL],
        _ => &[Oid::INT8],
    };
    let (start, native): (fn(&[PgType]) -> State, _) = match (name, args) {
        ("count", _) => {
            return Some(AggregateImpl {
                start: count,
                partial: &[Oid::INT8],
                strict: true,
                native: Some("count"),
            });
        }
        ("bool_and" | "every", _) => (all, Some("bool_and")),
        ("bool_or", _) => (any, Some("bool_or")),
        ("bit_and", [Oid::INT2 | Oid::INT4 | Oid::INT8]) => (bit_and, None),
        ("bit_or", [Oid::INT2 | Oid::INT4 | Oid::INT8]) => (bit_or, None),
        ("bit_xor", [Oid::INT2 | Oid::INT4 | Oid::INT8]) => (bit_xor, None),
        _ => return None,
    };
    Some(AggregateImpl {
        start,
        partial,
        strict: true,
        native,
    })
}

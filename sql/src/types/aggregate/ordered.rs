//! Ordered-set aggregates: percentile_cont, percentile_disc, mode.
//!
//! Rows come in the order of WITHIN GROUP; the arguments are the direct ones, then the ordered
//! value.

use std::sync::Arc;

use super::State;
use crate::error::{SqlError, SqlState};
use crate::types::array::ArrayValue;
use crate::types::compare::compare;
use crate::types::datetime::arith;
use crate::types::datum::Datum;
use crate::types::oid::{Oid, PgType};
use crate::types::registry::{AggregateImpl, AggregateState};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Continuous,
    Discrete,
    Mode,
}

struct Ordered {
    kind: Kind,
    fraction: Datum,
    values: Vec<Datum>,
    element: Oid,
}

impl Ordered {
    fn one(&self, fraction: &Datum) -> Result<Datum, SqlError> {
        let Datum::Float8(p) = fraction else {
            return Ok(Datum::Null);
        };
        if !(0.0..=1.0).contains(p) {
            return Err(SqlError::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                format!("percentile value {p} is not between 0 and 1"),
            ));
        }
        let n = self.values.len();
        let at = |i: usize| self.values.get(i).cloned().unwrap_or_default();
        if self.kind == Kind::Discrete {
            let row = (p * n as f64).ceil() as usize;
            return Ok(at(row.saturating_sub(1)));
        }
        let position = p * (n as f64 - 1.0);
        let (low, high) = (at(position.floor() as usize), at(position.ceil() as usize));
        let share = position - position.floor();
        Ok(match (&low, &high) {
            (Datum::Float8(a), Datum::Float8(b)) if share > 0.0 => {
                Datum::Float8(a + share * (b - a))
            }
            (Datum::Interval(a), Datum::Interval(b)) if share > 0.0 => {
                let span = arith::add(*b, arith::neg(*a)?)?;
                Datum::Interval(arith::add(*a, arith::multiply(span, share)?)?)
            }
            _ => low,
        })
    }

    /// The most frequent value; of several the first.
    fn mode(&self) -> Datum {
        let mut sorted: Vec<(usize, &Datum)> = self.values.iter().enumerate().collect();
        sorted.sort_by(|(i, a), (j, b)| compare(a, b).then(i.cmp(j)));
        let mut best: Option<(usize, usize)> = None;
        for group in sorted.chunk_by(|(_, a), (_, b)| compare(a, b).is_eq()) {
            let first = group.first().map_or(0, |(i, _)| *i);
            let better = best.is_none_or(|(count, at)| {
                group.len() > count || (group.len() == count && first < at)
            });
            if better {
                best = Some((group.len(), first));
            }
        }
        best.and_then(|(_, at)| self.values.get(at).cloned())
            .unwrap_or_default()
    }
}

impl AggregateState for Ordered {
    fn update(&mut self, args: &[Datum]) -> Result<(), SqlError> {
        if args.len() > 1 && self.fraction.is_null() {
            self.fraction = args.first().cloned().unwrap_or_default();
        }
        if let Some(value) = args.last().filter(|v| !v.is_null()) {
            self.values.push(value.clone());
        }
        Ok(())
    }
    fn merge(&mut self, partial: &[Datum]) -> Result<(), SqlError> {
        if let [Datum::Array(state)] = partial {
            for item in &state.items {
                if let Datum::Record(fields) = item {
                    let row: Vec<Datum> = fields.iter().map(|(_, v)| v.clone()).collect();
                    self.update(&row)?;
                }
            }
        }
        Ok(())
    }
    fn partial(&self) -> Result<Vec<Datum>, SqlError> {
        let row = |value: &Datum| {
            let fields: Vec<(Oid, Datum)> = if self.kind == Kind::Mode {
                vec![(Oid::INVALID, value.clone())]
            } else {
                vec![
                    (Oid::INVALID, self.fraction.clone()),
                    (Oid::INVALID, value.clone()),
                ]
            };
            Datum::Record(fields.into())
        };
        let rows = self.values.iter().map(row).collect();
        Ok(vec![Datum::Array(Arc::new(ArrayValue::vector(
            Oid::RECORD,
            rows,
        )))])
    }
    fn finish(&self) -> Result<Datum, SqlError> {
        if self.values.is_empty() {
            return Ok(Datum::Null);
        }
        if self.kind == Kind::Mode {
            return Ok(self.mode());
        }
        match &self.fraction {
            Datum::Array(fractions) => {
                let items = fractions
                    .items
                    .iter()
                    .map(|f| self.one(f))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(Datum::Array(Arc::new(ArrayValue {
                    element: self.element,
                    dims: fractions.dims.clone(),
                    items,
                })))
            }
            one => self.one(one),
        }
    }
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.values.len() * size_of::<Datum>()
    }
}

fn start(kind: Kind, args: &[PgType]) -> State {
    Box::new(Ordered {
        kind,
        fraction: Datum::Null,
        values: Vec::new(),
        element: args.last().map_or(Oid::FLOAT8, |t| t.oid),
    })
}

/// The aggregates of this file.
pub(super) fn body(name: &str, _: &[Oid]) -> Option<AggregateImpl> {
    let start: fn(&[PgType]) -> State = match name {
        "percentile_cont" => |args| start(Kind::Continuous, args),
        "percentile_disc" => |args| start(Kind::Discrete, args),
        "mode" => |args| start(Kind::Mode, args),
        _ => return None,
    };
    Some(AggregateImpl {
        start,
        partial: &[Oid::RECORD_ARRAY],
        strict: false,
        native: None,
    })
}

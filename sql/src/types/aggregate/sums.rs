//! sum and avg with PostgreSQL's result types.

use super::State;
use crate::error::{SqlError, SqlState};
use crate::types::datetime::arith;
use crate::types::datum::{Datum, Interval};
use crate::types::fault::out_of_range;
use crate::types::numeric::NumericSum;
use crate::types::oid::{Oid, PgType};
use crate::types::registry::{AggregateImpl, AggregateState};

/// sum of int2 and int4: int8.
#[derive(Default)]
struct IntegerSum {
    total: i64,
    seen: bool,
}

impl AggregateState for IntegerSum {
    fn update(&mut self, args: &[Datum]) -> Result<(), SqlError> {
        if let Some(v) = args.first().and_then(Datum::as_i64) {
            self.total = self
                .total
                .checked_add(v)
                .ok_or_else(|| out_of_range("bigint"))?;
            self.seen = true;
        }
        Ok(())
    }
    fn merge(&mut self, partial: &[Datum]) -> Result<(), SqlError> {
        self.update(partial)
    }
    fn partial(&self) -> Result<Vec<Datum>, SqlError> {
        Ok(vec![self.finish()?])
    }
    fn finish(&self) -> Result<Datum, SqlError> {
        Ok(if self.seen {
            Datum::Int8(self.total)
        } else {
            Datum::Null
        })
    }
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

/// sum of int8 and numeric, avg of all integers and numeric: numeric.
struct ExactSum {
    sum: NumericSum,
    average: bool,
}

impl AggregateState for ExactSum {
    fn update(&mut self, args: &[Datum]) -> Result<(), SqlError> {
        match args.first() {
            Some(Datum::Numeric(v)) => self.sum.add(v),
            Some(other) => {
                if let Some(v) = other.as_i64() {
                    self.sum.add_integer(i128::from(v));
                }
            }
            None => {}
        }
        Ok(())
    }
    fn merge(&mut self, partial: &[Datum]) -> Result<(), SqlError> {
        if let [Datum::Numeric(total), Datum::Int8(count)] = partial
            && *count > 0
        {
            self.sum.merge(total, *count as u64);
        }
        Ok(())
    }
    fn partial(&self) -> Result<Vec<Datum>, SqlError> {
        Ok(vec![
            Datum::Numeric(self.sum.total()?),
            Datum::Int8(self.sum.count() as i64),
        ])
    }
    fn finish(&self) -> Result<Datum, SqlError> {
        if self.sum.count() == 0 {
            return Ok(Datum::Null);
        }
        let result = if self.average {
            self.sum.average()?
        } else {
            self.sum.total()?
        };
        Ok(Datum::Numeric(result))
    }
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

/// sum and avg of floats.
struct FloatSum {
    count: i64,
    total: f64,
    infinite: bool,
    average: bool,
    single: bool,
}

impl FloatSum {
    fn add(&mut self, v: f64) -> Result<(), SqlError> {
        self.infinite |= v.is_infinite();
        self.total += v;
        if self.single && !self.average {
            self.total = f64::from(self.total as f32);
        }
        if self.total.is_infinite() && !self.infinite {
            return Err(SqlError::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "value out of range: overflow",
            ));
        }
        Ok(())
    }
}

impl AggregateState for FloatSum {
    fn update(&mut self, args: &[Datum]) -> Result<(), SqlError> {
        self.count += 1;
        match args.first() {
            Some(Datum::Float8(v)) => self.add(*v),
            Some(Datum::Float4(v)) => self.add(f64::from(*v)),
            _ => {
                self.count -= 1;
                Ok(())
            }
        }
    }
    fn merge(&mut self, partial: &[Datum]) -> Result<(), SqlError> {
        if let [Datum::Float8(total), Datum::Int8(count)] = partial
            && *count > 0
        {
            self.count += count;
            return self.add(*total);
        }
        Ok(())
    }
    fn partial(&self) -> Result<Vec<Datum>, SqlError> {
        Ok(vec![Datum::Float8(self.total), Datum::Int8(self.count)])
    }
    fn finish(&self) -> Result<Datum, SqlError> {
        if self.count == 0 {
            return Ok(Datum::Null);
        }
        Ok(match (self.average, self.single) {
            (true, _) => Datum::Float8(self.total / self.count as f64),
            (false, true) => Datum::Float4(self.total as f32),
            (false, false) => Datum::Float8(self.total),
        })
    }
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

/// sum and avg of intervals.
struct IntervalSum {
    count: i64,
    total: Interval,
    average: bool,
}

impl AggregateState for IntervalSum {
    fn update(&mut self, args: &[Datum]) -> Result<(), SqlError> {
        if let Some(Datum::Interval(v)) = args.first() {
            self.total = arith::add(self.total, *v)?;
            self.count += 1;
        }
        Ok(())
    }
    fn merge(&mut self, partial: &[Datum]) -> Result<(), SqlError> {
        if let [Datum::Interval(v), Datum::Int8(count)] = partial {
            self.total = arith::add(self.total, *v)?;
            self.count += count;
        }
        Ok(())
    }
    fn partial(&self) -> Result<Vec<Datum>, SqlError> {
        Ok(vec![Datum::Interval(self.total), Datum::Int8(self.count)])
    }
    fn finish(&self) -> Result<Datum, SqlError> {
        if self.count == 0 {
            return Ok(Datum::Null);
        }
        Ok(Datum::Interval(if self.average {
            arith::divide(self.total, self.count as f64)?
        } else {
            self.total
        }))
    }
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

fn is_single(args: &[PgType]) -> bool {
    args.first().is_some_and(|t| t.oid == Oid::FLOAT4)
}
fn integer_sum(_: &[PgType]) -> State {
    Box::new(IntegerSum::default())
}
fn exact_sum(_: &[PgType]) -> State {
    Box::new(ExactSum {
        sum: NumericSum::default(),
        average: false,
    })
}
fn exact_avg(_: &[PgType]) -> State {
    Box::new(ExactSum {
        sum: NumericSum::default(),
        average: true,
    })
}
fn float_sum(args: &[PgType]) -> State {
    let single = is_single(args);
    Box::new(FloatSum {
        count: 0,
        total: 0.0,
        infinite: false,
        average: false,
        single,
    })
}
fn float_avg(args: &[PgType]) -> State {
    let single = is_single(args);
    Box::new(FloatSum {
        count: 0,
        total: 0.0,
        infinite: false,
        average: true,
        single,
    })
}
fn interval_sum(_: &[PgType]) -> State {
    Box::new(IntervalSum {
        count: 0,
        total: Interval::default(),
        average: false,
    })
}
fn interval_avg(_: &[PgType]) -> State {
    Box::new(IntervalSum {
        count: 0,
        total: Interval::default(),
        average: true,
    })
}

const EXACT: &[Oid] = &[Oid::NUMERIC, Oid::INT8];
const FLOAT: &[Oid] = &[Oid::FLOAT8, Oid::INT8];
const SPAN: &[Oid] = &[Oid::INTERVAL, Oid::INT8];

/// The aggregates of this file.
pub(super) fn body(name: &str, args: &[Oid]) -> Option<AggregateImpl> {
    let [arg] = args else {
        return None;
    };
    type Start = fn(&[PgType]) -> State;
    let (start, partial, native): (Start, &'static [Oid], _) = match (name, *arg) {
        // Arrow's own sum wraps silently where int8 overflows; 2^32 rows of int4 cannot get there,
        // so "sum" over the values widened to Int64 gives the same
        ("sum", Oid::INT2 | Oid::INT4) => {
            return Some(AggregateImpl {
                start: integer_sum,
                partial: &[Oid::INT8],
                strict: true,
                native: Some("sum"),
            });
        }
        ("sum", Oid::INT8 | Oid::NUMERIC) => (exact_sum, EXACT, Some("sum")),
        ("avg", Oid::INT2 | Oid::INT4 | Oid::INT8 | Oid::NUMERIC) => {
            (exact_avg, EXACT, Some("avg"))
        }
        ("sum", Oid::FLOAT4 | Oid::FLOAT8) => (float_sum, FLOAT, None),
        ("avg", Oid::FLOAT4 | Oid::FLOAT8) => (float_avg, FLOAT, None),
        ("sum", Oid::INTERVAL) => (interval_sum, SPAN, None),
        ("avg", Oid::INTERVAL) => (interval_avg, SPAN, None),
        _ => return None,
    };
    Some(AggregateImpl {
        start,
        partial,
        strict: true,
        native,
    })
}

//! stddev, variance, covariance, correlation, regression.

use super::State;
use crate::error::SqlError;
use crate::types::datum::Datum;
use crate::types::numeric::{Numeric, NumericSum};
use crate::types::oid::{Oid, PgType};
use crate::types::registry::{AggregateImpl, AggregateState};

/// Which of the one-variable statistics.
#[derive(Clone, Copy)]
struct Spread {
    sample: bool,
    root: bool,
}

/// Exact sums of values and squares, for integers and numeric.
struct Exact {
    sum: NumericSum,
    squares: NumericSum,
    kind: Spread,
}

impl AggregateState for Exact {
    fn update(&mut self, args: &[Datum]) -> Result<(), SqlError> {
        let value = match args.first() {
            Some(Datum::Numeric(v)) => v.clone(),
            Some(other) => match other.as_i64() {
                Some(v) => Numeric::from_i64(v),
                None => return Ok(()),
            },
            None => return Ok(()),
        };
        self.squares.add(&value.mul(&value)?);
        self.sum.add(&value);
        Ok(())
    }
    fn merge(&mut self, partial: &[Datum]) -> Result<(), SqlError> {
        if let [
            Datum::Numeric(sum),
            Datum::Numeric(squares),
            Datum::Int8(count),
        ] = partial
            && *count > 0
        {
            self.sum.merge(sum, *count as u64);
            self.squares.merge(squares, *count as u64);
        }
        Ok(())
    }
    fn partial(&self) -> Result<Vec<Datum>, SqlError> {
        Ok(vec![
            Datum::Numeric(self.sum.total()?),
            Datum::Numeric(self.squares.total()?),
            Datum::Int8(self.sum.count() as i64),
        ])
    }
    fn finish(&self) -> Result<Datum, SqlError> {
        let count = self.sum.count() as i64;
        if count == 0 || (self.kind.sample && count == 1) {
            return Ok(Datum::Null);
        }
        let n = Numeric::from_i64(count);
        let (sum, squares) = (self.sum.total()?, self.squares.total()?);
        if !sum.is_finite() || !squares.is_finite() {
            return Ok(Datum::Numeric(Numeric::NaN));
        }
        let numerator = n.mul(&squares)?.sub(&sum.mul(&sum)?)?;
        if numerator.signum() <= 0 {
            return Ok(Datum::Numeric(Numeric::ZERO));
        }
        let denominator = if self.kind.sample {
            n.mul(&n.sub(&Numeric::from_i64(1))?)?
        } else {
            n.mul(&n)?
        };
        let variance = numerator.div(&denominator)?;
        Ok(Datum::Numeric(if self.kind.root {
            variance.sqrt()?
        } else {
            variance
        }))
    }
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

/// Youngs and Cramer's running sums, as PostgreSQL keeps them.
#[derive(Clone, Copy, Default)]
struct Moments {
    n: f64,
    sx: f64,
    sxx: f64,
    sy: f64,
    syy: f64,
    sxy: f64,
}

impl Moments {
    fn add(&mut self, y: f64, x: f64) {
        self.n += 1.0;
        self.sx += x;
        self.sy += y;
        if self.n > 1.0 {
            let scale = 1.0 / (self.n * (self.n - 1.0));
            let dx = x * self.n - self.sx;
            let dy = y * self.n - self.sy;
            self.sxx += dx * dx * scale;
            self.syy += dy * dy * scale;
            self.sxy += dx * dy * scale;
        }
        if !x.is_finite() {
            self.sxx = f64::NAN;
            self.sxy = f64::NAN;
        }
        if !y.is_finite() {
            self.syy = f64::NAN;
            self.sxy = f64::NAN;
        }
    }

    fn merge(&mut self, other: &Self) {
        if other.n == 0.0 {
            return;
        }
        if self.n == 0.0 {
            *self = *other;
            return;
        }
        let n = self.n + other.n;
        let dx = self.sx / self.n - other.sx / other.n;
        let dy = self.sy / self.n - other.sy / other.n;
        let weight = self.n * other.n / n;
        self.sxx += other.sxx + weight * dx * dx;
        self.syy += other.syy + weight * dy * dy;
        self.sxy += other.sxy + weight * dx * dy;
        self.sx += other.sx;
        self.sy += other.sy;
        self.n = n;
    }
}

#[derive(Clone, Copy)]
enum Wanted {
    Spread(Spread),
    Count,
    Sxx,
    Syy,
    Sxy,
    AvgX,
    AvgY,
    CovarPop,
    CovarSamp,
    Corr,
    R2,
    Slope,
    Intercept,
}

/// Float statistics of one or two variables.
struct Float {
    moments: Moments,
    wanted: Wanted,
}

impl AggregateState for Float {
    fn update(&mut self, args: &[Datum]) -> Result<(), SqlError> {
        let float = |i: usize| match args.get(i) {
            Some(Datum::Float8(v)) => Some(*v),
            Some(Datum::Float4(v)) => Some(f64::from(*v)),
            _ => None,
        };
        match (float(0), float(1), args.len()) {
            (Some(x), _, 1) => self.moments.add(0.0, x),
            (Some(y), Some(x), _) => self.moments.add(y, x),
            _ => {}
        }
        Ok(())
    }
    fn merge(&mut self, partial: &[Datum]) -> Result<(), SqlError> {
        if let [
            Datum::Float8(n),
            Datum::Float8(sx),
            Datum::Float8(sxx),
            Datum::Float8(sy),
            Datum::Float8(syy),
            Datum::Float8(sxy),
        ] = partial
        {
            self.moments.merge(&Moments {
                n: *n,
                sx: *sx,
                sxx: *sxx,
                sy: *sy,
                syy: *syy,
                sxy: *sxy,
            });
        }
        Ok(())
    }
    fn partial(&self) -> Result<Vec<Datum>, SqlError> {
        let m = &self.moments;
        Ok([m.n, m.sx, m.sxx, m.sy, m.syy, m.sxy]
            .into_iter()
            .map(Datum::Float8)
            .collect())
    }
    fn finish(&self) -> Result<Datum, SqlError> {
        let m = &self.moments;
        let some = |v: f64| Ok(Datum::Float8(v));
        if let Wanted::Count = self.wanted {
            return Ok(Datum::Int8(m.n as i64));
        }
        if m.n < 1.0 {
            return Ok(Datum::Null);
        }
        match self.wanted {
            Wanted::Count => Ok(Datum::Int8(m.n as i64)),
            Wanted::Spread(Spread { sample, root }) => {
                if sample && m.n <= 1.0 {
                    return Ok(Datum::Null);
                }
                let variance = m.sxx / if sample { m.n - 1.0 } else { m.n };
                some(if root { variance.sqrt() } else { variance })
            }
            Wanted::Sxx => some(m.sxx),
            Wanted::Syy => some(m.syy),
            Wanted::Sxy => some(m.sxy),
            Wanted::AvgX => some(m.sx / m.n),
            Wanted::AvgY => some(m.sy / m.n),
            Wanted::CovarPop => some(m.sxy / m.n),
            Wanted::CovarSamp if m.n < 2.0 => Ok(Datum::Null),
            Wanted::CovarSamp => some(m.sxy / (m.n - 1.0)),
            Wanted::Corr if m.sxx == 0.0 || m.syy == 0.0 => Ok(Datum::Null),
            Wanted::Corr => some(m.sxy / (m.sxx * m.syy).sqrt()),
            Wanted::R2 if m.sxx == 0.0 => Ok(Datum::Null),
            Wanted::R2 if m.syy == 0.0 => some(1.0),
            Wanted::R2 => some((m.sxy * m.sxy) / (m.sxx * m.syy)),
            Wanted::Slope if m.sxx == 0.0 => Ok(Datum::Null),
            Wanted::Slope => some(m.sxy / m.sxx),
            Wanted::Intercept if m.sxx == 0.0 => Ok(Datum::Null),
            Wanted::Intercept => some((m.sy - m.sx * m.sxy / m.sxx) / m.n),
        }
    }
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

fn exact(sample: bool, root: bool) -> State {
    Box::new(Exact {
        sum: NumericSum::default(),
        squares: NumericSum::default(),
        kind: Spread { sample, root },
    })
}
fn float(wanted: Wanted) -> State {
    Box::new(Float {
        moments: Moments::default(),
        wanted,
    })
}

type Start = fn(&[PgType]) -> State;

/// The aggregates of this file.
pub(super) fn body(name: &str, args: &[Oid]) -> Option<AggregateImpl> {
    const SIX: &[Oid] = &[Oid::FLOAT8; 6];
    let floats = args.iter().all(|a| matches!(*a, Oid::FLOAT4 | Oid::FLOAT8));
    let spread = |exact: Start, float: Start| {
        let (start, partial): (Start, &'static [Oid]) = if floats {
            (float, SIX)
        } else {
            (exact, &[Oid::NUMERIC, Oid::NUMERIC, Oid::INT8])
        };
        AggregateImpl {
            start,
            partial,
            strict: true,
            native: None,
        }
    };
    macro_rules! kinds {
        ($sample:literal, $root:literal) => {
            Some(spread(
                |_| exact($sample, $root),
                |_| {
                    float(Wanted::Spread(Spread {
                        sample: $sample,
                        root: $root,
                    }))
                },
            ))
        };
    }
    macro_rules! two {
        ($wanted:ident) => {
            Some(AggregateImpl {
                start: |_| float(Wanted::$wanted),
                partial: SIX,
                strict: true,
                native: None,
            })
        };
    }
    match (name, args.len()) {
        ("variance" | "var_samp", 1) => kinds!(true, false),
        ("var_pop", 1) => kinds!(false, false),
        ("stddev" | "stddev_samp", 1) => kinds!(true, true),
        ("stddev_pop", 1) => kinds!(false, true),
        ("regr_count", 2) => two!(Count),
        ("regr_sxx", 2) => two!(Sxx),
        ("regr_syy", 2) => two!(Syy),
        ("regr_sxy", 2) => two!(Sxy),
        ("regr_avgx", 2) => two!(AvgX),
        ("regr_avgy", 2) => two!(AvgY),
        ("covar_pop", 2) => two!(CovarPop),
        ("covar_samp", 2) => two!(CovarSamp),
        ("corr", 2) => two!(Corr),
        ("regr_r2", 2) => two!(R2),
        ("regr_slope", 2) => two!(Slope),
        ("regr_intercept", 2) => two!(Intercept),
        _ => None,
    }
}

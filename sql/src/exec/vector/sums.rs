//! sum and avg with a numeric result, as aggregates of DataFusion.
//!
//! DataFusion's own would wrap or give another type: the sum of int8 and the average of integers
//! are numeric in PostgreSQL. The sums are the exact ones of [`NumericSum`].

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryBuilder, BooleanArray,
    Int64Array,
};
use arrow::datatypes::{DataType, Field, FieldRef, Int16Type, Int32Type, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

use crate::exec::error::into_datafusion;
use crate::table::damaged;
use crate::types::numeric::{Numeric, NumericSum};

/// Whether the sum or the average is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Exact {
    /// The sum.
    Sum,
    /// The average.
    Average,
}

/// sum or avg of integers or numeric, with a numeric result.
pub fn exact(what: Exact) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(ExactAggregate {
        what,
        signature: Signature::any(1, Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactAggregate {
    what: Exact,
    signature: Signature,
}

impl AggregateUDFImpl for ExactAggregate {
    fn name(&self) -> &str {
        match self.what {
            Exact::Sum => "exact_sum",
            Exact::Average => "exact_avg",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field =
            |part: &str, ty| Arc::new(Field::new(format!("{}[{part}]", args.name), ty, true));
        Ok(vec![
            field("sum", DataType::Binary),
            field("count", DataType::Int64),
        ])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One {
            what: self.what,
            sum: NumericSum::default(),
        }))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Many {
            what: self.what,
            sums: Vec::new(),
        }))
    }
}

fn result(what: Exact, sum: &NumericSum) -> Result<Option<Vec<u8>>> {
    if sum.count() == 0 {
        return Ok(None);
    }
    let value = match what {
        Exact::Sum => sum.total(),
        Exact::Average => sum.average(),
    };
    Ok(Some(bytes_of(&value.map_err(into_datafusion)?)))
}

fn bytes_of(value: &Numeric) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.append_bytes(&mut bytes);
    bytes
}

/// Calls `add` with each number that is not NULL and its row.
fn each(array: &ArrayRef, mut add: impl FnMut(usize, Number<'_>) -> Result<()>) -> Result<()> {
    fn integers<T: ArrowPrimitiveType<Native: Into<i64>>>(
        array: &ArrayRef,
        add: &mut dyn FnMut(usize, Number<'_>) -> Result<()>,
    ) -> Result<()> {
        for (row, value) in array.as_primitive::<T>().iter().enumerate() {
            if let Some(value) = value {
                add(row, Number::Integer(value.into()))?;
            }
        }
        Ok(())
    }
    match array.data_type() {
        DataType::Int16 => integers::<Int16Type>(array, &mut add),
        DataType::Int32 => integers::<Int32Type>(array, &mut add),
        DataType::Int64 => integers::<Int64Type>(array, &mut add),
        _ => {
            for (row, bytes) in array.as_binary::<i32>().iter().enumerate() {
                if let Some(bytes) = bytes {
                    add(row, Number::Exact(bytes))?;
                }
            }
            Ok(())
        }
    }
}

/// A number of the input.
enum Number<'a> {
    Integer(i64),
    /// The stored form of a numeric.
    Exact(&'a [u8]),
}

impl Number<'_> {
    fn add_to(&self, sum: &mut NumericSum) -> Result<()> {
        match self {
            Self::Integer(value) => sum.add_integer(i128::from(*value)),
            Self::Exact(bytes) => sum.add(&numeric(bytes)?),
        }
        Ok(())
    }
}

fn numeric(bytes: &[u8]) -> Result<Numeric> {
    Numeric::from_bytes(bytes).ok_or_else(|| into_datafusion(damaged()))
}

/// Without groups.
#[derive(Debug)]
struct One {
    what: Exact,
    sum: NumericSum,
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(array) = values.first() else {
            return Ok(());
        };
        // A batch of integers cannot leave 128 bits.
        if let Some(integers) = array.as_primitive_opt::<Int64Type>()
            && integers.null_count() == 0
        {
            let total: i128 = integers.values().iter().map(|v| i128::from(*v)).sum();
            if !integers.is_empty() {
                let total = Numeric::Small {
                    unscaled: total,
                    scale: 0,
                };
                self.sum.merge(&total, integers.len() as u64);
            }
            return Ok(());
        }
        each(array, |_, number| number.add_to(&mut self.sum))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(result(self.what, &self.sum)?))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let total = self.sum.total().map_err(into_datafusion)?;
        Ok(vec![
            ScalarValue::Binary(Some(bytes_of(&total))),
            ScalarValue::Int64(Some(self.sum.count().cast_signed())),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        merge(states, |_, total, count| self.sum.merge(&total, count))
    }
}

/// Calls `take` with each partial sum, its row and its count.
fn merge(states: &[ArrayRef], mut take: impl FnMut(usize, Numeric, u64)) -> Result<()> {
    let [sums, counts] = states else {
        return Ok(());
    };
    let (sums, counts) = (sums.as_binary::<i32>(), counts.as_primitive::<Int64Type>());
    for (row, (sum, count)) in sums.iter().zip(counts).enumerate() {
        let count = count.unwrap_or(0).cast_unsigned();
        if let Some(sum) = sum.filter(|_| count > 0) {
            take(row, numeric(sum)?, count);
        }
    }
    Ok(())
}

/// A sum for each group.
#[derive(Debug)]
struct Many {
    what: Exact,
    sums: Vec<NumericSum>,
}

impl GroupsAccumulator for Many {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.sums.resize_with(total_groups, NumericSum::default);
        let Some(array) = values.first() else {
            return Ok(());
        };
        let taken = |row| filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        each(array, |row, number| {
            let group = groups.get(row).filter(|_| taken(row));
            match group.and_then(|group| self.sums.get_mut(*group)) {
                Some(sum) => number.add_to(sum),
                None => Ok(()),
            }
        })
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut built = BinaryBuilder::new();
        for sum in emit_to.take_needed(&mut self.sums) {
            built.append_option(result(self.what, &sum)?);
        }
        Ok(Arc::new(built.finish()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = emit_to.take_needed(&mut self.sums);
        let counts = sums.iter().map(|sum| sum.count().cast_signed());
        let counts: Int64Array = counts.collect::<Vec<_>>().into();
        let totals = sums.iter().map(|sum| sum.total().map(|t| bytes_of(&t)));
        let totals = totals
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(into_datafusion)?;
        let totals = BinaryArray::from_iter_values(totals);
        Ok(vec![Arc::new(totals), Arc::new(counts)])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        total_groups: usize,
    ) -> Result<()> {
        self.sums.resize_with(total_groups, NumericSum::default);
        merge(values, |row, total, count| {
            if let Some(sum) = groups.get(row).and_then(|group| self.sums.get_mut(*group)) {
                sum.merge(&total, count);
            }
        })
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, Array::len);
        let groups: Vec<usize> = (0..rows).collect();
        let mut each_row = Self {
            what: self.what,
            sums: Vec::new(),
        };
        each_row.update_batch(values, &groups, filter, rows)?;
        each_row.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<NumericSum>()
    }
}

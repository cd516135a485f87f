//! Evaluates a bound expression on one row.
//!
//! Three-valued logic, laziness of CASE, COALESCE, AND and OR, and everything else follow
//! PostgreSQL; functions and casts come from the registry, so that this and the column-wise
//! evaluation share their bodies. Subqueries are not run here: whoever owns the row has run them
//! and answers [`Row::subquery`].

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::bind::tree::{CastKind, ColId, Expr, Subquery, SubqueryKind};
use crate::error::{SqlError, SqlState};
use crate::types::registry::{Comparison, EvalContext, Function, FunctionBody, registry};
use crate::types::{ArrayValue, Datum, Oid, PgType, io, typmod};

/// The columns that an expression may name.
pub trait Row {
    /// The value of a column; `None` if there is no such column here.
    fn column(&self, id: ColId) -> Option<Datum>;
    /// The result of a subquery, if it was run for this row.
    fn subquery(&self, _query: &Subquery) -> Option<Arc<SubqueryRows>> {
        None
    }
}

/// A row without columns.
pub struct NoRow;

impl Row for NoRow {
    fn column(&self, _: ColId) -> Option<Datum> {
        None
    }
}

/// What a subquery gave.
#[derive(Debug, Default)]
pub struct SubqueryRows {
    /// The columns that count, of each row.
    pub rows: Vec<Vec<Datum>>,
    /// Sort keys of the rows without NULL, where equality with the left side can use them.
    pub keys: Option<HashSet<Vec<u8>>>,
    /// Whether a row has a NULL (meaningful with `keys`).
    pub has_null: bool,
}

/// Evaluates `expr` on `row`.
pub fn eval(
    expr: &Expr,
    row: &dyn Row,
    cx: &dyn EvalContext,
    params: &[Datum],
) -> Result<Datum, SqlError> {
    Interpreter { row, cx, params }.eval(expr)
}

/// Whether a predicate is true on `row`.
pub fn holds(
    expr: &Expr,
    row: &dyn Row,
    cx: &dyn EvalContext,
    params: &[Datum],
) -> Result<bool, SqlError> {
    Ok(matches!(eval(expr, row, cx, params)?, Datum::Bool(true)))
}

/// Calls a scalar function on values.
pub fn call(function: &Function, args: &[Datum], cx: &dyn EvalContext) -> Result<Datum, SqlError> {
    if function.strict && args.iter().any(Datum::is_null) {
        return Ok(Datum::Null);
    }
    match &function.body {
        FunctionBody::Scalar { eval, .. } => eval(cx, args),
        _ => Err(SqlError::internal(format!(
            "{} is not a scalar function",
            function.name
        ))),
    }
}

/// Casts one value.
pub fn cast(
    value: Datum,
    from: PgType,
    kind: &CastKind,
    ty: PgType,
    explicit: bool,
    cx: &dyn EvalContext,
) -> Result<Datum, SqlError> {
    if value.is_null() {
        // A cast function that is not strict does not exist.
        return Ok(Datum::Null);
    }
    match kind {
        CastKind::Function(function) => call(function, &[value], cx),
        CastKind::Binary => Ok(relabel(value, ty.oid)),
        CastKind::InOut => {
            let mut text = String::new();
            match &value {
                Datum::Text(s) if !is_array(from.oid) && from.oid != Oid::BPCHAR => {
                    return io::input(s, ty, cx);
                }
                _ => io::output(&value, from, cx, &mut text),
            }
            io::input(&text, ty, cx)
        }
        CastKind::Typmod => typmod::apply(value, ty, explicit),
        CastKind::Array(inner) => {
            let Datum::Array(array) = &value else {
                return Err(SqlError::internal("an array cast of something else"));
            };
            let element = registry()
                .type_info(ty.oid)
                .map_or(Oid::INVALID, |t| t.element);
            let items = array
                .items
                .iter()
                .map(|item| {
                    cast(
                        item.clone(),
                        PgType::new(array.element),
                        inner,
                        PgType::with_typmod(element, ty.typmod),
                        explicit,
                        cx,
                    )
                })
                .collect::<Result<Vec<_>, _>>()?;
            Ok(Datum::Array(Arc::new(ArrayValue {
                element,
                dims: array.dims.clone(),
                items,
            })))
        }
    }
}

fn is_array(oid: Oid) -> bool {
    registry()
        .type_info(oid)
        .is_some_and(|t| t.element != Oid::INVALID)
}

/// A value under a type of the same bytes.
pub fn relabel(value: Datum, oid: Oid) -> Datum {
    use arrow::datatypes::DataType;
    match (&value, crate::types::arrow::arrow_type(oid)) {
        (Datum::Int4(v), DataType::UInt32) => Datum::Oid(Oid(v.cast_unsigned())),
        (Datum::Oid(v), DataType::Int32) => Datum::Int4(v.0.cast_signed()),
        (Datum::Text(v), DataType::Binary) => {
            Datum::Bytea(bytes::Bytes::copy_from_slice(v.as_bytes()))
        }
        (Datum::Array(v), _) => match registry().type_info(oid).map(|t| t.element) {
            Some(element) if element != Oid::INVALID && element != v.element => {
                Datum::Array(Arc::new(ArrayValue {
                    element,
                    dims: v.dims.clone(),
                    items: v
                        .items
                        .iter()
                        .map(|i| relabel(i.clone(), element))
                        .collect(),
                }))
            }
            _ => value,
        },
        _ => value,
    }
}

/// Whether an ordering satisfies a comparison.
pub fn satisfies(comparison: Comparison, ordering: Ordering) -> bool {
    match comparison {
        Comparison::Eq => ordering.is_eq(),
        Comparison::Ne => ordering.is_ne(),
        Comparison::Lt => ordering.is_lt(),
        Comparison::Le => ordering.is_le(),
        Comparison::Gt => ordering.is_gt(),
        Comparison::Ge => ordering.is_ge(),
    }
}

/// Compares two values through a comparison operator.
pub fn compare_by(
    function: &Function,
    comparison: Option<Comparison>,
    left: &Datum,
    right: &Datum,
    cx: &dyn EvalContext,
) -> Result<Datum, SqlError> {
    if let Some(c) = comparison {
        // The usual types without a call.
        let ordering = match (left, right) {
            (Datum::Int4(a), Datum::Int4(b)) => Some(a.cmp(b)),
            (Datum::Int8(a), Datum::Int8(b)) => Some(a.cmp(b)),
            (Datum::Bool(a), Datum::Bool(b)) => Some(a.cmp(b)),
            (Datum::Oid(a), Datum::Oid(b)) => Some(a.cmp(b)),
            (Datum::Null, _) | (_, Datum::Null) => return Ok(Datum::Null),
            _ => None,
        };
        if let Some(ordering) = ordering {
            return Ok(Datum::Bool(satisfies(c, ordering)));
        }
    }
    call(function, &[left.clone(), right.clone()], cx)
}

struct Interpreter<'a> {
    row: &'a dyn Row,
    cx: &'a dyn EvalContext,
    params: &'a [Datum],
}

impl Interpreter<'_> {
    fn eval(&self, expr: &Expr) -> Result<Datum, SqlError> {
        match expr {
            Expr::Const(value, _) => Ok(value.clone()),
            Expr::Param(n, _) => self.params.get(*n).cloned().ok_or_else(|| {
                SqlError::new(
                    SqlState::UNDEFINED_PARAMETER,
                    format!("there is no parameter ${}", n + 1),
                )
            }),
            Expr::Column(id, _) => self
                .row
                .column(*id)
                .ok_or_else(|| SqlError::internal(format!("column {} is not in scope", id.0))),
            Expr::Call {
                function,
                args,
                comparison,
                ..
            } => match (comparison, args.as_slice()) {
                (Some(c), [left, right]) => {
                    let (left, right) = (self.eval(left)?, self.eval(right)?);
                    compare_by(function, Some(*c), &left, &right, self.cx)
                }
                _ => {
                    let mut values = SmallVec::<[Datum; 4]>::with_capacity(args.len());
                    for arg in args {
                        values.push(self.eval(arg)?);
                    }
                    call(function, &values, self.cx)
                }
            },
            Expr::Cast {
                arg,
                kind,
                ty,
                explicit,
            } => cast(self.eval(arg)?, arg.ty(), kind, *ty, *explicit, self.cx),
            Expr::And(items) => self.connective(items, false),
            Expr::Or(items) => self.connective(items, true),
            Expr::Not(arg) => Ok(match self.eval(arg)? {
                Datum::Bool(b) => Datum::Bool(!b),
                _ => Datum::Null,
            }),
            Expr::IsNull { arg, negated } => Ok(Datum::Bool(match self.eval(arg)? {
                Datum::Record(fields) if *negated => fields.iter().all(|(_, v)| !v.is_null()),
                Datum::Record(fields) => fields.iter().all(|(_, v)| v.is_null()),
                value => value.is_null() != *negated,
            })),
            Expr::IsBool {
                arg,
                value,
                negated,
            } => {
                let is = self.eval(arg)?.as_bool() == *value;
                Ok(Datum::Bool(is != *negated))
            }
            Expr::IsDistinct {
                left,
                right,
                equals,
                negated,
            } => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                let distinct = match (left.is_null(), right.is_null()) {
                    (true, true) => false,
                    (false, false) => {
                        call(equals, &[left, right], self.cx)?.as_bool() != Some(true)
                    }
                    _ => true,
                };
                Ok(Datum::Bool(distinct != *negated))
            }
            Expr::Case {
                whens, otherwise, ..
            } => {
                for (condition, result) in whens {
                    if matches!(self.eval(condition)?, Datum::Bool(true)) {
                        return self.eval(result);
                    }
                }
                otherwise.as_ref().map_or(Ok(Datum::Null), |e| self.eval(e))
            }
            Expr::Coalesce(items, _) => {
                for item in items {
                    let value = self.eval(item)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Ok(Datum::Null)
            }
            Expr::Extreme {
                args,
                less,
                greatest,
                ..
            } => self.extreme(args, less, *greatest),
            Expr::ArrayCompare {
                left,
                function,
                comparison,
                array,
                all,
            } => self.array_compare(left, function, *comparison, array, *all),
            Expr::Array { items, ty } => self.array(items, *ty),
            Expr::Subscript {
                array,
                bounds,
                slice,
                ..
            } => self.subscript(array, bounds, *slice),
            Expr::Row(items) => {
                let fields = items
                    .iter()
                    .map(|e| Ok((e.ty().oid, self.eval(e)?)))
                    .collect::<Result<Vec<_>, SqlError>>()?;
                Ok(Datum::Record(fields.into()))
            }
            Expr::Field { record, index, .. } => Ok(match self.eval(record)? {
                Datum::Record(fields) => fields.get(*index).map_or(Datum::Null, |(_, v)| v.clone()),
                _ => Datum::Null,
            }),
            Expr::Subquery(query) => {
                let rows = self
                    .row
                    .subquery(query)
                    .ok_or_else(|| SqlError::unsupported("a subquery in this place"))?;
                self.subquery(query, &rows)
            }
        }
    }

    /// AND (`decisive` false) or OR (`decisive` true).
    fn connective(&self, items: &[Expr], decisive: bool) -> Result<Datum, SqlError> {
        let mut unknown = false;
        for item in items {
            match self.eval(item)? {
                Datum::Bool(b) if b == decisive => return Ok(Datum::Bool(decisive)),
                Datum::Null => unknown = true,
                _ => {}
            }
        }
        Ok(if unknown {
            Datum::Null
        } else {
            Datum::Bool(!decisive)
        })
    }

    fn extreme(&self, args: &[Expr], less: &Function, greatest: bool) -> Result<Datum, SqlError> {
        let mut best = Datum::Null;
        for arg in args {
            let value = self.eval(arg)?;
            if value.is_null() {
                continue;
            }
            if best.is_null() {
                best = value;
                continue;
            }
            let pair = if greatest {
                [best.clone(), value.clone()]
            } else {
                [value.clone(), best.clone()]
            };
            if call(less, &pair, self.cx)?.as_bool() == Some(true) {
                best = value;
            }
        }
        Ok(best)
    }

    fn array_compare(
        &self,
        left: &Expr,
        function: &Function,
        comparison: Option<Comparison>,
        array: &Expr,
        all: bool,
    ) -> Result<Datum, SqlError> {
        let left = self.eval(left)?;
        let mut fold = Quantified::new(all);
        match array {
            Expr::Array { items, .. } if items.iter().all(|i| !is_array(i.ty().oid)) => {
                for item in items {
                    let right = self.eval(item)?;
                    if fold.take(&compare_by(function, comparison, &left, &right, self.cx)?) {
                        break;
                    }
                }
            }
            _ => match self.eval(array)? {
                Datum::Array(values) => {
                    for right in &values.items {
                        if fold.take(&compare_by(function, comparison, &left, right, self.cx)?) {
                            break;
                        }
                    }
                }
                _ => return Ok(Datum::Null),
            },
        }
        Ok(fold.result())
    }

    fn array(&self, items: &[Expr], ty: PgType) -> Result<Datum, SqlError> {
        let element = registry()
            .type_info(ty.oid)
            .map_or(Oid::INVALID, |t| t.element);
        let nested = items
            .first()
            .is_some_and(|i| is_array(i.ty().oid) && i.ty().oid == ty.oid);
        let values = items
            .iter()
            .map(|i| self.eval(i))
            .collect::<Result<Vec<_>, _>>()?;
        if !nested {
            return Ok(Datum::Array(Arc::new(ArrayValue::vector(element, values))));
        }
        let mut out = ArrayValue {
            element,
            dims: Vec::new(),
            items: Vec::new(),
        };
        let mut inner: Option<Vec<(i32, i32)>> = None;
        for value in &values {
            let Datum::Array(part) = value else { continue };
            if inner.as_ref().is_some_and(|d| *d != part.dims) {
                return Err(SqlError::new(
                    SqlState::ARRAY_SUBSCRIPT_ERROR,
                    "multidimensional arrays must have array expressions with matching dimensions",
                ));
            }
            inner = Some(part.dims.clone());
            out.items.extend(part.items.iter().cloned());
        }
        if let Some(inner) = inner.filter(|d| !d.is_empty()) {
            let length = i32::try_from(values.len()).unwrap_or(i32::MAX);
            out.dims.push((length, 1));
            out.dims.extend(inner);
        }
        Ok(Datum::Array(Arc::new(out)))
    }

    fn subscript(
        &self,
        array: &Expr,
        bounds: &[(Option<Expr>, Option<Expr>)],
        slice: bool,
    ) -> Result<Datum, SqlError> {
        let Datum::Array(array) = self.eval(array)? else {
            return Ok(Datum::Null);
        };
        let mut wanted = Vec::with_capacity(bounds.len());
        for (low, high) in bounds {
            let mut pair = [None, None];
            for (place, bound) in pair.iter_mut().zip([low, high]) {
                if let Some(bound) = bound {
                    match self.eval(bound)?.as_i64() {
                        Some(v) => *place = Some(v),
                        None => return Ok(Datum::Null),
                    }
                }
            }
            wanted.push(pair);
        }
        if slice {
            Ok(cut(&array, &wanted))
        } else {
            Ok(element(&array, &wanted))
        }
    }

    fn subquery(&self, query: &Subquery, found: &SubqueryRows) -> Result<Datum, SqlError> {
        match &query.kind {
            SubqueryKind::Exists => Ok(Datum::Bool(!found.rows.is_empty())),
            SubqueryKind::Scalar => match found.rows.as_slice() {
                [] => Ok(Datum::Null),
                [row] => Ok(row.first().cloned().unwrap_or_default()),
                _ => Err(SqlError::new(
                    SqlState::CARDINALITY_VIOLATION,
                    "more than one row returned by a subquery used as an expression",
                )),
            },
            SubqueryKind::Array => {
                let element = registry()
                    .type_info(query.ty.oid)
                    .map_or(Oid::INVALID, |t| t.element);
                let items = found
                    .rows
                    .iter()
                    .map(|r| r.first().cloned().unwrap_or_default())
                    .collect();
                Ok(Datum::Array(Arc::new(ArrayValue::vector(element, items))))
            }
            SubqueryKind::Compare {
                left,
                functions,
                comparison,
                all,
            } => {
                let left = left
                    .iter()
                    .map(|e| self.eval(e))
                    .collect::<Result<Vec<_>, _>>()?;
                if let Some(keys) = &found.keys
                    && !left.iter().any(Datum::is_null)
                {
                    let mut key = Vec::new();
                    for (value, column) in left.iter().zip(&query.columns) {
                        crate::types::sort_key::append(value, column.ty.oid, &mut key);
                    }
                    if keys.contains(&key) {
                        return Ok(Datum::Bool(!all));
                    }
                    if !found.has_null {
                        return Ok(Datum::Bool(*all));
                    }
                }
                let mut fold = Quantified::new(*all);
                for row in &found.rows {
                    if fold.take(&self.compare_rows(&left, row, functions, *comparison)?) {
                        break;
                    }
                }
                Ok(fold.result())
            }
        }
    }

    /// Compares rows column by column as PostgreSQL's row comparison does.
    fn compare_rows(
        &self,
        left: &[Datum],
        right: &[Datum],
        functions: &[&'static Function],
        comparison: Comparison,
    ) -> Result<Datum, SqlError> {
        let single = functions.len() == 1;
        let mut unknown = false;
        for ((l, r), function) in left.iter().zip(right).zip(functions) {
            if !single && !matches!(comparison, Comparison::Eq | Comparison::Ne) {
                if l.is_null() || r.is_null() {
                    return Ok(Datum::Null);
                }
                match crate::types::compare(l, r) {
                    Ordering::Equal => continue,
                    ordering => return Ok(Datum::Bool(satisfies(comparison, ordering))),
                }
            }
            let result = compare_by(function, Some(comparison), l, r, self.cx)?;
            match (result.as_bool(), comparison) {
                _ if single => return Ok(result),
                (Some(false), Comparison::Eq) | (Some(true), Comparison::Ne) => {
                    return Ok(result);
                }
                (None, _) => unknown = true,
                _ => {}
            }
        }
        Ok(match comparison {
            _ if unknown => Datum::Null,
            Comparison::Eq | Comparison::Le | Comparison::Ge => Datum::Bool(true),
            _ => Datum::Bool(false),
        })
    }
}

/// ANY or ALL over truth values.
struct Quantified {
    all: bool,
    decided: bool,
    unknown: bool,
}

impl Quantified {
    fn new(all: bool) -> Self {
        Self {
            all,
            decided: false,
            unknown: false,
        }
    }

    /// Takes one truth value; true when the result is decided.
    fn take(&mut self, value: &Datum) -> bool {
        match value {
            Datum::Bool(b) if *b != self.all => self.decided = true,
            Datum::Bool(_) => {}
            _ => self.unknown = true,
        }
        self.decided
    }

    fn result(&self) -> Datum {
        if self.decided {
            Datum::Bool(!self.all)
        } else if self.unknown {
            Datum::Null
        } else {
            Datum::Bool(self.all)
        }
    }
}

fn element(array: &ArrayValue, wanted: &[[Option<i64>; 2]]) -> Datum {
    if wanted.len() != array.dims.len() {
        return Datum::Null;
    }
    let mut at: usize = 0;
    for ([_, index], (length, lower)) in wanted.iter().zip(&array.dims) {
        let offset = index.and_then(|i| i.checked_sub(i64::from(*lower)));
        let Some(offset) = offset.filter(|o| *o >= 0 && *o < i64::from(*length)) else {
            return Datum::Null;
        };
        at = at * usize::try_from(*length).unwrap_or(0) + usize::try_from(offset).unwrap_or(0);
    }
    array.items.get(at).cloned().unwrap_or_default()
}

fn cut(array: &ArrayValue, wanted: &[[Option<i64>; 2]]) -> Datum {
    let empty = || Datum::Array(Arc::new(ArrayValue::vector(array.element, Vec::new())));
    if wanted.len() > array.dims.len() {
        return empty();
    }
    // For each dimension the first offset and the number of elements.
    let mut ranges = Vec::with_capacity(array.dims.len());
    for (d, (length, lower)) in array.dims.iter().enumerate() {
        let (first, last) = (
            i64::from(*lower),
            i64::from(*lower) + i64::from(*length) - 1,
        );
        let [low, high] = wanted.get(d).copied().unwrap_or([None, None]);
        let low = low.unwrap_or(first).max(first);
        let high = high.unwrap_or(last).min(last);
        if low > high {
            return empty();
        }
        let at = usize::try_from(low - first).unwrap_or(0);
        ranges.push((at, usize::try_from(high - low + 1).unwrap_or(0)));
    }
    let mut offsets = vec![0_usize];
    for ((at, count), (length, _)) in ranges.iter().zip(&array.dims) {
        let length = usize::try_from(*length).unwrap_or(0);
        offsets = offsets
            .iter()
            .flat_map(|o| (*at..at + count).map(move |i| o * length + i))
            .collect();
    }
    let items = offsets
        .iter()
        .map(|o| array.items.get(*o).cloned().unwrap_or_default())
        .collect();
    let dims = ranges
        .iter()
        .map(|(_, n)| (i32::try_from(*n).unwrap_or(0), 1))
        .collect();
    Datum::Array(Arc::new(ArrayValue {
        element: array.element,
        dims,
        items,
    }))
}

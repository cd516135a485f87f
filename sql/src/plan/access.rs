//! Which keys a scan reads: conditions of the form `column op value` become terms on the leading
//! columns of the primary storage or of an index, and, when the values are known, key spans.
//!
//! Invariant: the spans cover exactly the rows for which the consumed conditions are true, so a
//! consumed condition is not evaluated again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use pontoon_kv::{Key, Span};

use crate::bind::tree::{CastKind, ColId, Expr};
use crate::catalog::desc::{IndexDesc, TableDesc};
use crate::error::SqlError;
use crate::exec::interp::{Row, eval};
use crate::table::key;
use crate::types::registry::{Comparison, EvalContext};
use crate::types::{Datum, Oid};

use super::free;
use super::node::{Access, KeyAccess, KeyRange, KeyTerm};

/// Rows guessed for a table of which nothing is known.
pub const UNKNOWN_ROWS: f64 = 1_000.0;
/// Combinations of IN lists beyond this are not turned into keys.
const COMBINATIONS_MAX: usize = 4_096;

/// What a condition says of one column.
enum Bound {
    Term(KeyTerm),
    Low(Expr, bool),
    High(Expr, bool),
}

fn is_int(oid: Oid) -> bool {
    matches!(oid, Oid::INT2 | Oid::INT4 | Oid::INT8)
}

fn is_text(oid: Oid) -> bool {
    matches!(oid, Oid::TEXT | Oid::VARCHAR)
}

/// Whether values of both types have, or can be given, the same sort key.
pub fn comparable(a: Oid, b: Oid) -> bool {
    a == b || (is_int(a) && is_int(b)) || (is_text(a) && is_text(b))
}

/// Takes away casts that do not change the sort key.
pub fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast {
            arg,
            kind: CastKind::Binary,
            ty,
            ..
        } if is_text(ty.oid) && is_text(arg.ty().oid) => strip(arg),
        other => other,
    }
}

fn recognise(condition: &Expr, local: &BTreeMap<ColId, usize>) -> Option<(usize, Bound)> {
    let column = |e: &Expr| match strip(e) {
        Expr::Column(id, ty) => local.get(id).map(|p| (*p, ty.oid)),
        _ => None,
    };
    let constant = |e: &Expr| {
        !e.has_subquery()
            && !free::is_volatile(e)
            && !e.columns().iter().any(|id| local.contains_key(id))
    };
    match condition {
        Expr::Call {
            args,
            comparison: Some(comparison),
            ..
        } => {
            let [left, right] = args.as_slice() else {
                return None;
            };
            let (position, oid, value, comparison) = if let Some((p, oid)) = column(left) {
                (p, oid, right, *comparison)
            } else {
                let (p, oid) = column(right)?;
                let flipped = match comparison {
                    Comparison::Lt => Comparison::Gt,
                    Comparison::Le => Comparison::Ge,
                    Comparison::Gt => Comparison::Lt,
                    Comparison::Ge => Comparison::Le,
                    same => *same,
                };
                (p, oid, left, flipped)
            };
            let value = strip(value);
            if !constant(value) || !comparable(oid, value.ty().oid) {
                return None;
            }
            let value = value.clone();
            let bound = match comparison {
                Comparison::Eq => Bound::Term(KeyTerm::Equal(value)),
                Comparison::Lt => Bound::High(value, false),
                Comparison::Le => Bound::High(value, true),
                Comparison::Gt => Bound::Low(value, false),
                Comparison::Ge => Bound::Low(value, true),
                Comparison::Ne => return None,
            };
            Some((position, bound))
        }
        Expr::ArrayCompare {
            left,
            comparison: Some(Comparison::Eq),
            array,
            all: false,
            ..
        } => {
            let (position, oid) = column(left)?;
            if !constant(array) {
                return None;
            }
            let element = crate::types::registry::registry()
                .type_info(array.ty().oid)
                .map_or(Oid::INVALID, |t| t.element);
            if !comparable(oid, element) {
                return None;
            }
            let term = match array.as_ref() {
                Expr::Array { items, .. } => KeyTerm::AnyOf(items.clone()),
                other => KeyTerm::AnyElement(other.clone()),
            };
            Some((position, Bound::Term(term)))
        }
        Expr::IsNull {
            arg,
            negated: false,
        } => {
            let (position, _) = column(arg)?;
            Some((position, Bound::Term(KeyTerm::IsNull)))
        }
        _ => None,
    }
}

/// Chooses the access of a scan and takes the conditions that it stands for out of `conditions`.
/// `total` is the number of rows of the table as far as known. Also gives a guess of the number
/// of rows before the remaining conditions.
pub fn choose(
    table: &Arc<TableDesc>,
    local: &BTreeMap<ColId, usize>,
    conditions: &mut Vec<Expr>,
    total: f64,
) -> (Access, f64) {
    let bounds: Vec<Option<(usize, Bound)>> =
        conditions.iter().map(|c| recognise(c, local)).collect();
    let mut best: Option<(f64, f64, Candidate)> = None;
    let primary = std::iter::once(None);
    for index in primary.chain(
        table
            .indexes
            .iter()
            .filter(|i| !key::is_primary(i))
            .map(Some),
    ) {
        let Some(candidate) = candidate(table, index, &bounds, total) else {
            continue;
        };
        let fetch = if index.is_some() { 2.0 } else { 1.0 };
        let cost = candidate.rows * fetch;
        if best.as_ref().is_none_or(|(c, ..)| cost < *c) {
            best = Some((cost, candidate.rows, candidate));
        }
    }
    let Some((_, rows, candidate)) = best.filter(|(cost, ..)| *cost < total.max(4.0)) else {
        return (Access::Full, total);
    };
    let mut kept = Vec::with_capacity(conditions.len());
    let mut consumed = Vec::new();
    for (i, condition) in conditions.drain(..).enumerate() {
        if candidate.consumed.contains(&i) {
            &mut consumed
        } else {
            &mut kept
        }
        .push(condition);
    }
    *conditions = kept;
    let access = KeyAccess {
        index: candidate.index,
        equal: candidate.equal,
        range: candidate.range,
        unique: candidate.unique,
        conditions: consumed,
    };
    (Access::Key(access), rows)
}

struct Candidate {
    index: Option<Arc<IndexDesc>>,
    equal: Vec<KeyTerm>,
    range: Option<KeyRange>,
    unique: bool,
    consumed: BTreeSet<usize>,
    rows: f64,
}

fn candidate(
    table: &TableDesc,
    index: Option<&Arc<IndexDesc>>,
    bounds: &[Option<(usize, Bound)>],
    total: f64,
) -> Option<Candidate> {
    let columns: Vec<usize> = match index {
        Some(index) => index.columns.iter().map(|c| c.column).collect(),
        None => table.storage_key.clone(),
    };
    let (mut equal, mut consumed, mut range) = (Vec::new(), BTreeSet::new(), None);
    let (mut rows, mut alternatives, mut nulls) = (total, 1.0, false);
    for column in &columns {
        let term = bounds.iter().enumerate().find_map(|(i, b)| match b {
            Some((p, Bound::Term(term))) if p == column => Some((i, term)),
            _ => None,
        });
        if let Some((i, term)) = term {
            if index.is_none() && matches!(term, KeyTerm::IsNull) {
                break;
            }
            alternatives *= match term {
                KeyTerm::AnyOf(items) => items.len() as f64,
                KeyTerm::AnyElement(_) => 5.0,
                KeyTerm::IsNull => {
                    nulls = true;
                    1.0
                }
                KeyTerm::Equal(_) => 1.0,
            };
            if alternatives > COMBINATIONS_MAX as f64 {
                break;
            }
            rows /= 50.0;
            equal.push(term.clone());
            consumed.insert(i);
            continue;
        }
        let mut found = KeyRange::default();
        for (i, bound) in bounds.iter().enumerate() {
            match bound {
                Some((p, Bound::Low(e, inclusive))) if p == column => {
                    found.low.push((e.clone(), *inclusive));
                    consumed.insert(i);
                }
                Some((p, Bound::High(e, inclusive))) if p == column => {
                    found.high.push((e.clone(), *inclusive));
                    consumed.insert(i);
                }
                _ => {}
            }
        }
        if !(found.low.is_empty() && found.high.is_empty()) {
            rows *= if found.low.is_empty() || found.high.is_empty() {
                0.33
            } else {
                0.1
            };
            range = Some(found);
        }
        break;
    }
    if consumed.is_empty() {
        return None;
    }
    let unique = equal.len() == columns.len() && !nulls && index.is_none_or(|i| i.is_unique());
    let rows = if unique {
        alternatives
    } else {
        (rows * alternatives).clamp(1.0, total.max(1.0))
    };
    Some(Candidate {
        index: index.cloned(),
        equal,
        range,
        unique,
        consumed,
        rows,
    })
}

/// The keys of an access with all values known.
#[derive(Debug)]
pub enum Keys {
    /// Exactly these keys (rows of the primary storage, or entries of a unique index), in order.
    Points(Vec<Key>),
    /// All keys in these spans, in order and without overlap.
    Spans(Vec<Span>),
}

/// A value in the type of a key column.
enum Fit {
    Value(Datum),
    /// Smaller than every value of the column's type.
    Below,
    /// Larger.
    Above,
    Null,
}

fn fit(value: Datum, oid: Oid) -> Fit {
    let narrow = |v: i64| match oid {
        Oid::INT2 => i16::try_from(v).ok().map(Datum::Int2),
        Oid::INT4 => i32::try_from(v).ok().map(Datum::Int4),
        _ => Some(Datum::Int8(v)),
    };
    match value {
        Datum::Null => Fit::Null,
        Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) if is_int(oid) => {
            let v = value.as_i64().unwrap_or_default();
            match narrow(v) {
                Some(value) => Fit::Value(value),
                None if v < 0 => Fit::Below,
                None => Fit::Above,
            }
        }
        value => Fit::Value(value),
    }
}

/// Computes the keys of an access. `row` gives columns of enclosing rows.
pub fn resolve(
    table: &TableDesc,
    access: &KeyAccess,
    row: &dyn Row,
    cx: &dyn EvalContext,
    params: &[Datum],
) -> Result<Keys, SqlError> {
    let index_id = access.index.as_ref().map_or(key::PRIMARY, |i| i.id);
    let mut prefixes = vec![key::prefix(table.storage, index_id)];
    let mut part = Vec::new();
    for (at, term) in access.equal.iter().enumerate() {
        let column = KeyColumn::of(table, access.index.as_deref(), at)?;
        let values = match term {
            KeyTerm::Equal(e) => vec![eval(e, row, cx, params)?],
            KeyTerm::AnyOf(items) => items
                .iter()
                .map(|e| eval(e, row, cx, params))
                .collect::<Result<Vec<_>, _>>()?,
            KeyTerm::AnyElement(array) => match eval(array, row, cx, params)? {
                Datum::Array(array) => array.items.clone(),
                _ => Vec::new(),
            },
            KeyTerm::IsNull => vec![Datum::Null],
        };
        let is_null = matches!(term, KeyTerm::IsNull);
        let mut endings: Vec<Vec<u8>> = Vec::with_capacity(values.len());
        for value in values {
            part.clear();
            match fit(value, column.oid) {
                Fit::Value(value) => column.append(&value, &mut part),
                Fit::Null if is_null => column.append(&Datum::Null, &mut part),
                _ => continue,
            }
            endings.push(part.clone());
        }
        if endings.len() > 1 {
            endings.sort_unstable();
            endings.dedup();
        }
        if let [only] = endings.as_slice() {
            prefixes.iter_mut().for_each(|p| p.extend_from_slice(only));
        } else {
            prefixes = prefixes
                .iter()
                .flat_map(|p| endings.iter().map(move |e| [p.as_slice(), e].concat()))
                .collect();
        }
    }
    if access.unique {
        return Ok(Keys::Points(
            prefixes.into_iter().map(Bytes::from).collect(),
        ));
    }
    let Some(range) = &access.range else {
        return Ok(Keys::Spans(
            prefixes.iter().map(|p| Span::prefix(p)).collect(),
        ));
    };
    let column = KeyColumn::of(table, access.index.as_deref(), access.equal.len())?;
    let Some((start, end)) = column.bounds(range, row, cx, params)? else {
        return Ok(Keys::Spans(Vec::new()));
    };
    let spans = prefixes
        .iter()
        .map(|p| {
            let whole = Span::prefix(p);
            let at = |bytes: &Option<Vec<u8>>, otherwise: Bytes| match bytes {
                Some(b) => Bytes::from([p.as_slice(), b].concat()),
                None => otherwise,
            };
            Span {
                start: at(&start, whole.start.clone()),
                end: at(&end, whole.end),
            }
        })
        .filter(|s| s.start < s.end)
        .collect();
    Ok(Keys::Spans(spans))
}

struct KeyColumn {
    oid: Oid,
    secondary: bool,
    descending: bool,
    nulls_first: bool,
}

impl KeyColumn {
    fn of(table: &TableDesc, index: Option<&IndexDesc>, at: usize) -> Result<Self, SqlError> {
        let (position, descending, nulls_first) = match index {
            Some(index) => index
                .columns
                .get(at)
                .map(|c| (c.column, c.descending, c.nulls_first)),
            None => table.storage_key.get(at).map(|p| (*p, false, false)),
        }
        .ok_or_else(|| SqlError::internal("a key has fewer columns"))?;
        let column = table
            .columns
            .get(position)
            .ok_or_else(|| SqlError::internal("no such column position"))?;
        Ok(Self {
            oid: column.ty.oid,
            secondary: index.is_some(),
            descending,
            nulls_first,
        })
    }

    fn append(&self, value: &Datum, to: &mut Vec<u8>) {
        if self.secondary {
            key::append_secondary(value, self.oid, self.descending, self.nulls_first, to);
        } else {
            key::append_primary(value, self.oid, to);
        }
    }

    /// Start and end of the range behind the prefix (`None`: that of the prefix), or `None` when
    /// no value satisfies it.
    #[expect(clippy::type_complexity, reason = "named by the doc comment")]
    fn bounds(
        &self,
        range: &KeyRange,
        row: &dyn Row,
        cx: &dyn EvalContext,
        params: &[Datum],
    ) -> Result<Option<(Option<Vec<u8>>, Option<Vec<u8>>)>, SqlError> {
        // In key order; a descending column swaps low and high.
        let (mut start, mut end): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
        if self.secondary {
            start = Some(vec![key::NOT_NULL_MARKER]);
            end = Some(vec![key::NOT_NULL_MARKER + 1]);
        }
        let lows = range.low.iter().map(|(e, i)| (e, *i, true));
        let highs = range.high.iter().map(|(e, i)| (e, *i, false));
        for (expr, inclusive, low) in lows.chain(highs) {
            let value = match fit(eval(expr, row, cx, params)?, self.oid) {
                Fit::Value(value) => value,
                Fit::Below if low => continue,
                Fit::Above if !low => continue,
                _ => return Ok(None),
            };
            let mut bytes = Vec::new();
            self.append(&value, &mut bytes);
            let at_start = low != self.descending;
            // The first key after all that begin with these bytes, or the first of them.
            let after = inclusive != at_start;
            let bytes = if after {
                Span::prefix(&bytes).end.to_vec()
            } else {
                bytes
            };
            if at_start {
                start = Some(start.map_or(bytes.clone(), |s| s.max(bytes)));
            } else {
                end = Some(end.map_or(bytes.clone(), |e| e.min(bytes)));
            }
        }
        Ok(Some((start, end)))
    }
}

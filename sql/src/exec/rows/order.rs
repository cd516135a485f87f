//! Sorting and grouping by memcomparable keys: PostgreSQL's order and equality as order and
//! equality of bytes.

use crate::bind::tree::{Column, Expr, SortKey};
use crate::error::SqlError;
use crate::plan::node::Plan;
use crate::table::key::append_secondary;
use crate::types::{Datum, Oid, sort_key};

use super::Values;
use super::env::{Env, Slots};
use super::executor::{Executor, Subqueries};

/// Appends a value to a key under which equal values (NULLs too) are equal.
pub fn group_key(value: &Datum, oid: Oid, to: &mut Vec<u8>) {
    append_secondary(value, oid, false, false, to);
}

/// Appends a value of an unknown type: same bytes for the same value of one type.
pub(super) fn append_untyped(value: &Datum, to: &mut Vec<u8>) {
    let oid = match value {
        Datum::Null => {
            to.push(0);
            return;
        }
        Datum::Bool(_) => Oid::BOOL,
        Datum::Int2(_) => Oid::INT2,
        Datum::Int4(_) => Oid::INT4,
        Datum::Int8(_) => Oid::INT8,
        Datum::Oid(_) => Oid::OID,
        Datum::Float4(_) => Oid::FLOAT4,
        Datum::Float8(_) => Oid::FLOAT8,
        Datum::Numeric(n) => {
            // Equal values of different scale are told apart: a subquery may show them.
            to.push(2);
            n.append_bytes(to);
            return;
        }
        Datum::Text(_) => Oid::TEXT,
        Datum::Bytea(_) => Oid::BYTEA,
        Datum::Date(_) => Oid::DATE,
        Datum::Time(_) => Oid::TIME,
        Datum::Timestamp(_) => Oid::TIMESTAMP,
        Datum::Timestamptz(_) => Oid::TIMESTAMPTZ,
        Datum::Interval(i) => {
            to.push(3);
            to.extend_from_slice(&i.to_bytes());
            return;
        }
        Datum::Json(text) => {
            to.push(8);
            to.extend_from_slice(text.as_bytes());
            to.push(0);
            return;
        }
        Datum::TimeTz(..) => Oid::TIMETZ,
        Datum::Uuid(_) => Oid::UUID,
        Datum::Array(a) => {
            to.push(4);
            to.extend_from_slice(&a.element.0.to_be_bytes());
            for (n, lower) in &a.dims {
                to.extend_from_slice(&n.to_be_bytes());
                to.extend_from_slice(&lower.to_be_bytes());
            }
            to.push(5);
            a.items.iter().for_each(|i| append_untyped(i, to));
            return;
        }
        Datum::Record(fields) => {
            to.push(6);
            fields.iter().for_each(|(_, v)| append_untyped(v, to));
            to.push(7);
            return;
        }
    };
    to.push(1);
    sort_key::append(value, oid, to);
}

/// Appends a value to a key in the order of a sort key.
fn append_ordered(value: &Datum, key: &SortKey, to: &mut Vec<u8>) {
    append_secondary(
        value,
        key.expr.ty().oid,
        key.descending,
        key.nulls_first,
        to,
    );
}

/// Sorts rows by keys, equal ones staying in order.
pub fn sort_rows(keyed: &mut [(Vec<u8>, Values)]) {
    keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
}

impl Executor {
    /// Rows with the bytes that order them.
    pub(super) async fn keyed(
        &self,
        rows: Vec<Values>,
        columns: &[Column],
        keys: &[SortKey],
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<(Vec<u8>, Values)>, SqlError> {
        let slots = Slots::new(columns);
        let needed = Subqueries::of(keys.iter().map(|k| &k.expr));
        let mut keyed = Vec::with_capacity(rows.len());
        for row in rows {
            let env = Env::new(&slots, &row, outer);
            let results = if needed.is_empty() {
                Vec::new()
            } else {
                needed.run(self, &env).await?
            };
            let env = env.with(&results);
            let mut bytes = Vec::with_capacity(keys.len() * 10);
            for key in keys {
                append_ordered(&self.eval(&key.expr, &env)?, key, &mut bytes);
            }
            keyed.push((bytes, row));
        }
        Ok(keyed)
    }

    pub(super) async fn sort(
        &self,
        input: &Plan,
        keys: &[SortKey],
        outer: Option<&Env<'_>>,
    ) -> Result<Vec<Values>, SqlError> {
        let rows = self.run(input, outer, None).await?;
        let mut keyed = self.keyed(rows, &input.columns, keys, outer).await?;
        sort_rows(&mut keyed);
        Ok(keyed.into_iter().map(|(_, row)| row).collect())
    }

    /// The group key of some expressions on one row, whose subqueries have been run.
    pub(super) fn key_of(&self, exprs: &[Expr], env: &Env<'_>) -> Result<Vec<u8>, SqlError> {
        let mut key = Vec::with_capacity(exprs.len() * 10);
        for expr in exprs {
            group_key(&self.eval(expr, env)?, expr.ty().oid, &mut key);
        }
        Ok(key)
    }
}

//! Where an expression finds its columns: a row, behind it the enclosing rows.

use std::sync::Arc;

use crate::bind::tree::{ColId, Column, Subquery};
use crate::exec::interp::{Row, SubqueryRows};
use crate::types::Datum;

/// Position of each column in a row, by column number.
#[derive(Clone, Debug, Default)]
pub struct Slots(Vec<u16>);

const NONE: u16 = u16::MAX;

impl Slots {
    /// The positions of these columns in this order.
    pub fn new(columns: &[Column]) -> Self {
        let mut slots = Vec::new();
        for (i, column) in columns.iter().enumerate() {
            let id = column.id.0 as usize;
            if slots.len() <= id {
                slots.resize(id + 1, NONE);
            }
            if let Some(slot) = slots.get_mut(id) {
                *slot = u16::try_from(i).unwrap_or(NONE);
            }
        }
        Self(slots)
    }

    /// The position of a column.
    pub fn get(&self, id: ColId) -> Option<usize> {
        self.0
            .get(id.0 as usize)
            .filter(|s| **s != NONE)
            .map(|s| usize::from(*s))
    }
}

/// A row and the rows around it.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// Positions of the row's columns.
    pub slots: &'a Slots,
    /// The row.
    pub row: &'a [Datum],
    /// The enclosing row.
    pub outer: Option<&'a Env<'a>>,
    /// Results of subqueries that were run for this row, by address of the subquery.
    pub subqueries: &'a [(usize, Arc<SubqueryRows>)],
}

impl<'a> Env<'a> {
    /// A row within `outer`.
    pub fn new(slots: &'a Slots, row: &'a [Datum], outer: Option<&'a Env<'a>>) -> Self {
        Self {
            slots,
            row,
            outer,
            subqueries: &[],
        }
    }

    /// The same row with subqueries run for it.
    #[must_use]
    pub fn with(self, subqueries: &'a [(usize, Arc<SubqueryRows>)]) -> Self {
        Self { subqueries, ..self }
    }
}

impl Row for Env<'_> {
    fn column(&self, id: ColId) -> Option<Datum> {
        let mut at = Some(self);
        while let Some(env) = at {
            if let Some(slot) = env.slots.get(id) {
                return env.row.get(slot).cloned();
            }
            at = env.outer;
        }
        None
    }

    fn subquery(&self, query: &Subquery) -> Option<Arc<SubqueryRows>> {
        let address = std::ptr::from_ref(query) as usize;
        let mut at = Some(self);
        while let Some(env) = at {
            if let Some((_, rows)) = env.subqueries.iter().find(|(a, _)| *a == address) {
                return Some(Arc::clone(rows));
            }
            at = env.outer;
        }
        None
    }
}

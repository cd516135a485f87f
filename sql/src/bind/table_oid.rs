//! The system column `tableoid`: which table a row comes from.
//!
//! Every scan in FROM has a number in reserve for it. Only when a name has found one is the scan
//! given the column, as a constant above it: it must be NULL where an outer join has no row for
//! the table, so the constant cannot stand where it is named.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::names::NamedColumn;
use super::tree::{ColId, Column, Expr, Rel};
use super::walk::every_rel_mut;
use crate::types::{Datum, Oid, PgType};

/// Its name.
pub(crate) const TABLEOID: &str = "tableoid";
/// Its attnum.
const ATTNUM: i16 = -6;

/// The column in a scope, with a note of whether somebody has named it.
#[derive(Clone, Debug)]
pub(crate) struct TableOid {
    pub(crate) column: NamedColumn,
    used: Option<Arc<AtomicBool>>,
}

impl TableOid {
    /// That of a table whose rows are always there: the constant.
    pub(crate) fn constant(table: Oid) -> Self {
        Self::new(
            Expr::Const(Datum::Oid(table), PgType::new(Oid::OID)),
            table,
            None,
        )
    }

    fn new(expr: Expr, table: Oid, used: Option<Arc<AtomicBool>>) -> Self {
        let column = NamedColumn {
            name: Arc::from(TABLEOID),
            expr,
            origin: Some((table, ATTNUM)),
        };
        Self { column, used }
    }

    /// A name has found it.
    pub(crate) fn mark_used(&self) {
        if let Some(used) = &self.used {
            used.store(true, Ordering::Relaxed);
        }
    }
}

/// A column in reserve.
#[derive(Debug)]
struct Reserved {
    column: Column,
    table: Oid,
    /// The first column of the scan, by which it is found.
    first: ColId,
    used: Arc<AtomicBool>,
}

/// The columns in reserve of one statement.
#[derive(Debug, Default)]
pub(crate) struct TableOids(Vec<Reserved>);

impl TableOids {
    /// Reserves `column` for the scan whose first column is `first`.
    pub(crate) fn reserve(&mut self, column: Column, table: Oid, first: ColId) -> TableOid {
        let used = Arc::new(AtomicBool::new(false));
        let expr = Expr::Column(column.id, column.ty);
        self.0.push(Reserved {
            column,
            table,
            first,
            used: Arc::clone(&used),
        });
        TableOid::new(expr, table, Some(used))
    }

    /// Gives scans the columns that are used.
    pub(crate) fn supply(&mut self, rel: &mut Rel) {
        self.0.retain(|r| r.used.load(Ordering::Relaxed));
        if self.0.is_empty() {
            return;
        }
        every_rel_mut(rel, &mut |rel| {
            let (Rel::Scan { columns, .. } | Rel::Virtual { columns, .. }) = rel else {
                return true;
            };
            let first = columns.first().map(|(_, c)| c.id);
            if let Some(reserved) = self.0.iter().find(|r| Some(r.first) == first) {
                let mut exprs: Vec<(Expr, Column)> = columns
                    .iter()
                    .map(|(_, c)| (Expr::Column(c.id, c.ty), c.clone()))
                    .collect();
                let oid = Expr::Const(Datum::Oid(reserved.table), PgType::new(Oid::OID));
                exprs.push((oid, reserved.column.clone()));
                *rel = Rel::Project {
                    input: Box::new(std::mem::replace(rel, Rel::Unit)),
                    exprs,
                };
            }
            false
        });
    }
}

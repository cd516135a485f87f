//! Values for the leading columns of a key, given by a query (SPLIT AT).

use std::sync::Arc;

use sqlparser::ast::Query;

use super::context::Binder;
use super::tree::{BoundQuery, Expr, OutputColumn, Rel};
use crate::error::{SqlError, SqlState};
use crate::types::{Oid, PgType};

/// A column of a key.
pub struct KeyColumn<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub ty: PgType,
}

impl Binder<'_> {
    /// Binds a query that gives values for the leading ones of `keys`, of their types.
    pub fn key_values(
        &mut self,
        query: &Query,
        keys: &[KeyColumn<'_>],
    ) -> Result<BoundQuery, SqlError> {
        crate::parse::depth::with_stack(|| {
            let mut bound = self.query_bound(query, None, false)?;
            if bound.columns.len() > keys.len() {
                let (given, wanted) = (bound.columns.len(), keys.len());
                let message = format!("{given} values were given for a key of {wanted} columns");
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
            }
            for (n, key) in (0..bound.columns.len()).zip(keys) {
                let unknown = |column: &super::tree::Column| column.ty.oid == Oid::UNKNOWN;
                if bound.columns.get(n).is_some_and(unknown) {
                    self.coerce_output(&mut bound, n, PgType::new(key.ty.oid), 0)?;
                }
            }
            let mut exprs = Vec::with_capacity(keys.len());
            for (from, key) in bound.columns.iter().zip(keys) {
                let value = Expr::Column(from.id, from.ty);
                let value = self.coerce_assign(value, key.ty, 0, Some(key.name))?;
                exprs.push((value, self.new_column(key.name, key.ty)));
            }
            let columns: Vec<_> = exprs.iter().map(|(_, column)| column.clone()).collect();
            let shown = columns.iter().map(|column| OutputColumn {
                name: Arc::clone(&column.name),
                ty: column.ty,
                origin: None,
            });
            let output = shown.collect();
            let mut rel = Rel::Project {
                input: Box::new(bound.rel),
                exprs,
            };
            self.table_oids.supply(&mut rel);
            super::fold::rel(&mut rel);
            Ok(BoundQuery {
                rel,
                columns,
                output,
                locks: bound.locks,
            })
        })
    }
}

//! The binder itself: what it is given, what it counts, and the doors for its callers.

use std::collections::HashMap;
use std::sync::Arc;

use sqlparser::ast;

use super::coerce::Context;
use super::names::{Level, Namespace};
use super::table_oid::TableOids;
use super::tree::{BoundStatement, ColId, Column, Expr};
use crate::catalog::desc::CatalogSnapshot;
use crate::catalog::virtual_tables::VirtualTable;
use crate::error::{SqlError, SqlState};
use crate::parse::Statement;
use crate::types::registry::EvalContext;
use crate::types::{Oid, PgType};

/// Highest number of a parameter.
const PARAMETERS_MAX: usize = 65_535;

/// What names and constants are resolved against.
#[derive(Clone, Copy)]
pub struct BindContext<'a> {
    /// The catalog that the transaction sees.
    pub catalog: &'a CatalogSnapshot,
    /// Names of schemas searched for unqualified names; pg_catalog is searched first unless it is
    /// named here.
    pub search_path: &'a [String],
    /// Declared types of the parameters; `Oid::INVALID` or `UNKNOWN` is to be inferred.
    pub params: &'a [Oid],
    /// The session, for the input of constants.
    pub eval: &'a dyn EvalContext,
    /// Look-up of computed tables by schema and name.
    pub virtual_table: fn(&str, &str) -> Option<&'static VirtualTable>,
}

/// Binds one statement.
pub struct Binder<'a> {
    pub(crate) cx: BindContext<'a>,
    next_column: u32,
    pub(crate) next_cte: u32,
    /// Types of the parameters as far as known.
    pub(crate) params: Vec<Option<Oid>>,
    /// Common table expressions in scope, innermost last.
    pub(crate) ctes: Vec<super::cte::CteEntry>,
    /// Whether calls with constant arguments are computed now.
    pub(crate) fold: bool,
    /// Whether scans of tables show their key, for row locks.
    pub(crate) with_keys: bool,
    /// Number of the last FROM.
    pub(crate) queries: u32,
    /// What stored text must say in the place of what was written: start, end, text.
    pub(crate) notes: Option<Vec<(usize, usize, String)>>,
    /// How many views are being expanded.
    pub(crate) views: usize,
    /// Names and types of the fields of columns that are records.
    pub(crate) records: HashMap<ColId, Arc<[(Arc<str>, PgType)]>>,
    /// The columns `tableoid` that scans would have.
    pub(crate) table_oids: TableOids,
}

impl<'a> Binder<'a> {
    /// A binder for one statement.
    pub fn new(cx: &BindContext<'a>) -> Self {
        let known = |oid: &Oid| (*oid != Oid::INVALID && *oid != Oid::UNKNOWN).then_some(*oid);
        Self {
            cx: *cx,
            next_column: 0,
            next_cte: 0,
            params: cx.params.iter().map(known).collect(),
            ctes: Vec::new(),
            fold: true,
            with_keys: false,
            queries: 0,
            notes: None,
            views: 0,
            records: HashMap::new(),
            table_oids: TableOids::default(),
        }
    }

    /// The same, but calls are kept as written, for text that is stored.
    #[must_use]
    pub fn without_folding(mut self) -> Self {
        self.fold = false;
        self
    }

    /// Binds a query or a write. Other statements are not the binder's.
    pub fn statement(&mut self, statement: &Statement) -> Result<BoundStatement, SqlError> {
        crate::parse::depth::with_stack(|| {
            let mut bound = match statement {
                Statement::Query(q) => BoundStatement::Query(self.top_query(q)?),
                Statement::Insert(i) => BoundStatement::Insert(self.insert(i)?),
                Statement::Update(u) => BoundStatement::Update(self.update(u)?),
                Statement::Delete(d) => BoundStatement::Delete(self.delete(d)?),
                _ => return Err(SqlError::internal("not a statement for the binder")),
            };
            match &mut bound {
                BoundStatement::Query(q) => self.table_oids.supply(&mut q.rel),
                BoundStatement::Insert(i) => self.table_oids.supply(&mut i.source),
                BoundStatement::Update(u) => self.table_oids.supply(&mut u.source),
                BoundStatement::Delete(d) => self.table_oids.supply(&mut d.source),
            }
            if self.fold {
                super::fold::statement(&mut bound);
            }
            Ok(bound)
        })
    }

    /// Binds the query of CREATE VIEW, CREATE TABLE AS, DECLARE, COPY.
    pub fn query(&mut self, query: &ast::Query) -> Result<super::tree::BoundQuery, SqlError> {
        crate::parse::depth::with_stack(|| {
            let mut bound = self.top_query(query)?;
            self.table_oids.supply(&mut bound.rel);
            if self.fold {
                super::fold::rel(&mut bound.rel);
            }
            Ok(bound)
        })
    }

    /// Types of the parameters, after a statement was bound.
    pub fn parameter_types(&self) -> Result<Vec<Oid>, SqlError> {
        self.params
            .iter()
            .enumerate()
            .map(|(i, t)| {
                t.ok_or_else(|| {
                    SqlError::new(
                        SqlState::INDETERMINATE_DATATYPE,
                        format!("could not determine data type of parameter ${}", i + 1),
                    )
                })
            })
            .collect()
    }

    /// Binds an expression without columns and brings it to a type (EXECUTE arguments, DEFAULT).
    pub fn standalone(
        &mut self,
        e: &ast::Expr,
        target: Option<PgType>,
        clause: &'static str,
    ) -> Result<Expr, SqlError> {
        crate::parse::depth::with_stack(|| {
            let level = Level::new(Namespace::default(), None);
            level.clause.set(super::names::Clause::Plain(clause));
            let bound = self.expr(e, &level)?;
            let position = super::position_of(e);
            match target {
                Some(t) => self.coerce_assign(bound, t, position, None),
                None => self.settle_unknown(bound),
            }
        })
    }

    /// Binds an expression over the given columns, by their names.
    pub fn over_columns(
        &mut self,
        e: &ast::Expr,
        table: &str,
        columns: &[Column],
        clause: &'static str,
    ) -> Result<Expr, SqlError> {
        crate::parse::depth::with_stack(|| {
            let next = columns.iter().map(|c| c.id.0 + 1).max().unwrap_or(0);
            self.next_column = self.next_column.max(next);
            let ns = Namespace::of_columns(table, columns);
            let level = Level::new(ns, None);
            level.clause.set(super::names::Clause::Plain(clause));
            let bound = self.expr(e, &level)?;
            self.settle_unknown(bound)
        })
    }

    /// Brings an expression to boolean, as WHERE and CHECK want it.
    pub(crate) fn to_bool(
        &mut self,
        e: Expr,
        what: &str,
        position: usize,
    ) -> Result<Expr, SqlError> {
        let from = e.ty().oid;
        if from == Oid::BOOL {
            return Ok(e);
        }
        if !self.can_coerce(from, Oid::BOOL, Context::Assignment) {
            return Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "argument of {what} must be type boolean, not type {}",
                    crate::types::format_type(PgType::new(from))
                ),
            )
            .at(position));
        }
        self.coerce(e, PgType::new(Oid::BOOL), Context::Assignment, position)
    }

    /// A number for a new column.
    pub(crate) fn new_id(&mut self) -> ColId {
        let id = ColId(self.next_column);
        self.next_column += 1;
        id
    }

    /// A new column.
    pub(crate) fn new_column(&mut self, name: impl Into<Arc<str>>, ty: PgType) -> Column {
        Column {
            id: self.new_id(),
            name: name.into(),
            ty,
        }
    }

    /// Parameter `$n`.
    pub(crate) fn parameter(&mut self, text: &str, position: usize) -> Result<Expr, SqlError> {
        let number: usize = text.trim_start_matches('$').parse().unwrap_or(0);
        if number == 0 || number > PARAMETERS_MAX {
            return Err(SqlError::new(
                SqlState::UNDEFINED_PARAMETER,
                format!("there is no parameter {text}"),
            )
            .at(position));
        }
        if self.params.len() < number {
            self.params.resize(number, None);
        }
        let ty = self
            .params
            .get(number - 1)
            .copied()
            .flatten()
            .unwrap_or(Oid::UNKNOWN);
        Ok(Expr::Param(number - 1, PgType::new(ty)))
    }
}

//! ON CONFLICT: which unique indexes arbitrate, and what becomes of the row that is there.

use std::sync::Arc;

use sqlparser::ast::Expr as Ast;

use super::context::Binder;
use super::names::{Clause, Level, Namespace};
use super::position_of;
use super::tree::{Column, ConflictUpdate, Expr, OnConflict};
use super::write::seen_as;
use crate::catalog::desc::{IndexDesc, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::{ConflictTarget, OnConflict as AstConflict};

impl Binder<'_> {
    pub(super) fn on_conflict(
        &mut self,
        t: &Arc<TableDesc>,
        alias: &str,
        columns: &[(usize, Column)],
        c: &AstConflict,
    ) -> Result<OnConflict, SqlError> {
        let AstConflict {
            target,
            update,
            position,
        } = c;
        let arbiters = self.arbiters(t, alias, columns, target.as_ref(), *position)?;
        let Some((set, filter)) = update else {
            return Ok(OnConflict {
                arbiters,
                update: None,
            });
        };
        if target.is_none() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
            )
            .with_hint("For example, ON CONFLICT (column_name).")
            .at(*position));
        }
        let existing: Vec<(usize, Column)> = t
            .live_columns()
            .map(|(i, d)| (i, self.new_column(d.name.as_str(), d.ty)))
            .collect();
        let mut ns = Namespace::of_table(seen_as(t, alias, &existing));
        let mut excluded = seen_as(t, "excluded", columns);
        excluded.schema = None;
        ns.tables.push(excluded);
        let level = Level::new(ns, None);
        level.clause.set(Clause::Plain("ON CONFLICT DO UPDATE"));
        let mut set = self.assignments(t, set, &level)?;
        let filter = match filter {
            Some(f) => {
                let bound = self.expr(f, &level)?;
                Some(self.to_bool(bound, "WHERE", position_of(f))?)
            }
            None => None,
        };
        if set.iter().any(|(_, e)| e.has_subquery())
            || filter.as_ref().is_some_and(Expr::has_subquery)
        {
            return Err(SqlError::unsupported("a subquery in ON CONFLICT DO UPDATE"));
        }
        self.regenerate(t, &mut set, &existing)?;
        Ok(OnConflict {
            arbiters,
            update: Some(ConflictUpdate {
                existing,
                set,
                filter,
            }),
        })
    }

    /// The unique indexes that a target means. Its WHERE chooses among partial indexes, which do
    /// not exist here; an index of all rows serves whatever it says, as in PostgreSQL.
    fn arbiters(
        &mut self,
        t: &Arc<TableDesc>,
        alias: &str,
        columns: &[(usize, Column)],
        target: Option<&ConflictTarget>,
        position: usize,
    ) -> Result<Vec<Arc<IndexDesc>>, SqlError> {
        let none = || {
            SqlError::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                "there is no unique or exclusion constraint matching the ON CONFLICT specification",
            )
        };
        match target {
            None => Ok(Vec::new()),
            Some(ConflictTarget::Constraint(name)) => {
                let found = t
                    .indexes
                    .iter()
                    .find(|i| i.name == name.value && i.constraint.is_some() && i.is_unique());
                match found {
                    Some(i) => Ok(vec![Arc::clone(i)]),
                    None => Err(SqlError::new(
                        SqlState::UNDEFINED_OBJECT,
                        format!(
                            "constraint \"{}\" for table \"{}\" does not exist",
                            name.value, t.name
                        ),
                    )),
                }
            }
            Some(ConflictTarget::Columns(exprs, filter)) => {
                let mut positions = Vec::new();
                for e in exprs {
                    match e {
                        Ast::Identifier(i) => {
                            let p = t.live_columns().find(|(_, c)| c.name == i.value);
                            let Some((p, _)) = p else {
                                return Err(SqlError::new(
                                    SqlState::UNDEFINED_COLUMN,
                                    format!("column \"{}\" does not exist", i.value),
                                )
                                .at(i.span.start.line as usize));
                            };
                            if !positions.contains(&p) {
                                positions.push(p);
                            }
                        }
                        _ => return Err(none().at(position)),
                    }
                }
                positions.sort_unstable();
                if let Some(filter) = filter {
                    self.index_predicate(filter, Namespace::of_table(seen_as(t, alias, columns)))?;
                }
                let found: Vec<Arc<IndexDesc>> = t
                    .indexes
                    .iter()
                    .filter(|i| i.is_unique())
                    .filter(|i| {
                        let mut own: Vec<usize> = i.columns.iter().map(|c| c.column).collect();
                        own.sort_unstable();
                        own.dedup();
                        own == positions
                    })
                    .map(Arc::clone)
                    .collect();
                if found.is_empty() {
                    Err(none())
                } else {
                    Ok(found)
                }
            }
        }
    }

    /// Checks the WHERE of a target: any type will do.
    fn index_predicate(&mut self, filter: &Ast, ns: Namespace) -> Result<(), SqlError> {
        let level = Level::new(ns, None);
        level.clause.set(Clause::Plain("index predicates"));
        let bound = self.expr(filter, &level)?;
        if bound.has_subquery() {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot use subquery in index predicate",
            )
            .at(position_of(filter)));
        }
        self.settle_unknown(bound).map(drop)
    }
}

//! WITH: common table expressions, plain and recursive.

use std::sync::Arc;

use sqlparser::ast::{
    Cte, CteAsMaterialized, Query, SetExpr, SetOperator, SetQuantifier, TableAlias, With,
};

use super::coerce::Context;
use super::context::Binder;
use super::names::{Level, NamedColumn};
use super::query::{Bound, exact};
use super::tree::{Column, Expr, Rel};
use super::walk::every_rel_mut;
use crate::error::{SqlError, SqlState};
use crate::types::{PgType, format_type};

/// A common table expression in scope.
pub(crate) struct CteEntry {
    name: String,
    id: u32,
    /// Names and types; none while the non-recursive part is being bound.
    columns: Option<Vec<(Arc<str>, PgType)>>,
    uses: usize,
    query: Option<Rel>,
    query_columns: Vec<Column>,
    recursive: Option<(Rel, bool)>,
    materialized: bool,
}

impl Binder<'_> {
    /// A use of a CTE of that name, if one is in scope.
    pub(crate) fn cte_use(
        &mut self,
        name: &str,
        position: usize,
    ) -> Result<Option<(Rel, Vec<NamedColumn>)>, SqlError> {
        let Some(i) = self.ctes.iter().rposition(|c| c.name == name) else {
            return Ok(None);
        };
        let Some(entry) = self.ctes.get_mut(i) else {
            return Ok(None);
        };
        entry.uses += 1;
        let id = entry.id;
        let Some(columns) = entry.columns.clone() else {
            return Err(SqlError::new(
                SqlState::INVALID_RECURSION,
                format!(
                    "recursive reference to query \"{name}\" must not appear within its \
                     non-recursive term"
                ),
            )
            .at(position));
        };
        let columns: Vec<Column> = columns
            .into_iter()
            .map(|(n, t)| self.new_column(n, t))
            .collect();
        let named = columns
            .iter()
            .map(|c| NamedColumn {
                name: Arc::clone(&c.name),
                expr: Expr::Column(c.id, c.ty),
                origin: None,
            })
            .collect();
        Ok(Some((Rel::CteRef { cte: id, columns }, named)))
    }

    /// Binds the expressions of WITH and puts them in scope; gives how many.
    pub(crate) fn enter_with(
        &mut self,
        with: Option<&With>,
        parent: Option<&Level<'_>>,
    ) -> Result<usize, SqlError> {
        let Some(With {
            with_token: _,
            recursive,
            cte_tables,
        }) = with
        else {
            return Ok(0);
        };
        for (i, cte) in cte_tables.iter().enumerate() {
            let name = &cte.alias.name.value;
            if cte_tables
                .iter()
                .take(i)
                .any(|c| c.alias.name.value == *name)
            {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_ALIAS,
                    format!("WITH query name \"{name}\" specified more than once"),
                )
                .at(cte.alias.name.span.start.line as usize));
            }
            if let Err(e) = self.bind_cte(cte, *recursive, parent) {
                let len = self.ctes.len().saturating_sub(i);
                self.ctes.truncate(len);
                return Err(e);
            }
        }
        Ok(cte_tables.len())
    }

    fn bind_cte(
        &mut self,
        cte: &Cte,
        recursive: bool,
        parent: Option<&Level<'_>>,
    ) -> Result<(), SqlError> {
        let Cte {
            alias,
            query,
            from: _,
            materialized,
            closing_paren_token: _,
        } = cte;
        let TableAlias {
            explicit: _,
            name,
            columns: names,
            at: _,
        } = alias;
        let id = self.next_cte;
        self.next_cte += 1;
        let entry = CteEntry {
            name: name.value.clone(),
            id,
            columns: None,
            uses: 0,
            query: None,
            query_columns: Vec::new(),
            recursive: None,
            materialized: matches!(materialized, Some(CteAsMaterialized::Materialized)),
        };
        let rename = |bound: &Bound| -> Result<Vec<(Arc<str>, PgType)>, SqlError> {
            if names.len() > bound.columns.len() {
                return Err(SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    format!(
                        "WITH query \"{}\" has {} columns available but {} columns specified",
                        name.value,
                        bound.columns.len(),
                        names.len()
                    ),
                )
                .at(name.span.start.line as usize));
            }
            Ok(bound
                .columns
                .iter()
                .enumerate()
                .map(|(i, c)| match names.get(i) {
                    Some(n) => (Arc::from(n.name.value.as_str()), c.ty),
                    None => (Arc::clone(&c.name), c.ty),
                })
                .collect())
        };
        if recursive && let Some((left, right, all)) = recursive_parts(query) {
            self.ctes.push(entry);
            let first = self.set_arm(left, parent, true)?;
            let columns = rename(&first)?;
            let slot = self.ctes.len() - 1;
            if let Some(e) = self.ctes.get_mut(slot) {
                e.columns = Some(columns.clone());
                e.uses = 0;
            }
            let mut second = self.set_arm(right, parent, false)?;
            if second.columns.len() != first.columns.len() {
                return Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    "each UNION query must have the same number of columns",
                ));
            }
            let used = self.ctes.get(slot).is_some_and(|e| e.uses > 0);
            for (i, c) in first.columns.iter().enumerate() {
                let Some(other) = second.columns.get(i).cloned() else {
                    continue;
                };
                if other.ty.oid == c.ty.oid {
                    continue;
                }
                let common = self.common_type(&[c.ty.oid, other.ty.oid], "UNION", 0)?;
                if common != c.ty.oid && used {
                    return Err(SqlError::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!(
                            "recursive query \"{}\" column {} has type {} in non-recursive term \
                             but type {} overall",
                            name.value,
                            i + 1,
                            format_type(c.ty),
                            format_type(PgType::new(common))
                        ),
                    )
                    .with_hint("Cast the output of the non-recursive term to the correct type."));
                }
                self.coerce_output(&mut second, i, c.ty, 0)?;
            }
            let (query, query_columns) = (exact(first.rel, &first.columns), first.columns);
            let second = exact(second.rel, &second.columns);
            let fresh: Vec<Column> = columns
                .iter()
                .map(|(n, t)| self.new_column(Arc::clone(n), *t))
                .collect();
            if let Some(e) = self.ctes.get_mut(slot) {
                e.uses = 0;
                if used {
                    e.recursive = Some((second, all));
                    e.query = Some(query);
                    e.query_columns = query_columns;
                } else {
                    e.query = Some(Rel::SetOp {
                        op: super::tree::SetOp::Union,
                        all,
                        left: Box::new(query),
                        right: Box::new(second),
                        columns: fresh.clone(),
                    });
                    e.query_columns = fresh;
                }
            }
            return Ok(());
        }
        if recursive {
            // A self-reference without UNION is an error, not a table of that name.
            self.ctes.push(entry);
            let bound = self.query_bound(query, parent, true)?;
            let columns = rename(&bound)?;
            if let Some(e) = self.ctes.last_mut() {
                e.columns = Some(columns);
                e.query_columns.clone_from(&bound.columns);
                e.query = Some(exact(bound.rel, &bound.columns));
            }
            return Ok(());
        }
        let bound = self.query_bound(query, parent, true)?;
        let columns = rename(&bound)?;
        self.ctes.push(CteEntry {
            columns: Some(columns),
            query_columns: bound.columns.clone(),
            query: Some(exact(bound.rel, &bound.columns)),
            ..entry
        });
        Ok(())
    }

    /// Takes `count` expressions out of scope and puts them around the query that used them:
    /// one that is used once becomes part of it, an unused one is left out.
    pub(crate) fn leave_with(&mut self, count: usize, mut rel: Rel) -> Rel {
        for _ in 0..count {
            let Some(entry) = self.ctes.pop() else { break };
            let Some(query) = entry.query else { continue };
            if entry.uses == 0 {
                continue;
            }
            if entry.uses == 1 && entry.recursive.is_none() && !entry.materialized {
                let mut query = Some(query);
                every_rel_mut(&mut rel, &mut |r| match r {
                    Rel::CteRef { cte, columns } if *cte == entry.id => {
                        let exprs = entry
                            .query_columns
                            .iter()
                            .zip(columns.iter())
                            .map(|(from, to)| (Expr::Column(from.id, from.ty), to.clone()))
                            .collect();
                        if let Some(q) = query.take() {
                            *r = Rel::Project {
                                input: Box::new(q),
                                exprs,
                            };
                        }
                        false
                    }
                    _ => true,
                });
                continue;
            }
            rel = Rel::With {
                cte: entry.id,
                query: Box::new(query),
                recursive: entry.recursive.map(|(r, all)| (Box::new(r), all)),
                columns: entry.query_columns,
                body: Box::new(rel),
            };
        }
        rel
    }

    /// One side of a set operation.
    pub(crate) fn set_arm(
        &mut self,
        body: &SetExpr,
        parent: Option<&Level<'_>>,
        settle: bool,
    ) -> Result<Bound, SqlError> {
        let mut bound = self.body(body, &super::query::Tail::default(), parent, false)?;
        if settle {
            for i in 0..bound.columns.len() {
                if bound
                    .columns
                    .get(i)
                    .is_some_and(|c| c.ty.oid == crate::types::Oid::UNKNOWN)
                {
                    let text = PgType::new(crate::types::Oid::TEXT);
                    self.coerce_output(&mut bound, i, text, 0)?;
                }
            }
        }
        Ok(bound)
    }

    /// Brings a column of a bound query to a type.
    pub(crate) fn coerce_output(
        &mut self,
        bound: &mut Bound,
        index: usize,
        target: PgType,
        position: usize,
    ) -> Result<(), SqlError> {
        let Some(column) = bound.columns.get(index).cloned() else {
            return Ok(());
        };
        if column.ty == target {
            return Ok(());
        }
        // In place where the expression is at hand: literals and parameters take the type.
        match &mut bound.rel {
            Rel::Project { exprs, .. } => {
                if let Some((e, c)) = exprs.iter_mut().find(|(_, c)| c.id == column.id) {
                    let old = std::mem::replace(e, Expr::Row(Vec::new()));
                    *e = self.coerce(old, target, Context::Implicit, position)?;
                    c.ty = e.ty();
                    let ty = c.ty;
                    if let Some(c) = bound.columns.get_mut(index) {
                        c.ty = ty;
                    }
                    return Ok(());
                }
            }
            Rel::Values { rows, columns } => {
                if let Some(i) = columns.iter().position(|c| c.id == column.id) {
                    for row in rows.iter_mut() {
                        if let Some(e) = row.get_mut(i) {
                            let old = std::mem::replace(e, Expr::Row(Vec::new()));
                            *e = self.coerce(old, target, Context::Implicit, position)?;
                        }
                    }
                    for c in columns
                        .get_mut(i)
                        .into_iter()
                        .chain(bound.columns.get_mut(index))
                    {
                        c.ty = target;
                    }
                    return Ok(());
                }
            }
            _ => {}
        }
        let mut exprs = Vec::new();
        let mut columns = Vec::new();
        for (i, c) in bound.columns.iter().enumerate() {
            let mut e = Expr::Column(c.id, c.ty);
            if i == index {
                e = self.coerce(e, target, Context::Implicit, position)?;
            }
            let column = self.new_column(Arc::clone(&c.name), e.ty());
            columns.push(column.clone());
            exprs.push((e, column));
        }
        let input = std::mem::replace(&mut bound.rel, Rel::Unit);
        bound.rel = Rel::Project {
            input: Box::new(input),
            exprs,
        };
        bound.columns = columns;
        Ok(())
    }
}

/// Both sides of the UNION that a recursive query must be, and whether ALL.
fn recursive_parts(q: &Query) -> Option<(&SetExpr, &SetExpr, bool)> {
    if q.with.is_some() || q.order_by.is_some() || q.limit_clause.is_some() || q.fetch.is_some() {
        return None;
    }
    match &*q.body {
        SetExpr::SetOperation {
            op: SetOperator::Union,
            set_quantifier,
            left,
            right,
        } => Some((left, right, *set_quantifier == SetQuantifier::All)),
        SetExpr::Query(inner) => recursive_parts(inner),
        _ => None,
    }
}

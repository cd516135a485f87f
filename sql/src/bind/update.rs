//! UPDATE and DELETE: the rows that are meant, and the values that SET gives them.

use std::sync::Arc;

use sqlparser::ast::{Expr as Ast, Ident, Query, TableWithJoins};

use super::context::Binder;
use super::expr::row_items;
use super::names::{Clause, Level, Namespace};
use super::position_of;
use super::query::exact;
use super::tree::{BoundDelete, BoundUpdate, Column, Expr, JoinKind, Rel, Subquery, SubqueryKind};
use super::write::{column, column_position, is_default, seen_as};
use crate::catalog::desc::{ColumnDesc, Identity, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::{Delete, SetClause, Update};
use crate::types::Datum;

impl Binder<'_> {
    /// The clauses of SET: positions and values.
    pub(super) fn assignments(
        &mut self,
        t: &TableDesc,
        clauses: &[SetClause],
        level: &Level<'_>,
    ) -> Result<Vec<(usize, Expr)>, SqlError> {
        let mut out: Vec<(usize, Expr)> = Vec::new();
        for clause in clauses {
            match clause {
                SetClause::One(name, e) => {
                    let value = self.assignment(t, name, e, level)?;
                    push_assignment(t, &mut out, value, name)?;
                }
                SetClause::Many(names, e) => {
                    let inner = match e {
                        Ast::Nested(inner) if names.len() == 1 => std::slice::from_ref(&**inner),
                        e => row_items(e).unwrap_or_default(),
                    };
                    if let Ast::Subquery(q) = e {
                        for (i, name) in names.iter().enumerate() {
                            let value = self.assign_from(t, name, q, i, names.len(), level)?;
                            push_assignment(t, &mut out, value, name)?;
                        }
                        continue;
                    }
                    if inner.is_empty() {
                        return Err(SqlError::new(
                            SqlState::FEATURE_NOT_SUPPORTED,
                            "source for a multiple-column UPDATE item must be a sub-SELECT or \
                             ROW() expression",
                        )
                        .at(position_of(e)));
                    }
                    if inner.len() != names.len() {
                        return Err(SqlError::new(
                            SqlState::SYNTAX_ERROR,
                            "number of columns does not match number of values",
                        )
                        .at(position_of(e)));
                    }
                    for (name, e) in names.iter().zip(inner) {
                        let value = self.assignment(t, name, e, level)?;
                        push_assignment(t, &mut out, value, name)?;
                    }
                }
            }
        }
        Ok(out)
    }

    fn assignment(
        &mut self,
        t: &TableDesc,
        name: &Ident,
        e: &Ast,
        level: &Level<'_>,
    ) -> Result<(usize, Expr), SqlError> {
        let position = column_position(t, name)?;
        let c = column(t, position)?;
        if is_default(e) {
            if c.generated.is_some() {
                return Ok((position, Expr::Const(Datum::Null, c.ty)));
            }
            return Ok((position, self.default_of(t, position)?));
        }
        only_default(c, name)?;
        let at = position_of(e);
        let bound = self.expr(e, level)?;
        Ok((
            position,
            self.coerce_assign(bound, c.ty, at, Some(&c.name))?,
        ))
    }

    /// One column of a subquery that sets several.
    fn assign_from(
        &mut self,
        t: &TableDesc,
        name: &Ident,
        q: &Query,
        index: usize,
        width: usize,
        level: &Level<'_>,
    ) -> Result<(usize, Expr), SqlError> {
        let position = column_position(t, name)?;
        let c = column(t, position)?;
        only_default(c, name)?;
        let bound = self.nested_query(q, level, true)?;
        if bound.columns.len() != width {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "number of columns does not match number of values",
            ));
        }
        let Some(column) = bound.columns.get(index).cloned() else {
            return Err(SqlError::internal("column of a subquery"));
        };
        let ty = column.ty;
        let value = Expr::Subquery(Box::new(Subquery {
            rel: exact(bound.rel, std::slice::from_ref(&column)),
            columns: vec![column],
            kind: SubqueryKind::Scalar,
            ty,
        }));
        Ok((position, self.coerce_assign(value, c.ty, 0, Some(&c.name))?))
    }

    pub(crate) fn update(&mut self, u: &Update) -> Result<BoundUpdate, SqlError> {
        let Update {
            with,
            table,
            alias,
            set,
            from,
            filter,
            returning,
        } = u;
        let t = self.writable(table, "UPDATE of")?;
        let ctes = self.enter_with(with.as_ref(), None)?;
        let alias = alias.as_ref().map_or(t.name.as_str(), |a| a.value.as_str());
        let (scan, old) = self.target_scan(&t);
        let target = seen_as(&t, alias, &old);
        let mut rel = scan;
        let mut ns = Namespace::of_table(target);
        let mut others = Namespace::default();
        if !from.is_empty() {
            (rel, others) = self.joined_with(rel, &mut ns, from)?;
            // What RETURNING sees of them is what the row source gives, and no more.
            others.tables.iter_mut().for_each(|t| t.table_oid = None);
        }
        let level = Level::new(ns, None);
        level.clause.set(Clause::Plain("UPDATE"));
        let mut values = self.assignments(&t, set, &level)?;
        rel = self.filtered(rel, filter.as_ref(), &level)?;
        self.regenerate(&t, &mut values, &old)?;
        let mut exprs: Vec<(Expr, Column)> = rel
            .output()
            .into_iter()
            .map(|c| (Expr::Column(c.id, c.ty), c))
            .collect();
        let mut new = Vec::with_capacity(values.len());
        for (i, e) in values {
            let c = column(&t, i)?;
            let column = self.new_column(c.name.as_str(), c.ty);
            new.push((i, column.clone()));
            exprs.push((e, column));
        }
        let source = Rel::Project {
            input: Box::new(rel),
            exprs,
        };
        let source = self.leave_with(ctes, source);
        let returning_row: Vec<(usize, Column)> = t
            .live_columns()
            .map(|(i, d)| (i, self.new_column(d.name.as_str(), d.ty)))
            .collect();
        let mut ns = Namespace::of_table(seen_as(&t, alias, &returning_row));
        ns.add(others)?;
        let returning = self.returning(returning, ns)?;
        Ok(BoundUpdate {
            table: t,
            source,
            old,
            set: new,
            returning,
            returning_row,
        })
    }

    /// The target joined with the other tables of an UPDATE or DELETE; gives what these show.
    fn joined_with(
        &mut self,
        target: Rel,
        ns: &mut Namespace,
        items: &[TableWithJoins],
    ) -> Result<(Rel, Namespace), SqlError> {
        let (right, others) = self.from_list(items, None)?;
        ns.add(others.clone())?;
        let rel = Rel::Join {
            kind: JoinKind::Inner,
            left: Box::new(target),
            right: Box::new(right),
            on: None,
            lateral: false,
        };
        Ok((rel, others))
    }

    /// The rows for which WHERE is true.
    fn filtered(
        &mut self,
        rel: Rel,
        filter: Option<&Ast>,
        level: &Level<'_>,
    ) -> Result<Rel, SqlError> {
        let Some(filter) = filter else {
            return Ok(rel);
        };
        let bound = level.within(Clause::Plain("WHERE"), || self.expr(filter, level))?;
        let predicate = self.to_bool(bound, "WHERE", position_of(filter))?;
        Ok(Rel::Filter {
            input: Box::new(rel),
            predicate,
        })
    }

    /// A scan of all live columns and the hidden row id.
    fn target_scan(&mut self, t: &Arc<TableDesc>) -> (Rel, Vec<(usize, Column)>) {
        let (rel, _) = self.scan(t, true);
        let old = match &rel {
            Rel::Scan { columns, .. } => columns.clone(),
            _ => Vec::new(),
        };
        (rel, old)
    }

    pub(crate) fn delete(&mut self, d: &Delete) -> Result<BoundDelete, SqlError> {
        let Delete {
            with,
            table,
            alias,
            using,
            filter,
            returning,
        } = d;
        let t = self.writable(table, "DELETE from")?;
        let ctes = self.enter_with(with.as_ref(), None)?;
        let alias = alias.as_ref().map_or(t.name.as_str(), |a| a.value.as_str());
        let (scan, old) = self.target_scan(&t);
        let mut rel = scan;
        let mut ns = Namespace::of_table(seen_as(&t, alias, &old));
        if !using.is_empty() {
            (rel, _) = self.joined_with(rel, &mut ns, using)?;
        }
        let level = Level::new(ns, None);
        rel = self.filtered(rel, filter.as_ref(), &level)?;
        let source = self.leave_with(ctes, rel);
        let returning = self.returning(returning, level.ns)?;
        Ok(BoundDelete {
            table: t,
            source,
            old,
            returning,
        })
    }
}

fn only_default(c: &ColumnDesc, name: &Ident) -> Result<(), SqlError> {
    let at = name.span.start.line as usize;
    let message = || format!("column \"{}\" can only be updated to DEFAULT", c.name);
    if c.generated.is_some() {
        return Err(SqlError::new(SqlState::GENERATED_ALWAYS, message())
            .with_detail(format!("Column \"{}\" is a generated column.", c.name))
            .at(at));
    }
    if c.identity == Some(Identity::Always) {
        return Err(SqlError::new(SqlState::GENERATED_ALWAYS, message())
            .with_detail(format!(
                "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
                c.name
            ))
            .at(at));
    }
    Ok(())
}

fn push_assignment(
    t: &TableDesc,
    out: &mut Vec<(usize, Expr)>,
    value: (usize, Expr),
    name: &Ident,
) -> Result<(), SqlError> {
    if out.iter().any(|(i, _)| *i == value.0) {
        let c = column(t, value.0)?;
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!("multiple assignments to same column \"{}\"", c.name),
        )
        .at(name.span.start.line as usize));
    }
    out.push(value);
    Ok(())
}

//! INSERT: rows with a value for each live column, of VALUES or a query, defaults filled in.

use std::sync::Arc;

use sqlparser::ast::{Expr as Ast, Query, SetExpr};

use super::context::Binder;
use super::names::{Clause, Level, Namespace};
use super::position_of;
use super::tree::{BoundInsert, Column, Expr, Rel};
use super::write::{column, column_position, is_default, seen_as};
use crate::catalog::desc::{ColumnDesc, Identity, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::{Insert, Overriding};
use crate::types::{Datum, Oid, PgType};

impl Binder<'_> {
    pub(crate) fn insert(&mut self, i: &Insert) -> Result<BoundInsert, SqlError> {
        let Insert {
            with,
            table,
            alias,
            columns,
            overriding,
            source,
            on_conflict,
            returning,
        } = i;
        let t = self.writable(table, "INSERT into")?;
        let ctes = self.enter_with(with.as_ref(), None)?;
        let mut targets = Vec::with_capacity(columns.len());
        for name in columns {
            let position = column_position(&t, name)?;
            if targets.contains(&position) {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{}\" specified more than once", name.value),
                )
                .at(name.span.start.line as usize));
            }
            targets.push(position);
        }
        let explicit = !columns.is_empty();
        if !explicit {
            targets = t.live_columns().map(|(i, _)| i).collect();
        }
        let (source, columns) =
            self.insert_source(&t, source.as_deref(), targets, explicit, *overriding)?;
        let source = self.leave_with(ctes, source);
        let alias = alias.as_ref().map_or(t.name.as_str(), |a| a.value.as_str());
        let on_conflict = match on_conflict {
            Some(c) => Some(self.on_conflict(&t, alias, &columns, c)?),
            None => None,
        };
        let row = seen_as(&t, alias, &columns);
        let returning = self.returning(returning, Namespace::of_table(row))?;
        Ok(BoundInsert {
            table: t,
            source,
            columns,
            on_conflict,
            returning,
        })
    }

    /// Rows with a value for each live column.
    fn insert_source(
        &mut self,
        t: &Arc<TableDesc>,
        source: Option<&Query>,
        targets: Vec<usize>,
        explicit: bool,
        overriding: Option<Overriding>,
    ) -> Result<(Rel, Vec<(usize, Column)>), SqlError> {
        let live: Vec<usize> = t.live_columns().map(|(i, _)| i).collect();
        let mut out = Vec::with_capacity(live.len());
        for i in &live {
            let c = column(t, *i)?;
            out.push((*i, self.new_column(c.name.as_str(), c.ty)));
        }
        let rows = match source {
            None => Some(vec![Default::default()]),
            Some(q) => plain_values(q),
        };
        let rel = match (rows, source) {
            (Some(rows), _) => {
                let mut bound_rows = Vec::with_capacity(rows.len());
                let width = rows.first().map_or(0, |r| r.len());
                for row in rows {
                    if row.len() != width {
                        return Err(SqlError::new(
                            SqlState::SYNTAX_ERROR,
                            "VALUES lists must all be the same length",
                        )
                        .at(row.first().map_or(0, position_of)));
                    }
                    bound_rows.push(self.insert_row(
                        t,
                        row,
                        &targets,
                        explicit && source.is_some(),
                        overriding,
                        &live,
                    )?);
                }
                let columns = out.iter().map(|(_, c)| c.clone()).collect();
                Rel::Values {
                    rows: bound_rows,
                    columns,
                }
            }
            (None, Some(q)) => self.insert_query(t, q, &targets, explicit, overriding, &out)?,
            (None, None) => Rel::Unit,
        };
        let generated: Vec<(usize, String, PgType)> = out
            .iter()
            .filter_map(|(i, _)| {
                let c = t.columns.get(*i)?;
                c.generated.clone().map(|g| (*i, g, c.ty))
            })
            .collect();
        if generated.is_empty() {
            return Ok((rel, out));
        }
        let mut exprs = Vec::with_capacity(out.len());
        let mut columns = Vec::with_capacity(out.len());
        for (i, c) in &out {
            match generated.iter().find(|g| g.0 == *i) {
                Some((_, text, ty)) => {
                    let e = self.generated(t, text, *ty, &out)?;
                    let new = self.new_column(Arc::clone(&c.name), *ty);
                    columns.push((*i, new.clone()));
                    exprs.push((e, new));
                }
                None => {
                    columns.push((*i, c.clone()));
                    exprs.push((Expr::Column(c.id, c.ty), c.clone()));
                }
            }
        }
        Ok((
            Rel::Project {
                input: Box::new(rel),
                exprs,
            },
            columns,
        ))
    }

    /// One row of VALUES as values of all live columns.
    fn insert_row(
        &mut self,
        t: &TableDesc,
        row: &[Ast],
        targets: &[usize],
        explicit: bool,
        overriding: Option<Overriding>,
        live: &[usize],
    ) -> Result<Vec<Expr>, SqlError> {
        check_width(
            row.len(),
            targets.len(),
            explicit,
            row.get(targets.len()).map_or(0, position_of),
        )?;
        let level = Level::new(Namespace::default(), None);
        level.clause.set(Clause::Plain("VALUES"));
        let mut out = Vec::with_capacity(live.len());
        for i in live {
            let c = column(t, *i)?;
            let given = targets.iter().position(|p| p == i).and_then(|p| row.get(p));
            let value = match given {
                Some(e) if is_default(e) => self.default_of(t, *i)?,
                Some(e) => {
                    let at = position_of(e);
                    let bound = self.expr(e, &level)?;
                    if c.generated.is_some() {
                        return Err(generated_always(c).at(at));
                    }
                    match (c.identity, overriding) {
                        (Some(_), Some(Overriding::User)) => self.default_of(t, *i)?,
                        (Some(Identity::Always), None) => return Err(generated_always(c).at(at)),
                        _ => self.coerce_assign(bound, c.ty, at, Some(&c.name))?,
                    }
                }
                None if c.generated.is_some() => Expr::Const(Datum::Null, c.ty),
                None => self.default_of(t, *i)?,
            };
            out.push(value);
        }
        Ok(out)
    }

    fn insert_query(
        &mut self,
        t: &TableDesc,
        q: &Query,
        targets: &[usize],
        explicit: bool,
        overriding: Option<Overriding>,
        out: &[(usize, Column)],
    ) -> Result<Rel, SqlError> {
        let mut bound = self.query_bound(q, None, false)?;
        check_width(bound.columns.len(), targets.len(), explicit, 0)?;
        let mut exprs = Vec::with_capacity(out.len());
        for (n, p) in targets.iter().enumerate() {
            let c = column(t, *p)?;
            if bound
                .columns
                .get(n)
                .is_some_and(|b| b.ty.oid == Oid::UNKNOWN)
            {
                self.coerce_output(&mut bound, n, PgType::new(c.ty.oid), 0)?;
            }
        }
        for (i, new) in out {
            let c = column(t, *i)?;
            let given = targets
                .iter()
                .position(|p| p == i)
                .and_then(|p| bound.columns.get(p).cloned());
            let value = match given {
                Some(from) => {
                    if c.generated.is_some() {
                        return Err(generated_always(c));
                    }
                    match (c.identity, overriding) {
                        (Some(_), Some(Overriding::User)) => self.default_of(t, *i)?,
                        (Some(Identity::Always), None) => return Err(generated_always(c)),
                        _ => {
                            let e = Expr::Column(from.id, from.ty);
                            self.coerce_assign(e, c.ty, 0, Some(&c.name))?
                        }
                    }
                }
                None if c.generated.is_some() => Expr::Const(Datum::Null, c.ty),
                None => self.default_of(t, *i)?,
            };
            exprs.push((value, new.clone()));
        }
        Ok(Rel::Project {
            input: Box::new(bound.rel),
            exprs,
        })
    }
}

fn generated_always(c: &ColumnDesc) -> SqlError {
    let e = SqlError::new(
        SqlState::GENERATED_ALWAYS,
        format!(
            "cannot insert a non-DEFAULT value into column \"{}\"",
            c.name
        ),
    );
    if c.generated.is_some() {
        e.with_detail(format!("Column \"{}\" is a generated column.", c.name))
    } else {
        e.with_detail(format!(
            "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
            c.name
        ))
        .with_hint("Use OVERRIDING SYSTEM VALUE to override.")
    }
}

/// The rows of a plain VALUES.
fn plain_values(q: &Query) -> Option<Vec<&[Ast]>> {
    let plain = q.with.is_none()
        && q.order_by.is_none()
        && q.limit_clause.is_none()
        && q.fetch.is_none()
        && q.locks.is_empty();
    match (&*q.body, plain) {
        (SetExpr::Values(v), true) => Some(v.rows.iter().map(|r| r.content.as_slice()).collect()),
        _ => None,
    }
}

fn check_width(given: usize, targets: usize, explicit: bool, at: usize) -> Result<(), SqlError> {
    if given > targets {
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "INSERT has more expressions than target columns",
        )
        .at(at));
    }
    if given < targets && explicit {
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "INSERT has more target columns than expressions",
        ));
    }
    Ok(())
}

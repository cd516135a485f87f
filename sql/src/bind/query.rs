//! Queries: WITH, set operations, VALUES, ORDER BY and LIMIT of set operations.

use std::sync::Arc;

use sqlparser::ast::{
    Expr as Ast, Fetch, LimitClause, LockClause, Offset, OrderBy, OrderByExpr, OrderByKind, Query,
    SetExpr, SetOperator, SetQuantifier, Value, Values,
};

use super::coerce::Context;
use super::context::Binder;
use super::names::{Clause, Level, Namespace};
use super::position_of;
use super::tree::{BoundQuery, Column, Expr, OutputColumn, Rel, RowLock, SetOp, SortKey};
use crate::error::{SqlError, SqlState};
use crate::parse::depth::with_stack;
use crate::types::{Oid, PgType, format_type};

/// A bound query within a statement.
pub(crate) struct Bound {
    pub(crate) rel: Rel,
    /// The columns that count, in order.
    pub(crate) columns: Vec<Column>,
    /// The table columns that they are.
    pub(crate) origins: Vec<Option<(Oid, i16)>>,
    pub(crate) locks: Vec<RowLock>,
}

/// What stands behind the body of a query.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tail<'q> {
    pub(crate) order: &'q [OrderByExpr],
    pub(crate) limit: Option<&'q Ast>,
    pub(crate) offset: Option<&'q Ast>,
    pub(crate) ties: bool,
    pub(crate) locks: &'q [LockClause],
    /// FETCH FIRST without a number: one row.
    pub(crate) one: bool,
}

impl Tail<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
            && self.limit.is_none()
            && self.offset.is_none()
            && !self.one
            && self.locks.is_empty()
    }
}

/// The relation with exactly these columns in this order.
pub(crate) fn exact(rel: Rel, columns: &[Column]) -> Rel {
    let out = rel.output();
    if out.len() == columns.len() && out.iter().zip(columns).all(|(a, b)| a.id == b.id) {
        return rel;
    }
    let exprs = columns
        .iter()
        .map(|c| (Expr::Column(c.id, c.ty), c.clone()))
        .collect();
    Rel::Project {
        input: Box::new(rel),
        exprs,
    }
}

/// The clauses of a query, each of them consumed or refused.
fn tail(q: &Query) -> Result<Tail<'_>, SqlError> {
    let Query {
        with: _,
        body: _,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = q;
    if for_clause.is_some()
        || settings.is_some()
        || format_clause.is_some()
        || !pipe_operators.is_empty()
    {
        return Err(SqlError::unsupported("this clause of a query"));
    }
    let mut out = Tail {
        locks,
        ..Tail::default()
    };
    match order_by {
        None => {}
        Some(OrderBy {
            kind: OrderByKind::Expressions(keys),
            interpolate: None,
        }) => {
            out.order = keys;
        }
        Some(_) => return Err(SqlError::unsupported("this form of ORDER BY")),
    }
    match limit_clause {
        None => {}
        Some(LimitClause::LimitOffset {
            limit,
            offset,
            limit_by,
        }) if limit_by.is_empty() => {
            out.limit = limit.as_ref();
            out.offset = offset.as_ref().map(|Offset { value, rows: _ }| value);
        }
        Some(_) => return Err(SqlError::unsupported("this form of LIMIT")),
    }
    if let Some(Fetch {
        with_ties,
        percent: _,
        quantity,
    }) = fetch
    {
        out.ties = *with_ties;
        match quantity {
            Some(q) => out.limit = Some(q),
            None => out.one = true,
        }
    }
    Ok(out)
}

impl Binder<'_> {
    /// The query of a statement.
    pub(crate) fn top_query(&mut self, q: &Query) -> Result<BoundQuery, SqlError> {
        let bound = self.query_bound(q, None, true)?;
        let output: Arc<[OutputColumn]> = bound
            .columns
            .iter()
            .zip(&bound.origins)
            .map(|(c, origin)| OutputColumn {
                name: Arc::clone(&c.name),
                ty: c.ty,
                origin: *origin,
            })
            .collect();
        Ok(BoundQuery {
            rel: bound.rel,
            columns: bound.columns,
            output,
            locks: bound.locks,
        })
    }

    /// A query within an expression or FROM.
    pub(crate) fn nested_query(
        &mut self,
        q: &Query,
        level: &Level<'_>,
        settle: bool,
    ) -> Result<Bound, SqlError> {
        let before = std::mem::replace(&mut self.with_keys, false);
        let out = self.query_bound(q, Some(level), settle);
        self.with_keys = before;
        let out = out?;
        if !out.locks.is_empty() {
            return Err(SqlError::unsupported("FOR UPDATE in a subquery"));
        }
        Ok(out)
    }

    pub(crate) fn query_bound(
        &mut self,
        q: &Query,
        parent: Option<&Level<'_>>,
        settle: bool,
    ) -> Result<Bound, SqlError> {
        with_stack(|| {
            let tail = tail(q)?;
            let count = self.enter_with(q.with.as_ref(), parent)?;
            let bound = self.body(&q.body, &tail, parent, settle);
            let mut bound = match bound {
                Ok(b) => b,
                Err(e) => {
                    let left = self.ctes.len().saturating_sub(count);
                    self.ctes.truncate(left);
                    return Err(e);
                }
            };
            bound.rel = self.leave_with(count, bound.rel);
            Ok(bound)
        })
    }

    /// The body of a query with what stands behind it.
    pub(crate) fn body(
        &mut self,
        body: &SetExpr,
        tail: &Tail<'_>,
        parent: Option<&Level<'_>>,
        settle: bool,
    ) -> Result<Bound, SqlError> {
        let bound = match body {
            SetExpr::Select(s) => return self.select(s, tail, parent, settle),
            SetExpr::Query(inner) => {
                if tail.is_empty() {
                    return self.query_bound(inner, parent, settle);
                }
                let plain = inner.with.is_none()
                    && inner.order_by.is_none()
                    && inner.limit_clause.is_none()
                    && inner.fetch.is_none()
                    && inner.locks.is_empty();
                if plain {
                    return self.body(&inner.body, tail, parent, settle);
                }
                self.query_bound(inner, parent, settle)?
            }
            SetExpr::SetOperation {
                op,
                set_quantifier,
                left,
                right,
            } => self.set_operation(*op, *set_quantifier, left, right, parent)?,
            SetExpr::Values(v) => self.values(v, parent, settle)?,
            SetExpr::Insert(_)
            | SetExpr::Update(_)
            | SetExpr::Delete(_)
            | SetExpr::Merge(_)
            | SetExpr::Table(_) => return Err(SqlError::unsupported("this form of a query")),
        };
        self.finish(bound, tail, parent)
    }

    /// ORDER BY and LIMIT over output columns.
    fn finish(
        &mut self,
        mut bound: Bound,
        tail: &Tail<'_>,
        parent: Option<&Level<'_>>,
    ) -> Result<Bound, SqlError> {
        if !tail.locks.is_empty() {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "FOR UPDATE is not allowed with UNION/INTERSECT/EXCEPT",
            ));
        }
        let mut keys = Vec::new();
        for OrderByExpr {
            expr,
            options,
            with_fill: _,
        } in tail.order
        {
            let at = position_of(expr);
            let index = match output_position(expr, bound.columns.len(), "ORDER BY")? {
                Some(i) => i,
                None => {
                    let name = match expr {
                        Ast::Identifier(i) => Some(i.value.as_str()),
                        _ => None,
                    };
                    let found: Vec<usize> = bound
                        .columns
                        .iter()
                        .enumerate()
                        .filter(|(_, c)| name == Some(&*c.name))
                        .map(|(i, _)| i)
                        .collect();
                    match found.as_slice() {
                        [i] => *i,
                        [] if name.is_some() => {
                            return Err(SqlError::new(
                                SqlState::UNDEFINED_COLUMN,
                                format!("column \"{}\" does not exist", name.unwrap_or("")),
                            )
                            .at(at));
                        }
                        [] => {
                            // A column that is not there is the first error.
                            let level =
                                Level::new(Namespace::of_columns("", &bound.columns), parent);
                            self.expr(expr, &level)?;
                            return Err(SqlError::new(
                                SqlState::FEATURE_NOT_SUPPORTED,
                                "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                            )
                            .with_detail(
                                "Only result column names can be used, not expressions or \
                                 functions.",
                            )
                            .with_hint(
                                "Add the expression/function to every SELECT, or move the UNION \
                                 into a FROM clause.",
                            )
                            .at(at));
                        }
                        _ => {
                            return Err(SqlError::new(
                                SqlState::AMBIGUOUS_COLUMN,
                                format!("ORDER BY \"{}\" is ambiguous", name.unwrap_or("")),
                            )
                            .at(at));
                        }
                    }
                }
            };
            let Some(c) = bound.columns.get(index) else {
                continue;
            };
            keys.push(self.sort_key(Expr::Column(c.id, c.ty), options, at)?);
        }
        if !keys.is_empty() {
            bound.rel = Rel::Sort {
                input: Box::new(bound.rel),
                keys: keys.clone(),
            };
        }
        bound.rel = self.limit(bound.rel, tail, keys, parent)?;
        Ok(bound)
    }

    /// LIMIT and OFFSET, if any.
    pub(crate) fn limit(
        &mut self,
        rel: Rel,
        tail: &Tail<'_>,
        keys: Vec<SortKey>,
        parent: Option<&Level<'_>>,
    ) -> Result<Rel, SqlError> {
        let mut limit = self.count(tail.limit, "LIMIT", parent)?;
        if tail.one {
            limit = Some(Expr::Const(
                crate::types::Datum::Int8(1),
                PgType::new(Oid::INT8),
            ));
        }
        let offset = self.count(tail.offset, "OFFSET", parent)?;
        let with_ties = if tail.ties {
            if keys.is_empty() {
                return Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    "WITH TIES cannot be specified without ORDER BY clause",
                ));
            }
            Some(keys)
        } else {
            None
        };
        if limit.is_none() && offset.is_none() {
            return Ok(rel);
        }
        Ok(Rel::Limit {
            input: Box::new(rel),
            limit,
            offset,
            with_ties,
        })
    }

    fn count(
        &mut self,
        e: Option<&Ast>,
        what: &'static str,
        parent: Option<&Level<'_>>,
    ) -> Result<Option<Expr>, SqlError> {
        let Some(e) = e else { return Ok(None) };
        let at = position_of(e);
        let level = Level::new(Namespace::default(), parent);
        level.clause.set(Clause::Plain(what));
        let bound = match self.expr(e, &level) {
            Err(e) if e.state == SqlState::UNDEFINED_COLUMN && e.hint.is_none() => {
                return Err(SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    format!("argument of {what} must not contain variables"),
                )
                .at(at));
            }
            other => other?,
        };
        if !self.can_coerce(bound.ty().oid, Oid::INT8, Context::Assignment) {
            return Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "argument of {what} must be type bigint, not type {}",
                    format_type(bound.ty())
                ),
            )
            .at(at));
        }
        self.coerce(bound, PgType::new(Oid::INT8), Context::Assignment, at)
            .map(Some)
    }

    fn set_operation(
        &mut self,
        op: SetOperator,
        quantifier: SetQuantifier,
        left: &SetExpr,
        right: &SetExpr,
        parent: Option<&Level<'_>>,
    ) -> Result<Bound, SqlError> {
        let (op, what) = match op {
            SetOperator::Union => (SetOp::Union, "UNION"),
            SetOperator::Except | SetOperator::Minus => (SetOp::Except, "EXCEPT"),
            SetOperator::Intersect => (SetOp::Intersect, "INTERSECT"),
        };
        let all = match quantifier {
            SetQuantifier::All => true,
            SetQuantifier::Distinct | SetQuantifier::None => false,
            _ => return Err(SqlError::unsupported("UNION BY NAME")),
        };
        let mut left = with_stack(|| self.set_arm(left, parent, false))?;
        let mut right = with_stack(|| self.set_arm(right, parent, false))?;
        if !left.locks.is_empty() || !right.locks.is_empty() {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "FOR UPDATE is not allowed with UNION/INTERSECT/EXCEPT",
            ));
        }
        if left.columns.len() != right.columns.len() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("each {what} query must have the same number of columns"),
            ));
        }
        let mut columns = Vec::with_capacity(left.columns.len());
        for i in 0..left.columns.len() {
            let (Some(l), Some(r)) = (left.columns.get(i).cloned(), right.columns.get(i).cloned())
            else {
                continue;
            };
            let common = self.common_type(&[l.ty.oid, r.ty.oid], what, 0)?;
            let typmod = if l.ty == r.ty { l.ty.typmod } else { -1 };
            if l.ty.oid != common {
                self.coerce_output(&mut left, i, PgType::new(common), 0)?;
            }
            if r.ty.oid != common {
                self.coerce_output(&mut right, i, PgType::new(common), 0)?;
            }
            if !all {
                self.must_equal(PgType::new(common), 0)?;
            }
            columns.push(self.new_column(l.name, PgType::with_typmod(common, typmod)));
        }
        let rel = Rel::SetOp {
            op,
            all,
            left: Box::new(exact(left.rel, &left.columns)),
            right: Box::new(exact(right.rel, &right.columns)),
            columns: columns.clone(),
        };
        let origins = vec![None; columns.len()];
        Ok(Bound {
            rel,
            columns,
            origins,
            locks: Vec::new(),
        })
    }

    fn values(
        &mut self,
        v: &Values,
        parent: Option<&Level<'_>>,
        settle: bool,
    ) -> Result<Bound, SqlError> {
        let Values {
            explicit_row: _,
            value_keyword: _,
            rows,
        } = v;
        let level = Level::new(Namespace::default(), parent);
        level.clause.set(Clause::Plain("VALUES"));
        let width = rows.first().map_or(0, |r| r.content.len());
        let mut by_column: Vec<Vec<Expr>> = vec![Vec::with_capacity(rows.len()); width];
        let mut places = vec![0; width];
        for row in rows {
            if row.content.len() != width {
                return Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    "VALUES lists must all be the same length",
                )
                .at(row.content.first().map_or(0, position_of)));
            }
            for ((column, place), e) in by_column.iter_mut().zip(&mut places).zip(&row.content) {
                if *place == 0 {
                    *place = position_of(e);
                }
                column.push(self.expr(e, &level)?);
            }
        }
        let mut out: Vec<Vec<Expr>> = (0..rows.len()).map(|_| Vec::with_capacity(width)).collect();
        let mut columns = Vec::with_capacity(width);
        for (i, (exprs, place)) in by_column.into_iter().zip(places).enumerate() {
            let all_unknown = exprs.iter().all(|e| e.ty().oid == Oid::UNKNOWN);
            let (exprs, ty) = if all_unknown && !settle {
                (exprs, PgType::new(Oid::UNKNOWN))
            } else {
                self.unify(exprs, "VALUES", place)?
            };
            for (row, e) in out.iter_mut().zip(exprs) {
                row.push(e);
            }
            columns.push(self.new_column(format!("column{}", i + 1), ty));
        }
        let origins = vec![None; columns.len()];
        Ok(Bound {
            rel: Rel::Values {
                rows: out,
                columns: columns.clone(),
            },
            columns,
            origins,
            locks: Vec::new(),
        })
    }
}

/// The output column that an integer constant names.
pub(crate) fn output_position(
    e: &Ast,
    columns: usize,
    clause: &str,
) -> Result<Option<usize>, SqlError> {
    let Ast::Value(v) = e else { return Ok(None) };
    let at = v.span.start.line as usize;
    match &v.value {
        Value::Number(n, _) => match n.parse::<i64>() {
            Ok(n) => match usize::try_from(n) {
                Ok(i) if (1..=columns).contains(&i) => Ok(Some(i - 1)),
                _ => Err(SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    format!("{clause} position {n} is not in select list"),
                )
                .at(at)),
            },
            Err(_) => Err(non_integer(clause, at)),
        },
        Value::SingleQuotedString(_) | Value::Boolean(_) | Value::Null => {
            Err(non_integer(clause, at))
        }
        _ => Ok(None),
    }
}

fn non_integer(clause: &str, at: usize) -> SqlError {
    SqlError::new(
        SqlState::SYNTAX_ERROR,
        format!("non-integer constant in {clause}"),
    )
    .at(at)
}

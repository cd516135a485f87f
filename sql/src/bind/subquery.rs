//! Subqueries in expressions, IN, ANY / ALL, row comparisons.

use sqlparser::ast::{BinaryOperator, Expr as Ast, Query};

use super::coerce::{Context, array_of, element_of};
use super::context::Binder;
use super::expr::{row_items, unequal_rows};
use super::names::Level;
use super::position_of;
use super::tree::{Expr, Subquery, SubqueryKind};
use crate::error::{SqlError, SqlState};
use crate::types::registry::Operator;
use crate::types::{Datum, Oid, PgType};

fn operator_of(op: &BinaryOperator) -> Result<(String, usize), SqlError> {
    match op {
        BinaryOperator::PGCustomBinaryOperator(parts) => Ok(super::position::of_operator(parts)),
        other => Err(SqlError::unsupported(format!("operator {other}"))),
    }
}

fn needs_bool(op: &Operator, at: usize) -> Result<(), SqlError> {
    if op.function.result == Oid::BOOL {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::WRONG_OBJECT_TYPE,
        "op ANY/ALL (array) requires operator to yield boolean",
    )
    .at(at))
}

impl Binder<'_> {
    /// EXISTS.
    pub(crate) fn exists(
        &mut self,
        q: &Query,
        negated: bool,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let bound = self.nested_query(q, level, true)?;
        let e = Expr::Subquery(Box::new(Subquery {
            rel: bound.rel,
            columns: bound.columns,
            kind: SubqueryKind::Exists,
            ty: PgType::new(Oid::BOOL),
        }));
        Ok(if negated { Expr::Not(Box::new(e)) } else { e })
    }

    /// A subquery as a value.
    pub(crate) fn scalar_subquery(
        &mut self,
        q: &Query,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let bound = self.nested_query(q, level, true)?;
        let [column] = bound.columns.as_slice() else {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "subquery must return only one column",
            ));
        };
        let ty = column.ty;
        Ok(Expr::Subquery(Box::new(Subquery {
            rel: bound.rel,
            columns: bound.columns,
            kind: SubqueryKind::Scalar,
            ty,
        })))
    }

    /// ARRAY(SELECT ...).
    pub(crate) fn array_subquery(
        &mut self,
        q: &Query,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let bound = self.nested_query(q, level, true)?;
        let [column] = bound.columns.as_slice() else {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "subquery must return only one column",
            ));
        };
        let array = if super::coerce::category(column.ty.oid) == 'A' {
            Some(column.ty.oid)
        } else {
            array_of(column.ty.oid)
        };
        let Some(array) = array else {
            return Err(SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!(
                    "could not find array type for data type {}",
                    crate::types::format_type(column.ty)
                ),
            ));
        };
        Ok(Expr::Subquery(Box::new(Subquery {
            rel: bound.rel,
            columns: bound.columns,
            kind: SubqueryKind::Array,
            ty: PgType::new(array),
        })))
    }

    /// `left op ANY|ALL (subquery)`, row-wise.
    fn compare_subquery(
        &mut self,
        left: Vec<Expr>,
        name: &str,
        q: &Query,
        all: bool,
        at: usize,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let mut bound = self.nested_query(q, level, true)?;
        if bound.columns.len() != left.len() {
            let few = bound.columns.len() < left.len();
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                if few {
                    "subquery has too few columns"
                } else {
                    "subquery has too many columns"
                },
            )
            .at(at));
        }
        let mut functions = Vec::new();
        let mut lefts = Vec::new();
        let mut comparison = None;
        for (i, l) in left.into_iter().enumerate() {
            let Some(column) = bound.columns.get(i).cloned() else {
                continue;
            };
            let op = self.operator(name, l.ty().oid, column.ty.oid, at)?;
            if op.function.result != Oid::BOOL {
                return Err(SqlError::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "row comparison operator must yield type boolean, not type {}",
                        crate::types::format_type(PgType::new(op.function.result))
                    ),
                )
                .at(at));
            }
            let declared = [op.left, op.right];
            let actual = [l.ty().oid, column.ty.oid];
            let Some((targets, _)) = self.polymorphic(&declared, &actual, Oid::BOOL) else {
                return Err(SqlError::internal("operator types"));
            };
            let [lt, rt] = targets.as_slice() else {
                return Err(SqlError::internal("operator types"));
            };
            lefts.push(self.coerce(l, PgType::new(*lt), Context::Implicit, at)?);
            if column.ty.oid != *rt {
                self.coerce_output(&mut bound, i, PgType::new(*rt), at)?;
            }
            functions.push(op.function);
            comparison = comparison.or(op.comparison);
        }
        let Some(comparison) = comparison else {
            return Err(SqlError::unsupported(format!(
                "operator {name} with ANY or ALL of a subquery"
            ))
            .at(at));
        };
        Ok(Expr::Subquery(Box::new(Subquery {
            rel: bound.rel,
            columns: bound.columns,
            kind: SubqueryKind::Compare {
                left: lefts,
                functions,
                comparison,
                all,
            },
            ty: PgType::new(Oid::BOOL),
        })))
    }

    /// `x [NOT] IN (SELECT ...)`
    pub(crate) fn in_subquery(
        &mut self,
        e: &Ast,
        q: &Query,
        negated: bool,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let at = position_of(e);
        let left = self.left_side(e, level)?;
        if negated {
            // NOT IN is NOT (= ANY): row-wise `<> ALL` would compare rows as unequal too early.
            if left.len() > 1 {
                let any = self.compare_subquery(left, "=", q, false, at, level)?;
                return Ok(Expr::Not(Box::new(any)));
            }
            return self.compare_subquery(left, "<>", q, true, at, level);
        }
        self.compare_subquery(left, "=", q, false, at, level)
    }

    fn left_side(&mut self, e: &Ast, level: &Level<'_>) -> Result<Vec<Expr>, SqlError> {
        match row_items(e) {
            Some(items) => items.iter().map(|i| self.expr(i, level)).collect(),
            None => match self.expr(e, level)? {
                Expr::Row(items) => Ok(items),
                one => Ok(vec![one]),
            },
        }
    }

    /// `op ANY|ALL (...)` of an array or a subquery.
    pub(crate) fn quantified(
        &mut self,
        left: &Ast,
        op: &BinaryOperator,
        right: &Ast,
        all: bool,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let (name, at) = operator_of(op)?;
        if let Ast::Subquery(q) = right {
            let left = self.left_side(left, level)?;
            return self.compare_subquery(left, &name, q, all, at, level);
        }
        let left_bound = self.expr(left, level)?;
        let array = self.expr(right, level)?;
        self.array_compare(&name, left_bound, array, all, at, position_of(right))
    }

    fn array_compare(
        &mut self,
        name: &str,
        left: Expr,
        array: Expr,
        all: bool,
        at: usize,
        array_at: usize,
    ) -> Result<Expr, SqlError> {
        let array_ty = array.ty().oid;
        let element = match array_ty {
            Oid::UNKNOWN => Oid::UNKNOWN,
            Oid::INT2VECTOR => Oid::INT2,
            Oid::OIDVECTOR => Oid::OID,
            other => match element_of(other) {
                Some(e) => e,
                None => {
                    return Err(SqlError::new(
                        SqlState::WRONG_OBJECT_TYPE,
                        "op ANY/ALL (array) requires array on right side",
                    )
                    .at(at));
                }
            },
        };
        let op = self.operator(name, left.ty().oid, element, at)?;
        needs_bool(op, at)?;
        let declared = [op.left, op.right];
        let actual = [left.ty().oid, element];
        let Some((targets, _)) = self.polymorphic(&declared, &actual, Oid::BOOL) else {
            return Err(SqlError::internal("operator types"));
        };
        let (lt, rt) = match targets.as_slice() {
            [a, b] => (*a, *b),
            _ => return Err(SqlError::internal("operator types")),
        };
        let left = self.coerce(left, PgType::new(lt), Context::Implicit, at)?;
        let Some(array_target) = array_of(rt) else {
            return Err(SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!(
                    "could not find array type for data type {}",
                    crate::types::format_type(PgType::new(rt))
                ),
            )
            .at(at));
        };
        let array = if matches!(array_ty, Oid::INT2VECTOR | Oid::OIDVECTOR) {
            array
        } else {
            self.coerce(
                array,
                PgType::new(array_target),
                Context::Implicit,
                array_at,
            )?
        };
        Ok(Expr::ArrayCompare {
            left: Box::new(left),
            function: op.function,
            comparison: op.comparison,
            array: Box::new(array),
            all,
        })
    }

    /// `x [NOT] IN (a, b, ...)`
    pub(crate) fn in_list(
        &mut self,
        e: &Ast,
        list: &[Ast],
        negated: bool,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let at = position_of(e);
        let name = if negated { "<>" } else { "=" };
        let junction = |parts: Vec<Expr>| {
            let mut parts = parts;
            match (parts.len(), negated) {
                (1, _) => parts.remove(0),
                (_, true) => Expr::And(parts),
                (_, false) => Expr::Or(parts),
            }
        };
        if let Some(items) = row_items(e) {
            let mut parts = Vec::new();
            for item in list {
                let Some(other) = row_items(item) else {
                    return Err(unequal_rows(position_of(item)));
                };
                parts.push(self.row_compare(name, items, other, at, level)?);
            }
            return Ok(junction(parts));
        }
        let left = self.expr(e, level)?;
        let mut bound = Vec::with_capacity(list.len());
        for i in list {
            bound.push(self.expr(i, level)?);
        }
        if bound.len() > 1 && !matches!(left, Expr::Row(_)) {
            let mut types = vec![left.ty().oid];
            types.extend(bound.iter().map(|b| b.ty().oid));
            if let Ok(common) = self.try_common_type(&types)
                && common != Oid::RECORD
                && let Some(array) = array_of(common)
            {
                let mut items = Vec::with_capacity(bound.len());
                for (b, i) in bound.into_iter().zip(list) {
                    items.push(self.coerce(
                        b,
                        PgType::new(common),
                        Context::Implicit,
                        position_of(i),
                    )?);
                }
                let array = Expr::Array {
                    items,
                    ty: PgType::new(array),
                };
                return self.array_compare(name, left, array, negated, at, at);
            }
        }
        let mut parts = Vec::new();
        for (b, i) in bound.into_iter().zip(list) {
            let places = [at, at, position_of(i)];
            parts.push(self.apply_operator(name, Some(left.clone()), b, places)?);
        }
        Ok(junction(parts))
    }

    /// `(a, b) op (SELECT x, y)`: the one row of the subquery.
    pub(crate) fn row_subquery(
        &mut self,
        items: &[Ast],
        name: &str,
        q: &Query,
        at: usize,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        if name != "=" && name != "<>" {
            return Err(
                SqlError::unsupported(format!("row comparison {name} with a subquery")).at(at),
            );
        }
        let left: Vec<Expr> = items
            .iter()
            .map(|i| self.expr(i, level))
            .collect::<Result<_, _>>()?;
        let any = self.compare_subquery(left, "=", q, false, at, level)?;
        Ok(if name == "=" {
            any
        } else {
            Expr::Not(Box::new(any))
        })
    }

    /// `(a, b) op (c, d)`
    pub(crate) fn row_compare(
        &mut self,
        name: &str,
        a: &[Ast],
        b: &[Ast],
        at: usize,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        if a.len() != b.len() {
            return Err(unequal_rows(at));
        }
        let left = a
            .iter()
            .map(|e| self.expr(e, level))
            .collect::<Result<Vec<_>, _>>()?;
        let right = b
            .iter()
            .map(|e| self.expr(e, level))
            .collect::<Result<Vec<_>, _>>()?;
        self.row_compare_bound(name, left, right, at)
    }

    /// The same on bound fields.
    pub(crate) fn row_compare_bound(
        &mut self,
        name: &str,
        left: Vec<Expr>,
        right: Vec<Expr>,
        at: usize,
    ) -> Result<Expr, SqlError> {
        if left.len() != right.len() {
            return Err(unequal_rows(at));
        }
        if left.is_empty() {
            return Err(SqlError::unsupported("comparison of rows without columns").at(at));
        }
        let each = |binder: &mut Self, name: &str| -> Result<Vec<Expr>, SqlError> {
            left.iter()
                .zip(&right)
                .map(|(l, r)| binder.compare(name, l.clone(), r.clone(), at))
                .collect()
        };
        match name {
            "=" => Ok(Expr::And(each(self, "=")?)),
            "<>" => Ok(Expr::Or(each(self, "<>")?)),
            "<" | "<=" | ">" | ">=" => {
                let strict = if name.starts_with('<') { "<" } else { ">" };
                let equal = each(self, "=")?;
                let less = each(self, strict)?;
                let mut last = each(self, name)?;
                let Some(mut out) = last.pop() else {
                    return Ok(Expr::Const(Datum::Null, PgType::new(Oid::BOOL)));
                };
                for (e, l) in equal.into_iter().zip(less).rev().skip(1) {
                    out = Expr::Or(vec![l, Expr::And(vec![e, out])]);
                }
                Ok(out)
            }
            _ => Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("could not determine interpretation of row comparison operator {name}"),
            )
            .with_hint("Row comparison operators must be associated with btree operator families.")
            .at(at)),
        }
    }
}

//! Expressions: from syntax to the bound tree.

use sqlparser::ast::{
    self, AccessExpr, BinaryOperator, Expr as Ast, Subscript, UnaryOperator, Value, ValueWithSpan,
};

use super::coerce::{Context, array_of, category, element_of};
use super::context::Binder;
use super::names::Level;
use super::position_of;
use super::tree::Expr;
use super::type_name::resolve_type;
use crate::error::{SqlError, SqlState};
use crate::parse::depth::with_stack;
use crate::types::registry::registry;
use crate::types::{Datum, Oid, PgType, format_type};

/// A constant that has no type of its own yet.
pub(crate) fn unknown(text: &str) -> Expr {
    Expr::Const(Datum::text(text), PgType::new(Oid::UNKNOWN))
}

impl Binder<'_> {
    /// Binds an expression.
    pub(crate) fn expr(&mut self, e: &Ast, level: &Level<'_>) -> Result<Expr, SqlError> {
        with_stack(|| self.expr_inner(e, level))
    }

    fn expr_inner(&mut self, e: &Ast, level: &Level<'_>) -> Result<Expr, SqlError> {
        let position = || position_of(e);
        match e {
            Ast::Value(v) => self.value(v),
            Ast::Identifier(i) if i.quote_style.is_none() && i.value == "default" => {
                Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    "DEFAULT is not allowed in this context",
                )
                .at(position()))
            }
            Ast::Identifier(i) => level.column(i),
            Ast::CompoundIdentifier(parts) => level.qualified(parts),
            Ast::Nested(inner) => self.expr(inner, level),
            Ast::BinaryOp { left, op, right } => self.binary(e, left, op, right, level),
            Ast::Prefixed { prefix, value } => {
                let right = self.expr(value, level)?;
                let at = prefix.span.start.line as usize;
                self.apply_operator(&prefix.value, None, right, [at, at, position_of(value)])
            }
            Ast::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => {
                let inner = self.expr(expr, level)?;
                let inner = self.to_bool(inner, "NOT", position_of(expr))?;
                Ok(match inner {
                    Expr::Const(Datum::Bool(b), ty) if self.fold => {
                        Expr::Const(Datum::Bool(!b), ty)
                    }
                    inner => Expr::Not(Box::new(inner)),
                })
            }
            Ast::IsNull(inner) | Ast::IsNotNull(inner) => {
                let negated = matches!(e, Ast::IsNotNull(_));
                let arg = self.expr(inner, level)?;
                let arg = Box::new(self.settle_unknown(arg)?);
                Ok(Expr::IsNull { arg, negated })
            }
            Ast::IsTrue(x) => self.is_bool(x, Some(true), false, "IS TRUE", level),
            Ast::IsNotTrue(x) => self.is_bool(x, Some(true), true, "IS NOT TRUE", level),
            Ast::IsFalse(x) => self.is_bool(x, Some(false), false, "IS FALSE", level),
            Ast::IsNotFalse(x) => self.is_bool(x, Some(false), true, "IS NOT FALSE", level),
            Ast::IsUnknown(x) => self.is_bool(x, None, false, "IS UNKNOWN", level),
            Ast::IsNotUnknown(x) => self.is_bool(x, None, true, "IS NOT UNKNOWN", level),
            Ast::IsDistinctFrom(a, b) => self.distinct(a, b, false, level),
            Ast::IsNotDistinctFrom(a, b) => self.distinct(a, b, true, level),
            Ast::InList {
                expr,
                list,
                negated,
            } => self.in_list(expr, list, *negated, level),
            Ast::InSubquery {
                expr,
                subquery,
                negated,
            } => self.in_subquery(expr, subquery, *negated, level),
            Ast::Between {
                expr,
                negated,
                low,
                high,
            } => self.between(expr, *negated, low, high, level),
            Ast::AnyOp {
                left,
                compare_op,
                right,
                is_some: _,
            } => self.quantified(left, compare_op, right, false, level),
            Ast::AllOp {
                left,
                compare_op,
                right,
            } => self.quantified(left, compare_op, right, true, level),
            Ast::Cast {
                kind: _,
                expr,
                data_type,
                array: false,
                format: None,
            } => {
                let target = resolve_type(data_type)?;
                // ARRAY[...]::type[] gives its elements the type.
                if let (Ast::Array(a), Some(element)) = (&**expr, element_of(target.oid))
                    && category(target.oid) == 'A'
                {
                    let element = PgType::with_typmod(element, target.typmod);
                    return self.array(&a.elem, Some(element), position_of(expr), level);
                }
                let inner = self.expr(expr, level)?;
                self.coerce(inner, target, Context::Explicit, position_of(expr))
            }
            Ast::TypedString(t) => {
                let target = resolve_type(&t.data_type)?;
                let at = t.value.span.start.line as usize;
                let text = self.value(&t.value)?;
                self.coerce(text, target, Context::Explicit, at)
            }
            Ast::Collate { expr, collation } => {
                let inner = self.expr(expr, level)?;
                super::call::check_collation(collation)?;
                if category(inner.ty().oid) != 'S' && inner.ty().oid != Oid::UNKNOWN {
                    return Err(SqlError::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!(
                            "collations are not supported by type {}",
                            format_type(inner.ty())
                        ),
                    )
                    .at(position()));
                }
                Ok(inner)
            }
            Ast::Case {
                case_token: _,
                end_token: _,
                operand,
                conditions,
                else_result,
            } => self.case(
                e,
                operand.as_deref(),
                conditions,
                else_result.as_deref(),
                level,
            ),
            Ast::Function(f) => self.function_call(f, level),
            Ast::Exists { subquery, negated } => self.exists(subquery, *negated, level),
            Ast::Subquery(q) => self.scalar_subquery(q, level),
            Ast::Tuple(items)
            | Ast::Struct {
                values: items,
                fields: _,
            } => {
                let mut out = Vec::with_capacity(items.len());
                for i in items {
                    let bound = self.expr(i, level)?;
                    out.push(self.settle_unknown(bound)?);
                }
                Ok(Expr::Row(out))
            }
            Ast::Array(a) => self.array(&a.elem, None, position(), level),
            Ast::CompoundFieldAccess { root, access_chain } => {
                self.access(root, access_chain, level)
            }
            Ast::QualifiedWildcard(..) | Ast::Wildcard(_) => {
                Err(SqlError::unsupported("a row expansion in this place").at(position()))
            }
            _ => Err(SqlError::unsupported("this expression").at(position())),
        }
    }

    pub(crate) fn value(&mut self, v: &ValueWithSpan) -> Result<Expr, SqlError> {
        let position = v.span.start.line as usize;
        match &v.value {
            Value::Null => Ok(Expr::Const(Datum::Null, PgType::new(Oid::UNKNOWN))),
            Value::Boolean(b) => Ok(Expr::Const(Datum::Bool(*b), PgType::new(Oid::BOOL))),
            Value::SingleQuotedString(s) => Ok(unknown(s)),
            Value::Placeholder(p) => self.parameter(p, position),
            Value::Number(n, _) => self.number(n, position),
            Value::SingleQuotedByteStringLiteral(_) | Value::HexStringLiteral(_) => {
                Err(SqlError::unsupported("a bit string").at(position))
            }
            _ => Err(SqlError::unsupported("this constant").at(position)),
        }
    }

    fn number(&mut self, text: &str, position: usize) -> Result<Expr, SqlError> {
        if let Ok(n) = text.parse::<i32>() {
            return Ok(Expr::Const(Datum::Int4(n), PgType::new(Oid::INT4)));
        }
        if let Ok(n) = text.parse::<i64>() {
            return Ok(Expr::Const(Datum::Int8(n), PgType::new(Oid::INT8)));
        }
        let ty = PgType::new(Oid::NUMERIC);
        let value = crate::types::io::input(text, ty, self.cx.eval).map_err(|e| e.at(position))?;
        Ok(Expr::Const(value, ty))
    }

    fn binary(
        &mut self,
        whole: &Ast,
        left: &Ast,
        op: &BinaryOperator,
        right: &Ast,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        match op {
            BinaryOperator::And | BinaryOperator::Or => self.junction(whole, op, level),
            BinaryOperator::PGCustomBinaryOperator(parts) => {
                let (name, at) = super::position::of_operator(parts);
                if let (Some(a), Some(b)) = (row_items(left), row_items(right)) {
                    return self.row_compare(&name, a, b, at, level);
                }
                if let (Some(a), Ast::Subquery(q)) = (row_items(left), right)
                    && a.len() > 1
                {
                    return self.row_subquery(a, &name, q, at, level);
                }
                let (lp, rp) = (position_of(left), position_of(right));
                let left = self.expr(left, level)?;
                let right = self.expr(right, level)?;
                if let (Expr::Row(a), Expr::Row(b)) = (&left, &right) {
                    return self.row_compare_bound(&name, a.clone(), b.clone(), at);
                }
                // `x = NULL` keeps its operator: NULL takes the other side's type.
                self.apply_operator(&name, Some(left), right, [at, lp, rp])
            }
            other => Err(SqlError::unsupported(format!("operator {other}"))),
        }
    }

    /// AND and OR, whole chains at once.
    fn junction(
        &mut self,
        whole: &Ast,
        op: &BinaryOperator,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let mut pending = vec![whole];
        let mut items = Vec::new();
        let what = if *op == BinaryOperator::And {
            "AND"
        } else {
            "OR"
        };
        while let Some(e) = pending.pop() {
            match e {
                Ast::BinaryOp { left, op: o, right } if o == op => {
                    pending.push(right);
                    pending.push(left);
                }
                e => {
                    let bound = self.expr(e, level)?;
                    items.push(self.to_bool(bound, what, position_of(e))?);
                }
            }
        }
        Ok(if *op == BinaryOperator::And {
            Expr::And(items)
        } else {
            Expr::Or(items)
        })
    }

    fn is_bool(
        &mut self,
        e: &Ast,
        value: Option<bool>,
        negated: bool,
        what: &str,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let bound = self.expr(e, level)?;
        let arg = Box::new(self.to_bool(bound, what, position_of(e))?);
        Ok(Expr::IsBool {
            arg,
            value,
            negated,
        })
    }

    fn distinct(
        &mut self,
        a: &Ast,
        b: &Ast,
        negated: bool,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let at = position_of(a);
        if let (Some(x), Some(y)) = (row_items(a), row_items(b)) {
            if x.len() != y.len() {
                return Err(unequal_rows(at));
            }
            let mut parts = Vec::new();
            for (l, r) in x.iter().zip(y) {
                parts.push(self.distinct(l, r, negated, level)?);
            }
            return Ok(if negated {
                Expr::And(parts)
            } else {
                Expr::Or(parts)
            });
        }
        let left = self.expr(a, level)?;
        let right = self.expr(b, level)?;
        // Against NULL it is a null test.
        for (null, other) in [(&left, &right), (&right, &left)] {
            if matches!(null, Expr::Const(Datum::Null, t) if t.oid == Oid::UNKNOWN) {
                let arg = Box::new(self.settle_unknown(other.clone())?);
                return Ok(Expr::IsNull {
                    arg,
                    negated: !negated,
                });
            }
        }
        self.distinct_bound(left, right, negated, at)
    }

    /// IS [NOT] DISTINCT FROM on bound operands.
    pub(crate) fn distinct_bound(
        &mut self,
        left: Expr,
        right: Expr,
        negated: bool,
        at: usize,
    ) -> Result<Expr, SqlError> {
        match self.apply_operator("=", Some(left), right, [at, at, at])? {
            Expr::Call {
                function, mut args, ..
            } if args.len() == 2 => {
                let (Some(right), Some(left)) = (args.pop(), args.pop()) else {
                    return Err(SqlError::internal("operands of ="));
                };
                let (left, right) = (Box::new(left), Box::new(right));
                Ok(Expr::IsDistinct {
                    left,
                    right,
                    equals: function,
                    negated,
                })
            }
            // Two constants.
            Expr::Const(Datum::Bool(equal), ty) => {
                Ok(Expr::Const(Datum::Bool(equal == negated), ty))
            }
            Expr::Const(_, ty) => Ok(Expr::Const(Datum::Bool(!negated), ty)),
            _ => Err(SqlError::internal("equality is not a call")),
        }
    }

    fn between(
        &mut self,
        e: &Ast,
        negated: bool,
        low: &Ast,
        high: &Ast,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let at = position_of(e);
        let value = self.expr(e, level)?;
        let low_bound = self.expr(low, level)?;
        let high_bound = self.expr(high, level)?;
        let (ge, le) = if negated { ("<", ">") } else { (">=", "<=") };
        let places = |b: &Ast| [at, at, position_of(b)];
        let first = self.apply_operator(ge, Some(value.clone()), low_bound, places(low))?;
        let second = self.apply_operator(le, Some(value), high_bound, places(high))?;
        let parts = vec![first, second];
        Ok(if negated {
            Expr::Or(parts)
        } else {
            Expr::And(parts)
        })
    }

    fn case(
        &mut self,
        whole: &Ast,
        operand: Option<&Ast>,
        conditions: &[ast::CaseWhen],
        else_result: Option<&Ast>,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let operand_at = operand.map_or(0, position_of);
        let operand = match operand {
            Some(o) => {
                let bound = self.expr(o, level)?;
                Some(self.settle_unknown(bound)?)
            }
            None => None,
        };
        let mut tests = Vec::with_capacity(conditions.len());
        let mut results = Vec::with_capacity(conditions.len() + 1);
        for ast::CaseWhen { condition, result } in conditions {
            let at = position_of(condition);
            let test = self.expr(condition, level)?;
            tests.push(match &operand {
                Some(o) => self.apply_operator("=", Some(o.clone()), test, [at, operand_at, at])?,
                None => self.to_bool(test, "CASE/WHEN", at)?,
            });
            results.push(self.expr(result, level)?);
        }
        let has_else = else_result.is_some();
        // PostgreSQL looks at ELSE first when it chooses the type.
        if let Some(e) = else_result {
            results.insert(0, self.expr(e, level)?);
        }
        let at = position_of(whole);
        for operands in [&tests, &results] {
            super::call::refuse_sets(operands, "CASE", level, at)?;
        }
        let (mut results, ty) = self.unify(results, "CASE", at)?;
        let otherwise = if has_else {
            Some(Box::new(results.remove(0)))
        } else {
            None
        };
        Ok(Expr::Case {
            whens: tests.into_iter().zip(results).collect(),
            otherwise,
            ty,
        })
    }

    fn array(
        &mut self,
        items: &[Ast],
        element: Option<PgType>,
        at: usize,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let mut bound = Vec::with_capacity(items.len());
        for i in items {
            bound.push(match (i, element) {
                (Ast::Array(a), _) => self.array(&a.elem, element, position_of(i), level)?,
                (_, _) => self.expr(i, level)?,
            });
        }
        let nested = !bound.is_empty() && bound.iter().all(|e| category(e.ty().oid) == 'A');
        if nested {
            let types: Vec<Oid> = bound.iter().map(|e| e.ty().oid).collect();
            let array = self.common_type(&types, "ARRAY", at)?;
            let mut out = Vec::new();
            for e in bound {
                out.push(self.coerce(e, PgType::new(array), Context::Implicit, at)?);
            }
            return Ok(Expr::Array {
                items: out,
                ty: PgType::new(array),
            });
        }
        let (out, element) = match element {
            Some(ty) => {
                let mut out = Vec::new();
                for (e, i) in bound.into_iter().zip(items) {
                    out.push(self.coerce(e, ty, Context::Explicit, position_of(i))?);
                }
                (out, ty.oid)
            }
            None if bound.is_empty() => {
                return Err(SqlError::new(
                    SqlState::INDETERMINATE_DATATYPE,
                    "cannot determine type of empty array",
                )
                .with_hint("Explicitly cast to the desired type, for example ARRAY[]::integer[].")
                .at(at));
            }
            None => {
                let (out, ty) = self.unify(bound, "ARRAY", at)?;
                (out, ty.oid)
            }
        };
        match array_of(element) {
            Some(array) => Ok(Expr::Array {
                items: out,
                ty: PgType::new(array),
            }),
            None => Err(SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!(
                    "could not find array type for data type {}",
                    format_type(PgType::new(element))
                ),
            )
            .at(at)),
        }
    }

    /// Subscripts and fields.
    fn access(
        &mut self,
        root: &Ast,
        chain: &[AccessExpr],
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let at = position_of(root);
        let mut value = self.expr(root, level)?;
        let mut chain = chain.iter().peekable();
        while let Some(step) = chain.next() {
            match step {
                AccessExpr::Subscript(first) => {
                    let mut subscripts = vec![first];
                    while let Some(AccessExpr::Subscript(s)) = chain.peek() {
                        subscripts.push(s);
                        chain.next();
                    }
                    value = self.subscripts(value, &subscripts, at, level)?;
                }
                AccessExpr::Dot(Ast::Identifier(name)) => {
                    value = self.field(root, value, name, level)?;
                }
                AccessExpr::Dot(_) => {
                    return Err(SqlError::unsupported("a row expansion in this place").at(at));
                }
            }
        }
        Ok(value)
    }

    fn subscripts(
        &mut self,
        array: Expr,
        subscripts: &[&Subscript],
        at: usize,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let ty = array.ty().oid;
        if ty == Oid::JSONB {
            let mut value = array;
            for s in subscripts {
                let Subscript::Index { index } = s else {
                    return Err(SqlError::new(
                        SqlState::DATATYPE_MISMATCH,
                        "jsonb subscript does not support slices",
                    )
                    .at(at));
                };
                let key = self.expr(index, level)?;
                let key = self.settle_unknown(key)?;
                value = self.apply_operator("->", Some(value), key, [at, at, at])?;
            }
            return Ok(value);
        }
        if ty == Oid::NAME
            && let [Subscript::Index { index }] = subscripts
        {
            return self.letter(array, index, at, level);
        }
        let element = element_of(ty).or(match ty {
            Oid::INT2VECTOR => Some(Oid::INT2),
            Oid::OIDVECTOR => Some(Oid::OID),
            _ => None,
        });
        let Some(element) = element else {
            return Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "cannot subscript type {} because it does not support subscripting",
                    format_type(PgType::new(ty))
                ),
            )
            .at(at));
        };
        let slice = subscripts
            .iter()
            .any(|s| matches!(s, Subscript::Slice { .. }));
        let mut bounds = Vec::with_capacity(subscripts.len());
        for s in subscripts {
            match s {
                Subscript::Index { index } => {
                    let i = self.subscript(index, level)?;
                    bounds.push((None, Some(i)));
                }
                Subscript::Slice {
                    lower_bound,
                    upper_bound,
                    stride: _,
                } => {
                    let lower = match lower_bound {
                        Some(e) => Some(self.subscript(e, level)?),
                        None => None,
                    };
                    let upper = match upper_bound {
                        Some(e) => Some(self.subscript(e, level)?),
                        None => None,
                    };
                    bounds.push((lower, upper));
                }
            }
        }
        let result = if slice { ty } else { element };
        Ok(Expr::Subscript {
            array: Box::new(array),
            bounds,
            slice,
            ty: PgType::new(result),
        })
    }

    /// `name[i]`: a name is an array of letters, counted from 0.
    fn letter(
        &mut self,
        name: Expr,
        index: &Ast,
        at: usize,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let int4 = PgType::new(Oid::INT4);
        let one = || Expr::Const(Datum::Int4(1), int4);
        let index = self.subscript(index, level)?;
        let from = self.apply_operator("+", Some(index), one(), [at, at, at])?;
        let text = self.coerce(name, PgType::new(Oid::TEXT), Context::Implicit, at)?;
        let types = [Oid::TEXT, Oid::INT4, Oid::INT4];
        let substr = registry().functions_named("substr");
        let substr = substr
            .iter()
            .find(|f| f.args == types)
            .ok_or_else(|| SqlError::internal("substr"))?;
        let letter = self.make_call(
            substr,
            vec![text, from, one()],
            PgType::new(Oid::TEXT),
            None,
        );
        self.coerce(letter, PgType::new(Oid::CHAR), Context::Explicit, at)
    }

    fn subscript(&mut self, e: &Ast, level: &Level<'_>) -> Result<Expr, SqlError> {
        let at = position_of(e);
        let bound = self.expr(e, level)?;
        if !self.can_coerce(bound.ty().oid, Oid::INT4, Context::Assignment) {
            return Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                "array subscript must have type integer",
            )
            .at(at));
        }
        self.coerce(bound, PgType::new(Oid::INT4), Context::Assignment, at)
    }

    /// `(record).field`
    fn field(
        &mut self,
        root: &Ast,
        value: Expr,
        name: &ast::Ident,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let at = name.span.start.line as usize;
        // The row of a table, by its alias.
        let table = match root {
            Ast::Nested(inner) => match &**inner {
                Ast::Identifier(i) => Some(i),
                _ => None,
            },
            Ast::Identifier(i) => Some(i),
            _ => None,
        };
        if let (Some(alias), Expr::Row(_)) = (table, &value) {
            return level.qualified(&[alias.clone(), name.clone()]);
        }
        if let Expr::Row(items) = value {
            let index = name
                .value
                .strip_prefix('f')
                .and_then(|n| n.parse::<usize>().ok())
                .and_then(|n| n.checked_sub(1));
            if let Some(item) = index.and_then(|i| items.get(i)) {
                return Ok(item.clone());
            }
            return Err(SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "could not identify column \"{}\" in record data type",
                    name.value
                ),
            )
            .at(at));
        }
        if let Expr::Subquery(s) = &value
            && let Some(index) = s.columns.iter().position(|c| *c.name == name.value)
            && s.ty.oid == Oid::RECORD
            && let Some(ty) = s.columns.get(index).map(|c| c.ty)
        {
            return Ok(Expr::Field {
                record: Box::new(value),
                index,
                ty,
            });
        }
        // A function that gives a record with named columns.
        if let Expr::Column(id, _) = &value
            && let Some(fields) = self.records.get(id)
            && let Some(index) = fields.iter().position(|(n, _)| **n == name.value)
            && let Some(ty) = fields.get(index).map(|(_, ty)| *ty)
        {
            return Ok(Expr::Field {
                record: Box::new(value),
                index,
                ty,
            });
        }
        let message = if value.ty().oid == Oid::RECORD {
            format!(
                "could not identify column \"{}\" in record data type",
                name.value
            )
        } else {
            format!(
                "column notation .{} applied to type {}, which is not a composite type",
                name.value,
                format_type(value.ty())
            )
        };
        let state = if value.ty().oid == Oid::RECORD {
            SqlState::UNDEFINED_COLUMN
        } else {
            SqlState::WRONG_OBJECT_TYPE
        };
        Err(SqlError::new(state, message).at(at))
    }
}

/// The fields of a row constructor.
pub(crate) fn row_items(e: &Ast) -> Option<&[Ast]> {
    match e {
        Ast::Tuple(items)
        | Ast::Struct {
            values: items,
            fields: _,
        } => Some(items),
        _ => None,
    }
}

/// `42601`
pub(crate) fn unequal_rows(at: usize) -> SqlError {
    SqlError::new(
        SqlState::SYNTAX_ERROR,
        "unequal number of entries in row expressions",
    )
    .at(at)
}

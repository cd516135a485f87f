//! Calls: scalar and set-returning functions, and the forms that look like functions.

use sqlparser::ast::{
    Expr as Ast, Function as AstFunction, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, ObjectName, OrderByExpr,
};

use super::coerce::Context;
use super::context::Binder;
use super::names::{Clause, Level};
use super::position_of;
use super::resolve::Meaning;
use super::tree::Expr;
use crate::error::{SqlError, SqlState};
use crate::types::registry::{FunctionBody, registry};
use crate::types::{Datum, Oid, PgType};

/// A call's parts, all of them consumed or refused.
pub(crate) struct Parts<'q> {
    pub(crate) name: String,
    pub(crate) position: usize,
    pub(crate) args: Vec<&'q Ast>,
    pub(crate) star: bool,
    pub(crate) variadic: bool,
    pub(crate) named: bool,
    pub(crate) distinct: bool,
    pub(crate) order: &'q [OrderByExpr],
    pub(crate) within: &'q [OrderByExpr],
    pub(crate) filter: Option<&'q Ast>,
    pub(crate) over: Option<&'q sqlparser::ast::WindowType>,
}

/// Only byte order and the default, which is byte order here.
pub(crate) fn check_collation(name: &ObjectName) -> Result<(), SqlError> {
    let last = name.0.last().and_then(|p| p.as_ident());
    match last.map(|i| i.value.as_str()) {
        Some("C" | "POSIX" | "default" | "ucs_basic" | "C.UTF-8" | "C.utf8") => Ok(()),
        Some(other) if other.ends_with("-x-icu") || other.starts_with("en_") => {
            Err(SqlError::unsupported(format!("collation \"{other}\""))
                .at(last.map_or(0, |i| i.span.start.line as usize)))
        }
        Some(other) => Err(SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("collation \"{other}\" for encoding \"UTF8\" does not exist"),
        )
        .at(last.map_or(0, |i| i.span.start.line as usize))),
        None => Err(SqlError::unsupported("this collation")),
    }
}

/// The function's folded name as the registry has it, and its position.
pub(super) fn function_name(name: &ObjectName) -> Result<(String, usize), SqlError> {
    let parts: Vec<_> = name.0.iter().filter_map(|p| p.as_ident()).collect();
    let position = parts.first().map_or(0, |i| i.span.start.line as usize);
    match parts.as_slice() {
        [n] => Ok((n.value.clone(), position)),
        [s, n] if s.value == "pg_catalog" || s.value == "information_schema" => {
            Ok((n.value.clone(), position))
        }
        [s, n] => {
            let qualified = format!("{}.{}", s.value, n.value);
            if registry().functions_named(&qualified).is_empty() {
                let message = format!("function {qualified} does not exist");
                return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(position));
            }
            Ok((qualified, position))
        }
        _ => Err(SqlError::unsupported("a function of another database").at(position)),
    }
}

pub(crate) fn split<'q>(f: &'q AstFunction) -> Result<Parts<'q>, SqlError> {
    let AstFunction {
        name,
        uses_odbc_syntax: _,
        parameters: _,
        args,
        filter,
        null_treatment,
        over,
        within_group,
    } = f;
    let (name, position) = function_name(name)?;
    if null_treatment.is_some() {
        return Err(SqlError::unsupported("IGNORE NULLS").at(position));
    }
    let mut out = Parts {
        name,
        position,
        args: Vec::new(),
        star: false,
        variadic: false,
        named: false,
        distinct: false,
        order: &[],
        within: within_group,
        filter: filter.as_deref(),
        over: over.as_ref(),
    };
    match args {
        FunctionArguments::None => {}
        FunctionArguments::Subquery(_) => {
            return Err(SqlError::unsupported("a bare subquery as argument").at(position));
        }
        FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment,
            args,
            clauses,
        }) => {
            out.distinct =
                *duplicate_treatment == Some(sqlparser::ast::DuplicateTreatment::Distinct);
            for c in clauses {
                match c {
                    FunctionArgumentClause::OrderBy(keys) => out.order = keys,
                    _ => return Err(SqlError::unsupported("this clause of a call").at(position)),
                }
            }
            for a in args {
                push_argument(a, &mut out)?;
            }
        }
    }
    Ok(out)
}

/// Functions whose arguments have names, with the names; those left out are 0.
const NAMED: &[(&str, &[&str])] = &[
    (
        "make_interval",
        &["years", "months", "weeks", "days", "hours", "mins", "secs"],
    ),
    ("make_date", &["year", "month", "day"]),
    ("make_time", &["hour", "min", "sec"]),
    (
        "make_timestamp",
        &["year", "month", "mday", "hour", "min", "sec"],
    ),
    (
        "make_timestamptz",
        &["year", "month", "mday", "hour", "min", "sec", "timezone"],
    ),
];

static ZERO: std::sync::LazyLock<Ast> = std::sync::LazyLock::new(|| {
    Ast::Value(sqlparser::ast::Value::Number("0".to_owned(), false).with_empty_span())
});

/// Puts a named argument in its place.
fn push_named<'q>(name: &str, e: &'q Ast, out: &mut Parts<'q>) -> Result<(), SqlError> {
    let missing = || {
        SqlError::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("function {}({name} => unknown) does not exist", out.name),
        )
        .with_hint(
            "No function matches the given name and argument types. You might need to add \
             explicit type casts.",
        )
        .at(out.position)
    };
    let names = NAMED
        .iter()
        .find(|(f, _)| *f == out.name)
        .ok_or_else(missing)?
        .1;
    let index = names.iter().position(|n| *n == name).ok_or_else(missing)?;
    if out.name == "make_interval" {
        while out.args.len() < names.len() {
            out.args.push(&ZERO);
        }
    }
    let next = out.args.len();
    match out.args.get_mut(index) {
        Some(slot) => *slot = e,
        None if index == next => out.args.push(e),
        None => {
            return Err(SqlError::unsupported("named arguments in another order").at(out.position));
        }
    }
    Ok(())
}

fn push_argument<'q>(a: &'q FunctionArg, out: &mut Parts<'q>) -> Result<(), SqlError> {
    match a {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(_)) if out.named => {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "positional argument cannot follow named argument",
            )
            .at(out.position));
        }
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => out.args.push(e),
        FunctionArg::Named {
            name,
            arg: FunctionArgExpr::Expr(e),
            operator: FunctionArgOperator::RightArrow,
        } => {
            out.named = true;
            push_named(&name.value, e, out)?;
        }
        FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => out.star = true,
        FunctionArg::Named {
            name: _,
            arg: FunctionArgExpr::Expr(e),
            operator: FunctionArgOperator::Value,
        } => {
            out.variadic = true;
            out.args.push(e);
        }
        _ => return Err(SqlError::unsupported("a named argument").at(out.position)),
    }
    Ok(())
}

impl Binder<'_> {
    pub(crate) fn function_call(
        &mut self,
        f: &AstFunction,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let plain = f.name.0.len() == 1;
        if plain && let FunctionArguments::Subquery(q) = &f.args {
            return self.array_subquery(q, level);
        }
        if plain && let Some(done) = self.keyword_function(f, level)? {
            return Ok(done);
        }
        let parts = split(f)?;
        if plain {
            match parts.name.as_str() {
                "coalesce" => {
                    let args = self.bind_all(&parts.args, level)?;
                    refuse_sets(&args, "COALESCE", level, parts.position)?;
                    let (args, ty) = self.unify(args, "COALESCE", parts.position)?;
                    return Ok(Expr::Coalesce(args, ty));
                }
                "greatest" | "least" => return self.extreme(&parts, level),
                "nullif" => return self.nullif(&parts, level),
                "grouping" => return self.grouping(&parts, level),
                _ => {}
            }
        }
        let functions = registry().functions_named(&parts.name);
        if let Some(over) = parts.over {
            return self.window_call(&parts, over, level);
        }
        if functions
            .iter()
            .any(|f| matches!(f.body, FunctionBody::Aggregate(_)))
        {
            return self.aggregate_call(&parts, level);
        }
        let not_aggregate = |what: &str| {
            SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!(
                    "{what} specified, but {} is not an aggregate function",
                    parts.name
                ),
            )
            .at(parts.position)
        };
        if functions
            .iter()
            .any(|f| matches!(f.body, FunctionBody::Window { .. }))
        {
            if !parts.within.is_empty() {
                return Err(
                    SqlError::unsupported("a hypothetical-set aggregate").at(parts.position)
                );
            }
            return Err(SqlError::new(
                SqlState::WINDOWING_ERROR,
                format!("window function {} requires an OVER clause", parts.name),
            )
            .at(parts.position));
        }
        if parts.star && !functions.is_empty() {
            return Err(not_aggregate(&format!("{}(*)", parts.name)));
        }
        if parts.distinct && !functions.is_empty() {
            return Err(not_aggregate("DISTINCT"));
        }
        if !parts.within.is_empty() && !functions.is_empty() {
            return Err(not_aggregate("WITHIN GROUP"));
        }
        if !parts.order.is_empty() && !functions.is_empty() {
            return Err(not_aggregate("ORDER BY"));
        }
        if parts.filter.is_some() && !functions.is_empty() {
            return Err(not_aggregate("FILTER"));
        }
        let args = self.bind_arguments(&parts.name, &parts.args, level)?;
        if let ("pg_typeof", [one]) = (parts.name.as_str(), args.as_slice()) {
            return Ok(Expr::Const(
                Datum::Oid(one.ty().oid),
                PgType::new(Oid::REGTYPE),
            ));
        }
        let positions: Vec<usize> = parts.args.iter().map(|a| position_of(a)).collect();
        let name = super::json_row::renamed(&parts.name, &args);
        self.plain_call(
            name,
            args,
            &positions,
            parts.variadic,
            parts.position,
            level,
        )
    }

    /// A scalar or set-returning function on bound arguments.
    fn plain_call(
        &mut self,
        name: &str,
        mut args: Vec<Expr>,
        positions: &[usize],
        variadic: bool,
        position: usize,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let types: Vec<Oid> = args.iter().map(|a| a.ty().oid).collect();
        match self.function(name, &types, variadic, position)? {
            Meaning::Cast(target) => {
                let Some(arg) = args.pop() else {
                    return Err(SqlError::internal("a cast without operand"));
                };
                let at = positions.first().copied().unwrap_or(position);
                self.coerce(arg, PgType::new(target), Context::Explicit, at)
            }
            Meaning::Function(found) => {
                let (mut args, ty) = self.arguments(name, &found, args, positions, position)?;
                if variadic {
                    args = spread(args, position)?;
                }
                match &found.function.body {
                    FunctionBody::Set { columns, .. } => {
                        match level.clause.get() {
                            Clause::Target => {}
                            Clause::Plain(what) => {
                                return Err(set_not_allowed(what, position));
                            }
                            Clause::Having => return Err(set_not_allowed("HAVING", position)),
                            Clause::Aggregate => {
                                return Err(SqlError::new(
                                    SqlState::FEATURE_NOT_SUPPORTED,
                                    "aggregate function calls cannot contain set-returning \
                                     function calls",
                                )
                                .at(position));
                            }
                            Clause::Window => {
                                return Err(set_not_allowed("window definitions", position));
                            }
                        }
                        let ty = match columns {
                            [] => ty,
                            [(_, t)] => PgType::new(*t),
                            _ => PgType::new(Oid::RECORD),
                        };
                        {
                            let collected = level.collected.borrow();
                            let same = collected.sets.iter().find(|(f, a, _)| {
                                std::ptr::eq(*f, found.function)
                                    && a.len() == args.len()
                                    && a.iter().zip(&args).all(|(x, y)| super::walk::same(x, y))
                                    && !args.iter().any(super::aggregate::is_volatile)
                            });
                            if let Some((_, _, column)) = same {
                                return Ok(Expr::Column(column.id, column.ty));
                            }
                        }
                        let column = self.new_column(name, ty);
                        if columns.len() > 1 {
                            let fields = self.set_fields(found.function, columns, &args);
                            self.records.insert(column.id, fields);
                        }
                        let out = Expr::Column(column.id, ty);
                        level
                            .collected
                            .borrow_mut()
                            .sets
                            .push((found.function, args, column));
                        Ok(out)
                    }
                    _ => Ok(self.make_call(found.function, args, ty, None)),
                }
            }
        }
    }

    /// Binds arguments; `t.*` is a row.
    pub(crate) fn bind_all(
        &mut self,
        args: &[&Ast],
        level: &Level<'_>,
    ) -> Result<Vec<Expr>, SqlError> {
        args.iter()
            .map(|a| match a {
                Ast::QualifiedWildcard(name, _) => {
                    let columns = self.star_columns(name, level)?;
                    Ok(Expr::Row(columns.into_iter().map(|c| c.expr).collect()))
                }
                a => self.expr(a, level),
            })
            .collect()
    }

    /// CURRENT_DATE and its like.
    fn keyword_function(
        &mut self,
        f: &AstFunction,
        level: &Level<'_>,
    ) -> Result<Option<Expr>, SqlError> {
        let Ok((name, position)) = function_name(&f.name) else {
            return Ok(None);
        };
        let bare = matches!(f.args, FunctionArguments::None);
        let quoted = f
            .name
            .0
            .first()
            .and_then(|p| p.as_ident())
            .is_some_and(|i| i.quote_style.is_some());
        let (source, target) = match name.as_str() {
            "current_timestamp" => ("now", None),
            "current_date" if bare => ("now", Some(Oid::DATE)),
            "localtimestamp" => ("now", Some(Oid::TIMESTAMP)),
            "localtime" => ("now", Some(Oid::TIME)),
            "current_time" => return Err(SqlError::unsupported("CURRENT_TIME").at(position)),
            "current_user" | "current_role" | "user" if bare => ("current_user", None),
            "session_user" if bare => ("session_user", None),
            "current_catalog" if bare => ("current_database", None),
            "current_schema" if bare => ("current_schema", None),
            _ => return Ok(None),
        };
        if quoted {
            return Ok(None);
        }
        let now = self.plain_call(source, Vec::new(), &[], false, position, level)?;
        let ty = now.ty().oid;
        let precision = match &f.args {
            FunctionArguments::List(list) => match list.args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(Ast::Value(v)))] => {
                    match self.value(v)? {
                        Expr::Const(d, _) => d.as_i64().and_then(|n| i32::try_from(n).ok()),
                        _ => None,
                    }
                }
                _ => None,
            },
            _ => None,
        };
        let target = PgType::with_typmod(target.unwrap_or(ty), precision.map_or(-1, |p| p.min(6)));
        self.coerce(now, target, Context::Explicit, position)
            .map(Some)
    }

    fn extreme(&mut self, parts: &Parts<'_>, level: &Level<'_>) -> Result<Expr, SqlError> {
        let greatest = parts.name == "greatest";
        let args = self.bind_all(&parts.args, level)?;
        let what = if greatest { "GREATEST" } else { "LEAST" };
        let (args, ty) = self.unify(args, what, parts.position)?;
        let less = self.type_operator("<", ty.oid, parts.position)?.function;
        Ok(Expr::Extreme {
            args,
            less,
            greatest,
            ty,
        })
    }

    fn nullif(&mut self, parts: &Parts<'_>, level: &Level<'_>) -> Result<Expr, SqlError> {
        let [a, b] = parts.args.as_slice() else {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "syntax error at or near \"nullif\"",
            )
            .at(parts.position));
        };
        let (pa, pb) = (position_of(a), position_of(b));
        let left = self.expr(a, level)?;
        let right = self.expr(b, level)?;
        let left_ty = left.ty();
        let test = self.apply_operator("=", Some(left.clone()), right, [parts.position, pa, pb])?;
        // The result is the left operand as the operator took it.
        let value = match &test {
            Expr::Call { args, .. } => args.first().cloned().unwrap_or(left),
            _ => self.settle_unknown(left)?,
        };
        let ty = if value.ty().oid == left_ty.oid {
            left_ty
        } else {
            value.ty()
        };
        Ok(Expr::Case {
            whens: vec![(test, Expr::Const(Datum::Null, ty))],
            otherwise: Some(Box::new(value)),
            ty,
        })
    }
}

/// The arguments with a literal array at the end taken apart.
fn spread(mut args: Vec<Expr>, position: usize) -> Result<Vec<Expr>, SqlError> {
    match args.pop() {
        Some(Expr::Array { items, .. }) => args.extend(items),
        Some(Expr::Const(Datum::Array(a), _)) => {
            let ty = PgType::new(a.element);
            args.extend(a.items.iter().map(|d| Expr::Const(d.clone(), ty)));
        }
        _ => {
            return Err(
                SqlError::unsupported("VARIADIC with an array that is not a constant").at(position),
            );
        }
    }
    Ok(args)
}

/// Set-returning functions make rows where they stand, which a branch that may not be taken
/// cannot.
pub(crate) fn refuse_sets(
    args: &[Expr],
    what: &str,
    level: &Level<'_>,
    position: usize,
) -> Result<(), SqlError> {
    let collected = level.collected.borrow();
    let is_set = |id| collected.sets.iter().any(|(_, _, c)| c.id == id);
    if collected.sets.is_empty() || !args.iter().any(|e| e.columns().into_iter().any(is_set)) {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("set-returning functions are not allowed in {what}"),
    )
    .with_hint("You might be able to move the set-returning function into a LATERAL FROM item.")
    .at(position))
}

fn set_not_allowed(what: &str, position: usize) -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("set-returning functions are not allowed in {what}"),
    )
    .at(position)
}

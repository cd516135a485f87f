//! Aggregate calls and GROUPING.

use sqlparser::ast::OrderByExpr;

use super::call::Parts;
use super::context::Binder;
use super::names::{Clause, Level};
use super::position_of;
use super::resolve::{Found, Meaning, no_function};
use super::tree::{AggCall, Expr, SortKey};
use super::walk::{same, used_columns};
use crate::error::{SqlError, SqlState};
use crate::types::registry::FunctionBody;
use crate::types::{Oid, PgType};

/// Aggregates whose last arguments stand in WITHIN GROUP.
fn is_ordered_set(name: &str) -> bool {
    matches!(name, "percentile_cont" | "percentile_disc" | "mode")
}

impl Binder<'_> {
    /// Keys of an ORDER BY that takes expressions only.
    pub(crate) fn plain_order(
        &mut self,
        keys: &[OrderByExpr],
        level: &Level<'_>,
    ) -> Result<Vec<SortKey>, SqlError> {
        let mut out = Vec::with_capacity(keys.len());
        for OrderByExpr {
            expr,
            options,
            with_fill: _,
        } in keys
        {
            let bound = self.expr(expr, level)?;
            let bound = self.settle_unknown(bound)?;
            out.push(self.sort_key(bound, options, position_of(expr))?);
        }
        Ok(out)
    }

    /// One key; the type must have an order.
    pub(crate) fn sort_key(
        &self,
        expr: Expr,
        options: &sqlparser::ast::OrderByOptions,
        position: usize,
    ) -> Result<SortKey, SqlError> {
        self.must_order(expr.ty(), position)?;
        let descending = options.asc == Some(false);
        Ok(SortKey {
            expr,
            descending,
            nulls_first: options.nulls_first.unwrap_or(descending),
        })
    }

    /// Fails for types without an order.
    pub(crate) fn must_order(&self, ty: PgType, position: usize) -> Result<(), SqlError> {
        if matches!(ty.oid, Oid::JSON | Oid::XML | Oid::POINT) {
            return Err(SqlError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!(
                    "could not identify an ordering operator for type {}",
                    crate::types::format_type(ty)
                ),
            )
            .with_hint("Use an explicit ordering operator or modify the query.")
            .at(position));
        }
        Ok(())
    }

    /// Fails for types without equality.
    pub(crate) fn must_equal(&self, ty: PgType, position: usize) -> Result<(), SqlError> {
        if matches!(ty.oid, Oid::JSON | Oid::XML | Oid::POINT) {
            return Err(SqlError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!(
                    "could not identify an equality operator for type {}",
                    crate::types::format_type(ty)
                ),
            )
            .at(position));
        }
        Ok(())
    }

    /// An aggregate call; its place is taken by a column that the aggregation makes.
    pub(crate) fn aggregate_call(
        &mut self,
        parts: &Parts<'_>,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let position = parts.position;
        let (mut call, columns) =
            level.within(Clause::Aggregate, || self.aggregate_parts(parts, level))?;
        // The aggregate belongs to the innermost level whose columns it uses.
        let mut home = level;
        if !columns.is_empty() {
            let mut at = Some(level);
            while let Some(l) = at {
                if columns.iter().any(|c| l.owns(*c)) {
                    home = l;
                    break;
                }
                at = l.parent;
            }
        }
        let clause = home.clause.get();
        let refuse =
            |message: String| Err(SqlError::new(SqlState::GROUPING_ERROR, message).at(position));
        match clause {
            // Within another aggregate: that one refuses it, once it is known to exist.
            Clause::Target | Clause::Having | Clause::Window | Clause::Aggregate => {}
            Clause::Plain(what) => {
                return refuse(format!("aggregate functions are not allowed in {what}"));
            }
        }
        let nested = home
            .collected
            .borrow()
            .aggregates
            .iter()
            .any(|(_, c)| columns.contains(&c.id));
        if nested {
            let at = parts
                .args
                .iter()
                .map(|a| position_of(a))
                .find(|p| *p > 0)
                .unwrap_or(position);
            return Err(SqlError::new(
                SqlState::GROUPING_ERROR,
                "aggregate function calls cannot be nested",
            )
            .at(at));
        }
        let ty = call.ty;
        // The same call is computed once.
        {
            let collected = home.collected.borrow();
            for (other, column) in &collected.aggregates {
                if same_call(other, &call) && !volatile(&call) {
                    return Ok(Expr::Column(column.id, column.ty));
                }
            }
        }
        let column = self.new_column(parts.name.as_str(), ty);
        let out = Expr::Column(column.id, ty);
        call.ty = ty;
        home.collected.borrow_mut().aggregates.push((call, column));
        Ok(out)
    }

    fn aggregate_parts(
        &mut self,
        parts: &Parts<'_>,
        level: &Level<'_>,
    ) -> Result<(AggCall, Vec<super::tree::ColId>), SqlError> {
        let position = parts.position;
        let wrong =
            |message: String| SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(position);
        let ordered_set = is_ordered_set(&parts.name);
        if ordered_set && parts.within.is_empty() {
            return Err(wrong(format!(
                "WITHIN GROUP is required for ordered-set aggregate {}",
                parts.name
            )));
        }
        if parts.distinct && !parts.within.is_empty() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "cannot use DISTINCT with WITHIN GROUP",
            )
            .at(position));
        }
        if !ordered_set && !parts.within.is_empty() {
            let args = self.bind_all(&parts.args, level)?;
            let keys = self.plain_order(parts.within, level)?;
            let types: Vec<Oid> = args
                .iter()
                .chain(keys.iter().map(|k| &k.expr))
                .map(|e| e.ty().oid)
                .collect();
            self.function(&parts.name, &types, false, position)?;
            return Err(wrong(format!(
                "{} is not an ordered-set aggregate, so it cannot have WITHIN GROUP",
                parts.name
            )));
        }
        if parts.args.is_empty() && !parts.star && !ordered_set {
            self.function(&parts.name, &[], false, position)?;
            return Err(wrong(format!(
                "{}(*) must be used to call a parameterless aggregate function",
                parts.name
            )));
        }
        let mut args = self.bind_arguments(&parts.name, &parts.args, level)?;
        let mut positions: Vec<usize> = parts.args.iter().map(|a| position_of(a)).collect();
        let order = self.plain_order(
            if ordered_set {
                parts.within
            } else {
                parts.order
            },
            level,
        )?;
        let direct = args.len();
        if ordered_set {
            args.extend(order.iter().map(|k| k.expr.clone()));
            positions.extend(parts.within.iter().map(|k| position_of(&k.expr)));
        }
        let (found, args, ty) =
            self.resolve_aggregate(&parts.name, args, &positions, parts.variadic, position)?;
        let mut order = order;
        if ordered_set {
            for (key, arg) in order.iter_mut().zip(args.iter().skip(direct)) {
                key.expr = arg.clone();
            }
        }
        if parts.distinct {
            for (a, p) in args.iter().zip(&positions) {
                self.must_equal(a.ty(), *p)?;
            }
            for (k, ast) in order.iter_mut().zip(parts.order) {
                // The key may be an argument before its cast.
                let hit = args
                    .iter()
                    .find(|a| same(a, &k.expr) || same(uncast(a), &k.expr));
                match hit {
                    Some(a) => k.expr = a.clone(),
                    None => {
                        return Err(SqlError::new(
                            SqlState::INVALID_COLUMN_REFERENCE,
                            "in an aggregate with DISTINCT, ORDER BY expressions must appear in \
                             argument list",
                        )
                        .at(position_of(&ast.expr)));
                    }
                }
            }
        }
        let filter = match parts.filter {
            Some(f) => {
                let bound = self.expr(f, level)?;
                Some(self.to_bool(bound, "FILTER", position_of(f))?)
            }
            None => None,
        };
        let mut call = AggCall {
            function: found.function,
            args,
            distinct: parts.distinct,
            order,
            filter,
            ty,
        };
        let mut columns = Vec::new();
        for e in call.args.iter_mut().chain(&mut call.filter) {
            used_columns(e, &mut columns);
        }
        for k in &mut call.order {
            used_columns(&mut k.expr, &mut columns);
        }
        Ok((call, columns))
    }

    /// The aggregate of that name for these arguments.
    pub(crate) fn resolve_aggregate(
        &mut self,
        name: &str,
        args: Vec<Expr>,
        positions: &[usize],
        variadic: bool,
        position: usize,
    ) -> Result<(Found, Vec<Expr>, PgType), SqlError> {
        let types: Vec<Oid> = args.iter().map(|a| a.ty().oid).collect();
        let Meaning::Function(found) = self.function(name, &types, variadic, position)? else {
            return Err(no_function(name, &types, position));
        };
        if !matches!(
            found.function.body,
            FunctionBody::Aggregate(_) | FunctionBody::Window { .. }
        ) {
            return Err(no_function(name, &types, position));
        }
        let (args, ty) = self.arguments(name, &found, args, positions, position)?;
        Ok((found, args, ty))
    }

    /// GROUPING(...)
    pub(crate) fn grouping(
        &mut self,
        parts: &Parts<'_>,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        if let Clause::Plain(what) = level.clause.get() {
            return Err(SqlError::new(
                SqlState::GROUPING_ERROR,
                format!("grouping operations are not allowed in {what}"),
            )
            .at(parts.position));
        }
        let args = self.bind_all(&parts.args, level)?;
        let column = self.new_column("grouping", PgType::new(Oid::INT4));
        let out = Expr::Column(column.id, column.ty);
        level.collected.borrow_mut().groupings.push((args, column));
        Ok(out)
    }
}

/// Without the casts around it.
pub(crate) fn uncast(e: &Expr) -> &Expr {
    match e {
        Expr::Cast {
            arg,
            explicit: false,
            ..
        } => uncast(arg),
        e => e,
    }
}

fn same_call(a: &AggCall, b: &AggCall) -> bool {
    std::ptr::eq(a.function, b.function)
        && a.distinct == b.distinct
        && a.args.len() == b.args.len()
        && a.args.iter().zip(&b.args).all(|(x, y)| same(x, y))
        && a.order.len() == b.order.len()
        && a.order.iter().zip(&b.order).all(|(x, y)| {
            x.descending == y.descending && x.nulls_first == y.nulls_first && same(&x.expr, &y.expr)
        })
        && match (&a.filter, &b.filter) {
            (None, None) => true,
            (Some(x), Some(y)) => same(x, y),
            _ => false,
        }
}

fn volatile(call: &AggCall) -> bool {
    call.args.iter().any(is_volatile)
}

/// Whether something in it may give another value each time.
pub(crate) fn is_volatile(e: &Expr) -> bool {
    let own = matches!(
        e,
        Expr::Call { function, .. }
            if function.volatility == crate::types::registry::Volatility::Volatile
    );
    let mut found = own;
    e.for_each_child(&mut |c| found |= is_volatile(c));
    found
}

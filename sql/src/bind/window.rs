//! Calls with OVER, window definitions, frames.

use sqlparser::ast::{
    NamedWindowDefinition, NamedWindowExpr, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowSpec, WindowType,
};

use super::call::Parts;
use super::coerce::{Context, category};
use super::context::Binder;
use super::names::{Clause, Level};
use super::position_of;
use super::tree::{Expr, FrameBound, FrameUnit, SortKey, WindowCall};
use crate::error::{SqlError, SqlState};
use crate::types::registry::FunctionBody;
use crate::types::{Oid, PgType};

type Frame = Option<(FrameUnit, FrameBound, FrameBound)>;

/// A window as it is after named windows were looked up.
#[derive(Clone, Default)]
struct Definition {
    partition: Vec<Expr>,
    order: Vec<SortKey>,
    frame: Frame,
}

impl Binder<'_> {
    /// A call with OVER; its place is taken by a column that the window operator makes.
    pub(crate) fn window_call(
        &mut self,
        parts: &Parts<'_>,
        over: &WindowType,
        level: &Level<'_>,
    ) -> Result<Expr, SqlError> {
        let position = parts.position;
        let refuse =
            |message: String| Err(SqlError::new(SqlState::WINDOWING_ERROR, message).at(position));
        match level.clause.get() {
            Clause::Target => {}
            Clause::Having => {
                return refuse("window functions are not allowed in HAVING".to_owned());
            }
            Clause::Aggregate => {
                return Err(SqlError::new(
                    SqlState::GROUPING_ERROR,
                    "aggregate function calls cannot contain window function calls",
                )
                .at(position));
            }
            Clause::Window => return refuse("window function calls cannot be nested".to_owned()),
            Clause::Plain(what) => {
                return refuse(format!("window functions are not allowed in {what}"));
            }
        }
        if parts.distinct {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "DISTINCT is not implemented for window functions",
            )
            .at(position));
        }
        if !parts.order.is_empty() {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "aggregate ORDER BY is not implemented for window functions",
            )
            .at(position));
        }
        if !parts.within.is_empty() {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!(
                    "OVER is not supported for ordered-set aggregate {}",
                    parts.name
                ),
            )
            .at(position));
        }
        let call = level.within(Clause::Window, || -> Result<WindowCall, SqlError> {
            let args = self.bind_all(&parts.args, level)?;
            let positions: Vec<usize> = parts.args.iter().map(|a| position_of(a)).collect();
            let types: Vec<Oid> = args.iter().map(|a| a.ty().oid).collect();
            let found = match self.function(&parts.name, &types, parts.variadic, position)? {
                super::resolve::Meaning::Function(f) => f,
                super::resolve::Meaning::Cast(_) => return Err(not_window(parts)),
            };
            if !matches!(
                found.function.body,
                FunctionBody::Aggregate(_) | FunctionBody::Window { .. }
            ) {
                return Err(not_window(parts));
            }
            let (args, ty) = self.arguments(&parts.name, &found, args, &positions, position)?;
            let filter = match parts.filter {
                Some(_) if matches!(found.function.body, FunctionBody::Window { .. }) => {
                    return Err(SqlError::new(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "FILTER is not implemented for non-aggregate window functions",
                    )
                    .at(position));
                }
                Some(f) => {
                    let bound = self.expr(f, level)?;
                    Some(self.to_bool(bound, "FILTER", position_of(f))?)
                }
                None => None,
            };
            let window = self.window(over, level)?;
            Ok(WindowCall {
                function: found.function,
                args,
                filter,
                partition: window.partition,
                order: window.order,
                frame: window.frame,
                ty,
            })
        })?;
        {
            let collected = level.collected.borrow();
            for (other, column) in &collected.windows {
                if same_call(other, &call) {
                    return Ok(Expr::Column(column.id, column.ty));
                }
            }
        }
        let column = self.new_column(parts.name.as_str(), call.ty);
        let out = Expr::Column(column.id, column.ty);
        level.collected.borrow_mut().windows.push((call, column));
        Ok(out)
    }

    fn window(&mut self, over: &WindowType, level: &Level<'_>) -> Result<Definition, SqlError> {
        match over {
            WindowType::NamedWindow(name) => self.named_window(
                &name.value,
                name.span.start.line as usize,
                level,
                level.windows,
            ),
            WindowType::WindowSpec(spec) => self.window_spec(spec, level, level.windows),
        }
    }

    fn named_window(
        &mut self,
        name: &str,
        position: usize,
        level: &Level<'_>,
        windows: &[NamedWindowDefinition],
    ) -> Result<Definition, SqlError> {
        let Some(i) = windows.iter().position(|w| w.0.value == name) else {
            return Err(SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!("window \"{name}\" does not exist"),
            )
            .at(position));
        };
        // A definition sees only those before it.
        let (before, rest) = windows.split_at(i);
        match rest.first() {
            Some(NamedWindowDefinition(_, NamedWindowExpr::WindowSpec(spec))) => {
                self.window_spec(spec, level, before)
            }
            Some(NamedWindowDefinition(_, NamedWindowExpr::NamedWindow(other))) => {
                self.named_window(&other.value, position, level, before)
            }
            None => Err(SqlError::internal("window")),
        }
    }

    fn window_spec(
        &mut self,
        spec: &WindowSpec,
        level: &Level<'_>,
        windows: &[NamedWindowDefinition],
    ) -> Result<Definition, SqlError> {
        let WindowSpec {
            window_name,
            partition_by,
            order_by,
            window_frame,
        } = spec;
        let mut out = Definition::default();
        if let Some(name) = window_name {
            let position = name.span.start.line as usize;
            let refuse = |what: &str| {
                Err(SqlError::new(SqlState::WINDOWING_ERROR, what.to_owned()).at(position))
            };
            out = self.named_window(&name.value, position, level, windows)?;
            if !partition_by.is_empty() {
                return refuse(&format!(
                    "cannot override PARTITION BY clause of window \"{}\"",
                    name.value
                ));
            }
            if !order_by.is_empty() && !out.order.is_empty() {
                return refuse(&format!(
                    "cannot override ORDER BY clause of window \"{}\"",
                    name.value
                ));
            }
            if out.frame.is_some() {
                return refuse(&format!(
                    "cannot copy window \"{}\" because it has a frame clause",
                    name.value
                ));
            }
        }
        for e in partition_by {
            let bound = self.expr(e, level)?;
            let bound = self.settle_unknown(bound)?;
            self.must_order(bound.ty(), position_of(e))?;
            out.partition.push(bound);
        }
        if !order_by.is_empty() {
            out.order = self.plain_order(order_by, level)?;
        }
        if let Some(frame) = window_frame {
            out.frame = Some(self.frame(frame, &out.order, level)?);
        }
        Ok(out)
    }

    fn frame(
        &mut self,
        frame: &WindowFrame,
        order: &[SortKey],
        level: &Level<'_>,
    ) -> Result<(FrameUnit, FrameBound, FrameBound), SqlError> {
        let WindowFrame {
            units,
            start_bound,
            end_bound,
        } = frame;
        let unit = match units {
            WindowFrameUnits::Rows => FrameUnit::Rows,
            WindowFrameUnits::Range => FrameUnit::Range,
            WindowFrameUnits::Groups => FrameUnit::Groups,
        };
        let refuse = |what: &str| SqlError::new(SqlState::WINDOWING_ERROR, what.to_owned());
        if unit == FrameUnit::Groups && order.is_empty() {
            return Err(refuse("GROUPS mode requires an ORDER BY clause"));
        }
        let start = self.bound(start_bound, unit, order, level)?;
        let end = match end_bound {
            Some(b) => self.bound(b, unit, order, level)?,
            None => FrameBound::CurrentRow,
        };
        match (&start, &end) {
            (FrameBound::UnboundedFollowing, _) => {
                return Err(refuse("frame start cannot be UNBOUNDED FOLLOWING"));
            }
            (_, FrameBound::UnboundedPreceding) => {
                return Err(refuse("frame end cannot be UNBOUNDED PRECEDING"));
            }
            (FrameBound::CurrentRow, FrameBound::Preceding(_)) => {
                return Err(refuse(
                    "frame starting from current row cannot have preceding rows",
                ));
            }
            (FrameBound::Following(_), FrameBound::Preceding(_)) => {
                return Err(refuse(
                    "frame starting from following row cannot have preceding rows",
                ));
            }
            (FrameBound::Following(_), FrameBound::CurrentRow) => {
                return Err(refuse(
                    "frame starting from following row cannot end with current row",
                ));
            }
            _ => {}
        }
        Ok((unit, start, end))
    }

    fn bound(
        &mut self,
        b: &WindowFrameBound,
        unit: FrameUnit,
        order: &[SortKey],
        level: &Level<'_>,
    ) -> Result<FrameBound, SqlError> {
        let (offset, preceding) = match b {
            WindowFrameBound::CurrentRow => return Ok(FrameBound::CurrentRow),
            WindowFrameBound::Preceding(None) => return Ok(FrameBound::UnboundedPreceding),
            WindowFrameBound::Following(None) => return Ok(FrameBound::UnboundedFollowing),
            WindowFrameBound::Preceding(Some(e)) => (e, true),
            WindowFrameBound::Following(Some(e)) => (e, false),
        };
        let at = position_of(offset);
        let what = match unit {
            FrameUnit::Rows => "ROWS",
            FrameUnit::Range => "RANGE",
            FrameUnit::Groups => "GROUPS",
        };
        let bound = self.expr(offset, level)?;
        if !bound.columns().is_empty() {
            return Err(SqlError::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!("argument of {what} must not contain variables"),
            )
            .at(at));
        }
        let bound = if unit == FrameUnit::Range {
            let [key] = order else {
                return Err(SqlError::new(
                    SqlState::WINDOWING_ERROR,
                    "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column",
                )
                .at(at));
            };
            let key = key.expr.ty().oid;
            let target = match category(key) {
                'D' => Oid::INTERVAL,
                _ => key,
            };
            let from = bound.ty().oid;
            if !self.can_coerce(from, target, Context::Implicit) {
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!(
                        "RANGE with offset PRECEDING/FOLLOWING is not supported for column type \
                         {} and offset type {}",
                        crate::types::format_type(PgType::new(key)),
                        crate::types::format_type(PgType::new(from))
                    ),
                )
                .at(at));
            }
            self.coerce(bound, PgType::new(target), Context::Implicit, at)?
        } else {
            if !self.can_coerce(bound.ty().oid, Oid::INT8, Context::Assignment) {
                return Err(SqlError::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "argument of {what} must be type bigint, not type {}",
                        crate::types::format_type(bound.ty())
                    ),
                )
                .at(at));
            }
            self.coerce(bound, PgType::new(Oid::INT8), Context::Assignment, at)?
        };
        Ok(if preceding {
            FrameBound::Preceding(bound)
        } else {
            FrameBound::Following(bound)
        })
    }
}

/// Whether two calls are the same over the same window.
fn same_call(a: &WindowCall, b: &WindowCall) -> bool {
    let all = |a: &[Expr], b: &[Expr]| {
        a.len() == b.len() && a.iter().zip(b).all(|(x, y)| super::walk::same(x, y))
    };
    let bound = |a: &FrameBound, b: &FrameBound| match (a, b) {
        (FrameBound::Preceding(x), FrameBound::Preceding(y))
        | (FrameBound::Following(x), FrameBound::Following(y)) => super::walk::same(x, y),
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    };
    std::ptr::eq(a.function, b.function)
        && all(&a.args, &b.args)
        && all(&a.partition, &b.partition)
        && match (&a.filter, &b.filter) {
            (None, None) => true,
            (Some(x), Some(y)) => super::walk::same(x, y),
            _ => false,
        }
        && a.order.len() == b.order.len()
        && a.order.iter().zip(&b.order).all(|(x, y)| {
            x.descending == y.descending
                && x.nulls_first == y.nulls_first
                && super::walk::same(&x.expr, &y.expr)
        })
        && match (&a.frame, &b.frame) {
            (None, None) => true,
            (Some(x), Some(y)) => x.0 == y.0 && bound(&x.1, &y.1) && bound(&x.2, &y.2),
            _ => false,
        }
        && !a.args.iter().any(super::aggregate::is_volatile)
}

fn not_window(parts: &Parts<'_>) -> SqlError {
    SqlError::new(
        SqlState::WRONG_OBJECT_TYPE,
        format!(
            "OVER specified, but {} is not a window function nor an aggregate function",
            parts.name
        ),
    )
    .at(parts.position)
}

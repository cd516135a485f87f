//! One SELECT: FROM, WHERE, grouping, window functions, select list, DISTINCT, ORDER BY, LIMIT,
//! row locks, put together in the order in which they take effect.

use std::sync::Arc;

use sqlparser::ast::{
    Distinct, Expr as Ast, GroupByExpr, LockType, NonBlock, OrderByExpr, Select, SelectFlavor,
    SelectItem, SelectItemQualifiedWildcardKind,
};

use super::context::Binder;
use super::names::{Clause, Level};
use super::output_name;
use super::position_of;
use super::query::{Bound, Tail, output_position};
use super::tree::{ColId, Column, Expr, Rel, RowLock, SortKey};
use super::walk::same;
use crate::error::{SqlError, SqlState};
use crate::types::{Oid, PgType};

/// An output column.
pub(crate) struct Item {
    pub(crate) expr: Expr,
    pub(crate) name: Arc<str>,
    pub(crate) origin: Option<(Oid, i16)>,
    pub(crate) position: usize,
}

impl Binder<'_> {
    pub(crate) fn select(
        &mut self,
        s: &Select,
        tail: &Tail<'_>,
        parent: Option<&Level<'_>>,
        settle: bool,
    ) -> Result<Bound, SqlError> {
        let Select {
            select_token: _,
            optimizer_hints: _,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = s;
        let foreign = select_modifiers.is_some()
            || top.is_some()
            || exclude.is_some()
            || !lateral_views.is_empty()
            || prewhere.is_some()
            || !connect_by.is_empty()
            || !cluster_by.is_empty()
            || !distribute_by.is_empty()
            || !sort_by.is_empty()
            || qualify.is_some()
            || value_table_mode.is_some()
            || *flavor != SelectFlavor::Standard;
        if foreign {
            return Err(SqlError::unsupported("this clause of SELECT"));
        }
        if into.is_some() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "SELECT ... INTO is not allowed here",
            ));
        }
        let before = std::mem::replace(&mut self.with_keys, !tail.locks.is_empty());
        let from = self.from_list(from, parent);
        self.with_keys = before;
        let (mut rel, ns) = from?;
        let mut level = Level::new(ns, parent);
        level.windows = named_window;
        let level = level;
        if let Some(w) = selection {
            let bound = level.within(Clause::Plain("WHERE"), || self.expr(w, &level))?;
            let predicate = self.to_bool(bound, "WHERE", position_of(w))?;
            rel = Rel::Filter {
                input: Box::new(rel),
                predicate,
            };
        }
        let mut items = self.targets(projection, &level, settle)?;
        let mut grouping = match group_by {
            GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => {
                self.group_by(exprs, &items, &level)?
            }
            _ => return Err(SqlError::unsupported("this form of GROUP BY")),
        };
        let having_bound = match having {
            Some(h) => {
                let bound = level.within(Clause::Having, || self.expr(h, &level))?;
                Some(self.to_bool(bound, "HAVING", position_of(h))?)
            }
            None => None,
        };
        let order = self.order_by(tail.order, &items, &level)?;
        let on = match distinct {
            Some(Distinct::On(exprs)) => self.distinct_on(exprs, &items, &level)?,
            Some(Distinct::Distinct | Distinct::All) | None => Vec::new(),
        };
        let is_distinct = matches!(distinct, Some(Distinct::Distinct));
        let mut collected = level.collected.take();
        let grouped = !grouping.is_empty()
            || !collected.aggregates.is_empty()
            || having_bound.is_some()
            || !collected.groupings.is_empty();
        if !tail.locks.is_empty() {
            let what = if grouped {
                Some(if grouping.is_empty() {
                    "aggregate functions"
                } else {
                    "GROUP BY clause"
                })
            } else if is_distinct || !on.is_empty() {
                Some("DISTINCT clause")
            } else if !collected.windows.is_empty() {
                Some("window functions")
            } else if !collected.sets.is_empty() {
                Some("set-returning functions in the target list")
            } else {
                None
            };
            if let Some(what) = what {
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("FOR UPDATE is not allowed with {what}"),
                ));
            }
        }
        let mut order = order;
        let mut on = on;
        let mut having_bound = having_bound;
        if grouped {
            self.regroup(
                &level,
                &mut grouping,
                &mut collected,
                &mut items,
                &mut order,
                &mut on,
                having_bound.as_mut(),
            )?;
            rel = Self::aggregate(rel, grouping, &mut collected);
            if let Some(predicate) = having_bound {
                rel = Rel::Filter {
                    input: Box::new(rel),
                    predicate,
                };
            }
        }
        if !collected.windows.is_empty() {
            rel = Rel::Window {
                input: Box::new(rel),
                calls: std::mem::take(&mut collected.windows),
            };
        }
        rel = project_sets(rel, std::mem::take(&mut collected.sets));
        self.project(rel, items, order, on, is_distinct, tail, &level, parent)
    }

    /// The select list with its stars expanded.
    pub(crate) fn targets(
        &mut self,
        projection: &[SelectItem],
        level: &Level<'_>,
        settle: bool,
    ) -> Result<Vec<Item>, SqlError> {
        let mut out = Vec::with_capacity(projection.len());
        for p in projection {
            match p {
                SelectItem::UnnamedExpr(e) => {
                    let name = output_name::of(e);
                    out.push(self.target(e, &name, level, settle)?);
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    out.push(self.target(expr, &alias.value, level, settle)?);
                }
                SelectItem::Wildcard(options) => {
                    let span = options.wildcard_token.0.span;
                    self.note_star(
                        span.start.line as usize,
                        span.end.line as usize,
                        &level.ns.columns,
                        level,
                    );
                    if level.ns.tables.is_empty() {
                        return Err(SqlError::new(
                            SqlState::SYNTAX_ERROR,
                            "SELECT * with no tables specified is not valid",
                        ));
                    }
                    level.used.set(true);
                    for c in &level.ns.columns {
                        for id in c.expr.columns() {
                            level.seen.borrow_mut().push((id, c.name.to_string(), 0));
                        }
                        out.push(Item {
                            expr: c.expr.clone(),
                            name: Arc::clone(&c.name),
                            origin: c.origin,
                            position: 0,
                        });
                    }
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) => {
                    let columns = self.star_columns(name, level)?;
                    let start = name
                        .0
                        .first()
                        .and_then(|p| p.as_ident())
                        .map_or(0, |i| i.span.start.line as usize);
                    let end = options.wildcard_token.0.span.end.line as usize;
                    self.note_star(start, end, &columns, level);
                    for c in columns {
                        out.push(Item {
                            expr: c.expr,
                            name: c.name,
                            origin: c.origin,
                            position: 0,
                        });
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(e), _) => {
                    self.expand_row(e, level, &mut out)?;
                }
                SelectItem::ExprWithAliases { .. } => {
                    return Err(SqlError::unsupported("several aliases of one expression"));
                }
            }
        }
        Ok(out)
    }

    /// Remembers what a star stands for, where the text is to be stored.
    fn note_star(
        &mut self,
        start: usize,
        end: usize,
        columns: &[super::names::NamedColumn],
        level: &Level<'_>,
    ) {
        let Some(notes) = &mut self.notes else { return };
        let text = columns
            .iter()
            .map(|c| {
                let name = super::deparse::identifier(&c.name);
                let table = level.ns.tables.iter().find(|t| {
                    !t.alias.is_empty()
                        && t.columns
                            .iter()
                            .any(|o| o.name == c.name && same(&o.expr, &c.expr))
                });
                match table {
                    Some(t) => format!("{}.{name}", super::deparse::identifier(&t.alias)),
                    None => name,
                }
            })
            .collect::<Vec<_>>()
            .join(", ");
        notes.push((start, end, text));
    }

    /// A column that stands for another has its fields too.
    pub(crate) fn name_fields(&mut self, of: &Expr, column: ColId) {
        if let Expr::Column(id, _) = of
            && let Some(fields) = self.records.get(id).map(Arc::clone)
        {
            self.records.insert(column, fields);
        }
    }

    /// `(row).*`
    fn expand_row(
        &mut self,
        e: &Ast,
        level: &Level<'_>,
        out: &mut Vec<Item>,
    ) -> Result<(), SqlError> {
        let position = position_of(e);
        let inner = match e {
            Ast::Nested(inner) => inner,
            e => e,
        };
        if let Ast::Identifier(i) = inner
            && let Ok(columns) = level.star(None, i)
        {
            for c in columns {
                out.push(Item {
                    expr: c.expr,
                    name: c.name,
                    origin: c.origin,
                    position,
                });
            }
            return Ok(());
        }
        let value = self.expr(e, level)?;
        if let Expr::Row(items) = value {
            for (i, expr) in items.into_iter().enumerate() {
                let name = Arc::from(format!("f{}", i + 1));
                out.push(Item {
                    expr,
                    name,
                    origin: None,
                    position,
                });
            }
            return Ok(());
        }
        let fields: Vec<(Arc<str>, PgType)> = match &value {
            Expr::Column(id, _) => self.records.get(id).map_or(Vec::new(), |f| f.to_vec()),
            _ => Vec::new(),
        };
        if fields.is_empty() && value.ty().oid != Oid::RECORD {
            return Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!(
                    "type {} is not composite",
                    crate::types::format_type(value.ty())
                ),
            )
            .at(position));
        }
        if fields.is_empty() {
            return Err(SqlError::unsupported("the expansion of this row").at(position));
        }
        for (index, (name, ty)) in fields.into_iter().enumerate() {
            let expr = Expr::Field {
                record: Box::new(value.clone()),
                index,
                ty,
            };
            out.push(Item {
                expr,
                name,
                origin: None,
                position,
            });
        }
        Ok(())
    }

    fn target(
        &mut self,
        e: &Ast,
        name: &str,
        level: &Level<'_>,
        settle: bool,
    ) -> Result<Item, SqlError> {
        let mut expr = self.expr(e, level)?;
        if settle {
            expr = self.settle_unknown(expr)?;
        }
        let origin = match &expr {
            Expr::Column(id, _) => level
                .ns
                .columns
                .iter()
                .chain(level.ns.tables.iter().flat_map(|t| &t.columns))
                .find(|c| matches!(&c.expr, Expr::Column(i, _) if i == id))
                .and_then(|c| c.origin),
            _ => None,
        };
        Ok(Item {
            expr,
            name: Arc::from(name),
            origin,
            position: position_of(e),
        })
    }

    /// An expression of ORDER BY or DISTINCT ON: an output column by number or name, or any
    /// expression.
    fn output_expr(
        &mut self,
        e: &Ast,
        items: &[Item],
        level: &Level<'_>,
        clause: &str,
    ) -> Result<Expr, SqlError> {
        if let Some(i) = output_position(e, items.len(), clause)?
            && let Some(item) = items.get(i)
        {
            return Ok(item.expr.clone());
        }
        if let Ast::Identifier(name) = e {
            let mut found: Option<&Item> = None;
            for item in items.iter().filter(|i| *i.name == name.value) {
                match found {
                    Some(f) if !same(&f.expr, &item.expr) => {
                        return Err(SqlError::new(
                            SqlState::AMBIGUOUS_COLUMN,
                            format!("{clause} \"{}\" is ambiguous", name.value),
                        )
                        .at(name.span.start.line as usize));
                    }
                    _ => found = Some(item),
                }
            }
            if let Some(item) = found {
                return Ok(item.expr.clone());
            }
        }
        let bound = self.expr(e, level)?;
        self.settle_unknown(bound)
    }

    fn order_by(
        &mut self,
        keys: &[OrderByExpr],
        items: &[Item],
        level: &Level<'_>,
    ) -> Result<Vec<(SortKey, usize)>, SqlError> {
        let mut out: Vec<(SortKey, usize)> = Vec::with_capacity(keys.len());
        for OrderByExpr {
            expr,
            options,
            with_fill: _,
        } in keys
        {
            let at = position_of(expr);
            let mut bound = self.output_expr(expr, items, level, "ORDER BY")?;
            if bound.ty().oid == Oid::UNKNOWN {
                bound = self.settle_unknown(bound)?;
            }
            let key = self.sort_key(bound, options, at)?;
            if !out.iter().any(|(k, _)| same(&k.expr, &key.expr)) {
                out.push((key, at));
            }
        }
        Ok(out)
    }

    fn distinct_on(
        &mut self,
        exprs: &[Ast],
        items: &[Item],
        level: &Level<'_>,
    ) -> Result<Vec<Expr>, SqlError> {
        exprs
            .iter()
            .map(|e| self.output_expr(e, items, level, "DISTINCT ON"))
            .collect()
    }

    /// Select list, DISTINCT, ORDER BY and LIMIT over what the clauses before made.
    #[expect(clippy::too_many_arguments, reason = "the clauses of one SELECT")]
    fn project(
        &mut self,
        rel: Rel,
        items: Vec<Item>,
        order: Vec<(SortKey, usize)>,
        on: Vec<Expr>,
        is_distinct: bool,
        tail: &Tail<'_>,
        level: &Level<'_>,
        parent: Option<&Level<'_>>,
    ) -> Result<Bound, SqlError> {
        let mut exprs: Vec<(Expr, Column)> = Vec::with_capacity(items.len());
        let mut columns = Vec::with_capacity(items.len());
        let mut origins = Vec::with_capacity(items.len());
        for item in items {
            if is_distinct {
                self.must_equal(item.expr.ty(), item.position)?;
            }
            let column = self.new_column(item.name, item.expr.ty());
            self.name_fields(&item.expr, column.id);
            columns.push(column.clone());
            origins.push(item.origin);
            exprs.push((item.expr, column));
        }
        let shown = exprs.len();
        let place = |binder: &mut Self, e: Expr, exprs: &mut Vec<(Expr, Column)>| {
            if let Some((_, c)) = exprs.iter().find(|(x, _)| same(x, &e)) {
                return Expr::Column(c.id, c.ty);
            }
            let column = binder.new_column("?sort?", e.ty());
            let out = Expr::Column(column.id, column.ty);
            exprs.push((e, column));
            out
        };
        let mut keys = Vec::with_capacity(order.len());
        for (key, at) in order {
            let listed = exprs.iter().take(shown).any(|(x, _)| same(x, &key.expr));
            if is_distinct && !listed {
                return Err(SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                )
                .at(at));
            }
            let expr = place(self, key.expr, &mut exprs);
            keys.push((SortKey { expr, ..key }, at));
        }
        let on: Vec<Expr> = on.into_iter().map(|e| place(self, e, &mut exprs)).collect();
        if !on.is_empty() {
            // The first keys must be those of DISTINCT ON, in any order.
            let mut seen = 0;
            for (k, at) in &keys {
                if on.iter().any(|e| same(e, &k.expr)) {
                    seen += 1;
                } else if seen < on.len() {
                    return Err(SqlError::new(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
                    )
                    .at(*at));
                }
            }
        }
        let keys: Vec<SortKey> = keys.into_iter().map(|(k, _)| k).collect();
        let locks = self.row_locks(tail, level, &mut exprs)?;
        let mut rel = Rel::Project {
            input: Box::new(rel),
            exprs,
        };
        if is_distinct {
            rel = Rel::Distinct {
                input: Box::new(rel),
                on: Vec::new(),
            };
        }
        if !keys.is_empty() {
            rel = Rel::Sort {
                input: Box::new(rel),
                keys: keys.clone(),
            };
        }
        if !on.is_empty() {
            rel = Rel::Distinct {
                input: Box::new(rel),
                on,
            };
        }
        rel = self.limit(rel, tail, keys, parent)?;
        Ok(Bound {
            rel,
            columns,
            origins,
            locks,
        })
    }

    /// FOR UPDATE and family: the keys of the locked tables pass through the select list.
    fn row_locks(
        &mut self,
        tail: &Tail<'_>,
        level: &Level<'_>,
        exprs: &mut Vec<(Expr, Column)>,
    ) -> Result<Vec<RowLock>, SqlError> {
        let mut out: Vec<RowLock> = Vec::new();
        for lock in tail.locks {
            let strength = match lock.lock_type {
                LockType::Share => pontoon_kv::LockStrength::Share,
                LockType::Update => pontoon_kv::LockStrength::Update,
            };
            let wait = match lock.nonblock {
                None => pontoon_kv::LockWait::Wait(None),
                Some(NonBlock::Nowait) => pontoon_kv::LockWait::NoWait,
                Some(NonBlock::SkipLocked) => pontoon_kv::LockWait::SkipLocked,
            };
            let of = lock
                .of
                .as_ref()
                .and_then(|n| n.0.last())
                .and_then(|p| p.as_ident());
            let mut found = false;
            for t in &level.ns.tables {
                if of.is_some_and(|o| o.value != t.alias) {
                    continue;
                }
                found = true;
                let Some(table) = &t.table else {
                    if of.is_some() {
                        return Err(SqlError::unsupported(
                            "FOR UPDATE of a subquery or function",
                        ));
                    }
                    continue;
                };
                let mut key = Vec::with_capacity(t.key.len());
                for c in &t.key {
                    let column = self.new_column(Arc::clone(&c.name), c.ty);
                    key.push(column.clone());
                    exprs.push((Expr::Column(c.id, c.ty), column));
                }
                out.push(RowLock {
                    table: Arc::clone(table),
                    key,
                    strength,
                    wait,
                });
            }
            if let (Some(o), false) = (of, found) {
                return Err(SqlError::new(
                    SqlState::UNDEFINED_TABLE,
                    format!(
                        "relation \"{}\" in FOR UPDATE clause not found in FROM clause",
                        o.value
                    ),
                )
                .at(o.span.start.line as usize));
            }
        }
        Ok(out)
    }
}

/// Set-returning functions, those that feed others first.
pub(crate) fn project_sets(
    mut rel: Rel,
    mut sets: Vec<(&'static crate::types::registry::Function, Vec<Expr>, Column)>,
) -> Rel {
    while !sets.is_empty() {
        let ids: Vec<_> = sets.iter().map(|(_, _, c)| c.id).collect();
        let (ready, later): (Vec<_>, Vec<_>) = sets.into_iter().partition(|(_, args, _)| {
            !args
                .iter()
                .any(|a| a.columns().iter().any(|c| ids.contains(c)))
        });
        if ready.is_empty() {
            return rel;
        }
        rel = Rel::ProjectSet {
            input: Box::new(rel),
            sets: ready,
        };
        sets = later;
    }
    rel
}

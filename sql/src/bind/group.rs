//! GROUP BY: keys, grouping sets, and the rule that an ungrouped column must not be shown.

use sqlparser::ast::Expr as Ast;

use super::context::Binder;
use super::names::{Clause, Collected, Level};
use super::position_of;
use super::query::output_position;
use super::select::Item;
use super::tree::{ColId, Column, Expr, Rel, SortKey};
use super::walk::{children_mut, every_expr_mut, same, window_mut};
use crate::error::{SqlError, SqlState};

/// Grouping sets, at most.
const SETS_MAX: usize = 4_096;

/// The keys of a grouped query.
#[derive(Default)]
pub(crate) struct Grouping {
    keys: Vec<(Expr, Column)>,
    sets: Option<Vec<Vec<usize>>>,
}

impl Grouping {
    /// Whether there is no GROUP BY.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.sets.is_none()
    }

    fn key(&self, e: &Expr) -> Option<&Column> {
        self.keys.iter().find(|(k, _)| same(k, e)).map(|(_, c)| c)
    }
}

fn product(left: Vec<Vec<usize>>, right: &[Vec<usize>]) -> Result<Vec<Vec<usize>>, SqlError> {
    if left.len().saturating_mul(right.len()) > SETS_MAX {
        return Err(SqlError::new(
            SqlState::STATEMENT_TOO_COMPLEX,
            format!("too many grouping sets present (maximum {SETS_MAX})"),
        ));
    }
    let mut out = Vec::new();
    for l in &left {
        for r in right {
            let mut set = l.clone();
            for k in r {
                if !set.contains(k) {
                    set.push(*k);
                }
            }
            out.push(set);
        }
    }
    Ok(out)
}

impl Binder<'_> {
    /// The items of GROUP BY.
    pub(crate) fn group_by(
        &mut self,
        exprs: &[Ast],
        items: &[Item],
        level: &Level<'_>,
    ) -> Result<Grouping, SqlError> {
        let mut out = Grouping::default();
        if exprs.is_empty() {
            return Ok(out);
        }
        let mut sets = vec![Vec::new()];
        let mut several = false;
        for e in exprs {
            several |= matches!(e, Ast::GroupingSets(_) | Ast::Rollup(_) | Ast::Cube(_));
            let own = self.group_item(e, items, level, &mut out)?;
            sets = product(sets, &own)?;
        }
        if several {
            out.sets = Some(sets);
        }
        Ok(out)
    }

    /// The sets that one item stands for.
    fn group_item(
        &mut self,
        e: &Ast,
        items: &[Item],
        level: &Level<'_>,
        out: &mut Grouping,
    ) -> Result<Vec<Vec<usize>>, SqlError> {
        let mut lists =
            |binder: &mut Self, lists: &[Vec<Ast>]| -> Result<Vec<Vec<usize>>, SqlError> {
                lists
                    .iter()
                    .map(|l| {
                        let mut set = Vec::new();
                        for e in l {
                            for k in binder.group_keys(e, items, level, out)? {
                                if !set.contains(&k) {
                                    set.push(k);
                                }
                            }
                        }
                        Ok(set)
                    })
                    .collect()
            };
        match e {
            Ast::Rollup(parts) => {
                let parts = lists(self, parts)?;
                let mut sets = Vec::new();
                for n in (0..=parts.len()).rev() {
                    sets.push(parts.iter().take(n).flatten().copied().collect());
                }
                Ok(sets)
            }
            Ast::Cube(parts) => {
                let parts = lists(self, parts)?;
                if parts.len() > 12 {
                    return Err(SqlError::new(
                        SqlState::TOO_MANY_COLUMNS,
                        "CUBE is limited to 12 elements",
                    ));
                }
                let mut sets = Vec::new();
                for mask in (0..1usize << parts.len()).rev() {
                    let set = parts
                        .iter()
                        .enumerate()
                        .filter(|(i, _)| mask & (1 << (parts.len() - 1 - i)) != 0)
                        .flat_map(|(_, p)| p.iter().copied())
                        .collect();
                    sets.push(set);
                }
                Ok(sets)
            }
            Ast::GroupingSets(parts) => {
                let mut sets = Vec::new();
                for p in parts {
                    match p.as_slice() {
                        [nested @ (Ast::Rollup(_) | Ast::Cube(_) | Ast::GroupingSets(_))] => {
                            sets.extend(self.group_item(nested, items, level, out)?);
                        }
                        list => {
                            let mut set = Vec::new();
                            for e in list {
                                set.extend(self.group_keys(e, items, level, out)?);
                            }
                            sets.push(set);
                        }
                    }
                }
                Ok(sets)
            }
            Ast::Tuple(list) => {
                let mut set = Vec::new();
                for e in list {
                    set.extend(self.group_keys(e, items, level, out)?);
                }
                Ok(vec![set])
            }
            e => Ok(vec![self.group_keys(e, items, level, out)?]),
        }
    }

    /// The keys that an expression of GROUP BY names, as numbers.
    fn group_keys(
        &mut self,
        e: &Ast,
        items: &[Item],
        level: &Level<'_>,
        out: &mut Grouping,
    ) -> Result<Vec<usize>, SqlError> {
        if let Ast::Tuple(list) = e {
            let mut keys = Vec::new();
            for e in list {
                keys.extend(self.group_keys(e, items, level, out)?);
            }
            return Ok(keys);
        }
        let at = position_of(e);
        let bound = self.group_expr(e, items, level)?;
        let bound = self.settle_unknown(bound)?;
        self.must_equal(bound.ty(), at)?;
        if let Some(i) = out.keys.iter().position(|(k, _)| same(k, &bound)) {
            return Ok(vec![i]);
        }
        let column = self.new_column("key", bound.ty());
        out.keys.push((bound, column));
        Ok(vec![out.keys.len() - 1])
    }

    fn group_expr(&mut self, e: &Ast, items: &[Item], level: &Level<'_>) -> Result<Expr, SqlError> {
        let at = position_of(e);
        let listed = |item: &Item| -> Result<Expr, SqlError> {
            let collected = level.collected.borrow();
            let columns = item.expr.columns();
            let refuse = |what: &str| {
                Err(SqlError::new(
                    SqlState::GROUPING_ERROR,
                    format!("{what} are not allowed in GROUP BY"),
                )
                .at(item.position))
            };
            if collected
                .aggregates
                .iter()
                .any(|(_, c)| columns.contains(&c.id))
            {
                return refuse("aggregate functions");
            }
            if collected
                .windows
                .iter()
                .any(|(_, c)| columns.contains(&c.id))
            {
                return Err(SqlError::new(
                    SqlState::WINDOWING_ERROR,
                    "window functions are not allowed in GROUP BY",
                )
                .at(item.position));
            }
            Ok(item.expr.clone())
        };
        if let Some(i) = output_position(e, items.len(), "GROUP BY")?
            && let Some(item) = items.get(i)
        {
            return listed(item);
        }
        if let Ast::Identifier(name) = e {
            // A column of FROM comes before an output name.
            let own = level.ns.columns.iter().any(|c| *c.name == name.value);
            if !own {
                let mut found: Option<&Item> = None;
                for item in items.iter().filter(|i| *i.name == name.value) {
                    match found {
                        Some(f) if !same(&f.expr, &item.expr) => {
                            return Err(SqlError::new(
                                SqlState::AMBIGUOUS_COLUMN,
                                format!("GROUP BY \"{}\" is ambiguous", name.value),
                            )
                            .at(at));
                        }
                        _ => found = Some(item),
                    }
                }
                if let Some(item) = found {
                    return listed(item);
                }
            }
        }
        level.within(Clause::Plain("GROUP BY"), || self.expr(e, level))
    }

    /// Puts keys in the place of the expressions that they are, everywhere above the grouping.
    #[expect(clippy::too_many_arguments, reason = "all clauses above the grouping")]
    pub(crate) fn regroup(
        &mut self,
        level: &Level<'_>,
        grouping: &mut Grouping,
        collected: &mut Collected,
        items: &mut [Item],
        order: &mut [(SortKey, usize)],
        on: &mut [Expr],
        having: Option<&mut Expr>,
    ) -> Result<(), SqlError> {
        let mut error = None;
        let mut f = |binder: &mut Self, e: &mut Expr| {
            if error.is_none()
                && let Err(e) = binder.replace(e, level, grouping, false)
            {
                error = Some(e);
            }
        };
        for i in items.iter_mut() {
            f(self, &mut i.expr);
        }
        if let Some(h) = having {
            f(self, h);
        }
        for (k, _) in order.iter_mut() {
            f(self, &mut k.expr);
        }
        for e in on.iter_mut() {
            f(self, e);
        }
        for (call, _) in &mut collected.windows {
            window_mut(call, &mut |e| f(self, e));
        }
        for (_, args, _) in &mut collected.sets {
            args.iter_mut().for_each(|e| f(self, e));
        }
        match error {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    fn replace(
        &mut self,
        e: &mut Expr,
        level: &Level<'_>,
        grouping: &mut Grouping,
        within_subquery: bool,
    ) -> Result<(), SqlError> {
        if !matches!(e, Expr::Const(..) | Expr::Param(..))
            && let Some(c) = grouping.key(e)
        {
            *e = Expr::Column(c.id, c.ty);
            return Ok(());
        }
        if let Expr::Column(id, ty) = e {
            if !level.owns(*id) {
                return Ok(());
            }
            if grouping.sets.is_none() && self.depends_on_key(*id, level, grouping) {
                let column = self.new_column("dependent", *ty);
                let key = Expr::Column(*id, *ty);
                *e = Expr::Column(column.id, column.ty);
                grouping.keys.push((key, column));
                return Ok(());
            }
            return Err(ungrouped(*id, level, within_subquery));
        }
        let mut error = None;
        if let Expr::Subquery(s) = e {
            every_expr_mut(&mut s.rel, &mut |inner| {
                let own = matches!(inner, Expr::Column(id, _) if level.owns(*id));
                if own
                    && error.is_none()
                    && let Err(e) = self.replace(inner, level, grouping, true)
                {
                    error = Some(e);
                }
            });
        }
        children_mut(e, &mut |c| {
            if error.is_none()
                && let Err(e) = self.replace(c, level, grouping, within_subquery)
            {
                error = Some(e);
            }
        });
        error.map_or(Ok(()), Err)
    }

    /// Whether the primary key of the column's table is among the keys.
    fn depends_on_key(&self, id: ColId, level: &Level<'_>, grouping: &Grouping) -> bool {
        level.ns.tables.iter().any(|t| {
            let Some(table) = &t.table else { return false };
            let has = t
                .columns
                .iter()
                .any(|c| matches!(&c.expr, Expr::Column(i, _) if *i == id));
            let Some(primary) = table.primary_key().filter(|_| has) else {
                return false;
            };
            primary.columns.iter().all(|k| {
                let attnum = table.columns.get(k.column).map(|c| c.attnum);
                t.columns.iter().any(|c| {
                    c.origin.map(|(_, n)| n) == attnum
                        && c.origin.map(|(o, _)| o) == Some(table.oid)
                        && grouping.keys.iter().any(|(e, _)| same(e, &c.expr))
                })
            })
        })
    }

    /// The aggregation.
    pub(crate) fn aggregate(input: Rel, grouping: Grouping, collected: &mut Collected) -> Rel {
        let Grouping { keys, sets } = grouping;
        let groupings = std::mem::take(&mut collected.groupings)
            .into_iter()
            .map(|(args, column)| {
                let positions = args
                    .iter()
                    .filter_map(|a| keys.iter().position(|(k, _)| same(k, a)))
                    .collect();
                (positions, column)
            })
            .collect();
        Rel::Aggregate {
            input: Box::new(input),
            keys,
            sets,
            grouping: groupings,
            calls: std::mem::take(&mut collected.aggregates),
        }
    }
}

fn ungrouped(id: ColId, level: &Level<'_>, within_subquery: bool) -> SqlError {
    let name = level
        .ns
        .tables
        .iter()
        .find_map(|t| {
            t.columns
                .iter()
                .find(|c| matches!(&c.expr, Expr::Column(i, _) if *i == id))
                .map(|c| format!("{}.{}", t.alias, c.name))
        })
        .unwrap_or_else(|| "?".to_owned());
    let position = level
        .seen
        .borrow()
        .iter()
        .find(|(c, _, p)| *c == id && *p > 0)
        .map_or(0, |(_, _, p)| *p);
    let message = if within_subquery {
        format!("subquery uses ungrouped column \"{name}\" from outer query")
    } else {
        format!(
            "column \"{name}\" must appear in the GROUP BY clause or be used in an aggregate function"
        )
    };
    SqlError::new(SqlState::GROUPING_ERROR, message).at(position)
}

//! Recognises statements that are key access.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bind::tree::{
    BoundDelete, BoundInsert, BoundQuery, BoundStatement, BoundUpdate, ColId, Column, Expr, Rel,
};
use crate::exec::rows::Slots;
use crate::plan::access;
use crate::plan::free;
use crate::plan::node::{Access, KeyTerm};

use super::{PointPlan, PointRead};

/// Elements of an IN list that are still read by key here.
const TERMS_MAX: usize = 256;

/// Compiles a statement; `None` if it is none of the known shapes.
pub fn compile(statement: &BoundStatement) -> Option<PointPlan> {
    match statement {
        BoundStatement::Query(query) => select(query),
        BoundStatement::Insert(insert) => values(insert),
        BoundStatement::Update(update) => update_by_key(update),
        BoundStatement::Delete(delete) => delete_by_key(delete),
    }
}

/// A stack of projections and filters over one scan, with everything expressed over the scan.
struct Shape<'a> {
    table: &'a Arc<crate::catalog::desc::TableDesc>,
    columns: &'a [(usize, Column)],
    conditions: Vec<Expr>,
    /// What each projected column is, over the scan.
    defined: BTreeMap<ColId, Expr>,
}

fn shape(rel: &Rel) -> Option<Shape<'_>> {
    match rel {
        Rel::Scan { table, columns } => Some(Shape {
            table,
            columns,
            conditions: Vec::new(),
            defined: columns
                .iter()
                .map(|(_, c)| (c.id, Expr::Column(c.id, c.ty)))
                .collect(),
        }),
        Rel::Filter { input, predicate } => {
            let mut shape = shape(input)?;
            let mut conditions = Vec::new();
            free::conjuncts(predicate, &mut conditions);
            for condition in &conditions {
                let moved = shape.over_scan(condition)?;
                shape.conditions.push(moved);
            }
            Some(shape)
        }
        Rel::Project { input, exprs } => {
            let mut shape = shape(input)?;
            let mut defined = BTreeMap::new();
            for (expr, column) in exprs {
                if free::is_volatile(expr) {
                    return None;
                }
                defined.insert(column.id, shape.over_scan(expr)?);
            }
            shape.defined = defined;
            Some(shape)
        }
        _ => None,
    }
}

impl Shape<'_> {
    /// An expression over the scan's columns alone.
    fn over_scan(&self, expr: &Expr) -> Option<Expr> {
        if expr.has_subquery() || free::is_volatile(expr) {
            return None;
        }
        free::substitute(expr, &|id| self.defined.get(&id).cloned())
    }

    /// The keyed read, with at least the columns of `used` decoded.
    fn read<'e>(
        mut self,
        used: impl Iterator<Item = &'e Expr>,
        all_columns: bool,
    ) -> Option<PointRead> {
        let local: BTreeMap<ColId, usize> = self.columns.iter().map(|(p, c)| (c.id, *p)).collect();
        let (access, _) = access::choose(
            self.table,
            &local,
            &mut self.conditions,
            access::UNKNOWN_ROWS,
        );
        let Access::Key(access) = access else {
            return None;
        };
        let small = access.unique
            && access.equal.iter().all(|t| match t {
                KeyTerm::Equal(_) | KeyTerm::AnyElement(_) => true,
                KeyTerm::AnyOf(items) => items.len() <= TERMS_MAX,
                KeyTerm::IsNull => false,
            });
        if !small {
            return None;
        }
        let mut needed: std::collections::BTreeSet<ColId> =
            self.conditions.iter().flat_map(Expr::columns).collect();
        needed.extend(used.flat_map(Expr::columns));
        let kept: Vec<&(usize, Column)> = self
            .columns
            .iter()
            .filter(|(_, c)| all_columns || needed.contains(&c.id))
            .collect();
        let columns: Vec<Column> = kept.iter().map(|(_, c)| c.clone()).collect();
        if !needed.iter().all(|id| local.contains_key(id)) {
            return None;
        }
        Some(PointRead {
            table: Arc::clone(self.table),
            access,
            positions: kept.iter().map(|(p, _)| *p).collect(),
            slots: Slots::new(&columns),
            filter: self.conditions,
        })
    }
}

fn select(query: &BoundQuery) -> Option<PointPlan> {
    if !query.locks.is_empty() {
        return None;
    }
    let (rel, limit) = match &query.rel {
        Rel::Limit {
            input,
            limit,
            offset: None,
            with_ties: None,
        } => (input.as_ref(), limit),
        other => (other, &None),
    };
    if limit.as_ref().is_some_and(Expr::has_subquery) {
        return None;
    }
    let shape = shape(rel)?;
    let exprs: Vec<Expr> = query
        .columns
        .iter()
        .map(|c| shape.defined.get(&c.id).cloned())
        .collect::<Option<_>>()?;
    let read = shape.read(exprs.iter(), false)?;
    let plain = exprs
        .iter()
        .map(|e| match e {
            Expr::Column(id, _) => read.slots.get(*id),
            _ => None,
        })
        .collect();
    Some(PointPlan::Select {
        read,
        exprs,
        plain,
        output: query.output.clone(),
        limit: limit.clone(),
    })
}

fn values(insert: &BoundInsert) -> Option<PointPlan> {
    if insert.on_conflict.is_some() {
        return None;
    }
    let rows = rows_of(&insert.source, insert)?;
    let simple = |e: &Expr| !e.has_subquery();
    if !rows.iter().flatten().all(simple) {
        return None;
    }
    Some(PointPlan::Insert {
        rows,
        insert: Arc::new(insert.clone()),
    })
}

/// The rows of a VALUES below projections, in the order of the insert's columns.
fn rows_of(rel: &Rel, insert: &BoundInsert) -> Option<Vec<Vec<Expr>>> {
    fn defined(rel: &Rel) -> Option<Vec<BTreeMap<ColId, Expr>>> {
        match rel {
            Rel::Unit => Some(vec![BTreeMap::new()]),
            Rel::Values { rows, columns } => Some(
                rows.iter()
                    .map(|row| {
                        columns
                            .iter()
                            .map(|c| c.id)
                            .zip(row.iter().cloned())
                            .collect()
                    })
                    .collect(),
            ),
            Rel::Project { input, exprs } => {
                let below = defined(input)?;
                below
                    .into_iter()
                    .map(|known| {
                        // A volatile value (nextval, random) must stay one evaluation.
                        let mut uses: BTreeMap<ColId, usize> = BTreeMap::new();
                        for (e, _) in exprs {
                            count(e, &mut uses);
                        }
                        let twice = known.iter().any(|(id, e)| {
                            free::is_volatile(e) && uses.get(id).copied() != Some(1)
                        });
                        if twice {
                            return None;
                        }
                        exprs
                            .iter()
                            .map(|(e, c)| {
                                let e = free::substitute(e, &|id| known.get(&id).cloned())?;
                                Some((c.id, e))
                            })
                            .collect()
                    })
                    .collect()
            }
            _ => None,
        }
    }
    fn count(expr: &Expr, uses: &mut BTreeMap<ColId, usize>) {
        if let Expr::Column(id, _) = expr {
            *uses.entry(*id).or_default() += 1;
        }
        expr.for_each_child(&mut |c| count(c, uses));
    }
    defined(rel)?
        .into_iter()
        .map(|mut row| {
            insert
                .columns
                .iter()
                .map(|(_, c)| row.remove(&c.id))
                .collect()
        })
        .collect()
}

fn update_by_key(update: &BoundUpdate) -> Option<PointPlan> {
    let shape = shape(&update.source)?;
    if !Arc::ptr_eq(shape.table, &update.table) && shape.table.oid != update.table.oid {
        return None;
    }
    // The old row must be the scan's own columns.
    let set: Vec<(usize, Expr)> = update
        .set
        .iter()
        .map(|(p, c)| Some((*p, shape.defined.get(&c.id)?.clone())))
        .collect::<Option<_>>()?;
    let complete = update.old.iter().all(|(p, c)| {
        matches!(shape.defined.get(&c.id), Some(Expr::Column(id, _))
            if shape.columns.iter().any(|(q, s)| p == q && s.id == *id))
    });
    if !complete {
        return None;
    }
    let mut returning = update.returning.clone();
    if let Some(returning) = &mut returning {
        for expr in &mut returning.exprs {
            *expr = shape.over_scan(expr)?;
        }
    }
    let read = shape.read(set.iter().map(|(_, e)| e), true)?;
    Some(PointPlan::Update {
        read,
        set,
        returning,
        returning_row: update.returning_row.clone(),
    })
}

fn delete_by_key(delete: &BoundDelete) -> Option<PointPlan> {
    let shape = shape(&delete.source)?;
    if shape.table.oid != delete.table.oid {
        return None;
    }
    let mut returning = delete.returning.clone();
    if let Some(returning) = &mut returning {
        for expr in &mut returning.exprs {
            *expr = shape.over_scan(expr)?;
        }
    }
    let read = shape.read(std::iter::empty(), true)?;
    Some(PointPlan::Delete { read, returning })
}

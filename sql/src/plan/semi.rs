//! EXISTS and IN with correlated subqueries as semi and anti joins.
//!
//! Only where the correlation is in conditions directly under the subquery and at least one of
//! them can be hashed; anything else stays a subquery and is run for each row. NOT IN is never
//! turned: NULLs make it something else than an anti join.

use std::collections::BTreeSet;

use crate::bind::tree::{ColId, Column, Expr, Rel, Subquery, SubqueryKind};
use crate::types::registry::Comparison;
use crate::types::{Oid, PgType};

use super::free;
use super::node::JoinType;

/// A condition as a join.
pub struct SemiJoin {
    /// Semi or anti.
    pub kind: JoinType,
    /// The right side, without the correlation.
    pub right: Rel,
    /// Conditions between the sides.
    pub conditions: Vec<Expr>,
}

/// Takes a condition of WHERE apart; `None` if it must stay a subquery.
pub fn semi_join(condition: &Expr, left: &[Column]) -> Option<SemiJoin> {
    let (query, negated) = match condition {
        Expr::Subquery(query) => (query, false),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::Subquery(query) => (query, true),
            _ => return None,
        },
        _ => return None,
    };
    let outer = free::of_subquery(query);
    if outer.is_empty() || !outer.iter().all(|id| left.iter().any(|c| c.id == *id)) {
        return None;
    }
    let mut conditions = match &query.kind {
        SubqueryKind::Exists => Vec::new(),
        SubqueryKind::Compare {
            left,
            functions,
            comparison: Comparison::Eq,
            all: false,
        } if !negated => left
            .iter()
            .zip(functions)
            .zip(&query.columns)
            .map(|((l, function), column)| Expr::Call {
                function,
                args: vec![l.clone(), Expr::Column(column.id, column.ty)],
                ty: PgType::new(Oid::BOOL),
                comparison: Some(Comparison::Eq),
            })
            .collect(),
        _ => return None,
    };
    if conditions.iter().any(Expr::has_subquery) {
        return None;
    }
    let right = without(query, &outer, &mut conditions)?;
    let kind = if negated {
        JoinType::Anti
    } else {
        JoinType::Semi
    };
    Some(SemiJoin {
        kind,
        right,
        conditions,
    })
}

/// The subquery's relation with the correlated conditions moved to `conditions`.
fn without(query: &Subquery, outer: &BTreeSet<ColId>, conditions: &mut Vec<Expr>) -> Option<Rel> {
    let exists = matches!(query.kind, SubqueryKind::Exists);
    let mut rel = &query.rel;
    let mut kept = Vec::new();
    loop {
        match rel {
            Rel::Project { input, exprs } => {
                // What is named of the projection becomes what it is.
                for condition in conditions.iter_mut().chain(&mut kept) {
                    let by = |id| {
                        exprs
                            .iter()
                            .find(|(_, c)| c.id == id)
                            .map(|(e, _): &(Expr, _)| e.clone())
                    };
                    *condition = free::substitute(condition, &by)?;
                }
                if conditions
                    .iter()
                    .any(|c| c.has_subquery() || free::is_volatile(c))
                {
                    return None;
                }
                rel = input;
            }
            Rel::Distinct { input, on } if on.is_empty() => rel = input,
            Rel::Sort { input, .. } => rel = input,
            Rel::Limit {
                input,
                limit: Some(Expr::Const(n, _)),
                offset: None,
                with_ties: None,
            } if exists && n.as_i64().is_some_and(|n| n > 0) => {
                rel = input;
            }
            Rel::Filter { input, predicate } => {
                let mut found = Vec::new();
                free::conjuncts(predicate, &mut found);
                for condition in found {
                    if free::of_expr(&condition).is_disjoint(outer) {
                        kept.push(condition);
                    } else if condition.has_subquery() || free::is_volatile(&condition) {
                        return None;
                    } else {
                        conditions.push(condition);
                    }
                }
                rel = input;
            }
            _ => break,
        }
    }
    if !free::of_rel(rel).is_disjoint(outer) {
        return None;
    }
    let core = rel.clone();
    Some(if kept.is_empty() {
        core
    } else {
        Rel::Filter {
            input: Box::new(core),
            predicate: Expr::And(kept),
        }
    })
}

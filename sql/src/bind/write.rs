//! What INSERT, UPDATE and DELETE share: the target table under its name, defaults, generated
//! columns, RETURNING. A write is bound to a query for what is written, and to what becomes of each
//! row.

use std::sync::Arc;

use sqlparser::ast::{Expr as Ast, Ident, ObjectName, SelectItem};

use super::coerce::Context;
use super::context::Binder;
use super::from::Relation;
use super::names::{Clause, Level, NamedColumn, NamedTable, Namespace};
use super::table_oid::TableOid;
use super::tree::{Column, Expr, OutputColumn, Returning};
use super::walk::children_mut;
use crate::catalog::desc::{ColumnDesc, RelationKind, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::types::registry::registry;
use crate::types::{Datum, Oid, PgType};

pub(super) fn is_default(e: &Ast) -> bool {
    matches!(e, Ast::Identifier(i) if i.quote_style.is_none() && i.value == "default")
}

pub(super) fn column_position(t: &TableDesc, name: &Ident) -> Result<usize, SqlError> {
    t.live_columns()
        .find(|(_, c)| c.name == name.value)
        .map(|(i, _)| i)
        .ok_or_else(|| {
            SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "column \"{}\" of relation \"{}\" does not exist",
                    name.value, t.name
                ),
            )
            .at(name.span.start.line as usize)
        })
}

pub(super) fn column(t: &TableDesc, position: usize) -> Result<&ColumnDesc, SqlError> {
    t.columns
        .get(position)
        .ok_or_else(|| SqlError::internal("column position"))
}

/// Puts expressions in the place of columns.
fn substitute(e: &mut Expr, find: &dyn Fn(super::tree::ColId) -> Option<Expr>) {
    if let Expr::Column(id, _) = e {
        if let Some(new) = find(*id) {
            *e = new;
        }
        return;
    }
    children_mut(e, &mut |c| substitute(c, find));
}

/// A table as it is seen under a name, by columns of one's own.
pub(super) fn seen_as(t: &Arc<TableDesc>, alias: &str, columns: &[(usize, Column)]) -> NamedTable {
    NamedTable {
        alias: alias.to_owned(),
        schema: (alias == t.name).then(|| t.schema_name.clone()),
        columns: columns
            .iter()
            .filter_map(|(i, c)| {
                let desc = t.columns.get(*i).filter(|d| d.attnum != 0)?;
                Some(NamedColumn {
                    name: Arc::clone(&c.name),
                    expr: Expr::Column(c.id, c.ty),
                    origin: Some((t.oid, desc.attnum)),
                })
            })
            .collect(),
        table: Some(Arc::clone(t)),
        key: Vec::new(),
        scalar: false,
        table_oid: Some(TableOid::constant(t.oid)),
    }
}

impl Binder<'_> {
    pub(super) fn writable(
        &self,
        name: &ObjectName,
        what: &str,
    ) -> Result<Arc<TableDesc>, SqlError> {
        match self.relation(name)? {
            Relation::Table(t) if t.kind == RelationKind::Table => Ok(t),
            Relation::Table(t) => Err(SqlError::unsupported(format!("{what} view \"{}\"", t.name))),
            Relation::Virtual(v) => Err(SqlError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied: \"{}\" is a system catalog", v.name),
            )),
        }
    }

    /// What a column gets where no value is given.
    pub(super) fn default_of(&mut self, t: &TableDesc, position: usize) -> Result<Expr, SqlError> {
        let c = column(t, position)?;
        // By number, so that neither a new name nor the search path matters.
        let serial = c
            .default
            .as_ref()
            .is_some_and(|text| text.starts_with("nextval("));
        if (c.identity.is_some() || serial)
            && let Some(sequence) = c.sequence
        {
            let nextval = registry()
                .functions_named("nextval")
                .first()
                .copied()
                .ok_or_else(|| SqlError::internal("nextval"))?;
            let arg = Expr::Const(Datum::Oid(sequence), PgType::new(Oid::REGCLASS));
            let call = self.make_call(nextval, vec![arg], PgType::new(Oid::INT8), None);
            return self.coerce(call, c.ty, Context::Assignment, 0);
        }
        match &c.default {
            Some(text) => {
                let ast = crate::parse::expression(text)?;
                let level = Level::new(Namespace::default(), None);
                level.clause.set(Clause::Plain("DEFAULT expressions"));
                let bound = self.expr(&ast, &level)?;
                let bound = self.coerce_assign(bound, c.ty, 0, Some(&c.name));
                bound.map_err(|mut e| {
                    e.0.position = None;
                    e
                })
            }
            None => Ok(Expr::Const(Datum::Null, c.ty)),
        }
    }

    /// The expression of a generated column over these columns of the table.
    pub(super) fn generated(
        &mut self,
        t: &TableDesc,
        text: &str,
        ty: PgType,
        columns: &[(usize, Column)],
    ) -> Result<Expr, SqlError> {
        let ast = crate::parse::expression(text)?;
        let columns: Vec<Column> = columns.iter().map(|(_, c)| c.clone()).collect();
        let level = Level::new(Namespace::of_columns(&t.name, &columns), None);
        level
            .clause
            .set(Clause::Plain("column generation expressions"));
        let bound = self.expr(&ast, &level)?;
        self.coerce_assign(bound, ty, 0, None)
    }

    /// Adds the new values of generated columns to those that are set.
    pub(super) fn regenerate(
        &mut self,
        t: &TableDesc,
        set: &mut Vec<(usize, Expr)>,
        old: &[(usize, Column)],
    ) -> Result<(), SqlError> {
        let generated: Vec<(usize, String, PgType)> = t
            .live_columns()
            .filter_map(|(i, c)| c.generated.clone().map(|g| (i, g, c.ty)))
            .collect();
        set.retain(|(i, _)| !generated.iter().any(|g| g.0 == *i));
        let mut more = Vec::new();
        for (i, text, ty) in generated {
            let mut e = self.generated(t, &text, ty, old)?;
            substitute(&mut e, &|id| {
                let position = old.iter().find(|(_, c)| c.id == id)?.0;
                set.iter()
                    .find(|(p, _)| *p == position)
                    .map(|(_, e)| e.clone())
            });
            more.push((i, e));
        }
        set.extend(more);
        Ok(())
    }

    pub(super) fn returning(
        &mut self,
        items: &[SelectItem],
        ns: Namespace,
    ) -> Result<Option<Returning>, SqlError> {
        if items.is_empty() {
            return Ok(None);
        }
        let level = Level::new(ns, None);
        level.clause.set(Clause::Plain("RETURNING"));
        let items = self.targets(items, &level, true)?;
        let mut exprs = Vec::with_capacity(items.len());
        let mut output = Vec::with_capacity(items.len());
        for item in items {
            if item.expr.has_subquery() {
                return Err(SqlError::unsupported("a subquery in RETURNING").at(item.position));
            }
            output.push(OutputColumn {
                name: item.name,
                ty: item.expr.ty(),
                origin: item.origin,
            });
            exprs.push(item.expr);
        }
        Ok(Some(Returning {
            exprs,
            output: output.into(),
        }))
    }
}

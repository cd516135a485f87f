//! INSERT, UPDATE, DELETE: a query for what is written, and what becomes of each row.

use std::sync::Arc;

use sqlparser::ast::{Expr as Ast, Ident, ObjectName, Query, SelectItem, SetExpr, TableWithJoins};

use super::coerce::Context;
use super::context::Binder;
use super::expr::row_items;
use super::from::Relation;
use super::names::{Clause, Level, NamedColumn, NamedTable, Namespace};
use super::position_of;
use super::query::exact;
use super::table_oid::TableOid;
use super::tree::{
    BoundDelete, BoundInsert, BoundUpdate, Column, ConflictUpdate, Expr, JoinKind, OnConflict,
    OutputColumn, Rel, Returning, Subquery, SubqueryKind,
};
use super::walk::children_mut;
use crate::catalog::desc::{ColumnDesc, Identity, IndexDesc, RelationKind, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::{
    ConflictTarget, Delete, Insert, OnConflict as AstConflict, Overriding, SetClause, Update,
};
use crate::types::registry::registry;
use crate::types::{Datum, Oid, PgType};

fn is_default(e: &Ast) -> bool {
    matches!(e, Ast::Identifier(i) if i.quote_style.is_none() && i.value == "default")
}

fn column_position(t: &TableDesc, name: &Ident) -> Result<usize, SqlError> {
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

fn column(t: &TableDesc, position: usize) -> Result<&ColumnDesc, SqlError> {
    t.columns
        .get(position)
        .ok_or_else(|| SqlError::internal("column position"))
}

fn generated_always(c: &ColumnDesc) -> SqlError {
    let e = SqlError::new(
        SqlState::GENERATED_ALWAYS,
        format!(
            "cannot insert a non-DEFAULT value into column \"{}\"",
            c.name
        ),
    );
    if c.generated.is_some() {
        e.with_detail(format!("Column \"{}\" is a generated column.", c.name))
    } else {
        e.with_detail(format!(
            "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
            c.name
        ))
        .with_hint("Use OVERRIDING SYSTEM VALUE to override.")
    }
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
fn seen_as(t: &Arc<TableDesc>, alias: &str, columns: &[(usize, Column)]) -> NamedTable {
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
    fn writable(&self, name: &ObjectName, what: &str) -> Result<Arc<TableDesc>, SqlError> {
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
    fn default_of(&mut self, t: &TableDesc, position: usize) -> Result<Expr, SqlError> {
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
    fn generated(
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

    pub(crate) fn insert(&mut self, i: &Insert) -> Result<BoundInsert, SqlError> {
        let Insert {
            with,
            table,
            alias,
            columns,
            overriding,
            source,
            on_conflict,
            returning,
        } = i;
        let t = self.writable(table, "INSERT into")?;
        let ctes = self.enter_with(with.as_ref(), None)?;
        let mut targets = Vec::with_capacity(columns.len());
        for name in columns {
            let position = column_position(&t, name)?;
            if targets.contains(&position) {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{}\" specified more than once", name.value),
                )
                .at(name.span.start.line as usize));
            }
            targets.push(position);
        }
        let explicit = !columns.is_empty();
        if !explicit {
            targets = t.live_columns().map(|(i, _)| i).collect();
        }
        let (source, columns) =
            self.insert_source(&t, source.as_deref(), targets, explicit, *overriding)?;
        let source = self.leave_with(ctes, source);
        let alias = alias.as_ref().map_or(t.name.as_str(), |a| a.value.as_str());
        let on_conflict = match on_conflict {
            Some(c) => Some(self.on_conflict(&t, alias, &columns, c)?),
            None => None,
        };
        let row = seen_as(&t, alias, &columns);
        let returning = self.returning(returning, Namespace::of_table(row))?;
        Ok(BoundInsert {
            table: t,
            source,
            columns,
            on_conflict,
            returning,
        })
    }

    /// Rows with a value for each live column.
    fn insert_source(
        &mut self,
        t: &Arc<TableDesc>,
        source: Option<&Query>,
        targets: Vec<usize>,
        explicit: bool,
        overriding: Option<Overriding>,
    ) -> Result<(Rel, Vec<(usize, Column)>), SqlError> {
        let live: Vec<usize> = t.live_columns().map(|(i, _)| i).collect();
        let mut out = Vec::with_capacity(live.len());
        for i in &live {
            let c = column(t, *i)?;
            out.push((*i, self.new_column(c.name.as_str(), c.ty)));
        }
        let rows = match source {
            None => Some(vec![Default::default()]),
            Some(q) => plain_values(q),
        };
        let rel = match (rows, source) {
            (Some(rows), _) => {
                let mut bound_rows = Vec::with_capacity(rows.len());
                let width = rows.first().map_or(0, |r| r.len());
                for row in rows {
                    if row.len() != width {
                        return Err(SqlError::new(
                            SqlState::SYNTAX_ERROR,
                            "VALUES lists must all be the same length",
                        )
                        .at(row.first().map_or(0, position_of)));
                    }
                    bound_rows.push(self.insert_row(
                        t,
                        row,
                        &targets,
                        explicit && source.is_some(),
                        overriding,
                        &live,
                    )?);
                }
                let columns = out.iter().map(|(_, c)| c.clone()).collect();
                Rel::Values {
                    rows: bound_rows,
                    columns,
                }
            }
            (None, Some(q)) => self.insert_query(t, q, &targets, explicit, overriding, &out)?,
            (None, None) => Rel::Unit,
        };
        let generated: Vec<(usize, String, PgType)> = out
            .iter()
            .filter_map(|(i, _)| {
                let c = t.columns.get(*i)?;
                c.generated.clone().map(|g| (*i, g, c.ty))
            })
            .collect();
        if generated.is_empty() {
            return Ok((rel, out));
        }
        let mut exprs = Vec::with_capacity(out.len());
        let mut columns = Vec::with_capacity(out.len());
        for (i, c) in &out {
            match generated.iter().find(|g| g.0 == *i) {
                Some((_, text, ty)) => {
                    let e = self.generated(t, text, *ty, &out)?;
                    let new = self.new_column(Arc::clone(&c.name), *ty);
                    columns.push((*i, new.clone()));
                    exprs.push((e, new));
                }
                None => {
                    columns.push((*i, c.clone()));
                    exprs.push((Expr::Column(c.id, c.ty), c.clone()));
                }
            }
        }
        Ok((
            Rel::Project {
                input: Box::new(rel),
                exprs,
            },
            columns,
        ))
    }

    /// One row of VALUES as values of all live columns.
    fn insert_row(
        &mut self,
        t: &TableDesc,
        row: &[Ast],
        targets: &[usize],
        explicit: bool,
        overriding: Option<Overriding>,
        live: &[usize],
    ) -> Result<Vec<Expr>, SqlError> {
        check_width(
            row.len(),
            targets.len(),
            explicit,
            row.get(targets.len()).map_or(0, position_of),
        )?;
        let level = Level::new(Namespace::default(), None);
        level.clause.set(Clause::Plain("VALUES"));
        let mut out = Vec::with_capacity(live.len());
        for i in live {
            let c = column(t, *i)?;
            let given = targets.iter().position(|p| p == i).and_then(|p| row.get(p));
            let value = match given {
                Some(e) if is_default(e) => self.default_of(t, *i)?,
                Some(e) => {
                    let at = position_of(e);
                    let bound = self.expr(e, &level)?;
                    if c.generated.is_some() {
                        return Err(generated_always(c).at(at));
                    }
                    match (c.identity, overriding) {
                        (Some(_), Some(Overriding::User)) => self.default_of(t, *i)?,
                        (Some(Identity::Always), None) => return Err(generated_always(c).at(at)),
                        _ => self.coerce_assign(bound, c.ty, at, Some(&c.name))?,
                    }
                }
                None if c.generated.is_some() => Expr::Const(Datum::Null, c.ty),
                None => self.default_of(t, *i)?,
            };
            out.push(value);
        }
        Ok(out)
    }

    fn insert_query(
        &mut self,
        t: &TableDesc,
        q: &Query,
        targets: &[usize],
        explicit: bool,
        overriding: Option<Overriding>,
        out: &[(usize, Column)],
    ) -> Result<Rel, SqlError> {
        let mut bound = self.query_bound(q, None, false)?;
        check_width(bound.columns.len(), targets.len(), explicit, 0)?;
        let mut exprs = Vec::with_capacity(out.len());
        for (n, p) in targets.iter().enumerate() {
            let c = column(t, *p)?;
            if bound
                .columns
                .get(n)
                .is_some_and(|b| b.ty.oid == Oid::UNKNOWN)
            {
                self.coerce_output(&mut bound, n, PgType::new(c.ty.oid), 0)?;
            }
        }
        for (i, new) in out {
            let c = column(t, *i)?;
            let given = targets
                .iter()
                .position(|p| p == i)
                .and_then(|p| bound.columns.get(p).cloned());
            let value = match given {
                Some(from) => {
                    if c.generated.is_some() {
                        return Err(generated_always(c));
                    }
                    match (c.identity, overriding) {
                        (Some(_), Some(Overriding::User)) => self.default_of(t, *i)?,
                        (Some(Identity::Always), None) => return Err(generated_always(c)),
                        _ => {
                            let e = Expr::Column(from.id, from.ty);
                            self.coerce_assign(e, c.ty, 0, Some(&c.name))?
                        }
                    }
                }
                None if c.generated.is_some() => Expr::Const(Datum::Null, c.ty),
                None => self.default_of(t, *i)?,
            };
            exprs.push((value, new.clone()));
        }
        Ok(Rel::Project {
            input: Box::new(bound.rel),
            exprs,
        })
    }

    fn on_conflict(
        &mut self,
        t: &Arc<TableDesc>,
        alias: &str,
        columns: &[(usize, Column)],
        c: &AstConflict,
    ) -> Result<OnConflict, SqlError> {
        let AstConflict {
            target,
            update,
            position,
        } = c;
        let arbiters = self.arbiters(t, alias, columns, target.as_ref(), *position)?;
        let Some((set, filter)) = update else {
            return Ok(OnConflict {
                arbiters,
                update: None,
            });
        };
        if target.is_none() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
            )
            .with_hint("For example, ON CONFLICT (column_name).")
            .at(*position));
        }
        let existing: Vec<(usize, Column)> = t
            .live_columns()
            .map(|(i, d)| (i, self.new_column(d.name.as_str(), d.ty)))
            .collect();
        let mut ns = Namespace::of_table(seen_as(t, alias, &existing));
        let mut excluded = seen_as(t, "excluded", columns);
        excluded.schema = None;
        ns.tables.push(excluded);
        let level = Level::new(ns, None);
        level.clause.set(Clause::Plain("ON CONFLICT DO UPDATE"));
        let mut set = self.assignments(t, set, &level)?;
        let filter = match filter {
            Some(f) => {
                let bound = self.expr(f, &level)?;
                Some(self.to_bool(bound, "WHERE", position_of(f))?)
            }
            None => None,
        };
        if set.iter().any(|(_, e)| e.has_subquery())
            || filter.as_ref().is_some_and(Expr::has_subquery)
        {
            return Err(SqlError::unsupported("a subquery in ON CONFLICT DO UPDATE"));
        }
        self.regenerate(t, &mut set, &existing)?;
        Ok(OnConflict {
            arbiters,
            update: Some(ConflictUpdate {
                existing,
                set,
                filter,
            }),
        })
    }

    /// Adds the new values of generated columns to those that are set.
    fn regenerate(
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

    /// The unique indexes that a target means. Its WHERE chooses among partial indexes, which do
    /// not exist here; an index of all rows serves whatever it says, as in PostgreSQL.
    fn arbiters(
        &mut self,
        t: &Arc<TableDesc>,
        alias: &str,
        columns: &[(usize, Column)],
        target: Option<&ConflictTarget>,
        position: usize,
    ) -> Result<Vec<Arc<IndexDesc>>, SqlError> {
        let none = || {
            SqlError::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                "there is no unique or exclusion constraint matching the ON CONFLICT specification",
            )
        };
        match target {
            None => Ok(Vec::new()),
            Some(ConflictTarget::Constraint(name)) => {
                let found = t
                    .indexes
                    .iter()
                    .find(|i| i.name == name.value && i.constraint.is_some() && i.is_unique());
                match found {
                    Some(i) => Ok(vec![Arc::clone(i)]),
                    None => Err(SqlError::new(
                        SqlState::UNDEFINED_OBJECT,
                        format!(
                            "constraint \"{}\" for table \"{}\" does not exist",
                            name.value, t.name
                        ),
                    )),
                }
            }
            Some(ConflictTarget::Columns(exprs, filter)) => {
                let mut positions = Vec::new();
                for e in exprs {
                    match e {
                        Ast::Identifier(i) => {
                            let p = t.live_columns().find(|(_, c)| c.name == i.value);
                            let Some((p, _)) = p else {
                                return Err(SqlError::new(
                                    SqlState::UNDEFINED_COLUMN,
                                    format!("column \"{}\" does not exist", i.value),
                                )
                                .at(i.span.start.line as usize));
                            };
                            if !positions.contains(&p) {
                                positions.push(p);
                            }
                        }
                        _ => return Err(none().at(position)),
                    }
                }
                positions.sort_unstable();
                if let Some(filter) = filter {
                    self.index_predicate(filter, Namespace::of_table(seen_as(t, alias, columns)))?;
                }
                let found: Vec<Arc<IndexDesc>> = t
                    .indexes
                    .iter()
                    .filter(|i| i.is_unique())
                    .filter(|i| {
                        let mut own: Vec<usize> = i.columns.iter().map(|c| c.column).collect();
                        own.sort_unstable();
                        own.dedup();
                        own == positions
                    })
                    .map(Arc::clone)
                    .collect();
                if found.is_empty() {
                    Err(none())
                } else {
                    Ok(found)
                }
            }
        }
    }

    /// Checks the WHERE of a target: any type will do.
    fn index_predicate(&mut self, filter: &Ast, ns: Namespace) -> Result<(), SqlError> {
        let level = Level::new(ns, None);
        level.clause.set(Clause::Plain("index predicates"));
        let bound = self.expr(filter, &level)?;
        if bound.has_subquery() {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot use subquery in index predicate",
            )
            .at(position_of(filter)));
        }
        self.settle_unknown(bound).map(drop)
    }

    /// The clauses of SET: positions and values.
    fn assignments(
        &mut self,
        t: &TableDesc,
        clauses: &[SetClause],
        level: &Level<'_>,
    ) -> Result<Vec<(usize, Expr)>, SqlError> {
        let mut out: Vec<(usize, Expr)> = Vec::new();
        for clause in clauses {
            match clause {
                SetClause::One(name, e) => {
                    let value = self.assignment(t, name, e, level)?;
                    push_assignment(t, &mut out, value, name)?;
                }
                SetClause::Many(names, e) => {
                    let inner = match e {
                        Ast::Nested(inner) if names.len() == 1 => std::slice::from_ref(&**inner),
                        e => row_items(e).unwrap_or_default(),
                    };
                    if let Ast::Subquery(q) = e {
                        for (i, name) in names.iter().enumerate() {
                            let value = self.assign_from(t, name, q, i, names.len(), level)?;
                            push_assignment(t, &mut out, value, name)?;
                        }
                        continue;
                    }
                    if inner.is_empty() {
                        return Err(SqlError::new(
                            SqlState::FEATURE_NOT_SUPPORTED,
                            "source for a multiple-column UPDATE item must be a sub-SELECT or \
                             ROW() expression",
                        )
                        .at(position_of(e)));
                    }
                    if inner.len() != names.len() {
                        return Err(SqlError::new(
                            SqlState::SYNTAX_ERROR,
                            "number of columns does not match number of values",
                        )
                        .at(position_of(e)));
                    }
                    for (name, e) in names.iter().zip(inner) {
                        let value = self.assignment(t, name, e, level)?;
                        push_assignment(t, &mut out, value, name)?;
                    }
                }
            }
        }
        Ok(out)
    }

    fn assignment(
        &mut self,
        t: &TableDesc,
        name: &Ident,
        e: &Ast,
        level: &Level<'_>,
    ) -> Result<(usize, Expr), SqlError> {
        let position = column_position(t, name)?;
        let c = column(t, position)?;
        if is_default(e) {
            if c.generated.is_some() {
                return Ok((position, Expr::Const(Datum::Null, c.ty)));
            }
            return Ok((position, self.default_of(t, position)?));
        }
        only_default(c, name)?;
        let at = position_of(e);
        let bound = self.expr(e, level)?;
        Ok((
            position,
            self.coerce_assign(bound, c.ty, at, Some(&c.name))?,
        ))
    }

    /// One column of a subquery that sets several.
    fn assign_from(
        &mut self,
        t: &TableDesc,
        name: &Ident,
        q: &Query,
        index: usize,
        width: usize,
        level: &Level<'_>,
    ) -> Result<(usize, Expr), SqlError> {
        let position = column_position(t, name)?;
        let c = column(t, position)?;
        only_default(c, name)?;
        let bound = self.nested_query(q, level, true)?;
        if bound.columns.len() != width {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "number of columns does not match number of values",
            ));
        }
        let Some(column) = bound.columns.get(index).cloned() else {
            return Err(SqlError::internal("column of a subquery"));
        };
        let ty = column.ty;
        let value = Expr::Subquery(Box::new(Subquery {
            rel: exact(bound.rel, std::slice::from_ref(&column)),
            columns: vec![column],
            kind: SubqueryKind::Scalar,
            ty,
        }));
        Ok((position, self.coerce_assign(value, c.ty, 0, Some(&c.name))?))
    }

    pub(crate) fn update(&mut self, u: &Update) -> Result<BoundUpdate, SqlError> {
        let Update {
            with,
            table,
            alias,
            set,
            from,
            filter,
            returning,
        } = u;
        let t = self.writable(table, "UPDATE of")?;
        let ctes = self.enter_with(with.as_ref(), None)?;
        let alias = alias.as_ref().map_or(t.name.as_str(), |a| a.value.as_str());
        let (scan, old) = self.target_scan(&t);
        let target = seen_as(&t, alias, &old);
        let mut rel = scan;
        let mut ns = Namespace::of_table(target);
        let mut others = Namespace::default();
        if !from.is_empty() {
            (rel, others) = self.joined_with(rel, &mut ns, from)?;
            // What RETURNING sees of them is what the row source gives, and no more.
            others.tables.iter_mut().for_each(|t| t.table_oid = None);
        }
        let level = Level::new(ns, None);
        level.clause.set(Clause::Plain("UPDATE"));
        let mut values = self.assignments(&t, set, &level)?;
        rel = self.filtered(rel, filter.as_ref(), &level)?;
        self.regenerate(&t, &mut values, &old)?;
        let mut exprs: Vec<(Expr, Column)> = rel
            .output()
            .into_iter()
            .map(|c| (Expr::Column(c.id, c.ty), c))
            .collect();
        let mut new = Vec::with_capacity(values.len());
        for (i, e) in values {
            let c = column(&t, i)?;
            let column = self.new_column(c.name.as_str(), c.ty);
            new.push((i, column.clone()));
            exprs.push((e, column));
        }
        let source = Rel::Project {
            input: Box::new(rel),
            exprs,
        };
        let source = self.leave_with(ctes, source);
        let returning_row: Vec<(usize, Column)> = t
            .live_columns()
            .map(|(i, d)| (i, self.new_column(d.name.as_str(), d.ty)))
            .collect();
        let mut ns = Namespace::of_table(seen_as(&t, alias, &returning_row));
        ns.add(others)?;
        let returning = self.returning(returning, ns)?;
        Ok(BoundUpdate {
            table: t,
            source,
            old,
            set: new,
            returning,
            returning_row,
        })
    }

    /// The target joined with the other tables of an UPDATE or DELETE; gives what these show.
    fn joined_with(
        &mut self,
        target: Rel,
        ns: &mut Namespace,
        items: &[TableWithJoins],
    ) -> Result<(Rel, Namespace), SqlError> {
        let (right, others) = self.from_list(items, None)?;
        ns.add(others.clone())?;
        let rel = Rel::Join {
            kind: JoinKind::Inner,
            left: Box::new(target),
            right: Box::new(right),
            on: None,
            lateral: false,
        };
        Ok((rel, others))
    }

    /// The rows for which WHERE is true.
    fn filtered(
        &mut self,
        rel: Rel,
        filter: Option<&Ast>,
        level: &Level<'_>,
    ) -> Result<Rel, SqlError> {
        let Some(filter) = filter else {
            return Ok(rel);
        };
        let bound = level.within(Clause::Plain("WHERE"), || self.expr(filter, level))?;
        let predicate = self.to_bool(bound, "WHERE", position_of(filter))?;
        Ok(Rel::Filter {
            input: Box::new(rel),
            predicate,
        })
    }

    /// A scan of all live columns and the hidden row id.
    fn target_scan(&mut self, t: &Arc<TableDesc>) -> (Rel, Vec<(usize, Column)>) {
        let (rel, _) = self.scan(t, true);
        let old = match &rel {
            Rel::Scan { columns, .. } => columns.clone(),
            _ => Vec::new(),
        };
        (rel, old)
    }

    pub(crate) fn delete(&mut self, d: &Delete) -> Result<BoundDelete, SqlError> {
        let Delete {
            with,
            table,
            alias,
            using,
            filter,
            returning,
        } = d;
        let t = self.writable(table, "DELETE from")?;
        let ctes = self.enter_with(with.as_ref(), None)?;
        let alias = alias.as_ref().map_or(t.name.as_str(), |a| a.value.as_str());
        let (scan, old) = self.target_scan(&t);
        let mut rel = scan;
        let mut ns = Namespace::of_table(seen_as(&t, alias, &old));
        if !using.is_empty() {
            (rel, _) = self.joined_with(rel, &mut ns, using)?;
        }
        let level = Level::new(ns, None);
        rel = self.filtered(rel, filter.as_ref(), &level)?;
        let source = self.leave_with(ctes, rel);
        let returning = self.returning(returning, level.ns)?;
        Ok(BoundDelete {
            table: t,
            source,
            old,
            returning,
        })
    }

    fn returning(
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

fn only_default(c: &ColumnDesc, name: &Ident) -> Result<(), SqlError> {
    let at = name.span.start.line as usize;
    let message = || format!("column \"{}\" can only be updated to DEFAULT", c.name);
    if c.generated.is_some() {
        return Err(SqlError::new(SqlState::GENERATED_ALWAYS, message())
            .with_detail(format!("Column \"{}\" is a generated column.", c.name))
            .at(at));
    }
    if c.identity == Some(Identity::Always) {
        return Err(SqlError::new(SqlState::GENERATED_ALWAYS, message())
            .with_detail(format!(
                "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
                c.name
            ))
            .at(at));
    }
    Ok(())
}

fn push_assignment(
    t: &TableDesc,
    out: &mut Vec<(usize, Expr)>,
    value: (usize, Expr),
    name: &Ident,
) -> Result<(), SqlError> {
    if out.iter().any(|(i, _)| *i == value.0) {
        let c = column(t, value.0)?;
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!("multiple assignments to same column \"{}\"", c.name),
        )
        .at(name.span.start.line as usize));
    }
    out.push(value);
    Ok(())
}

/// The rows of a plain VALUES.
fn plain_values(q: &Query) -> Option<Vec<&[Ast]>> {
    let plain = q.with.is_none()
        && q.order_by.is_none()
        && q.limit_clause.is_none()
        && q.fetch.is_none()
        && q.locks.is_empty();
    match (&*q.body, plain) {
        (SetExpr::Values(v), true) => Some(v.rows.iter().map(|r| r.content.as_slice()).collect()),
        _ => None,
    }
}

fn check_width(given: usize, targets: usize, explicit: bool, at: usize) -> Result<(), SqlError> {
    if given > targets {
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "INSERT has more expressions than target columns",
        )
        .at(at));
    }
    if given < targets && explicit {
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "INSERT has more target columns than expressions",
        ));
    }
    Ok(())
}

//! FROM: tables, views, subqueries, functions and joins.

use std::sync::Arc;

use sqlparser::ast::{
    Ident, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor, TableWithJoins,
};

use super::coerce::Context;
use super::context::Binder;
use super::names::{Clause, Level, NamedColumn, NamedTable, Namespace};
use super::position_of;
use super::table_oid::TABLEOID;
use super::tree::{Column, Expr, JoinKind, Rel};
use crate::catalog::desc::{RelationKind, TableDesc};
use crate::catalog::virtual_tables::VirtualTable;
use crate::error::{SqlError, SqlState};
use crate::types::{Oid, PgType};

/// Views within views, at most.
const VIEWS_MAX: usize = 60;

/// What a name in FROM means.
pub(crate) enum Relation {
    Table(Arc<TableDesc>),
    Virtual(&'static VirtualTable),
}

/// A bound item of FROM with what it shows.
pub(super) type Item = (Rel, Namespace);

/// Column id, the schema and last part of a name.
pub(crate) fn name_parts(name: &ObjectName) -> Result<(Option<&str>, &Ident), SqlError> {
    let parts: Vec<&Ident> = name.0.iter().filter_map(|p| p.as_ident()).collect();
    match parts.as_slice() {
        [t] => Ok((None, t)),
        [s, t] => Ok((Some(&s.value), t)),
        [_, s, t] => Ok((Some(&s.value), t)),
        _ => Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "improper qualified name (too many dotted names)",
        )),
    }
}

/// The level that a query that is not LATERAL sees outside.
fn outside<'p, 'q>(level: &'q Level<'p>) -> Option<&'q Level<'p>> {
    let mut at = level;
    let query = level.lateral;
    while query.is_some() && at.lateral == query {
        at = at.parent?;
    }
    Some(at)
}

impl Binder<'_> {
    /// The items of FROM, joined.
    pub(crate) fn from_list(
        &mut self,
        items: &[TableWithJoins],
        parent: Option<&Level<'_>>,
    ) -> Result<Item, SqlError> {
        self.queries += 1;
        let query = self.queries;
        let mut acc: Option<Item> = None;
        for item in items {
            let (left_rel, left_ns) = match acc.take() {
                Some((r, n)) => (Some(r), n),
                None => (None, Namespace::default()),
            };
            let mut lateral = Level::new(left_ns.clone(), parent);
            lateral.lateral = Some(query);
            lateral.clause.set(Clause::Plain("functions in FROM"));
            let (rel, ns) = self.joined(item, &lateral)?;
            acc = Some(match left_rel {
                None => (rel, ns),
                Some(left) => {
                    let mut all = left_ns;
                    all.add(ns)?;
                    let rel = Rel::Join {
                        kind: JoinKind::Inner,
                        left: Box::new(left),
                        right: Box::new(rel),
                        on: None,
                        lateral: lateral.used.get(),
                    };
                    (rel, all)
                }
            });
        }
        Ok(acc.unwrap_or((Rel::Unit, Namespace::default())))
    }

    fn joined(&mut self, item: &TableWithJoins, outer: &Level<'_>) -> Result<Item, SqlError> {
        let TableWithJoins { relation, joins } = item;
        let (mut rel, mut ns) = self.factor(relation, outer)?;
        for join in joins {
            let (kind, constraint) = match &join.join_operator {
                JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => (JoinKind::Inner, c),
                JoinOperator::LeftOuter(c) => (JoinKind::Left, c),
                JoinOperator::RightOuter(c) => (JoinKind::Right, c),
                JoinOperator::FullOuter(c) => (JoinKind::Full, c),
                _ => return Err(SqlError::unsupported("this kind of join")),
            };
            let mut lateral = Level::new(ns.clone(), Some(outer));
            lateral.lateral = outer.lateral;
            lateral.clause.set(Clause::Plain("functions in FROM"));
            let (right, right_ns) = self.factor(&join.relation, &lateral)?;
            let used = lateral.used.get();
            if used && matches!(kind, JoinKind::Right | JoinKind::Full) {
                return Err(SqlError::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    "invalid reference to FROM-clause entry in a LATERAL item",
                )
                .with_detail(
                    "The combining JOIN type must be INNER or LEFT for a LATERAL reference.",
                ));
            }
            let (on, merged) = self.constraint(constraint, kind, &ns, right_ns, outer)?;
            rel = Rel::Join {
                kind,
                left: Box::new(rel),
                right: Box::new(right),
                on,
                lateral: used,
            };
            ns = merged;
        }
        Ok((rel, ns))
    }

    fn constraint(
        &mut self,
        constraint: &JoinConstraint,
        kind: JoinKind,
        left: &Namespace,
        right: Namespace,
        outer: &Level<'_>,
    ) -> Result<(Option<Expr>, Namespace), SqlError> {
        match constraint {
            JoinConstraint::None => {
                let mut ns = left.clone();
                ns.add(right)?;
                Ok((None, ns))
            }
            JoinConstraint::On(e) => {
                let mut ns = left.clone();
                ns.add(right)?;
                let level = Level::new(ns, Some(outer));
                level.clause.set(Clause::Plain("JOIN conditions"));
                let bound = self.expr(e, &level)?;
                let on = self.to_bool(bound, "JOIN/ON", position_of(e))?;
                Ok((Some(on), level.ns))
            }
            JoinConstraint::Natural => {
                let mut names: Vec<Ident> = Vec::new();
                for c in &left.columns {
                    if right.columns.iter().any(|r| r.name == c.name) {
                        names.push(Ident::new(c.name.to_string()));
                    }
                }
                self.using(&names, kind, left, right)
            }
            JoinConstraint::Using(names) => {
                let names: Vec<Ident> = names
                    .iter()
                    .filter_map(|n| n.0.first().and_then(|p| p.as_ident()).cloned())
                    .collect();
                self.using(&names, kind, left, right)
            }
        }
    }

    fn using(
        &mut self,
        names: &[Ident],
        kind: JoinKind,
        left: &Namespace,
        right: Namespace,
    ) -> Result<(Option<Expr>, Namespace), SqlError> {
        let find = |ns: &Namespace, name: &Ident, side: &str| -> Result<NamedColumn, SqlError> {
            let at = name.span.start.line as usize;
            let mut found = ns.columns.iter().filter(|c| *c.name == name.value);
            match (found.next(), found.next()) {
                (Some(c), None) => Ok(c.clone()),
                (Some(_), Some(_)) => Err(SqlError::new(
                    SqlState::AMBIGUOUS_COLUMN,
                    format!(
                        "common column name \"{}\" appears more than once in {side} table",
                        name.value
                    ),
                )
                .at(at)),
                (None, _) => Err(SqlError::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!(
                        "column \"{}\" specified in USING clause does not exist in {side} table",
                        name.value
                    ),
                )
                .at(at)),
            }
        };
        let mut tests = Vec::new();
        let mut merged = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let at = name.span.start.line as usize;
            if names.iter().take(i).any(|n| n.value == name.value) {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!(
                        "column name \"{}\" appears more than once in USING clause",
                        name.value
                    ),
                )
                .at(at));
            }
            let l = find(left, name, "left")?;
            let r = find(&right, name, "right")?;
            let (lt, rt) = (l.expr.ty(), r.expr.ty());
            let common = if lt.oid == rt.oid {
                lt
            } else {
                PgType::new(self.common_type(&[lt.oid, rt.oid], "JOIN/USING", at)?)
            };
            tests.push(self.compare("=", l.expr.clone(), r.expr.clone(), at)?);
            let le = self.coerce(l.expr, common, Context::Implicit, at)?;
            let re = self.coerce(r.expr, common, Context::Implicit, at)?;
            let (expr, origin) = match kind {
                JoinKind::Inner | JoinKind::Left => (le, l.origin),
                JoinKind::Right => (re, r.origin),
                JoinKind::Full => (Expr::Coalesce(vec![le, re], common), None),
            };
            merged.push(NamedColumn {
                name: l.name,
                expr,
                origin,
            });
        }
        let is_merged = |c: &NamedColumn| names.iter().any(|n| *c.name == n.value);
        let mut columns = merged;
        columns.extend(left.columns.iter().filter(|c| !is_merged(c)).cloned());
        columns.extend(right.columns.iter().filter(|c| !is_merged(c)).cloned());
        let mut ns = left.clone();
        ns.add(right)?;
        ns.columns = columns;
        let on = match tests.len() {
            0 => None,
            1 => tests.pop(),
            _ => Some(Expr::And(tests)),
        };
        Ok((on, ns))
    }

    fn factor(&mut self, factor: &TableFactor, outer: &Level<'_>) -> Result<Item, SqlError> {
        crate::parse::depth::with_stack(|| match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                self.named_relation(name, alias.as_ref())
            }
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample: None,
            } => {
                let parent = if *lateral {
                    Some(outer)
                } else {
                    outside(outer)
                };
                let before = std::mem::replace(&mut self.with_keys, false);
                let bound = self.query_bound(subquery, parent, true);
                self.with_keys = before;
                let bound = bound?;
                let columns = bound
                    .columns
                    .iter()
                    .zip(&bound.origins)
                    .map(|(c, origin)| NamedColumn {
                        name: Arc::clone(&c.name),
                        expr: Expr::Column(c.id, c.ty),
                        origin: *origin,
                    })
                    .collect();
                let ns = named(String::new(), None, columns, alias.as_ref(), false)?;
                Ok((bound.rel, ns))
            }
            TableFactor::Function {
                lateral: _,
                name,
                args,
                with_ordinality,
                alias,
            } => self.function_item(name, args, *with_ordinality, alias.as_ref(), outer),
            TableFactor::TableFunction { expr, alias } => {
                let bound = self.expr(expr, outer)?;
                let bound = self.settle_unknown(bound)?;
                let name = super::output_name::of(expr);
                self.scalar_item(bound, &name, false, alias.as_ref())
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                let (rel, ns) = self.joined(table_with_joins, outer)?;
                match alias {
                    None => Ok((rel, ns)),
                    Some(a) => Ok((rel, named(String::new(), None, ns.columns, Some(a), false)?)),
                }
            }
            _ => Err(SqlError::unsupported("this item in FROM")),
        })
    }

    /// The relation of that name on the search path.
    pub(crate) fn relation(&self, name: &ObjectName) -> Result<Relation, SqlError> {
        let (schema, table) = name_parts(name)?;
        let at = table.span.start.line as usize;
        let first_at = name
            .0
            .first()
            .and_then(|p| p.as_ident())
            .map_or(at, |i| i.span.start.line as usize);
        let catalog = self.cx.catalog;
        let look = |schema: &str| -> Option<Result<Relation, SqlError>> {
            if let Some(v) = (self.cx.virtual_table)(schema, &table.value) {
                return Some(Ok(Relation::Virtual(v)));
            }
            let schema_oid = catalog.schema_named(schema)?;
            let oid = catalog.relation_in(schema_oid, &table.value)?;
            if let Some(t) = catalog.tables.get(&oid) {
                return Some(Ok(Relation::Table(Arc::clone(t))));
            }
            if catalog.sequences.contains_key(&oid) {
                return Some(Err(
                    SqlError::unsupported("a sequence as a table").at(first_at)
                ));
            }
            Some(Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is an index", table.value),
            )
            .at(first_at)))
        };
        let shown = match schema {
            Some(s) => format!("{s}.{}", table.value),
            None => table.value.clone(),
        };
        let missing = || {
            SqlError::new(
                SqlState::UNDEFINED_TABLE,
                format!("relation \"{shown}\" does not exist"),
            )
            .at(first_at)
        };
        if let Some(schema) = schema {
            return look(schema).unwrap_or_else(|| Err(missing()));
        }
        if !self.cx.search_path.iter().any(|s| s == "pg_catalog")
            && let Some(found) = look("pg_catalog")
        {
            return found;
        }
        for schema in self.cx.search_path {
            if let Some(found) = look(schema) {
                return found;
            }
        }
        Err(missing())
    }

    fn named_relation(
        &mut self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
    ) -> Result<Item, SqlError> {
        let (schema, table) = name_parts(name)?;
        let at = table.span.start.line as usize;
        if schema.is_none()
            && let Some((rel, columns)) = self.cte_use(&table.value, at)?
        {
            return Ok((
                rel,
                named(table.value.clone(), None, columns, alias, false)?,
            ));
        }
        let relation = self.relation(name)?;
        if let Some(notes) = &mut self.notes {
            let schema = match &relation {
                Relation::Virtual(v) => v.schema,
                Relation::Table(t) => t.schema_name.as_str(),
            };
            let start = name
                .0
                .first()
                .and_then(|p| p.as_ident())
                .map_or(0, |i| i.span.start.line as usize);
            let end = table.span.end.line as usize;
            let text = format!(
                "{}.{}",
                super::deparse::identifier(schema),
                super::deparse::identifier(&table.value)
            );
            notes.push((start, end, text));
        }
        match relation {
            Relation::Virtual(v) => {
                let columns: Vec<(usize, Column)> = v
                    .columns
                    .iter()
                    .enumerate()
                    .map(|(i, (n, t))| (i, self.new_column(*n, PgType::new(*t))))
                    .collect();
                let named_columns = columns
                    .iter()
                    .map(|(i, c)| NamedColumn {
                        name: Arc::clone(&c.name),
                        expr: Expr::Column(c.id, c.ty),
                        origin: i16::try_from(i + 1).ok().map(|n| (v.oid, n)),
                    })
                    .collect();
                let mut ns = named(
                    v.name.to_owned(),
                    Some(v.schema.to_owned()),
                    named_columns,
                    alias,
                    false,
                )?;
                if v.kind == 'r' {
                    self.give_table_oid(&mut ns, v.oid, &columns);
                }
                Ok((Rel::Virtual { table: v, columns }, ns))
            }
            Relation::Table(t) if t.kind == RelationKind::View => self.view(&t, alias),
            Relation::Table(t) => {
                let (rel, named_table) = self.scan(&t, self.with_keys);
                let mut ns = named(
                    t.name.clone(),
                    Some(t.schema_name.clone()),
                    named_table.columns,
                    alias,
                    false,
                )?;
                if let Rel::Scan { columns, .. } = &rel {
                    self.give_table_oid(&mut ns, t.oid, columns);
                }
                if let Some(first) = ns.tables.first_mut() {
                    first.table = Some(t);
                    first.key = named_table.key;
                }
                Ok((rel, ns))
            }
        }
    }

    /// Reserves the system column of the one table of a scope.
    fn give_table_oid(&mut self, ns: &mut Namespace, table: Oid, columns: &[(usize, Column)]) {
        let Some((_, first)) = columns.first() else {
            return;
        };
        let column = self.new_column(TABLEOID, PgType::new(Oid::OID));
        let reserved = self.table_oids.reserve(column, table, first.id);
        if let Some(table) = ns.tables.first_mut() {
            table.table_oid = Some(reserved);
        }
    }

    /// A scan of a table, with its hidden row id if wanted.
    pub(crate) fn scan(&mut self, t: &Arc<TableDesc>, with_row_id: bool) -> (Rel, NamedTable) {
        let mut columns = Vec::with_capacity(t.columns.len());
        let mut shown = Vec::with_capacity(t.columns.len());
        for (i, c) in t.live_columns() {
            let column = self.new_column(c.name.as_str(), c.ty);
            shown.push(NamedColumn {
                name: Arc::clone(&column.name),
                expr: Expr::Column(column.id, column.ty),
                origin: Some((t.oid, c.attnum)),
            });
            columns.push((i, column));
        }
        if with_row_id
            && let Some(i) = t.row_id()
            && let Some(c) = t.columns.get(i)
        {
            columns.push((i, self.new_column(c.name.as_str(), c.ty)));
        }
        let key = t
            .storage_key
            .iter()
            .filter_map(|k| columns.iter().find(|(i, _)| i == k).map(|(_, c)| c.clone()))
            .collect();
        let named = NamedTable {
            alias: t.name.clone(),
            schema: Some(t.schema_name.clone()),
            columns: shown,
            table: Some(Arc::clone(t)),
            key,
            scalar: false,
            table_oid: None,
        };
        (
            Rel::Scan {
                table: Arc::clone(t),
                columns,
            },
            named,
        )
    }

    /// A view: its query in its place.
    fn view(&mut self, t: &Arc<TableDesc>, alias: Option<&TableAlias>) -> Result<Item, SqlError> {
        let Some(text) = &t.view else {
            return Err(SqlError::internal("a view without a query"));
        };
        if self.views >= VIEWS_MAX {
            return Err(crate::parse::depth::too_deep());
        }
        let query = crate::parse::query_text(text)?;
        let ctes = std::mem::take(&mut self.ctes);
        let keys = std::mem::replace(&mut self.with_keys, false);
        let notes = self.notes.take();
        self.views += 1;
        let bound = self.query_bound(&query, None, true);
        self.views -= 1;
        self.notes = notes;
        self.ctes = ctes;
        self.with_keys = keys;
        let bound = bound.map_err(|mut e| {
            e.0.position = None;
            e
        })?;
        let mut columns = Vec::new();
        for ((_, desc), c) in t.live_columns().zip(&bound.columns) {
            columns.push(NamedColumn {
                name: Arc::from(desc.name.as_str()),
                expr: Expr::Column(c.id, c.ty),
                origin: Some((t.oid, desc.attnum)),
            });
        }
        let ns = named(
            t.name.clone(),
            Some(t.schema_name.clone()),
            columns,
            alias,
            false,
        )?;
        Ok((bound.rel, ns))
    }

    /// The columns that `name.*` shows.
    pub(crate) fn star_columns(
        &self,
        name: &ObjectName,
        level: &Level<'_>,
    ) -> Result<Vec<NamedColumn>, SqlError> {
        let (schema, table) = name_parts(name)?;
        level.star(schema, table)
    }
}

/// One table of FROM under its alias.
pub(super) fn named(
    name: String,
    schema: Option<String>,
    mut columns: Vec<NamedColumn>,
    alias: Option<&TableAlias>,
    scalar: bool,
) -> Result<Namespace, SqlError> {
    let mut out = NamedTable {
        alias: name,
        schema,
        columns: Vec::new(),
        table: None,
        key: Vec::new(),
        scalar,
        table_oid: None,
    };
    if let Some(TableAlias {
        explicit: _,
        name,
        columns: names,
        at: _,
    }) = alias
    {
        out.alias.clone_from(&name.value);
        out.schema = None;
        if names.len() > columns.len() {
            return Err(SqlError::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!(
                    "table \"{}\" has {} columns available but {} columns specified",
                    name.value,
                    columns.len(),
                    names.len()
                ),
            )
            .at(name.span.start.line as usize));
        }
        for (c, n) in columns.iter_mut().zip(names) {
            if n.data_type.is_some() {
                return Err(SqlError::unsupported("a column definition list"));
            }
            c.name = Arc::from(n.name.value.as_str());
        }
    }
    out.columns = columns;
    Ok(Namespace::of_table(out))
}

//! EXPLAIN: a plan in PostgreSQL's words.
//!
//! ANALYZE runs the statement and adds its rows and time to the first line; the numbers of rows of
//! the lines are guesses of the planner. What DIST adds is in [`super::explain_dist`].

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use crate::bind::tree::{BoundStatement, ColId, Expr, SetOp, SortKey};
use crate::error::SqlError;
use crate::plan::build;
use crate::plan::node::{Access, JoinType, KeyAccess, Op, Plan};
use crate::plan::prune::children;
use crate::point::PointPlan;
use crate::session::api::Outcome;
use crate::types::registry::registry;
use crate::types::{Datum, io};

use super::context::ExecContext;
use super::explain_dist::{self, Told};
use super::remote::Account;
use super::rows::Executor;
use super::vector::places::place;

/// Options of EXPLAIN.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExplainOptions {
    /// Run the statement and measure.
    pub analyze: bool,
    /// Show columns.
    pub verbose: bool,
    /// Leave out guesses of rows.
    pub no_costs: bool,
    /// Show which nodes do which parts.
    pub dist: bool,
}

/// The lines of EXPLAIN.
pub async fn explain(
    statement: &BoundStatement,
    mut cx: ExecContext,
    options: ExplainOptions,
) -> Result<Vec<String>, SqlError> {
    if options.dist {
        cx.account = Some(Account::new(!options.analyze));
        cx.txn.count_asked();
    }
    let mut out = Printer {
        cx: &cx,
        options,
        names: HashMap::new(),
        lines: Vec::new(),
    };
    let point = cx
        .fast_path
        .then(|| crate::point::compile(statement))
        .flatten();
    let (verb, table, rel, wanted) = match statement {
        BoundStatement::Query(q) => (None, None, &q.rel, q.columns.clone()),
        BoundStatement::Insert(i) => {
            let wanted = i.columns.iter().map(|(_, c)| c.clone()).collect();
            (Some("Insert"), Some(&i.table), &i.source, wanted)
        }
        BoundStatement::Update(u) => (Some("Update"), Some(&u.table), &u.source, u.source.output()),
        BoundStatement::Delete(d) => (Some("Delete"), Some(&d.table), &d.source, d.source.output()),
    };
    let plan = build::plan(rel, &wanted, &|storage| cx.runtime.rows_of(storage));
    out.learn(&plan);
    let mut depth = 0;
    if let (Some(verb), Some(table)) = (verb, table) {
        out.lines.push(format!("{verb} on {}", table.name));
        depth = 1;
    }
    if let Some(locks) = match statement {
        BoundStatement::Query(q) if !q.locks.is_empty() => Some("LockRows"),
        _ => None,
    } {
        out.line(depth, locks.to_owned(), None);
        depth += 1;
    }
    out.plan(&plan, depth);
    out.engine(point.as_ref(), &plan);
    let mut lines = out.lines;
    let alone = explain_dist::alone(&cx);
    if options.analyze {
        analyze(statement, &cx, &mut lines).await?;
    }
    if let Some(account) = &cx.account {
        if !options.analyze {
            place(&Executor::new(cx.clone()), &plan)?;
        }
        lines.extend(explain_dist::lines(&Told::of(&cx, account, alone)));
    }
    Ok(lines)
}

/// Runs a statement, and enters how that went.
async fn analyze(
    statement: &BoundStatement,
    cx: &ExecContext,
    lines: &mut Vec<String>,
) -> Result<(), SqlError> {
    let started = Instant::now();
    let outcome = super::execute(&Arc::new(statement.clone()), cx.clone()).await?;
    let mut rows = 0;
    match outcome {
        Outcome::Rows { mut source, .. } => {
            while let Some(batch) = source.next().await? {
                rows += batch.len();
            }
        }
        Outcome::Done(tag) => {
            rows = tag
                .rsplit(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
        }
        _ => {}
    }
    let elapsed = started.elapsed().as_secs_f64() * 1_000.0;
    if let Some(first) = lines.first_mut() {
        let _ = write!(first, " (actual time={elapsed:.3} rows={rows} loops=1)");
    }
    lines.push(format!("Execution Time: {elapsed:.3} ms"));
    Ok(())
}

struct Printer<'a> {
    cx: &'a ExecContext,
    options: ExplainOptions,
    names: HashMap<ColId, String>,
    lines: Vec<String>,
}

impl Printer<'_> {
    fn learn(&mut self, plan: &Plan) {
        for column in &plan.columns {
            self.names
                .entry(column.id)
                .or_insert_with(|| column.name.to_string());
        }
        for child in children(plan) {
            self.learn(child);
        }
    }

    /// Who runs it, where that is not the row engine.
    fn engine(&mut self, point: Option<&PointPlan>, plan: &Plan) {
        let engine = match point {
            Some(PointPlan::Insert { .. }) => "Compiled: insert of values",
            Some(_) => "Compiled: access by key",
            None if super::query::is_large(plan, &self.cx.runtime) => "Engine: vectorized",
            None => return,
        };
        self.lines.push(engine.to_owned());
    }

    fn line(&mut self, depth: usize, text: String, rows: Option<f64>) {
        let mut line = if depth == 0 {
            String::new()
        } else {
            format!("{}->  ", " ".repeat(depth * 6 - 4))
        };
        line.push_str(&text);
        if let Some(rows) = rows.filter(|_| !self.options.no_costs) {
            let _ = write!(line, "  (rows={rows:.0})");
        }
        self.lines.push(line);
    }

    fn note(&mut self, depth: usize, text: String) {
        self.lines
            .push(format!("{}{text}", " ".repeat(depth * 6 + 2)));
    }

    fn conditions(&self, conditions: &[Expr]) -> String {
        let parts: Vec<String> = conditions.iter().map(|c| self.expr(c)).collect();
        match parts.as_slice() {
            [one] => one.clone(),
            _ => format!("({})", parts.join(" AND ")),
        }
    }

    fn keys(&self, keys: &[SortKey]) -> String {
        let parts: Vec<String> = keys
            .iter()
            .map(|k| {
                let mut text = self.expr(&k.expr);
                if k.descending {
                    text.push_str(" DESC");
                }
                if k.nulls_first != k.descending {
                    text.push_str(if k.nulls_first {
                        " NULLS FIRST"
                    } else {
                        " NULLS LAST"
                    });
                }
                text
            })
            .collect();
        parts.join(", ")
    }

    fn list(&self, exprs: &[Expr]) -> String {
        exprs
            .iter()
            .map(|e| self.expr(e))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn access(
        &mut self,
        depth: usize,
        table: &str,
        access: &KeyAccess,
        primary: Option<&str>,
        rows: f64,
    ) {
        let index = access.index.as_ref().map(|i| i.name.as_str()).or(primary);
        match index {
            Some(index) => self.line(
                depth,
                format!("Index Scan using {index} on {table}"),
                Some(rows),
            ),
            None => self.line(depth, format!("Tid Range Scan on {table}"), Some(rows)),
        }
        let text = self.conditions(&access.conditions);
        self.note(depth, format!("Index Cond: {text}"));
    }

    fn plan(&mut self, plan: &Plan, depth: usize) {
        let rows = Some(plan.rows);
        match &plan.op {
            Op::Project { input, .. } => return self.plan(input, depth),
            Op::Filter { input, conditions } => {
                let at = self.lines.len();
                self.plan(input, depth);
                let text = self.conditions(conditions);
                let note = format!("{}Filter: {text}", " ".repeat(depth * 6 + 2));
                self.lines.insert((at + 1).min(self.lines.len()), note);
                return;
            }
            Op::Unit => self.line(depth, "Result".to_owned(), rows),
            Op::Empty => {
                self.line(depth, "Result".to_owned(), rows);
                self.note(depth, "One-Time Filter: false".to_owned());
            }
            Op::Scan(scan) => {
                let name = scan.table.name.clone();
                let primary = scan
                    .table
                    .indexes
                    .iter()
                    .find(|i| crate::table::key::is_primary(i));
                match &scan.access {
                    Access::Full | Access::Part(_) => {
                        self.line(depth, format!("Seq Scan on {name}"), rows)
                    }
                    Access::Key(access) => {
                        let primary = primary.map(|i| i.name.as_str());
                        self.access(depth, &name, access, primary, plan.rows);
                    }
                }
                if !scan.filter.is_empty() {
                    let text = self.conditions(&scan.filter);
                    self.note(depth, format!("Filter: {text}"));
                }
            }
            Op::Virtual { table, .. } => {
                self.line(depth, format!("Catalog Scan on {}", table.name), rows);
            }
            Op::Values(_) => self.line(depth, "Values Scan".to_owned(), rows),
            Op::Function { function, .. } => {
                self.line(depth, format!("Function Scan on {}", function.name), rows);
            }
            Op::ProjectSet { .. } => self.line(depth, "ProjectSet".to_owned(), rows),
            Op::Join {
                kind,
                keys,
                residual,
                lateral,
                ..
            } => {
                let method = if *lateral || keys.is_empty() {
                    "Nested Loop"
                } else {
                    "Hash"
                };
                let name = match (kind, method) {
                    (JoinType::Inner, "Hash") => "Hash Join".to_owned(),
                    (JoinType::Inner, other) => other.to_owned(),
                    (kind, other) => format!("{other} {kind:?} Join"),
                };
                self.line(depth, name, rows);
                if !keys.is_empty() {
                    let parts: Vec<String> = keys
                        .iter()
                        .map(|k| format!("({} = {})", self.expr(&k.left), self.expr(&k.right)))
                        .collect();
                    let text = match parts.as_slice() {
                        [one] => one.clone(),
                        _ => format!("({})", parts.join(" AND ")),
                    };
                    self.note(depth, format!("Hash Cond: {text}"));
                }
                if !residual.is_empty() {
                    let text = self.conditions(residual);
                    self.note(depth, format!("Join Filter: {text}"));
                }
            }
            Op::Aggregate { keys, sets, .. } => {
                let name = match (keys.is_empty(), sets) {
                    (true, _) => "Aggregate",
                    (false, None) => "HashAggregate",
                    (false, Some(_)) => "MixedAggregate",
                };
                self.line(depth, name.to_owned(), rows);
                if !keys.is_empty() {
                    let text = self.list(keys);
                    self.note(depth, format!("Group Key: {text}"));
                }
            }
            Op::Window { .. } => self.line(depth, "WindowAgg".to_owned(), rows),
            Op::Distinct { on, .. } => {
                let name = if on.is_empty() {
                    "HashAggregate"
                } else {
                    "Unique"
                };
                self.line(depth, name.to_owned(), rows);
            }
            Op::Sort { keys, .. } => {
                self.line(depth, "Sort".to_owned(), rows);
                let text = self.keys(keys);
                self.note(depth, format!("Sort Key: {text}"));
            }
            Op::Limit { .. } => self.line(depth, "Limit".to_owned(), rows),
            Op::SetOp { op, all, .. } => {
                let name = match (op, all) {
                    (SetOp::Union, true) => "Append",
                    (SetOp::Union, false) => "HashAggregate (Append)",
                    (SetOp::Intersect, true) => "HashSetOp Intersect All",
                    (SetOp::Intersect, false) => "HashSetOp Intersect",
                    (SetOp::Except, true) => "HashSetOp Except All",
                    (SetOp::Except, false) => "HashSetOp Except",
                };
                self.line(depth, name.to_owned(), rows);
            }
            Op::With {
                recursive,
                query,
                body,
                cte,
                ..
            } => {
                self.plan(body, depth);
                self.note(depth, format!("CTE {cte}"));
                if recursive.is_some() {
                    self.line(depth + 1, "Recursive Union".to_owned(), None);
                    self.plan(query, depth + 2);
                    if let Some((step, _)) = recursive {
                        self.plan(step, depth + 2);
                    }
                } else {
                    self.plan(query, depth + 1);
                }
                return;
            }
            Op::CteRef { cte, .. } => self.line(depth, format!("CTE Scan on {cte}"), rows),
            Op::Inlet(number) => self.line(depth, format!("Rows Given {number}"), rows),
        }
        for child in children(plan) {
            self.plan(child, depth + 1);
        }
    }

    fn constant(&self, value: &Datum, ty: crate::types::PgType) -> String {
        let mut text = String::new();
        match value {
            Datum::Null => text.push_str("NULL"),
            _ => {
                io::output(value, ty, self.cx.eval.as_ref(), &mut text);
                if !matches!(
                    value,
                    Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) | Datum::Bool(_)
                ) {
                    text = format!(
                        "'{}'::{}",
                        text.replace('\'', "''"),
                        crate::types::format_type(ty)
                    );
                }
            }
        }
        text
    }

    /// An expression, roughly as PostgreSQL writes it.
    fn expr(&self, expr: &Expr) -> String {
        match expr {
            Expr::Const(value, ty) => self.constant(value, *ty),
            Expr::Param(n, _) => format!("${}", n + 1),
            Expr::Column(id, _) => self
                .names
                .get(id)
                .cloned()
                .unwrap_or_else(|| format!("c{}", id.0)),
            Expr::Call { function, args, .. } => {
                let operator = registry()
                    .operators()
                    .find(|o| std::ptr::eq(o.function, *function))
                    .map(|o| o.name);
                match (operator, args.as_slice()) {
                    (Some(op), [a, b]) => format!("({} {op} {})", self.expr(a), self.expr(b)),
                    (Some(op), [a]) => format!("({op} {})", self.expr(a)),
                    _ => format!("{}({})", function.name, self.list(args)),
                }
            }
            Expr::Cast { arg, ty, .. } => {
                format!("({})::{}", self.expr(arg), crate::types::format_type(*ty))
            }
            Expr::And(items) => self.joined(items, " AND "),
            Expr::Or(items) => self.joined(items, " OR "),
            Expr::Not(arg) => format!("(NOT {})", self.expr(arg)),
            Expr::IsNull { arg, negated } => {
                format!(
                    "({} IS {}NULL)",
                    self.expr(arg),
                    if *negated { "NOT " } else { "" }
                )
            }
            Expr::IsBool {
                arg,
                value,
                negated,
            } => {
                let value = match value {
                    Some(true) => "TRUE",
                    Some(false) => "FALSE",
                    None => "UNKNOWN",
                };
                let not = if *negated { "NOT " } else { "" };
                format!("({} IS {not}{value})", self.expr(arg))
            }
            Expr::IsDistinct {
                left,
                right,
                negated,
                ..
            } => {
                let not = if *negated { "NOT " } else { "" };
                format!(
                    "({} IS {not}DISTINCT FROM {})",
                    self.expr(left),
                    self.expr(right)
                )
            }
            Expr::Case {
                whens, otherwise, ..
            } => {
                let mut text = String::from("CASE");
                for (c, r) in whens {
                    let _ = write!(text, " WHEN {} THEN {}", self.expr(c), self.expr(r));
                }
                if let Some(o) = otherwise {
                    let _ = write!(text, " ELSE {}", self.expr(o));
                }
                text.push_str(" END");
                text
            }
            Expr::Coalesce(items, _) => format!("COALESCE({})", self.list(items)),
            Expr::Extreme { args, greatest, .. } => {
                let name = if *greatest { "GREATEST" } else { "LEAST" };
                format!("{name}({})", self.list(args))
            }
            Expr::ArrayCompare {
                left,
                function,
                array,
                all,
                ..
            } => {
                let operator = registry()
                    .operators()
                    .find(|o| std::ptr::eq(o.function, *function))
                    .map_or(function.name, |o| o.name);
                let word = if *all { "ALL" } else { "ANY" };
                format!(
                    "({} {operator} {word} ({}))",
                    self.expr(left),
                    self.expr(array)
                )
            }
            Expr::Array { items, .. } => format!("ARRAY[{}]", self.list(items)),
            Expr::Subscript { array, .. } => format!("({})[...]", self.expr(array)),
            Expr::Row(items) => format!("ROW({})", self.list(items)),
            Expr::Field { record, index, .. } => format!("({}).f{}", self.expr(record), index + 1),
            Expr::Subquery(_) => "(SubPlan)".to_owned(),
        }
    }

    fn joined(&self, items: &[Expr], by: &str) -> String {
        format!(
            "({})",
            items
                .iter()
                .map(|e| self.expr(e))
                .collect::<Vec<_>>()
                .join(by)
        )
    }
}

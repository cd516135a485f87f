//! Statements about the ranges that tables lie in.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use pontoon_kv::{Db, Key, Span};

use super::api::Outcome;
use super::engine::virtual_table;
use super::run::{Runner, rows_of};
use super::session::Session;
use super::statement::done;
use crate::bind::tree::BoundStatement;
use crate::bind::{BindContext, Binder, KeyColumn};
use crate::catalog::desc::{CatalogSnapshot, IndexDesc, Relation, TableDesc};
use crate::ddl::names;
use crate::error::{Severity, SqlError, SqlState};
use crate::exec;
use sqlparser::ast::Query;

use crate::parse::statement::{ObjectKind, SplitAt, SplitPoints};
use crate::table::key;
use crate::types::Datum;

/// Ranges that one statement may begin.
const POINTS_MAX: usize = 10_000;

impl Session {
    /// ALTER TABLE | INDEX ... SPLIT AT and UNSPLIT. Not a part of any transaction: what has been
    /// split stays so when the statement fails half-way.
    pub(super) async fn split_at(&mut self, split: &SplitAt) -> Result<Outcome, SqlError> {
        let tag = match split.kind {
            ObjectKind::Index => "ALTER INDEX",
            _ => "ALTER TABLE",
        };
        let what = match split.points {
            SplitPoints::Split(_) => "SPLIT AT",
            SplitPoints::Unsplit(_) | SplitPoints::UnsplitAll => "UNSPLIT",
        };
        self.outside_block(&format!("{tag} ... {what}"))?;
        let (txn, catalog) = self.begin_work().await?;
        let runner = self.runner(txn);
        let Some(target) = Target::find(&runner, &catalog, split)? else {
            let name = names::parts(&split.name).join(".");
            self.shared.notice(SqlError::notice(
                Severity::Notice,
                SqlState::SUCCESSFUL_COMPLETION,
                format!("relation \"{name}\" does not exist, skipping"),
            ));
            return done(tag);
        };
        let (bounds, db) = (runner.bounds.clone(), self.shared.engine.db.clone());
        let work = reshape(&runner, &catalog, &target, &split.points, &db);
        let stay = bounds.run(Box::pin(work)).await?;
        if let Some(reason) = stay.first() {
            let left = stay.len();
            let notice = SqlError::notice(
                Severity::Notice,
                SqlState::SUCCESSFUL_COMPLETION,
                format!("{left} ranges stay for now"),
            );
            let hint =
                "They become parts of their neighbors when they are small and nothing is moved.";
            let notice = notice.with_detail(reason.clone()).with_hint(hint);
            self.shared.notice(notice);
        }
        done(tag)
    }
}

/// Has ranges begin where they shall, or be parts of their neighbors where they need not begin any
/// more. Returns why some of the latter stay for now.
async fn reshape(
    runner: &Runner,
    catalog: &Arc<CatalogSnapshot>,
    target: &Target,
    what: &SplitPoints,
    db: &Db,
) -> Result<Vec<String>, SqlError> {
    let mut stay = Vec::new();
    let gone = match what {
        SplitPoints::Split(query) => {
            for point in points(runner, catalog, target, query).boxed().await? {
                db.want_split(&point).boxed().await?;
            }
            return Ok(stay);
        }
        SplitPoints::Unsplit(query) => {
            let points = points(runner, catalog, target, query).boxed().await?;
            for point in &points {
                let (start, end) = (point.clone(), [&**point, &[0]].concat().into());
                db.unwant_splits(&Span { start, end }).boxed().await?;
            }
            points.into_iter().collect()
        }
        SplitPoints::UnsplitAll => db.unwant_splits(&target.span()).boxed().await?,
    };
    for point in gone {
        if let Err(error) = db.merge_at(&point).boxed().await {
            stay.push(error.to_string());
        }
    }
    Ok(stay)
}

/// The keys that are split.
struct Target {
    table: Arc<TableDesc>,
    /// The secondary index; `None`: the rows.
    index: Option<Arc<IndexDesc>>,
}

impl Target {
    fn find(
        runner: &Runner,
        catalog: &CatalogSnapshot,
        split: &SplitAt,
    ) -> Result<Option<Self>, SqlError> {
        let (schema, name) = names::split(&split.name)?;
        let schema = schema.as_deref();
        let found = names::find(catalog, &runner.values.search_path, schema, &name);
        let wrong = |message| Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message));
        match (found, split.kind) {
            (None, _) if split.if_exists => Ok(None),
            (None, _) => {
                Err(names::missing(catalog, "relation", schema, &name)
                    .at(names::position(&split.name)))
            }
            (Some(Relation::Table(table)), ObjectKind::Table) => match table.row_id() {
                Some(_) => wrong(format!("table \"{name}\" has no primary key")).map_err(|e| {
                    e.with_hint("Its indexes can be split: ALTER INDEX ... SPLIT AT.")
                }),
                None => Ok(Some(Self { table, index: None })),
            },
            (Some(Relation::Index(table, index)), ObjectKind::Index) => Ok(Some(Self {
                index: Some(index).filter(|index| !key::is_primary(index)),
                table,
            })),
            (Some(_), ObjectKind::Index) => wrong(format!("\"{name}\" is not an index")),
            (Some(_), _) => wrong(format!("\"{name}\" is not a table")),
        }
    }

    /// Positions of its columns, in the order of its keys.
    fn positions(&self) -> Vec<usize> {
        match &self.index {
            Some(index) => index.columns.iter().map(|c| c.column).collect(),
            None => self.table.storage_key.clone(),
        }
    }

    /// All of its keys.
    fn span(&self) -> Span {
        let index = self.index.as_ref().map_or(key::PRIMARY, |index| index.id);
        key::index_span(self.table.storage, index)
    }

    /// Where entries begin whose leading columns have these values.
    fn key(&self, values: &[Datum]) -> Result<Key, SqlError> {
        match &self.index {
            Some(index) => key::index_start(&self.table, index, values).map(Key::from),
            None => key::row_start(&self.table, values),
        }
    }
}

/// The keys at which ranges shall begin.
async fn points(
    runner: &Runner,
    catalog: &Arc<CatalogSnapshot>,
    target: &Target,
    query: &Query,
) -> Result<BTreeSet<Key>, SqlError> {
    let columns = target.positions().into_iter();
    let columns = columns.filter_map(|position| target.table.columns.get(position));
    let columns: Vec<_> = columns
        .map(|column| KeyColumn {
            name: &column.name,
            ty: column.ty,
        })
        .collect();
    let bound = {
        let eval = runner.eval(catalog);
        let cx = BindContext {
            catalog,
            search_path: &runner.values.search_path,
            params: &[],
            eval: eval.as_ref(),
            virtual_table,
        };
        Binder::new(&cx).key_values(query, &columns)?
    };
    let context = runner.context(catalog, Arc::from([]));
    let bound = Arc::new(BoundStatement::Query(bound));
    let Outcome::Rows {
        columns: shown,
        mut source,
        ..
    } = exec::execute(&bound, context).await?
    else {
        return Err(SqlError::internal("a query without rows"));
    };
    let mut found = BTreeSet::new();
    while let Some(batch) = source.next().await? {
        for values in rows_of(batch, &shown) {
            found.insert(target.key(&values)?);
        }
        if found.len() > POINTS_MAX {
            return Err(SqlError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("a statement splits at no more than {POINTS_MAX} keys"),
            ));
        }
    }
    Ok(found)
}

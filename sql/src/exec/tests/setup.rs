//! A small database and short names for tree nodes.

use std::sync::Arc;

use pontoon_kv::{Db, TxnOptions};

use crate::bind::tree::{
    AggCall, BoundQuery, BoundStatement, ColId, Column, Expr, JoinKind, OutputColumn, Rel, SortKey,
};
use crate::catalog::desc::{
    CatalogSnapshot, ColumnDesc, IndexColumn, IndexDesc, IndexKind, RelationKind, TableDesc,
};
use crate::error::SqlError;
use crate::exec::ColumnCache;
use crate::exec::context::{ExecContext, Runtime};
use crate::session::api::{Outcome, RowBatch};
use crate::types::registry::{FunctionBody, registry};
use crate::types::testing::Fixed;
use crate::types::{Datum, Oid, PgType};

pub(crate) const INT4: PgType = PgType::new(Oid::INT4);
pub(crate) const INT8: PgType = PgType::new(Oid::INT8);
pub(crate) const TEXT: PgType = PgType::new(Oid::TEXT);
pub(crate) const NUMERIC: PgType = PgType::new(Oid::NUMERIC);
pub(crate) const BOOL: PgType = PgType::new(Oid::BOOL);

fn column(attnum: i16, name: &str, ty: PgType, not_null: bool) -> ColumnDesc {
    ColumnDesc {
        not_null,
        ..ColumnDesc::plain(attnum, name, ty)
    }
}

pub(crate) fn index(id: u32, name: &str, columns: &[usize], kind: IndexKind) -> Arc<IndexDesc> {
    Arc::new(IndexDesc {
        oid: Oid(20_000 + id),
        id,
        name: name.to_owned(),
        columns: columns
            .iter()
            .map(|c| IndexColumn {
                column: *c,
                descending: false,
                nulls_first: false,
            })
            .collect(),
        kind,
        constraint: None,
        nulls_not_distinct: false,
        include: Vec::new(),
        comment: None,
    })
}

/// `t(a int4 primary key, b text, c int8, d numeric not null)` with a unique index on b and a
/// plain one on c.
pub(crate) fn table() -> Arc<TableDesc> {
    Arc::new(TableDesc {
        oid: Oid(16_384),
        name: "t".to_owned(),
        schema: Oid(2_200),
        schema_name: "public".to_owned(),
        kind: RelationKind::Table,
        version: 1,
        columns: vec![
            column(1, "a", INT4, true),
            column(2, "b", TEXT, false),
            column(3, "c", INT8, false),
            column(4, "d", NUMERIC, true),
        ],
        storage_key: vec![0],
        storage: 16_384,
        indexes: vec![
            index(1, "t_pkey", &[0], IndexKind::Primary),
            index(2, "t_b_key", &[1], IndexKind::UniqueConstraint),
            index(3, "t_c_idx", &[2], IndexKind::Plain),
        ],
        next_index: 4,
        checks: Vec::new(),
        owner: Oid(10),
        depends: Vec::new(),
        options: Vec::new(),
        view: None,
        comment: None,
    })
}

/// `h(x int4, y text)` without primary key.
pub(crate) fn heap() -> Arc<TableDesc> {
    let mut desc = TableDesc::clone(&table());
    desc.oid = Oid(16_400);
    desc.storage = 16_400;
    desc.name = "h".to_owned();
    desc.columns = vec![
        column(1, "x", INT4, false),
        column(2, "y", TEXT, false),
        column(0, "rowid", INT8, true),
    ];
    desc.storage_key = vec![2];
    desc.indexes = Vec::new();
    Arc::new(desc)
}

pub(crate) struct Database {
    pub(crate) db: Db,
    pub(crate) runtime: Arc<Runtime>,
}

impl Database {
    pub(crate) fn new() -> Self {
        Self {
            db: Db::in_memory(),
            runtime: Arc::new(
                Runtime::new(1, 64 << 20, ColumnCache::new(16 << 20)).expect("runtime"),
            ),
        }
    }

    pub(crate) async fn context(&self, params: Vec<Datum>) -> ExecContext {
        ExecContext {
            txn: self.db.begin(TxnOptions::default()).await.expect("begin"),
            catalog: Arc::new(CatalogSnapshot::default()),
            eval: Arc::new(Fixed::UTC),
            params: params.into(),
            runtime: Arc::clone(&self.runtime),
            fast_path: true,
            distribute: true,
            broadcast_max: 8 << 20,
            account: None,
        }
    }

    /// Runs a statement in a transaction of its own.
    pub(crate) async fn run(&self, statement: BoundStatement) -> Result<Shown, SqlError> {
        self.run_with(&Arc::new(statement), Vec::new(), true).await
    }

    pub(crate) async fn run_with(
        &self,
        statement: &Arc<BoundStatement>,
        params: Vec<Datum>,
        fast_path: bool,
    ) -> Result<Shown, SqlError> {
        let mut cx = self.context(params).await;
        cx.fast_path = fast_path;
        let shown = show(
            crate::exec::execute(statement, cx.clone()).await?,
            statement,
        )
        .await?;
        cx.txn.commit().await?;
        Ok(shown)
    }
}

/// Rows as text, and the tag of a statement without rows.
#[derive(Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) rows: Vec<String>,
    pub(crate) tag: String,
}

impl Shown {
    pub(crate) fn sorted(mut self) -> Vec<String> {
        self.rows.sort();
        self.rows
    }
}

pub(crate) fn row_text(row: &[Datum]) -> String {
    let parts: Vec<String> = row
        .iter()
        .map(|v| match v {
            Datum::Null => "-".to_owned(),
            Datum::Numeric(n) => n.to_string(),
            Datum::Text(s) => s.to_string(),
            Datum::Bool(b) => b.to_string(),
            other => other
                .as_i64()
                .map_or_else(|| format!("{other:?}"), |n| n.to_string()),
        })
        .collect();
    parts.join("|")
}

async fn show(outcome: Outcome, _: &BoundStatement) -> Result<Shown, SqlError> {
    let mut shown = Shown {
        rows: Vec::new(),
        tag: String::new(),
    };
    match outcome {
        Outcome::Rows {
            columns,
            mut source,
            ..
        } => {
            let types: Vec<Column> = columns
                .iter()
                .map(|c| Column {
                    id: ColId(0),
                    name: c.name.clone(),
                    ty: c.ty,
                })
                .collect();
            while let Some(batch) = source.next().await? {
                let mut rows = Vec::new();
                match batch {
                    RowBatch::Rows(r) => rows = r,
                    RowBatch::Columns { columns, rows: n } => {
                        crate::exec::vector::rows_of(&columns, n, &types, &mut rows)?;
                    }
                }
                shown.rows.extend(rows.iter().map(|r| row_text(r)));
            }
        }
        Outcome::Done(tag) => shown.tag = tag,
        _ => shown.tag = "?".to_owned(),
    }
    Ok(shown)
}

pub(crate) fn int(v: i32) -> Expr {
    Expr::Const(Datum::Int4(v), INT4)
}
pub(crate) fn big(v: i64) -> Expr {
    Expr::Const(Datum::Int8(v), INT8)
}
pub(crate) fn text(v: &str) -> Expr {
    Expr::Const(Datum::text(v), TEXT)
}
pub(crate) fn null(ty: PgType) -> Expr {
    Expr::Const(Datum::Null, ty)
}
pub(crate) fn numeric(v: &str) -> Expr {
    let value = crate::types::io::input(v, NUMERIC, &Fixed::UTC).expect("numeric");
    Expr::Const(value, NUMERIC)
}
pub(crate) fn param(n: usize, ty: PgType) -> Expr {
    Expr::Param(n, ty)
}
pub(crate) fn op(name: &str, left: Expr, right: Expr) -> Expr {
    let found = registry()
        .operators_named(name)
        .iter()
        .find(|o| o.left == left.ty().oid && o.right == right.ty().oid)
        .unwrap_or_else(|| panic!("operator {name}"));
    Expr::Call {
        function: found.function,
        ty: PgType::new(found.function.result),
        args: vec![left, right],
        comparison: found.comparison,
    }
}
pub(crate) fn call_agg(name: &str, args: Vec<Expr>) -> AggCall {
    let function = registry()
        .functions_named(name)
        .iter()
        .find(|f| {
            matches!(f.body, FunctionBody::Aggregate(_))
                && f.args.len() == args.len()
                && f.args
                    .iter()
                    .zip(&args)
                    .all(|(a, b)| *a == b.ty().oid || *a == Oid::ANY)
        })
        .unwrap_or_else(|| panic!("aggregate {name}"));
    AggCall {
        function,
        ty: PgType::new(function.result),
        args,
        distinct: false,
        order: Vec::new(),
        filter: None,
    }
}

/// Gives out column numbers.
pub(crate) struct Ids(u32);

impl Ids {
    pub(crate) fn new() -> Self {
        Self(0)
    }
    pub(crate) fn column(&mut self, name: &str, ty: PgType) -> Column {
        self.0 += 1;
        Column {
            id: ColId(self.0),
            name: name.into(),
            ty,
        }
    }
    pub(crate) fn scan(&mut self, table: &Arc<TableDesc>) -> (Rel, Vec<Column>) {
        let columns: Vec<(usize, Column)> = table
            .columns
            .iter()
            .enumerate()
            .map(|(p, c)| (p, self.column(&c.name, c.ty)))
            .collect();
        let plain = columns.iter().map(|(_, c)| c.clone()).collect();
        (
            Rel::Scan {
                table: Arc::clone(table),
                columns,
            },
            plain,
        )
    }
}

pub(crate) fn col(c: &Column) -> Expr {
    Expr::Column(c.id, c.ty)
}
pub(crate) fn filter(input: Rel, predicate: Expr) -> Rel {
    Rel::Filter {
        input: Box::new(input),
        predicate,
    }
}
pub(crate) fn join(kind: JoinKind, left: Rel, right: Rel, on: Expr) -> Rel {
    Rel::Join {
        kind,
        left: Box::new(left),
        right: Box::new(right),
        on: Some(on),
        lateral: false,
    }
}
pub(crate) fn asc(expr: Expr) -> SortKey {
    SortKey {
        expr,
        descending: false,
        nulls_first: false,
    }
}
pub(crate) fn sort(input: Rel, keys: Vec<SortKey>) -> Rel {
    Rel::Sort {
        input: Box::new(input),
        keys,
    }
}
pub(crate) fn query(rel: Rel, columns: &[Column]) -> BoundStatement {
    BoundStatement::Query(BoundQuery {
        rel,
        columns: columns.to_vec(),
        output: columns
            .iter()
            .map(|c| OutputColumn {
                name: c.name.clone(),
                ty: c.ty,
                origin: None,
            })
            .collect(),
        locks: Vec::new(),
    })
}

//! Queries, each by both engines.

use std::sync::Arc;

use crate::bind::tree::{
    BoundStatement, Column, Expr, JoinKind, Rel, SetOp, Subquery, SubqueryKind,
};
use crate::catalog::desc::TableDesc;
use crate::exec::query::collect_by_rows;
use crate::exec::rows::Executor;
use crate::exec::vector;
use crate::plan::build;
use crate::session::api::RowBatch;
use crate::types::registry::Comparison;

use super::setup::*;
use super::writes::{filled, insert, row};

/// Runs a relation by the row engine and through DataFusion; both must give `expected` (sorted).
async fn both(db: &Database, rel: Rel, columns: &[Column], expected: &[&str]) {
    let cx = db.context(Vec::new()).await;
    let plan = Arc::new(build::plan(&rel, columns, &|_| None));
    let rows = collect_by_rows(&plan, columns, &cx).await.expect("rows");
    let mut by_rows: Vec<String> = rows.iter().map(|r| row_text(r)).collect();
    by_rows.sort();
    assert_eq!(by_rows, expected, "row engine: {plan:#?}");
    // A runtime that does not know how small the tables are.
    let mut cx = cx.clone();
    cx.runtime = Database::new().runtime;
    let executor = Executor::new(cx);
    let mut source = vector::stream(&executor, &plan, columns)
        .await
        .expect("stream");
    let mut found = Vec::new();
    while let Some(batch) = source.next().await.expect("batch") {
        if let RowBatch::Columns {
            columns: arrays,
            rows,
        } = batch
        {
            vector::rows_of(&arrays, rows, columns, &mut found).expect("rows");
        }
    }
    let mut by_vector: Vec<String> = found.iter().map(|r| row_text(r)).collect();
    by_vector.sort();
    assert_eq!(by_vector, expected, "vector engine: {plan:#?}");
}

async fn two_tables() -> (Database, Arc<TableDesc>, Arc<TableDesc>) {
    let (db, t) = filled().await;
    let h = heap();
    let rows = vec![
        vec![int(1), text("one")],
        vec![int(3), text("x")],
        vec![int(3), text("y")],
        vec![null(INT4), text("z")],
    ];
    db.run(BoundStatement::Insert(insert(&h, rows)))
        .await
        .expect("insert");
    (db, t, h)
}

#[tokio::test]
async fn filters_and_expressions() {
    let (db, t) = filled().await;
    let mut ids = Ids::new();
    let (scan, c) = ids.scan(&t);
    let twice = ids.column("twice", INT8);
    let rel = Rel::Project {
        input: Box::new(filter(scan, op(">", col(&c[3]), numeric("1.5")))),
        exprs: vec![
            (col(&c[0]), c[0].clone()),
            (op("+", col(&c[2]), col(&c[2])), twice.clone()),
        ],
    };
    both(&db, rel, &[c[0].clone(), twice], &["2|40", "3|20", "4|-"]).await;
}

#[tokio::test]
async fn joins() {
    let (db, t, h) = two_tables().await;
    let make = |kind| {
        let mut ids = Ids::new();
        let ((l, lc), (r, rc)) = (ids.scan(&t), ids.scan(&h));
        let on = op("=", col(&lc[0]), col(&rc[0]));
        (join(kind, l, r, on), vec![lc[0].clone(), rc[1].clone()])
    };
    let (rel, columns) = make(JoinKind::Inner);
    both(&db, rel, &columns, &["1|one", "3|x", "3|y"]).await;
    let (rel, columns) = make(JoinKind::Left);
    both(&db, rel, &columns, &["1|one", "2|-", "3|x", "3|y", "4|-"]).await;
    let (rel, columns) = make(JoinKind::Right);
    both(&db, rel, &columns, &["-|z", "1|one", "3|x", "3|y"]).await;
    let (rel, columns) = make(JoinKind::Full);
    both(
        &db,
        rel,
        &columns,
        &["-|z", "1|one", "2|-", "3|x", "3|y", "4|-"],
    )
    .await;
}

#[tokio::test]
async fn grouping_by_numeric_ignores_scale() {
    let (db, t) = filled().await;
    let mut ids = Ids::new();
    let (scan, c) = ids.scan(&t);
    let (count, sum) = (ids.column("count", INT8), ids.column("sum", INT8));
    let rel = Rel::Aggregate {
        input: Box::new(scan),
        keys: vec![(col(&c[3]), c[3].clone())],
        sets: None,
        grouping: Vec::new(),
        calls: vec![
            (call_agg("count", Vec::new()), count.clone()),
            (call_agg("sum", vec![col(&c[0])]), sum.clone()),
        ],
    };
    both(&db, rel, &[count, sum], &["1|1", "1|4", "2|5"]).await;
}

#[tokio::test]
async fn count_without_columns_and_of_nothing() {
    let (db, t) = filled().await;
    let mut ids = Ids::new();
    let (scan, c) = ids.scan(&t);
    let count = ids.column("count", INT8);
    let aggregate = |input| Rel::Aggregate {
        input: Box::new(input),
        keys: Vec::new(),
        sets: None,
        grouping: Vec::new(),
        calls: vec![(call_agg("count", Vec::new()), count.clone())],
    };
    both(&db, aggregate(scan.clone()), &[count.clone()], &["4"]).await;
    let none = filter(scan, op(">", col(&c[3]), numeric("100")));
    both(&db, aggregate(none), &[count.clone()], &["0"]).await;
}

#[tokio::test]
async fn correlated_and_plain_subqueries() {
    let (db, t, h) = two_tables().await;
    let mut ids = Ids::new();
    let ((scan, c), (inner, ic)) = (ids.scan(&t), ids.scan(&h));
    let exists = Expr::Subquery(Box::new(Subquery {
        rel: filter(inner.clone(), op("=", col(&ic[0]), col(&c[0]))),
        columns: vec![ic[1].clone()],
        kind: SubqueryKind::Exists,
        ty: BOOL,
    }));
    let rel = filter(scan.clone(), exists);
    both(&db, rel, &c[..1], &["1", "3"]).await;
    // NOT IN with a NULL in the list is never true.
    let ne = op("<>", col(&c[0]), col(&ic[0]));
    let Expr::Call { function, .. } = ne else {
        panic!("call")
    };
    let not_in = Expr::Subquery(Box::new(Subquery {
        rel: inner,
        columns: vec![ic[0].clone()],
        kind: SubqueryKind::Compare {
            left: vec![col(&c[0])],
            functions: vec![function],
            comparison: Comparison::Ne,
            all: true,
        },
        ty: BOOL,
    }));
    both(&db, filter(scan, not_in), &c[..1], &[]).await;
}

#[tokio::test]
async fn unions_and_limits() {
    let (db, t) = filled().await;
    let mut ids = Ids::new();
    let ((l, lc), (r, rc)) = (ids.scan(&t), ids.scan(&t));
    let (out, wide) = (ids.column("c", INT8), ids.column("w", INT8));
    let only = |rel, c: &Column, to: &Column| Rel::Project {
        input: Box::new(rel),
        exprs: vec![(col(c), to.clone())],
    };
    let make = |op, all| Rel::SetOp {
        op,
        all,
        left: Box::new(only(l.clone(), &lc[2], &wide)),
        right: Box::new(only(r.clone(), &rc[2], &wide)),
        columns: vec![out.clone()],
    };
    let columns = [out.clone()];
    both(&db, make(SetOp::Union, false), &columns, &["-", "10", "20"]).await;
    both(
        &db,
        make(SetOp::Union, true),
        &columns,
        &["-", "-", "10", "10", "10", "10", "20", "20"],
    )
    .await;
    both(&db, make(SetOp::Except, true), &columns, &[]).await;
    let top = Rel::Limit {
        input: Box::new(sort(make(SetOp::Union, true), vec![asc(col(&out))])),
        limit: Some(big(3)),
        offset: Some(big(2)),
        with_ties: None,
    };
    both(&db, top, &columns, &["10", "10", "20"]).await;
}

#[tokio::test]
async fn key_access_equals_full_scan() {
    let (db, t) = filled().await;
    let rows = (100..200)
        .map(|i| row(i, &format!("r{i}"), i64::from(i % 7), "1"))
        .collect();
    db.run(BoundStatement::Insert(insert(&t, rows)))
        .await
        .expect("insert");
    // The same condition on a column, and on an expression that no index knows.
    for (position, value) in [(0, 150), (2, 3), (2, 10)] {
        for name in ["=", "<", "<=", ">", ">="] {
            let make = |hidden: bool| {
                let mut ids = Ids::new();
                let (scan, c) = ids.scan(&t);
                let (zero, constant) = if position == 0 {
                    (int(0), int(value))
                } else {
                    (big(0), big(value.into()))
                };
                let left = col(&c[position]);
                let left = if hidden { op("+", left, zero) } else { left };
                query(filter(scan, op(name, left, constant)), &c)
            };
            let by_key = db.run(make(false)).await.expect("key").sorted();
            let by_scan = db.run(make(true)).await.expect("scan").sorted();
            assert_eq!(by_key, by_scan, "column {position} {name} {value}");
        }
    }
}

#[tokio::test]
async fn order_of_keys_needs_no_sort() {
    let (db, t) = filled().await;
    let mut ids = Ids::new();
    let (scan, c) = ids.scan(&t);
    let mut key = asc(col(&c[0]));
    key.descending = true;
    key.nulls_first = true;
    let top = Rel::Limit {
        input: Box::new(sort(scan, vec![key])),
        limit: Some(big(2)),
        offset: None,
        with_ties: None,
    };
    let plan = build::plan(&top, &c[..1], &|_| None);
    assert!(!format!("{plan:?}").contains("Sort"), "{plan:#?}");
    let found = db.run(query(top, &c[..1])).await.expect("select");
    assert_eq!(found.rows, ["4", "3"]);
}

#[tokio::test]
async fn correlated_exists_is_a_join() {
    let (db, t, h) = two_tables().await;
    for negated in [false, true] {
        let mut ids = Ids::new();
        let ((scan, c), (inner, ic)) = (ids.scan(&t), ids.scan(&h));
        let on = op("=", col(&ic[0]), col(&c[0]));
        let other = op("<>", col(&ic[1]), col(&c[1]));
        let exists = Expr::Subquery(Box::new(Subquery {
            rel: filter(inner, Expr::And(vec![on, other])),
            columns: vec![ic[1].clone()],
            kind: SubqueryKind::Exists,
            ty: BOOL,
        }));
        let (condition, expected): (_, &[&str]) = if negated {
            (Expr::Not(Box::new(exists)), &["1", "2", "4"])
        } else {
            (exists, &["3"])
        };
        let rel = filter(scan, condition);
        let plan = format!("{:?}", build::plan(&rel, &c[..1], &|_| None));
        assert!(
            plan.contains(if negated { "Anti" } else { "Semi" }),
            "{plan}"
        );
        both(&db, rel, &c[..1], expected).await;
    }
}

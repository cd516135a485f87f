//! INSERT, UPDATE, DELETE and their constraints.

use std::sync::Arc;

use crate::bind::tree::{
    BoundDelete, BoundInsert, BoundStatement, BoundUpdate, ConflictUpdate, Expr, OnConflict, Rel,
};
use crate::catalog::desc::TableDesc;

use super::setup::*;

/// INSERT INTO t VALUES ...
pub(crate) fn insert(table: &Arc<TableDesc>, rows: Vec<Vec<Expr>>) -> BoundInsert {
    let mut ids = Ids::new();
    let columns: Vec<_> = table
        .live_columns()
        .map(|(p, c)| (p, ids.column(&c.name, c.ty)))
        .collect();
    BoundInsert {
        table: Arc::clone(table),
        source: Rel::Values {
            rows,
            columns: columns.iter().map(|(_, c)| c.clone()).collect(),
        },
        columns,
        on_conflict: None,
        returning: None,
    }
}

pub(crate) fn row(a: i32, b: &str, c: i64, d: &str) -> Vec<Expr> {
    vec![int(a), text(b), big(c), numeric(d)]
}

pub(crate) async fn filled() -> (Database, Arc<TableDesc>) {
    let (db, t) = (Database::new(), table());
    let rows = vec![
        row(1, "one", 10, "1.5"),
        row(2, "two", 20, "2.50"),
        row(3, "three", 10, "2.5"),
        vec![int(4), null(TEXT), null(INT8), numeric("7")],
    ];
    let shown = db
        .run(BoundStatement::Insert(insert(&t, rows)))
        .await
        .expect("insert");
    assert_eq!(shown.tag, "INSERT 0 4");
    (db, t)
}

async fn all(db: &Database, t: &Arc<TableDesc>) -> Vec<String> {
    let mut ids = Ids::new();
    let (scan, columns) = ids.scan(t);
    db.run(query(scan, &columns))
        .await
        .expect("select")
        .sorted()
}

#[tokio::test]
async fn insert_then_read() {
    let (db, t) = filled().await;
    assert_eq!(
        all(&db, &t).await,
        ["1|one|10|1.5", "2|two|20|2.50", "3|three|10|2.5", "4|-|-|7"]
    );
}

#[tokio::test]
async fn violations_are_reported() {
    let (db, t) = filled().await;
    let again = |r| BoundStatement::Insert(insert(&t, vec![r]));
    let e = db
        .run(again(row(1, "x", 0, "0")))
        .await
        .expect_err("primary key");
    assert_eq!(e.state.code(), "23505");
    assert_eq!(
        e.message,
        "duplicate key value violates unique constraint \"t_pkey\""
    );
    assert_eq!(e.detail.as_deref(), Some("Key (a)=(1) already exists."));
    let e = db
        .run(again(row(9, "two", 0, "0")))
        .await
        .expect_err("unique");
    assert_eq!(e.detail.as_deref(), Some("Key (b)=(two) already exists."));
    let e = db
        .run(again(vec![int(9), text("y"), big(1), null(NUMERIC)]))
        .await
        .expect_err("not null");
    assert_eq!(e.state.code(), "23502");
    assert_eq!(
        e.detail.as_deref(),
        Some("Failing row contains (9, y, 1, null).")
    );
    // Within one statement too; NULLs do not collide.
    let twice = vec![row(8, "x", 0, "0"), row(8, "y", 0, "0")];
    assert!(
        db.run(BoundStatement::Insert(insert(&t, twice)))
            .await
            .is_err()
    );
    let nulls = vec![int(5), null(TEXT), null(INT8), numeric("0")];
    db.run(again(nulls)).await.expect("two NULLs");
}

fn update(t: &Arc<TableDesc>, set: usize, value: Expr, where_a: Option<Expr>) -> BoundUpdate {
    let mut ids = Ids::new();
    let (scan, columns) = ids.scan(t);
    let source = match where_a {
        Some(v) => filter(scan, op("=", col(&columns[0]), v)),
        None => scan,
    };
    let new = ids.column("new", columns[set].ty);
    let mut exprs: Vec<_> = columns.iter().map(|c| (col(c), c.clone())).collect();
    let value = crate::plan::free::substitute(&value, &|id| columns.get(id.0 as usize).map(col));
    exprs.push((value.expect("value"), new.clone()));
    BoundUpdate {
        table: Arc::clone(t),
        source: Rel::Project {
            input: Box::new(source),
            exprs,
        },
        old: columns.into_iter().enumerate().collect(),
        set: vec![(set, new)],
        returning: None,
        returning_row: Vec::new(),
    }
}

fn position(n: u32, ty: crate::types::PgType) -> Expr {
    Expr::Column(crate::bind::tree::ColId(n), ty)
}

#[tokio::test]
async fn update_moves_rows_and_entries() {
    for fast in [true, false] {
        let (db, t) = filled().await;
        let by_key = update(
            &t,
            2,
            op("+", position(2, INT8), big(1)),
            Some(param(0, INT4)),
        );
        let by_key = Arc::new(BoundStatement::Update(by_key));
        let params = vec![crate::types::Datum::Int4(2)];
        assert_eq!(
            db.run_with(&by_key, params, fast)
                .await
                .expect("update")
                .tag,
            "UPDATE 1"
        );
        // All keys move by one: nothing collides at the end of the statement.
        let shift = update(&t, 0, op("+", position(0, INT4), int(1)), None);
        let shift = Arc::new(BoundStatement::Update(shift));
        assert_eq!(
            db.run_with(&shift, Vec::new(), fast)
                .await
                .expect("shift")
                .tag,
            "UPDATE 4"
        );
        let expected = ["2|one|10|1.5", "3|two|21|2.50", "4|three|10|2.5", "5|-|-|7"];
        assert_eq!(all(&db, &t).await, expected);
        // The index on c finds the moved rows.
        let mut ids = Ids::new();
        let (scan, columns) = ids.scan(&t);
        let found = filter(scan, op("=", col(&columns[2]), big(10)));
        let found = db
            .run(query(found, &columns[..1]))
            .await
            .expect("by index")
            .sorted();
        assert_eq!(found, ["2", "4"]);
    }
}

#[tokio::test]
async fn delete_removes_entries() {
    for fast in [true, false] {
        let (db, t) = filled().await;
        let mut ids = Ids::new();
        let (scan, columns) = ids.scan(&t);
        let delete = BoundStatement::Delete(BoundDelete {
            table: Arc::clone(&t),
            source: filter(scan, op("=", col(&columns[0]), int(3))),
            old: columns.clone().into_iter().enumerate().collect(),
            returning: None,
        });
        let delete = Arc::new(delete);
        assert_eq!(
            db.run_with(&delete, Vec::new(), fast)
                .await
                .expect("delete")
                .tag,
            "DELETE 1"
        );
        let shown = db.run_with(&delete, Vec::new(), fast).await.expect("again");
        assert_eq!(shown.tag, "DELETE 0");
        // Its unique value is free again.
        let again = insert(&t, vec![row(30, "three", 1, "1")]);
        db.run(BoundStatement::Insert(again))
            .await
            .expect("insert again");
    }
}

#[tokio::test]
async fn on_conflict() {
    let (db, t) = filled().await;
    let mut nothing = insert(
        &t,
        vec![
            row(1, "x", 0, "0"),
            row(7, "two", 0, "0"),
            row(8, "n", 0, "0"),
        ],
    );
    nothing.on_conflict = Some(OnConflict {
        arbiters: Vec::new(),
        update: None,
    });
    let shown = db
        .run(BoundStatement::Insert(nothing))
        .await
        .expect("nothing");
    assert_eq!(shown.tag, "INSERT 0 1");
    let with_update = |rows| {
        let mut statement = insert(&t, rows);
        let mut ids = Ids::new();
        (0..10).for_each(|_| drop(ids.column("", INT4)));
        let existing: Vec<_> = t
            .live_columns()
            .map(|(p, c)| (p, ids.column(&c.name, c.ty)))
            .collect();
        let excluded = statement.columns[2].1.clone();
        let value = op("+", col(&existing[2].1), col(&excluded));
        statement.on_conflict = Some(OnConflict {
            arbiters: vec![Arc::clone(&t.indexes[0])],
            update: Some(ConflictUpdate {
                existing,
                set: vec![(2, value)],
                filter: None,
            }),
        });
        BoundStatement::Insert(statement)
    };
    let shown = db
        .run(with_update(vec![row(1, "zzz", 5, "0")]))
        .await
        .expect("update");
    assert_eq!(shown.tag, "INSERT 0 1");
    assert!(all(&db, &t).await.contains(&"1|one|15|1.5".to_owned()));
    let twice = with_update(vec![row(1, "p", 5, "0"), row(1, "q", 5, "0")]);
    assert_eq!(
        db.run(twice).await.expect_err("second time").state.code(),
        "21000"
    );
}

#[tokio::test]
async fn rows_without_primary_key() {
    let (db, h) = (Database::new(), heap());
    let rows = vec![vec![int(1), text("a")], vec![int(1), text("a")]];
    db.run(BoundStatement::Insert(insert(&h, rows)))
        .await
        .expect("insert");
    let mut ids = Ids::new();
    let (scan, columns) = ids.scan(&h);
    let found = db.run(query(scan, &columns[..2])).await.expect("select");
    assert_eq!(found.rows, ["1|a", "1|a"]);
}

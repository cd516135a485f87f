//! SQL texts through parser and binder, each by both engines and by the compiled path: all must
//! agree. What PostgreSQL would answer is the business of the sqllogictest cases; here the paths
//! are held against each other, and against a few known answers.

use std::sync::Arc;

use crate::bind::tree::BoundStatement;
use crate::bind::{BindContext, Binder};
use crate::catalog::desc::{CatalogSnapshot, PUBLIC, SchemaDesc};
use crate::error::SqlError;
use crate::exec::query::collect_by_rows;
use crate::exec::rows::Executor;
use crate::exec::vector;
use crate::plan::build;
use crate::session::api::RowBatch;
use crate::types::Oid;
use crate::types::testing::Fixed;

use super::setup::*;
use super::writes::{filled, insert};

fn catalog() -> CatalogSnapshot {
    let mut snapshot = CatalogSnapshot::default();
    let schema = SchemaDesc {
        oid: PUBLIC,
        name: "public".to_owned(),
        owner: Oid(10),
        comment: None,
    };
    snapshot.schemas.insert(PUBLIC, Arc::new(schema));
    for table in [table(), heap()] {
        snapshot
            .names
            .insert((PUBLIC, table.name.clone()), table.oid);
        snapshot.tables.insert(table.oid, table);
    }
    snapshot
}

fn bound(sql: &str) -> Result<Arc<BoundStatement>, SqlError> {
    let catalog = catalog();
    let cx = BindContext {
        catalog: &catalog,
        search_path: &["public".to_owned()],
        params: &[],
        eval: &Fixed::UTC,
        virtual_table: |_, _| None,
    };
    let parsed = crate::parse::split(sql)?;
    let statement = &parsed.first().expect("one statement").statement;
    Ok(Arc::new(Binder::new(&cx).statement(statement)?))
}

async fn database() -> Database {
    let (db, _) = filled().await;
    let rows = vec![
        vec![int(1), text("one")],
        vec![int(3), text("x")],
        vec![int(3), text("y")],
        vec![null(INT4), text("z")],
    ];
    db.run(BoundStatement::Insert(insert(&heap(), rows)))
        .await
        .expect("insert");
    db
}

/// All ways of running a query; `Err` texts count as answers.
async fn answers(db: &Database, sql: &str) -> Vec<Result<Vec<String>, String>> {
    let statement = bound(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let BoundStatement::Query(query) = statement.as_ref() else {
        panic!("{sql}")
    };
    let mut out = Vec::new();
    for fast in [true, false] {
        let shown = db.run_with(&statement, Vec::new(), fast).await;
        out.push(shown.map(|s| s.rows).map_err(|e| e.to_string()));
    }
    let cx = db.context(Vec::new()).await;
    let plan = Arc::new(build::plan(&query.rel, &query.columns, &|_| None));
    let rows = collect_by_rows(&plan, &query.columns, &cx).await;
    let texts = |rows: Vec<Vec<crate::types::Datum>>| rows.iter().map(|r| row_text(r)).collect();
    out.push(rows.map(texts).map_err(|e| e.to_string()));
    let by_vector = async {
        // A runtime that does not know how small the tables are.
        let mut cx = cx.clone();
        cx.runtime = Database::new().runtime;
        let executor = Executor::new(cx);
        let mut source = vector::stream(&executor, &plan, &query.columns).await?;
        let mut found = Vec::new();
        while let Some(batch) = source.next().await? {
            if let RowBatch::Columns { columns, rows } = batch {
                vector::rows_of(&columns, rows, &query.columns, &mut found)?;
            }
        }
        Ok::<_, SqlError>(found)
    };
    out.push(by_vector.await.map(texts).map_err(|e| e.to_string()));
    if !sql.to_lowercase().contains("order by") {
        out.iter_mut().flatten().for_each(|rows| rows.sort());
    }
    out
}

const QUERIES: &[&str] = &[
    "select 1",
    "select a, b from t where a = 2",
    "select b from t where b = 'two'",
    "select a from t where a in (1, 3, 5)",
    "select a + 1, upper(b) from t where a = 1 and c = 10",
    "select * from t where a between 2 and 3",
    "select * from t order by a desc limit 2",
    "select * from t order by d, a",
    "select distinct d from t",
    "select distinct on (c) c, a from t order by c, a desc",
    "select c, count(*), sum(a), avg(a), min(b), max(b) from t group by c",
    "select d, count(*) from t group by d having count(*) > 1",
    "select count(*), count(c), count(distinct c), sum(c), avg(d) from t",
    "select c, sum(d) from t group by rollup (c)",
    "select c, grouping(c) from t group by grouping sets ((c), ())",
    "select t.a, h.y from t join h on t.a = h.x",
    "select t.a, h.y from t left join h on t.a = h.x",
    "select t.a, h.y from t right join h on t.a = h.x and t.c > 5",
    "select t.a, h.y from t full join h on t.a = h.x",
    "select t.a, h.y from t, h where t.a < h.x",
    "select t.a, h.y from t cross join h",
    "select a from t where exists (select 1 from h where h.x = t.a)",
    "select a from t where not exists (select 1 from h where h.x = t.a)",
    "select a from t where a in (select x from h)",
    "select a from t where a not in (select x from h)",
    "select a from t where a not in (select x from h where x is not null)",
    "select a, (select count(*) from h where h.x = t.a) from t",
    "select a, (select max(y) from h where h.x > t.a) from t",
    "select a from t where c > (select avg(c) from t)",
    "select a from t where a > all (select x from h where x < 3)",
    "select a from t where (a, b) in (select x, y from h)",
    "select (select a from t)",
    "select a, case when c = 0 then 1/c when c is null then -1 else c end from t",
    "select a, row_number() over (order by a), sum(a) over (order by a), rank() over (order by c) from t",
    "select a, lag(a) over (order by a), lead(a, 1, 0) over (order by a), ntile(2) over (order by a) from t",
    "select a, sum(a) over (partition by c order by a rows between 1 preceding and current row) from t",
    "select a, first_value(b) over (partition by c order by a) from t",
    "select a from t union select x from h",
    "select a from t union all select x from h",
    "select a from t intersect select x from h",
    "select a from t except select x from h",
    "with q as (select a from t where a > 1) select q1.a, q2.a from q q1, q q2 where q1.a = q2.a",
    "with recursive r(n) as (select 1 union all select n + 1 from r where n < 5) select n from r",
    "with recursive r(n) as (select 1 union all select n + 1 from r) select n from r limit 4",
    "select * from generate_series(1, 3)",
    "select a, generate_series(1, 2) from t",
    "select a, g from t, lateral generate_series(1, a) g",
    "select a, s.y from t, lateral (select y from h where h.x = t.a order by y limit 1) s",
    "select a, s.y from t left join lateral (select y from h where h.x = t.a order by y limit 1) s on true",
    "select array(select a from t order by a)",
    "select array_agg(a order by a desc) from t",
    "select string_agg(b, ',' order by a) from t",
    "values (1, 'a'), (2, 'b')",
    "select coalesce(b, 'none'), nullif(a, 2), greatest(a, c), least(a, c) from t",
    "select a from t where b like 't%'",
    "select a from t where b is distinct from 'two'",
    "select a from t where c is null or c = 20",
    "select a from t where not (c = 10)",
    "select a / 0 from t",
    "select a from t where a / (a - a) = 1",
    "select 2147483647 + a from t",
    "select d * 2, d / 3, d::int, a::text || 'x' from t",
    "select x, count(*) filter (where y > 'x') from h group by x",
    "select sum(a) from t where a > 100",
    "select t1.a from t t1 join t t2 on t1.c = t2.c and t1.a <> t2.a",
    "select t1.a, t2.a, t3.a from t t1, t t2, t t3 where t1.a = t2.a and t2.a = t3.a and t3.a = 2",
    "select a from t order by c nulls first, a limit 2 offset 1",
    "select a from t order by b desc",
    "select a from t order by d fetch first 2 rows with ties",
    "select h from h where x = 1",
    "select count(*) from (select distinct c from t) s",
    "select a from t where c in (10, 20) and d > 2",
    "select max(a) from t group by d order by 1",
    "select bool_and(a > 0), bool_or(a > 3), every(a < 3) from t",
    "select a from t where a = any (array[1, 2, 9])",
    "select 1 where false",
    "select count(*) from t where false",
    "select (t.d = 2.5) is true, d = 2.50 from t",
];

#[tokio::test]
async fn all_paths_agree() {
    let db = database().await;
    let mut failures = Vec::new();
    for sql in QUERIES {
        if let Err(e) = bound(sql) {
            failures.push(format!("{sql}: does not bind: {e}"));
            continue;
        }
        let found = answers(&db, sql).await;
        if found.windows(2).any(|w| w[0] != w[1]) {
            failures.push(format!("{sql}: {found:#?}"));
        } else if let Err(e) = &found[0]
            && (e.contains("internal") || e.contains("not supported"))
        {
            failures.push(format!("{sql}: {e}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn known_answers() {
    let db = database().await;
    for (sql, expected) in [
        (
            "select c, count(*) from t group by c order by c",
            "10|2,20|1,-|1",
        ),
        (
            "select a, (select count(*) from h where h.x = t.a) from t order by a",
            "1|1,2|0,3|2,4|0",
        ),
        ("select a from t where a not in (select x from h)", ""),
        (
            "select a, sum(a) over (order by a) from t order by a",
            "1|1,2|3,3|6,4|10",
        ),
        (
            "select c, sum(a) from t group by rollup (c) order by c, 2",
            "10|4,20|2,-|4,-|10",
        ),
        ("select sum(d), avg(a) from t", "13.50|2.5000000000000000"),
        (
            "select a, y from t left join h on a = x order by a, y",
            "1|one,2|-,3|x,3|y,4|-",
        ),
    ] {
        let found = answers(&db, sql).await;
        assert_eq!(found[0].as_ref().expect(sql).join(","), expected, "{sql}");
    }
}

//! Errors: code, message, position.

use super::fixture::Fixture;

const DDL: &str = "create table t (id serial primary key, a int, b text, n numeric(10,2), \
    ts timestamp, arr int[], g int generated always as (a * 2) stored, \
    i int generated always as identity); \
    create table u (id int primary key, a int, c varchar(5)); create view v as select * from t;";

#[test]
fn errors_are_postgresqls() {
    let f = Fixture::new(DDL);
    let cases: &[(&str, &str, &str, usize)] = &[
        ("select x from t", "42703", "column \"x\" does not exist", 8),
        ("select t.x from t", "42703", "column t.x does not exist", 8),
        (
            "select * from nope",
            "42P01",
            "relation \"nope\" does not exist",
            15,
        ),
        (
            "select nope.a from t",
            "42P01",
            "missing FROM-clause entry for table \"nope\"",
            8,
        ),
        (
            "select id from t, u",
            "42702",
            "column reference \"id\" is ambiguous",
            8,
        ),
        (
            "select 1 from t, t",
            "42712",
            "table name \"t\" specified more than once",
            0,
        ),
        (
            "select a + b from t",
            "42883",
            "operator does not exist: integer + text",
            10,
        ),
        (
            "select nope(1)",
            "42883",
            "function nope(integer) does not exist",
            8,
        ),
        (
            "select b from t group by a",
            "42803",
            "column \"t.b\" must appear in the GROUP BY clause or be used in an aggregate function",
            8,
        ),
        (
            "select sum(a) from t where sum(a) > 0",
            "42803",
            "aggregate functions are not allowed in WHERE",
            28,
        ),
        (
            "select sum(sum(a)) from t",
            "42803",
            "aggregate function calls cannot be nested",
            12,
        ),
        (
            "select a from t order by 5",
            "42P10",
            "ORDER BY position 5 is not in select list",
            26,
        ),
        (
            "select distinct a from t order by b",
            "42P10",
            "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
            35,
        ),
        (
            "select 1 union select 1, 2",
            "42601",
            "each UNION query must have the same number of columns",
            0,
        ),
        (
            "select a from t union select b from t",
            "42804",
            "UNION types integer and text cannot be matched",
            0,
        ),
        (
            "select 'x'::int",
            "22P02",
            "invalid input syntax for type integer: \"x\"",
            8,
        ),
        (
            "select 1::date",
            "42846",
            "cannot cast type integer to date",
            8,
        ),
        (
            "select case when a then 1 end from t",
            "42804",
            "argument of CASE/WHEN must be type boolean, not type integer",
            18,
        ),
        (
            "select 1 where 1",
            "42804",
            "argument of WHERE must be type boolean, not type integer",
            16,
        ),
        (
            "insert into t (a, a) values (1, 2)",
            "42701",
            "column \"a\" specified more than once",
            19,
        ),
        (
            "insert into t (x) values (1)",
            "42703",
            "column \"x\" of relation \"t\" does not exist",
            16,
        ),
        (
            "insert into t (a) values (1, 2)",
            "42601",
            "INSERT has more expressions than target columns",
            30,
        ),
        (
            "insert into t (a, b) values (1)",
            "42601",
            "INSERT has more target columns than expressions",
            0,
        ),
        (
            "insert into t (g) values (1)",
            "428C9",
            "cannot insert a non-DEFAULT value into column \"g\"",
            27,
        ),
        (
            "insert into t (i) values (1)",
            "428C9",
            "cannot insert a non-DEFAULT value into column \"i\"",
            27,
        ),
        (
            "insert into t (a) values (now())",
            "42804",
            "column \"a\" is of type integer but expression is of type timestamp with time zone",
            27,
        ),
        (
            "update t set g = 1",
            "428C9",
            "column \"g\" can only be updated to DEFAULT",
            14,
        ),
        (
            "insert into u values (1) on conflict (a) do nothing",
            "42P10",
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
            0,
        ),
        ("select $1", "", "", 0),
        (
            "select $1 + $2",
            "42725",
            "operator is not unique: unknown + unknown",
            11,
        ),
        (
            "select row_number() from t",
            "42P20",
            "window function row_number requires an OVER clause",
            8,
        ),
        (
            "select (1, 2) = (1, 2, 3)",
            "42601",
            "unequal number of entries in row expressions",
            15,
        ),
        (
            "select (select 1, 2)",
            "42601",
            "subquery must return only one column",
            0,
        ),
        (
            "select * from t join u using (zz)",
            "42703",
            "column \"zz\" specified in USING clause does not exist in left table",
            31,
        ),
        (
            "select generate_series(1, 2) from t where generate_series(1, 2) = 1",
            "0A000",
            "set-returning functions are not allowed in WHERE",
            43,
        ),
        (
            "insert into v values (1)",
            "0A000",
            "INSERT into view \"v\" is not supported",
            0,
        ),
        (
            "select ctid from t",
            "0A000",
            "system column \"ctid\" is not supported",
            8,
        ),
        (
            "select '1'::nosuch",
            "42704",
            "type \"nosuch\" does not exist",
            13,
        ),
        (
            "select array[]",
            "42P18",
            "cannot determine type of empty array",
            0,
        ),
        (
            "with recursive r as (select 1 union all select n from r) select * from r",
            "42703",
            "column \"n\" does not exist",
            48,
        ),
    ];
    for (sql, state, message, position) in cases {
        match f.bind(sql) {
            Ok(_) => assert!(state.is_empty(), "{sql} bound"),
            Err(e) => {
                assert_eq!((e.state.code(), &*e.message), (*state, *message), "{sql}");
                if *position > 0 {
                    assert_eq!(e.position, Some(*position), "{sql}");
                }
            }
        }
    }
    let e = f.bind("select bb from t").expect_err("no such column");
    let hint = "Perhaps you meant to reference the column \"t.b\".";
    assert_eq!(e.hint.as_deref(), Some(hint));
}

#[test]
fn what_postgresql_accepts_is_bound() {
    let f = Fixture::new(DDL);
    for sql in [
        "select *, t.*, t.a + 1.5, a || 'x', 'a' || 1 from t",
        "select count(*), sum(a) filter (where b = 'x'), string_agg(b, ',' order by a desc) from t group by id having max(n) > 1 order by 1",
        "select b, a, id from t group by id",
        "select a, count(*) from t group by rollup (a, b) order by grouping(a)",
        "select a + 1 as x, sum(a) from t group by x order by x",
        "select * from t natural join u",
        "select id, t.a from t full join u using (id) where id > 1",
        "select * from t, lateral (select t.a + u.a as s from u) x",
        "select * from generate_series(1, 10) with ordinality as g(x, o), unnest(array[1,2], array['a']) as z(p, q)",
        "select generate_series(1, a), unnest(arr) from t",
        "with a as (select 1 as x), b as (select x + 1 as y from a) select * from a, b",
        "with recursive r (n) as (select 1 union all select n + 1 from r where n < 10) select sum(n) from r",
        "select rank() over (partition by a order by b), sum(a) over w, lag(a, 1, 0) over (order by id rows between 1 preceding and current row) from t window w as (order by id)",
        "select (select max(a) from u where u.id = t.id), exists (select 1 from u), a in (select a from u), a = any (arr), (a, b) in (select id, c from u) from t",
        "select case a when 1 then 'x' else b end, coalesce(a, 1.5), nullif(a, 2), greatest(a, 2, n) from t",
        "select date '2020-01-01' + 1, timestamp '2020-01-01' + interval '1' day, extract(year from ts), ts at time zone 'utc' from t",
        "select a between 1 and 2, a between symmetric 2 and 1, b like 'x%' escape '!', b is distinct from null, a is not null, (a > 1) is true from t",
        "insert into t (a, b) values (1, 'x'), (default, default) on conflict (id) do update set a = excluded.a + t.a, b = default where t.a < 5 returning *, a + 1",
        "insert into u select id, a from t",
        "insert into t default values returning id",
        "update t set a = u.a, (b, n) = ('x', 5) from u where u.id = t.id returning t.*, u.c",
        "update t set (a, b) = (select u.a, u.c from u where u.id = t.id)",
        "delete from t using u where t.id = u.id returning t.a, u.a",
        "select * from v where a = 1",
        "select id from t where id = $1 and b = $2",
        "values (1, 'a'), (2, null) order by column1 limit 1",
        "select 1 union all select 2.5 union select null order by 1 desc limit 3 offset 1",
        "select distinct on (a) a, b from t order by a, id desc",
        "select * from t for update of t skip locked",
        "select oid, relname from pg_class where relkind = 'r' and oid = 't'::regclass",
        "select tableoid from (select t.tableoid from t) x",
        "select row(1, 2), (1, 'a'), t from t",
        "select arr[1], arr[1:2], array[[1,2],[3,4]], array(select a from t) from t",
        "select current_date, current_user, now() - interval '1 day'",
        "select count(distinct a), array_agg(distinct b order by b) from t",
        "select sum((select count(*) from u where u.a = t.a)) from t",
        "select (select sum(t.a)) from t",
    ] {
        if let Err(e) = f.bind(sql) {
            panic!(
                "{sql}: {} {} at {:?} {:?}",
                e.state.code(),
                e.message,
                e.position,
                e.hint
            );
        }
    }
}

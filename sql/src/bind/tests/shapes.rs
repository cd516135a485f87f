//! Types, names and texts of results.

use super::fixture::{Fixture, NOWHERE};
use crate::bind::tree::BoundStatement;
use crate::bind::{Binder, deparse};
use crate::types::{Oid, format_type};

fn outputs(f: &Fixture, sql: &str) -> String {
    match f.bind(sql).unwrap_or_else(|e| panic!("{sql}: {e}")) {
        BoundStatement::Query(q) => q
            .output
            .iter()
            .map(|o| format!("{} {}", o.name, format_type(o.ty)))
            .collect::<Vec<_>>()
            .join(", "),
        _ => String::new(),
    }
}

#[test]
fn names_and_types_of_outputs() {
    let f = Fixture::new(
        "create table t (id int primary key, a bigint, v varchar(5), n numeric(10,2))",
    );
    for (sql, expected) in [
        (
            "select 1, 'x', null, 1.5, 3000000000",
            "?column? integer, ?column? text, ?column? text, ?column? numeric, ?column? bigint",
        ),
        (
            "select id + a, a + 1.5, v || 'x', n * 2 from t",
            "?column? bigint, ?column? numeric, ?column? text, ?column? numeric",
        ),
        (
            "select count(*), sum(id), sum(a), avg(id), max(v) from t",
            "count bigint, sum bigint, sum numeric, avg numeric, max text",
        ),
        (
            "select id::text, cast(a as numeric(5,1)), v, n from t",
            "id text, a numeric(5,1), v character varying(5), n numeric(10,2)",
        ),
        (
            "select case when true then 1 end, coalesce(1, 2.5), array[1,2], (select 5 as q), exists (select 1), row(1)",
            "case integer, coalesce numeric, array integer[], q integer, exists boolean, row record",
        ),
        (
            "select 'a'::varchar, date '2020-01-01', true, interval '1 day'",
            "varchar character varying, date date, bool boolean, interval interval",
        ),
        ("select 1 as x union select 2.5", "x numeric"),
        ("values (1, 'a')", "column1 integer, column2 text"),
        (
            "select extract(year from now()), substring('abc' from 2), trim('x'), current_date",
            "extract numeric, substring text, btrim text, current_date date",
        ),
    ] {
        assert_eq!(outputs(&f, sql), expected, "{sql}");
    }
}

#[test]
fn parameters_take_the_types_of_their_places() {
    let f = Fixture::new("create table t (id int primary key, b text, n numeric)");
    for (sql, expected) in [
        (
            "select * from t where id = $1 and b = $2",
            vec![Oid::INT4, Oid::TEXT],
        ),
        (
            "insert into t values ($1, $2, $3)",
            vec![Oid::INT4, Oid::TEXT, Oid::NUMERIC],
        ),
        ("select $1", vec![Oid::TEXT]),
        (
            "select * from t where id in ($1, $2) limit $3",
            vec![Oid::INT4, Oid::INT4, Oid::INT8],
        ),
        ("select * from t where id = any($1)", vec![Oid::INT4_ARRAY]),
        (
            "update t set n = n + $1 where id = $2",
            vec![Oid::NUMERIC, Oid::INT4],
        ),
        ("select $1::int8 + 1", vec![Oid::INT8]),
    ] {
        let parsed = crate::parse::split(sql).expect("parses");
        let cx = f.context();
        let mut binder = Binder::new(&cx);
        binder
            .statement(&parsed[0].statement)
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(binder.parameter_types().expect("known"), expected, "{sql}");
    }
}

#[test]
fn canonical_text_is_postgresqls() {
    let f = Fixture::new("");
    let cx = f.context();
    for (sql, expected) in [
        ("'x'", "'x'::text"),
        ("1 + 2", "(1 + 2)"),
        ("nextval('t_id_seq')", "nextval('t_id_seq'::regclass)"),
        ("now()", "now()"),
        ("-1", "'-1'::integer"),
        ("1.5", "1.5"),
        ("true and not false", "(true AND (NOT false))"),
        ("coalesce(null, 'a')", "COALESCE(NULL::text, 'a'::text)"),
        ("'a' || 'b'", "('a'::text || 'b'::text)"),
        ("5::text", "(5)::text"),
        ("1.5 > 1", "(1.5 > (1)::numeric)"),
        (
            "1 + 2.5::float8 > 0",
            "(((1)::double precision + (2.5)::double precision) > (0)::double precision)",
        ),
        (
            "'a'::varchar = 'b'",
            "(('a'::character varying)::text = 'b'::text)",
        ),
        ("'abc'::varchar(2)", "'abc'::character varying(2)"),
        ("coalesce(1, 2.5)", "COALESCE((1)::numeric, 2.5)"),
        ("true and 1 < 2.5", "(true AND ((1)::numeric < 2.5))"),
        (
            "case when true then 1 else 2.5 end",
            "CASE WHEN true THEN (1)::numeric ELSE 2.5 END",
        ),
    ] {
        let ast = crate::parse::expression(sql).expect("parses");
        let mut binder = Binder::new(&cx).without_folding();
        let bound = binder
            .standalone(&ast, None, "test")
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        let text = deparse(&bound, &|_| "?".into(), &NOWHERE).expect("text");
        assert_eq!(text, expected, "{sql}");
        let again = crate::parse::expression(&text).expect("parses again");
        let bound = Binder::new(&cx)
            .without_folding()
            .standalone(&again, None, "test")
            .unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(
            deparse(&bound, &|_| "?".into(), &NOWHERE).expect("text"),
            expected
        );
    }
}

#[test]
fn the_text_of_a_view_does_not_depend_on_the_search_path() {
    let f = Fixture::new("create table t (id int, \"A\" text); create table u (id int, b int)");
    let cx = f.context();
    for (sql, expected) in [
        ("select * from t", "select t.id, t.\"A\" from public.t"),
        (
            "select x.*, u.b from t x join u using (id)",
            "select x.id, x.\"A\", u.b from public.t x join public.u using (id)",
        ),
        (
            "select * from t join u using (id)",
            "select t.id, t.\"A\", u.b from public.t join public.u using (id)",
        ),
        (
            "with c as (select id from t) select * from c where id in (select id from u)",
            "with c as (select id from public.t) select c.id from c where id in (select id from public.u)",
        ),
    ] {
        let (_, text) = crate::bind::view_text(&cx, sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(text, expected);
        crate::bind::view_text(&cx, &text).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
}

//! Results of PostgreSQL 15 against ours: `testdata/*.tsv`, see the head of each file.

use super::arrow::{build_array, datum_at};
use super::datetime::Zone;
use super::kernel;
use super::oid::{Oid, PgType};
use super::registry::registry;
use super::sort_key;
use super::testing::Fixed;
use super::{Datum, compare, io};

/// `oid \t type,... \t result type \t argument ... \t = \t expected`: an argument or result is a
/// text, `\N` for NULL, `!SQLSTATE message` for an error.
fn check(name: &str, table: &str) {
    let cx = Fixed::in_zone(Zone::parse("Europe/Berlin").unwrap());
    let (mut good, mut bad) = (0, Vec::new());
    for line in table.lines().filter(|l| !l.starts_with('#')) {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        let function = registry().function(Oid(fields[0].parse().unwrap()));
        let types: Vec<Oid> = fields[1]
            .split(',')
            .filter(|t| !t.is_empty())
            .map(|t| Oid(t.parse().unwrap()))
            .collect();
        let result = Oid(fields[2].parse().unwrap());
        let expected = &fields[4 + types.len()];
        let Some(function) = function else {
            bad.push(format!("missing function: {line}"));
            continue;
        };
        let mut compute = || -> Result<String, crate::SqlError> {
            let mut args = Vec::new();
            for (text, ty) in fields[3..].iter().zip(&types) {
                args.push(if text == "\\N" {
                    Datum::Null
                } else {
                    io::input(text, PgType::new(*ty), &cx)?
                });
            }
            let value = kernel::call_row(function, &cx, &args)?;
            // the same through columns
            let columns: Vec<_> = args
                .iter()
                .zip(&types)
                .map(|(v, t)| build_array(*t, std::iter::once(v)).unwrap())
                .collect();
            let column = kernel::call(function, &cx, &columns, 1, &types, result)?;
            let again = datum_at(column.as_ref(), 0, result);
            assert!(
                compare(&value, &again).is_eq(),
                "{line}: {value:?} but {again:?}"
            );
            Ok(if value.is_null() {
                "\\N".to_owned()
            } else {
                io::to_text(&value, result, &cx)
            })
        };
        let got = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut compute)) {
            Ok(Ok(text)) => text,
            Ok(Err(e)) => format!("!{} {}", e.state.code(), e.message),
            Err(_) => "panic".to_owned(),
        };
        if got == *expected {
            good += 1;
        } else {
            bad.push(format!(
                "{}({}) expected [{expected}] got [{got}]",
                function.name,
                fields[3..3 + types.len()].join(" | ")
            ));
        }
    }
    let total = good + bad.len();
    if let Ok(path) = std::env::var("PONTOON_DIFFERENTIAL_REPORT") {
        std::fs::write(format!("{path}/{name}.txt"), bad.join("\n")).unwrap();
    }
    assert!(
        bad.is_empty(),
        "{name}: {good} of {total}; first: {:#?}",
        &bad[..bad.len().min(30)]
    );
}

fn unescape(field: &str) -> String {
    if field == "\\N" {
        return field.to_owned();
    }
    let mut out = String::new();
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, false) => out.push(c),
            _ => out.push(match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            }),
        }
    }
    out
}

/// `type \t text \t expected`: input and output of a type.
fn check_io(table: &str) {
    let cx = Fixed::in_zone(Zone::parse("Europe/Berlin").unwrap());
    let mut bad = Vec::new();
    for line in table.lines().filter(|l| !l.starts_with('#')) {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        let ty = Oid(fields[0].parse().unwrap());
        let got = match io::input(&fields[1], PgType::new(ty), &cx) {
            Ok(v) => {
                let mut key = Vec::new();
                sort_key::append(&v, ty, &mut key);
                let mut bytes = Vec::new();
                io::send(&v, ty, &mut bytes);
                match io::receive(&bytes, ty, &cx) {
                    Ok(back) => assert!(compare(&v, &back).is_eq(), "{line}: {back:?}"),
                    Err(e) => panic!("{line}: {e}"),
                }
                io::to_text(&v, ty, &cx)
            }
            Err(e) => format!("!{} {}", e.state.code(), e.message),
        };
        if got != fields[2] {
            bad.push(format!(
                "{} [{}] expected [{}] got [{got}]",
                ty.0, fields[1], fields[2]
            ));
        }
    }
    if let Ok(path) = std::env::var("PONTOON_DIFFERENTIAL_REPORT") {
        std::fs::write(format!("{path}/io.txt"), bad.join("\n")).unwrap();
    }
    assert!(
        bad.is_empty(),
        "{} differ; first: {:#?}",
        bad.len(),
        &bad[..bad.len().min(30)]
    );
}

#[test]
fn functions_give_postgresql_results() {
    check("functions", include_str!("testdata/functions.tsv"));
}

#[test]
fn operators_give_postgresql_results() {
    check("operators", include_str!("testdata/operators.tsv"));
}

#[test]
fn types_read_and_write_as_postgresql() {
    check_io(include_str!("testdata/io.tsv"));
}

#[test]
fn the_last_of_equal_values_is_the_greatest_and_the_least() {
    use super::numeric::Numeric;
    use super::registry::FunctionBody;
    for name in ["max", "min"] {
        let functions = registry().functions_named(name);
        let function = functions.iter().find(|f| f.args == [Oid::NUMERIC]).unwrap();
        let FunctionBody::Aggregate(aggregate) = &function.body else {
            panic!("{name}")
        };
        let mut state = (aggregate.start)(&[PgType::new(Oid::NUMERIC)]);
        for text in ["1.50", "1.5"] {
            state
                .update(&[Datum::Numeric(Numeric::parse(text).unwrap())])
                .unwrap();
        }
        let cx = Fixed::in_zone(Zone::UTC);
        assert_eq!(
            io::to_text(&state.finish().unwrap(), Oid::NUMERIC, &cx),
            "1.5"
        );
    }
}

#[test]
fn a_row_with_names_becomes_an_object() {
    let cx = Fixed::in_zone(Zone::UTC);
    let function = registry().functions_named("pontoon_json_row")[0];
    let names = io::input("{a,b}", PgType::new(Oid::TEXT_ARRAY), &cx).unwrap();
    let row = [names, Datum::Int4(1), Datum::text("x")];
    let json = kernel::call_row(function, &cx, &row).unwrap();
    assert_eq!(json.as_str(), Some(r#"{"a":1,"b":"x"}"#));
}

//! pg_type, pg_proc, pg_operator, pg_cast and pg_aggregate, from the registry of types.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::row::*;
use crate::catalog::desc::{CatalogSnapshot, INFORMATION_SCHEMA, PG_CATALOG, PONTOON_INTERNAL};
use crate::error::SqlError;
use crate::types::registry::{
    CastContext, CastMethod, EvalContext, Function, FunctionBody, Operator, TypeInfo, Volatility,
    registry,
};
use crate::types::{Datum, Oid};

/// Of PostgreSQL 15's pg_type: oid, input, output, receive, send, modifier in, modifier out and
/// subscript functions, storage, collation.
const TYPE_IO: &str = include_str!("type_io.tsv");

struct TypeIo {
    functions: [u32; 7],
    storage: &'static str,
    collation: u32,
}

static IO: LazyLock<HashMap<u32, TypeIo>> = LazyLock::new(|| {
    let parse = |line: &'static str| {
        let mut fields = line.split('\t');
        let oid = fields.next()?.parse().ok()?;
        let mut functions = [0; 7];
        for f in &mut functions {
            *f = fields.next()?.parse().ok()?;
        }
        let storage = fields.next()?;
        let collation = fields.next()?.parse().ok()?;
        Some((
            oid,
            TypeIo {
                functions,
                storage,
                collation,
            },
        ))
    };
    TYPE_IO.lines().filter_map(parse).collect()
});

type Rows = Result<Vec<Row>, SqlError>;

/// What pg_type says of a type.
pub(super) fn type_facts(ty: Oid) -> Option<&'static TypeInfo> {
    registry().type_info(ty)
}

/// `typstorage` of a type.
pub(super) fn storage_of(ty: Oid) -> &'static str {
    IO.get(&ty.0).map_or("p", |io| io.storage)
}

/// `typcollation` of a type.
pub(super) fn collation_of(ty: Oid) -> u32 {
    IO.get(&ty.0).map_or(0, |io| io.collation)
}

pub(super) fn pg_type(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    Ok(registry().types().map(type_row).collect())
}

fn type_row(x: &TypeInfo) -> Row {
    let io = IO.get(&x.oid.0);
    let [
        input,
        output,
        receive,
        send,
        modifier_in,
        modifier_out,
        subscript,
    ] = io.map_or([0; 7], |io| io.functions);
    vec![
        o(x.oid),
        t(x.name),
        o(PG_CATALOG),
        n(10),
        i2(x.len),
        b(x.by_value),
        t(x.kind.to_string()),
        t(x.category.to_string()),
        b(x.preferred),
        b(true),
        t(x.delimiter.to_string()),
        NONE,
        n(subscript),
        o(x.element),
        o(x.array),
        n(input),
        n(output),
        n(receive),
        n(send),
        n(modifier_in),
        n(modifier_out),
        NONE,
        t(x.align.to_string()),
        t(storage_of(x.oid)),
        b(false),
        NONE,
        i4(-1),
        i4(0),
        n(collation_of(x.oid)),
        NULL,
        NULL,
        NULL,
    ]
}

pub(super) fn pg_proc(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    Ok(registry().functions().map(function_row).collect())
}

/// The arguments of a function as pg_proc has them, the variadic array included.
pub(super) fn arguments(f: &Function) -> Vec<Oid> {
    let mut args = f.args.to_vec();
    if let Some(element) = f.variadic {
        args.push(match element {
            Oid::ANY => Oid::ANY,
            Oid::ANYELEMENT => Oid::ANYARRAY,
            other => registry()
                .type_info(other)
                .map_or(Oid::INVALID, |t| t.array),
        });
    }
    args
}

fn function_row(f: &'static Function) -> Row {
    let args = arguments(f);
    let (kind, returns_set) = match &f.body {
        FunctionBody::Scalar { .. } => ("f", false),
        FunctionBody::Aggregate(_) => ("a", false),
        FunctionBody::Window { .. } => ("w", false),
        FunctionBody::Set { .. } => ("f", true),
    };
    let (all, modes, names) = output_arguments(f, &args);
    let (schema, name) = f.qualified();
    let schema = match schema {
        Some(_) => PONTOON_INTERNAL,
        None if name.starts_with("_pg_") => INFORMATION_SCHEMA,
        None => PG_CATALOG,
    };
    vec![
        o(f.oid),
        t(name),
        o(schema),
        n(10),
        n(12),
        Datum::Float4(1.0),
        Datum::Float4(if returns_set { 1000.0 } else { 0.0 }),
        o(f.variadic.unwrap_or_default()),
        NONE,
        t(kind),
        b(false),
        b(false),
        b(f.strict),
        b(returns_set),
        t(match f.volatility {
            Volatility::Immutable => "i",
            Volatility::Stable => "s",
            Volatility::Volatile => "v",
        }),
        t("s"),
        count2(args.len()),
        i2(i16::from(f.defaults)),
        o(f.result),
        vector(Oid::OID, args.into_iter().map(o).collect()),
        all,
        modes,
        names,
        NULL,
        NULL,
        t(name),
        NULL,
        NULL,
        NULL,
        NULL,
    ]
}

/// proallargtypes, proargmodes, proargnames of a function with several output columns or with
/// VARIADIC.
fn output_arguments(f: &Function, args: &[Oid]) -> (Datum, Datum, Datum) {
    let columns = match &f.body {
        FunctionBody::Set { columns, .. } if columns.len() > 1 => *columns,
        _ => &[],
    };
    if columns.is_empty() && f.variadic.is_none() {
        return (NULL, NULL, NULL);
    }
    let inputs = args.iter().map(|a| o(*a));
    let all = inputs.chain(columns.iter().map(|(_, ty)| o(*ty))).collect();
    let last = args.len().saturating_sub(1);
    let mode = |i: usize| {
        if f.variadic.is_some() && i == last {
            "v"
        } else {
            "i"
        }
    };
    let modes = (0..args.len()).map(mode).chain(columns.iter().map(|_| "o"));
    let modes = array(Oid::CHAR, modes.map(t).collect());
    let names = args
        .iter()
        .map(|_| "")
        .chain(columns.iter().map(|(name, _)| *name));
    let names = if columns.is_empty() {
        NULL
    } else {
        array(Oid::TEXT, names.map(t).collect())
    };
    (array(Oid::OID, all), modes, names)
}

pub(super) fn pg_operator(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    Ok(registry().operators().map(operator_row).collect())
}

fn operator_row(x: &'static Operator) -> Row {
    let named = |name: Option<&'static str>, left: Oid, right: Oid| {
        let found = name.and_then(|name| {
            registry()
                .operators_named(name)
                .iter()
                .find(|c| c.left == left && c.right == right)
        });
        found.map_or(NONE, |c| o(c.oid))
    };
    let equality = x.name == "=";
    vec![
        o(x.oid),
        t(x.name),
        o(PG_CATALOG),
        n(10),
        t(if x.left == Oid::INVALID { "l" } else { "b" }),
        b(equality),
        b(equality),
        o(x.left),
        o(x.right),
        o(x.function.result),
        named(x.commutator, x.right, x.left),
        named(x.negator, x.left, x.right),
        o(x.function.oid),
        NONE,
        NONE,
    ]
}

pub(super) fn pg_cast(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let rows = registry().casts().zip(10_000u32..).map(|(c, oid)| {
        let (method, function) = match c.method {
            CastMethod::Function(f) => ("f", f.oid),
            CastMethod::Binary => ("b", Oid::INVALID),
            CastMethod::InOut => ("i", Oid::INVALID),
        };
        let context = match c.context {
            CastContext::Implicit => "i",
            CastContext::Assignment => "a",
            CastContext::Explicit => "e",
        };
        vec![
            n(oid),
            o(c.source),
            o(c.target),
            o(function),
            t(context),
            t(method),
        ]
    });
    Ok(rows.collect())
}

pub(super) fn pg_aggregate(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let aggregates = registry()
        .functions()
        .filter(|f| matches!(f.body, FunctionBody::Aggregate(_)));
    let row = |f: &'static Function| {
        let mut row = vec![o(f.oid), t("n"), i2(0)];
        row.extend(std::iter::repeat_n(NONE, 8));
        row.extend([
            b(false),
            b(false),
            t("r"),
            t("r"),
            NONE,
            NONE,
            i4(0),
            NONE,
            i4(0),
            NULL,
            NULL,
        ]);
        row
    };
    Ok(aggregates.map(row).collect())
}

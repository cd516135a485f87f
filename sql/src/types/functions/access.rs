//! Access rights: what an aclitem says. An aclitem is held as its text, `grantee=rights/grantor`,
//! where an empty grantee is PUBLIC, each right is a letter, and `*` behind one is its grant
//! option.

use crate::error::{SqlError, SqlState};
use crate::types::array::ArrayValue;
use crate::types::body::{Args, Scalar, Set, Value};
use crate::types::datum::Datum;
use crate::types::oid::Oid;
use crate::types::registry::EvalContext;

type Rows = Result<Vec<Vec<Datum>>, SqlError>;

/// Letters of rights and their names, in the order in which PostgreSQL shows them.
const RIGHTS: &[(char, &str)] = &[
    ('a', "INSERT"),
    ('r', "SELECT"),
    ('w', "UPDATE"),
    ('d', "DELETE"),
    ('D', "TRUNCATE"),
    ('x', "REFERENCES"),
    ('t', "TRIGGER"),
    ('X', "EXECUTE"),
    ('U', "USAGE"),
    ('C', "CREATE"),
    ('T', "TEMPORARY"),
    ('c', "CONNECT"),
    ('s', "SET"),
    ('A', "ALTER SYSTEM"),
];

fn describe(function: &str, arg: Datum, cx: &dyn EvalContext) -> Value {
    cx.catalog().describe(function, &[arg])
}

/// The name of a role, its number if there is none.
fn role_name(role: Oid, cx: &dyn EvalContext) -> Result<String, SqlError> {
    let name = describe("pg_get_userbyid", Datum::Oid(role), cx)?;
    Ok(match name.as_str() {
        Some(name) if !name.starts_with("unknown (OID=") => name.to_owned(),
        _ => role.0.to_string(),
    })
}

fn role_oid(name: &str, cx: &dyn EvalContext) -> Result<Oid, SqlError> {
    if let Datum::Oid(oid) = describe("to_regrole", Datum::text(name), cx)? {
        return Ok(oid);
    }
    name.parse().map(Oid).map_err(|_| {
        SqlError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("role \"{name}\" does not exist"),
        )
    })
}

/// `acldefault(kind, owner)`: the rights on an object that nobody has granted any.
fn acldefault(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let kind = a.text(0)?;
    // Of PUBLIC and of the owner.
    let (public, own) = match kind {
        "c" => ("", ""),
        "r" => ("", "arwdDxt"),
        "s" => ("", "rwU"),
        "d" => ("Tc", "CTc"),
        "f" => ("X", "X"),
        "l" | "T" => ("U", "U"),
        "L" => ("", "rw"),
        "n" => ("", "UC"),
        "p" => ("", "sA"),
        "t" => ("", "C"),
        "F" | "S" => ("", "U"),
        other => {
            return Err(SqlError::new(
                SqlState::INTERNAL_ERROR,
                format!("unrecognized objtype abbreviation: {other}"),
            ));
        }
    };
    let owner = role_name(a.oid(1)?, cx)?;
    let mut items = Vec::new();
    if !public.is_empty() {
        items.push(Datum::text(format!("={public}/{owner}")));
    }
    if !own.is_empty() {
        items.push(Datum::text(format!("{owner}={own}/{owner}")));
    }
    Ok(Datum::Array(ArrayValue::vector(Oid::ACLITEM, items).into()))
}

/// `aclexplode(acl)`: one row for each right of each item.
fn aclexplode(cx: &dyn EvalContext, a: &[Datum]) -> Rows {
    let mut rows = Vec::new();
    for item in &a.array(0)?.items {
        let Some(parts) = item.as_str().and_then(|text| {
            let (grantee, rest) = text.split_once('=')?;
            let (rights, grantor) = rest.split_once('/')?;
            Some((grantee, rights, grantor))
        }) else {
            continue;
        };
        let (grantee, rights, grantor) = parts;
        let grantor = role_oid(grantor, cx)?;
        let grantee = match grantee {
            "" => Oid::INVALID,
            name => role_oid(name, cx)?,
        };
        for (letter, name) in RIGHTS {
            let Some((_, behind)) = rights.split_once(*letter) else {
                continue;
            };
            rows.push(vec![
                Datum::Oid(grantor),
                Datum::Oid(grantee),
                Datum::text(*name),
                Datum::Bool(behind.starts_with('*')),
            ]);
        }
    }
    Ok(rows)
}

pub(super) const SCALARS: &[Scalar] = &[("acldefault_sql", acldefault)];

pub(super) const SETS: &[Set] = &[(
    "aclexplode",
    aclexplode,
    &[
        ("grantor", Oid::OID),
        ("grantee", Oid::OID),
        ("privilege_type", Oid::TEXT),
        ("is_grantable", Oid::BOOL),
    ],
)];

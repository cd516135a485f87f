//! Names of catalog objects as values: regclass and family.

use std::sync::LazyLock;

use super::datum::Datum;
use super::io::quote_identifier;
use super::oid::{Oid, PgType};
use super::registry::{EvalContext, registry};
use crate::error::{SqlError, SqlState};

/// Functions that catalog rows name and nothing calls: input and output of types and the like.
static SUPPORT: LazyLock<Vec<(Oid, &str)>> = LazyLock::new(|| {
    let row = |line: &'static str| {
        let (oid, name) = line.split_once('\t')?;
        Some((Oid(oid.parse().ok()?), name))
    };
    include_str!("rows/support.tsv")
        .lines()
        .filter_map(row)
        .collect()
});

/// Splits "schema.name" with quoted parts, folding what is not quoted.
pub(super) fn split_name(text: &str) -> Result<Vec<String>, SqlError> {
    let bad = || SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "invalid name syntax");
    let mut parts = Vec::new();
    let mut chars = text.trim().chars().peekable();
    loop {
        let mut part = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next() {
                    Some('"') if chars.peek() == Some(&'"') => {
                        chars.next();
                        part.push('"');
                    }
                    Some('"') => break,
                    Some(c) => part.push(c),
                    None => return Err(bad()),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != '.') {
                if c == '"' {
                    return Err(bad());
                }
                part.extend(c.to_lowercase());
            }
            part = part.trim().to_owned();
        }
        if part.is_empty() {
            return Err(bad());
        }
        parts.push(part);
        match chars.next() {
            None => return Ok(parts),
            Some('.') => {}
            Some(_) => return Err(bad()),
        }
    }
}

/// The relation of a possibly qualified name.
pub(super) fn relation(text: &str, cx: &dyn EvalContext) -> Result<Option<Oid>, SqlError> {
    let parts = split_name(text)?;
    Ok(match parts.as_slice() {
        [name] => cx.catalog().relation_oid(None, name),
        [schema, name] | [_, schema, name] => cx.catalog().relation_oid(Some(schema), name),
        _ => None,
    })
}

/// The type of a name as format_type prints it or pg_type has it, perhaps with "[]" or a
/// modifier.
pub(super) fn type_oid(text: &str) -> Option<Oid> {
    let mut name = text.trim();
    let mut array = false;
    while let Some(rest) = name.strip_suffix("[]") {
        array = true;
        name = rest.trim_end();
    }
    let without = match name.split_once('(') {
        Some((head, tail)) => {
            let after = tail.split_once(')').map_or("", |(_, t)| t);
            format!("{}{after}", head.trim_end())
        }
        None => name.to_owned(),
    };
    let bare = without.strip_prefix("pg_catalog.").unwrap_or(&without);
    let bare = bare
        .strip_prefix('"')
        .and_then(|b| b.strip_suffix('"'))
        .map_or_else(
            || bare.to_ascii_lowercase(),
            |quoted| {
                if quoted == "char" {
                    "\"char\"".to_owned()
                } else {
                    quoted.to_owned()
                }
            },
        );
    let oid = registry().type_named(&bare)?;
    if array {
        registry().array_of(oid)
    } else {
        Some(oid)
    }
}

/// Input of the reg types: a number, "-", or a name.
pub(super) fn input(text: &str, ty: Oid, cx: &dyn EvalContext) -> Result<Datum, SqlError> {
    if text == "-" {
        return Ok(Datum::Oid(Oid::INVALID));
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let number = text.parse::<u32>().map_err(|_| {
            SqlError::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                format!("value \"{text}\" is out of range for type oid"),
            )
        })?;
        return Ok(Datum::Oid(Oid(number)));
    }
    let missing = |state: SqlState, what: &str| {
        SqlError::new(state, format!("{what} \"{}\" does not exist", text.trim()))
    };
    let found = lookup(text, ty, cx)?;
    found.map(Datum::Oid).ok_or_else(|| match ty {
        Oid::REGCLASS => missing(SqlState::UNDEFINED_TABLE, "relation"),
        Oid::REGTYPE => missing(SqlState::UNDEFINED_OBJECT, "type"),
        Oid::REGNAMESPACE => missing(SqlState::INVALID_SCHEMA_NAME, "schema"),
        Oid::REGROLE => missing(SqlState::UNDEFINED_OBJECT, "role"),
        Oid::REGOPER | Oid::REGOPERATOR => SqlError::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("operator does not exist: {text}"),
        ),
        _ => missing(SqlState::UNDEFINED_FUNCTION, "function"),
    })
}

/// The object of a name, if there is one.
pub(super) fn lookup(text: &str, ty: Oid, cx: &dyn EvalContext) -> Result<Option<Oid>, SqlError> {
    let last = |text: &str| -> Result<String, SqlError> {
        Ok(split_name(text)?.pop().unwrap_or_default())
    };
    Ok(match ty {
        Oid::REGCLASS => relation(text, cx)?,
        Oid::REGTYPE => type_oid(text),
        Oid::REGNAMESPACE => cx.catalog().schema_oid(&last(text)?),
        Oid::REGPROC => {
            let name = last(text)?;
            let rows = registry().functions_named(&name);
            match rows {
                [one] => Some(one.oid),
                [] => SUPPORT.iter().find(|(_, n)| *n == name).map(|(o, _)| *o),
                _ => {
                    return Err(SqlError::new(
                        SqlState::AMBIGUOUS_FUNCTION,
                        format!("more than one function named \"{name}\""),
                    ));
                }
            }
        }
        Oid::REGPROCEDURE => {
            let (name, args) = text.split_once('(').unwrap_or((text, ")"));
            let args = args.trim_end().trim_end_matches(')');
            let wanted: Option<Vec<Oid>> = if args.trim().is_empty() {
                Some(Vec::new())
            } else {
                args.split(',').map(type_oid).collect()
            };
            let name = last(name)?;
            wanted.and_then(|wanted| {
                registry()
                    .functions_named(&name)
                    .iter()
                    .find(|f| f.args == wanted.as_slice())
                    .map(|f| f.oid)
            })
        }
        Oid::REGROLE => {
            match cx
                .catalog()
                .describe("to_regrole", &[Datum::text(last(text)?)])?
            {
                Datum::Oid(oid) => Some(oid),
                _ => None,
            }
        }
        _ => {
            let name = text.trim().rsplit('.').next().unwrap_or("");
            match registry().operators_named(name) {
                [one] => Some(one.oid),
                _ => None,
            }
        }
    })
}

/// Output of the reg types.
pub(super) fn output(oid: Oid, ty: Oid, cx: &dyn EvalContext, out: &mut String) {
    if oid == Oid::INVALID {
        out.push('-');
        return;
    }
    match ty {
        Oid::REGCLASS => {
            if let Some((schema, name, visible)) = cx.catalog().relation_name(oid) {
                if !visible {
                    quote_identifier(&schema, out);
                    out.push('.');
                }
                return quote_identifier(&name, out);
            }
        }
        Oid::REGTYPE => {
            if registry().type_info(oid).is_some() {
                return out.push_str(&super::format_type::bare(oid));
            }
        }
        Oid::REGNAMESPACE => {
            if let Some(name) = cx.catalog().schema_name(oid) {
                return quote_identifier(&name, out);
            }
        }
        Oid::REGPROC | Oid::REGPROCEDURE => {
            if let Some(function) = registry().functions().find(|f| f.oid == oid) {
                out.push_str(function.name);
                if ty == Oid::REGPROCEDURE {
                    let args: Vec<String> = function
                        .args
                        .iter()
                        .map(|a| super::format_type(PgType::new(*a)))
                        .collect();
                    out.push_str(&format!("({})", args.join(",")));
                }
                return;
            }
            if let Some((_, name)) = SUPPORT.iter().find(|(o, _)| *o == oid) {
                return out.push_str(name);
            }
        }
        Oid::REGROLE => {
            if let Ok(Datum::Text(name)) =
                cx.catalog().describe("pg_get_userbyid", &[Datum::Oid(oid)])
            {
                return quote_identifier(&name, out);
            }
        }
        _ => {
            if let Some(operator) = registry().operators().find(|o| o.oid == oid) {
                return out.push_str(operator.name);
            }
        }
    }
    out.push_str(itoa::Buffer::new().format(oid.0));
}

//! The functions that look objects up and print their definitions.

use super::constraints::PG_NAMESPACE;
use super::definitions::{
    check_constraint, index_column, index_definition, key_constraint, qualified, quoted,
    view_definition,
};
use super::objects::{DATABASE, DATABASE_COMMENT, PG_DATABASE};
use super::pretty::pretty;
use super::registered::arguments;
use super::relations::PG_CLASS;
use super::roles::{role_name, role_oid};
use super::row::*;
use super::tables::find;
use crate::catalog::desc::{CatalogSnapshot, IndexDesc, RelationKind, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::types::registry::{Function, FunctionBody, registry};
use crate::types::{Datum, Oid, PgType};

/// Answers a look-up by the name of the SQL function that asks. Functions of PostgreSQL that give
/// NULL for an object that does not exist give NULL here.
pub fn describe(s: &CatalogSnapshot, function: &str, args: &[Datum]) -> Result<Datum, SqlError> {
    let oid = |i: usize| match args.get(i) {
        Some(Datum::Oid(oid)) => *oid,
        Some(other) => Oid(other
            .as_i64()
            .and_then(|v| u32::try_from(v).ok())
            .unwrap_or_default()),
        None => Oid::INVALID,
    };
    let text = |i: usize| args.get(i).and_then(Datum::as_str);
    let flag = |i: usize| matches!(args.get(i), Some(Datum::Bool(true)));
    let number = |i: usize| args.get(i).and_then(Datum::as_i64).unwrap_or(0);
    Ok(match function {
        "pg_get_userbyid" => t(role_name(oid(0))),
        "to_regrole" => text(0).and_then(role_oid).map_or(NULL, o),
        "pg_get_expr" if flag(2) => text(0).map_or(NULL, |expr| t(pretty(expr))),
        "pg_get_expr" => text(0).map_or(NULL, t),
        "pg_get_indexdef" => indexdef(s, oid(0), number(1), flag(2)),
        "pg_get_constraintdef" => t_or_null(constraintdef(s, oid(0), flag(1))),
        "pg_get_viewdef" => match text(0) {
            Some(name) => t_or_null(named_view(s, name)),
            None => t_or_null(view(s, oid(0)).map(view_definition)),
        },
        "pg_get_ruledef" => t_or_null(ruledef(s, oid(0))),
        "pg_get_serial_sequence" => {
            serial_sequence(s, text(0).unwrap_or(""), text(1).unwrap_or(""))?
        }
        "obj_description" => {
            let class = text(1).map(|name| find("pg_catalog", name).map_or(0, |t| t.oid.0));
            t_or_null(comment(s, oid(0), class))
        }
        "col_description" => {
            let column = s.tables.get(&oid(0)).and_then(|x| {
                x.live_columns()
                    .map(|(_, c)| c)
                    .find(|c| i64::from(c.attnum) == number(1))
            });
            t_or_null(column.and_then(|c| c.comment.as_deref()))
        }
        "shobj_description" => {
            let database = oid(0).0 == DATABASE && text(1) == Some("pg_database");
            t_or_null(database.then_some(DATABASE_COMMENT))
        }
        "pg_get_function_arguments" | "pg_get_function_identity_arguments" => {
            t_or_null(registry().function(oid(0)).map(function_arguments))
        }
        "pg_get_function_result" => t_or_null(registry().function(oid(0)).map(function_result)),
        "pg_encoding_to_char" => t(if number(0) == 6 { "UTF8" } else { "" }),
        "pg_describe_object" => t_or_null(object_text(s, oid(0), oid(1))),
        "pg_tablespace_location" => t(""),
        "pg_relation_is_publishable" => b(table(s, oid(0)).is_some()),
        "pg_relation_is_updatable" => {
            // Bits: 4 update, 8 insert, 16 delete.
            i4(if table(s, oid(0)).is_some() { 28 } else { 0 })
        }
        "pg_column_is_updatable" => b(table(s, oid(0)).is_some() && number(1) > 0),
        // Not known, which is not zero.
        "pg_relation_size"
        | "pg_total_relation_size"
        | "pg_table_size"
        | "pg_indexes_size"
        | "pg_database_size"
        | "pg_tablespace_size"
        | "pg_relation_filepath" => NULL,
        // Kinds of objects that do not exist here.
        "pg_get_triggerdef"
        | "pg_get_partkeydef"
        | "pg_get_statisticsobjdef"
        | "pg_get_statisticsobjdef_columns"
        | "pg_get_statisticsobjdef_expressions"
        | "pg_get_functiondef"
        | "pg_get_function_sqlbody"
        | "pg_get_function_arg_default"
        | "pg_get_partition_constraintdef" => NULL,
        other => return Err(SqlError::unsupported(format!("function {other}"))),
    })
}

fn table(s: &CatalogSnapshot, oid: Oid) -> Option<&TableDesc> {
    s.tables
        .get(&oid)
        .map(AsRef::as_ref)
        .filter(|x| x.kind == RelationKind::Table)
}

fn view(s: &CatalogSnapshot, oid: Oid) -> Option<&TableDesc> {
    s.tables
        .get(&oid)
        .map(AsRef::as_ref)
        .filter(|x| x.kind == RelationKind::View)
}

fn index(s: &CatalogSnapshot, oid: Oid) -> Option<(&TableDesc, &IndexDesc)> {
    s.tables.values().find_map(|x| {
        x.indexes
            .iter()
            .find(|i| i.oid == oid)
            .map(|i| (x.as_ref(), i.as_ref()))
    })
}

/// The whole definition (column 0), `short` without the table's schema, or one column.
fn indexdef(s: &CatalogSnapshot, oid: Oid, column: i64, short: bool) -> Datum {
    let Some((table, index)) = index(s, oid) else {
        return NULL;
    };
    if column == 0 {
        let name = if short {
            quoted(&table.name)
        } else {
            qualified(&table.schema_name, &table.name)
        };
        return t(index_definition(table, index, &name));
    }
    let i = usize::try_from(column).ok().and_then(|c| c.checked_sub(1));
    // One column is printed without ordering, as PostgreSQL does.
    let name = i.and_then(|i| {
        index_column(table, index, i)?;
        let keys = index.columns.iter().map(|c| c.column);
        let position = keys.chain(index.include.iter().copied()).nth(i)?;
        table.columns.get(position)
    });
    name.map_or(NULL, |c| t(quoted(&c.name)))
}

fn constraintdef(s: &CatalogSnapshot, oid: Oid, is_pretty: bool) -> Option<String> {
    s.tables.values().find_map(|x| {
        let check = x.checks.iter().find(|c| c.oid == oid);
        let key = || x.indexes.iter().find(|i| i.constraint == Some(oid));
        check
            .map(|c| check_constraint(c, is_pretty))
            .or_else(|| key().map(|i| key_constraint(x, i)))
    })
}

fn named_view(s: &CatalogSnapshot, name: &str) -> Option<String> {
    let (schema, name) = match name.split_once('.') {
        Some((schema, name)) => (schema, name),
        None => ("public", name),
    };
    let oid = s.relation_in(s.schema_named(schema)?, name)?;
    view(s, oid).map(view_definition)
}

fn ruledef(s: &CatalogSnapshot, oid: Oid) -> Option<String> {
    let mut views = s.tables.values().filter(|x| x.kind == RelationKind::View);
    let view = views.find(|x| super::relations::derived_oid(x.oid, 0) == oid)?;
    let name = qualified(&view.schema_name, &view.name);
    Some(format!(
        "CREATE RULE \"_RETURN\" AS\n    ON SELECT TO {name} DO INSTEAD {}",
        view_definition(view)
    ))
}

/// Splits a name as a user writes it: quoted parts keep their case, others are folded.
fn name_parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => {
                if let Some(part) = parts.last_mut() {
                    if quoted {
                        part.push(c)
                    } else {
                        part.extend(c.to_lowercase())
                    }
                }
            }
        }
    }
    parts
}

fn serial_sequence(s: &CatalogSnapshot, name: &str, column: &str) -> Result<Datum, SqlError> {
    let parts = name_parts(name);
    let (schema, bare) = match parts.as_slice() {
        [schema, name] | [_, schema, name] => (schema.as_str(), name.as_str()),
        [name] => ("public", name.as_str()),
        _ => ("public", name),
    };
    let oid = s
        .schema_named(schema)
        .and_then(|schema| s.relation_in(schema, bare));
    let table = oid.and_then(|oid| s.tables.get(&oid)).ok_or_else(|| {
        SqlError::new(
            SqlState::UNDEFINED_TABLE,
            format!("relation \"{bare}\" does not exist"),
        )
    })?;
    let found = table.live_columns().find(|(_, c)| c.name == column);
    let (_, found) = found.ok_or_else(|| {
        SqlError::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{column}\" of relation \"{bare}\" does not exist"),
        )
    })?;
    let sequence = found.sequence.and_then(|oid| s.sequences.get(&oid));
    Ok(t_or_null(
        sequence.map(|q| qualified(&q.schema_name, &q.name)),
    ))
}

/// The comment of an object, of any class when none is given.
fn comment(s: &CatalogSnapshot, oid: Oid, class: Option<u32>) -> Option<String> {
    let of = |wanted: u32| class.is_none_or(|c| c == wanted);
    let relation = || {
        let table = s.tables.get(&oid).and_then(|x| x.comment.clone());
        let sequence = || s.sequences.get(&oid).and_then(|x| x.comment.clone());
        table
            .or_else(sequence)
            .or_else(|| index(s, oid).and_then(|(_, i)| i.comment.clone()))
    };
    let schema = || s.schemas.get(&oid).and_then(|x| x.comment.clone());
    let fixed = || match oid.0 {
        2 => Some("heap table access method".to_owned()),
        403 => Some("b-tree index access method".to_owned()),
        _ => None,
    };
    of(PG_CLASS)
        .then(relation)
        .flatten()
        .or_else(|| of(PG_NAMESPACE).then(schema).flatten())
        .or_else(|| of(2601).then(fixed).flatten())
}

fn type_text(ty: Oid) -> String {
    crate::types::format_type(PgType::new(ty))
}

fn function_arguments(f: &'static Function) -> String {
    let args = arguments(f);
    let last = args.len().saturating_sub(1);
    let words = args.iter().enumerate().map(|(i, ty)| {
        let variadic = f.variadic.is_some() && i == last;
        format!(
            "{}{}",
            if variadic { "VARIADIC " } else { "" },
            type_text(*ty)
        )
    });
    let mut words: Vec<String> = words.collect();
    if let FunctionBody::Set { columns, .. } = &f.body
        && columns.len() > 1
    {
        words.extend(
            columns
                .iter()
                .map(|(name, ty)| format!("OUT {} {}", quoted(name), type_text(*ty))),
        );
    }
    words.join(", ")
}

fn function_result(f: &'static Function) -> String {
    match &f.body {
        FunctionBody::Set { columns, .. } if columns.len() > 1 => "SETOF record".to_owned(),
        FunctionBody::Set { .. } => format!("SETOF {}", type_text(f.result)),
        _ => type_text(f.result),
    }
}

fn object_text(s: &CatalogSnapshot, class: Oid, oid: Oid) -> Option<String> {
    match class.0 {
        PG_CLASS => {
            if let Some(x) = s.tables.get(&oid) {
                let kind = if x.kind == RelationKind::View {
                    "view"
                } else {
                    "table"
                };
                return Some(format!("{kind} {}", quoted(&x.name)));
            }
            if let Some(q) = s.sequences.get(&oid) {
                return Some(format!("sequence {}", quoted(&q.name)));
            }
            index(s, oid).map(|(_, i)| format!("index {}", quoted(&i.name)))
        }
        PG_NAMESPACE => s
            .schemas
            .get(&oid)
            .map(|x| format!("schema {}", quoted(&x.name))),
        PG_DATABASE => (oid.0 == DATABASE).then(|| "database postgres".to_owned()),
        _ => None,
    }
}

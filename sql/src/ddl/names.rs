//! Names: looking relations up along the search path as PostgreSQL does, and choosing the names of
//! constraints, indexes and sequences that nobody named.

use sqlparser::ast::{Ident, ObjectName};

use crate::catalog::desc::{CatalogSnapshot, Relation, TableDesc};
use crate::error::{SqlError, SqlState};
use crate::parse::statement::Name;
use crate::types::Oid;

use super::change::{Change, check_user_schema};

/// Longest identifier in bytes.
const NAME_BYTES_MAX: usize = 63;

/// The parts of a name.
pub(crate) fn parts(name: &ObjectName) -> Vec<String> {
    name.0
        .iter()
        .map(|p| {
            p.as_ident()
                .map_or_else(|| p.to_string(), |i| i.value.clone())
        })
        .collect()
}

/// Position of a name in the statement.
pub(crate) fn position(name: &ObjectName) -> usize {
    name.0
        .first()
        .and_then(|p| p.as_ident())
        .map_or(0, ident_position)
}

/// Position of an identifier in the statement.
pub(crate) fn ident_position(ident: &Ident) -> usize {
    usize::try_from(ident.span.start.line).unwrap_or(0)
}

/// Schema (if written) and name.
pub(crate) fn split(name: &ObjectName) -> Result<(Option<String>, String), SqlError> {
    let mut parts = parts(name);
    let (Some(last), rest) = (parts.pop(), &parts) else {
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "improper relation name",
        ));
    };
    match rest.as_slice() {
        [] => Ok((None, last)),
        [schema] => Ok((Some(schema.clone()), last)),
        [database, schema] if database == "postgres" => Ok((Some(schema.clone()), last)),
        [database, schema] => Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "cross-database references are not implemented: \"{database}.{schema}.{last}\""
            ),
        )),
        _ => Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!(
                "improper relation name (too many dotted names): {}",
                parts.join(".")
            ),
        )),
    }
}

/// The schemas that exist of a search path.
pub(crate) fn path_schemas<'a>(
    catalog: &'a CatalogSnapshot,
    search_path: &'a [String],
) -> impl Iterator<Item = Oid> + 'a {
    search_path
        .iter()
        .filter_map(|name| catalog.schema_named(if name == "$user" { "postgres" } else { name }))
}

/// The relation of that name; `None` if it (or its schema) does not exist.
pub(crate) fn find(
    catalog: &CatalogSnapshot,
    search_path: &[String],
    schema: Option<&str>,
    name: &str,
) -> Option<Relation> {
    let oid = match schema {
        Some(schema) => catalog.relation_in(catalog.schema_named(schema)?, name)?,
        None => path_schemas(catalog, search_path).find_map(|s| catalog.relation_in(s, name))?,
    };
    catalog.relation(oid)
}

/// `42P01` (or `3F000` for the schema) in PostgreSQL's words.
pub(crate) fn missing(
    catalog: &CatalogSnapshot,
    what: &str,
    schema: Option<&str>,
    name: &str,
) -> SqlError {
    let shown = match schema {
        Some(schema) if catalog.schema_named(schema).is_none() => {
            return SqlError::new(
                SqlState::INVALID_SCHEMA_NAME,
                format!("schema \"{schema}\" does not exist"),
            );
        }
        Some(schema) => format!("{schema}.{name}"),
        None => name.to_owned(),
    };
    SqlError::new(
        SqlState::UNDEFINED_TABLE,
        format!("{what} \"{shown}\" does not exist"),
    )
}

/// The table of that name.
pub(crate) fn table(
    catalog: &CatalogSnapshot,
    search_path: &[String],
    name: &Name,
) -> Result<std::sync::Arc<TableDesc>, SqlError> {
    let (schema, relation) = split(name)?;
    match find(catalog, search_path, schema.as_deref(), &relation) {
        Some(Relation::Table(table)) => Ok(table),
        Some(other) => Err(SqlError::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not a table", other.name()),
        )),
        None => Err(missing(catalog, "relation", schema.as_deref(), &relation).at(position(name))),
    }
}

/// Where a new relation goes: number and name of the schema, its own name.
pub(crate) fn creation(
    catalog: &CatalogSnapshot,
    search_path: &[String],
    name: &Name,
) -> Result<(Oid, String, String), SqlError> {
    let (schema, relation) = split(name)?;
    let oid = match &schema {
        Some(schema) => catalog.schema_named(schema).ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_SCHEMA_NAME,
                format!("schema \"{schema}\" does not exist"),
            )
            .at(position(name))
        })?,
        None => path_schemas(catalog, search_path).next().ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_SCHEMA_NAME,
                "no schema has been selected to create in",
            )
            .at(position(name))
        })?,
    };
    let schema_name = catalog
        .schemas
        .get(&oid)
        .map(|s| s.name.clone())
        .unwrap_or_default();
    check_user_schema(oid, &schema_name, &relation)?;
    Ok((oid, schema_name, relation))
}

/// `table_column_label`, shortened to the limit of names like PostgreSQL's makeObjectName.
pub(crate) fn object_name(table: &str, column: Option<&str>, label: &str) -> String {
    let clip = |s: &str, n: usize| {
        let mut end = n.min(s.len());
        while !s.is_char_boundary(end) {
            end -= 1;
        }
        s.get(..end).unwrap_or_default().to_owned()
    };
    let overhead = 1 + label.len() + usize::from(column.is_some());
    let room = NAME_BYTES_MAX.saturating_sub(overhead);
    let (mut a, mut b) = (table.len(), column.map_or(0, str::len));
    while a + b > room {
        if a > b { a -= 1 } else { b -= 1 }
    }
    match column {
        Some(column) => format!("{}_{}_{label}", clip(table, a), clip(column, b)),
        None => format!("{}_{label}", clip(table, a)),
    }
}

/// The first of `t_c_label`, `t_c_label1`, ... that is not taken.
pub(crate) fn choose(
    table: &str,
    column: Option<&str>,
    label: &str,
    taken: impl Fn(&str) -> bool,
) -> String {
    let mut name = object_name(table, column, label);
    let mut pass = 0_u32;
    while taken(&name) {
        pass += 1;
        name = object_name(table, column, &format!("{label}{pass}"));
    }
    name
}

/// A free name for a relation in `schema`; `also` are names that the same statement takes.
pub(crate) fn choose_relation(
    change: &Change,
    schema: Oid,
    table: &str,
    column: Option<&str>,
    label: &str,
    also: &[String],
) -> String {
    choose(table, column, label, |name| {
        change.catalog().relation_in(schema, name).is_some() || also.iter().any(|a| a == name)
    })
}

/// Column names joined for the name of an index, as PostgreSQL joins them.
pub(crate) fn index_columns(columns: &[&str]) -> String {
    let mut out = String::new();
    for column in columns {
        if !out.is_empty() {
            out.push('_');
        }
        out.push_str(column);
        if out.len() >= NAME_BYTES_MAX {
            break;
        }
    }
    out
}

/// All names of constraints of a table.
pub(crate) fn constraint_names(table: &TableDesc) -> Vec<&str> {
    table
        .checks
        .iter()
        .map(|c| c.name.as_str())
        .chain(
            table
                .indexes
                .iter()
                .filter(|i| i.constraint.is_some())
                .map(|i| i.name.as_str()),
        )
        .collect()
}

/// A possibly qualified name for internal statements.
pub(crate) fn quoted(schema: &str, name: &str) -> String {
    format!("{}.{}", quote(schema), quote(name))
}

/// An identifier for internal statements.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_and_shortened() {
        assert_eq!(choose("t", Some("a"), "key", |_| false), "t_a_key");
        assert_eq!(
            choose("t", Some("a"), "key", |n| n == "t_a_key"),
            "t_a_key1"
        );
        assert_eq!(choose("t", None, "pkey", |n| n == "t_pkey"), "t_pkey1");
        let long = "x".repeat(63);
        let name = object_name(&long, Some("column"), "seq");
        assert_eq!(name.len(), 63);
        assert!(name.ends_with("_column_seq"), "{name}");
    }
}

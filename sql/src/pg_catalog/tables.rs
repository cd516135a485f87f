//! All computed tables: columns from `columns.tsv`, rows from the functions of this module.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::row::Row;
use super::{
    cluster, constraints, information_schema, objects, registered, relations, roles, session_views,
};
use crate::catalog::desc::CatalogSnapshot;
use crate::catalog::virtual_tables::{OfCatalog as RowsFn, Rows, VirtualTable};
use crate::error::SqlError;
use crate::types::Oid;
use crate::types::registry::EvalContext;

/// One line a table: p or i (the schema; c is pontoon_internal), name, oid, relkind; a tab;
/// `name:type` of each column.
const COLUMNS: &str = include_str!("columns.tsv");

/// Every computed table.
pub static TABLES: LazyLock<Vec<VirtualTable>> = LazyLock::new(|| {
    let lines = COLUMNS.lines().chain(cluster::COLUMNS.lines());
    lines.filter_map(parse).collect()
});

static BY_NAME: LazyLock<HashMap<(&'static str, &'static str), &'static VirtualTable>> =
    LazyLock::new(|| TABLES.iter().map(|t| ((t.schema, t.name), t)).collect());

/// The computed table of that name.
pub fn find(schema: &str, name: &str) -> Option<&'static VirtualTable> {
    BY_NAME.get(&(schema, name)).copied()
}

fn parse(line: &'static str) -> Option<VirtualTable> {
    let (head, columns) = line.split_once('\t')?;
    let mut head = head.split(' ');
    let schema = match head.next()? {
        "p" => "pg_catalog",
        "c" => "pontoon_internal",
        _ => "information_schema",
    };
    let name = head.next()?;
    let oid = Oid(head.next()?.parse().ok()?);
    let kind = head.next()?.chars().next()?;
    let columns: Vec<(&'static str, Oid)> = columns
        .split(' ')
        .filter_map(|c| c.split_once(':'))
        .map(|(name, ty)| (name, column_type(ty)))
        .collect();
    Some(VirtualTable {
        oid,
        schema,
        name,
        kind,
        columns: columns.leak(),
        rows: match schema {
            "pontoon_internal" => Rows::Cluster(cluster::rows(name)?),
            _ => Rows::Catalog(rows(schema, name)),
        },
    })
}

/// Types that Pontoon has not are shown as text; their columns are always NULL or empty.
fn column_type(name: &str) -> Oid {
    match name {
        "bool" => Oid::BOOL,
        "bytea" => Oid::BYTEA,
        "char" => Oid::CHAR,
        "name" => Oid::NAME,
        "int8" => Oid::INT8,
        "int2" => Oid::INT2,
        "int2vector" => Oid::INT2VECTOR,
        "int4" => Oid::INT4,
        "regproc" => Oid::REGPROC,
        "oid" => Oid::OID,
        "xid" => Oid::XID,
        "oidvector" => Oid::OIDVECTOR,
        "pg_node_tree" => Oid::PG_NODE_TREE,
        "float4" => Oid::FLOAT4,
        "float8" => Oid::FLOAT8,
        "varchar" => Oid::VARCHAR,
        "timestamptz" => Oid::TIMESTAMPTZ,
        "interval" => Oid::INTERVAL,
        "numeric" => Oid::NUMERIC,
        "regtype" => Oid::REGTYPE,
        "_bool" => Oid::BOOL_ARRAY,
        "_char" => Oid::CHAR_ARRAY,
        "_name" => Oid::NAME_ARRAY,
        "_int2" => Oid::INT2_ARRAY,
        "_int8" => Oid::INT8_ARRAY,
        "_text" => Oid::TEXT_ARRAY,
        "_oid" => Oid::OID_ARRAY,
        "_float4" => Oid::FLOAT4_ARRAY,
        "_float8" => Oid::FLOAT8_ARRAY,
        "_regtype" => Oid::REGTYPE_ARRAY,
        "_aclitem" => Oid::ACLITEM_ARRAY,
        _ => Oid::TEXT,
    }
}

fn empty(_: &CatalogSnapshot, _: &dyn EvalContext) -> Result<Vec<Row>, SqlError> {
    Ok(Vec::new())
}

#[expect(clippy::too_many_lines, reason = "a flat table of names")]
fn rows(schema: &str, name: &str) -> RowsFn {
    if schema == "information_schema" {
        return information_schema::rows(name).unwrap_or(empty);
    }
    match name {
        "pg_class" => relations::pg_class,
        "pg_attribute" => relations::pg_attribute,
        "pg_attrdef" => relations::pg_attrdef,
        "pg_index" => relations::pg_index,
        "pg_sequence" => relations::pg_sequence,
        "pg_rewrite" => relations::pg_rewrite,
        "pg_tables" => relations::pg_tables,
        "pg_views" => relations::pg_views,
        "pg_indexes" => relations::pg_indexes,
        "pg_sequences" => relations::pg_sequences,
        "pg_stat_user_tables" | "pg_stat_all_tables" => relations::pg_stat_tables,
        "pg_stat_user_indexes" | "pg_stat_all_indexes" => relations::pg_stat_indexes,
        "pg_constraint" => constraints::pg_constraint,
        "pg_depend" => constraints::pg_depend,
        "pg_description" => objects::pg_description,
        "pg_shdescription" => objects::pg_shdescription,
        "pg_namespace" => objects::pg_namespace,
        "pg_database" => objects::pg_database,
        "pg_tablespace" => objects::pg_tablespace,
        "pg_am" => objects::pg_am,
        "pg_collation" => objects::pg_collation,
        "pg_language" => objects::pg_language,
        "pg_opclass" => objects::pg_opclass,
        "pg_opfamily" => objects::pg_opfamily,
        "pg_authid" => roles::pg_authid,
        "pg_roles" => roles::pg_roles,
        "pg_user" => roles::pg_user,
        "pg_shadow" => roles::pg_shadow,
        "pg_group" => roles::pg_group,
        "pg_auth_members" => roles::pg_auth_members,
        "pg_type" => registered::pg_type,
        "pg_proc" => registered::pg_proc,
        "pg_operator" => registered::pg_operator,
        "pg_cast" => registered::pg_cast,
        "pg_aggregate" => registered::pg_aggregate,
        "pg_settings" => session_views::pg_settings,
        "pg_stat_activity" => session_views::pg_stat_activity,
        "pg_stat_database" => session_views::pg_stat_database,
        "pg_timezone_names" => session_views::pg_timezone_names,
        _ => empty,
    }
}

//! Roles: the superuser and PostgreSQL's predefined ones. There are no others yet.

use super::row::*;
use crate::catalog::desc::CatalogSnapshot;
use crate::error::SqlError;
use crate::types::registry::EvalContext;
use crate::types::{Datum, Oid};

/// Number and name.
const ROLES: &[(u32, &str)] = &[
    (10, "postgres"),
    (6171, "pg_database_owner"),
    (6181, "pg_read_all_data"),
    (6182, "pg_write_all_data"),
    (3373, "pg_monitor"),
    (3374, "pg_read_all_settings"),
    (3375, "pg_read_all_stats"),
    (3377, "pg_stat_scan_tables"),
    (4569, "pg_read_server_files"),
    (4570, "pg_write_server_files"),
    (4571, "pg_execute_server_program"),
    (4200, "pg_signal_backend"),
    (4544, "pg_checkpoint"),
];

type Rows = Result<Vec<Row>, SqlError>;

/// Name of a role; PostgreSQL's text for one that does not exist.
pub(super) fn role_name(oid: Oid) -> String {
    let found = ROLES.iter().find(|(n, _)| *n == oid.0);
    found.map_or_else(
        || format!("unknown (OID={})", oid.0),
        |(_, name)| (*name).to_owned(),
    )
}

/// Number of a role.
pub(super) fn role_oid(name: &str) -> Option<Oid> {
    ROLES
        .iter()
        .find(|(_, n)| *n == name)
        .map(|(oid, _)| Oid(*oid))
}

/// superuser, inherit, create role, create database, log in, replication, bypass row security.
fn rights(oid: u32) -> [Datum; 7] {
    let all = oid == 10;
    [b(all), b(true), b(all), b(all), b(all), b(all), b(all)]
}

pub(super) fn pg_authid(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |&(oid, name): &(u32, &str)| {
        let mut row = vec![n(oid), t(name)];
        row.extend(rights(oid));
        row.extend([i4(-1), NULL, NULL]);
        row
    };
    Ok(ROLES.iter().map(row).collect())
}

pub(super) fn pg_roles(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |&(oid, name): &(u32, &str)| {
        let [
            superuser,
            inherit,
            role,
            database,
            login,
            replication,
            bypass,
        ] = rights(oid);
        vec![
            t(name),
            superuser,
            inherit,
            role,
            database,
            login,
            replication,
            i4(-1),
            t("********"),
            NULL,
            bypass,
            NULL,
            n(oid),
        ]
    };
    Ok(ROLES.iter().map(row).collect())
}

fn user_row(password: Datum) -> Row {
    vec![
        t("postgres"),
        n(10),
        b(true),
        b(true),
        b(true),
        b(true),
        password,
        NULL,
        NULL,
    ]
}

pub(super) fn pg_user(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    Ok(vec![user_row(t("********"))])
}

pub(super) fn pg_shadow(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    Ok(vec![user_row(NULL)])
}

pub(super) fn pg_group(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let groups = ROLES.iter().filter(|(oid, _)| *oid != 10);
    Ok(groups
        .map(|&(oid, name)| {
            let members = if matches!(oid, 3374 | 3375 | 3377) {
                vec![n(3373)]
            } else {
                vec![]
            };
            vec![t(name), n(oid), array(Oid::OID, members)]
        })
        .collect())
}

pub(super) fn pg_auth_members(_: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    Ok([3374, 3375, 3377]
        .map(|role| vec![n(role), n(3373), n(10), b(false)])
        .to_vec())
}

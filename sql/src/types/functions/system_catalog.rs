//! Functions that describe catalog objects: answered by the catalog of the session, under the
//! name of the SQL function.

use crate::types::body::{Args, Scalar, Value};
use crate::types::datum::Datum;
use crate::types::oid::Oid;
use crate::types::regclass;
use crate::types::registry::EvalContext;

macro_rules! described {
    ($($body:ident $name:literal;)*) => {$(
        fn $body(cx: &dyn EvalContext, a: &[Datum]) -> Value {
            cx.catalog().describe($name, a)
        }
    )*};
}

described! {
    constraintdef "pg_get_constraintdef";
    expr "pg_get_expr";
    viewdef "pg_get_viewdef";
    ruledef "pg_get_ruledef";
    triggerdef "pg_get_triggerdef";
    userbyid "pg_get_userbyid";
    functiondef "pg_get_functiondef";
    function_arguments "pg_get_function_arguments";
    function_identity "pg_get_function_identity_arguments";
    function_result "pg_get_function_result";
    function_default "pg_get_function_arg_default";
    function_sqlbody "pg_get_function_sqlbody";
    serial_sequence "pg_get_serial_sequence";
    partkeydef "pg_get_partkeydef";
    partition_constraint "pg_get_partition_constraintdef";
    statistics "pg_get_statisticsobjdef";
    statistics_columns "pg_get_statisticsobjdef_columns";
    replica_index "pg_get_replica_identity_index";
    obj_description "obj_description";
    col_description "col_description";
    shobj_description "shobj_description";
    relation_size "pg_relation_size";
    total_size "pg_total_relation_size";
    table_size "pg_table_size";
    indexes_size "pg_indexes_size";
    database_size "pg_database_size";
    tablespace_size "pg_tablespace_size";
    tablespace_location "pg_tablespace_location";
    describe_object "pg_describe_object";
    filenode "pg_relation_filenode";
    filepath "pg_relation_filepath";
    relation_updatable "pg_relation_is_updatable";
    column_updatable "pg_column_is_updatable";
    publishable "pg_relation_is_publishable";
    index_property "pg_index_has_property";
    index_column_property "pg_index_column_has_property";
    indexam_property "pg_indexam_has_property";
    sequence_last "pg_sequence_last_value";
    sequence_parameters "pg_sequence_parameters";
    postmaster_start "pg_postmaster_start_time";
    xact_id "txid_current";
    xact_id_assigned "txid_current_if_assigned";
    cancel "pg_cancel_backend";
    terminate "pg_terminate_backend";
    notify "pg_notify";
    blocking_pids "pg_blocking_pids";
    current_query "current_query";
    collation_for "pg_collation_for";
    advisory_lock "pg_advisory_lock";
    advisory_unlock "pg_advisory_unlock";
    advisory_unlock_all "pg_advisory_unlock_all";
    try_advisory_lock "pg_try_advisory_lock";
    advisory_xact_lock "pg_advisory_xact_lock";
    try_advisory_xact_lock "pg_try_advisory_xact_lock";
    partition_root "pg_partition_root";
}

/// The pretty form leaves out a schema that need not be named.
fn indexdef(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    let pretty = matches!(a.datum(2), Datum::Bool(true));
    let visible = cx
        .catalog()
        .relation_name(a.oid(0)?)
        .is_some_and(|(_, _, visible)| visible);
    let mut args = a.to_vec();
    if let Some(short) = args.get_mut(2) {
        *short = Datum::Bool(pretty && visible);
    }
    cx.catalog().describe("pg_get_indexdef", &args)
}

fn table_is_visible(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    Ok(match cx.catalog().relation_name(a.oid(0)?) {
        Some((_, _, visible)) => Datum::Bool(visible),
        None => Datum::Null,
    })
}
fn yes(_: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Bool(true))
}
/// Objects of other kinds live in pg_catalog, which is always visible.
fn is_visible(_: &dyn EvalContext, _: &[Datum]) -> Value {
    Ok(Datum::Bool(true))
}

macro_rules! named {
    ($($body:ident $ty:ident;)*) => {$(
        fn $body(cx: &dyn EvalContext, a: &[Datum]) -> Value {
            Ok(regclass::lookup(a.text(0)?, Oid::$ty, cx)?.map_or(Datum::Null, Datum::Oid))
        }
    )*};
}

named! {
    to_regclass REGCLASS;
    to_regtype REGTYPE;
    to_regnamespace REGNAMESPACE;
    to_regrole REGROLE;
    to_regproc REGPROC;
    to_regprocedure REGPROCEDURE;
    to_regoper REGOPER;
    to_regoperator REGOPERATOR;
}

/// The argument types of an oidvector, separated by commas.
fn oidvectortypes(_: &dyn EvalContext, a: &[Datum]) -> Value {
    let names: Vec<String> = a
        .array(0)?
        .items
        .iter()
        .filter_map(|v| match v {
            Datum::Oid(oid) => Some(crate::types::format_type::bare(*oid)),
            _ => None,
        })
        .collect();
    Ok(Datum::text(names.join(", ")))
}

pub(super) const SCALARS: &[Scalar] = &[
    ("pg_get_indexdef", indexdef),
    ("pg_get_indexdef_ext", indexdef),
    ("pg_get_constraintdef", constraintdef),
    ("pg_get_constraintdef_ext", constraintdef),
    ("pg_get_expr", expr),
    ("pg_get_expr_ext", expr),
    ("pg_get_viewdef", viewdef),
    ("pg_get_viewdef_ext", viewdef),
    ("pg_get_viewdef_wrap", viewdef),
    ("pg_get_viewdef_name", viewdef),
    ("pg_get_viewdef_name_ext", viewdef),
    ("pg_get_ruledef", ruledef),
    ("pg_get_ruledef_ext", ruledef),
    ("pg_get_triggerdef", triggerdef),
    ("pg_get_triggerdef_ext", triggerdef),
    ("pg_get_userbyid", userbyid),
    ("pg_get_functiondef", functiondef),
    ("pg_get_function_arguments", function_arguments),
    ("pg_get_function_identity_arguments", function_identity),
    ("pg_get_function_result", function_result),
    ("pg_get_function_arg_default", function_default),
    ("pg_get_function_sqlbody", function_sqlbody),
    ("pg_get_serial_sequence", serial_sequence),
    ("pg_get_partkeydef", partkeydef),
    ("pg_get_partition_constraintdef", partition_constraint),
    ("pg_get_statisticsobjdef", statistics),
    ("pg_get_statisticsobjdef_columns", statistics_columns),
    ("pg_get_replica_identity_index", replica_index),
    ("sql_1215", obj_description),
    ("sql_1348", obj_description),
    ("sql_1216", col_description),
    ("sql_1993", shobj_description),
    ("pg_relation_size", relation_size),
    ("sql_2325", relation_size),
    ("pg_total_relation_size", total_size),
    ("pg_table_size", table_size),
    ("pg_indexes_size", indexes_size),
    ("pg_database_size_oid", database_size),
    ("pg_database_size_name", database_size),
    ("pg_tablespace_size_oid", tablespace_size),
    ("pg_tablespace_size_name", tablespace_size),
    ("pg_tablespace_location", tablespace_location),
    ("pg_describe_object", describe_object),
    ("pg_relation_filenode", filenode),
    ("pg_relation_filepath", filepath),
    ("pg_relation_is_updatable", relation_updatable),
    ("pg_column_is_updatable", column_updatable),
    ("pg_relation_is_publishable", publishable),
    ("pg_index_has_property", index_property),
    ("pg_index_column_has_property", index_column_property),
    ("pg_indexam_has_property", indexam_property),
    ("pg_sequence_last_value", sequence_last),
    ("pg_sequence_parameters", sequence_parameters),
    ("pg_postmaster_start_time", postmaster_start),
    ("pg_current_xact_id", xact_id),
    ("pg_current_xact_id_if_assigned", xact_id_assigned),
    ("pg_cancel_backend", cancel),
    ("pg_terminate_backend", terminate),
    ("pg_notify", notify),
    ("pg_blocking_pids", blocking_pids),
    ("current_query", current_query),
    ("pg_collation_for", collation_for),
    ("pg_advisory_lock_int8", advisory_lock),
    ("pg_advisory_lock_int4", advisory_lock),
    ("pg_advisory_unlock_int8", advisory_unlock),
    ("pg_advisory_unlock_int4", advisory_unlock),
    ("pg_advisory_unlock_all", advisory_unlock_all),
    ("pg_try_advisory_lock_int8", try_advisory_lock),
    ("pg_try_advisory_lock_int4", try_advisory_lock),
    ("pg_advisory_xact_lock_int8", advisory_xact_lock),
    ("pg_advisory_xact_lock_int4", advisory_xact_lock),
    ("pg_try_advisory_xact_lock_int8", try_advisory_xact_lock),
    ("pg_try_advisory_xact_lock_int4", try_advisory_xact_lock),
    ("pg_partition_root", partition_root),
    ("pg_table_is_visible", table_is_visible),
    ("pg_type_is_visible", is_visible),
    ("pg_function_is_visible", is_visible),
    ("pg_operator_is_visible", is_visible),
    ("pg_opclass_is_visible", is_visible),
    ("pg_opfamily_is_visible", is_visible),
    ("pg_conversion_is_visible", is_visible),
    ("pg_collation_is_visible", is_visible),
    ("pg_ts_config_is_visible", is_visible),
    ("pg_ts_dict_is_visible", is_visible),
    ("pg_ts_parser_is_visible", is_visible),
    ("pg_ts_template_is_visible", is_visible),
    ("pg_statistics_obj_is_visible", is_visible),
    ("to_regclass", to_regclass),
    ("to_regtype", to_regtype),
    ("to_regnamespace", to_regnamespace),
    ("to_regrole", to_regrole),
    ("to_regproc", to_regproc),
    ("to_regprocedure", to_regprocedure),
    ("to_regoper", to_regoper),
    ("to_regoperator", to_regoperator),
    ("oidvectortypes", oidvectortypes),
];

/// Whether a routine only asks for a privilege: there is one role and it has them all.
pub(super) fn asks_privilege(source: &str) -> bool {
    (source.starts_with("has_") && source.contains("_privilege_"))
        || source.starts_with("pg_has_role_")
}

/// Body of the routines of [`asks_privilege`].
pub(super) fn privilege(cx: &dyn EvalContext, a: &[Datum]) -> Value {
    yes(cx, a)
}

//! The functions of pontoon_internal. What they ask the cluster is asked by the executor.

use crate::types::Oid;
use crate::types::registry::{ClusterCall, SetBody};

/// Names and types of columns.
type Columns = &'static [(&'static str, Oid)];

const WATCH: Columns = &[
    ("revision", Oid::INT8),
    ("kind", Oid::TEXT),
    ("what", Oid::TEXT),
    ("id", Oid::TEXT),
    ("value", Oid::JSONB),
    ("old", Oid::JSONB),
];

/// The body of a routine, with the columns of its result.
pub(in crate::types) fn cluster(source: &str) -> Option<(SetBody, Columns)> {
    let (call, columns) = match source {
        "pontoon_watch" => (ClusterCall::Watch, WATCH),
        "pontoon_revision" => (ClusterCall::Revision, &[("revision", Oid::INT8)] as Columns),
        _ => return None,
    };
    Some((SetBody::Cluster(call), columns))
}

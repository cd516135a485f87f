//! The cluster as text, for people and for `pontoon node ls`.

use std::fmt::Write;

use pontoon_kv::Db;
use pontoon_kv::cluster::{NodeState, NodeStatus, RangeReport, View};
use pontoon_kv::db::Node;

use crate::rpc::{ClassStats, Network};

/// What this node knows of the cluster, and the ranges that it leads.
pub(crate) fn page(db: &Db) -> String {
    let node = db.node();
    format!(
        "{}\nRanges that {} leads\n\n{}",
        nodes(&node.view()),
        node.id(),
        ranges(&node.report().leads)
    )
}

/// The nodes as a table.
pub(crate) fn nodes(view: &View) -> String {
    let head = [
        "node", "address", "sql", "roles", "state", "replicas", "leads", "data", "free", "locality",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    // Those that have left are known only in order to be refused.
    let here = |status: &&NodeStatus| status.row.state != NodeState::Gone;
    for status in view.nodes.iter().filter(here) {
        rows.push(row(status, view.coordinator == status.row.place.node));
    }
    table(&rows)
}

/// Whether a node is to be rid of replicas that it holds, as it does not hold data any more.
fn gives_up(status: &NodeStatus) -> bool {
    !status.row.roles.data && status.replicas > 0
}

/// What nodes that do not hold data any more have left of it, a line each.
pub(crate) fn given_up(view: &View) -> String {
    let nodes = view.nodes.iter().filter(|status| gives_up(status));
    let lines = nodes.map(|status| {
        let (node, left) = (status.row.place.node, status.replicas);
        format!("\n{node} has no role data: {left} replicas are to be moved to other nodes\n")
    });
    lines.collect()
}

/// Ranges as a table.
pub(crate) fn ranges(ranges: &[RangeReport]) -> String {
    let head = [
        "range", "from", "to", "leader", "members", "behind", "bytes",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for range in ranges {
        let voters = range.membership.voters();
        let members = range.membership.members.iter().map(|(replica, place)| {
            let votes = voters.contains(replica);
            format!("{}{}", place.node, if votes { "" } else { " (learns)" })
        });
        let behind = range.behind.iter().map(|(_, behind)| match behind {
            Some(entries) => entries.to_string(),
            None => "?".to_owned(),
        });
        rows.push(vec![
            range.descriptor.range.to_string(),
            key(&range.descriptor.span.start),
            key(&range.descriptor.span.end),
            range.leader.place.node.to_string(),
            members.collect::<Vec<_>>().join(", "),
            behind.collect::<Vec<_>>().join(", "),
            range.bytes.to_string(),
        ]);
    }
    table(&rows)
}

fn row(status: &NodeStatus, coordinates: bool) -> Vec<String> {
    let NodeStatus { row, usage, .. } = status;
    let state = match (row.state, status.alive, status.stopping) {
        (NodeState::Leaving, ..) => "leaving",
        (NodeState::Gone, ..) => "gone",
        (NodeState::Active, false, _) => "silent",
        (NodeState::Active, true, true) => "stopping",
        (NodeState::Active, true, false) if gives_up(status) => "gives up its replicas",
        (NodeState::Active, true, false) if coordinates => "alive, coordinates",
        (NodeState::Active, true, false) => "alive",
    };
    let locality = row
        .locality
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    vec![
        row.place.node.to_string(),
        row.rpc.clone(),
        row.sql.clone(),
        row.roles.to_string(),
        state.to_owned(),
        status.replicas.to_string(),
        status.leads.to_string(),
        format!("{} MiB", usage.data_bytes >> 20),
        format!("{} MiB", usage.free_bytes >> 20),
        locality.collect::<Vec<_>>().join(","),
    ]
}

/// Name, kind, help and value of the figures of a node's ranges, all of them together.
fn figures(node: &Node) -> [(&'static str, &'static str, &'static str, u64); 11] {
    let (now, ever) = (node.range_figures(), node.host().counts());
    let count = |count: usize| count as u64;
    [
        (
            "replicas",
            "gauge",
            "Replicas on this node.",
            count(now.replicas),
        ),
        (
            "leaders",
            "gauge",
            "Ranges that this node leads.",
            count(now.leaders),
        ),
        (
            "replicas_quiescent",
            "gauge",
            "Replicas of ranges that nobody uses, which send nothing.",
            count(now.quiescent),
        ),
        (
            "replicas_without_quorum",
            "gauge",
            "Replicas on this node that neither lead a majority nor have heard a leader lately.",
            count(now.without_quorum),
        ),
        (
            "replicas_behind",
            "gauge",
            "Replicas, here and elsewhere, that are far behind the leader of their range, which is \
             on this node.",
            count(now.behind),
        ),
        (
            "range_requests_per_second",
            "gauge",
            "Requests a second to the ranges that this node leads.",
            now.requests,
        ),
        (
            "range_bytes",
            "gauge",
            "Bytes of the ranges that this node leads, roughly.",
            now.bytes,
        ),
        (
            "raft_proposals_total",
            "counter",
            "Commands that this node has proposed to its ranges.",
            ever.proposals,
        ),
        (
            "raft_elections_total",
            "counter",
            "Elections that replicas on this node have won.",
            ever.elections,
        ),
        (
            "raft_snapshots_sent_total",
            "counter",
            "Snapshots that other nodes have taken from this one.",
            ever.snapshots_sent,
        ),
        (
            "raft_snapshots_received_total",
            "counter",
            "Snapshots that this node was given.",
            ever.snapshots_received,
        ),
    ]
}

/// Figures of the cluster in Prometheus' text format.
pub(crate) fn metrics(db: &Db, network: Option<&Network>, to: &mut String) {
    for (name, kind, help, value) in figures(db.node()) {
        let _ = write!(
            to,
            "# HELP pontoon_{name} {help}\n# TYPE pontoon_{name} {kind}\npontoon_{name} {value}\n"
        );
    }
    let Some(network) = network else { return };
    let _ = write!(
        to,
        "# HELP pontoon_rpc_connections Connections to other nodes.\n\
         # TYPE pontoon_rpc_connections gauge\npontoon_rpc_connections {}\n",
        network.connections()
    );
    let stats = network.stats();
    let values: [(&str, &str, fn(&ClassStats) -> u64); 5] = [
        ("sent", "Messages sent to other nodes.", |of| of.sent),
        ("answered", "Messages that were answered.", |of| of.received),
        ("sent_bytes", "Bytes of them.", |of| of.sent_bytes),
        ("answered_bytes", "Bytes of the answers.", |of| {
            of.received_bytes
        }),
        ("failed", "Messages without an answer.", |of| of.failures),
    ];
    for (name, help, value) in values {
        let _ = write!(
            to,
            "# HELP pontoon_rpc_{name}_total {help}\n# TYPE pontoon_rpc_{name}_total counter\n"
        );
        for of in &stats {
            let (class, value) = (of.class, value(of));
            let _ = writeln!(to, "pontoon_rpc_{name}_total{{class=\"{class}\"}} {value}");
        }
    }
}

/// A key in hexadecimal, at most its first bytes.
pub(crate) fn key(key: &[u8]) -> String {
    const SHOWN: usize = 24;
    let mut text = String::new();
    for byte in key.iter().take(SHOWN) {
        let _ = write!(text, "{byte:02x}");
    }
    if key.len() > SHOWN {
        text.push_str("..");
    }
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

/// Columns side by side.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

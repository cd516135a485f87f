//! pontoon_internal: the nodes of the cluster, the ranges and where they are, and what is being
//! moved, as the coordinator sees it at this moment.
//!
//! What the coordinator has not heard of is shown as missing, never left out in silence: the ranges
//! cover all keys or say where nobody reports one.

use std::sync::Arc;

use pontoon_kv::cluster::{
    Alteration, Constraint, Move, NodeState, NodeStatus, Overview, RangeReport,
};
use pontoon_kv::keys;
use pontoon_kv::placement::unmet;

use super::key_text::Storages;
use super::row::*;
use crate::catalog::desc::{CatalogSnapshot, TableDesc};
use crate::catalog::placement::rule_of;
use crate::catalog::virtual_tables::OfCluster;
use crate::error::SqlError;
use crate::types::registry::EvalContext;
use crate::types::{Datum, Oid};

type Rows = Result<Vec<Row>, SqlError>;

/// In the form of `columns.tsv`.
pub(super) const COLUMNS: &str = "\
c nodes 15001 v\tnode_id:int8 is_live:bool state:text roles:text locality:text rpc_address:text sql_address:text admin_address:text version:text replicas:int8 leads:int8 disk_bytes:int8 free_bytes:int8 data_bytes:int8 is_coordinator:bool
c ranges 15002 v\trange_id:int8 start_key:text end_key:text schema_name:name table_name:name generation:int8 leader_node:int8 replicas:_int8 bytes:int8 settled:bool
c replicas 15003 v\trange_id:int8 replica_id:int8 node_id:int8 is_voter:bool is_leader:bool entries_behind:int8
c moves 15004 v\trange_id:int8 what:text why:text
c placement_rules 15005 v\tschema_name:name table_name:name replicas:int4 placement:text leaders:text satisfied:bool why:text
";

/// The function that computes a view.
pub(super) fn rows(name: &str) -> Option<OfCluster> {
    Some(match name {
        "nodes" => nodes,
        "ranges" => ranges,
        "replicas" => replicas,
        "moves" => moves,
        "placement_rules" => placement_rules,
        _ => return None,
    })
}

fn number(value: u64) -> Datum {
    i8(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Text, or NULL when there is none.
fn told(text: &str) -> Datum {
    t_or_null((!text.is_empty()).then_some(text))
}

fn nodes(overview: &Overview, _: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let row = |status: &NodeStatus| {
        let NodeStatus { row, usage, .. } = status;
        let state = match (row.state, status.stopping) {
            (NodeState::Leaving, _) => "leaving",
            (NodeState::Gone, _) => "gone",
            (NodeState::Active, true) => "stopping",
            (NodeState::Active, false) => "active",
        };
        let locality = row.locality.iter().map(|(k, v)| format!("{k}={v}"));
        // Where the size of the disk is not known, neither is what is free.
        let disk = usage.disk_bytes > 0;
        let of_disk = |bytes| if disk { number(bytes) } else { NULL };
        vec![
            number(row.place.node.0),
            b(status.alive),
            t(state),
            told(&row.roles.to_string()),
            told(&locality.collect::<Vec<_>>().join(",")),
            told(&row.rpc),
            told(&row.sql),
            told(&row.admin),
            told(&row.version),
            number(status.replicas),
            number(status.leads),
            of_disk(usage.disk_bytes),
            of_disk(usage.free_bytes),
            number(usage.data_bytes),
            b(row.place.node == overview.view.coordinator),
        ]
    };
    Ok(overview.view.nodes.iter().map(row).collect())
}

/// The ranges, and between them the keys of which nobody reports one.
enum Stretch<'a> {
    Range(&'a RangeReport),
    Gap(&'a [u8], &'a [u8]),
}

fn stretches(overview: &Overview) -> Vec<Stretch<'_>> {
    let mut all = Vec::with_capacity(overview.ranges.len());
    let mut from = keys::SYSTEM_MIN;
    for range in &overview.ranges {
        let span = &range.descriptor.span;
        if span.start.as_ref() > from {
            all.push(Stretch::Gap(from, &span.start));
        }
        from = from.max(span.end.as_ref());
        all.push(Stretch::Range(range));
    }
    if from < keys::END {
        all.push(Stretch::Gap(from, keys::END));
    }
    all
}

fn ranges(overview: &Overview, catalog: &CatalogSnapshot, eval: &dyn EvalContext) -> Rows {
    let storages = Storages::of(catalog);
    let row = |stretch: Stretch<'_>| {
        let (start, end, range) = match stretch {
            Stretch::Range(range) => {
                let span = &range.descriptor.span;
                (span.start.as_ref(), span.end.as_ref(), Some(range))
            }
            Stretch::Gap(start, end) => (start, end, None),
        };
        let table = storages.table(start);
        let of = |value: fn(&RangeReport) -> Datum| range.map_or(NULL, value);
        vec![
            of(|range| number(range.descriptor.range)),
            t(storages.text(start, eval)),
            t(storages.text(end, eval)),
            t_or_null(table.map(|table| table.schema_name.as_str())),
            t_or_null(table.map(|table| table.name.as_str())),
            of(|range| number(range.descriptor.generation)),
            of(|range| number(range.leader.place.node.0)),
            of(|range| {
                let members = range.membership.members.values();
                let mut nodes: Vec<_> = members.map(|place| place.node.0).collect();
                nodes.sort_unstable();
                array(Oid::INT8, nodes.into_iter().map(number).collect())
            }),
            of(|range| number(range.bytes)),
            of(|range| b(range.settled)),
        ]
    };
    Ok(stretches(overview).into_iter().map(row).collect())
}

fn replicas(overview: &Overview, _: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let mut rows = Vec::new();
    for range in &overview.ranges {
        let voters = range.membership.voters();
        for (replica, place) in &range.membership.members {
            let leads = *replica == range.leader.replica;
            let known = range.behind.iter().find(|(member, _)| member == replica);
            let behind = match known {
                Some((_, behind)) => *behind,
                // A leader is not behind itself.
                None => leads.then_some(0),
            };
            rows.push(vec![
                number(range.descriptor.range),
                number(replica.0),
                number(place.node.0),
                b(voters.contains(replica)),
                b(leads),
                behind.map_or(NULL, number),
            ]);
        }
    }
    Ok(rows)
}

fn moves(overview: &Overview, catalog: &CatalogSnapshot, eval: &dyn EvalContext) -> Rows {
    let storages = Storages::of(catalog);
    let mut rows = Vec::new();
    let mut add = |range: u64, what: String, why: String| {
        rows.push(vec![number(range), t(what), t(why)]);
    };
    for begun in &overview.moves {
        let of = |range: &&RangeReport| range.descriptor.range == begun.range;
        let text = |key: &[u8]| storages.text(key, eval);
        let what = altered(begun, overview.ranges.iter().find(of), text);
        add(begun.range, what, begun.why.clone());
    }
    for range in &overview.ranges {
        let number = range.descriptor.range;
        for (replica, behind) in learners(range) {
            let why = match behind {
                Some(entries) => format!("it is {entries} entries behind"),
                None => "it has not said how far it is".to_owned(),
            };
            add(number, format!("{replica} catches up"), why);
        }
        let begun = overview.moves.iter().any(|begun| begun.range == number);
        if !range.settled && !begun {
            let why = "its leader has not reported the end of a change";
            add(
                number,
                "its members or its bounds change".into(),
                why.into(),
            );
        }
    }
    for (range, why) in &overview.stuck {
        add(*range, "stuck".to_owned(), why.clone());
    }
    for stretch in stretches(overview) {
        if let Stretch::Gap(start, end) = stretch {
            let keys = [start, end].map(|key| storages.text(key, eval));
            let [start, end] = keys;
            let why = format!("no leader reports the keys from {start} to {end}");
            rows.push(vec![NULL, t("missing"), t(why)]);
        }
    }
    Ok(rows)
}

fn placement_rules(overview: &Overview, catalog: &CatalogSnapshot, _: &dyn EvalContext) -> Rows {
    let told =
        |constraint: &Option<Constraint>| t_or_null(constraint.as_ref().map(|c| c.to_string()));
    let row = |table: &Arc<TableDesc>| {
        let rule = rule_of(table)?;
        let why = unmet(&rule, &keys::table_span(table.storage), overview);
        Some(vec![
            t(table.schema_name.as_str()),
            t(table.name.as_str()),
            rule.replicas.map_or(NULL, |replicas| i4(replicas.into())),
            told(&rule.constraint),
            told(&rule.leaders),
            b(why.is_none()),
            t_or_null(why),
        ])
    };
    Ok(catalog.tables.values().filter_map(row).collect())
}

/// Members that do not vote yet: the replica in words, and how many entries it is behind.
fn learners(range: &RangeReport) -> impl Iterator<Item = (String, Option<u64>)> {
    let learners = range.membership.learners().into_iter();
    learners.filter_map(|replica| {
        let place = range.membership.members.get(&replica)?;
        let known = range.behind.iter().find(|(member, _)| *member == replica);
        let words = format!("replica {} on {}", replica.0, place.node);
        Some((words, known.and_then(|(_, behind)| *behind)))
    })
}

/// What changes, with the nodes of the replicas that are named.
fn altered(begun: &Move, range: Option<&RangeReport>, text: impl Fn(&[u8]) -> String) -> String {
    let at = |replica| {
        let place = range.and_then(|range| range.membership.members.get(replica));
        place.map_or_else(String::new, |place| format!(" on {}", place.node))
    };
    match &begun.what {
        Alteration::Add(node) => format!("{node} gets a replica"),
        Alteration::Voters(voters) => {
            let each = voters
                .iter()
                .map(|replica| format!("{}{}", replica.0, at(replica)));
            format!(
                "replicas {} become the voters",
                each.collect::<Vec<_>>().join(", ")
            )
        }
        Alteration::Remove(replica) => format!("replica {}{} leaves", replica.0, at(replica)),
        Alteration::Lead(replica) => format!("replica {}{} is to lead", replica.0, at(replica)),
        Alteration::Absorb(other) => format!("range {other} becomes a part of it"),
        Alteration::Split(key) => format!("a range is to begin with {}", text(key)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use pontoon_kv::cluster::{Membership, NodeRow, Peer, Place, ReplicaId, View};
    use pontoon_kv::range::Descriptor;
    use pontoon_kv::{NodeId, Span};

    use super::*;
    use crate::types::io;
    use crate::types::testing::Fixed;

    fn place(node: u64) -> Place {
        Place {
            node: NodeId(node),
            ..Place::default()
        }
    }

    fn report(range: u64, start: &[u8], end: &[u8]) -> RangeReport {
        let replica = |node: u64| ReplicaId(range * 10 + node);
        let voters: BTreeSet<_> = [1, 2].map(replica).into();
        RangeReport {
            descriptor: Descriptor {
                range,
                generation: 4,
                span: Span {
                    start: start.to_vec().into(),
                    end: end.to_vec().into(),
                },
                frozen: None,
            },
            membership: Membership {
                position: None,
                configs: vec![voters],
                members: BTreeMap::from([1, 2, 3].map(|node| (replica(node), place(node)))),
            },
            settled: true,
            leader: Peer {
                replica: replica(2),
                place: place(2),
            },
            behind: vec![(replica(1), Some(0)), (replica(3), Some(12))],
            bytes: 4_096,
            requests: 7,
            term: 1,
        }
    }

    /// Three nodes, of which one has just come, and keys of which nobody reports the range.
    pub(in crate::pg_catalog) fn overview() -> Overview {
        let status = |node: u64| NodeStatus {
            row: NodeRow {
                place: place(node),
                rpc: format!("host{node}:1"),
                locality: vec![("zone".into(), "a".into())],
                ..NodeRow::default()
            },
            alive: node != 1,
            stopping: false,
            usage: Default::default(),
            replicas: 2,
            leads: 1,
        };
        let moved = Move {
            range: 1,
            what: Alteration::Voters([ReplicaId(11), ReplicaId(13)].into()),
            why: "its replicas are ready".to_owned(),
        };
        Overview {
            view: View {
                coordinator: NodeId(2),
                nodes: [1, 2, 3].map(status).into(),
                ..View::default()
            },
            ranges: vec![report(1, b"", &[0x10]), report(3, &[0x20], keys::END)],
            stuck: vec![(3, "it has no luck".to_owned())],
            moves: vec![moved],
        }
    }

    fn lines(view: &str) -> Vec<String> {
        let table = crate::pg_catalog::find("pontoon_internal", view).unwrap();
        let rows = rows(view).unwrap();
        let rows = rows(&overview(), &CatalogSnapshot::default(), &Fixed::UTC).unwrap();
        let line = |row: Row| {
            let cells = row.iter().zip(table.columns).map(|(value, (_, ty))| {
                let mut text = String::new();
                match value {
                    Datum::Null => text.push('-'),
                    value => io::output(
                        value,
                        crate::types::PgType::new(*ty),
                        &Fixed::UTC,
                        &mut text,
                    ),
                }
                text
            });
            cells.collect::<Vec<_>>().join("|")
        };
        rows.into_iter().map(line).collect()
    }

    #[test]
    fn nodes_and_ranges_are_shown() {
        assert_eq!(
            lines("nodes")[..2],
            [
                "1|f|active|data,query|zone=a|host1:1|-|-|-|2|1|-|-|0|f",
                "2|t|active|data,query|zone=a|host2:1|-|-|-|2|1|-|-|0|t",
            ]
        );
        assert_eq!(
            lines("ranges"),
            [
                "1|start|\\x10|-|-|4|2|{1,2,3}|4096|t",
                "-|\\x10|\\x20|-|-|-|-|-|-|-",
                "3|\\x20|end|-|-|4|2|{1,2,3}|4096|t",
            ]
        );
        assert_eq!(
            lines("replicas")[..3],
            ["1|11|1|t|f|0", "1|12|2|t|t|0", "1|13|3|f|f|12"]
        );
        assert_eq!(
            lines("moves"),
            [
                "1|replicas 11 on n1, 13 on n3 become the voters|its replicas are ready",
                "1|replica 13 on n3 catches up|it is 12 entries behind",
                "3|replica 33 on n3 catches up|it is 12 entries behind",
                "3|stuck|it has no luck",
                "-|missing|no leader reports the keys from \\x10 to \\x20",
            ]
        );
    }
}

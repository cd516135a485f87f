//! Ranges as text, for `pontoon range`.

use std::fmt::Write;

use pontoon_kv::cluster::{Overview, RangeReport, ReplicaId};
use pontoon_kv::{NodeId, Span};
use pontoon_sql::pg_catalog::NamedSpan;

use super::cluster::{key, table};

/// Characters of a key in a table.
const KEY_MAX: usize = 40;
/// Tables of a range that are named in a table.
const TABLES_MAX: usize = 3;

/// A span whose tables are not known.
pub(crate) fn unnamed(span: &Span) -> NamedSpan {
    NamedSpan {
        start: key(&span.start),
        end: key(&span.end),
        tables: Vec::new(),
    }
}

/// Ranges as a table, and below it what is wrong with them.
pub(crate) fn list(overview: &Overview, ranges: &[(&RangeReport, &NamedSpan)]) -> String {
    let head = [
        "range",
        "from",
        "to",
        "tables",
        "size",
        "requests/s",
        "leader",
        "replicas",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (range, named) in ranges {
        rows.push(vec![
            range.descriptor.range.to_string(),
            shortened(&named.start),
            shortened(&named.end),
            tables(&named.tables),
            size(range.bytes),
            range.requests.to_string(),
            range.leader.place.node.to_string(),
            members(range).join(", "),
        ]);
    }
    let mut text = table(&rows);
    let shown = |number: u64| {
        let mut ranges = ranges.iter();
        ranges.any(|(range, _)| range.descriptor.range == number)
    };
    for (_, why) in overview.stuck.iter().filter(|(range, _)| shown(*range)) {
        let _ = write!(text, "\nstuck: {why}\n");
    }
    text
}

/// Everything about a range.
pub(crate) fn status(overview: &Overview, range: &RangeReport, named: &NamedSpan) -> String {
    let number = range.descriptor.range;
    let tables = match named.tables.as_slice() {
        [] => "none that is known".to_owned(),
        tables => tables.join(", "),
    };
    let mut rows = vec![
        ["range", &number.to_string()].map(str::to_owned),
        ["from", &named.start].map(str::to_owned),
        ["to", &named.end].map(str::to_owned),
        ["tables", &tables].map(str::to_owned),
        ["size", &size(range.bytes)].map(str::to_owned),
        ["requests/s", &range.requests.to_string()].map(str::to_owned),
        ["generation", &range.descriptor.generation.to_string()].map(str::to_owned),
    ];
    for (n, (replica, place)) in range.membership.members.iter().enumerate() {
        let title = if n == 0 { "replicas" } else { "" };
        let what = standing(range, *replica);
        rows.push([title.to_owned(), format!("{} {what}", place.node)]);
    }
    let begun = overview.moves.iter().filter(|begun| begun.range == number);
    let mut changes: Vec<_> = begun.map(|begun| begun.why.clone()).collect();
    if !range.settled && changes.is_empty() {
        changes.push("its members or its bounds change".to_owned());
    }
    let stuck = overview.stuck.iter().filter(|(range, _)| *range == number);
    let changes = changes
        .into_iter()
        .map(|why| ["changes", &why].map(str::to_owned));
    rows.extend(changes);
    rows.extend(stuck.map(|(_, why)| ["stuck", why].map(str::to_owned)));
    let rows: Vec<_> = rows.into_iter().map(|row| row.to_vec()).collect();
    table(&rows)
}

/// How far a replica on a node is, as a line.
pub(crate) fn progress(range: &RangeReport, to: NodeId) -> String {
    let mut members = range.membership.members.iter();
    let number = range.descriptor.range;
    match members.find(|(_, place)| place.node == to) {
        Some((replica, _)) => format!("{to} {}\n", standing(range, *replica)),
        None => format!("{to} gets a replica of range {number}\n"),
    }
}

/// What a member does, in words.
fn standing(range: &RangeReport, replica: ReplicaId) -> String {
    if replica == range.leader.replica {
        return "leads".to_owned();
    }
    let votes = range.membership.voters().contains(&replica);
    let does = if votes { "votes" } else { "catches up" };
    let known = range.behind.iter().find(|(member, _)| *member == replica);
    match known.and_then(|(_, behind)| *behind) {
        Some(0) => format!("{does}, and has everything"),
        Some(entries) => format!("{does}, {entries} entries behind"),
        None => format!("{does}, and has not said how far it is"),
    }
}

/// The nodes of the members, with what is not as usual.
fn members(range: &RangeReport) -> Vec<String> {
    let voters = range.membership.voters();
    let mut members: Vec<_> = range.membership.members.iter().collect();
    members.sort_by_key(|(_, place)| place.node);
    let members = members
        .into_iter()
        .map(|(replica, place)| match voters.contains(replica) {
            true => place.node.to_string(),
            false => format!("{} (catches up)", place.node),
        });
    members.collect()
}

fn tables(tables: &[String]) -> String {
    let shown = tables.iter().take(TABLES_MAX).cloned();
    let mut shown: Vec<_> = shown.collect();
    let more = tables.len().saturating_sub(TABLES_MAX);
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    match shown.is_empty() {
        true => "-".to_owned(),
        false => shown.join(", "),
    }
}

fn shortened(text: &str) -> String {
    match text.chars().count() > KEY_MAX {
        true => text.chars().take(KEY_MAX - 2).chain("..".chars()).collect(),
        false => text.to_owned(),
    }
}

/// Bytes with a unit, one digit behind the point.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = bytes.saturating_mul(10);
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1_024, next);
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_keys_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_600, "1.5 KiB"),
            (128 << 20, "128.0 MiB"),
            (3 << 40, "3.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(shortened("äöü"), "äöü");
        let long = shortened(&"ä".repeat(50));
        assert!(long.chars().count() == KEY_MAX && long.ends_with(".."));
        let many: Vec<_> = (0..5).map(|n| format!("t{n}")).collect();
        assert_eq!(tables(&many), "t0, t1, t2, 2 more");
        assert_eq!(tables(&[]), "-");
    }
}

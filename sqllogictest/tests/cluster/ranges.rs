//! `pontoon range`: what it shows, and what it changes.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_sqllogictest::server::pontoon_binary;
use pontoon_sqllogictest::wire::Client;

use super::{Cluster, PATIENCE};

/// A range as `pontoon range ls` shows it.
#[derive(Debug)]
struct Shown {
    range: String,
    from: String,
    tables: String,
    leader: String,
    replicas: Vec<String>,
}

/// The nodes of the test.
const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

impl Shown {
    fn read(line: &str) -> Self {
        let cells = line.split("  ").map(str::trim);
        let cells: Vec<_> = cells.filter(|cell| !cell.is_empty()).collect();
        let [range, from, _, tables, _, _, leader, replicas] = cells[..] else {
            panic!("{line}");
        };
        Self {
            range: range.to_owned(),
            from: from.to_owned(),
            tables: tables.to_owned(),
            leader: leader.to_owned(),
            replicas: replicas.split(", ").map(str::to_owned).collect(),
        }
    }

    fn follower(&self) -> &str {
        let mut replicas = self.replicas.iter();
        replicas.find(|node| **node != self.leader).unwrap()
    }

    fn absent(&self) -> &str {
        let held = |node: &&&str| self.replicas.iter().any(|held| held == **node);
        NODES.iter().find(|node| !held(node)).unwrap()
    }
}

/// Runs `pontoon range`; whether it succeeds, and what it says.
fn range(cluster: &Cluster, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(pontoon_binary());
    command.arg("range").args(args).stdin(Stdio::null());
    let host = cluster.nodes[1].rpc_address();
    command.args(["--insecure", "--host", &host]);
    let done = command.output().unwrap();
    let [said, errors] = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text));
    (done.status.success(), format!("{said}{errors}"))
}

fn list(cluster: &Cluster) -> Vec<Shown> {
    let (done, said) = range(cluster, &["ls", "--table", "inventory"]);
    assert!(done, "{said}");
    let lines = said.lines().skip(1).take_while(|line| !line.is_empty());
    lines.map(Shown::read).collect()
}

/// The range that begins with a row.
fn range_at(cluster: &Cluster, row: &str) -> Shown {
    let ranges = list(cluster);
    let mut found = ranges.into_iter().filter(|range| range.from == row);
    found.next().unwrap_or_else(|| panic!("no range at {row}"))
}

/// Tries something with the range that begins with a row until nothing else changes it.
fn change(cluster: &Cluster, row: &str, args: impl Fn(&Shown) -> Vec<String>) -> String {
    let since = Instant::now();
    loop {
        let args = args(&range_at(cluster, row));
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let (done, said) = range(cluster, &args);
        if done {
            return said;
        }
        let passes = ["try it again", "look at it again", "is to be changed first"];
        let passes = passes.iter().any(|reason| said.contains(reason));
        assert!(passes && since.elapsed() < PATIENCE, "{args:?}: {said}");
        thread::sleep(Duration::from_millis(200));
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn operators_see_and_change_ranges() {
    let cluster = Cluster::start(4);
    cluster.wait_for_replicas();
    let mut client = cluster.client(3);
    client
        .query("CREATE TABLE inventory (id int PRIMARY KEY, name text)")
        .unwrap();
    client
        .query("INSERT INTO inventory SELECT n, 'item ' || n FROM generate_series(1, 3000) n")
        .unwrap();
    let split = [
        "split",
        "--table",
        "inventory",
        "--at",
        "1000",
        "--at",
        "2000",
    ];
    let (done, said) = range(&cluster, &split);
    assert!(done && said.contains("1000; 2000"), "{said}");
    cluster.wait_for_replicas();
    what_is_refused(&cluster);

    let shown = range_at(&cluster, "inventory (1000)");
    assert_eq!(shown.tables, "inventory");
    let said = change(&cluster, "inventory (1000)", |range| {
        words(&["lead", &range.range, "--node", range.follower()])
    });
    assert!(said.contains(" leads range "), "{said}");
    let (done, said) = range(&cluster, &["status", &shown.range]);
    assert!(done && said.contains("inventory (2000)"), "{said}");
    assert_eq!(said.matches(" leads\n").count(), 1, "{said}");
    // It goes on to lead for a while, and to be where it is moved to.
    let led = range_at(&cluster, "inventory (1000)").leader;
    let said = change(&cluster, "inventory (1000)", |range| {
        let (from, to) = (range.follower(), range.absent());
        words(&["move", &range.range, "--from", from, "--to", to])
    });
    let place = said.split(" on ").nth(1).unwrap();
    let place = place.split(',').next().unwrap().to_owned();
    for _ in 0..20 {
        let range = range_at(&cluster, "inventory (1000)");
        assert!(range.replicas.contains(&place), "{place}: {range:?}");
        assert_eq!((range.leader, range.replicas.len()), (led.clone(), 3));
        thread::sleep(Duration::from_millis(100));
    }
    ranges_are_merged(&cluster);
    ranges_are_counted(&cluster);
    let count = Client::connect(&cluster.nodes[0].address())
        .unwrap()
        .scalar("SELECT count(*) FROM inventory");
    assert_eq!(count.unwrap().as_deref(), Some("3000"));
}

fn what_is_refused(cluster: &Cluster) {
    let refused = |args: &[&str], why: &str| {
        let since = Instant::now();
        loop {
            let (done, said) = range(cluster, args);
            if !done && said.contains(why) {
                return;
            }
            // For a moment a range may have no leader, or be changed.
            assert!(!done && since.elapsed() < PATIENCE, "{args:?}: {said}");
            thread::sleep(Duration::from_millis(100));
        }
    };
    refused(&["ls", "--table", "nothing"], "there is no table");
    refused(&["status", "999"], "no node leads a range 999");
    refused(&["lead", "999", "--node", "n1"], "no node leads a range");
    refused(
        &["lead", "2", "--node", "n9"],
        "n9 has no replica of range 2",
    );
    refused(&["lead", "2", "--node", "x"], "is no node");
    let unknown = ["split", "--table", "nothing", "--at", "1"];
    refused(&unknown, "relation \"nothing\" does not exist");
    let odd = [
        "split",
        "--table",
        "inventory",
        "--at",
        "1); DROP TABLE t; --",
    ];
    refused(&odd, "not one statement");
    refused(&["split", "--at", "1"], "--table");
}

/// All ranges of a node together, as Prometheus reads them.
fn ranges_are_counted(cluster: &Cluster) {
    let sum = |name: &str| cluster.metric(&format!("pontoon_{name}"));
    let since = Instant::now();
    while sum("leaders") * 3 != sum("replicas") || sum("replicas_behind") > 0 {
        let page = cluster.nodes[0].admin_page("/metrics").unwrap();
        assert!(since.elapsed() < PATIENCE, "{page}");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(sum("replicas_without_quorum"), 0);
    assert!(sum("range_bytes") > 3_000);
    for name in [
        "proposals",
        "elections",
        "snapshots_sent",
        "snapshots_received",
    ] {
        assert!(sum(&format!("raft_{name}_total")) > 0, "{name}");
    }
    let page = cluster.nodes[0].admin_page("/metrics").unwrap();
    let head = "# HELP pontoon_raft_elections_total Elections that replicas on this node have won.\n\
                # TYPE pontoon_raft_elections_total counter\n";
    assert!(page.contains(head), "{page}");
}

/// Ranges become one when nobody wants them apart any more, and they are on the same nodes.
fn ranges_are_merged(cluster: &Cluster) {
    let row = "inventory (2000)";
    let right = range_at(cluster, row);
    let (done, said) = range(cluster, &["merge", &right.range]);
    assert!(!done && said.contains("UNSPLIT"), "{said}");
    let unsplit = ["unsplit", "--table", "inventory", "--at", "2000"];
    let (done, said) = range(cluster, &unsplit);
    assert!(done, "{said}");
    let since = Instant::now();
    // One after the other, for as long as their replicas are apart.
    loop {
        // Of one picture: between two of them the ranges may have become one.
        let ranges = list(cluster);
        let at = |row: &str| ranges.iter().find(|range| range.from == row);
        let Some(right) = at(row) else {
            break;
        };
        assert!(since.elapsed() < PATIENCE, "{ranges:?}");
        let left = at("inventory (1000)").unwrap_or_else(|| panic!("{ranges:?}"));
        let mut only_left = left.replicas.iter();
        let only_left = only_left.find(|node| !right.replicas.contains(node));
        let mut only_right = right.replicas.iter();
        let only_right = only_right.find(|node| !left.replicas.contains(node));
        let done = match (only_right, only_left) {
            (Some(from), Some(to)) => {
                range(cluster, &["move", &right.range, "--from", from, "--to", to])
            }
            _ => range(cluster, &["merge", &right.range]),
        };
        println!("{done:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

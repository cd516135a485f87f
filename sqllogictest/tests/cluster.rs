//! Several nodes on one machine: they join by themselves, any of them answers, and none matters.

#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/growth.rs"]
mod growth;
#[path = "cluster/joins.rs"]
mod joins;
#[path = "cluster/kills.rs"]
mod kills;
#[path = "cluster/ranges.rs"]
mod ranges;
#[path = "cluster/restart.rs"]
mod restart;
#[path = "cluster/roles.rs"]
mod roles;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_sqllogictest::server::{PontoonNode, pontoon_binary};
use pontoon_sqllogictest::wire::{Client, WireError};

use joins::{explained, sum};

/// Longer than anything should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Nodes that have joined the first.
struct Cluster {
    nodes: Vec<PontoonNode>,
    folder: tempfile::TempDir,
}

impl Cluster {
    fn start(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let first = PontoonNode::start_in(&folder.path().join("n1")).unwrap();
        let mut cluster = Self {
            nodes: vec![first],
            folder,
        };
        for number in 2..=count {
            cluster.join(number);
        }
        cluster
    }

    fn join(&mut self, number: usize) {
        self.join_as(number, &[]);
    }

    /// Adds a node with further flags.
    fn join_as(&mut self, number: usize, flags: &[&str]) {
        let path = self.folder.path().join(format!("n{number}"));
        let address = self.nodes[0].rpc_address();
        let flags = [&["--join", &address], flags].concat();
        self.nodes
            .push(PontoonNode::start_with(&path, &flags).unwrap());
    }

    fn client(&self, node: usize) -> Client {
        Client::connect(&self.nodes[node].address()).unwrap()
    }

    /// The lines of the table of ranges on the pages of all nodes.
    fn ranges(&self) -> Vec<String> {
        let pages = self.nodes.iter().map(|node| node.admin_page("/cluster"));
        let pages = pages.filter_map(Result::ok);
        let lines = pages.flat_map(|page| {
            let ranges = page
                .split_once("that n")
                .map(|(_, ranges)| ranges.to_owned());
            let ranges = ranges.unwrap_or_default();
            let lines = ranges.lines().skip(3).map(str::to_owned);
            lines.filter(|line| !line.is_empty()).collect::<Vec<_>>()
        });
        lines.collect()
    }

    /// Messages of the class that carries parts of queries, of all nodes since their start.
    fn bulk_messages(&self) -> u64 {
        self.metric("pontoon_rpc_sent_total{class=\"bulk\"}")
    }

    /// A figure of all nodes together.
    fn metric(&self, name: &str) -> u64 {
        let pages = self.nodes.iter().map(|node| node.admin_page("/metrics"));
        let counts = pages.filter_map(Result::ok).map(|page| {
            let mut lines = page.lines();
            let line = lines.find(|line| line.split(' ').next() == Some(name));
            let count = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            count.unwrap_or_default()
        });
        counts.sum()
    }

    /// Waits until every range has three members and no learner.
    fn wait_for_replicas(&self) {
        let since = Instant::now();
        loop {
            let ranges = self.ranges();
            let numbers: BTreeSet<_> = ranges.iter().map(|r| r.split(' ').next()).collect();
            let whole =
                |line: &String| line.matches(", n").count() == 2 && !line.contains("learns");
            if numbers.len() >= 2 && ranges.iter().all(whole) {
                return;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "the ranges do not get their replicas: {ranges:#?}\n{}",
                self.nodes[0].log_tail()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until three nodes lead nearly equal numbers of ranges.
    fn wait_for_leaders(&self) {
        let since = Instant::now();
        loop {
            let mut led = BTreeMap::new();
            for range in self.ranges() {
                let leader = range.split_whitespace().nth(3);
                *led.entry(leader.unwrap_or_default().to_owned())
                    .or_insert(0) += 1;
            }
            let (least, most) = (led.values().min(), led.values().max());
            if led.len() == 3
                && least
                    .zip(most)
                    .is_some_and(|(least, most)| most - least <= 3)
            {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{:#?}", self.ranges());
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn retry<T>(mut what: impl FnMut() -> Result<T, WireError>) -> T {
    let since = Instant::now();
    loop {
        match what() {
            Ok(done) => return done,
            Err(error) if since.elapsed() > PATIENCE => panic!("{error}"),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Runs a command of the binary to its end, and returns what it prints.
fn run(args: &[&str]) -> String {
    run_within(PATIENCE, args)
}

/// The same; it may take so long.
fn run_within(patience: Duration, args: &[&str]) -> String {
    let mut command = Command::new(pontoon_binary());
    command.args(args).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() && since.elapsed() < patience {
        thread::sleep(Duration::from_millis(20));
    }
    let in_time = child.try_wait().unwrap().is_some();
    // It has ended, or ends now.
    let _ = child.kill();
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        in_time && done.status.success(),
        "{args:?}: {said} {done:?}"
    );
    said
}

#[test]
fn a_leader_killed_in_its_sleep_is_replaced_when_it_is_needed() {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_replicas();
    let mut client = cluster.client(0);
    client
        .query("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        .unwrap();
    let asleep = Instant::now();
    // All but range 1, whose leader coordinates.
    while cluster.metric("pontoon_replicas_quiescent") < cluster.metric("pontoon_replicas") - 3 {
        assert!(asleep.elapsed() < PATIENCE, "idle ranges do not rest");
        thread::sleep(Duration::from_millis(200));
    }
    println!("asleep after {:?}", asleep.elapsed());
    let led = cluster
        .ranges()
        .into_iter()
        .find(|line| !line.starts_with("1 "));
    let led = led.unwrap();
    let leader = (0..3).find(|node| {
        let name = format!("n{}", node + 1);
        led.split_whitespace().nth(3) == Some(&name)
    });
    let leader = leader.unwrap_or_else(|| panic!("nobody leads: {led}"));
    cluster.nodes[leader].kill9().unwrap();
    let killed = Instant::now();
    let other = cluster.nodes[(leader + 1) % 3].address();
    let mut number = 2;
    retry(|| {
        number += 1;
        Client::connect(&other)?.query(&format!("INSERT INTO t VALUES ({number})"))
    });
    println!("written {:?} after the kill", killed.elapsed());
    let mut client = Client::connect(&other).unwrap();
    let first = client
        .scalar("SELECT count(*) FROM t WHERE id = 1")
        .unwrap();
    assert_eq!(first.as_deref(), Some("1"));

    // What the last one says of itself.
    let last = (leader + 1) % 3;
    let health = |cluster: &Cluster, query: &str| {
        let page = cluster.nodes[last].admin_page(&format!("/health{query}"));
        page.unwrap()
    };
    assert!(health(&cluster, "?scope=write").starts_with("ok"));
    cluster.nodes[(leader + 2) % 3].kill9().unwrap();
    for scope in ["read", "write"] {
        // Leases last for a moment.
        let since = Instant::now();
        let cannot = format!("cannot {scope}: ");
        while !health(&cluster, &format!("?scope={scope}")).starts_with(&cannot) {
            assert!(
                since.elapsed() < PATIENCE,
                "it can {scope} without the others"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
    assert!(health(&cluster, "").starts_with("ok"));
    let since = Instant::now();
    while cluster.metric("pontoon_replicas_without_quorum") < 2 {
        assert!(since.elapsed() < PATIENCE, "it does not miss the others");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        health(&cluster, "?scope=all"),
        "scope is node, read or write\n"
    );
    cluster.nodes[leader].start_again().unwrap();
    let since = Instant::now();
    while !health(&cluster, "?scope=write").starts_with("ok") {
        assert!(since.elapsed() < PATIENCE, "{}", health(&cluster, ""));
    }
}

#[test]
fn any_node_answers() {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_replicas();
    let mut two = cluster.client(1);
    two.query(
        "CREATE TABLE inventory (id int PRIMARY KEY, name text NOT NULL, price numeric(8,2))",
    )
    .unwrap();
    two.query(
        "INSERT INTO inventory SELECT n, 'item ' || n, n * 1.5 FROM generate_series(1, 500) n",
    )
    .unwrap();
    let mut three = cluster.client(2);
    let found = three
        .scalar("SELECT count(*) FROM inventory WHERE price > 15")
        .unwrap();
    assert_eq!(found.as_deref(), Some("490"));
    two.query("BEGIN").unwrap();
    two.query("UPDATE inventory SET price = 1 WHERE id = 1")
        .unwrap();
    let price = "SELECT price FROM inventory WHERE id = 1";
    assert_eq!(three.scalar(price).unwrap().as_deref(), Some("1.50"));
    two.query("COMMIT").unwrap();
    assert_eq!(three.scalar(price).unwrap().as_deref(), Some("1.00"));
    // A fourth node, which may have no replica of what it is asked for.
    cluster.join(4);
    let mut four = cluster.client(3);
    assert_eq!(
        four.scalar("SELECT count(*) FROM inventory")
            .unwrap()
            .as_deref(),
        Some("500")
    );
    four.query("DELETE FROM inventory WHERE id > 100").unwrap();
    let left = cluster
        .client(0)
        .scalar("SELECT count(*) FROM inventory")
        .unwrap();
    assert_eq!(left.as_deref(), Some("100"));
    // One of the first three leaves for good; what it held is on the fourth by then.
    let host = cluster.nodes[0].rpc_address();
    let said = run(&["node", "decommission", "n2", "--insecure", "--host", &host]);
    assert!(said.contains("n2 has left the cluster for good"), "{said}");
    cluster.nodes[1].kill9().unwrap();
    assert!(cluster.ranges().iter().all(|range| !range.contains("n2")));
    let mut four = cluster.client(3);
    let left = four.scalar("SELECT count(*) FROM inventory").unwrap();
    assert_eq!(left.as_deref(), Some("100"));
    // A restart in good order hands over what the node leads.
    cluster.nodes[0].terminate().unwrap();
    assert_eq!(cluster.nodes[0].wait_for_end().unwrap(), Some(0));
    let left = retry(|| {
        let mut client = Client::connect(&cluster.nodes[2].address())?;
        client.scalar("SELECT count(*) FROM inventory")
    });
    assert_eq!(left.as_deref(), Some("100"));
    cluster.nodes[0].start_again().unwrap();
    let left = cluster
        .client(0)
        .scalar("SELECT count(*) FROM inventory")
        .unwrap();
    assert_eq!(left.as_deref(), Some("100"));
}

#[test]
fn nodes_that_have_moved_are_found_again() {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_replicas();
    let mut one = cluster.client(0);
    one.query("CREATE TABLE kept (id bigint PRIMARY KEY)")
        .unwrap();
    one.query("INSERT INTO kept SELECT * FROM generate_series(1, 100)")
        .unwrap();
    for node in &mut cluster.nodes {
        node.kill9().unwrap();
    }
    // Only the node that the others have joined is where it was. None is up without another.
    thread::scope(|all| {
        for (number, node) in cluster.nodes.iter_mut().enumerate() {
            all.spawn(move || match number {
                0 => node.start_again().unwrap(),
                _ => node.start_elsewhere().unwrap(),
            });
        }
    });
    for number in 0..3 {
        let count = cluster.client(number).scalar("SELECT count(*) FROM kept");
        assert_eq!(count.unwrap().as_deref(), Some("100"));
    }
    cluster.wait_for_replicas();
}

/// What a table with many types is asked, in ways that other nodes can do a part of, and in ways that
/// they cannot.
const QUESTIONS: &[&str] = &[
    "SELECT count(*), sum(big), avg(big), min(name), max(day), sum(price), avg(price) FROM parts",
    "SELECT count(*) FROM parts WHERE price > 700 AND name LIKE '%7%'",
    "SELECT small, count(*), sum(price), max(big) FROM parts GROUP BY small ORDER BY small",
    "SELECT name, avg(ratio) FROM parts WHERE id % 3 = 0 GROUP BY name ORDER BY 2 DESC, 1 LIMIT 7",
    "SELECT count(DISTINCT name), count(name) FILTER (WHERE flag) FROM parts",
    "SELECT * FROM parts ORDER BY id",
    "SELECT id, price FROM parts WHERE id BETWEEN 2500 AND 9500 AND flag ORDER BY id DESC LIMIT 20",
    "SELECT id, at::text FROM parts WHERE big IS NULL ORDER BY id",
    "SELECT count(*) FROM parts a JOIN parts b ON a.id = b.big WHERE a.flag",
    "SELECT sum(big) FROM parts WHERE name = (SELECT max(name) FROM parts)",
    "SELECT bool_and(flag), bool_or(flag), count(at) FROM parts WHERE at < now()",
    "SELECT sum(1 / (id - 5000)) FROM parts WHERE id > 4000",
    "SELECT string_agg(name, ',' ORDER BY id) FROM parts WHERE id < 50",
    "SELECT count(*) FROM parts WHERE false",
    "SELECT id, name FROM parts ORDER BY big DESC NULLS LAST, id LIMIT 7",
    "SELECT id, price * 2 FROM parts WHERE flag ORDER BY name, id DESC LIMIT 9 OFFSET 1500",
    "SELECT id FROM parts WHERE name LIKE '%7%' LIMIT 1300",
    "SELECT count(*) FROM (SELECT id FROM parts WHERE big > 100 LIMIT 5000 OFFSET 4000) p",
    "SELECT id + 1 FROM parts WHERE small > 3 ORDER BY price, id LIMIT 0",
    "SELECT 1 / (id - 7000) FROM parts ORDER BY small, id DESC LIMIT 3",
    "SELECT name FROM parts ORDER BY ratio DESC FETCH FIRST 3 ROWS WITH TIES",
];

/// Nodes that lead ranges do their part of what is asked of another, and the answer is the same as
/// when they do not.
#[test]
fn parts_of_queries_are_run_where_the_rows_are() {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_replicas();
    let mut one = cluster.client(0);
    one.query(
        "CREATE TABLE parts (id int PRIMARY KEY, small smallint, big bigint, ratio float8, \
         price numeric(10,2), name text, flag boolean, day date, at timestamptz)",
    )
    .unwrap();
    one.query(
        "INSERT INTO parts SELECT n, n % 11, CASE WHEN n % 13 > 0 THEN n * 7919 % 12000 END, \
         n / 7.0, n % 1000 + 0.25, 'name ' || n % 97, n % 5 = 0, date '2020-01-01' + n % 400, \
         timestamptz '2021-03-04 05:06:07+00' + n * interval '1 minute' \
         FROM generate_series(1, 12000) n",
    )
    .unwrap();
    one.query("ALTER TABLE parts SPLIT AT SELECT n * 1000 FROM generate_series(0, 11) n")
        .unwrap();
    cluster.wait_for_replicas();
    cluster.wait_for_leaders();
    the_cluster_is_shown(&cluster);
    parts_are_explained(&mut cluster.client(0));
    let before = cluster.bulk_messages();
    for node in 0..3 {
        let mut client = cluster.client(node);
        for question in QUESTIONS {
            let mut answers = Vec::new();
            // The second time it may be from what is kept by columns.
            for way in ["off", "on", "on"] {
                client
                    .query(&format!("SET pontoon.distribute = {way}"))
                    .unwrap();
                answers.push(match client.query(question) {
                    Ok(answer) => Ok(answer.rows),
                    Err(WireError::Server(error)) => Err((error.code, error.message)),
                    Err(other) => panic!("{question}: {other}"),
                });
            }
            assert_eq!(answers[0], answers[1], "n{}: {question}", node + 1);
            assert_eq!(answers[0], answers[2], "n{}: {question}", node + 1);
        }
    }
    let messages = cluster.bulk_messages() - before;
    assert!(messages > 3 * 10 * 2, "only {messages} messages");
    // Within a transaction: what it reads is what it saw first, and what it has written counts.
    let mut two = cluster.client(1);
    let sum = "SELECT count(*), sum(big) FROM parts";
    two.query("BEGIN").unwrap();
    let first = two.query(sum).unwrap().rows;
    one.query("UPDATE parts SET big = big + 1 WHERE id % 2 = 0")
        .unwrap();
    assert_eq!(two.query(sum).unwrap().rows, first);
    two.query("INSERT INTO parts (id, big) VALUES (-1, 1000000000)")
        .unwrap();
    assert_ne!(two.query(sum).unwrap().rows, first);
    // It has read what another one has changed, so it may not write.
    let Err(WireError::Server(error)) = two.query("COMMIT") else {
        panic!("a write skew was not noticed");
    };
    assert_eq!(error.code, "40001");
    // With a node gone the others answer, as soon as they lead what it led.
    let expected = two.query(sum).unwrap().rows;
    cluster.nodes[2].kill9().unwrap();
    let answer = retry(|| Client::connect(&cluster.nodes[0].address())?.query(sum));
    assert_eq!(answer.rows, expected);
    cluster.nodes[1].kill9().unwrap();
    the_coordinator_is_missed(&cluster.nodes[0]);
}

/// Ranges become parts of their neighbours while rows are written to them through other nodes; a node
/// is killed meanwhile. What was acknowledged is there, once.
#[test]
fn ranges_become_one_while_rows_are_written() {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_replicas();
    let mut one = cluster.client(0);
    one.query("CREATE TABLE parted (id int PRIMARY KEY, part int)")
        .unwrap();
    let founded = cluster.ranges().len();
    let points = "SELECT n * 1000 FROM generate_series(1, 8) n";
    let wait_for = |what: &str, enough: &dyn Fn(usize) -> bool| {
        let since = Instant::now();
        while !enough(cluster.ranges().len()) {
            let _ = cluster.client(1).query(what);
            assert!(since.elapsed() < PATIENCE, "{:#?}", cluster.ranges());
            thread::sleep(Duration::from_millis(100));
        }
    };
    let (stop, acknowledged) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    thread::scope(|all| {
        for node in 0..2_usize {
            let address = cluster.nodes[node].address();
            let (stop, acknowledged) = (&stop, &acknowledged);
            all.spawn(move || {
                let mut client = Client::connect(&address).unwrap();
                for n in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // All over the ranges, every second time over two of them at once.
                    let id = |n: u64| n * 2_654_435_761 % 9_000 * 2 + node as u64;
                    let ids = [id(2 * n), id(2 * n + 1)];
                    let ids = &ids[..1 + n as usize % 2];
                    let rows: Vec<_> = ids.iter().map(|id| format!("({id}, {node})")).collect();
                    let insert = format!(
                        "INSERT INTO parted VALUES {} ON CONFLICT DO NOTHING",
                        rows.join(", ")
                    );
                    match client.query(&insert) {
                        Ok(_) => acknowledged.lock().unwrap().extend(ids),
                        // What became of it is not known, or it was not done.
                        Err(_) => client = retry(|| Client::connect(&address)),
                    }
                }
            });
        }
        for _ in 0..3 {
            let split = format!("ALTER TABLE parted SPLIT AT {points}");
            wait_for(&split, &|ranges| ranges >= founded + 8);
            cluster.wait_for_replicas();
            one.query("ALTER TABLE parted UNSPLIT ALL").unwrap();
            // What could not be merged then, since it was being moved.
            let unsplit = format!("ALTER TABLE parted UNSPLIT AT {points}");
            wait_for(&unsplit, &|ranges| ranges <= founded);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() > 100, "only {}", acknowledged.len());
    let check = |client: &mut Client| -> Result<(), WireError> {
        let rows = client.query("SELECT id FROM parted ORDER BY id")?.rows;
        let found: Vec<u64> = rows
            .iter()
            .map(|row| row[0].as_deref().unwrap().parse().unwrap())
            .collect();
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
        let lost: Vec<_> = acknowledged
            .iter()
            .filter(|id| found.binary_search(id).is_err())
            .collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        Ok(())
    };
    for node in 0..3 {
        check(&mut cluster.client(node)).unwrap();
    }
    cluster.nodes[0].kill9().unwrap();
    retry(|| check(&mut Client::connect(&cluster.nodes[2].address())?));
    cluster.nodes[0].start_again().unwrap();
    retry(|| check(&mut Client::connect(&cluster.nodes[0].address())?));
}

/// Whoever has joined is found again, however soon it is killed and wherever it comes back: before
/// pontoon_internal, by way of each node.
fn the_cluster_is_shown(cluster: &Cluster) {
    for node in 0..3 {
        let mut client = cluster.client(node);
        let mut ask = |question: &str| client.scalar(question).unwrap().unwrap_or_default();
        let nodes = "SELECT string_agg(node_id || ' ' || is_live::text || ' ' || state, ', ' \
                     ORDER BY node_id) FROM pontoon_internal.nodes";
        assert_eq!(ask(nodes), "1 true active, 2 true active, 3 true active");
        let one = "SELECT count(*) FROM pontoon_internal.nodes WHERE is_coordinator";
        assert_eq!(ask(one), "1");
        // What each of the nodes leads arrives within half a second.
        let whole = "SELECT count(*) >= 12 AND count(DISTINCT leader_node) = 3 \
                     AND bool_and(replicas = '{1,2,3}') AND bool_and(start_key LIKE \
                     'table %, index 1, %') FROM pontoon_internal.ranges \
                     WHERE table_name = 'parts'";
        let since = Instant::now();
        while ask(whole) != "t" {
            assert!(
                since.elapsed() < PATIENCE,
                "{}",
                ask("SELECT string_agg(r::text, ' ') FROM pontoon_internal.ranges r")
            );
            thread::sleep(Duration::from_millis(100));
        }
        let replicas = "SELECT count(*) = 3 * count(DISTINCT range_id) AND \
                        count(*) FILTER (WHERE is_leader) = count(DISTINCT range_id) \
                        FROM pontoon_internal.replicas";
        assert_eq!(ask(replicas), "t");
    }
}

/// EXPLAIN (DIST), asked of n1 while all three lead some of the table.
fn parts_are_explained(client: &mut Client) {
    let mut explain = |options: &str, question: &str| explained(client, options, question);
    for question in [
        "SELECT id, name FROM parts WHERE big IS NOT NULL",
        "SELECT small, count(*), sum(big) FROM parts GROUP BY small",
    ] {
        let planned = explain("DIST", question);
        let lines = explain("ANALYZE, DIST", question);
        println!("{}", lines.join("\n"));
        for (node, read) in [
            ("    n2: ", true),
            ("    n3: ", true),
            ("    n1 (this node): ", false),
        ] {
            let all = |lines: &[String], what: &str| {
                let of_node = lines.iter().filter(|line| line.starts_with(node));
                let mut of_node = of_node.peekable();
                of_node.peek().is_some() && of_node.all(|line| line.contains(what) == read)
            };
            assert!(all(&lines, " came in "), "{node}: {lines:#?}");
            assert!(all(&lines, ", the last after "), "{node}: {lines:#?}");
            let mut shown = planned.iter();
            assert!(shown.any(|line| line.starts_with(node)), "{planned:#?}");
        }
        assert!(!planned.concat().contains("came"), "{planned:#?}");
        assert_eq!(sum(&lines, " rows read"), 12_000, "{lines:#?}");
        assert!(sum(&lines, " bytes came") > 100, "{lines:#?}");
    }
    // No node gives more than the first rows.
    let top = "SELECT id, name FROM parts ORDER BY big DESC NULLS LAST, id LIMIT 5";
    let lines = explain("ANALYZE, DIST", top);
    println!("{}", lines.join("\n"));
    assert_eq!(lines[1], "  First 5 rows of parts");
    assert_eq!(sum(&lines, " rows read"), 12_000, "{lines:#?}");
    assert_eq!(sum(&lines, " rows"), 12_000 + 2 * 5, "{lines:#?}");
    assert_eq!(explain("DIST", top)[1], lines[1]);
    let few = "SELECT id FROM parts WHERE name <> 'name 5' LIMIT 1300";
    let lines = explain("ANALYZE, DIST", few);
    println!("{}", lines.join("\n"));
    assert_eq!(lines[1], "  First 1300 rows of parts");
    assert!(explain("DIST", few).len() > 3);
    // Keys that are read one by one, wherever they are.
    let lines = explain(
        "ANALYZE, DIST",
        "SELECT * FROM parts WHERE id IN (5, 5500, 11500)",
    );
    assert_eq!(lines[1], "  No parts", "{lines:#?}");
    let asked = lines.iter().filter(|line| line.starts_with("    range "));
    assert_eq!(asked.count(), 3, "{lines:#?}");
}

/// Without a coordinator that can be asked the cluster is not shown, once leases are over.
fn the_coordinator_is_missed(node: &PontoonNode) {
    let since = Instant::now();
    loop {
        let asked = Client::connect(&node.address());
        match asked.and_then(|mut client| client.query("SELECT * FROM pontoon_internal.nodes")) {
            Err(WireError::Server(error)) => {
                assert_eq!(error.code, "57P03", "{}", error.message);
                return;
            }
            // The session itself does not come about, or is given up.
            Err(_) => return,
            Ok(_) => assert!(since.elapsed() < PATIENCE, "it shows what it cannot know"),
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nodes_that_move_as_soon_as_they_have_joined_are_found_again() {
    for after in [0, 250, 500, 750, 1_000] {
        let mut cluster = Cluster::start(3);
        thread::sleep(Duration::from_millis(after));
        for node in &mut cluster.nodes[1..] {
            node.kill9().unwrap();
        }
        let [_, moved @ ..] = cluster.nodes.as_mut_slice() else {
            unreachable!("three nodes");
        };
        thread::scope(|all| {
            for node in moved {
                all.spawn(move || node.start_elsewhere().unwrap());
            }
        });
        for number in 0..3 {
            let one = cluster
                .client(number)
                .scalar("SELECT count(*) FROM pg_database");
            assert!(one.unwrap().is_some());
        }
        cluster.wait_for_replicas();
    }
}

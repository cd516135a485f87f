//! What those rely on who run a node: TLS, shutdown, limits, memory of idle sessions, the log, where
//! tables are.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use pontoon_sqllogictest::server::PontoonNode;
use pontoon_sqllogictest::wire::{Client, ServerError, WireError};

/// How long something may take that should happen at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// The error that the server sends without being asked.
fn unasked_error(client: &mut Client) -> ServerError {
    let frame = client.next_frame().unwrap();
    assert_eq!(frame.kind, b'E', "{frame:?}");
    ServerError::parse(&frame.body)
}

fn is_ended(client: &mut Client) -> bool {
    matches!(
        client.next_frame(),
        Err(WireError::Closed | WireError::Io(_))
    )
}

#[test]
fn a_client_connects_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let flags = [
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    let node = PontoonNode::start_with(&folder.path().join("data"), &flags).unwrap();
    let psql = |mode: &str, extra: &str| {
        let target = format!(
            "host=localhost hostaddr=127.0.0.1 port={} user=postgres sslmode={mode} {extra}",
            node.address().port
        );
        let output = Command::new("psql")
            .args(["-XAt", &target, "-c", "SELECT 6 * 7", "-c", "\\conninfo"])
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (done, answer, errors) = psql("require", "");
    assert!(done && answer.starts_with("42\n"), "{answer}{errors}");
    assert!(answer.contains("TLSv1."), "{answer}");
    let known = format!("sslrootcert={}", cert.display());
    let (done, answer, errors) = psql("verify-full", &known);
    assert!(done && answer.starts_with("42\n"), "{answer}{errors}");
    // Without TLS it goes on to answer.
    let (done, answer, errors) = psql("disable", "");
    assert!(done && !answer.contains("TLSv1."), "{answer}{errors}");
}

#[test]
fn a_node_without_a_certificate_says_so_to_who_requires_tls() {
    let node = PontoonNode::start_fresh().unwrap();
    let target = format!(
        "host=127.0.0.1 port={} user=postgres sslmode=require",
        node.address().port
    );
    let output = Command::new("psql")
        .args(["-XAt", &target, "-c", "SELECT 1"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains("does not support SSL"),
        "{errors}"
    );
}

#[test]
fn sigterm_ends_sessions_with_a_word_and_the_process_with_0() {
    let mut node = PontoonNode::start_fresh().unwrap();
    let mut idle = Client::connect(&node.address()).unwrap();
    idle.query("CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    let mut within = Client::connect(&node.address()).unwrap();
    within.query("BEGIN").unwrap();
    within.query("INSERT INTO t VALUES (1)").unwrap();
    let mut running = Client::connect(&node.address()).unwrap();
    running
        .send(&pontoon_sqllogictest::wire::message(
            b'Q',
            b"SELECT pg_sleep(1000)\0",
        ))
        .unwrap();
    node.terminate().unwrap();
    for client in [&mut idle, &mut within, &mut running] {
        let error = unasked_error(client);
        assert_eq!(error.code, "57P01", "{error}");
        assert_eq!(error.severity, "FATAL", "{error}");
        assert!(is_ended(client));
    }
    assert_eq!(node.wait_for_end().unwrap(), Some(0), "{}", node.log_tail());
    node.start_again().unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    let rows = client.scalar("SELECT count(*) FROM t").unwrap();
    assert_eq!(rows.as_deref(), Some("0"));
}

#[test]
fn a_transaction_left_open_is_ended() {
    let node = PontoonNode::start_fresh().unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    client
        .query("SET idle_in_transaction_session_timeout = '100ms'")
        .unwrap();
    client.query("BEGIN").unwrap();
    let error = unasked_error(&mut client);
    assert_eq!(error.code, "25P03", "{error}");
    assert_eq!(error.severity, "FATAL", "{error}");
    assert!(is_ended(&mut client));
}

/// More statements than there are processors compute without a pause, for minutes.
#[test]
fn long_statements_hold_up_nobody_else() {
    let node = PontoonNode::start_fresh().unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    client.query("CREATE TABLE s (id int PRIMARY KEY)").unwrap();
    client
        .query("INSERT INTO s SELECT generate_series(1, 400)")
        .unwrap();
    let long = b"SELECT count(*) FROM s a WHERE (SELECT count(*) FROM s b WHERE b.id + a.id > \
        (SELECT count(*) FROM s c WHERE c.id + b.id > a.id)) < 0\0";
    let count = thread::available_parallelism().map_or(1, usize::from) + 1;
    let mut busy: Vec<_> = (0..count)
        .map(|_| {
            let mut busy = Client::connect(&node.address()).unwrap();
            let question = pontoon_sqllogictest::wire::message(b'Q', long);
            busy.send(&question).unwrap();
            busy
        })
        .collect();
    for round in 0..200 {
        let mut other = Client::connect(&node.address()).unwrap();
        let insert = format!("INSERT INTO s VALUES ({})", 1_000 + round);
        assert_eq!(other.query(&insert).unwrap().affected(), 1);
        let found = format!("SELECT id FROM s WHERE id = {}", 1_000 + round);
        assert!(other.scalar(&found).unwrap().is_some());
    }
    for busy in &mut busy {
        busy.cancel().unwrap();
        // It was at work all the time: what comes behind the names of its columns is no row.
        let mut frames = std::iter::from_fn(|| busy.next_frame().ok());
        let answer = frames.find(|frame| frame.kind != b'T').unwrap();
        assert_eq!(answer.kind, b'E', "{answer:?}");
        assert_eq!(ServerError::parse(&answer.body).code, "57014");
    }
}

#[test]
fn one_connection_too_many_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--max-connections", "3"];
    let node = PontoonNode::start_with(&folder.path().join("data"), &flags).unwrap();
    let since = Instant::now();
    // The session that waited for the node to be ready may not have ended yet.
    let mut clients = Vec::new();
    while clients.len() < 3 {
        clients.extend(Client::connect(&node.address()).ok());
        assert!(since.elapsed() < PATIENCE);
    }
    let refused = Client::connect(&node.address()).err().unwrap();
    assert_eq!(refused.code(), Some("53300"), "{refused}");
    for client in &mut clients {
        client.query("SELECT 1").unwrap();
    }
    clients.pop();
    while Client::connect(&node.address()).is_err() {
        assert!(since.elapsed() < PATIENCE, "no place becomes free");
    }
}

fn resident_kib(node: &PontoonNode) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn idle_sessions_are_cheap() {
    const SESSIONS: u64 = 2_000;
    /// Far above what was measured, which is printed.
    const KIB_A_SESSION_MAX: u64 = 64;
    let node = PontoonNode::start_fresh().unwrap();
    let open = || {
        let mut client = Client::connect(&node.address()).unwrap();
        client.query("SELECT 1").unwrap();
        client
    };
    let warm: Vec<_> = (0..20).map(|_| open()).collect();
    let before = resident_kib(&node);
    let since = Instant::now();
    let mut clients: Vec<_> = (0..SESSIONS).map(|_| open()).collect();
    let taken = since.elapsed();
    let each = resident_kib(&node).saturating_sub(before) / SESSIONS;
    println!(
        "{SESSIONS} sessions: {each} KiB each, opened in {} ms",
        taken.as_millis()
    );
    assert!(each <= KIB_A_SESSION_MAX, "{each} KiB a session");
    for client in clients.iter_mut().step_by(100) {
        client.query("SELECT 1").unwrap();
    }
    drop(warm);
}

#[test]
fn the_log_is_quiet_and_on_request_json() {
    let folder = tempfile::tempdir().unwrap();
    let text = PontoonNode::start_in(&folder.path().join("text")).unwrap();
    let mut client = Client::connect(&text.address()).unwrap();
    client.query("CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    let log = text.whole_log();
    assert!(log.contains("ready"), "{log}");
    assert!(log.lines().count() < 10, "{log}");

    let flags = ["--log-format", "json"];
    let json = PontoonNode::start_with(&folder.path().join("json"), &flags).unwrap();
    let mut client = Client::connect(&json.address()).unwrap();
    client.query("CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    json.terminate().unwrap();
    assert_eq!(unasked_error(&mut client).code, "57P01");
    let mut json = json;
    json.wait_for_end().unwrap();
    let log = json.whole_log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let says = |text: &str| lines.iter().any(|line| line["fields"]["message"] == text);
    assert!(says("ready") && says("stopped"), "{log}");
    for line in &lines {
        assert!(
            line["timestamp"].is_string() && line["level"].is_string(),
            "{line}"
        );
        let of_a_library = !line["target"].as_str().unwrap().starts_with("pontoon");
        assert!(!of_a_library || line["level"] != "INFO", "{line}");
    }
}

/// Runs a query until it gives this.
fn wait_for(client: &mut Client, sql: &str, wanted: &str) {
    let since = Instant::now();
    loop {
        let found = client.query(sql).map(|outcome| {
            let rows = outcome.rows.iter();
            let line = |row: &Vec<Option<String>>| {
                let cells = row.iter().map(|cell| cell.as_deref().unwrap_or("-"));
                cells.collect::<Vec<_>>().join("|")
            };
            rows.map(line).collect::<Vec<_>>().join("\n")
        });
        if found.as_deref().is_ok_and(|found| found == wanted) {
            return;
        }
        let rules = client.query("SELECT * FROM pontoon_internal.placement_rules");
        let rules = rules.map(|outcome| outcome.rows);
        assert!(
            since.elapsed() < MOVING,
            "{sql}: {found:?}, not {wanted}; {rules:?}"
        );
        thread::sleep(Duration::from_millis(200));
    }
}

/// Longer than moving small ranges takes on a busy machine.
const MOVING: Duration = Duration::from_secs(120);

#[test]
fn tables_are_where_their_placement_rules_want_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut nodes: Vec<PontoonNode> = Vec::new();
    let places = [
        "region=us,zone=a",
        "region=us,zone=b",
        "region=eu,zone=a",
        "region=eu,zone=b",
    ];
    for (number, place) in (1..).zip(places) {
        let path = folder.path().join(format!("n{number}"));
        let first = nodes.first().map(PontoonNode::rpc_address);
        let join = first.iter().flat_map(|first| ["--join", first]);
        let flags: Vec<_> = ["--locality", place].into_iter().chain(join).collect();
        nodes.push(PontoonNode::start_with(&path, &flags).unwrap());
    }
    let mut client = Client::connect(&nodes[0].address()).unwrap();
    for (table, with) in [
        ("single", "replicas = 1, placement = 'region=eu,zone=b'"),
        ("usual", "fillfactor = 90"),
        ("led", "replicas = 3, leaders = 'region=eu,zone=a'"),
    ] {
        client
            .query(&format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, v text) WITH ({with})"
            ))
            .unwrap();
        let rows = format!("INSERT INTO {table} SELECT n, 'v' || n FROM generate_series(1, 200) n");
        client.query(&rows).unwrap();
    }
    client.query("CREATE INDEX ON single (v)").unwrap();
    let rules =
        "SELECT table_name, satisfied, why FROM pontoon_internal.placement_rules ORDER BY 1";
    wait_for(&mut client, rules, "led|t|-\nsingle|t|-");
    // Other keys have three replicas; that is what the ranges between and around them show.
    let members = "SELECT DISTINCT table_name, leader_node, cardinality(replicas), \
                   replicas[1] FROM pontoon_internal.ranges WHERE table_name = ";
    wait_for(&mut client, &format!("{members}'single'"), "single|4|1|4");
    let led = "SELECT leader_node, cardinality(replicas) FROM pontoon_internal.ranges \
               WHERE table_name = 'led'";
    wait_for(&mut client, led, "3|3");
    let others = "SELECT DISTINCT cardinality(replicas) FROM pontoon_internal.ranges \
                  WHERE range_id > 1 AND table_name IS NULL";
    wait_for(&mut client, others, "3");
    // A rule that cannot be followed is accepted, and leaves everything where it is.
    let changed = client.query("ALTER TABLE single SET (placement = 'region=mars')");
    assert_eq!(changed.unwrap().tag, "ALTER TABLE");
    let why = "SELECT satisfied, why LIKE '%on n4, which is not region=mars; there are live nodes \
               of region=mars for 0 of 1 replicas' FROM pontoon_internal.placement_rules \
               WHERE table_name = 'single'";
    wait_for(&mut client, why, "f|t");
    // It moves with another, as does what is written meanwhile; with its storage too.
    client
        .query("ALTER TABLE single SET (placement = 'region=us,zone=b'), ALTER v SET NOT NULL")
        .unwrap();
    client
        .query("INSERT INTO single VALUES (201, 'v201')")
        .unwrap();
    wait_for(&mut client, &format!("{members}'single'"), "single|2|1|2");
    let count = "SELECT count(*), count(DISTINCT v) FROM single WHERE v >= 'v'";
    wait_for(&mut client, count, "201|201");
    client.query("TRUNCATE single").unwrap();
    wait_for(&mut client, &format!("{members}'single'"), "single|2|1|2");
    client.query("DROP TABLE single").unwrap();
    client
        .query("ALTER TABLE led RESET (replicas, leaders)")
        .unwrap();
    wait_for(&mut client, rules, "");
}

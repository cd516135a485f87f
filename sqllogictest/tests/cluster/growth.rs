//! A cluster that grows and shrinks while it is used: a large table is loaded, a fourth node is added
//! and filled, the first is decommissioned, and a node that is lost for good is replaced by an empty
//! one. Clients go on meanwhile without an error.
//!
//! `PONTOON_GROWTH_ROWS=n` sets how many rows are loaded (5 million make ranges split by themselves;
//! with fewer they are split by statement).

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_sqllogictest::server::{PontoonNode, postgres_program};
use pontoon_sqllogictest::wire::Client;

use super::{Cluster, retry, run_within};

/// Rows with which the table is split by itself.
const MANY: u64 = 4_000_000;
/// Longer than it takes to replace a node that is silent.
const MOVED: Duration = Duration::from_secs(400);
/// The nodes are alike when their numbers differ by one, or by a part of the average: a fifth.
const ALIKE: u64 = 5;

fn psql(node: &PontoonNode, name: &str) -> Command {
    let address = node.address();
    let mut command = Command::new(postgres_program(name));
    command.args(["-h", &address.host, "-p", &address.port.to_string()]);
    command
        .args(["-U", "postgres"])
        .env("PGDATABASE", "postgres");
    command
}

/// Bytes of one COPY; a transaction takes twice as many, with their keys.
const COPIED: usize = 100 << 20;

/// Loads lines into a table by COPY, as a client sends files: each a transaction.
pub(super) fn copy(node: &PontoonNode, table: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    while lines.peek().is_some() {
        let mut copy = psql(node, "psql")
            .args(["-q", "-v", "ON_ERROR_STOP=1", "-c"])
            .arg(format!("COPY {table} FROM STDIN"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufWriter::with_capacity(1 << 20, copy.stdin.take().unwrap());
        let mut bytes = 0;
        while bytes < COPIED
            && let Some(line) = lines.next()
        {
            bytes += line.len() + 1;
            writeln!(out, "{line}").unwrap();
        }
        // The rest is written when it is dropped, and an error would be lost.
        out.flush().unwrap();
        drop(out);
        assert!(copy.wait().unwrap().success());
    }
}

fn load(node: &PontoonNode, rows: u64) {
    let line = |n: u64| {
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (a, b) = (n % 1_000, n * 3);
        format!("{n}\t{a}\t{b}\tsome text of row {mixed:x} and more of it")
    };
    copy(node, "big", (0..rows).map(line));
}

/// pgbench, which ends with an error when a transaction fails.
struct Bench {
    process: Child,
    log: PathBuf,
}

impl Bench {
    fn start(cluster: &Cluster, node: usize, name: &str) -> Self {
        let log = cluster.folder.path().join(name);
        let file = std::fs::File::create(&log).unwrap();
        let process = psql(&cluster.nodes[node], "pgbench")
            .args([
                "-n",
                "-c",
                "4",
                "-j",
                "1",
                "-T",
                "100000",
                "-P",
                "5",
                "--max-tries",
                "1000",
            ])
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { process, log }
    }

    /// Ends it; it must have run until now.
    fn end(mut self, what: &str) {
        let ended = self.process.try_wait().unwrap();
        let said = std::fs::read_to_string(&self.log).unwrap();
        assert!(ended.is_none(), "{what}: pgbench has ended: {said}");
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        for word in ["ERROR", "aborted", "FATAL", "failed to"] {
            assert!(!said.contains(word), "{what}: {said}");
        }
        println!("  pgbench meanwhile:");
        said.lines()
            .filter(|line| line.starts_with("progress"))
            .for_each(|line| println!("    {line}"));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the nodes hold: number, replicas, leaders.
fn held(cluster: &Cluster, asked: usize) -> Vec<(u64, u64, u64)> {
    let sql = "SELECT n.node_id, count(r.range_id), count(*) FILTER (WHERE r.is_leader) \
               FROM pontoon_internal.nodes n LEFT JOIN pontoon_internal.replicas r \
               ON r.node_id = n.node_id AND r.range_id > 1 AND r.is_voter \
               WHERE n.state <> 'gone' GROUP BY 1 ORDER BY 1";
    let address = cluster.nodes[asked].address();
    let rows = retry(|| Client::connect(&address)?.query(sql));
    let value = |value: &Option<String>| value.as_ref().unwrap().parse().unwrap();
    let rows = rows.rows.iter();
    rows.map(|row| (value(&row[0]), value(&row[1]), value(&row[2])))
        .collect()
}

fn alike(numbers: impl Iterator<Item = u64> + Clone) -> bool {
    let (most, least) = (
        numbers.clone().max().unwrap(),
        numbers.clone().min().unwrap(),
    );
    let average = numbers.clone().sum::<u64>() / numbers.count() as u64;
    most - least <= (average / ALIKE).max(1)
}

/// Waits until the nodes in `among` hold equal parts, and those of `empty` nothing.
fn wait_until_alike(cluster: &Cluster, asked: usize, among: &[u64], empty: &[u64], what: &str) {
    let since = Instant::now();
    loop {
        let held = held(cluster, asked);
        let full: Vec<_> = held
            .iter()
            .filter(|(node, ..)| among.contains(node))
            .collect();
        let rest = held.iter().filter(|(node, ..)| empty.contains(node));
        let done = full.len() == among.len()
            && alike(full.iter().map(|held| held.1))
            && alike(full.iter().map(|held| held.2))
            && rest.clone().all(|(_, replicas, _)| *replicas == 0);
        if done {
            println!(
                "  {what} after {:.1} s: {held:?} (node, replicas, leaders)",
                since.elapsed().as_secs_f64()
            );
            return;
        }
        assert!(
            since.elapsed() < MOVED,
            "{what}: {held:?}\n{}",
            cluster.nodes[asked].log_tail()
        );
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_cluster_grows_and_shrinks_while_it_is_used() {
    let rows = std::env::var("PONTOON_GROWTH_ROWS").ok();
    let rows: u64 = rows.and_then(|rows| rows.parse().ok()).unwrap_or(20_000);
    let mut cluster = Cluster::start(3);
    cluster.wait_for_replicas();
    let mut client = cluster.client(0);
    client
        .query("CREATE TABLE big (id bigint PRIMARY KEY, a int, b bigint, c text)")
        .unwrap();
    let began = Instant::now();
    if rows < MANY {
        let split = "ALTER TABLE big SPLIT AT SELECT n FROM generate_series(0, 20000, 2000) n";
        client.query(split).unwrap();
    }
    load(&cluster.nodes[1], rows);
    println!(
        "{rows} rows loaded in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let initialised = psql(&cluster.nodes[1], "pgbench")
        .args(["-i", "-q", "-s", "2"])
        .output();
    assert!(initialised.unwrap().status.success());
    wait_until_alike(&cluster, 0, &[1, 2, 3], &[], "three nodes are alike");
    let ranges = client
        .scalar("SELECT count(*) FROM pontoon_internal.ranges")
        .unwrap();
    println!("  {} ranges", ranges.unwrap());

    let bench = Bench::start(&cluster, 1, "bench-1");
    cluster.join(4);
    wait_until_alike(&cluster, 1, &[1, 2, 3, 4], &[], "a fourth node is filled");
    let host = cluster.nodes[1].rpc_address();
    let began = Instant::now();
    let leave = ["node", "decommission", "n1", "--insecure", "--host", &host];
    let said = run_within(MOVED, &leave);
    println!("  n1 has left after {:.1} s", began.elapsed().as_secs_f64());
    assert!(said.contains("n1 has left the cluster for good"), "{said}");
    bench.end("while n1 left");
    cluster.nodes[0].kill9().unwrap();

    cluster.nodes[2].kill9().unwrap();
    let path = cluster.folder.path().join("n5");
    let node = PontoonNode::start_with(&path, &["--join", &host]).unwrap();
    cluster.nodes.push(node);
    wait_until_alike(&cluster, 1, &[2, 4, 5], &[3], "a lost node is replaced");
    let sums = cluster
        .client(4)
        .query("SELECT count(*), sum(id), sum(b) FROM big")
        .unwrap()
        .rows;
    let sum = rows * (rows - 1) / 2;
    let expected = [rows, sum, sum * 3].map(|n| Some(n.to_string()));
    assert_eq!(sums, [expected.to_vec()]);
}

//! All nodes are killed at once while they are written to, and started again: they answer soon, and
//! nothing that was acknowledged is lost, however much they hold.
//!
//! `PONTOON_RESTART_MB=n` sets how many megabytes of rows are loaded before.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_sqllogictest::server::PontoonNode;
use pontoon_sqllogictest::wire::{Address, Client};

use super::growth::copy;
use super::{Cluster, retry};

/// Every node answers so long after its start.
const ANSWERS: Duration = Duration::from_secs(15);
/// Bytes of the text of a row.
const WIDTH: u64 = 1_000;
/// How long is written before the nodes are killed.
const WRITTEN: Duration = Duration::from_secs(2);

/// A row whose text is as hard to compress as hexadecimal digits of its own are.
fn line(n: u64) -> String {
    let mut mixed = n + 1;
    let words = (0..WIDTH / 16).map(|_| {
        mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 29;
        format!("{mixed:016x}")
    });
    format!("{n}\t{}", words.collect::<String>())
}

/// Inserts one row after the other until it is told to stop; what was acknowledged stays noted.
fn write(address: &Address, stop: &AtomicBool, acknowledged: &Mutex<Vec<u64>>) {
    let Ok(mut client) = Client::connect(address) else {
        return;
    };
    for n in 0.. {
        let insert = format!("INSERT INTO small VALUES ({n})");
        if stop.load(Ordering::Relaxed) || client.query(&insert).is_err() {
            return;
        }
        acknowledged.lock().unwrap().push(n);
    }
}

/// Starts every node, and says for each when it gave its first answer and took its first row.
fn start_all(cluster: &mut Cluster) -> Vec<(Duration, Duration)> {
    let began = Instant::now();
    let start = |(number, node): (usize, &mut PontoonNode)| {
        node.start_again().unwrap();
        let address = node.address();
        let select = "SELECT length(c) FROM large WHERE id = 7";
        retry(|| Client::connect(&address)?.scalar(select));
        let answered = began.elapsed();
        let insert = format!("INSERT INTO small VALUES (-{})", number + 1);
        retry(|| Client::connect(&address)?.query(&insert));
        (answered, began.elapsed())
    };
    thread::scope(|all| {
        let nodes = cluster.nodes.iter_mut().enumerate();
        let started: Vec<_> = nodes.map(|node| all.spawn(move || start(node))).collect();
        let times = started.into_iter().map(|started| started.join().unwrap());
        times.collect()
    })
}

#[test]
fn all_nodes_killed_at_once_come_back_with_everything() {
    let megabytes = std::env::var("PONTOON_RESTART_MB").ok();
    let megabytes: u64 = megabytes.and_then(|n| n.parse().ok()).unwrap_or(20);
    let rows = megabytes * 1_000_000 / WIDTH;
    let mut cluster = Cluster::start(3);
    cluster.wait_for_replicas();
    let mut client = cluster.client(0);
    client
        .query("CREATE TABLE large (id bigint PRIMARY KEY, c text NOT NULL)")
        .unwrap();
    client
        .query("CREATE TABLE small (id bigint PRIMARY KEY)")
        .unwrap();
    let began = Instant::now();
    copy(&cluster.nodes[1], "large", (0..rows).map(line));
    println!(
        "{megabytes} MB loaded in {:.1} s",
        began.elapsed().as_secs_f64()
    );

    let (stop, acknowledged) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let address = cluster.nodes[2].address();
    thread::scope(|all| {
        all.spawn(|| write(&address, &stop, &acknowledged));
        thread::sleep(WRITTEN);
        for node in &mut cluster.nodes {
            node.kill9().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(!acknowledged.is_empty());

    for (number, (answered, wrote)) in start_all(&mut cluster).into_iter().enumerate() {
        println!(
            "  n{} answers after {answered:.1?}, writes after {wrote:.1?}",
            number + 1
        );
        assert!(wrote <= ANSWERS, "n{} took {wrote:?}", number + 1);
    }
    let mut client = cluster.client(1);
    let found = client.query("SELECT id FROM small WHERE id >= 0").unwrap();
    let found: Vec<u64> = found
        .rows
        .iter()
        .map(|row| row[0].as_deref().unwrap().parse().unwrap())
        .collect();
    let lost = acknowledged.iter().filter(|id| !found.contains(id));
    assert_eq!(lost.count(), 0);
    println!(
        "  {} small rows acknowledged, {} there",
        acknowledged.len(),
        found.len()
    );
    let since = Instant::now();
    let all = "SELECT count(*), sum(id), sum(length(c)) FROM large";
    let sums = retry(|| cluster.client(2).query(all)).rows;
    let expected = [rows, rows * (rows - 1) / 2, rows * (WIDTH / 16 * 16)];
    let expected = expected.map(|n| Some(n.to_string()));
    assert_eq!(sums, [expected.to_vec()]);
    println!("  all read after {:.1?} more", since.elapsed());
}

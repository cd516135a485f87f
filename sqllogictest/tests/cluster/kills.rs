//! kill -9 of each node in turn, while two clients write and one a node reads: nothing that was
//! acknowledged is lost, writes go on soon, and what the killed node did not lead is read all the time.
//!
//! `PONTOON_KILLS=n` sets how many kills there are; the times without writes and reads are printed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_sqllogictest::server::PontoonNode;
use pontoon_sqllogictest::wire::{Address, Client, WireError};

use super::{Cluster, PATIENCE};

/// Without writes after a kill: at most, and for half of the kills.
const WRITES_AGAIN: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(3)];
/// So many kills have a middle.
const MANY: usize = 20;
/// Reads that a kill does not concern are without an answer no longer than a busy machine explains;
/// a new leader takes longer.
const READS_ON: Duration = Duration::from_secs(1);

/// What the writers share.
struct Load {
    addresses: Vec<Address>,
    stop: AtomicBool,
    acknowledged: Mutex<BTreeSet<u64>>,
    /// Milliseconds since the beginning at the last acknowledgement.
    last_ms: AtomicU64,
    began: Instant,
    readers: Vec<Reader>,
}

/// What is read through a node.
struct Reader {
    /// Rows of ranges that the node leads itself.
    rows: Mutex<Vec<i64>>,
    pause: Mutex<Pause>,
}

/// How long a reader was without an answer.
struct Pause {
    /// When it got the last one, or began to read other rows.
    since: Instant,
    longest: Duration,
    /// The row that was read then, and what was said to it before.
    row: i64,
    said: Vec<String>,
    /// What has been said since the last answer.
    errors: Vec<String>,
}

impl Pause {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            longest: Duration::ZERO,
            row: 0,
            said: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn answered(&mut self, row: i64) {
        let took = self.since.elapsed();
        let errors = std::mem::take(&mut self.errors);
        if took > self.longest {
            (self.longest, self.row, self.said) = (took, row, errors);
        }
        self.since = Instant::now();
    }
}

/// Reads rows one after the other until told to stop, each as it must be.
fn read(load: &Load, number: usize) {
    let (mut client, reader) = (None, &load.readers[number]);
    for n in 0.. {
        if load.stop.load(Ordering::Relaxed) {
            return;
        }
        let row = {
            let rows = reader.rows.lock().unwrap();
            rows.get(n % rows.len().max(1)).copied()
        };
        let connected = client
            .take()
            .or_else(|| Client::connect(&load.addresses[number]).ok());
        let (Some(row), Some(mut connected)) = (row, connected) else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        let value = format!("SELECT n FROM apart WHERE id = {row}");
        // A node that is killed says nothing; who reads there begins anew.
        match connected.scalar(&value) {
            Ok(value) => {
                assert_eq!(value, Some((row * 7).to_string()));
                reader.pause.lock().unwrap().answered(row);
                client = Some(connected);
            }
            Err(error) => {
                if let WireError::Server(error) = &error {
                    assert!(error.code.starts_with("57P0"), "{error}");
                }
                reader.pause.lock().unwrap().errors.push(error.to_string());
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Has each reader read what its node leads; gives who leads range 1, which has the timestamps that every
/// statement needs.
fn read_what_they_lead(cluster: &Cluster, load: &Load) -> Option<usize> {
    let sql = "SELECT leader_node, start_key, range_id FROM pontoon_internal.ranges \
               WHERE range_id = 1 OR (table_name = 'apart' AND start_key LIKE '%index 1, %')";
    let rows = super::retry(|| Client::connect(&load.addresses[0])?.query(sql)).rows;
    let mut coordinator = None;
    let mut led = vec![Vec::new(); cluster.nodes.len()];
    for row in rows {
        let [Some(leader), Some(start), Some(range)] = &row[..] else {
            continue;
        };
        let leader = leader.parse::<usize>().unwrap() - 1;
        if range == "1" {
            coordinator = Some(leader);
        } else {
            let from: i64 = start.rsplit(' ').next().unwrap().parse().unwrap();
            led[leader].extend(from..from + 9);
        }
    }
    for (reader, led) in load.readers.iter().zip(led) {
        *reader.rows.lock().unwrap() = led;
        *reader.pause.lock().unwrap() = Pause::new();
    }
    coordinator
}

/// Inserts until told to stop, on whichever node answers.
fn write(load: &Load, writer: usize) {
    let mut client: Option<Client> = None;
    let mut node = writer;
    for n in 0.. {
        if load.stop.load(Ordering::Relaxed) {
            return;
        }
        let id = writer as u64 * 1_000_000_000 + n;
        let connected = match client.take() {
            Some(connected) => Some(connected),
            None => Client::connect(&load.addresses[node % load.addresses.len()]).ok(),
        };
        let Some(mut connected) = connected else {
            node += 1;
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        let written = connected.query(&format!("INSERT INTO kept VALUES ({id}, {n})"));
        match written {
            Ok(_) => {
                load.acknowledged.lock().unwrap().insert(id);
                let now = load.began.elapsed().as_millis();
                load.last_ms.store(now as u64, Ordering::Relaxed);
                client = Some(connected);
            }
            Err(WireError::Server(error)) => {
                let may_be = ["57P01", "57P03", "08007", "08006", "40001", "40003"];
                assert!(may_be.contains(&error.code.as_str()), "{error}");
                client = Some(connected);
            }
            // The node is gone.
            Err(_) => node += 1,
        }
    }
}

#[test]
fn kill_9_of_any_node_loses_nothing() {
    let kills: usize = std::env::var("PONTOON_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(6);
    let mut cluster = Cluster::start(3);
    cluster.wait_for_replicas();
    cluster
        .client(0)
        .query(
            "CREATE TABLE kept (id bigint PRIMARY KEY, n bigint NOT NULL); \
             CREATE TABLE apart (id bigint PRIMARY KEY, n bigint NOT NULL); \
             INSERT INTO apart SELECT n, n * 7 FROM generate_series(0, 5999) n; \
             ALTER TABLE apart SPLIT AT SELECT n * 1000 FROM generate_series(0, 5) n",
        )
        .unwrap();
    cluster.wait_for_replicas();
    cluster.wait_for_leaders();
    let load = Arc::new(Load {
        addresses: cluster.nodes.iter().map(PontoonNode::address).collect(),
        stop: AtomicBool::new(false),
        acknowledged: Mutex::default(),
        last_ms: AtomicU64::new(0),
        began: Instant::now(),
        readers: (0..3)
            .map(|_| Reader {
                rows: Mutex::default(),
                pause: Mutex::new(Pause::new()),
            })
            .collect(),
    });
    let start = |work: fn(&Load, usize), count: usize| {
        (0..count)
            .map(move |number| (work, number))
            .collect::<Vec<_>>()
    };
    let clients = start(write, 2).into_iter().chain(start(read, 3));
    let clients: Vec<_> = clients
        .map(|(work, number)| {
            let load = Arc::clone(&load);
            thread::spawn(move || work(&load, number))
        })
        .collect();
    let (mut gaps, mut reads) = (Vec::new(), Vec::new());
    for kill in 0..kills {
        let before = load.acknowledged.lock().unwrap().len();
        let since = Instant::now();
        while load.acknowledged.lock().unwrap().len() < before + 50 {
            assert!(since.elapsed() < PATIENCE, "no writes before kill {kill}");
            thread::sleep(Duration::from_millis(5));
        }
        let victim = kill % cluster.nodes.len();
        let coordinator = read_what_they_lead(&cluster, &load);
        cluster.nodes[victim].kill9().unwrap();
        let killed = Instant::now();
        let killed_ms = load.began.elapsed().as_millis() as u64;
        // Both writers work again, whichever of them was on the node.
        let before = load.acknowledged.lock().unwrap().len();
        while load.last_ms.load(Ordering::Relaxed) < killed_ms
            || load.acknowledged.lock().unwrap().len() < before + 20
        {
            assert!(
                killed.elapsed() < PATIENCE,
                "writes do not resume after kill {kill}"
            );
            thread::sleep(Duration::from_millis(5));
        }
        gaps.push(killed.elapsed());
        if coordinator.is_some_and(|node| node != victim) {
            for (node, reader) in load.readers.iter().enumerate() {
                let reads_nothing = reader.rows.lock().unwrap().is_empty();
                if node == victim || reads_nothing {
                    continue;
                }
                let pause = reader.pause.lock().unwrap();
                let longest = pause.longest.max(pause.since.elapsed());
                if longest > READS_ON {
                    println!(
                        "kill {kill} of node {victim}: {longest:?} without reads on node {node}, of row {}: {:?}, {:?}",
                        pause.row, pause.said, pause.errors
                    );
                }
                reads.push(longest);
            }
        }
        cluster.nodes[victim].start_again().unwrap();
        cluster.wait_for_replicas();
    }
    load.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let mut client = cluster.client(1);
    let found = client.query("SELECT id FROM kept").unwrap();
    let found: BTreeSet<u64> = found
        .rows
        .iter()
        .map(|row| row[0].as_deref().unwrap().parse().unwrap())
        .collect();
    let acknowledged = load.acknowledged.lock().unwrap();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(
        lost.is_empty(),
        "{} acknowledged rows are lost: {lost:?}",
        lost.len()
    );
    gaps.sort();
    reads.sort();
    let (most, half) = (*gaps.last().unwrap(), gaps[gaps.len() / 2]);
    println!(
        "{} kills, {} rows acknowledged; without writes: {} ms median, {} ms at most",
        gaps.len(),
        acknowledged.len(),
        half.as_millis(),
        most.as_millis()
    );
    println!("without reads of what others lead, the longest: {reads:?}");
    // The middle of a few says little.
    let enough = gaps.len() >= MANY;
    assert!(most <= WRITES_AGAIN[0], "{gaps:?}");
    assert!(!enough || half <= WRITES_AGAIN[1], "{gaps:?}");
    assert!(!enough || !reads.is_empty(), "every victim led range 1");
    // A leader may have moved since it was looked who leads.
    let late = reads.iter().filter(|pause| **pause > READS_ON).count();
    assert!(!enough || late * 10 <= reads.len(), "{reads:?}");
}

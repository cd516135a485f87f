//! One run: faults while clients work, then healing, then checks.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::keys;
use crate::sim::check::check;
use crate::sim::clients::{Client, End, History, REGISTERS, What, later_splits};
use crate::sim::cluster::{Bug, Cluster, Shape};
use crate::storage::Space;

/// What a run without failure looked like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Report {
    /// A hash of the whole history.
    pub(super) hash: u64,
    /// The history, a line an operation.
    pub(super) lines: Vec<String>,
    /// Acknowledged operations.
    pub(super) operations: usize,
    /// Ranges in the end.
    pub(super) ranges: usize,
}

const CLIENTS: u64 = 4;
/// How long clients work, in simulated time.
const WORK_MS: u64 = 7_000;
/// How long the cluster may take to agree after it was healed.
const HEALING_MS: u64 = 30_000;

/// Runs one seed; the error says what was found.
pub(super) fn run_seed(shape: Shape, seed: u64, bug: Bug) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    let outcome = runtime.block_on(run(shape, seed, bug));
    // Tasks of crashed nodes may be left; they must not reach into the next run.
    drop(runtime);
    outcome
}

async fn run(shape: Shape, seed: u64, bug: Bug) -> Result<Report, String> {
    let cluster = Cluster::new(shape, seed, bug);
    cluster.weather(0.0, 3);
    for node in 0..cluster.nodes() {
        cluster.start(node, node == 0).await;
    }
    let history = History::default();
    let mut setup = Client::new(&cluster, &history, seed);
    let deadline = Instant::now() + Duration::from_millis(HEALING_MS);
    while !setup.set_up().await {
        if Instant::now() > deadline {
            return Err(format!(
                "the cluster does not start: {:?}",
                cluster.failures()
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let until = Instant::now() + Duration::from_millis(WORK_MS);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| Client::new(&cluster, &history, seed.wrapping_mul(97).wrapping_add(n)))
        .map(|client| tokio::spawn(client.work(until)))
        .collect();
    faults(&cluster, seed, until).await;
    for client in clients {
        client
            .await
            .map_err(|error| format!("a client panicked: {error}"))?;
    }
    heal(&cluster).await;
    let last = final_reads(&cluster, &history, seed).await;
    let agreed = if last.is_ok() {
        agree(&cluster).await
    } else {
        Ok(())
    };
    if let Some(failure) = cluster.failures().first() {
        return Err(failure.clone());
    }
    let records = history.records();
    check(&records)?;
    last?;
    agreed?;
    let mut hasher = std::hash::DefaultHasher::new();
    let lines: Vec<String> = records.iter().map(|record| format!("{record:?}")).collect();
    lines.hash(&mut hasher);
    let operations = records
        .iter()
        .filter(|r| matches!(r.end, End::Done(_)))
        .count();
    let ranges = cluster.db(0).map_or(0, |db| db.node().replicas().len());
    for node in 0..cluster.nodes() {
        cluster.crash(node).await;
    }
    Ok(Report {
        ranges,
        hash: hasher.finish(),
        lines,
        operations,
    })
}

/// Lets things go wrong until the clients are done.
async fn faults(cluster: &Cluster, seed: u64, until: Instant) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0xfa17);
    while Instant::now() < until {
        let calm = rng.random_range(50..900);
        tokio::time::sleep(Duration::from_millis(calm)).await;
        let node = rng.random_range(0..cluster.nodes());
        let down = Duration::from_millis(rng.random_range(1..1_200));
        match rng.random_range(0..if cluster.splits() { 10 } else { 8 }) {
            8..10 => {
                let keys = later_splits();
                cluster.split(&keys[rng.random_range(0..keys.len())]);
            }
            0..2 => {
                cluster.crash(node).await;
                tokio::time::sleep(down).await;
                cluster.start(node, false).await;
            }
            2 => {
                // A power cut of the whole site.
                for node in 0..cluster.nodes() {
                    cluster.crash(node).await;
                }
                tokio::time::sleep(down / 4).await;
                for node in 0..cluster.nodes() {
                    cluster.start(node, false).await;
                }
            }
            3..5 => {
                cluster.isolate(node);
                tokio::time::sleep(down).await;
                cluster.heal();
            }
            5 => cluster.weather(rng.random_range(0.0..0.15), rng.random_range(2..40)),
            6 => cluster.weather(0.0, 3),
            _ => {
                // A node that is cut off loses its power as well.
                cluster.isolate(node);
                tokio::time::sleep(down / 2).await;
                cluster.crash(node).await;
                cluster.heal();
                tokio::time::sleep(down / 2).await;
                cluster.start(node, false).await;
            }
        }
    }
}

async fn heal(cluster: &Cluster) {
    cluster.heal();
    cluster.weather(0.0, 3);
    for node in 0..cluster.nodes() {
        cluster.start(node, false).await;
    }
}

/// Reads everything once more: what was acknowledged must be there.
async fn final_reads(cluster: &Cluster, history: &History, seed: u64) -> Result<(), String> {
    let mut reads: Vec<What> = (0..REGISTERS)
        .map(|register| What::Read { register, value: 0 })
        .collect();
    reads.extend([
        What::Total {
            total: 0,
            accounts: 0,
        },
        What::OnCall { people: 0 },
    ]);
    let deadline = Instant::now() + Duration::from_millis(HEALING_MS);
    for what in reads {
        let mut node = seed;
        loop {
            let mut client = Client::new(cluster, history, node);
            if client.perform(what.clone()).await {
                break;
            }
            if Instant::now() > deadline {
                return Err("the healed cluster does not answer".into());
            }
            node = node.wrapping_add(1);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Waits until all replicas have applied the same entries, then compares their rows.
async fn agree(cluster: &Cluster) -> Result<(), String> {
    let nodes: Vec<_> = (0..cluster.nodes())
        .filter_map(|node| cluster.db(node))
        .collect();
    if nodes.len() < cluster.nodes() {
        return Err("a node is down after healing".into());
    }
    let deadline = Instant::now() + Duration::from_millis(HEALING_MS);
    loop {
        let applied = nodes.iter().map(|db| {
            let replicas = db.node().replicas();
            let positions = replicas
                .iter()
                .map(|replica| replica.state().applied().position);
            (positions.collect::<Vec<_>>(), db.stats().intents)
        });
        let applied: Vec<_> = applied.collect();
        let equal = applied.windows(2).all(|pair| pair[0] == pair[1])
            // All transactions are over, so somebody ends what they have left.
            && applied.iter().all(|(_, intents)| *intents == 0);
        if equal {
            let rows: Vec<_> = nodes
                .iter()
                .map(|db| {
                    let mut rows =
                        db.node()
                            .engine
                            .snapshot()
                            .scan(Space::Kv, b"", keys::END, false);
                    std::iter::from_fn(move || rows.next().ok().flatten()).collect::<Vec<_>>()
                })
                .collect();
            // A tombstone below the safe point may be gone from some replicas already.
            let live = |rows: &Vec<(bytes::Bytes, bytes::Bytes)>| {
                let live = |stored: &[u8]| {
                    crate::mvcc::Header::decode(stored).is_ok_and(|header| !header.tombstone)
                };
                rows.iter()
                    .filter(|(_, stored)| live(stored))
                    .cloned()
                    .collect::<Vec<_>>()
            };
            if rows.windows(2).any(|pair| live(&pair[0]) != live(&pair[1])) {
                return Err("the replicas differ".into());
            }
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err("the replicas do not catch up".into());
        }
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
}

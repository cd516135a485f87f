//! One run: faults while clients work, then healing, then checks.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::db::Db;
use crate::keys;
use crate::sim::check::check;
use crate::sim::clients::{Client, End, History, REGISTERS, What, later_splits, splits};
use crate::sim::cluster::{Bug, Cluster, Shape};
use crate::sim::watcher::{Watcher, tinker};
use crate::storage::Space;
use crate::txn::Span;

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
    /// Quiescent replicas, added up over looks at them all.
    pub(super) rested: usize,
    /// Ranges that became parts of others.
    pub(super) merged: usize,
    /// Changes of metadata that a watch has told.
    pub(super) watched: usize,
}

/// How often it is looked who is quiescent.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Counts quiescent replicas for as long as it is polled.
async fn watch_rest(cluster: &Cluster, rested: &mut usize) {
    loop {
        let nodes = (0..cluster.nodes()).filter_map(|node| cluster.db(node));
        let replicas = nodes.flat_map(|db| db.node().replicas());
        let rest = replicas.filter(|replica| replica.group().is_quiescent());
        *rested += rest.count();
        tokio::time::sleep(LOOK_EVERY).await;
    }
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
    while !(cluster.introduce().await && setup.set_up().await) {
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
    let watcher = tokio::spawn(Watcher::new(&cluster, seed).work(until));
    let tinker = tokio::spawn(tinker(cluster.clone(), seed, until));
    let mut rested = 0;
    {
        let watched = std::pin::pin!(watch_rest(&cluster, &mut rested));
        let faults = std::pin::pin!(faults(&cluster, seed, until));
        futures::future::select(faults, watched).await;
    }
    for client in clients {
        client
            .await
            .map_err(|error| format!("a client panicked: {error}"))?;
    }
    let panicked = |error| format!("a watcher panicked: {error}");
    let watcher = watcher.await.map_err(panicked)?;
    tinker.await.map_err(panicked)?;
    heal(&cluster).await;
    let deadline = Instant::now() + Duration::from_millis(HEALING_MS);
    let watched = watcher.last_look(deadline).await;
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
    let watched = watched?;
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
        rested,
        merged: cluster.merged(),
        watched,
    })
}

/// Lets things go wrong until the clients are done.
async fn faults(cluster: &Cluster, seed: u64, until: Instant) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0xfa17);
    while Instant::now() < until {
        let hurry = if cluster.bounces() { 6 } else { 1 };
        let calm = rng.random_range(50..900) / hurry;
        tokio::time::sleep(Duration::from_millis(calm)).await;
        let node = rng.random_range(0..cluster.nodes());
        let down = Duration::from_millis(rng.random_range(1..1_200));
        if cluster.bounces() && rng.random_range(0..4) > 0 {
            cluster.bounce();
            continue;
        }
        if cluster.moves() {
            match rng.random_range(0..6) {
                0..2 => {
                    cluster.shuffle();
                    continue;
                }
                2 => {
                    cluster.bounce();
                    continue;
                }
                _ => {}
            }
        }
        match rng.random_range(0..if cluster.splits() { 12 } else { 8 }) {
            8..10 => {
                let keys = [splits(), later_splits()].concat();
                cluster.split(&keys[rng.random_range(0..keys.len())]);
            }
            10.. => cluster.merge(),
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
                return Err(format!(
                    "the healed cluster does not answer: {what:?}\n{}",
                    dump(cluster)
                ));
            }
            node = node.wrapping_add(1);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Waits until all members of each range have applied the same entries, then compares their rows.
async fn agree(cluster: &Cluster) -> Result<(), String> {
    let nodes: Vec<Db> = (0..cluster.nodes())
        .filter_map(|node| cluster.db(node))
        .collect();
    if nodes.len() < cluster.nodes() {
        return Err("a node is down after healing".into());
    }
    let deadline = Instant::now() + Duration::from_millis(HEALING_MS);
    loop {
        let missing = match agreed(&nodes) {
            Ok(members) => return compare(&members),
            Err(missing) => missing,
        };
        if Instant::now() > deadline {
            return Err(format!(
                "the replicas do not catch up: {missing}\n{}",
                dump(cluster)
            ));
        }
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
}

/// How the replicas of all nodes stand.
fn dump(cluster: &Cluster) -> String {
    let mut text = String::new();
    for node in 0..cluster.nodes() {
        let Some(db) = cluster.db(node) else {
            text.push_str(&format!("node {node} is down\n"));
            continue;
        };
        for replica in db.node().replicas() {
            let status = replica.group().status();
            let state = replica.state();
            text.push_str(&format!(
                "n{} range {} {} {:?} term {} leads {} ({:?}) leader {:?} voters {:?} learners {:?} \
                 placed {} applied {:?} last {:?} purged {:?} intents {} failure {:?} matched {:?}\n",
                node + 1,
                state.range,
                replica.group().replica(),
                state.descriptor(),
                status.term,
                status.leads,
                replica.leadership(),
                status.leader,
                status.membership.configs,
                status.membership.learners(),
                state.is_placed(),
                state.applied().position,
                status.last,
                status.purged,
                state.intents.len(),
                status.failure,
                status.matched,
            ));
        }
    }
    text
}

/// The members of a range, on their nodes.
type Members = Vec<(Db, Span)>;

/// The members of all ranges, when they have applied the same entries; otherwise who has not.
fn agreed(nodes: &[Db]) -> Result<Vec<Members>, String> {
    let mut found = Vec::new();
    let mut covered = BTreeMap::new();
    for leader in nodes {
        for report in leader.node().report().leads {
            let range = report.descriptor.range;
            let span = report.descriptor.span.clone();
            covered.insert(span.start.clone(), span.end.clone());
            let mut members = Vec::new();
            let mut positions = BTreeSet::new();
            for replica in report.membership.voters() {
                let place = report.membership.members[&replica];
                let node = &nodes[place.node.0 as usize - 1];
                let held = node.node().ranges.of(range);
                let held = held.filter(|held| held.group().replica() == replica);
                let held =
                    held.ok_or_else(|| format!("{replica} of range {range} is not there"))?;
                if !report.settled
                    || held.state().descriptor() != report.descriptor
                    || !held.state().intents.is_empty()
                {
                    return Err(format!("{replica} of range {range} is behind"));
                }
                positions.insert(held.state().applied().position);
                members.push((node.clone(), span.clone()));
            }
            if positions.len() > 1 {
                return Err(format!("members of range {range} are at {positions:?}"));
            }
            found.push(members);
        }
    }
    let mut next = keys::system_span().start;
    for (start, end) in covered {
        if start != next {
            return Err(format!("nobody leads {next:?}"));
        }
        next = end;
    }
    if next != keys::user_span().end {
        return Err(format!("nobody leads {next:?}"));
    }
    Ok(found)
}

/// Compares the rows of the members of each range.
fn compare(ranges: &[Members]) -> Result<(), String> {
    for members in ranges {
        let rows: Vec<_> = members
            .iter()
            .map(|(db, span)| live_rows(db, span))
            .collect();
        if rows.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err("the replicas differ".into());
        }
    }
    Ok(())
}

/// The newest rows of a span. A tombstone below the safe point may be gone from some replicas
/// already, so none counts.
fn live_rows(db: &Db, span: &Span) -> Vec<(Bytes, Bytes)> {
    let snapshot = db.node().engine.snapshot();
    let mut rows = snapshot.scan(Space::Kv, &span.start, &span.end, false);
    let rows = std::iter::from_fn(move || rows.next().ok().flatten());
    let live = |(_, stored): &(Bytes, Bytes)| {
        crate::mvcc::Header::decode(stored).is_ok_and(|header| !header.tombstone)
    };
    rows.filter(live).collect()
}

//! Somebody who watches the metadata of the cluster while somebody else changes it: what the watch
//! tells must lead from what was known to what a scan finds, page by page and from node to node.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::cluster::{Topic, Watched, WatchedKind};
use crate::error::Error;
use crate::keys;
use crate::sim::cluster::Cluster;
use crate::timestamp::Timestamp;
use crate::txn::{Db, ScanOptions, TxnOptions};

/// Longer than any question should take.
const PATIENCE: Duration = Duration::from_millis(4_000);
/// Settings and splits that are written are so many.
const NUMBERS: u32 = 4;
/// A table a row of which is written together with them.
const TABLE: u32 = 5;
/// One look in so many begins again where an earlier one was.
const BACK_EVERY: u32 = 8;

/// Rows of metadata.
type Rows = BTreeMap<(Topic, Bytes), Bytes>;

/// Somebody who watches.
pub(super) struct Watcher {
    cluster: Cluster,
    rng: SmallRng,
    node: usize,
    since: Timestamp,
    rows: Rows,
    /// What was known at an earlier moment.
    earlier: (Timestamp, Rows),
    /// Changes that were told.
    told: usize,
}

impl Watcher {
    pub(super) fn new(cluster: &Cluster, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x3a7c4);
        let node = rng.random_range(0..cluster.nodes());
        Self {
            cluster: cluster.clone(),
            rng,
            node,
            since: Timestamp::ZERO,
            rows: Rows::new(),
            earlier: (Timestamp::ZERO, Rows::new()),
            told: 0,
        }
    }

    /// Watches until the deadline.
    pub(super) async fn work(mut self, until: Instant) -> Self {
        while Instant::now() < until {
            let wait = Duration::from_millis(self.rng.random_range(0..400));
            if !self.look(wait).await {
                self.node = (self.node + 1) % self.cluster.nodes();
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            if self.rng.random_range(0..BACK_EVERY) == 0 {
                let now = (self.since, self.rows.clone());
                (self.since, self.rows) = std::mem::replace(&mut self.earlier, now);
            }
        }
        self
    }

    /// Looks at a cluster that is well, until its nodes know what is told. Returns how many changes
    /// were told in all.
    pub(super) async fn last_look(mut self, deadline: Instant) -> Result<usize, String> {
        while !(self.look(Duration::ZERO).await && self.all_know()) {
            if Instant::now() > deadline {
                return Err("the healed cluster cannot be watched, or does not itself".into());
            }
            self.node = (self.node + 1) % self.cluster.nodes();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(self.told)
    }

    /// Whether every node knows of nodes and splits what was told.
    fn all_know(&self) -> bool {
        let rows = |topic| {
            let rows = self.rows.keys().filter(move |(of, _)| *of == topic);
            rows.map(|(_, key)| key.clone()).collect::<Vec<_>>()
        };
        let told = (rows(Topic::Nodes), rows(Topic::Splits));
        let nodes = (0..self.cluster.nodes()).filter_map(|node| self.cluster.db(node));
        let mut known = nodes.map(|db| db.node().known_keys());
        known.all(|known| known == told)
    }

    /// Asks once, and compares what it knows then with what is there; whether it was answered.
    async fn look(&mut self, wait: Duration) -> bool {
        let Some(db) = self.cluster.db(self.node) else {
            return false;
        };
        let asked = db.watch(&Topic::ALL, self.since, wait);
        let Ok(Ok(watched)) = tokio::time::timeout(PATIENCE, asked).await else {
            return false;
        };
        let revision = watched.revision;
        if let Err(wrong) = self.take(watched) {
            let since = self.since;
            self.cluster.fail(format!("a watch since {since}: {wrong}"));
            return false;
        }
        self.since = revision;
        let scanned = tokio::time::timeout(PATIENCE, rows_at(&db, revision)).await;
        if let Ok(Ok(found)) = scanned
            && found != self.rows
        {
            let told = &self.rows;
            self.cluster.fail(format!(
                "a watch has told {told:?}, at {revision} a scan finds {found:?}"
            ));
        }
        true
    }

    fn take(&mut self, watched: Watched) -> Result<(), String> {
        if watched.kind != WatchedKind::Changes {
            self.rows.clear();
        } else if watched.revision < self.since {
            return Err(format!("goes back to {}", watched.revision));
        }
        let mut last = self.since;
        for event in watched.events {
            let key = (event.topic, event.key.clone());
            let before = match &event.value {
                Some(value) => self.rows.insert(key, value.clone()),
                None => self.rows.remove(&key),
            };
            if watched.kind != WatchedKind::Changes {
                continue;
            }
            self.told += 1;
            let behind = last.max(Timestamp(self.since.0 + 1)) <= event.revision;
            if !behind || event.revision > watched.revision || before != event.old {
                return Err(format!("{event:?} in place of {before:?} after {last}"));
            }
            last = event.revision;
        }
        Ok(())
    }
}

/// All rows of metadata as of a timestamp.
async fn rows_at(db: &Db, at: Timestamp) -> Result<Rows, Error> {
    let txn = db.read_for_another(at, false);
    let mut rows = Rows::new();
    for topic in Topic::ALL {
        let mut scan = txn.scan(topic.span(), ScanOptions::default());
        while let Some(batch) = scan.next_batch().await? {
            for (key, value) in batch.iter() {
                let key = (topic, Bytes::copy_from_slice(&key[1..]));
                rows.insert(key, Bytes::copy_from_slice(value));
            }
        }
    }
    txn.rollback().await;
    Ok(rows)
}

/// Changes settings and wanted splits until the deadline, some of them together with rows of other ranges.
pub(super) async fn tinker(cluster: Cluster, seed: u64, until: Instant) {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x71c4);
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..150))).await;
        let Some(db) = cluster.db(rng.random_range(0..cluster.nodes())) else {
            continue;
        };
        // Whatever becomes of it, the watch tells the same as a scan.
        let _ = tokio::time::timeout(PATIENCE, write(&db, &mut rng)).await;
    }
}

async fn write(db: &Db, rng: &mut SmallRng) -> Result<(), Error> {
    let txn = db.begin(TxnOptions::default()).await?;
    for _ in 0..rng.random_range(1..3) {
        let number = rng.random_range(0..NUMBERS);
        let key = match rng.random_bool(0.7) {
            true => keys::setting_key(&number.to_string()),
            // Nobody splits there; nobody would merge what begins there.
            false => keys::wanted_split_key(&keys::table_prefix(TABLE, number)),
        };
        let value = rng.random::<u64>().to_be_bytes();
        match rng.random_range(0..4) {
            0 => txn.delete(key.into())?,
            _ => txn.put(key.into(), Bytes::copy_from_slice(&value))?,
        }
    }
    if rng.random_bool(0.3) {
        txn.put(keys::table_prefix(TABLE, 1).into(), Bytes::new())?;
    }
    txn.commit().await.map(|_| ())
}

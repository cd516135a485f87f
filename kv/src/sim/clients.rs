//! Clients: what they do, and the record of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::error::Error;
use crate::keys;
use crate::sim::cluster::Cluster;
use crate::sim::kept::{self, Kept};
use crate::timestamp::Timestamp;
use crate::txn::{
    Db, IsolationLevel, Key, LockStrength, LockWait, Remembered, ScanOptions, Span, Txn, TxnOptions,
};

/// The last of them is the version of the catalog.
pub(super) const REGISTERS: u64 = 4;
pub(super) const CATALOG: u64 = REGISTERS - 1;
pub(super) const ACCOUNTS: u64 = 5;
pub(super) const FUNDS: u64 = 100;
const REGISTER_TABLE: u32 = 1;
const BANK_TABLE: u32 = 2;
const CALL_TABLE: u32 = 3;
const FRESH_TABLE: u32 = 4;
const ROWS_TABLE: u32 = 5;
/// So many operations share a key that is to be inserted once.
const INSERTS: u64 = 12;
/// Longer than any operation should take; then its outcome is unknown.
const PATIENCE: Duration = Duration::from_millis(4_000);

/// What an operation was and what it saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    Write {
        register: u64,
        value: u64,
    },
    Read {
        register: u64,
        value: u64,
    },
    /// Reads one value and writes another in one transaction.
    Swap {
        register: u64,
        old: u64,
        value: u64,
    },
    /// Writes a row, at some isolation level, which rests on the catalog as it was read.
    Rest {
        version: u64,
        row: u64,
    },
    Transfer,
    Total {
        total: u64,
        accounts: u64,
    },
    OnCall {
        people: u64,
    },
    LeaveOrReturn,
    /// Inserts a key, unless it is there, without validation of what it reads.
    Insert {
        key: u64,
        there: bool,
    },
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// It took effect at this timestamp.
    Done(Timestamp),
    /// It may have.
    Unknown,
    /// It did not.
    Failed,
}

/// A line of the history. Begin and end are numbers of events, in real-time order.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) what: What,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) end: End,
}

/// What all clients have done.
#[derive(Clone, Default)]
pub(super) struct History {
    events: Arc<AtomicU64>,
    values: Arc<AtomicU64>,
    records: Arc<Mutex<Vec<Record>>>,
}

impl History {
    fn event(&self) -> u64 {
        self.events.fetch_add(1, Ordering::SeqCst)
    }

    fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A key to be inserted, which others insert too.
    fn fresh_key(&self) -> u64 {
        self.events.load(Ordering::SeqCst) / INSERTS
    }

    pub(super) fn records(&self) -> Vec<Record> {
        self.records.lock().clone()
    }
}

fn register_key(n: u64) -> Key {
    if n == CATALOG {
        return keys::CATALOG_VERSION.into();
    }
    key(REGISTER_TABLE, n)
}

fn key(table: u32, n: u64) -> Key {
    let mut key = keys::table_prefix(table, 1);
    key.extend_from_slice(&n.to_be_bytes());
    key.into()
}

/// Keys that part registers, accounts and the duty roster, each within itself.
pub(super) fn splits() -> Vec<Key> {
    vec![
        key(REGISTER_TABLE, 1),
        key(BANK_TABLE, 2),
        key(BANK_TABLE, 4),
        key(CALL_TABLE, 1),
    ]
}

/// Keys at which ranges are split while clients work.
pub(super) fn later_splits() -> Vec<Key> {
    vec![
        key(REGISTER_TABLE, 2),
        key(BANK_TABLE, 0),
        key(BANK_TABLE, 1),
        key(BANK_TABLE, 3),
        key(CALL_TABLE, 0),
        key(ROWS_TABLE, 1),
    ]
}

fn encode(n: u64) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

fn decode(value: &[u8]) -> u64 {
    value.try_into().map_or(u64::MAX, u64::from_be_bytes)
}

async fn get(txn: &Txn, key: &Key) -> Result<u64, Error> {
    Ok(txn.get(key).await?.map_or(0, |value| decode(&value)))
}

async fn rows(txn: &Txn, span: Span) -> Result<Vec<u64>, Error> {
    let options = ScanOptions {
        batch_rows: 2,
        ..ScanOptions::default()
    };
    let mut scan = txn.scan(span, options);
    let mut rows = Vec::new();
    while let Some(batch) = scan.next_batch().await? {
        rows.extend(batch.iter().map(|(_, value)| decode(value)));
    }
    Ok(rows)
}

/// A client.
pub(super) struct Client {
    cluster: Cluster,
    history: History,
    rng: SmallRng,
    node: usize,
    /// The bank, as it was read before.
    bank: Option<Kept>,
    /// The version of the catalog, as it was read before.
    catalog: Remembered<u64>,
}

/// How often, and how long, all clients rest.
const SIESTA_EVERY_MS: u128 = 2_000;
const SIESTA_MS: u128 = 500;

impl Client {
    pub(super) fn new(cluster: &Cluster, history: &History, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let node = rng.random_range(0..cluster.nodes());
        Self {
            cluster: cluster.clone(),
            history: history.clone(),
            rng,
            node,
            bank: None,
            catalog: Remembered::default(),
        }
    }

    /// Works until the deadline.
    pub(super) async fn work(mut self, until: tokio::time::Instant) {
        let from = tokio::time::Instant::now();
        while tokio::time::Instant::now() < until {
            // All rest together now and then, for ranges to become quiescent.
            let phase = from.elapsed().as_millis() % SIESTA_EVERY_MS;
            if let Some(rest) = SIESTA_MS.checked_sub(phase) {
                tokio::time::sleep(Duration::from_millis(rest as u64)).await;
            }
            let what = self.draw();
            if !self.perform(what).await {
                self.node = (self.node + 1) % self.cluster.nodes();
            }
            // Often none at all: what was just acknowledged may not be applied yet.
            let pause = self.rng.random_range(0..60_u64).saturating_sub(20);
            if pause > 0 {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
    }

    fn draw(&mut self) -> What {
        let register = self.rng.random_range(0..REGISTERS);
        match self.rng.random_range(0..13) {
            0..2 => What::Write {
                register,
                value: self.history.value(),
            },
            2 => What::Swap {
                register,
                old: 0,
                value: self.history.value(),
            },
            3..5 => What::Read { register, value: 0 },
            5..7 => What::Transfer,
            7 => What::Total {
                total: 0,
                accounts: 0,
            },
            8 => What::OnCall { people: 0 },
            9 => What::Insert {
                key: self.history.fresh_key(),
                there: false,
            },
            10 => What::LeaveOrReturn,
            _ => What::Rest {
                version: 0,
                row: self.rng.random_range(0..REGISTERS),
            },
        }
    }

    /// Does one operation on the current node and records it; whether it was done.
    pub(super) async fn perform(&mut self, mut what: What) -> bool {
        let Some(db) = self.cluster.db(self.node) else {
            return false;
        };
        let began = self.history.event();
        let outcome = tokio::time::timeout(PATIENCE, self.attempt(&db, &mut what)).await;
        let end = match outcome {
            Ok(Ok(at)) => End::Done(at),
            Ok(Err(Error::Ambiguous)) | Err(_) => End::Unknown,
            Ok(Err(_)) => End::Failed,
        };
        let ended = self.history.event();
        self.history.records.lock().push(Record {
            what,
            began,
            ended,
            end,
        });
        matches!(end, End::Done(_))
    }

    async fn attempt(&mut self, db: &Db, what: &mut What) -> Result<Timestamp, Error> {
        let reads = matches!(
            what,
            What::Read { .. } | What::Total { .. } | What::OnCall { .. }
        );
        let isolation = match what {
            What::Insert { .. } => IsolationLevel::RepeatableRead,
            What::Rest { row: 0, .. } => IsolationLevel::ReadCommitted,
            What::Rest { row: 1, .. } => IsolationLevel::RepeatableRead,
            _ => IsolationLevel::Serializable,
        };
        let options = TxnOptions {
            read_only: reads,
            isolation,
            ..TxnOptions::default()
        };
        let txn = db.begin(options).await?;
        txn.begin_statement().await?;
        match what {
            What::Write { register, value } => {
                txn.put(register_key(*register), encode(*value))?;
            }
            What::Read { register, value } => {
                *value = match *register {
                    CATALOG => self.version(&txn).await?,
                    _ => get(&txn, &register_key(*register)).await?,
                };
            }
            What::Rest { version, row } => {
                *version = self.version(&txn).await?;
                txn.require_catalog();
                let row = key(ROWS_TABLE, *row);
                if self.rng.random_bool(0.5) {
                    let wait = LockWait::Wait(Some(500));
                    let before = txn.read_timestamp();
                    txn.lock(std::slice::from_ref(&row), LockStrength::Update, wait)
                        .await?;
                    if txn.read_timestamp() != before {
                        // Its statement runs again, with what it has of the catalog.
                        get(&txn, &row).await?;
                    }
                }
                txn.put(row, encode(*version))?;
            }
            What::Swap {
                register,
                old,
                value,
            } => {
                let key = register_key(*register);
                if self.rng.random_bool(0.5) {
                    txn.lock(
                        &[key.clone()],
                        LockStrength::Update,
                        LockWait::Wait(Some(500)),
                    )
                    .await?;
                }
                *old = get(&txn, &key).await?;
                txn.put(key, encode(*value))?;
            }
            What::Transfer => self.transfer(&txn).await?,
            What::Total { total, accounts } => {
                let rows = rows(&txn, keys::table_span(BANK_TABLE)).await?;
                (*total, *accounts) = (rows.iter().sum(), rows.len() as u64);
                let bank = keys::table_span(BANK_TABLE);
                if let Err(differs) = kept::compare(&mut self.bank, &txn, &bank).await? {
                    self.cluster.fail(differs);
                }
            }
            What::Insert { key: n, there } => {
                let key = key(FRESH_TABLE, *n);
                let wait = LockWait::Wait(Some(500));
                txn.lock(std::slice::from_ref(&key), LockStrength::Update, wait)
                    .await?;
                *there = txn.get(&key).await?.is_some();
                if !*there {
                    txn.put(key, encode(*n))?;
                }
            }
            What::OnCall { people } => {
                *people = rows(&txn, keys::table_span(CALL_TABLE)).await?.iter().sum();
            }
            What::LeaveOrReturn => {
                let people: u64 = rows(&txn, keys::table_span(CALL_TABLE)).await?.iter().sum();
                // Whoever leaves makes sure that somebody stays; with one left, the other returns.
                let who = self.rng.random_range(0..2);
                if people == 2 {
                    txn.put(key(CALL_TABLE, who), encode(0))?;
                } else {
                    txn.put(key(CALL_TABLE, 0), encode(1))?;
                    txn.put(key(CALL_TABLE, 1), encode(1))?;
                }
            }
        }
        let done = txn.commit().await?;
        Ok(done.timestamp)
    }

    /// The version of the catalog, from memory where that serves.
    async fn version(&self, txn: &Txn) -> Result<u64, Error> {
        if let Some(known) = self.catalog.recall(txn) {
            return Ok(*known);
        }
        let read = get(txn, &register_key(CATALOG)).await?;
        self.catalog.note(txn, Arc::new(read));
        Ok(read)
    }

    async fn transfer(&mut self, txn: &Txn) -> Result<(), Error> {
        let (from, to) = (
            self.rng.random_range(0..ACCOUNTS),
            self.rng.random_range(0..ACCOUNTS),
        );
        if from == to {
            return Ok(());
        }
        let (from, to) = (key(BANK_TABLE, from), key(BANK_TABLE, to));
        if self.rng.random_bool(0.4) {
            let both = [from.clone(), to.clone()];
            txn.lock(&both, LockStrength::Update, LockWait::Wait(Some(500)))
                .await?;
        }
        let amount = self.rng.random_range(1..20);
        let balances = if self.rng.random_bool(0.5) {
            let both = txn.multi_get(&[from.clone(), to.clone()]).await?;
            let balance = |value: Option<Bytes>| value.map_or(0, |value| decode(&value));
            both.into_iter().map(balance).collect()
        } else {
            vec![get(txn, &from).await?, get(txn, &to).await?]
        };
        if balances[0] >= amount {
            txn.put(from, encode(balances[0] - amount))?;
            txn.put(to, encode(balances[1] + amount))?;
        }
        Ok(())
    }

    /// Opens the accounts and the duty roster; whether it was done.
    pub(super) async fn set_up(&mut self) -> bool {
        let Some(db) = self.cluster.db(self.node) else {
            return false;
        };
        self.node = (self.node + 1) % self.cluster.nodes();
        let open = async {
            let isolation = IsolationLevel::Serializable;
            let txn = db
                .begin(TxnOptions {
                    isolation,
                    ..TxnOptions::default()
                })
                .await?;
            if rows(&txn, keys::table_span(BANK_TABLE)).await?.is_empty() {
                for account in 0..ACCOUNTS {
                    txn.put(key(BANK_TABLE, account), encode(FUNDS))?;
                }
                for person in 0..2 {
                    txn.put(key(CALL_TABLE, person), encode(1))?;
                }
            }
            txn.commit().await
        };
        matches!(tokio::time::timeout(PATIENCE, open).await, Ok(Ok(_)))
    }
}

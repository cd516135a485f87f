//! Row locks: four strengths, fair queues, deadlock detection.
//!
//! A request is granted when it conflicts with no holder and with nobody who waits before it. A
//! transaction never conflicts with itself; one that already holds the row in a weaker strength
//! goes to the front of the queue. Before a transaction begins to wait, the graph of who waits for
//! whom is searched for a way back to it; if there is one, it is the victim.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::error::{ConflictReason, Error};
use crate::timestamp::Timestamp;
use crate::txn::LockStrength;

/// A transaction, named by its start timestamp.
type TxnId = Timestamp;

/// What became of a request for a lock.
#[derive(Debug)]
pub enum LockOutcome {
    /// The row was not locked by this transaction before.
    Granted,
    /// The transaction holds the row already, strong enough, or has been granted more of it.
    Held,
    /// Somebody is in the way; the transaction waits in the queue.
    Queued(LockTicket),
}

/// A place in the queue for a row.
#[derive(Debug)]
pub struct LockTicket {
    table: Arc<LockTable>,
    key: Bytes,
    txn: TxnId,
    /// Resolves when the lock is granted; fails when the table was cleared.
    granted: oneshot::Receiver<()>,
    done: bool,
}

impl LockTicket {
    /// Waits for the lock. Cancellation: dropping the future leaves the queue.
    pub async fn wait(mut self) -> Result<(), Error> {
        let granted = (&mut self.granted).await;
        self.done = true;
        granted.map_err(|_| Error::Conflict {
            reason: ConflictReason::ConcurrentUpdate,
        })
    }
}

impl Drop for LockTicket {
    fn drop(&mut self) {
        if !self.done {
            self.table.leave(&self.key, self.txn);
        }
    }
}

struct Waiter {
    txn: TxnId,
    strength: LockStrength,
    wake: oneshot::Sender<()>,
}

#[derive(Default)]
struct Row {
    holders: SmallVec<[(TxnId, LockStrength); 1]>,
    queue: VecDeque<Waiter>,
}

#[derive(Default)]
struct Rows {
    rows: BTreeMap<Bytes, Row>,
    /// What each waiting transaction waits for.
    waiting: BTreeMap<TxnId, Bytes>,
}

/// The row locks of one range.
#[derive(Default)]
pub struct LockTable {
    rows: Mutex<Rows>,
    /// Number of locked rows, to spare the lock when there is none.
    count: AtomicUsize,
}

impl std::fmt::Debug for LockTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LockTable({} rows)", self.count.load(Ordering::Relaxed))
    }
}

/// PostgreSQL's table of conflicts between row locks.
fn conflict(a: LockStrength, b: LockStrength) -> bool {
    use LockStrength::{KeyShare, NoKeyUpdate, Share, Update};
    match (a, b) {
        (Update, _) | (_, Update) | (NoKeyUpdate, NoKeyUpdate | Share) | (Share, NoKeyUpdate) => {
            true
        }
        (KeyShare, _) | (_, KeyShare) | (Share, Share) => false,
    }
}

impl Row {
    /// Whether `txn` may have the row next to its holders and the first `ahead` waiters.
    fn admits(&self, txn: TxnId, strength: LockStrength, ahead: usize) -> bool {
        self.blockers(txn, strength, ahead).next().is_none()
    }

    fn blockers(
        &self,
        txn: TxnId,
        strength: LockStrength,
        ahead: usize,
    ) -> impl Iterator<Item = TxnId> {
        let holders = self.holders.iter().copied();
        let waiters = self
            .queue
            .iter()
            .take(ahead)
            .map(|waiter| (waiter.txn, waiter.strength));
        holders
            .chain(waiters)
            .filter(move |(other, held)| *other != txn && conflict(*held, strength))
            .map(|(other, _)| other)
    }

    fn held_by(&self, txn: TxnId) -> Option<LockStrength> {
        self.holders
            .iter()
            .find(|(holder, _)| *holder == txn)
            .map(|(_, strength)| *strength)
    }

    fn hold(&mut self, txn: TxnId, strength: LockStrength) {
        match self.holders.iter_mut().find(|(holder, _)| *holder == txn) {
            // Share and NoKeyUpdate together are as strong as NoKeyUpdate for our purposes only
            // if the stronger one is kept.
            Some((_, held)) => *held = (*held).max(strength),
            None => self.holders.push((txn, strength)),
        }
    }
}

impl Rows {
    /// Grants what can be granted from the front of the queue of a row.
    fn promote(&mut self, key: &Bytes) -> bool {
        let Some(row) = self.rows.get_mut(key) else {
            return false;
        };
        let mut at = 0;
        while let Some(waiter) = row.queue.get(at) {
            let (txn, strength) = (waiter.txn, waiter.strength);
            if !row.admits(txn, strength, at) {
                at += 1;
                continue;
            }
            let Some(waiter) = row.queue.remove(at) else {
                break;
            };
            self.waiting.remove(&txn);
            if waiter.wake.send(()).is_ok() {
                row.hold(txn, strength);
            }
        }
        if row.holders.is_empty() && row.queue.is_empty() {
            self.rows.remove(key);
            return true;
        }
        false
    }

    /// Who keeps `txn` waiting.
    fn blockers_of(&self, txn: TxnId) -> Vec<(TxnId, &Bytes, LockStrength)> {
        let Some((key, row)) = self
            .waiting
            .get(&txn)
            .and_then(|key| self.rows.get_key_value(key))
        else {
            return Vec::new();
        };
        let Some(at) = row.queue.iter().position(|waiter| waiter.txn == txn) else {
            return Vec::new();
        };
        let Some(strength) = row.queue.get(at).map(|waiter| waiter.strength) else {
            return Vec::new();
        };
        row.blockers(txn, strength, at)
            .map(|other| (other, key, strength))
            .collect()
    }

    /// A way from `txn` over those it waits for back to itself, as PostgreSQL words it.
    fn deadlock(&self, txn: TxnId) -> Option<String> {
        let mut path = Vec::new();
        self.search(txn, txn, &mut BTreeSet::new(), &mut path).then(|| {
            let mut detail = String::new();
            for (waiter, key, strength, blocker) in path {
                let lock = match strength {
                    LockStrength::KeyShare => "KeyShareLock",
                    LockStrength::Share => "ShareLock",
                    LockStrength::NoKeyUpdate => "NoKeyExclusiveLock",
                    LockStrength::Update => "ExclusiveLock",
                };
                let line = if detail.is_empty() { "" } else { "\n" };
                let _ = write!(
                    detail,
                    "{line}Transaction {waiter} waits for {lock} on row {}; blocked by transaction {blocker}.",
                    Hex(&key)
                );
            }
            detail
        })
    }

    fn search(
        &self,
        from: TxnId,
        to: TxnId,
        seen: &mut BTreeSet<TxnId>,
        path: &mut Vec<(TxnId, Bytes, LockStrength, TxnId)>,
    ) -> bool {
        for (blocker, key, strength) in self.blockers_of(from) {
            path.push((from, key.clone(), strength, blocker));
            if blocker == to || (seen.insert(blocker) && self.search(blocker, to, seen, path)) {
                return true;
            }
            path.pop();
        }
        false
    }
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\\x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl LockTable {
    /// Asks for a lock. With `queue` false a row that is not free is
    /// [`Error::LockNotAvailable`].
    pub fn acquire(
        self: &Arc<Self>,
        txn: TxnId,
        key: &Bytes,
        strength: LockStrength,
        queue: bool,
    ) -> Result<LockOutcome, Error> {
        let mut rows = self.rows.lock();
        let row = rows.rows.entry(key.clone()).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            Row::default()
        });
        let held = row.held_by(txn);
        if held.is_some_and(|held| held >= strength) {
            return Ok(LockOutcome::Held);
        }
        let ahead = if held.is_some() { 0 } else { row.queue.len() };
        if row.admits(txn, strength, ahead) {
            row.hold(txn, strength);
            return Ok(if held.is_some() {
                LockOutcome::Held
            } else {
                LockOutcome::Granted
            });
        }
        if !queue {
            return Err(Error::LockNotAvailable);
        }
        let (wake, granted) = oneshot::channel();
        row.queue.insert(
            ahead,
            Waiter {
                txn,
                strength,
                wake,
            },
        );
        rows.waiting.insert(txn, key.clone());
        if let Some(detail) = rows.deadlock(txn) {
            drop(rows);
            self.leave(key, txn);
            return Err(Error::Deadlock { detail });
        }
        drop(rows);
        let table = Arc::clone(self);
        Ok(LockOutcome::Queued(LockTicket {
            table,
            key: key.clone(),
            txn,
            granted,
            done: false,
        }))
    }

    /// Leaves the queue of a row; what was granted in the meantime stays until
    /// [`Self::release`].
    fn leave(&self, key: &Bytes, txn: TxnId) {
        let mut rows = self.rows.lock();
        rows.waiting.remove(&txn);
        if let Some(row) = rows.rows.get_mut(key) {
            row.queue.retain(|waiter| waiter.txn != txn);
        }
        self.promote(&mut rows, key);
    }

    fn promote(&self, rows: &mut Rows, key: &Bytes) {
        if rows.promote(key) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gives back the locks of `txn` on `keys`.
    pub fn release<'a>(&self, txn: TxnId, keys: impl IntoIterator<Item = &'a Bytes>) {
        let mut rows = self.rows.lock();
        for key in keys {
            if let Some(row) = rows.rows.get_mut(key) {
                row.holders.retain(|(holder, _)| *holder != txn);
                self.promote(&mut rows, key);
            }
        }
    }

    /// Forgets every lock: the replica does not lead any more, or leads anew. Who waits fails.
    pub fn clear(&self) {
        let mut rows = self.rows.lock();
        rows.rows.clear();
        rows.waiting.clear();
        self.count.store(0, Ordering::Relaxed);
    }

    /// Number of rows that are locked or waited for.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether no row is locked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

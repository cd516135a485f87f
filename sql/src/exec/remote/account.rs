//! [`Account`]: what became of the parts of a statement, kept when EXPLAIN (DIST) asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pontoon_kv::NodeId;

/// What became of the parts of a statement.
#[derive(Debug, Default)]
pub struct Account {
    /// Parts are only placed, not run.
    pub planned: bool,
    spreads: Mutex<Vec<Arc<SpreadAccount>>>,
}

/// What became of one scan or aggregate of which other nodes do parts.
#[derive(Debug)]
pub struct SpreadAccount {
    /// "Scan of t", "Aggregate over t".
    pub what: String,
    /// This node.
    pub me: NodeId,
    /// The ranges that this node reads itself.
    pub here: Vec<u64>,
    /// Rows that all parts have read.
    read: Arc<AtomicUsize>,
    away: Mutex<Vec<Arc<PartAccount>>>,
}

/// What became of a part for another node.
#[derive(Debug)]
pub struct PartAccount {
    /// That node.
    pub node: NodeId,
    /// The ranges that it lies in.
    pub ranges: Vec<u64>,
    begun: Mutex<Option<Instant>>,
    measured: Mutex<Measured>,
}

/// What was measured of a part.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Measured {
    /// Pages that came.
    pub pages: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// How long it took until the first one came.
    pub first: Option<Duration>,
    /// How long it took until the last one came; `None` when it was not asked for.
    pub last: Option<Duration>,
    /// Rows of the table that the other node has read; it says so at the end.
    pub read: Option<u64>,
    /// Rows and bytes that it has given to the parts of a shuffle, if it does that.
    pub shuffled: Option<(u64, u64)>,
    /// Why this node has done it instead.
    pub instead: Option<String>,
}

impl Account {
    /// An account of parts that are run, or only placed.
    pub fn new(planned: bool) -> Arc<Self> {
        Arc::new(Self {
            planned,
            ..Self::default()
        })
    }

    /// A scan or an aggregate begins whose parts add to `read` what they have read.
    pub fn open(
        &self,
        what: String,
        me: NodeId,
        here: Vec<u64>,
        read: &Arc<AtomicUsize>,
    ) -> Arc<SpreadAccount> {
        let spread = Arc::new(SpreadAccount {
            what,
            me,
            here,
            read: Arc::clone(read),
            away: Mutex::default(),
        });
        self.spreads.lock().push(Arc::clone(&spread));
        spread
    }

    /// All that was opened, in that order.
    pub fn spreads(&self) -> Vec<Arc<SpreadAccount>> {
        self.spreads.lock().clone()
    }
}

impl SpreadAccount {
    /// A part for another node.
    pub fn part(&self, node: NodeId, ranges: Vec<u64>) -> Arc<PartAccount> {
        let part = Arc::new(PartAccount {
            node,
            ranges,
            begun: Mutex::default(),
            measured: Mutex::default(),
        });
        self.away.lock().push(Arc::clone(&part));
        part
    }

    /// The parts for other nodes.
    pub fn parts(&self) -> Vec<Arc<PartAccount>> {
        self.away.lock().clone()
    }

    /// Rows that this node has read itself, those of parts that it did instead among them.
    pub fn read_here(&self) -> u64 {
        let away = self.away.lock();
        let away: u64 = away.iter().filter_map(|part| part.measured().read).sum();
        let all = self.read.load(Ordering::Relaxed) as u64;
        all.saturating_sub(away)
    }
}

impl PartAccount {
    /// The other node is asked.
    pub fn begin(&self) {
        *self.begun.lock() = Some(Instant::now());
    }

    /// A page has come; at the end it says how many rows were read.
    pub fn page(&self, rows: u64, bytes: u64, read: Option<u64>) {
        let took = self.begun.lock().map(|begun| begun.elapsed());
        let mut measured = self.measured.lock();
        measured.pages += 1;
        measured.rows += rows;
        measured.bytes += bytes;
        measured.first = measured.first.or(took);
        if read.is_some() {
            measured.read = read;
            measured.last = took;
        }
    }

    /// At the end it says how many rows and bytes it has shuffled, and how many rows were read.
    pub fn shuffled(&self, rows: u64, bytes: u64, read: u64) {
        let took = self.begun.lock().map(|begun| begun.elapsed());
        let mut measured = self.measured.lock();
        measured.shuffled = Some((rows, bytes));
        measured.read = Some(read);
        measured.last = took;
    }

    /// This node does it instead.
    pub fn instead(&self, reason: &str) {
        self.measured.lock().instead = Some(reason.to_owned());
    }

    /// What was measured.
    pub fn measured(&self) -> Measured {
        self.measured.lock().clone()
    }
}

//! [`RangeState`]: what the parts of a replica share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::{Buf, BufMut, Bytes};
use parking_lot::{Mutex, RwLock};
use pontoon_raft::{AppliedState, LogPosition};
use tokio::sync::mpsc::UnboundedSender;

use crate::concurrency::{Latches, LockTable, ReadSpan};
use crate::error::Error;
use crate::keys::meta;
use crate::range::descriptor::Descriptor;
use crate::range::heard::Heard;
use crate::range::intents::Intents;
use crate::range::load::Load;
use crate::range::recent::RecentWrites;
use crate::range::stirs::Stirs;
use crate::range::watch::Watches;
use crate::storage::{Engine, Space, WriteBatch};
use crate::timestamp::Timestamp;
use crate::txn::Span;

/// The state of one replica in memory, beside its data in the engine. It is shared by the Raft
/// group, which applies, and by those who read and evaluate.
pub struct RangeState {
    pub(crate) range: u64,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) latches: Arc<Latches>,
    pub(crate) locks: Arc<LockTable>,
    /// The leadership to which `locks` belong.
    pub(crate) locks_term: AtomicU64,
    pub(crate) recent: Mutex<RecentWrites>,
    pub(crate) watches: Arc<Watches>,
    pub(crate) intents: Intents,
    /// Records of transactions that are decided here. A record is put where there is none, and
    /// removed where there is one.
    pub(crate) records: AtomicUsize,
    /// When somebody heard of transactions that are decided here, or first asked for them.
    pub(crate) heard: Heard,
    /// A fault that the simulator must find.
    #[cfg(test)]
    pub(crate) skip_notes: std::sync::atomic::AtomicBool,
    /// Another: entries are applied whatever the bounds of the range have become, and splits wait
    /// for nobody.
    #[cfg(test)]
    pub(crate) skip_bounds: std::sync::atomic::AtomicBool,
    /// Another: entries are applied whatever the term is that they were evaluated in.
    #[cfg(test)]
    pub(crate) skip_terms: std::sync::atomic::AtomicBool,
    /// Another: a range is absorbed though it is not frozen.
    #[cfg(test)]
    pub(crate) skip_freeze: std::sync::atomic::AtomicBool,
    /// Another: what a transaction knows of a key that it inserts is believed in any case.
    #[cfg(test)]
    pub(crate) believes: std::sync::atomic::AtomicBool,
    /// Not a fault: some of what was evaluated waits before it is proposed, up to so many
    /// milliseconds, so that the range may change leaders and change back meanwhile.
    #[cfg(test)]
    pub(crate) lingers_ms: AtomicU64,
    #[cfg(test)]
    pub(crate) lingered: AtomicU64,
    /// Who opens the ranges that are split off here, and looks for keys where they are.
    news: UnboundedSender<News>,
    /// What a replica that has nothing yet waits for.
    awaited: Mutex<Option<Descriptor>>,
    /// Held while the members of the range are changed, it is frozen, or it absorbs another.
    pub(crate) reshaping: tokio::sync::Mutex<()>,
    pub(crate) descriptor: RwLock<Descriptor>,
    /// The highest replicated bound of timestamps (range 1 only).
    pub(crate) window: AtomicU64,
    /// The timestamp of the last announced commit (range 1); 0 when a version that did not keep it has
    /// written the store.
    pub(crate) announced: AtomicU64,
    pub(crate) safe_point: AtomicU64,
    /// Held while something is written to the engine: applies and garbage collection exclude
    /// each other.
    pub(crate) writes: Mutex<()>,
    pub(crate) applied: Mutex<AppliedState>,
    pub(crate) durable: Mutex<Option<LogPosition>>,
    /// Bytes of rows written since the range was measured.
    pub(crate) written: AtomicU64,
    /// Bytes of rows when it was measured; of a large range that was measured for the first time, so
    /// many at least.
    pub(crate) bytes: AtomicU64,
    /// Whether that is known: the replica began without rows, or was measured.
    pub(crate) measured: std::sync::atomic::AtomicBool,
    /// Others know more of the range than this replica did when that was looked at last.
    pub(crate) outdated: std::sync::atomic::AtomicBool,
    /// How much it is used.
    pub(crate) load: Load,
    /// Counts applied batches and installed snapshots: caches compare it.
    pub(crate) changes: AtomicU64,
    /// Counts how often rows were taken away or replaced by no entry of the log: by a snapshot, or
    /// when the replica was closed.
    pub(crate) replaced: AtomicU64,
    /// Counts what may have changed the metadata of the cluster, when that can be read and before
    /// anybody may rely on it.
    pub(crate) stirred: Stirs,
    /// Another fault: who watches does not wait for commits that are under way.
    #[cfg(test)]
    pub(crate) hasty: std::sync::atomic::AtomicBool,
}

/// What a node is told of its replicas.
#[derive(Clone, Debug)]
pub enum News {
    /// A range was split off here, and wants to be opened.
    Child(Descriptor),
    /// The keys of a range have come by a snapshot.
    Placed(u64),
    /// A range has become a part of another one here.
    Absorbed(u64),
}

/// What a replica begins with when the engine knows nothing of it.
#[derive(Clone, Debug)]
pub enum Beginning {
    /// These bounds, and no rows.
    Empty(Descriptor),
    /// Nothing, until a snapshot comes of these bounds, or of what a later generation has made of
    /// them.
    Awaits(Descriptor),
}

impl RangeState {
    /// Reads the state of a replica from the engine, or begins one.
    pub fn open(
        engine: Arc<dyn Engine>,
        beginning: Beginning,
        news: UnboundedSender<News>,
    ) -> Result<Arc<Self>, Error> {
        let (Beginning::Empty(initial) | Beginning::Awaits(initial)) = &beginning;
        let range = initial.range;
        let stored = engine.get(Space::Meta, &meta::descriptor(range))?;
        let (mut awaited, mut empty) = (None, false);
        let descriptor = match (stored, beginning) {
            (Some(stored), _) => Descriptor::decode(&stored)?,
            (None, Beginning::Awaits(descriptor)) => {
                awaited = Some(descriptor);
                Descriptor::nothing(range)
            }
            (None, Beginning::Empty(initial)) => {
                let mut batch = WriteBatch::default();
                batch.put(Space::Meta, meta::descriptor(range), initial.encode());
                engine.write(batch)?;
                empty = true;
                initial
            }
        };
        let number = |key: Vec<u8>| -> Result<u64, Error> {
            let stored = engine.get(Space::Meta, &key)?;
            Ok(stored
                .and_then(|mut bytes| bytes.try_get_u64().ok())
                .unwrap_or(0))
        };
        let window = number(meta::window(range))?;
        let announced = number(meta::announced(range))?;
        let safe_point = number(meta::safe_point(range))?;
        let applied = read_applied(&*engine, range)?;
        let intents = Intents::default();
        intents.load(&*engine, &descriptor.span)?;
        let records = count_records(&*engine, &descriptor.span)?;
        Ok(Arc::new(Self {
            range,
            engine,
            latches: Arc::default(),
            locks: Arc::default(),
            locks_term: AtomicU64::new(0),
            recent: Mutex::default(),
            watches: Arc::default(),
            intents,
            records: AtomicUsize::new(records),
            heard: Heard::default(),
            #[cfg(test)]
            skip_notes: std::sync::atomic::AtomicBool::default(),
            #[cfg(test)]
            skip_bounds: std::sync::atomic::AtomicBool::default(),
            #[cfg(test)]
            skip_terms: std::sync::atomic::AtomicBool::default(),
            #[cfg(test)]
            skip_freeze: std::sync::atomic::AtomicBool::default(),
            #[cfg(test)]
            believes: std::sync::atomic::AtomicBool::default(),
            #[cfg(test)]
            lingers_ms: AtomicU64::default(),
            #[cfg(test)]
            lingered: AtomicU64::default(),
            news,
            awaited: Mutex::new(awaited),
            reshaping: tokio::sync::Mutex::default(),
            descriptor: RwLock::new(descriptor),
            window: AtomicU64::new(window),
            announced: AtomicU64::new(announced),
            safe_point: AtomicU64::new(safe_point),
            writes: Mutex::default(),
            applied: Mutex::new(applied),
            durable: Mutex::new(None),
            written: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            measured: std::sync::atomic::AtomicBool::new(empty),
            outdated: std::sync::atomic::AtomicBool::new(false),
            load: Load::default(),
            changes: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            stirred: Stirs::default(),
            #[cfg(test)]
            hasty: std::sync::atomic::AtomicBool::default(),
        }))
    }

    /// Bytes of its rows, roughly; 0 while that is not known.
    pub(crate) fn size(&self) -> u64 {
        let bytes = self.bytes.load(Ordering::Relaxed) + self.written.load(Ordering::Relaxed);
        match self.measured.load(Ordering::Relaxed) {
            true => bytes.max(1),
            false => 0,
        }
    }

    /// The timestamp below which history may be gone.
    pub fn safe_point(&self) -> Timestamp {
        Timestamp(self.safe_point.load(Ordering::Acquire))
    }

    /// The range has lost its last keys to another.
    ///
    /// Invariant: nothing of this range is under way on those keys: the split held latches on all.
    pub(crate) fn narrow(&self, descriptor: Descriptor) -> Result<(), Error> {
        let span = descriptor.span.clone();
        *self.descriptor.write() = descriptor;
        self.intents.keep(&span);
        let records = count_records(&*self.engine, &span)?;
        self.records.store(records, Ordering::Release);
        // What they note of the other keys would be missing from now on.
        self.watches.forget();
        self.locks.clear();
        Ok(())
    }

    /// The range has absorbed the ones behind it, and may have been split since.
    ///
    /// Invariant: their intents are known before a reader finds that their keys are here, and are
    /// forgotten only after it finds that keys are not here any more.
    pub(crate) fn widen(&self, descriptor: Descriptor, end: Bytes) -> Result<(), Error> {
        let span = descriptor.span.clone();
        let all = Span {
            start: span.start.clone(),
            end,
        };
        self.intents.load(&*self.engine, &all)?;
        // What was written there before is not noted, and validation must not take it for nothing.
        self.recent.lock().forget();
        *self.descriptor.write() = descriptor;
        self.intents.keep(&span);
        let records = count_records(&*self.engine, &span)?;
        self.records.store(records, Ordering::Release);
        if span.end < all.end {
            self.watches.forget();
            self.locks.clear();
        }
        Ok(())
    }

    /// Whether all of `read` is served by the range.
    pub(crate) fn holds(&self, read: &ReadSpan) -> bool {
        let descriptor = self.descriptor.read();
        descriptor.frozen.is_none() && read.lies_in(&descriptor.span)
    }

    /// Whether the range is about to become a part of another.
    pub(crate) fn is_frozen(&self) -> bool {
        self.descriptor.read().frozen.is_some()
    }

    /// Whether the replica has the keys of its range; otherwise it waits for a snapshot.
    pub fn is_placed(&self) -> bool {
        self.descriptor.read().generation > 0
    }

    /// The keys that it has or waits for.
    pub(crate) fn claims(&self) -> Span {
        let descriptor = self.descriptor.read();
        match &*self.awaited.lock() {
            Some(awaited) if descriptor.generation == 0 => awaited.span.clone(),
            _ => descriptor.span.clone(),
        }
    }

    /// A replica that has nothing yet waits for later bounds.
    pub(crate) fn await_instead(&self, descriptor: Descriptor) {
        *self.awaited.lock() = Some(descriptor);
    }

    /// The bounds that a replica which has nothing yet waits for.
    pub(crate) fn awaited(&self) -> Option<Descriptor> {
        self.awaited.lock().clone().filter(|_| !self.is_placed())
    }

    /// Whether a replica that has nothing yet may begin with these bounds.
    ///
    /// Invariant: what is admitted lies within what the replica claims, and overlaps no other on the
    /// node. (Where its range has absorbed another since, it is given a new claim.)
    pub(crate) fn admits(&self, descriptor: &Descriptor) -> bool {
        self.awaited.lock().as_ref().is_none_or(|awaited| {
            let Span { start, end } = &descriptor.span;
            awaited.generation <= descriptor.generation
                && awaited.span.start <= *start
                && *end <= awaited.span.end
        })
    }

    /// Tells the node.
    pub(crate) fn tell(&self, news: News) {
        // Nobody listens when the node is going down; it will be found at the next start.
        let _ = self.news.send(news);
    }

    /// Metadata of the cluster may have changed.
    pub(crate) fn stir(&self) {
        self.stirred.add();
    }

    /// The bounds of the range.
    pub fn descriptor(&self) -> Descriptor {
        self.descriptor.read().clone()
    }

    /// What is applied.
    pub fn applied(&self) -> AppliedState {
        self.applied.lock().clone()
    }

    /// Says that everything up to `position` survives a power failure.
    pub fn set_durable(&self, position: Option<LogPosition>) {
        let mut durable = self.durable.lock();
        *durable = (*durable).max(position);
    }

    /// Whether the range serves a key.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.descriptor.read().serves(key)
    }
}

/// Reads the applied position and membership of a replica.
pub(crate) fn read_applied(engine: &dyn Engine, range: u64) -> Result<AppliedState, Error> {
    let Some(stored) = engine.get(Space::Meta, &meta::applied(range))? else {
        return Ok(AppliedState::default());
    };
    decode_applied(stored).ok_or_else(|| Error::Storage {
        message: format!("the applied position of range {range} is damaged"),
    })
}

/// The number of transaction records at the keys of a span.
pub(crate) fn count_records(engine: &dyn Engine, span: &Span) -> Result<usize, Error> {
    let (from, to) = (
        meta::record_bound(&span.start),
        meta::record_bound(&span.end),
    );
    let mut count = 0;
    let mut rows = engine.snapshot().scan(Space::Meta, &from, &to, false);
    rows.for_each(&mut |_, _| {
        count += 1;
        true
    })?;
    Ok(count)
}

/// The stored form of an applied state.
pub(crate) fn encode_applied(state: &AppliedState) -> Bytes {
    let position = state.position.unwrap_or_default();
    let mut to = Vec::with_capacity(16 + state.membership.len());
    to.put_u64(position.term);
    to.put_u64(position.index);
    to.extend_from_slice(&state.membership);
    to.into()
}

/// Reads what [`encode_applied`] wrote.
pub(crate) fn decode_applied(mut stored: Bytes) -> Option<AppliedState> {
    let (term, index) = (stored.try_get_u64().ok()?, stored.try_get_u64().ok()?);
    // openraft's first entry, which makes the membership, is of term 0 and index 0.
    Some(AppliedState {
        position: Some(LogPosition { term, index }),
        membership: stored,
    })
}

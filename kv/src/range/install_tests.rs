//! A snapshot that is cut off at any of its writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use pontoon_raft::{AppliedState, GroupId, MemorySpool, SnapshotSpool, StateMachine};

use super::install::{finish, is_half_done};
use super::merge_tests::{Held, MEMBERS_AT, absorb, two};
use super::{Beginning, RangeMachine, RangeState};
use crate::error::Error;
use crate::storage::{Engine, EngineSnapshot, MemoryEngine, Space, WriteBatch};

/// An engine that fails after so many writes and syncs.
struct Failing {
    engine: Arc<MemoryEngine>,
    left: AtomicUsize,
}

impl Failing {
    fn take(&self) -> Result<(), Error> {
        let took = |left: usize| left.checked_sub(1);
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, took);
        left.map(|_| ()).map_err(|_| Error::Storage {
            message: "the disk has failed".into(),
        })
    }
}

impl Engine for Failing {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.engine.get(space, key)
    }

    fn snapshot(&self) -> Box<dyn EngineSnapshot> {
        self.engine.snapshot()
    }

    fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        self.take().and_then(|()| self.engine.write(batch))
    }

    fn persist(&self) -> Result<(), Error> {
        self.take().and_then(|()| self.engine.persist())
    }

    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }
}

/// All that an engine has.
fn content(engine: &MemoryEngine) -> Vec<(Space, Bytes, Bytes)> {
    let rows = |space| {
        let mut rows = engine.snapshot().scan(space, b"", b"\xff", false);
        let rows = std::iter::from_fn(move || rows.next().unwrap());
        rows.map(move |(key, value)| (space, key, value))
    };
    let spaces = [Space::Kv, Space::History, Space::Meta];
    spaces.into_iter().flat_map(rows).collect()
}

/// The pieces of a range that has absorbed another, and its state.
fn sent() -> (AppliedState, Vec<Bytes>) {
    let ahead = Arc::new(MemoryEngine::new());
    let (mut left, right) = two(&ahead);
    left.apply(vec![(1, absorb(&right, MEMBERS_AT))]);
    let mut sent = Vec::new();
    let applied = left.machine.write_snapshot(&mut |piece| {
        sent.push(piece);
        Ok(())
    });
    (applied.unwrap(), sent)
}

/// Gives a store that lags behind the snapshot; its disk fails after so many writes. Whether it was
/// installed, what the next process finds, and what the store had.
fn installed(
    writes: usize,
    loses_power: bool,
    spool: &MemorySpool,
) -> (bool, MemoryEngine, Vec<(Space, Bytes, Bytes)>) {
    let (applied, sent) = sent();
    let behind = Arc::new(MemoryEngine::with_crashes());
    drop(two(&behind));
    behind.persist().unwrap();
    let before = content(&behind);
    let failing = Arc::new(Failing {
        engine: Arc::clone(&behind),
        left: AtomicUsize::new(writes),
    });
    let mut left = Held::open(&failing, 2, "a", "m");
    let replaced = || left.state.replaced.load(Ordering::SeqCst);
    assert_eq!(replaced(), 0);
    let mut pieces = spool.begin(GroupId(2)).unwrap();
    for piece in sent {
        pieces.append(piece).unwrap();
    }
    let state = Arc::clone(&left.state);
    let done = left.machine.install_snapshot(applied, &mut *pieces).is_ok();
    if content(&behind) != before {
        let marked = is_half_done(&*behind, 2).unwrap();
        let replaced = state.replaced.load(Ordering::SeqCst);
        assert!(
            replaced == 1 || marked,
            "rows were taken away behind readers"
        );
    }
    if !loses_power {
        // What a killed process wrote is there.
        behind.persist().unwrap();
    }
    (done, behind.after_crash(), before)
}

#[test]
fn a_snapshot_that_was_cut_off_is_finished_by_the_next_start() {
    let spool = MemorySpool::default();
    let (_, whole, _) = installed(usize::MAX, true, &spool);
    let whole = content(&whole);
    for loses_power in [false, true] {
        let (mut half_done, mut writes) = (0, 0);
        loop {
            let spool = MemorySpool::default();
            let (done, engine, before) = installed(writes, loses_power, &spool);
            let engine = Arc::new(engine);
            let half = is_half_done(&*engine, 2).unwrap();
            let (told, _news) = tokio::sync::mpsc::unbounded_channel();
            let descriptor = super::Descriptor::nothing(2);
            let beginning = Beginning::Empty(descriptor);
            let state = RangeState::open(Arc::<MemoryEngine>::clone(&engine), beginning, told);
            assert_eq!(RangeMachine::new(state.unwrap()).is_err(), half);
            finish(&*engine, &spool).unwrap();
            let found = content(&engine);
            assert!(found == whole || (found == before && !half && !done));
            assert!(spool.find(GroupId(2), 1).unwrap().is_none(), "it is kept");
            half_done += usize::from(half);
            if done {
                break;
            }
            writes += 1;
        }
        // Removals, rows and the end are writes of their own.
        assert!(half_done > 5, "{half_done}");
    }
}

#[test]
fn a_snapshot_that_is_missing_is_not_taken_for_installed() {
    let spool = MemorySpool::default();
    let (done, engine, _) = installed(4, true, &spool);
    assert!(!done && is_half_done(&engine, 2).unwrap());
    let error = finish(&engine, &MemorySpool::default()).unwrap_err();
    assert!(error.to_string().contains("range 2"), "{error}");
    assert!(error.to_string().contains("missing"), "{error}");
    finish(&engine, &spool).unwrap();
}

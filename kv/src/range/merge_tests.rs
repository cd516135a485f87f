//! Two ranges become one, in the store of one node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use pontoon_raft::{Entry, EntryPayload, LogPosition, Membership, Place, ReplicaId, StateMachine};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::keys::meta;
use crate::mvcc::{self, Write, encode_version};
use crate::range::command::{Absorb, Body, Command, Outcome, Prewrite};
use crate::range::descriptor::{Descriptor, Frozen};
use crate::range::tests::pieces;
use crate::range::{Beginning, News, RangeMachine, RangeState};
use crate::storage::{Engine, MemoryEngine, Space};
use crate::timestamp::Timestamp;
use crate::txn::Span;

/// A replica, and what it tells its node.
pub(super) struct Held {
    pub(super) state: Arc<RangeState>,
    pub(super) machine: RangeMachine,
    news: UnboundedReceiver<News>,
    applied: u64,
}

pub(super) const MEMBERS_AT: LogPosition = LogPosition { term: 1, index: 1 };

impl Held {
    pub(super) fn open(
        engine: &Arc<impl Engine>,
        range: u64,
        start: &'static str,
        end: &'static str,
    ) -> Self {
        let (told, news) = unbounded_channel();
        let descriptor = Descriptor {
            range,
            generation: 1,
            span: Span {
                start: Bytes::from_static(start.as_bytes()),
                end: Bytes::from_static(end.as_bytes()),
            },
            frozen: None,
        };
        let engine = Arc::clone(engine) as Arc<dyn Engine>;
        let state = RangeState::open(engine, Beginning::Empty(descriptor), told).unwrap();
        let machine = RangeMachine::new(Arc::clone(&state)).unwrap();
        let applied = state.applied().position.map_or(0, |at| at.index);
        Self {
            state,
            machine,
            news,
            applied,
        }
    }

    fn apply_payloads(&mut self, payloads: Vec<EntryPayload>) -> Vec<Bytes> {
        let entries = payloads.into_iter().map(|payload| {
            self.applied += 1;
            let position = LogPosition {
                term: 1,
                index: self.applied,
            };
            Entry { position, payload }
        });
        let entries: Vec<Entry> = entries.collect();
        self.machine.apply(&entries).unwrap()
    }

    /// Applies commands in one batch, all evaluated for the generation that is named.
    pub(super) fn apply(&mut self, bodies: Vec<(u64, Body)>) -> Vec<Outcome> {
        let command = |(generation, body)| {
            let command = Command {
                term: 1,
                generation,
                request: 0,
                body,
            };
            EntryPayload::Command(command.encode())
        };
        let replies = self.apply_payloads(bodies.into_iter().map(command).collect());
        let outcomes = replies.iter().map(|reply| Outcome::decode(reply).unwrap());
        outcomes.collect()
    }

    fn members(&mut self) {
        let membership = Membership {
            position: Some(MEMBERS_AT),
            configs: vec![BTreeSet::from([ReplicaId(1)])],
            members: BTreeMap::from([(ReplicaId(1), Place::default())]),
        };
        self.apply_payloads(vec![EntryPayload::Membership(membership.encode())]);
    }

    fn get(&self, key: &str) -> Option<Bytes> {
        mvcc::get(&*self.state.engine, key.as_bytes(), Timestamp(1_000)).unwrap()
    }

    fn told(&mut self) -> Vec<String> {
        let told = std::iter::from_fn(|| self.news.try_recv().ok());
        told.map(|news| format!("{news:?}")).collect()
    }
}

fn put(key: &str, value: &str, at: u64) -> Body {
    let mut stored = Vec::new();
    let (commit, start) = (Timestamp(at), Timestamp(at - 1));
    encode_version(&mut stored, commit, start, Some(value.as_bytes()));
    Body::Commit(vec![Write {
        key: Bytes::copy_from_slice(key.as_bytes()),
        stored: stored.into(),
        fresh: true,
    }])
}

fn freeze() -> Body {
    Body::Freeze(Frozen {
        into: 2,
        start: Bytes::from_static(b"a"),
    })
}

pub(super) fn absorb(right: &Held, membership: LogPosition) -> Body {
    Body::Absorb(Absorb {
        right: right.state.descriptor(),
        safe_point: Timestamp(7),
        bytes: 100,
        membership,
    })
}

/// A range with members, and one behind it that has rows, an intent, and is frozen.
pub(super) fn two(engine: &Arc<MemoryEngine>) -> (Held, Held) {
    let mut left = Held::open(engine, 2, "a", "m");
    let mut right = Held::open(engine, 3, "m", "z");
    left.members();
    right.members();
    left.apply(vec![(1, put("b", "left", 10))]);
    let prewrite = Body::Prewrite(Prewrite {
        start: Timestamp(20),
        primary: Bytes::from_static(b"q"),
        intents: vec![(Bytes::from_static(b"q"), None)],
    });
    right.apply(vec![
        (1, put("n", "right", 10)),
        (1, prewrite),
        (1, freeze()),
    ]);
    (left, right)
}

use Outcome::{Applied, OtherBounds};

#[test]
fn a_frozen_range_takes_nothing_until_it_is_thawed() {
    let engine = Arc::new(MemoryEngine::new());
    let mut held = Held::open(&engine, 3, "m", "z");
    assert!(held.state.contains(b"n"));
    let outcomes = held.apply(vec![
        (1, freeze()),
        (1, put("n", "late", 10)),
        (2, put("n", "frozen", 20)),
        (2, Body::SafePoint(Timestamp(5))),
        (2, freeze()),
    ]);
    let refused = [OtherBounds; 4];
    assert_eq!(outcomes, [&[Applied][..], &refused[..]].concat());
    // As after a restart too.
    for held in [&held, &Held::open(&engine, 3, "m", "z")] {
        assert!(held.state.is_frozen() && !held.state.contains(b"n"));
        assert_eq!(held.get("n"), None);
    }
    let outcomes = held.apply(vec![(2, Body::Thaw), (3, put("n", "thawed", 30))]);
    assert_eq!(outcomes, [Applied, Applied]);
    assert!(held.state.contains(b"n"));
    assert_eq!(held.get("n").unwrap(), "thawed");
}

#[test]
fn a_range_that_absorbs_another_has_all_of_it() {
    let engine = Arc::new(MemoryEngine::new());
    let (mut left, right) = two(&engine);
    let elsewhere = LogPosition { term: 1, index: 2 };
    let outcomes = left.apply(vec![
        // Decided for other members.
        (1, absorb(&right, elsewhere)),
        (1, absorb(&right, MEMBERS_AT)),
        // Evaluated before.
        (1, put("c", "late", 30)),
        (3, put("p", "one", 40)),
    ]);
    assert_eq!(outcomes, [OtherBounds, Applied, OtherBounds, Applied]);
    assert_eq!(left.told(), ["Absorbed(3)"]);
    for held in [&left, &Held::open(&engine, 2, "a", "m")] {
        let Descriptor {
            generation, span, ..
        } = held.state.descriptor();
        assert_eq!((generation, &span.end[..]), (3, &b"z"[..]));
        assert_eq!(held.get("b").unwrap(), "left");
        assert_eq!(held.get("n").unwrap(), "right");
        assert_eq!(held.get("p").unwrap(), "one");
        assert!(held.state.intents.has(b"q", Timestamp(20)));
        assert_eq!(held.state.safe_point(), Timestamp(7));
    }
    let stored = |key: Vec<u8>| engine.get(Space::Meta, &key).unwrap();
    assert!(
        meta::of_replica(3)
            .into_iter()
            .all(|key| stored(key).is_none())
    );
    assert_eq!(stored(meta::closed(3)).unwrap()[..], [0xff; 8]);
    assert_eq!(stored(meta::fate(b"a", 3, 2)).unwrap(), "a");
}

#[test]
fn a_range_is_not_absorbed_that_is_not_frozen_here() {
    let engine = Arc::new(MemoryEngine::new());
    let (mut left, mut right) = two(&engine);
    let body = absorb(&right, MEMBERS_AT);
    right.apply(vec![(2, Body::Thaw)]);
    let command = Command {
        term: 1,
        generation: 1,
        request: 0,
        body,
    };
    let entry = Entry {
        position: LogPosition { term: 1, index: 3 },
        payload: EntryPayload::Command(command.encode()),
    };
    let error = left.machine.apply(&[entry]).unwrap_err();
    assert!(error.message.contains("Invariant"), "{error}");
}

/// Gives one replica the state of another.
fn send(from: &Held, to: &mut Held) -> Result<(), pontoon_raft::StorageError> {
    let mut chunks = Vec::new();
    let applied = from.machine.write_snapshot(&mut |chunk| {
        chunks.push(chunk);
        Ok(())
    });
    to.machine.install_snapshot(applied?, &mut *pieces(chunks))
}

#[test]
fn a_snapshot_from_behind_the_merge_closes_what_was_absorbed() {
    let (ahead, behind) = (Arc::new(MemoryEngine::new()), Arc::new(MemoryEngine::new()));
    let (mut left, right) = two(&ahead);
    let (mut left_behind, mut right_behind) = two(&behind);
    left.apply(vec![(1, absorb(&right, MEMBERS_AT))]);
    // Gone since, without a trace.
    let mut batch = crate::storage::WriteBatch::default();
    batch.remove(Space::Kv, b"n".to_vec());
    ahead.write(batch).unwrap();
    send(&left, &mut left_behind).unwrap();
    assert_eq!(left_behind.told(), ["Absorbed(3)", "Placed(2)"]);
    assert_eq!(left_behind.get("n"), None);
    assert_eq!(left_behind.get("b").unwrap(), "left");
    assert!(left_behind.state.intents.has(b"q", Timestamp(20)));
    let stored = |key: Vec<u8>| behind.get(Space::Meta, &key).unwrap();
    assert_eq!(stored(meta::descriptor(3)), None);
    assert_eq!(stored(meta::closed(3)).unwrap()[..], [0xff; 8]);
    assert_eq!(stored(meta::fate(b"a", 3, 2)).unwrap(), "a");
    // What is left of the other range does not get its keys back.
    send(&right, &mut right_behind).unwrap();
    assert_eq!(stored(meta::descriptor(3)), None);
    assert_eq!(left_behind.get("n"), None);
}

#[test]
fn a_snapshot_never_takes_the_keys_of_another_range() {
    let (ahead, behind) = (Arc::new(MemoryEngine::new()), Arc::new(MemoryEngine::new()));
    let (mut left, right) = two(&ahead);
    let (mut left_behind, mut right_behind) = two(&behind);
    left.apply(vec![(1, absorb(&right, MEMBERS_AT))]);
    right_behind.apply(vec![(2, Body::Thaw)]);
    let error = send(&left, &mut left_behind).unwrap_err();
    assert!(error.message.contains("range 3"), "{error}");
    assert_eq!(left_behind.state.descriptor().span.end, "m");
    assert_eq!(right_behind.get("n").unwrap(), "right");
}

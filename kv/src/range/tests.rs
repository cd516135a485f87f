//! The state machine: what an entry does and what it refuses, replays, snapshots.

use std::sync::Arc;

use bytes::Bytes;
use pontoon_raft::{
    AppliedState, Entry, EntryPayload, GroupId, LogPosition, MemorySpool, SnapshotSpool,
    SpooledSnapshot, StateMachine,
};
use proptest::prelude::*;

use super::command::{Absorb, Prewrite, RecordChange, Resolve, Split};
use super::*;
use crate::mvcc::{self, Outcome as Ending, Record, Write, encode_version};
use crate::storage::{Engine, MemoryEngine, Space};
use crate::timestamp::Timestamp;
use crate::txn::Span;

fn span() -> Span {
    Span {
        start: Bytes::from_static(b"a"),
        end: Bytes::from_static(b"z"),
    }
}

fn open(engine: &Arc<MemoryEngine>) -> (Arc<RangeState>, RangeMachine) {
    let engine = Arc::clone(engine) as Arc<dyn Engine>;
    let descriptor = Descriptor {
        frozen: None,
        range: 2,
        generation: 1,
        span: span(),
    };
    let (children, _) = tokio::sync::mpsc::unbounded_channel();
    let state = RangeState::open(engine, Beginning::Empty(descriptor), children).unwrap();
    let machine = RangeMachine::new(Arc::clone(&state)).unwrap();
    (state, machine)
}

fn write(key: &str, value: Option<&str>, commit: u64, fresh: bool) -> Write {
    let mut stored = Vec::new();
    let value = value.map(str::as_bytes);
    encode_version(&mut stored, Timestamp(commit), Timestamp(commit - 1), value);
    Write {
        key: Bytes::copy_from_slice(key.as_bytes()),
        stored: stored.into(),
        fresh,
    }
}

fn entry(term: u64, index: u64, command: &Command) -> Entry {
    let payload = EntryPayload::Command(command.encode());
    Entry {
        position: LogPosition { term, index },
        payload,
    }
}

fn commit(term: u64, writes: Vec<Write>) -> Command {
    Command {
        term,
        generation: 1,
        request: 0,
        body: Body::Commit(writes),
    }
}

fn outcomes(replies: Vec<Bytes>) -> Vec<Outcome> {
    replies
        .iter()
        .map(|reply| Outcome::decode(reply).unwrap())
        .collect()
}

fn get(state: &RangeState, key: &str, at: u64) -> Option<Bytes> {
    mvcc::get(&*state.engine, key.as_bytes(), Timestamp(at)).unwrap()
}

#[test]
fn an_entry_of_another_term_or_bounds_is_refused() {
    let engine = Arc::new(MemoryEngine::new());
    let (state, mut machine) = open(&engine);
    let good = commit(3, vec![write("b", Some("1"), 10, true)]);
    let mut moved = commit(4, vec![write("d", Some("1"), 30, true)]);
    moved.generation = 2;
    let outside = commit(4, vec![write("zz", Some("1"), 40, true)]);
    let replies = machine.apply(&[
        entry(3, 1, &good),
        entry(4, 2, &commit(3, vec![write("c", Some("1"), 20, true)])),
        entry(4, 3, &moved),
        entry(4, 4, &outside),
    ]);
    let expected = [
        Outcome::Applied,
        Outcome::OtherTerm,
        Outcome::OtherBounds,
        Outcome::OtherBounds,
    ];
    assert_eq!(outcomes(replies.unwrap()), expected);
    assert_eq!(get(&state, "b", 10).unwrap(), "1");
    assert_eq!(get(&state, "b", 9), None);
    for key in ["c", "d", "zz"] {
        assert_eq!(get(&state, key, 99), None);
    }
    assert_eq!(
        state.applied().position,
        Some(LogPosition { term: 4, index: 4 })
    );
}

#[test]
fn a_key_written_twice_in_one_batch_keeps_its_history() {
    let engine = Arc::new(MemoryEngine::new());
    let (state, mut machine) = open(&engine);
    let entries = [
        entry(1, 1, &commit(1, vec![write("k", Some("1"), 10, true)])),
        entry(1, 2, &commit(1, vec![write("k", None, 20, false)])),
        entry(1, 3, &commit(1, vec![write("k", Some("3"), 30, false)])),
    ];
    machine.apply(&entries).unwrap();
    let seen: Vec<_> = [5, 10, 20, 30].map(|at| get(&state, "k", at)).into();
    assert_eq!(seen, [None, Some("1".into()), None, Some("3".into())]);
}

#[test]
fn what_was_not_synced_is_applied_again_from_the_log() {
    let engine = Arc::new(MemoryEngine::with_crashes());
    let entries: Vec<Entry> = (1..=20)
        .map(|i| {
            entry(
                1,
                i,
                &commit(1, vec![write("k", Some(&i.to_string()), i * 10, i == 1)]),
            )
        })
        .collect();
    {
        let (state, mut machine) = open(&engine);
        machine.apply(&entries[..7]).unwrap();
        engine.persist().unwrap();
        state.set_durable(state.applied().position);
        assert_eq!(machine.durable_applied().unwrap().index, 7);
        machine.apply(&entries[7..15]).unwrap();
        engine.crash();
    }
    let (state, mut machine) = open(&engine);
    let applied = machine.applied().unwrap().position.unwrap();
    assert_eq!(applied.index, 7);
    assert_eq!(
        machine.durable_applied(),
        None,
        "nothing is known to be durable after a start"
    );
    machine.apply(&entries[7..]).unwrap();
    for i in 1..=20u64 {
        assert_eq!(get(&state, "k", i * 10).unwrap(), i.to_string());
    }
}

#[test]
fn windows_and_safe_points_only_rise_and_survive() {
    let engine = Arc::new(MemoryEngine::new());
    let (_, mut machine) = open(&engine);
    let entries = [
        entry(1, 1, &command(Body::Window(50))),
        entry(1, 2, &command(Body::Window(40))),
        entry(1, 3, &command(Body::SafePoint(Timestamp(7)))),
        entry(1, 4, &command(Body::SafePoint(Timestamp(6)))),
        entry(1, 5, &command(Body::Announced(Timestamp(30)))),
        entry(1, 6, &command(Body::Announced(Timestamp(20)))),
    ];
    machine.apply(&entries).unwrap();
    let (state, _) = open(&engine);
    assert_eq!(state.window.load(std::sync::atomic::Ordering::SeqCst), 50);
    assert_eq!(
        state.announced.load(std::sync::atomic::Ordering::SeqCst),
        30
    );
    assert_eq!(state.safe_point(), Timestamp(7));
}

#[test]
fn a_snapshot_makes_an_equal_replica() {
    let engine = Arc::new(MemoryEngine::new());
    let (_, mut machine) = open(&engine);
    let membership = Bytes::from("members");
    let mut entries = vec![Entry {
        position: LogPosition { term: 1, index: 1 },
        payload: EntryPayload::Membership(membership.clone()),
    }];
    for i in 2..40u64 {
        let key = format!("k{}", i % 9);
        let value = (i % 5 != 0).then_some("v");
        entries.push(entry(
            1,
            i,
            &commit(1, vec![write(&key, value, i * 10, i < 11)]),
        ));
    }
    machine.apply(&entries).unwrap();
    let mut chunks = Vec::new();
    let state = machine
        .write_snapshot(&mut |chunk| {
            chunks.push(chunk);
            Ok(())
        })
        .unwrap();
    assert_eq!(state.membership, membership);

    let other = Arc::new(MemoryEngine::with_crashes());
    let (_, mut target) = open(&other);
    target
        .apply(&[entry(
            1,
            1,
            &commit(1, vec![write("old", Some("x"), 5, true)]),
        )])
        .unwrap();
    target
        .install_snapshot(state.clone(), &mut *pieces(chunks))
        .unwrap();
    other.crash();
    for space in [Space::Kv, Space::History] {
        let rows = |engine: &MemoryEngine| {
            let mut cursor = engine.snapshot().scan(space, b"", b"\xff", false);
            std::iter::from_fn(move || cursor.next().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(rows(&engine), rows(&other));
    }
    let (_, target) = open(&other);
    assert_eq!(target.applied().unwrap().position, state.position);
    let (_, mut target) = open(&other);
    assert!(
        target
            .install_snapshot(AppliedState::default(), &mut *pieces([Bytes::from("xx")]))
            .is_err()
    );
}

/// A snapshot that has been received.
pub(super) fn pieces(of: impl IntoIterator<Item = Bytes>) -> Box<dyn SpooledSnapshot> {
    let mut spooled = MemorySpool::default().begin(GroupId(2)).unwrap();
    for piece in of {
        spooled.append(piece).unwrap();
    }
    spooled
}

fn command(body: Body) -> Command {
    Command {
        term: 1,
        generation: 1,
        request: 0,
        body,
    }
}

#[test]
fn intents_and_records_survive_restarts_and_travel_in_snapshots() {
    let engine = Arc::new(MemoryEngine::new());
    let (state, mut machine) = open(&engine);
    let (start, primary) = (Timestamp(10), Bytes::from_static(b"b"));
    let intents = [("b", Some("1")), ("c", None), ("d", Some("3"))];
    let prewrite = Prewrite {
        start,
        primary: primary.clone(),
        intents: intents
            .map(|(key, value)| (Bytes::from(key), value.map(Bytes::from)))
            .to_vec(),
    };
    let record = Record {
        outcome: Ending::Committed(Timestamp(20)),
        spans: vec![span()],
    };
    let decided = Resolve {
        start,
        primary: primary.clone(),
        record: RecordChange::Put(record.encode()),
        writes: vec![write("b", Some("1"), 20, true)],
        removed: Vec::new(),
    };
    let entries = [
        entry(1, 1, &command(Body::Prewrite(prewrite))),
        entry(1, 2, &command(Body::Resolve(decided))),
    ];
    machine.apply(&entries).unwrap();
    assert_eq!(get(&state, "b", 20).unwrap(), "1");
    let holds = |state: &RangeState| {
        assert!(!state.intents.has(b"b", start));
        assert!(state.intents.has(b"c", start) && state.intents.has(b"d", start));
        assert_eq!(
            (
                state.intents.len(),
                state.records.load(std::sync::atomic::Ordering::SeqCst)
            ),
            (2, 1)
        );
    };
    holds(&state);
    let (reopened, machine_again) = open(&engine);
    holds(&reopened);

    let mut chunks = Vec::new();
    let applied = machine_again
        .write_snapshot(&mut |chunk| {
            chunks.push(chunk);
            Ok(())
        })
        .unwrap();
    let (other, mut target) = open(&Arc::new(MemoryEngine::new()));
    target
        .install_snapshot(applied, &mut *pieces(chunks))
        .unwrap();
    holds(&other);

    let resolved = Resolve {
        start,
        primary: primary.clone(),
        record: RecordChange::Removed,
        writes: vec![write("d", Some("3"), 20, true)],
        removed: vec![Bytes::from_static(b"c")],
    };
    let entries = [entry(1, 3, &command(Body::Resolve(resolved)))];
    machine.apply(&entries).unwrap();
    for state in [&state, &open(&engine).0] {
        assert!(state.intents.is_empty());
        assert_eq!(get(state, "d", 20).unwrap(), "3");
        assert_eq!(get(state, "c", 20), None);
    }
    let mut left = engine.snapshot().scan(Space::Meta, b"i", b"u", false);
    let left = std::iter::from_fn(|| left.next().unwrap());
    let left: Vec<_> = left.filter(|(key, _)| !key.starts_with(b"r")).collect();
    assert_eq!(left, [], "nothing is left in the store");
}

#[test]
fn a_split_gives_away_keys_and_refuses_what_was_evaluated_before_it() {
    let engine = Arc::new(MemoryEngine::new());
    let (state, mut machine) = open(&engine);
    let split = |child, key: &str, generation| Command {
        generation,
        ..command(Body::Split(Split {
            child,
            key: Bytes::copy_from_slice(key.as_bytes()),
        }))
    };
    let write_to = |key: &str, at, generation| Command {
        generation,
        ..commit(1, vec![write(key, Some("v"), at, true)])
    };
    let members = Bytes::from_static(b"members");
    let membership = Entry {
        position: LogPosition { term: 1, index: 1 },
        payload: EntryPayload::Membership(members.clone()),
    };
    // All in one batch, as a follower or a replay may get them.
    let replies = machine
        .apply(&[
            membership,
            entry(1, 2, &write_to("p", 10, 1)),
            entry(1, 3, &split(7, "m", 1)),
            // Evaluated before the split.
            entry(1, 4, &write_to("b", 20, 1)),
            // Not in the range any more, and not a key of it.
            entry(1, 5, &write_to("q", 20, 2)),
            entry(1, 6, &split(8, "x", 2)),
            entry(1, 7, &split(8, "a", 2)),
            entry(1, 8, &write_to("b", 20, 2)),
        ])
        .unwrap();
    use Outcome::{Applied, OtherBounds};
    assert_eq!(
        outcomes(replies[1..].to_vec()),
        [
            Applied,
            Applied,
            OtherBounds,
            OtherBounds,
            OtherBounds,
            OtherBounds,
            Applied
        ]
    );
    for state in [&state, &open(&engine).0] {
        let descriptor = state.descriptor();
        assert_eq!(
            (descriptor.generation, &descriptor.span.end[..]),
            (2, &b"m"[..])
        );
        assert_eq!(get(state, "b", 20).unwrap(), "v");
        assert_eq!(get(state, "p", 20).unwrap(), "v", "data stays where it is");
    }
    let child = engine
        .get(Space::Meta, &crate::keys::meta::descriptor(7))
        .unwrap();
    let child = Descriptor::decode(&child.unwrap()).unwrap();
    assert_eq!((child.range, child.generation), (7, 2));
    assert_eq!(
        (&child.span.start[..], &child.span.end[..]),
        (&b"m"[..], &b"z"[..])
    );
    let founders = engine
        .get(Space::Meta, &crate::keys::meta::founders(7))
        .unwrap();
    assert_eq!(founders, Some(members));
}

#[test]
fn an_entry_that_cannot_be_read_stops_the_replica() {
    let (_, mut machine) = open(&Arc::new(MemoryEngine::new()));
    let payload = EntryPayload::Command(Bytes::from("?"));
    assert!(
        machine
            .apply(&[Entry {
                position: LogPosition { term: 1, index: 1 },
                payload
            }])
            .is_err()
    );
}

proptest! {
    #[test]
    fn commands_round_trip_and_cuts_are_refused(
        rows in prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>(), any::<bool>()), 0..5),
        numbers: (u64, u64, u64),
        kind in 0..12,
        change in 0..3,
    ) {
        let keys: Vec<Bytes> = rows.iter().map(|(key, _, _)| key.clone().into()).collect();
        let primary = keys.first().cloned().unwrap_or_default();
        let writes: Vec<Write> = rows.iter().cloned().map(|(key, stored, fresh)| {
            Write { key: key.into(), stored: stored.into(), fresh }
        }).collect();
        let body = match kind {
            0 => Body::Window(numbers.0),
            1 => Body::SafePoint(Timestamp(numbers.1)),
            2 => Body::Prewrite(Prewrite {
                start: Timestamp(numbers.0),
                primary,
                intents: rows.into_iter().map(|(key, value, deleted)| {
                    (key.into(), (!deleted).then(|| value.into()))
                }).collect(),
            }),
            3 => Body::Resolve(Resolve {
                start: Timestamp(numbers.0),
                primary: primary.clone(),
                record: match change {
                    0 => RecordChange::Stays,
                    1 => RecordChange::Removed,
                    _ => RecordChange::Put(primary),
                },
                writes,
                removed: keys,
            }),
            4 => Body::Split(Split { child: numbers.0, key: primary }),
            6 => Body::Freeze(Frozen { into: numbers.0, start: primary }),
            7 => Body::Thaw,
            8 => Body::Absorb(Absorb {
                right: Descriptor {
                    frozen: Some(Frozen { into: numbers.1, start: primary.clone() }),
                    range: numbers.2,
                    generation: numbers.0,
                    span: Span { start: primary.clone(), end: primary },
                },
                safe_point: Timestamp(numbers.1),
                bytes: numbers.2,
                membership: LogPosition { term: numbers.0, index: numbers.1 },
            }),
            9 => Body::Renounce(Renounce {
                start: primary,
                right: numbers.0,
                generation: numbers.1,
            }),
            10 => Body::Announced(Timestamp(numbers.0)),
            _ => Body::Commit(writes),
        };
        let command = Command { term: numbers.0, generation: numbers.1, request: numbers.2, body };
        let bytes = command.encode();
        prop_assert_eq!(Command::decode(bytes.clone()).unwrap(), command);
        for cut in 0..bytes.len() {
            prop_assert!(Command::decode(bytes.slice(..cut)).is_err());
        }
    }
}

#[test]
fn a_descriptor_round_trips() {
    let frozen = Frozen {
        into: 6,
        start: Bytes::from_static(b"\0"),
    };
    for frozen in [None, Some(frozen)] {
        let descriptor = Descriptor {
            frozen,
            range: 7,
            generation: 3,
            span: span(),
        };
        assert_eq!(
            Descriptor::decode(&descriptor.encode()).unwrap(),
            descriptor
        );
    }
    assert!(Descriptor::decode(b"\x01abc").is_err());
}

//! Latches: mutual exclusion, fairness, what readers wait for. Locks: the conflict table, queues,
//! deadlocks.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::timestamp::Timestamp;
use crate::txn::{LockStrength, Span};

fn keys(keys: &[&'static str]) -> Arc<[Bytes]> {
    keys.iter().map(|key| Bytes::from(*key)).collect()
}

fn point(key: &'static str) -> ReadSpan {
    ReadSpan::Point(key.into())
}

fn range(start: &'static str, end: &'static str) -> ReadSpan {
    ReadSpan::Range(Span {
        start: start.into(),
        end: end.into(),
    })
}

fn request(writes: &[&'static str], reads: Vec<ReadSpan>) -> LatchRequest {
    LatchRequest {
        writes: keys(writes),
        reads,
    }
}

/// Polls once.
fn ready<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    use futures::FutureExt;
    future.now_or_never()
}

#[test]
fn writers_of_one_key_queue_in_order() {
    let latches = Arc::new(Latches::default());
    let acquire = |writes: &[&'static str]| Box::pin(acquire(&latches, request(writes, vec![])));
    let (mut a, mut b, mut c, mut d) = (
        acquire(&["k"]),
        acquire(&["j", "k"]),
        acquire(&["j"]),
        acquire(&["x"]),
    );
    let a = ready(&mut a).expect("free");
    assert!(ready(&mut b).is_none());
    assert!(ready(&mut c).is_none(), "b comes before c on j");
    assert!(ready(&mut d).is_some());
    drop(a);
    let b = ready(&mut b).expect("a is gone");
    assert!(ready(&mut c).is_none());
    drop(b);
    assert!(ready(&mut c).is_some());
    drop((c, d));
    assert!(latches.is_empty());
}

async fn acquire(latches: &Arc<Latches>, request: LatchRequest) -> LatchGuard {
    latches.acquire(request).await
}

#[test]
fn one_that_gives_up_lets_the_next_through() {
    let latches = Arc::new(Latches::default());
    let mut a = Box::pin(latches.acquire(request(&["k"], vec![])));
    let guard = ready(&mut a).unwrap();
    let mut b = Box::pin(latches.acquire(request(&["k", "m"], vec![])));
    let mut c = Box::pin(latches.acquire(request(&["m"], vec![])));
    assert!(ready(&mut b).is_none() && ready(&mut c).is_none());
    drop(b);
    assert!(ready(&mut c).is_some());
    drop(guard);
}

#[test]
fn read_latches_are_given_back_after_validation() {
    let latches = Arc::new(Latches::default());
    let mut a = Box::pin(latches.acquire(request(&["a"], vec![range("k", "m"), point("x")])));
    let a = ready(&mut a).unwrap();
    let mut others: Vec<_> = [&["l"], &["x"], &["a"]]
        .map(|writes| Box::pin(acquire(&latches, request(writes, vec![]))))
        .into_iter()
        .collect();
    let mut shared = Box::pin(latches.acquire(request(&["b"], vec![range("a0", "z"), point("x")])));
    assert!(others.iter_mut().all(|other| ready(other).is_none()));
    assert!(
        ready(&mut shared).is_none(),
        "l and x were asked for before"
    );
    a.release_reads();
    let held: Vec<_> = others.iter_mut().map(|other| ready(other)).collect();
    assert!(held[0].is_some() && held[1].is_some() && held[2].is_none());
    drop(held);
    drop(a);
    assert!(ready(&mut shared).is_some());
}

#[test]
fn readers_wait_for_commits_that_may_lie_below() {
    let latches = Arc::new(Latches::default());
    let mut a = Box::pin(latches.acquire(request(&["k"], vec![])));
    let mut guard = ready(&mut a).unwrap();
    let mut queued = Box::pin(latches.acquire(request(&["k"], vec![])));
    assert!(ready(&mut queued).is_none());
    let blocks = |at| latches.blocks_read(&point("k"), Timestamp(at));
    assert!(latches.blocks_read(&point("j"), Timestamp(9)).is_none());
    let mut signal = blocks(5).expect("its commit timestamp is unknown");
    assert!(ready(&mut signal).is_none());
    guard.set_commit(Timestamp(7));
    assert!(ready(&mut signal).is_some());
    assert!(blocks(6).is_none());
    assert!(blocks(7).is_some());
    assert!(
        latches
            .blocks_read(&range("a", "z"), Timestamp(8))
            .is_some()
    );
    guard.in_flight(3);
    drop(guard);
    assert!(blocks(7).is_some(), "it may still be applied");
    latches.complete(2, 1);
    assert!(blocks(7).is_some(), "another request of another term");
    latches.complete(3, 1);
    let second = ready(&mut queued).expect("the first is over");
    drop(second);
    assert!(blocks(7).is_none());
}

#[test]
fn a_later_term_ends_what_earlier_ones_proposed() {
    let latches = Arc::new(Latches::default());
    for term in [3, 4] {
        let mut a =
            Box::pin(latches.acquire(request(&[if term == 3 { "a" } else { "b" }], vec![])));
        ready(&mut a).unwrap().in_flight(term);
    }
    latches.complete_before(4);
    assert_eq!(latches.len(), 1);
    assert!(latches.blocks_read(&point("a"), Timestamp(1)).is_none());
    assert!(latches.blocks_read(&point("b"), Timestamp(1)).is_some());
}

proptest! {
    /// Whatever is asked for and given back: no two conflicting requests hold at once, and
    /// somebody always holds while there are requests.
    #[test]
    fn latches_exclude_and_progress(
        requests in prop::collection::vec(
            (prop::collection::btree_set(0u8..6, 0..4), prop::collection::vec((0u8..6, 0u8..6), 0..3), any::<bool>()),
            1..14),
        order in prop::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        let latches = Arc::new(Latches::default());
        let key = |k: u8| Bytes::from(vec![k]);
        let mut waiting = Vec::new();
        for (i, (writes, reads, big)) in requests.iter().enumerate() {
            let mut writes: Vec<Bytes> = writes.iter().map(|k| key(*k)).collect();
            if *big {
                // Many keys elsewhere, so that the request is kept aside.
                writes.extend((0..70u8).map(|n| Bytes::from(vec![200, i as u8, n])));
            }
            let reads = reads.iter().map(|(a, b)| if a == b {
                ReadSpan::Point(key(*a))
            } else {
                ReadSpan::Range(Span { start: key(*a), end: key(*b) })
            });
            let request = LatchRequest { writes: writes.into(), reads: reads.collect() };
            waiting.push((i, Box::pin(acquire(&latches, request))));
        }
        let conflict = |a: usize, b: usize| {
            let hits = |w: usize, r: usize| requests[w].0.iter().any(|k| requests[r].1.iter()
                .any(|(from, to)| if from == to { k == from } else { from <= k && k < to }));
            !requests[a].0.is_disjoint(&requests[b].0) || hits(a, b) || hits(b, a)
        };
        let mut held: Vec<(usize, LatchGuard)> = Vec::new();
        let mut order = order.into_iter();
        while !waiting.is_empty() || !held.is_empty() {
            waiting.retain_mut(|(i, future)| match ready(future) {
                Some(guard) => { held.push((*i, guard)); false }
                None => true,
            });
            prop_assert!(!held.is_empty(), "nobody makes progress");
            for (n, (a, _)) in held.iter().enumerate() {
                for (b, _) in &held[n + 1..] {
                    prop_assert!(!conflict(*a, *b), "{} and {}", a, b);
                }
            }
            let pick = order.next().map_or(0, |index| index.index(held.len()));
            held.swap_remove(pick);
        }
        prop_assert!(latches.is_empty());
    }
}

const STRENGTHS: [LockStrength; 4] = [
    LockStrength::KeyShare,
    LockStrength::Share,
    LockStrength::NoKeyUpdate,
    LockStrength::Update,
];

#[test]
fn the_conflict_table_is_postgresqls() {
    // Rows: held; columns: asked for. PostgreSQL's documentation, table 13.3.
    let expected = [
        [false, false, false, true],
        [false, false, true, true],
        [false, true, true, true],
        [true, true, true, true],
    ];
    for (i, held) in STRENGTHS.into_iter().enumerate() {
        for (j, asked) in STRENGTHS.into_iter().enumerate() {
            let table = Arc::new(LockTable::default());
            let key = Bytes::from("k");
            table.acquire(Timestamp(1), &key, held, false).unwrap();
            let outcome = table.acquire(Timestamp(2), &key, asked, false);
            assert_eq!(outcome.is_err(), expected[i][j], "{held:?} {asked:?}");
            assert!(
                table.acquire(Timestamp(1), &key, held, false).is_ok(),
                "re-entrant"
            );
        }
    }
}

#[test]
fn the_queue_is_fair_and_upgrades_go_first() {
    let table = Arc::new(LockTable::default());
    let key = Bytes::from("k");
    let ask = |txn, strength| table.acquire(Timestamp(txn), &key, strength, true).unwrap();
    let wait = |outcome| match outcome {
        LockOutcome::Queued(ticket) => Box::pin(ticket.wait()),
        other => panic!("{other:?}"),
    };
    assert!(matches!(ask(1, LockStrength::Share), LockOutcome::Granted));
    let mut writer = wait(ask(2, LockStrength::Update));
    let mut reader = wait(ask(3, LockStrength::Share));
    assert!(ready(&mut reader).is_none(), "must not overtake the writer");
    assert!(
        matches!(ask(1, LockStrength::Update), LockOutcome::Held),
        "an upgrade does not queue"
    );
    table.release(Timestamp(1), [&key]);
    assert!(ready(&mut writer).is_some());
    assert!(ready(&mut reader).is_none());
    table.release(Timestamp(2), [&key]);
    assert!(ready(&mut reader).is_some());
    table.release(Timestamp(3), [&key]);
    assert!(table.is_empty());
}

#[test]
fn one_that_gives_up_leaves_the_queue() {
    let table = Arc::new(LockTable::default());
    let key = Bytes::from("k");
    let ask = |txn, strength| table.acquire(Timestamp(txn), &key, strength, true).unwrap();
    ask(1, LockStrength::Share);
    let writer = ask(2, LockStrength::Update);
    let LockOutcome::Queued(reader) = ask(3, LockStrength::Share) else {
        panic!("queued")
    };
    drop(writer);
    assert!(ready(&mut Box::pin(reader.wait())).is_some());
    table.release(Timestamp(1), [&key]);
    table.release(Timestamp(3), [&key]);
    assert!(table.is_empty());
}

#[test]
fn a_circle_of_three_is_found_and_named() {
    let table = Arc::new(LockTable::default());
    let row = |name: &'static str| Bytes::from(name);
    let ask = |txn: u64, key: &'static str| {
        table.acquire(Timestamp(txn << 18), &row(key), LockStrength::Update, true)
    };
    for (txn, key) in [(1, "a"), (2, "b"), (3, "c")] {
        ask(txn, key).unwrap();
    }
    let first = ask(1, "b").unwrap();
    let second = ask(2, "c").unwrap();
    let Err(Error::Deadlock { detail }) = ask(3, "a") else {
        panic!("no deadlock found")
    };
    assert_eq!(
        detail,
        "Transaction 3.0 waits for ExclusiveLock on row \\x61; blocked by transaction 1.0.\n\
         Transaction 1.0 waits for ExclusiveLock on row \\x62; blocked by transaction 2.0.\n\
         Transaction 2.0 waits for ExclusiveLock on row \\x63; blocked by transaction 3.0."
    );
    // The victim gives up what it holds; the others go on.
    table.release(Timestamp(3 << 18), [&row("c")]);
    let LockOutcome::Queued(second) = second else {
        panic!("queued")
    };
    assert!(ready(&mut Box::pin(second.wait())).is_some());
    drop(first);
}

#[test]
fn clearing_fails_those_who_wait() {
    let table = Arc::new(LockTable::default());
    let key = Bytes::from("k");
    table
        .acquire(Timestamp(1), &key, LockStrength::Update, true)
        .unwrap();
    let Ok(LockOutcome::Queued(ticket)) =
        table.acquire(Timestamp(2), &key, LockStrength::Update, true)
    else {
        panic!("queued")
    };
    table.clear();
    assert!(matches!(
        ready(&mut Box::pin(ticket.wait())),
        Some(Err(Error::Conflict { .. }))
    ));
}

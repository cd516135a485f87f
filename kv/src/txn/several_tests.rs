//! Transactions over several ranges, also such as nobody brings to an end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::tests::{begin, change_catalog, get, key, put};
use super::*;
use crate::db::{DbConfig, start_in_memory};
use crate::error::Error;
use crate::keys;
use crate::mvcc::Outcome as Ending;
use crate::range::{Body, PrewriteRequest, WriteEntry, Writes};
use crate::routing::plain;
use crate::timestamp::Timestamp;

/// A store whose ranges begin at these names, on the runtime of the test.
async fn split_at(names: &[&str]) -> Db {
    let config = DbConfig {
        founding_splits: names.iter().copied().map(key).collect(),
        ..DbConfig::default()
    };
    Db::over(start_in_memory(config, None).await.unwrap())
}

/// Writes an intent, and no more, as a gateway does that then disappears.
async fn leave_intent(db: &Db, start: Timestamp, primary: &str, name: &str) -> Result<(), Error> {
    let write = WriteEntry {
        value: Some(Bytes::from_static(b"intent")),
        base: start,
        unwritten: false,
    };
    let request = PrewriteRequest {
        start,
        primary: key(primary),
        writes: Arc::new(Writes::from([(key(name), write)])),
    };
    let replica = db.node().ranges.at(&key(name)).unwrap();
    let in_the_way = replica.prewrite(&request).await.map_err(plain)?;
    assert!(in_the_way.is_none(), "{in_the_way:?}");
    Ok(())
}

async fn decide(db: &Db, start: Timestamp, primary: &str) -> Ending {
    let commit = db.now().await.unwrap();
    let primary = key(primary);
    let keys = Arc::from([primary.clone()]);
    let replica = db.node().ranges.at(&primary).unwrap();
    let decided = replica.decide(&primary, start, commit, &keys, &[]);
    decided.await.unwrap()
}

/// Waits until nothing is left of transactions that have ended.
async fn nothing_is_left(db: &Db) {
    let left = || {
        let replicas = db.node().replicas();
        let records = replicas.iter().map(|r| r.records(99).unwrap().len());
        db.stats().intents + records.sum::<usize>()
    };
    for _ in 0..1_000 {
        if left() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} intents or records are left", left());
}

#[tokio::test(start_paused = true)]
async fn many_keys_of_several_ranges_are_read_in_the_order_asked() {
    let db = split_at(&["h", "p"]).await;
    for (name, value) in [("a", "1"), ("i", "2"), ("x", "3"), ("y", "4")] {
        put(&db, name, value).await;
    }
    // Intents in the way: of nobody any more in the middle of a range, and of a younger transaction.
    let (gone, reader) = (begin(&db).await.start_timestamp(), begin(&db).await);
    for name in ["b", "y"] {
        leave_intent(&db, gone, "b", name).await.unwrap();
    }
    let young = begin(&db).await.start_timestamp();
    leave_intent(&db, young, "a", "a").await.unwrap();
    reader.put(key("z"), "own".into()).unwrap();
    let names = ["z", "y", "i", "a", "none", "b", "x", "a"];
    let keys = names.map(key);
    let found = reader.multi_get(&keys).await.unwrap();
    let expected = ["own", "4", "2", "1", "", "", "3", "1"];
    let text = |value: Option<Value>| {
        value.map_or(String::new(), |v| String::from_utf8(v.to_vec()).unwrap())
    };
    let found: Vec<String> = found.into_iter().map(text).collect();
    assert_eq!(found, expected);
    // They count as read.
    put(&db, "i", "new").await;
    assert!(matches!(reader.commit().await, Err(Error::Conflict { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_catalog_in_another_range_costs_a_round_only_when_it_has_changed() {
    let db = split_at(&["h"]).await;
    change_catalog(&db, "1").await;
    let replica = db.node().ranges.at(&key("x")).unwrap();
    let entries = || replica.state().applied().position.map_or(0, |at| at.index);
    for (name, changes, writes) in [("x", false, 1), ("y", true, 2)] {
        let (start, other) = (begin(&db).await, begin(&db).await);
        // What is announced and not committed costs the round, and no more.
        other.put(keys::CATALOG_VERSION.into(), "2".into()).unwrap();
        other.get(&key("a")).await.unwrap();
        start.require_catalog();
        start.put(key(name), "new".into()).unwrap();
        if changes {
            put(&db, "a", "new").await;
            assert!(other.commit().await.is_err());
        }
        let before = entries();
        start.commit().await.unwrap();
        assert_eq!(get(&begin(&db).await, name).await.as_deref(), Some("new"));
        assert_eq!(entries() - before, writes, "{name}");
        nothing_is_left(&db).await;
    }
    let writer = begin(&db).await;
    writer.require_catalog();
    writer.put(key("z"), "new".into()).unwrap();
    change_catalog(&db, "3").await;
    assert!(matches!(writer.commit().await, Err(Error::Conflict { .. })));
    assert_eq!(get(&begin(&db).await, "z").await, None);
}

#[tokio::test(start_paused = true)]
async fn all_ranges_commit_at_one_timestamp_and_nothing_is_left() {
    let db = split_at(&["h", "p"]).await;
    put(&db, "k", "old").await;
    let txn = begin(&db).await;
    for name in ["a", "i", "x"] {
        txn.put(key(name), "new".into()).unwrap();
    }
    txn.delete(key("k")).unwrap();
    let before = begin(&db).await;
    let done = txn.commit().await.unwrap();
    let after = begin(&db).await;
    for name in ["a", "i", "x"] {
        assert_eq!(get(&before, name).await, None);
        assert_eq!(get(&after, name).await.as_deref(), Some("new"));
        let replica = db.node().ranges.at(&key(name)).unwrap();
        let written = replica.last_written(&key(name), Timestamp::MAX).await;
        assert_eq!(written.unwrap(), Some(done.timestamp));
    }
    assert_eq!(get(&before, "k").await.as_deref(), Some("old"));
    assert_eq!(get(&after, "k").await, None);
    nothing_is_left(&db).await;
}

#[tokio::test(start_paused = true)]
async fn a_read_elsewhere_is_validated() {
    let db = split_at(&["h"]).await;
    for written_meanwhile in [false, true] {
        let txn = begin(&db).await;
        get(&txn, "x").await;
        txn.put(key("a"), "1".into()).unwrap();
        if written_meanwhile {
            put(&db, "x", "2").await;
        }
        let done = txn.commit().await;
        let conflict = matches!(done, Err(Error::Conflict { .. }));
        assert_eq!(conflict, written_meanwhile, "{done:?}");
        nothing_is_left_but_rollbacks(&db).await;
    }
}

/// Waits until no intent is left.
async fn nothing_is_left_but_rollbacks(db: &Db) {
    for _ in 0..1_000 {
        if db.stats().intents == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("intents are left");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_read_what_the_other_writes_one_commits() {
    let db = split_at(&["h"]).await;
    let (one, two) = (begin(&db).await, begin(&db).await);
    get(&one, "a").await;
    get(&two, "x").await;
    one.put(key("x"), "1".into()).unwrap();
    two.put(key("a"), "2".into()).unwrap();
    let (one, two) = tokio::join!(one.commit(), two.commit());
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_nobody_ends_is_rolled_back_for_good() {
    let db = split_at(&["h"]).await;
    put(&db, "x", "old").await;
    let start = db.now().await.unwrap();
    leave_intent(&db, start, "a", "a").await.unwrap();
    leave_intent(&db, start, "a", "x").await.unwrap();
    // A reader of before it does not wait.
    let began = tokio::time::Instant::now();
    let reader = begin(&db).await;
    assert_eq!(get(&reader, "x").await.as_deref(), Some("old"));
    assert!(
        began.elapsed() >= crate::range::SAYS_SO,
        "it might have lived"
    );
    assert_eq!(decide(&db, start, "a").await, Ending::RolledBack);
    let late = leave_intent(&db, start, "a", "a").await;
    assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    assert_eq!(get(&begin(&db).await, "a").await, None);
}

/// Below the safe point the record of a rollback may be gone, and nobody need write another.
#[tokio::test(start_paused = true)]
async fn below_the_safe_point_a_rollback_needs_no_record() {
    let db = split_at(&["h"]).await;
    let start = db.now().await.unwrap();
    leave_intent(&db, start, "a", "x").await.unwrap();
    let primary = db.node().ranges.at(&key("a")).unwrap();
    let safe_point = db.now().await.unwrap();
    primary.propose(Body::SafePoint(safe_point)).await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(get(&begin(&db).await, "x").await, None);
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits");
    assert_eq!(primary.records(9).unwrap().len(), 0);
    let late = leave_intent(&db, start, "a", "a").await;
    assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    assert_eq!(decide(&db, start, "a").await, Ending::RolledBack);
    nothing_is_left(&db).await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_decided_is_seen_at_once_and_whole() {
    let db = split_at(&["h"]).await;
    let start = db.now().await.unwrap();
    let before = begin(&db).await;
    leave_intent(&db, start, "a", "a").await.unwrap();
    leave_intent(&db, start, "a", "x").await.unwrap();
    let Ending::Committed(commit) = decide(&db, start, "a").await else {
        panic!("it commits");
    };
    // Again, as after an answer that was lost.
    assert_eq!(decide(&db, start, "a").await, Ending::Committed(commit));
    let began = tokio::time::Instant::now();
    let after = begin(&db).await;
    for name in ["x", "a"] {
        assert_eq!(get(&after, name).await.as_deref(), Some("intent"));
        assert_eq!(get(&before, name).await, None);
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits");
}

#[tokio::test(start_paused = true)]
async fn an_older_writer_rolls_a_younger_one_back_and_a_younger_one_waits() {
    let db = split_at(&["h"]).await;
    let older = begin(&db).await;
    let start = db.now().await.unwrap();
    leave_intent(&db, start, "x", "x").await.unwrap();
    let began = tokio::time::Instant::now();
    older.put(key("x"), "older".into()).unwrap();
    older.put(key("a"), "older".into()).unwrap();
    older.commit().await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO, "it does not wait");
    assert_eq!(decide(&db, start, "x").await, Ending::RolledBack);

    let start = db.now().await.unwrap();
    leave_intent(&db, start, "b", "b").await.unwrap();
    let younger = begin(&db).await;
    younger.put(key("b"), "younger".into()).unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(500), younger.commit());
    assert!(waits.await.is_err(), "it waits");
    let Ending::Committed(_) = decide(&db, start, "b").await else {
        panic!("nobody has rolled it back");
    };
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_given_up_half_way_happens_whole_or_not_at_all() {
    // The future is dropped after so many polls.
    for polls in 0..40 {
        let db = split_at(&["h"]).await;
        let txn = begin(&db).await;
        txn.put(key("a"), "1".into()).unwrap();
        txn.put(key("x"), "1".into()).unwrap();
        {
            let mut commit = Box::pin(txn.commit());
            for _ in 0..polls {
                if futures::poll!(&mut commit).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let reader = begin(&db).await;
        let found = (get(&reader, "a").await, get(&reader, "x").await);
        assert_eq!(
            found.0.is_some(),
            found.1.is_some(),
            "{polls} polls: {found:?}"
        );
        nothing_is_left_but_rollbacks(&db).await;
        let again = begin(&db).await;
        assert_eq!(found.0, get(&again, "a").await, "{polls} polls");
    }
}

//! Transactions over a whole node in memory: isolation, savepoints, locks, scans.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::db::DbConfig;
use crate::error::Error;
use crate::keys;

pub(super) fn key(name: &str) -> Key {
    let mut key = keys::table_prefix(7, 1);
    key.extend_from_slice(name.as_bytes());
    key.into()
}

fn all() -> Span {
    keys::table_span(7)
}

/// A store whose ranges begin at these names.
fn split_at<'a>(names: impl IntoIterator<Item = &'a str>) -> Db {
    let config = DbConfig {
        founding_splits: names.into_iter().map(key).collect(),
        ..DbConfig::default()
    };
    Db::in_memory_with(config).unwrap()
}

pub(super) async fn begin(db: &Db) -> Txn {
    db.begin(TxnOptions::default()).await.unwrap()
}

async fn begin_at(db: &Db, isolation: IsolationLevel) -> Txn {
    db.begin(TxnOptions {
        isolation,
        ..TxnOptions::default()
    })
    .await
    .unwrap()
}

pub(super) async fn put(db: &Db, name: &str, value: &str) {
    let txn = begin(db).await;
    txn.put(key(name), Bytes::copy_from_slice(value.as_bytes()))
        .unwrap();
    txn.commit().await.unwrap();
}

/// Writes the version of the catalog.
pub(super) async fn change_catalog(db: &Db, version: &'static str) {
    let txn = begin(db).await;
    txn.put(keys::CATALOG_VERSION.into(), version.into())
        .unwrap();
    txn.commit().await.unwrap();
}

pub(super) async fn get(txn: &Txn, name: &str) -> Option<String> {
    let value = txn.get(&key(name)).await.unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

async fn rows(txn: &Txn, options: ScanOptions) -> Vec<(String, String)> {
    let mut scan = txn.scan(all(), options);
    let mut rows = Vec::new();
    while let Some(batch) = scan.next_batch().await.unwrap() {
        for (key, value) in batch.iter() {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            rows.push((text(&key[keys::INDEX_PREFIX_LEN..]), text(value)));
        }
    }
    rows
}

fn is_conflict<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Conflict { .. }))
}

#[tokio::test]
async fn a_transaction_sees_its_snapshot_and_its_own_writes() {
    let db = Db::in_memory();
    put(&db, "a", "1").await;
    let txn = begin(&db).await;
    put(&db, "a", "2").await;
    put(&db, "b", "2").await;
    assert_eq!(get(&txn, "a").await.unwrap(), "1");
    assert_eq!(get(&txn, "b").await, None);
    txn.put(key("c"), "3".into()).unwrap();
    txn.delete(key("a")).unwrap();
    assert_eq!(get(&txn, "a").await, None);
    assert_eq!(
        rows(&txn, ScanOptions::default()).await,
        [("c".into(), "3".into())]
    );
    assert!(
        is_conflict(txn.commit().await),
        "a was written by somebody else"
    );
    assert!(matches!(txn.get(&key("a")).await, Err(Error::Finished)));
    let after = begin(&db).await;
    assert_eq!(get(&after, "a").await.unwrap(), "2");
    assert_eq!(get(&after, "c").await, None);
}

#[tokio::test]
async fn write_skew_is_prevented_when_serializable_only() {
    for isolation in [IsolationLevel::Serializable, IsolationLevel::RepeatableRead] {
        let db = Db::in_memory();
        put(&db, "alice", "on call").await;
        put(&db, "bob", "on call").await;
        let (one, two) = (
            begin_at(&db, isolation).await,
            begin_at(&db, isolation).await,
        );
        for txn in [&one, &two] {
            assert_eq!(rows(txn, ScanOptions::default()).await.len(), 2);
        }
        one.delete(key("alice")).unwrap();
        two.delete(key("bob")).unwrap();
        assert!(one.commit().await.is_ok());
        assert_eq!(
            is_conflict(two.commit().await),
            isolation == IsolationLevel::Serializable
        );
    }
}

#[tokio::test]
async fn without_validation_write_skew_is_found() {
    // The planted bug: if this test could not see it, the one above would prove nothing.
    let db = Db::in_memory();
    db.node().replicas()[1]
        .skip_validation
        .store(true, Ordering::Relaxed);
    put(&db, "alice", "on call").await;
    put(&db, "bob", "on call").await;
    let (one, two) = (begin(&db).await, begin(&db).await);
    for txn in [&one, &two] {
        assert_eq!(rows(txn, ScanOptions::default()).await.len(), 2);
    }
    one.delete(key("alice")).unwrap();
    two.delete(key("bob")).unwrap();
    assert!(one.commit().await.is_ok() && two.commit().await.is_ok());
    let check = begin(&db).await;
    assert!(
        rows(&check, ScanOptions::default()).await.is_empty(),
        "nobody is on call"
    );
}

#[tokio::test]
async fn lost_updates_are_prevented_at_every_level() {
    use IsolationLevel::{ReadCommitted, RepeatableRead, Serializable};
    for isolation in [Serializable, RepeatableRead, ReadCommitted] {
        let db = Db::in_memory();
        put(&db, "n", "1").await;
        let (one, two) = (
            begin_at(&db, isolation).await,
            begin_at(&db, isolation).await,
        );
        for txn in [&one, &two] {
            txn.begin_statement().await.unwrap();
            let n: u32 = get(txn, "n").await.unwrap().parse().unwrap();
            txn.put(key("n"), (n + 1).to_string().into()).unwrap();
        }
        assert!(one.commit().await.is_ok());
        assert!(is_conflict(two.commit().await), "{isolation:?}");
    }
}

#[tokio::test]
async fn what_writes_rest_on_is_validated_at_every_level() {
    use IsolationLevel::{ReadCommitted, RepeatableRead, Serializable};
    for level in [ReadCommitted, RepeatableRead, Serializable] {
        let db = Db::in_memory();
        change_catalog(&db, "1").await;
        let writer = begin_at(&db, level).await;
        writer.require_catalog();
        writer.put(key("row"), "x".into()).unwrap();
        change_catalog(&db, "2").await;
        assert!(is_conflict(writer.commit().await), "{level:?}");

        // A catalog that did not change stands in nobody's way.
        let writer = begin_at(&db, level).await;
        writer.require_catalog();
        writer.put(key("row"), "y".into()).unwrap();
        put(&db, "other", "x").await;
        writer.commit().await.unwrap();

        // A row that appears in what was read while reads were validated.
        let builder = begin_at(&db, level).await;
        builder.validate_reads(true);
        let seen = rows(&builder, ScanOptions::default()).await.len();
        builder.validate_reads(false);
        assert_eq!(seen, 2);
        builder.put(key("index"), "3".into()).unwrap();
        put(&db, "late", "x").await;
        assert!(is_conflict(builder.commit().await), "{level:?}");
    }
}

/// Begins a transaction; whether it is known what it sees of the catalog, and what.
async fn recalled(db: &Db, remembered: &Remembered<String>) -> Option<String> {
    let txn = begin(db).await;
    remembered.recall(&txn).map(|what| (*what).clone())
}

#[tokio::test]
async fn what_was_read_of_the_catalog_serves_until_it_changes() {
    let db = Db::in_memory();
    let remembered = Remembered::default();
    change_catalog(&db, "1").await;
    let (reader, old) = (begin(&db).await, begin(&db).await);
    assert!(remembered.recall(&reader).is_none());
    remembered.note(&reader, Arc::new("1".to_owned()));
    put(&db, "row", "x").await;
    assert_eq!(recalled(&db, &remembered).await.as_deref(), Some("1"));

    // Whoever changes it sees its own; the others see what was, until it is committed.
    let changer = begin(&db).await;
    changer
        .put(keys::CATALOG_VERSION.into(), "2".into())
        .unwrap();
    assert!(remembered.recall(&changer).is_none());
    assert_eq!(recalled(&db, &remembered).await.as_deref(), Some("1"));
    changer.commit().await.unwrap();
    assert_eq!(recalled(&db, &remembered).await, None);
    assert!(remembered.recall(&old).is_some());

    // What began before and rests on it cannot write any more; what only reads can.
    old.put(key("row"), "y".into()).unwrap();
    assert!(is_conflict(old.commit().await));
    assert!(reader.commit().await.is_ok());

    // A change that failed is told of as well, and does no harm.
    let (loser, rest) = (begin(&db).await, begin(&db).await);
    remembered.note(&rest, Arc::new("2".to_owned()));
    loser.put(keys::CATALOG_VERSION.into(), "3".into()).unwrap();
    loser.put(key("row"), "z".into()).unwrap();
    loser.get(&key("other")).await.unwrap();
    put(&db, "other", "x").await;
    assert!(is_conflict(loser.commit().await));
    assert_eq!(recalled(&db, &remembered).await, None);
    rest.put(key("row"), "y".into()).unwrap();
    assert!(rest.commit().await.is_ok());
}

#[tokio::test]
async fn phantoms_are_found_and_limits_do_not_overreach() {
    let db = Db::in_memory();
    for name in ["a", "b", "m", "n"] {
        put(&db, name, "1").await;
    }
    let limited = ScanOptions {
        limit: Some(2),
        ..ScanOptions::default()
    };
    let back = ScanOptions {
        limit: Some(1),
        reverse: true,
        ..ScanOptions::default()
    };
    for (options, conflicting, harmless) in [
        (ScanOptions::default(), "z", None),
        (limited, "a5", Some("c")),
        (back, "n5", Some("m5")),
    ] {
        for name in [Some(conflicting), harmless].into_iter().flatten() {
            let txn = begin(&db).await;
            rows(&txn, options.clone()).await;
            txn.put(key("other"), "x".into()).unwrap();
            put(&db, name, "phantom").await;
            assert_eq!(
                is_conflict(txn.commit().await),
                Some(name) != harmless,
                "{name}"
            );
            let undo = begin(&db).await;
            for name in [name, "other"] {
                undo.delete(key(name)).unwrap();
            }
            undo.commit().await.unwrap();
        }
    }
}

#[tokio::test]
async fn read_committed_moves_with_the_statement() {
    let db = Db::in_memory();
    let txn = begin_at(&db, IsolationLevel::ReadCommitted).await;
    txn.begin_statement().await.unwrap();
    assert_eq!(get(&txn, "a").await, None);
    put(&db, "a", "1").await;
    assert_eq!(get(&txn, "a").await, None, "the same statement");
    txn.begin_statement().await.unwrap();
    assert_eq!(get(&txn, "a").await.unwrap(), "1");
    txn.put(key("b"), "2".into()).unwrap();
    put(&db, "a", "2").await;
    txn.commit().await.unwrap();
}

#[tokio::test]
async fn savepoints_take_back_writes_and_locks() {
    let db = Db::in_memory();
    let txn = begin(&db).await;
    txn.put(key("a"), "1".into()).unwrap();
    let outer = txn.savepoint();
    txn.put(key("a"), "2".into()).unwrap();
    txn.lock(&[key("l")], LockStrength::Update, LockWait::NoWait)
        .await
        .unwrap();
    let inner = txn.savepoint();
    txn.put(key("b"), "3".into()).unwrap();
    txn.rollback_to(inner).unwrap();
    assert_eq!(
        (get(&txn, "a").await.unwrap().as_str(), get(&txn, "b").await),
        ("2", None)
    );
    txn.rollback_to(outer).unwrap();
    assert_eq!(get(&txn, "a").await.unwrap(), "1");
    assert!(
        txn.rollback_to(inner).is_err(),
        "it went with the outer one"
    );
    let other = begin(&db).await;
    assert!(
        other
            .lock(&[key("l")], LockStrength::Update, LockWait::NoWait)
            .await
            .is_ok()
    );
    txn.rollback_to(outer).unwrap();
    txn.release(outer).unwrap();
    assert!(txn.rollback_to(outer).is_err());
    txn.commit().await.unwrap();
    assert_eq!(get(&begin(&db).await, "a").await.unwrap(), "1");
}

#[tokio::test]
async fn locks_queue_skip_refuse_and_time_out() {
    let db = Db::in_memory();
    let holder = begin(&db).await;
    let keys = [key("a")];
    holder
        .lock(&keys, LockStrength::Update, LockWait::Wait(None))
        .await
        .unwrap();
    let other = begin(&db).await;
    let both = [key("a"), key("b")];
    let skipped = other
        .lock(&both, LockStrength::Update, LockWait::SkipLocked)
        .await
        .unwrap();
    assert_eq!(skipped, [key("b")]);
    let refused = other
        .lock(&keys, LockStrength::Share, LockWait::NoWait)
        .await;
    assert!(matches!(refused, Err(Error::LockNotAvailable)));
    let late = other
        .lock(&keys, LockStrength::Share, LockWait::Wait(Some(5)))
        .await;
    assert!(matches!(late, Err(Error::LockNotAvailable)));
    let mut waiting = Box::pin(other.lock(&keys, LockStrength::Update, LockWait::Wait(None)));
    assert!((&mut waiting).now_or_never().is_none());
    drop(holder);
    waiting.await.unwrap();
    assert_eq!(db.stats().locked_rows, 2);
    other.rollback().await;
    assert_eq!(db.stats().locked_rows, 0);
}

#[tokio::test]
async fn a_deadlock_has_a_victim() {
    let db = Db::in_memory();
    let (one, two) = (begin(&db).await, begin(&db).await);
    let wait = LockWait::Wait(None);
    one.lock(&[key("a")], LockStrength::Update, wait)
        .await
        .unwrap();
    two.lock(&[key("b")], LockStrength::Update, wait)
        .await
        .unwrap();
    let b = [key("b")];
    let mut waiting = Box::pin(one.lock(&b, LockStrength::Update, wait));
    assert!((&mut waiting).now_or_never().is_none());
    let victim = two.lock(&[key("a")], LockStrength::Update, wait).await;
    let Err(Error::Deadlock { detail }) = victim else {
        panic!("{victim:?}")
    };
    assert_eq!(detail.lines().count(), 2);
    two.rollback().await;
    waiting.await.unwrap();
}

#[tokio::test]
async fn locking_a_newer_row_moves_the_snapshot_if_nothing_else_changed() {
    let db = Db::in_memory();
    put(&db, "a", "1").await;
    put(&db, "r", "1").await;
    let wait = LockWait::Wait(None);
    // Its first statement: what it has read itself is run again.
    let first = begin(&db).await;
    first.begin_statement().await.unwrap();
    let before = first.read_timestamp();
    assert_eq!(get(&first, "a").await.unwrap(), "1");
    put(&db, "a", "2").await;
    first
        .lock(&[key("a")], LockStrength::Update, wait)
        .await
        .unwrap();
    assert!(first.read_timestamp() > before);
    assert_eq!(get(&first, "a").await.unwrap(), "2");
    first.put(key("a"), "3".into()).unwrap();
    first.commit().await.unwrap();
    // A later statement: what earlier ones have read must not have changed.
    for changed in [false, true] {
        let txn = begin(&db).await;
        txn.begin_statement().await.unwrap();
        assert!(get(&txn, "r").await.is_some());
        txn.begin_statement().await.unwrap();
        put(&db, if changed { "r" } else { "s" }, "new").await;
        put(&db, "a", "4").await;
        let locked = txn.lock(&[key("a")], LockStrength::Update, wait).await;
        assert_eq!(is_conflict(locked), changed);
    }
    // Without marks everything it has read counts.
    let plain = begin(&db).await;
    assert!(get(&plain, "a").await.is_some());
    put(&db, "a", "5").await;
    assert!(is_conflict(
        plain.lock(&[key("a")], LockStrength::Update, wait).await
    ));
    drop(plain);
    // READ COMMITTED just moves on.
    let committed = begin_at(&db, IsolationLevel::ReadCommitted).await;
    committed.begin_statement().await.unwrap();
    assert!(get(&committed, "a").await.is_some());
    put(&db, "a", "6").await;
    committed
        .lock(&[key("a")], LockStrength::Update, wait)
        .await
        .unwrap();
    assert_eq!(get(&committed, "a").await.unwrap(), "6");
}

#[tokio::test]
async fn a_refreshed_transaction_does_not_overwrite_what_its_old_write_missed() {
    let db = Db::in_memory();
    put(&db, "n", "1").await;
    let txn = begin(&db).await;
    txn.begin_statement().await.unwrap();
    txn.put(key("n"), "2".into()).unwrap();
    put(&db, "n", "10").await;
    put(&db, "other", "x").await;
    txn.begin_statement().await.unwrap();
    txn.lock(&[key("other")], LockStrength::Update, LockWait::NoWait)
        .await
        .unwrap();
    txn.put(key("n"), "3".into()).unwrap();
    assert!(is_conflict(txn.commit().await));
}

#[tokio::test]
async fn too_large_writes_are_refused() {
    let config = DbConfig {
        txn_bytes_max: 1_000,
        ..DbConfig::default()
    };
    let db = Db::in_memory_with(config).unwrap();
    let txn = begin(&db).await;
    txn.put(key("a"), vec![0; 500].into()).unwrap();
    let refused = txn.put(key("b"), vec![0; 500].into());
    assert!(matches!(refused, Err(Error::TooLarge { limit: 1_000, .. })));
    txn.commit().await.unwrap();
}

#[tokio::test]
async fn a_read_only_transaction_commits_without_work_and_without_a_switch() {
    let db = Db::in_memory();
    put(&db, "a", "1").await;
    // Answered when it is committed, and seen at once when it is applied.
    let applied = db.begin(TxnOptions::default()).await.unwrap();
    assert!(applied.get(&key("a")).await.unwrap().is_some());
    let options = TxnOptions {
        read_only: true,
        ..TxnOptions::default()
    };
    let txn = db
        .begin(options)
        .now_or_never()
        .expect("begins at once")
        .unwrap();
    let a = key("a");
    let value = txn.get(&a).now_or_never().expect("reads at once").unwrap();
    assert_eq!(value.unwrap(), "1");
    let done = txn
        .commit()
        .now_or_never()
        .expect("commits at once")
        .unwrap();
    assert_eq!(done.timestamp, txn.read_timestamp());
}

#[tokio::test]
async fn after_shutdown_nothing_hangs() {
    let config = DbConfig {
        patience_ms: 50,
        ..DbConfig::default()
    };
    let db = Db::in_memory_with(config).unwrap();
    let txn = begin(&db).await;
    txn.put(key("a"), "1".into()).unwrap();
    db.shutdown().await.unwrap();
    let patience = Duration::from_secs(20);
    assert!(
        tokio::time::timeout(patience, txn.commit())
            .await
            .unwrap()
            .is_err()
    );
    assert!(
        tokio::time::timeout(patience, db.begin(TxnOptions::default()))
            .await
            .unwrap()
            .is_err()
    );
}

/// What was read is checked in every range that holds a part of it.
#[tokio::test]
async fn a_refresh_looks_at_all_ranges() {
    let db = split_at(["h", "p"]);
    assert_eq!(db.node().replicas().len(), 4);
    for name in ["a", "k", "x"] {
        put(&db, name, "1").await;
    }
    for (written, survives) in [("a", false), ("k", false), ("x", false), ("zz", true)] {
        let txn = begin(&db).await;
        let wide = Span {
            start: key(""),
            end: key("z"),
        };
        let mut scan = txn.scan(wide, ScanOptions::default());
        let mut found = 0;
        while let Some(batch) = scan.next_batch().await.unwrap() {
            found += batch.len();
        }
        assert_eq!(found, 3);
        txn.begin_statement().await.unwrap();
        put(&db, written, "2").await;
        put(&db, "zzz", "2").await;
        let before = txn.read_timestamp();
        let locked = txn
            .lock(&[key("zzz")], LockStrength::Update, LockWait::NoWait)
            .await;
        assert_eq!(locked.is_ok(), survives, "{written}");
        assert_eq!(txn.read_timestamp() > before, survives, "{written}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// A scan merges the store and the transaction's writes, whatever the batch size, and goes
    /// from range to range.
    #[test]
    fn scans_merge(
        stored in prop::collection::btree_map("[a-f]{1,2}", "[0-9]", 0..12),
        own in prop::collection::btree_map("[a-f]{1,2}", prop::option::of("[0-9]"), 0..12),
        reverse: bool,
        limit in prop::option::of(0u64..8),
        batch_rows in 1usize..5,
        splits in prop::collection::btree_set("[a-f]{1,2}", 0..4),
    ) {
        let db = split_at(splits.iter().map(String::as_str));
        let outcome: Result<(), TestCaseError> = futures::executor::block_on(async {
            for (name, value) in &stored {
                put(&db, name, value).await;
            }
            let txn = begin(&db).await;
            let mut expected = stored.clone();
            for (i, (name, value)) in own.iter().enumerate() {
                match value {
                    Some(value) => {
                        txn.put(key(name), value.clone().into()).unwrap();
                        expected.insert(name.clone(), value.clone());
                    }
                    None => {
                        txn.delete(key(name)).unwrap();
                        expected.remove(name);
                    }
                }
                if i % 3 == 0 {
                    txn.savepoint();
                }
            }
            let mut expected: Vec<_> = expected.into_iter().collect();
            if reverse {
                expected.reverse();
            }
            expected.truncate(limit.map_or(usize::MAX, |n| n as usize));
            let found = rows(&txn, ScanOptions { reverse, limit, batch_rows }).await;
            prop_assert_eq!(found, expected);
            Ok(())
        });
        outcome?;
    }
}

/// The layer above runs these on a runtime of several threads.
#[expect(dead_code, reason = "compiling it is the test")]
fn everything_can_move_between_threads(db: Db, txn: Txn, mut scan: Scan) {
    fn check<T: Send>(_: T) {}
    check(db.begin(TxnOptions::default()));
    check(db.now());
    check(txn.get(b""));
    check(txn.lock(&[], LockStrength::Update, LockWait::NoWait));
    check(txn.begin_statement());
    check(txn.commit());
    check(txn.rollback());
    check(scan.next_batch());
    fn share<T: Sync>(_: &T) {}
    share(&scan);
}

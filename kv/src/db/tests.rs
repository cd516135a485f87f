//! Opening and reopening of a data directory, and garbage collection of a whole node.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::error::Error;
use crate::keys;
use crate::storage::{Reserve, Volume};
use crate::timestamp::Timestamp;
use crate::txn::{IsolationLevel, Key, ScanOptions, TxnOptions};

fn key(name: &str) -> Key {
    let mut key = keys::table_prefix(7, 1);
    key.extend_from_slice(name.as_bytes());
    key.into()
}

async fn put(db: &Db, name: &str, value: Option<&str>) -> Timestamp {
    let txn = db.begin(TxnOptions::default()).await.unwrap();
    match value {
        Some(value) => txn.put(key(name), value.to_owned().into()).unwrap(),
        None => txn.delete(key(name)).unwrap(),
    }
    txn.commit().await.unwrap().timestamp
}

async fn get(db: &Db, name: &str) -> Option<String> {
    let txn = db
        .begin(TxnOptions {
            read_only: true,
            ..TxnOptions::default()
        })
        .await
        .unwrap();
    txn.get(&key(name))
        .await
        .unwrap()
        .map(|value| String::from_utf8(value.to_vec()).unwrap())
}

async fn open(path: &Path) -> Result<Db, Error> {
    Db::open(path, DbConfig::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_reopened_with_everything_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = Timestamp::ZERO;
    for round in 0..4 {
        let db = open(directory.path()).await.unwrap();
        for before in 0..round {
            assert_eq!(
                get(&db, &format!("k{before}")).await.unwrap(),
                format!("v{before}")
            );
        }
        let at = put(&db, &format!("k{round}"), Some(&format!("v{round}"))).await;
        assert!(at > last, "timestamps rise over restarts");
        last = at;
        if round % 2 == 0 {
            db.shutdown().await.unwrap();
        } else {
            // As a killed process: nothing is flushed in good order.
            db.node().kill().await;
        }
        drop(db);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_whose_log_was_purged_is_reopened() {
    let directory = tempfile::tempdir().unwrap();
    let config = DbConfig {
        log_bytes_kept: 100_000,
        persist_interval_ms: 50,
        ..DbConfig::default()
    };
    let mut rows = 0;
    for _ in 0..2 {
        let db = Db::open(directory.path(), config.clone()).await.unwrap();
        let purged = || db.node().replicas()[1].group().status().purged;
        let before = purged();
        let wide = "v".repeat(50_000);
        while purged() == before {
            put(&db, &format!("k{rows}"), Some(&wide)).await;
            rows += 1;
            assert!(rows < 100_000, "the log is never purged");
        }
        // As a killed process.
        db.node().kill().await;
        drop(db);
    }
    let db = Db::open(directory.path(), config).await.unwrap();
    for row in 0..rows {
        assert!(get(&db, &format!("k{row}")).await.is_some(), "row {row}");
    }
}

/// Opens a directory when the last task of the node before has let go of it.
async fn reopen(path: &Path) -> Db {
    let config = DbConfig {
        patience_ms: 500,
        // Some of what is killed has been synced.
        persist_interval_ms: 50,
        ..DbConfig::default()
    };
    loop {
        match Db::open(path, config.clone()).await {
            Err(Error::Storage { message }) if message.contains("in use") => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            other => return other.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_locked_until_all_of_it_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = reopen(directory.path()).await;
    for round in 0..30 {
        let value = format!("{round}");
        put(&db, "k", Some(&value)).await;
        db.shutdown().await.unwrap();
        let path = directory.path().to_path_buf();
        let next = tokio::spawn(async move { reopen(&path).await });
        drop(db);
        db = next.await.unwrap();
        assert_eq!(get(&db, "k").await, Some(value));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_that_were_split_are_there_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = reopen(directory.path()).await;
    let founded = db.node().replicas().len();
    for name in ["a", "m", "z"] {
        put(&db, name, Some("before")).await;
    }
    for name in ["m", "t", "m"] {
        db.split_at(&key(name)).await.unwrap();
    }
    // A commit over all of them, while the new ones are being opened.
    let txn = db.begin(TxnOptions::default()).await.unwrap();
    for name in ["a", "m", "t", "z"] {
        txn.put(key(name), "after".into()).unwrap();
    }
    txn.commit().await.unwrap();
    drop(txn);
    for (killed, splits) in [(true, 2), (true, 3), (false, 4)] {
        assert_eq!(db.node().replicas().len(), founded + splits);
        if killed {
            // As a killed process.
            db.node().kill().await;
        } else {
            db.shutdown().await.unwrap();
        }
        drop(db);
        db = reopen(directory.path()).await;
        for name in ["a", "m", "t", "z"] {
            assert_eq!(get(&db, name).await.as_deref(), Some("after"), "{name}");
        }
        let name = format!("x{splits}");
        db.split_at(&key(&name)).await.unwrap();
        put(&db, &format!("{name}1"), Some("after")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_that_became_one_are_one_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = reopen(directory.path()).await;
    let founded = db.node().replicas().len();
    let names = ["a", "m", "t", "z"];
    for (round, killed) in (0..).zip([true, true, false]) {
        for name in ["m", "t"] {
            db.split_at(&key(name)).await.unwrap();
        }
        let value = format!("{round}");
        let txn = db.begin(TxnOptions::default()).await.unwrap();
        for name in names {
            txn.put(key(name), value.clone().into()).unwrap();
        }
        txn.commit().await.unwrap();
        drop(txn);
        db.merge_at(&key("m")).await.unwrap();
        put(&db, "u", Some(&value)).await;
        db.merge_at(&key("t")).await.unwrap();
        db.merge_at(&key("t")).await.unwrap();
        put(&db, "m", Some("last")).await;
        if killed {
            // As a killed process.
            db.node().kill().await;
        } else {
            db.shutdown().await.unwrap();
        }
        drop(db);
        db = reopen(directory.path()).await;
        assert_eq!(db.node().replicas().len(), founded);
        // What was interrupted is finished while the store is in use again.
        let mut looks = 0..1_000;
        while db.node().log.groups().len() != founded {
            assert!(looks.next().is_some(), "a log was left");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(get(&db, "m").await.as_deref(), Some("last"));
        for name in ["a", "t", "u", "z"] {
            let found = get(&db, name).await;
            assert_eq!(found.as_deref(), Some(&*value), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_in_use_is_refused_with_the_owner() {
    let directory = tempfile::tempdir().unwrap();
    let db = open(directory.path()).await.unwrap();
    let Err(Error::Storage { message }) = open(directory.path()).await else {
        panic!("opened twice")
    };
    assert!(
        message.contains("is in use by another process"),
        "{message}"
    );
    assert!(
        message.contains(&std::process::id().to_string()),
        "{message}"
    );
    db.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_and_future_directories_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("letter.txt"), "dear").unwrap();
    let Err(Error::Storage { message }) = open(directory.path()).await else {
        panic!("opened")
    };
    assert!(message.contains("letter.txt"), "{message}");
    std::fs::remove_file(directory.path().join("letter.txt")).unwrap();
    std::fs::write(directory.path().join("VERSION"), "pontoon 99\n").unwrap();
    let Err(Error::Storage { message }) = open(directory.path()).await else {
        panic!("opened")
    };
    assert!(message.contains("\"pontoon 99\""), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_its_log_does_not_serve() {
    let directory = tempfile::tempdir().unwrap();
    let db = open(directory.path()).await.unwrap();
    put(&db, "k", Some("v")).await;
    db.shutdown().await.unwrap();
    drop(db);
    let (log, aside) = (
        directory.path().join("raftlog"),
        directory.path().join("aside"),
    );
    std::fs::rename(&log, &aside).unwrap();
    let Err(Error::Storage { message }) = open(directory.path()).await else {
        panic!("opened")
    };
    assert!(message.contains("raftlog"), "{message}");
    // An empty log in its place is no better.
    std::fs::create_dir(&log).unwrap();
    let Err(Error::Storage { message }) = open(directory.path()).await else {
        panic!("opened")
    };
    assert!(message.contains("log"), "{message}");
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    let db = open(directory.path()).await.unwrap();
    assert_eq!(get(&db, "k").await.unwrap(), "v");
}

#[tokio::test]
async fn ranges_are_described_in_the_system_range() {
    let db = Db::in_memory();
    let key = keys::address_key(&keys::user_span().start);
    let stored = loop {
        let txn = db.begin(TxnOptions::default()).await.unwrap();
        match txn.get(&key).await.unwrap() {
            Some(stored) => break stored,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let address: crate::routing::Address = crate::cluster::decode_row(&stored).unwrap();
    let descriptor = address.descriptor;
    assert_eq!((descriptor.range, descriptor.span), (2, keys::user_span()));
    assert_eq!(address.members.len(), 1);
}

#[tokio::test]
async fn garbage_goes_and_what_is_read_stays() {
    let config = DbConfig {
        retention_ms: 0,
        ..DbConfig::default()
    };
    let db = Db::in_memory_with(config).unwrap();
    for value in ["1", "2"] {
        put(&db, "k", Some(value)).await;
    }
    let reader = db
        .begin(TxnOptions {
            isolation: IsolationLevel::RepeatableRead,
            ..TxnOptions::default()
        })
        .await
        .unwrap();
    let past = put(&db, "k", Some("3")).await;
    put(&db, "k", None).await;
    let node = db.node();
    let user = &node.replicas()[1];
    assert_eq!(
        node.collect(user).await.unwrap(),
        1,
        "only the version below the reader's"
    );
    assert_eq!(reader.get(&key("k")).await.unwrap().unwrap(), "2");
    reader.rollback().await;
    drop(reader);
    assert_eq!(
        node.collect(user).await.unwrap(),
        4,
        "two versions, the tombstone and its mark"
    );
    let entries = crate::storage::Space::History;
    let left = user
        .state()
        .engine
        .snapshot()
        .scan(entries, b"", b"\xff", false)
        .next()
        .unwrap();
    assert_eq!(left, None);
    let old = db
        .begin(TxnOptions {
            as_of: Some(past),
            ..TxnOptions::default()
        })
        .await
        .unwrap();
    assert!(matches!(
        old.get(&key("k")).await,
        Err(Error::HistoryGone { .. })
    ));
    assert!(node.active.len() == 1 && user.state().changes.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn the_past_can_be_read() {
    let db = Db::in_memory();
    let at = put(&db, "a", Some("1")).await;
    put(&db, "a", Some("2")).await;
    put(&db, "b", Some("2")).await;
    let txn = db
        .begin(TxnOptions {
            as_of: Some(at),
            ..TxnOptions::default()
        })
        .await
        .unwrap();
    let mut scan = txn.scan(keys::table_span(7), ScanOptions::default());
    let batch = scan.next_batch().await.unwrap().unwrap();
    assert_eq!(batch.len(), 1);
    assert_eq!(batch.row(0).1, b"1");
    let future = Timestamp::from_millis(at.millis() + 3_600_000);
    let ahead = db
        .begin(TxnOptions {
            as_of: Some(future),
            ..TxnOptions::default()
        })
        .await;
    assert!(ahead.is_err());
}

/// A disk of which a test says how much is free.
#[derive(Default)]
struct SettableVolume {
    free: AtomicU64,
    ballast: AtomicU64,
}

impl Volume for SettableVolume {
    fn free_bytes(&self) -> Option<u64> {
        Some(self.free.load(Ordering::SeqCst))
    }

    fn ballast_bytes(&self) -> u64 {
        self.ballast.load(Ordering::SeqCst)
    }

    fn set_ballast(&self, bytes: u64) -> std::io::Result<()> {
        let had = self.ballast.swap(bytes, Ordering::SeqCst);
        let free = self.free.load(Ordering::SeqCst) + had;
        self.free.store(free - bytes, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_commits_and_serves_reads() {
    const MIB: u64 = 1 << 20;
    let disk = Arc::new(SettableVolume::default());
    disk.free.store(1_000 * MIB, Ordering::SeqCst);
    let volume = Arc::clone(&disk) as Arc<dyn Volume>;
    let reserve = Reserve {
        bytes: 64 * MIB,
        ballast: 32 * MIB,
    };
    let node = start_in_memory(DbConfig::default(), Some((volume, reserve)));
    let db = Db::over(node.await.unwrap());
    assert_eq!(disk.ballast.load(Ordering::SeqCst), 32 * MIB);
    put(&db, "k", Some("1")).await;

    disk.free.store(0, Ordering::SeqCst);
    // Over many windows of timestamps, which are entries of the log.
    for _ in 0..100 {
        db.node().runtime.sleep(Duration::from_millis(300)).await;
        let txn = db.begin(TxnOptions::default()).await.unwrap();
        txn.put(key("k"), "2".into()).unwrap();
        let refused = txn.commit().await;
        assert!(matches!(refused, Err(Error::NoRoom { free_bytes: 0, .. })));
        assert_eq!(get(&db, "k").await.unwrap(), "1");
    }
    assert!(db.room().refuses);
    assert_eq!(
        disk.ballast.load(Ordering::SeqCst),
        32 * MIB,
        "nothing has needed it"
    );

    disk.free.store(1_000 * MIB, Ordering::SeqCst);
    db.node().runtime.sleep(Duration::from_millis(300)).await;
    put(&db, "k", Some("3")).await;
    assert_eq!(get(&db, "k").await.unwrap(), "3");
    // One that is too large for what is left, beside one that is not.
    disk.free.store(33 * MIB, Ordering::SeqCst);
    db.node().runtime.sleep(Duration::from_millis(300)).await;
    let txn = db.begin(TxnOptions::default()).await.unwrap();
    txn.put(key("large"), vec![0; MIB as usize].into()).unwrap();
    assert!(matches!(txn.commit().await, Err(Error::NoRoom { .. })));
    put(&db, "k", Some("4")).await;
}

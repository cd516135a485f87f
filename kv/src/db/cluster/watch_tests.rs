//! Watches of one node: what they tell, when, and from where.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::watch::CHANGES_MAX;
use crate::cluster::{Topic, WatchEvent, Watched, WatchedKind};
use crate::db::node::Node;
use crate::db::{Db, DbConfig, start_in_memory};
use crate::keys;
use crate::timestamp::Timestamp;
use crate::txn::TxnOptions;

const MINUTE: Duration = Duration::from_secs(60);

async fn db_with(config: DbConfig) -> (Arc<Node>, Db) {
    let node = start_in_memory(config, None).await.unwrap();
    (Arc::clone(&node), Db::over(node))
}

async fn set(db: &Db, settings: &[(&str, Option<&str>)]) -> Timestamp {
    let txn = db.begin(TxnOptions::default()).await.unwrap();
    for (name, value) in settings {
        let key = Bytes::from(keys::setting_key(name));
        match value {
            Some(value) => txn.put(key, (*value).to_owned().into()).unwrap(),
            None => txn.delete(key).unwrap(),
        }
    }
    txn.commit().await.unwrap().timestamp
}

async fn settings(db: &Db, since: Timestamp, wait: Duration) -> Watched {
    db.watch(&[Topic::Settings], since, wait).await.unwrap()
}

/// Events in short: the setting, its value and the one before.
fn short(events: &[WatchEvent]) -> Vec<String> {
    let text = |value: &Option<Bytes>| match value {
        Some(value) => String::from_utf8(value.to_vec()).unwrap(),
        None => "-".to_owned(),
    };
    let short = |event: &WatchEvent| {
        let (value, old) = (text(&event.value), text(&event.old));
        format!("{}={value} was {old}", event.id())
    };
    events.iter().map(short).collect()
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_the_rows_and_goes_on_with_every_change() {
    let (_node, db) = db_with(DbConfig::default()).await;
    set(&db, &[("a", Some("1")), ("b", Some("1"))]).await;
    let rows = settings(&db, Timestamp::ZERO, MINUTE).await;
    assert_eq!(rows.kind, WatchedKind::Rows);
    assert_eq!(short(&rows.events), ["a=1 was -", "b=1 was -"]);

    let first = set(&db, &[("b", Some("2")), ("a", None)]).await;
    let second = set(&db, &[("a", Some("3"))]).await;
    let third = set(&db, &[("a", Some("4")), ("nothing", None)]).await;
    let changes = settings(&db, rows.revision, MINUTE).await;
    assert_eq!(changes.kind, WatchedKind::Changes);
    let told = ["a=- was 1", "b=2 was 1", "a=3 was -", "a=4 was 3"];
    assert_eq!(short(&changes.events), told);
    let revisions: Vec<_> = changes.events.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, [first, first, second, third]);
    assert!(changes.revision >= third);
    // From a commit on: that one was seen.
    let later = settings(&db, first, MINUTE).await;
    assert_eq!(short(&later.events), told[2..]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_waits_for_a_change_of_its_topics_and_no_longer_than_it_is_told() {
    let (node, db) = db_with(DbConfig::default()).await;
    let rows = settings(&db, Timestamp::ZERO, MINUTE).await;
    assert!(rows.events.is_empty());
    // Longer than one question to the coordinator may wait.
    let began = Instant::now();
    let nothing = settings(&db, rows.revision, MINUTE / 2).await;
    assert_eq!(nothing.kind, WatchedKind::Changes);
    assert!(nothing.events.is_empty() && nothing.revision > rows.revision);
    assert!(began.elapsed() >= MINUTE / 2 && began.elapsed() < MINUTE);

    let began = Instant::now();
    let watching = settings(&db, nothing.revision, MINUTE);
    let writing = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.probe_write().await.unwrap();
        node.write_rows(&[]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        set(&db, &[("a", Some("1"))]).await
    };
    let (change, written) = futures::join!(watching, writing);
    assert_eq!(short(&change.events), ["a=1 was -"]);
    assert_eq!(change.events[0].revision, written);
    assert!(began.elapsed() < Duration::from_millis(2_100));
}

/// What is written between the look and the wait is not waited for in vain.
#[tokio::test(start_paused = true)]
async fn nothing_is_missed_between_the_look_and_the_wait() {
    for late in [false, true] {
        let (node, db) = db_with(DbConfig::default()).await;
        let rows = settings(&db, Timestamp::ZERO, MINUTE).await;
        node.subscribes_late.store(late, Ordering::Relaxed);
        let began = Instant::now();
        let writing = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            set(&db, &[("a", Some("1"))]).await
        };
        let wait = Duration::from_secs(5);
        let (change, _) = futures::join!(settings(&db, rows.revision, wait), writing);
        assert_eq!(short(&change.events), ["a=1 was -"]);
        let in_vain = began.elapsed() >= wait;
        assert_eq!(
            in_vain, late,
            "the planted fault, and nothing else, is found"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn many_changes_come_in_pages_that_part_no_commit() {
    let (_node, db) = db_with(DbConfig::default()).await;
    let begin = settings(&db, Timestamp::ZERO, MINUTE).await.revision;
    let mut written = BTreeMap::new();
    for n in 0..5 {
        let names: Vec<_> = (0..CHANGES_MAX / 3).map(|m| format!("{n}-{m}")).collect();
        let all: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), Some("1")))
            .collect();
        written.insert(set(&db, &all).await, all.len());
    }
    let names: Vec<_> = (0..CHANGES_MAX * 2).map(|m| format!("large-{m}")).collect();
    let all: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), Some("1")))
        .collect();
    written.insert(set(&db, &all).await, all.len());
    let (mut told, mut since, mut pages) = (BTreeMap::<_, usize>::new(), begin, 0);
    while told.values().sum::<usize>() < written.values().sum() {
        let page = settings(&db, since, Duration::ZERO).await;
        let one = page
            .events
            .windows(2)
            .all(|pair| pair[0].revision == pair[1].revision);
        assert!(page.events.len() <= CHANGES_MAX || one);
        for event in &page.events {
            assert!(since < event.revision && event.revision <= page.revision);
            *told.entry(event.revision).or_default() += 1;
        }
        (since, pages) = (page.revision, pages + 1);
    }
    assert_eq!(told, written);
    assert!((3..8).contains(&pages), "{pages}");
}

#[tokio::test(start_paused = true)]
async fn a_revision_whose_history_is_gone_is_answered_with_the_rows() {
    let config = DbConfig {
        retention_ms: 0,
        ..DbConfig::default()
    };
    let (node, db) = db_with(config).await;
    let begin = settings(&db, Timestamp::ZERO, MINUTE).await.revision;
    set(&db, &[("a", Some("1")), ("b", Some("1"))]).await;
    set(&db, &[("a", Some("2")), ("b", None)]).await;
    let before = settings(&db, begin, MINUTE).await;
    assert_eq!(
        (before.kind, before.events.len()),
        (WatchedKind::Changes, 4)
    );
    let system = node.system().unwrap();
    while system.state().safe_point() <= before.revision {
        node.collect(&system).await.unwrap();
        tokio::task::yield_now().await;
    }
    let fresh = settings(&db, begin, MINUTE).await;
    assert_eq!(fresh.kind, WatchedKind::Compacted);
    assert_eq!(short(&fresh.events), ["a=2 was -"]);
    set(&db, &[("c", Some("1"))]).await;
    let next = settings(&db, fresh.revision, MINUTE).await;
    assert_eq!(short(&next.events), ["c=1 was -"]);
    // Nobody was ever told of it: of another cluster, or of this one before it was restored.
    let future = Timestamp::from_millis(next.revision.millis() + 3_600_000);
    let fresh = settings(&db, future, MINUTE).await;
    assert_eq!(fresh.kind, WatchedKind::Compacted);
    assert_eq!(short(&fresh.events), ["a=2 was -", "c=1 was -"]);
    assert!(fresh.revision < future);
}

#[tokio::test(start_paused = true)]
async fn what_nodes_write_of_themselves_is_watched() {
    let (node, db) = db_with(DbConfig::default()).await;
    let split = Bytes::from(keys::table_prefix(7, 1));
    db.want_split(&split).await.unwrap();
    let mut since = Timestamp::ZERO;
    let mut seen = Vec::new();
    while !["nodes", "ranges", "splits"]
        .iter()
        .all(|t| seen.contains(t))
    {
        let watched = db.watch(&Topic::ALL, since, MINUTE).await.unwrap();
        assert!(watched.events.iter().all(|event| event.row().is_ok()));
        seen.extend(watched.events.iter().map(|event| event.topic.name()));
        since = watched.revision;
    }
    // The coordinator plans from what it has watched.
    let (system, leadership) = node.coordinating().unwrap();
    let (rows, splits, _) = node.metadata(&system, leadership.term).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(splits.into_iter().collect::<Vec<_>>(), [split.clone()]);
    db.unwant_splits(&keys::user_span()).await.unwrap();
    let (_, splits, _) = node.metadata(&system, leadership.term).await.unwrap();
    assert!(splits.is_empty());
}

//! Both engines against each other, and what a crash takes away.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn rows(cursor: &mut dyn Cursor) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::new();
    while let Some(row) = cursor.next().unwrap() {
        rows.push(row);
    }
    rows
}

fn put(engine: &dyn Engine, key: &[u8], value: &[u8]) {
    let mut batch = WriteBatch::default();
    batch.put(Space::Kv, key.to_vec(), value.to_vec());
    engine.write(batch).unwrap();
}

#[test]
fn a_snapshot_does_not_see_later_batches() {
    let directory = tempfile::tempdir().unwrap();
    let fjall = FjallEngine::open(directory.path(), FjallConfig::default()).unwrap();
    for engine in [&fjall as &dyn Engine, &MemoryEngine::new()] {
        put(engine, b"a", b"1");
        let snapshot = engine.snapshot();
        put(engine, b"a", b"2");
        put(engine, b"b", b"3");
        assert_eq!(snapshot.get(Space::Kv, b"a").unwrap().unwrap(), "1");
        assert_eq!(
            rows(&mut *snapshot.scan(Space::Kv, b"", b"z", false)).len(),
            1
        );
        assert_eq!(engine.get(Space::Kv, b"a").unwrap().unwrap(), "2");
        assert!(rows(&mut *snapshot.scan(Space::Kv, b"z", b"a", true)).is_empty());
    }
}

#[test]
fn a_crash_forgets_what_was_not_persisted() {
    let engine = MemoryEngine::with_crashes();
    put(&engine, b"a", b"1");
    engine.persist().unwrap();
    put(&engine, b"b", b"2");
    engine.crash();
    assert!(engine.get(Space::Kv, b"a").unwrap().is_some());
    assert!(engine.get(Space::Kv, b"b").unwrap().is_none());
}

#[test]
fn fjall_keeps_what_was_persisted() {
    let directory = tempfile::tempdir().unwrap();
    {
        let engine = FjallEngine::open(directory.path(), FjallConfig::default()).unwrap();
        put(&engine, b"a", b"1");
        engine.persist().unwrap();
    }
    let engine = FjallEngine::open(directory.path(), FjallConfig::default()).unwrap();
    assert_eq!(engine.get(Space::Kv, b"a").unwrap().unwrap(), "1");
}

#[test]
fn a_flushed_engine_leaves_no_journal_to_read() {
    let directory = tempfile::tempdir().unwrap();
    let journals = || {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let entries = entries.map(|entry| entry.unwrap());
        let journals = entries.filter(|e| e.path().extension().is_some_and(|e| e == "jnl"));
        journals
            .map(|entry| entry.metadata().unwrap().len())
            .collect::<Vec<_>>()
    };
    let write = |engine: &FjallEngine, value: &[u8]| {
        for n in 0..2_000_u16 {
            put(engine, &n.to_be_bytes(), value);
        }
    };
    let holds = |engine: &FjallEngine, value: &[u8]| {
        let snapshot = engine.snapshot();
        let all = rows(&mut *snapshot.scan(Space::Kv, b"", b"\xff", false));
        all.len() == 2_000 && all.iter().all(|(_, held)| *held == *value)
    };
    // What is written after a journal was left behind is newer than what is in tables.
    for round in [b"1", b"2", b"3"] {
        let engine = FjallEngine::open(directory.path(), FjallConfig::default()).unwrap();
        write(&engine, round);
        assert!(holds(&engine, round));
        engine.flush().unwrap();
        drop(engine);
        assert_eq!(journals(), [0]);
        let engine = FjallEngine::open(directory.path(), FjallConfig::default()).unwrap();
        assert!(holds(&engine, round));
    }
    // Something is written after the flush, and not in tables.
    let engine = FjallEngine::open(directory.path(), FjallConfig::default()).unwrap();
    write(&engine, b"4");
    engine.flush().unwrap();
    put(&engine, b"a", b"5");
    engine.persist().unwrap();
    drop(engine);
    assert!(journals().iter().sum::<u64>() > 0);
    let engine = FjallEngine::open(directory.path(), FjallConfig::default()).unwrap();
    assert_eq!(engine.get(Space::Kv, b"a").unwrap().unwrap(), "5");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn engines_agree(
        changes in prop::collection::vec((0u8..12, any::<Option<u8>>()), 0..60),
        from in 0u8..12,
        to in 0u8..12,
        reverse: bool,
        stop in 1usize..6,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let fjall = FjallEngine::open(directory.path(), FjallConfig::default()).unwrap();
        let memory = MemoryEngine::new();
        for chunk in changes.chunks(5) {
            let mut batch = WriteBatch::default();
            for (key, value) in chunk {
                match value {
                    Some(value) => batch.put(Space::Kv, vec![*key], vec![*value]),
                    None => batch.remove(Space::Kv, vec![*key]),
                }
            }
            fjall.write(batch.clone()).unwrap();
            memory.write(batch).unwrap();
        }
        let mut ours = memory.snapshot().scan(Space::Kv, &[from], &[to], reverse);
        let mut theirs = fjall.snapshot().scan(Space::Kv, &[from], &[to], reverse);
        loop {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            let more = ours.for_each(&mut |k, v| { a.push((k.to_vec(), v.to_vec())); a.len() < stop });
            theirs.for_each(&mut |k, v| { b.push((k.to_vec(), v.to_vec())); b.len() < stop }).unwrap();
            prop_assert_eq!(a, b);
            if !more.unwrap() { break; }
        }
    }
}

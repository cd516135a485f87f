//! Versions against a naive model.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::storage::{Engine, MemoryEngine, Space, WriteBatch};
use crate::timestamp::Timestamp;

/// For each key, its versions from old to new.
#[derive(Default)]
struct Model {
    versions: BTreeMap<Vec<u8>, Vec<(u64, Option<u8>)>>,
}

impl Model {
    fn get(&self, key: &[u8], at: u64) -> Option<u8> {
        self.versions
            .get(key)?
            .iter()
            .rev()
            .find(|(ts, _)| *ts <= at)?
            .1
    }

    fn scan(&self, start: &[u8], end: &[u8], at: u64) -> Vec<(Vec<u8>, u8)> {
        let span = start.to_vec()..end.to_vec();
        let keys = self.versions.range(span).map(|(key, _)| key);
        keys.filter_map(|key| Some((key.clone(), self.get(key, at)?)))
            .collect()
    }
}

fn commit(engine: &dyn Engine, writes: &[(Vec<u8>, Option<u8>)], at: u64, start: u64) {
    commit_as(engine, engine, writes, at, start);
}

/// The same, as the replica that leads has evaluated it.
fn commit_as(
    leader: &dyn Engine,
    engine: &dyn Engine,
    writes: &[(Vec<u8>, Option<u8>)],
    at: u64,
    start: u64,
) {
    let (mut batch, mut staged) = (WriteBatch::default(), BTreeMap::new());
    for (key, value) in writes {
        let mut stored = Vec::new();
        let value = value.map(|v| [v]);
        let value = value.as_ref().map(|v| &v[..]);
        encode_version(&mut stored, Timestamp(at), Timestamp(start), value);
        let fresh = newest(leader, key).unwrap().is_none() && !staged.contains_key(&key[..]);
        let write = Write {
            key: key.clone().into(),
            stored: stored.into(),
            fresh,
        };
        stage(engine, &write, Some(&mut staged), &mut batch).unwrap();
    }
    engine.write(batch).unwrap();
}

fn scan(
    engine: &dyn Engine,
    start: &[u8],
    end: &[u8],
    reverse: bool,
    at: u64,
) -> Vec<(Vec<u8>, u8)> {
    let mut scan = VersionScan::new(engine.snapshot(), start, end, reverse, Timestamp(at));
    let mut rows = Vec::new();
    scan.for_each(&mut |key, value| {
        rows.push((key.to_vec(), value[0]));
        true
    })
    .unwrap();
    let mut scan = VersionScan::new(engine.snapshot(), start, end, reverse, Timestamp(at));
    let mut again = Vec::new();
    while let Some((key, value)) = scan.next().unwrap() {
        again.push((key.to_vec(), value[0]));
    }
    assert_eq!(rows, again);
    if reverse {
        rows.reverse();
    }
    rows
}

/// Keys that are prefixes of each other and hold the bytes that escaping knows.
fn a_key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        prop_oneof![Just(0u8), Just(1), Just(0xff), Just(b'a')],
        0..4,
    )
}

proptest! {
    #[test]
    fn reads_agree_with_the_model(
        commits in prop::collection::vec(
            prop::collection::btree_map(a_key(), any::<Option<u8>>(), 1..4), 1..24),
        reads in prop::collection::vec((a_key(), a_key(), 0u64..26), 1..20),
        reverse: bool,
        safe in 0u64..26,
        limit in 1usize..9,
    ) {
        let (engine, mut model) = (MemoryEngine::new(), Model::default());
        for (i, writes) in commits.iter().enumerate() {
            let at = i as u64 + 1;
            let writes: Vec<_> = writes.clone().into_iter().collect();
            commit(&engine, &writes, at * 10, at * 10 - 5);
            for (key, value) in writes {
                model.versions.entry(key).or_default().push((at * 10, value));
            }
        }
        let check = |oldest: u64| {
            for (start, end, at) in &reads {
                let at = (*at).max(oldest) * 10;
                prop_assert_eq!(
                    get(&engine, start, Timestamp(at)).unwrap().map(|v| v[0]), model.get(start, at));
                let (start, end) = (start.min(end), start.max(end));
                prop_assert_eq!(
                    scan(&engine, start, end, reverse, at), model.scan(start, end, at));
            }
            Ok(())
        };
        check(0)?;
        for (i, writes) in commits.iter().enumerate() {
            let start = Timestamp(i as u64 * 10 + 5);
            for key in writes.keys() {
                let expected = Some(Timestamp(i as u64 * 10 + 10));
                prop_assert_eq!(committed_by(&engine, key, start).unwrap(), expected);
                prop_assert_eq!(committed_by(&engine, key, Timestamp(start.0 + 1)).unwrap(), None);
            }
        }
        let mut from: Option<Bytes> = None;
        loop {
            let safe_point = Timestamp(safe * 10);
            let done = collect(&engine, (b"", b"\xff\xff\xff\xff\xff"), from.as_deref(), safe_point, limit);
            let done = done.unwrap();
            engine.write(done.batch).unwrap();
            let Some(next) = done.next else { break };
            from = Some(next);
        }
        check(safe)?;
        // With a safe point above everything only live newest versions are left.
        let all = (&b""[..], &b"\xff\xff\xff\xff\xff"[..]);
        let done = collect(&engine, all, None, Timestamp::MAX, usize::MAX).unwrap();
        engine.write(done.batch).unwrap();
        let left = rows(&engine, Space::History);
        prop_assert!(left.is_empty(), "{:?}", left);
        prop_assert_eq!(rows(&engine, Space::Kv).len(), model.scan(all.0, all.1, u64::MAX).len());
    }

    /// Each replica collects garbage when it likes; what the leader no longer has is still there for
    /// others, and all read the same.
    #[test]
    fn replicas_that_collect_at_different_times_agree(
        commits in prop::collection::vec(
            (prop::collection::btree_map(a_key(), any::<Option<u8>>(), 1..4), any::<Option<bool>>()),
            1..24),
        reads in prop::collection::vec((a_key(), a_key(), 0u64..26), 1..20),
        lag in 0u64..4,
    ) {
        let engines = [MemoryEngine::new(), MemoryEngine::new()];
        let all = (&b""[..], &b"\xff\xff\xff\xff\xff"[..]);
        let (mut model, mut safe) = (Model::default(), 0);
        let collect_at = |engine: &MemoryEngine, safe: u64| {
            let done = collect(engine, all, None, Timestamp(safe), usize::MAX).unwrap();
            engine.write(done.batch).unwrap();
        };
        for (n, (writes, collects)) in (1..).zip(&commits) {
            let writes: Vec<_> = writes.clone().into_iter().collect();
            // Applied by the leader last: the other one has what it had.
            commit_as(&engines[0], &engines[1], &writes, n * 10, n * 10 - 5);
            commit(&engines[0], &writes, n * 10, n * 10 - 5);
            for (key, value) in writes {
                model.versions.entry(key).or_default().push((n * 10, value));
            }
            if let Some(both) = collects {
                safe = (n * 10_u64).saturating_sub(lag * 10);
                engines[..=usize::from(*both)].iter().for_each(|engine| collect_at(engine, safe));
            }
        }
        for engine in &engines {
            for (start, end, at) in &reads {
                let at = (*at * 10).max(safe);
                let found = get(engine, start, Timestamp(at)).unwrap().map(|v| v[0]);
                prop_assert_eq!(found, model.get(start, at));
                let (start, end) = (start.min(end), start.max(end));
                let rows = model.scan(start, end, at);
                prop_assert_eq!(&scan(engine, start, end, false, at), &rows);
                // Changes from the safe point on lead there.
                let mut known: BTreeMap<_, _> = model.scan(start, end, safe).into_iter().collect();
                let mut changes = Changes::new(Timestamp(safe), Timestamp(at), usize::MAX);
                changes.gather(&*engine.snapshot(), (start, end)).unwrap();
                for change in changes.into_vec() {
                    let before = match &change.value {
                        Some(value) => known.insert(change.key.to_vec(), value[0]),
                        None => known.remove(&change.key[..]),
                    };
                    prop_assert_eq!(before, change.old.map(|old| old[0]));
                }
                prop_assert_eq!(known.into_iter().collect::<Vec<_>>(), rows);
            }
            collect_at(engine, u64::MAX);
            prop_assert!(rows(engine, Space::History).is_empty());
            let live = model.scan(all.0, all.1, u64::MAX).len();
            prop_assert_eq!(rows(engine, Space::Kv).len(), live);
        }
    }

    /// Whoever applies the changes page by page to what he has seen has what a scan finds, with
    /// what was collected as garbage below where he began.
    #[test]
    fn changes_lead_from_what_was_seen_to_what_is(
        commits in prop::collection::vec(
            prop::collection::btree_map(a_key(), any::<Option<u8>>(), 1..4), 1..24),
        (bounds, since, at) in ((a_key(), a_key()), 0u64..26, 0u64..26),
        most in 1usize..9,
    ) {
        let (engine, mut model) = (MemoryEngine::new(), Model::default());
        for (n, writes) in (1..).zip(&commits) {
            let writes: Vec<_> = writes.clone().into_iter().collect();
            commit(&engine, &writes, n * 10, n * 10 - 5);
            for (key, value) in writes {
                model.versions.entry(key).or_default().push((n * 10, value));
            }
        }
        let (since, at) = (since.min(at) * 10, since.max(at) * 10);
        let all = (&b""[..], &b"\xff\xff\xff\xff\xff"[..]);
        let done = collect(&engine, all, None, Timestamp(since), usize::MAX).unwrap();
        engine.write(done.batch).unwrap();
        let (start, end) = ((&bounds.0).min(&bounds.1), (&bounds.0).max(&bounds.1));
        let span = (&start[..], &end[..]);
        let rows = rows_at(&*engine.snapshot(), span, Timestamp(since)).unwrap();
        let mut known: BTreeMap<Vec<u8>, u8> = rows
            .into_iter()
            .map(|row| (row.key.to_vec(), row.value.unwrap()[0]))
            .collect();
        prop_assert_eq!(known.clone().into_iter().collect::<Vec<_>>(), model.scan(start, end, since));
        let mut seen = Timestamp(since);
        loop {
            let mut changes = Changes::new(seen, Timestamp(at), most);
            changes.gather(&*engine.snapshot(), span).unwrap();
            let upto = changes.upto();
            let changes = changes.into_vec();
            let commits = changes.iter().map(|change| change.commit);
            prop_assert!(changes.len() <= most || commits.clone().all(|at| at == changes[0].commit));
            prop_assert!(commits.clone().is_sorted());
            for change in changes {
                let before = match &change.value {
                    Some(value) => known.insert(change.key.to_vec(), value[0]),
                    None => known.remove(&change.key[..]),
                };
                prop_assert_eq!(before, change.old.map(|old| old[0]));
            }
            let expected = model.scan(start, end, upto.0);
            prop_assert_eq!(known.clone().into_iter().collect::<Vec<_>>(), expected);
            if upto == Timestamp(at) {
                break;
            }
            prop_assert!(upto > seen, "there is something in every page but the last");
            seen = upto;
        }
    }

    #[test]
    fn history_keys_sort_by_key_then_from_new_to_old(
        a in a_key(), b in a_key(), x: u64, y: u64,
    ) {
        let expected = a.cmp(&b).then(y.cmp(&x));
        let (left, right) = (history_key(&a, Timestamp(x)), history_key(&b, Timestamp(y)));
        prop_assert_eq!(left.cmp(&right), expected);
        prop_assert_eq!(version::decode_history_key(&left).unwrap(), (a.clone(), Timestamp(x)));
        prop_assert_eq!(history_bound(&a) <= right, a <= b);
        let (from, to) = gc::history_span(&a);
        prop_assert_eq!(from <= right && right < to, a == b);
    }
}

fn rows(engine: &dyn Engine, space: Space) -> Vec<(Bytes, Bytes)> {
    let mut cursor = engine.snapshot().scan(space, b"", &[0xff; 16], false);
    std::iter::from_fn(|| cursor.next().unwrap()).collect()
}

#[test]
fn damaged_versions_are_refused() {
    assert!(Header::decode(&[0; 16]).is_err());
    assert!(Header::decode(&[9; 17]).is_err());
    assert!(version::decode_history_key(b"abc").is_err());
}

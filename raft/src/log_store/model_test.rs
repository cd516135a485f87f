//! The log against a naive model: random operations, kills and losses of power; then damage to
//! every part of every file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::engine::{GroupLog, LogEngine, LogState};
use super::shared::LogOptions;
use super::sim_disk::{PlantedBug, SimDisk};
use super::wal::RaftLog;
use crate::error::LogOpenError;
use crate::ids::{GroupId, LogPosition, ReplicaId, StoreId};
use crate::state_machine::{Entry, EntryPayload};
use crate::transport::Vote;

const GROUPS: u64 = 3;

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 16 << 10,
        block_bytes: 512,
        cache_bytes_per_group: 2_000,
        ..LogOptions::new(StoreId(5))
    }
}

/// Blocks to try: that of the first format, which had none, a sector, and the largest.
const BLOCKS: [usize; 3] = [16, 512, 4096];

/// The log of one group, naively.
#[derive(Clone, Default, Debug, PartialEq)]
struct Model {
    vote: Option<Vote>,
    expected: Option<LogPosition>,
    purged: Option<LogPosition>,
    entries: BTreeMap<u64, (u64, Bytes)>,
}

impl Model {
    fn last(&self) -> Option<LogPosition> {
        let last = self.entries.iter().next_back();
        last.map_or(self.purged, |(index, (term, _))| {
            Some(LogPosition {
                term: *term,
                index: *index,
            })
        })
    }

    fn purge(&mut self, upto: LogPosition) {
        if self.purged.is_none_or(|purged| purged.index < upto.index) {
            self.entries = self.entries.split_off(&(upto.index + 1));
            self.purged = Some(upto);
        }
    }
}

/// Everything: the groups after each operation, and how many operations were acknowledged.
struct Run {
    disk: SimDisk,
    log: Arc<RaftLog>,
    logs: Vec<Arc<dyn GroupLog>>,
    rng: SmallRng,
    term: u64,
    now: Vec<Model>,
    history: Vec<Vec<Model>>,
    acknowledged: Arc<AtomicUsize>,
}

/// A log and its groups.
type Opened = (Arc<RaftLog>, Vec<Arc<dyn GroupLog>>);

fn open(disk: &SimDisk) -> Result<Opened, LogOpenError> {
    open_with(disk, options())
}

fn open_with(disk: &SimDisk, options: LogOptions) -> Result<Opened, LogOpenError> {
    let log = RaftLog::open_manual(disk, options)?;
    let logs = (0..GROUPS)
        .map(|id| log.open_group(GroupId(id), ReplicaId(1)).unwrap())
        .collect();
    Ok((log, logs))
}

fn read_back(log: &Arc<dyn GroupLog>) -> Model {
    let LogState {
        vote,
        snapshot_expected: expected,
        purged,
        last,
    } = log.state();
    let entries = log.entries(0, u64::MAX, usize::MAX).unwrap();
    let entries = entries.into_iter().map(|entry| {
        let EntryPayload::Command(bytes) = entry.payload else {
            panic!("not a command")
        };
        (entry.position.index, (entry.position.term, bytes))
    });
    let model = Model {
        vote,
        expected,
        purged,
        entries: entries.collect(),
    };
    assert_eq!(model.last(), last);
    model
}

impl Run {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let (log, logs) = open(&disk).unwrap();
        let now = vec![Model::default(); GROUPS as usize];
        Self {
            disk,
            log,
            logs,
            rng: SmallRng::seed_from_u64(seed),
            term: 1,
            history: vec![now.clone()],
            now,
            acknowledged: Arc::default(),
        }
    }

    fn step(&mut self) {
        let group = self.rng.random_range(0..self.logs.len());
        let log = Arc::clone(&self.logs[group]);
        let next = self.history.len();
        let acknowledged = Arc::clone(&self.acknowledged);
        let done = Box::new(move |result: Result<(), _>| {
            if result.is_ok() {
                acknowledged.fetch_max(next, Ordering::SeqCst);
            }
        });
        let last = self.now[group].last();
        let last_index = last.map_or(0, |last| last.index);
        match self.rng.random_range(0..100) {
            0..50 => {
                let count = self.rng.random_range(1..6);
                let size = if self.rng.random_bool(0.03) {
                    30_000
                } else {
                    300
                };
                let entries: Vec<_> = (1..=count)
                    .map(|offset| {
                        let index = last_index + offset;
                        let bytes = vec![index as u8; self.rng.random_range(0..size)];
                        let position = LogPosition {
                            term: self.term,
                            index,
                        };
                        Entry {
                            position,
                            payload: EntryPayload::Command(Bytes::from(bytes)),
                        }
                    })
                    .collect();
                for entry in &entries {
                    let EntryPayload::Command(bytes) = entry.payload.clone() else {
                        continue;
                    };
                    let LogPosition { term, index } = entry.position;
                    self.now[group].entries.insert(index, (term, bytes));
                }
                if self.rng.random_bool(0.3) {
                    log.append_later(entries, done);
                    log.write_here();
                } else {
                    log.append(entries, done);
                }
            }
            50..60 => {
                self.term += 1;
                let vote = Vote {
                    term: self.term,
                    candidate: ReplicaId(1),
                    committed: self.rng.random(),
                };
                self.now[group].vote = Some(vote);
                log.save_vote(vote, done);
            }
            60..65 => {
                let position = LogPosition {
                    term: self.term,
                    index: last_index + 5,
                };
                self.now[group].expected = Some(position);
                log.expect_snapshot(position, done);
            }
            65..75 => {
                let first = self.now[group].purged.map_or(0, |purged| purged.index);
                let keep = self.rng.random_range(first..=last_index);
                self.now[group].entries.split_off(&(keep + 1));
                // What follows in this place is of another term.
                self.term += 1;
                let position = log.position(keep).filter(|_| keep > 0);
                log.truncate_after(position);
            }
            75..90 => {
                let purged = self.now[group].purged.map_or(0, |purged| purged.index);
                if last_index > purged {
                    let index = self.rng.random_range(purged + 1..=last_index);
                    let upto = log.position(index).unwrap();
                    self.now[group].purge(upto);
                    log.purge(upto);
                }
            }
            90..92 => {
                let upto = LogPosition {
                    term: self.term,
                    index: last_index + 3,
                };
                self.now[group].purge(upto);
                log.purge(upto);
            }
            _ => {
                self.log.pump();
                return;
            }
        }
        self.history.push(self.now.clone());
    }

    /// Opens the log again and compares: what was acknowledged is there, nothing else but what
    /// was asked for after it, in order.
    fn reopen(&mut self) -> Result<(), String> {
        let options = LogOptions {
            block_bytes: BLOCKS[self.rng.random_range(0..BLOCKS.len())],
            ..options()
        };
        let opened = open_with(&self.disk, options);
        let (log, logs) = opened.map_err(|error| error.to_string())?;
        let found: Vec<_> = logs.iter().map(read_back).collect();
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        let explains = |upto: usize| {
            let later = &self.history[upto..];
            found.iter().enumerate().all(|(group, found)| {
                let mut expected = self.history[upto][group].clone();
                // A new segment may name votes and purges whose own records were lost.
                let meta_matches = later.iter().any(|state| state[group].vote == found.vote)
                    && later
                        .iter()
                        .any(|state| state[group].expected == found.expected)
                    && later
                        .iter()
                        .any(|state| state[group].purged == found.purged);
                if let Some(purged) = found.purged {
                    expected.purge(purged);
                }
                meta_matches && expected.entries == found.entries
            })
        };
        if !(acknowledged..self.history.len()).any(explains) {
            return Err(format!(
                "acknowledged {acknowledged} of {}",
                self.history.len() - 1
            ));
        }
        self.now = found;
        self.history = vec![self.now.clone()];
        self.acknowledged = Arc::default();
        (self.log, self.logs) = (log, logs);
        self.term += 1;
        Ok(())
    }
}

fn run(seed: u64, bug: PlantedBug) -> Result<(), String> {
    let mut run = Run::new(seed);
    run.disk.plant(bug);
    for _ in 0..6 {
        for _ in 0..run.rng.random_range(1..150) {
            run.step();
            if run.rng.random_bool(0.1) {
                run.log.pump();
            }
        }
        if run.rng.random_bool(0.3) {
            run.disk.kill();
        } else {
            run.disk.crash();
        }
        run.reopen()?;
    }
    Ok(())
}

#[test]
fn what_was_acknowledged_survives_kills_and_losses_of_power() {
    for seed in 0..150 {
        run(seed, PlantedBug::None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn syncs_left_out_are_found() {
    let found = (0..200)
        .filter(|seed| run(*seed, PlantedBug::SkipSync(0.05)).is_err())
        .count();
    assert!(found > 20, "found by {found} seeds of 200");
}

/// A log with several segments whose every record is acknowledged, its files, and its contents.
fn finished_log(seed: u64) -> (SimDisk, Vec<Model>) {
    let mut run = Run::new(seed);
    while run.log.stats().segments < 3 {
        run.step();
        run.log.pump();
    }
    // The last operation is acknowledged too, and the mark behind it is written.
    let vote = Vote {
        term: run.term,
        ..Vote::default()
    };
    run.now[0].vote = Some(vote);
    run.logs[0].save_vote(vote, Box::new(|_| {}));
    run.log.pump();
    run.disk.kill();
    (run.disk.clone(), run.now)
}

/// Opens a damaged copy: it must be refused or be all there.
fn assert_refused_or_whole(disk: &SimDisk, contents: &[Model], what: &str) -> bool {
    match open(disk) {
        Err(_) => true,
        Ok((log, logs)) => {
            let found: Vec<_> = logs.iter().map(read_back).collect();
            disk.kill();
            drop(log);
            assert!(found == contents, "{what}: opened with other contents");
            false
        }
    }
}

#[test]
fn a_flipped_bit_is_refused_or_harmless() {
    let (disk, contents) = finished_log(3);
    let names = disk.names();
    let mut refused = 0;
    for name in &names {
        let bytes = disk.contents(name).unwrap();
        for at in (0..bytes.len()).step_by(13) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let copy = disk.duplicate(1);
            copy.overwrite(name, damaged);
            let what = format!("{name} at {at}");
            refused += usize::from(assert_refused_or_whole(&copy, &contents, &what));
        }
    }
    assert!(refused > 500, "only {refused} were refused");
}

#[test]
fn a_file_that_is_short_or_missing_is_refused_or_harmless() {
    let (disk, contents) = finished_log(4);
    let mut refused = 0;
    for name in disk.names() {
        let bytes = disk.contents(&name).unwrap();
        for length in (0..bytes.len()).step_by(97) {
            let copy = disk.duplicate(1);
            copy.overwrite(&name, bytes[..length].to_vec());
            let what = format!("{name} cut at {length}");
            refused += usize::from(assert_refused_or_whole(&copy, &contents, &what));
        }
        let copy = disk.duplicate(1);
        copy.remove(&name);
        let what = format!("{name} removed");
        refused += usize::from(assert_refused_or_whole(&copy, &contents, &what));
    }
    assert!(refused > 100, "only {refused} were refused");
}

#[test]
fn damage_in_the_middle_names_the_file_and_the_place() {
    let (disk, _) = finished_log(5);
    let name = "segment-000001";
    let mut bytes = disk.contents(name).unwrap();
    bytes[4_650] ^= 0x10;
    disk.overwrite(name, bytes);
    let error = open(&disk).err().expect("must be refused");
    let text = error.to_string();
    assert!(matches!(error, LogOpenError::Damaged { .. }), "{text}");
    assert!(text.contains("replace the store"), "{text}");
}

#[test]
fn another_store_and_another_version_are_refused() {
    let (disk, _) = finished_log(6);
    let other = LogOptions {
        store: StoreId(6),
        ..options()
    };
    let error = RaftLog::open_manual(&disk, other)
        .err()
        .expect("must be refused");
    assert!(
        matches!(
            error,
            LogOpenError::OtherStore {
                found: 5,
                expected: 6,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn an_idle_group_does_not_pin_the_segments_of_a_busy_one() {
    let disk = SimDisk::new(1);
    let (log, logs) = open(&disk).unwrap();
    let entry = |index, byte: u8| Entry {
        position: LogPosition { term: 1, index },
        payload: EntryPayload::Command(Bytes::from(vec![byte; 500])),
    };
    logs[0].append(
        (1..=4).map(|index| entry(index, 7)).collect(),
        Box::new(|_| {}),
    );
    for index in 1..2_000 {
        logs[1].append(vec![entry(index, 8)], Box::new(|_| {}));
        if index > 10 {
            logs[1].purge(LogPosition {
                term: 1,
                index: index - 10,
            });
        }
        log.pump();
    }
    let stats = log.stats();
    assert!(stats.segments <= 6, "{stats:?}");
    assert!(stats.bytes_rewritten > 0, "{stats:?}");
    let idle = read_back(&logs[0]);
    assert_eq!(idle.entries.len(), 4);
    disk.crash();
    let (_, logs) = open(&disk).unwrap();
    assert_eq!(read_back(&logs[0]), idle);
}

#[test]
fn a_full_disk_and_a_failed_write_are_reported_and_stop_the_log() {
    let disk = SimDisk::new(1);
    let (log, logs) = open(&disk).unwrap();
    disk.limit_space(40_000);
    let failures = Arc::new(AtomicUsize::new(0));
    let mut index = 0;
    let append = |index: u64| {
        let payload = EntryPayload::Command(Bytes::from(vec![1; 1_000]));
        let entry = Entry {
            position: LogPosition { term: 1, index },
            payload,
        };
        let failures = Arc::clone(&failures);
        let done = move |result: Result<(), crate::state_machine::StorageError>| {
            if let Err(error) = result {
                assert!(
                    error.message.contains("could not extend raft log"),
                    "{error}"
                );
                failures.fetch_add(1, Ordering::SeqCst);
            }
        };
        logs[0].append(vec![entry], Box::new(done));
        log.pump();
    };
    while failures.load(Ordering::SeqCst) == 0 {
        index += 1;
        append(index);
    }
    let acknowledged = index - 1;
    index += 1;
    append(index);
    assert_eq!(failures.load(Ordering::SeqCst), 2, "refused from then on");
    disk.limit_space(u64::MAX);
    disk.crash();
    let (_, logs) = open(&disk).unwrap();
    assert_eq!(read_back(&logs[0]).last().unwrap().index, acknowledged);
}

#[test]
fn a_log_of_the_first_format_is_read_and_goes_on_in_blocks() {
    let disk = SimDisk::new(1);
    let with = |block_bytes| LogOptions {
        block_bytes,
        ..options()
    };
    let append = |logs: &[Arc<dyn GroupLog>], index| {
        let payload = EntryPayload::Command(Bytes::from(vec![1; 100]));
        let position = LogPosition { term: 1, index };
        let entry = Entry { position, payload };
        logs[0].append(vec![entry], Box::new(|written| written.unwrap()));
    };
    let version = |name: &str| disk.contents(name).unwrap()[11];
    let (log, logs) = open_with(&disk, with(16)).unwrap();
    append(&logs, 1);
    log.pump();
    disk.kill();
    assert_eq!(version("segment-000000"), 1);
    let (log, logs) = open_with(&disk, with(4096)).unwrap();
    assert_eq!(version("segment-000001"), 2);
    let begun = log.stats().bytes;
    for index in 2..4 {
        append(&logs, index);
        log.pump();
    }
    assert_eq!(log.stats().bytes - begun, 2 * 4096, "whole blocks");
    disk.crash();
    let (_, logs) = open_with(&disk, with(4096)).unwrap();
    assert_eq!(read_back(&logs[0]).entries.len(), 3);
}

#[test]
fn a_removed_group_is_gone_and_its_last_writes_do_no_harm() {
    let disk = SimDisk::new(1);
    let (log, logs) = open(&disk).unwrap();
    logs[0].save_vote(Vote::default(), Box::new(|_| {}));
    log.remove_group(GroupId(0), Box::new(|result| result.unwrap()));
    logs[0].save_vote(Vote::default(), Box::new(|result| assert!(result.is_err())));
    logs[0].purge(LogPosition { term: 1, index: 9 });
    log.pump();
    assert_eq!(log.groups().len(), GROUPS as usize - 1);
    disk.crash();
    let log = RaftLog::open_manual(&disk, options()).unwrap();
    assert_eq!(
        log.groups(),
        [(GroupId(1), ReplicaId(1)), (GroupId(2), ReplicaId(1))]
    );
    log.open_group(GroupId(0), ReplicaId(9)).unwrap();
    assert!(
        log.open_group(GroupId(1), ReplicaId(9)).is_err(),
        "replica ids are never reused"
    );
}

#[test]
fn a_full_disk_that_gets_room_again_holds_the_log_and_loses_nothing() {
    let disk = SimDisk::new(1);
    let (log, logs) = open(&disk).unwrap();
    disk.limit_space(40_000);
    disk.room_returns_after(3);
    let durable = Arc::new(AtomicUsize::new(0));
    for index in 1..=200 {
        let payload = EntryPayload::Command(Bytes::from(vec![1; 1_000]));
        let entry = Entry {
            position: LogPosition { term: 1, index },
            payload,
        };
        let durable = Arc::clone(&durable);
        let done = move |result: Result<(), crate::state_machine::StorageError>| {
            result.unwrap();
            durable.fetch_add(1, Ordering::SeqCst);
        };
        logs[0].append(vec![entry], Box::new(done));
        log.pump();
        assert!(!log.stats().waits_for_room, "it goes on by itself");
    }
    assert_eq!(durable.load(Ordering::SeqCst), 200);
    disk.crash();
    let (_, logs) = open(&disk).unwrap();
    assert_eq!(read_back(&logs[0]).last().unwrap().index, 200);
}

#[test]
fn a_caller_writes_what_fits_and_leaves_a_new_segment_to_the_thread() {
    let disk = SimDisk::new(1);
    let (log, logs) = open(&disk).unwrap();
    let durable = Arc::new(AtomicUsize::new(0));
    let append = |index: u64, bytes: usize| {
        let payload = EntryPayload::Command(Bytes::from(vec![1; bytes]));
        let entry = Entry {
            position: LogPosition { term: 1, index },
            payload,
        };
        let durable = Arc::clone(&durable);
        let done = move |result: Result<(), crate::state_machine::StorageError>| {
            result.unwrap();
            durable.fetch_add(1, Ordering::SeqCst);
        };
        logs[0].append_later(vec![entry], Box::new(done));
        logs[0].write_here();
    };
    disk.limit_space(0);
    disk.room_returns_after(2);
    let segments = log.stats().segments;
    let mut index = 0;
    while durable.load(Ordering::SeqCst) as u64 == index {
        index += 1;
        append(index, 400);
        assert!(index < 100, "the segment never filled");
    }
    assert!(index > 10, "a caller wrote {} entries only", index - 1);
    // The frame that did not fit is kept; what comes later waits behind it.
    index += 1;
    append(index, 10);
    assert_eq!(durable.load(Ordering::SeqCst) as u64, index - 2);
    assert_eq!(log.stats().segments, segments, "a caller began a segment");
    log.pump();
    assert_eq!(durable.load(Ordering::SeqCst) as u64, index);
    assert_eq!(log.stats().segments, segments + 1);
    index += 1;
    append(index, 10);
    assert_eq!(
        durable.load(Ordering::SeqCst) as u64,
        index,
        "callers write again"
    );
    disk.crash();
    let (_, logs) = open(&disk).unwrap();
    assert_eq!(read_back(&logs[0]).entries.len() as u64, index);
}

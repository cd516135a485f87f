//! The simulator: three nodes, or one, in one process, on a paused clock, a network and disks in memory,
//! everything drawn from a seed.
//!
//! A run builds a cluster, lets clients work on it while faults strike (power failures that lose
//! what was not synced, cut links, lost and late messages), heals it, waits until the replicas
//! agree, and checks the history:
//! * acknowledged operations, ordered by their timestamps, explain every read (no lost write, no
//!   stale read, no write from nowhere);
//! * timestamps respect real time: what ended before another began has the smaller one;
//! * every snapshot of the bank has the same total, and somebody is always on call (write skew);
//! * what is remembered of the catalog is what a read of it would find, and what was written by an old
//!   one was committed before it changed;
//! * what a watch of the metadata tells, from whichever node, is what scans of it find;
//! * rows that a client keeps are, with what it hears has changed, those that a scan finds;
//! * in the end the replicas hold the same rows;
//! * no replica has died, and none refuses to start.
//!
//! All clients rest together now and then, so that ranges become quiescent and are woken again.
//!
//! `PONTOON_SIM_SEED=n` replays one seed, `PONTOON_SIM_SEEDS=n` sets how many are run with three
//! nodes, every second of them with what clients touch parted into six ranges, which are split
//! and merged while clients work; a quarter as many are run with one node, likewise; a quarter as many with four nodes among
//! which replicas move, and an eighth with leaders that change again and again. The seeds are dealt out to a few test cases, so that a runner of tests uses
//! every core.

mod check;
mod clients;
mod cluster;
mod kept;
mod run;
mod watcher;

use cluster::{Bug, Shape};
use run::{Report, run_seed};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Seeds that are run where nobody says how many.
const SEEDS_USUAL: u64 = 60;
/// Test cases among which the seeds are dealt out.
const SHARDS: u64 = 4;

fn seeds() -> std::ops::Range<u64> {
    match number("PONTOON_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PONTOON_SIM_SEEDS").unwrap_or(SEEDS_USUAL),
    }
}

const THREE: Shape = Shape {
    nodes: 3,
    split: false,
    moves: false,
    bounces: false,
};
const THREE_SPLIT: Shape = Shape {
    nodes: 3,
    split: true,
    moves: false,
    bounces: false,
};
const FOUR_MOVES: Shape = Shape {
    nodes: 4,
    split: true,
    moves: true,
    bounces: false,
};
const THREE_BOUNCES: Shape = Shape {
    nodes: 3,
    split: true,
    moves: false,
    bounces: true,
};
const ONE: Shape = Shape {
    nodes: 1,
    split: false,
    moves: false,
    bounces: false,
};
const ONE_SPLIT: Shape = Shape {
    nodes: 1,
    split: true,
    moves: false,
    bounces: false,
};

fn run_shard(shard: u64) {
    let shape = if shard % 2 == 0 { THREE } else { THREE_SPLIT };
    run_seeds(shape, seeds().filter(|seed| seed % SHARDS == shard));
}

fn run_seeds(shape: Shape, seeds: impl Iterator<Item = u64>) {
    let (mut runs, mut acknowledged, mut held, mut rests, mut hashes) = (0, 0, 0, 0, 0);
    let (mut merges, mut told) = (0, 0);
    for seed in seeds {
        match run_seed(shape, seed, Bug::None) {
            Ok(Report {
                operations,
                ranges,
                hash,
                rested,
                merged,
                watched,
                ..
            }) => {
                merges += merged;
                told += watched;
                rests += rested;
                acknowledged += operations;
                held += ranges;
                hashes ^= hash;
            }
            Err(failure) => panic!(
                "seed {seed}, {shape:?}: {failure}\nreplay with \
                 PONTOON_SIM_SEED={seed} cargo nextest run --workspace -E 'test(sim::seeds)'"
            ),
        }
        runs += 1;
    }
    // The last number is the same in every run of the same seeds.
    println!(
        "{runs} seeds, {acknowledged} acknowledged operations, {held} ranges in the end, {merges} \
         merged, {told} changes watched, {rests} looks at quiescent replicas, {hashes:x}"
    );
    assert!(runs == 0 || told > 0, "no change of metadata was watched");
    let some = !shape.split || runs < 10 || merges > 0;
    assert!(some, "no range was ever absorbed by another");
}

#[test]
fn seeds_without_failure_0() {
    run_shard(0);
}

#[test]
fn seeds_without_failure_1() {
    run_shard(1);
}

#[test]
fn seeds_without_failure_2() {
    run_shard(2);
}

#[test]
fn seeds_without_failure_3() {
    run_shard(3);
}

#[test]
fn seeds_without_failure_alone() {
    run_seeds(ONE, seeds().filter(|seed| seed % 8 == 0));
}

#[test]
fn seeds_without_failure_alone_with_several_ranges() {
    run_seeds(ONE_SPLIT, seeds().filter(|seed| seed % 8 == 4));
}

#[test]
fn seeds_without_failure_while_replicas_move_0() {
    run_seeds(FOUR_MOVES, seeds().filter(|seed| seed % 8 == 0));
}

#[test]
fn seeds_without_failure_while_replicas_move_1() {
    run_seeds(FOUR_MOVES, seeds().filter(|seed| seed % 8 == 4));
}

#[test]
fn seeds_without_failure_while_leaders_change() {
    run_seeds(THREE_BOUNCES, seeds().filter(|seed| seed % 8 == 2));
}

#[test]
fn a_seed_repeats_itself() {
    let shapes = [
        THREE,
        THREE_SPLIT,
        ONE,
        ONE_SPLIT,
        FOUR_MOVES,
        THREE_BOUNCES,
    ];
    for (shape, seed) in shapes.into_iter().zip(5..) {
        let (one, two) = (
            run_seed(shape, seed, Bug::None).unwrap(),
            run_seed(shape, seed, Bug::None).unwrap(),
        );
        let differs = one.lines.iter().zip(&two.lines).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!(
                "seed {seed}, operation {at}: {} against {}",
                one.lines[at], two.lines[at]
            );
        }
        assert_eq!(one.hash, two.hash, "seed {seed}");
        // Where leaders bounce, some proposals are held up on purpose.
        let least = if shape.bounces { 30 } else { 50 };
        assert!(one.operations > least, "only {} operations", one.operations);
    }
}

fn found_within(shape: Shape, bug: Bug, seeds: u64) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| Some((seed, run_seed(shape, seed, bug).err()?)))
}

#[test]
fn syncs_that_are_skipped_are_found() {
    let found = found_within(THREE, Bug::SkipSyncs, 200);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn validation_that_is_skipped_is_found() {
    let found = found_within(THREE, Bug::SkipValidation, 40);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn writes_that_are_not_noted_are_found() {
    let found = found_within(THREE, Bug::SkipNotes, 60);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn watches_that_do_not_wait_are_found() {
    let found = found_within(THREE, Bug::HastyWatches, 60);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn inserts_that_are_believed_are_found() {
    let found = found_within(THREE, Bug::BelieveInserts, 60);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn waits_that_are_skipped_are_found() {
    let found = found_within(ONE, Bug::SkipWaits, 60);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn intents_that_are_not_seen_are_found() {
    let found = found_within(ONE_SPLIT, Bug::SkipIntents, 60);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn timestamps_that_are_taken_too_early_are_found() {
    let found = found_within(THREE_SPLIT, Bug::EarlyTimestamps, 60);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn changes_that_are_not_announced_are_found() {
    let found = found_within(THREE_SPLIT, Bug::SkipAnnouncing, 60);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn announcements_that_a_new_coordinator_forgets_are_found() {
    let found = found_within(THREE_BOUNCES, Bug::ForgetAnnounced, 200);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn announcements_that_are_not_replicated_are_found() {
    let found = found_within(THREE_BOUNCES, Bug::HastyAnnouncing, 200);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn splits_without_bounds_are_found() {
    let found = found_within(THREE_SPLIT, Bug::SkipBounds, 200);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn ranges_that_are_absorbed_unfrozen_are_found() {
    let found = found_within(THREE_SPLIT, Bug::SkipFreeze, 200);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn ranges_that_are_absorbed_too_early_are_found() {
    let found = found_within(THREE_SPLIT, Bug::SkipSettling, 200);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn entries_of_other_terms_are_found() {
    let found = found_within(THREE_BOUNCES, Bug::SkipTerms, 200);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn leases_that_are_too_long_are_found() {
    let found = found_within(THREE, Bug::LongLease, 1_000);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn replica_numbers_that_are_used_again_are_found() {
    let found = found_within(FOUR_MOVES, Bug::ReuseReplicas, 1_000);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

//! The simulator: three nodes in one process, on a paused clock, a network and disks in memory,
//! everything drawn from a seed.
//!
//! A run builds a cluster, lets clients work on it while faults strike (power failures that lose
//! what was not synced, cut links, lost and late messages), heals it, waits until the replicas
//! agree, and checks the history:
//! * acknowledged operations, ordered by their timestamps, explain every read (no lost write, no
//!   stale read, no write from nowhere);
//! * timestamps respect real time: what ended before another began has the smaller one;
//! * every snapshot of the bank has the same total, and somebody is always on call (write skew);
//! * rows that a client keeps are, with what it hears has changed, those that a scan finds;
//! * in the end the replicas hold the same rows;
//! * no replica has died, and none refuses to start.
//!
//! `PONTOON_SIM_SEED=n` replays one seed, `PONTOON_SIM_SEEDS=n` sets how many are run. The seeds
//! are dealt out to a few test cases, so that a runner of tests uses every core.

mod check;
mod clients;
mod cluster;
mod kept;
mod run;

use cluster::Bug;
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

fn run_shard(shard: u64) {
    let (mut runs, mut acknowledged) = (0, 0);
    for seed in seeds().filter(|seed| seed % SHARDS == shard) {
        match run_seed(seed, Bug::None) {
            Ok(Report { operations, .. }) => acknowledged += operations,
            Err(failure) => panic!(
                "seed {seed}: {failure}\nreplay with \
                 PONTOON_SIM_SEED={seed} cargo nextest run --workspace -E 'test(sim::seeds)'"
            ),
        }
        runs += 1;
    }
    println!("{runs} seeds, {acknowledged} acknowledged operations");
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
fn a_seed_repeats_itself() {
    for seed in [3, 4] {
        let (one, two) = (
            run_seed(seed, Bug::None).unwrap(),
            run_seed(seed, Bug::None).unwrap(),
        );
        let differs = one.lines.iter().zip(&two.lines).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!(
                "seed {seed}, operation {at}: {} against {}",
                one.lines[at], two.lines[at]
            );
        }
        assert_eq!(one.hash, two.hash, "seed {seed}");
        assert!(one.operations > 50, "only {} operations", one.operations);
    }
}

fn found_within(bug: Bug, seeds: u64) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| Some((seed, run_seed(seed, bug).err()?)))
}

#[test]
fn syncs_that_are_skipped_are_found() {
    let found = found_within(Bug::SkipSyncs, 200);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn validation_that_is_skipped_is_found() {
    let found = found_within(Bug::SkipValidation, 40);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

#[test]
fn writes_that_are_not_noted_are_found() {
    let found = found_within(Bug::SkipNotes, 60);
    println!("{found:?}");
    assert!(found.is_some(), "the planted bug was not found");
}

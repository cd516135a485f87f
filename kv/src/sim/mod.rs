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
//! * in the end the replicas hold the same rows;
//! * no replica has died, and none refuses to start.
//!
//! `PONTOON_SIM_SEED=n` replays one seed, `PONTOON_SIM_SEEDS=n` sets how many are run.

mod check;
mod clients;
mod cluster;
mod run;

use std::sync::atomic::{AtomicUsize, Ordering};

use cluster::Bug;
use parking_lot::Mutex;
use run::{Report, run_seed};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds() -> std::ops::Range<u64> {
    match number("PONTOON_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PONTOON_SIM_SEEDS").unwrap_or(60),
    }
}

#[test]
fn seeds_without_failure() {
    // Each run has a runtime of its own on one thread, so runs side by side do not meet.
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let (left, acknowledged) = (Mutex::new(seeds()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(seed) = left.lock().next() else {
                        return;
                    };
                    match run_seed(seed, Bug::None) {
                        Ok(Report { operations, .. }) => {
                            acknowledged.fetch_add(operations, Ordering::Relaxed);
                        }
                        Err(failure) => panic!(
                            "seed {seed}: {failure}\nreplay with \
                             PONTOON_SIM_SEED={seed} cargo test -p pontoon-kv sim::seeds"
                        ),
                    }
                }
            });
        }
    });
    let operations = acknowledged.into_inner();
    println!(
        "{} seeds, {operations} acknowledged operations",
        seeds().count()
    );
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

//! Measures what a proposal costs on a real directory: a single voter, one client and thirty-two.
//!
//! ```text
//! cargo run --release -p pontoon-raft --example propose_latency -- <directory> [<spin us> [<here us>]]
//! ```
//! The bare figure is one write of the same size and one fdatasync, over and over, to allocated
//! blocks of a file in the same directory.

#![allow(
    clippy::all,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    missing_docs
)]

use std::error::Error;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pontoon_raft::log_store::{LogOptions, RaftLog};
use pontoon_raft::shell::{SystemClock, entropy_seed};
use pontoon_raft::transport::MemoryNetwork;
use pontoon_raft::{
    AppliedState, Entry, EntryPayload, Group, GroupId, Host, HostConfig, HostEvents, LogEngine,
    LogPosition, MemorySpool, Peer, Place, ReplicaId, SpooledSnapshot, StateMachine, StorageError,
    StoreId,
};

#[derive(Default)]
struct Count {
    applied: AppliedState,
}

impl StateMachine for Count {
    fn applied(&self) -> Result<AppliedState, StorageError> {
        Ok(self.applied.clone())
    }
    fn apply(&mut self, entries: &[Entry]) -> Result<Vec<Bytes>, StorageError> {
        for entry in entries {
            self.applied.position = Some(entry.position);
            if let EntryPayload::Membership(bytes) = &entry.payload {
                self.applied.membership = bytes.clone();
            }
        }
        Ok(vec![Bytes::new(); entries.len()])
    }
    fn durable_applied(&self) -> Option<LogPosition> {
        None
    }
    fn write_snapshot(
        &self,
        _: &mut dyn FnMut(Bytes) -> Result<(), StorageError>,
    ) -> Result<AppliedState, StorageError> {
        Ok(self.applied.clone())
    }
    fn install_snapshot(
        &mut self,
        _: AppliedState,
        _: &mut dyn SpooledSnapshot,
    ) -> Result<(), StorageError> {
        Err(StorageError::new("not needed"))
    }
}

struct Silent;
impl HostEvents for Silent {
    fn fatal(&self, error: StorageError) {
        eprintln!("fatal: {error}");
    }
}

fn report(what: &str, mut times: Vec<Duration>, elapsed: Duration) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    println!(
        "{what:<28} {rate:>9.0}/s   p50 {:>6} us   p90 {:>6} us   p99 {:>6} us",
        at(0.5),
        at(0.9),
        at(0.99)
    );
}

fn bare(directory: &Path, rounds: usize) -> Result<(), Box<dyn Error>> {
    let path = directory.join("bare");
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&vec![0; 4 << 20])?;
    file.sync_all()?;
    let bytes = [7; 192];
    let begun = Instant::now();
    let mut times = Vec::new();
    for round in 0..rounds {
        let start = Instant::now();
        file.write_all_at(&bytes, (round * bytes.len()) as u64 % (4 << 20))?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    report("bare write + fdatasync", times, begun.elapsed());
    std::fs::remove_file(path)?;
    Ok(())
}

async fn clients(group: &Group, count: usize, rounds: usize) {
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..count {
        let group = group.clone();
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            for _ in 0..rounds {
                let start = Instant::now();
                group.propose(Bytes::from_static(&[7; 100])).await.unwrap();
                times.push(start.elapsed());
            }
            times
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    report(&format!("propose, {count} clients"), times, begun.elapsed());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args()
        .nth(1)
        .ok_or("usage: propose_latency <directory>")?;
    let defaults = LogOptions::new(StoreId(1));
    let number = |at: usize, default: u64| {
        let text = std::env::args().nth(at);
        text.map_or(Ok(default), |text| text.parse())
    };
    let spin_us = number(2, defaults.spin_us)?;
    let here_us = number(3, defaults.here_us)?;
    let directory = Path::new(&directory);
    std::fs::create_dir_all(directory)?;
    let log_directory = directory.join("raftlog");
    let _ = std::fs::remove_dir_all(&log_directory);
    let options = LogOptions {
        spin_us,
        here_us,
        ..defaults
    };
    let begun = Instant::now();
    let log = RaftLog::open(&log_directory, options, Box::new(|error| panic!("{error}")))?;
    println!("log created in {:?}", begun.elapsed());
    let place = Place {
        store: StoreId(1),
        ..Place::default()
    };
    let host = Host::open(
        HostConfig::new(place),
        Arc::clone(&log) as Arc<dyn LogEngine>,
        Arc::new(MemorySpool::default()),
        MemoryNetwork::new(1),
        SystemClock::new(),
        Arc::new(Silent),
        entropy_seed(),
    )?;
    let replica = ReplicaId(1);
    let group = host
        .open_group(GroupId(1), replica, || Ok(Box::<Count>::default()))
        .await?;
    group.initialize(vec![Peer { replica, place }]).await?;
    let waiting = tokio::time::timeout(Duration::from_secs(3), group.wait_leadership()).await;
    waiting.map_err(|_| format!("no leader: {:?}", group.status()))??;
    println!("leader after {:?}", begun.elapsed());
    for _ in 0..2 {
        bare(directory, 2_000)?;
        clients(&group, 1, 2_000).await;
        clients(&group, 32, 500).await;
    }
    let begun = Instant::now();
    for _ in 0..1_000_000 {
        assert!(std::hint::black_box(group.leadership()).is_some());
    }
    println!(
        "leadership(): {} ns",
        begun.elapsed().as_nanos() / 1_000_000
    );
    println!("{:?}", log.stats());
    host.shutdown().await;
    Ok(())
}

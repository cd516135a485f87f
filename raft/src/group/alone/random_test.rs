//! Random lives of a replica alone on a simulated disk: loss of power, stops, and hand-overs to
//! another that goes on with the same log, as openraft does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::ids::{GroupId, NodeId, StoreId};
use crate::log_store::{LogEngine, LogOptions, RaftLog, SimDisk};
use crate::membership::Place;
use crate::snapshot::SpooledSnapshot;
use crate::state_machine::{AppliedState, StateMachine};

const GROUP: GroupId = GroupId(1);
const ME: ReplicaId = ReplicaId(1);

/// What goes wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Fault {
    #[default]
    None,
    /// Entries are called committed when they are appended.
    CommitsEarly,
    /// The log is purged up to what is applied.
    PurgesAll,
}

#[derive(Clone, Default)]
struct Contents {
    state: AppliedState,
    commands: Vec<Bytes>,
}

/// What a machine holds, and what of that survives a loss of power.
#[derive(Clone, Default)]
pub(super) struct Data(Arc<Mutex<(Contents, Contents)>>);

impl Data {
    pub(super) fn commands(&self) -> Vec<Bytes> {
        self.0.lock().0.commands.clone()
    }
}

pub(super) struct Recorder(pub(super) Data);

/// The membership of a group with one member.
pub(super) fn alone_in(me: ReplicaId) -> Membership {
    let place = Place {
        node: NodeId(1),
        store: StoreId(1),
    };
    Membership {
        position: None,
        configs: vec![BTreeSet::from([me])],
        members: BTreeMap::from([(me, place)]),
    }
}

impl StateMachine for Recorder {
    fn applied(&self) -> Result<AppliedState, StorageError> {
        Ok(self.0.0.lock().0.state.clone())
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<Vec<Bytes>, StorageError> {
        let mut data = self.0.0.lock();
        for entry in entries {
            let next = data.0.state.position.map_or(1, |applied| applied.index + 1);
            assert_eq!(entry.position.index, next, "in order, once");
            data.0.state.position = Some(entry.position);
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(bytes) => data.0.state.membership = bytes.clone(),
                EntryPayload::Command(bytes) => data.0.commands.push(bytes.clone()),
            }
        }
        Ok(vec![Bytes::new(); entries.len()])
    }

    fn durable_applied(&self) -> Option<LogPosition> {
        self.0.0.lock().1.state.position
    }

    fn write_snapshot(
        &self,
        _sink: &mut dyn FnMut(Bytes) -> Result<(), StorageError>,
    ) -> Result<AppliedState, StorageError> {
        self.applied()
    }

    fn install_snapshot(
        &mut self,
        _state: AppliedState,
        _pieces: &mut dyn SpooledSnapshot,
    ) -> Result<(), StorageError> {
        Err(StorageError::new("nobody sends one"))
    }
}

/// A replica and what it stands on.
struct Life {
    engine: Arc<RaftLog>,
    cell: Arc<LeaderCell>,
    alone: Arc<Alone>,
}

async fn begin(disk: &SimDisk, data: &Data, fault: Fault) -> Result<Life, String> {
    let options = LogOptions {
        segment_bytes: 64 << 10,
        ..LogOptions::new(StoreId(1))
    };
    let engine = RaftLog::open_simulated(disk, options, Duration::from_micros(100))
        .map_err(|error| error.to_string())?;
    let log = engine.open_group(GROUP, ME).map_err(|e| e.to_string())?;
    let cell = Arc::new(LeaderCell::new(ME));
    let machine = Box::new(Recorder(data.clone()));
    let applier = Applier::new(machine, Arc::clone(&cell), Arc::default());
    let applier = applier.map_err(|error| error.to_string())?;
    let purged = log.state().purged.map_or(0, |position| position.index);
    if applier.applied().map_or(0, |applied| applied.index) < purged {
        return Err("the log was purged above the data".to_owned());
    }
    let founds = applier.is_empty() && log.state().last.is_none();
    let founds = founds.then(|| alone_in(ME));
    if founds.is_none() && !stands_alone(ME, &*log, &applier).unwrap() {
        return Err("it has forgotten that it is alone".to_owned());
    }
    start(engine, log, applier, cell, founds, fault).await
}

async fn start(
    engine: Arc<RaftLog>,
    log: Arc<dyn GroupLog>,
    applier: Applier,
    cell: Arc<LeaderCell>,
    founds: Option<Membership>,
    fault: Fault,
) -> Result<Life, String> {
    let alone = Alone::start(ME, log, applier, &cell, founds);
    let alone = Arc::new(alone.await.map_err(|error| error.to_string())?);
    *alone.shared.fault.lock() = fault;
    let ready =
        alone.wait(|| cell.view() == crate::group::leadership::CellView::Sole(alone.term()));
    if !ready.await {
        return Err(format!("it failed: {:?}", alone.failure()));
    }
    Ok(Life {
        engine,
        cell,
        alone,
    })
}

/// What was acknowledged.
type Acked = Arc<Mutex<BTreeSet<Bytes>>>;

fn propose(alone: &Arc<Alone>, acked: &Acked, name: u64, waits: bool) {
    let (alone, acked) = (Arc::clone(alone), Arc::clone(acked));
    tokio::spawn(async move {
        let name = Bytes::from(name.to_string());
        let enough_in = if waits { 0 } else { alone.term() };
        if alone.submit(name.clone(), enough_in).await.is_ok() {
            acked.lock().insert(name);
        }
    });
}

async fn run(seed: u64, fault: Fault) -> Result<(), String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let disk = SimDisk::new(seed);
    let mut data = Data::default();
    let mut acked = Acked::default();
    let config = HostConfig {
        log_entries_kept: 8,
        ..HostConfig::new(Place::default())
    };
    let mut life = begin(&disk, &data, fault).await?;
    let mut term = life.alone.term();
    for step in 0..300_u64 {
        match rng.random_range(0..100) {
            0..70 => propose(&life.alone, &acked, step, rng.random()),
            70..80 => {
                let mut data = data.0.lock();
                data.1 = data.0.clone();
            }
            80..90 => life.alone.compact(&config),
            90..94 => {
                // Power fails. What the old life still does reaches nothing.
                disk.crash();
                let survived = data.0.lock().1.clone();
                let before = acked.lock().clone();
                acked = Arc::new(Mutex::new(before));
                data = Data(Arc::new(Mutex::new((survived.clone(), survived))));
                life.alone.stop().await;
                life.engine.shutdown();
                life = begin(&disk, &data, fault).await?;
            }
            94..97 => {
                life.alone.stop().await;
                life.engine.shutdown();
                life = begin(&disk, &data, fault).await?;
            }
            _ => {
                life.alone.drain().await?;
                let (log, applier) = (Arc::clone(life.alone.log()), life.alone.applier().clone());
                if log.state().last != applier.applied() {
                    return Err("it ended before all was applied".to_owned());
                }
                life.cell.reset();
                applier.tell_cell();
                life = start(life.engine, log, applier, life.cell, None, fault).await?;
            }
        }
        if life.alone.term() > term {
            term = life.alone.term();
            let data = data.0.lock();
            let seen: BTreeSet<_> = data.0.commands.iter().cloned().collect();
            let lost: Vec<_> = acked.lock().difference(&seen).cloned().collect();
            if !lost.is_empty() {
                return Err(format!("step {step}: lost {lost:?}"));
            }
        }
        if rng.random() {
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..300))).await;
        }
    }
    life.alone.drain().await?;
    let commands = data.0.lock().0.commands.clone();
    let distinct: BTreeSet<_> = commands.iter().cloned().collect();
    if distinct.len() != commands.len() || !distinct.is_superset(&acked.lock()) {
        return Err("commands are lost or there twice".to_owned());
    }
    life.engine.shutdown();
    Ok(())
}

fn simulate(seed: u64, fault: Fault) -> Result<(), String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(run(seed, fault))
}

#[test]
fn nothing_acknowledged_is_lost() {
    for seed in 0..100 {
        simulate(seed, Fault::None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn planted_faults_are_found() {
    for fault in [Fault::CommitsEarly, Fault::PurgesAll] {
        let found = (0..100).find(|seed| simulate(*seed, fault).is_err());
        assert!(found.is_some(), "{fault:?}");
        println!("{fault:?}: found by seed {found:?}");
    }
}

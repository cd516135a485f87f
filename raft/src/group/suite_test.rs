//! openraft's own suite for storage, run on the log and state machine adapters.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use openraft::StorageError as RaftStorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::applier::Applier;
use super::leadership::LeaderCell;
use super::log::LogAdapter;
use super::machine::Machine;
use super::types::{Types, seeded};
use crate::ids::{GroupId, LogPosition, ReplicaId, StoreId};
use crate::log_store::{LogEngine, LogOptions, RaftLog, SimDisk};
use crate::snapshot::SpooledSnapshot;
use crate::state_machine::{AppliedState, Entry, EntryPayload, StateMachine, StorageError};

#[derive(Default)]
struct Nothing {
    applied: AppliedState,
}

impl StateMachine for Nothing {
    fn applied(&self) -> Result<AppliedState, StorageError> {
        Ok(self.applied.clone())
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<Vec<Bytes>, StorageError> {
        for entry in entries {
            self.applied.position = Some(entry.position);
            if let EntryPayload::Membership(membership) = &entry.payload {
                self.applied.membership = membership.clone();
            }
        }
        Ok(vec![Bytes::new(); entries.len()])
    }

    fn durable_applied(&self) -> Option<LogPosition> {
        self.applied.position
    }

    fn write_snapshot(
        &self,
        _sink: &mut dyn FnMut(Bytes) -> Result<(), StorageError>,
    ) -> Result<AppliedState, StorageError> {
        Ok(self.applied.clone())
    }

    fn install_snapshot(
        &mut self,
        state: AppliedState,
        _pieces: &mut dyn SpooledSnapshot,
    ) -> Result<(), StorageError> {
        self.applied = state;
        Ok(())
    }
}

struct Builder;

impl StoreBuilder<Types, LogAdapter, Machine, Arc<RaftLog>> for Builder {
    async fn build(&self) -> Result<(Arc<RaftLog>, LogAdapter, Machine), RaftStorageError<Types>> {
        let disk = SimDisk::new(1);
        let options = LogOptions::new(StoreId(1));
        let engine = RaftLog::open_simulated(&disk, options, Duration::from_micros(10)).unwrap();
        let log = engine.open_group(GroupId(1), ReplicaId(1)).unwrap();
        engine.begin_anywhere(GroupId(1));
        let cell = Arc::new(LeaderCell::new(ReplicaId(1)));
        let running = Arc::new(AtomicBool::new(true));
        let unsynced = Arc::default();
        let machine = Box::<Nothing>::default();
        let applier = Applier::new(machine, Arc::clone(&cell), Arc::default()).unwrap();
        let machine = Machine::new(applier, Arc::clone(&log), Arc::clone(&unsynced), running);
        Ok((
            engine,
            LogAdapter::new(log, cell, unsynced, Arc::default()),
            machine,
        ))
    }
}

#[tokio::test(start_paused = true)]
async fn openraft_suite() {
    seeded(1, Suite::test_all(Builder)).await.unwrap();
}

//! openraft's log storage on top of a [`GroupLog`].
//!
//! `append` returns when the entries can be read; openraft hears that they are durable by the
//! callback. Only votes are waited for, since openraft may send what they allow right after.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::oneshot;

use super::convert;
use super::leadership::LeaderCell;
use super::types::{LogId, RaftEntry, RaftVote, Types};
use super::unsynced::Unsynced;
use crate::codec::Malformed;
use crate::host::Counters;
use crate::log_store::GroupLog;
use crate::membership::Membership;
use crate::state_machine::{EntryPayload, StorageError};

/// Most bytes of entries read at once for replication; openraft asks again for the rest.
const REPLICATION_BYTES_MAX: usize = 2 << 20;

/// The log of one replica as openraft sees it. Clones share the log.
#[derive(Clone)]
pub(crate) struct LogAdapter {
    log: Arc<dyn GroupLog>,
    cell: Arc<LeaderCell>,
    unsynced: Arc<Unsynced>,
    counters: Arc<Counters>,
}

impl LogAdapter {
    pub(crate) fn new(
        log: Arc<dyn GroupLog>,
        cell: Arc<LeaderCell>,
        unsynced: Arc<Unsynced>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            log,
            cell,
            unsynced,
            counters,
        }
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<RaftEntry>, io::Error> {
        let entries = self
            .log
            .entries(from + 1, to.saturating_add(1), bytes_max)?;
        entries
            .into_iter()
            .map(|entry| convert::raft_entry(entry).map_err(malformed))
            .collect()
    }
}

fn malformed(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl RaftLogReader<Types> for LogAdapter {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX - 1,
        };
        self.read(from, to, usize::MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        Ok(self.log.state().vote.as_ref().map(convert::raft_vote))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        self.read(start, end, REPLICATION_BYTES_MAX)
    }
}

impl RaftLogStorage<Types> for LogAdapter {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(convert::log_id),
            last_log_id: state.last.map(convert::log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), io::Error> {
        let vote = convert::vote(vote);
        if self.cell.on_vote(&vote) {
            self.counters.elections.add();
        }
        let (sender, receiver) = oneshot::channel();
        self.log.save_vote(
            vote,
            Box::new(move |result| {
                let _ = sender.send(result);
            }),
        );
        match receiver.await {
            Ok(result) => result.map_err(io::Error::from),
            Err(_) => Err(io::Error::other("raft log stopped")),
        }
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<_> = entries.into_iter().map(convert::entry).collect();
        for entry in &entries {
            if let EntryPayload::Membership(bytes) = &entry.payload {
                let membership = Membership::decode(bytes).map_err(malformed)?;
                self.cell
                    .on_membership_appended(entry.position.index, &membership);
            }
        }
        if let Some(first) = entries.first() {
            self.unsynced.begin(first.position.index);
        }
        let unsynced = Arc::clone(&self.unsynced);
        let is_empty = entries.is_empty();
        let done = move |result: Result<(), StorageError>| {
            if !is_empty {
                unsynced.end(&result);
            }
            callback.io_completed(result.map_err(io::Error::from));
        };
        self.log.append(entries, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.log
            .truncate_after(last.as_ref().map(convert::position));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.log.purge(convert::position(&upto));
        Ok(())
    }
}

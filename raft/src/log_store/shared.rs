//! What the log thread and the callers share: the queue, the groups and the files to read from.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::Notify;

use super::disk::DiskFile;
use super::engine::{Done, GroupLog, LogState};
use super::index::{Dropped, Found, GroupIndex, Location};
use super::record::{self, Record};
use super::store::Command;
use crate::ids::{GroupId, LogPosition, StoreId};
use crate::state_machine::{Entry, StorageError};
use crate::transport::Vote;

/// What a log is told when it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// The store it belongs to.
    pub store: StoreId,
    /// The size of a segment file; a longer one is made for an entry that needs it.
    pub segment_bytes: u64,
    /// Writes are filled up to multiples of this: a power of two from 16 to 4096, the block of the
    /// disk. A smaller one saves space, and has the disk read what it is to write the rest of.
    pub block_bytes: usize,
    /// Bytes of the newest entries of each group held in memory.
    pub cache_bytes_per_group: usize,
    /// How long the log thread looks for more to do before it sleeps, in microseconds.
    pub spin_us: u64,
    /// [`GroupLog::write_here`] writes on the caller's thread while a write and its sync take
    /// less than this, in microseconds; 0: never.
    pub here_us: u64,
}

impl LogOptions {
    /// The defaults.
    pub fn new(store: StoreId) -> Self {
        Self {
            store,
            segment_bytes: 16 << 20,
            block_bytes: 4096,
            cache_bytes_per_group: 1 << 20,
            spin_us: 20,
            here_us: 2_000,
        }
    }
}

/// Counters.
#[derive(Default)]
pub(super) struct Stats {
    pub(super) batches: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) segments: AtomicU64,
    pub(super) bytes_rewritten: AtomicU64,
    pub(super) waits_for_room: AtomicBool,
}

/// Commands that wait to be written.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) commands: Vec<Command>,
    /// Somebody waits for one of them.
    pub(super) urgent: bool,
    /// The log thread sleeps.
    pub(super) asleep: bool,
    pub(super) stopped: bool,
}

/// Who sees to it that a command is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Urgency {
    /// Whoever writes next: nobody waits for it.
    None,
    /// The log thread, now.
    Thread,
    /// The caller, by calling [`Shared::here`] next.
    Caller,
}

/// Writes what is queued on the calling thread, or leaves it to the log thread and wakes that.
pub(super) type WriteHere = Box<dyn Fn() + Send + Sync>;

/// What the log thread and the callers share.
pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    /// True while `queue.urgent` is; read without the lock.
    pub(super) pending: AtomicBool,
    pub(super) wake: Condvar,
    pub(super) wake_task: Notify,
    /// Not set where callers never write.
    pub(super) here: OnceLock<WriteHere>,
    /// What a write with its sync takes, in nanoseconds: the shorter of the last two, since a disk
    /// is not slow for one hiccup.
    pub(super) write_ns: AtomicU64,
    last_write_ns: AtomicU64,
    pub(super) groups: RwLock<BTreeMap<GroupId, Arc<WalGroup>>>,
    /// Segment files by sequence.
    pub(super) files: RwLock<BTreeMap<u64, Arc<dyn DiskFile>>>,
    /// The first failure; nothing is written after it.
    pub(super) failed: OnceLock<StorageError>,
    pub(super) stats: Stats,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue::default()),
            pending: AtomicBool::new(false),
            wake: Condvar::new(),
            wake_task: Notify::new(),
            here: OnceLock::new(),
            write_ns: AtomicU64::new(0),
            last_write_ns: AtomicU64::new(0),
            groups: RwLock::new(BTreeMap::new()),
            files: RwLock::new(BTreeMap::new()),
            failed: OnceLock::new(),
            stats: Stats::default(),
        })
    }

    /// Queues a command; wakes the log thread if it is for that to write it now.
    pub(super) fn push(&self, command: Command, urgency: Urgency) {
        if let Some(error) = self.failed.get() {
            return refuse(command, error);
        }
        let mut queue = self.queue.lock();
        if queue.stopped {
            drop(queue);
            return refuse(command, &StorageError::new("raft log is closed"));
        }
        queue.commands.push(command);
        if urgency == Urgency::None || queue.urgent {
            return;
        }
        queue.urgent = true;
        self.pending.store(true, Ordering::Release);
        drop(queue);
        if urgency == Urgency::Thread {
            self.wake_writer();
        }
    }

    /// Wakes the log thread if it sleeps. Invariant: whoever finds `queue.urgent` set and does not
    /// write what is queued calls this, or has seen that somebody else holds the writer who has not
    /// yet looked at the queue.
    pub(super) fn wake_writer(&self) {
        if self.queue.lock().asleep {
            self.wake.notify_one();
            self.wake_task.notify_one();
        }
    }

    /// Notes what a write with its sync took. Called by whoever holds the writer.
    pub(super) fn note_write(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let before = self.last_write_ns.swap(took, Ordering::Relaxed);
        self.write_ns.store(took.min(before), Ordering::Relaxed);
    }

    /// Reads an entry from its segment.
    pub(super) fn read_entry(
        &self,
        group: GroupId,
        position: LogPosition,
        location: Location,
    ) -> Result<Entry, StorageError> {
        let lost = |reason: &str| {
            StorageError::new(format!(
                "could not read raft log entry {position} of group {group} \
                 from segment {} at offset {}: {reason}",
                location.segment, location.offset
            ))
        };
        let file = self.files.read().get(&location.segment).cloned();
        let file = file.ok_or_else(|| lost("the segment is gone"))?;
        let mut bytes = vec![0; location.length as usize];
        file.read_at(u64::from(location.offset), &mut bytes)
            .map_err(|error| lost(&error.to_string()))?;
        match record::take(&mut Bytes::from(bytes)) {
            Ok((found, Record::Entry(entry), _))
                if found == group && entry.position == position =>
            {
                Ok(entry)
            }
            Ok(_) => Err(lost("another record is there")),
            Err(error) => Err(lost(&error.to_string())),
        }
    }
}

/// Tells whoever waits for a command that it failed.
pub(super) fn refuse(command: Command, error: &StorageError) {
    match command {
        Command::Append { done, .. } => done(Err(error.clone())),
        Command::Note {
            done: Some(done), ..
        } => done(Err(error.clone())),
        Command::Note { done: None, .. } => {}
    }
}

/// The log of one group.
pub(super) struct WalGroup {
    pub(super) id: GroupId,
    pub(super) index: Mutex<GroupIndex>,
    shared: Arc<Shared>,
    this: std::sync::Weak<Self>,
}

/// How often a read looks again for an entry that was moved while it was being read.
const READ_RETRIES: usize = 3;

impl WalGroup {
    pub(super) fn new(id: GroupId, index: GroupIndex, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            id,
            index: Mutex::new(index),
            shared,
            this: std::sync::Weak::clone(this),
        })
    }

    fn note(&self, record: Record, dropped: Dropped, done: Option<Done>) {
        let urgency = match done {
            Some(_) => Urgency::Thread,
            None => Urgency::None,
        };
        self.shared.push(
            Command::Note {
                group: self.id,
                record,
                dropped,
                done,
            },
            urgency,
        );
    }

    fn queue_append(&self, entries: Vec<Entry>, done: Done, urgency: Urgency) {
        let Some(group) = self.this.upgrade() else {
            return;
        };
        let mut index = self.index.lock();
        if index.removed {
            return done(Err(self.is_removed()));
        }
        if let Err(error) = index.append(&entries) {
            drop(index);
            return done(Err(error));
        }
        // Under the lock: the order of the queue is that of the index.
        self.shared.push(
            Command::Append {
                group,
                entries,
                done,
            },
            urgency,
        );
    }

    /// Lets an empty log begin at any index, as openraft's test suite does.
    #[cfg(test)]
    pub(super) fn begin_anywhere(&self) {
        self.index.lock().begin_anywhere = true;
    }

    fn is_removed(&self) -> StorageError {
        StorageError::new(format!("raft log of group {} has been removed", self.id))
    }

    fn read(&self, found: Found) -> Result<Entry, StorageError> {
        let (position, mut location) = match found {
            Found::Memory(entry) => return Ok(entry),
            Found::Disk(position, location) => (position, location),
        };
        for _ in 0..READ_RETRIES {
            let outcome = self.shared.read_entry(self.id, position, location);
            if outcome.is_ok() {
                return outcome;
            }
            // The segment may have been given up meanwhile and the entry moved.
            let again = self
                .index
                .lock()
                .find(position.index, position.index + 1, usize::MAX);
            match again.into_iter().next() {
                Some(Found::Memory(entry)) if entry.position == position => return Ok(entry),
                Some(Found::Disk(now, moved)) if now == position && moved != location => {
                    location = moved;
                }
                _ => return outcome,
            }
        }
        self.shared.read_entry(self.id, position, location)
    }
}

impl GroupLog for WalGroup {
    fn state(&self) -> LogState {
        self.index.lock().state()
    }

    fn append(&self, entries: Vec<Entry>, done: Done) {
        self.queue_append(entries, done, Urgency::Thread);
    }

    fn append_later(&self, entries: Vec<Entry>, done: Done) {
        let urgency = match self.shared.here.get() {
            Some(_) => Urgency::Caller,
            None => Urgency::Thread,
        };
        self.queue_append(entries, done, urgency);
    }

    fn write_here(&self) {
        if let Some(write_here) = self.shared.here.get() {
            write_here();
        }
    }

    fn save_vote(&self, vote: Vote, done: Done) {
        let mut index = self.index.lock();
        if index.removed {
            return done(Err(self.is_removed()));
        }
        index.meta.vote = Some(vote);
        self.note(Record::Vote(vote), Dropped::new(), Some(done));
    }

    fn expect_snapshot(&self, position: LogPosition, done: Done) {
        let mut index = self.index.lock();
        if index.removed {
            return done(Err(self.is_removed()));
        }
        index.meta.expected = Some(position);
        self.note(Record::Expect(position), Dropped::new(), Some(done));
    }

    fn truncate_after(&self, last: Option<LogPosition>) {
        let keep = last.map_or(0, |position| position.index);
        let mut index = self.index.lock();
        if index.removed {
            return;
        }
        let dropped = index.truncate(keep);
        self.note(Record::Truncate(keep), dropped, None);
    }

    fn purge(&self, upto: LogPosition) {
        let mut index = self.index.lock();
        if index.removed {
            return;
        }
        let dropped = index.purge(upto);
        self.note(Record::Purge(upto), dropped, None);
    }

    fn entries(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Entry>, StorageError> {
        let found = self.index.lock().find(from, to, bytes_max);
        found.into_iter().map(|found| self.read(found)).collect()
    }

    fn bytes(&self) -> u64 {
        self.index.lock().bytes()
    }

    fn newest(&self, bytes: u64) -> u64 {
        self.index.lock().newest(bytes)
    }

    fn position(&self, index: u64) -> Option<LogPosition> {
        self.index.lock().position(index)
    }
}

//! [`RaftLog`]: the log of a store, and what drives it.
//!
//! On a real disk one thread takes everything that is queued, writes it, syncs once and completes
//! it; while it syncs, the next batch gathers. There is no timer: the sync is the window. In a
//! simulation a task of the paused runtime does the same.
//!
//! While the disk is quick and nobody writes, a caller that asks for it writes what is queued on
//! its own thread ([`GroupLog::write_here`]), as the thread would have: the writer is behind a
//! lock, the queue is taken under that lock, so batches are written in the order of the queue
//! whoever writes them. What could take long (a new segment, a full disk) is left to the thread.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::disk::Disk;
use super::engine::{Done, GroupLog, LogEngine, LogStats};
use super::file::FileDisk;
use super::index::{Dropped, GroupIndex};
use super::manifest::{self, Manifest};
use super::record::{GroupMeta, Record};
use super::recover::{Recovered, recover};
use super::shared::{LogOptions, Queue, Shared, Urgency, WalGroup, refuse};
use super::sim_disk::SimDisk;
use super::spares::{Spare, Spares};
use super::store::{Command, Store};
use crate::error::{LogOpenError, OpenError};
use crate::ids::{GroupId, ReplicaId};
use crate::state_machine::StorageError;

/// Called once, when the log has failed for good.
pub type OnLogFailure = Box<dyn FnOnce(&StorageError) + Send>;

/// The log of a store: a directory of segment files, or a simulated one.
pub struct RaftLog {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Writer>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Writer {
    store: Store,
    on_failure: Option<OnLogFailure>,
}

/// How long the log has nothing to do before its end is marked.
const MARK_AFTER: Duration = Duration::from_millis(200);
/// A caller writes no more commands, and no more bytes of entries, than these at once.
const HERE_COMMANDS_MAX: usize = 64;
const HERE_BYTES_MAX: usize = 256 << 10;

impl RaftLog {
    /// Opens the log in `directory`, creating it when there is none, and starts its thread.
    /// `on_failure` is called when a write or sync has failed: the process should end then.
    pub fn open(
        directory: &Path,
        options: LogOptions,
        on_failure: OnLogFailure,
    ) -> Result<Arc<Self>, LogOpenError> {
        let disk = FileDisk::open(directory).map_err(|source| LogOpenError::Io {
            action: "open directory",
            path: directory.to_owned(),
            source,
        })?;
        let nonce = crate::shell::entropy_seed();
        let log = Self::on_disk(disk, options, nonce, true, on_failure)?;
        log.let_callers_write(options);
        let (shared, writer) = (Arc::clone(&log.shared), Arc::clone(&log.writer));
        let spin = Duration::from_micros(options.spin_us);
        let thread = crate::shell::spawn_thread("raftlog", move || work(&shared, &writer, spin));
        let thread = thread.map_err(|source| LogOpenError::Io {
            action: "start a thread for",
            path: directory.to_owned(),
            source,
        })?;
        *log.thread.lock() = Some(thread);
        Ok(log)
    }

    /// Opens a log on a simulated disk. Each sync takes `sync_time` of the simulated clock. Call
    /// it inside the runtime.
    pub fn open_simulated(
        disk: &SimDisk,
        options: LogOptions,
        sync_time: Duration,
    ) -> Result<Arc<Self>, LogOpenError> {
        // Nobody but the task writes: a sync takes simulated time.
        let options = LogOptions {
            here_us: 0,
            ..options
        };
        let log = Self::on_disk(disk.attach(), options, 1, false, Box::new(|_| {}))?;
        let (shared, writer) = (Arc::clone(&log.shared), Arc::clone(&log.writer));
        shared.queue.lock().asleep = true;
        crate::shell::spawn_task(async move {
            loop {
                shared.wake_task.notified().await;
                tokio::time::sleep(sync_time).await;
                if !write_and_mark(&shared, &mut writer.lock()) {
                    return;
                }
            }
        });
        Ok(log)
    }

    fn on_disk(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        nonce: u64,
        threads: bool,
        on_failure: OnLogFailure,
    ) -> Result<Arc<Self>, LogOpenError> {
        let recovered = match recover(&*disk, options.store.0)? {
            Some(recovered) => recovered,
            None => create(&*disk, options, nonce)?,
        };
        let shared = Shared::new();
        let mut recovered = recovered;
        for (id, found) in std::mem::take(&mut recovered.groups) {
            let index = GroupIndex::recovered(found.meta, found.entries);
            let group = WalGroup::new(id, index, Arc::clone(&shared));
            shared.groups.write().insert(id, group);
        }
        let free = std::mem::take(&mut recovered.free).into_iter();
        let free = free
            .map(|(slot, file, length)| Spare { slot, file, length })
            .collect();
        let spares = Spares::new(free, recovered.next_slot, threads);
        let path = disk.path("");
        let store = Store::new(disk, options, Arc::clone(&shared), spares, recovered);
        let store = store.map_err(|error| LogOpenError::Io {
            action: "begin",
            path,
            source: std::io::Error::from(error),
        })?;
        let writer = Writer {
            store,
            on_failure: Some(on_failure),
        };
        let writer = Arc::new(Mutex::new(writer));
        Ok(Arc::new(Self {
            shared,
            writer,
            thread: Mutex::new(None),
        }))
    }

    /// Makes [`GroupLog::write_here`] write on the caller's thread.
    fn let_callers_write(&self, options: LogOptions) {
        if options.here_us == 0 {
            return;
        }
        let limit = options.here_us.saturating_mul(1_000);
        let shared = Arc::downgrade(&self.shared);
        let writer = Arc::downgrade(&self.writer);
        let here = move || {
            if let (Some(shared), Some(writer)) = (shared.upgrade(), writer.upgrade()) {
                write_here(&shared, &writer, limit);
            }
        };
        // Set once, by the log that made it.
        let _ = self.shared.here.set(Box::new(here));
    }
}

#[cfg(test)]
impl RaftLog {
    /// Opens a log that writes when [`Self::pump`] is called.
    pub(super) fn open_manual(
        disk: &SimDisk,
        options: LogOptions,
    ) -> Result<Arc<Self>, LogOpenError> {
        let log = Self::on_disk(disk.attach(), options, 1, false, Box::new(|_| {}))?;
        log.let_callers_write(options);
        Ok(log)
    }

    /// Lets the log of a group begin at any index, as openraft's test suite does.
    pub(crate) fn begin_anywhere(&self, group: GroupId) {
        if let Some(group) = self.shared.groups.read().get(&group) {
            group.begin_anywhere();
        }
    }

    /// Writes what is queued.
    pub(super) fn pump(&self) {
        write_and_mark(&self.shared, &mut self.writer.lock());
    }
}

/// A manifest for a new log; the store begins the first segment.
fn create(disk: &dyn Disk, options: LogOptions, nonce: u64) -> Result<Recovered, LogOpenError> {
    let error = |source| LogOpenError::Io {
        action: "create",
        path: disk.path(manifest::NAME),
        source,
    };
    let manifest_file = match disk.open(manifest::NAME).map_err(error)? {
        Some(file) => file,
        None => disk
            .create(manifest::NAME, manifest::LENGTH)
            .map_err(error)?,
    };
    let manifest = Manifest {
        store: options.store.0,
        nonce,
        generation: 0,
        oldest: 1,
        highest: 0,
        slot: 0,
        slot_length: 0,
    };
    // Files left by an attempt to create the log hold nothing; they are written over.
    Ok(Recovered {
        manifest,
        manifest_file,
        segments: Default::default(),
        free: Vec::new(),
        next_slot: 0,
        groups: Default::default(),
        tail: 0,
        lsn: 1,
    })
}

/// The log thread.
fn work(shared: &Shared, writer: &Mutex<Writer>, spin: Duration) {
    loop {
        let begun = crate::shell::now();
        while !shared.pending.load(Ordering::Acquire) && begun.elapsed() < spin {
            std::hint::spin_loop();
        }
        while !wait_for_work(shared) {
            mark_end(shared, &mut writer.lock());
        }
        let mut writer = writer.lock();
        if !write_queued(shared, &mut writer) {
            mark_end(shared, &mut writer);
            return;
        }
    }
}

/// Sleeps until there is something to write or the log is closed; false when there was nothing to
/// do for a while.
fn wait_for_work(shared: &Shared) -> bool {
    let mut queue = shared.queue.lock();
    while !queue.urgent && !queue.stopped {
        queue.asleep = true;
        if shared.wake.wait_for(&mut queue, MARK_AFTER).timed_out() {
            break;
        }
    }
    queue.asleep = false;
    queue.urgent || queue.stopped
}

/// Writes what is queued on this thread if that is quick; else wakes the log thread for it.
fn write_here(shared: &Shared, writer: &Mutex<Writer>, limit_ns: u64) {
    let written = shared.write_ns.load(Ordering::Relaxed) <= limit_ns
        && writer
            .try_lock()
            .is_some_and(|mut writer| try_write(shared, &mut writer));
    if !written {
        shared.wake_writer();
    }
}

/// Writes what is queued unless that may take long; false when something is left to write.
fn try_write(shared: &Shared, writer: &mut Writer) -> bool {
    if writer.store.keeps_frame() {
        return false;
    }
    let batch = {
        let mut queue = shared.queue.lock();
        if queue.stopped || !is_small(&queue) {
            return false;
        }
        take(shared, &mut queue)
    };
    let outcome = write(shared, writer, batch, Store::run_here);
    if outcome == Some(false) {
        shared.queue.lock().urgent = true;
        shared.pending.store(true, Ordering::Release);
        return false;
    }
    true
}

fn is_small(queue: &Queue) -> bool {
    queue.commands.len() <= HERE_COMMANDS_MAX
        && queue.commands.iter().map(Command::bytes).sum::<usize>() <= HERE_BYTES_MAX
}

fn take(shared: &Shared, queue: &mut Queue) -> Vec<Command> {
    queue.urgent = false;
    shared.pending.store(false, Ordering::Release);
    std::mem::take(&mut queue.commands)
}

/// Writes a batch as `run` says; `None` when the log has failed.
fn write<T>(
    shared: &Shared,
    writer: &mut Writer,
    batch: Vec<Command>,
    run: impl FnOnce(&mut Store, Vec<Command>) -> Result<T, StorageError>,
) -> Option<T> {
    let Writer { store, on_failure } = writer;
    if let Some(error) = shared.failed.get() {
        batch.into_iter().for_each(|command| refuse(command, error));
        return None;
    }
    match run(store, batch) {
        Ok(done) => Some(done),
        Err(error) => {
            tracing::error!(%error, "raft log failed");
            let _ = shared.failed.set(error.clone());
            if let Some(on_failure) = on_failure.take() {
                on_failure(&error);
            }
            None
        }
    }
}

/// Writes what is queued; false when the log is closed and the queue empty.
fn write_queued(shared: &Shared, writer: &mut Writer) -> bool {
    let (batch, stopped) = {
        let mut queue = shared.queue.lock();
        (take(shared, &mut queue), queue.stopped)
    };
    write(shared, writer, batch, Store::run);
    !stopped
}

/// Like [`write_queued`], and marks the end of the log when nothing has come meanwhile.
fn write_and_mark(shared: &Shared, writer: &mut Writer) -> bool {
    let goes_on = write_queued(shared, writer);
    mark_end(shared, writer);
    goes_on
}

/// Marks the end of the log when nothing waits to be written behind it.
fn mark_end(shared: &Shared, writer: &mut Writer) {
    let nothing_waits = !shared.pending.load(Ordering::Acquire) && !writer.store.keeps_frame();
    if nothing_waits && shared.failed.get().is_none() {
        writer.store.mark();
    }
}

impl LogEngine for RaftLog {
    fn open_group(
        &self,
        group: GroupId,
        replica: ReplicaId,
    ) -> Result<Arc<dyn GroupLog>, OpenError> {
        let mut groups = self.shared.groups.write();
        if let Some(found) = groups.get(&group) {
            let (owner, removed) = {
                let index = found.index.lock();
                (index.meta.replica, index.removed)
            };
            if removed {
                return Err(StorageError::new("raft log of the group is being removed").into());
            }
            if owner != replica {
                return Err(OpenError::OtherReplica {
                    group,
                    expected: replica,
                    found: owner,
                });
            }
            return Ok(Arc::clone(found) as Arc<dyn GroupLog>);
        }
        let meta = GroupMeta {
            replica,
            ..GroupMeta::default()
        };
        let opened = WalGroup::new(group, GroupIndex::new(meta), Arc::clone(&self.shared));
        groups.insert(group, Arc::clone(&opened));
        // Before the group's lock is free for others: its records come after this one. Durable
        // with the first of them.
        let (record, dropped) = (Record::Group(meta), Dropped::new());
        self.shared.push(
            Command::Note {
                group,
                record,
                dropped,
                done: None,
            },
            Urgency::None,
        );
        Ok(opened)
    }

    fn groups(&self) -> Vec<(GroupId, ReplicaId)> {
        let groups = self.shared.groups.read();
        groups
            .iter()
            .map(|(id, group)| (*id, group.index.lock().meta.replica))
            .collect()
    }

    fn remove_group(&self, group: GroupId, done: Done) {
        let Some(removed) = self.shared.groups.read().get(&group).cloned() else {
            return done(Ok(()));
        };
        let dropped = removed.index.lock().clear();
        let record = Record::Remove;
        self.shared.push(
            Command::Note {
                group,
                record,
                dropped,
                done: Some(done),
            },
            Urgency::Thread,
        );
    }

    fn stats(&self) -> LogStats {
        let stats = &self.shared.stats;
        LogStats {
            batches: stats.batches.load(Ordering::Relaxed),
            records: stats.records.load(Ordering::Relaxed),
            bytes: stats.bytes.load(Ordering::Relaxed),
            segments: stats.segments.load(Ordering::Relaxed),
            bytes_rewritten: stats.bytes_rewritten.load(Ordering::Relaxed),
            waits_for_room: stats.waits_for_room.load(Ordering::Relaxed),
        }
    }

    fn shutdown(&self) {
        self.shared.queue.lock().stopped = true;
        self.shared.wake.notify_all();
        self.shared.wake_task.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // It panicked if it is not there: then the process is ending anyway.
            let _ = thread.join();
        } else {
            write_and_mark(&self.shared, &mut self.writer.lock());
        }
        self.writer.lock().store.settle();
    }
}

impl Drop for RaftLog {
    fn drop(&mut self) {
        self.shutdown();
        // They know the log, and it knows them: neither would ever go.
        self.shared.groups.write().clear();
    }
}

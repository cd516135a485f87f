//! The writing side of the log: batches of commands -> frames in segments.
//!
//! One thread at a time uses a [`Store`]. Invariant: a frame is written only after the one before
//! it is synced. Recovery relies on it: a bad frame with a good one behind it is damage.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::disk::{Disk, DiskFile};
use super::engine::Done;
use super::frame::{self, HEAD, HEADER, Head, Seal};
use super::index::{Dropped, Found, Location};
use super::manifest::{self, Manifest};
use super::record::{self, Record};
use super::recover::{Recovered, slot_name};
use super::shared::{LogOptions, Shared, WalGroup, refuse};
use super::spares::{Spare, Spares};
use crate::ids::{GroupId, LogPosition};
use crate::state_machine::{Entry, StorageError};

/// A frame's body is closed when it exceeds this.
const FRAME_BYTES: usize = 4 << 20;
/// Segments below which nothing is written again to free old ones.
const SEGMENTS_KEPT: usize = 4;
/// Unused files kept for reuse.
const SPARES_MAX: usize = 4;

/// Something to be written.
pub(super) enum Command {
    Append {
        group: Arc<WalGroup>,
        entries: Vec<Entry>,
        done: Done,
    },
    /// A record besides entries, what it makes unneeded, and who waits for it.
    Note {
        group: GroupId,
        record: Record,
        dropped: Dropped,
        done: Option<Done>,
    },
}

impl Command {
    /// Bytes of its entries.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append { entries, .. } => entries.iter().map(record::entry_length).sum(),
            Self::Note { .. } => 0,
        }
    }
}

struct Segment {
    slot: u64,
    file: Arc<dyn DiskFile>,
    length: u64,
    /// Bytes of the entries written to it.
    entries: u64,
    /// Those of them that are still needed.
    live: u64,
}

/// What was put into the frame that is being built.
#[derive(Default)]
struct Building {
    /// Records in it.
    count: u64,
    /// Entries: whose, which, offset of the record in the body, its length.
    entries: Vec<(Arc<WalGroup>, LogPosition, usize, usize)>,
    done: Vec<Done>,
    dropped: Vec<Dropped>,
    removed: Vec<GroupId>,
    /// Its header is written for the place it goes to: nothing is added any more.
    sealed: bool,
}

/// The writing side of the log.
pub(super) struct Store {
    disk: Arc<dyn Disk>,
    options: LogOptions,
    shared: Arc<Shared>,
    spares: Arc<Spares>,
    manifest: Manifest,
    manifest_file: Arc<dyn DiskFile>,
    segments: BTreeMap<u64, Segment>,
    /// Files of segments that the manifest on disk still names.
    released: Vec<Spare>,
    /// Sequence of the segment being written; 0 before the first.
    current: u64,
    /// Where the next frame goes.
    tail: usize,
    lsn: u64,
    buffer: Vec<u8>,
    building: Building,
    /// A mark stands at the tail.
    marked: bool,
    /// A segment was begun since old ones were last looked at.
    compaction_due: bool,
    /// Writes are timed, since callers may write.
    measures: bool,
}

/// What writing the frame may wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Patience {
    /// A new segment, and room on the disk.
    Endless,
    /// Nothing but the write and its sync.
    None,
}

fn failed(action: &str, disk: &dyn Disk, name: &str) -> impl Fn(io::Error) -> StorageError + use<> {
    let message = format!("could not {action} {}", disk.path(name).display());
    move |error| StorageError::new(format!("{message}: {error}"))
}

fn out_of_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl Store {
    /// Goes on where `recovered` ends, or begins a new log.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        shared: Arc<Shared>,
        spares: Arc<Spares>,
        recovered: Recovered,
    ) -> Result<Self, StorageError> {
        let mut segments = BTreeMap::new();
        let mut block = 0;
        for (sequence, found) in recovered.segments {
            shared
                .files
                .write()
                .insert(sequence, Arc::clone(&found.file));
            block = found.block;
            let segment = Segment {
                slot: found.slot,
                file: found.file,
                length: found.length,
                entries: found.entry_bytes,
                live: 0,
            };
            segments.insert(sequence, segment);
        }
        for group in shared.groups.read().values() {
            for (sequence, bytes) in group.index.lock().live() {
                if let Some(segment) = segments.get_mut(&sequence) {
                    segment.live += bytes;
                }
            }
        }
        let current = segments.keys().next_back().copied().unwrap_or(0);
        let mut store = Self {
            disk,
            options,
            shared,
            spares,
            manifest: recovered.manifest,
            manifest_file: recovered.manifest_file,
            segments,
            released: Vec::new(),
            current,
            tail: recovered.tail,
            lsn: recovered.lsn,
            buffer: Vec::new(),
            building: Building::default(),
            marked: false,
            compaction_due: false,
            measures: options.here_us > 0,
        };
        match store.segments.get(&current) {
            // What a killed process wrote may not be on disk yet, and is about to be relied on.
            Some(segment) => {
                let error = failed("sync", &*store.disk, &slot_name(segment.slot));
                segment.file.sync().map_err(error)?;
                if block != options.block_bytes {
                    store.begin_segment(0)?;
                }
            }
            None => store.begin_segment(0)?,
        }
        store.count_segments();
        Ok(store)
    }

    /// Writes and syncs a batch, completing every command. After an error everything later must
    /// be refused.
    pub(super) fn run(&mut self, commands: Vec<Command>) -> Result<(), StorageError> {
        let mut commands = commands.into_iter();
        let outcome = self.write_all(&mut commands);
        self.refuse_rest(outcome, commands)
    }

    /// Like [`Self::run`], but does nothing that may take long: false when there is no room in the
    /// segment or on the disk; then the frame is kept and [`Self::run`] begins with it.
    /// `commands` fit in one frame, and no frame is kept.
    pub(super) fn run_here(&mut self, commands: Vec<Command>) -> Result<bool, StorageError> {
        debug_assert!(!self.keeps_frame(), "a frame waits to be written");
        let mut commands = commands.into_iter();
        let filled = self.fill(&mut commands);
        let outcome = filled.and_then(|()| self.flush(Patience::None));
        self.refuse_rest(outcome, commands)
    }

    /// Waits for what is done in the background.
    pub(super) fn settle(&self) {
        self.spares.settle();
    }

    /// Whether a frame waits to be written by [`Self::run`].
    pub(super) fn keeps_frame(&self) -> bool {
        self.building.count > 0
    }

    fn refuse_rest<T>(
        &mut self,
        outcome: Result<T, StorageError>,
        commands: impl Iterator<Item = Command>,
    ) -> Result<T, StorageError> {
        if let Err(error) = &outcome {
            for done in std::mem::take(&mut self.building).done {
                done(Err(error.clone()));
            }
            commands.for_each(|command| refuse(command, error));
        }
        outcome
    }

    fn write_all(
        &mut self,
        commands: &mut impl Iterator<Item = Command>,
    ) -> Result<(), StorageError> {
        if self.keeps_frame() {
            self.flush(Patience::Endless)?;
        }
        self.fill(commands)?;
        self.flush(Patience::Endless)?;
        if self.compaction_due {
            self.compact()?;
        }
        Ok(())
    }

    /// Puts commands into the frame, writing it each time it is full.
    fn fill(&mut self, commands: &mut impl Iterator<Item = Command>) -> Result<(), StorageError> {
        for command in commands {
            self.begin_frame();
            match command {
                Command::Append {
                    group,
                    entries,
                    done,
                } => {
                    // Before anything can fail: the waiter must hear of it.
                    self.building.done.push(done);
                    for entry in &entries {
                        self.put_entry(&group, entry)?;
                    }
                }
                Command::Note {
                    group,
                    record,
                    dropped,
                    done,
                } => {
                    self.building.done.extend(done);
                    self.building.dropped.push(dropped);
                    if matches!(record, Record::Remove) {
                        self.building.removed.push(group);
                    }
                    record::put(&mut self.buffer, group, &record);
                    self.building.count += 1;
                }
            }
        }
        Ok(())
    }

    fn begin_frame(&mut self) {
        if self.building.count == 0 {
            self.buffer.clear();
            frame::begin(&mut self.buffer);
        }
    }

    /// Adds an entry to the frame. Closes the frame first when it is full; those who wait for
    /// earlier entries of the same append then wait for the next frame.
    fn put_entry(&mut self, group: &Arc<WalGroup>, entry: &Entry) -> Result<(), StorageError> {
        if self.buffer.len() > FRAME_BYTES {
            let last = self.building.done.pop();
            let flushed = self.flush(Patience::Endless);
            self.building.done.extend(last);
            flushed?;
            self.begin_frame();
        }
        let at = self.buffer.len();
        let length = record::put_entry(&mut self.buffer, group.id, entry);
        self.building
            .entries
            .push((Arc::clone(group), entry.position, at, length));
        self.building.count += 1;
        Ok(())
    }

    fn seal(&self) -> Seal {
        Seal {
            nonce: self.manifest.nonce,
            sequence: self.current,
        }
    }

    /// Writes and syncs the frame, then completes what it holds; false when it had no patience and
    /// keeps the frame.
    fn flush(&mut self, patience: Patience) -> Result<bool, StorageError> {
        if self.building.count == 0 {
            let idle = std::mem::take(&mut self.building);
            idle.done.into_iter().for_each(|done| done(Ok(())));
            return Ok(true);
        }
        if !self.building.sealed {
            if !self.fits(self.buffer.len()) {
                if patience == Patience::None {
                    return Ok(false);
                }
                self.begin_segment(self.buffer.len())?;
            }
            let seal = self.seal();
            frame::finish(&mut self.buffer, 0, seal, self.lsn, self.building.count);
            self.fill_block();
            self.building.sealed = true;
        }
        let at = self.tail;
        if !self.write_synced(at, patience)? {
            return Ok(false);
        }
        self.tail += self.buffer.len();
        self.lsn += self.building.count;
        self.marked = false;
        self.complete(at);
        Ok(true)
    }

    /// Fills the last block of the buffer.
    fn fill_block(&mut self) {
        let whole = self.in_blocks(self.buffer.len());
        self.buffer.resize(whole, 0);
    }

    /// The bytes of the blocks that `bytes` take.
    fn in_blocks(&self, bytes: usize) -> usize {
        bytes.next_multiple_of(self.options.block_bytes)
    }

    fn complete(&mut self, at: usize) {
        let stats = &self.shared.stats;
        stats.batches.fetch_add(1, Ordering::Relaxed);
        stats
            .records
            .fetch_add(self.building.count, Ordering::Relaxed);
        stats
            .bytes
            .fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
        let built = std::mem::take(&mut self.building);
        // First those who wait.
        for done in built.done {
            done(Ok(()));
        }
        for (group, position, offset, length) in built.entries {
            let location = Location {
                segment: self.current,
                offset: u32::try_from(at + offset).unwrap_or(u32::MAX),
                length: u32::try_from(length).unwrap_or(u32::MAX),
            };
            let mut index = group.index.lock();
            let placed = index.place(position, location);
            index.evict(self.options.cache_bytes_per_group);
            drop(index);
            if let Ok(before) = placed {
                self.add_live(self.current, u64::from(location.length));
                if let Some(before) = before {
                    self.sub_live(before.segment, u64::from(before.length));
                }
            }
        }
        // Until now a new segment would have had to name them.
        for group in built.removed {
            self.shared.groups.write().remove(&group);
        }
        for (sequence, bytes) in built.dropped.into_iter().flatten() {
            self.sub_live(sequence, bytes);
        }
    }

    fn add_live(&mut self, sequence: u64, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&sequence) {
            segment.entries += bytes;
            segment.live += bytes;
        }
    }

    fn sub_live(&mut self, sequence: u64, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&sequence) {
            debug_assert!(segment.live >= bytes, "more bytes dropped than were live");
            segment.live = segment.live.saturating_sub(bytes);
        }
    }

    fn fits(&self, bytes: usize) -> bool {
        let room = self
            .segments
            .get(&self.current)
            .map_or(0, |segment| segment.length);
        // Room for a mark too.
        let end = self.tail + self.in_blocks(bytes) + self.in_blocks(HEADER);
        self.tail >= HEAD && end as u64 <= room
    }

    /// False when there is no room on the disk, and no patience.
    fn write_synced(&self, at: usize, patience: Patience) -> Result<bool, StorageError> {
        let Some(segment) = self.segments.get(&self.current) else {
            return Err(StorageError::new("raft log has no segment"));
        };
        let begun = self.measures.then(crate::shell::now);
        let attempt = || segment.file.write_durably_at(at as u64, &self.buffer);
        let written = match patience {
            Patience::Endless => self.with_room(attempt),
            Patience::None => attempt(),
        };
        if patience == Patience::None && written.as_ref().is_err_and(out_of_room) {
            return Ok(false);
        }
        written.map_err(|error| failed("write", &*self.disk, &slot_name(segment.slot))(error))?;
        if let Some(begun) = begun {
            self.shared.note_write(begun.elapsed());
        }
        Ok(true)
    }

    /// Does what needs room on the disk, again and again while there is none.
    ///
    /// Any other failure is final, since after it nobody knows what the disk holds. After "no
    /// space" we know: what the attempt was to write has not been acknowledged to anybody, and all
    /// that has been lies before it, under an earlier sync that succeeded. The next attempt writes
    /// every byte of it anew, at the same place, and syncs; so it does not matter which pages of
    /// the failed attempt the system has kept or dropped. A crash in between leaves at most a torn
    /// last frame (or manifest copy), which recovery expects. On file systems that write in place
    /// only the making of a segment comes here: the blocks of the others are allocated.
    fn with_room<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut waits = false;
        let outcome = loop {
            let outcome = attempt();
            if !outcome.as_ref().is_err_and(out_of_room)
                || self.shared.queue.lock().stopped
                || !self.disk.wait_for_room()
            {
                break outcome;
            }
            if !waits {
                waits = true;
                self.shared
                    .stats
                    .waits_for_room
                    .store(true, Ordering::Relaxed);
                tracing::warn!(
                    directory = %self.disk.path("").display(),
                    "the disk is full: the raft log waits for room"
                );
            }
        };
        if waits {
            self.shared
                .stats
                .waits_for_room
                .store(false, Ordering::Relaxed);
            if outcome.is_ok() {
                tracing::warn!("there is room again: the raft log goes on");
            }
        }
        outcome
    }

    /// Begins a segment in which a frame of `bytes` fits. It starts with everything about every
    /// group besides entries, so that no older segment is needed for that.
    fn begin_segment(&mut self, bytes: usize) -> Result<(), StorageError> {
        let pending = std::mem::take(&mut self.buffer);
        let sequence = self.current + 1;
        let seal = Seal {
            nonce: self.manifest.nonce,
            sequence,
        };

        self.buffer.resize(HEAD, 0);
        let start = frame::begin(&mut self.buffer);
        let mut count = 0;
        for group in self.shared.groups.read().values() {
            let meta = group.index.lock().meta;
            record::put(&mut self.buffer, group.id, &Record::Group(meta));
            count += 1;
        }
        frame::finish(&mut self.buffer, start, seal, self.lsn, count);
        self.fill_block();
        let needed = self.buffer.len() + self.in_blocks(bytes) + self.in_blocks(HEADER);
        let length = (self.options.segment_bytes).max((needed as u64).next_multiple_of(4096));
        let taken = self.with_room(|| self.spares.take(&*self.disk, length));
        let Spare { slot, file, length } =
            taken.map_err(failed("extend raft log in", &*self.disk, ""))?;

        self.release();
        let oldest = self.segments.keys().next().copied().unwrap_or(sequence);
        self.manifest = Manifest {
            generation: self.manifest.generation + 1,
            oldest,
            highest: sequence,
            slot,
            slot_length: length,
            ..self.manifest
        };
        let written = self.with_room(|| self.manifest.write(&self.manifest_file));
        written.map_err(failed("write", &*self.disk, manifest::NAME))?;
        for spare in std::mem::take(&mut self.released) {
            self.spares.put(&*self.disk, spare, SPARES_MAX);
        }

        let mut head = Vec::with_capacity(HEAD);
        Head {
            store: self.options.store.0,
            seal,
            lsn: self.lsn,
            length,
            block: self.options.block_bytes,
        }
        .put(&mut head);
        if let Some(target) = self.buffer.get_mut(..HEAD) {
            target.copy_from_slice(&head);
        }
        self.shared
            .files
            .write()
            .insert(sequence, Arc::clone(&file));
        self.segments.insert(
            sequence,
            Segment {
                slot,
                file,
                length,
                entries: 0,
                live: 0,
            },
        );
        self.current = sequence;
        self.write_synced(0, Patience::Endless)?;
        self.tail = self.buffer.len();
        self.lsn += count;
        self.buffer = pending;
        self.marked = false;
        self.compaction_due = true;
        self.count_segments();
        self.spares.prepare(&self.disk, self.options.segment_bytes);
        Ok(())
    }

    fn count_segments(&self) {
        self.shared
            .stats
            .segments
            .store(self.segments.len() as u64, Ordering::Relaxed);
    }

    /// Gives up the oldest segments as far as nothing in them is needed. Invariant: their files
    /// are reused or removed only after a manifest that does not name them is on disk.
    fn release(&mut self) {
        while let Some((sequence, segment)) = self.segments.first_key_value() {
            if segment.live > 0 || *sequence >= self.current {
                return;
            }
            let sequence = *sequence;
            self.shared.files.write().remove(&sequence);
            if let Some(Segment {
                slot, file, length, ..
            }) = self.segments.remove(&sequence)
            {
                self.released.push(Spare { slot, file, length });
            }
        }
    }

    /// Writes what is left in the oldest segments again while more than half of the entries is
    /// dead, so that a group that does nothing does not keep the segments of the others. What
    /// fills blocks does not count: writing that again frees nothing.
    fn compact(&mut self) -> Result<(), StorageError> {
        self.compaction_due = false;
        while self.segments.len() > SEGMENTS_KEPT {
            let written: u64 = self.segments.values().map(|segment| segment.entries).sum();
            let live: u64 = self.segments.values().map(|segment| segment.live).sum();
            let Some(oldest) = self.segments.keys().next().copied() else {
                break;
            };
            if live * 2 > written || oldest == self.current {
                break;
            }
            self.rewrite(oldest)?;
            self.release();
            if self.segments.contains_key(&oldest) {
                break;
            }
        }
        self.count_segments();
        Ok(())
    }

    fn rewrite(&mut self, sequence: u64) -> Result<(), StorageError> {
        let groups: Vec<_> = self.shared.groups.read().values().cloned().collect();
        for group in groups {
            let found = group.index.lock().in_segment(sequence);
            for found in found {
                let entry = match found {
                    Found::Memory(entry) => entry,
                    Found::Disk(position, location) => {
                        self.shared.read_entry(group.id, position, location)?
                    }
                };
                self.begin_frame();
                let bytes = record::entry_length(&entry) as u64;
                self.shared
                    .stats
                    .bytes_rewritten
                    .fetch_add(bytes, Ordering::Relaxed);
                self.put_entry(&group, &entry)?;
            }
        }
        self.flush(Patience::Endless).map(|_| ())
    }

    /// Shows that the log ends here on purpose; not synced. Called when there is nothing to do.
    pub(super) fn mark(&mut self) {
        if self.marked {
            return;
        }
        if let Some(segment) = self.segments.get(&self.current) {
            let mut mark = Vec::with_capacity(self.in_blocks(HEADER));
            frame::mark(&mut mark, self.seal(), self.lsn);
            mark.resize(self.in_blocks(mark.len()), 0);
            // A mark is only a help; should it fail, the next frame will too.
            self.marked = segment.file.write_at(self.tail as u64, &mark).is_ok();
        }
    }
}

//! Reading the log back at open, and refusing one that is damaged.
//!
//! What is accepted: segments `oldest..=highest` of the manifest, without a gap in their sequence
//! or in the numbers of their records, each valid up to where the next begins, the last one valid
//! up to a point after which nothing valid follows. Only there may bytes be bad: a frame that was
//! being written when the power failed, which nobody was told about. Anything else is damage.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Disk, DiskFile};
use super::frame::{self, BLOCK_MIN, BadHead, HEAD, Head, Seal};
use super::index::Location;
use super::manifest::{self, Manifest};
use super::record::{self, GroupMeta, Record};
use crate::error::LogOpenError;
use crate::ids::GroupId;

/// The name of a segment file.
pub(super) fn slot_name(slot: u64) -> String {
    format!("segment-{slot:06}")
}

fn slot_of(name: &str) -> Option<u64> {
    name.strip_prefix("segment-")?.parse().ok()
}

/// A group as read back.
#[derive(Default)]
pub(super) struct RecoveredGroup {
    pub(super) meta: GroupMeta,
    pub(super) entries: BTreeMap<u64, (u64, Location)>,
}

/// A segment file in use.
pub(super) struct RecoveredSegment {
    pub(super) slot: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) length: u64,
    /// Its frames begin at multiples of this.
    pub(super) block: usize,
    /// Bytes of the entries in it, needed or not.
    pub(super) entry_bytes: u64,
}

/// A log as read back.
pub(super) struct Recovered {
    pub(super) manifest: Manifest,
    pub(super) manifest_file: Arc<dyn DiskFile>,
    pub(super) segments: BTreeMap<u64, RecoveredSegment>,
    /// Files that hold nothing of use, with their lengths.
    pub(super) free: Vec<(u64, Arc<dyn DiskFile>, u64)>,
    /// The next file's number.
    pub(super) next_slot: u64,
    pub(super) groups: BTreeMap<GroupId, RecoveredGroup>,
    /// Where to go on writing in the last segment.
    pub(super) tail: usize,
    /// The number of the next record.
    pub(super) lsn: u64,
}

/// A file that was read.
struct Slot {
    file: Arc<dyn DiskFile>,
    length: u64,
    head: Result<Head, BadHead>,
}

struct Reading<'a> {
    disk: &'a dyn Disk,
    store: u64,
    slots: BTreeMap<u64, Slot>,
}

fn io_error<'a>(
    disk: &'a dyn Disk,
    action: &'static str,
    name: &'a str,
) -> impl Fn(io::Error) -> LogOpenError + 'a {
    move |source| LogOpenError::Io {
        action,
        path: disk.path(name),
        source,
    }
}

/// Reads the log back. `None`: there is none, and nothing that looks like the rest of one.
pub(super) fn recover(disk: &dyn Disk, store: u64) -> Result<Option<Recovered>, LogOpenError> {
    let names = disk.list().map_err(io_error(disk, "read directory", ""))?;
    let mut reading = Reading {
        disk,
        store,
        slots: BTreeMap::new(),
    };
    for name in &names {
        if let Some(slot) = slot_of(name) {
            reading.read_slot(slot, name)?;
        } else if name.ends_with(".new") {
            disk.remove(name).map_err(io_error(disk, "remove", name))?;
        }
    }
    let Some((manifest_file, manifest)) = reading.read_manifest()? else {
        return Ok(None);
    };
    reading.recover(manifest_file, manifest).map(Some)
}

/// The manifest with the file that it was read from.
type OpenManifest = (Arc<dyn DiskFile>, Manifest);

impl Reading<'_> {
    fn damaged(&self, name: &str, offset: usize, reason: impl Into<String>) -> LogOpenError {
        let (path, offset) = (self.disk.path(name), offset as u64);
        LogOpenError::Damaged {
            path,
            offset,
            reason: reason.into(),
        }
    }

    fn read_slot(&mut self, slot: u64, name: &str) -> Result<(), LogOpenError> {
        let error = io_error(self.disk, "read", name);
        let file = match self.disk.open(name).map_err(&error)? {
            Some(file) => file,
            None => return Ok(()),
        };
        let length = file.length().map_err(&error)?;
        let mut head = vec![0; HEAD.min(usize::try_from(length).unwrap_or(HEAD))];
        file.read_at(0, &mut head).map_err(&error)?;
        let head = Head::read(&head);
        if let Err(BadHead::Version(found)) = head {
            let (path, expected) = (self.disk.path(name), frame::VERSION);
            return Err(LogOpenError::Version {
                path,
                found,
                expected,
            });
        }
        if let Ok(head) = head
            && head.store != self.store
        {
            let (path, expected) = (self.disk.path(name), self.store);
            return Err(LogOpenError::OtherStore {
                path,
                found: head.store,
                expected,
            });
        }
        self.slots.insert(slot, Slot { file, length, head });
        Ok(())
    }

    fn read_manifest(&self) -> Result<Option<OpenManifest>, LogOpenError> {
        let name = manifest::NAME;
        let path = || self.disk.path(name);
        let error = io_error(self.disk, "read", name);
        let used = self.slots.values().any(|slot| slot.head.is_ok());
        let Some(file) = self.disk.open(name).map_err(&error)? else {
            return if used {
                Err(LogOpenError::Missing { path: path() })
            } else {
                Ok(None)
            };
        };
        match Manifest::read(&file).map_err(&error)? {
            manifest::Found::Valid(manifest) if manifest.store != self.store => {
                let (found, expected) = (manifest.store, self.store);
                Err(LogOpenError::OtherStore {
                    path: path(),
                    found,
                    expected,
                })
            }
            manifest::Found::Valid(manifest) => Ok(Some((file, manifest))),
            manifest::Found::Empty if !used => Ok(None),
            manifest::Found::Empty | manifest::Found::Damaged => {
                Err(self.damaged(name, 0, "no valid copy of the manifest"))
            }
            manifest::Found::Version(found) => Err(LogOpenError::Version {
                path: path(),
                found,
                expected: manifest::VERSION,
            }),
        }
    }

    fn recover(
        mut self,
        manifest_file: Arc<dyn DiskFile>,
        manifest: Manifest,
    ) -> Result<Recovered, LogOpenError> {
        let sequences = self.sequences(&manifest)?;
        let mut replay = Replay {
            groups: BTreeMap::new(),
            lsn: None,
            entry_bytes: 0,
        };
        let mut segments = BTreeMap::new();
        let mut tail = HEAD;
        let mut buffer = Vec::new();
        for (position, (sequence, slot_number)) in sequences.iter().enumerate() {
            let last = position + 1 == sequences.len();
            let Some(slot) = self.slots.get(slot_number) else {
                continue;
            };
            tail = self.read_segment(&mut replay, *slot_number, slot, last, &mut buffer)?;
            let segment = RecoveredSegment {
                slot: *slot_number,
                file: Arc::clone(&slot.file),
                length: slot.length,
                block: slot.head.map_or(BLOCK_MIN, |head| head.block),
                entry_bytes: std::mem::take(&mut replay.entry_bytes),
            };
            segments.insert(*sequence, segment);
        }
        let used: BTreeSet<u64> = sequences.values().copied().collect();
        let next_slot = self.slots.keys().next_back().map_or(0, |slot| slot + 1);
        self.slots.retain(|slot, _| !used.contains(slot));
        let free = self
            .slots
            .into_iter()
            .map(|(slot, found)| (slot, found.file, found.length));
        let free = free.collect();
        let lsn = replay.lsn.unwrap_or(1);
        let groups = replay.finish(|reason| LogOpenError::Damaged {
            path: self.disk.path(manifest::NAME),
            offset: 0,
            reason,
        })?;
        let recovered = Recovered {
            manifest,
            manifest_file,
            segments,
            free,
            next_slot,
            groups,
            tail,
            lsn,
        };
        Ok(recovered)
    }

    /// The segments that are needed, by sequence, with their files.
    fn sequences(&self, manifest: &Manifest) -> Result<BTreeMap<u64, u64>, LogOpenError> {
        let mut sequences = BTreeMap::new();
        for (number, slot) in &self.slots {
            let Ok(head) = slot.head else { continue };
            if head.seal.nonce != manifest.nonce || head.seal.sequence < manifest.oldest {
                continue;
            }
            if sequences.insert(head.seal.sequence, *number).is_some() {
                let name = slot_name(*number);
                return Err(self.damaged(&name, 0, "two segments have the same sequence"));
            }
        }
        let highest = sequences
            .keys()
            .next_back()
            .copied()
            .unwrap_or(0)
            .max(manifest.highest);
        for sequence in manifest.oldest..=highest {
            if sequences.contains_key(&sequence) {
                continue;
            }
            let seal = Seal {
                nonce: manifest.nonce,
                sequence,
            };
            // A damaged head in front of good frames?
            for (number, slot) in &self.slots {
                if slot.head.is_err() && self.any_frame(*number, slot, seal)? {
                    let name = slot_name(*number);
                    return Err(self.damaged(&name, 0, "the head of the segment is damaged"));
                }
            }
            let name = slot_name(manifest.slot);
            let Some(slot) = self.slots.get(&manifest.slot) else {
                return Err(LogOpenError::Missing {
                    path: self.disk.path(&name),
                });
            };
            if sequence != manifest.highest {
                let missing = format!("segment number {sequence}");
                return Err(LogOpenError::Missing {
                    path: self.disk.path(&missing),
                });
            }
            if slot.length < manifest.slot_length {
                return Err(self.damaged(&name, HEAD, "the file is shorter than it was made"));
            }
            // The power failed between the manifest and the first write to the segment.
        }
        Ok(sequences)
    }

    /// Reads a file into the memory of `buffer`: fresh memory costs more than the reading.
    fn read_file(&self, number: u64, slot: &Slot, buffer: Vec<u8>) -> Result<Bytes, LogOpenError> {
        let name = slot_name(number);
        let mut bytes = buffer;
        bytes.resize(usize::try_from(slot.length).unwrap_or(usize::MAX), 0);
        slot.file
            .read_at(0, &mut bytes)
            .map_err(io_error(self.disk, "read", &name))?;
        Ok(Bytes::from(bytes))
    }

    fn any_frame(&self, number: u64, slot: &Slot, seal: Seal) -> Result<bool, LogOpenError> {
        let bytes = self.read_file(number, slot, Vec::new())?;
        Ok(later_frame(&bytes, HEAD.min(bytes.len()), seal, 0).is_some())
    }

    /// Replays a segment; returns where its valid part ends.
    fn read_segment(
        &self,
        replay: &mut Replay,
        number: u64,
        slot: &Slot,
        last: bool,
        buffer: &mut Vec<u8>,
    ) -> Result<usize, LogOpenError> {
        let name = slot_name(number);
        let Ok(head) = slot.head else { return Ok(HEAD) };
        if slot.length < head.length {
            let end = usize::try_from(slot.length).unwrap_or(usize::MAX);
            return Err(self.damaged(&name, end, "the file is shorter than it was made"));
        }
        let mut lsn = *replay.lsn.get_or_insert(head.lsn);
        if head.lsn != lsn {
            let reason = format!("the segment begins with record {}, not {lsn}", head.lsn);
            return Err(self.damaged(&name, 0, reason));
        }
        let bytes = self.read_file(number, slot, std::mem::take(buffer))?;
        let mut at = HEAD;
        while let Some(frame) = frame::read(&bytes.slice(at.min(bytes.len())..), head.seal) {
            if frame.lsn != lsn {
                let reason = format!("record {} where {lsn} should be", frame.lsn);
                return Err(self.damaged(&name, at, reason));
            }
            if frame.mark {
                break;
            }
            replay
                .frame(&frame, head.seal.sequence, at + frame::HEADER)
                .map_err(|reason| self.damaged(&name, at, reason))?;
            lsn += frame.count;
            at += frame.length.next_multiple_of(head.block);
        }
        replay.lsn = Some(lsn);
        if last && let Some(found) = later_frame(&bytes, at + BLOCK_MIN, head.seal, lsn) {
            let reason = format!("record {lsn} is damaged, records after it are at offset {found}");
            return Err(self.damaged(&name, at, reason));
        }
        *buffer = bytes.try_into_mut().map(Vec::from).unwrap_or_default();
        Ok(at)
    }
}

/// The first valid frame at or after `from` with records numbered `lsn` and up, or a mark that
/// shows that there were such records.
fn later_frame(bytes: &Bytes, from: usize, seal: Seal, lsn: u64) -> Option<usize> {
    let mut at = from.next_multiple_of(BLOCK_MIN);
    while at < bytes.len() {
        if frame::looks_like_frame(bytes.get(at..).unwrap_or_default())
            && let Some(frame) = frame::read(&bytes.slice(at..), seal)
            && frame.lsn >= lsn
        {
            return Some(at);
        }
        at += BLOCK_MIN;
    }
    None
}

/// The groups as the records read so far describe them.
struct Replay {
    groups: BTreeMap<GroupId, RecoveredGroup>,
    lsn: Option<u64>,
    /// Bytes of the entries of the segment that is being read.
    entry_bytes: u64,
}

impl Replay {
    fn frame(&mut self, frame: &frame::Frame, segment: u64, start: usize) -> Result<(), String> {
        let mut body = frame.body.clone();
        let mut count = 0;
        while !body.is_empty() {
            let at = start + frame.body.len() - body.len();
            let (group, record, length) =
                record::take(&mut body).map_err(|error| error.to_string())?;
            let offset = u32::try_from(at).map_err(|_| "offset out of range".to_owned())?;
            let length = u32::try_from(length).map_err(|_| "length out of range".to_owned())?;
            self.record(
                group,
                record,
                Location {
                    segment,
                    offset,
                    length,
                },
            )?;
            count += 1;
        }
        if count == frame.count {
            Ok(())
        } else {
            Err(format!("{count} records where {} should be", frame.count))
        }
    }

    fn record(&mut self, id: GroupId, record: Record, at: Location) -> Result<(), String> {
        if let Record::Group(meta) = record {
            self.groups.entry(id).or_default().meta = meta;
            return Ok(());
        }
        if matches!(record, Record::Remove) {
            self.groups.remove(&id);
            return Ok(());
        }
        let group = self
            .groups
            .get_mut(&id)
            .ok_or_else(|| format!("record of unknown group {id}"))?;
        match record {
            Record::Entry(entry) => {
                self.entry_bytes += u64::from(at.length);
                group
                    .entries
                    .insert(entry.position.index, (entry.position.term, at));
            }
            Record::Vote(vote) => group.meta.vote = Some(vote),
            Record::Truncate(keep) => {
                group.entries.split_off(&keep.saturating_add(1));
            }
            Record::Purge(upto) => {
                if group
                    .meta
                    .purged
                    .is_none_or(|purged| purged.index < upto.index)
                {
                    group.meta.purged = Some(upto);
                }
            }
            Record::Expect(position) => group.meta.expected = Some(position),
            Record::Group(_) | Record::Remove => {}
        }
        Ok(())
    }

    /// Drops what is purged and checks that the rest has no hole.
    fn finish(
        mut self,
        damaged: impl Fn(String) -> LogOpenError,
    ) -> Result<BTreeMap<GroupId, RecoveredGroup>, LogOpenError> {
        for (id, group) in &mut self.groups {
            let purged = group.meta.purged.map_or(0, |position| position.index);
            group.entries = group.entries.split_off(&(purged + 1));
            for (expected, found) in (purged + 1..).zip(group.entries.keys()) {
                if *found != expected {
                    return Err(damaged(format!(
                        "the log of group {id} lacks entries {expected} to {}",
                        found - 1
                    )));
                }
            }
        }
        Ok(self.groups)
    }
}

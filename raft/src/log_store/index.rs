//! What one group's log holds, in memory: where each entry lies, and the newest entries
//! themselves.

use std::collections::{BTreeMap, VecDeque};

use super::engine::LogState;
use super::record::{GroupMeta, entry_length};
use crate::ids::LogPosition;
use crate::state_machine::{Entry, EntryPayload, StorageError};

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Location {
    /// Sequence of the segment.
    pub(super) segment: u64,
    /// Offset of the record's length field in the file.
    pub(super) offset: u32,
    /// Bytes of the record.
    pub(super) length: u32,
}

/// Bytes that are no longer needed, by segment.
pub(super) type Dropped = BTreeMap<u64, u64>;

/// One entry.
struct Slot {
    term: u64,
    length: u32,
    /// `None` until it has been synced.
    location: Option<Location>,
    /// `None` once it was dropped from memory; it has a location then.
    payload: Option<EntryPayload>,
}

/// An entry, or where to read it.
pub(super) enum Found {
    Memory(Entry),
    Disk(LogPosition, Location),
}

/// The log of one group.
pub(super) struct GroupIndex {
    pub(super) meta: GroupMeta,
    pub(super) removed: bool,
    /// Index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// Bytes of all entries.
    bytes: u64,
    /// Bytes of the payloads in memory.
    cached: usize,
    /// No payload below this index is in memory.
    cached_from: u64,
    /// openraft's test suite begins logs in the middle.
    #[cfg(test)]
    pub(super) begin_anywhere: bool,
}

impl GroupIndex {
    pub(super) fn new(meta: GroupMeta) -> Self {
        let first = meta.purged.map_or(0, |position| position.index) + 1;
        let slots = VecDeque::new();
        Self {
            meta,
            removed: false,
            first,
            slots,
            bytes: 0,
            cached: 0,
            cached_from: first,
            #[cfg(test)]
            begin_anywhere: false,
        }
    }

    /// An index of entries read back from disk: contiguous, beginning after `meta.purged`.
    pub(super) fn recovered(meta: GroupMeta, entries: BTreeMap<u64, (u64, Location)>) -> Self {
        let mut index = Self::new(meta);
        index.slots = entries
            .into_values()
            .map(|(term, location)| Slot {
                term,
                length: location.length,
                location: Some(location),
                payload: None,
            })
            .collect();
        index.bytes = index.slots.iter().map(|slot| u64::from(slot.length)).sum();
        index.cached_from = index.end();
        index
    }

    /// One past the last index.
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots
            .get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        self.slots
            .get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    pub(super) fn state(&self) -> LogState {
        let GroupMeta {
            vote,
            purged,
            expected,
            ..
        } = self.meta;
        let last = self.slots.back().map_or(purged, |slot| {
            Some(LogPosition {
                term: slot.term,
                index: self.end() - 1,
            })
        });
        LogState {
            vote,
            snapshot_expected: expected,
            purged,
            last,
        }
    }

    pub(super) fn position(&self, index: u64) -> Option<LogPosition> {
        if let Some(purged) = self.meta.purged.filter(|purged| purged.index == index) {
            return Some(purged);
        }
        self.slot(index).map(|slot| LogPosition {
            term: slot.term,
            index,
        })
    }

    /// Takes new entries; they can be read from now on.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), StorageError> {
        #[cfg(test)]
        if self.begin_anywhere && self.slots.is_empty() && self.meta.purged.is_none() {
            self.first = entries.first().map_or(1, |entry| entry.position.index);
        }
        for (expected, entry) in (self.end()..).zip(entries) {
            if entry.position.index != expected {
                return Err(StorageError::new(format!(
                    "raft log entry {} does not follow the last one, {}",
                    entry.position,
                    expected - 1
                )));
            }
        }
        for entry in entries {
            let length = entry_length(entry);
            self.cached += length;
            self.bytes += length as u64;
            self.slots.push_back(Slot {
                term: entry.position.term,
                length: u32::try_from(length).unwrap_or(u32::MAX),
                location: None,
                payload: Some(entry.payload.clone()),
            });
        }
        Ok(())
    }

    /// Drops entries above `keep`.
    pub(super) fn truncate(&mut self, keep: u64) -> Dropped {
        let mut dropped = Dropped::new();
        while self.end() > self.first && self.end() - 1 > keep {
            if let Some(slot) = self.slots.pop_back() {
                self.forget(&slot, &mut dropped);
            }
        }
        self.cached_from = self.cached_from.min(self.end());
        dropped
    }

    /// Drops entries up to `upto`; the log begins after it even when it was shorter.
    pub(super) fn purge(&mut self, upto: LogPosition) -> Dropped {
        let mut dropped = Dropped::new();
        if self
            .meta
            .purged
            .is_some_and(|purged| purged.index >= upto.index)
        {
            return dropped;
        }
        while self.first <= upto.index {
            let Some(slot) = self.slots.pop_front() else {
                break;
            };
            self.first += 1;
            self.forget(&slot, &mut dropped);
        }
        self.first = upto.index + 1;
        self.cached_from = self.cached_from.max(self.first);
        self.meta.purged = Some(upto);
        dropped
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) -> Dropped {
        self.removed = true;
        self.truncate(0)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first of the newest entries that together take at most `bytes`.
    pub(super) fn newest(&self, bytes: u64) -> u64 {
        let mut left = bytes;
        let mut first = self.end();
        for slot in self.slots.iter().rev() {
            let Some(rest) = left.checked_sub(u64::from(slot.length)) else {
                break;
            };
            left = rest;
            first -= 1;
        }
        first
    }

    fn forget(&mut self, slot: &Slot, dropped: &mut Dropped) {
        self.bytes = self.bytes.saturating_sub(u64::from(slot.length));
        if slot.payload.is_some() {
            self.cached = self.cached.saturating_sub(slot.length as usize);
        }
        if let Some(location) = slot.location {
            *dropped.entry(location.segment).or_default() += u64::from(location.length);
        }
    }

    /// Notes where an entry lies now. `Err` when the log no longer holds it; else where it lay
    /// before.
    pub(super) fn place(
        &mut self,
        position: LogPosition,
        location: Location,
    ) -> Result<Option<Location>, ()> {
        match self.slot_mut(position.index) {
            Some(slot) if slot.term == position.term => Ok(slot.location.replace(location)),
            _ => Err(()),
        }
    }

    /// Drops the oldest payloads from memory until those left fit `budget`, or are not on disk yet.
    pub(super) fn evict(&mut self, budget: usize) {
        while self.cached > budget && self.cached_from < self.end() {
            let index = self.cached_from;
            let Some(slot) = self.slot_mut(index) else {
                return;
            };
            if slot.location.is_none() {
                return;
            }
            let length = slot.length as usize;
            if slot.payload.take().is_some() {
                self.cached = self.cached.saturating_sub(length);
            }
            self.cached_from += 1;
        }
    }

    /// Entries `from..to` as far as the log holds them, stopping early after `bytes_max`.
    pub(super) fn find(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Found> {
        let mut found = Vec::new();
        let mut bytes = 0_usize;
        for index in from.max(self.first)..to.min(self.end()) {
            let Some(slot) = self.slot(index) else { break };
            bytes = bytes.saturating_add(slot.length as usize);
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            let position = LogPosition {
                term: slot.term,
                index,
            };
            match (&slot.payload, slot.location) {
                (Some(payload), _) => {
                    found.push(Found::Memory(Entry {
                        position,
                        payload: payload.clone(),
                    }));
                }
                (None, Some(location)) => found.push(Found::Disk(position, location)),
                (None, None) => {
                    debug_assert!(false, "an entry is neither in memory nor on disk");
                    break;
                }
            }
        }
        found
    }

    /// Entries that lie in a segment.
    pub(super) fn in_segment(&self, segment: u64) -> Vec<Found> {
        let mut found = Vec::new();
        for (index, slot) in (self.first..).zip(&self.slots) {
            let Some(location) = slot.location.filter(|at| at.segment == segment) else {
                continue;
            };
            let position = LogPosition {
                term: slot.term,
                index,
            };
            found.push(match &slot.payload {
                Some(payload) => Found::Memory(Entry {
                    position,
                    payload: payload.clone(),
                }),
                None => Found::Disk(position, location),
            });
        }
        found
    }

    /// Bytes of live entries by segment.
    pub(super) fn live(&self) -> Dropped {
        let mut live = Dropped::new();
        for location in self.slots.iter().filter_map(|slot| slot.location) {
            *live.entry(location.segment).or_default() += u64::from(location.length);
        }
        live
    }
}

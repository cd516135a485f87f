//! [`RangeMachine`]: applies log entries to the engine.
//!
//! Deterministic: what an entry does depends on the entry and on what was applied before. Replies
//! that refuse an entry are part of that. An entry that cannot be read, or a failure of the engine,
//! stops the replica.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pontoon_raft::{
    AppliedState, Entry, EntryPayload, LogPosition, Membership, SnapshotSource, SpooledSnapshot,
    StateMachine, StorageError,
};

use crate::error::Error;
use crate::keys::{self, meta};
use crate::mvcc::{self, Header, Intent};
use crate::range::command::{Absorb, Body, Command, Outcome, RecordChange, Split};
use crate::range::descriptor::Descriptor;
use crate::range::state::{News, RangeState, encode_applied, read_applied};
use crate::range::{install, snapshot};
use crate::storage::{Space, WriteBatch};
use crate::timestamp::Timestamp;
use crate::txn::Span;

/// What became of a range that was frozen, as stored: it is a part of the one before it, or will
/// never be.
pub(super) const ABSORBED: Bytes = Bytes::from_static(b"a");
const RENOUNCED: Bytes = Bytes::from_static(b"r");

/// The state machine of a replica.
pub struct RangeMachine {
    state: Arc<RangeState>,
}

/// What a run of entries changes.
struct Effects {
    batch: WriteBatch,
    /// Keys written so far; kept only when there are several commands.
    staged: Option<BTreeMap<Bytes, Bytes>>,
    window: u64,
    announced: u64,
    safe_point: u64,
    /// Commands that change what is known in memory of keys, in order; with the timestamp of the
    /// versions that they write, if they do.
    noted: Vec<(Option<Timestamp>, Command)>,
    /// Latches to release.
    requests: Vec<(u64, u64)>,
    /// The descriptor after what is staged, when that has changed it, and the ranges split off.
    descriptor: Option<Descriptor>,
    children: Vec<Descriptor>,
    /// The ranges that have become parts of this one, in order.
    absorbed: Vec<Descriptor>,
    /// The membership as of what is staged.
    membership: Bytes,
}

pub(crate) fn storage_error(error: Error) -> StorageError {
    StorageError::new(error.to_string())
}

impl RangeMachine {
    /// The state machine over a state. Reads again from the engine what is applied.
    ///
    /// # Errors
    /// Also when the replica was being replaced by a snapshot, and a failure of the disk has left it
    /// half done: that is finished when the store is opened.
    pub fn new(state: Arc<RangeState>) -> Result<Self, StorageError> {
        if install::is_half_done(&*state.engine, state.range).map_err(storage_error)? {
            return Err(StorageError::new(format!(
                "range {} is half replaced by a snapshot: restart the node",
                state.range
            )));
        }
        let applied = read_applied(&*state.engine, state.range).map_err(storage_error)?;
        *state.applied.lock() = applied;
        Ok(Self { state })
    }

    fn apply_command(
        &self,
        position: LogPosition,
        bytes: &Bytes,
        effects: &mut Effects,
    ) -> Result<Outcome, StorageError> {
        let command = Command::decode(bytes.clone()).map_err(|_| {
            StorageError::new(format!(
                "entry {position} of range {} cannot be read: the node is older than the entry, \
                 or the log is damaged",
                self.state.range
            ))
        })?;
        let (term, request) = (command.term, command.request);
        if request != 0 {
            effects.requests.push((term, request));
        }
        let outcome = self.stage_command(position, command, effects)?;
        if outcome != Outcome::Applied
            && request != 0
            && self.state.latches.is_acknowledged(term, request)
        {
            return Err(StorageError::new(format!(
                "Invariant: entry {position} of range {}, refused with {outcome:?}, is a commit that \
                 was acknowledged",
                self.state.range
            )));
        }
        Ok(outcome)
    }

    fn stage_command(
        &self,
        position: LogPosition,
        command: Command,
        effects: &mut Effects,
    ) -> Result<Outcome, StorageError> {
        #[cfg(test)]
        let checks = !self.state.skip_terms.load(Ordering::Relaxed);
        #[cfg(not(test))]
        let checks = true;
        if checks && command.term != position.term {
            return Ok(Outcome::OtherTerm);
        }
        {
            let current = self.state.descriptor.read();
            let descriptor = effects.descriptor.as_ref().unwrap_or(&current);
            #[cfg(test)]
            let checks = !self.state.skip_bounds.load(Ordering::Relaxed);
            #[cfg(not(test))]
            let checks = true;
            if checks
                && (command.generation != descriptor.generation
                    || !lies_in(&command.body, &descriptor.span))
            {
                return Ok(Outcome::OtherBounds);
            }
            // Invariant: nothing is written to a range after it was frozen, until it is thawed.
            if descriptor.frozen.is_some() && command.body != Body::Thaw {
                return Ok(Outcome::OtherBounds);
            }
        }
        match &command.body {
            Body::Commit(writes) => {
                let commit = self.stage_writes(writes, effects)?;
                effects.noted.push((commit, command));
            }
            Body::Prewrite(prewrite) => {
                for (key, value) in &prewrite.intents {
                    let stored =
                        Intent::encode(prewrite.start, &prewrite.primary, value.as_deref());
                    effects.batch.put(Space::Meta, meta::intent(key), stored);
                }
                effects.noted.push((None, command));
            }
            Body::Resolve(resolve) => {
                let commit = self.stage_writes(&resolve.writes, effects)?;
                for key in resolve.keys() {
                    effects.batch.remove(Space::Meta, meta::intent(key));
                }
                let record = meta::record(&resolve.primary, resolve.start);
                match &resolve.record {
                    RecordChange::Stays => {}
                    RecordChange::Put(stored) => {
                        effects.batch.put(Space::Meta, record, stored.clone());
                    }
                    RecordChange::Removed => effects.batch.remove(Space::Meta, record),
                }
                effects.noted.push((commit, command));
            }
            Body::Split(split) => self.stage_split(split, effects),
            Body::Freeze(frozen) => self.stage_bounds(effects, |bounds| {
                bounds.frozen = Some(frozen.clone());
            }),
            Body::Thaw => self.stage_bounds(effects, |bounds| bounds.frozen = None),
            Body::Absorb(absorb) => return self.stage_absorb(absorb, effects),
            Body::Renounce(renounce) => {
                let fate = meta::fate(&renounce.start, renounce.right, renounce.generation);
                effects.batch.put(Space::Meta, fate, RENOUNCED);
            }
            Body::Window(bound) => effects.window = effects.window.max(*bound),
            Body::Announced(at) => effects.announced = effects.announced.max(at.0),
            Body::SafePoint(at) => effects.safe_point = effects.safe_point.max(at.0),
        }
        Ok(Outcome::Applied)
    }

    /// Adds new versions to the batch; returns their timestamp, if there are some.
    fn stage_writes(
        &self,
        writes: &[mvcc::Write],
        effects: &mut Effects,
    ) -> Result<Option<Timestamp>, StorageError> {
        let engine = &*self.state.engine;
        let bytes = writes
            .iter()
            .map(|write| write.key.len() + write.stored.len());
        let bytes = bytes.sum::<usize>() as u64;
        self.state.written.fetch_add(bytes, Ordering::Relaxed);
        for write in writes {
            mvcc::stage(engine, write, effects.staged.as_mut(), &mut effects.batch)
                .map_err(storage_error)?;
        }
        let first = writes.first().map(|first| Header::decode(&first.stored));
        let first = first.transpose().map_err(storage_error)?;
        Ok(first.map(|header| header.commit))
    }

    /// Parts the range: the keys from `split.key` on go to a new one, which begins with this one's
    /// members, and with its data, which stays where it is.
    fn stage_split(&self, split: &Split, effects: &mut Effects) {
        let mut parent = match effects.descriptor.take() {
            Some(descriptor) => descriptor,
            None => self.state.descriptor(),
        };
        let generation = parent.generation + 1;
        let child = Descriptor {
            range: split.child,
            generation,
            span: Span {
                start: split.key.clone(),
                end: std::mem::replace(&mut parent.span.end, split.key.clone()),
            },
            frozen: None,
        };
        parent.generation = generation;
        let batch = &mut effects.batch;
        for descriptor in [&parent, &child] {
            let key = meta::descriptor(descriptor.range);
            batch.put(Space::Meta, key, descriptor.encode());
        }
        batch.put(
            Space::Meta,
            meta::founders(child.range),
            effects.membership.clone(),
        );
        let safe_point = Bytes::copy_from_slice(&effects.safe_point.to_be_bytes());
        batch.put(Space::Meta, meta::safe_point(child.range), safe_point);
        effects.descriptor = Some(parent);
        effects.children.push(child);
    }

    /// Changes the descriptor, with the next generation.
    fn stage_bounds(&self, effects: &mut Effects, change: impl FnOnce(&mut Descriptor)) {
        let mut descriptor = match effects.descriptor.take() {
            Some(descriptor) => descriptor,
            None => self.state.descriptor(),
        };
        descriptor.generation += 1;
        change(&mut descriptor);
        let key = meta::descriptor(descriptor.range);
        effects.batch.put(Space::Meta, key, descriptor.encode());
        effects.descriptor = Some(descriptor);
    }

    /// Takes the range behind this one in: its keys, whose rows stay where they are, and all that
    /// the store knows of the other as a range.
    ///
    /// Invariant: the other range is here, frozen, and has applied all that it ever will. It was
    /// durably so on the nodes of all members before the entry was proposed, and the members are
    /// the same yet; whoever joined later began with a snapshot from behind it.
    fn stage_absorb(
        &self,
        absorb: &Absorb,
        effects: &mut Effects,
    ) -> Result<Outcome, StorageError> {
        let membership = Membership::decode(&effects.membership)
            .map_err(|_| StorageError::new("the members of a range are damaged in the store"))?;
        let end = match &effects.descriptor {
            Some(descriptor) => descriptor.span.end.clone(),
            None => self.state.descriptor.read().span.end.clone(),
        };
        let right = &absorb.right;
        if membership.position != Some(absorb.membership) || right.span.start != end {
            return Ok(Outcome::OtherBounds);
        }
        let key = meta::descriptor(right.range);
        let stored = self.state.engine.get(Space::Meta, &key);
        let stored = stored.map_err(storage_error)?;
        #[cfg(test)]
        let checks = !self.state.skip_freeze.load(Ordering::Relaxed);
        #[cfg(not(test))]
        let checks = true;
        if checks && stored.as_ref() != Some(&right.encode()) {
            return Err(StorageError::new(format!(
                "Invariant: range {} is to absorb range {}, which is not here as it was frozen",
                self.state.range, right.range
            )));
        }
        let fate = meta::fate(&self.start_of(effects), right.range, right.generation);
        let generation = right.generation;
        self.stage_bounds(effects, |bounds| {
            bounds.generation = bounds.generation.max(generation + 1);
            bounds.span.end = right.span.end.clone();
        });
        effects.batch.put(Space::Meta, fate, ABSORBED);
        install::stage_absorbed(right.range, &mut effects.batch);
        effects.safe_point = effects.safe_point.max(absorb.safe_point.0);
        self.state.bytes.fetch_add(absorb.bytes, Ordering::Relaxed);
        effects.absorbed.push(right.clone());
        Ok(Outcome::Applied)
    }

    /// The first key of the range.
    fn start_of(&self, effects: &Effects) -> Bytes {
        match &effects.descriptor {
            Some(descriptor) => descriptor.span.start.clone(),
            None => self.state.descriptor.read().span.start.clone(),
        }
    }

    /// Makes the effects visible, in the order that readers and validators rely on: the data, the
    /// memory of recent writes, the watches and the intents, and only then the end of the latches.
    fn publish(
        &self,
        effects: Effects,
        applied: AppliedState,
        term: u64,
    ) -> Result<(), StorageError> {
        let state = &self.state;
        state.window.store(effects.window, Ordering::Release);
        state.announced.store(effects.announced, Ordering::Release);
        state
            .safe_point
            .store(effects.safe_point, Ordering::Release);
        #[cfg_attr(not(test), expect(unused_mut, reason = "a planted fault changes it"))]
        let mut watched = true;
        for (commit, command) in &effects.noted {
            let (writes, start) = match &command.body {
                Body::Commit(writes) => (writes, None),
                Body::Resolve(resolve) => (&resolve.writes, Some(resolve.start)),
                Body::Prewrite(prewrite) => {
                    let keys = prewrite.intents.iter().map(|(key, _)| key);
                    state.intents.add(prewrite.start, &prewrite.primary, keys);
                    continue;
                }
                _ => continue,
            };
            if let Some(commit) = commit {
                let keys = writes.iter().map(|write| &write.key);
                state.recent.lock().note(*commit, keys.clone());
                if watched {
                    state.watches.note(*commit, keys.clone());
                }
                // All keys of a command lie in one range.
                let mut metadata = keys.take_while(|key| &key[..] < keys::USER_MIN);
                if metadata.any(|key| keys::is_watched(key)) {
                    state.stir();
                }
                #[cfg(test)]
                {
                    watched = !state.skip_notes.load(Ordering::Relaxed);
                }
            }
            if let (Some(start), Body::Resolve(resolve)) = (start, &command.body) {
                state.intents.remove(start, resolve.keys());
                match &resolve.record {
                    RecordChange::Stays => {}
                    RecordChange::Put(_) => {
                        state.records.fetch_add(1, Ordering::AcqRel);
                    }
                    RecordChange::Removed => {
                        state.records.fetch_sub(1, Ordering::AcqRel);
                    }
                }
            }
        }
        if let Some(descriptor) = effects.descriptor {
            let reshaped = match effects.absorbed.last() {
                Some(last) => state.widen(descriptor, last.span.end.clone()),
                None => state.narrow(descriptor),
            };
            reshaped.map_err(storage_error)?;
            for absorbed in effects.absorbed {
                state.tell(News::Absorbed(absorbed.range));
            }
            for child in effects.children {
                state.tell(News::Child(child));
            }
        }
        state.changes.fetch_add(1, Ordering::AcqRel);
        *state.applied.lock() = applied;
        for (term, request) in effects.requests {
            state.latches.complete(term, request);
        }
        state.latches.complete_before(term);
        Ok(())
    }
}

/// Whether all keys that a command is about lie in the span.
fn lies_in(body: &Body, span: &Span) -> bool {
    match body {
        Body::Commit(writes) => writes.iter().all(|write| span.contains(&write.key)),
        Body::Window(_)
        | Body::Announced(_)
        | Body::SafePoint(_)
        | Body::Freeze(_)
        | Body::Thaw
        // By itself.
        | Body::Absorb(_) => true,
        Body::Renounce(renounce) => span.contains(&renounce.start),
        Body::Prewrite(prewrite) => prewrite.intents.iter().all(|(key, _)| span.contains(key)),
        Body::Split(split) => span.contains(&split.key) && span.start < split.key,
        Body::Resolve(resolve) => {
            let decided = resolve.record == RecordChange::Stays || span.contains(&resolve.primary);
            decided && resolve.keys().all(|key| span.contains(key))
        }
    }
}

impl StateMachine for RangeMachine {
    fn applied(&self) -> Result<AppliedState, StorageError> {
        Ok(self.state.applied())
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<Vec<Bytes>, StorageError> {
        let Some(last) = entries.last() else {
            return Ok(Vec::new());
        };
        let state = Arc::clone(&self.state);
        if !state.is_placed() {
            return Err(StorageError::new(format!(
                "Invariant: range {} is given entries before the snapshot that it begins with",
                state.range
            )));
        }
        let gate = state.writes.lock();
        let mut applied = state.applied();
        let mut effects = Effects {
            batch: WriteBatch::default(),
            staged: (entries.len() > 1).then(BTreeMap::new),
            window: state.window.load(Ordering::Acquire),
            announced: state.announced.load(Ordering::Acquire),
            safe_point: state.safe_point.load(Ordering::Acquire),
            noted: Vec::new(),
            requests: Vec::new(),
            descriptor: None,
            children: Vec::new(),
            absorbed: Vec::new(),
            membership: applied.membership.clone(),
        };
        let (window, safe_point) = (effects.window, effects.safe_point);
        let announced = effects.announced;
        let mut replies = Vec::with_capacity(entries.len());
        for entry in entries {
            debug_assert!(
                applied
                    .position
                    .is_none_or(|at| at.index < entry.position.index),
                "Invariant: entries are applied once and in order"
            );
            applied.position = Some(entry.position);
            replies.push(match &entry.payload {
                EntryPayload::Blank => Bytes::new(),
                EntryPayload::Membership(membership) => {
                    applied.membership = membership.clone();
                    effects.membership = membership.clone();
                    Bytes::new()
                }
                EntryPayload::Command(bytes) => self
                    .apply_command(entry.position, bytes, &mut effects)?
                    .encode(),
            });
        }
        let number = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
        if effects.window != window {
            effects.batch.put(
                Space::Meta,
                meta::window(state.range),
                number(effects.window),
            );
        }
        if effects.announced != announced {
            let key = meta::announced(state.range);
            effects
                .batch
                .put(Space::Meta, key, number(effects.announced));
        }
        if effects.safe_point != safe_point {
            let key = meta::safe_point(state.range);
            effects
                .batch
                .put(Space::Meta, key, number(effects.safe_point));
        }
        let key = meta::applied(state.range);
        effects
            .batch
            .put(Space::Meta, key, encode_applied(&applied));
        state
            .engine
            .write(std::mem::take(&mut effects.batch))
            .map_err(storage_error)?;
        drop(gate);
        self.publish(effects, applied, last.position.term)?;
        Ok(replies)
    }

    fn durable_applied(&self) -> Option<LogPosition> {
        *self.state.durable.lock()
    }

    fn write_snapshot(
        &self,
        sink: &mut dyn FnMut(Bytes) -> Result<(), StorageError>,
    ) -> Result<AppliedState, StorageError> {
        let source = snapshot::open(&self.state).map_err(storage_error)?;
        let state = source.state();
        Box::new(source).write(sink)?;
        Ok(state)
    }

    fn open_snapshot(&self) -> Result<Box<dyn SnapshotSource>, StorageError> {
        Ok(Box::new(
            snapshot::open(&self.state).map_err(storage_error)?,
        ))
    }

    fn install_snapshot(
        &mut self,
        applied: AppliedState,
        pieces: &mut dyn SpooledSnapshot,
    ) -> Result<(), StorageError> {
        install::install(&self.state, applied, pieces)
    }
}

//! A replica's whole state as bytes, for a peer that is too far behind.
//!
//! ```text
//! descriptor ‖ window (8) ‖ safe point (8)        the first chunk
//! { space (1) ‖ key length (4) ‖ value length (4) ‖ key ‖ value }   the others
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pontoon_raft::{AppliedState, SnapshotSource, StorageError};

use crate::error::Error;
use crate::keys::meta;
use crate::mvcc::history_bound;
use crate::range::descriptor::Descriptor;
use crate::range::machine::storage_error;
use crate::range::state::{News, RangeState, count_records, decode_applied, encode_applied};
use crate::storage::{EngineSnapshot, Space, WriteBatch};
use crate::txn::Span;

/// Size of a chunk.
const CHUNK_BYTES: usize = 1 << 20;
const KV: u8 = 1;
const HISTORY: u8 = 2;
const INTENT: u8 = 3;
const RECORD: u8 = 4;
const FATE: u8 = 5;

/// A view of a replica at one applied position.
pub(super) struct View {
    snapshot: Box<dyn EngineSnapshot>,
    descriptor: Descriptor,
    window: u64,
    safe_point: u64,
    applied: AppliedState,
}

/// Opens a view. The applied position is read from the same snapshot as the data.
pub(super) fn open(state: &RangeState) -> Result<View, Error> {
    let snapshot = state.engine.snapshot();
    let number = |key: Vec<u8>| -> Result<u64, Error> {
        Ok(snapshot
            .get(Space::Meta, &key)?
            .and_then(|mut n| n.try_get_u64().ok())
            .unwrap_or(0))
    };
    let window = number(meta::window(state.range))?;
    let safe_point = number(meta::safe_point(state.range))?;
    let descriptor = match snapshot.get(Space::Meta, &meta::descriptor(state.range))? {
        Some(stored) => Descriptor::decode(&stored)?,
        None => state.descriptor(),
    };
    let applied = snapshot
        .get(Space::Meta, &meta::applied(state.range))?
        .and_then(decode_applied)
        .unwrap_or_default();
    Ok(View {
        snapshot,
        descriptor,
        window,
        safe_point,
        applied,
    })
}

/// The keyspaces of a range with their bounds.
pub(crate) fn spaces(span: &Span) -> [(Space, u8, Vec<u8>, Vec<u8>); 5] {
    [
        (Space::Kv, KV, span.start.to_vec(), span.end.to_vec()),
        (
            Space::History,
            HISTORY,
            history_bound(&span.start),
            history_bound(&span.end),
        ),
        (
            Space::Meta,
            INTENT,
            meta::intent(&span.start),
            meta::intent(&span.end),
        ),
        (
            Space::Meta,
            RECORD,
            meta::record_bound(&span.start),
            meta::record_bound(&span.end),
        ),
        (
            Space::Meta,
            FATE,
            meta::fate_bound(&span.start),
            meta::fate_bound(&span.end),
        ),
    ]
}

/// No replica of this number or a lower one is opened again: none of a range that was absorbed.
pub(crate) const NONE_EVER: u64 = u64::MAX;

/// Has the store forget a range that has become a part of another, and remember that it has. Its
/// rows are those of the other now, and stay.
pub(super) fn stage_absorbed(range: u64, batch: &mut WriteBatch) {
    for key in meta::of_replica(range) {
        batch.remove(Space::Meta, key);
    }
    let none = Bytes::copy_from_slice(&NONE_EVER.to_be_bytes());
    batch.put(Space::Meta, meta::closed(range), none);
}

/// The ranges in the store that a snapshot of `range` with these bounds shows to have become a part
/// of it: they are frozen for that, and begin within the bounds.
///
/// # Errors
/// When another range has keys within the bounds.
fn absorbed_by(
    snapshot: &dyn EngineSnapshot,
    of: &Descriptor,
) -> Result<Vec<Descriptor>, StorageError> {
    let (from, to) = meta::ranges();
    let mut rows = snapshot.scan(Space::Meta, from, to, false);
    let mut found = Vec::new();
    while let Some((key, stored)) = rows.next().map_err(storage_error)? {
        if !matches!(meta::of_range(&key), Some((range, meta::DESCRIPTOR)) if range != of.range) {
            continue;
        }
        let other = Descriptor::decode(&stored).map_err(storage_error)?;
        let frozen = other.frozen.as_ref();
        if frozen.is_some_and(|frozen| frozen.into == of.range)
            && of.span.contains(&other.span.start)
        {
            found.push(other);
        } else if other.span.common(&of.span).is_some() {
            return Err(StorageError::new(format!(
                "range {} was given keys that are held for range {} yet",
                of.range, other.range
            )));
        }
    }
    Ok(found)
}

impl SnapshotSource for View {
    fn state(&self) -> AppliedState {
        self.applied.clone()
    }

    fn write(
        self: Box<Self>,
        sink: &mut dyn FnMut(Bytes) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let descriptor = self.descriptor.encode();
        let mut head = BytesMut::with_capacity(descriptor.len() + 16);
        head.put_u64(self.window);
        head.put_u64(self.safe_point);
        head.extend_from_slice(&descriptor);
        sink(head.freeze())?;
        for (space, tag, start, end) in spaces(&self.descriptor.span) {
            let mut rows = self.snapshot.scan(space, &start, &end, false);
            loop {
                let mut chunk = BytesMut::with_capacity(CHUNK_BYTES / 8);
                let more = rows.for_each(&mut |key, value| {
                    chunk.put_u8(tag);
                    chunk.put_u32(u32::try_from(key.len()).unwrap_or(u32::MAX));
                    chunk.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
                    chunk.extend_from_slice(key);
                    chunk.extend_from_slice(value);
                    chunk.len() < CHUNK_BYTES
                });
                let more = more.map_err(storage_error)?;
                if !chunk.is_empty() {
                    sink(chunk.freeze())?;
                }
                if !more {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The bounds that a snapshot is of, from its first piece.
pub(crate) fn bounds(first: &Bytes) -> Option<Descriptor> {
    Descriptor::decode(first.get(16..)?).ok()
}

fn malformed() -> StorageError {
    StorageError::new("a snapshot received from a peer is malformed")
}

/// Replaces the state of a replica, in one batch and durably.
pub(super) fn install(
    state: &Arc<RangeState>,
    applied: AppliedState,
    source: &mut dyn FnMut() -> Result<Option<Bytes>, StorageError>,
) -> Result<(), StorageError> {
    let mut head = source()?.ok_or_else(malformed)?;
    let (window, safe_point) = match (head.try_get_u64(), head.try_get_u64()) {
        (Ok(window), Ok(safe_point)) => (window, safe_point),
        _ => return Err(malformed()),
    };
    let descriptor = Descriptor::decode(&head).map_err(|_| malformed())?;
    let _gate = state.writes.lock();
    let mut batch = WriteBatch::default();
    let old = state.engine.snapshot();
    let current = state.descriptor();
    if current.frozen.is_some() && current == descriptor {
        // Nothing was written to it since, and its rows may be another range's by now.
        while source()?.is_some() {}
        return install_position(state, batch, applied);
    }
    let absorbed = absorbed_by(&*old, &descriptor)?;
    // What a replica before this one may have left is cleared away too, and what it had before.
    let mut cleared = vec![descriptor.span.clone()];
    if state.is_placed() {
        cleared.extend(current.span.without(&descriptor.span));
    }
    cleared.extend(
        absorbed
            .iter()
            .flat_map(|other| other.span.without(&descriptor.span)),
    );
    for (space, _, start, end) in cleared.iter().flat_map(spaces) {
        let mut rows = old.scan(space, &start, &end, false);
        rows.for_each(&mut |key, _| {
            batch.remove(space, key.to_vec());
            true
        })
        .map_err(storage_error)?;
    }
    drop(old);
    for other in &absorbed {
        stage_absorbed(other.range, &mut batch);
    }
    while let Some(mut chunk) = source()? {
        while !chunk.is_empty() {
            if chunk.len() < 9 {
                return Err(malformed());
            }
            let space = match chunk.get_u8() {
                KV => Space::Kv,
                HISTORY => Space::History,
                INTENT | RECORD | FATE => Space::Meta,
                _ => return Err(malformed()),
            };
            let (key, value) = (chunk.get_u32() as usize, chunk.get_u32() as usize);
            if chunk.len() < key.saturating_add(value) {
                return Err(malformed());
            }
            let key = chunk.split_to(key);
            batch.put(space, key, chunk.split_to(value));
        }
    }
    let number = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
    batch.put(Space::Meta, meta::window(state.range), number(window));
    batch.put(
        Space::Meta,
        meta::safe_point(state.range),
        number(safe_point),
    );
    batch.put(
        Space::Meta,
        meta::descriptor(state.range),
        descriptor.encode(),
    );
    batch.put(
        Space::Meta,
        meta::applied(state.range),
        encode_applied(&applied),
    );
    state.engine.write(batch).map_err(storage_error)?;
    state.engine.persist().map_err(storage_error)?;
    state.set_durable(applied.position);
    for other in absorbed {
        state.tell(News::Absorbed(other.range));
    }
    state.window.store(window, Ordering::Release);
    state.safe_point.store(safe_point, Ordering::Release);
    state.recent.lock().forget();
    state.watches.forget();
    let loaded = state.intents.load(&*state.engine, &descriptor.span);
    loaded.map_err(storage_error)?;
    let records = count_records(&*state.engine, &descriptor.span).map_err(storage_error)?;
    state.records.store(records, Ordering::Release);
    *state.descriptor.write() = descriptor;
    state.changes.fetch_add(1, Ordering::AcqRel);
    let term = applied.position.map_or(0, |position| position.term);
    *state.applied.lock() = applied;
    state.latches.complete_before(term);
    state.tell(News::Placed(state.range));
    Ok(())
}

/// Notes that more is applied, where that has changed nothing else.
fn install_position(
    state: &RangeState,
    mut batch: WriteBatch,
    applied: AppliedState,
) -> Result<(), StorageError> {
    let key = meta::applied(state.range);
    batch.put(Space::Meta, key, encode_applied(&applied));
    state.engine.write(batch).map_err(storage_error)?;
    state.engine.persist().map_err(storage_error)?;
    state.set_durable(applied.position);
    let term = applied.position.map_or(0, |position| position.term);
    *state.applied.lock() = applied;
    state.latches.complete_before(term);
    Ok(())
}

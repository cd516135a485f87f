//! Replacing the state of a replica by a snapshot from a peer.
//!
//! A range is larger than what should be written in one batch, so its rows are written in parts, and
//! what a crash leaves half done is done again from the pieces, which are on disk by then:
//!
//! 1. the pieces are sealed, and a mark that names them is durable in the engine;
//! 2. rows from before are removed and those of the snapshot are written, in parts;
//! 3. one last batch says whose the rows are: bounds, applied position, what was absorbed. It takes
//!    the mark away.
//!
//! Invariant: nobody opens a replica that has a mark; [`finish`] does 2 and 3 first. Until 3 the
//! engine says of all ranges what it said before 1, so that 2 is the same when it is done again.
//!
//! Invariant: nobody reads rows between 1 and 3: a replica that is given a snapshot does not lead,
//! and whoever began to read while it led finds that its [`RangeState::replaced`] has changed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, BufMut, Bytes};
use pontoon_raft::{AppliedState, GroupId, SnapshotSpool, SpooledSnapshot, StorageError};

use crate::error::Error;
use crate::keys::meta;
use crate::range::descriptor::Descriptor;
use crate::range::machine::storage_error;
use crate::range::snapshot::{self, spaces};
use crate::range::state::{News, RangeState, count_records, decode_applied, encode_applied};
use crate::storage::{Engine, EngineSnapshot, Space, WriteBatch};
use crate::txn::Span;

/// Rows that are removed in one batch.
const REMOVED_AT_ONCE: usize = 4_096;

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

/// Removes all keys of a span with everything that hangs on them, in parts.
pub(crate) fn remove_rows(engine: &dyn Engine, span: &Span) -> Result<(), Error> {
    for (space, _, from, to) in spaces(span) {
        let snapshot = engine.snapshot();
        let mut rows = snapshot.scan(space, &from, &to, false);
        loop {
            let mut batch = WriteBatch::default();
            let more = rows.for_each(&mut |key, _| {
                batch.remove(space, key.to_vec());
                batch.len() < REMOVED_AT_ONCE
            })?;
            engine.write(batch)?;
            if !more {
                break;
            }
        }
    }
    Ok(())
}

/// Whether a replica was being replaced when something went wrong.
pub(super) fn is_half_done(engine: &dyn Engine, range: u64) -> Result<bool, Error> {
    let mark = engine.get(Space::Meta, &meta::installing(range))?;
    Ok(mark.is_some())
}

/// Does what was left half done when the node stopped, and removes the snapshots that nobody will
/// ask for. Before any replica is opened; blocks on the disk.
///
/// # Errors
/// [`Error::Storage`] when a snapshot is missing or damaged that a replica was being replaced by.
pub(crate) fn finish(engine: &dyn Engine, spool: &dyn SnapshotSpool) -> Result<(), Error> {
    let (from, to) = meta::ranges();
    let mut rows = engine.snapshot().scan(Space::Meta, from, to, false);
    while let Some((key, mark)) = rows.next()? {
        if let Some((range, meta::INSTALLING)) = meta::of_range(&key) {
            finish_one(engine, spool, range, mark).map_err(|error| Error::Storage {
                message: format!(
                    "range {range} was being replaced by a snapshot, which could not be finished: \
                     {error}; the store must not serve: check the disk, then restore the directory \
                     or replace the store"
                ),
            })?;
        }
    }
    spool.keep_only(&[]);
    Ok(())
}

fn finish_one(
    engine: &dyn Engine,
    spool: &dyn SnapshotSpool,
    range: u64,
    mut mark: Bytes,
) -> Result<(), StorageError> {
    let number = mark.try_get_u64().map_err(|_| snapshot::malformed())?;
    let applied = decode_applied(mark).ok_or_else(snapshot::malformed)?;
    let pieces = spool.find(GroupId(range), number)?;
    let mut pieces = pieces.ok_or_else(|| StorageError::new("its file is missing"))?;
    let head = Head::take(&mut *pieces, range)?;
    let absorbed = absorbed_by(&*engine.snapshot(), &head.descriptor)?;
    replace(engine, &head, &absorbed, &applied, &mut *pieces)?;
    pieces.discard();
    tracing::info!(range, "a snapshot that was half installed is installed");
    Ok(())
}

/// What a snapshot says of the range.
struct Head {
    descriptor: Descriptor,
    window: u64,
    announced: u64,
    safe_point: u64,
}

impl Head {
    fn take(pieces: &mut dyn SpooledSnapshot, range: u64) -> Result<Self, StorageError> {
        let mut first = pieces.next()?.ok_or_else(snapshot::malformed)?;
        let mut number = || first.try_get_u64().map_err(|_| snapshot::malformed());
        let (window, announced, safe_point) = (number()?, number()?, number()?);
        let descriptor = Descriptor::decode(&first).map_err(|_| snapshot::malformed())?;
        if descriptor.range != range {
            return Err(snapshot::malformed());
        }
        Ok(Self {
            descriptor,
            window,
            announced,
            safe_point,
        })
    }
}

/// Writes a snapshot over what the engine has of the range, and of those that became parts of it, and
/// makes it durable.
fn replace(
    engine: &dyn Engine,
    head: &Head,
    absorbed: &[Descriptor],
    applied: &AppliedState,
    pieces: &mut dyn SpooledSnapshot,
) -> Result<(), StorageError> {
    let Head { descriptor, .. } = head;
    let range = descriptor.range;
    // What a replica before this one may have left is cleared away too, and what it had before.
    let mut cleared = vec![descriptor.span.clone()];
    let stored = engine.get(Space::Meta, &meta::descriptor(range));
    if let Some(stored) = stored.map_err(storage_error)? {
        let current = Descriptor::decode(&stored).map_err(|_| snapshot::malformed())?;
        cleared.extend(current.span.without(&descriptor.span));
    }
    let others = absorbed.iter();
    cleared.extend(others.flat_map(|other| other.span.without(&descriptor.span)));
    for span in &cleared {
        remove_rows(engine, span).map_err(storage_error)?;
    }
    while let Some(piece) = pieces.next()? {
        let mut batch = WriteBatch::default();
        snapshot::read_rows(piece, &mut batch)?;
        engine.write(batch).map_err(storage_error)?;
    }
    let mut batch = WriteBatch::default();
    for other in absorbed {
        stage_absorbed(other.range, &mut batch);
    }
    let number = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
    batch.put(Space::Meta, meta::window(range), number(head.window));
    batch.put(Space::Meta, meta::announced(range), number(head.announced));
    batch.put(
        Space::Meta,
        meta::safe_point(range),
        number(head.safe_point),
    );
    batch.put(Space::Meta, meta::descriptor(range), descriptor.encode());
    batch.put(Space::Meta, meta::applied(range), encode_applied(applied));
    batch.remove(Space::Meta, meta::installing(range));
    engine.write(batch).map_err(storage_error)?;
    engine.persist().map_err(storage_error)
}

/// Replaces the state of a replica, durably.
pub(super) fn install(
    state: &Arc<RangeState>,
    applied: AppliedState,
    pieces: &mut dyn SpooledSnapshot,
) -> Result<(), StorageError> {
    let number = pieces.seal()?;
    let head = Head::take(pieces, state.range)?;
    let _gate = state.writes.lock();
    let current = state.descriptor();
    if current.frozen.is_some() && current == head.descriptor {
        // Nothing was written to it since, and its rows may be another range's by now.
        pieces.discard();
        return install_position(state, applied);
    }
    // Before it is marked: what cannot be installed leaves everything as it was.
    let absorbed = absorbed_by(&*state.engine.snapshot(), &head.descriptor)?;
    mark(state, number, &applied)?;
    // Before the first row changes.
    state.replaced.fetch_add(1, Ordering::SeqCst);
    replace(&*state.engine, &head, &absorbed, &applied, pieces)?;
    pieces.discard();
    for other in absorbed {
        state.tell(News::Absorbed(other.range));
    }
    take_over(state, head, applied)?;
    state.tell(News::Placed(state.range));
    Ok(())
}

/// Notes durably by what the replica is being replaced.
fn mark(state: &RangeState, number: u64, applied: &AppliedState) -> Result<(), StorageError> {
    let mut mark = Vec::with_capacity(64);
    mark.put_u64(number);
    mark.extend_from_slice(&encode_applied(applied));
    let mut batch = WriteBatch::default();
    batch.put(Space::Meta, meta::installing(state.range), mark);
    state.engine.write(batch).map_err(storage_error)?;
    state.engine.persist().map_err(storage_error)
}

/// Has the state in memory follow what the engine has now.
fn take_over(state: &RangeState, head: Head, applied: AppliedState) -> Result<(), StorageError> {
    let Head {
        descriptor,
        window,
        announced,
        safe_point,
    } = head;
    state.set_durable(applied.position);
    state.window.store(window, Ordering::Release);
    state.announced.store(announced, Ordering::Release);
    state.safe_point.store(safe_point, Ordering::Release);
    state.measured.store(false, Ordering::Relaxed);
    state.recent.lock().forget();
    state.watches.forget();
    let loaded = state.intents.load(&*state.engine, &descriptor.span);
    loaded.map_err(storage_error)?;
    let records = count_records(&*state.engine, &descriptor.span).map_err(storage_error)?;
    state.records.store(records, Ordering::Release);
    *state.descriptor.write() = descriptor;
    state.changes.fetch_add(1, Ordering::AcqRel);
    state.stir();
    let term = applied.position.map_or(0, |position| position.term);
    *state.applied.lock() = applied;
    state.latches.complete_before(term);
    Ok(())
}

/// Notes that more is applied, where that has changed nothing else.
fn install_position(state: &RangeState, applied: AppliedState) -> Result<(), StorageError> {
    let mut batch = WriteBatch::default();
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

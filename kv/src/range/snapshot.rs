//! A replica's whole state as bytes, for a peer that is too far behind.
//!
//! ```text
//! window (8) ‖ announced (8) ‖ safe point (8) ‖ descriptor        the first chunk
//! { space (1) ‖ key length (4) ‖ value length (4) ‖ key ‖ value }   the others
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pontoon_raft::{AppliedState, SnapshotSource, StorageError};

use crate::error::Error;
use crate::keys::meta;
use crate::mvcc::history_bound;
use crate::range::descriptor::Descriptor;
use crate::range::machine::storage_error;
use crate::range::state::{RangeState, decode_applied};
use crate::storage::{EngineSnapshot, Space, WriteBatch};
use crate::txn::Span;

/// Size of a chunk.
const CHUNK_BYTES: usize = 1 << 20;
const KV: u8 = 1;
const HISTORY: u8 = 2;
const INTENT: u8 = 3;
const RECORD: u8 = 4;
const FATE: u8 = 5;
/// Bytes before the descriptor.
const NUMBERS: usize = 24;

/// A view of a replica at one applied position.
pub(super) struct View {
    snapshot: Box<dyn EngineSnapshot>,
    descriptor: Descriptor,
    window: u64,
    announced: u64,
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
    let announced = number(meta::announced(state.range))?;
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
        announced,
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

impl SnapshotSource for View {
    fn state(&self) -> AppliedState {
        self.applied.clone()
    }

    fn write(
        self: Box<Self>,
        sink: &mut dyn FnMut(Bytes) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let descriptor = self.descriptor.encode();
        let mut head = BytesMut::with_capacity(descriptor.len() + NUMBERS);
        head.put_u64(self.window);
        head.put_u64(self.announced);
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
    Descriptor::decode(first.get(NUMBERS..)?).ok()
}

/// What somebody sent is no snapshot.
pub(super) fn malformed() -> StorageError {
    StorageError::new("a snapshot received from a peer is malformed")
}

/// Adds the rows of a chunk to a batch.
pub(super) fn read_rows(mut chunk: Bytes, batch: &mut WriteBatch) -> Result<(), StorageError> {
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
    Ok(())
}

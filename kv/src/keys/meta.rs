//! Keys of the `meta` keyspace: what one store remembers for itself, and what is undecided of
//! transactions over several ranges. They carry no versions.
//!
//! ```text
//! i ‖ key               intent of a transaction on a key
//! t ‖ encoded key ‖ start (8)   record of a transaction at its primary key
//! m ‖ encoded key ‖ range (8) ‖ generation (8)   whether a range that was frozen became a part of
//!                       the one that began with the key
//! s                     identity of the store
//! n                     the cluster as the node knew it last
//! r ‖ range id (8) ‖ a  applied position and membership of the replica
//! r ‖ range id (8) ‖ d  descriptor of the range as applied
//! r ‖ range id (8) ‖ f  members that the range was founded with, if it was split off here
//! r ‖ range id (8) ‖ i  number of the replica, and the bounds it waits for, if it has joined
//! r ‖ range id (8) ‖ p  the snapshot that the replica is being replaced by
//! r ‖ range id (8) ‖ z  the highest number of a replica that was closed here for good
//! r ‖ range id (8) ‖ g  safe point of garbage collection
//! r ‖ range id (8) ‖ w  bound of the timestamps that may be handed out
//! ```

use bytes::Bytes;

use crate::keys::{Malformed, decode_bytes, encode_bytes};
use crate::timestamp::Timestamp;

const INTENT: u8 = b'i';
const RECORD: u8 = b't';
const FATE: u8 = b'm';

/// The intent on a key; also a bound of the intents on a span.
pub fn intent(key: &[u8]) -> Vec<u8> {
    let mut to = Vec::with_capacity(1 + key.len());
    to.push(INTENT);
    to.extend_from_slice(key);
    to
}

/// The key of an intent.
pub fn intent_key(meta: &Bytes) -> Bytes {
    meta.slice(meta.len().min(1)..)
}

/// The record of the transaction that began at `start`, at its primary key.
pub fn record(primary: &[u8], start: Timestamp) -> Vec<u8> {
    let mut to = Vec::with_capacity(12 + primary.len());
    to.push(RECORD);
    encode_bytes(&mut to, primary, false);
    to.extend_from_slice(&start.0.to_be_bytes());
    to
}

/// What became of the attempt to absorb a range, which was frozen as of a generation, into the one
/// that began with the key `start`.
pub fn fate(start: &[u8], right: u64, generation: u64) -> Vec<u8> {
    let mut to = Vec::with_capacity(20 + start.len());
    to.push(FATE);
    encode_bytes(&mut to, start, false);
    to.extend_from_slice(&right.to_be_bytes());
    to.extend_from_slice(&generation.to_be_bytes());
    to
}

/// A bound of what became of attempts that were decided at the keys of a span.
pub fn fate_bound(key: &[u8]) -> Vec<u8> {
    at_key(FATE, key)
}

/// A bound of the records at the keys of a span.
pub fn record_bound(key: &[u8]) -> Vec<u8> {
    at_key(RECORD, key)
}

/// The beginning of what lies at an encoded key.
fn at_key(kind: u8, key: &[u8]) -> Vec<u8> {
    let mut to = Vec::with_capacity(4 + key.len());
    to.push(kind);
    encode_bytes(&mut to, key, false);
    // Without the end: "a" and "a\0" begin alike.
    to.truncate(to.len().saturating_sub(2));
    to
}

/// Splits the key of a record into the primary key and the start timestamp.
pub fn decode_record(meta: &[u8]) -> Result<(Bytes, Timestamp), Malformed> {
    let Some((&RECORD, mut rest)) = meta.split_first() else {
        return Err(Malformed);
    };
    let mut primary = Vec::new();
    decode_bytes(&mut rest, false, &mut primary)?;
    let start = rest.try_into().map_err(|_| Malformed)?;
    Ok((primary.into(), Timestamp(u64::from_be_bytes(start))))
}

/// Identity of the store.
pub const STORE: &[u8] = b"s";

/// The cluster as the node knew it last.
pub const BOOK: &[u8] = b"n";

/// Kind of the key of an applied position.
pub const APPLIED: u8 = b'a';
/// Kind of the key of a descriptor.
pub const DESCRIPTOR: u8 = b'd';
/// Kind of the key of a snapshot that is being installed.
pub const INSTALLING: u8 = b'p';
/// Kind of the key of a replica that has joined.
pub const JOINED: u8 = b'i';

fn range(range: u64, what: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(10);
    key.push(b'r');
    key.extend_from_slice(&range.to_be_bytes());
    key.push(what);
    key
}

/// Applied position and membership of a replica.
pub fn applied(range_id: u64) -> Vec<u8> {
    range(range_id, b'a')
}

/// Descriptor of a range as applied.
pub fn descriptor(range_id: u64) -> Vec<u8> {
    range(range_id, b'd')
}

/// Members that a range was founded with.
pub fn founders(range_id: u64) -> Vec<u8> {
    range(range_id, b'f')
}

/// Number of a replica that has joined its range, and what it waits for.
pub fn joined(range_id: u64) -> Vec<u8> {
    range(range_id, b'i')
}

/// The snapshot that a replica is being replaced by.
pub fn installing(range_id: u64) -> Vec<u8> {
    range(range_id, INSTALLING)
}

/// The highest number of a replica that was closed here for good.
pub fn closed(range_id: u64) -> Vec<u8> {
    range(range_id, b'z')
}

/// All that is remembered of a replica and its range, but that it was closed.
pub fn of_replica(range_id: u64) -> [Vec<u8>; 7] {
    [b'a', DESCRIPTOR, b'f', JOINED, b'g', INSTALLING, b'w'].map(|what| range(range_id, what))
}

/// What kind of key of a range it is, and of which range.
pub fn of_range(meta: &[u8]) -> Option<(u64, u8)> {
    let (b'r', rest) = meta.split_first()? else {
        return None;
    };
    let (id, kind) = rest.split_first_chunk::<8>()?;
    match kind {
        [kind] => Some((u64::from_be_bytes(*id), *kind)),
        _ => None,
    }
}

/// The span of what is remembered of all ranges.
pub fn ranges() -> (&'static [u8], &'static [u8]) {
    (b"r", b"s")
}

/// Safe point of garbage collection of a range.
pub fn safe_point(range_id: u64) -> Vec<u8> {
    range(range_id, b'g')
}

/// Timestamp of the last announced commit (range 1).
pub fn announced(range_id: u64) -> Vec<u8> {
    range(range_id, b'n')
}

/// Bound of the timestamps that may be handed out (range 1).
pub fn window(range_id: u64) -> Vec<u8> {
    range(range_id, b'w')
}

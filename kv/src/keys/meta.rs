//! Keys of the `meta` keyspace: what one store remembers for itself. They are not part of the
//! replicated keyspace and carry no versions.
//!
//! ```text
//! s                     identity of the store
//! r ‖ range id (8) ‖ a  applied position and membership of the replica
//! r ‖ range id (8) ‖ d  descriptor of the range as applied
//! r ‖ range id (8) ‖ g  safe point of garbage collection
//! r ‖ range id (8) ‖ w  bound of the timestamps that may be handed out
//! ```

/// Identity of the store.
pub const STORE: &[u8] = b"s";

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

/// Safe point of garbage collection of a range.
pub fn safe_point(range_id: u64) -> Vec<u8> {
    range(range_id, b'g')
}

/// Bound of the timestamps that may be handed out (range 1).
pub fn window(range_id: u64) -> Vec<u8> {
    range(range_id, b'w')
}

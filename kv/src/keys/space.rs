//! Prefixes of the keyspace and the functions that write them.

use crate::keys::Malformed;
use crate::txn::Span;

/// Counters, under names of their own.
pub const COUNTER: u8 = 0x01;
/// Nodes of the cluster.
pub const NODE: u8 = 0x02;
/// Cluster settings.
pub const SETTING: u8 = 0x03;
/// Where ranges are, by their first keys.
pub const ADDRESS: u8 = 0x05;
/// What nodes write to see whether they can.
pub const PROBE: u8 = 0x06;
/// The certificate authority of the cluster.
pub const AUTHORITY: u8 = 0x07;
/// Join tokens that may be used, by their hashes.
pub const JOIN_TOKEN: u8 = 0x08;
/// Join tokens that were used, by the births of the nodes that they have let in.
pub const LET_IN: u8 = 0x09;
/// Where ranges shall begin because somebody wants it so.
pub const WANTED_SPLIT: u8 = 0x0a;
/// What somebody wants of the replicas of tables.
pub const PLACEMENT_RULE: u8 = 0x0b;
/// Catalog rows.
pub const CATALOG: u8 = 0x10;
/// Jobs.
pub const JOBS: u8 = 0x11;
/// Other state of the SQL layer (roles, comments, statistics).
pub const SQL_STATE: u8 = 0x12;
/// Rows and index entries.
pub const TABLE: u8 = 0x20;

/// First key of all.
pub const SYSTEM_MIN: &[u8] = &[];
/// First key that SQL transactions write: everything below belongs to the system range.
pub const USER_MIN: &[u8] = &[CATALOG];
/// First key after everything.
pub const END: &[u8] = &[TABLE + 1];
/// Length of what [`table_prefix`] writes.
pub const INDEX_PREFIX_LEN: usize = 9;

fn with_id(prefix: u8, id: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(prefix);
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// Where the range is that begins with `start`.
pub fn address_key(start: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + start.len());
    key.push(ADDRESS);
    key.extend_from_slice(start);
    key
}

/// Where all ranges are.
pub fn address_span() -> Span {
    Span::prefix(&[ADDRESS])
}

/// That a range shall begin with `start`, however small it is.
pub fn wanted_split_key(start: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + start.len());
    key.push(WANTED_SPLIT);
    key.extend_from_slice(start);
    key
}

/// All that [`wanted_split_key`] gives.
pub fn wanted_split_span() -> Span {
    Span::prefix(&[WANTED_SPLIT])
}

/// What somebody wants of the replicas of a table.
pub fn placement_rule_key(table: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(5);
    key.push(PLACEMENT_RULE);
    key.extend_from_slice(&table.to_be_bytes());
    key
}

/// All that [`placement_rule_key`] gives.
pub fn placement_rule_span() -> Span {
    Span::prefix(&[PLACEMENT_RULE])
}

/// All nodes.
pub fn node_span() -> Span {
    Span::prefix(&[NODE])
}

/// Whether a key is of metadata whose changes may be watched.
pub(crate) fn is_watched(key: &[u8]) -> bool {
    let watched = [NODE, SETTING, ADDRESS, WANTED_SPLIT, PLACEMENT_RULE];
    key.first().is_some_and(|first| watched.contains(first))
}

/// The number of the next range.
pub fn next_range_key() -> Vec<u8> {
    // Where descriptors were kept by their numbers once.
    with_id(COUNTER, u64::MAX)
}

/// The number of the next replica, of whatever range.
pub fn next_replica_key() -> Vec<u8> {
    with_id(COUNTER, u64::MAX - 1)
}

/// The number of the next node.
pub fn next_node_key() -> Vec<u8> {
    with_id(COUNTER, u64::MAX - 2)
}

/// A node.
pub fn node_key(node: u64) -> Vec<u8> {
    with_id(NODE, node)
}

/// What a node writes to see whether it can.
pub fn probe_key(node: u64) -> Vec<u8> {
    with_id(PROBE, node)
}

/// The certificate authority of the cluster.
pub fn authority_key() -> Vec<u8> {
    vec![AUTHORITY]
}

/// A join token that may be used.
pub fn join_token_key(hash: &[u8; 32]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + hash.len());
    key.push(JOIN_TOKEN);
    key.extend_from_slice(hash);
    key
}

/// All join tokens that may be used.
pub fn join_token_span() -> Span {
    Span::prefix(&[JOIN_TOKEN])
}

/// The join token that let a node in.
pub fn let_in_key(birth: u64) -> Vec<u8> {
    with_id(LET_IN, birth)
}

/// The join tokens that have let nodes in.
pub fn let_in_span() -> Span {
    Span::prefix(&[LET_IN])
}

/// A cluster setting.
pub fn setting_key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(SETTING);
    key.extend_from_slice(name.as_bytes());
    key
}

/// All cluster settings.
pub fn setting_span() -> Span {
    Span::prefix(&[SETTING])
}

/// Begins a key of the catalog; the SQL layer appends what it likes.
pub fn catalog_prefix() -> Vec<u8> {
    vec![CATALOG]
}

/// The key that everybody writes who changes the catalog. Such commits are announced: see
/// [`crate::oracle`].
pub const CATALOG_VERSION: &[u8] = &[CATALOG, b'v'];

/// Begins the key of a job; the SQL layer appends what it likes.
pub fn jobs_prefix() -> Vec<u8> {
    vec![JOBS]
}

/// Begins a key of other state of the SQL layer, which appends what it likes.
pub fn sql_state_prefix() -> Vec<u8> {
    vec![SQL_STATE]
}

/// Begins the key of a row (`index` 1 by convention) or of an index entry: [`INDEX_PREFIX_LEN`]
/// bytes, to which the encoded columns are appended.
pub fn table_prefix(table: u32, index: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    key.push(TABLE);
    key.extend_from_slice(&table.to_be_bytes());
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// Reads what [`table_prefix`] wrote and moves `from` behind it.
pub fn decode_table_prefix(from: &mut &[u8]) -> Result<(u32, u32), Malformed> {
    let Some((&[TABLE, a, b, c, d, e, f, g, h], rest)) = from.split_first_chunk() else {
        return Err(Malformed);
    };
    *from = rest;
    Ok((
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    ))
}

/// All keys of a table: its rows and all of its indexes.
pub fn table_span(table: u32) -> Span {
    let mut prefix = Vec::with_capacity(5);
    prefix.push(TABLE);
    prefix.extend_from_slice(&table.to_be_bytes());
    Span::prefix(&prefix)
}

/// All keys of one index.
pub fn index_span(table: u32, index: u32) -> Span {
    Span::prefix(&table_prefix(table, index))
}

/// What the system range of a new cluster holds.
pub fn system_span() -> Span {
    Span {
        start: SYSTEM_MIN.into(),
        end: USER_MIN.into(),
    }
}

/// What the user range of a new cluster holds.
pub fn user_span() -> Span {
    Span {
        start: USER_MIN.into(),
        end: END.into(),
    }
}

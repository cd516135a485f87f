//! The keyspace: one ordered space of bytes, cut into ranges, and the order-preserving encoding of
//! column values.
//!
//! ```text
//! byte 0   what follows                              range   what
//! ------   -----------------------------------------  -----  --------------------------------
//!  0x01    which (8)                                  1      counters
//!  0x02    node id (8)                                1      node
//!  0x03    name                                       1      cluster setting
//!  0x05    first key of a range                       1      where that range is
//!  0x06    node id (8)                                1      what a node writes to see whether it can
//!  0x07                                               1      certificate authority of the cluster
//!  0x08    hash of a join token (32)                  1      until when it may be used
//!  0x09    birth of a node (8)                        1      the join token that let it in
//!  0x0a    key                                        1      that a range shall begin there
//!  0x0b    table id (4)                               1      what somebody wants of its replicas
//!  0x10    'v'                                        2      version of the catalog
//!  0x10    else chosen by the SQL layer               2..    catalog rows
//!  0x11    chosen by the SQL layer                    2..    jobs
//!  0x12    chosen by the SQL layer                    2..    other state of the SQL layer
//!  0x20    table id (4) ‖ index id (4) ‖ columns      2..    rows and index entries
//!  0x21    first key after everything
//! ```
//!
//! Everything that one SQL transaction may write lies at or above [`USER_MIN`], so that a new
//! cluster keeps it in one range; but for the placement rules of tables. What a replica remembers for itself (applied position,
//! membership) is no key of this space: it lies in the store's `meta` keyspace ([`meta`]).
//!
//! This module is pure: bytes in, bytes out. It knows neither versions nor
//! SQL types: a numeric or an interval comes here as bytes that the SQL layer has made comparable.

mod decode;
mod encode;
pub mod meta;
mod space;

pub use decode::{
    Malformed, decode_bool, decode_bytes, decode_f32, decode_f64, decode_fixed16, decode_i16,
    decode_i32, decode_i64, decode_is_null, decode_str, skip_bytes,
};
pub use encode::{
    encode_bool, encode_bytes, encode_f32, encode_f64, encode_fixed16, encode_i16, encode_i32,
    encode_i64, encode_not_null, encode_null, encode_str,
};
pub(crate) use space::is_watched;
pub use space::{
    ADDRESS, AUTHORITY, CATALOG, CATALOG_VERSION, COUNTER, END, INDEX_PREFIX_LEN, JOBS, JOIN_TOKEN,
    LET_IN, NODE, PLACEMENT_RULE, PROBE, SETTING, SQL_STATE, SYSTEM_MIN, TABLE, USER_MIN,
    WANTED_SPLIT, address_key, address_span, authority_key, catalog_prefix, decode_table_prefix,
    index_span, jobs_prefix, join_token_key, join_token_span, let_in_key, let_in_span,
    next_node_key, next_range_key, next_replica_key, node_key, node_span, placement_rule_key,
    placement_rule_span, probe_key, setting_key, setting_span, sql_state_prefix, system_span,
    table_prefix, table_span, user_span, wanted_split_key, wanted_split_span,
};

#[cfg(test)]
mod tests;

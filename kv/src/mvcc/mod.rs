//! Versions of keys on top of an [`crate::storage::Engine`].
//!
//! The newest version of a key lies under the key itself, so that a read of the present is one
//! exact lookup and a scan of the present meets one row a key. A version that is replaced moves to
//! the keyspace `history`, ordered by key and then from new to old:
//!
//! ```text
//! kv       key                                 -> header ‖ value     newest version
//! history  escape(key) ‖ !commit timestamp     -> header ‖ value     replaced version
//! history  escape(key) ‖ !commit timestamp     -> header (mark)      "the newest is a tombstone"
//!
//! header   flags (1) ‖ commit timestamp (8) ‖ start timestamp (8)
//! ```
//!
//! The start timestamp names the transaction that wrote: it answers "did transaction T commit
//! here?". Marks let garbage collection find tombstones without reading `kv`: everything that can
//! ever be removed has an entry in `history`. Reasons: `docs/design/0002-version-layout.md`.
//!
//! Replicas collect garbage by themselves. A leader that has removed a tombstone writes the key as
//! one without versions; where the tombstone still was, only its mark is left. So a mark is the
//! tombstone itself for whoever reads `history`.
//!
//! Invariant: the versions of a key in `history` are older than the one in `kv`.
//! Invariant: in a batch, the copy of a replaced version stands before its replacement.
//!
//! This module knows nothing of ranges, latches or replication.

mod changes;
mod gc;
mod intent;
mod read;
mod scan;
mod version;
mod write;

pub use changes::{Change, Changes, rows_at};
pub use gc::{GcProgress, collect};
pub use intent::{Intent, Outcome, Record};
pub use read::{committed_by, get, newest, newest_in_span};
pub use scan::VersionScan;
pub(crate) use version::history_bound;
pub use version::{HEADER_LEN, Header, Version, encode_version, history_key};
pub use write::{Write, stage};

#[cfg(test)]
mod tests;

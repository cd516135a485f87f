//! The shared durable log of a store: one write-ahead log for the entries and votes of every
//! group, synced by one thread.
//!
//! ```text
//! group A --append--+                               +--> segment files (preallocated, recycled)
//! group B --vote----+--> one FIFO --> log thread ---+    one write, one fdatasync per batch
//! group C --append--+                               +--> callbacks
//! ```
//!
//! Why not a database: `docs/design/0001-raft-log.md`.

mod engine;

pub use engine::{Done, GroupLog, LogEngine, LogState, LogStats};

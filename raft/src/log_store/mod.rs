//! The shared durable log of a store: one write-ahead log for the entries and votes of every
//! group, synced by one thread.
//!
//! ```text
//! group A --append--+                               +--> segment files (preallocated, recycled)
//! group B --vote----+--> one FIFO --> log thread ---+    one write, one fdatasync per batch
//! group C --append--+                               +--> callbacks
//! ```
//! `engine` the contract; `wal` the log and its thread; `shared` queue and groups; `index` what a
//! group's log holds; `store` writing; `recover` reading back; `record`, `frame`, `manifest` the
//! formats; `disk` files as a trait, `file` and `sim_disk` its two implementations.
//!
//! Why not a database: `docs/design/0001-raft-log.md`.

mod direct;
mod disk;
mod engine;
mod file;
mod frame;
mod index;
mod manifest;
#[cfg(test)]
mod model_test;
mod record;
mod recover;
mod shared;
mod sim_disk;
mod spares;
mod store;
mod wal;

pub use engine::{Done, GroupLog, LogEngine, LogState, LogStats};
pub use shared::LogOptions;
pub use sim_disk::{PlantedBug, SimDisk};
pub use wal::{OnLogFailure, RaftLog};

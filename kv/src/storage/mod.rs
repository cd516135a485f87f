//! Where a store keeps its data: an [`Engine`] of a few ordered keyspaces with atomic batches and
//! snapshots, on disk ([`FjallEngine`]) and in memory ([`MemoryEngine`]).
//!
//! ```text
//! keyspace   key                                    value
//! kv         user key                               newest version (see crate::mvcc)
//! history    escaped user key ‖ inverted timestamp  a version that is not the newest
//! meta       crate::keys::meta                      what the store remembers for itself
//! ```
//!
//! This module knows neither what a version is nor what a range is. It must not be called where
//! blocking for long is not allowed, save for [`Engine::get`] and short scans.

mod engine;
mod fjall_engine;
mod memory_engine;
mod room;

pub use engine::{Cursor, DiskNeeds, Engine, EngineSnapshot, Space, WriteBatch};
pub use fjall_engine::{FjallConfig, FjallEngine};
pub use memory_engine::MemoryEngine;
pub use room::{BallastMove, COMMIT_AMPLIFICATION, Reserve, Room, RoomStats, Sample, Volume};

#[cfg(test)]
mod tests;

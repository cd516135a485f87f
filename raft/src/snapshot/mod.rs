//! Snapshots: what openraft carries in their place, and how their bytes travel.

mod data;
mod receive;
mod spool;

pub(crate) use data::SnapshotData;
pub(crate) use receive::{Install, Received, Slot, Staging};
pub use spool::{MemorySpool, SnapshotSpool, SpooledSnapshot};

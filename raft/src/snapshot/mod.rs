//! Snapshots: what openraft carries in their place, and how their bytes travel.

mod data;
mod receive;

pub(crate) use data::{SnapshotData, Staged};
pub(crate) use receive::{Install, Received, Staging};

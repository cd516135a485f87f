//! The three shapes of a snapshot within a process.

use std::fmt;

use super::spool::SpooledSnapshot;
use crate::state_machine::SnapshotSource;

/// A snapshot on its way through openraft.
pub(crate) enum SnapshotData {
    /// Only a position: the state machine keeps its data itself.
    Metadata,
    /// A view of the state machine, to be read and sent to a peer.
    Live(Box<dyn SnapshotSource>),
    /// Received from a peer, to be installed.
    Staged(Box<dyn SpooledSnapshot>),
}

impl fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata => f.write_str("metadata"),
            Self::Live(_) => f.write_str("live"),
            Self::Staged(_) => f.write_str("staged"),
        }
    }
}

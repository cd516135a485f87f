//! The three shapes of a snapshot within a process.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::state_machine::SnapshotSource;

/// A snapshot on its way through openraft.
pub(crate) enum SnapshotData {
    /// Only a position: the state machine keeps its data itself.
    Metadata,
    /// A view of the state machine, to be read and sent to a peer.
    Live(Box<dyn SnapshotSource>),
    /// Received from a peer, to be installed.
    Staged(Staged),
}

impl fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata => f.write_str("metadata"),
            Self::Live(_) => f.write_str("live"),
            Self::Staged(staged) => write!(f, "staged in {} chunks", staged.chunks.len()),
        }
    }
}

/// A received snapshot. It is held in memory, bounded by [`Staged::BYTES_MAX`].
#[derive(Default)]
pub(crate) struct Staged {
    pub(crate) chunks: VecDeque<Bytes>,
    pub(crate) bytes: usize,
}

impl Staged {
    /// The largest snapshot accepted: eight ranges of the default size.
    pub(crate) const BYTES_MAX: usize = 1 << 30;
}

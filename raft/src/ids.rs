//! Identities of the replication layer. Each is a newtype, so that a store is never taken for a
//! node or a replica for a group.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A process of the cluster.
    NodeId, "n"
);
id!(
    /// A data directory: one Raft log and one data database.
    StoreId, "s"
);
id!(
    /// A Raft group. The layer above calls it a range.
    GroupId, "g"
);
id!(
    /// A member of one group.
    ///
    /// Invariant: a replica id is never used twice, not even for the same store in the same
    /// group: a member that comes back with an empty log under its old id could vote twice.
    ReplicaId, "r"
);

/// A place in the log of one group.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct LogPosition {
    /// The term in which the entry was proposed.
    pub term: u64,
    /// The index of the entry, from 1 on; 0 stands for the empty log.
    pub index: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term, self.index)
    }
}

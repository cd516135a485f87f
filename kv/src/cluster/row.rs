//! What is known of a node and of the cluster.

use std::fmt;

use bytes::Bytes;
use pontoon_raft::{LogPosition, NodeId, Peer, Place, ReplicaId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cluster::RangeReport;
use crate::error::Error;
use crate::keys::Malformed;

/// What a node does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Roles {
    /// It holds replicas.
    pub data: bool,
    /// It answers SQL.
    pub query: bool,
}

impl fmt::Display for Roles {
    /// As they are given to a node that starts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.data, self.query) {
            (true, true) => "data,query",
            (true, false) => "data",
            (false, true) => "query",
            (false, false) => "",
        })
    }
}

impl Default for Roles {
    fn default() -> Self {
        Self {
            data: true,
            query: true,
        }
    }
}

/// What the operator wants of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum NodeState {
    /// To work.
    #[default]
    Active,
    /// To give up its replicas, for good.
    Leaving,
    /// It has left; its number is never used again.
    Gone,
}

/// A node, as a row of the system range.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodeRow {
    /// Drawn by chance when its store was made: whoever joins twice is one node.
    pub birth: u64,
    /// Its number and that of its store.
    pub place: Place,
    /// Where other nodes reach it, `host:port`.
    pub rpc: String,
    /// Where SQL clients reach it; empty when they do not.
    pub sql: String,
    /// Where its admin pages are.
    pub admin: String,
    /// Where it stands, from the widest to the narrowest: `region=eu`, `zone=a`.
    pub locality: Vec<(String, String)>,
    /// What it does.
    pub roles: Roles,
    /// The version of its program.
    pub version: String,
    /// What the operator wants of it.
    pub state: NodeState,
}

const FORMAT: u8 = 1;

/// The encoding of a row of the system range, or of what a node remembers of the cluster: the format
/// and the value.
pub(crate) fn encode_row(value: &impl Serialize) -> Result<Bytes, Error> {
    let encoded = postcard::to_extend(value, vec![FORMAT]).map_err(|_| Malformed)?;
    Ok(encoded.into())
}

/// Reads what [`encode_row`] wrote.
pub(crate) fn decode_row<T: DeserializeOwned>(from: &[u8]) -> Result<T, Error> {
    match from.split_first() {
        Some((&FORMAT, rest)) => Ok(postcard::from_bytes(rest).map_err(|_| Malformed)?),
        _ => Err(Malformed.into()),
    }
}

/// What a node has, and how much of it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of its file system; 0 when that is not known.
    pub disk_bytes: u64,
    /// Bytes that are free there.
    pub free_bytes: u64,
    /// Bytes of its data.
    pub data_bytes: u64,
}

/// What a node tells the coordinator again and again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where and what it is.
    pub row: NodeRow,
    /// What it has.
    pub usage: Usage,
    /// The replicas that it holds, and whether they have their keys.
    pub replicas: Vec<(u64, ReplicaId, bool)>,
    /// The ranges that it leads.
    pub leads: Vec<RangeReport>,
    /// It is about to stop, and wants to lead nothing.
    pub stopping: bool,
}

impl Report {
    /// Whether the node holds a replica.
    pub fn holds(&self, range: u64, replica: ReplicaId) -> bool {
        let mut held = self.replicas.iter();
        held.any(|(of, held, _)| (*of, *held) == (range, replica))
    }
}

/// A node as the coordinator sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Where and what it is.
    pub row: NodeRow,
    /// It was heard of lately.
    pub alive: bool,
    /// It is about to stop.
    pub stopping: bool,
    /// What it has.
    pub usage: Usage,
    /// Number of replicas that it holds.
    pub replicas: u64,
    /// Number of ranges that it leads.
    pub leads: u64,
}

/// The cluster as the coordinator sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct View {
    /// Who sees it so; nobody in a view that was never given.
    pub coordinator: NodeId,
    /// The term in which it coordinates, and a number that grows within it.
    pub revision: (u64, u64),
    /// The nodes, in the order of their numbers.
    pub nodes: Vec<NodeStatus>,
    /// The members of range 1.
    pub system: Vec<Peer>,
    /// The entry that made them its members.
    pub system_position: Option<LogPosition>,
}

#[cfg(test)]
mod tests {
    use pontoon_raft::StoreId;

    use super::*;

    /// As the first version with nodes wrote it: rows have had roles from the beginning.
    const STORED: &[u8] = &[
        FORMAT, 7, 2, 2, 3, b'a', b':', b'1', 0, 0, 0, 1, 0, 3, b'0', b'.', b'1', 0,
    ];

    #[test]
    fn stored_rows_are_read() {
        let row = NodeRow {
            birth: 7,
            place: Place {
                node: NodeId(2),
                store: StoreId(2),
            },
            rpc: "a:1".into(),
            roles: Roles {
                data: true,
                query: false,
            },
            version: "0.1".into(),
            ..NodeRow::default()
        };
        assert_eq!(decode_row::<NodeRow>(STORED).unwrap(), row);
        assert_eq!(encode_row(&row).unwrap(), STORED);
        assert_eq!(row.roles.to_string(), "data");
        assert_eq!(Roles::default().to_string(), "data,query");
    }
}

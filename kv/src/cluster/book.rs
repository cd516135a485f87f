//! [`Book`]: what a node remembers of the others.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::RwLock;
use pontoon_raft::{LogPosition, NodeId, Peer, Place};

use crate::cluster::row::{NodeState, NodeStatus, View, decode_row, encode_row};
use crate::error::Error;

/// The newest [`View`] that a node was given, and where everybody is.
#[derive(Debug, Default)]
pub struct Book {
    view: RwLock<View>,
    addresses: RwLock<BTreeMap<NodeId, String>>,
    /// Where some node of the cluster was said to be, whichever it is.
    seeds: RwLock<Vec<String>>,
}

impl Book {
    /// Takes over a view if it is newer. Returns whether something durable has changed: who belongs
    /// to the cluster, where they are, or the members of range 1.
    pub fn learn(&self, view: View) -> bool {
        let mut known = self.view.write();
        if view.revision <= known.revision {
            return false;
        }
        let rows = |view: &View| -> Vec<_> { view.nodes.iter().map(|n| n.row.clone()).collect() };
        let changed = view.system != known.system || rows(&view) != rows(&known);
        // A row that has not changed may be older than what the node said itself meanwhile.
        let moved = |node: &&NodeStatus| {
            let row = &node.row;
            let known = known.nodes.iter().map(|known| &known.row);
            let mut known = known.filter(|known| known.place.node == row.place.node);
            known.next().is_none_or(|known| known.rpc != row.rpc)
        };
        let address = |node: &NodeStatus| (node.row.place.node, node.row.rpc.clone());
        self.addresses
            .write()
            .extend(view.nodes.iter().filter(moved).map(address));
        *known = view;
        changed
    }

    /// The encoding of what is worth remembering over a restart.
    pub fn encode(&self) -> Result<Bytes, Error> {
        encode_row(&*self.view.read())
    }

    /// Takes over what [`Self::encode`] wrote before a restart.
    pub fn recall(&self, stored: &[u8]) -> Result<(), Error> {
        let mut view: View = decode_row(stored)?;
        // Whatever the coordinator says now is newer.
        view.revision = (0, 1);
        self.learn(view);
        Ok(())
    }

    /// The place of a node.
    pub fn place(&self, node: NodeId) -> Option<Place> {
        let view = self.view.read();
        let mut places = view.nodes.iter().map(|known| known.row.place);
        places.find(|place| place.node == node)
    }

    /// The highest number of a node.
    pub fn highest_node(&self) -> NodeId {
        let view = self.view.read();
        let numbers = view.nodes.iter().map(|known| known.row.place.node);
        numbers.max().unwrap_or_default()
    }

    /// The newest view.
    pub fn view(&self) -> View {
        self.view.read().clone()
    }

    /// Notes where a node is, as it says itself.
    pub fn note(&self, node: NodeId, address: String) {
        self.addresses.write().insert(node, address);
    }

    /// Notes where some node of the cluster may be, for when none is where it was.
    pub fn note_seeds(&self, addresses: Vec<String>) {
        *self.seeds.write() = addresses;
    }

    /// What was noted by [`Self::note_seeds`].
    pub fn seeds(&self) -> Vec<String> {
        self.seeds.read().clone()
    }

    /// Where other nodes reach a node, `host:port`.
    pub fn address(&self, node: NodeId) -> Option<String> {
        self.addresses.read().get(&node).cloned()
    }

    /// Number of nodes that hold replicas.
    pub fn data_nodes(&self) -> usize {
        let view = self.view.read();
        view.nodes
            .iter()
            .filter(|known| known.row.roles.data && known.row.state != NodeState::Gone)
            .count()
    }

    /// Whether a node holds replicas by its role, as far as is known.
    pub fn holds_data(&self, node: NodeId) -> bool {
        let view = self.view.read();
        let mut rows = view.nodes.iter().map(|known| &known.row);
        let row = rows.find(|row| row.place.node == node);
        row.is_none_or(|row| row.roles.data)
    }

    /// The members of range 1.
    pub fn system(&self) -> Vec<Peer> {
        self.view.read().system.clone()
    }

    /// The entry that made the members of range 1 its members.
    pub fn system_position(&self) -> Option<LogPosition> {
        self.view.read().system_position
    }

    /// Who coordinates, as far as is known.
    pub fn coordinator(&self) -> Option<NodeId> {
        let view = self.view.read();
        (view.revision > (0, 0)).then_some(view.coordinator)
    }

    /// Whether the node has left the cluster for good.
    pub fn is_gone(&self, node: NodeId) -> bool {
        let view = self.view.read();
        let mut rows = view.nodes.iter().map(|known| &known.row);
        rows.any(|row| row.place.node == node && row.state == NodeState::Gone)
    }

    /// The nodes that were heard of lately.
    pub fn alive(&self) -> Vec<NodeId> {
        let view = self.view.read();
        let alive = view.nodes.iter().filter(|known| known.alive);
        alive.map(|known| known.row.place.node).collect()
    }

    /// Whether the node was heard of lately; one that nobody knows is not.
    pub fn is_alive(&self, node: NodeId) -> bool {
        let view = self.view.read();
        view.nodes
            .iter()
            .any(|known| known.row.place.node == node && known.alive)
    }
}

//! New nodes, from both sides.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pontoon_raft::{NodeId, Place, StoreId};

use crate::cluster::{
    Answer, Candidate, NodeRow, NodeState, NodeStatus, View, decode_row, encode_row,
};
use crate::db::node::Node;
use crate::error::Error;
use crate::keys;
use crate::range::Refusal;
use crate::txn::{ScanOptions, Span, Txn, TxnOptions};

impl Node {
    /// A transaction of the node itself; `None` when it is going down.
    pub(super) async fn own_txn(&self, options: TxnOptions) -> Result<Option<Txn>, Error> {
        match self.myself.upgrade() {
            Some(node) => Ok(Some(Txn::begin(&node, options).await?)),
            None => Ok(None),
        }
    }

    /// A number that was never handed out under this key before, from `first` on.
    pub(in crate::db) async fn next_number(&self, key: Vec<u8>, first: u64) -> Result<u64, Error> {
        let key = Bytes::from(key);
        loop {
            let txn = self.own_txn(TxnOptions::default()).await?;
            let txn = txn.ok_or_else(going_down)?;
            let next = match txn.get(&key).await? {
                Some(stored) => {
                    u64::from_be_bytes(stored.as_ref().try_into().map_err(|_| Error::Storage {
                        message: "a counter is damaged in the store".into(),
                    })?)
                }
                None => first,
            };
            let after = Bytes::copy_from_slice(&(next + 1).to_be_bytes());
            txn.put(key.clone(), after)?;
            match txn.commit().await {
                Ok(_) => return Ok(next),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The nodes of the cluster.
    pub(super) async fn node_rows(&self) -> Result<Vec<NodeRow>, Error> {
        let txn = self.own_txn(TxnOptions::default()).await?;
        let txn = txn.ok_or_else(going_down)?;
        rows(&txn, keys::node_span()).await
    }

    /// Writes rows of nodes.
    pub(crate) async fn write_rows(&self, rows: &[NodeRow]) -> Result<(), Error> {
        let txn = self.own_txn(TxnOptions::default()).await?;
        let txn = txn.ok_or_else(going_down)?;
        for row in rows {
            let key = keys::node_key(row.place.node.0);
            txn.put(key.into(), encode_row(row)?)?;
        }
        txn.commit().await.map(|_| ())
    }

    /// Takes a new node into the cluster, or tells one that asks again its number.
    pub(super) async fn admit(&self, candidate: Candidate) -> Result<Answer, Refusal> {
        let known = self.node_rows().await?;
        let born = known.iter().find(|row| row.birth == candidate.row.birth);
        let row = match born {
            Some(row) if row.state == NodeState::Gone => {
                let message = format!("{} has left the cluster for good", row.place.node);
                return Err(Error::Unavailable { message }.into());
            }
            Some(row) => row.clone(),
            None => {
                let highest = known.iter().map(|row| row.place.node.0).max();
                let first = highest.unwrap_or_default().max(self.me.place.node.0) + 1;
                let number = self.next_number(keys::next_node_key(), first).await?;
                let place = Place {
                    node: NodeId(number),
                    store: StoreId(number),
                };
                let row = NodeRow {
                    place,
                    ..candidate.row
                };
                self.write_rows(std::slice::from_ref(&row)).await?;
                tracing::info!(node = %place.node, address = row.rpc, "a new node has joined");
                row
            }
        };
        let node = row.place.node;
        let mut view = self.book.view();
        if view.system.is_empty() {
            let system = self.system().ok_or(Refusal::Elsewhere(None))?;
            view = self.view_of(&system);
        }
        // Whoever has joined must find somebody, however little has been written down yet.
        view.revision = view.revision.max((0, 1));
        let own = self.row.lock().clone();
        for row in [own, row] {
            let known = view.nodes.iter().map(|known| known.row.place.node);
            if !known.into_iter().any(|known| known == row.place.node) {
                view.nodes.push(NodeStatus {
                    row,
                    alive: true,
                    stopping: false,
                    usage: Default::default(),
                    replicas: 0,
                    leads: 0,
                });
            }
        }
        Ok(Answer::Joined {
            cluster: self.cluster.load(Ordering::Relaxed),
            node,
            view,
        })
    }

    /// The cluster as the leader of range 1 sees it.
    pub(super) fn view_of(&self, system: &Arc<crate::range::Replica>) -> View {
        let membership = system.group().status().membership;
        let members = membership
            .members
            .iter()
            .map(|(replica, place)| pontoon_raft::Peer {
                replica: *replica,
                place: *place,
            });
        let now = self.runtime.monotonic();
        let view = self.roll.view(self.me.place.node, members.collect(), now);
        View {
            system_position: membership.position,
            ..view
        }
    }
}

async fn rows(txn: &Txn, span: Span) -> Result<Vec<NodeRow>, Error> {
    let mut scan = txn.scan(span, ScanOptions::default());
    let mut found = Vec::new();
    while let Some(batch) = scan.next_batch().await? {
        for n in 0..batch.len() {
            found.push(decode_row(batch.row(n).1)?);
        }
    }
    Ok(found)
}

pub(super) fn going_down() -> Error {
    Error::Unavailable {
        message: "the node is going down".into(),
    }
}

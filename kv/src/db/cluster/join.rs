//! New nodes, from both sides.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pontoon_raft::{NodeId, Place, StoreId};

use crate::cluster::{
    Answer, Candidate, Denial, Joined, NodeRow, NodeState, NodeStatus, TokenHash, View, decode_row,
    encode_row,
};
use crate::db::cluster::token::use_token;
use crate::db::node::Node;
use crate::error::Error;
use crate::keys;
use crate::range::Refusal;
use crate::txn::{ScanOptions, Span, Txn, TxnOptions};

/// How often it is tried to let a node in while others are let in as well.
const ADMISSIONS_MAX: usize = 16;

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

    /// Takes a new node into the cluster, or tells one that asks again its number. Where a token is
    /// needed, it is used up by the very transaction that writes the node down.
    pub(super) async fn admit(
        &self,
        candidate: Candidate,
        token: Option<&TokenHash>,
    ) -> Result<Answer, Refusal> {
        let mut number = None;
        for _ in 0..ADMISSIONS_MAX {
            let txn = self.own_txn(TxnOptions::default()).await?;
            let txn = txn.ok_or_else(going_down)?;
            if let Some(token) = token
                && !use_token(&txn, token, candidate.row.birth).await?
            {
                txn.rollback().await;
                return Ok(Answer::Denied(Denial::Token));
            }
            let known = rows(&txn, keys::node_span()).await?;
            let row = match recognise(&candidate, &known) {
                Ok(Some(row)) => row,
                Ok(None) => {
                    let number = match number {
                        Some(number) => number,
                        None => *number.insert(self.new_number(&known).await?),
                    };
                    let place = Place {
                        node: NodeId(number),
                        store: StoreId(number),
                    };
                    let row = candidate.row.clone();
                    NodeRow { place, ..row }
                }
                Err(denial) => {
                    txn.rollback().await;
                    return Ok(Answer::Denied(denial));
                }
            };
            let is_new = known.iter().all(|known| known.place != row.place);
            if is_new {
                let key = keys::node_key(row.place.node.0);
                txn.put(key.into(), encode_row(&row)?)?;
            }
            if txn.has_writes() {
                match txn.commit().await {
                    Ok(_) => {}
                    Err(error) if error.is_retryable() => continue,
                    Err(error) => return Err(error.into()),
                }
            } else {
                txn.rollback().await;
            }
            if is_new {
                tracing::info!(node = %row.place.node, address = row.rpc, "a new node has joined");
            }
            return self.welcome(row).map(Answer::Joined);
        }
        let message = "too many nodes join at this moment".into();
        Err(Error::Unavailable { message }.into())
    }

    /// A number for a new node.
    async fn new_number(&self, known: &[NodeRow]) -> Result<u64, Error> {
        let highest = known.iter().map(|row| row.place.node.0).max();
        let first = highest.unwrap_or_default().max(self.me.place.node.0) + 1;
        self.next_number(keys::next_node_key(), first).await
    }

    /// What a node is told that was let in.
    fn welcome(&self, row: NodeRow) -> Result<Joined, Refusal> {
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
        Ok(Joined {
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

/// The row of a node that was let in before; `None` if it is new.
fn recognise(candidate: &Candidate, known: &[NodeRow]) -> Result<Option<NodeRow>, Denial> {
    let mut born = known.iter();
    match born.find(|row| row.birth == candidate.row.birth) {
        Some(row) if row.state == NodeState::Gone => Err(Denial::Gone(row.place.node)),
        Some(row) => Ok(Some(row.clone())),
        None if candidate.row.place == Place::default() => Ok(None),
        None => Err(Denial::Foreign),
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

//! Splitting of ranges: the request, the number of the new range, and its opening on every node.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::db::Db;
use crate::db::node::Node;
use crate::error::Error;
use crate::keys;
use crate::range::Descriptor;
use crate::routing::plain;
use crate::txn::TxnOptions;

/// How long to wait before the opening of a range is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Opens ranges that were split off from those of the node, for as long as it lives.
pub(super) async fn open_children(node: Weak<Node>, mut children: UnboundedReceiver<Descriptor>) {
    while let Some(child) = children.recv().await {
        loop {
            let Some(node) = node.upgrade() else { return };
            match node.open_child(child.clone()).await {
                Ok(()) => break,
                Err(error) => {
                    let range = child.range;
                    tracing::error!(range, %error, "a range that was split off cannot be opened");
                }
            }
            let runtime = node.runtime.clone();
            drop(node);
            runtime.sleep(AGAIN).await;
        }
    }
}

impl Db {
    /// Parts the range that holds `key`, so that a new one begins there. The leader must be on this
    /// node. Nothing is done, and that is no error, when a range begins there already.
    pub async fn split_at(&self, key: &Bytes) -> Result<(), Error> {
        let node = self.node();
        let split = || async {
            let replica = node.route(key)?;
            replica.lead().await?;
            if replica.state().descriptor().span.start == *key {
                return Ok(());
            }
            // If somebody else is faster the number is lost, which does not matter.
            let child = self.next_range().await?;
            replica.split(key, child).await
        };
        node.while_ranges_move(split).await.map_err(plain)
    }

    /// A number that no range has had.
    async fn next_range(&self) -> Result<u64, Error> {
        let txn = self.begin(TxnOptions::default()).await?;
        let key = Bytes::from(keys::next_range_key());
        let founded = self.node().config.founding_ranges().len() as u64;
        let next = match txn.get(&key).await? {
            Some(stored) => {
                u64::from_be_bytes(stored.as_ref().try_into().map_err(|_| Error::Storage {
                    message: "the number of the next range is damaged in the store".into(),
                })?)
            }
            None => founded + 1,
        };
        let after = Bytes::copy_from_slice(&(next + 1).to_be_bytes());
        txn.put(key, after)?;
        txn.commit().await?;
        Ok(next)
    }
}

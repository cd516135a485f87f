//! Whether this node can read and write, found out by doing it.

use std::sync::Arc;

use bytes::Bytes;

use crate::db::node::Node;
use crate::error::Error;
use crate::keys;
use crate::txn::{Txn, TxnOptions};

impl Node {
    /// Reads what every statement needs first: a timestamp, and the range where the catalog
    /// begins.
    ///
    /// # Errors
    /// Why that cannot be read; within the patience of the node.
    pub async fn probe_read(self: &Arc<Self>) -> Result<(), Error> {
        let txn = Txn::begin(self, TxnOptions::default()).await?;
        let read = txn.get(&keys::catalog_prefix()).await;
        txn.rollback().await;
        read.map(|_| ())
    }

    /// Writes a row of this node's own into the system range.
    ///
    /// # Errors
    /// Why that cannot be written; within the patience of the node.
    pub async fn probe_write(self: &Arc<Self>) -> Result<(), Error> {
        let txn = Txn::begin(self, TxnOptions::default()).await?;
        let key = keys::probe_key(self.id().0);
        txn.put(key.into(), Bytes::new())?;
        txn.commit().await.map(|_| ())
    }
}

//! Splitting of ranges: the request, the number of the new range, and its opening on every node.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::db::Db;
use crate::db::node::Node;
use crate::error::Error;
use crate::keys;
use crate::range::News;
use crate::routing::plain;
use crate::txn::{ScanOptions, Span, Txn, TxnOptions};

/// How long to wait before the opening of a range is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Opens ranges that were split off from those of the node, and finds those whose keys have come,
/// for as long as it lives.
pub(super) async fn hear_news(node: Weak<Node>, mut told: UnboundedReceiver<News>) {
    while let Some(news) = told.recv().await {
        loop {
            let Some(node) = node.upgrade() else { return };
            let heard = match &news {
                News::Child(child) => node.open_child(child.clone()).await,
                News::Placed(range) => {
                    node.place(*range).await;
                    Ok(())
                }
                News::Absorbed(range) => node.close_absorbed(*range).await,
            };
            let Err(error) = heard else { break };
            tracing::error!(%error, "what became of a range cannot be seen to");
            let runtime = node.runtime.clone();
            drop(node);
            runtime.sleep(AGAIN).await;
        }
    }
}

impl Db {
    /// Has a range begin with `key` from now on, however small it and the one before it are.
    pub async fn want_split(&self, key: &Bytes) -> Result<(), Error> {
        self.split_at(key).await?;
        let txn = self.begin(TxnOptions::default()).await?;
        let wanted = Bytes::from(keys::wanted_split_key(key));
        // A transaction that only reads needs no commit.
        if txn.get(&wanted).await?.is_none() {
            txn.put(wanted, Bytes::from_static(b"1"))?;
            txn.commit().await?;
        }
        Ok(())
    }

    /// Ends that ranges shall begin within `span` because somebody wanted it; returns the keys at
    /// which they were to.
    pub async fn unwant_splits(&self, span: &Span) -> Result<Vec<Bytes>, Error> {
        let txn = self.begin(TxnOptions::default()).await?;
        let wanted = wanted_splits(&txn, span).await?;
        for key in &wanted {
            txn.delete(keys::wanted_split_key(key).into())?;
        }
        if wanted.is_empty() {
            txn.rollback().await;
        } else {
            txn.commit().await?;
        }
        Ok(wanted)
    }

    /// Parts the range that holds `key`, so that a new one begins there. Nothing is done, and that is no error, when a range begins there already.
    pub async fn split_at(&self, key: &Bytes) -> Result<(), Error> {
        let node = self.node();
        let split = || async {
            let route = node.route(key)?;
            if route.span().start == *key {
                return Ok(());
            }
            // If somebody else is faster the number is lost, which does not matter.
            let founded = node.config.founding_ranges().len() as u64;
            let child = node.next_number(keys::next_range_key(), founded + 1);
            let child = child.await?;
            node.split(&route, key, child).await
        };
        node.while_ranges_move(split).await.map_err(plain)
    }
}

/// The keys within `span` with which a range shall begin because somebody wants it.
async fn wanted_splits(txn: &Txn, span: &Span) -> Result<Vec<Bytes>, Error> {
    let rows = Span {
        start: keys::wanted_split_key(&span.start).into(),
        end: keys::wanted_split_key(&span.end).into(),
    };
    let mut scan = txn.scan(rows, ScanOptions::default());
    let mut found = Vec::new();
    while let Some(batch) = scan.next_batch().await? {
        let keys = batch
            .iter()
            .map(|(key, _)| key.get(1..).unwrap_or_default());
        found.extend(keys.map(Bytes::copy_from_slice));
    }
    Ok(found)
}

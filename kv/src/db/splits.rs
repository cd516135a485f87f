//! Splitting of ranges: the request, the number of the new range, and its opening on every node.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::db::Db;
use crate::db::node::Node;
use crate::error::Error;
use crate::keys;
use crate::range::{Descriptor, News, Replica};
use crate::routing::plain;
use crate::txn::{ScanOptions, Span, Txn, TxnOptions};

/// How long to wait before the opening of a range is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long to wait for votes in a range that was split off.
const CAMPAIGN_AGAIN: Duration = Duration::from_millis(50);
/// How often they are asked for before that is left to the timeout of the election.
const CAMPAIGNS_MAX: u32 = 10;

/// Opens ranges that were split off from those of the node, and finds those whose keys have come,
/// for as long as it lives.
pub(super) async fn hear_news(node: Weak<Node>, mut told: UnboundedReceiver<News>) {
    while let Some(news) = told.recv().await {
        loop {
            let Some(node) = node.upgrade() else { return };
            let heard = match &news {
                News::Child(child) => {
                    let opened = node.open_child(child.clone()).await;
                    opened.map(|()| node.lead_child(child))
                }
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

impl Node {
    /// Campaigns for a range that was split off from one that this node leads: whoever wants its keys
    /// need not wait until an election timeout is over. The other members open it when they have
    /// applied the split, a little later.
    fn lead_child(&self, child: &Descriptor) {
        let before = |of: &Arc<Replica>| of.state().descriptor().span.end == child.span.start;
        let parent = self.replicas().into_iter().find(before);
        let (Some(parent), Some(replica)) = (parent, self.ranges.of(child.range)) else {
            return;
        };
        let runtime = self.runtime.clone();
        self.runtime.spawn(async move {
            for _ in 0..CAMPAIGNS_MAX {
                let group = replica.group();
                let led = replica.leads() || group.leader_hint().is_some();
                if led || !parent.leads() || group.campaign().await.is_err() {
                    return;
                }
                runtime.sleep(CAMPAIGN_AGAIN).await;
            }
        });
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

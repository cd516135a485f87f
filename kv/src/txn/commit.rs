//! The end of a transaction: its commit, in one round where one range holds all of it, or its rollback.

use bytes::Bytes;
use futures::FutureExt;

use crate::error::Error;
use crate::keys;
use crate::range::{CommitRequest, Refusal};
use crate::routing::Route;
use crate::timestamp::Timestamp;
use crate::txn::api::CommitInfo;
use crate::txn::reads::catalog_read;
use crate::txn::several;
use crate::txn::state::{Inner, State};
use crate::txn::transaction::Txn;

impl State {
    fn take_for_commit(&mut self, start: Timestamp) -> CommitRequest {
        let writes = self.writes.take();
        let mut reads = self.reads.take_for_commit(&writes);
        let mut catalog_at = self.catalog_at;
        if let Some(version) = writes.get(keys::CATALOG_VERSION) {
            // Its own write is checked anyway, from its base on.
            let unchecked = catalog_at.take().filter(|at| *at < version.base);
            reads.extend(unchecked.map(catalog_read));
        }
        CommitRequest {
            start,
            writes,
            reads,
            catalog_at,
        }
    }
}

impl Txn {
    /// Makes all writes visible at one timestamp, durably, or none.
    pub async fn commit(&self) -> Result<CommitInfo, Error> {
        let (request, read, locks) = {
            let mut state = self.inner.state.lock();
            if std::mem::replace(&mut state.finished, true) {
                return Err(Error::Finished);
            }
            state.saved.clear();
            let locks = std::mem::take(&mut state.locks);
            (state.take_for_commit(self.inner.start), state.read, locks)
        };
        let locks = HeldLocks {
            inner: &self.inner,
            keys: locks,
        };
        if request.writes.is_empty() {
            return Ok(CommitInfo { timestamp: read });
        }
        let timestamp = match self.sole_range(&request)? {
            Some(replica) => match self.inner.node.commit(&replica, &request).await {
                Ok(timestamp) => timestamp,
                Err(Refusal::Error(error)) => return Err(error),
                Err(refused) => self.commit_again(request, refused).boxed().await?,
            },
            None => self.commit_in_several(&request).boxed().await?,
        };
        drop(locks);
        Ok(CommitInfo { timestamp })
    }

    /// Commits though an intent was in the way, the range had moved, or the catalog may have changed.
    async fn commit_again(
        &self,
        mut request: CommitRequest,
        refused: Refusal,
    ) -> Result<Timestamp, Error> {
        let node = &self.inner.node;
        let (mut refused, mut until) = (refused, None);
        loop {
            match refused {
                Refusal::Error(error) => return Err(error),
                Refusal::Moved | Refusal::Elsewhere(_) => node.wait_for_ranges(&mut until).await?,
                Refusal::Intent(foreign) => {
                    let younger = self.inner.start < foreign.start;
                    node.settle(&foreign, younger).await?;
                }
                Refusal::Announced => {
                    let read = request.catalog_at.take().map(catalog_read);
                    request.reads.extend(read);
                }
            }
            let Some(replica) = self.sole_range(&request)? else {
                return self.commit_in_several(&request).await;
            };
            match node.commit(&replica, &request).await {
                Ok(timestamp) => return Ok(timestamp),
                Err(again) => refused = again,
            }
        }
    }

    async fn commit_in_several(&self, request: &CommitRequest) -> Result<Timestamp, Error> {
        several::commit(&self.inner.node, request).await
    }

    /// Does something again and again while intents of others are in its way.
    pub(super) async fn settling<T, F>(&self, what: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let inner = &self.inner;
        inner.node.settling(inner.start, false, what).await
    }

    /// The range that holds every key written and all that is to be validated, if there is one.
    ///
    /// Invariant: a read is validated in the range that holds it.
    fn sole_range(&self, request: &CommitRequest) -> Result<Option<Route>, Error> {
        let CommitRequest { writes, reads, .. } = request;
        let (Some((first, _)), Some((last, _))) =
            (writes.first_key_value(), writes.last_key_value())
        else {
            return Err(Error::Finished);
        };
        let route = self.inner.node.route(first).ok();
        Ok(route.filter(|route| {
            let span = route.span();
            span.contains(last) && reads.iter().all(|read| read.span.lies_in(&span))
        }))
    }

    /// Ends the transaction without a trace.
    pub async fn rollback(&self) {
        let locks = {
            let mut state = self.inner.state.lock();
            state.finished = true;
            state.saved.clear();
            let _ = state.writes.take();
            std::mem::take(&mut state.locks)
        };
        self.inner.release(locks);
    }
}

/// Locks that are given back when this is dropped, also when a commit is given up.
struct HeldLocks<'a> {
    inner: &'a Inner,
    keys: Vec<Bytes>,
}

impl Drop for HeldLocks<'_> {
    fn drop(&mut self) {
        self.inner.release(std::mem::take(&mut self.keys));
    }
}

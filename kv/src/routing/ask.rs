//! Sending a request to whoever leads, and serving those of others.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use pontoon_raft::Peer;

use crate::db::Node;
use crate::error::Error;
use crate::oracle::TimestampSource;
use crate::range::{Refusal, Replica};
use crate::routing::request::{PeerError, Request, Response};

/// How long to wait before a range is asked again.
const AGAIN: Duration = Duration::from_millis(20);

impl Node {
    /// Who leads the range, if that is believed to be another node.
    pub(super) fn elsewhere(&self, replica: &Replica) -> Option<Peer> {
        self.peers.as_ref()?;
        if replica.leadership().is_some() {
            return None;
        }
        let leader = replica.group().leader_hint()?;
        (leader.place.node != self.me.place.node).then_some(leader)
    }

    /// Asks the leader of a range, for as long as patience lasts.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it was not done; [`Error::Ambiguous`] when a request that decides
    /// something was sent and nobody could say what became of it.
    ///
    /// Boxed: the futures of those who find the leader here stay small.
    pub(super) fn ask<'a>(
        &'a self,
        replica: &'a Replica,
        request: Request,
    ) -> BoxFuture<'a, Result<Response, Refusal>> {
        self.ask_until_answered(replica, request).boxed()
    }

    async fn ask_until_answered(
        &self,
        replica: &Replica,
        mut request: Request,
    ) -> Result<Response, Refusal> {
        let until =
            self.runtime.monotonic() + Duration::from_millis(self.config.patience_ms.max(1));
        let mut open = false;
        loop {
            let message = match self.ask_once(replica, &request).await {
                Ok(response) => return Ok(response),
                Err(PeerError::Refused(Refusal::Error(Error::Unavailable { message }))) => message,
                Err(PeerError::Refused(Refusal::Error(Error::Ambiguous)) | PeerError::Lost) => {
                    open = true;
                    request.repeat();
                    format!(
                        "the leader of range {} does not answer",
                        replica.state().range
                    )
                }
                // Says that it has not been done yet, and not that it will not be: what was sent
                // before may still arrive.
                Err(PeerError::Refused(Refusal::Intent(_) | Refusal::Moved))
                    if open && request.decides() =>
                {
                    return Err(Error::Ambiguous.into());
                }
                Err(PeerError::Refused(refusal)) => return Err(refusal),
                Err(PeerError::Unreachable { reason }) => reason,
            };
            if self.peers.is_none() || self.runtime.monotonic() >= until {
                return Err(Refusal::Error(if open && request.decides() {
                    Error::Ambiguous
                } else {
                    Error::Unavailable { message }
                }));
            }
            self.runtime.sleep(AGAIN).await;
        }
    }

    /// Does something again while the ranges that it looks up have moved when it comes to them, for
    /// as long as patience lasts.
    pub(crate) async fn while_ranges_move<T, F>(
        &self,
        mut what: impl FnMut() -> F,
    ) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let mut until = None;
        loop {
            match what().await {
                Err(Refusal::Moved) => self.wait_for_ranges(&mut until).await?,
                other => return other,
            }
        }
    }

    /// Waits a little for a range that has moved, but not beyond `until`, which is set at first.
    pub(crate) async fn wait_for_ranges(&self, until: &mut Option<Duration>) -> Result<(), Error> {
        let now = self.runtime.monotonic();
        let patience = Duration::from_millis(self.config.patience_ms.max(1));
        if now >= *until.get_or_insert(now + patience) {
            return Err(Error::Unavailable {
                message: "no range holds the key".into(),
            });
        }
        self.runtime.sleep(AGAIN).await;
        Ok(())
    }

    async fn ask_once(&self, replica: &Replica, request: &Request) -> Result<Response, PeerError> {
        match (self.elsewhere(replica), &self.peers) {
            (Some(leader), Some(peers)) => {
                let range = replica.state().range;
                peers.ask(leader.place.node, range, request.clone()).await
            }
            _ => serve(replica, request.clone(), &*self.timestamps)
                .await
                .map_err(PeerError::Refused),
        }
    }

    /// Answers a request of another node to the replica of `range` here.
    pub async fn serve(&self, range: u64, request: Request) -> Result<Response, Refusal> {
        let Some(replica) = self.ranges.of(range) else {
            let message = format!("range {range} is not on {}", self.me.place.node);
            return Err(Error::Unavailable { message }.into());
        };
        serve(&replica, request, &*self.timestamps).await
    }
}

/// Answers a request at a replica.
async fn serve(
    replica: &Replica,
    request: Request,
    timestamps: &dyn TimestampSource,
) -> Result<Response, Refusal> {
    Ok(match request {
        Request::Get { key, at } => Response::Value(replica.get(&key, at).await?),
        Request::Scan {
            span,
            reverse,
            at,
            rows_max,
            bytes_max,
        } => {
            let mut scan = replica.scan(&span, reverse, at).await?;
            let (mut rows, mut bytes) = (Vec::new(), 0);
            let mut more = false;
            while let Some((key, value)) = scan.next()? {
                bytes += key.len() + value.len();
                rows.push((key, value));
                more = rows.len() as u64 >= rows_max || bytes >= bytes_max;
                if more {
                    break;
                }
            }
            Response::Rows {
                rows,
                met_newer: scan.met_newer(),
                more,
            }
        }
        Request::Validate { reads, own, upto } => {
            replica.validate(&reads, own, upto, timestamps).await?;
            Response::Done
        }
        Request::LastWritten { key, upto } => {
            Response::Timestamp(replica.last_written(&key, upto).await?)
        }
        Request::Commit { request, again } => {
            let commit = replica.commit(&request, again, timestamps).await?;
            Response::Timestamp(Some(commit))
        }
        Request::Prewrite(request) => Response::Intent(replica.prewrite(&request).await?),
        Request::Decide {
            primary,
            start,
            commit,
            keys,
            spans,
        } => {
            let decided = replica.decide(&primary, start, commit, &keys, &spans);
            Response::Ending(decided.await?)
        }
        Request::Push {
            primary,
            start,
            force,
        } => Response::Status(replica.push(&primary, start, force).await?),
        Request::Hear { primary, start } => {
            replica.hear(&primary, start);
            Response::Done
        }
        Request::Resolve {
            primary,
            start,
            ending,
            span,
        } => {
            replica.resolve(&primary, start, ending, &span).await?;
            Response::Done
        }
        Request::Forget { primary, start } => {
            replica.forget(&primary, start).await?;
            Response::Done
        }
    })
}

//! What transactions ask of ranges, as calls. Where the leader is here they are calls of the
//! replica and nothing else.

use std::sync::Arc;

use bytes::Bytes;

use crate::db::Node;
use crate::error::{ConflictReason, Error};
use crate::mvcc::Outcome as Ending;
use crate::range::{
    Absorbable, CommitRequest, Fate, Foreign, Frozen, PrewriteRequest, ReadEntry, Refusal,
    Renounce, Replica, Status,
};
use crate::routing::away::Route;
use crate::routing::request::{Request, Response};
use crate::routing::rows::Rows;
use crate::timestamp::Timestamp;
use crate::txn::{Span, after};

/// Rows in a page that another node sends.
const PAGE_ROWS: u64 = 4_096;
/// Bytes after which a page ends.
const PAGE_BYTES: usize = 1 << 20;

pub(crate) fn mismatch() -> Refusal {
    Refusal::Error(Error::Unavailable {
        message: "a node has answered another question than it was asked".into(),
    })
}

impl Node {
    /// Whether the leader of the range is on this node.
    pub(crate) fn leads(&self, replica: &Replica) -> bool {
        self.peers.is_none() || replica.leads()
    }

    /// The replica of the range on this node, if it leads.
    fn leading<'a>(&self, route: &'a Route) -> Option<&'a Arc<Replica>> {
        route.held().filter(|replica| self.leads(replica))
    }

    /// [`Replica::get`].
    pub(crate) async fn get(
        &self,
        route: &Route,
        key: &[u8],
        at: Timestamp,
    ) -> Result<Option<Bytes>, Refusal> {
        if let Some(replica) = self.leading(route) {
            return replica.get(key, at).await;
        }
        let key = Bytes::copy_from_slice(key);
        match self.ask(route, Request::Get { key, at }).await? {
            Response::Value(value) => Ok(value),
            _ => Err(mismatch()),
        }
    }

    /// [`Replica::get_many`].
    pub(crate) async fn get_many(
        &self,
        route: &Route,
        keys: Vec<Bytes>,
        at: Timestamp,
    ) -> Result<Vec<Option<Bytes>>, Refusal> {
        let bytes_max = PAGE_BYTES;
        if let Some(replica) = self.leading(route) {
            return replica.get_many(&keys, at, bytes_max).await;
        }
        let request = Request::GetMany {
            keys,
            at,
            bytes_max,
        };
        match self.ask(route, request).await? {
            Response::Values(values) => Ok(values),
            _ => Err(mismatch()),
        }
    }

    /// [`Replica::scan`], of a part of `span` that comes first; returns that part too.
    pub(crate) async fn scan(
        &self,
        route: &Route,
        span: Span,
        reverse: bool,
        at: Timestamp,
    ) -> Result<(Rows, Span), Refusal> {
        if let Some(replica) = self.leading(route) {
            let rows = replica.scan(&span, reverse, at).await?;
            return Ok((Rows::Store(rows), span));
        }
        let request = Request::Scan {
            span: span.clone(),
            reverse,
            at,
            rows_max: PAGE_ROWS,
            bytes_max: PAGE_BYTES,
        };
        let Response::Rows {
            rows,
            met_newer,
            more,
        } = self.ask(route, request).await?
        else {
            return Err(mismatch());
        };
        let mut part = span;
        match rows.last() {
            Some((last, _)) if more && reverse => part.start = last.clone(),
            Some((last, _)) if more => part.end = after(last),
            _ => {}
        }
        let rows = rows.into_iter();
        Ok((Rows::Page { rows, met_newer }, part))
    }

    /// [`Replica::validate`].
    pub(crate) async fn validate_in(
        &self,
        route: &Route,
        reads: &[ReadEntry],
        own: Timestamp,
        upto: Timestamp,
    ) -> Result<(), Refusal> {
        if let Some(replica) = self.leading(route) {
            let timestamps = &*self.timestamps;
            return replica.validate(reads, own, upto, timestamps).await;
        }
        let reads = reads.to_vec();
        let request = Request::Validate { reads, own, upto };
        self.ask(route, request).await.map(|_| ())
    }

    /// [`Replica::last_written_many`].
    pub(crate) async fn last_written(
        &self,
        route: &Route,
        keys: Vec<Bytes>,
        upto: Timestamp,
    ) -> Result<Vec<Option<Timestamp>>, Refusal> {
        if let Some(replica) = self.leading(route) {
            return replica.last_written_many(&keys, upto).await;
        }
        match self.ask(route, Request::LastWritten { keys, upto }).await? {
            Response::Timestamps(found) => Ok(found),
            _ => Err(mismatch()),
        }
    }

    /// [`Replica::commit`].
    pub(crate) async fn commit(
        &self,
        route: &Route,
        request: &CommitRequest,
    ) -> Result<Timestamp, Refusal> {
        if let Some(replica) = self.leading(route) {
            let timestamps = &*self.timestamps;
            return replica.commit(request, false, timestamps).await;
        }
        let request = Request::Commit {
            request: request.clone(),
            again: false,
        };
        match self.ask(route, request).await? {
            Response::Committed(commit) => Ok(commit),
            _ => Err(Error::Ambiguous.into()),
        }
    }

    /// [`Replica::prewrite`].
    pub(crate) async fn prewrite(
        &self,
        route: &Route,
        request: &PrewriteRequest,
    ) -> Result<Option<Foreign>, Refusal> {
        let request = Request::Prewrite(request.clone());
        match self.ask(route, request).await? {
            Response::Intent(foreign) => Ok(foreign),
            _ => Err(mismatch()),
        }
    }

    /// [`Replica::decide`].
    pub(crate) async fn decide(
        &self,
        route: &Route,
        primary: &Bytes,
        (start, commit): (Timestamp, Timestamp),
        keys: Arc<[Bytes]>,
        spans: Vec<Span>,
    ) -> Result<Ending, Refusal> {
        let request = Request::Decide {
            primary: primary.clone(),
            start,
            commit,
            keys,
            spans,
        };
        match self.ask(route, request).await? {
            Response::Ending(ending) => Ok(ending),
            _ => Err(Error::Ambiguous.into()),
        }
    }

    /// [`Replica::push`], at the range of the primary key.
    pub(crate) async fn push(
        &self,
        primary: &Bytes,
        start: Timestamp,
        force: bool,
    ) -> Result<Status, Error> {
        let request = Request::Push {
            primary: primary.clone(),
            start,
            force,
        };
        match self.ask_at(primary, request).await? {
            Response::Status(status) => Ok(status),
            _ => Err(plain(mismatch())),
        }
    }

    /// [`Replica::hear`], at the range of the primary key; for what it is worth.
    pub(crate) async fn hear(&self, primary: &Bytes, start: Timestamp) {
        let request = Request::Hear {
            primary: primary.clone(),
            start,
        };
        let _ = self.ask_at(primary, request).await;
    }

    /// [`Replica::resolve`].
    pub(crate) async fn resolve(
        &self,
        route: &Route,
        (primary, start): (&Bytes, Timestamp),
        ending: Ending,
        span: Span,
    ) -> Result<(), Refusal> {
        let request = Request::Resolve {
            primary: primary.clone(),
            start,
            ending,
            span,
        };
        self.ask(route, request).await.map(|_| ())
    }

    /// [`Replica::split`].
    pub(crate) async fn split(
        &self,
        route: &Route,
        key: &Bytes,
        child: u64,
    ) -> Result<(), Refusal> {
        let key = key.clone();
        let request = Request::Split { key, child };
        self.ask(route, request).await.map(|_| ())
    }

    /// [`Replica::freeze`].
    pub(crate) async fn freeze(
        &self,
        route: &Route,
        frozen: &Frozen,
    ) -> Result<Absorbable, Refusal> {
        let request = Request::Freeze(frozen.clone());
        match self.ask(route, request).await? {
            Response::Frozen(absorbable) => Ok(absorbable),
            _ => Err(mismatch()),
        }
    }

    /// [`Replica::thaw`].
    pub(crate) async fn thaw(&self, route: &Route, generation: u64) -> Result<(), Refusal> {
        let request = Request::Thaw { generation };
        self.ask(route, request).await.map(|_| ())
    }

    /// [`Replica::fate`], at the range where it is decided.
    pub(crate) async fn fate(&self, of: &Renounce) -> Result<Fate, Error> {
        match self.ask_at(&of.start, Request::Fate(of.clone())).await? {
            Response::Fate(fate) => Ok(fate),
            _ => Err(plain(mismatch())),
        }
    }

    /// [`Replica::forget`], at the range of the primary key.
    pub(crate) async fn forget(&self, primary: &Bytes, start: Timestamp) -> Result<(), Error> {
        let request = Request::Forget {
            primary: primary.clone(),
            start,
        };
        self.ask_at(primary, request).await.map(|_| ())
    }

    /// Asks the range that holds `key`, which may be another one while it is asked.
    async fn ask_at(&self, key: &Bytes, request: Request) -> Result<Response, Error> {
        let asked = || async {
            let route = self.route(key)?;
            self.ask(&route, request.clone()).await
        };
        self.while_ranges_move(asked).await.map_err(plain)
    }
}

/// The error of an operation that no intent refuses.
pub(crate) fn plain(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Error(error) => error,
        Refusal::Intent(foreign) => Error::Unavailable {
            message: format!("an intent of {} is in the way", foreign.start),
        },
        Refusal::Announced => Error::Conflict {
            reason: ConflictReason::ReadWrite,
        },
        Refusal::Moved => Error::Unavailable {
            message: "the range does not hold the key any more".into(),
        },
        Refusal::Elsewhere(leader) => Error::Unavailable {
            message: match leader {
                Some(leader) => format!("the range is led by {leader}"),
                None => "the range is led elsewhere".into(),
            },
        },
    }
}

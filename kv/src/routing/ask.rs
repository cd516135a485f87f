//! Sending a request to whoever leads, and serving those of others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use pontoon_raft::NodeId;

use crate::cluster::{Answer, Call, decode_row};
use crate::db::{Node, SYSTEM_RANGE};
use crate::error::Error;
use crate::keys;
use crate::oracle::TimestampSource;
use crate::range::{Descriptor, Refusal, Replica};
use crate::routing::away::{Address, AwayRange, Route};
use crate::routing::calls::{mismatch, plain};
use crate::routing::request::{PeerError, Request, Response, Whom};
use crate::txn::{Span, after};

/// A range without a leader is looked for elsewhere after this.
const LOOK_UP_AFTER: Duration = Duration::from_millis(300);
/// Looking up may take so long.
const LOOK_UP_MAX: Duration = Duration::from_millis(1_000);
/// Addresses of ranges in one answer.
const ADDRESSES_AT_ONCE: u64 = 1_024;

/// How often it is looked whether whoever is asked still leads.
const LEADER_LOOK: Duration = Duration::from_millis(100);
/// How long to wait before a range is asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// Whether others knew more of a range than a replica of it.
fn is_outdated(replica: &Replica) -> bool {
    replica.state().outdated.load(Ordering::Relaxed)
}

impl Node {
    /// The range that holds `key`.
    pub(crate) fn route(&self, key: &[u8]) -> Result<Route, Refusal> {
        let held = self.ranges.at(key);
        let trusted = |held: &&Arc<Replica>| !self.is_left_behind(held) && !is_outdated(held);
        if let Some(replica) = held.as_ref().filter(trusted) {
            return Ok(Route::Held(Arc::clone(replica)));
        }
        let system = keys::system_span();
        let away = match system.contains(key) {
            true => self.system_address(),
            false => self.away.at(key),
        };
        match (away, held) {
            (Some(away), Some(held)) if !away.is_newer_than(&held) => {
                held.state().outdated.store(false, Ordering::Relaxed);
                Ok(Route::Held(held))
            }
            (Some(away), _) => Ok(Route::Away(away)),
            (None, Some(held)) => Ok(Route::Held(held)),
            (None, None) => Err(Refusal::Moved),
        }
    }

    /// Remembers where a range is. A replica here that has yet to hear of it is no longer asked for
    /// its leader: a follower that is behind knows bounds that a split has changed.
    pub(crate) fn learn_address(&self, address: Address) {
        let held = self.ranges.at(&address.descriptor.span.start);
        let held = held.filter(|held| AwayRange::new(address.clone()).is_newer_than(held));
        self.away.learn(address);
        if let Some(held) = held {
            held.state().outdated.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a replica knows of no leader: it may have left its range without having heard of it.
    fn is_left_behind(&self, replica: &Replica) -> bool {
        self.peers.is_some()
            && replica.leadership().is_none()
            && replica.group().leader_hint().is_none()
    }

    /// The range that holds the first keys of `span`, or, in reverse, the last ones; with the part
    /// of the span that it holds.
    pub(crate) fn route_part(&self, span: &Span, reverse: bool) -> Result<(Route, Span), Refusal> {
        let found = if reverse {
            let held = self.ranges.before(&span.end);
            let away = || self.away.before(&span.end);
            match held {
                Some(held) if self.is_left_behind(&held) || is_outdated(&held) => match away() {
                    Some(away) if away.is_newer_than(&held) => Some(Route::Away(away)),
                    _ => Some(Route::Held(held)),
                },
                Some(held) => Some(Route::Held(held)),
                None => away().map(Route::Away),
            }
        } else {
            self.route(&span.start).ok()
        };
        let part = found.and_then(|route| {
            let part = route.span().common(span)?;
            Some((route, part))
        });
        part.ok_or(Refusal::Moved)
    }

    /// The replica on this node that holds all of `span`, if there is one.
    pub(crate) fn held_whole(&self, span: &Span) -> Option<Arc<Replica>> {
        let replica = self.ranges.at(&span.start)?;
        (span.end <= replica.state().descriptor().span.end).then_some(replica)
    }

    /// Where range 1 is, as the coordinator has said.
    fn system_address(&self) -> Option<Arc<AwayRange>> {
        let members = self.book.system();
        if members.is_empty() {
            return None;
        }
        let address = Address {
            descriptor: Descriptor {
                range: SYSTEM_RANGE,
                generation: 1,
                span: keys::system_span(),
                frozen: None,
            },
            members,
            position: self.book.system_position(),
        };
        let away = AwayRange::new(address);
        away.ask_another(self.book.coordinator());
        Some(Arc::new(away))
    }

    /// Who leads the range of a replica, if that is believed to be another node.
    fn elsewhere(&self, replica: &Replica) -> Option<NodeId> {
        self.peers.as_ref()?;
        if replica.leadership().is_some() {
            return None;
        }
        let leader = replica.group().leader_hint()?.place.node;
        (leader != self.me.place.node).then_some(leader)
    }

    /// The node that leads a range, as far as is known here.
    pub(crate) fn led_by(&self, route: &Route) -> Option<NodeId> {
        match route {
            Route::Held(replica) if replica.leadership().is_some() => Some(self.me.place.node),
            Route::Held(replica) => replica.group().leader_hint().map(|peer| peer.place.node),
            Route::Away(away) => away.leader(),
        }
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
        route: &'a Route,
        request: Request,
    ) -> BoxFuture<'a, Result<Response, Refusal>> {
        self.ask_until_answered(route, request).boxed()
    }

    async fn ask_until_answered(
        &self,
        route: &Route,
        mut request: Request,
    ) -> Result<Response, Refusal> {
        let until =
            self.runtime.monotonic() + Duration::from_millis(self.config.patience_ms.max(1));
        let mut open = false;
        let mut look_up_at = self.runtime.monotonic() + LOOK_UP_AFTER;
        loop {
            let message = match self.ask_once(route, &request).await {
                Ok(response) => return Ok(response),
                Err(PeerError::Refused(Refusal::Error(Error::Unavailable { message }))) => message,
                Err(PeerError::Refused(Refusal::Error(Error::Ambiguous)) | PeerError::Lost) => {
                    open = true;
                    request.repeat();
                    format!("the leader of range {} does not answer", route.range())
                }
                // Says that it has not been done yet, and not that it will not be: what was sent
                // before may still arrive.
                Err(PeerError::Refused(
                    Refusal::Intent(_) | Refusal::Moved | Refusal::Announced,
                )) if open && request.decides() => {
                    return Err(Error::Ambiguous.into());
                }
                Err(PeerError::Refused(Refusal::Elsewhere(_))) => {
                    if self.has_moved_away(route, &mut look_up_at).await
                        && !(open && request.decides())
                    {
                        return Err(Refusal::Moved);
                    }
                    format!("range {} has no leader", route.range())
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

    /// Looks up now and then whether a range that nobody here leads is elsewhere by now.
    async fn has_moved_away(&self, route: &Route, look_up_at: &mut Duration) -> bool {
        let Route::Held(replica) = route else {
            return false;
        };
        let now = self.runtime.monotonic();
        if now < *look_up_at {
            return false;
        }
        *look_up_at = now + LOOK_UP_AFTER;
        if route.range() != SYSTEM_RANGE {
            let looked = self.look_up_ranges().boxed();
            let _ = self.runtime.timeout(LOOK_UP_AFTER, looked).await;
        }
        let first = replica.state().descriptor().span.start;
        matches!(self.route(&first), Ok(Route::Away(_)))
    }

    /// Does something again while the ranges that it looks up, or their leaders, have moved when it
    /// comes to them, for as long as patience lasts.
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
                Err(Refusal::Moved | Refusal::Elsewhere(_)) => {
                    self.wait_for_ranges(&mut until).await?;
                }
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
        // Boxed: it asks a range itself, and must not make the futures of all others larger.
        let looked = self.look_up_ranges().boxed();
        if let Some(Err(refusal)) = self.runtime.timeout(LOOK_UP_MAX, looked).await {
            tracing::debug!(error = %plain(refusal), "could not look up where ranges are");
        }
        Ok(())
    }

    /// Asks once, here or there.
    async fn ask_once(&self, route: &Route, request: &Request) -> Result<Response, PeerError> {
        let (whom, peers) = match (route, &self.peers) {
            (Route::Held(replica), peers) => match (self.elsewhere(replica), peers) {
                (Some(leader), Some(peers)) => {
                    // Should the leader be lost, the others must get up to notice.
                    replica.group().wake();
                    (leader, peers)
                }
                _ if self.is_left_behind(replica) => {
                    return Err(PeerError::Refused(Refusal::Elsewhere(None)));
                }
                _ => {
                    let timestamps = &*self.timestamps;
                    let served = serve(replica, request.clone(), timestamps).await;
                    return served.map_err(PeerError::Refused);
                }
            },
            (Route::Away(away), Some(peers)) => match away.whom() {
                Some(node) => (node, peers),
                None => return Err(PeerError::Refused(Refusal::Moved)),
            },
            (Route::Away(_), None) => return Err(PeerError::Refused(Refusal::Moved)),
        };
        let call = Call::Range {
            range: route.range(),
            request: request.clone(),
        };
        let called = peers.call(Whom::Node(whom), call);
        let answer = match route {
            Route::Held(replica) => self.while_led_by(whom, replica, called).await,
            Route::Away(_) => {
                let patience = Duration::from_millis(self.config.patience_ms.max(1));
                self.runtime.timeout(patience, called).await
            }
        };
        let answer = answer.unwrap_or(Err(PeerError::Lost));
        if let Route::Away(away) = route {
            match &answer {
                Ok(_) | Err(PeerError::Refused(Refusal::Intent(_) | Refusal::Announced)) => {
                    away.answered(whom);
                }
                Err(PeerError::Refused(Refusal::Elsewhere(leader))) => {
                    away.ask_another(leader.map(|peer| peer.place.node));
                }
                Err(_) => away.ask_another(None),
            }
        }
        match answer? {
            Answer::Range(response) => Ok(response),
            _ => Err(PeerError::Refused(mismatch())),
        }
    }

    /// Waits for an answer as long as the replica here knows of no other leader: whoever has fallen
    /// silent would be waited for longer than it takes to elect another.
    async fn while_led_by<T>(
        &self,
        node: NodeId,
        replica: &Replica,
        called: impl Future<Output = T>,
    ) -> Option<T> {
        let mut called = std::pin::pin!(called);
        let until = self.runtime.monotonic() + Duration::from_millis(self.config.patience_ms);
        loop {
            let answered = self.runtime.timeout(LEADER_LOOK, called.as_mut()).await;
            let hint = replica.group().leader_hint();
            let deposed = hint.is_some_and(|leader| leader.place.node != node);
            if answered.is_some() || deposed || self.runtime.monotonic() >= until {
                return answered;
            }
        }
    }

    /// Looks up where all ranges are, for those without a replica here.
    async fn look_up_ranges(&self) -> Result<(), Refusal> {
        if self.peers.is_none() {
            return Ok(());
        }
        let mut left = keys::address_span();
        let at = self.timestamps.now().await?;
        while left.start < left.end {
            let route = self.route(&left.start)?;
            let request = Request::Scan {
                span: left.clone(),
                reverse: false,
                at,
                rows_max: ADDRESSES_AT_ONCE,
                bytes_max: usize::MAX,
            };
            let Response::Rows { rows, more, .. } = self.ask(&route, request).await? else {
                return Err(mismatch());
            };
            for (_, stored) in &rows {
                self.learn_address(decode_row::<Address>(stored)?);
            }
            match rows.last() {
                Some((last, _)) if more => left.start = after(last),
                _ => break,
            }
        }
        Ok(())
    }

    /// Answers a request of another node to the replica of `range` here.
    pub(crate) async fn serve(&self, range: u64, request: Request) -> Result<Response, Refusal> {
        let Some(replica) = self.ranges.of(range) else {
            return Err(Refusal::Moved);
        };
        if replica.leadership().is_none() {
            let leader = replica.group().leader_hint();
            if leader.is_some_and(|leader| leader.place.node != self.me.place.node) {
                // Whoever asks here may have asked the leader in vain.
                replica.group().wake();
                return Err(Refusal::Elsewhere(leader));
            }
        }
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
        Request::GetMany {
            keys,
            at,
            bytes_max,
        } => Response::Values(replica.get_many(&keys, at, bytes_max).await?),
        Request::LastWritten { keys, upto } => {
            Response::Timestamps(replica.last_written_many(&keys, upto).await?)
        }
        Request::Commit { request, again } => {
            let commit = replica.commit(&request, again, timestamps).await?;
            Response::Committed(commit)
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
        Request::Split { key, child } => {
            // Somebody else may have been faster.
            if replica.state().descriptor().span.start != key {
                replica.lead().await?;
                replica.split(&key, child).await?;
            }
            Response::Done
        }
        Request::Freeze(frozen) => Response::Frozen(replica.freeze(&frozen).await?),
        Request::Fate(renounce) => Response::Fate(replica.fate(&renounce).await?),
        Request::Thaw { generation } => {
            replica.lead().await?;
            replica.thaw(generation).await?;
            Response::Done
        }
    })
}

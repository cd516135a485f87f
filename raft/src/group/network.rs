//! openraft's network on top of a [`Transport`].
//!
//! Traps of openraft's defaults that this closes: a missing `pre_vote` grants, a missing
//! `transfer_leader` fails, and the time limit of a call is for the network to enforce.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::RPCTypes;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    VoteRequest as RaftVoteRequest, VoteResponse,
};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, mpsc};

use super::convert;
use super::types::{RaftVote, Types};
use crate::host::Counters;
use crate::ids::{GroupId, ReplicaId};
use crate::membership::{Peer, Place};
use crate::snapshot::SnapshotData;
use crate::state_machine::{AppliedState, SnapshotSource, StorageError};
use crate::transport::{
    AppendReply, AppendRequest, Envelope, Refusal, Reply, Request, SnapshotChunk, SnapshotReply,
    Transport, TransportError, VoteRequest,
};

type Snapshot = openraft::type_config::alias::SnapshotOf<Types, SnapshotData>;

/// A piece of a snapshot is answered by then, or sent again.
const CHUNK_ANSWER: Duration = Duration::from_secs(5);
/// At this pace a peer receives entries at least, and has them on its disk: 4 MiB a second.
const APPEND_BYTES_PER_MS: u64 = 4 << 10;
/// How often a piece is sent before the transfer is given up.
const CHUNK_TRIES: usize = 4;
/// Pieces of a snapshot read ahead of the network.
const SNAPSHOT_READ_AHEAD: usize = 4;

/// Makes the connections of one replica to its peers.
pub(crate) struct Network {
    pub(crate) group: GroupId,
    pub(crate) from: Peer,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) transfers: Arc<AtomicU64>,
    pub(crate) sends: Arc<Semaphore>,
    pub(crate) counters: Arc<Counters>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, place: &Place) -> Connection {
        Connection {
            group: self.group,
            from: self.from,
            to: Peer {
                replica: ReplicaId(target),
                place: *place,
            },
            transport: Arc::clone(&self.transport),
            transfers: Arc::clone(&self.transfers),
            sends: Arc::clone(&self.sends),
            counters: Arc::clone(&self.counters),
        }
    }
}

/// The way to one peer.
pub(crate) struct Connection {
    group: GroupId,
    from: Peer,
    to: Peer,
    transport: Arc<dyn Transport>,
    transfers: Arc<AtomicU64>,
    sends: Arc<Semaphore>,
    counters: Arc<Counters>,
}

impl Connection {
    async fn call(
        &self,
        body: Request,
        action: RPCTypes,
        ttl: Duration,
    ) -> Result<Reply, RPCError<Types>> {
        let envelope = Envelope {
            group: self.group,
            from: self.from,
            to: self.to,
            body,
        };
        let answer = match tokio::time::timeout(ttl, self.transport.send(envelope, ttl)).await {
            Ok(answer) => answer,
            Err(_) => Err(TransportError::Timeout),
        };
        answer.map_err(|error| self.failure(error, action, ttl))
    }

    fn failure(&self, error: TransportError, action: RPCTypes, ttl: Duration) -> RPCError<Types> {
        match error {
            TransportError::Timeout => RPCError::Timeout(Timeout {
                action,
                id: self.from.replica.0,
                target: self.to.replica.0,
                timeout: ttl,
            }),
            error => RPCError::Unreachable(Unreachable::new(&error)),
        }
    }

    async fn ask_vote(
        &self,
        request: RaftVoteRequest<Types>,
        pre: bool,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = VoteRequest {
            vote: convert::vote(&request.vote),
            last: request.last_log_id.as_ref().map(convert::position),
            transfer: request.leadership_transfer,
        };
        let body = if pre {
            Request::PreVote(request)
        } else {
            Request::Vote(request)
        };
        match self.call(body, RPCTypes::Vote, option.soft_ttl()).await? {
            Reply::Vote(reply) => Ok(VoteResponse {
                vote: convert::raft_vote(&reply.vote),
                vote_granted: reply.granted,
                last_log_id: reply.last.map(convert::log_id),
            }),
            _ => Err(odd_reply()),
        }
    }

    /// Sends one piece, again when there is no answer, and the last one until the snapshot is
    /// installed; `Ok(Some(vote))` ends the transfer.
    async fn send_chunk(
        &self,
        chunk: SnapshotChunk,
    ) -> Result<Option<RaftVote>, StreamingError<Types>> {
        let mut tries = 0;
        loop {
            let sent = self.call(
                Request::Snapshot(chunk.clone()),
                RPCTypes::InstallSnapshot,
                CHUNK_ANSWER,
            );
            tries += 1;
            let reply = match sent.await {
                Err(RPCError::Timeout(_)) if tries < CHUNK_TRIES => continue,
                reply => reply?,
            };
            return match reply {
                Reply::Snapshot(SnapshotReply::Next) => Ok(None),
                Reply::Snapshot(SnapshotReply::Installing) => {
                    tries = 0;
                    continue;
                }
                Reply::Snapshot(SnapshotReply::Installed(vote)) => {
                    Ok(Some(convert::raft_vote(&vote)))
                }
                Reply::Snapshot(SnapshotReply::Restart) => Err(StreamingError::Network(
                    NetworkError::from_string("snapshot must start again"),
                )),
                _ => Err(odd_reply().into()),
            };
        }
    }

    async fn send_snapshot(
        &self,
        vote: RaftVote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let SnapshotData::Live(source) = snapshot.snapshot else {
            let error = NetworkError::from_string("a snapshot without data cannot be sent");
            return Err(StreamingError::Network(error));
        };
        let Ok(_permit) = self.sends.acquire().await else {
            let error = NetworkError::from_string("the host has stopped");
            return Err(StreamingError::Network(error));
        };
        let AppliedState {
            position,
            membership,
        } = source.state();
        let mut pieces = Pieces::read(source);
        let mut next = SnapshotChunk {
            vote: convert::vote(&vote),
            transfer: self.transfers.fetch_add(1, Ordering::Relaxed),
            sequence: 0,
            position,
            membership,
            data: Bytes::new(),
            checksum: 0,
            last: false,
        };
        let broken = |error| StreamingError::Network(NetworkError::new(&error));
        while let Some(data) = pieces.next().await.map_err(broken)? {
            next.checksum = crc32c::crc32c(&data);
            next.data = data;
            if let Some(vote) = self.send_chunk(next.clone()).await? {
                return Ok(SnapshotResponse::new(vote));
            }
            next.sequence += 1;
        }
        next.data = Bytes::new();
        next.checksum = crc32c::crc32c(&[]);
        next.last = true;
        match self.send_chunk(next).await? {
            Some(vote) => {
                self.counters.snapshots_sent.add();
                Ok(SnapshotResponse::new(vote))
            }
            None => Err(odd_reply().into()),
        }
    }
}

/// The pieces of a snapshot while it is being read.
enum Pieces {
    /// Read as a whole: on a single-threaded runtime, where other threads would make runs differ.
    Whole(VecDeque<Bytes>, Result<(), StorageError>),
    /// Read by another thread, as fast as they are taken; closed when all are read.
    Reading(mpsc::Receiver<Result<Bytes, StorageError>>),
}

impl Pieces {
    fn read(source: Box<dyn SnapshotSource>) -> Self {
        if Handle::current().runtime_flavor() != RuntimeFlavor::MultiThread {
            let mut pieces = VecDeque::new();
            let outcome = source.write(&mut |piece| {
                pieces.push_back(piece);
                Ok(())
            });
            return Self::Whole(pieces, outcome);
        }
        let (sender, pieces) = mpsc::channel(SNAPSHOT_READ_AHEAD);
        tokio::task::spawn_blocking(move || {
            let given_up = |_| StorageError::new("snapshot was given up");
            let outcome =
                source.write(&mut |piece| sender.blocking_send(Ok(piece)).map_err(given_up));
            if let Err(error) = outcome {
                let _ = sender.blocking_send(Err(error));
            }
        });
        Self::Reading(pieces)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        match self {
            Self::Whole(pieces, outcome) => match pieces.pop_front() {
                Some(piece) => Ok(Some(piece)),
                None => std::mem::replace(outcome, Ok(())).map(|()| None),
            },
            Self::Reading(pieces) => pieces.recv().await.transpose(),
        }
    }
}

fn odd_reply() -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&Refusal::Malformed))
}

/// What a peer is given for entries beyond the time of a heartbeat: to receive them and to have them
/// on its disk. A large one that was given up before that would be sent again and again.
fn time_for(request: &AppendRequest) -> Duration {
    let bytes = request
        .entries
        .iter()
        .map(|entry| entry.payload.bytes() as u64);
    Duration::from_millis(bytes.sum::<u64>() / APPEND_BYTES_PER_MS)
}

impl RaftNetworkV2<Types> for Connection {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let request = AppendRequest {
            vote: convert::vote(&request.vote),
            previous: request.prev_log_id.as_ref().map(convert::position),
            entries: request.entries.into_iter().map(convert::entry).collect(),
            committed: request.leader_commit.as_ref().map(convert::position),
        };
        let ttl = option.soft_ttl() + time_for(&request);
        let body = Request::Append(request);
        match self.call(body, RPCTypes::AppendEntries, ttl).await? {
            Reply::Append(AppendReply::Stored) => Ok(AppendEntriesResponse::Success),
            Reply::Append(AppendReply::StoredUpTo(upto)) => Ok(
                AppendEntriesResponse::PartialSuccess(upto.map(convert::log_id)),
            ),
            Reply::Append(AppendReply::Conflict) => Ok(AppendEntriesResponse::Conflict),
            Reply::Append(AppendReply::HigherVote(vote)) => {
                Ok(AppendEntriesResponse::HigherVote(convert::raft_vote(&vote)))
            }
            _ => Err(odd_reply()),
        }
    }

    async fn vote(
        &mut self,
        request: RaftVoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(request, false, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: RaftVoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(request, true, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<openraft::raft::TransferLeaderResponse<Types>, RPCError<Types>> {
        let body = Request::TransferLeader {
            vote: convert::vote(request.from_leader()),
            last: request.last_log_id().map(convert::position),
            successor: ReplicaId(*request.to_node_id()),
        };
        match self
            .call(body, RPCTypes::TransferLeader, option.soft_ttl())
            .await?
        {
            Reply::TransferLeader { accepted: true } => Ok(Ok(())),
            Reply::TransferLeader { accepted: false } => Err(RPCError::Network(
                NetworkError::from_string("the successor does not campaign"),
            )),
            _ => Err(odd_reply()),
        }
    }
}

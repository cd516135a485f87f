//! Messages from other replicas -> openraft.
//!
//! Votes are refused for one lease after a replica was opened: before it stopped it may have
//! acknowledged a leader, whose lease counts on this replica's refusal, and openraft does not
//! remember that over a restart.

use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{Fatal, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest,
    VoteRequest as RaftVoteRequest, VoteResponse,
};

use super::convert;
use super::core::Core;
use super::handle::{GroupInner, Running};
use super::types::seeded;
use crate::membership::{Membership, Peer};
use crate::snapshot::{Install, Received, Slot, SnapshotData};
use crate::state_machine::StorageError;
use crate::transport::{
    AppendReply, AppendRequest, Envelope, Refusal, Reply, Request, SnapshotChunk, SnapshotReply,
    VoteReply, VoteRequest,
};

/// While a snapshot is being installed its sender gets an answer at least this often.
const INSTALL_ANSWER: Duration = Duration::from_secs(1);

impl GroupInner {
    /// Handles a message; the host has checked that it is for this replica.
    pub(crate) async fn serve(&self, envelope: Envelope) -> Result<Reply, Refusal> {
        // Whoever has a message for a replica that is alone is no member of its group.
        let Some(Running::Core(core)) = self.running() else {
            return Err(Refusal::Stopped);
        };
        let Envelope { from, body, .. } = envelope;
        match body {
            Request::Quiesce(quiesce) => return Ok(self.serve_quiesce(&core, from, quiesce)),
            Request::Wake => return Ok(self.serve_wake(&core)),
            Request::PreVote(_) if core.is_quiescent() => {
                self.wake(&core);
                return Ok(refuse_vote(&core));
            }
            _ => {}
        }
        let served = self.serve_raft(&core, from, body).await;
        core.rouse();
        served
    }

    /// Handles a message of the consensus itself.
    async fn serve_raft(&self, core: &Core, from: Peer, body: Request) -> Result<Reply, Refusal> {
        match body {
            Request::Append(request) => self.serve_append(core, request).await,
            Request::Vote(request) => serve_vote(core, request, false).await,
            Request::PreVote(request) => serve_vote(core, request, true).await,
            Request::TransferLeader {
                vote,
                successor,
                last,
            } => {
                let request = TransferLeaderRequest::new(
                    convert::raft_vote(&vote),
                    successor.0,
                    last.map(convert::log_id),
                );
                let handled = core.raft.handle_transfer_leader(request);
                let accepted = seeded(self.wiring.next_seed(), handled)
                    .await
                    .map_err(stopped)?;
                Ok(Reply::TransferLeader {
                    accepted: accepted.is_ok(),
                })
            }
            Request::Snapshot(chunk) => self.serve_snapshot(core, from, chunk).await,
            Request::Quiesce(_) | Request::Wake => Err(Refusal::Malformed),
        }
    }

    async fn serve_append(&self, core: &Core, request: AppendRequest) -> Result<Reply, Refusal> {
        if request.previous.is_none() && !request.entries.is_empty() && self.awaits_snapshot() {
            return Err(Refusal::AwaitsSnapshot);
        }
        let entries: Result<Vec<_>, _> = request
            .entries
            .into_iter()
            .map(convert::raft_entry)
            .collect();
        let request = AppendEntriesRequest {
            vote: convert::raft_vote(&request.vote),
            prev_log_id: request.previous.map(convert::log_id),
            entries: entries.map_err(|_| Refusal::Malformed)?,
            leader_commit: request.committed.map(convert::log_id),
        };
        let reply = core.raft.append_entries(request).await.map_err(no_reply)?;
        if !matches!(reply, AppendEntriesResponse::HigherVote(_)) {
            core.note_leader();
        }
        Ok(Reply::Append(match reply {
            AppendEntriesResponse::Success => AppendReply::Stored,
            AppendEntriesResponse::PartialSuccess(upto) => {
                AppendReply::StoredUpTo(upto.as_ref().map(convert::position))
            }
            AppendEntriesResponse::Conflict => AppendReply::Conflict,
            AppendEntriesResponse::HigherVote(vote) => {
                AppendReply::HigherVote(convert::vote(&vote))
            }
        }))
    }

    /// Whether a replica that joins may begin with a snapshot.
    ///
    /// Invariant: it is a member in what it begins with. So whatever was decided for the members
    /// that there were before it lies behind it.
    fn may_begin_with(&self, first: &SnapshotChunk) -> bool {
        let membership = Membership::decode(&first.membership);
        let member = membership.is_ok_and(|known| known.members.contains_key(&self.me.replica));
        let admits = self.admits.as_ref();
        member && admits.is_none_or(|admits| admits(&first.data))
    }

    async fn serve_snapshot(
        &self,
        core: &Core,
        from: Peer,
        chunk: SnapshotChunk,
    ) -> Result<Reply, Refusal> {
        core.note_leader();
        if chunk.sequence == 0 && self.awaits_snapshot() && !self.may_begin_with(&chunk) {
            return Ok(Reply::Snapshot(SnapshotReply::Restart));
        }
        let received = core.staging.lock().receive(from, &chunk);
        let staged = match received {
            Received::Keep(slot) => return Ok(self.keep_piece(core, slot, &chunk).await),
            Received::Known => return Ok(Reply::Snapshot(SnapshotReply::Next)),
            Received::Restart => return Ok(Reply::Snapshot(SnapshotReply::Restart)),
            Received::Again(install) => return see_to_the_end(core, install).await,
            Received::Complete(slot) => slot.lock().await.take(),
        };
        let staged = match staged {
            None if chunk.sequence == 0 => self.wiring.spool.begin(self.id).ok(),
            staged => staged,
        };
        // A piece that came before could not be kept.
        let Some(staged) = staged else {
            return Ok(Reply::Snapshot(SnapshotReply::Restart));
        };
        let membership = Membership::decode(&chunk.membership).map_err(|_| Refusal::Malformed)?;
        let last_membership =
            convert::raft_stored(&membership.encode()).map_err(|_| Refusal::Malformed)?;
        let meta = openraft::type_config::alias::SnapshotMetaOf::<super::types::Types> {
            last_log_id: chunk.position.map(convert::log_id),
            last_membership,
        };
        let snapshot =
            openraft::type_config::alias::SnapshotOf::<super::types::Types, SnapshotData> {
                meta,
                snapshot: SnapshotData::Staged(staged),
            };
        let vote = convert::raft_vote(&chunk.vote);
        let (raft, counters) = (core.raft.clone(), Arc::clone(&self.wiring.counters));
        let done = async move {
            let installed = raft.install_full_snapshot(vote, snapshot).await.ok()?;
            counters.snapshots_received.add();
            Some(convert::vote(&installed.vote))
        };
        see_to_the_end(core, Install::new(from, &chunk, Box::pin(done))).await
    }

    /// Keeps a piece of a snapshot until all of them are here.
    async fn keep_piece(&self, core: &Core, slot: Slot, piece: &SnapshotChunk) -> Reply {
        let mut held = Arc::clone(&slot).lock_owned().await;
        let (spool, group) = (Arc::clone(&self.wiring.spool), self.id);
        let (begins, data) = (piece.sequence == 0, piece.data.clone());
        let keep = move || -> Result<(), StorageError> {
            let mut spooled = match held.take() {
                Some(spooled) => spooled,
                None if begins => spool.begin(group)?,
                // One that came before could not be kept.
                None => return Err(StorageError::new("a piece is missing")),
            };
            spooled.append(data)?;
            *held = Some(spooled);
            Ok(())
        };
        let kept = crate::shell::blocking(keep).await;
        let kept = kept.map_err(|error| StorageError::new(error.to_string()));
        if let Err(error) = kept.flatten() {
            tracing::warn!(group = %self.id, %error, "a snapshot that is being received is given up");
            core.staging.lock().give_up(&slot);
            return Reply::Snapshot(SnapshotReply::Restart);
        }
        Reply::Snapshot(SnapshotReply::Next)
    }
}

/// Answers when the snapshot is installed, or after a while that it is not yet: its sender must
/// hear from time to time that this replica lives.
async fn see_to_the_end(core: &Core, mut install: Install) -> Result<Reply, Refusal> {
    Ok(Reply::Snapshot(match install.wait(INSTALL_ANSWER).await {
        Some(Some(vote)) => SnapshotReply::Installed(vote),
        Some(None) => return Err(Refusal::Stopped),
        None => {
            core.staging.lock().installing(install);
            SnapshotReply::Installing
        }
    }))
}

async fn serve_vote(core: &Core, request: VoteRequest, pre: bool) -> Result<Reply, Refusal> {
    if !request.transfer && core.vote_guard_holds() {
        return Ok(refuse_vote(core));
    }
    let request = RaftVoteRequest {
        vote: convert::raft_vote(&request.vote),
        last_log_id: request.last.map(convert::log_id),
        leadership_transfer: request.transfer,
    };
    let reply = if pre {
        core.raft.pre_vote(request).await
    } else {
        core.raft.vote(request).await
    };
    let VoteResponse {
        vote,
        vote_granted,
        last_log_id,
    } = reply.map_err(no_reply)?;
    Ok(Reply::Vote(VoteReply {
        vote: convert::vote(&vote),
        granted: vote_granted,
        last: last_log_id.as_ref().map(convert::position),
    }))
}

fn refuse_vote(core: &Core) -> Reply {
    let state = core.log.state();
    Reply::Vote(VoteReply {
        vote: state.vote.unwrap_or_default(),
        granted: false,
        last: state.last,
    })
}

fn stopped(_: Fatal<super::types::Types>) -> Refusal {
    Refusal::Stopped
}

fn no_reply<E>(_: RaftError<super::types::Types, E>) -> Refusal {
    Refusal::Stopped
}

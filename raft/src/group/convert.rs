//! openraft's values <-> ours.
//!
//! openraft counts log entries from 0, [`LogPosition`] from 1: the first entry of a log has index
//! 0 there and 1 here.

use std::collections::BTreeSet;

use bytes::Bytes;
use openraft::EntryPayload as RaftPayload;
use openraft::vote::leader_id_std::CommittedLeaderId;

use super::types::{Command, LogId, RaftEntry, RaftMembership, RaftVote, StoredMembership};
use crate::codec::Malformed;
use crate::ids::{LogPosition, ReplicaId};
use crate::membership::Membership;
use crate::state_machine::{Entry, EntryPayload};
use crate::transport::Vote;

pub(crate) fn position(id: &LogId) -> LogPosition {
    LogPosition {
        term: id.committed_leader_id().term,
        index: id.index() + 1,
    }
}

pub(crate) fn log_id(position: LogPosition) -> LogId {
    debug_assert!(position.index > 0, "index 0 stands for the empty log");
    LogId::new(
        CommittedLeaderId::new(position.term),
        position.index.saturating_sub(1),
    )
}

pub(crate) fn vote(vote: &RaftVote) -> Vote {
    Vote {
        term: vote.leader_id.term,
        candidate: ReplicaId(vote.leader_id.voted_for),
        committed: vote.committed,
    }
}

pub(crate) fn raft_vote(vote: &Vote) -> RaftVote {
    if vote.committed {
        RaftVote::new_committed(vote.term, vote.candidate.0)
    } else {
        RaftVote::new(vote.term, vote.candidate.0)
    }
}

pub(crate) fn entry(raft: RaftEntry) -> Entry {
    let position = position(&raft.log_id);
    let payload = match raft.payload {
        RaftPayload::Blank => EntryPayload::Blank,
        RaftPayload::Normal(command) => EntryPayload::Command(command.0),
        RaftPayload::Membership(members) => {
            EntryPayload::Membership(membership(Some(position), &members).encode())
        }
    };
    Entry { position, payload }
}

pub(crate) fn raft_entry(entry: Entry) -> Result<RaftEntry, Malformed> {
    if entry.position.index == 0 {
        return Err(Malformed);
    }
    let payload = match entry.payload {
        EntryPayload::Blank => RaftPayload::Blank,
        EntryPayload::Command(bytes) => RaftPayload::Normal(Command(bytes)),
        EntryPayload::Membership(bytes) => {
            RaftPayload::Membership(raft_membership(&Membership::decode(&bytes)?)?)
        }
    };
    Ok(RaftEntry {
        log_id: log_id(entry.position),
        payload,
    })
}

pub(crate) fn membership(position: Option<LogPosition>, raft: &RaftMembership) -> Membership {
    let replicas = |config: &BTreeSet<u64>| {
        config
            .iter()
            .map(|id| ReplicaId(*id))
            .collect::<BTreeSet<_>>()
    };
    Membership {
        position,
        configs: raft.get_joint_config().iter().map(replicas).collect(),
        members: raft
            .nodes()
            .map(|(id, place)| (ReplicaId(*id), *place))
            .collect(),
    }
}

fn raft_membership(membership: &Membership) -> Result<RaftMembership, Malformed> {
    let configs = membership
        .configs
        .iter()
        .map(|config| config.iter().map(|replica| replica.0).collect())
        .collect();
    let nodes: std::collections::BTreeMap<u64, _> = membership
        .members
        .iter()
        .map(|(replica, place)| (replica.0, *place))
        .collect();
    RaftMembership::new(configs, nodes).map_err(|_| Malformed)
}

pub(crate) fn stored(membership: &StoredMembership) -> Membership {
    self::membership(
        membership.log_id().as_ref().map(position),
        membership.membership(),
    )
}

pub(crate) fn raft_stored(bytes: &Bytes) -> Result<StoredMembership, Malformed> {
    let membership = Membership::decode(bytes)?;
    if membership == Membership::default() {
        return Ok(StoredMembership::default());
    }
    Ok(StoredMembership::new(
        membership.position.map(log_id),
        raft_membership(&membership)?,
    ))
}

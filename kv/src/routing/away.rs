//! Ranges as a router sees them: those with a replica on this node, and those elsewhere, which it
//! remembers until they turn out to have moved.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use pontoon_raft::{LogPosition, NodeId, Peer};
use serde::{Deserialize, Serialize};

use crate::range::{Descriptor, Replica};
use crate::txn::Span;

/// Where a range is, as a row of the system range under its first key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Address {
    /// Its bounds.
    pub descriptor: Descriptor,
    /// Its members.
    pub members: Vec<Peer>,
    /// The entry that made them its members.
    pub position: Option<LogPosition>,
}

impl Address {
    /// Whether it says more than another of the same range.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        (self.descriptor.generation, self.position) > (other.descriptor.generation, other.position)
    }
}

/// A range without a replica on this node.
#[derive(Debug)]
pub(crate) struct AwayRange {
    address: Address,
    leader: Mutex<Option<NodeId>>,
    turn: AtomicUsize,
}

impl AwayRange {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            leader: Mutex::new(None),
            turn: AtomicUsize::new(0),
        }
    }

    /// Whether it says more than a replica on this node knows.
    pub(crate) fn is_newer_than(&self, held: &Replica) -> bool {
        let known = held.group().status().membership.position;
        let generation = held.state().descriptor().generation;
        (self.address.descriptor.generation, self.address.position) > (generation, known)
    }

    /// Whom to ask: who is believed to lead, or one member after the other.
    pub(crate) fn whom(&self) -> Option<NodeId> {
        if let Some(leader) = *self.leader.lock() {
            return Some(leader);
        }
        let members = &self.address.members;
        let turn = self.turn.load(Ordering::Relaxed) % members.len().max(1);
        members.get(turn).map(|peer| peer.place.node)
    }

    /// The node that leads it, if one has answered as such.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        *self.leader.lock()
    }

    /// Another node shall be asked next, which one if it is known.
    pub(crate) fn ask_another(&self, leader: Option<NodeId>) {
        *self.leader.lock() = leader;
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// The node has answered as the leader.
    pub(crate) fn answered(&self, node: NodeId) {
        let mut leader = self.leader.lock();
        if *leader != Some(node) {
            *leader = Some(node);
        }
    }
}

/// A range as a router sees it.
#[derive(Clone)]
pub(crate) enum Route {
    /// There is a replica on this node.
    Held(Arc<Replica>),
    /// There is none.
    Away(Arc<AwayRange>),
}

impl Route {
    /// The number of the range.
    pub(crate) fn range(&self) -> u64 {
        match self {
            Self::Held(replica) => replica.state().range,
            Self::Away(away) => away.address.descriptor.range,
        }
    }

    /// Its keys, as far as is known here.
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Held(replica) => replica.state().descriptor().span,
            Self::Away(away) => away.address.descriptor.span.clone(),
        }
    }

    /// Whom to ask on another node.
    pub(crate) fn whom(&self) -> Option<NodeId> {
        match self {
            Self::Held(_) => None,
            Self::Away(away) => away.whom(),
        }
    }

    /// Another node leads it.
    pub(crate) fn ask_another(&self, leader: NodeId) {
        if let Self::Away(away) = self {
            away.ask_another(Some(leader));
        }
    }

    /// The replica on this node.
    pub(crate) fn held(&self) -> Option<&Arc<Replica>> {
        match self {
            Self::Held(replica) => Some(replica),
            Self::Away(_) => None,
        }
    }
}

/// Ranges that are elsewhere, by their first keys.
#[derive(Debug, Default)]
pub(crate) struct AwayRanges {
    by_start: RwLock<BTreeMap<Bytes, Arc<AwayRange>>>,
}

impl AwayRanges {
    /// Remembers an address, in place of all older ones of the same keys.
    pub(crate) fn learn(&self, address: Address) {
        let mut by_start = self.by_start.write();
        let span = &address.descriptor.span;
        let overlapping =
            |known: &Arc<AwayRange>| known.address.descriptor.span.common(span).is_some();
        let newer = |known: &&Arc<AwayRange>| {
            overlapping(known)
                && (known.address == address || known.address.is_newer_than(&address))
        };
        if by_start.values().find(newer).is_some() {
            return;
        }
        by_start.retain(|_, known| !overlapping(known));
        by_start.insert(span.start.clone(), Arc::new(AwayRange::new(address)));
    }

    /// The range that holds `key`.
    pub(crate) fn at(&self, key: &[u8]) -> Option<Arc<AwayRange>> {
        let by_start = self.by_start.read();
        let bounds = (Bound::Unbounded, Bound::Included(key));
        let (_, away) = by_start.range::<[u8], _>(bounds).next_back()?;
        let holds = away.address.descriptor.span.contains(key);
        holds.then(|| Arc::clone(away))
    }

    /// The range that holds the last keys before `end`.
    pub(crate) fn before(&self, end: &[u8]) -> Option<Arc<AwayRange>> {
        let by_start = self.by_start.read();
        let bounds = (Bound::Unbounded, Bound::Excluded(end));
        let (_, away) = by_start.range::<[u8], _>(bounds).next_back()?;
        let holds = end <= away.address.descriptor.span.end.as_ref();
        holds.then(|| Arc::clone(away))
    }
}

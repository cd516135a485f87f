//! Who belongs to a group, and the encoding of that in log entries and in the state machine.
//!
//! A membership names replicas and the nodes and stores where they live, never addresses: a node
//! may come back under another address, and the transport resolves nodes by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::codec::{Malformed, Reader, put_count};
use crate::ids::{LogPosition, NodeId, ReplicaId, StoreId};

/// Where a replica lives.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Place {
    /// The process.
    pub node: NodeId,
    /// The data directory within it.
    pub store: StoreId,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.store)
    }
}

/// A replica and where it lives.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Peer {
    /// The replica.
    pub replica: ReplicaId,
    /// Its node and store.
    pub place: Place,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.replica, self.place)
    }
}

/// The members of a group as of a log position.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Membership {
    /// The entry that set it, `None` before the first.
    pub position: Option<LogPosition>,
    /// The voters: one set, or two while a change is under way (a majority of both is needed).
    pub configs: Vec<BTreeSet<ReplicaId>>,
    /// Every member, voters and learners, and where it lives.
    pub members: BTreeMap<ReplicaId, Place>,
}

impl Membership {
    /// Format version of the encoding.
    const VERSION: u8 = 1;

    /// Every replica whose vote counts in the old or the new configuration.
    pub fn voters(&self) -> BTreeSet<ReplicaId> {
        self.configs.iter().flatten().copied().collect()
    }

    /// Members that receive the log and have no vote.
    pub fn learners(&self) -> BTreeSet<ReplicaId> {
        let voters = self.voters();
        self.members
            .keys()
            .copied()
            .filter(|replica| !voters.contains(replica))
            .collect()
    }

    /// A member with its place.
    pub fn peer(&self, replica: ReplicaId) -> Option<Peer> {
        self.members.get(&replica).map(|place| Peer {
            replica,
            place: *place,
        })
    }

    /// Whether `replica` is the one voter there is.
    pub fn sole_voter_is(&self, replica: ReplicaId) -> bool {
        !self.configs.is_empty()
            && self
                .configs
                .iter()
                .all(|config| config.len() == 1 && config.contains(&replica))
    }

    /// The encoding carried by log entries and kept by state machines.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(32 + 24 * self.members.len());
        buffer.put_u8(Self::VERSION);
        match self.position {
            None => buffer.put_u8(0),
            Some(position) => {
                buffer.put_u8(1);
                buffer.put_u64(position.term);
                buffer.put_u64(position.index);
            }
        }
        put_count(&mut buffer, self.configs.len());
        for config in &self.configs {
            put_count(&mut buffer, config.len());
            config.iter().for_each(|replica| buffer.put_u64(replica.0));
        }
        put_count(&mut buffer, self.members.len());
        for (replica, place) in &self.members {
            buffer.put_u64(replica.0);
            buffer.put_u64(place.node.0);
            buffer.put_u64(place.store.0);
        }
        buffer.freeze()
    }

    /// Reads what [`Self::encode`] wrote. Empty bytes are the membership before the first.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(bytes.clone());
        if reader.u8()? != Self::VERSION {
            return Err(Malformed);
        }
        let position = match reader.u8()? {
            0 => None,
            1 => Some(LogPosition {
                term: reader.u64()?,
                index: reader.u64()?,
            }),
            _ => return Err(Malformed),
        };
        let mut membership = Self {
            position,
            ..Self::default()
        };
        for _ in 0..reader.count(4)? {
            let mut config = BTreeSet::new();
            for _ in 0..reader.count(8)? {
                config.insert(ReplicaId(reader.u64()?));
            }
            membership.configs.push(config);
        }
        for _ in 0..reader.count(24)? {
            let replica = ReplicaId(reader.u64()?);
            let place = Place {
                node: NodeId(reader.u64()?),
                store: StoreId(reader.u64()?),
            };
            membership.members.insert(replica, place);
        }
        reader.end()?;
        Ok(membership)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Membership {
        let place = |n| Place {
            node: NodeId(n),
            store: StoreId(n * 10),
        };
        Membership {
            position: Some(LogPosition { term: 3, index: 70 }),
            configs: vec![
                BTreeSet::from([ReplicaId(1), ReplicaId(2)]),
                BTreeSet::from([ReplicaId(2)]),
            ],
            members: (1..=4).map(|n| (ReplicaId(n), place(n))).collect(),
        }
    }

    #[test]
    fn encoding_round_trips() {
        for membership in [sample(), Membership::default()] {
            assert_eq!(Membership::decode(&membership.encode()), Ok(membership));
        }
        assert_eq!(Membership::decode(&Bytes::new()), Ok(Membership::default()));
    }

    #[test]
    fn damaged_encoding_is_refused() {
        let good = sample().encode();
        for length in 1..good.len() {
            assert_eq!(
                Membership::decode(&good.slice(..length)),
                Err(Malformed),
                "cut at {length}"
            );
        }
        let mut long = BytesMut::from(&good[..]);
        long.put_u8(0);
        assert_eq!(Membership::decode(&long.freeze()), Err(Malformed));
    }

    #[test]
    fn sole_voter_needs_every_configuration() {
        let mut membership = sample();
        assert!(!membership.sole_voter_is(ReplicaId(2)));
        membership.configs.remove(0);
        assert!(membership.sole_voter_is(ReplicaId(2)));
        assert!(!membership.sole_voter_is(ReplicaId(1)));
        assert!(!Membership::default().sole_voter_is(ReplicaId(1)));
    }
}

//! [`Used`]: how much ranges are used, when their leaders change.

use std::collections::BTreeMap;
use std::time::Duration;

use pontoon_raft::NodeId;

use crate::cluster::RangeReport;

/// A new leader has measured after this how much its range is used.
const MEASURED_AFTER: Duration = Duration::from_secs(5);

/// How much each range was used by its last leader that had measured it. Without that a node would
/// look idle that has just been given something to lead, and would be given too much.
#[derive(Debug, Default)]
pub(super) struct Used(BTreeMap<u64, Known>);

#[derive(Debug)]
struct Known {
    leader: NodeId,
    since: Duration,
    requests: u64,
}

impl Used {
    /// Has ranges whose leaders are new be used as much as before, at least.
    pub(super) fn note(&mut self, ranges: &mut BTreeMap<u64, RangeReport>, now: Duration) {
        self.0.retain(|range, _| ranges.contains_key(range));
        for (number, range) in ranges {
            let leader = range.leader.place.node;
            let known = self.0.entry(*number).or_insert(Known {
                leader,
                since: now,
                requests: 0,
            });
            if known.leader != leader {
                (known.leader, known.since) = (leader, now);
            }
            if now.saturating_sub(known.since) < MEASURED_AFTER {
                range.requests = range.requests.max(known.requests);
            } else {
                known.requests = range.requests;
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use pontoon_raft::{Membership, Peer, Place, ReplicaId};

    use super::*;
    use crate::range::Descriptor;
    use crate::txn::Span;

    pub(in crate::db::cluster) fn report(leader: u64, requests: u64) -> RangeReport {
        RangeReport {
            descriptor: Descriptor {
                frozen: None,
                range: 7,
                generation: 1,
                span: Span {
                    start: Bytes::new(),
                    end: Bytes::new(),
                },
            },
            membership: Membership::default(),
            settled: true,
            leader: Peer {
                replica: ReplicaId(leader),
                place: Place {
                    node: NodeId(leader),
                    ..Place::default()
                },
            },
            behind: Vec::new(),
            bytes: 0,
            requests,
            term: 1,
        }
    }

    #[test]
    fn a_new_leader_is_used_as_the_old_one_was_until_it_has_measured() {
        let mut used = Used::default();
        let mut seen = |seconds, leader, requests| {
            let mut ranges = BTreeMap::from([(7, report(leader, requests))]);
            used.note(&mut ranges, Duration::from_secs(seconds));
            ranges[&7].requests
        };
        assert_eq!(seen(10, 1, 3_000), 3_000);
        assert_eq!(seen(15, 1, 4_000), 4_000);
        assert_eq!(seen(16, 2, 0), 4_000);
        assert_eq!(seen(17, 3, 100), 4_000, "nobody has measured in between");
        assert_eq!(seen(18, 3, 5_000), 5_000);
        assert_eq!(seen(22, 3, 900), 900);
        assert_eq!(seen(23, 1, 0), 900);
    }
}

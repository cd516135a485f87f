//! [`RangeFigures`]: how the ranges of a node are, in numbers.

use crate::cluster::RangeReport;
use crate::db::node::Node;
use crate::placement::has_caught_up;

/// How the ranges of a node are, in numbers, for monitoring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RangeFigures {
    /// Replicas on the node.
    pub replicas: usize,
    /// Those that lead their ranges.
    pub leaders: usize,
    /// Those of ranges that nobody uses, which send nothing.
    pub quiescent: usize,
    /// Those that neither lead with a majority nor have heard a leader lately: nothing is written
    /// there.
    pub without_quorum: usize,
    /// Members of the ranges that the node leads, here and elsewhere, whose logs are far behind or
    /// of which that is not known.
    pub behind: usize,
    /// Requests a second to the ranges that the node leads.
    pub requests: u64,
    /// Bytes of the ranges that the node leads, roughly.
    pub bytes: u64,
}

impl Node {
    /// How the ranges of this node are.
    pub fn range_figures(&self) -> RangeFigures {
        let (replicas, led) = (self.replicas(), self.report().leads);
        let behind = |range: &RangeReport| {
            let members = range.membership.members.keys();
            members
                .filter(|member| !has_caught_up(range, **member))
                .count()
        };
        let quiescent = replicas.iter().filter(|r| r.group().is_quiescent());
        let without_quorum = replicas.iter().filter(|r| !r.group().has_leader());
        RangeFigures {
            replicas: replicas.len(),
            leaders: led.len(),
            quiescent: quiescent.count(),
            without_quorum: without_quorum.count(),
            behind: led.iter().map(behind).sum(),
            requests: led.iter().map(|range| range.requests).sum(),
            bytes: led.iter().map(|range| range.bytes).sum(),
        }
    }
}

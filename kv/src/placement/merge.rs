//! Which ranges should become one.

use std::collections::BTreeSet;

use pontoon_raft::NodeId;

use crate::cluster::RangeReport;
use crate::placement::plan::{Picture, Plan, SYSTEM_RANGE};

/// Two neighbours, in the order of their keys.
pub(super) type Pair<'r> = (&'r RangeReport, &'r RangeReport);

/// Neighbours that may become one range, wherever their replicas are: small ones that are used little,
/// whose bounds are old and are not wanted.
pub(super) fn pairs<'r>(plan: &Plan<'_>, picture: &'r Picture) -> Vec<Pair<'r>> {
    let wishes = plan.wishes;
    let fit = |range: &&RangeReport| {
        let number = &range.descriptor.range;
        let steady = picture.steady.get(number);
        *number != SYSTEM_RANGE
            && !picture.wanted_moves.contains_key(number)
            && steady.is_some_and(|steady| *steady >= wishes.merge_after)
            && plan.part(range).is_none()
    };
    let mut ranges: Vec<&RangeReport> = picture.ranges.iter().filter(fit).collect();
    ranges.sort_by(|one, other| one.descriptor.span.start.cmp(&other.descriptor.span.start));
    let pairs = ranges.windows(2).filter_map(|pair| match pair {
        [left, right] => Some((*left, *right)),
        _ => None,
    });
    pairs
        .filter(|(left, right)| {
            let key = &right.descriptor.span.start;
            left.descriptor.span.end == *key
                && !picture.wanted_splits.contains(key)
                && !picture.rules.parts(key)
        })
        .filter(|pair| bytes(pair) <= wishes.merge_bytes && wishes.merge_bytes > 0)
        // They would be split again, or one node would have to do for both what two do.
        .filter(|(left, right)| left.requests + right.requests <= wishes.merge_requests)
        .collect()
}

/// Of neighbours that may become one range, the two that are smallest together and on the same nodes,
/// with nothing to be done about either. Rows do not move for it.
pub(super) fn next<'r>(pairs: &[Pair<'r>], rest: &[&RangeReport]) -> Option<Pair<'r>> {
    let rest: BTreeSet<u64> = rest.iter().map(|range| range.descriptor.range).collect();
    let rests = |range: &RangeReport| {
        rest.contains(&range.descriptor.range) && range.membership.learners().is_empty()
    };
    let pairs = pairs.iter().copied();
    pairs
        .filter(|(left, right)| rests(left) && rests(right) && nodes(left) == nodes(right))
        .min_by_key(bytes)
}

/// How many bytes two ranges have together.
pub(super) fn bytes((left, right): &Pair<'_>) -> u64 {
    left.bytes.saturating_add(right.bytes)
}

/// Where a range has its members.
pub(super) fn nodes(range: &RangeReport) -> BTreeSet<NodeId> {
    let members = range.membership.members.values();
    members.map(|place| place.node).collect()
}

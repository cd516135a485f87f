//! Which ranges should become one.

use std::collections::BTreeSet;

use pontoon_raft::NodeId;

use crate::cluster::RangeReport;
use crate::placement::plan::{Picture, SYSTEM_RANGE, Wishes};

/// Two neighbours that should become one range, of those with which nothing else is wrong: the two
/// that are smallest together. They have the same nodes; rows do not move for it.
pub(super) fn next<'a>(
    calm: &[&'a RangeReport],
    picture: &Picture,
    wishes: &Wishes,
) -> Option<(&'a RangeReport, &'a RangeReport)> {
    let fit = |range: &&&RangeReport| {
        let steady = picture.steady.get(&range.descriptor.range);
        range.descriptor.range != SYSTEM_RANGE
            && range.membership.learners().is_empty()
            && steady.is_some_and(|steady| *steady >= wishes.merge_after)
    };
    let mut ranges: Vec<&RangeReport> = calm.iter().filter(fit).copied().collect();
    ranges.sort_by(|one, other| one.descriptor.span.start.cmp(&other.descriptor.span.start));
    let pairs = ranges.windows(2).filter_map(|pair| match pair {
        [left, right] => Some((*left, *right)),
        _ => None,
    });
    let together = |(left, right): &(&RangeReport, &RangeReport)| left.bytes + right.bytes;
    pairs
        .filter(|(left, right)| {
            let key = &right.descriptor.span.start;
            left.descriptor.span.end == *key
                && !picture.wanted_splits.contains(key)
                && !picture.rules.parts(key)
                && nodes(left) == nodes(right)
        })
        .filter(|pair| together(pair) <= wishes.merge_bytes && wishes.merge_bytes > 0)
        .min_by_key(together)
}

/// Where a range has its members.
pub(super) fn nodes(range: &RangeReport) -> BTreeSet<NodeId> {
    let members = range.membership.members.values();
    members.map(|place| place.node).collect()
}

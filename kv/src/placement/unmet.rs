//! Whether a rule of placement is satisfied, and why not.

use pontoon_raft::NodeId;

use crate::cluster::{Constraint, NodeStatus, Overview, RangeReport, Rule};
use crate::placement::Wishes;
use crate::txn::Span;

/// Why the ranges that hold keys of a span are not as a rule wants them; `None` when they are.
pub fn unmet(rule: &Rule, span: &Span, overview: &Overview) -> Option<String> {
    let held = |range: &&RangeReport| range.descriptor.span.common(span).is_some();
    let ranges = overview.ranges.iter().filter(held);
    let mut left = vec![span.clone()];
    let mut wrong = None;
    for range in ranges {
        let held = &range.descriptor.span;
        left = left.iter().flat_map(|part| part.without(held)).collect();
        wrong = wrong.or_else(|| wrong_of(rule, range, &overview.view.nodes));
    }
    if !left.is_empty() {
        return Some("no leader reports some of its keys".to_owned());
    }
    let wrong = wrong?;
    Some(match lacking(rule, &overview.view.nodes) {
        Some(lacking) => format!("{wrong}; {lacking}"),
        None => wrong,
    })
}

/// What is wrong with a range.
fn wrong_of(rule: &Rule, range: &RangeReport, nodes: &[NodeStatus]) -> Option<String> {
    let number = range.descriptor.range;
    let row = |node: NodeId| {
        let mut rows = nodes.iter().map(|status| &status.row);
        rows.find(|row| row.place.node == node)
    };
    let voters = range.membership.voters();
    let members = range.membership.members.values();
    let mut elsewhere = members.filter(|place| row(place.node).is_none_or(|r| !rule.admits(r)));
    if let (Some(place), Some(constraint)) = (elsewhere.next(), &rule.constraint) {
        let node = place.node;
        return Some(format!(
            "range {number} has a replica on {node}, which is not {constraint}"
        ));
    }
    let wanted = rule.replicas.map_or(voters.len(), usize::from);
    if voters.len() != wanted {
        let now = voters.len();
        return Some(format!(
            "range {number} has {now} replicas that vote, not {wanted}"
        ));
    }
    let leader = range.leader.place.node;
    match (&rule.leaders, row(leader)) {
        (Some(leaders), Some(row)) if !leaders.holds(row) => Some(format!(
            "range {number} is led by {leader}, which is not {leaders}"
        )),
        _ => None,
    }
}

/// Why a rule cannot be satisfied by the nodes there are now; `None` when it can.
pub fn lacking(rule: &Rule, nodes: &[NodeStatus]) -> Option<String> {
    let (able, lead) = rule.able(nodes);
    let usual = match rule.constraint {
        Some(_) => Wishes::default().replicas,
        // That there are few nodes is not for want of what the rule asks for.
        None => 1,
    };
    let place = |of: &Option<Constraint>| {
        of.as_ref()
            .map_or_else(String::new, |constraint| format!(" of {constraint}"))
    };
    let of = place(&rule.constraint);
    let wanted = rule.replicas.map_or(usual, usize::from);
    if able < wanted {
        return Some(format!(
            "there are live nodes{of} for {able} of {wanted} replicas"
        ));
    }
    let leaders = place(&rule.leaders);
    (lead == 0).then(|| format!("there is no live node{leaders} that could lead it"))
}

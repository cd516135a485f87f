//! What operators want of ranges, carried out by the model of [`super::tests`].

use std::time::Duration;

use pontoon_raft::{NodeId, ReplicaId};

use crate::cluster::{Alteration, NodeState, RangeReport, Wanted};
use crate::placement::tests::Model;
use crate::placement::{Wishes, is_fulfilled, objection, plan};

fn object(model: &Model, range: &RangeReport, what: Wanted) -> String {
    let wishes = Wishes::default();
    objection(&model.picture, &wishes, range, &what).unwrap_or_default()
}

fn holds(range: &RangeReport, node: u64) -> bool {
    let mut places = range.membership.members.values();
    places.any(|place| place.node == NodeId(node))
}

/// Of the ranges but the first, one with a replica on `from` and none on `to`.
fn range_on(model: &Model, from: u64, to: u64) -> usize {
    let mut ranges = model.picture.ranges.iter().skip(1);
    let found = ranges.position(|range| holds(range, from) && !holds(range, to));
    found.unwrap() + 1
}

#[test]
fn a_replica_goes_where_it_is_wanted_and_stays() {
    for leads in [false, true] {
        let mut model = Model::new(4, 8);
        model.settle();
        // From the node with the fewest to that with the most: balance has something to do then.
        let counts = model.counts();
        let by_count = |(_, (replicas, _)): &(&u64, &(usize, usize))| *replicas;
        let (from, _) = counts.iter().min_by_key(by_count).unwrap();
        let (to, _) = counts.iter().max_by_key(by_count).unwrap();
        assert_ne!(from, to);
        let at = range_on(&model, *from, *to);
        let range = &mut model.picture.ranges[at];
        let led = range.leader.place.node == NodeId(*from);
        if led != leads {
            let mut members = range.membership.members.iter();
            let other = members.find(|(_, place)| (place.node == NodeId(*from)) == leads);
            let (replica, place) = other.unwrap();
            (range.leader.replica, range.leader.place) = (*replica, *place);
        }
        let (from, to) = (NodeId(*from), NodeId(*to));
        let range = &model.picture.ranges[at];
        assert_eq!(object(&model, range, Wanted::Move { from, to }), "");
        let number = range.descriptor.range;
        model.picture.wanted_moves.insert(number, (from, to));
        model.settle();
        assert!(is_fulfilled(&model.picture.ranges[at], (from, to)));
        model.picture.wanted_moves.clear();
        model.picture.held.insert(number);
        model.settle();
        let range = &model.picture.ranges[at];
        assert!(is_fulfilled(range, (from, to)), "{range:?}");
        assert_eq!(range.membership.voters().len(), 3);
        // Other ranges have made up for it.
        let replicas: Vec<_> = model.counts().values().map(|(n, _)| *n).collect();
        let (least, most) = (replicas.iter().min(), replicas.iter().max());
        assert!(most.unwrap() - least.unwrap() <= 2, "{replicas:?}");
        // But a node that dies is replaced, whoever wanted what.
        model.node(to.0).1 = Duration::from_secs(600);
        model.node(to.0).0.alive = false;
        model.settle();
        assert!(!holds(&model.picture.ranges[at], to.0));
    }
}

#[test]
fn what_would_be_undone_is_not_begun() {
    let mut model = Model::new(5, 9);
    model.node(5).0.row.roles.data = false;
    model.settle();
    let at = range_on(&model, 1, 4);
    let range = model.picture.ranges[at].clone();
    let moved = |from: u64, to: u64| Wanted::Move {
        from: NodeId(from),
        to: NodeId(to),
    };
    let why = object(&model, &range, moved(4, 1));
    assert!(why.starts_with("n4 has no replica of range"), "{why}");
    let other = (2..=3).find(|node| holds(&range, *node)).unwrap();
    let why = object(&model, &range, moved(1, other));
    assert!(why.contains("already"), "{why}");
    let why = object(&model, &range, moved(1, 5));
    assert!(why.contains("role data"), "{why}");
    let why = object(&model, &range, moved(1, 9));
    assert!(why.contains("no such node"), "{why}");
    let why = object(&model, &range, Wanted::Lead(range.leader.place.node));
    assert!(why.contains("leads range"), "{why}");
    let why = object(&model, &range, Wanted::Lead(NodeId(4)));
    assert!(why.contains("they are on n1, "), "{why}");
    model.node(4).0.row.state = NodeState::Leaving;
    let why = object(&model, &range, moved(1, 4));
    assert!(why.contains("it leaves the cluster"), "{why}");
    model.node(4).0.row.state = NodeState::Active;
    // The planner has a reason of its own to change the range.
    model.node(other).0.row.state = NodeState::Leaving;
    let why = object(&model, &range, moved(1, 4));
    assert!(why.contains("is to be changed first: "), "{why}");
    model.node(other).0.row.state = NodeState::Active;
    let single = Model::new(2, 3);
    let range = &single.picture.ranges[1];
    let why = object(&single, range, moved(1, 2));
    assert!(why.contains("no other replica"), "{why}");
}

#[test]
fn ranges_become_one_where_they_can() {
    let mut model = Model::new(3, 4);
    model.settle();
    let why = |model: &Model, left: usize, right| {
        object(model, &model.picture.ranges[left], Wanted::Absorb(right))
    };
    assert_eq!(why(&model, 1, 3), "");
    assert!(why(&model, 1, 4).contains("does not begin where range 2 ends"));
    assert!(why(&model, 0, 2).contains("range 1 stays"));
    let start = model.picture.ranges[2].descriptor.span.start.clone();
    model.picture.wanted_splits.insert(start);
    assert!(why(&model, 1, 3).contains("UNSPLIT"));
    model.picture.wanted_splits.clear();
    model.picture.ranges[2].membership.members.clear();
    assert!(why(&model, 1, 3).contains("different nodes"));
}

/// A wish that was given up half-way leaves nothing behind.
#[test]
fn a_learner_whose_node_has_gone_leaves() {
    let mut model = Model::new(4, 6);
    model.settle();
    let at = range_on(&model, 1, 4);
    let number = model.picture.ranges[at].descriptor.range;
    let (from, to) = (NodeId(1), NodeId(4));
    model.picture.wanted_moves.insert(number, (from, to));
    let steps = plan(&model.picture, &Wishes::default());
    let mut of_range = steps.iter().filter(|step| step.change.range == number);
    let step = of_range.next().unwrap();
    assert_eq!(step.change.what, Alteration::Add(to));
    let place = model.node(4).0.row.place;
    let range = &mut model.picture.ranges[at];
    range.membership.members.insert(ReplicaId(99), place);
    // While it catches up there is nothing to do.
    range.behind.push((ReplicaId(99), Some(10_000)));
    let steps = plan(&model.picture, &Wishes::default());
    assert!(steps.iter().all(|step| step.change.range != number));
    model.node(4).0.alive = false;
    let range = model.picture.ranges[at].clone();
    let why = object(&model, &range, Wanted::Move { from, to });
    assert!(why.contains("it is silent"), "{why}");
    model.picture.wanted_moves.clear();
    model.settle();
    assert_eq!(model.picture.ranges[at].membership.members.len(), 3);
    assert!(!holds(&model.picture.ranges[at], 4));
}

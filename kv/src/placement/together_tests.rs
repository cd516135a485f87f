//! Small neighbours that are brought together and become one, in the model of [`super::tests`].

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::tests::Model;
use crate::cluster::{Alteration, Rule, Rules};
use crate::keys;
use crate::placement::{Wishes, plan};

/// Ranges next to each other: the nodes of each, its bytes, and how much it is used.
type Shape = (Vec<u64>, u64, u64);

const MIB: u64 = 1 << 20;

impl Model {
    fn small(nodes: u64, shapes: &[Shape]) -> Self {
        let ranges: Vec<_> = shapes.iter().map(|(on, ..)| on.clone()).collect();
        let mut model = Self::of(nodes, &ranges);
        for (range, (_, bytes, requests)) in model.picture.ranges.iter_mut().skip(1).zip(shapes) {
            (range.bytes, range.requests) = (*bytes, *requests);
            let steady = Wishes::default().merge_after;
            model.picture.steady.insert(range.descriptor.range, steady);
        }
        model
    }

    /// Where the replicas of each range but the first are.
    fn nodes_of_all(&self) -> Vec<Vec<u64>> {
        let ranges = self.picture.ranges.iter().skip(1);
        let nodes = ranges.map(|range| {
            let places = range.membership.members.values();
            let nodes: BTreeSet<u64> = places.map(|place| place.node.0).collect();
            nodes.into_iter().collect()
        });
        nodes.collect()
    }

    /// Neighbours that could be one.
    fn left(&self) -> usize {
        let wishes = Wishes::default();
        let pairs = self.picture.ranges[1..].windows(2).filter(|pair| {
            let start = &pair[1].descriptor.span.start;
            pair[0].descriptor.span.end == *start
                && pair[0].bytes + pair[1].bytes <= wishes.merge_bytes
                && pair[0].requests + pair[1].requests <= wishes.merge_requests
                && !self.picture.wanted_splits.contains(start)
        });
        pairs.count()
    }
}

#[test]
fn the_smaller_one_comes_to_the_other() {
    let shapes = [(vec![1, 2, 3], MIB, 10), (vec![4, 5, 6], 2 * MIB, 10)];
    let mut model = Model::small(6, &shapes);
    let mut met = false;
    for _ in 0..12 {
        for step in plan(&model.picture, &Wishes::default()) {
            assert_eq!(step.change.range, 2, "{step:?}");
            model.carry_out(step);
        }
        met |= model.nodes_of_all() == [[4, 5, 6], [4, 5, 6]];
    }
    assert!(met);
    assert_eq!(model.nodes_of_all(), [[4, 5, 6]]);
    assert_eq!(model.settle(), 0);
}

#[test]
fn they_are_brought_together_only_where_that_lasts() {
    let shapes = [(vec![1, 2, 3], MIB, 10), (vec![4, 5, 6], 2 * MIB, 10)];
    let model = || Model::small(6, &shapes);
    let rests = |mut model: Model| {
        model.settle();
        assert_eq!(model.nodes_of_all(), [[1, 2, 3], [4, 5, 6]]);
    };
    let mut held = model();
    held.picture.held.insert(3);
    rests(held);
    let mut full = model();
    full.node(5).0.usage.disk_bytes = 100 << 30;
    rests(full);
    let mut silent = model();
    silent.node(2).0.alive = false;
    silent.node(2).1 = Duration::from_secs(10);
    rests(silent);
    let mut young = model();
    young.picture.steady.insert(2, Duration::from_secs(10));
    rests(young);
    let mut used = model();
    used.picture.ranges[1].requests = 2_600;
    rests(used);
    let mut unknown = model();
    unknown.picture.ranges[2].bytes = 0;
    rests(unknown);
    let mut wanted = model();
    let start = wanted.picture.ranges[2].descriptor.span.start.clone();
    wanted.picture.wanted_splits.insert(start);
    rests(wanted);
}

#[test]
fn what_an_operator_has_placed_becomes_one_where_it_is() {
    let shapes = [(vec![1, 2, 3], MIB, 10), (vec![2, 3, 1], MIB, 10)];
    let mut model = Model::small(4, &shapes);
    model.picture.held.insert(2);
    let steps = plan(&model.picture, &Wishes::default());
    assert_eq!(steps[0].change.what, Alteration::Absorb(3));
}

/// A learner that is behind is waited for, and nothing else is done to the two.
#[test]
fn on_the_way_they_are_left_alone() {
    let shapes = [(vec![1, 2, 3], MIB, 10), (vec![4, 5, 6], 2 * MIB, 10)];
    let mut model = Model::small(6, &shapes);
    let step = plan(&model.picture, &Wishes::default()).remove(0);
    assert!(matches!(step.change.what, Alteration::Add(_)));
    model.carry_out(step);
    let behind = &mut model.picture.ranges[1].behind;
    behind.last_mut().unwrap().1 = Some(10_000);
    assert_eq!(plan(&model.picture, &Wishes::default()), []);
    // Unless something is the matter with one of them.
    model.node(1).0.stopping = true;
    let step = plan(&model.picture, &Wishes::default()).remove(0);
    assert!(matches!(step.change.what, Alteration::Lead(_)), "{step:?}");
}

/// What has begun is not given up for a pair that has become smaller.
#[test]
fn a_pair_on_the_way_stays_the_next_one() {
    let far = |bytes| [(vec![1, 2, 3], bytes, 10), (vec![4, 5, 6], 9 * MIB, 10)];
    let apart = (vec![1, 3, 5], 40 * MIB, 10);
    let shapes = [&far(MIB)[..], std::slice::from_ref(&apart), &far(2 * MIB)].concat();
    let mut model = Model::small(6, &shapes);
    // The numbers come first.
    model.picture.steady.clear();
    model.settle();
    let numbers = model
        .picture
        .ranges
        .iter()
        .map(|range| range.descriptor.range);
    let steady = Wishes::default().merge_after;
    model.picture.steady = numbers.map(|number| (number, steady)).collect();
    let step = plan(&model.picture, &Wishes::default()).remove(0);
    assert!(matches!(step.change.what, Alteration::Add(_)), "{step:?}");
    let begun = step.clone();
    model.carry_out(step);
    for range in &mut model.picture.ranges {
        // The other pair becomes the smaller one.
        if range.bytes == 2 * MIB {
            range.bytes = MIB / 2;
        }
    }
    let steps = plan(&model.picture, &Wishes::default());
    let [step] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(
        (step.change.range, step.why),
        (begun.change.range, begun.why)
    );
}

/// The new range is as far apart as the better one of the two was.
#[test]
fn the_one_whose_replicas_are_nearer_moves() {
    let shapes = [(vec![1, 3, 5], MIB, 10), (vec![1, 2, 4], 9 * MIB, 10)];
    let mut model = Model::small(6, &shapes);
    for n in 1..=6 {
        let zone = ((n + 1) / 2).to_string();
        model.node(n).0.row.locality = vec![("zone".into(), zone)];
    }
    model.settle();
    assert_eq!(model.nodes_of_all(), [[1, 3, 5]]);
}

/// Where a range should be led does not keep it from moving, and is not lost on the way.
#[test]
fn ranges_of_one_table_with_a_rule_come_together() {
    let shapes = [(vec![1, 2, 3], MIB, 10), (vec![4, 5, 6], 2 * MIB, 10)];
    let mut model = Model::small(6, &shapes);
    for n in [1, 4] {
        model.node(n).0.row.locality = vec![("zone".into(), "a".into())];
    }
    let span = keys::table_span(100);
    let middle = [span.start.as_ref(), b"middle"].concat();
    model.picture.ranges[1].descriptor.span.start = span.start;
    model.picture.ranges[1].descriptor.span.end = middle.clone().into();
    model.picture.ranges[2].descriptor.span.start = middle.into();
    model.picture.ranges[2].descriptor.span.end = span.end;
    let rule = Rule {
        leaders: Some("zone=a".parse().unwrap()),
        ..Rule::default()
    };
    model.picture.rules = Rules::from_iter([(100, rule)]);
    model.settle();
    assert_eq!(model.nodes_of_all(), [[4, 5, 6]]);
    assert_eq!(model.picture.ranges[1].leader.place.node.0, 4);
}

fn shape(nodes: u64) -> impl Strategy<Value = Shape> {
    let all: Vec<u64> = (1..=nodes).collect();
    let on = prop::sample::subsequence(all, 3).prop_shuffle();
    let bytes = prop_oneof![3 => 1..MIB, 2 => MIB..20 * MIB, 1 => 20 * MIB..60 * MIB];
    let requests = prop_oneof![6 => 0..100_u64, 1 => 500..6_000_u64];
    (on, bytes, requests)
}

fn shapes() -> impl Strategy<Value = (u64, Vec<Shape>)> {
    (4..8_u64).prop_flat_map(|nodes| (Just(nodes), prop::collection::vec(shape(nodes), 6..40)))
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 100, ..ProptestConfig::with_cases(60) })]

    /// Wherever small neighbours are they become one, it ends, and the numbers are even.
    #[test]
    fn all_that_can_be_one_becomes_one(
        (nodes, shapes) in shapes(),
        wanted in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        zones in 1..4_u64,
    ) {
        let mut model = Model::small(nodes, &shapes);
        for n in 1..=nodes {
            let zone = (n % zones).to_string();
            model.node(n).0.row.locality = vec![("zone".into(), zone)];
        }
        for wanted in wanted {
            let range = wanted.get(&model.picture.ranges);
            let start = range.descriptor.span.start.clone();
            model.picture.wanted_splits.insert(start);
        }
        let steps = model.settle();
        prop_assert!(steps <= 30 * shapes.len() + 50, "{steps} steps for {}", shapes.len());
        prop_assert_eq!(model.left(), 0);
        if zones == 1 {
            model.assert_even();
        }
    }
}

//! Load moved by the planner, carried out by the model of [`super::tests`].

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{Model, node};
use crate::cluster::Rule;
use crate::keys;
use crate::placement::{Wishes, plan};

/// A range: which nodes hold it, the leader first, and how much it is used.
type Shape = (Vec<u64>, u64);

impl Model {
    /// Requests a second to each node.
    fn loads(&self) -> BTreeMap<u64, u64> {
        let nodes = self.picture.nodes.iter();
        let mut loads: BTreeMap<u64, u64> = nodes
            .map(|(status, _)| (status.row.place.node.0, 0))
            .collect();
        for range in &self.picture.ranges {
            *loads.entry(range.leader.place.node.0).or_default() += range.requests;
        }
        loads
    }

    fn used(nodes: u64, shapes: &[Shape]) -> Self {
        let ranges: Vec<_> = shapes.iter().map(|(on, _)| on.clone()).collect();
        let mut model = Self::of(nodes, &ranges);
        for (range, (_, requests)) in model.picture.ranges.iter_mut().skip(1).zip(shapes) {
            range.requests = *requests;
        }
        model
    }

    /// Asserts that replicas are as equal in number as balance makes them, and leaders nearly so.
    pub(super) fn assert_even(&self) {
        let mut counts = BTreeMap::new();
        for (status, _) in &self.picture.nodes {
            counts.insert(status.row.place.node.0, 0_usize);
        }
        for range in self.picture.ranges.iter().skip(1) {
            assert_eq!(range.membership.members.len(), 3, "{range:?}");
            for place in range.membership.members.values() {
                *counts.get_mut(&place.node.0).unwrap() += 1;
            }
        }
        let (least, most) = (counts.values().min(), counts.values().max());
        assert!(most.unwrap() - least.unwrap() <= 1, "{counts:?}");
    }
}

/// Numbers that look drawn by chance.
fn drawn(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    *seed >> 33
}

#[test]
fn load_goes_to_nodes_that_hold_none_of_the_ranges() {
    let mut model = Model::new(3, 41);
    model.settle();
    for range in model.picture.ranges.iter_mut().skip(1).take(10) {
        range.requests = 3_000;
    }
    model.settle();
    // What is not used goes to the new nodes first, for the numbers.
    model.picture.nodes.extend([node(4), node(5)]);
    let steps = model.settle();
    let loads = model.loads();
    assert!(
        loads.values().all(|load| (3_000..=9_000).contains(load)),
        "{loads:?}"
    );
    assert!(steps < 160, "{steps} steps");
    model.assert_even();
    assert_eq!(model.settle(), 0);
}

/// Numbers are even from the beginning, and no node has fewer than another: each replica that comes
/// needs one that makes room.
#[test]
fn something_makes_room_for_what_is_used_much() {
    let hot = (0..6).map(|n| (vec![1 + n % 3, 1 + (n + 1) % 3, 1 + (n + 2) % 3], 5_000));
    let cold = (0..6).map(|n| (vec![4 + n % 3, 4 + (n + 1) % 3, 4 + (n + 2) % 3], 10));
    let shapes: Vec<Shape> = hot.chain(cold).collect();
    let mut model = Model::used(6, &shapes);
    let steps = model.settle();
    let loads = model.loads();
    assert!(
        loads.values().all(|load| (5_000..=6_000).contains(load)),
        "{loads:?}"
    );
    assert!(steps <= 30, "{steps} steps");
    model.assert_even();
    let leaders: Vec<_> = model.counts().values().map(|(_, leads)| *leads).collect();
    assert!(
        leaders.iter().all(|leads| (1..=3).contains(leads)),
        "{leaders:?}"
    );
}

#[test]
fn one_range_alone_is_nobodys_to_spread_and_little_is_left() {
    let mut model = Model::new(5, 31);
    model.settle();
    model.picture.ranges[7].requests = 50_000;
    assert_eq!(model.settle(), 0);
    for range in &mut model.picture.ranges {
        range.requests = 60;
    }
    assert_eq!(model.settle(), 0);
}

#[test]
fn a_rule_keeps_load_where_it_is() {
    let shapes: Vec<Shape> = (0..6).map(|_| (vec![1, 2, 3], 5_000)).collect();
    let mut model = Model::used(5, &shapes);
    for n in 1..=5 {
        let place = if n <= 3 { "eu" } else { "us" };
        model.node(n).0.row.locality = vec![("region".into(), place.into())];
    }
    let start = |n: usize| keys::table_span(100 + n as u32).start;
    for (n, range) in model.picture.ranges.iter_mut().enumerate() {
        range.descriptor.span.start = start(n);
        range.descriptor.span.end = start(n + 1);
    }
    let rule = Rule {
        constraint: Some("region=eu".parse().unwrap()),
        ..Rule::default()
    };
    let rules = (101..=106).map(|table| (table, rule.clone()));
    model.picture.rules = rules.collect();
    model.settle();
    for range in model.picture.ranges.iter().skip(1) {
        let members = &range.membership.members;
        assert!(members.values().all(|place| place.node.0 <= 3), "{range:?}");
    }
}

/// Steps in a hundred rounds in which what is measured varies by a tenth.
fn moved_by_noise(nodes: u64, shapes: &[Shape], mut seed: u64) -> usize {
    let mut model = Model::used(nodes, shapes);
    model.settle();
    let mut steps = 0;
    for _ in 0..100 {
        for (range, (_, requests)) in model.picture.ranges.iter_mut().skip(1).zip(shapes) {
            range.requests = requests * (90 + drawn(&mut seed) % 21) / 100;
        }
        for step in plan(&model.picture, &Wishes::default()) {
            steps += 1;
            model.carry_out(step);
        }
    }
    steps
}

/// Two clusters that changed the same leaders again and again, while nearly all of a difference was
/// moved, and while ranges that are used alike changed places.
#[test]
fn leaders_do_not_change_places_for_noise() {
    let shapes = [
        (vec![3, 4, 2], 0),
        (vec![1, 2, 4], 2_492),
        (vec![1, 3, 4], 5_574),
        (vec![4, 1, 2], 3_873),
        (vec![1, 2, 4], 5_241),
        (vec![2, 3, 1], 4_925),
        (vec![1, 3, 4], 3_000),
        (vec![4, 1, 2], 0),
        (vec![1, 2, 3], 182),
        (vec![1, 2, 3], 5),
        (vec![1, 3, 4], 115),
    ];
    let steps = moved_by_noise(4, &shapes, 4_118_608_606_270_417_159);
    assert!(steps <= 6, "{steps} steps");
    let shapes = [
        (vec![2, 3, 4], 6_874),
        (vec![1, 2, 4], 6_856),
        (vec![1, 3, 4], 2_182),
        (vec![5, 4, 2], 7_378),
        (vec![4, 1, 5], 3_890),
        (vec![5, 1, 4], 7_317),
        (vec![4, 2, 1], 3_316),
        (vec![1, 2, 4], 119),
    ];
    let steps = moved_by_noise(5, &shapes, 17_306_748_038_197_446_967);
    assert!(steps <= 6, "{steps} steps");
}

/// What the idle nodes hold may be nowhere else, so load that came would go back for the numbers.
#[test]
fn load_stays_where_nothing_can_make_room() {
    let hot = (0..6).map(|_| (vec![1, 2, 3], 5_000));
    let cold = (0..6).map(|_| (vec![4, 5, 6], 10));
    let shapes: Vec<Shape> = hot.chain(cold).collect();
    let mut model = Model::used(6, &shapes);
    for n in 4..=6 {
        model.node(n).0.row.locality = vec![("region".into(), "us".into())];
    }
    let start = |n: usize| keys::table_span(100 + n as u32).start;
    for (n, range) in model.picture.ranges.iter_mut().enumerate() {
        range.descriptor.span.start = start(n);
        range.descriptor.span.end = start(n + 1);
    }
    let rule = Rule {
        constraint: Some("region=us".parse().unwrap()),
        ..Rule::default()
    };
    model.picture.rules = (107..=112).map(|table| (table, rule.clone())).collect();
    model.settle();
    model.assert_even();
}

fn shape(nodes: u64) -> impl Strategy<Value = Shape> {
    let load = prop_oneof![4 => 0..200_u64, 1 => 500..8_000_u64, 1 => 3_000..4_000_u64];
    let all: Vec<u64> = (1..=nodes).collect();
    (prop::sample::subsequence(all, 3).prop_shuffle(), load)
}

fn shapes() -> impl Strategy<Value = (u64, Vec<Shape>)> {
    (4..9_u64).prop_flat_map(|nodes| (Just(nodes), prop::collection::vec(shape(nodes), 8..60)))
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 100, ..ProptestConfig::with_cases(100) })]

    /// Wherever replicas and load are: it ends, the numbers are even, and so is the load.
    #[test]
    fn load_is_spread_and_it_ends((nodes, shapes) in shapes()) {
        let mut model = Model::used(nodes, &shapes);
        let steps = model.settle();
        prop_assert!(steps <= 12 * shapes.len() + 50, "{steps} steps for {}", shapes.len());
        model.assert_even();
        let loads = model.loads();
        // A small cluster has numbers that cannot be even otherwise.
        let total: u64 = loads.values().sum();
        let largest = shapes.iter().map(|(_, requests)| *requests).max().unwrap_or(0);
        let most = loads.values().max().unwrap();
        prop_assert!(*most <= 2 * total / nodes + largest + 2_000, "{loads:?}");
    }

    /// All that is used is on three nodes, and the others get their share, where enough is not used.
    #[test]
    fn all_nodes_get_a_share(
        nodes in 5..8_u64,
        hot in prop::collection::vec(1_500..4_000_u64, 8..16),
        cold in prop::collection::vec(prop::sample::subsequence(vec![1, 2, 3, 4], 3), 30..60),
    ) {
        let hot = hot.into_iter().map(|requests| (vec![1, 2, 3], requests));
        let shapes: Vec<Shape> = hot.chain(cold.into_iter().map(|on| (on, 20))).collect();
        let mut model = Model::used(nodes, &shapes);
        model.settle();
        model.assert_even();
        let loads = model.loads();
        let share = loads.values().sum::<u64>() / nodes;
        // What one of them leads may be such that numbers keep load away.
        let mut loads: Vec<u64> = loads.into_values().collect();
        loads.sort_unstable();
        prop_assert!(loads[1] >= share / 4 && *loads.last().unwrap() <= share * 2 + 2_000, "{loads:?}");
    }

    /// Steps that fail are planned again or made up for.
    #[test]
    fn it_ends_though_steps_fail((nodes, shapes) in shapes(), mut seed in any::<u64>()) {
        let mut model = Model::used(nodes, &shapes);
        for _ in 0..40 * shapes.len() {
            for step in plan(&model.picture, &Wishes::default()) {
                if drawn(&mut seed).is_multiple_of(2) {
                    model.carry_out(step);
                }
            }
        }
        model.settle();
        model.assert_even();
        prop_assert_eq!(model.settle(), 0);
    }

    /// What is measured varies by a tenth, and next to nothing moves for that.
    #[test]
    fn noise_moves_next_to_nothing((nodes, shapes) in shapes(), seed in any::<u64>()) {
        let steps = moved_by_noise(nodes, &shapes, seed);
        prop_assert!(steps <= 30, "{steps} steps");
    }
}

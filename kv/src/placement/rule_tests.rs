//! Placement rules: what they are, and what the planner makes of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::tests::Model;
use crate::cluster::{
    Alteration, Constraint, NoConstraint, Overview, RangeReport, Rule, Rules, View, decode_row,
};
use crate::keys;
use crate::placement::{Wishes, plan, stuck, unmet};
use crate::txn::Span;

/// The table that has a rule.
const TABLE: u32 = 100;
/// And another.
const OTHER: u32 = 200;

fn constraint(text: &str) -> Option<Constraint> {
    Some(text.parse().unwrap())
}

fn in_place(replicas: Option<u8>, place: &str) -> Rule {
    Rule {
        replicas,
        constraint: constraint(place),
        leaders: None,
    }
}

impl Model {
    /// Nodes in these regions and zones, and one range of all that users have, on all of the first
    /// three nodes.
    fn in_places(places: &[(&str, &str)]) -> Self {
        let mut model = Self::new(places.len() as u64, 2);
        for (n, (region, zone)) in (1..).zip(places) {
            let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
            model.node(n).0.row.locality = [("region", *region), ("zone", *zone)].map(pair).into();
        }
        model.picture.ranges[0].descriptor.span = keys::system_span();
        model.picture.ranges[1].descriptor.span = keys::user_span();
        model.settle();
        model
    }

    fn set(&mut self, rules: impl IntoIterator<Item = (u32, Rule)>) {
        self.picture.rules = rules.into_iter().collect();
    }

    /// The one range of a table.
    fn range(&self, table: u32) -> &RangeReport {
        let span = keys::table_span(table);
        let mut ranges = self.picture.ranges.iter();
        let range = ranges.find(|range| range.descriptor.span == span);
        range.unwrap_or_else(|| panic!("{:#?}", self.picture.ranges))
    }

    /// The nodes that hold its replicas, and the one that leads.
    fn nodes(&self, table: u32) -> (Vec<u64>, u64) {
        let range = self.range(table);
        let voters = range.membership.voters();
        assert_eq!(voters.len(), range.membership.members.len(), "learners");
        let members = range.membership.members.values();
        let nodes: BTreeSet<u64> = members.map(|place| place.node.0).collect();
        (nodes.into_iter().collect(), range.leader.place.node.0)
    }

    fn unmet(&self, table: u32, rule: &Rule) -> Option<String> {
        let overview = Overview {
            view: View {
                nodes: self.picture.nodes.iter().map(|(n, _)| n.clone()).collect(),
                ..View::default()
            },
            ranges: self.picture.ranges.clone(),
            stuck: Vec::new(),
            moves: Vec::new(),
        };
        unmet(rule, &keys::table_span(table), &overview)
    }

    /// What is planned first.
    fn next(&self) -> Option<Alteration> {
        let steps = plan(&self.picture, &Wishes::default());
        steps.into_iter().next().map(|step| step.change.what)
    }
}

/// Three nodes in one region, three in another, each in a zone of its own.
const SIX: &[(&str, &str)] = &[
    ("us", "a"),
    ("us", "b"),
    ("us", "c"),
    ("eu", "a"),
    ("eu", "b"),
    ("eu", "c"),
];

#[test]
fn a_constraint_is_read_as_it_is_shown() {
    for text in ["region=eu", "region=eu,zone=a", "rack=7,region=us east"] {
        assert_eq!(constraint(text).unwrap().to_string(), text);
    }
    assert_eq!(constraint(" a = b , c=d"), constraint("a=b,c=d"));
    for text in ["", "eu", "=eu", "region=", "region=eu,", "a=b=c"] {
        let refused = text.parse::<Constraint>();
        assert!(matches!(refused, Err(NoConstraint::Form(_))), "{text}");
    }
    let refused = "zone=a,zone=b".parse::<Constraint>();
    assert_eq!(refused, Err(NoConstraint::Twice("zone".to_owned())));
}

#[test]
fn a_rule_is_read_as_it_is_written() {
    let rule = Rule {
        leaders: constraint("zone=a"),
        ..in_place(Some(5), "region=eu")
    };
    assert_eq!(decode_row::<Rule>(&rule.encode().unwrap()).unwrap(), rule);
    assert!(decode_row::<Rule>(b"\x07").is_err());
    let key = keys::placement_rule_key(TABLE);
    assert!(keys::placement_rule_span().contains(&key));
    assert!(keys::system_span().contains(&key));
}

#[test]
fn rules_end_where_they_change_and_not_between_like_ones() {
    let eu = in_place(None, "region=eu");
    let us = in_place(None, "region=us");
    let rules: Rules = [(7, us.clone()), (5, eu.clone()), (6, eu.clone())]
        .into_iter()
        .collect();
    let key = |table: u32| keys::table_span(table).start;
    assert!(rules.parts(&key(5)) && rules.parts(&key(7)) && rules.parts(&key(8)));
    assert!(!rules.parts(&key(6)) && !rules.parts(&key(9)));
    let span = |from, to| Span {
        start: key(from),
        end: key(to),
    };
    assert_eq!(rules.of(&span(5, 7)), Some(&eu));
    assert_eq!(rules.of(&span(7, 8)), Some(&us));
    assert_eq!(rules.of(&span(6, 8)), None, "two rules");
    assert_eq!(rules.of(&span(4, 6)), None, "not for all of it");
    assert_eq!(rules.part(&span(4, 9)), Some(&key(5)));
    assert_eq!(rules.part(&span(6, 9)), Some(&key(7)));
    assert_eq!(rules.part(&span(5, 7)), None);
}

#[test]
fn a_table_moves_to_its_region_with_its_leader() {
    let mut model = Model::in_places(SIX);
    let rule = in_place(None, "region=eu");
    model.set([(TABLE, rule.clone())]);
    assert!(model.unmet(TABLE, &rule).is_some());
    model.settle();
    let (nodes, leader) = model.nodes(TABLE);
    assert_eq!(nodes, [4, 5, 6]);
    assert!(nodes.contains(&leader));
    assert_eq!(model.unmet(TABLE, &rule), None);
    // It moves to the other in one go too, though none of those who vote may stay.
    let rule = in_place(None, "region=us");
    model.set([(TABLE, rule.clone())]);
    model.settle();
    assert_eq!(model.nodes(TABLE).0, [1, 2, 3]);
    assert_eq!(model.unmet(TABLE, &rule), None);
}

#[test]
fn tables_have_their_own_numbers_of_replicas() {
    let mut model = Model::in_places(SIX);
    let of = |replicas| Rule {
        replicas: Some(replicas),
        ..Rule::default()
    };
    model.set([(TABLE, of(1)), (OTHER, of(5))]);
    model.settle();
    assert_eq!(model.nodes(TABLE).0.len(), 1);
    assert_eq!(model.nodes(OTHER).0.len(), 5);
    let three = model.picture.ranges.iter();
    let three = three.filter(|range| range.membership.voters().len() == 3);
    assert_eq!(three.count(), 3, "before, between and behind them");
    // A single replica moves to where it is wanted.
    let rule = in_place(Some(1), "region=eu,zone=b");
    model.set([(TABLE, rule.clone()), (OTHER, of(3))]);
    model.settle();
    assert_eq!(model.nodes(TABLE), (vec![5], 5));
    assert_eq!(model.nodes(OTHER).0.len(), 3);
    let rule = in_place(Some(1), "region=us,zone=c");
    model.set([(TABLE, rule.clone())]);
    model.settle();
    assert_eq!(model.nodes(TABLE), (vec![3], 3));
    model.set([(TABLE, of(3))]);
    model.settle();
    assert_eq!(model.nodes(TABLE).0.len(), 3);
}

#[test]
fn replicas_stay_where_they_are_while_there_is_no_place_for_them() {
    let mut model = Model::in_places(&SIX[..3]);
    let rule = in_place(None, "region=eu");
    model.set([(TABLE, rule.clone())]);
    model.settle();
    assert_eq!(model.nodes(TABLE).0, [1, 2, 3]);
    let why = model.unmet(TABLE, &rule).unwrap();
    assert!(
        why.contains("has a replica on n1, which is not region=eu; there are"),
        "{why}"
    );
    let range = model.range(TABLE);
    let why = stuck(&model.picture, &Wishes::default(), range).unwrap();
    assert!(why.contains("no other node of region=eu can"), "{why}");
    // One of three comes.
    let mut more = Model::in_places(SIX).picture.nodes.split_off(3).into_iter();
    model.picture.nodes.extend(more.next());
    model.settle();
    let (nodes, leader) = model.nodes(TABLE);
    assert_eq!((nodes.len(), leader), (3, 4), "{nodes:?}");
    assert!(nodes.contains(&4));
    model.picture.nodes.extend(more);
    model.settle();
    assert_eq!(model.nodes(TABLE).0, [4, 5, 6]);
    assert_eq!(model.unmet(TABLE, &rule), None);
}

#[test]
fn a_range_is_led_where_it_should_be() {
    let mut model = Model::in_places(SIX);
    for (region, zone, leader) in [("eu", "b", 5), ("eu", "c", 6), ("us", "a", 1)] {
        let rule = Rule {
            replicas: Some(1 + u8::from(zone != "c") * 2),
            constraint: constraint(&format!("region={region}")),
            leaders: constraint(&format!("region={region},zone={zone}")),
        };
        model.set([(TABLE, rule.clone())]);
        model.settle();
        assert_eq!(model.nodes(TABLE).1, leader);
        assert_eq!(model.unmet(TABLE, &rule), None);
    }
    // A preference without a constraint brings one replica there.
    let rule = Rule {
        leaders: constraint("region=eu"),
        ..Rule::default()
    };
    model.set([(TABLE, rule.clone())]);
    model.settle();
    let (nodes, leader) = model.nodes(TABLE);
    assert!(nodes.len() == 3 && leader > 3, "{nodes:?} {leader}");
    // It is led by another while that one is down, and by the preferred one when it is back.
    let (status, _) = model.node(leader);
    status.stopping = true;
    model.settle();
    let other = model.nodes(TABLE).1;
    assert!(other != leader);
    model.node(leader).0.stopping = false;
    model.settle();
    assert!(model.nodes(TABLE).1 > 3);
}

/// Balance comes to an end whatever the rules are, and does not take back what they ask for.
#[test]
fn balance_and_rules_agree() {
    let mut model = Model::in_places(SIX);
    let tables: BTreeMap<u32, Rule> = (0..40)
        .map(|n| {
            let region = ["eu", "us"][n as usize % 2];
            let zone = ["a", "b", "c"][n as usize / 2 % 3];
            let rule = Rule {
                replicas: [None, Some(1), Some(3), Some(5)][n as usize % 4],
                constraint: (n % 3 > 0).then(|| constraint(&format!("region={region}")).unwrap()),
                leaders: (n % 5 > 0).then(|| constraint(&format!("zone={zone}")).unwrap()),
            };
            (1_000 + n * 2, rule)
        })
        .collect();
    model.set(tables.clone());
    model.settle();
    for (table, rule) in &tables {
        // Three nodes of a region cannot hold five replicas.
        if rule.replicas != Some(5) || rule.constraint.is_none() {
            assert_eq!(model.unmet(*table, rule), None, "{rule:?}");
        }
    }
    model.node(5).0.row.state = crate::cluster::NodeState::Leaving;
    model.settle();
    // What may only be in its region has no other place there, and waits.
    for (table, _) in tables.iter().filter(|(_, rule)| rule.constraint.is_none()) {
        assert!(!model.nodes(*table).0.contains(&5));
    }
    model.set([]);
    model.settle();
    assert!(model.votes() == BTreeSet::from([3, 5]), "range 1 has five");
}

#[test]
fn ranges_are_parted_at_the_bounds_of_rules_and_merged_without() {
    let mut model = Model::in_places(&SIX[..1]);
    let rule = Rule {
        replicas: Some(3),
        ..Rule::default()
    };
    model.set([(TABLE, rule.clone())]);
    assert_eq!(model.next(), None, "one node has nothing to part for");
    let mut model = Model::in_places(&SIX[..3]);
    model.set([(TABLE, rule)]);
    let span = keys::table_span(TABLE);
    assert_eq!(model.next(), Some(Alteration::Split(span.start.clone())));
    model.settle();
    let starts: Vec<&Bytes> = model
        .picture
        .ranges
        .iter()
        .map(|range| &range.descriptor.span.start)
        .collect();
    assert_eq!(starts.len(), 4, "{starts:?}");
    assert!(starts.contains(&&span.start) && starts.contains(&&span.end));
    for range in &model.picture.ranges {
        let steady = Wishes::default().merge_after;
        model.picture.steady.insert(range.descriptor.range, steady);
    }
    assert_eq!(model.next(), None, "they stay apart");
    model.set([]);
    assert!(matches!(model.next(), Some(Alteration::Absorb(_))));
}

//! The planner run against a model of a cluster that does what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use pontoon_raft::{LogPosition, Membership, NodeId, Peer, Place, ReplicaId, StoreId};

use crate::cluster::{Alteration, NodeRow, NodeState, NodeStatus, RangeReport};
use crate::placement::{Picture, Step, Wishes, plan, stuck};
use crate::range::Descriptor;
use crate::txn::Span;

pub(super) struct Model {
    pub(super) picture: Picture,
    next: u64,
}

fn place(node: u64) -> Place {
    Place {
        node: NodeId(node),
        store: StoreId(node),
    }
}

pub(super) fn node(number: u64) -> (NodeStatus, Duration) {
    let status = NodeStatus {
        row: NodeRow {
            place: place(number),
            ..NodeRow::default()
        },
        alive: true,
        stopping: false,
        usage: Default::default(),
        replicas: 0,
        leads: 0,
    };
    (status, Duration::ZERO)
}

/// All have the whole log.
fn members_behind(membership: &Membership) -> Vec<(ReplicaId, Option<u64>)> {
    let members = membership.members.keys();
    members.map(|replica| (*replica, Some(0))).collect()
}

impl Model {
    /// Nodes, and ranges with one replica each, on the first.
    pub(super) fn new(nodes: u64, ranges: u64) -> Self {
        let range = |number| RangeReport {
            descriptor: Descriptor {
                frozen: None,
                range: number,
                generation: 1,
                span: Span {
                    start: Bytes::copy_from_slice(&number.to_be_bytes()),
                    end: Bytes::copy_from_slice(&(number + 1).to_be_bytes()),
                },
            },
            membership: Membership {
                position: Some(LogPosition { term: 1, index: 1 }),
                configs: vec![BTreeSet::from([ReplicaId(1)])],
                members: BTreeMap::from([(ReplicaId(1), place(1))]),
            },
            settled: true,
            leader: Peer {
                replica: ReplicaId(1),
                place: place(1),
            },
            behind: vec![(ReplicaId(1), Some(0))],
            bytes: 0,
            requests: 0,
            term: 1,
        };
        Self {
            picture: Picture {
                nodes: (1..=nodes).map(node).collect(),
                ranges: (1..=ranges).map(range).collect(),
                ..Picture::default()
            },
            next: 100,
        }
    }

    /// Nodes, and ranges with replicas on these of them, of which the first leads.
    pub(super) fn of(nodes: u64, ranges: &[Vec<u64>]) -> Self {
        let mut model = Self::new(nodes, ranges.len() as u64 + 1);
        let system: Vec<u64> = (1..=if nodes < 5 { 3 } else { 5 }).collect();
        let all = std::iter::once(&system).chain(ranges);
        for (range, nodes) in model.picture.ranges.iter_mut().zip(all) {
            let members = (1..).map(ReplicaId);
            let members = members.zip(nodes.iter().map(|node| place(*node)));
            range.membership.members = members.collect();
            let members = range.membership.members.keys();
            range.membership.configs = vec![members.copied().collect()];
            range.behind = members_behind(&range.membership);
            range.leader.place = place(nodes[0]);
        }
        model
    }

    /// The keys from `key` on become a range of their own, with the members and the leader.
    fn split(&mut self, range: u64, key: Bytes) {
        let mut numbers = self.picture.ranges.iter();
        let parent = numbers.position(|known| known.descriptor.range == range);
        let parent = &mut self.picture.ranges[parent.unwrap()];
        assert!(parent.descriptor.span.start < key && key < parent.descriptor.span.end);
        let mut child = parent.clone();
        parent.descriptor.span.end = key.clone();
        child.descriptor.span.start = key;
        child.descriptor.range = self.next;
        self.next += 1;
        self.picture.ranges.push(child);
    }

    /// Does what is planned until nothing is; returns the number of steps.
    pub(super) fn settle(&mut self) -> usize {
        let mut done: Vec<String> = Vec::new();
        for _ in 0..2_000 {
            let steps = plan(&self.picture, &Wishes::default());
            if steps.is_empty() {
                return done.len();
            }
            for step in steps {
                let Step { node, change, why } = &step;
                done.push(format!("{node}: {} {:?}, {why}", change.range, change.what));
                self.carry_out(step);
            }
        }
        let last = done.len().saturating_sub(30);
        panic!("the plan never comes to an end: {:#?}", &done[last..]);
    }

    /// Does what a step says, and asserts that it can be done.
    pub(super) fn carry_out(&mut self, step: Step) {
        if let Alteration::Split(key) = step.change.what {
            return self.split(step.change.range, key);
        }
        let range = self.range_of(step.change.range);
        assert_eq!(range.membership.position, step.change.membership);
        assert_eq!(range.leader.place.node, step.node);
        if let Alteration::Absorb(right) = step.change.what {
            return self.absorb(step.change.range, right);
        }
        let new = ReplicaId(self.next);
        self.next += 1;
        let range = self.range_of(step.change.range);
        let members = &mut range.membership;
        match step.change.what {
            Alteration::Add(node) => {
                let held = members.members.values().any(|place| place.node == node);
                assert!(!held, "two replicas of a range on {node}");
                members.members.insert(new, place(node.0));
                range.behind.push((new, Some(0)));
            }
            Alteration::Voters(voters) => {
                assert!(voters.contains(&range.leader.replica));
                let before = members.voters();
                members
                    .members
                    .retain(|replica, _| voters.contains(replica) || !before.contains(replica));
                members.configs = vec![voters];
            }
            Alteration::Remove(learner) => {
                assert!(members.learners().contains(&learner));
                members.members.remove(&learner);
            }
            Alteration::Lead(to) => {
                assert!(members.voters().contains(&to));
                range.leader = Peer {
                    replica: to,
                    place: members.members[&to],
                };
            }
            Alteration::Absorb(_) | Alteration::Split(_) => unreachable!("done before"),
        }
        if let Some(position) = &mut members.position {
            position.index += 1;
        }
    }

    /// The ranges that a node leads get other leaders.
    fn elect_others_than(&mut self, node: u64) {
        for range in &mut self.picture.ranges {
            if range.leader.place.node == NodeId(node) {
                let (replica, place) = range.membership.members.first_key_value().unwrap();
                range.leader = Peer {
                    replica: *replica,
                    place: *place,
                };
            }
        }
    }

    fn range_of(&mut self, number: u64) -> &mut RangeReport {
        let mut ranges = self.picture.ranges.iter_mut();
        let range = ranges.find(|range| range.descriptor.range == number);
        range.unwrap()
    }

    /// A range takes in the one behind it, whose replicas are where its own are.
    fn absorb(&mut self, left: u64, right: u64) {
        let mut ranges = self.picture.ranges.iter();
        let at = ranges.position(|range| range.descriptor.range == right);
        let right = self.picture.ranges.remove(at.unwrap());
        let left = self.range_of(left);
        assert_eq!(left.descriptor.span.end, right.descriptor.span.start);
        let nodes = |range: &RangeReport| -> BTreeSet<NodeId> {
            assert!(range.membership.learners().is_empty());
            let members = range.membership.members.values();
            members.map(|place| place.node).collect()
        };
        assert_eq!(nodes(left), nodes(&right));
        left.descriptor.span.end = right.descriptor.span.end;
        left.bytes += right.bytes;
        left.requests += right.requests;
    }

    pub(super) fn node(&mut self, number: u64) -> &mut (NodeStatus, Duration) {
        let mut nodes = self.picture.nodes.iter_mut();
        nodes
            .find(|(status, _)| status.row.place.node == NodeId(number))
            .unwrap()
    }

    /// Replicas and leaders of each node.
    pub(super) fn counts(&self) -> BTreeMap<u64, (usize, usize)> {
        let mut counts: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
        for range in &self.picture.ranges {
            for place in range.membership.members.values() {
                counts.entry(place.node.0).or_default().0 += 1;
            }
            counts.entry(range.leader.place.node.0).or_default().1 += 1;
        }
        counts
    }

    pub(super) fn votes(&self) -> BTreeSet<usize> {
        let ranges = self.picture.ranges.iter();
        ranges
            .map(|range| range.membership.voters().len())
            .collect()
    }
}

#[test]
fn two_nodes_do_not_share_a_vote_and_three_do() {
    let mut model = Model::new(1, 3);
    assert_eq!(model.settle(), 0);
    model.picture.nodes.push(node(2));
    model.settle();
    assert_eq!(model.votes(), BTreeSet::from([1]));
    model.picture.nodes.push(node(3));
    model.settle();
    assert_eq!(model.votes(), BTreeSet::from([3]));
    let counts = model.counts();
    assert!(
        counts.values().all(|(replicas, _)| *replicas == 3),
        "{counts:?}"
    );
    // Range 1 and one of the others.
    assert_eq!(counts[&1].1, 2);
}

#[test]
fn nodes_get_equal_numbers_of_replicas_and_leaders() {
    let mut model = Model::new(3, 40);
    model.settle();
    model.picture.nodes.extend([node(4), node(5)]);
    model.settle();
    let counts = model.counts();
    for (replicas, leaders) in counts.values() {
        // Range 1 has five, and is not counted.
        assert!((23..=26).contains(replicas), "{counts:?}");
        assert!((7..=10).contains(leaders), "{counts:?}");
    }
}

#[test]
fn who_has_just_fallen_silent_is_not_to_lead() {
    let mut model = Model::new(3, 12);
    model.settle();
    model.node(2).1 = Duration::from_secs(2);
    model.elect_others_than(2);
    model.settle();
    assert_eq!(model.counts()[&2].1, 0, "it may be dead");
    model.node(2).1 = Duration::from_millis(700);
    model.settle();
    assert!(model.counts()[&2].1 >= 3, "it is there again");
}

#[test]
fn a_dead_node_is_replaced_and_never_only_given_up() {
    let mut model = Model::new(3, 5);
    model.settle();
    let (status, silent) = model.node(2);
    status.alive = false;
    *silent = Duration::from_secs(10);
    model.elect_others_than(2);
    model.settle();
    assert_eq!(model.counts()[&2].0, 5, "it may come back");
    model.node(2).1 = Duration::from_secs(600);
    model.settle();
    assert_eq!(
        model.votes(),
        BTreeSet::from([3]),
        "there is nobody to replace it"
    );
    let wishes = Wishes::default();
    let why = stuck(&model.picture, &wishes, &model.picture.ranges[0]);
    assert!(why.unwrap().contains("no other node"));
    model.picture.nodes.push(node(4));
    model.settle();
    assert_eq!(model.votes(), BTreeSet::from([3]));
    assert_eq!(model.counts().get(&2), None);
}

#[test]
fn a_member_that_is_lost_is_replaced() {
    let mut model = Model::new(4, 3);
    model.settle();
    let range = &model.picture.ranges[2];
    let voters = range.membership.voters();
    let lost = *voters.iter().find(|r| **r != range.leader.replica).unwrap();
    model.picture.lost.insert((range.descriptor.range, lost));
    assert!(model.settle() > 0);
    let voters = model.picture.ranges[2].membership.voters();
    assert!(!voters.contains(&lost) && voters.len() == 3, "{voters:?}");
}

#[test]
fn a_node_that_leaves_gives_up_everything() {
    let mut model = Model::new(4, 12);
    model.settle();
    model.node(1).0.row.state = NodeState::Leaving;
    model.settle();
    assert_eq!(model.counts().get(&1), None);
    assert_eq!(model.votes(), BTreeSet::from([3]));
    // A node that stops for a while only gives up what it leads.
    model.node(2).0.stopping = true;
    model.settle();
    let (replicas, leaders) = model.counts()[&2];
    assert!(replicas > 0 && leaders == 0);
}

#[test]
fn leaders_that_are_used_much_are_spread() {
    let mut model = Model::new(3, 10);
    model.settle();
    let led = |model: &Model, node: u64| -> Vec<u64> {
        let mut ranges = model.picture.ranges.iter();
        let own = ranges
            .by_ref()
            .filter(|r| r.leader.place.node == NodeId(node));
        let own = own.filter(|range| range.descriptor.range > 1);
        own.map(|range| range.descriptor.range).collect()
    };
    // All that is used is led by one node.
    let hot = led(&model, 1);
    for range in &mut model.picture.ranges {
        range.requests = u64::from(hot.contains(&range.descriptor.range)) * 4_000;
    }
    let steps = model.settle();
    assert!((1..20).contains(&steps), "{steps} steps");
    for node in 1..=3 {
        let led = led(&model, node);
        let used = led.iter().filter(|range| hot.contains(range)).count();
        assert!((1..=2).contains(&used), "{node} leads {led:?} of {hot:?}");
        assert!((2..=4).contains(&led.len()));
    }
    // One range alone is nobody's to spread.
    for range in &mut model.picture.ranges {
        range.requests = u64::from(range.descriptor.range == hot[0]) * 40_000;
    }
    assert_eq!(model.settle(), 0);
}

#[test]
fn a_node_without_the_role_data_holds_nothing() {
    let mut model = Model::new(4, 12);
    model.node(4).0.row.roles.data = false;
    model.settle();
    assert_eq!(model.counts().get(&4), None);
    assert_eq!(model.votes(), BTreeSet::from([3]));
    // It is no place for what another gives up.
    model.node(2).0.row.state = NodeState::Leaving;
    model.settle();
    assert_eq!(model.counts()[&2].0, 12);
    let wishes = Wishes::default();
    let why = stuck(&model.picture, &wishes, &model.picture.ranges[0]);
    assert!(why.unwrap().contains("no other node"));
    model.node(2).0.row.state = NodeState::Active;
    model.settle();

    // One that loses the role gives up what it has, as soon as there is another place.
    model.node(3).0.row.roles.data = false;
    model.settle();
    assert_eq!(model.counts()[&3], (12, 0), "it leads nothing any more");
    model.node(4).0.row.roles.data = true;
    model.settle();
    assert_eq!(model.counts().get(&3), None);
    assert_eq!(model.votes(), BTreeSet::from([3]));
}

#[test]
fn a_full_node_is_given_nothing() {
    let mut model = Model::new(4, 3);
    model.node(4).0.usage.disk_bytes = 100 << 30;
    model.node(4).0.usage.free_bytes = 4 << 30;
    model.settle();
    assert_eq!(model.counts().get(&4), None);
    model.node(4).0.usage.free_bytes = 40 << 30;
    model.settle();
    assert!(model.counts()[&4].0 > 0);
}

#[test]
fn an_exchange_that_is_half_done_is_completed() {
    let mut model = Model::new(4, 3);
    model.settle();
    let range = &mut model.picture.ranges[1];
    let old = range.membership.voters();
    let mut new = old.clone();
    new.remove(old.iter().find(|r| **r != range.leader.replica).unwrap());
    range.membership.configs = vec![old, new.clone()];
    range.settled = false;
    model.picture.changing.insert(2);
    assert!(plan(&model.picture, &Wishes::default()).is_empty());
    model.picture.changing.clear();
    let steps = plan(&model.picture, &Wishes::default());
    let [step] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(step.change.what, Alteration::Voters(new));
}

#[test]
fn the_smallest_neighbours_on_the_same_nodes_become_one() {
    let wishes = Wishes::default();
    let absorbs = |model: &Model| {
        let steps = plan(&model.picture, &wishes);
        let of = steps.iter().find_map(|step| match step.change.what {
            Alteration::Absorb(right) => Some((step.change.range, right)),
            _ => None,
        });
        of
    };
    let mut model = Model::new(3, 5);
    model.settle();
    assert_eq!(
        absorbs(&model),
        None,
        "their bounds may have changed just now"
    );
    for range in 1..=5 {
        model.picture.steady.insert(range, wishes.merge_after);
    }
    for (n, range) in (0..).zip(&mut model.picture.ranges) {
        range.bytes = [0, 9 << 20, 2 << 20, 1 << 20, 20 << 20][n];
    }
    assert_eq!(absorbs(&model), Some((3, 4)));
    model.picture.ranges[2].bytes = 32 << 20;
    assert_eq!(absorbs(&model), Some((4, 5)));
    model.picture.ranges[3].bytes = 16 << 20;
    assert_eq!(absorbs(&model), None, "they are not small");
    model.picture.ranges[1].bytes = 0;
    model.picture.ranges[2].bytes = 0;
    assert_eq!(absorbs(&model), Some((2, 3)));
    let wanted = model.picture.ranges[2].descriptor.span.start.clone();
    model.picture.wanted_splits.insert(wanted);
    assert_eq!(absorbs(&model), Some((3, 4)));
    model.picture.wanted_splits.clear();
    model.picture.steady.remove(&2);
    assert_eq!(absorbs(&model), Some((3, 4)));
    model.picture.changing.insert(4);
    assert_eq!(absorbs(&model), None);
}

#[test]
fn replicas_are_spread_over_places() {
    let mut model = Model::new(6, 9);
    for (n, (status, _)) in (0..).zip(&mut model.picture.nodes) {
        let zone = ["a", "a", "b", "b", "c", "c"][n];
        status.row.locality = vec![("zone".into(), zone.into())];
    }
    model.settle();
    for range in model
        .picture
        .ranges
        .iter()
        .filter(|r| r.descriptor.range > 1)
    {
        let places = range.membership.members.values();
        let zones: BTreeSet<u64> = places.map(|place| (place.node.0 - 1) / 2).collect();
        assert_eq!(zones.len(), 3, "{range:?}");
    }
}

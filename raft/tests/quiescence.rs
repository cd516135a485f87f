//! Groups that nobody uses fall silent, and are there when they are needed.

mod support;

use std::time::Duration;

use bytes::Bytes;
use pontoon_raft::transport::Link;
use pontoon_raft::{BarrierError, GroupId, ProposeError};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use support::{Cluster, peer, simulate};

const GROUP: GroupId = GroupId(1);

fn command(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Whether every replica of every group rests.
fn sleeps(cluster: &Cluster) -> bool {
    let nodes = cluster.nodes.iter().filter(|(_, node)| node.host.is_some());
    let mut nodes = nodes.map(|(n, _)| *n);
    nodes.all(|n| {
        let mut groups = cluster.groups.iter();
        groups.all(|group| cluster.group(n, *group).is_quiescent())
    })
}

/// Waits until every replica rests, at most for `ms`.
async fn fall_asleep(cluster: &Cluster, ms: u64) {
    for _ in 0..ms / 10 {
        if sleeps(cluster) {
            return;
        }
        pause(10).await;
    }
    show(cluster);
    panic!("the cluster does not come to rest");
}

fn show(cluster: &Cluster) {
    for (n, node) in &cluster.nodes {
        for group in cluster.groups.iter().filter(|_| node.host.is_some()) {
            eprintln!("{n} {group}: {:?}", cluster.group(*n, *group).status());
        }
    }
}

/// Proposes at whoever leads; returns the node, or `None` when nobody could after `ms`.
async fn write(cluster: &Cluster, group: GroupId, text: &str, ms: u64) -> Option<u64> {
    let until = tokio::time::Instant::now() + Duration::from_millis(ms);
    while tokio::time::Instant::now() < until {
        for (n, node) in &cluster.nodes {
            if node.host.is_none() {
                continue;
            }
            let asked = cluster.group(*n, group);
            let proposed =
                tokio::time::timeout(Duration::from_millis(1_000), asked.propose(command(text)));
            if let Ok(Ok(_)) = proposed.await {
                return Some(*n);
            }
        }
        pause(20).await;
    }
    None
}

#[test]
fn an_idle_cluster_sends_nothing() {
    simulate(async {
        let mut cluster = Cluster::start(1, 3, 5).await;
        cluster.initialize(&[1, 2, 3]).await;
        let awake = GroupId(5);
        for n in 1..=3 {
            cluster.group(n, awake).stay_awake();
        }
        for group in cluster.groups.clone() {
            cluster.leader(group).await;
            write(&cluster, group, "a", 1_000).await.unwrap();
        }
        pause(2_000).await;
        assert!((1..=3).all(|n| !cluster.group(n, awake).is_quiescent()));
        for n in 1..=3 {
            cluster.nodes[&n]
                .host
                .as_ref()
                .unwrap()
                .close_group(awake)
                .await;
        }
        cluster.groups.pop();
        fall_asleep(&cluster, 2_000).await;
        pause(500).await;
        let before = cluster.network.sent();
        pause(30_000).await;
        assert_eq!(cluster.network.sent(), before);

        // A read asks a majority, and all are awake for a while.
        let leader = cluster.leader(GROUP).await;
        let term = cluster.group(leader, GROUP).term();
        assert!(cluster.group(leader, GROUP).leadership().is_none());
        let read = cluster.group(leader, GROUP).read_barrier().await;
        assert_eq!(read.unwrap().term, term);
        pause(100).await;
        assert!((1..=3).all(|n| !cluster.group(n, GROUP).is_quiescent()));
        fall_asleep(&cluster, 2_000).await;
        assert_eq!(cluster.leader(GROUP).await, leader);
        assert_eq!(cluster.group(leader, GROUP).term(), term);
        cluster.shutdown().await;
    });
}

#[test]
fn whoever_uses_a_follower_wakes_the_leader() {
    simulate(async {
        let mut cluster = Cluster::start(2, 3, 1).await;
        cluster.initialize(&[1, 2, 3]).await;
        let leader = cluster.leader(GROUP).await;
        fall_asleep(&cluster, 2_000).await;
        let term = cluster.group(leader, GROUP).term();
        let follower = leader % 3 + 1;
        let refused = cluster.group(follower, GROUP).read_barrier().await;
        let hint = Some(peer(leader));
        assert_eq!(refused, Err(BarrierError::NotLeader { hint }));
        pause(200).await;
        assert!((1..=3).all(|n| !cluster.group(n, GROUP).is_quiescent()));
        assert!(cluster.group(leader, GROUP).leadership().is_some());
        assert_eq!(cluster.group(leader, GROUP).term(), term);
        cluster.shutdown().await;
    });
}

#[test]
fn a_leader_lost_in_its_sleep_is_replaced_when_it_is_needed() {
    simulate(async {
        for seed in 0..20 {
            let mut cluster = Cluster::start(300 + seed, 3, 1).await;
            cluster.initialize(&[1, 2, 3]).await;
            let leader = cluster.leader(GROUP).await;
            write(&cluster, GROUP, "a", 1_000).await.unwrap();
            fall_asleep(&cluster, 2_000).await;
            if seed % 2 == 0 {
                cluster.power_off(leader).await;
            } else {
                cluster.network.isolate(peer(leader).place.node);
            }
            pause(5_000).await;
            let follower = leader % 3 + 1;
            assert!(cluster.group(follower, GROUP).is_quiescent());
            let refused = cluster.group(follower, GROUP).propose(command("b")).await;
            let hint = Some(peer(leader));
            assert_eq!(refused, Err(ProposeError::NotLeader { hint }));
            // The election itself, and no waiting for a silence to last.
            pause(400).await;
            let others: Vec<u64> = (1..=3).filter(|n| *n != leader).collect();
            assert!(
                others
                    .iter()
                    .any(|n| cluster.group(*n, GROUP).leadership().is_some()),
                "seed {seed}"
            );
            cluster.shutdown().await;
        }
    });
}

#[test]
fn a_leader_lost_in_its_sleep_is_noticed_in_the_end() {
    simulate(async {
        let mut cluster = Cluster::start(4, 3, 1).await;
        cluster.initialize(&[1, 2, 3]).await;
        let leader = cluster.leader(GROUP).await;
        write(&cluster, GROUP, "a", 1_000).await.unwrap();
        fall_asleep(&cluster, 2_000).await;
        cluster.power_off(leader).await;
        pause(70_000).await;
        let mut others = (1..=3).filter(|n| *n != leader);
        assert!(others.any(|n| cluster.group(n, GROUP).leads()));
        cluster.shutdown().await;
    });
}

#[test]
fn a_member_that_starts_again_does_not_take_the_lead_of_what_sleeps() {
    simulate(async {
        let mut cluster = Cluster::start(5, 3, 4).await;
        cluster.initialize(&[1, 2, 3]).await;
        let mut leaders = Vec::new();
        for group in cluster.groups.clone() {
            write(&cluster, group, "a", 1_000).await.unwrap();
            let leader = cluster.leader(group).await;
            leaders.push((group, leader, cluster.group(leader, group).term()));
        }
        fall_asleep(&cluster, 2_000).await;
        for n in 1..=3 {
            let led = leaders.iter().filter(|(_, leader, _)| *leader == n);
            if led.count() > 0 {
                continue;
            }
            cluster.power_off(n).await;
            pause(1_000).await;
            cluster.boot(n).await;
            pause(1_000).await;
            fall_asleep(&cluster, 3_000).await;
        }
        for (group, leader, term) in leaders {
            assert_eq!(cluster.leader(group).await, leader);
            assert_eq!(cluster.group(leader, group).term(), term);
        }
        cluster.shutdown().await;
    });
}

/// Everything at random: uses, pauses long enough to fall asleep, crashes, cuts, losses. Whenever
/// the faults end, a write succeeds soon, nothing acknowledged is lost, and the cluster comes to
/// rest again.
fn torment(seed: u64) {
    simulate(async {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut cluster = Cluster::start(1_000 + seed, 3, 2).await;
        cluster.initialize(&[1, 2, 3]).await;
        for group in &cluster.groups {
            assert!(write(&cluster, *group, "first", 3_000).await.is_some());
        }
        let mut acknowledged = vec![Vec::new(); cluster.groups.len()];
        let mut writes = 0;
        for _ in 0..4 {
            for _ in 0..rng.random_range(3..12) {
                let n = rng.random_range(1..=3);
                let what = rng.random_range(0..10);
                match what {
                    0 => cluster.network.isolate(peer(n).place.node),
                    1 => cluster.network.heal(),
                    2 => cluster.network.set_default_link(Link {
                        loss: rng.random_range(0.0..0.3),
                        delay_max: Duration::from_millis(rng.random_range(1..30)),
                        ..Link::default()
                    }),
                    3 => cluster.network.set_default_link(Link::default()),
                    4 if cluster.nodes[&n].host.is_some() => cluster.power_off(n).await,
                    4 | 5 => {
                        if cluster.nodes[&n].host.is_none() {
                            cluster.boot(n).await;
                        }
                    }
                    6 => {
                        let group = cluster.groups[rng.random_range(0..2)];
                        if cluster.nodes[&n].host.is_some() {
                            cluster.group(n, group).wake();
                        }
                    }
                    _ => {
                        let at = rng.random_range(0..2);
                        let text = format!("{writes}");
                        writes += 1;
                        let group = cluster.groups[at];
                        if write(&cluster, group, &text, 500).await.is_some() {
                            acknowledged[at].push(text);
                        }
                    }
                }
                pause([0, 30, 200, 700, 2_000][rng.random_range(0..5)]).await;
            }
            cluster.network.heal();
            cluster.network.set_default_link(Link::default());
            for n in 1..=3 {
                if cluster.nodes[&n].host.is_none() {
                    cluster.boot(n).await;
                }
            }
            for (at, group) in cluster.groups.clone().into_iter().enumerate() {
                let text = format!("{writes}");
                writes += 1;
                let written = write(&cluster, group, &text, 3_000).await;
                if written.is_none() {
                    show(&cluster);
                }
                assert!(written.is_some(), "seed {seed}: {group} cannot be written");
                acknowledged[at].push(text);
            }
            fall_asleep(&cluster, 5_000).await;
            for (at, group) in cluster.groups.iter().enumerate() {
                let contents: Vec<_> = (1..=3)
                    .map(|n| cluster.nodes[&n].data[group].visible())
                    .collect();
                assert!(
                    contents.iter().all(|one| *one == contents[0]),
                    "seed {seed}: who rests has applied everything"
                );
                let mut commands = contents[0].commands.iter().map(|(_, command)| command);
                for text in &acknowledged[at] {
                    assert!(
                        commands.any(|command| command[..] == *text.as_bytes()),
                        "seed {seed}: {text} is lost or out of order"
                    );
                }
            }
        }
        cluster.shutdown().await;
    });
}

#[test]
fn sleep_and_faults_at_random() {
    let only = std::env::var("PONTOON_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(0..150, |seed| seed..seed + 1);
    for seed in seeds {
        torment(seed);
    }
}

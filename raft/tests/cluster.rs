//! Three replicas in one process on a simulated clock, network and disk.

mod support;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use pontoon_raft::log_store::PlantedBug;
use pontoon_raft::transport::Link;
use pontoon_raft::{BarrierError, GroupId, MemberChange, MembershipError, ProposeError, ReplicaId};
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

/// Waits until all running replicas of the group have applied the same.
async fn converge(cluster: &Cluster, group: GroupId) -> Vec<Bytes> {
    for _ in 0..4_000 {
        let mut contents = cluster
            .nodes
            .values()
            .filter(|node| node.host.is_some())
            .map(|node| node.data[&group].visible());
        let first = contents.next().unwrap();
        if first.position.is_some() && contents.all(|other| other == first) {
            return first
                .commands
                .into_iter()
                .map(|(_, command)| command)
                .collect();
        }
        pause(5).await;
    }
    panic!("replicas do not converge");
}

#[test]
fn replicas_apply_the_same_commands() {
    simulate(async {
        let mut cluster = Cluster::start(1, 3, 2).await;
        cluster.initialize(&[1, 2, 3]).await;
        for group in cluster.groups.clone() {
            let leader = cluster.leader(group).await;
            for n in 0..50 {
                let done = cluster
                    .group(leader, group)
                    .propose(command(format!("{n}")))
                    .await;
                assert_eq!(done.unwrap().reply, format!("did {n}"));
            }
            // What is called committed is applied everywhere in the end.
            let leading = cluster.group(leader, group);
            let term = leading.leadership().unwrap().term;
            let done = leading.propose_unapplied(command("last"), term).await;
            assert!(done.is_ok(), "{done:?}");
            let follower = leader % 3 + 1;
            let refused = cluster.group(follower, group).propose(command("x")).await;
            assert_eq!(
                refused,
                Err(ProposeError::NotLeader {
                    hint: Some(peer(leader))
                })
            );
            assert!(cluster.group(follower, group).leadership().is_none());
            let refused = cluster.group(follower, group).read_barrier().await;
            assert_eq!(
                refused,
                Err(BarrierError::NotLeader {
                    hint: Some(peer(leader))
                })
            );
            assert_eq!(converge(&cluster, group).await.len(), 51);
        }
        cluster.shutdown().await;
    });
}

#[test]
fn a_killed_leader_is_replaced_and_comes_back() {
    simulate(async {
        let mut cluster = Cluster::start(2, 3, 1).await;
        cluster.initialize(&[1, 2, 3]).await;
        let first = cluster.leader(GROUP).await;
        for n in 0..20 {
            cluster
                .group(first, GROUP)
                .propose(command(format!("{n}")))
                .await
                .unwrap();
        }
        cluster.power_off(first).await;
        let second = cluster.leader(GROUP).await;
        assert_ne!(first, second);
        for n in 20..40 {
            cluster
                .group(second, GROUP)
                .propose(command(format!("{n}")))
                .await
                .unwrap();
        }
        cluster.boot(first).await;
        let commands = converge(&cluster, GROUP).await;
        assert_eq!(
            commands,
            (0..40).map(|n| command(format!("{n}"))).collect::<Vec<_>>()
        );
        cluster.shutdown().await;
    });
}

#[test]
fn a_leader_that_is_cut_off_stops_serving_before_another_begins() {
    simulate(async {
        for seed in 0..10 {
            let mut cluster = Cluster::start(100 + seed, 3, 1).await;
            cluster.initialize(&[1, 2, 3]).await;
            let old = cluster.leader(GROUP).await;
            pause(seed * 17).await;
            assert!(cluster.group(old, GROUP).leadership().is_some());
            cluster.network.isolate(peer(old).place.node);
            let mut new = None;
            for _ in 0..3_000 {
                let leaders: Vec<_> = (1..=3)
                    .filter(|n| cluster.group(*n, GROUP).leadership().is_some())
                    .collect();
                assert!(leaders.len() <= 1, "seed {seed}: {leaders:?} serve at once");
                new = leaders.first().copied().filter(|n| *n != old);
                if new.is_some() {
                    break;
                }
                pause(1).await;
            }
            let new = new.expect("a new leader");
            cluster
                .group(new, GROUP)
                .propose(command("new"))
                .await
                .unwrap();
            let group = cluster.group(old, GROUP);
            let late = tokio::time::timeout(Duration::from_secs(2), group.propose(command("old")));
            assert!(
                !matches!(late.await, Ok(Ok(_))),
                "nothing is acknowledged without a majority"
            );
            cluster.network.heal();
            let commands = converge(&cluster, GROUP).await;
            assert_eq!(commands, [command("new")]);
            cluster.shutdown().await;
        }
    });
}

#[test]
fn leadership_is_handed_over_on_request() {
    simulate(async {
        let mut cluster = Cluster::start(3, 3, 1).await;
        cluster.initialize(&[1, 2, 3]).await;
        let old = cluster.leader(GROUP).await;
        let new = old % 3 + 1;
        cluster
            .group(old, GROUP)
            .propose(command("a"))
            .await
            .unwrap();
        let refused = cluster
            .group(old, GROUP)
            .transfer_leader(ReplicaId(9))
            .await;
        assert!(
            matches!(refused, Err(MembershipError::Refused { .. })),
            "{refused:?}"
        );
        cluster
            .group(old, GROUP)
            .transfer_leader(ReplicaId(new))
            .await
            .unwrap();
        assert!(cluster.group(old, GROUP).leadership().is_none());
        assert_eq!(cluster.leader(GROUP).await, new);
        cluster
            .group(new, GROUP)
            .propose(command("b"))
            .await
            .unwrap();
        assert_eq!(converge(&cluster, GROUP).await.len(), 2);
        cluster.shutdown().await;
    });
}

#[test]
fn leadership_is_not_handed_to_who_does_not_answer() {
    simulate(async {
        let mut cluster = Cluster::start(4, 3, 1).await;
        cluster.initialize(&[1, 2, 3]).await;
        let old = cluster.leader(GROUP).await;
        let lost = old % 3 + 1;
        let group = cluster.group(old, GROUP);
        group.propose(command("a")).await.unwrap();
        cluster.network.isolate(peer(lost).place.node);
        let handing = tokio::spawn({
            let group = group.clone();
            async move { group.transfer_leader(ReplicaId(lost)).await }
        });
        while !handing.is_finished() {
            assert!(group.leadership().is_some(), "reads go on");
            pause(1).await;
        }
        let refused = handing.await.unwrap();
        assert!(
            matches!(refused, Err(MembershipError::Refused { .. })),
            "{refused:?}"
        );
        group.propose(command("b")).await.unwrap();
        cluster.network.heal();
        assert_eq!(converge(&cluster, GROUP).await.len(), 2);
        cluster.shutdown().await;
    });
}

#[test]
fn one_replica_grows_to_three_by_snapshot_and_moves_away() {
    simulate(async {
        let mut cluster = Cluster::start(4, 1, 1).await;
        cluster.kept = 20;
        cluster.power_off(1).await;
        cluster.boot(1).await;
        cluster.initialize(&[1]).await;
        let group = cluster.group(1, GROUP);
        group.wait_leadership().await.unwrap();
        for n in 0..200 {
            group.propose(command(format!("{n}"))).await.unwrap();
        }
        cluster.nodes[&1].data[&GROUP].persist();
        while group.status().purged.is_none() {
            pause(20).await;
        }
        for n in 2..=3 {
            cluster.add(4, n).await;
            let learner = MemberChange::AddLearner(peer(n));
            group.change_members(learner, None).await.unwrap();
        }
        assert_eq!(converge(&cluster, GROUP).await.len(), 200);
        group
            .change_members(MemberChange::Voters((1..=3).map(ReplicaId).collect()), None)
            .await
            .unwrap();
        group.read_barrier().await.unwrap();
        for n in 200..220 {
            group.propose(command(format!("{n}"))).await.unwrap();
        }
        // A follower that was restored from a snapshot restarts from its disk.
        cluster.power_off(2).await;
        cluster.boot(2).await;
        assert_eq!(converge(&cluster, GROUP).await.len(), 220);
        // The first replica leaves; another leads.
        let change = group
            .change_members(MemberChange::Voters([2, 3].map(ReplicaId).into()), None)
            .await;
        assert!(change.is_ok(), "{change:?}");
        assert!(
            group.leadership().is_none(),
            "a removed replica serves no reads"
        );
        let leader = cluster.leader(GROUP).await;
        assert_ne!(leader, 1);
        let voters = cluster.group(leader, GROUP).status().membership.voters();
        assert_eq!(voters, BTreeSet::from([ReplicaId(2), ReplicaId(3)]));
        cluster.shutdown().await;
    });
}

/// A piece of a snapshot, or the answer to it, that is lost is not waited for: the transfer goes on.
#[test]
fn a_snapshot_survives_lost_messages() {
    for seed in 20..32 {
        simulate(async {
            let mut cluster = Cluster::start(seed, 1, 1).await;
            cluster.kept = 20;
            cluster.power_off(1).await;
            cluster.boot(1).await;
            cluster.initialize(&[1]).await;
            let group = cluster.group(1, GROUP);
            group.wait_leadership().await.unwrap();
            for n in 0..100 {
                group.propose(command(format!("{n}"))).await.unwrap();
            }
            cluster.nodes[&1].data[&GROUP].persist();
            while group.status().purged.is_none() {
                pause(20).await;
            }
            cluster.add(4, 2).await;
            cluster.network.set_default_link(Link {
                loss: 0.4,
                ..Link::default()
            });
            let learner = MemberChange::AddLearner(peer(2));
            group.change_members(learner, None).await.unwrap();
            pause(300).await;
            cluster.network.set_default_link(Link::default());
            assert_eq!(converge(&cluster, GROUP).await.len(), 100, "seed {seed}");
            cluster.shutdown().await;
        });
    }
}

/// A random run: proposals, reads, partitions, losses, kills. Returns a hash of what happened.
async fn random_run(seed: u64, bug: PlantedBug) -> Result<u64, String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(seed, 3, 1).await;
    for node in cluster.nodes.values() {
        node.disk.plant(bug);
    }
    let link = Link {
        loss: 0.01,
        delay_min: Duration::from_micros(100),
        delay_max: Duration::from_millis(5),
        ..Link::default()
    };
    cluster.network.set_default_link(link);
    cluster.initialize(&[1, 2, 3]).await;
    let mut history = DefaultHasher::new();
    let mut acknowledged = BTreeSet::new();
    for step in 0..150_u64 {
        let n = rng.random_range(1..=3);
        match rng.random_range(0..100) {
            0..70 => {
                let target = (1..=3).find(|n| is_up(&cluster, *n) && leads(&cluster, *n));
                let Some(target) = target else {
                    pause(50).await;
                    continue;
                };
                let group = cluster.group(target, GROUP);
                let name = command(format!("{step}"));
                let proposal = group.propose(name.clone());
                let outcome = tokio::time::timeout(Duration::from_millis(500), proposal).await;
                if let Ok(Ok(done)) = outcome {
                    (step, done.position.term, done.position.index).hash(&mut history);
                    acknowledged.insert(name);
                }
            }
            70..74 => cluster.network.isolate(peer(n).place.node),
            74..84 => cluster.network.heal(),
            84..88 if is_up(&cluster, n) => cluster.power_off(n).await,
            88..96 => {
                for n in 1..=3 {
                    if !is_up(&cluster, n) {
                        cluster.boot(n).await;
                    }
                }
            }
            _ => {
                for node in cluster.nodes.values() {
                    node.data[&GROUP].persist();
                }
            }
        }
        for n in (1..=3).filter(|n| is_up(&cluster, *n)) {
            if leads(&cluster, n) {
                let seen: BTreeSet<_> = cluster.nodes[&n].data[&GROUP]
                    .visible()
                    .commands
                    .into_iter()
                    .map(|(_, command)| command)
                    .collect();
                if !seen.is_superset(&acknowledged) {
                    return Err(format!("stale read at step {step} on node {n}"));
                }
            }
        }
        pause(rng.random_range(0..60)).await;
    }
    cluster.network.heal();
    cluster.network.set_default_link(Link::default());
    for n in 1..=3 {
        if !is_up(&cluster, n) {
            cluster.boot(n).await;
        }
    }
    let leader = cluster.leader(GROUP).await;
    let last = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let leader = cluster.leader(GROUP).await;
            if cluster
                .group(leader, GROUP)
                .propose(command("last"))
                .await
                .is_ok()
            {
                return;
            }
            pause(10).await;
        }
    });
    last.await
        .map_err(|_| format!("no progress after healing, node {leader} led"))?;
    let commands = converge(&cluster, GROUP).await;
    let distinct: BTreeSet<_> = commands.iter().cloned().collect();
    if !distinct.is_superset(&acknowledged) {
        let lost: Vec<_> = acknowledged.difference(&distinct).collect();
        return Err(format!("acknowledged commands are lost: {lost:?}"));
    }
    commands.hash(&mut history);
    cluster.shutdown().await;
    Ok(history.finish())
}

fn is_up(cluster: &Cluster, n: u64) -> bool {
    cluster.nodes[&n].host.is_some()
}

fn leads(cluster: &Cluster, n: u64) -> bool {
    cluster.group(n, GROUP).leadership().is_some()
}

#[test]
fn nothing_acknowledged_is_lost_and_no_read_is_stale() {
    for seed in 0..25 {
        let outcome = simulate(random_run(seed, PlantedBug::None));
        outcome.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn one_seed_gives_one_history() {
    for seed in [3, 8] {
        let first = simulate(random_run(seed, PlantedBug::None));
        assert_eq!(
            first,
            simulate(random_run(seed, PlantedBug::None)),
            "seed {seed}"
        );
    }
}

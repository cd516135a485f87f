//! One replica alone: what is acknowledged is there after a restart, on a real disk and after a
//! simulated loss of power.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use pontoon_raft::log_store::{LogOptions, RaftLog};
use pontoon_raft::shell::SystemClock;
use pontoon_raft::transport::MemoryNetwork;
use pontoon_raft::{
    Committed, GroupId, Host, HostConfig, LogEngine, MemorySpool, OpenError, ProposeError,
    ReplicaId, StoreId,
};
use support::{Cluster, Data, Events, peer, simulate};

const GROUP: GroupId = GroupId(1);

async fn open(directory: &std::path::Path, data: &Data) -> (Host, Arc<RaftLog>) {
    support::trace();
    let log = RaftLog::open(directory, LogOptions::new(StoreId(1)), Box::new(|_| {})).unwrap();
    let host = Host::open(
        HostConfig::new(peer(1).place),
        Arc::clone(&log) as Arc<dyn LogEngine>,
        Arc::new(MemorySpool::default()),
        MemoryNetwork::new(1),
        SystemClock::new(),
        Arc::new(Events::default()),
        7,
    )
    .unwrap();
    let data = data.clone();
    host.open_group(GROUP, ReplicaId(1), move || Ok(data.machine()))
        .await
        .unwrap();
    (host, log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_commands_survive_restarts_on_a_real_disk() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::default();
    for round in 0..3_u64 {
        let (host, log) = open(directory.path(), &data).await;
        let group = host.group(GROUP).unwrap();
        if round == 0 {
            group.initialize(vec![peer(1)]).await.unwrap();
        }
        let leadership = group.wait_leadership().await;
        let leadership = leadership.unwrap_or_else(|error| panic!("{error}: {:?}", group.status()));
        assert_eq!(leadership.term, round + 1, "every start begins a term");
        let visible = data.visible().commands.len();
        assert_eq!(
            visible as u64,
            round * 100,
            "everything is applied before the leader is ready"
        );
        for n in 0..100 {
            let command = format!("{round}-{n}");
            let done = group.propose(Bytes::from(command.clone())).await.unwrap();
            assert_eq!(done.position.term, leadership.term);
            assert_eq!(done.reply, format!("did {command}"));
        }
        assert_eq!(group.read_barrier().await.unwrap(), leadership);
        host.shutdown().await;
        assert_eq!(
            group.propose(Bytes::new()).await,
            Err(ProposeError::Stopped)
        );
        assert!(group.leadership().is_none());
        drop(log);
        // The data forgets everything; the log brings it back.
        data.crash();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sole_voter_need_not_apply_a_command_to_tell_that_it_is_committed() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::default();
    let (host, log) = open(directory.path(), &data).await;
    let group = host.group(GROUP).unwrap();
    group.initialize(vec![peer(1)]).await.unwrap();
    let term = group.wait_leadership().await.unwrap().term;
    let held = data.hold();
    let early = group.propose_unapplied(Bytes::from_static(b"early"), term);
    assert_eq!(early.await, Ok(Committed::Unapplied));
    assert_eq!(held.0.0.commands.len(), 0);
    drop(held);
    // One that counts in another term only is not told of before the machine has judged it.
    let late = group.propose_unapplied(Bytes::from_static(b"late"), term + 1);
    let Ok(Committed::Applied(late)) = late.await else {
        panic!("applied");
    };
    assert_eq!(late.reply, "did late");
    // What was told of survives a machine that has not applied it.
    let held = data.hold();
    let last = group.propose_unapplied(Bytes::from_static(b"last"), term);
    assert_eq!(last.await, Ok(Committed::Unapplied));
    drop(held);
    host.shutdown().await;
    drop((group, host, log));
    data.crash();
    let (host, _log) = open(directory.path(), &data).await;
    let group = host.group(GROUP).unwrap();
    group.wait_leadership().await.unwrap();
    let commands = data.visible().commands;
    let commands: Vec<&[u8]> = commands.iter().map(|(_, command)| &command[..]).collect();
    assert_eq!(commands, [&b"early"[..], b"late", b"last"]);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_share_a_sync() {
    let directory = tempfile::tempdir().unwrap();
    let data = Data::default();
    let (host, log) = open(directory.path(), &data).await;
    let mut groups = vec![host.group(GROUP).unwrap()];
    for id in 2..=8 {
        let data = Data::default();
        let opened = host
            .open_group(GroupId(id), ReplicaId(1), move || Ok(data.machine()))
            .await;
        groups.push(opened.unwrap());
    }
    for group in &groups {
        group.initialize(vec![peer(1)]).await.unwrap();
        group.wait_leadership().await.unwrap();
    }
    let before = log.stats().batches;
    let clients = (0..64).map(|client| {
        let group = groups[client % groups.len()].clone();
        tokio::spawn(async move {
            for n in 0..20 {
                group
                    .propose(Bytes::from(format!("{client}-{n}")))
                    .await
                    .unwrap();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let batches = log.stats().batches - before;
    assert!(
        batches < 64 * 20 / 2,
        "{batches} syncs for {} proposals",
        64 * 20
    );
    host.shutdown().await;
}

#[test]
fn acknowledged_commands_survive_loss_of_power() {
    simulate(async {
        let mut cluster = Cluster::start(1, 1, 3).await;
        cluster.initialize(&[1]).await;
        let mut acknowledged = vec![0; 3];
        for round in 0..20 {
            for (n, group) in cluster.groups.clone().into_iter().enumerate() {
                let group = cluster.group(1, group);
                group.wait_leadership().await.unwrap();
                for i in 0..5 {
                    group
                        .propose(Bytes::from(format!("{round}-{i}")))
                        .await
                        .unwrap();
                    acknowledged[n] += 1;
                }
                // Proposed and not waited for: may be lost.
                let unheard = group.clone();
                tokio::spawn(async move { unheard.propose(Bytes::from_static(b"unheard")).await });
            }
            if round % 3 == 0 {
                cluster.nodes[&1].data[&GROUP].persist();
            }
            tokio::task::yield_now().await;
            cluster.power_off(1).await;
            cluster.boot(1).await;
        }
        for (n, group) in cluster.groups.clone().into_iter().enumerate() {
            cluster.group(1, group).wait_leadership().await.unwrap();
            let commands = cluster.nodes[&1].data[&group].visible().commands;
            let heard = commands
                .iter()
                .filter(|(_, command)| &command[..] != b"unheard")
                .count();
            assert_eq!(heard, acknowledged[n]);
        }
        cluster.shutdown().await;
    });
}

#[test]
fn a_group_whose_core_died_is_reopened() {
    simulate(async {
        let mut cluster = Cluster::start(2, 1, 2).await;
        cluster.initialize(&[1]).await;
        let group = cluster.group(1, GROUP);
        group.wait_leadership().await.unwrap();
        group.propose(Bytes::from_static(b"one")).await.unwrap();
        let died = group.propose(Bytes::from_static(b"panic")).await;
        assert!(
            matches!(died, Err(ProposeError::Ambiguous { .. })),
            "{died:?}"
        );
        // The command kills every core that applies it, so the group stays down...
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert_eq!(
            cluster.nodes[&1].events.down.lock().unwrap().first(),
            Some(&GROUP)
        );
        // ... says why ...
        let failure = group.failure();
        assert!(
            failure.as_ref().is_some_and(|why| why.contains("panicked")),
            "{failure:?}"
        );
        // ... is tried ever more seldom ...
        let before = cluster.nodes[&1].events.down.lock().unwrap().len();
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        let after = cluster.nodes[&1].events.down.lock().unwrap().len();
        assert!((1..8).contains(&(after - before)), "{before}, {after}");
        // ... and the other group goes on.
        let other = cluster.group(1, GroupId(2));
        other.wait_leadership().await.unwrap();
        other.propose(Bytes::from_static(b"two")).await.unwrap();
        cluster.shutdown().await;
    });
}

#[test]
fn data_ahead_of_its_log_is_refused() {
    simulate(async {
        let mut cluster = Cluster::start(3, 1, 1).await;
        cluster.initialize(&[1]).await;
        let group = cluster.group(1, GROUP);
        group.wait_leadership().await.unwrap();
        group.propose(Bytes::from_static(b"one")).await.unwrap();
        cluster.nodes[&1].data[&GROUP].persist();
        cluster.power_off(1).await;
        // Another disk: all of the log is gone.
        cluster.nodes.get_mut(&1).unwrap().disk = pontoon_raft::log_store::SimDisk::new(9);
        cluster.groups.clear();
        cluster.boot(1).await;
        let data = cluster.nodes[&1].data[&GROUP].clone();
        let host = cluster.nodes[&1].host.clone().unwrap();
        let opened = host
            .open_group(GROUP, ReplicaId(1), move || Ok(data.machine()))
            .await;
        assert!(
            matches!(opened, Err(OpenError::LogBehindData { .. })),
            "{:?}",
            opened.err()
        );
        cluster.shutdown().await;
    });
}

#[test]
fn a_log_of_large_entries_is_purged_once_they_are_durable() {
    simulate(async {
        let mut cluster = Cluster::start(4, 1, 1).await;
        cluster.bytes_kept = 50_000;
        cluster.power_off(1).await;
        cluster.boot(1).await;
        cluster.initialize(&[1]).await;
        let group = cluster.group(1, GROUP);
        group.wait_leadership().await.unwrap();
        for _ in 0..200 {
            group.propose(Bytes::from(vec![7; 1_000])).await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(
            group.status().purged,
            None,
            "nothing is durable in the data yet"
        );
        cluster.nodes[&1].data[&GROUP].persist();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let purged = group.status().purged.expect("purged");
        assert!((140..160).contains(&purged.index), "{purged}");
        cluster.power_off(1).await;
        cluster.boot(1).await;
        let group = cluster.group(1, GROUP);
        group.wait_leadership().await.unwrap();
        group.propose(Bytes::from_static(b"on")).await.unwrap();
        assert_eq!(cluster.nodes[&1].data[&GROUP].visible().commands.len(), 201);
        cluster.shutdown().await;
    });
}

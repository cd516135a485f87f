//! kill -9 in the middle of inserts: every acknowledged row is there afterwards, none half.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use pontoon_sqllogictest::server::PontoonNode;
use pontoon_sqllogictest::wire::{Address, Client, WireError};

const ROUNDS: i64 = 10;
const WRITERS: i64 = 2;
/// Rows of each transaction; fewer of them in the table would be half a transaction.
const PARTS: usize = 3;

/// Inserts until the connection breaks; sends every id whose commit was acknowledged.
fn write_until_killed(address: &Address, first_id: i64, acknowledged: &Sender<i64>) {
    let Ok(mut client) = Client::connect(address) else {
        return;
    };
    for id in first_id.. {
        // By turns one statement of its own, and a transaction of several statements.
        let result = if id % 2 == 0 {
            insert_at_once(&mut client, id)
        } else {
            insert_in_steps(&mut client, id)
        };
        match result {
            Ok(()) => {
                if acknowledged.send(id).is_err() {
                    return;
                }
            }
            Err(WireError::Server(error)) => panic!("insert of {id} failed: {error}"),
            Err(_) => return,
        }
    }
}

fn insert_at_once(client: &mut Client, id: i64) -> Result<(), WireError> {
    client.query(&format!(
        "INSERT INTO kept VALUES ({id}, 0, 'a'), ({id}, 1, 'b'), ({id}, 2, 'c')"
    ))?;
    Ok(())
}

fn insert_in_steps(client: &mut Client, id: i64) -> Result<(), WireError> {
    client.query("BEGIN")?;
    for part in 0..PARTS {
        client.query(&format!("INSERT INTO kept VALUES ({id}, {part}, 'step')"))?;
    }
    client.query("COMMIT")?;
    Ok(())
}

fn parts_by_id(client: &mut Client) -> BTreeMap<i64, BTreeSet<String>> {
    let mut found: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    let rows = client.query("SELECT id, part FROM kept").unwrap().rows;
    let count = rows.len();
    for row in rows {
        let id = row[0].as_deref().unwrap().parse().unwrap();
        found.entry(id).or_default().insert(row[1].clone().unwrap());
    }
    let by_key: usize = found.values().map(BTreeSet::len).sum();
    assert_eq!(by_key, count, "a row came twice");
    found
}

#[test]
fn acknowledged_rows_survive_kill_9_and_none_is_half() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = PontoonNode::start_in(&folder.path().join("data")).unwrap();
    let mut setup = Client::connect(&node.address()).unwrap();
    setup
        .query("CREATE TABLE kept (id bigint, part int, v text NOT NULL, PRIMARY KEY (id, part))")
        .unwrap();
    setup.query("CREATE INDEX kept_v ON kept (v, id)").unwrap();
    drop(setup);

    let mut acknowledged: BTreeSet<i64> = BTreeSet::new();
    for round in 0..ROUNDS {
        let (sender, receiver) = channel();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let sender = sender.clone();
                let address = node.address();
                let first_id = (round * WRITERS + writer) * 1_000_000;
                thread::spawn(move || write_until_killed(&address, first_id, &sender))
            })
            .collect();
        drop(sender);
        // A different number of commits before each kill, so that it meets different moments.
        let wanted = 20 + round * 17;
        for _ in 0..wanted {
            acknowledged.insert(receiver.recv().expect("the writers ended before the kill"));
        }
        node.kill9().unwrap();
        acknowledged.extend(receiver.iter());
        for writer in writers {
            writer.join().unwrap();
        }

        node.start_again().unwrap();
        let mut client = Client::connect(&node.address()).unwrap();
        let found = parts_by_id(&mut client);
        for id in &acknowledged {
            assert!(
                found.contains_key(id),
                "round {round}: acknowledged {id} is lost"
            );
        }
        for (id, parts) in &found {
            assert_eq!(parts.len(), PARTS, "round {round}: {id} is half: {parts:?}");
        }
        let by_index = client
            .scalar("SELECT count(*) FROM kept WHERE v IN ('a', 'b', 'c', 'step')")
            .unwrap();
        let rows: usize = found.values().map(BTreeSet::len).sum();
        assert_eq!(
            by_index,
            Some(rows.to_string()),
            "round {round}: index and table differ"
        );
    }
}

//! Joins that nodes do side by side: with a small side that each is sent, and with both sides shuffled.
//! Answers are the same as when one node reads everything; a node that goes away meanwhile costs time
//! and no error.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_sqllogictest::wire::{Client, WireError};

use super::{Cluster, PATIENCE, retry};

/// How a session has joins done.
const WAYS: [(&str, &str); 4] = [
    ("one node", "SET pontoon.distribute = off"),
    (
        "a side is sent",
        "SET pontoon.distribute = on; RESET pontoon.broadcast_max",
    ),
    ("both are shuffled", "SET pontoon.broadcast_max = 0"),
    // From what is kept by columns.
    ("both are shuffled again", "SET pontoon.broadcast_max = 0"),
];

/// What is asked. `orders` and `items` are large, `kinds` is small.
const QUESTIONS: &[&str] = &[
    "SELECT count(*), sum(i.n), max(o.name) FROM orders o JOIN items i ON i.order_id = o.id",
    "SELECT k.name, count(*), sum(i.price) FROM items i JOIN kinds k ON k.id = i.kind \
     GROUP BY k.name ORDER BY k.name",
    "SELECT k.name, o.day, count(*), avg(i.price) FROM orders o JOIN items i ON i.order_id = o.id \
     JOIN kinds k ON k.id = i.kind WHERE o.id % 3 = 0 GROUP BY k.name, o.day ORDER BY 1, 2 LIMIT 40",
    "SELECT o.id, i.id, i.n FROM orders o JOIN items i ON i.order_id = o.id \
     WHERE i.n > 960 ORDER BY i.id",
    "SELECT o.id, i.id FROM orders o LEFT JOIN items i ON i.order_id = o.id AND i.n < 5 \
     ORDER BY o.id, i.id LIMIT 3000",
    "SELECT count(*), count(o.id), count(i.id) FROM orders o RIGHT JOIN items i \
     ON i.order_id = o.id AND o.id % 2 = 0",
    "SELECT count(*), count(o.id), count(i.id), sum(o.id), sum(i.id) \
     FROM orders o FULL JOIN items i ON i.order_id = o.id",
    "SELECT count(*), sum(id) FROM orders o WHERE EXISTS \
     (SELECT FROM items i WHERE i.order_id = o.id AND i.n > 500)",
    "SELECT count(*), sum(id) FROM orders o WHERE NOT EXISTS \
     (SELECT FROM items i WHERE i.order_id = o.id)",
    "SELECT id FROM orders WHERE id IN (SELECT order_id FROM items WHERE n = 17) ORDER BY id",
    // Keys of two integer types, of text, of numerics that are equal with other digits, of several.
    "SELECT count(*), sum(i.n) FROM items i JOIN orders o ON o.id = i.big_order",
    "SELECT count(*), sum(a.id), sum(b.id) FROM orders a JOIN orders b ON a.name = b.name \
     WHERE a.id < b.id",
    "SELECT count(*), sum(i.id) FROM items i JOIN orders o ON o.total = i.total",
    "SELECT count(*), min(o.name) FROM orders o JOIN items i \
     ON i.order_id = o.id AND i.day = o.day AND i.n + o.id > 100",
    "SELECT count(*) FROM orders o JOIN kinds k ON o.id > k.id * 500",
    "SELECT o.name, k.name FROM orders o CROSS JOIN kinds k WHERE o.id < 40 ORDER BY o.id, k.id",
    "SELECT count(DISTINCT i.kind) FROM orders o JOIN items i ON i.order_id = o.id",
    "SELECT o.id, sum(i.price) s FROM orders o JOIN items i ON i.order_id = o.id \
     GROUP BY o.id HAVING count(*) > 2 ORDER BY s DESC, o.id LIMIT 10",
    "SELECT k.name, s.c FROM kinds k JOIN (SELECT kind, count(*) c FROM items GROUP BY kind) s \
     ON s.kind = k.id ORDER BY k.id",
    "WITH dear AS (SELECT * FROM items WHERE price > 90) \
     SELECT count(*), sum(d.n) FROM dear d JOIN orders o ON o.id = d.order_id",
    "SELECT count(*) FROM orders o JOIN items i ON i.order_id = o.id WHERE false",
    "SELECT sum(1 / (o.id - 700)) FROM orders o JOIN items i ON i.order_id = o.id",
    "SELECT o.id FROM orders o JOIN items i ON i.order_id = o.id ORDER BY i.price DESC, i.id LIMIT 7",
    "SELECT count(*) FROM (SELECT o.id FROM orders o JOIN items i ON i.order_id = o.id LIMIT 900) x",
    // Groups that are merged by all nodes, few and many; by keys of several types, and NULL.
    "SELECT order_id, count(*), sum(price), avg(n) FROM items GROUP BY order_id ORDER BY order_id",
    "SELECT kind, day, min(n), max(total), count(big_order) FROM items GROUP BY kind, day \
     HAVING sum(n) > 400 ORDER BY kind, day",
    "SELECT name, count(*) FROM orders GROUP BY name ORDER BY 2 DESC, 1 LIMIT 12",
    "SELECT count(*), sum(s) FROM (SELECT id % 5000 k, sum(n) s FROM items GROUP BY 1) x",
    "SELECT i.order_id, sum(k.id) FROM items i JOIN kinds k ON k.id = i.kind \
     GROUP BY i.order_id ORDER BY 1",
    "SELECT day, sum(1 / (n - 700)) FROM items GROUP BY day",
    "SELECT count(*), sum(a.n) FROM items a JOIN items b ON a.id = b.id JOIN items c ON b.id = c.id",
    // Through an index, whose ranges other nodes lead than those of the rows.
    "SELECT id, order_id, n FROM items WHERE n BETWEEN 100 AND 400 ORDER BY n, id",
    "SELECT count(*), sum(price), min(day) FROM items WHERE n > 250 AND kind <> 3",
    "SELECT kind, count(*) FROM items WHERE n >= 100 AND n < 800 GROUP BY kind ORDER BY kind",
    "SELECT k.name, sum(i.price) FROM items i JOIN kinds k ON k.id = i.kind \
     WHERE i.n BETWEEN 20 AND 420 GROUP BY k.name ORDER BY 1",
    "SELECT n, id FROM items WHERE n > 300 ORDER BY n LIMIT 1500",
    "SELECT order_id, count(*), max(n) FROM items WHERE n < 600 GROUP BY order_id ORDER BY 1",
    "SELECT count(*), sum(i.n) FROM orders o JOIN items i ON i.order_id = o.id WHERE i.n < 450",
];

/// Three nodes, each of which leads parts of two large tables; and a small table.
fn filled() -> Cluster {
    let cluster = Cluster::start(3);
    cluster.wait_for_replicas();
    let mut client = cluster.client(0);
    for sql in [
        "CREATE TABLE orders (id int PRIMARY KEY, name text, day date, total numeric)",
        "CREATE TABLE items (id int PRIMARY KEY, order_id int, big_order bigint, kind smallint, \
         n int, price float8, day date, total numeric)",
        "CREATE TABLE kinds (id smallint PRIMARY KEY, name text)",
        "INSERT INTO orders SELECT n, 'order ' || n % 2900, date '2024-01-01' + n % 60, \
         n % 700 FROM generate_series(1, 6000) n",
        "INSERT INTO items SELECT n, CASE WHEN n % 19 > 0 THEN n * 37 % 7000 END, n % 6500, n % 12, \
         n % 1000, n % 100 + 0.5, date '2024-01-01' + (n * 37 % 7000) % 60, n % 900 + 0.00 \
         FROM generate_series(1, 12000) n",
        "INSERT INTO kinds SELECT n, 'kind ' || n FROM generate_series(0, 10) n",
        "ALTER TABLE orders SPLIT AT SELECT n * 1000 FROM generate_series(0, 5) n",
        "ALTER TABLE items SPLIT AT SELECT n * 1500 FROM generate_series(0, 7) n",
        "CREATE INDEX items_n ON items (n)",
        "ALTER INDEX items_n SPLIT AT VALUES (0), (200), (400), (600), (800)",
    ] {
        client.query(sql).unwrap();
    }
    cluster.wait_for_replicas();
    cluster.wait_for_leaders();
    cluster
}

/// What EXPLAIN says of how a query is distributed.
pub(super) fn explained(client: &mut Client, options: &str, question: &str) -> Vec<String> {
    let sql = format!("EXPLAIN ({options}) {question}");
    let rows = client.query(&sql).unwrap().rows;
    let lines = rows.into_iter().map(|row| row[0].clone().unwrap());
    let lines: Vec<String> = lines.skip_while(|line| line != "Distribution:").collect();
    assert!(!lines.is_empty(), "{question}");
    lines
}

/// Sums the numbers before a word, over all lines.
pub(super) fn sum(lines: &[String], word: &str) -> u64 {
    let pieces = lines.iter().flat_map(|line| line.split([';', ',']));
    let pieces = pieces.flat_map(|piece| piece.split(" and "));
    let before = pieces.filter_map(|piece| piece.split_once(word)?.0.trim().parse::<u64>().ok());
    before.sum()
}

fn joins_are_explained(client: &mut Client) {
    let sent = "SELECT k.name, sum(i.n) FROM items i JOIN kinds k ON k.id = i.kind GROUP BY 1";
    client.query(WAYS[1].1).unwrap();
    let planned = explained(client, "DIST", sent);
    let lines = explained(client, "ANALYZE, DIST", sent);
    println!("{}", lines.join("\n"));
    let title = "  Aggregate over a join of items";
    assert!(planned.contains(&title.to_owned()), "{planned:#?}");
    assert!(lines.contains(&title.to_owned()), "{lines:#?}");
    assert!(sum(&lines, " rows read") >= 12_000, "{lines:#?}");
    // Groups came, and no rows.
    let came: Vec<String> = lines
        .iter()
        .filter(|l| l.contains(" came in "))
        .cloned()
        .collect();
    assert!(sum(&came, " rows") <= 12_000 + 3 * 12, "{lines:#?}");

    let both = "SELECT count(*) FROM orders o JOIN items i ON i.order_id = o.id";
    client.query(WAYS[2].1).unwrap();
    let lines = explained(client, "ANALYZE, DIST", both);
    println!("{}", lines.join("\n"));
    for title in [
        "  Scan of orders, shuffled to 3 nodes",
        "  Scan of items, shuffled to 3 nodes",
        "  Aggregate over a join of shuffled rows",
    ] {
        assert!(lines.contains(&title.to_owned()), "{lines:#?}");
    }
    for node in [
        "    n1: rows shuffled",
        "    n2: rows shuffled",
        "    n3: rows shuffled",
    ] {
        let mut own = lines.iter().filter(|line| line.starts_with(node));
        assert!(own.all(|line| line.contains("1 row and ")), "{lines:#?}");
    }
    assert_eq!(sum(&lines, " rows read"), 18_000, "{lines:#?}");

    let many = "SELECT order_id, count(*) FROM items GROUP BY order_id";
    let planned = explained(client, "DIST", many);
    let lines = explained(client, "ANALYZE, DIST", many);
    println!("{}", lines.join("\n"));
    for title in [
        "  Aggregate over items, shuffled to 3 nodes",
        "  Groups merged",
    ] {
        assert!(planned.contains(&title.to_owned()), "{planned:#?}");
        assert!(lines.contains(&title.to_owned()), "{lines:#?}");
    }
    assert_eq!(sum(&lines, " rows read"), 12_000, "{lines:#?}");
    let merged: Vec<String> = lines
        .into_iter()
        .skip_while(|l| l != "  Groups merged")
        .collect();
    let groups = client.query(many).unwrap().rows.len() as u64;
    assert_eq!(sum(&merged, " rows"), groups, "{merged:#?}");
    assert_eq!(
        merged
            .iter()
            .filter(|l| l.contains("rows shuffled to it"))
            .count(),
        3
    );
}

/// What parts have read through an index counts as read by the transaction: the rows, though only
/// the index was asked for, and whoever changes something else of them is in its way.
fn reads_through_an_index_are_validated(cluster: &Cluster) {
    let question = "SELECT count(*), sum(kind) FROM items WHERE n BETWEEN 210 AND 790";
    let title = "  Aggregate over items through items_n";
    // A node that does not lead all of the index, and knows how many rows the table has.
    let readers = (0..3).map(|node| cluster.client(node));
    let mut reader = readers
        .filter_map(|mut client| {
            client.query("SELECT count(*) FROM items").unwrap();
            let planned = explained(&mut client, "DIST", question);
            planned.contains(&title.to_owned()).then_some(client)
        })
        .next()
        .expect("other nodes do their part");
    let mut writer = cluster.client(1);
    for (changed, isolation, conflicts) in [
        (215, "SERIALIZABLE", true),
        (785, "SERIALIZABLE", true),
        (100, "SERIALIZABLE", false),
        (215, "REPEATABLE READ", false),
    ] {
        reader
            .query(&format!("BEGIN ISOLATION LEVEL {isolation}"))
            .unwrap();
        reader.query(question).unwrap();
        let update = format!("UPDATE items SET kind = kind + 1 WHERE id = {changed}");
        writer.query(&update).unwrap();
        reader
            .query("UPDATE kinds SET name = 'seen' WHERE id = 10")
            .unwrap();
        let ended = reader.query("COMMIT");
        match ended {
            Ok(_) => assert!(!conflicts, "{changed} {isolation}"),
            Err(WireError::Server(error)) => {
                assert!(
                    conflicts && error.code == "40001",
                    "{changed} {isolation}: {error}"
                );
            }
            Err(other) => panic!("{other}"),
        }
        let back = format!("UPDATE items SET kind = kind - 1 WHERE id = {changed}");
        writer.query(&back).unwrap();
    }
    writer
        .query("UPDATE kinds SET name = 'kind 10' WHERE id = 10")
        .unwrap();
}

#[test]
fn joins_are_done_side_by_side() {
    let cluster = filled();
    joins_are_explained(&mut cluster.client(0));
    reads_through_an_index_are_validated(&cluster);
    for node in 0..3 {
        let mut client = cluster.client(node);
        for question in QUESTIONS {
            let mut first = None;
            for (way, set) in WAYS {
                client.query(set).unwrap();
                let answer = match client.query(question) {
                    Ok(answer) => Ok(answer.rows),
                    Err(WireError::Server(error)) => Err((error.code, error.message)),
                    Err(other) => panic!("{question}: {other}"),
                };
                let first = first.get_or_insert_with(|| answer.clone());
                assert_eq!(*first, answer, "n{}, {way}: {question}", node + 1);
            }
        }
    }
}

/// While joins are run a node is killed: none fails, as nothing was given to the client before.
#[test]
fn a_node_that_goes_away_fails_no_join() {
    let mut cluster = filled();
    let question =
        "SELECT count(*), sum(i.n), sum(o.id) FROM orders o JOIN items i ON i.order_id = o.id";
    let expected = cluster.client(0).query(question).unwrap().rows;
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let address = cluster.nodes[0].address();
    let slowest = thread::scope(|all| {
        let joins = all.spawn(|| {
            let mut client = Client::connect(&address).unwrap();
            client.query(WAYS[2].1).unwrap();
            let mut slowest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(client.query(question).unwrap().rows, expected);
                answers.fetch_add(1, Ordering::Relaxed);
                slowest = slowest.max(began.elapsed());
            }
            slowest
        });
        let wait_for = |more: u64| {
            let (before, since) = (answers.load(Ordering::Relaxed), Instant::now());
            while answers.load(Ordering::Relaxed) < before + more && !joins.is_finished() {
                assert!(since.elapsed() < PATIENCE, "no more answers");
                thread::sleep(Duration::from_millis(1));
            }
        };
        for eighths in [1, 3, 5, 7] {
            // In the midst of one, at different points of it.
            let began = Instant::now();
            wait_for(8);
            thread::sleep(began.elapsed() / 8 * eighths / 8);
            cluster.nodes[2].kill9().unwrap();
            wait_for(5);
            cluster.nodes[2].start_again().unwrap();
            let address = cluster.nodes[2].address();
            retry(|| Client::connect(&address)?.query("SELECT 1"));
            cluster.wait_for_replicas();
        }
        stop.store(true, Ordering::Relaxed);
        joins.join().unwrap()
    });
    println!(
        "{} joins, the slowest took {slowest:.1?}",
        answers.into_inner()
    );
}

//! Sessions beside each other: no write skew, no lost update, no half of a transaction.
//!
//! Runs against PostgreSQL at serializable with `PONTOON_TEST_ENGINE=postgres`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pontoon_sqllogictest::server::{Engine, Server};
use pontoon_sqllogictest::wire::{Client, WireError};

fn start() -> Server {
    Server::start(Engine::under_test()).unwrap()
}

fn run(client: &mut Client, sql: &str) {
    client
        .simple(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn value(client: &mut Client, sql: &str) -> String {
    let value = client
        .scalar(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    value.unwrap_or_else(|| "NULL".to_owned())
}

fn is_conflict(error: &WireError) -> bool {
    matches!(error.code(), Some("40001" | "40P01"))
}

/// Runs the statements in order; the first error rolls back and is returned.
fn all(client: &mut Client, statements: &[&str]) -> Result<(), WireError> {
    for sql in statements {
        if let Err(error) = client.query(sql) {
            run(client, "ROLLBACK");
            return Err(error);
        }
    }
    Ok(())
}

#[test]
fn two_doctors_cannot_both_leave() {
    let server = start();
    let mut ann = server.session().unwrap();
    let mut bob = server.session().unwrap();
    run(
        &mut ann,
        "CREATE TABLE doctors (name text PRIMARY KEY, on_call bool NOT NULL)",
    );
    run(
        &mut ann,
        "INSERT INTO doctors VALUES ('ann', true), ('bob', true)",
    );
    for session in [&mut ann, &mut bob] {
        run(session, "BEGIN");
        assert_eq!(
            value(session, "SELECT count(*) FROM doctors WHERE on_call"),
            "2"
        );
    }
    // Each leaves because it saw the other stay.
    let first = all(
        &mut ann,
        &[
            "UPDATE doctors SET on_call = false WHERE name = 'ann'",
            "COMMIT",
        ],
    );
    let second = all(
        &mut bob,
        &[
            "UPDATE doctors SET on_call = false WHERE name = 'bob'",
            "COMMIT",
        ],
    );
    let conflicts = [&first, &second]
        .iter()
        .filter(|r| r.as_ref().is_err_and(is_conflict))
        .count();
    assert_eq!(conflicts, 1, "{first:?} {second:?}");
    assert_eq!(
        value(&mut ann, "SELECT count(*) FROM doctors WHERE on_call"),
        "1"
    );
}

#[test]
fn a_row_that_was_not_there_counts_as_read() {
    let server = start();
    let mut a = server.session().unwrap();
    let mut b = server.session().unwrap();
    run(
        &mut a,
        "CREATE TABLE bookings (id int PRIMARY KEY, room int, hour int)",
    );
    for session in [&mut a, &mut b] {
        run(session, "BEGIN");
        let free = "SELECT count(*) FROM bookings WHERE room = 1 AND hour BETWEEN 9 AND 10";
        assert_eq!(value(session, free), "0");
    }
    let first = all(&mut a, &["INSERT INTO bookings VALUES (1, 1, 9)", "COMMIT"]);
    let second = all(
        &mut b,
        &["INSERT INTO bookings VALUES (2, 1, 10)", "COMMIT"],
    );
    let conflicts = [&first, &second]
        .iter()
        .filter(|r| r.as_ref().is_err_and(is_conflict))
        .count();
    assert_eq!(conflicts, 1, "{first:?} {second:?}");
    assert_eq!(value(&mut a, "SELECT count(*) FROM bookings"), "1");
}

#[test]
fn an_update_from_an_old_read_is_refused() {
    let server = start();
    let mut a = server.session().unwrap();
    let mut b = server.session().unwrap();
    run(
        &mut a,
        "CREATE TABLE counter (id int PRIMARY KEY, n int NOT NULL)",
    );
    run(&mut a, "INSERT INTO counter VALUES (1, 0)");
    for session in [&mut a, &mut b] {
        run(session, "BEGIN");
        assert_eq!(value(session, "SELECT n FROM counter WHERE id = 1"), "0");
    }
    all(&mut a, &["UPDATE counter SET n = 1 WHERE id = 1", "COMMIT"]).unwrap();
    let late = all(&mut b, &["UPDATE counter SET n = 1 WHERE id = 1", "COMMIT"]);
    assert!(late.as_ref().is_err_and(is_conflict), "{late:?}");
    assert_eq!(value(&mut b, "SELECT n FROM counter WHERE id = 1"), "1");
}

#[test]
fn no_increment_is_lost_between_two_clients() {
    const EACH: usize = 40;
    let server = start();
    let mut setup = server.session().unwrap();
    run(
        &mut setup,
        "CREATE TABLE counter (id int PRIMARY KEY, n int NOT NULL)",
    );
    run(&mut setup, "INSERT INTO counter VALUES (1, 0)");
    let increment = |client: &mut Client| -> Result<(), WireError> {
        client.query("BEGIN")?;
        let n: i32 = client
            .scalar("SELECT n FROM counter WHERE id = 1")?
            .unwrap()
            .parse()
            .unwrap();
        client.query(&format!("UPDATE counter SET n = {} WHERE id = 1", n + 1))?;
        client.query("COMMIT")?;
        Ok(())
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = server.session().unwrap();
                let mut done = 0;
                while done < EACH {
                    match increment(&mut client) {
                        Ok(()) => done += 1,
                        Err(error) if is_conflict(&error) => run(&mut client, "ROLLBACK"),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let total = (2 * EACH).to_string();
    assert_eq!(
        value(&mut setup, "SELECT n FROM counter WHERE id = 1"),
        total
    );
    // Autocommit statements conflict too, but nobody has to see it.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // At read committed PostgreSQL queues such updates as well.
                let mut client = Client::connect(&server.address()).unwrap();
                for _ in 0..EACH {
                    run(&mut client, "UPDATE counter SET n = n + 1 WHERE id = 1");
                }
            });
        }
    });
    let total = (4 * EACH).to_string();
    assert_eq!(
        value(&mut setup, "SELECT n FROM counter WHERE id = 1"),
        total
    );
}

#[test]
fn a_reader_never_sees_half_of_a_transaction() {
    const TRANSFERS: i64 = 150;
    let server = start();
    let mut setup = server.session().unwrap();
    run(
        &mut setup,
        "CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL)",
    );
    run(
        &mut setup,
        "INSERT INTO accounts SELECT g, 100 FROM generate_series(1, 10) g",
    );
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = server.session().unwrap();
            for n in 0..TRANSFERS {
                let (from, to) = (n % 10 + 1, (n * 7 + 3) % 10 + 1);
                run(&mut writer, "BEGIN");
                run(
                    &mut writer,
                    &format!("UPDATE accounts SET balance = balance - 5 WHERE id = {from}"),
                );
                run(
                    &mut writer,
                    &format!("UPDATE accounts SET balance = balance + 5 WHERE id = {to}"),
                );
                run(&mut writer, "COMMIT");
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut reader = server.session().unwrap();
        let mut looks = 0;
        while !done.load(Ordering::SeqCst) || looks < 10 {
            assert_eq!(
                value(&mut reader, "SELECT sum(balance) FROM accounts"),
                "1000"
            );
            // Two statements of one transaction see one state.
            run(&mut reader, "BEGIN READ ONLY");
            let low = value(
                &mut reader,
                "SELECT sum(balance) FROM accounts WHERE id <= 5",
            );
            let high = value(
                &mut reader,
                "SELECT sum(balance) FROM accounts WHERE id > 5",
            );
            run(&mut reader, "COMMIT");
            let sum = low.parse::<i64>().unwrap() + high.parse::<i64>().unwrap();
            assert_eq!(sum, 1000, "{low} + {high}");
            looks += 1;
        }
    });
}

#[test]
fn nothing_uncommitted_is_seen_and_a_commit_is_seen_at_once() {
    let server = start();
    let mut writer = server.session().unwrap();
    let mut reader = server.session().unwrap();
    run(&mut writer, "CREATE TABLE t (id int PRIMARY KEY)");
    let count = "SELECT count(*) FROM t";
    for (end, seen) in [("ROLLBACK", "0"), ("COMMIT", "1")] {
        run(&mut writer, "BEGIN");
        run(&mut writer, "INSERT INTO t VALUES (1)");
        assert_eq!(value(&mut writer, count), "1");
        assert_eq!(value(&mut reader, count), "0");
        run(&mut writer, end);
        assert_eq!(value(&mut reader, count), seen);
    }
    for id in 2..30 {
        run(&mut writer, &format!("INSERT INTO t VALUES ({id})"));
        assert_eq!(value(&mut reader, count), id.to_string());
    }
}

#[test]
fn a_lost_session_leaves_nothing_behind() {
    let server = start();
    let mut other = server.session().unwrap();
    run(&mut other, "CREATE TABLE t (id int PRIMARY KEY)");
    let mut gone = server.session().unwrap();
    run(&mut gone, "BEGIN");
    run(&mut gone, "INSERT INTO t VALUES (1)");
    drop(gone);
    // The insert waits for the lost session's lock at most until the server has noticed its end.
    run(&mut other, "INSERT INTO t VALUES (1)");
    assert_eq!(value(&mut other, "SELECT count(*) FROM t"), "1");
}

#[test]
fn rolling_back_a_created_table_leaves_nothing() {
    let server = start();
    let mut a = server.session().unwrap();
    let mut b = server.session().unwrap();
    run(&mut a, "BEGIN");
    run(
        &mut a,
        "CREATE TABLE shelf (id serial PRIMARY KEY, title text UNIQUE)",
    );
    run(&mut a, "INSERT INTO shelf (title) VALUES ('x'), ('y')");
    assert_eq!(value(&mut a, "SELECT count(*) FROM shelf"), "2");
    assert_eq!(
        b.query("SELECT * FROM shelf").unwrap_err().code(),
        Some("42P01")
    );
    run(&mut a, "ROLLBACK");
    for session in [&mut a, &mut b] {
        assert_eq!(
            session.query("SELECT * FROM shelf").unwrap_err().code(),
            Some("42P01")
        );
        let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'shelf%'";
        assert_eq!(value(session, left), "0");
    }
    // The name is free, for another shape and another session.
    run(&mut b, "CREATE TABLE shelf (title int)");
    assert_eq!(value(&mut a, "SELECT count(*) FROM shelf"), "0");
    assert_eq!(
        a.query("SELECT nextval('shelf_id_seq')")
            .unwrap_err()
            .code(),
        Some("42P01")
    );
}

#[test]
fn two_sessions_that_wait_for_each_other_both_get_an_answer() {
    let server = start();
    let mut a = server.session().unwrap();
    let mut b = server.session().unwrap();
    run(&mut a, "CREATE TABLE t (id int PRIMARY KEY, v int)");
    run(&mut a, "INSERT INTO t VALUES (1, 0), (2, 0)");
    run(&mut a, "BEGIN");
    run(&mut b, "BEGIN");
    run(&mut a, "UPDATE t SET v = v + 1 WHERE id = 1");
    run(&mut b, "UPDATE t SET v = v + 1 WHERE id = 2");
    let (first, second) = thread::scope(|scope| {
        let other = scope.spawn(|| all(&mut b, &["UPDATE t SET v = v + 1 WHERE id = 1", "COMMIT"]));
        let mine = all(&mut a, &["UPDATE t SET v = v + 1 WHERE id = 2", "COMMIT"]);
        (mine, other.join().unwrap())
    });
    let conflicts = [&first, &second]
        .iter()
        .filter(|r| r.as_ref().is_err_and(is_conflict))
        .count();
    assert_eq!(conflicts, 1, "{first:?} {second:?}");
    let mut reader = server.session().unwrap();
    assert_eq!(value(&mut reader, "SELECT sum(v) FROM t"), "2");
}

//! What no driver sends: each gets a clear answer with the right SQLSTATE or a closed connection,
//! and the server and its other sessions go on.
//!
//! Runs against PostgreSQL with `PONTOON_TEST_ENGINE=postgres`.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use pontoon_sqllogictest::server::{Engine, Server};
use pontoon_sqllogictest::wire::{Client, ServerError, WireError, message, startup_message};

fn start() -> Server {
    Server::start(Engine::under_test()).unwrap()
}

/// A session that must keep working whatever the others send.
struct Witness(Client);

impl Witness {
    fn of(server: &Server) -> Self {
        Self(Client::connect(&server.address()).unwrap())
    }

    fn still_works(&mut self, after: &str) {
        let answer = self
            .0
            .scalar("SELECT 40 + 2")
            .unwrap_or_else(|e| panic!("after {after}: {e}"));
        assert_eq!(answer.as_deref(), Some("42"), "after {after}");
    }
}

/// Sends bytes on a new connection, ends the sending side, and returns all that comes back.
fn exchange(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = server.address().dial().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => answer,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => answer,
        Err(error) => panic!("neither an answer nor an end: {error}"),
    }
}

/// The SQLSTATE of an ErrorResponse that is the first message of an answer.
fn first_error(answer: &[u8]) -> Option<String> {
    (answer.first() == Some(&b'E')).then(|| ServerError::parse(&answer[5..]).code)
}

fn login() -> Vec<u8> {
    startup_message(&[("user", "postgres"), ("database", "postgres")])
}

/// The SQLSTATE with which a request fails on a session that is ready, and whether it goes on.
fn refused(server: &Server, request: &[u8]) -> (Option<String>, bool) {
    let mut client = Client::connect(&server.address()).unwrap();
    client.send(request).unwrap();
    let code = match client.collect(None) {
        Ok(_) => None,
        Err(WireError::Server(error)) => Some(error.code),
        Err(WireError::Closed) => Some("closed".to_owned()),
        Err(other) => panic!("{other}"),
    };
    let goes_on = !client.is_dead() && client.scalar("SELECT 1").is_ok();
    (code, goes_on)
}

#[test]
fn garbage_before_login_is_refused() {
    let server = start();
    let mut witness = Witness::of(&server);
    let mut version_4 = login();
    version_4[4..8].copy_from_slice(&(4_u32 << 16).to_be_bytes());
    let closed: [(&str, Vec<u8>); 10] = [
        ("length 0", vec![0, 0, 0, 0]),
        ("length 4", vec![0, 0, 0, 4]),
        ("negative length", vec![0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("2 GiB", vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("zeros", vec![0; 64]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("TLS hello", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("half a start-up", login()[..12].to_vec()),
        ("nothing", Vec::new()),
    ];
    for (name, bytes) in closed {
        let answer = exchange(&server, &bytes);
        assert!(
            !answer.contains(&b'Z') || first_error(&answer).is_some(),
            "{name}: {answer:?}"
        );
        witness.still_works(name);
    }
    let refused: [(&str, Vec<u8>, &[&str]); 4] = [
        ("protocol 4.0", version_4, &["0A000"]),
        (
            "no user",
            startup_message(&[("database", "postgres")]),
            &["28000"],
        ),
        (
            "unknown database",
            startup_message(&[("user", "postgres"), ("database", "nowhere")]),
            &["3D000"],
        ),
        (
            "unknown role",
            startup_message(&[("user", "nobody_here"), ("database", "postgres")]),
            &["28000", "28P01"],
        ),
    ];
    for (name, bytes, codes) in refused {
        let answer = exchange(&server, &bytes);
        // An authentication request may come first.
        let at = answer.iter().position(|byte| *byte == b'E').unwrap_or(0);
        let code = first_error(&answer[at..]);
        assert!(
            code.as_deref().is_some_and(|c| codes.contains(&c)),
            "{name}: {code:?} {answer:?}"
        );
        witness.still_works(name);
    }
    let mut both = vec![0, 0, 0, 8, 4, 210, 22, 47];
    both.extend(login());
    let answer = exchange(&server, &both);
    assert!(
        matches!(answer.first(), Some(b'N' | b'S')),
        "SSLRequest: {answer:?}"
    );
    witness.still_works("an SSLRequest");
}

#[test]
fn broken_frames_are_protocol_errors() {
    let server = start();
    let mut witness = Witness::of(&server);
    let mut oversized = message(b'Q', b"SELECT 1\0");
    oversized[1..5].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    let mut undersized = message(b'Q', b"SELECT 1\0");
    undersized[1..5].copy_from_slice(&2_u32.to_be_bytes());
    // Frames that cannot be resynchronised end the connection.
    for (name, bytes) in [
        ("unknown type", message(b'?', b"abc")),
        ("oversized length", oversized),
        ("undersized length", undersized),
    ] {
        let (code, goes_on) = refused(&server, &bytes);
        assert!(
            matches!(code.as_deref(), Some("08P01" | "closed")),
            "{name}: {code:?}"
        );
        assert!(!goes_on, "{name}: the session went on");
        witness.still_works(name);
    }
    for (name, bytes) in [
        ("no terminator", message(b'Q', b"SELECT 1")),
        ("empty body", message(b'Q', b"")),
        ("an embedded zero", message(b'Q', b"SELECT 1\0SELECT 2\0")),
        (
            "a cut Parse",
            [message(b'P', b"x\0SELECT 1"), message(b'S', b"")].concat(),
        ),
        (
            "a cut Bind",
            [
                message(b'P', b"\0SELECT 1\0\0\0"),
                message(b'B', b"\0\0\0\x05"),
                message(b'S', b""),
            ]
            .concat(),
        ),
    ] {
        let (code, _) = refused(&server, &bytes);
        assert!(
            matches!(code.as_deref(), Some("08P01" | "closed")),
            "{name}: {code:?}"
        );
        witness.still_works(name);
    }
    // A frame that never ends.
    let mut half = login();
    half.extend_from_slice(&message(b'Q', b"SELECT 1\0")[..7]);
    exchange(&server, &half);
    witness.still_works("half a frame");
}

#[test]
fn text_that_is_not_utf_8_is_refused_and_the_session_goes_on() {
    let server = start();
    for bad in [
        &b"\xff"[..],
        b"\xc3",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
    ] {
        let text = [b"SELECT '", bad, b"'\0"].concat();
        let (code, goes_on) = refused(&server, &message(b'Q', &text));
        assert_eq!(code.as_deref(), Some("22021"), "{bad:?} in a query");
        assert!(goes_on, "{bad:?}");
        let parse = [b"\0SELECT '", bad, b"'\0\0\0"].concat();
        let request = [message(b'P', &parse), message(b'S', b"")].concat();
        assert_eq!(
            refused(&server, &request),
            (Some("22021".to_owned()), true),
            "{bad:?} in Parse"
        );
        let length = u32::try_from(bad.len()).unwrap().to_be_bytes();
        let bind = [b"\0\0\0\0\0\x01", &length[..], bad, b"\0\0"].concat();
        let request = [
            message(b'P', b"\0SELECT $1::text\0\0\0"),
            message(b'B', &bind),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
        ]
        .concat();
        assert_eq!(
            refused(&server, &request),
            (Some("22021".to_owned()), true),
            "{bad:?} in Bind"
        );
    }
}

#[test]
fn misuse_of_the_extended_protocol_has_its_own_codes() {
    let server = start();
    let sync = message(b'S', b"");
    let parse_int = message(b'P', b"\0SELECT $1::int4\0\0\x01\0\0\0\x17");
    let named = message(b'P', b"same\0SELECT 1\0\0\0");
    let bind = |formats: &[u8], value: &[u8]| {
        let length = u32::try_from(value.len()).unwrap().to_be_bytes();
        message(
            b'B',
            &[b"\0\0", formats, b"\0\x01", &length[..], value, b"\0\0"].concat(),
        )
    };
    let binary = b"\0\x01\0\x01";
    for (name, request, code) in [
        (
            "unknown statement",
            message(b'B', b"\0nothere\0\0\0\0\0\0\0"),
            "26000",
        ),
        (
            "unknown portal",
            message(b'E', b"nothere\0\0\0\0\0"),
            "34000",
        ),
        (
            "describe an unknown statement",
            message(b'D', b"Snothere\0"),
            "26000",
        ),
        (
            "describe an unknown portal",
            message(b'D', b"Pnothere\0"),
            "34000",
        ),
        (
            "the same name twice",
            [&named[..], &named].concat(),
            "42P05",
        ),
        (
            "too few parameters",
            [&parse_int[..], &message(b'B', b"\0\0\0\0\0\0\0\0")].concat(),
            "08P01",
        ),
        (
            "three bytes for an int4",
            [parse_int.clone(), bind(binary, b"abc")].concat(),
            "08P01",
        ),
        (
            "five bytes for an int4",
            [parse_int.clone(), bind(binary, b"abcde")].concat(),
            "22P03",
        ),
        (
            "format code 7",
            [parse_int.clone(), bind(b"\0\x01\0\x07", b"1")].concat(),
            "22023",
        ),
        (
            "text that is no int4",
            [parse_int.clone(), bind(b"\0\0", b"x1")].concat(),
            "22P02",
        ),
        (
            "two statements",
            message(b'P', b"\0SELECT 1; SELECT 2\0\0\0"),
            "42601",
        ),
        ("a syntax error", message(b'P', b"\0SELEC\0\0\0"), "42601"),
    ] {
        // What follows an error is skipped up to Sync.
        let skipped = message(b'P', b"\0SELECT 1/0\0\0\0");
        let all = [&request[..], &skipped, &sync].concat();
        assert_eq!(
            refused(&server, &all),
            (Some(code.to_owned()), true),
            "{name}"
        );
    }
}

#[test]
fn wrong_statements_and_values_have_their_codes() {
    let server = start();
    let mut client = Client::connect(&server.address()).unwrap();
    client
        .query("CREATE TABLE t (id int PRIMARY KEY, d date, v varchar(3))")
        .unwrap();
    for (sql, code) in [
        ("FROBNICATE", "42601"),
        ("SELECT", ""),
        ("", ""),
        (";;", ""),
        ("SELECT 1 FROM", "42601"),
        ("CREATE", "42601"),
        ("INSERT INTO t", "42601"),
        ("INSERT INTO t VALUES ('x')", "22P02"),
        ("INSERT INTO t VALUES (1, 5)", "42804"),
        ("INSERT INTO t VALUES (1, '2024-02-30')", "22008"),
        ("INSERT INTO t VALUES (1, NULL, 'long')", "22001"),
        ("INSERT INTO t VALUES (1, NULL, NULL, 4)", "42601"),
        ("SELECT 1 + 'x'", "22P02"),
        ("SELECT 'x' + 'y'", "42725"),
        ("SELECT nofunction()", "42883"),
        ("SELECT 99999999999::int4", "22003"),
        ("SELECT 1 LIMIT -1", "2201W"),
        ("SELECT chr(0)", "54000"),
        ("SELECT sqrt(-1)", "2201F"),
        ("SELECT '\\u0000'::jsonb ->> 0", "22P02"),
        ("EXECUTE nothere", "26000"),
        ("ROLLBACK TO nothere", "25P01"),
        ("SET nothere = 1", "42704"),
        ("COPY t FROM '/etc/passwd'", "22P02"),
    ] {
        let got = match client.simple(sql) {
            Ok(_) => String::new(),
            Err(error) => error
                .code()
                .map(str::to_owned)
                .unwrap_or_else(|| panic!("{sql}: {error}")),
        };
        if sql.starts_with("COPY") {
            // A server may read files for a superuser, or refuse to.
            assert!(
                ["0A000", "42501", "22P02", "22P04"].contains(&got.as_str()),
                "{sql}: {got}"
            );
        } else {
            assert_eq!(got, code, "{sql}");
        }
    }
    assert_eq!(
        client.scalar("SELECT count(*) FROM t").unwrap().as_deref(),
        Some("0")
    );
}

#[test]
fn very_deep_statements_get_an_answer() {
    const DEPTH: usize = 10_000;
    let server = start();
    let mut witness = Witness::of(&server);
    let mut client = Client::connect(&server.address()).unwrap();
    let nested = |open: &str, middle: &str, close: &str| {
        format!(
            "SELECT {}{middle}{}",
            open.repeat(DEPTH),
            close.repeat(DEPTH)
        )
    };
    for (name, sql) in [
        ("parentheses", nested("(", "1", ")")),
        ("NOT", nested("NOT ", "true", "")),
        ("minus", nested("- ", "1", "")),
        ("CASE", nested("CASE WHEN true THEN ", "1", " END")),
        ("functions", nested("abs(", "1", ")")),
        ("subqueries", nested("(SELECT ", "1", ")")),
        ("sums", format!("SELECT 1{}", " + 1".repeat(DEPTH))),
        ("ORs", format!("SELECT false{}", " OR false".repeat(DEPTH))),
        (
            "concatenations",
            format!("SELECT 'x'{}", " || 'x'".repeat(DEPTH)),
        ),
        (
            "unions",
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(DEPTH)),
        ),
        (
            "open parentheses only",
            format!("SELECT {}", "(".repeat(DEPTH)),
        ),
        (
            "jsonb",
            format!(
                "SELECT '{}{}'::jsonb IS NULL",
                "[".repeat(DEPTH),
                "]".repeat(DEPTH)
            ),
        ),
        (
            "a comment",
            format!("SELECT {}{} 1", "/*".repeat(2000), "*/".repeat(2000)),
        ),
    ] {
        match client.simple(&sql) {
            Ok(_) => {}
            Err(WireError::Server(error)) => {
                let codes = ["54001", "54000", "42601", "53200", "54011"];
                assert!(codes.contains(&error.code.as_str()), "{name}: {error}");
            }
            Err(other) => panic!("{name}: {other}"),
        }
        witness.still_works(name);
    }
}

#[test]
fn large_statements_and_long_pipelines_work() {
    let server = start();
    let mut client = Client::connect(&server.address()).unwrap();
    let long = "x".repeat(2_000_000);
    let length = client.scalar(&format!("SELECT length('{long}')")).unwrap();
    assert_eq!(length.as_deref(), Some("2000000"));
    let list: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    let sql = format!(
        "SELECT 4999 IN ({}), 5000 IN ({})",
        list.join(","),
        list.join(",")
    );
    let row = client.query(&sql).unwrap().rows;
    assert_eq!(row, [[Some("t".to_owned()), Some("f".to_owned())]]);
    // A client that sends a thousand requests before it reads one answer.
    let mut requests = Vec::new();
    for n in 0..1000 {
        let parse = format!("\0SELECT {n}, repeat('y', 500)\0\0\0");
        requests.extend(message(b'P', parse.as_bytes()));
        requests.extend(message(b'B', b"\0\0\0\0\0\0\0\0"));
        requests.extend(message(b'E', b"\0\0\0\0\0"));
    }
    requests.extend(message(b'S', b""));
    client.send(&requests).unwrap();
    let outcomes = client.collect(None).unwrap();
    assert_eq!(outcomes.len(), 1000);
    assert_eq!(outcomes[999].rows[0][0].as_deref(), Some("999"));
}

#[test]
fn random_bytes_end_a_session_and_nothing_else() {
    let server = start();
    let mut witness = Witness::of(&server);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        // xorshift64: the same bytes on every run.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..150 {
        let mut bytes = if round % 3 == 0 { Vec::new() } else { login() };
        for _ in 0..=random() % 6 {
            let kind = b"QPBDESCHFdcfpX?"[usize::try_from(random() % 15).unwrap()];
            let body: Vec<u8> = (0..random() % 40)
                .map(|_| u8::try_from(random() & 0xff).unwrap())
                .collect();
            let mut frame = message(kind, &body);
            if random() % 5 == 0 {
                frame[2] = 0xff;
            }
            bytes.extend(frame);
        }
        exchange(&server, &bytes);
        if round % 10 == 0 {
            witness.still_works(&format!("random bytes, round {round}"));
        }
    }
    witness.still_works("random bytes");
}

#[test]
fn a_cancel_request_needs_the_right_key() {
    let server = start();
    let mut client = Client::connect(&server.address()).unwrap();
    let wrong = [
        &[0, 0, 0, 16, 4, 210, 22, 46][..],
        &client.pid().to_be_bytes(),
        &[1, 2, 3, 4],
    ]
    .concat();
    assert!(exchange(&server, &wrong).is_empty());
    assert_eq!(client.scalar("SELECT 1").unwrap().as_deref(), Some("1"));
    client.query("SET statement_timeout = 200").unwrap();
    let slow = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    assert_eq!(client.query(slow).unwrap_err().code(), Some("57014"));
    // When the join has begun: one row meets a million others.
    client.query("SET statement_timeout = 1000").unwrap();
    assert_eq!(client.query(slow).unwrap_err().code(), Some("57014"));
    assert_eq!(client.scalar("SELECT 1").unwrap().as_deref(), Some("1"));
}

#[test]
fn a_failed_transaction_refuses_until_it_ends() {
    let server = start();
    let mut client = Client::connect(&server.address()).unwrap();
    client.query("CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    client.query("BEGIN").unwrap();
    client.query("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(client.status(), b'T');
    assert_eq!(
        client.query("SELECT 1/0").unwrap_err().code(),
        Some("22012")
    );
    assert_eq!(client.status(), b'E');
    assert_eq!(client.query("SELECT 1").unwrap_err().code(), Some("25P02"));
    assert_eq!(client.query("COMMIT").unwrap().tag, "ROLLBACK");
    assert_eq!(client.status(), b'I');
    assert_eq!(
        client.scalar("SELECT count(*) FROM t").unwrap().as_deref(),
        Some("0")
    );
}

//! Nodes that talk by certificates, as processes: they join by tokens, and who may not join is told
//! so and what to do.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_sqllogictest::server::{PontoonNode, pontoon_binary};
use pontoon_sqllogictest::wire::{Client, WireError};

/// Longer than anything should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A command of the binary, its end, and what it printed.
fn run(args: &[&str]) -> (bool, String) {
    let mut command = Command::new(pontoon_binary());
    let done = command.args(args).stdin(Stdio::null()).output().unwrap();
    let [said, errors] = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text));
    (done.status.success(), format!("{said}{errors}"))
}

/// A join token of the cluster, made by that node.
fn token(node: &PontoonNode) -> String {
    let data_dir = node.data_dir().to_str().unwrap();
    let host = node.rpc_address();
    let args = ["node", "token", "--data-dir", data_dir, "--host", &host];
    let (done, said) = run(&args);
    assert!(done && said.starts_with("pt1-"), "{said}");
    said.trim().to_owned()
}

fn join(path: &Path, with: &PontoonNode, token: &str) -> PontoonNode {
    let host = with.rpc_address();
    PontoonNode::start_secure(path, &["--join", &host, "--join-token", token]).unwrap()
}

/// What a node says that was not let in, and so has ended.
fn refused(path: &Path, flags: &[&str]) -> String {
    let (code, said) = PontoonNode::expect_refusal_with(path, flags).unwrap();
    assert_eq!(code, Some(1), "{said}");
    said
}

fn retry<T>(mut what: impl FnMut() -> Result<T, WireError>) -> T {
    let since = Instant::now();
    loop {
        match what() {
            Ok(done) => return done,
            Err(error) if since.elapsed() > PATIENCE => panic!("{error}"),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn count(node: &PontoonNode) -> Result<Option<String>, WireError> {
    Client::connect(&node.address())?.scalar("SELECT count(*) FROM t")
}

/// Waits until every range has three members that vote.
fn wait_for_replicas(node: &PontoonNode) {
    let data_dir = node.data_dir().to_str().unwrap();
    let host = node.rpc_address();
    let since = Instant::now();
    loop {
        let (done, said) = run(&["node", "status", "--data-dir", data_dir, "--host", &host]);
        let ranges = said.split("\nrange").nth(1).unwrap_or_default();
        let ranges: Vec<_> = ranges
            .lines()
            .skip(1)
            .filter(|line| !line.is_empty())
            .collect();
        let whole = |line: &&str| line.matches(", n").count() == 2 && !line.contains("learns");
        if done && ranges.len() >= 2 && ranges.iter().all(whole) {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{said}\n{}", node.log_tail());
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn nodes_join_by_token_and_are_one_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut one = PontoonNode::start_secure(&path("n1"), &[]).unwrap();
    let mut client = Client::connect(&one.address()).unwrap();
    client
        .query("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
        .unwrap();
    let first = token(&one);
    let mut two = join(&path("n2"), &one, &first);
    // Any node makes tokens, and lets new ones in.
    let mut three = join(&path("n3"), &two, &token(&two));
    assert_eq!(count(&three).unwrap().as_deref(), Some("2"));

    let host = one.rpc_address();
    let said = refused(&path("n4"), &["--join", &host, "--join-token", &first]);
    assert!(
        said.contains("it was used, or it has expired") && said.contains("pontoon node token"),
        "{said}"
    );
    assert!(!said.contains(&first[68..]), "the secret is shown: {said}");

    wait_for_replicas(&one);
    // A restart needs nothing that the first start needed.
    two.kill9().unwrap();
    two.set_flags(&[]);
    two.start_again().unwrap();
    client.query("INSERT INTO t VALUES (3)").unwrap();
    assert_eq!(count(&two).unwrap().as_deref(), Some("3"));

    // A node that has lost its certificate gets another, and is the same node.
    three.kill9().unwrap();
    std::fs::remove_dir_all(path("n3").join("certs")).unwrap();
    let again = token(&one);
    three.set_flags(&["--join", &host, "--join-token", &again]);
    three.start_again().unwrap();
    let data_dir = path("n3");
    let args = ["node", "ls", "--data-dir", data_dir.to_str().unwrap()];
    let (done, said) = run(&[&args[..], &["--host", &host]].concat());
    assert!(
        done && said.contains("n3") && !said.contains("n4"),
        "{said}"
    );

    // Nor does any need another to prove itself when all of them come up.
    three.set_flags(&[]);
    for node in [&mut one, &mut two, &mut three] {
        node.kill9().unwrap();
    }
    thread::scope(|all| {
        for node in [&mut one, &mut two, &mut three] {
            all.spawn(|| node.start_again().unwrap());
        }
    });
    for node in [&one, &two, &three] {
        assert_eq!(count(node).unwrap().as_deref(), Some("3"));
    }

    // The node that has founded the cluster is not needed.
    drop(one);
    let left = retry(|| count(&three));
    assert_eq!(left.as_deref(), Some("3"));
    let address = three.address();
    retry(|| Client::connect(&address)?.query("INSERT INTO t VALUES (4) ON CONFLICT DO NOTHING"));
    let four = join(&path("n5"), &three, &token(&two));
    assert_eq!(retry(|| count(&four)).as_deref(), Some("4"));
}

#[test]
fn who_may_not_join_is_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let ours = PontoonNode::start_secure(&path("ours"), &[]).unwrap();
    let theirs = PontoonNode::start_secure(&path("theirs"), &[]).unwrap();
    let host = ours.rpc_address();

    let said = refused(&path("a"), &["--join", &host]);
    assert!(
        said.contains("joining a cluster needs a join token"),
        "{said}"
    );
    let said = refused(&path("b"), &["--join", &host, "--join-token", "pt1-12-34"]);
    assert!(said.contains("this is no whole join token"), "{said}");
    let foreign = token(&theirs);
    let said = refused(&path("c"), &["--join", &host, "--join-token", &foreign]);
    assert!(
        said.contains("belongs to another cluster than the join token"),
        "{said}"
    );
    let good = token(&ours);
    let said = refused(&path("d"), &["--join-token", &good]);
    assert!(said.contains("--join 10.0.0.1:26257"), "{said}");
    // None of that has used the token up, and whoever was refused may come again.
    let joined = join(&path("c"), &ours, &good);
    drop(joined);

    // One that expires at once.
    let data_dir = ours.data_dir().to_str().unwrap();
    let args = [
        "node",
        "token",
        "--ttl",
        "1s",
        "--data-dir",
        data_dir,
        "--host",
        &host,
    ];
    let (_, short) = run(&args);
    thread::sleep(Duration::from_millis(1_100));
    let said = refused(&path("e"), &["--join", &host, "--join-token", short.trim()]);
    assert!(said.contains("it was used, or it has expired"), "{said}");

    let (done, said) = run(&["node", "ls", "--host", &host]);
    assert!(!done && said.contains("--data-dir DIR"), "{said}");
    let (done, said) = run(&["node", "ls", "--insecure", "--host", &host]);
    assert!(!done && said.contains("TLS only"), "{said}");
    let other = theirs.data_dir().to_str().unwrap();
    let (done, said) = run(&["node", "ls", "--data-dir", other, "--host", &host]);
    assert!(!done && said.contains("another cluster"), "{said}");
}

//! Watches of the cluster's metadata with three nodes: a change is heard of at any node at once, and
//! whoever watches goes on over the loss of the coordinator, missing nothing and hearing nothing
//! twice.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_sqllogictest::server::{PontoonNode, pontoon_binary};
use pontoon_sqllogictest::wire::{Client, WireError};
use serde_json::Value;

/// Longer than anything should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// A change is heard of far sooner than a watch would look again by itself.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Keys at which the table is split, one after the other.
const SPLITS: u32 = 24;

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

/// Asks a node, by a session of its own, until it answers.
fn ask(node: &PontoonNode, sql: &str) -> String {
    let answer = || Client::connect(&node.address())?.scalar(sql);
    retry(answer).unwrap_or_default()
}

fn wait_until(node: &PontoonNode, sql: &str) {
    let since = Instant::now();
    while ask(node, sql) != "t" {
        assert!(since.elapsed() < PATIENCE, "{sql}\n{}", node.log_tail());
        thread::sleep(Duration::from_millis(100));
    }
}

/// `pontoon watch` as a process, and what it has printed.
struct Watch {
    process: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Watch {
    fn start(what: &str, host: &str) -> Self {
        let mut command = Command::new(pontoon_binary());
        command.args(["watch", what, "--json", "--insecure", "--host", host]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&lines);
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                known
                    .lock()
                    .unwrap()
                    .push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { process, lines }
    }

    fn lines(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// The ids that were put, in the order of the lines.
    fn put(&self) -> Vec<String> {
        let lines = self.lines().into_iter();
        let put = lines.filter(|line| line["kind"] == "put");
        put.map(|line| line["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn wait_for(&self, what: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !what(self) {
            assert!(since.elapsed() < PATIENCE, "{:#?}", self.lines());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_watch_goes_on_over_the_loss_of_the_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let path = |number: usize| folder.path().join(format!("n{number}"));
    let first = PontoonNode::start_in(&path(1)).unwrap();
    let address = first.rpc_address();
    let mut nodes = vec![first];
    for number in [2, 3] {
        let joined = PontoonNode::start_with(&path(number), &["--join", &address]);
        nodes.push(joined.unwrap());
    }
    let ready = "SELECT count(*) >= 2 AND bool_and(cardinality(replicas) = 3 AND settled) \
                 FROM pontoon_internal.ranges";
    wait_until(&nodes[0], ready);
    for node in &nodes {
        let rows = "SELECT count(*) = 3 FROM pontoon_internal.watch('nodes', 0) \
                    WHERE value->>'state' = 'active'";
        assert_eq!(ask(node, rows), "t");
    }
    ask(&nodes[0], "CREATE TABLE parts (id int PRIMARY KEY)");

    let coordinator = "SELECT node_id FROM pontoon_internal.nodes WHERE is_coordinator";
    let coordinator: usize = ask(&nodes[0], coordinator).parse().unwrap();
    let mut lost = nodes.remove(coordinator - 1);
    let [near, far] = &nodes[..] else {
        panic!("two are left");
    };
    a_change_is_heard_of_at_once(near, far);

    let watch = Watch::start("splits", &near.rpc_address());
    watch.wait_for(|watch| !watch.lines().is_empty());
    for n in 1..=SPLITS {
        if n == SPLITS / 2 {
            lost.kill9().unwrap();
        }
        ask(
            far,
            &format!("ALTER TABLE parts SPLIT AT VALUES ({})", n * 10),
        );
    }
    // The one that was there before, and these.
    let all = SPLITS as usize + 1;
    watch.wait_for(|watch| watch.put().len() >= all);
    let put = watch.put();
    assert_eq!(put.len(), all, "{put:?}");
    assert_eq!(put.iter().collect::<BTreeSet<_>>().len(), all, "{put:?}");
    assert!(put.is_sorted(), "in the order of their commits: {put:?}");
    let lines = watch.lines();
    let revisions = lines.iter().map(|line| line["revision"].as_u64().unwrap());
    assert!(revisions.is_sorted(), "{lines:#?}");
    assert!(lines.iter().all(|line| line["kind"] != "compacted"));
    for node in [near, far] {
        let rows = "SELECT string_agg(id, ' ' ORDER BY id) \
                    FROM pontoon_internal.watch('splits', 0) WHERE id IS NOT NULL";
        assert_eq!(ask(node, rows), put.join(" "));
    }
}

/// Who waits at one node hears of what is done at another.
fn a_change_is_heard_of_at_once(near: &PontoonNode, far: &PontoonNode) {
    let revision = ask(near, "SELECT pontoon_internal.revision()");
    let mut waiting = Client::connect(&near.address()).unwrap();
    let watching = thread::spawn(move || {
        let sql = format!(
            "SELECT count(*) FROM pontoon_internal.watch('splits', {revision}, 60000) \
             WHERE kind = 'put'"
        );
        let told = waiting.scalar(&sql).unwrap();
        (told, Instant::now())
    });
    // As far as it matters it waits by now.
    thread::sleep(Duration::from_millis(500));
    ask(far, "ALTER TABLE parts SPLIT AT VALUES (5)");
    let done = Instant::now();
    let (told, at) = watching.join().unwrap();
    assert_eq!(told.as_deref(), Some("1"));
    let late = at.saturating_duration_since(done);
    println!("heard of {late:?} after it was done");
    assert!(late < AT_ONCE, "{late:?}");
}

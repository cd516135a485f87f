//! Nodes with one role: one that answers and holds nothing, one that holds and answers nobody.

use std::thread;
use std::time::{Duration, Instant};

use pontoon_sqllogictest::server::PontoonNode;
use pontoon_sqllogictest::wire::Client;

use super::{Cluster, PATIENCE, retry, run};

/// Waits until a page or a log says something.
fn wait_for(what: &str, read: impl Fn() -> String) {
    let since = Instant::now();
    loop {
        let said = read();
        if said.contains(what) {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "nobody says {what:?}: {said}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_node_without_data_answers_by_way_of_the_others() {
    let mut cluster = Cluster::start(2);
    cluster.join_as(3, &["--role", "data"]);
    cluster.join_as(4, &["--role", "query"]);
    cluster.wait_for_replicas();
    let mut four = cluster.client(3);
    four.query("CREATE TABLE t (id int PRIMARY KEY, v text)")
        .unwrap();
    four.query("INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 5000) n")
        .unwrap();
    four.query("ALTER TABLE t SPLIT AT VALUES (1000), (2000), (3000), (4000)")
        .unwrap();
    cluster.wait_for_replicas();
    roles_are_shown(&cluster);

    cluster.nodes[1].kill9().unwrap();
    let address = cluster.nodes[3].address();
    retry(|| Client::connect(&address)?.query("INSERT INTO t VALUES (0) ON CONFLICT DO NOTHING"));
    let count = "SELECT count(*) FROM t";
    let counted = |node: &PontoonNode| {
        let address = node.address();
        retry(|| Client::connect(&address)?.scalar(count)).unwrap()
    };
    assert_eq!(counted(&cluster.nodes[3]), "5001");
    cluster.nodes[3].kill9().unwrap();
    cluster.nodes[3].start_again().unwrap();
    assert_eq!(counted(&cluster.nodes[3]), "5001");

    // One that loses the role keeps what it has until there is another place for it.
    cluster.nodes[1].set_flags(&["--insecure", "--role", "query"]);
    cluster.nodes[1].start_again().unwrap();
    let host = cluster.nodes[0].rpc_address();
    let status = || run(&["node", "status", "--insecure", "--host", &host]);
    wait_for("n2 has no role data: ", status);
    wait_for("no other node can hold one", status);
    wait_for("does not have the role data", || {
        cluster.nodes[1].whole_log()
    });
    assert_eq!(counted(&cluster.nodes[1]), "5001");
    cluster.join(5);
    wait_for("this node holds no replicas any more", || {
        cluster.nodes[1].whole_log()
    });
    // The coordinator hears of it half a second later.
    let since = Instant::now();
    while status().contains("n2 has no role data") {
        assert!(since.elapsed() < PATIENCE, "{}", status());
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(counted(&cluster.nodes[1]), "5001");
    let log = cluster.nodes.iter().map(PontoonNode::whole_log);
    let log: String = log.collect();
    assert!(log.contains("Add(NodeId(5))") && log.contains("Add(NodeId(3))"));
    assert!(!log.contains("Add(NodeId(4))"), "n4 was to hold something");
}

fn roles_are_shown(cluster: &Cluster) {
    let mut four = cluster.client(3);
    let mut ask = |question: &str| four.scalar(question).unwrap().unwrap_or_default();
    let roles = "SELECT string_agg(node_id || ' ' || roles, '; ' ORDER BY node_id) \
                 FROM pontoon_internal.nodes";
    assert_eq!(ask(roles), "1 data,query; 2 data,query; 3 data; 4 query");
    let held = "SELECT count(*) FROM pontoon_internal.replicas WHERE node_id = 4";
    assert_eq!(ask(held), "0");
    assert!(Client::connect(&cluster.nodes[2].address()).is_err());
    let health = |node: usize| cluster.nodes[node].admin_page("/health").unwrap();
    assert_eq!(health(0), "ok\n");
    assert_eq!(health(2), "ok\nrole data: it answers no SQL clients\n");
    assert_eq!(health(3), "ok\nrole query: it holds no replicas\n");
}

#[test]
fn roles_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |flags: &[&str]| {
        let flags = [&["--insecure"], flags].concat();
        let path = folder.path().join("n1");
        let (code, said) = PontoonNode::expect_refusal_with(&path, &flags).unwrap();
        assert_ne!(code, Some(0), "{said}");
        said
    };
    let said = refused(&["--role", "query"]);
    assert!(said.contains("cannot found a cluster"), "{said}");
    let said = refused(&["--role", "data", "--listen-sql", "127.0.0.1:0"]);
    assert!(said.contains("leave out --listen-sql"), "{said}");
    let said = refused(&["--role", "everything"]);
    assert!(said.contains("data, query"), "{said}");
    // None of that is in the way of another start.
    let flags = ["--role", "query,data"];
    drop(PontoonNode::start_with(&folder.path().join("n1"), &flags).unwrap());
}

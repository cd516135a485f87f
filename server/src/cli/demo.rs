//! The two tables of `pontoon demo`, and what it prints.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use pontoon_sql::session::api::Outcome;
use pontoon_sql::session::{Engine, Session, SessionStart};
use pontoon_sql::{SqlError, SqlState};

use super::config::NodeConfig;
use crate::node::Node;

const INVENTORY: &str = "
CREATE TABLE inventory (
    item_id   integer PRIMARY KEY,
    name      text NOT NULL,
    category  text NOT NULL,
    quantity  integer NOT NULL CHECK (quantity >= 0),
    price     numeric(8,2) NOT NULL,
    restocked date
);
INSERT INTO inventory VALUES
    (1,  'espresso beans 1 kg',  'coffee',    42, 17.90, '2026-05-04'),
    (2,  'filter coffee 500 g',  'coffee',    67,  8.40, '2026-05-11'),
    (3,  'green tea 100 g',      'tea',       31,  5.20, '2026-04-20'),
    (4,  'earl grey 100 g',      'tea',       58,  4.80, '2026-04-20'),
    (5,  'rooibos 100 g',        'tea',        0,  4.60, NULL),
    (6,  'stoneware mug',        'crockery',  24, 12.50, '2026-03-02'),
    (7,  'teapot 1 l',           'crockery',   9, 34.00, '2026-03-02'),
    (8,  'paper filters, 100',   'equipment', 140, 3.10, '2026-05-11'),
    (9,  'hand grinder',         'equipment',  6, 59.00, '2026-02-16'),
    (10, 'kitchen scale',        'equipment', 11, 24.90, '2026-02-16'),
    (11, 'oat biscuits',         'food',      83,  2.95, '2026-05-18'),
    (12, 'dark chocolate',       'food',      95,  3.40, '2026-05-18')";

const BOOKS: &str = "
CREATE TABLE books (
    isbn      text PRIMARY KEY,
    title     text NOT NULL,
    author    text NOT NULL,
    published integer NOT NULL,
    copies    integer NOT NULL CHECK (copies >= 0),
    on_loan   integer NOT NULL DEFAULT 0,
    CHECK (on_loan <= copies)
);
INSERT INTO books (isbn, title, author, published, copies, on_loan) VALUES
    ('978-0-14-143951-8', 'Pride and Prejudice',        'Jane Austen',        1813, 4, 2),
    ('978-0-14-143947-1', 'Frankenstein',               'Mary Shelley',       1818, 3, 0),
    ('978-0-14-143972-3', 'Moby-Dick',                  'Herman Melville',    1851, 2, 1),
    ('978-0-14-043908-3', 'Around the World in Eighty Days', 'Jules Verne',   1872, 5, 5),
    ('978-0-14-303500-8', 'Anna Karenina',              'Leo Tolstoy',        1878, 2, 0),
    ('978-0-14-043914-4', 'The Adventures of Huckleberry Finn', 'Mark Twain', 1884, 3, 1),
    ('978-0-14-143984-6', 'Dracula',                    'Bram Stoker',        1897, 3, 2),
    ('978-0-14-144033-0', 'The Time Machine',           'H. G. Wells',        1895, 4, 0),
    ('978-0-14-118280-3', 'Ulysses',                    'James Joyce',        1922, 1, 0),
    ('978-0-14-118263-6', 'The Great Gatsby',           'F. Scott Fitzgerald', 1925, 6, 3),
    ('978-0-15-662863-1', 'Mrs Dalloway',               'Virginia Woolf',     1925, 2, 1),
    ('978-0-14-118776-1', 'Nineteen Eighty-Four',       'George Orwell',      1949, 7, 7)";

/// Makes the tables that are not there yet.
pub(crate) async fn load(engine: &Arc<Engine>) -> Result<(), SqlError> {
    for script in [INVENTORY, BOOKS] {
        let start = SessionStart {
            user: "postgres".to_owned(),
            database: "postgres".to_owned(),
            settings: vec![("application_name".to_owned(), "pontoon demo".to_owned())],
            pid: 0,
        };
        let mut session = engine.session(start)?;
        match run(&mut session, script).await {
            // It is there from the last time, with what the user has made of it.
            Err(e) if e.state == SqlState::DUPLICATE_TABLE => session.fail(),
            done => done?,
        }
    }
    Ok(())
}

/// Runs a script as one transaction.
async fn run(session: &mut Session, script: &str) -> Result<(), SqlError> {
    let statements = session.split(script)?;
    for (i, statement) in statements.iter().enumerate() {
        let last = i + 1 == statements.len();
        if let Outcome::Rows { mut source, .. } = session.run(statement, last).await? {
            while source.next().await?.is_some() {}
        }
    }
    session.finish().await
}

/// The configuration of a further node of the demo, on ports that are free.
pub(crate) fn joining(first: &NodeConfig, address: Option<SocketAddr>) -> NodeConfig {
    let free = || "127.0.0.1:0".to_owned();
    NodeConfig {
        listen_sql: Some((free(), true)),
        listen_rpc: (free(), true),
        listen_admin: (free(), true),
        advertise_rpc: None,
        join: address.iter().map(ToString::to_string).collect(),
        ..first.clone()
    }
}

/// Prints what to type.
pub(crate) fn greet(node: &Node, others: &[Node], data_dir: &Path, config: &NodeConfig) {
    let (Some(address), Some((wanted, _))) = (node.sql_address(), &config.listen_sql) else {
        return;
    };
    let mut text = String::new();
    if address.port().to_string() != wanted.rsplit(':').next().unwrap_or("") {
        text.push_str(&format!(
            "{wanted} is taken by another program; another port was chosen.\n"
        ));
    }
    let host = if address.ip().is_unspecified() {
        "127.0.0.1".to_owned()
    } else {
        address.ip().to_string()
    };
    text.push_str(&format!(
        "Pontoon is running, with the tables inventory and books. In another terminal, type:\n\n    \
         psql -h {host} -p {} -U postgres\n\nand then, for example: SELECT * FROM inventory;\n\n\
         The data lies in {} and is kept when you stop.\n\
         Status page: http://{}/\nStop with Ctrl-C.\n",
        address.port(),
        data_dir.display(),
        node.admin_address(),
    ));
    if !others.is_empty() {
        text.push_str("\nThe other nodes answer as well:\n\n");
        for other in others.iter().filter_map(Node::sql_address) {
            let port = other.port();
            text.push_str(&format!("    psql -h 127.0.0.1 -p {port} -U postgres\n"));
        }
        if let Some(host) = node.rpc_address() {
            text.push_str(&format!(
                "\nSee how they share the data: pontoon node status --insecure --host {host}\n"
            ));
        }
    }
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // Nobody listens: nothing to do about it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

//! Sessions from query string to rows, over a store in memory.

use std::sync::Arc;

use bytes::Bytes;
use pontoon_kv::{Db, DbConfig};

use super::api::{Format, Outcome, RowsTag, SideMessage, WireValue};
use super::run::rows_of;
use super::{Engine, EngineConfig, Session, SessionStart};
use crate::error::SqlError;
use crate::types::io;

async fn engine() -> Arc<Engine> {
    Engine::open(Db::in_memory(), EngineConfig::default())
        .await
        .unwrap()
}

fn connect(engine: &Arc<Engine>) -> Client {
    let start = SessionStart {
        user: "postgres".into(),
        database: "postgres".into(),
        settings: Vec::new(),
        pid: 1,
    };
    Client(engine.session(start).unwrap())
}

/// What a client would see, as lines.
struct Client(Session);

fn shown(error: &SqlError) -> String {
    let mut out = format!("{} {}", error.state.code(), error.message);
    for extra in [&error.detail, &error.hint, &error.context]
        .into_iter()
        .flatten()
    {
        out.push_str(" / ");
        out.push_str(extra);
    }
    out
}

impl Client {
    async fn drain(&mut self, outcome: Outcome, copied: &str) -> Result<Vec<String>, SqlError> {
        let mut out = Vec::new();
        match outcome {
            Outcome::Rows {
                columns,
                mut source,
                tag,
            } => {
                let mut count = 0;
                while let Some(batch) = source.next().await? {
                    for row in rows_of(batch, &columns) {
                        count += 1;
                        let cx = self.0.output_context();
                        let cells: Vec<String> = row
                            .iter()
                            .zip(columns.iter())
                            .map(|(value, column)| {
                                let mut text = String::new();
                                io::output(value, column.ty, cx.as_ref(), &mut text);
                                if value.is_null() {
                                    "NULL".to_owned()
                                } else {
                                    text
                                }
                            })
                            .collect();
                        out.push(cells.join("|"));
                    }
                }
                out.push(match tag {
                    RowsTag::Counted(word) => format!("{word} {count}"),
                    RowsTag::Fixed(word) => word.to_owned(),
                });
            }
            Outcome::Done(tag) => out.push(tag),
            Outcome::Empty => {}
            Outcome::CopyIn(mut sink) => {
                for piece in copied.as_bytes().chunks(7) {
                    sink.data(piece).await?;
                }
                out.push(sink.done().await?);
            }
            Outcome::CopyOut(mut source) => {
                while let Some(rows) = source.next().await? {
                    out.extend(
                        rows.iter()
                            .map(|r| String::from_utf8_lossy(r).trim_end().to_owned()),
                    );
                }
                out.push(source.tag());
            }
        }
        Ok(out)
    }

    async fn try_sql(&mut self, sql: &str, copied: &str) -> Result<Vec<String>, SqlError> {
        let parsed = self.0.split(sql)?;
        let count = parsed.len();
        let mut out = Vec::new();
        for (i, statement) in parsed.iter().enumerate() {
            let outcome = self.0.run(statement, i + 1 == count).await?;
            out.extend(self.drain(outcome, copied).await?);
        }
        self.0.finish().await?;
        Ok(out)
    }

    async fn copy(&mut self, sql: &str, copied: &str) -> String {
        let mut lines = Vec::new();
        match self.try_sql(sql, copied).await {
            Ok(out) => lines.extend(out),
            Err(error) => {
                self.0.fail();
                lines.push(shown(&error));
            }
        }
        for message in self.0.take_messages() {
            if let SideMessage::Notice(notice) = message {
                lines.push(format!("{:?}: {}", notice.severity, shown(&notice)));
            }
        }
        lines.join("\n")
    }

    async fn sql(&mut self, sql: &str) -> String {
        self.copy(sql, "").await
    }

    /// Fails the test with both texts when they differ.
    async fn check(&mut self, sql: &str, expected: &str) {
        let found = self.sql(sql).await;
        assert_eq!(found, expected, "\n{sql}");
    }

    async fn prepared(&mut self, sql: &str, params: &[&str]) -> Result<Vec<String>, SqlError> {
        self.0.prepare("", sql, &[]).await?;
        self.0.describe_statement("")?;
        let values = params
            .iter()
            .map(|p| WireValue {
                bytes: Some(Bytes::copy_from_slice(p.as_bytes())),
                format: Format::Text,
            })
            .collect();
        self.0.bind("", "", values, &[]).await?;
        let outcome = self.0.execute("").await?;
        let out = self.drain(outcome, "").await?;
        self.0.finish().await?;
        Ok(out)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_from_creation_to_rows() {
    let engine = engine().await;
    let mut c = connect(&engine);
    c.check("SELECT 1 + 1, 'a' || 'b'", "2|ab\nSELECT 1").await;
    c.check(
        "CREATE TABLE t (id serial PRIMARY KEY, a int NOT NULL DEFAULT 7, b text UNIQUE, \
         CHECK (a > 0), c int GENERATED ALWAYS AS (a * 2) STORED)",
        "CREATE TABLE",
    )
    .await;
    c.check("INSERT INTO t (b) VALUES ('x'), ('y')", "INSERT 0 2")
        .await;
    c.check(
        "INSERT INTO t (a, b) VALUES (1, 'z') RETURNING id, c",
        "3|2\nINSERT 0 1",
    )
    .await;
    c.check(
        "SELECT * FROM t ORDER BY id",
        "1|7|x|14\n2|7|y|14\n3|1|z|2\nSELECT 3",
    )
    .await;
    c.check("UPDATE t SET a = a + 1 WHERE id = 1", "UPDATE 1")
        .await;
    c.check("SELECT a, c FROM t WHERE id = 1", "8|16\nSELECT 1")
        .await;
    c.check("DELETE FROM t WHERE id = 2", "DELETE 1").await;
    c.check("SELECT count(*) FROM t", "2\nSELECT 1").await;
    c.check(
        "INSERT INTO t (a, b) VALUES (0, 'q')",
        "23514 new row for relation \"t\" violates check constraint \"t_a_check\" / Failing row \
         contains (4, 0, q, 0).",
    )
    .await;
    c.check(
        "INSERT INTO t (b) VALUES ('x')",
        "23505 duplicate key value violates unique constraint \"t_b_key\" / Key (b)=(x) already \
         exists.",
    )
    .await;
    c.check("DROP TABLE t", "DROP TABLE").await;
    c.check("SELECT * FROM t", "42P01 relation \"t\" does not exist")
        .await;
    c.check(
        "DROP TABLE IF EXISTS t",
        "DROP TABLE\nNotice: 00000 table \"t\" does not exist, skipping",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_commit_roll_back_and_fail() {
    let engine = engine().await;
    let (mut a, mut b) = (connect(&engine), connect(&engine));
    a.check(
        "BEGIN; CREATE TABLE t (a int); INSERT INTO t VALUES (1)",
        "BEGIN\nCREATE TABLE\nINSERT 0 1",
    )
    .await;
    a.check("SELECT * FROM t", "1\nSELECT 1").await;
    b.check("SELECT * FROM t", "42P01 relation \"t\" does not exist")
        .await;
    a.check("ROLLBACK", "ROLLBACK").await;
    a.check("SELECT * FROM t", "42P01 relation \"t\" does not exist")
        .await;
    a.check("CREATE TABLE t (a int)", "CREATE TABLE").await;
    a.check("BEGIN", "BEGIN").await;
    a.check(
        "BEGIN",
        "BEGIN\nWarning: 25001 there is already a transaction in progress",
    )
    .await;
    a.check("INSERT INTO t VALUES (1)", "INSERT 0 1").await;
    a.check("SAVEPOINT s", "SAVEPOINT").await;
    a.check("INSERT INTO t VALUES (2)", "INSERT 0 1").await;
    a.check("SELECT 1 / 0", "22012 division by zero").await;
    a.check(
        "SELECT 1",
        "25P02 current transaction is aborted, commands ignored until end of transaction block",
    )
    .await;
    a.check("ROLLBACK TO s", "ROLLBACK").await;
    a.check("COMMIT", "COMMIT").await;
    b.check("SELECT * FROM t", "1\nSELECT 1").await;
    a.check(
        "BEGIN; SELECT nothing",
        "42703 column \"nothing\" does not exist",
    )
    .await;
    a.check("COMMIT", "ROLLBACK").await;
    a.check(
        "COMMIT",
        "COMMIT\nWarning: 25P01 there is no transaction in progress",
    )
    .await;
    // A string of several statements is one transaction.
    a.check(
        "INSERT INTO t VALUES (5); SELECT 1 / 0",
        "22012 division by zero",
    )
    .await;
    b.check("SELECT * FROM t", "1\nSELECT 1").await;
    a.check(
        "BEGIN READ ONLY; INSERT INTO t VALUES (1)",
        "25006 cannot execute INSERT in a read-only transaction",
    )
    .await;
    a.check("ROLLBACK", "ROLLBACK").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn variables() {
    let engine = engine().await;
    let mut c = connect(&engine);
    c.check("SHOW transaction_isolation", "serializable\nSHOW")
        .await;
    c.check(
        "SET statement_timeout = '2s'; SHOW statement_timeout",
        "SET\n2s\nSHOW",
    )
    .await;
    c.check(
        "BEGIN; SET LOCAL work_mem = '1GB'; SHOW work_mem; COMMIT; SHOW work_mem",
        "BEGIN\nSET\n1GB\nSHOW\nCOMMIT\n4MB\nSHOW",
    )
    .await;
    c.check(
        "BEGIN; SET work_mem = '1GB'; ROLLBACK; SHOW work_mem",
        "BEGIN\nSET\nROLLBACK\n4MB\nSHOW",
    )
    .await;
    c.check(
        "SET nonsense = 1",
        "42704 unrecognized configuration parameter \"nonsense\"",
    )
    .await;
    c.check("SELECT current_setting('work_mem')", "4MB\nSELECT 1")
        .await;
    c.check(
        "SET TIME ZONE 'Europe/Paris'; SHOW TimeZone",
        "SET\nEurope/Paris\nSHOW",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_and_cursors() {
    let engine = engine().await;
    let mut c = connect(&engine);
    c.sql("CREATE TABLE t (a int PRIMARY KEY, b text)").await;
    assert_eq!(
        c.prepared("INSERT INTO t VALUES ($1, $2)", &["1", "x"])
            .await
            .unwrap(),
        vec!["INSERT 0 1"]
    );
    assert_eq!(
        c.prepared("SELECT b FROM t WHERE a = $1", &["1"])
            .await
            .unwrap(),
        vec!["x", "SELECT 1"]
    );
    c.check("PREPARE p (int) AS SELECT $1 + 1", "PREPARE").await;
    c.check("EXECUTE p(41)", "42\nSELECT 1").await;
    c.check(
        "PREPARE p AS SELECT 1",
        "42P05 prepared statement \"p\" already exists",
    )
    .await;
    c.check("DEALLOCATE p", "DEALLOCATE").await;
    c.check(
        "EXECUTE p(1)",
        "26000 prepared statement \"p\" does not exist",
    )
    .await;
    c.check(
        "BEGIN; DECLARE c CURSOR FOR SELECT * FROM generate_series(1, 5); FETCH 2 FROM c; \
         MOVE 1 FROM c; FETCH ALL FROM c; CLOSE c; COMMIT",
        "BEGIN\nDECLARE CURSOR\n1\n2\nFETCH 2\nMOVE 1\n4\n5\nFETCH 2\nCLOSE CURSOR\nCOMMIT",
    )
    .await;
    c.check(
        "DECLARE c CURSOR FOR SELECT 1",
        "25P01 DECLARE CURSOR can only be used in transaction blocks",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_transaction_takes_is_no_duplicate() {
    let config = DbConfig {
        txn_bytes_max: 20_000,
        ..DbConfig::default()
    };
    let db = Db::in_memory_with(config).unwrap();
    let engine = Engine::open(db, EngineConfig::default()).await.unwrap();
    let mut c = connect(&engine);
    c.sql("CREATE TABLE t (a int PRIMARY KEY)").await;
    let rows: String = (0..3_000).map(|n| format!("{n}\n")).collect();
    let said = c.copy("COPY t FROM STDIN", &rows).await;
    assert!(said.starts_with("53200 transaction is too large"), "{said}");
    assert!(
        said.ends_with("several transactions. / COPY t, line 1000"),
        "{said}"
    );
    c.check("SELECT count(*) FROM t", "0\nSELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_in_and_out() {
    let engine = engine().await;
    let mut c = connect(&engine);
    c.sql("CREATE TABLE t (a int PRIMARY KEY, b text, c int DEFAULT 9)")
        .await;
    assert_eq!(
        c.copy("COPY t (a, b) FROM STDIN", "1\tx\\ty\n2\t\\N\n")
            .await,
        "COPY 2"
    );
    c.check("COPY t TO STDOUT", "1\tx\\ty\t9\n2\t\\N\t9\nCOPY 2")
        .await;
    assert_eq!(
        c.copy(
            "COPY t FROM STDIN (FORMAT csv, HEADER)",
            "a,b,c\n3,\"q,\"\"z\"\"\",1\n"
        )
        .await,
        "COPY 1"
    );
    c.check(
        "COPY (SELECT * FROM t ORDER BY a) TO STDOUT (FORMAT csv, HEADER)",
        "a,b,c\n1,x\ty,9\n2,,9\n3,\"q,\"\"z\"\"\",1\nCOPY 3",
    )
    .await;
    assert_eq!(
        c.copy("COPY t FROM STDIN", "4\tx\t1\nfour\tx\t1\n").await,
        "22P02 invalid input syntax for type integer: \"four\" / COPY t, line 2, column a: \"four\""
    );
    assert_eq!(
        c.copy("COPY t FROM STDIN", "4\tx\n").await,
        "22P04 missing data for column \"c\" / COPY t, line 1: \"4\tx\""
    );
    assert_eq!(
        c.copy("COPY t FROM STDIN", "8\tx\t1\n1\tx\t1\n").await,
        "23505 duplicate key value violates unique constraint \"t_pkey\" / Key (a)=(1) already \
         exists. / COPY t, line 2: \"1\tx\t1\""
    );
    c.check("SELECT count(*) FROM t", "3\nSELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alter_table() {
    let engine = engine().await;
    let mut c = connect(&engine);
    c.sql("CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 1), (2, 2)")
        .await;
    c.check(
        "ALTER TABLE t ADD COLUMN c text DEFAULT 'x' NOT NULL",
        "ALTER TABLE",
    )
    .await;
    c.check("SELECT * FROM t ORDER BY a", "1|1|x\n2|2|x\nSELECT 2")
        .await;
    c.check("ALTER TABLE t ADD PRIMARY KEY (a)", "ALTER TABLE")
        .await;
    c.check(
        "INSERT INTO t VALUES (1, 1, 'y')",
        "23505 duplicate key value violates unique constraint \"t_pkey\" / Key (a)=(1) already \
         exists.",
    )
    .await;
    c.check(
        "ALTER TABLE t DROP COLUMN b, ADD COLUMN d serial",
        "ALTER TABLE",
    )
    .await;
    c.check("SELECT * FROM t ORDER BY a", "1|x|1\n2|x|2\nSELECT 2")
        .await;
    c.check(
        "ALTER TABLE t RENAME c TO e; ALTER TABLE t ALTER COLUMN a TYPE bigint",
        "ALTER TABLE\nALTER TABLE",
    )
    .await;
    c.check(
        "SELECT e, a + 5000000000 FROM t WHERE a = 2",
        "x|5000000002\nSELECT 1",
    )
    .await;
    c.check(
        "ALTER TABLE t ADD CHECK (a > 1)",
        "23514 check constraint \"t_a_check\" of relation \"t\" is violated by some row",
    )
    .await;
    c.check("CREATE INDEX ON t (e)", "CREATE INDEX").await;
    c.check("SELECT a FROM t WHERE e = 'x' ORDER BY a", "1\n2\nSELECT 2")
        .await;
    c.check("TRUNCATE t RESTART IDENTITY", "TRUNCATE TABLE")
        .await;
    c.check(
        "INSERT INTO t (a, e) VALUES (9, 'n') RETURNING d",
        "1\nINSERT 0 1",
    )
    .await;
    c.check("CREATE VIEW v AS SELECT a FROM t", "CREATE VIEW")
        .await;
    c.check("SELECT * FROM v", "9\nSELECT 1").await;
    c.check(
        "DROP TABLE t",
        "2BP01 cannot drop table t because other objects depend on it / view v depends on table t \
         / Use DROP ... CASCADE to drop the dependent objects too.",
    )
    .await;
    c.check(
        "DROP TABLE t CASCADE",
        "DROP TABLE\nNotice: 00000 drop cascades to view v",
    )
    .await;
    c.check(
        "CREATE TABLE u AS SELECT g AS n FROM generate_series(1, 3) g",
        "SELECT 3",
    )
    .await;
    c.check("SELECT sum(n) FROM u", "6\nSELECT 1").await;
    c.check(
        "ALTER TABLE u ADD PRIMARY KEY (n); ALTER TABLE u DROP CONSTRAINT u_pkey",
        "ALTER TABLE\nALTER TABLE",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences() {
    let engine = engine().await;
    let (mut a, mut b) = (connect(&engine), connect(&engine));
    a.check("CREATE SEQUENCE s START 5", "CREATE SEQUENCE")
        .await;
    a.check(
        "SELECT nextval('s'), nextval('s'), currval('s'), lastval()",
        "5|6|6|6\nSELECT 1",
    )
    .await;
    b.check(
        "SELECT currval('s')",
        "55000 currval of sequence \"s\" is not yet defined in this session",
    )
    .await;
    b.check("SELECT nextval('s')", "7\nSELECT 1").await;
    a.check(
        "BEGIN; ALTER SEQUENCE s RESTART; SELECT nextval('s'); ROLLBACK",
        "BEGIN\nALTER SEQUENCE\n5\nSELECT 1\nROLLBACK",
    )
    .await;
    a.check("SELECT nextval('s')", "8\nSELECT 1").await;
    a.check(
        "SELECT setval('s', 100); SELECT nextval('s')",
        "100\nSELECT 1\n101\nSELECT 1",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_every_level_notice_a_new_index() {
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let engine = engine().await;
        let (mut a, mut b) = (connect(&engine), connect(&engine));
        let begin = format!("BEGIN ISOLATION LEVEL {level}");
        b.check("CREATE TABLE t (id int PRIMARY KEY, v int)", "CREATE TABLE")
            .await;

        // A writer from before the index commits after it.
        a.check(&begin, "BEGIN").await;
        a.check("INSERT INTO t VALUES (1, 7)", "INSERT 0 1").await;
        b.check("CREATE INDEX i ON t (v)", "CREATE INDEX").await;
        let found = a.sql("COMMIT").await;
        assert!(found.starts_with("40001"), "{level}: {found}");
        a.check(
            "SELECT count(*) FROM t WHERE v + 0 = 7; SELECT id FROM t WHERE v = 7",
            "0\nSELECT 1\nSELECT 0",
        )
        .await;

        // COPY writes too.
        a.check(&begin, "BEGIN").await;
        assert_eq!(a.copy("COPY t FROM STDIN", "2\t7\n").await, "COPY 1");
        b.check("CREATE INDEX j ON t (v)", "CREATE INDEX").await;
        let found = a.sql("COMMIT").await;
        assert!(found.starts_with("40001"), "{level}: {found}");

        // A row that appears while the index is filled.
        a.check(
            &format!("{begin}; CREATE INDEX k ON t (v)"),
            "BEGIN\nCREATE INDEX",
        )
        .await;
        b.check("INSERT INTO t VALUES (3, 7)", "INSERT 0 1").await;
        let found = a.sql("COMMIT").await;
        assert!(found.starts_with("40001"), "{level}: {found}");

        // The same for a constraint that is checked.
        a.check(
            &format!("{begin}; ALTER TABLE t ADD CHECK (v < 8)"),
            "BEGIN\nALTER TABLE",
        )
        .await;
        b.check("INSERT INTO t VALUES (4, 9)", "INSERT 0 1").await;
        let found = a.sql("COMMIT").await;
        assert!(found.starts_with("40001"), "{level}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_read_before_a_schema_change_may_write_after_it() {
    let engine = engine().await;
    let (mut a, mut b) = (connect(&engine), connect(&engine));
    b.check("CREATE TABLE t (id int PRIMARY KEY, v int)", "CREATE TABLE")
        .await;
    a.check("BEGIN ISOLATION LEVEL READ COMMITTED", "BEGIN")
        .await;
    a.check("SELECT count(*) FROM t", "0\nSELECT 1").await;
    b.check("CREATE UNIQUE INDEX i ON t (v)", "CREATE INDEX")
        .await;
    a.check("INSERT INTO t VALUES (1, 7); COMMIT", "INSERT 0 1\nCOMMIT")
        .await;
    b.check(
        "INSERT INTO t VALUES (2, 7)",
        "23505 duplicate key value violates unique constraint \"i\" / Key (v)=(7) already exists.",
    )
    .await;
    b.check("SELECT id FROM t WHERE v = 7", "1\nSELECT 1").await;
}

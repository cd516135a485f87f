//! Clients of every node that write and read all the time, and what they find.
//!
//! Every write inserts two rows that lie in two ranges. Every read asks for the two rows of one
//! write: both must be there if it was acknowledged before the read began, and never one of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_sqllogictest::wire::{Address, Client, WireError};

/// What the clients set `statement_timeout` to.
pub(super) const STATEMENT_MAX: Duration = Duration::from_secs(4);
/// A client waits no longer for an answer; only a node that does not run at all lets it.
const ANSWER_MAX: Duration = Duration::from_secs(6);
/// Between two requests of a client.
const REST: Duration = Duration::from_millis(10);
/// The second row of a write is so far from the first.
pub(super) const APART: u64 = 1_000_000_000;

/// What a client asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// Two rows to be written.
    Write,
    /// Two rows.
    Read,
}

/// One request, by the time since the load began.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    pub(super) node: usize,
    pub(super) asked: Asked,
    pub(super) began: Duration,
    pub(super) ended: Duration,
    pub(super) good: bool,
}

/// How a write stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Write {
    /// It was acknowledged.
    Done,
    /// It was not done.
    Refused,
    /// Nobody knows, or not yet.
    Open,
}

/// What the clients share.
pub(super) struct Load {
    addresses: Vec<Address>,
    began: Instant,
    stop: AtomicBool,
    next: AtomicU64,
    writes: Mutex<BTreeMap<u64, Write>>,
    /// The write that was acknowledged last.
    newest: AtomicU64,
    answers: Mutex<Vec<Answer>>,
    /// What must never be.
    wrong: Mutex<Vec<String>>,
    /// SQLSTATEs, and how often they came.
    codes: Mutex<BTreeMap<String, u64>>,
}

impl Load {
    pub(super) fn new(addresses: Vec<Address>) -> Self {
        let patient = |address: Address| Address {
            patience: ANSWER_MAX,
            ..address
        };
        Self {
            addresses: addresses.into_iter().map(patient).collect(),
            began: Instant::now(),
            stop: AtomicBool::new(false),
            next: AtomicU64::new(1),
            writes: Mutex::default(),
            newest: AtomicU64::new(0),
            answers: Mutex::default(),
            wrong: Mutex::default(),
            codes: Mutex::default(),
        }
    }

    /// Runs a writer and a reader at every node while `body` does, and stops them then.
    pub(super) fn run(&self, body: impl FnOnce()) {
        thread::scope(|all| {
            for node in 0..self.addresses.len() {
                all.spawn(move || self.client(node, Asked::Write));
                all.spawn(move || self.client(node, Asked::Read));
            }
            let _stop = Stop(&self.stop);
            body();
        });
    }

    /// The time since the load began.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn client(&self, node: usize, asked: Asked) {
        let mut session = None;
        while !self.stop.load(Ordering::Relaxed) {
            let began = self.now();
            let done = self.connected(node, &mut session);
            let done = done.and_then(|client| match asked {
                Asked::Write => self.write(client),
                Asked::Read => self.read(client, began),
            });
            if let Err(error) = &done {
                self.note(error);
                if !matches!(error, WireError::Server(_)) {
                    session = None;
                }
            }
            self.answers.lock().unwrap().push(Answer {
                node,
                asked,
                began,
                ended: self.now(),
                good: done.is_ok(),
            });
            thread::sleep(REST);
        }
    }

    fn connected<'a>(
        &self,
        node: usize,
        session: &'a mut Option<Client>,
    ) -> Result<&'a mut Client, WireError> {
        if session.is_none() {
            let mut client = Client::connect(&self.addresses[node])?;
            let ms = STATEMENT_MAX.as_millis();
            client.query(&format!("SET statement_timeout = {ms}"))?;
            *session = Some(client);
        }
        Ok(session.as_mut().unwrap())
    }

    fn write(&self, client: &mut Client) -> Result<(), WireError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.writes.lock().unwrap().insert(id, Write::Open);
        let other = id + APART;
        let insert = format!("INSERT INTO kept VALUES ({id}, {other}), ({other}, {id})");
        let done = client.query(&insert);
        let stands = match &done {
            Ok(_) => Write::Done,
            Err(WireError::Server(error)) if error.code != "08007" => Write::Refused,
            Err(_) => Write::Open,
        };
        self.writes.lock().unwrap().insert(id, stands);
        if done.is_ok() {
            self.newest.store(id, Ordering::SeqCst);
        }
        done.map(|_| ())
    }

    /// Reads the rows of the write that was acknowledged last, or of any.
    fn read(&self, client: &mut Client, began: Duration) -> Result<(), WireError> {
        let newest = self.newest.load(Ordering::SeqCst);
        let id = match began.as_millis() % 4 {
            0 => 1 + began.as_micros() as u64 % newest.max(1),
            _ => newest,
        };
        let stands = self.writes.lock().unwrap().get(&id).copied();
        let ids = format!("{id}, {}", id + APART);
        let found = client.query(&format!("SELECT id FROM kept WHERE id IN ({ids})"))?;
        self.judge(id, stands.unwrap_or(Write::Open), found.rows.len());
        Ok(())
    }

    /// Whether so many rows of a write may be there that stood so before they were read.
    fn judge(&self, id: u64, stands: Write, rows: usize) {
        let may_be = match stands {
            Write::Done => rows == 2,
            Write::Refused => rows == 0,
            Write::Open => rows == 0 || rows == 2,
        };
        if !may_be {
            let at = self.now();
            let text = format!("{at:?}: write {id} is {stands:?}, and {rows} rows of it are there");
            self.wrong.lock().unwrap().push(text);
        }
    }

    fn note(&self, error: &WireError) {
        let code = match error {
            WireError::Server(error) => error.code.clone(),
            WireError::Timeout(_) => "no answer".to_owned(),
            _ => "no connection".to_owned(),
        };
        let may_be = [
            "57014", "57P01", "57P03", "08006", "08007", "40001", "40003",
        ];
        if let WireError::Server(error) = error
            && !may_be.contains(&code.as_str())
        {
            self.wrong.lock().unwrap().push(error.to_string());
        }
        *self.codes.lock().unwrap().entry(code).or_default() += 1;
    }

    /// Judges all writes by what is there now, with the clients stopped.
    pub(super) fn judge_all(&self, client: &mut Client) {
        let rows = client.query("SELECT id FROM kept").unwrap().rows;
        let mut found: BTreeMap<u64, usize> = BTreeMap::new();
        for row in rows {
            let id: u64 = row[0].as_deref().unwrap().parse().unwrap();
            *found.entry(id % APART).or_default() += 1;
        }
        for (id, stands) in &*self.writes.lock().unwrap() {
            self.judge(*id, *stands, found.get(id).copied().unwrap_or_default());
        }
    }

    /// What was found that must never be.
    pub(super) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    /// Writes by how they stand, and errors by SQLSTATE, in words.
    pub(super) fn summary(&self) -> String {
        let writes = self.writes.lock().unwrap();
        let count = |of: Write| writes.values().filter(|stands| **stands == of).count();
        let reads = self.answers.lock().unwrap();
        let reads = reads.iter().filter(|a| a.asked == Asked::Read && a.good);
        format!(
            "{} writes acknowledged, {} refused, {} open; {} reads; errors {:?}",
            count(Write::Done),
            count(Write::Refused),
            count(Write::Open),
            reads.count(),
            self.codes.lock().unwrap()
        )
    }

    /// The answers of a node that ended after `since`, in the order in which they did.
    pub(super) fn answers(&self, node: usize, since: Duration) -> Vec<Answer> {
        let answers = self.answers.lock().unwrap();
        let of_node = answers.iter().filter(|answer| answer.node == node);
        of_node
            .filter(|answer| answer.ended > since)
            .copied()
            .collect()
    }
}

/// Stops the clients, also when what they ran beside has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

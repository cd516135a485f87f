//! Proposers on several threads, over a log in memory that is written by whoever comes, or by a
//! thread of its own: nobody may be left waiting, and everything is applied once and in order.

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;

use super::random_test::{Data, Recorder, alone_in};
use super::*;
use crate::log_store::{Done, LogState};

/// Entries, and who waits for each append.
#[derive(Default)]
struct Content {
    state: LogState,
    entries: Vec<Entry>,
    waiting: Vec<Done>,
}

/// A log that is "written" by calling who waits.
struct QuickLog {
    content: Mutex<Content>,
    writer: Mutex<u64>,
    /// Asks the thread to write.
    thread: Mutex<mpsc::Sender<()>>,
}

impl QuickLog {
    fn open() -> Arc<Self> {
        let (sender, receiver) = mpsc::channel();
        let log = Arc::new(Self {
            content: Mutex::default(),
            writer: Mutex::new(0),
            thread: Mutex::new(sender),
        });
        let weak = Arc::downgrade(&log);
        crate::shell::spawn_thread("quick-log", move || {
            while receiver.recv().is_ok() {
                let Some(log) = weak.upgrade() else { return };
                log.write(&mut log.writer.lock());
            }
        })
        .unwrap();
        log
    }

    fn write(&self, writer: &mut u64) {
        *writer += 1;
        let waiting = std::mem::take(&mut self.content.lock().waiting);
        for done in waiting {
            done(Ok(()));
        }
    }
}

impl GroupLog for QuickLog {
    fn state(&self) -> LogState {
        self.content.lock().state
    }

    fn append(&self, entries: Vec<Entry>, done: Done) {
        self.append_later(entries, done);
        let _ = self.thread.lock().send(());
    }

    fn append_later(&self, entries: Vec<Entry>, done: Done) {
        let mut content = self.content.lock();
        content.state.last = entries.last().map(|entry| entry.position);
        content.entries.extend(entries);
        content.waiting.push(done);
    }

    fn write_here(&self) {
        match self.writer.try_lock() {
            // Now and then the disk is slow.
            Some(mut writer) if *writer % 7 != 3 => self.write(&mut writer),
            _ => {
                let _ = self.thread.lock().send(());
            }
        }
    }

    fn save_vote(&self, vote: Vote, done: Done) {
        self.content.lock().state.vote = Some(vote);
        done(Ok(()));
    }

    fn expect_snapshot(&self, _position: LogPosition, done: Done) {
        done(Ok(()));
    }

    fn truncate_after(&self, _last: Option<LogPosition>) {}

    fn purge(&self, _upto: LogPosition) {}

    fn entries(&self, from: u64, to: u64, _bytes_max: usize) -> Result<Vec<Entry>, StorageError> {
        let within = |entry: &&Entry| (from..to).contains(&entry.position.index);
        let entries = &self.content.lock().entries;
        Ok(entries.iter().filter(within).cloned().collect())
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn newest(&self, _bytes: u64) -> u64 {
        0
    }

    fn position(&self, index: u64) -> Option<LogPosition> {
        let entries = &self.content.lock().entries;
        let found = entries.iter().find(|entry| entry.position.index == index);
        found.map(|entry| entry.position)
    }
}

#[test]
fn nobody_is_left_waiting() {
    const CLIENTS: u64 = 3;
    const ROUNDS: u64 = 5_000;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let me = ReplicaId(1);
        let (data, cell) = (Data::default(), Arc::new(LeaderCell::new(me)));
        let machine = Box::new(Recorder(data.clone()));
        let applier = Applier::new(machine, Arc::clone(&cell), Arc::default()).unwrap();
        let log = QuickLog::open();
        let alone = Alone::start(me, log, applier, &cell, Some(alone_in(me)));
        let alone = Arc::new(alone.await.unwrap());
        // In rounds that end when all are answered, so that nobody who comes later helps.
        let rounds = async {
            for round in 0..ROUNDS {
                let clients = (0..CLIENTS).map(|client| {
                    let alone = Arc::clone(&alone);
                    tokio::spawn(async move {
                        let enough_in = if round % 5 == 0 { alone.term() } else { 0 };
                        let command = Bytes::from(format!("{client} {round}"));
                        alone.submit(command, enough_in).await.unwrap();
                    })
                });
                futures::future::join_all(clients.collect::<Vec<_>>()).await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(60), rounds).await;
        assert!(done.is_ok(), "somebody waits for ever");
        let drained = tokio::time::timeout(Duration::from_secs(60), alone.drain()).await;
        drained.expect("it ends").unwrap();
        assert_eq!(data.commands().len() as u64, CLIENTS * ROUNDS);
        assert!(alone.submit(Bytes::new(), 0).await.is_err(), "it has ended");
    });
}

//! Running parts of queries for other nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::{self, StreamExt};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::SqlError;
use crate::exec::context::ExecContext;
use crate::exec::error::from_datafusion;

use super::part::Part;
use super::partitioner::Partitioner;
use super::wire::{Failure, Finished, Page, Reply, decode, encode, encode_batches};
use super::work::Shuffle;

/// Parts that a node runs for others at one time; more are refused, and run where they came from.
const CURSORS_MAX: usize = 1_024;
/// Bytes of rows after which a page is sent.
pub(super) const PAGE_BYTES: usize = 1 << 20;
/// A part is given up when nobody has asked for its next page, or that it be kept, for so long.
const ASKED_AFTER_MAX: Duration = Duration::from_secs(60);
/// How often whoever shuffles out rows asks that a part be kept.
pub(super) const KEPT_EVERY: Duration = Duration::from_secs(15);

/// What another node asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// To run a part under this number, and for its first page; if its rows are shuffled,
    /// to be ready.
    Open(Number, Part),
    /// For the next page.
    Next(Number),
    /// To give it up.
    Close(Number),
    /// For the next page of a partition.
    Take(Number, u32),
    /// Whoever has this partition needs no more of it.
    Leave(Number, u32),
    /// Not to give up a part whose rows are shuffled.
    Keep(Number),
    /// What became of it, at the end; it is closed then.
    Finish(Number),
    /// Whether it has few groups; it begins now.
    Few(Number),
}

/// Names a part that is run, among all nodes.
pub type Number = (u64, u64);

/// A page of a part, or how it has failed.
pub(super) type Piece = Result<Page, Failure>;

/// The parts that a node runs for others.
#[derive(Default)]
pub struct Cursors {
    running: Arc<Mutex<HashMap<Number, Arc<Cursor>>>>,
}

struct Cursor {
    /// One for each partition, or one.
    outlets: Vec<tokio::sync::Mutex<mpsc::Receiver<Piece>>>,
    /// Its rows are shuffled: it stays until it is closed.
    shuffles: bool,
    state: Arc<State>,
    /// Makes the pages, one ahead.
    task: JoinHandle<()>,
}

/// What a cursor and its task share.
struct State {
    /// It may begin.
    begin: Notify,
    kept: Mutex<Instant>,
    finished: Mutex<Finished>,
    /// Whether there are few groups, when that is known.
    few: watch::Sender<Option<bool>>,
}

impl State {
    /// Whether there are few groups.
    async fn few(&self) -> Reply {
        *self.kept.lock() = Instant::now();
        self.begin.notify_one();
        let mut few = self.few.subscribe();
        let known = few.wait_for(Option::is_some).await;
        match known.ok().and_then(|known| *known) {
            Some(few) => Reply::Few(few),
            None => given_up(),
        }
    }

    /// Waits until nobody has wanted a part for long.
    async fn abandoned(&self) {
        loop {
            let until = *self.kept.lock() + ASKED_AFTER_MAX;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Cursors {
    /// Answers a question; `context` makes what a part is run with.
    pub async fn answer(
        &self,
        question: &[u8],
        context: impl FnOnce(&Part) -> Result<ExecContext, SqlError>,
    ) -> Result<Bytes, SqlError> {
        let reply = match decode(question)? {
            Question::Open(number, part) => match context(&part) {
                Ok(cx) => match self.open(number, part, cx) {
                    Some(cursor) if cursor.shuffles => Reply::Page(Page::default()),
                    Some(cursor) => self.next(number, Some(cursor), 0).await,
                    None => Reply::Refused("it runs too many parts of queries".into()),
                },
                Err(error) => Reply::Failed(error.into()),
            },
            Question::Next(number) => self.next(number, self.find(number), 0).await,
            Question::Take(number, partition) => {
                self.next(number, self.find(number), partition).await
            }
            Question::Close(number) => {
                self.running.lock().remove(&number);
                Reply::Page(Page::default())
            }
            Question::Leave(number, partition) => {
                let cursor = self.find(number);
                if let Some(outlet) = cursor.as_ref().and_then(|cursor| cursor.outlet(partition)) {
                    let mut outlet = outlet.lock().await;
                    outlet.close();
                    while outlet.try_recv().is_ok() {}
                }
                Reply::Page(Page::default())
            }
            Question::Keep(number) => {
                if let Some(cursor) = self.find(number) {
                    *cursor.state.kept.lock() = Instant::now();
                }
                Reply::Page(Page::default())
            }
            Question::Few(number) => match self.find(number) {
                Some(cursor) => cursor.state.few().await,
                None => given_up(),
            },
            Question::Finish(number) => match self.running.lock().remove(&number) {
                Some(cursor) => Reply::Finished(*cursor.state.finished.lock()),
                None => given_up(),
            },
        };
        encode(&reply)
    }

    fn find(&self, number: Number) -> Option<Arc<Cursor>> {
        self.running.lock().get(&number).map(Arc::clone)
    }

    fn open(&self, number: Number, part: Part, cx: ExecContext) -> Option<Arc<Cursor>> {
        let mut running = self.running.lock();
        if running.len() >= CURSORS_MAX {
            return None;
        }
        let partitions = part.work.shuffle().map(|shuffle| shuffle.partitions);
        let channels = (0..partitions.unwrap_or(1)).map(|_| mpsc::channel(1));
        let (senders, outlets): (Vec<_>, Vec<_>) = channels.unzip();
        let state = Arc::new(State {
            begin: Notify::new(),
            kept: Mutex::new(Instant::now()),
            finished: Mutex::default(),
            few: watch::Sender::new(None),
        });
        let (running_here, own) = (Arc::clone(&self.running), Arc::clone(&state));
        let task = tokio::spawn(async move {
            match part.work.shuffle() {
                None => {
                    if let Some(to) = senders.first() {
                        to_one(&part, cx, to).await;
                    }
                    // Its pages are in the channel; who has it reads them.
                    drop(senders);
                    tokio::time::sleep(ASKED_AFTER_MAX).await;
                }
                Some(shuffle) => {
                    let all = async {
                        own.begin.notified().await;
                        to_partitions(&part, shuffle, cx, senders, &own).await;
                    };
                    tokio::select! {
                        () = all => own.abandoned().await,
                        () = own.abandoned() => {}
                    }
                }
            }
            running_here.lock().remove(&number);
        });
        let cursor = Arc::new(Cursor {
            outlets: outlets.into_iter().map(tokio::sync::Mutex::new).collect(),
            shuffles: partitions.is_some(),
            state,
            task,
        });
        running.insert(number, Arc::clone(&cursor));
        Some(cursor)
    }

    async fn next(&self, number: Number, cursor: Option<Arc<Cursor>>, partition: u32) -> Reply {
        let shuffles = cursor.as_ref().is_some_and(|cursor| cursor.shuffles);
        let page = match &cursor {
            Some(cursor) => cursor.next(partition).await,
            None => None,
        };
        let reply = match page {
            Some(Ok(page)) => Reply::Page(page),
            Some(Err(failure)) => Reply::Failed(failure),
            None => given_up(),
        };
        if !shuffles && !matches!(&reply, Reply::Page(page) if page.read.is_none()) {
            self.running.lock().remove(&number);
        }
        reply
    }
}

fn given_up() -> Reply {
    Reply::Refused("the part of the query has been given up".into())
}

impl Cursor {
    fn outlet(&self, partition: u32) -> Option<&tokio::sync::Mutex<mpsc::Receiver<Piece>>> {
        self.outlets.get(usize::try_from(partition).ok()?)
    }

    /// The next page of a partition; the first who asks has the part begin.
    async fn next(&self, partition: u32) -> Option<Piece> {
        *self.state.kept.lock() = Instant::now();
        self.state.begin.notify_one();
        self.outlet(partition)?.lock().await.recv().await
    }
}

/// The batches of a part.
async fn batches_of(
    part: &Part,
    cx: &ExecContext,
    read: &Arc<AtomicUsize>,
) -> Result<SendableRecordBatchStream, SqlError> {
    let exec = part.lowered(cx, read).await?;
    let stream = exec.execute(0, cx.runtime.task_context());
    stream.map_err(from_datafusion)
}

/// Runs a part, and partitions over its pages as they are asked for.
async fn to_one(part: &Part, cx: ExecContext, to: &mpsc::Sender<Piece>) {
    if let Err(error) = pages(part, cx, to).await {
        // Nobody may be left to hear it.
        let _ = to.send_timeout(Err(error.into()), ASKED_AFTER_MAX).await;
    }
}

async fn pages(part: &Part, cx: ExecContext, to: &mpsc::Sender<Piece>) -> Result<(), SqlError> {
    let read = Arc::new(AtomicUsize::new(0));
    let mut stream = batches_of(part, &cx, &read).await?;
    let (mut batches, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        for batch in pieces(batch.map_err(from_datafusion)?) {
            bytes += bytes_of(&batch);
            batches.push(batch);
            if bytes >= PAGE_BYTES {
                let page = Page {
                    batches: encode_batches(&std::mem::take(&mut batches))?,
                    read: None,
                    reads: cx.txn.take_reads(),
                };
                bytes = 0;
                if to.send_timeout(Ok(page), ASKED_AFTER_MAX).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    let page = Page {
        batches: encode_batches(&batches)?,
        read: Some(read.load(Ordering::Relaxed) as u64),
        reads: cx.txn.take_reads(),
    };
    // As above.
    let _ = to.send_timeout(Ok(page), ASKED_AFTER_MAX).await;
    Ok(())
}

/// Runs a part, and shuffles its rows.
async fn to_partitions(
    part: &Part,
    shuffle: &Shuffle,
    cx: ExecContext,
    to: Vec<mpsc::Sender<Piece>>,
    state: &State,
) {
    let finished = &state.finished;
    let mut partitioner = Partitioner::new(to, finished);
    let all = async {
        let read = Arc::new(AtomicUsize::new(0));
        let mut stream = batches_of(part, &cx, &read).await?;
        partitioner.shuffle_by(&cx, shuffle, &part.columns());
        let (mut first, mut bytes, mut few) = (Vec::new(), 0, false);
        while part.work.half().is_some() && bytes <= shuffle.few && !few {
            match stream.next().await {
                Some(batch) => {
                    bytes += batch.as_ref().map_or(0, bytes_of);
                    first.push(batch);
                }
                None => few = true,
            }
        }
        state.few.send_replace(Some(few));
        let mut stream = stream::iter(first).chain(stream);
        let mut all = true;
        while let Some(batch) = stream.next().await {
            for batch in pieces(batch.map_err(from_datafusion)?) {
                partitioner.take(&batch).await?;
            }
            if partitioner.is_alone() {
                all = false;
                break;
            }
        }
        {
            let mut finished = finished.lock();
            finished.read = read.load(Ordering::Relaxed) as u64;
            finished.all = all;
        }
        partitioner.end().await
    };
    if let Err(error) = all.await {
        // Whoever asks for pages hears of it.
        state.few.send_replace(Some(true));
        partitioner.fail(error).await;
    }
}

pub(super) fn bytes_of(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    let bytes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or_default());
    bytes.sum()
}

/// A batch in pieces that fit into pages.
fn pieces(batch: RecordBatch) -> Vec<RecordBatch> {
    let (rows, bytes) = (batch.num_rows(), bytes_of(&batch));
    if rows == 0 {
        return Vec::new();
    }
    let each = (rows / (bytes / PAGE_BYTES + 1)).max(1);
    let starts = (0..rows).step_by(each);
    starts
        .map(|from| batch.slice(from, each.min(rows - from)))
        .collect()
}

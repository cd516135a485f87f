//! Running parts of queries for other nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::SqlError;
use crate::exec::context::ExecContext;
use crate::exec::error::from_datafusion;
use crate::exec::rows::Executor;
use crate::exec::vector::aggregate::first_half;
use crate::exec::vector::lower::lower;

use super::part::Part;
use super::wire::{Page, Reply, decode, encode, encode_batches};

/// Parts that a node runs for others at one time; more are refused, and run where they came from.
const CURSORS_MAX: usize = 1_024;
/// Bytes of rows after which a page is sent.
const PAGE_BYTES: usize = 1 << 20;
/// A part is given up when nobody has asked for its next page for so long.
const ASKED_AFTER_MAX: Duration = Duration::from_secs(60);

/// What another node asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// To run a part under this number, and for its first page.
    Open(Number, Part),
    /// For the next page.
    Next(Number),
    /// To give it up.
    Close(Number),
}

/// Names a part that is run, among all nodes.
pub type Number = (u64, u64);

/// The parts that a node runs for others.
#[derive(Default)]
pub struct Cursors {
    running: Arc<Mutex<HashMap<Number, Arc<Cursor>>>>,
}

struct Cursor {
    pages: tokio::sync::Mutex<mpsc::Receiver<Result<Page, SqlError>>>,
    /// Makes the pages, one ahead.
    task: JoinHandle<()>,
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
                    Some(cursor) => self.next(number, Some(cursor)).await,
                    None => Reply::Refused("it runs too many parts of queries".into()),
                },
                Err(error) => Reply::Failed(error.into()),
            },
            Question::Next(number) => {
                let cursor = self.running.lock().get(&number).map(Arc::clone);
                self.next(number, cursor).await
            }
            Question::Close(number) => {
                self.running.lock().remove(&number);
                Reply::Page(Page::default())
            }
        };
        encode(&reply)
    }

    fn open(&self, number: Number, part: Part, cx: ExecContext) -> Option<Arc<Cursor>> {
        let mut running = self.running.lock();
        if running.len() >= CURSORS_MAX {
            return None;
        }
        let (sender, pages) = mpsc::channel(1);
        let all = Arc::clone(&self.running);
        let task = tokio::spawn(async move {
            if let Err(error) = run(&part, cx, &sender).await {
                // Nobody may be left to hear it.
                let _ = sender.send_timeout(Err(error), ASKED_AFTER_MAX).await;
            }
            // Its pages are in the channel; who has it reads them.
            drop(sender);
            tokio::time::sleep(ASKED_AFTER_MAX).await;
            all.lock().remove(&number);
        });
        let cursor = Arc::new(Cursor {
            pages: tokio::sync::Mutex::new(pages),
            task,
        });
        running.insert(number, Arc::clone(&cursor));
        Some(cursor)
    }

    async fn next(&self, number: Number, cursor: Option<Arc<Cursor>>) -> Reply {
        let page = match &cursor {
            Some(cursor) => cursor.pages.lock().await.recv().await,
            None => None,
        };
        let reply = match page {
            Some(Ok(page)) => Reply::Page(page),
            Some(Err(error)) => Reply::Failed(error.into()),
            None => Reply::Refused("the part of the query has been given up".into()),
        };
        if !matches!(&reply, Reply::Page(page) if page.read.is_none()) {
            self.running.lock().remove(&number);
        }
        reply
    }
}

/// Runs a part, and hands over its pages as they are asked for.
async fn run(
    part: &Part,
    cx: ExecContext,
    to: &mpsc::Sender<Result<Page, SqlError>>,
) -> Result<(), SqlError> {
    let (executor, read) = (Executor::new(cx), Arc::new(AtomicUsize::new(0)));
    let plan = part.work.plan(&part.spans, &read);
    let exec = match part.work.groups() {
        true => first_half(&executor, &plan).await?,
        false => lower(&executor, &plan).await?.exec,
    };
    let mut stream = exec
        .execute(0, executor.cx.runtime.task_context())
        .map_err(from_datafusion)?;
    let (mut batches, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        for batch in pieces(batch.map_err(from_datafusion)?) {
            bytes += bytes_of(&batch);
            batches.push(batch);
            if bytes >= PAGE_BYTES {
                let page = Page {
                    batches: encode_batches(&std::mem::take(&mut batches))?,
                    read: None,
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
    };
    // As above.
    let _ = to.send_timeout(Ok(page), ASKED_AFTER_MAX).await;
    Ok(())
}

fn bytes_of(batch: &RecordBatch) -> usize {
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

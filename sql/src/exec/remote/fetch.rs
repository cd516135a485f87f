//! Reading what other nodes do for a query.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, BoxStream, StreamExt, try_unfold};
use pontoon_kv::{NodeId, Txn};

use crate::error::{SqlError, SqlState};
use crate::exec::context::Runtime;
use crate::exec::error::into_datafusion;
use crate::exec::rows::Executor;
use crate::exec::vector::leaf::OwnExec;

use super::Fellows;
use super::account::PartAccount;
use super::part::Part;
use super::serve::{Number, Question};
use super::spread::Spread;
use super::wire::{Page, Reply, decode, decode_batches, encode};

/// Parts that are begun before their turn, so that nodes work side by side.
const AHEAD: usize = 4;
/// How often a node is told that a part is given up, until it answers.
const GIVEN_UP_MAX: usize = 3;
/// How long after it did not.
const GIVEN_UP_AGAIN: Duration = Duration::from_secs(1);

pub(super) type Batches = BoxStream<'static, DfResult<RecordBatch>>;

/// A part for another node.
#[derive(Clone)]
pub struct Away {
    /// That node.
    pub node: NodeId,
    /// What it does.
    pub part: Part,
    /// The same done here, should that node not do it; `None`: this node is asked for it then.
    pub instead: Option<Arc<dyn ExecutionPlan>>,
    /// Keeps account of it, where somebody wants to know.
    pub account: Option<Arc<PartAccount>>,
}

/// A part, wherever it is done.
pub enum Placed {
    /// Here.
    Here(Arc<dyn ExecutionPlan>),
    /// Elsewhere.
    Away(Away),
}

/// What the streams of an operator need.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) fellows: Fellows,
    pub(super) runtime: Arc<Runtime>,
    /// The transaction for which parts note what they read; shuffled rows do not tell.
    pub(super) txn: Option<Txn>,
    pub(super) read: Arc<AtomicUsize>,
    pub(super) schema: SchemaRef,
    /// The storage of which all rows are read.
    pub(super) counts: Option<u32>,
}

impl Reading {
    fn new(executor: &Executor, spread: &Spread, schema: SchemaRef) -> Self {
        let work = &spread.work;
        Self {
            fellows: spread.fellows.clone(),
            runtime: Arc::clone(&executor.cx.runtime),
            txn: Some(executor.cx.txn.clone()),
            read: Arc::clone(&spread.read),
            schema,
            counts: work.whole_table(),
        }
    }

    /// Notes at the end of `batches` how many rows the table has.
    fn counted(self, batches: Batches) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let end = stream::once(async move {
            if let Some(storage) = self.counts {
                let rows = self.read.load(Ordering::Relaxed);
                self.runtime.set_rows_of(storage, rows);
            }
            None
        });
        let all = batches.map(Some).chain(end);
        let all = all.filter_map(futures::future::ready);
        Box::pin(RecordBatchStreamAdapter::new(schema, all))
    }
}

/// An operator that gives the rows of `here` and of all parts, in any order.
pub fn gather(
    executor: &Executor,
    spread: &Spread,
    here: Arc<dyn ExecutionPlan>,
    away: Vec<Away>,
) -> Arc<dyn ExecutionPlan> {
    let schema = here.schema();
    let reading = Reading::new(executor, spread, Arc::clone(&schema));
    let away = Arc::new(away);
    let start = move |inputs: Vec<SendableRecordBatchStream>| {
        let mut all: Vec<Batches> = Vec::new();
        for part in away.iter() {
            all.push(open_later(&reading, part));
        }
        // Last, so that the others have their questions when this node begins to work.
        all.extend(inputs.into_iter().map(StreamExt::boxed));
        let all = stream::select_all(all).boxed();
        Ok(reading.clone().counted(all))
    };
    OwnExec::new("gather", schema, vec![here], Arc::new(start))
}

/// An operator that gives the rows of parts one after the other.
pub fn in_order(
    executor: &Executor,
    spread: &Spread,
    schema: SchemaRef,
    parts: Vec<Placed>,
) -> Arc<dyn ExecutionPlan> {
    let reading = Reading::new(executor, spread, Arc::clone(&schema));
    let parts = Arc::new(parts);
    let start = move |_: Vec<SendableRecordBatchStream>| {
        let (reading, parts) = (reading.clone(), Arc::clone(&parts));
        let own = reading.clone();
        let opened = (0..parts.len()).map(move |n| {
            let (reading, parts) = (own.clone(), Arc::clone(&parts));
            async move {
                match parts.get(n) {
                    Some(Placed::Here(exec)) => execute(&reading, exec),
                    Some(Placed::Away(away)) => open(&reading, away).await,
                    None => Ok(stream::empty().boxed()),
                }
            }
        });
        let rows = stream::iter(opened).buffered(AHEAD).flat_map(|part| {
            part.unwrap_or_else(|error| stream::once(async { Err(into_datafusion(error)) }).boxed())
        });
        Ok(reading.counted(rows.boxed()))
    };
    OwnExec::new("parts", schema, Vec::new(), Arc::new(start))
}

fn execute(reading: &Reading, exec: &Arc<dyn ExecutionPlan>) -> Result<Batches, SqlError> {
    let stream = exec.execute(0, reading.runtime.task_context());
    let stream = stream.map_err(crate::exec::error::from_datafusion)?;
    Ok(stream.boxed())
}

/// The rows of a part; it is opened when they are first asked for.
pub(super) fn open_later(reading: &Reading, away: &Away) -> Batches {
    let (reading, away) = (reading.clone(), away.clone());
    let opened = async move {
        match open(&reading, &away).await {
            Ok(batches) => batches,
            Err(error) => stream::once(async { Err(into_datafusion(error)) }).boxed(),
        }
    };
    stream::once(opened).flatten().boxed()
}

/// Has a part run elsewhere, or here when that node does not.
async fn open(reading: &Reading, away: &Away) -> Result<Batches, SqlError> {
    let mut cursor = Cursor {
        node: away.node,
        number: reading.runtime.next_part(),
        partition: None,
        fellows: reading.fellows.clone(),
        open: true,
        account: away.account.clone(),
    };
    if let Some(account) = &away.account {
        account.begin();
    }
    let question = Question::Open(cursor.number, away.part.clone());
    let mut first = cursor.page(&question).await?;
    if let Err(reason) = &first {
        if let Some(account) = &away.account {
            account.instead(reason);
        }
        tracing::info!(node = %away.node, reason, "a part of a query is run here instead");
        if let Some(instead) = &away.instead {
            cursor.open = false;
            return execute(reading, instead);
        }
        cursor.node = reading.fellows.me;
        first = cursor.page(&question).await?;
    }
    let first = match first {
        Ok(page) => page,
        Err(reason) => {
            cursor.open = false;
            return Err(lost(cursor.node, reason));
        }
    };
    let mut pages = Pages::of(cursor, reading.clone());
    pages.take(first)?;
    Ok(pages.batches())
}

/// A part that another node runs. Dropped before its end, it is given up there.
pub(super) struct Cursor {
    pub(super) node: NodeId,
    pub(super) number: Number,
    /// Of which partition, if its rows are shuffled.
    pub(super) partition: Option<u32>,
    pub(super) fellows: Fellows,
    pub(super) open: bool,
    pub(super) account: Option<Arc<PartAccount>>,
}

impl Cursor {
    /// Asks for a page, which comes with the bytes of the answer; the inner error says why there is
    /// none.
    async fn page(&self, question: &Question) -> Result<Result<(Page, usize), String>, SqlError> {
        match ask(&self.fellows, self.node, question).await? {
            Ok((Reply::Page(page), bytes)) => Ok(Ok((page, bytes))),
            Ok((Reply::Refused(reason), _)) | Err(reason) => Ok(Err(reason)),
            Ok((Reply::Failed(failure), _)) => Err(failure.into()),
            Ok(_) => Err(SqlError::internal("a page was asked for")),
        }
    }
}

/// What is said of a part that was lost, behind the name of its node.
const UNFINISHED: &str = "did not finish its part of the query";

/// The error of a statement that has lost a part.
pub(super) fn lost(node: NodeId, reason: String) -> SqlError {
    SqlError::new(SqlState::CANNOT_CONNECT_NOW, format!("{node} {UNFINISHED}"))
        .with_detail(reason)
        .with_hint("Run the statement again.")
}

/// Whether a statement has lost a part, here or at a node that needed it for its own.
pub fn is_lost(error: &SqlError) -> bool {
    error.state == SqlState::CANNOT_CONNECT_NOW && error.message.ends_with(UNFINISHED)
}

/// Asks a node; the reply comes with its bytes, the inner error says why there is none.
pub(super) async fn ask(
    fellows: &Fellows,
    node: NodeId,
    question: &Question,
) -> Result<Result<(Reply, usize), String>, SqlError> {
    match fellows.others.ask(node, encode(question)?).await {
        Ok(reply) => Ok(Ok((decode(&reply)?, reply.len()))),
        Err(reason) => Ok(Err(reason)),
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let question = match self.partition {
            None => Question::Close(self.number),
            Some(partition) => Question::Leave(self.number, partition),
        };
        if self.open
            && let Ok(question) = encode(&question)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (fellows, node) = (self.fellows.clone(), self.node);
            runtime.spawn(async move {
                // Should it not arrive, the other node gives the part up by itself after a while.
                for _ in 0..GIVEN_UP_MAX {
                    if fellows.others.ask(node, question.clone()).await.is_ok() {
                        return;
                    }
                    tokio::time::sleep(GIVEN_UP_AGAIN).await;
                }
            });
        }
    }
}

/// The rows of a part, page by page.
pub(super) struct Pages {
    cursor: Cursor,
    ready: VecDeque<RecordBatch>,
    reading: Reading,
}

impl Pages {
    pub(super) fn of(cursor: Cursor, reading: Reading) -> Self {
        Self {
            cursor,
            ready: VecDeque::new(),
            reading,
        }
    }

    /// All of them.
    pub(super) fn batches(self) -> Batches {
        let batches = try_unfold(self, |mut pages| async move {
            let batch = pages.next().await.map_err(into_datafusion)?;
            Ok(batch.map(|batch| (batch, pages)))
        });
        batches.boxed()
    }

    fn take(&mut self, (page, bytes): (Page, usize)) -> Result<(), SqlError> {
        let batches = decode_batches(&page.batches, &self.reading.schema)?;
        if let Some(account) = &self.cursor.account {
            let rows = batches.iter().map(|batch| batch.num_rows() as u64);
            account.page(rows.sum(), bytes as u64, page.read);
        }
        if let Some(txn) = &self.reading.txn {
            txn.note_reads(page.reads)?;
        }
        self.ready.extend(batches);
        if let Some(read) = page.read {
            self.cursor.open = false;
            let read = usize::try_from(read).unwrap_or(usize::MAX);
            self.reading.read.fetch_add(read, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>, SqlError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            if !self.cursor.open {
                return Ok(None);
            }
            let question = match self.cursor.partition {
                None => Question::Next(self.cursor.number),
                Some(partition) => Question::Take(self.cursor.number, partition),
            };
            match self.cursor.page(&question).await? {
                Ok(page) => self.take(page)?,
                Err(reason) => return Err(lost(self.cursor.node, reason)),
            }
        }
    }
}

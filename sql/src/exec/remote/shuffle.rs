//! Running a [`Shuffled`]: parts that read tables and shuffle their rows, and parts that get them.
//!
//! First the parts that read are opened, then those that have a partition each, which ask for pages.
//! Nothing passes through this node but what those make of it. The parts that read are kept while
//! this node wants them, and closed by it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::{join_all, try_join_all};
use futures::stream::{self, StreamExt};
use pontoon_kv::NodeId;
use tokio::task::JoinHandle;

use crate::error::SqlError;
use crate::exec::context::Runtime;
use crate::exec::error::into_datafusion;
use crate::exec::rows::Executor;
use crate::exec::vector::leaf::OwnExec;

use super::Fellows;
use super::account::PartAccount;
use super::distribution::Shuffled;
use super::fetch::{Away, Batches, Reading, ask, lost, open_later};
use super::part::{Inlet, Part};
use super::serve::{KEPT_EVERY, Number, Question};
use super::spread::{Placement, Spread};
use super::wire::{Reply, encode};
use super::work::Half;

/// An operator that gives what the parts make of their partitions, in any order.
pub fn shuffle(
    executor: &Executor,
    shuffled: Shuffled,
    schema: SchemaRef,
) -> Arc<dyn ExecutionPlan> {
    let (runtime, own) = (Arc::clone(&executor.cx.runtime), Arc::clone(&schema));
    let shuffled = Arc::new(shuffled);
    let start = move |_: Vec<SendableRecordBatchStream>| {
        let (runtime, schema) = (Arc::clone(&runtime), Arc::clone(&own));
        let shuffled = Arc::clone(&shuffled);
        let opened = async move {
            match open(&shuffled, &runtime, &schema).await {
                Ok(batches) => batches,
                Err(error) => stream::once(async { Err(into_datafusion(error)) }).boxed(),
            }
        };
        let batches = stream::once(opened).flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&own), batches)) as _)
    };
    OwnExec::new("shuffle", schema, Vec::new(), Arc::new(start))
}

/// A part that shuffles.
struct Begun {
    node: NodeId,
    number: Number,
    account: Option<Arc<PartAccount>>,
    /// Which side it reads.
    side: usize,
}

/// The parts that read. They are closed when this is dropped.
struct Sources {
    begun: Vec<Begun>,
    fellows: Fellows,
    keeper: Option<JoinHandle<()>>,
}

impl Drop for Sources {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        for begun in &self.begun {
            if let Ok(question) = encode(&Question::Close(begun.number)) {
                // Should it not arrive, the other node gives the part up by itself after a while.
                runtime.spawn(self.fellows.others.ask(begun.node, question));
            }
        }
    }
}

/// Opens all parts; gives the rows of those that have partitions.
async fn open(
    shuffled: &Shuffled,
    runtime: &Arc<Runtime>,
    schema: &SchemaRef,
) -> Result<Batches, SqlError> {
    let fellows = &shuffled.fellows;
    let mut sources = Sources {
        begun: Vec::new(),
        fellows: fellows.clone(),
        keeper: None,
    };
    let mut from = Vec::new();
    for (number, side) in shuffled.sides.iter().enumerate() {
        let parts = parts_of(side).into_iter();
        let begun = parts.map(|placed| begin(fellows, runtime, placed, number));
        let begun = try_join_all(begun).await?;
        from.push(begun.iter().map(|b| (b.node, b.number)).collect::<Vec<_>>());
        sources.begun.extend(begun);
    }
    let kept: Vec<_> = from.iter().flatten().copied().collect();
    sources.keeper = Some(tokio::spawn(keep(fellows.clone(), kept)));

    let reading = Reading {
        fellows: fellows.clone(),
        runtime: Arc::clone(runtime),
        txn: None,
        read: Arc::default(),
        schema: Arc::clone(schema),
        counts: None,
    };
    let each = shuffled.partitions.iter().zip(0..);
    let each = each.map(|(node, partition)| (*node, partition..partition + 1));
    let mut partitions: Vec<(NodeId, Range<u32>)> = each.collect();
    if shuffled.work.half() == Some(Half::Second) && few(fellows, &sources.begun).await? {
        let all = 0..u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        partitions = vec![(fellows.me, all)];
    }
    let parts = partitions.into_iter().map(|(node, partitions)| {
        open_later(&reading, &away_of(shuffled, &from, node, partitions))
    });
    let rows = stream::select_all(parts.collect::<Vec<_>>());
    let tables = shuffled.sides.iter().map(|side| Table {
        storage: side.work.whole_table(),
        read: Arc::clone(&side.read),
        all: true,
    });
    let tables = tables.collect();
    let runtime = Arc::clone(runtime);
    let end = stream::once(async move {
        for table in finish(&mut sources, tables).await {
            if let Some(storage) = table.storage.filter(|_| table.all) {
                runtime.set_rows_of(storage, table.read.load(Ordering::Relaxed));
            }
        }
        None
    });
    let all = rows.map(Some).chain(end);
    Ok(all.filter_map(futures::future::ready).boxed())
}

/// Whether parts have few groups all together: they are not worth being merged by several nodes.
async fn few(fellows: &Fellows, parts: &[Begun]) -> Result<bool, SqlError> {
    let asked = parts.iter().map(|part| async move {
        match ask(fellows, part.node, &Question::Few(part.number)).await? {
            Ok((Reply::Few(few), _)) => Ok(few),
            Ok((Reply::Refused(reason), _)) | Err(reason) => Err(lost(part.node, reason)),
            Ok(_) => Err(SqlError::internal("a part gives an odd answer")),
        }
    });
    Ok(try_join_all(asked).await?.into_iter().all(|few| few))
}

/// The part that has some partitions.
fn away_of(
    shuffled: &Shuffled,
    from: &[Vec<(NodeId, Number)>],
    node: NodeId,
    partitions: Range<u32>,
) -> Away {
    let given = from.iter().map(|from| Inlet::Shuffled {
        from: from.clone(),
        partitions: partitions.clone(),
    });
    let account = shuffled.account.as_ref();
    Away {
        node,
        part: Part {
            work: Arc::clone(&shuffled.work),
            read_at: shuffled.read_at,
            notes_reads: false,
            spans: Vec::new(),
            inlets: given.chain(shuffled.inlets.iter().cloned()).collect(),
        },
        instead: None,
        account: account.map(|account| account.part(node, Vec::new())),
    }
}

type Placed = (NodeId, Part, Option<Arc<PartAccount>>);

/// The parts of a side, that of this node among them.
fn parts_of(side: &Spread) -> Vec<Placed> {
    let here = side.here();
    let own = (!here.spans.is_empty()).then_some((side.fellows.me, here, None));
    let away = side.away().into_iter();
    let away = away.map(|(node, Placement { part, account, .. })| (node, part, account));
    away.chain(own).collect()
}

/// Has a part be ready to read at a node, or here when that node is not.
async fn begin(
    fellows: &Fellows,
    runtime: &Runtime,
    (node, part, account): Placed,
    side: usize,
) -> Result<Begun, SqlError> {
    let number = runtime.next_part();
    if let Some(account) = &account {
        account.begin();
    }
    let question = Question::Open(number, part);
    let mut begun = Begun {
        node,
        number,
        account,
        side,
    };
    let reason = match ask(fellows, node, &question).await? {
        Ok((Reply::Page(_), _)) => return Ok(begun),
        Ok((Reply::Failed(failure), _)) => return Err(failure.into()),
        Ok((Reply::Refused(reason), _)) | Err(reason) => reason,
        Ok(_) => "it gives an odd answer".to_owned(),
    };
    tracing::info!(%node, reason, "a part of a query is run here instead");
    if let Some(account) = begun.account.take() {
        account.instead(&reason);
    }
    begun.node = fellows.me;
    match ask(fellows, fellows.me, &question).await? {
        Ok((Reply::Page(_), _)) => Ok(begun),
        Ok((Reply::Failed(failure), _)) => Err(failure.into()),
        Ok((Reply::Refused(reason), _)) | Err(reason) => Err(lost(fellows.me, reason)),
        Ok(_) => Err(SqlError::internal("a part gives an odd answer")),
    }
}

/// Keeps parts from being given up, as those that get their rows may be busy with others.
async fn keep(fellows: Fellows, parts: Vec<(NodeId, Number)>) {
    loop {
        tokio::time::sleep(KEPT_EVERY).await;
        let keep = |(node, number): &(NodeId, Number)| {
            let question = encode(&Question::Keep(*number)).ok()?;
            Some(fellows.others.ask(*node, question))
        };
        // Whoever does not hear it is asked again.
        let _ = join_all(parts.iter().filter_map(keep)).await;
    }
}

/// What was read of the table of a side.
struct Table {
    /// Its storage, if all of it is to be read.
    storage: Option<u32>,
    read: Arc<AtomicUsize>,
    /// All parts have read all.
    all: bool,
}

/// Asks the parts what became of them, and closes them.
async fn finish(sources: &mut Sources, mut tables: Vec<Table>) -> Vec<Table> {
    let fellows = sources.fellows.clone();
    for begun in std::mem::take(&mut sources.begun) {
        let Some(table) = tables.get_mut(begun.side) else {
            continue;
        };
        match ask(&fellows, begun.node, &Question::Finish(begun.number)).await {
            Ok(Ok((Reply::Finished(finished), _))) => {
                let read = usize::try_from(finished.read).unwrap_or(usize::MAX);
                table.read.fetch_add(read, Ordering::Relaxed);
                table.all &= finished.all;
                if let Some(account) = &begun.account {
                    account.shuffled(finished.rows, finished.bytes, finished.read);
                }
            }
            _ => table.all = false,
        }
    }
    tables
}

//! [`Distribution`]: a draft with what it needs, ready to be run.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use pontoon_kv::{NodeId, Timestamp};

use crate::error::SqlError;
use crate::exec::error::from_datafusion;
use crate::exec::rows::Executor;
use crate::exec::vector::lower::{lower, with_columns};
use crate::plan::node::Plan;

use super::Fellows;
use super::account::SpreadAccount;
pub use super::draft::Wanted;
use super::draft::{Base, Draft, Known};
use super::part::Inlet;
use super::spread::{Led, Spread};
use super::wire::encode_batches;
use super::work::Work;

/// How nodes do a plan side by side.
pub enum Distribution {
    /// Each with the rows that it leads.
    Spread(Spread),
    /// Each with rows that all have shuffled.
    Shuffled(Shuffled),
}

/// Rows of tables, or groups of one, that are shuffled, and what is done with each partition.
pub struct Shuffled {
    /// What is done with a partition.
    pub work: Arc<Work>,
    /// The tables.
    pub sides: Vec<Spread>,
    /// Where the partitions are.
    pub partitions: Vec<NodeId>,
    /// The other nodes.
    pub fellows: Fellows,
    pub(super) read_at: Timestamp,
    /// What every part is given besides its partition.
    pub(super) inlets: Vec<Inlet>,
    pub(super) account: Option<Arc<SpreadAccount>>,
}

/// What the scans of a draft read.
enum Ground {
    Scan(Led),
    Shuffled(Vec<Led>),
}

impl Ground {
    /// Of a draft, if other nodes lead something of it.
    fn of(executor: &Executor, draft: &Draft<'_>, me: NodeId) -> Result<Option<Self>, SqlError> {
        let led = |draft: &Draft<'_>| match draft.base {
            Base::Scan(scan) => Led::by(executor, scan, me),
            Base::Shuffled(_) => Ok(None),
        };
        let ground = match &draft.base {
            Base::Scan(_) => led(draft)?.map(Self::Scan),
            Base::Shuffled(sides) => {
                let all: Vec<Option<Led>> = sides.iter().map(led).collect::<Result<_, _>>()?;
                all.into_iter().collect::<Option<_>>().map(Self::Shuffled)
            }
        };
        Ok(ground.filter(|ground| ground.others().next().is_some()))
    }

    fn others(&self) -> impl Iterator<Item = NodeId> {
        let led = match self {
            Self::Scan(led) => std::slice::from_ref(led),
            Self::Shuffled(all) => all.as_slice(),
        };
        led.iter().flat_map(Led::others)
    }
}

/// How nodes do a plan side by side, if other nodes lead something of what it reads and can do it.
/// What every part is given is run now.
pub async fn distribution(
    executor: &Arc<Executor>,
    plan: &Plan,
    wanted: Wanted,
) -> Result<Option<Distribution>, SqlError> {
    let mut known = nothing_known(executor);
    loop {
        let Some((fellows, draft, ground)) = drafted(executor, plan, &wanted, &known)? else {
            return Ok(None);
        };
        if run_needs(executor, &draft, &mut known).await? {
            return distributed(executor, fellows, draft, ground, &known).map(Some);
        }
    }
}

fn nothing_known(executor: &Executor) -> Known {
    let cx = &executor.cx;
    Known::new(cx.txn.notes_reads(), cx.broadcast_max)
}

/// The same without running anything, for EXPLAIN: enters the parts in the account, and gives the
/// plans that would be run before. `None` if nodes do not do it side by side.
pub fn placed<'p>(
    executor: &Executor,
    plan: &'p Plan,
    wanted: Wanted,
) -> Result<Option<Vec<&'p Plan>>, SqlError> {
    let known = nothing_known(executor);
    let Some((fellows, draft, ground)) = drafted(executor, plan, &wanted, &known)? else {
        return Ok(None);
    };
    let needs = draft.all_needs();
    // Each part that is placed is entered.
    match distributed(executor, fellows, draft, ground, &known)? {
        Distribution::Spread(spread) if matches!(wanted, Wanted::Scan) => drop(spread.in_order()),
        Distribution::Spread(spread) => drop(spread.away()),
        Distribution::Shuffled(shuffled) => {
            for side in &shuffled.sides {
                drop(side.away());
            }
            if let Some(account) = &shuffled.account {
                for partition in &shuffled.partitions {
                    account.part(*partition, Vec::new());
                }
            }
        }
    }
    Ok(Some(needs))
}

/// The draft of a plan, and what its scans read.
fn drafted<'p>(
    executor: &Executor,
    plan: &'p Plan,
    wanted: &Wanted,
    known: &Known,
) -> Result<Option<(Fellows, Draft<'p>, Ground)>, SqlError> {
    let cx = &executor.cx;
    // What the transaction has written, its changes to the schema among that, is known here only.
    // And a part is not done in parts again.
    let may = cx.distribute && !cx.txn.has_writes() && executor.inlets.is_empty();
    let Some(fellows) = cx.runtime.fellows().filter(|_| may) else {
        return Ok(None);
    };
    let Some(draft) = Draft::of(plan, wanted.clone(), &cx.params, known) else {
        return Ok(None);
    };
    let ground = Ground::of(executor, &draft, fellows.me)?;
    Ok(ground.map(|ground| (fellows, draft, ground)))
}

/// Runs what every part is given. False when some of it is too large, which is known then.
async fn run_needs(
    executor: &Arc<Executor>,
    draft: &Draft<'_>,
    known: &mut Known,
) -> Result<bool, SqlError> {
    for need in draft.all_needs() {
        if known.rows(need).is_some() {
            continue;
        }
        match small(executor, need).await? {
            Some(rows) => known.are(need, rows),
            None => {
                known.is_large(need);
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The rows of a plan as a stream of Arrow, unless they are too many to be sent to every node.
async fn small(executor: &Arc<Executor>, plan: &Plan) -> Result<Option<Bytes>, SqlError> {
    let lowered = lower(executor, plan).await?;
    let exec = with_columns(lowered, &plan.columns)?;
    let stream = exec.execute(0, executor.cx.runtime.task_context());
    let mut stream = stream.map_err(from_datafusion)?;
    let (mut batches, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        executor.cx.eval.check_cancelled()?;
        let batch = batch.map_err(from_datafusion)?;
        bytes += super::serve::bytes_of(&batch);
        if bytes > executor.cx.broadcast_max {
            return Ok(None);
        }
        batches.push(batch);
    }
    encode_batches(&batches).map(Some)
}

fn distributed(
    executor: &Executor,
    fellows: Fellows,
    draft: Draft<'_>,
    ground: Ground,
    known: &Known,
) -> Result<Distribution, SqlError> {
    // Only where nothing is run some of them are not known.
    let given = |needs: &[&Plan]| -> Vec<Inlet> {
        let rows = needs.iter().map(|need| known.rows(need).cloned());
        rows.map(|rows| Inlet::Rows(rows.unwrap_or_default()))
            .collect()
    };
    let partitions: BTreeSet<NodeId> = ground.others().chain([fellows.me]).collect();
    let Draft { work, base, needs } = draft;
    let inlets = given(&needs);
    Ok(match (base, ground) {
        (Base::Shuffled(sides), Ground::Shuffled(led)) => {
            let partitions: Vec<NodeId> = partitions.into_iter().collect();
            let side = |mut side: Draft<'_>, led: Led| {
                if let Some(shuffle) = &mut side.work.shuffle {
                    shuffle.partitions = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
                }
                let inlets = given(&side.needs);
                Spread::new(executor, fellows.clone(), side.work, led, inlets)
            };
            let sides = sides
                .into_iter()
                .zip(led)
                .map(|(draft, led)| side(draft, led));
            let sides = sides.collect::<Result<_, _>>()?;
            let account = executor.cx.account.as_ref();
            let read = Arc::default();
            let account =
                account.map(|account| account.open(work.title(), fellows.me, Vec::new(), &read));
            Distribution::Shuffled(Shuffled {
                work: Arc::new(work),
                sides,
                partitions,
                fellows,
                read_at: executor.cx.txn.read_timestamp(),
                inlets,
                account,
            })
        }
        (Base::Scan(_), Ground::Scan(led)) => {
            Distribution::Spread(Spread::new(executor, fellows, work, led, inlets)?)
        }
        _ => return Err(SqlError::internal("a draft has another ground")),
    })
}

//! Garbage collection as a background job: moves the safe point of the ranges that this node
//! leads, and removes what lies below the safe point from every replica on this node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use crate::db::node::Node;
use crate::error::Error;
use crate::mvcc;
use crate::range::{Body, RangeState, Replica};
use crate::routing::plain;
use crate::timestamp::Timestamp;

/// Entries looked at while applies are kept out.
const STEP_ENTRIES: usize = 512;

/// Runs for as long as the node lives.
pub(super) async fn keep_clean(node: Weak<Node>) {
    // The number of changes of each range at its last pass.
    let mut passed = BTreeMap::new();
    loop {
        let Some(strong) = node.upgrade() else { return };
        let every = Duration::from_millis(strong.config.gc_interval_ms.max(1));
        let runtime = strong.runtime.clone();
        drop(strong);
        runtime.sleep(every).await;
        let Some(strong) = node.upgrade() else { return };
        // Removal writes first and frees later.
        if strong.room.is_tight() {
            continue;
        }
        let replicas = strong.replicas();
        let held: BTreeSet<u64> = replicas
            .iter()
            .map(|replica| replica.state().range)
            .collect();
        passed.retain(|range, _| held.contains(range));
        for replica in replicas {
            let passed = passed.entry(replica.state().range).or_insert(0);
            let changes = replica.state().changes.load(Ordering::Acquire);
            if changes == *passed {
                continue;
            }
            if let Err(error) = strong.collect(&replica).await {
                tracing::debug!(%error, "garbage collection has to wait");
            }
            // The safe point itself is a change.
            *passed = replica.state().changes.load(Ordering::Acquire);
        }
    }
}

impl Node {
    /// Moves the safe point of a range, if this node leads it, and removes what lies below.
    /// Returns how many entries were removed.
    pub(crate) async fn collect(&self, replica: &Replica) -> Result<usize, Error> {
        if replica.leads() && !replica.state().is_frozen() {
            let oldest = self.oldest_active();
            let now = self.timestamps.now().await?;
            let kept = now.millis().saturating_sub(self.config.retention_ms);
            // Invariant: the safe point never passes a timestamp that is read at.
            let safe_point = Timestamp::from_millis(kept).min(oldest.unwrap_or(Timestamp::ZERO));
            if safe_point > replica.state().safe_point() {
                let proposed = replica.propose(Body::SafePoint(safe_point)).await;
                proposed.map_err(plain)?;
            }
        }
        let mut from = None;
        let mut removed = 0;
        loop {
            let (state, start) = (Arc::clone(replica.state()), from.take());
            let step = self.runtime.blocking(move || step(&state, start)).await;
            let Some(step) = step else { return Ok(removed) };
            let (count, next) = step?;
            removed += count;
            if next.is_none() {
                return Ok(removed);
            }
            from = next;
        }
    }
}

/// Removes garbage among the next entries; returns how much, and where to go on.
fn step(state: &RangeState, from: Option<Bytes>) -> Result<(usize, Option<Bytes>), Error> {
    let _gate = state.writes.lock();
    // Under the lock: from when it is frozen on, its rows may be another's at any moment.
    let descriptor = state.descriptor();
    if descriptor.frozen.is_some() {
        return Ok((0, None));
    }
    let span = descriptor.span;
    let bounds = (&*span.start, &*span.end);
    let safe_point = state.safe_point();
    let done = mvcc::collect(
        &*state.engine,
        bounds,
        from.as_deref(),
        safe_point,
        STEP_ENTRIES,
    )?;
    let removed = done.batch.len();
    if removed > 0 {
        state.engine.write(done.batch)?;
    }
    Ok((removed, done.next))
}

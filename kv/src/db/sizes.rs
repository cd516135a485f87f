//! Splitting of ranges that have become too large, or are used too much.
//!
//! Nobody counts bytes exactly as they are written: versions replace each other, and garbage goes.
//! A range is measured, by reading it once, when enough was written to it since it was measured
//! last; a small part of its bytes is read for each that is written. After a restart, or when it has
//! come from elsewhere, nobody knows its size. Whoever leads it then reads as much of it as tells
//! whether it is small.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use crate::db::Db;
use crate::db::node::Node;
use crate::error::Error;
use crate::keys;
use crate::range::{RangeState, Replica};
use crate::storage::Space;

/// How often a node looks at the ranges that it leads.
const EVERY: Duration = Duration::from_millis(1_000);
/// A range is split that has been used too much for so long.
const HOT_FOR: Duration = Duration::from_secs(20);
/// Keys that are remembered while a range is measured, at equal distances.
const MARKS: u64 = 64;
/// A range is small that has one part in so many of the bytes at which one is split. So much is read
/// in one round of those whose size nobody knows.
const SMALL: u64 = 4;

/// Runs for as long as the node lives.
pub(super) async fn keep_small(node: Weak<Node>) {
    let mut looked = Duration::ZERO;
    // Ranges that are used too much, and since when.
    let mut hot = BTreeMap::new();
    loop {
        let Some(strong) = node.upgrade() else { return };
        let runtime = strong.runtime.clone();
        drop(strong);
        runtime.sleep(EVERY).await;
        let Some(strong) = node.upgrade() else { return };
        // With one node there is nowhere to go: parts would only cost.
        let alone = strong.book.data_nodes() < 2;
        let now = runtime.monotonic();
        let passed = now.saturating_sub(looked);
        looked = now;
        let mut still_hot = BTreeMap::new();
        let mut read = 0;
        for replica in strong.replicas() {
            let range = replica.state().range;
            let requests = replica.state().load.look(passed);
            if alone {
                continue;
            }
            let mut kept = strong.keep_range_small(&replica).await;
            if read < strong.config.split_bytes / SMALL {
                kept = kept.and(strong.know_size(&replica, &mut read).await);
            }
            if strong.is_hot(&replica, requests) {
                let since = hot.get(&range).copied().unwrap_or(now);
                still_hot.insert(range, since);
                if now.saturating_sub(since) >= HOT_FOR {
                    kept = kept.and(strong.part_load(&replica, requests).await);
                }
            }
            if let Err(error) = kept {
                tracing::debug!(range, %error, "the range could not be split");
            }
        }
        hot = still_hot;
    }
}

impl Node {
    async fn keep_range_small(&self, replica: &Replica) -> Result<(), Error> {
        let limit = self.config.split_bytes.max(1);
        let state = replica.state();
        let written = state.written.load(Ordering::Relaxed);
        let system = keys::system_span().contains(&state.descriptor().span.start);
        let serves = replica.leads() && !state.is_frozen();
        if system || written < limit / 4 || !serves {
            return Ok(());
        }
        let measured = {
            let state = Arc::clone(state);
            let measure = move || measure(&state, limit, u64::MAX);
            self.runtime.blocking(measure).await.unwrap_or(Ok(None))?
        };
        state.written.fetch_sub(written, Ordering::Relaxed);
        let (Some(middle), Some(node)) = (measured, self.myself.upgrade()) else {
            return Ok(());
        };
        tracing::info!(
            range = state.range,
            "splitting a range that has become too large"
        );
        Db::over(node).split_at(&middle).await?;
        // Its halves may be too large too.
        for key in [&state.descriptor().span.start, &middle] {
            if let Some(half) = self.ranges.at(key) {
                half.state().written.fetch_add(limit, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

impl Node {
    /// Measures a range that this node leads, if that was never done here; up to what is small.
    async fn know_size(&self, replica: &Replica, read: &mut u64) -> Result<(), Error> {
        let state = Arc::clone(replica.state());
        if state.measured.load(Ordering::Relaxed) || !replica.leads() || state.is_frozen() {
            return Ok(());
        }
        let most = self.config.split_bytes / SMALL;
        let written = state.written.load(Ordering::Relaxed);
        let measured = self.runtime.blocking(move || {
            measure(&state, u64::MAX, most)?;
            Ok::<_, Error>(state.bytes.load(Ordering::Relaxed))
        });
        *read += measured.await.unwrap_or(Ok(0))?;
        let known = &replica.state().written;
        known.fetch_sub(written, Ordering::Relaxed);
        Ok(())
    }

    fn is_hot(&self, replica: &Replica, requests: u64) -> bool {
        let state = replica.state();
        let system = keys::system_span().contains(&state.descriptor().span.start);
        let limit = self.config.split_requests;
        limit > 0 && requests > limit && !system && replica.leads()
    }

    /// Splits a range that is used too much where its load can be parted, if it can.
    async fn part_load(&self, replica: &Replica, requests: u64) -> Result<(), Error> {
        let state = replica.state();
        let middle = state.load.middle();
        let inner = |key: &Bytes| {
            let descriptor = state.descriptor();
            descriptor.serves(key) && descriptor.span.start < *key
        };
        let (Some(middle), Some(node)) = (middle.filter(inner), self.myself.upgrade()) else {
            return Ok(());
        };
        let range = state.range;
        tracing::info!(range, requests, "splitting a range that is used much");
        Db::over(node).split_at(&middle).await
    }

    /// Measures a range and says how many bytes it holds, roughly.
    pub(super) async fn bytes_of(&self, replica: &Replica) -> Result<u64, Error> {
        let state = Arc::clone(replica.state());
        let written = state.written.load(Ordering::Relaxed);
        let measured = self.runtime.blocking(move || {
            measure(&state, u64::MAX, u64::MAX)?;
            Ok::<_, Error>(state.bytes.load(Ordering::Relaxed))
        });
        let bytes = measured.await.unwrap_or(Ok(u64::MAX))?;
        replica
            .state()
            .written
            .fetch_sub(written, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// Measures a range, up to `most` bytes; returns the key in its middle when it is larger than `limit`
/// bytes.
fn measure(state: &RangeState, limit: u64, most: u64) -> Result<Option<Bytes>, Error> {
    let span = state.descriptor().span;
    let snapshot = state.engine.snapshot();
    let mut rows = snapshot.scan(Space::Kv, &span.start, &span.end, false);
    let (mut bytes, mut next) = (0_u64, 0_u64);
    let step = (limit / MARKS).max(1);
    let mut marks: Vec<(u64, Bytes)> = Vec::new();
    rows.for_each(&mut |key, value| {
        if bytes >= next {
            marks.push((bytes, Bytes::copy_from_slice(key)));
            next = bytes + step;
        }
        bytes += (key.len() + value.len()) as u64;
        bytes < most
    })?;
    state.bytes.store(bytes, Ordering::Relaxed);
    state.measured.store(true, Ordering::Relaxed);
    if bytes <= limit {
        return Ok(None);
    }
    let middle = marks.into_iter().find(|(at, _)| *at >= bytes / 2);
    Ok(middle.map(|(_, key)| key).filter(|key| *key > span.start))
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::range::{Beginning, Descriptor};
    use crate::storage::{Engine, MemoryEngine, WriteBatch};

    #[test]
    fn a_size_is_known_from_the_beginning_or_when_it_was_measured() {
        let engine = Arc::new(MemoryEngine::default());
        let open = || {
            let descriptor = Descriptor {
                range: 7,
                generation: 1,
                span: keys::user_span(),
                frozen: None,
            };
            let (news, _) = unbounded_channel();
            let engine = Arc::clone(&engine) as Arc<dyn Engine>;
            RangeState::open(engine, Beginning::Empty(descriptor), news).unwrap()
        };
        assert_eq!(open().size(), 1, "it has nothing");
        let mut batch = WriteBatch::default();
        let start = keys::user_span().start;
        for n in 0..100_u8 {
            let key = [start.as_ref(), &[n]].concat();
            batch.put(Space::Kv, key, vec![0; 100]);
        }
        engine.write(batch).unwrap();
        let state = open();
        assert_eq!(state.size(), 0, "nobody knows");
        measure(&state, u64::MAX, 1_000).unwrap();
        assert!((1_000..1_200).contains(&state.size()), "{}", state.size());
        measure(&state, u64::MAX, u64::MAX).unwrap();
        assert!(state.size() >= 10_000, "{}", state.size());
    }
}

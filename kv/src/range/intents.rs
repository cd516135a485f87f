//! [`Intents`]: the intents of a range in memory, so that readers never look for them in the store.
//!
//! Every replica has it: rebuilt when the replica is opened or a snapshot is installed, and kept
//! while entries are applied. It holds who wrote an intent and where that is decided; the value lies
//! in the store.
//!
//! Invariant: an intent is here before the latches of its prewrite end, and until the version that
//! it became, if it did, can be read.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::concurrency::ReadSpan;
use crate::error::Error;
use crate::keys::meta;
use crate::mvcc::Intent;
use crate::storage::{Engine, Space};
use crate::timestamp::Timestamp;
use crate::txn::Span;

#[derive(Clone, Debug)]
struct Head {
    start: Timestamp,
    primary: Bytes,
}

/// An intent of another transaction that is in somebody's way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Foreign {
    /// Its key.
    pub key: Bytes,
    /// Its transaction.
    pub start: Timestamp,
    /// The key at which that is decided.
    pub primary: Bytes,
}

/// The intents of a range.
#[derive(Debug, Default)]
pub(crate) struct Intents {
    by_key: RwLock<BTreeMap<Bytes, Head>>,
    /// Their number, to spare everybody the lock while there is none.
    count: AtomicUsize,
    /// Some have gone.
    gone: Notify,
    /// A fault that the simulator must find: readers do not see them.
    #[cfg(test)]
    pub(crate) blind: std::sync::atomic::AtomicBool,
}

impl Intents {
    /// Reads the intents of a span from the store, in place of what is known.
    pub(crate) fn load(&self, engine: &dyn Engine, span: &Span) -> Result<(), Error> {
        let (from, to) = (meta::intent(&span.start), meta::intent(&span.end));
        let mut rows = engine.snapshot().scan(Space::Meta, &from, &to, false);
        let mut found = BTreeMap::new();
        while let Some((key, stored)) = rows.next()? {
            let Intent { start, primary, .. } = Intent::decode(stored)?;
            found.insert(meta::intent_key(&key), Head { start, primary });
        }
        let mut by_key = self.by_key.write();
        self.count.store(found.len(), Ordering::SeqCst);
        *by_key = found;
        drop(by_key);
        self.gone.notify_waiters();
        Ok(())
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Number of intents.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn add<'a>(
        &self,
        start: Timestamp,
        primary: &Bytes,
        keys: impl Iterator<Item = &'a Bytes>,
    ) {
        let mut by_key = self.by_key.write();
        for key in keys {
            let head = Head {
                start,
                primary: primary.clone(),
            };
            let before = by_key.insert(key.clone(), head);
            debug_assert!(
                before.is_none_or(|before| before.start == start),
                "Invariant: a key has one intent"
            );
        }
        self.count.store(by_key.len(), Ordering::SeqCst);
    }

    pub(crate) fn remove<'a>(&self, start: Timestamp, keys: impl Iterator<Item = &'a Bytes>) {
        let mut by_key = self.by_key.write();
        for key in keys {
            if by_key.get(key).is_some_and(|head| head.start == start) {
                by_key.remove(key);
            }
        }
        self.count.store(by_key.len(), Ordering::SeqCst);
        drop(by_key);
        self.gone.notify_waiters();
    }

    /// Forgets those outside of a span.
    pub(crate) fn keep(&self, span: &Span) {
        if self.is_empty() {
            return;
        }
        let mut by_key = self.by_key.write();
        by_key.retain(|key, _| span.contains(key));
        self.count.store(by_key.len(), Ordering::SeqCst);
        drop(by_key);
        self.gone.notify_waiters();
    }

    /// The first intent in `read` of a transaction other than `own` that began before `before`.
    pub(crate) fn foreign(
        &self,
        read: &ReadSpan,
        own: Timestamp,
        before: Timestamp,
    ) -> Option<Foreign> {
        if self.is_empty() {
            return None;
        }
        let by_key = self.by_key.read();
        let counts = |(_, head): &(&Bytes, &Head)| head.start != own && head.start < before;
        let found = match read {
            ReadSpan::Point(key) => by_key.get_key_value(key).filter(counts),
            ReadSpan::Range(span) if span.start < span.end => by_key
                .range::<Bytes, _>((Bound::Included(&span.start), Bound::Excluded(&span.end)))
                .find(counts),
            ReadSpan::Range(_) => None,
        };
        found.map(|(key, head)| Foreign {
            key: key.clone(),
            start: head.start,
            primary: head.primary.clone(),
        })
    }

    /// Whether `key` has an intent of the transaction.
    pub(crate) fn has(&self, key: &[u8], start: Timestamp) -> bool {
        !self.is_empty() && {
            let by_key = self.by_key.read();
            by_key.get(key).is_some_and(|head| head.start == start)
        }
    }

    /// Up to `most` keys in `span` with an intent of the transaction.
    pub(crate) fn of(&self, start: Timestamp, span: &Span, most: usize) -> Vec<Bytes> {
        let by_key = self.by_key.read();
        let bounds = (Bound::Included(&span.start), Bound::Excluded(&span.end));
        let within = by_key.range::<Bytes, _>(bounds);
        let of = within.filter(|(_, head)| head.start == start);
        of.map(|(key, _)| key.clone()).take(most).collect()
    }

    /// One intent of each transaction that began before `before`, up to `most`.
    pub(crate) fn older_than(&self, before: Timestamp, most: usize) -> Vec<Foreign> {
        if self.is_empty() {
            return Vec::new();
        }
        let by_key = self.by_key.read();
        let mut found = BTreeMap::new();
        for (key, head) in by_key.iter() {
            if head.start < before && found.len() < most {
                found.entry(head.start).or_insert_with(|| Foreign {
                    key: key.clone(),
                    start: head.start,
                    primary: head.primary.clone(),
                });
            }
        }
        found.into_values().collect()
    }

    /// Waits until `foreign` is gone.
    pub(crate) async fn gone(&self, foreign: &Foreign) {
        loop {
            let changed = self.gone.notified();
            let mut changed = std::pin::pin!(changed);
            // Before the look, so that nothing is missed between.
            changed.as_mut().enable();
            if !self.has(&foreign.key, foreign.start) {
                return;
            }
            changed.await;
        }
    }
}

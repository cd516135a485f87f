//! What a transaction reads, and the notes of it.

use bytes::Bytes;
use futures::FutureExt;

use crate::error::Error;
use crate::range::{ReadEntry, Refusal, Watch};
use crate::routing::Rows;
use crate::timestamp::Timestamp;
use crate::txn::api::{Key, Led, ScanOptions, Span, Value};
use crate::txn::asked::Asked;
use crate::txn::scan::Scan;
use crate::txn::state::KnownValue;
use crate::txn::transaction::Txn;

/// Writes of its own in a span that a transaction reads through a [`Watch`].
const OWN_CHANGES_MAX: usize = 8_192;

impl Txn {
    /// Reads one key.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Value>, Error> {
        let (read, is_unwritten) = {
            let state = self.inner.state.lock();
            if state.finished {
                return Err(Error::Finished);
            }
            if let Some(own) = state.writes.get(key) {
                return Ok(own.value.clone());
            }
            (state.read, state.unwritten.holds(state.read, key))
        };
        let value = if is_unwritten {
            None
        } else {
            self.get_stored(key, read).await?
        };
        if self.inner.notes_reads() {
            self.inner.state.lock().reads.add_point(key, read);
        }
        Ok(value)
    }

    async fn get_stored(&self, key: &[u8], read: Timestamp) -> Result<Option<Value>, Error> {
        if let Some(value) = self.stored_at_once(key, read) {
            return value;
        }
        // Whatever may wait is boxed, so that the futures of those above stay small.
        let node = &self.inner.node;
        let found = || async { node.get(&node.route(key)?, key, read).await };
        let value = self.settling(found).boxed().await;
        if self.inner.asked.are_wanted() {
            let found = value.as_ref().ok().and_then(Option::as_ref);
            self.note_asked(key, |away| {
                let value = found.filter(|_| away);
                value.map(|value| (key, value)).into_iter().collect()
            });
        }
        value
    }

    /// What is stored under a key, if that needs neither waiting nor a message.
    pub(super) fn stored_at_once(
        &self,
        key: &[u8],
        read: Timestamp,
    ) -> Option<Result<Option<Value>, Error>> {
        let replica = self.inner.node.ranges.at(key)?;
        let value = replica.try_get(key, read)?;
        if self.inner.asked.are_wanted() {
            self.note_asked(key, |_| Vec::new());
        }
        Some(value)
    }

    /// Begins to note which ranges are asked, until [`Self::take_asked`].
    pub fn count_asked(&self) {
        self.inner.asked.begin();
    }

    /// Which ranges were asked since [`Self::count_asked`].
    pub fn take_asked(&self) -> Vec<Asked> {
        self.inner.asked.take()
    }

    /// Notes a request to the range that holds `key`; `received` gives its rows, told whether the
    /// range is led by another node.
    fn note_asked<'a>(
        &self,
        key: &[u8],
        received: impl FnOnce(bool) -> Vec<(&'a [u8], &'a Bytes)>,
    ) {
        let node = &self.inner.node;
        if let Ok(route) = node.route(key) {
            let leader = node.led_by(&route);
            let away = leader != Some(node.id());
            self.inner.asked.note(route.range(), leader, received(away));
        }
    }

    /// Takes out what was noted so far, for [`Self::note_reads`] of the transaction that this one works
    /// for. Of many keys, the spans between neighbours.
    pub fn take_reads(&self) -> Vec<ReadEntry> {
        self.inner.state.lock().reads.take()
    }

    /// Notes what another transaction has read for this one.
    pub fn note_reads(&self, entries: Vec<ReadEntry>) -> Result<(), Error> {
        if !self.inner.notes_reads() {
            return Ok(());
        }
        let mut state = self.inner.state.lock();
        if state.finished {
            return Err(Error::Finished);
        }
        state.reads.add(entries);
        Ok(())
    }

    /// The read timestamp, and of each key the value that is known without looking for it: what was
    /// written here, and none where there was none when it was locked.
    pub(super) fn known(&self, keys: &[Key]) -> Result<(Timestamp, Vec<KnownValue>), Error> {
        let state = self.inner.state.lock();
        if state.finished {
            return Err(Error::Finished);
        }
        let read = state.read;
        let known = |key: &Key| match state.writes.get(key) {
            Some(own) => Some(own.value.clone()),
            None => state.unwritten.holds(read, key).then_some(None),
        };
        Ok((read, keys.iter().map(known).collect()))
    }

    /// Notes that keys were read, but those that were written here.
    pub(super) fn note_gets(&self, keys: &[Key], read: Timestamp) {
        if !self.inner.notes_reads() {
            return;
        }
        let mut guard = self.inner.state.lock();
        let state = &mut *guard;
        for key in keys {
            if state.writes.get(key).is_none() {
                state.reads.add_point(key, read);
            }
        }
    }

    /// Notes a request for several keys, with the values that it brought.
    pub(super) fn note_values(&self, keys: &[Key], values: &[Option<Value>]) {
        let Some(first) = keys.first().filter(|_| self.inner.asked.are_wanted()) else {
            return;
        };
        self.note_asked(first, |away| {
            let rows = keys.iter().zip(values).filter(|_| away);
            let rows = rows.filter_map(|(key, value)| Some((key.as_ref(), value.as_ref()?)));
            rows.collect()
        });
    }

    /// Starts a scan over what the transaction sees at this moment, its own writes included.
    /// Writes that follow are not seen by it.
    pub fn scan(&self, span: Span, options: ScanOptions) -> Scan {
        let (read, view) = {
            let mut state = self.inner.state.lock();
            (state.read, state.writes.view())
        };
        Scan::new(self.clone(), read, view, span, &options)
    }

    /// Where the range ends that holds `key`, as far as is known on this node at this moment.
    pub fn range_end(&self, key: &[u8]) -> Option<Key> {
        let route = self.inner.node.route(key).ok()?;
        Some(route.span().end)
    }

    /// The parts of `span` in different ranges, in order, as far as is known here. Only a hint:
    /// whoever is asked may have to ask others.
    pub fn leaders(&self, span: &Span) -> Vec<Led> {
        let node = &self.inner.node;
        let mut parts = Vec::new();
        let mut left = span.clone();
        while left.start < left.end {
            let part = match node.route_part(&left, false) {
                Ok((route, span)) => Led {
                    span,
                    range: Some(route.range()),
                    leader: node.led_by(&route),
                },
                Err(_) => Led {
                    span: left.clone(),
                    range: None,
                    leader: None,
                },
            };
            left.start = part.span.end.clone();
            parts.push(part);
        }
        parts
    }

    /// Begins to note what others write to `span`, for a cache of what a [`Self::scan`] finds that
    /// is started afterwards. `None` when it would find writes of this transaction too, or when no
    /// one range holds the span.
    pub fn watch(&self, span: &Span) -> Option<Watch> {
        let mut state = self.inner.state.lock();
        if state.finished || state.writes.view().touches(span) {
            return None;
        }
        let replica = self.inner.node.held_whole(span)?;
        let leads = self.inner.node.leads(&replica);
        leads.then(|| replica.watch(span.clone(), state.read))
    }

    /// The keys of `within` that this transaction may see otherwise than the scan at the beginning
    /// of `watch` did, in order: written by others since, or by itself. The span counts as read.
    /// `None` when that is not known, or there are more than a few thousand.
    pub async fn changes(&self, watch: &Watch, within: &Span) -> Result<Option<Vec<Key>>, Error> {
        let (read, own) = {
            let mut state = self.inner.state.lock();
            if state.finished {
                return Err(Error::Finished);
            }
            (state.read, state.writes.view())
        };
        let node = &self.inner.node;
        let replica = node.held_whole(within);
        let Some(replica) = replica.filter(|replica| node.leads(replica)) else {
            return Ok(None);
        };
        let written = || async {
            match replica.written_since(watch, within, read).await {
                Err(Refusal::Moved) => Ok(None),
                other => other,
            }
        };
        let Some(mut keys) = self.settling(written).boxed().await? else {
            return Ok(None);
        };
        if own.touches(within) {
            let Some(own) = own.keys_in(within, OWN_CHANGES_MAX) else {
                return Ok(None);
            };
            keys.extend(own);
            keys.sort_unstable();
            keys.dedup();
        }
        self.note_scan(within.clone(), read)?;
        Ok(Some(keys))
    }

    /// Opens a scan of the part of `span` that comes first (in reverse: last) and lies in one
    /// range; returns that part too.
    pub(crate) async fn open_scan(
        &self,
        span: &Span,
        reverse: bool,
        at: Timestamp,
    ) -> Result<(Rows, Span), Error> {
        if self.inner.state.lock().finished {
            return Err(Error::Finished);
        }
        let node = &self.inner.node;
        let opened = || async {
            let (route, part) = node.route_part(span, reverse)?;
            node.scan(&route, part, reverse, at).await
        };
        let opened = self.settling(opened).await?;
        if self.inner.asked.are_wanted() {
            let (rows, part) = &opened;
            self.note_asked(&part.start, |_| rows.received());
        }
        Ok(opened)
    }

    /// Notes that a scan at `at` has passed `span`, wherever it was done.
    pub fn note_scan(&self, span: Span, at: Timestamp) -> Result<(), Error> {
        if self.inner.notes_reads() {
            let mut state = self.inner.state.lock();
            if state.finished {
                return Err(Error::Finished);
            }
            state.reads.add_range(span, at);
        }
        Ok(())
    }
}

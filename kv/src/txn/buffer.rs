//! [`WriteBuffer`]: the writes of a transaction, in layers.
//!
//! A view of the buffer (for a scan that must not see later writes, or for a savepoint) freezes
//! the top layer and shares it; writes go on in a new one. Layers of similar size are merged, so
//! that there are few, and a write is copied a logarithmic number of times however often views are
//! taken.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::range::{WriteEntry, Writes};
use crate::txn::Span;

/// Writes as of one moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteView {
    /// From old to new.
    layers: Vec<Arc<Writes>>,
    /// Bytes of keys and values.
    bytes: usize,
}

/// The buffered writes of a transaction.
#[derive(Debug, Default)]
pub(crate) struct WriteBuffer {
    frozen: WriteView,
    top: Writes,
}

/// Memory of a write beside its key and value.
const WRITE_OVERHEAD: usize = 64;

impl WriteView {
    fn get(&self, key: &[u8]) -> Option<&WriteEntry> {
        self.layers.iter().rev().find_map(|layer| layer.get(key))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Whether there is a write in the span.
    pub(crate) fn touches(&self, span: &Span) -> bool {
        let bounds = (Bound::Included(&span.start), Bound::Excluded(&span.end));
        span.start < span.end
            && self
                .layers
                .iter()
                .any(|layer| layer.range::<Bytes, _>(bounds).next().is_some())
    }

    /// The keys written in the span, unsorted and perhaps repeated; `None` when they are more than
    /// `most`.
    pub(crate) fn keys_in(&self, span: &Span, most: usize) -> Option<Vec<Bytes>> {
        let bounds = (Bound::Included(&span.start), Bound::Excluded(&span.end));
        let mut keys = Vec::new();
        if span.start < span.end {
            let layers = self.layers.iter();
            let found = layers.flat_map(|layer| layer.range::<Bytes, _>(bounds));
            keys.extend(found.map(|(key, _)| key.clone()).take(most + 1));
        }
        (keys.len() <= most).then_some(keys)
    }

    /// The first write (the last, for `reverse`) between two keys.
    pub(crate) fn next(
        &self,
        from: Bound<&Bytes>,
        to: Bound<&Bytes>,
        reverse: bool,
    ) -> Option<(Bytes, Option<Bytes>)> {
        let (Bound::Included(low) | Bound::Excluded(low)) = from else {
            return None;
        };
        let (Bound::Included(high) | Bound::Excluded(high)) = to else {
            return None;
        };
        if low > high
            || (low == high && !matches!((from, to), (Bound::Included(_), Bound::Included(_))))
        {
            return None;
        }
        let mut best: Option<(&Bytes, &WriteEntry)> = None;
        // From new to old: of equal keys the newest layer wins.
        for layer in self.layers.iter().rev() {
            let mut range = layer.range::<Bytes, _>((from, to));
            let candidate = if reverse {
                range.next_back()
            } else {
                range.next()
            };
            let Some((key, write)) = candidate else {
                continue;
            };
            let better = best.is_none_or(|(at, _)| if reverse { key > at } else { key < at });
            if better {
                best = Some((key, write));
            }
        }
        best.map(|(key, write)| (key.clone(), write.value.clone()))
    }
}

impl WriteBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.top.is_empty() && self.frozen.is_empty()
    }

    /// Bytes of keys and values, overwritten ones included.
    pub(crate) fn bytes(&self) -> usize {
        self.frozen.bytes
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&WriteEntry> {
        self.top.get(key).or_else(|| self.frozen.get(key))
    }

    /// Adds a write. A key written before keeps its older base: what was written then rested on
    /// what was read then.
    pub(crate) fn put(&mut self, key: Bytes, mut write: WriteEntry) {
        if let Some(before) = self.get(&key) {
            write.base = write.base.min(before.base);
            write.unwritten &= before.unwritten;
        }
        self.frozen.bytes += Self::cost(&key, write.value.as_ref());
        self.top.insert(key, write);
    }

    /// What a write adds to [`Self::bytes`].
    pub(crate) fn cost(key: &Bytes, value: Option<&Bytes>) -> usize {
        key.len() + value.map_or(0, Bytes::len) + WRITE_OVERHEAD
    }

    /// The writes as of now.
    pub(crate) fn view(&mut self) -> WriteView {
        if !self.top.is_empty() {
            let top = Arc::new(std::mem::take(&mut self.top));
            self.frozen.layers.push(top);
            self.merge_similar();
        }
        self.frozen.clone()
    }

    fn merge_similar(&mut self) {
        let layers = &mut self.frozen.layers;
        while let [.., below, above] = layers.as_slice() {
            if below.len() > above.len().saturating_mul(2) {
                break;
            }
            let (Some(above), Some(below)) = (layers.pop(), layers.pop()) else {
                break;
            };
            layers.push(Arc::new(merge(below, above)));
        }
    }

    /// Goes back to a view.
    pub(crate) fn restore(&mut self, view: &WriteView) {
        self.top = BTreeMap::new();
        self.frozen = view.clone();
    }

    /// All writes in one map.
    pub(crate) fn take(&mut self) -> Arc<Writes> {
        let mut layers = std::mem::take(&mut self.frozen).layers.into_iter();
        let top = Arc::new(std::mem::take(&mut self.top));
        let Some(first) = layers.next() else {
            return top;
        };
        layers.chain([top]).fold(first, |below, above| {
            if above.is_empty() {
                below
            } else {
                Arc::new(merge(below, above))
            }
        })
    }
}

fn merge(below: Arc<Writes>, above: Arc<Writes>) -> Writes {
    let mut merged = Arc::unwrap_or_clone(below);
    match Arc::try_unwrap(above) {
        Ok(above) => merged.extend(above),
        Err(above) => merged.extend(above.iter().map(|(k, w)| (k.clone(), w.clone()))),
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::timestamp::Timestamp;

    fn key(n: u8) -> Bytes {
        Bytes::from(vec![n])
    }

    #[test]
    fn a_key_keeps_its_oldest_base() {
        let mut buffer = WriteBuffer::default();
        for base in [5, 9] {
            buffer.put(
                key(1),
                WriteEntry {
                    value: None,
                    base: Timestamp(base),
                    unwritten: false,
                },
            );
            buffer.view();
        }
        assert_eq!(buffer.take().get(&key(1)).unwrap().base, Timestamp(5));
    }

    proptest! {
        #[test]
        fn views_do_not_change(
            steps in prop::collection::vec((0u8..20, any::<Option<u8>>(), 0u8..8), 1..80),
            reverse: bool,
        ) {
            let mut buffer = WriteBuffer::default();
            let mut model: BTreeMap<u8, Option<u8>> = BTreeMap::new();
            let mut views = Vec::new();
            for (k, value, action) in steps {
                let write = |v: &Option<u8>| v.map(|v| Bytes::from(vec![v]));
                buffer.put(key(k), WriteEntry { value: write(&value), base: Timestamp(1), unwritten: false });
                model.insert(k, value);
                match action {
                    0 | 1 => views.push((buffer.view(), model.clone())),
                    2 if !views.is_empty() => {
                        let (view, then) = &views[k as usize % views.len()];
                        buffer.restore(view);
                        model = then.clone();
                    }
                    _ => {}
                }
                for k in 0..20 {
                    let expected = model.get(&k).map(write);
                    prop_assert_eq!(buffer.get(&key(k)).map(|w| w.value.clone()), expected);
                }
            }
            for (view, model) in views {
                let (low, high) = (key(2), key(17));
                let mut rows = Vec::new();
                let (mut from, mut to) = (Bound::Included(low.clone()), Bound::Excluded(high.clone()));
                while let Some((k, value)) = view.next(from.as_ref(), to.as_ref(), reverse) {
                    rows.push((k[0], value.map(|v| v[0])));
                    *(if reverse { &mut to } else { &mut from }) = Bound::Excluded(k);
                }
                if reverse { rows.reverse(); }
                let expected: Vec<_> = model.range(2..17).map(|(k, v)| (*k, *v)).collect();
                prop_assert_eq!(view.touches(&Span { start: low, end: high }), !expected.is_empty());
                prop_assert_eq!(rows, expected);
            }
            let taken: BTreeMap<u8, Option<u8>> =
                buffer.take().iter().map(|(k, w)| (k[0], w.value.as_ref().map(|v| v[0]))).collect();
            prop_assert_eq!(taken, model);
        }
    }
}

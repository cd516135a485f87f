//! [`ReadSet`]: what a transaction has read, as spans with the timestamp of the read.

use bytes::Bytes;

use crate::concurrency::ReadSpan;
use crate::keys;
use crate::range::{ReadEntry, Writes};
use crate::timestamp::Timestamp;
use crate::txn::Span;

/// Entries kept. Beyond it neighbours are joined, which validates more than was read but never
/// less.
const ENTRIES_MAX: usize = 8_192;

/// What a transaction has read.
#[derive(Debug, Default)]
pub(crate) struct ReadSet {
    /// By statements that are over: the client may have seen it.
    before: Vec<ReadEntry>,
    /// By the current statement: given up if the statement is run again.
    statement: Vec<ReadEntry>,
    /// Whether the caller says where statements begin.
    marked: bool,
}

fn first(entry: &ReadEntry) -> &Bytes {
    match &entry.span {
        ReadSpan::Point(key) => key,
        ReadSpan::Range(span) => &span.start,
    }
}

/// The first key after an entry.
fn end(entry: &ReadEntry) -> Bytes {
    match &entry.span {
        ReadSpan::Point(key) => after(key),
        ReadSpan::Range(span) => span.end.clone(),
    }
}

/// The first key after `key`.
pub(crate) fn after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// That the version of the catalog was read.
pub(crate) fn catalog_read(at: Timestamp) -> ReadEntry {
    let key = Bytes::from_static(keys::CATALOG_VERSION);
    let span = ReadSpan::Point(key);
    ReadEntry { span, at }
}

impl ReadSet {
    /// Notes the read of a key.
    pub(crate) fn add_point(&mut self, key: &[u8], at: Timestamp) {
        let span = ReadSpan::Point(Bytes::copy_from_slice(key));
        self.statement.push(ReadEntry { span, at });
        self.bound();
    }

    /// Notes the read of a span. One that goes on where the last one ended makes it longer.
    pub(crate) fn add_range(&mut self, span: Span, at: Timestamp) {
        if let Some(ReadEntry {
            span: ReadSpan::Range(last),
            at: last_at,
        }) = self.statement.last_mut()
            && *last_at == at
        {
            if last.end == span.start {
                last.end = span.end;
                return;
            }
            if last.start == span.end {
                last.start = span.start;
                return;
            }
        }
        self.statement.push(ReadEntry {
            span: ReadSpan::Range(span),
            at,
        });
        self.bound();
    }

    /// Notes what another transaction has read.
    pub(crate) fn add(&mut self, mut entries: Vec<ReadEntry>) {
        self.statement.append(&mut entries);
        self.bound();
    }

    /// Takes out everything.
    pub(crate) fn take(&mut self) -> Vec<ReadEntry> {
        self.end_statement();
        std::mem::take(&mut self.before)
    }

    fn bound(&mut self) {
        if self.statement.len() >= ENTRIES_MAX {
            join_neighbours(&mut self.statement);
        }
    }

    /// A statement begins.
    pub(crate) fn begin_statement(&mut self) {
        self.marked = true;
        self.end_statement();
    }

    fn end_statement(&mut self) {
        self.before.append(&mut self.statement);
        if self.before.len() >= ENTRIES_MAX {
            join_neighbours(&mut self.before);
        }
    }

    /// Takes out what statements before the current one have read, and forgets what the current
    /// one has read. Everything is taken out when the caller does not say where statements begin.
    pub(crate) fn take_for_refresh(&mut self) -> Vec<ReadEntry> {
        if !self.marked {
            self.end_statement();
        }
        self.statement.clear();
        std::mem::take(&mut self.before)
    }

    /// Puts back what has been validated up to `at`.
    pub(crate) fn put_back(&mut self, mut entries: Vec<ReadEntry>, at: Timestamp) {
        for entry in &mut entries {
            entry.at = entry.at.max(at);
        }
        self.before.append(&mut entries);
    }

    /// Everything that was read, less the keys whose own write is checked anyway.
    pub(crate) fn take_for_commit(&mut self, writes: &Writes) -> Vec<ReadEntry> {
        self.end_statement();
        let mut entries = std::mem::take(&mut self.before);
        entries.retain(|entry| match &entry.span {
            ReadSpan::Point(key) => writes.get(key).is_none_or(|write| write.base > entry.at),
            ReadSpan::Range(_) => true,
        });
        entries
    }
}

/// Joins entries two by two, in key order.
fn join_neighbours(entries: &mut Vec<ReadEntry>) {
    entries.sort_by(|a, b| first(a).cmp(first(b)));
    let joined = entries.chunks(2).map(|pair| match pair {
        [a, b] => {
            let span = Span {
                start: first(a).clone(),
                end: end(a).max(end(b)),
            };
            ReadEntry {
                span: ReadSpan::Range(span),
                at: a.at.min(b.at),
            }
        }
        rest => rest.first().cloned().unwrap_or_else(|| ReadEntry {
            span: ReadSpan::Point(Bytes::new()),
            at: Timestamp::MAX,
        }),
    });
    *entries = joined.collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(entries: &[ReadEntry], key: &[u8], at: Timestamp) -> bool {
        entries.iter().any(|entry| {
            entry.at <= at
                && match &entry.span {
                    ReadSpan::Point(point) => point == key,
                    ReadSpan::Range(span) => span.contains(key),
                }
        })
    }

    #[test]
    fn many_reads_stay_covered() {
        let mut reads = ReadSet::default();
        let key = |n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes();
        for n in 0..40_000 {
            reads.add_point(&key(n), Timestamp(u64::from(n % 7)));
            if n % 1_000 == 0 {
                reads.end_statement();
            }
        }
        let entries = reads.take_for_commit(&Writes::new());
        assert!(entries.len() < 2 * ENTRIES_MAX);
        for n in 0..40_000 {
            assert!(
                covers(&entries, &key(n), Timestamp(u64::from(n % 7))),
                "{n}"
            );
        }
    }

    #[test]
    fn pieces_of_a_scan_become_one_span() {
        let span = |a: &'static str, b: &'static str| Span {
            start: a.into(),
            end: b.into(),
        };
        let mut reads = ReadSet::default();
        reads.add_range(span("c", "f"), Timestamp(1));
        reads.add_range(span("f", "k"), Timestamp(1));
        reads.add_range(span("a", "c"), Timestamp(1));
        reads.add_range(span("k", "m"), Timestamp(2));
        let entries = reads.take_for_commit(&Writes::new());
        let expected = [(span("a", "k"), 1), (span("k", "m"), 2)];
        let expected = expected.map(|(span, at)| ReadEntry {
            span: ReadSpan::Range(span),
            at: Timestamp(at),
        });
        assert_eq!(entries, expected);
    }
}

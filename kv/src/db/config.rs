//! What a store is told when it is opened.

use bytes::Bytes;
use pontoon_raft::Timing;

use crate::keys;
use crate::placement::Wishes;
use crate::range::Descriptor;
use crate::storage::FjallConfig;
use crate::txn::Span;

/// What a store is told when it is opened.
#[derive(Clone, Debug)]
pub struct DbConfig {
    /// Memory and threads of the engine.
    pub engine: FjallConfig,
    /// Timers of the Raft groups.
    pub timing: Timing,
    /// A range that nobody has used for so long sends nothing any more; 0: none ever does.
    pub quiesce_after_ms: u64,
    /// Bytes of writes that a transaction may buffer.
    pub txn_bytes_max: usize,
    /// How long replaced versions are kept.
    pub retention_ms: u64,
    /// How often old versions are looked for.
    pub gc_interval_ms: u64,
    /// How often applied data is made durable, so that log can be purged.
    pub persist_interval_ms: u64,
    /// How long an operation waits for a leader.
    pub patience_ms: u64,
    /// Bytes of the newest entries that each Raft log keeps although they are applied.
    pub log_bytes_kept: u64,
    /// Keys at which what SQL transactions touch is parted into ranges when a cluster is founded, in
    /// order. None: one range.
    pub founding_splits: Vec<Bytes>,
    /// Bytes of rows above which a range is split.
    pub split_bytes: u64,
    /// Requests a second above which a range is split, when its load can be parted; 0: none is.
    pub split_requests: u64,
    /// How many replicas ranges have, and when they are replaced.
    pub placement: Wishes,
    /// Bytes of the disk that commits leave free; `None`: by the size of the file system.
    pub disk_reserve_bytes: Option<u64>,
}

impl DbConfig {
    /// The ranges that a cluster is founded with: that of its metadata, and those of everything
    /// else.
    pub(crate) fn founding_ranges(&self) -> Vec<Descriptor> {
        let user = keys::user_span();
        let splits = self.founding_splits.iter();
        let splits = splits.filter(|key| user.start < **key && **key < user.end);
        let mut bounds = vec![user.start.clone()];
        bounds.extend(splits.cloned());
        bounds.push(user.end.clone());
        let spans = bounds.windows(2).filter_map(|pair| match pair {
            [start, end] => Some(Span {
                start: start.clone(),
                end: end.clone(),
            }),
            _ => None,
        });
        std::iter::once(keys::system_span())
            .chain(spans)
            .zip(1..)
            .map(|(span, range)| Descriptor {
                frozen: None,
                range,
                generation: 1,
                span,
            })
            .collect()
    }

    /// Makes what lies on the disk for a while smaller on a small file system: 1/16 of it for each
    /// Raft log, 1/8 for the journal of the engine, 1/64 for a memtable (merges take several).
    pub(crate) fn fit(&mut self, volume_bytes: u64) {
        let fit = |now: &mut u64, part: u64, least: u64| {
            *now = (*now).min((volume_bytes / part).max(least));
        };
        fit(&mut self.log_bytes_kept, 16, 16 << 20);
        fit(&mut self.engine.journal_bytes_max, 8, 64 << 20);
        fit(&mut self.engine.memtable_bytes, 64, 4 << 20);
    }
}

impl Default for DbConfig {
    fn default() -> Self {
        Self {
            engine: FjallConfig::default(),
            timing: Timing::default(),
            quiesce_after_ms: 10_000,
            txn_bytes_max: 256 << 20,
            retention_ms: 24 * 3_600 * 1_000,
            gc_interval_ms: 60_000,
            persist_interval_ms: 1_000,
            patience_ms: 10_000,
            log_bytes_kept: 256 << 20,
            founding_splits: Vec::new(),
            split_bytes: 128 << 20,
            // A few processors' worth. Parts cost every transaction that touches both.
            split_requests: 10_000,
            placement: Wishes::default(),
            disk_reserve_bytes: None,
        }
    }
}

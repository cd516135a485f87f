//! What a store is told when it is opened.

use pontoon_raft::Timing;

use crate::storage::FjallConfig;

/// What a store is told when it is opened.
#[derive(Clone, Debug)]
pub struct DbConfig {
    /// Memory and threads of the engine.
    pub engine: FjallConfig,
    /// Timers of the Raft groups.
    pub timing: Timing,
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
}

impl Default for DbConfig {
    fn default() -> Self {
        Self {
            engine: FjallConfig::default(),
            timing: Timing::default(),
            txn_bytes_max: 256 << 20,
            retention_ms: 24 * 3_600 * 1_000,
            gc_interval_ms: 60_000,
            persist_interval_ms: 1_000,
            patience_ms: 10_000,
        }
    }
}

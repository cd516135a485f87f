//! [`Engine`] on a fjall database.
//!
//! Batches are written without a sync and without a flush: what a crash takes away the Raft log
//! gives back. [`Engine::persist`] syncs. Snapshots are fjall's.
//!
//! The disk: what fjall meets on a full disk poisons it, in a write as in a flush or merge. So
//! blocks of its journal are allocated ahead ([`JournalRoom`]), and [`Engine::prepare_disk`] tells
//! what flushes and merges may need, which commits then leave free.
//!
//! Memory: the block cache is capped; each keyspace has one active memtable of the configured size
//! and few sealed ones (fjall slows writers down at four).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fjall::Readable;
use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::config::{BloomConstructionPolicy, PinningPolicy};
use fjall::{CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode};

use parking_lot::Mutex;

use crate::error::Error;
use crate::shell::disk::{JournalRoom, begin_journal_anew, is_full};
use crate::shell::{DataDirectory, wait_for};
use crate::storage::engine::{Cursor, DiskNeeds, Engine, EngineSnapshot, Space, WriteBatch};

/// How much memory and how many threads the database may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FjallConfig {
    /// Bytes of the block cache.
    pub cache_bytes: u64,
    /// Bytes of a memtable before it is written to a table.
    pub memtable_bytes: u64,
    /// Bytes of journal before memtables are written out; opening reads at most that much.
    pub journal_bytes_max: u64,
    /// Threads for flushes and compactions.
    pub workers: usize,
}

impl Default for FjallConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 128 << 20,
            memtable_bytes: 32 << 20,
            journal_bytes_max: 128 << 20,
            workers: 2,
        }
    }
}

/// An engine on disk.
pub struct FjallEngine {
    database: Database,
    spaces: Spaces,
    path: PathBuf,
    journal: JournalRoom,
    memtable_bytes: u64,
    /// After the database: what it does when it is dropped is done to one that is closed.
    leftover: Leftover,
    /// The last: nobody else opens the directory before the leftover is cleared away.
    _within: Option<Arc<DataDirectory>>,
}

/// The journal that a closed database leaves behind.
///
/// fjall reads it when the database is opened, entry by entry, also what is in tables since: four
/// microseconds for each small commit, up to 64 MB of them. Where everything is in tables an empty
/// journal says the same.
struct Leftover {
    path: PathBuf,
    /// Everything was in tables when the database was flushed, and nothing was written since.
    is_needless: AtomicBool,
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if self.is_needless.load(Ordering::Acquire)
            && let Err(error) = begin_journal_anew(&self.path)
        {
            tracing::warn!(%error, "the next start reads a journal that it does not need");
        }
    }
}

/// When what a flush has written is counted off, at the latest.
const COUNTED_OFF: Duration = Duration::from_millis(500);
/// What a merge writes, at most, in memtables: the newest level and what it overlaps in the next.
const MERGE_MEMTABLES: u64 = 16;
/// Bytes of journal that a change takes besides its key and value, generously.
const JOURNAL_BYTES_PER_CHANGE: u64 = 64;

#[derive(Clone)]
struct Spaces {
    kv: Keyspace,
    history: Keyspace,
    meta: Keyspace,
}

impl Spaces {
    fn of(&self, space: Space) -> &Keyspace {
        match space {
            Space::Kv => &self.kv,
            Space::History => &self.history,
            Space::Meta => &self.meta,
        }
    }
}

fn rows_options(memtable_bytes: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable_bytes)
        .data_block_size_policy(BlockSizePolicy::all(8 << 10))
        .data_block_compression_policy(CompressionPolicy::new([
            CompressionType::None,
            CompressionType::None,
            CompressionType::Lz4,
        ]))
        .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(
            BloomConstructionPolicy::BitsPerKey(10.0),
        )))
        .index_block_pinning_policy(PinningPolicy::all(true))
        .filter_block_pinning_policy(PinningPolicy::all(true))
}

impl FjallEngine {
    /// Opens the database of a data directory, which stays locked as long as the engine is open.
    pub(crate) fn open_within(
        directory: Arc<DataDirectory>,
        config: FjallConfig,
    ) -> Result<Self, Error> {
        let mut engine = Self::open(&directory.join("data"), config)?;
        engine._within = Some(directory);
        Ok(engine)
    }

    /// Opens the database in a directory, creating it when there is none.
    pub fn open(path: &Path, config: FjallConfig) -> Result<Self, Error> {
        let fail = |error| storage_error(path, "open", &error);
        let database = Database::builder(path)
            .cache_size(config.cache_bytes)
            .worker_threads(config.workers.max(1))
            .max_journaling_size(config.journal_bytes_max.max(64 << 20))
            .manual_journal_persist(true)
            .open()
            .map_err(fail)?;
        let rows = config.memtable_bytes.max(1 << 20);
        let small = KeyspaceCreateOptions::default().max_memtable_size(4 << 20);
        let spaces = Spaces {
            kv: database
                .keyspace("kv", || rows_options(rows))
                .map_err(fail)?,
            history: database
                .keyspace("history", || rows_options(rows / 2))
                .map_err(fail)?,
            meta: database.keyspace("meta", || small).map_err(fail)?,
        };
        Ok(Self {
            database,
            spaces,
            path: path.to_path_buf(),
            journal: JournalRoom::new(path),
            memtable_bytes: rows,
            leftover: Leftover {
                path: path.to_path_buf(),
                is_needless: AtomicBool::new(false),
            },
            _within: None,
        })
    }
}

fn storage_error(path: &Path, action: &str, error: &fjall::Error) -> Error {
    if let fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) = error
        && is_full(io)
    {
        return Error::DiskFull;
    }
    if matches!(error, fjall::Error::Locked) {
        return Error::Storage {
            message: format!(
                "data directory {} is in use by another process",
                path.display()
            ),
        };
    }
    Error::Storage {
        message: format!(
            "could not {action} {}: {error}; the store must not serve: \
             check the disk, then restore the directory or replace the store",
            path.display()
        ),
    }
}

fn read_error(error: &fjall::Error) -> Error {
    Error::Storage {
        message: format!("could not read the data of the store: {error}"),
    }
}

impl Engine for FjallEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self
            .spaces
            .of(space)
            .get(key)
            .map_err(|error| read_error(&error))?;
        Ok(value.map(Bytes::from))
    }

    fn snapshot(&self) -> Box<dyn EngineSnapshot> {
        Box::new(Snapshot {
            snapshot: self.database.snapshot(),
            spaces: self.spaces.clone(),
        })
    }

    fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        let length = |(_, key, value): &(Space, Bytes, Option<Bytes>)| {
            let value = value.as_ref().map_or(0, Bytes::len);
            JOURNAL_BYTES_PER_CHANGE + (key.len() + value) as u64
        };
        let bytes: u64 = batch.changes.iter().map(length).sum();
        self.journal.take(bytes + JOURNAL_BYTES_PER_CHANGE);
        let mut to = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), batch.len());
        for (space, key, value) in batch.changes {
            match value {
                Some(value) => to.insert(self.spaces.of(space), key, value),
                None => to.remove(self.spaces.of(space), key),
            }
        }
        let written = to.commit();
        // After the write: a flush that looked while it was under way may have missed it. Nobody
        // drops the engine before it has returned.
        self.leftover.is_needless.store(false, Ordering::Release);
        written.map_err(|error| storage_error(&self.path, "write", &error))
    }

    fn persist(&self) -> Result<(), Error> {
        self.database
            .persist(PersistMode::SyncData)
            .map_err(|error| storage_error(&self.path, "sync", &error))
    }

    fn flush(&self) -> Result<(), Error> {
        self.persist()?;
        let Spaces { kv, history, meta } = &self.spaces;
        for space in [kv, history, meta] {
            space
                .rotate_memtable_and_wait()
                .map_err(|error| storage_error(&self.path, "flush", &error))?;
        }
        // A flush is over before what it has written is counted off.
        let nothing_left = wait_for(COUNTED_OFF, || self.database.write_buffer_size() == 0);
        self.leftover
            .is_needless
            .store(nothing_left, Ordering::Release);
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.database.disk_space().unwrap_or(0)
    }

    fn prepare_disk(&self) -> DiskNeeds {
        let starved = self.journal.look();
        let merge_max = self.memtable_bytes.saturating_mul(MERGE_MEMTABLES);
        let Spaces { kv, history, meta } = &self.spaces;
        let merges = [kv, history, meta].map(|space| space.disk_space().min(merge_max));
        let merges: u64 = merges.iter().sum();
        DiskNeeds {
            headroom_bytes: self.database.write_buffer_size().saturating_add(merges),
            busy: self.database.outstanding_flushes() > 0 || self.database.active_compactions() > 0,
            starved,
        }
    }
}

struct Snapshot {
    snapshot: fjall::Snapshot,
    spaces: Spaces,
}

impl EngineSnapshot for Snapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = self.snapshot.get(self.spaces.of(space), key);
        Ok(value.map_err(|error| read_error(&error))?.map(Bytes::from))
    }

    fn scan(&self, space: Space, start: &[u8], end: &[u8], reverse: bool) -> Box<dyn Cursor> {
        // fjall panics on a range whose end lies before its start.
        let end = end.max(start);
        let rows = self.snapshot.range(self.spaces.of(space), start..end);
        Box::new(FjallCursor {
            rows: Mutex::new(rows),
            reverse,
        })
    }
}

struct FjallCursor {
    /// Never locked: it makes the cursor shareable, which fjall's iterator is not.
    rows: Mutex<fjall::Iter>,
    reverse: bool,
}

impl FjallCursor {
    fn step(&mut self) -> Option<Guard> {
        if self.reverse {
            self.rows.get_mut().next_back()
        } else {
            self.rows.get_mut().next()
        }
    }
}

impl Cursor for FjallCursor {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        let Some(guard) = self.step() else {
            return Ok(None);
        };
        let (key, value) = guard.into_inner().map_err(|error| read_error(&error))?;
        Ok(Some((Bytes::from(key), Bytes::from(value))))
    }

    fn for_each(&mut self, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<bool, Error> {
        while let Some(guard) = self.step() {
            let (key, value) = guard.into_inner().map_err(|error| read_error(&error))?;
            if !visit(&key, &value) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

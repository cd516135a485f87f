//! The disk below a data directory: its free space, the ballast file, and room allocated ahead
//! for the engine's journal.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate};

use crate::storage::Volume;

/// The file system on which a directory lies, with a ballast file in that directory.
#[derive(Debug)]
pub(crate) struct DirectoryVolume {
    directory: PathBuf,
    ballast_bytes: AtomicU64,
}

/// The name of the ballast file.
const BALLAST: &str = "ballast";

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl DirectoryVolume {
    /// The volume of a directory that this process has to itself. A ballast that an earlier
    /// process has left is given up: opening a store on a full disk needs room.
    pub(crate) fn open(directory: &Path) -> Self {
        let volume = Self {
            directory: directory.to_path_buf(),
            ballast_bytes: AtomicU64::new(0),
        };
        if let Err(error) = volume.set_ballast(0) {
            tracing::warn!(%error, "could not remove the ballast file of the data directory");
        }
        volume
    }
}

impl Volume for DirectoryVolume {
    fn free_bytes(&self) -> Option<u64> {
        fs2::available_space(&self.directory).ok()
    }

    fn total_bytes(&self) -> Option<u64> {
        fs2::total_space(&self.directory).ok()
    }

    fn ballast_bytes(&self) -> u64 {
        self.ballast_bytes.load(Ordering::Acquire)
    }

    fn set_ballast(&self, bytes: u64) -> io::Result<()> {
        let path = self.directory.join(BALLAST);
        self.ballast_bytes.store(0, Ordering::Release);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if bytes == 0 {
            return Ok(());
        }
        let file = File::create_new(&path)?;
        if let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // What was allocated before it failed is of no use to anybody.
            let _ = fs::remove_file(&path);
            return Err(error.into());
        }
        self.ballast_bytes.store(bytes, Ordering::Release);
        Ok(())
    }
}

/// The numbers of the journals in a directory.
fn journals(directory: &Path) -> io::Result<Vec<u64>> {
    let number = |entry: io::Result<fs::DirEntry>| {
        let name = entry.ok()?.file_name();
        name.to_str()?.strip_suffix(".jnl")?.parse().ok()
    };
    Ok(fs::read_dir(directory)?.filter_map(number).collect())
}

/// Replaces the journals in `directory` by an empty one, as fjall does when it has written out
/// what they hold. The database is closed and all of it is in its tables.
pub(crate) fn begin_journal_anew(directory: &Path) -> io::Result<()> {
    let old = journals(directory)?;
    let Some(newest) = old.iter().max() else {
        return Ok(());
    };
    let path = |number: u64| directory.join(format!("{number}.jnl"));
    // The new one first: without any, fjall counts its sequence numbers from the beginning.
    File::create_new(path(newest + 1))?.sync_all()?;
    File::open(directory)?.sync_all()?;
    for number in old {
        fs::remove_file(path(number))?;
    }
    File::open(directory)?.sync_all()
}

/// Room ahead in the journal of the engine.
///
/// fjall makes its journal as a sparse file, so that any write may find the disk full; after one
/// that did, the database is poisoned. Here blocks are allocated before bytes are written: a write
/// that has been announced by [`Self::take`] finds its blocks there.
///
/// What is not covered: the first writes to a journal that fjall has begun since the last look.
#[derive(Debug)]
pub(crate) struct JournalRoom {
    directory: PathBuf,
    state: Mutex<Ahead>,
    starved: AtomicBool,
}

#[derive(Debug, Default)]
struct Ahead {
    /// Number of the journal that was looked at last.
    journal: u64,
    /// Bytes that may yet be written to blocks that are there.
    left: u64,
    /// The file system cannot allocate ahead.
    unable: bool,
}

/// Bytes of journal allocated ahead.
const JOURNAL_AHEAD: u64 = 16 << 20;
/// Below this the journal is starved when it gets no more.
const JOURNAL_AHEAD_MIN: u64 = 4 << 20;
/// What fjall holds back in its own buffers, generously.
const JOURNAL_SLACK: u64 = 64 << 10;
/// How long to wait before trying again on a full disk.
const ROOM_RETRY: Duration = Duration::from_millis(20);

impl JournalRoom {
    /// Room in the newest journal in `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
            state: Mutex::default(),
            starved: AtomicBool::new(false),
        }
    }

    /// Takes `bytes` of the room. Waits, blocking, while the disk is full and they are not there:
    /// nothing has been written yet, so nothing is lost by waiting.
    pub(crate) fn take(&self, bytes: u64) {
        let mut ahead = self.state.lock();
        while ahead.left < bytes.saturating_add(JOURNAL_SLACK) {
            let wanted = bytes.saturating_add(JOURNAL_AHEAD);
            if self.extend(&mut ahead, wanted) {
                self.starved.store(false, Ordering::Release);
            } else {
                self.starved.store(true, Ordering::Release);
                std::thread::sleep(ROOM_RETRY);
            }
        }
        ahead.left = ahead.left.saturating_sub(bytes);
    }

    /// Sees to it that there is room ahead; returns whether it has become scarce.
    pub(crate) fn look(&self) -> bool {
        // Held by somebody who waits for room.
        let Some(mut ahead) = self.state.try_lock() else {
            return self.starved.load(Ordering::Acquire);
        };
        if ahead.left < JOURNAL_AHEAD / 2 || self.newest() != Some(ahead.journal) {
            self.extend(&mut ahead, JOURNAL_AHEAD);
        }
        let starved = ahead.left < JOURNAL_AHEAD_MIN;
        self.starved.store(starved, Ordering::Release);
        starved
    }

    fn newest(&self) -> Option<u64> {
        journals(&self.directory).ok()?.into_iter().max()
    }

    /// Allocates until `wanted` bytes are there; false when the disk is full.
    fn extend(&self, ahead: &mut Ahead, wanted: u64) -> bool {
        if ahead.unable {
            ahead.left = u64::MAX;
            return true;
        }
        let newest = self.newest();
        if newest != Some(ahead.journal) {
            ahead.left = 0;
            ahead.journal = newest.unwrap_or_default();
        }
        let path = self.directory.join(format!("{}.jnl", ahead.journal));
        let missing = wanted.saturating_sub(ahead.left);
        let allocated = OpenOptions::new().write(true).open(&path).and_then(|file| {
            // A new journal has its full length from the start on and is written from there, so
            // its blocks are its written part and what was allocated ahead. One that was there
            // when the database was opened, or has grown, ends where it is written.
            let metadata = file.metadata()?;
            let (length, blocks) = (metadata.len(), metadata.blocks().saturating_mul(512));
            let end = blocks.saturating_add(missing);
            let end = end.min(length.saturating_add(wanted));
            // The length must stay: fjall appends at the end.
            fallocate(&file, FallocateFlags::KEEP_SIZE, 0, end)?;
            Ok(())
        });
        match allocated {
            Ok(()) => ahead.left = ahead.left.max(wanted),
            Err(error) if is_full(&error) => return false,
            Err(error) => {
                tracing::warn!(%error, journal = %path.display(), "could not allocate ahead");
                ahead.unable = true;
                ahead.left = u64::MAX;
            }
        }
        true
    }
}

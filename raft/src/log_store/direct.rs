//! Writing past the page cache.
//!
//! Such a write needs whole blocks, in memory as well as in the file: it goes through a buffer that
//! lies as it must. Where the system or the file system has no such writes, or refuses one, the
//! caller writes as usual.
//!
//! Whoever reads the file through the page cache must not read ahead into what is being written;
//! [`Direct::open`] sees to it.

use std::path::Path;
use std::sync::Arc;

#[cfg(target_os = "linux")]
pub(super) use linux::Direct;
#[cfg(not(target_os = "linux"))]
pub(super) use other::Direct;

use parking_lot::Mutex;

/// Multiples of this are written past the page cache: every disk's block, and a page.
const BLOCK: usize = 4096;
/// Longer writes go through the page cache, where they cost no more.
const BYTES_MAX: usize = 256 << 10;

/// Memory for such writes, shared by the files of a directory, of which one at a time is written.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    bytes: Mutex<Vec<u8>>,
}

impl Scratch {
    /// Calls `body` with a copy of `bytes` that begins at a multiple of [`BLOCK`].
    fn with<T>(&self, bytes: &[u8], body: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let mut memory = self.bytes.lock();
        if memory.is_empty() {
            memory.resize(BYTES_MAX + BLOCK, 0);
        }
        let start = memory.as_ptr().align_offset(BLOCK);
        let copy = memory.get_mut(start..start.checked_add(bytes.len())?)?;
        copy.copy_from_slice(bytes);
        Some(body(copy))
    }
}

/// Whether a write can go past the page cache.
fn is_fit(offset: u64, bytes: &[u8]) -> bool {
    let whole = offset.is_multiple_of(BLOCK as u64) && bytes.len().is_multiple_of(BLOCK);
    whole && (1..=BYTES_MAX).contains(&bytes.len())
}

#[cfg(target_os = "linux")]
mod linux {
    #![expect(
        clippy::disallowed_types,
        reason = "this is a part of the place where the file system is reached"
    )]

    use std::fs::{File, OpenOptions};
    use std::io::{self, IoSlice};
    use std::os::unix::fs::OpenOptionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{Advice, OFlags};
    use rustix::io::{Errno, ReadWriteFlags};

    use super::{Arc, Path, Scratch, is_fit};

    /// A file opened for writes past the page cache.
    pub(in super::super) struct Direct {
        /// `None` where there are none.
        file: Option<File>,
        /// The file system has refused a write.
        refused: AtomicBool,
        scratch: Arc<Scratch>,
    }

    impl Direct {
        /// Opens `path` once more; `cached` is the same file as it is read.
        pub(in super::super) fn open(path: &Path, cached: &File, scratch: &Arc<Scratch>) -> Self {
            let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
            let file = OpenOptions::new()
                .write(true)
                .custom_flags(flags)
                .open(path)
                .ok()
                // A page that is read ahead while it is written here could stay as it was.
                .filter(|_| rustix::fs::fadvise(cached, 0, None, Advice::Random).is_ok());
            Self {
                file,
                refused: AtomicBool::new(false),
                scratch: Arc::clone(scratch),
            }
        }

        /// Writes `bytes` at `offset`, durably if asked to. `None`: nothing was written, and it
        /// must be done in the usual way.
        pub(in super::super) fn write(
            &self,
            offset: u64,
            bytes: &[u8],
            durably: bool,
        ) -> Option<io::Result<()>> {
            let file = self.file.as_ref().filter(|_| is_fit(offset, bytes))?;
            if self.refused.load(Ordering::Relaxed) {
                return None;
            }
            let flags = match durably {
                true => ReadWriteFlags::DSYNC,
                false => ReadWriteFlags::empty(),
            };
            let write = |bytes: &[u8]| write_all(file, offset, bytes, flags);
            match self.scratch.with(bytes, write)? {
                // Refused for what it is, before anything was written.
                Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.refused.store(true, Ordering::Relaxed);
                    None
                }
                outcome => Some(outcome.map_err(io::Error::from)),
            }
        }
    }

    fn write_all(
        file: &File,
        offset: u64,
        bytes: &[u8],
        flags: ReadWriteFlags,
    ) -> Result<(), Errno> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(written as u64);
            match rustix::io::pwritev2(file, &[IoSlice::new(rest)], at, flags) {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                // The rest of a write that was cut short, which cannot be refused any more.
                Err(Errno::INVAL | Errno::OPNOTSUPP) if written > 0 => return Err(Errno::IO),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    #![expect(
        clippy::disallowed_types,
        reason = "this is a part of the place where the file system is reached"
    )]

    use std::fs::File;
    use std::io;

    use super::{Arc, Path, Scratch};

    /// No writes past the page cache.
    pub(in super::super) struct Direct;

    impl Direct {
        /// Nothing to open.
        pub(in super::super) fn open(_: &Path, _: &File, _: &Arc<Scratch>) -> Self {
            Self
        }

        /// Never writes.
        pub(in super::super) fn write(&self, _: u64, _: &[u8], _: bool) -> Option<io::Result<()>> {
            None
        }
    }
}

//! Files as the log needs them, as a trait: the real disk and a simulated one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A directory of files.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Opens a file, `None` when there is none.
    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>>;

    /// Creates a file of `length` zero bytes whose blocks are allocated. The file, its length and
    /// its name are durable when this returns.
    fn create(&self, name: &str, length: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of all files, in order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// What to call a file in a message.
    fn path(&self, name: &str) -> PathBuf;

    /// Called when something failed because the disk is full: waits a little and says whether it
    /// is worth another try.
    fn wait_for_room(&self) -> bool;
}

/// A file of a fixed length.
pub(crate) trait DiskFile: Send + Sync + 'static {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` at `offset`, within the file's length. Not durable before [`Self::sync`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes every write before this call durable.
    fn sync(&self) -> io::Result<()>;

    /// Writes `bytes` at `offset` as [`Self::write_at`] does; they are durable when this returns.
    /// Whether earlier writes beside them are is open.
    fn write_durably_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

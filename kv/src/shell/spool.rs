//! Snapshots that are being received, as files in the data directory.
//!
//! ```text
//! incoming/GROUP-NUMBER.snapshot
//! { length (4) ‖ CRC-32C (4) ‖ piece } ... 0 (4) ‖ number of pieces (4)
//! ```
//!
//! A file is synced once, when all of it is there, and read once. Those that nobody will ask for are
//! removed when the store is opened.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pontoon_raft::{GroupId, SnapshotSpool, SpooledSnapshot, StorageError};

/// The largest piece that is read back; they are written with about a mebibyte.
const PIECE_BYTES_MAX: usize = 1 << 30;

/// A directory of snapshots.
#[derive(Debug)]
pub(crate) struct FileSpool {
    directory: PathBuf,
    /// Bytes of the file system that snapshots leave free.
    keep_free: u64,
    next: AtomicU64,
}

/// A snapshot in a file.
struct FileSpooled {
    path: PathBuf,
    number: u64,
    keep_free: u64,
    pieces: u32,
    file: State,
}

enum State {
    Written(BufWriter<File>),
    Sealed(BufReader<File>),
}

fn failed(action: &str, path: &Path, error: &io::Error) -> StorageError {
    StorageError::new(format!(
        "could not {action} the snapshot {}: {error}",
        path.display()
    ))
}

/// Group and number in the name of a file.
fn of_name(name: &str) -> Option<(GroupId, u64)> {
    let (group, number) = name.strip_suffix(".snapshot")?.split_once('-')?;
    Some((GroupId(group.parse().ok()?), number.parse().ok()?))
}

impl FileSpool {
    /// Opens the directory, creating it when there is none.
    pub(crate) fn open(directory: &Path, keep_free: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let spool = Self {
            directory: directory.to_path_buf(),
            keep_free,
            next: AtomicU64::new(1),
        };
        let newest = spool.files()?.into_iter().map(|(_, number)| number).max();
        spool.next.fetch_add(newest.unwrap_or(0), Ordering::Relaxed);
        Ok(spool)
    }

    fn files(&self) -> io::Result<Vec<(GroupId, u64)>> {
        let name = |entry: io::Result<fs::DirEntry>| of_name(entry.ok()?.file_name().to_str()?);
        Ok(fs::read_dir(&self.directory)?.filter_map(name).collect())
    }

    fn path(&self, group: GroupId, number: u64) -> PathBuf {
        let group = group.0;
        self.directory.join(format!("{group}-{number}.snapshot"))
    }

    fn holding(&self, path: PathBuf, number: u64, file: State) -> Box<dyn SpooledSnapshot> {
        Box::new(FileSpooled {
            path,
            number,
            keep_free: self.keep_free,
            pieces: 0,
            file,
        })
    }
}

impl SnapshotSpool for FileSpool {
    fn begin(&self, group: GroupId) -> Result<Box<dyn SpooledSnapshot>, StorageError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path(group, number);
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| failed("create", &path, &error))?;
        Ok(self.holding(path, number, State::Written(BufWriter::new(file))))
    }

    fn find(
        &self,
        group: GroupId,
        number: u64,
    ) -> Result<Option<Box<dyn SpooledSnapshot>>, StorageError> {
        let path = self.path(group, number);
        match File::open(&path) {
            Ok(file) => Ok(Some(self.holding(
                path,
                number,
                State::Sealed(BufReader::new(file)),
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", &path, &error)),
        }
    }

    fn keep_only(&self, wanted: &[(GroupId, u64)]) {
        for (group, number) in self.files().unwrap_or_default() {
            if !wanted.contains(&(group, number)) {
                let _ = fs::remove_file(self.path(group, number));
            }
        }
    }
}

impl FileSpooled {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let State::Written(file) = &mut self.file else {
            return Err(io::Error::other("it is sealed"));
        };
        let length = u32::try_from(piece.len()).map_err(io::Error::other)?;
        file.write_all(&length.to_be_bytes())?;
        file.write_all(&crc32c::crc32c(piece).to_be_bytes())?;
        file.write_all(piece)
    }

    fn end(&mut self) -> io::Result<()> {
        let State::Written(file) = &mut self.file else {
            return Err(io::Error::other("it is sealed"));
        };
        file.write_all(&0_u32.to_be_bytes())?;
        file.write_all(&self.pieces.to_be_bytes())?;
        file.flush()?;
        let mut file = file.get_ref().try_clone()?;
        file.sync_all()?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        file.rewind()?;
        self.pieces = 0;
        self.file = State::Sealed(BufReader::new(file));
        Ok(())
    }

    fn read(&mut self) -> io::Result<Option<Bytes>> {
        let State::Sealed(file) = &mut self.file else {
            return Err(io::Error::other("it is not sealed"));
        };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the file is damaged");
        let mut number = [0; 4];
        file.read_exact(&mut number)?;
        let length = u32::from_be_bytes(number) as usize;
        file.read_exact(&mut number)?;
        let sum = u32::from_be_bytes(number);
        if length == 0 {
            return if sum == self.pieces {
                Ok(None)
            } else {
                Err(damaged())
            };
        }
        if length > PIECE_BYTES_MAX {
            return Err(damaged());
        }
        let mut piece = vec![0; length];
        file.read_exact(&mut piece)?;
        if crc32c::crc32c(&piece) != sum {
            return Err(damaged());
        }
        self.pieces += 1;
        Ok(Some(piece.into()))
    }
}

impl SpooledSnapshot for FileSpooled {
    fn append(&mut self, piece: Bytes) -> Result<(), StorageError> {
        let free = fs2::available_space(&self.path).unwrap_or(u64::MAX);
        if free.saturating_sub(piece.len() as u64) < self.keep_free {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(failed("keep", &self.path, &full));
        }
        let written = self.write(&piece);
        written.map_err(|error| failed("write", &self.path, &error))?;
        self.pieces += 1;
        Ok(())
    }

    fn seal(&mut self) -> Result<u64, StorageError> {
        let ended = self.end();
        ended.map_err(|error| failed("sync", &self.path, &error))?;
        Ok(self.number)
    }

    fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        let read = self.read();
        read.map_err(|error| failed("read", &self.path, &error))
    }

    fn discard(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "could not remove a snapshot that is installed");
        }
    }
}

impl Drop for FileSpooled {
    fn drop(&mut self) {
        if matches!(self.file, State::Written(_)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(7);

    fn pieces(of: &mut dyn SpooledSnapshot) -> Result<Vec<Bytes>, StorageError> {
        let mut found = Vec::new();
        while let Some(piece) = of.next()? {
            found.push(piece);
        }
        Ok(found)
    }

    #[test]
    fn what_is_sealed_is_found_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let names = || fs::read_dir(directory.path()).unwrap().count();
        let spool = FileSpool::open(directory.path(), 0).unwrap();
        let content = [Bytes::from("one"), Bytes::from(vec![2; 3 << 20])];
        let mut spooled = spool.begin(GROUP).unwrap();
        for piece in &content {
            spooled.append(piece.clone()).unwrap();
        }
        let number = spooled.seal().unwrap();
        assert_eq!(pieces(&mut *spooled).unwrap(), content);
        drop(spooled);
        let mut given_up = spool.begin(GROUP).unwrap();
        given_up.append(Bytes::from("never sealed")).unwrap();
        assert_eq!(names(), 2);
        drop(given_up);
        assert_eq!(names(), 1);

        let spool = FileSpool::open(directory.path(), 0).unwrap();
        let mut other = spool.begin(GROUP).unwrap();
        assert!(other.seal().unwrap() > number);
        assert!(spool.find(GroupId(8), number).unwrap().is_none());
        spool.keep_only(&[(GROUP, number)]);
        assert_eq!(names(), 1);
        let mut found = spool.find(GROUP, number).unwrap().unwrap();
        assert_eq!(pieces(&mut *found).unwrap(), content);
        found.discard();
        assert_eq!(names(), 0);
    }

    #[test]
    fn damage_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let spool = FileSpool::open(directory.path(), 0).unwrap();
        let mut spooled = spool.begin(GROUP).unwrap();
        spooled.append(Bytes::from("one")).unwrap();
        spooled.append(Bytes::from("two")).unwrap();
        let number = spooled.seal().unwrap();
        let path = spool.path(GROUP, number);
        let whole = fs::read(&path).unwrap();
        let read = || pieces(&mut *spool.find(GROUP, number).unwrap().unwrap());
        assert_eq!(read().unwrap().len(), 2);
        for cut in 0..whole.len() {
            fs::write(&path, whole.get(..cut).unwrap()).unwrap();
            assert!(read().is_err(), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            *flipped.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            let error = read().unwrap_err();
            assert!(error.message.contains("7-1.snapshot"), "{error}");
        }
    }

    #[test]
    fn what_is_to_be_left_free_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let spool = FileSpool::open(directory.path(), u64::MAX).unwrap();
        let mut spooled = spool.begin(GROUP).unwrap();
        let error = spooled.append(Bytes::from("one")).unwrap_err();
        assert!(error.message.contains("no storage space"), "{error}");
    }
}

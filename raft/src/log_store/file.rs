//! The real disk. The only place of this crate that reaches the file system.
//!
//! Small writes of whole blocks go past the page cache where the file system lets them: a sync
//! of a cached page costs 20 us more than the disk takes, most of it for finding the page. The two
//! ways never meet in a page, since segments are written in blocks as large as one.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the place where the file system is reached"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::direct::{Direct, Scratch};
use super::disk::{Disk, DiskFile};

/// How long to wait before trying again on a full disk.
const ROOM_RETRY: Duration = Duration::from_millis(50);

/// A directory of the file system.
#[derive(Debug)]
pub(crate) struct FileDisk {
    directory: PathBuf,
    scratch: Arc<Scratch>,
}

impl FileDisk {
    /// A disk in `directory`, which is created when it is missing.
    pub(crate) fn open(directory: &Path) -> io::Result<Arc<Self>> {
        fs::create_dir_all(directory)?;
        if let Some(parent) = directory
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            File::open(parent)?.sync_all()?;
        }
        Ok(Arc::new(Self {
            directory: directory.to_owned(),
            scratch: Arc::default(),
        }))
    }

    fn file(&self, name: &str, file: File) -> Arc<dyn DiskFile> {
        let direct = Direct::open(&self.directory.join(name), &file, &self.scratch);
        Arc::new(RealFile { file, direct })
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

impl Disk for FileDisk {
    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        match OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.directory.join(name))
        {
            Ok(file) => Ok(Some(self.file(name, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, name: &str, length: u64) -> io::Result<Arc<dyn DiskFile>> {
        // Under another name until it is complete: a crash must not leave a short segment.
        let temporary = self.directory.join(format!("{name}.new"));
        let path = self.directory.join(name);
        let file = write_zeros(&temporary, length).inspect_err(|_| {
            // Half of it may fill the disk.
            let _ = fs::remove_file(&temporary);
        })?;
        fs::rename(&temporary, &path)?;
        self.sync_directory()?;
        Ok(self.file(name, file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))?;
        self.sync_directory()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn wait_for_room(&self) -> bool {
        crate::shell::pause(ROOM_RETRY);
        true
    }
}

fn write_zeros(path: &Path, length: u64) -> io::Result<File> {
    // The kernel caches what is written at once as one piece, and every small write to it later
    // costs a look at all of its blocks: 4 us instead of 1 with a MiB, and more at the sync.
    const CHUNK: usize = 8 << 10;
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    let zeros = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        let chunk = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        file.write_all(zeros.get(..chunk).unwrap_or(&zeros))?;
        left -= chunk as u64;
    }
    file.sync_all()?;
    Ok(file)
}

struct RealFile {
    file: File,
    /// The way past the page cache.
    direct: Direct,
}

impl DiskFile for RealFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self.direct.write(offset, bytes, false) {
            Some(outcome) => outcome,
            None => self.file.write_all_at(bytes, offset),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write_durably_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self.direct.write(offset, bytes, true) {
            Some(outcome) => outcome,
            None => {
                self.file.write_all_at(bytes, offset)?;
                self.file.sync_data()
            }
        }
    }
}

//! The data directory of a node: made, locked and checked before anything in it is opened.
//!
//! `LOCK` is held by the process that uses the directory; `FORMAT` names the format of everything
//! else in it. A directory that is not empty and has no `FORMAT` is not ours and is left alone.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Failure;

/// What `FORMAT` holds. Raised when a newer version cannot be read by an older one.
const FORMAT: &str = "pontoon data format 1\n";

/// A directory that belongs to this process as long as this lives.
pub(crate) struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Makes the directory if there is none, and takes it.
    pub(crate) fn take(path: &Path) -> Result<Self, Failure> {
        let fail = |reason: String, advice| Failure::DataDir {
            path: PathBuf::from(path),
            reason,
            advice,
        };
        let io_fail = |e: io::Error| match e.kind() {
            io::ErrorKind::PermissionDenied => fail(
                "permission denied".to_owned(),
                "Run as the user that owns it, or choose another with --data-dir DIR.",
            ),
            io::ErrorKind::StorageFull => fail(
                "the disk is full".to_owned(),
                "Make room on the disk and start again.",
            ),
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => fail(
                "it is not a directory".to_owned(),
                "Choose another with --data-dir DIR.",
            ),
            _ => fail(
                e.to_string(),
                "Check the path, or choose another with --data-dir DIR.",
            ),
        };
        make_private(path).map_err(io_fail)?;
        if !path.join("FORMAT").exists() && !is_fresh(path).map_err(io_fail)? {
            return Err(fail(
                "it holds files that are not Pontoon's".to_owned(),
                "Choose an empty or a new directory with --data-dir DIR.",
            ));
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("LOCK"))
            .map_err(io_fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(fail(
                    "another pontoon process uses it".to_owned(),
                    "Stop that process, or choose another directory with --data-dir DIR.",
                ));
            }
            Err(TryLockError::Error(e)) => return Err(io_fail(e)),
        }
        match fs::read_to_string(path.join("FORMAT")) {
            Ok(text) if text == FORMAT => {}
            Ok(text) => {
                return Err(fail(
                    format!(
                        "it was written by another version of Pontoon ({}; this one reads {})",
                        text.trim(),
                        FORMAT.trim()
                    ),
                    "Use the version that wrote it. Nothing in it was changed.",
                ));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => write_format(path).map_err(io_fail)?,
            Err(e) => return Err(io_fail(e)),
        }
        Ok(Self { _lock: lock })
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Whether nothing lies in the directory but what an interrupted first start leaves.
fn is_fresh(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name != "LOCK" && name != "FORMAT.new" && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whole or not at all, also after a power failure.
fn write_format(path: &Path) -> io::Result<()> {
    let new = path.join("FORMAT.new");
    let mut file = File::create(&new)?;
    file.write_all(FORMAT.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path.join("FORMAT"))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        DataDir::take(path)
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let held = DataDir::take(&path).ok().unwrap();
        assert!(refusal(&path).contains("another pontoon process uses it"));
        drop(held);
        assert_eq!(refusal(&path), "");
    }

    #[test]
    fn other_versions_and_other_files() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::take(dir.path()).ok().unwrap());
        fs::write(dir.path().join("FORMAT"), "pontoon data format 9\n").unwrap();
        assert!(refusal(dir.path()).contains("format 9"));
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("thesis.tex"), "").unwrap();
        assert!(refusal(other.path()).contains("not Pontoon's"));
        assert!(!other.path().join("LOCK").exists());
        let file = other.path().join("thesis.tex");
        assert!(refusal(&file).contains("not a directory"));
    }
}

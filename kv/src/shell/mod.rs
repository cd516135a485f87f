//! The edge to the operating system and the runtime: the only module of this crate that spawns
//! tasks and threads, draws entropy or touches files by itself (the engine has fjall for that).

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the place where the system is reached"
)]

pub(crate) mod disk;
pub(crate) mod spool;

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs2::FileExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::error::Error;

/// The runtime on which a node runs. Its timers work for callers on any executor.
#[derive(Clone, Debug)]
pub struct Runtime {
    handle: Handle,
    began: tokio::time::Instant,
}

impl Runtime {
    /// The runtime of the calling task.
    ///
    /// # Errors
    /// [`Error::Unavailable`] outside of a runtime.
    pub fn current() -> Result<Self, Error> {
        let handle = Handle::try_current().map_err(|error| Error::Unavailable {
            message: error.to_string(),
        })?;
        Ok(Self {
            handle,
            began: tokio::time::Instant::now(),
        })
    }

    /// Time since [`Self::current`] was called, by the clock of the timers. Never goes backwards.
    pub fn monotonic(&self) -> Duration {
        let _context = self.handle.enter();
        tokio::time::Instant::now().saturating_duration_since(self.began)
    }

    /// Waits.
    pub async fn sleep(&self, duration: Duration) {
        let sleep = {
            let _context = self.handle.enter();
            tokio::time::sleep(duration)
        };
        sleep.await;
    }

    /// Waits for `future`, at most for `duration`; `None` when it took longer.
    pub async fn timeout<T>(
        &self,
        duration: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let timeout = {
            let _context = self.handle.enter();
            tokio::time::timeout(duration, future)
        };
        timeout.await.ok()
    }

    /// Runs `future` as a task and waits for it; `None` when the runtime is shutting down.
    pub async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.handle.spawn(future).await.ok()
    }

    /// Starts a task.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.handle.spawn(future)
    }

    /// Runs what blocks, off the threads of the runtime; in place on a single-threaded runtime, so
    /// that the simulator stays deterministic.
    pub async fn blocking<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        match self.handle.runtime_flavor() {
            tokio::runtime::RuntimeFlavor::CurrentThread => Some(body()),
            _ => self.handle.spawn_blocking(body).await.ok(),
        }
    }
}

/// A runtime on a thread of its own, for stores in memory whose callers may be anywhere.
pub(crate) struct OwnRuntime {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl OwnRuntime {
    /// Starts the thread, runs `start` on it and returns its result.
    pub(crate) fn start<T: Send + 'static, F>(
        start: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(Self, T), Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (sender, receiver) = std::sync::mpsc::channel();
        let failed = |message: String| Error::Unavailable { message };
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = sender.send(Err(failed(error.to_string())));
                    return;
                }
            };
            runtime.block_on(async {
                let _ = sender.send(start().await);
                let _ = stopped.await;
            });
        };
        std::thread::Builder::new()
            .name("pontoon-memory".into())
            .spawn(body)
            .map_err(|error| failed(error.to_string()))?;
        let started = receiver
            .recv()
            .map_err(|error| failed(error.to_string()))??;
        Ok((Self { stop: Some(stop) }, started))
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// A random number, never zero.
pub(crate) fn random_id() -> u64 {
    rand::random::<u64>() >> 1 | 1
}

/// Waits on a thread that may block until something is so, and says whether it is in time.
pub(crate) fn wait_for(at_most: Duration, is_so: impl Fn() -> bool) -> bool {
    const STEP: Duration = Duration::from_millis(1);
    let mut left = at_most;
    while !is_so() {
        if left < STEP {
            return false;
        }
        std::thread::sleep(STEP);
        left -= STEP;
    }
    true
}

/// Ends the process: the disk has failed, and nobody knows what it holds.
pub(crate) fn abort(message: &str) -> ! {
    tracing::error!(message, "the disk has failed; the process ends");
    std::process::abort()
}

/// The format of a data directory that this version reads and writes.
const FORMAT: &str = "pontoon 1";

/// A data directory that this process has to itself.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

fn cannot(action: &str, path: &Path, error: &io::Error) -> Error {
    if disk::is_full(error) {
        return Error::DiskFull;
    }
    Error::Storage {
        message: format!("could not {action} {}: {error}", path.display()),
    }
}

impl DataDirectory {
    /// Takes possession of a directory, creating it when there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|error| cannot("create", path, &error))?;
        let lock = lock(path)?;
        let version = path.join("VERSION");
        match fs::read_to_string(&version) {
            Ok(found) if found.trim() == FORMAT => {}
            Ok(found) => {
                let message = format!(
                    "data directory {} was written by another version: its format is \"{}\", \
                     this program reads \"{FORMAT}\"; start the version that wrote it",
                    path.display(),
                    found.trim().chars().take(40).collect::<String>()
                );
                return Err(Error::Storage { message });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refuse_foreign(path)?;
                write_durably(path, &version, FORMAT)?;
            }
            Err(error) => return Err(cannot("read", &version, &error)),
        }
        Ok(Self {
            path: path.to_path_buf(),
            _lock: lock,
        })
    }

    /// A directory within it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn lock(path: &Path) -> Result<File, Error> {
    let file = path.join("LOCK");
    let mut lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&file)
        .map_err(|error| cannot("open", &file, &error))?;
    if lock.try_lock_exclusive().is_err() {
        let mut owner = String::new();
        let _ = lock.read_to_string(&mut owner);
        let owner = match owner.trim() {
            "" => String::new(),
            pid => format!(" (process {pid})"),
        };
        let message = format!(
            "data directory {} is in use by another process{owner}; \
             stop it first or choose another directory",
            path.display()
        );
        return Err(Error::Storage { message });
    }
    // Written over, then cut: on a full disk there may be no block for what was cut off before.
    let owner = std::process::id().to_string();
    let written = lock
        .rewind()
        .and_then(|()| lock.write_all(owner.as_bytes()))
        .and_then(|()| lock.set_len(owner.len() as u64));
    written.map_err(|error| cannot("write", &file, &error))?;
    Ok(lock)
}

/// A directory without our version file must be empty, or it is not ours.
fn refuse_foreign(path: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(path).map_err(|error| cannot("read", path, &error))?;
    for entry in entries {
        let name = entry
            .map_err(|error| cannot("read", path, &error))?
            .file_name();
        if name != "LOCK" && name != "VERSION.new" && name != "lost+found" {
            let message = format!(
                "directory {} is not empty and is no data directory (it holds {}); \
                 choose an empty one",
                path.display(),
                name.display()
            );
            return Err(Error::Storage { message });
        }
    }
    Ok(())
}

fn write_durably(directory: &Path, path: &Path, content: &str) -> Result<(), Error> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        writeln!(file, "{content}")?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| cannot("write", path, &error))
}

//! The edge to the operating system: the only module that reads the clock, draws entropy or
//! starts threads.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the place where the system is reached"
)]

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::clock::Clock;

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic readings start now.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
        })
    }
}

impl Clock for SystemClock {
    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wall_ms(&self) -> u64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A seed from the system's entropy, for [`crate::Host::open`].
pub fn entropy_seed() -> u64 {
    rand::random()
}

/// Starts a named thread.
pub(crate) fn spawn_thread(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(body)
}

/// A monotonic reading for the log thread's short spins.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Holds up the calling thread, which must be one of ours and not of a runtime.
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Starts a task on the current tokio runtime.
pub(crate) fn spawn_task(
    task: impl Future<Output = ()> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(task)
}

/// Runs what may block where that holds up no task: on a thread of its own, or in place on a
/// runtime of a single thread, as in simulations. An error when it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => {
            let task = tokio::task::spawn_blocking(body);
            task.await.map_err(io::Error::other)
        }
        _ => Ok(body()),
    }
}

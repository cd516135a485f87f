//! Which session a cancel request means: backend number and secret to cancel handle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};

use parking_lot::Mutex;
use pontoon_sql::session::CancelHandle;

/// All sessions of the node that can be cancelled.
#[derive(Default)]
pub(crate) struct CancelRegistry {
    last_pid: AtomicI32,
    sessions: Mutex<HashMap<i32, Entry>>,
}

struct Entry {
    secret: Vec<u8>,
    handle: CancelHandle,
}

/// Takes the session out of the registry when dropped.
pub(crate) struct Registration<'a> {
    registry: &'a CancelRegistry,
    pid: i32,
}

impl CancelRegistry {
    /// A backend number that no living session has.
    pub(crate) fn next_pid(&self) -> i32 {
        loop {
            let pid = self
                .last_pid
                .fetch_add(1, Ordering::Relaxed)
                .wrapping_add(1);
            if pid <= 0 {
                self.last_pid.store(0, Ordering::Relaxed);
            } else if !self.sessions.lock().contains_key(&pid) {
                return pid;
            }
        }
    }

    /// Makes a session known.
    pub(crate) fn register(
        &self,
        pid: i32,
        secret: Vec<u8>,
        handle: CancelHandle,
    ) -> Registration<'_> {
        self.sessions.lock().insert(pid, Entry { secret, handle });
        Registration {
            registry: self,
            pid,
        }
    }

    /// Cancels what the session runs, if the secret is right. As in PostgreSQL, nobody is told
    /// whether it was.
    pub(crate) fn cancel(&self, pid: i32, secret: &[u8]) {
        let sessions = self.sessions.lock();
        if let Some(entry) = sessions.get(&pid) {
            let differing = entry
                .secret
                .iter()
                .zip(secret)
                .fold(0, |acc, (a, b)| acc | (a ^ b));
            if entry.secret.len() == secret.len() && differing == 0 {
                entry.handle.cancel();
            }
        }
    }
}

impl CancelRegistry {
    /// Cancels whatever any session runs.
    pub(crate) fn cancel_all(&self) {
        for entry in self.sessions.lock().values() {
            entry.handle.cancel();
        }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.registry.sessions.lock().remove(&self.pid);
    }
}

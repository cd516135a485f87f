//! Segment files that are not in use: released ones, and one made in advance.
//!
//! Making a file writes all of it, so that its blocks are allocated and a later sync has nothing
//! to do but write; that takes milliseconds, so another thread does it.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::disk::{Disk, DiskFile};
use super::recover::slot_name;

/// A file that is not in use.
pub(super) struct Spare {
    pub(super) slot: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) length: u64,
}

/// Segment files that are not in use.
pub(super) struct Spares {
    state: Mutex<State>,
    made: Condvar,
    /// Whether files are made by another thread.
    threads: bool,
}

struct State {
    free: Vec<Spare>,
    next_slot: u64,
    making: bool,
}

impl Spares {
    pub(super) fn new(free: Vec<Spare>, next_slot: u64, threads: bool) -> Arc<Self> {
        let state = State {
            free,
            next_slot,
            making: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            made: Condvar::new(),
            threads,
        })
    }

    /// A file of at least `length` bytes. After an error everything is as before.
    pub(super) fn take(&self, disk: &dyn Disk, length: u64) -> io::Result<Spare> {
        let mut state = self.state.lock();
        while state.making {
            self.made.wait(&mut state);
        }
        let fits = |spare: &Spare| spare.length >= length;
        if let Some(found) = state.free.iter().position(fits) {
            return Ok(state.free.swap_remove(found));
        }
        let slot = state.next_slot;
        let file = disk.create(&slot_name(slot), length)?;
        state.next_slot += 1;
        Ok(Spare { slot, file, length })
    }

    /// Waits until no file is being made: after this nothing is written to the directory.
    pub(super) fn settle(&self) {
        let mut state = self.state.lock();
        while state.making {
            self.made.wait(&mut state);
        }
    }

    /// Takes back a file; removes it when `keep` are there already.
    pub(super) fn put(&self, disk: &dyn Disk, spare: Spare, keep: usize) {
        let mut state = self.state.lock();
        if state.free.len() < keep {
            state.free.push(spare);
        } else if let Err(error) = disk.remove(&slot_name(spare.slot)) {
            tracing::warn!(%error, slot = spare.slot, "could not remove unused raft log segment");
        }
    }

    /// Sees to it that a file will be there when the next is needed.
    pub(super) fn prepare(self: &Arc<Self>, disk: &Arc<dyn Disk>, length: u64) {
        let mut state = self.state.lock();
        if !self.threads || state.making || !state.free.is_empty() {
            return;
        }
        let slot = state.next_slot;
        state.next_slot += 1;
        state.making = true;
        drop(state);
        let (spares, disk) = (Arc::clone(self), Arc::clone(disk));
        let make = move || {
            let made = disk.create(&slot_name(slot), length);
            let mut state = spares.state.lock();
            match made {
                Ok(file) => state.free.push(Spare { slot, file, length }),
                // It is tried again, and reported, when a file is needed.
                Err(error) => tracing::warn!(%error, "could not make a raft log segment ahead"),
            }
            state.making = false;
            spares.made.notify_all();
        };
        if let Err(error) = crate::shell::spawn_thread("raftlog-spare", make) {
            // The file will be made when it is needed.
            tracing::warn!(%error, "could not start a thread");
            self.state.lock().making = false;
        }
    }
}

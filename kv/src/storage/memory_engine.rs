//! [`Engine`] in memory, for tests and for the simulator.
//!
//! The keyspaces are ordered maps behind shared pointers: a snapshot shares them, and the first
//! write after it copies them. With crash tracking on, [`Engine::persist`] keeps a second pointer
//! to what would survive, and [`MemoryEngine::crash`] goes back to it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::Error;
use crate::storage::engine::{Cursor, Engine, EngineSnapshot, Space, WriteBatch};

type Map = BTreeMap<Bytes, Bytes>;

#[derive(Clone, Default)]
struct Maps {
    kv: Arc<Map>,
    history: Arc<Map>,
    meta: Arc<Map>,
}

impl Maps {
    fn of(&self, space: Space) -> &Arc<Map> {
        match space {
            Space::Kv => &self.kv,
            Space::History => &self.history,
            Space::Meta => &self.meta,
        }
    }

    fn of_mut(&mut self, space: Space) -> &mut Map {
        Arc::make_mut(match space {
            Space::Kv => &mut self.kv,
            Space::History => &mut self.history,
            Space::Meta => &mut self.meta,
        })
    }
}

#[derive(Default)]
struct State {
    now: Maps,
    durable: Maps,
}

/// An engine in memory.
pub struct MemoryEngine {
    state: Mutex<State>,
    crashes: bool,
}

impl MemoryEngine {
    /// An empty engine whose content ends with it.
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            crashes: false,
        }
    }

    /// An empty engine that can [`Self::crash`].
    pub fn with_crashes() -> Self {
        Self {
            state: Mutex::default(),
            crashes: true,
        }
    }

    /// What a new process finds after a power failure. Writes to `self`, from tasks of the old
    /// process that have not ended yet, do not reach it.
    pub fn after_crash(&self) -> Self {
        let durable = self.state.lock().durable.clone();
        let state = State {
            now: durable.clone(),
            durable,
        };
        Self {
            state: Mutex::new(state),
            crashes: true,
        }
    }

    /// Forgets everything written since the last [`Engine::persist`].
    pub fn crash(&self) {
        let mut state = self.state.lock();
        state.now = state.durable.clone();
    }
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for MemoryEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.state.lock().now.of(space).get(key).cloned())
    }

    fn snapshot(&self) -> Box<dyn EngineSnapshot> {
        Box::new(Snapshot {
            maps: self.state.lock().now.clone(),
        })
    }

    fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        let mut state = self.state.lock();
        for (space, key, value) in batch.changes {
            let map = state.now.of_mut(space);
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn persist(&self) -> Result<(), Error> {
        if self.crashes {
            let mut state = self.state.lock();
            state.durable = state.now.clone();
        }
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        0
    }
}

struct Snapshot {
    maps: Maps,
}

impl EngineSnapshot for Snapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.maps.of(space).get(key).cloned())
    }

    fn scan(&self, space: Space, start: &[u8], end: &[u8], reverse: bool) -> Box<dyn Cursor> {
        let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
        let end = end.max(start.clone());
        Box::new(MemoryCursor {
            map: Arc::clone(self.maps.of(space)),
            from: Bound::Included(start),
            to: Bound::Excluded(end),
            reverse,
        })
    }
}

struct MemoryCursor {
    map: Arc<Map>,
    from: Bound<Bytes>,
    to: Bound<Bytes>,
    reverse: bool,
}

impl Cursor for MemoryCursor {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        let mut row = None;
        self.for_each(&mut |key, value| {
            row = Some((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            false
        })?;
        Ok(row)
    }

    fn for_each(&mut self, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<bool, Error> {
        let (Bound::Included(from) | Bound::Excluded(from)) = &self.from else {
            return Ok(false);
        };
        let (Bound::Included(to) | Bound::Excluded(to)) = &self.to else {
            return Ok(false);
        };
        // The map panics on an empty span between two excluded bounds.
        if from >= to {
            return Ok(false);
        }
        let mut rows = self.map.range((self.from.clone(), self.to.clone()));
        loop {
            let row = if self.reverse {
                rows.next_back()
            } else {
                rows.next()
            };
            let Some((key, value)) = row else {
                self.to = self.from.clone();
                return Ok(false);
            };
            if !visit(key, value) {
                let here = Bound::Excluded(key.clone());
                *(if self.reverse {
                    &mut self.to
                } else {
                    &mut self.from
                }) = here;
                return Ok(true);
            }
        }
    }
}

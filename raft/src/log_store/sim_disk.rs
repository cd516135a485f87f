//! A disk in memory that loses what was not synced when it crashes.
//!
//! A write goes to a list of pending writes; a sync applies them. At a crash each sector of each
//! pending write survives or not, by the seed, as on a real disk that loses power: writes may be
//! lost, torn and reordered, synced data never.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::disk::{Disk, DiskFile};

/// What a disk writes at once or not at all.
const SECTOR: usize = 512;

/// A fault that a test plants to see whether it is found.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum PlantedBug {
    /// None.
    #[default]
    None,
    /// This share of syncs is acknowledged and not done.
    SkipSync(f64),
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: SmallRng,
    bug: PlantedBug,
    /// Counts crashes: handles from before the last one are dead.
    epoch: u64,
    files: BTreeMap<String, FileState>,
    syncs: u64,
    /// Bytes that may yet be allocated.
    space: u64,
    /// How many looks for room are in vain before there is room without limit again; `None`: all.
    room_after: Option<u32>,
    fail_writes: bool,
}

#[derive(Default)]
struct FileState {
    /// What a reader sees.
    visible: Vec<u8>,
    /// What survives a crash for certain.
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let state = State {
            rng: SmallRng::seed_from_u64(seed),
            bug: PlantedBug::None,
            epoch: 0,
            files: BTreeMap::new(),
            syncs: 0,
            space: u64::MAX,
            room_after: None,
            fail_writes: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Plants a fault.
    pub fn plant(&self, bug: PlantedBug) {
        self.state.lock().bug = bug;
    }

    /// Loses power: of what was not synced each sector survives or not. Handles opened before are
    /// dead: their writes fail.
    pub fn crash(&self) {
        let mut state = self.state.lock();
        let State { rng, files, .. } = &mut *state;
        for file in files.values_mut() {
            for (offset, bytes) in std::mem::take(&mut file.pending) {
                survive(rng, &mut file.durable, offset, &bytes);
            }
            file.visible = file.durable.clone();
        }
        state.epoch += 1;
    }

    /// Kills the process without loss of power: everything written survives, handles are dead.
    pub fn kill(&self) {
        self.state.lock().epoch += 1;
    }

    /// Syncs asked for so far.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Lets no more than `bytes` be allocated.
    pub fn limit_space(&self, bytes: u64) {
        self.state.lock().space = bytes;
    }

    /// Makes room without limit return once a full disk was looked at `looks` times in vain.
    pub fn room_returns_after(&self, looks: u32) {
        self.state.lock().room_after = Some(looks);
    }

    /// Makes every write fail.
    pub fn fail_writes(&self, fail: bool) {
        self.state.lock().fail_writes = fail;
    }

    /// The synced bytes of a file, for tests that damage them.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        self.state
            .lock()
            .files
            .get(name)
            .map(|file| file.visible.clone())
    }

    /// Replaces a file, as damage would.
    pub fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        let file = FileState {
            visible: bytes.clone(),
            durable: bytes,
            pending: Vec::new(),
        };
        self.state.lock().files.insert(name.to_owned(), file);
    }

    /// The names of all files, in order.
    pub fn names(&self) -> Vec<String> {
        self.state.lock().files.keys().cloned().collect()
    }

    /// Removes a file, as damage would.
    pub fn remove(&self, name: &str) {
        self.state.lock().files.remove(name);
    }

    /// A disk with the same files, for a test that damages one of many copies.
    pub fn duplicate(&self, seed: u64) -> Self {
        let copy = Self::new(seed);
        let state = self.state.lock();
        for (name, file) in &state.files {
            copy.overwrite(name, file.visible.clone());
        }
        copy
    }

    /// The disk as a log sees it from now until the next crash.
    pub(super) fn attach(&self) -> Arc<Attached> {
        let epoch = self.state.lock().epoch;
        Arc::new(Attached {
            state: Arc::clone(&self.state),
            epoch,
        })
    }
}

/// A disk as one run of a process sees it; dead after a crash.
pub(super) struct Attached {
    state: Arc<Mutex<State>>,
    epoch: u64,
}

impl Attached {
    fn with<T>(&self, body: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        with(&self.state, self.epoch, body)
    }

    fn file(&self, name: &str) -> Arc<dyn DiskFile> {
        let (state, epoch) = (Arc::clone(&self.state), self.epoch);
        Arc::new(SimFile {
            state,
            name: name.to_owned(),
            epoch,
        })
    }
}

fn with<T>(
    state: &Mutex<State>,
    epoch: u64,
    body: impl FnOnce(&mut State) -> io::Result<T>,
) -> io::Result<T> {
    let mut state = state.lock();
    if state.epoch != epoch {
        return Err(io::Error::other("the simulated machine has crashed"));
    }
    body(&mut state)
}

fn survive(rng: &mut SmallRng, durable: &mut [u8], offset: usize, bytes: &[u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let sector_end = (offset + at) / SECTOR * SECTOR + SECTOR;
        let end = (sector_end - offset).min(bytes.len());
        let piece = bytes.get(at..end).unwrap_or_default();
        let target = durable.get_mut(offset + at..offset + end);
        if let Some(target) = target.filter(|_| rng.random_bool(0.5)) {
            target.copy_from_slice(piece);
        }
        at = end;
    }
}

/// Puts `bytes`, which lie at `from`, over what `target`, which lies at `start`, has of them.
fn put_over(target: &mut [u8], start: usize, bytes: &[u8], from: usize) {
    let begin = from.max(start);
    let end = (from + bytes.len()).min(start + target.len());
    if begin < end
        && let Some(target) = target.get_mut(begin - start..end - start)
        && let Some(bytes) = bytes.get(begin - from..end - from)
    {
        target.copy_from_slice(bytes);
    }
}

impl Disk for Attached {
    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let there = self.with(|state| Ok(state.files.contains_key(name)))?;
        Ok(there.then(|| self.file(name)))
    }

    fn create(&self, name: &str, length: u64) -> io::Result<Arc<dyn DiskFile>> {
        let bytes = usize::try_from(length).map_err(io::Error::other)?;
        self.with(|state| {
            state.space = state
                .space
                .checked_sub(length)
                .ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))?;
            let file = FileState {
                visible: vec![0; bytes],
                durable: vec![0; bytes],
                pending: Vec::new(),
            };
            state.files.insert(name.to_owned(), file);
            Ok(())
        })?;
        Ok(self.file(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.with(|state| Ok(state.files.keys().cloned().collect()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.with(|state| {
            state.files.remove(name);
            Ok(())
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("sim").join(name)
    }

    fn wait_for_room(&self) -> bool {
        let mut state = self.state.lock();
        match state.room_after {
            None => return false,
            Some(0) => state.space = u64::MAX,
            Some(looks) => state.room_after = Some(looks - 1),
        }
        true
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    name: String,
    epoch: u64,
}

impl SimFile {
    fn with<T>(&self, body: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        with(&self.state, self.epoch, body)
    }

    /// Makes something durable, unless a planted fault leaves that out.
    fn synced(&self, body: impl FnOnce(&mut FileState)) -> io::Result<()> {
        self.with(|state| {
            state.syncs += 1;
            if let PlantedBug::SkipSync(share) = state.bug
                && state.rng.random_bool(share)
            {
                return Ok(());
            }
            let file = state.files.get_mut(&self.name);
            body(file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?);
            Ok(())
        })
    }

    fn with_file<T>(&self, body: impl FnOnce(&mut FileState) -> io::Result<T>) -> io::Result<T> {
        self.with(|state| {
            let file = state.files.get_mut(&self.name);
            body(file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?)
        })
    }
}

impl DiskFile for SimFile {
    fn length(&self) -> io::Result<u64> {
        self.with_file(|file| Ok(file.visible.len() as u64))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with_file(|file| {
            let from = usize::try_from(offset).map_err(io::Error::other)?;
            let source = file.visible.get(from..from + buffer.len());
            buffer.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|state| {
            if state.fail_writes {
                return Err(io::Error::other("simulated write error"));
            }
            Ok(())
        })?;
        self.with_file(|file| {
            let from = usize::try_from(offset).map_err(io::Error::other)?;
            let target = file.visible.get_mut(from..from + bytes.len());
            target
                .ok_or(io::ErrorKind::UnexpectedEof)?
                .copy_from_slice(bytes);
            file.pending.push((from, bytes.to_vec()));
            Ok(())
        })
    }

    fn write_durably_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)?;
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        self.synced(|file| {
            file.pending.pop();
            // What was written there before cannot come back over it, and what was written beside
            // it can still be lost.
            for (earlier, pending) in &mut file.pending {
                put_over(pending, *earlier, bytes, from);
            }
            put_over(&mut file.durable, 0, bytes, from);
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.synced(|file| {
            for (offset, bytes) in std::mem::take(&mut file.pending) {
                put_over(&mut file.durable, 0, &bytes, offset);
            }
        })
    }
}

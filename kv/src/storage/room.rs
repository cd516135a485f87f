//! [`Room`]: whether there is room on the disk for another commit.
//!
//! A store that runs out of disk in the middle of something cannot go on: the engine poisons
//! itself. So commits are refused *before* they are proposed, while there is still a reserve for
//! what cannot be refused: flushes and merges of what has been accepted, segments of the Raft log,
//! the small entries without which reads would end (windows of timestamps, new leaders).
//!
//! ```text
//! the file system   | others | data ... | free: floor .............. | ballast |
//!                                         [ soft reserve + headroom ]  ^ a file of ours
//! ```
//! The **reserve** has a hard part, the *ballast*: a file of ours that nobody else can take, given
//! up when something that cannot be refused has met a full disk. The rest is soft: commits leave
//! it free, others may fill it. The **headroom** is what the engine may yet need for what it holds.
//! The sum of what must be free is the *floor*.
//!
//! Everything here is synchronous and driven by samples; `crate::db` takes them. Why all this:
//! `docs/design/0004-full-disk.md`.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::Error;

/// Bytes of disk that a byte of a commit may take: in the Raft log, in the engine's journal, in a
/// table, and as an older version once it is replaced.
pub const COMMIT_AMPLIFICATION: u64 = 4;

/// The default reserve, unless the share of the file system is larger.
const RESERVE_BYTES_MIN: u64 = 256 << 20;
/// The default reserve is one part in so many of the file system.
const RESERVE_PART: u64 = 100;
/// No reserve is larger than one part in so many of the file system.
const RESERVE_PART_MAX: u64 = 4;
/// The largest ballast: what a few flushes and log segments need at the same time.
const BALLAST_BYTES_MAX: u64 = 256 << 20;
/// Writes are accepted again when the room above the floor is one part in so many of the reserve.
const REOPEN_PART: u64 = 16;

/// The file system on which a store lies.
pub trait Volume: Send + Sync + 'static {
    /// Bytes that this process may still take; `None` when that is not known.
    fn free_bytes(&self) -> Option<u64>;

    /// Bytes that there are in all; `None` when that is not known.
    fn total_bytes(&self) -> Option<u64> {
        None
    }

    /// Bytes of the ballast that is held now.
    fn ballast_bytes(&self) -> u64;

    /// Makes the ballast that large; zero gives it up. After an error there is none.
    fn set_ballast(&self, bytes: u64) -> io::Result<()>;
}

/// What is kept free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reserve {
    /// All of it, in bytes.
    pub bytes: u64,
    /// The part of it that is held as ballast.
    pub ballast: u64,
}

impl Reserve {
    /// The reserve on a file system of `volume_bytes`, of the size that was asked for or the
    /// default: the larger of 256 MiB and 1 % of the file system, and never more than a quarter.
    pub fn new(volume_bytes: u64, wanted: Option<u64>) -> Self {
        let usual = RESERVE_BYTES_MIN.max(volume_bytes / RESERVE_PART);
        let bytes = wanted.unwrap_or(usual).min(volume_bytes / RESERVE_PART_MAX);
        let ballast = (bytes / 2).min(BALLAST_BYTES_MAX);
        Self { bytes, ballast }
    }
}

/// The disk at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sample {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes of ballast that is held.
    pub ballast: u64,
    /// Bytes that the engine may yet need for what it holds.
    pub headroom: u64,
    /// The engine is writing tables.
    pub busy: bool,
    /// Something that cannot be refused waits for room.
    pub starved: bool,
}

/// What to do with the ballast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BallastMove {
    /// Nothing.
    Keep,
    /// Give it up: what waits for room gets it.
    GiveUp,
    /// Take it back.
    TakeBack,
}

/// What operators see of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RoomStats {
    /// Bytes that are free; `None` when that is not known.
    pub free_bytes: Option<u64>,
    /// Bytes that commits leave free, as of the last sample.
    pub floor_bytes: u64,
    /// Bytes of ballast held.
    pub ballast_bytes: u64,
    /// Commits are refused.
    pub refuses: bool,
}

/// Admission of commits by free space. All methods may be called at once, [`Self::observe`] by
/// one caller at a time.
#[derive(Debug)]
pub struct Room {
    reserve: Reserve,
    /// Of the last sample; `u64::MAX` before the first.
    free: AtomicU64,
    floor: AtomicU64,
    ballast: AtomicU64,
    /// What may be admitted until the next sample.
    limit: AtomicU64,
    /// What has been admitted since the last sample, amplified.
    admitted: AtomicU64,
    closed: AtomicBool,
}

impl Room {
    /// Room without end until the first sample says otherwise.
    pub fn new(reserve: Reserve) -> Self {
        Self {
            reserve,
            free: AtomicU64::new(u64::MAX),
            floor: AtomicU64::new(0),
            ballast: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
            admitted: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Admits a commit of `bytes` bytes, or refuses it. What is admitted is not given back: the
    /// next sample shows what it really took.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub fn admit(&self, bytes: u64) -> Result<(), Error> {
        let cost = bytes.saturating_mul(COMMIT_AMPLIFICATION);
        let admit = |admitted: u64| {
            let after = admitted.saturating_add(cost);
            (after <= self.limit.load(Ordering::Relaxed)).then_some(after)
        };
        // One at a time would do no harm; too much admitted at once would.
        let outcome = self
            .admitted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit);
        if outcome.is_ok() && !self.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Error::NoRoom {
            needed_bytes: cost,
            free_bytes: self.free.load(Ordering::Relaxed),
            floor_bytes: self.floor.load(Ordering::Relaxed),
        })
    }

    fn soft(&self) -> u64 {
        self.reserve.bytes - self.reserve.ballast
    }

    /// What must be free while the ballast is as the sample says.
    fn floor(&self, sample: &Sample) -> u64 {
        let missing = self.reserve.ballast.saturating_sub(sample.ballast);
        let reserve = self.soft().saturating_add(missing);
        if self.reserve.bytes == 0 {
            return 0;
        }
        reserve.saturating_add(sample.headroom)
    }

    /// Takes in a sample: opens or closes, and says what to do with the ballast.
    pub fn observe(&self, sample: Sample) -> BallastMove {
        let floor = self.floor(&sample);
        let admitted = self.admitted.swap(0, Ordering::Relaxed);
        // What was admitted just before may not have reached the disk yet.
        let above = sample.free.saturating_sub(floor).saturating_sub(admitted);
        self.free.store(sample.free, Ordering::Relaxed);
        self.floor.store(floor, Ordering::Relaxed);
        self.ballast.store(sample.ballast, Ordering::Relaxed);
        let reopens_at = floor.saturating_add(self.reserve.bytes / REOPEN_PART);
        let closed = if self.closed.load(Ordering::Relaxed) {
            sample.starved || sample.free <= reopens_at
        } else {
            sample.starved || sample.free <= floor
        };
        let limit = if closed { 0 } else { above };
        self.limit.store(limit, Ordering::Relaxed);
        if self.closed.swap(closed, Ordering::Relaxed) != closed {
            let (free, ballast) = (sample.free, sample.ballast);
            if closed {
                tracing::warn!(free, floor, ballast, "the disk is full: writes are refused");
            } else {
                tracing::warn!(free, floor, "there is room again: writes are accepted");
            }
        }
        self.ballast_move(&sample, reopens_at)
    }

    fn ballast_move(&self, sample: &Sample, reopens_at: u64) -> BallastMove {
        let tight = sample.busy && sample.free < self.soft() / 2;
        if sample.ballast > 0 {
            return if sample.starved || tight {
                BallastMove::GiveUp
            } else {
                BallastMove::Keep
            };
        }
        // The floor without ballast has it in it, so taking it back leaves writes open.
        if self.reserve.ballast > 0 && !sample.starved && sample.free > reopens_at {
            return BallastMove::TakeBack;
        }
        BallastMove::Keep
    }

    /// Whether there is so little left that work that can wait should.
    pub fn is_tight(&self) -> bool {
        self.free.load(Ordering::Relaxed) < self.soft() / 2
    }

    /// The reserve.
    pub fn reserve(&self) -> Reserve {
        self.reserve
    }

    /// What operators see.
    pub fn stats(&self) -> RoomStats {
        let free = self.free.load(Ordering::Relaxed);
        RoomStats {
            free_bytes: (free != u64::MAX).then_some(free),
            floor_bytes: self.floor.load(Ordering::Relaxed),
            ballast_bytes: self.ballast.load(Ordering::Relaxed),
            refuses: self.closed.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn room() -> Room {
        Room::new(Reserve {
            bytes: 64 * MIB,
            ballast: 32 * MIB,
        })
    }

    fn sample(free: u64) -> Sample {
        Sample {
            free,
            ballast: 32 * MIB,
            ..Sample::default()
        }
    }

    #[test]
    fn the_reserve_fits_the_file_system() {
        let of = |volume: u64, wanted| Reserve::new(volume, wanted).bytes;
        assert_eq!(of(400 * MIB, None), 100 * MIB);
        assert_eq!(of(10_000 * MIB, None), 256 * MIB);
        assert_eq!(of(100_000 * MIB, None), 1_000 * MIB);
        assert_eq!(of(100_000 * MIB, Some(7)), 7);
        assert_eq!(of(400 * MIB, Some(400 * MIB)), 100 * MIB);
        assert_eq!(Reserve::new(10_000 * MIB, None).ballast, 128 * MIB);
        assert_eq!(Reserve::new(u64::MAX, None).ballast, BALLAST_BYTES_MAX);
    }

    #[test]
    fn a_commit_that_would_eat_into_the_reserve_is_refused() {
        let room = room();
        assert!(room.admit(1 << 40).is_ok(), "nothing is known yet");
        room.observe(sample(u64::MAX / 2));
        room.observe(sample(40 * MIB));
        // 32 MiB are kept, which leaves 8 for commits, of which each byte counts fourfold.
        assert!(room.admit(3 * MIB).is_err());
        assert!(room.admit(MIB).is_ok());
        assert!(room.admit(MIB).is_ok());
        let Err(Error::NoRoom {
            free_bytes,
            floor_bytes,
            ..
        }) = room.admit(1)
        else {
            panic!("admitted")
        };
        assert_eq!((free_bytes, floor_bytes), (40 * MIB, 32 * MIB));
        // What was admitted may not be on the disk yet.
        room.observe(sample(40 * MIB));
        assert!(room.admit(1).is_err());
        room.observe(sample(40 * MIB));
        assert!(room.admit(1).is_ok());
    }

    #[test]
    fn it_closes_below_the_floor_and_opens_a_little_above() {
        let room = room();
        room.observe(sample(32 * MIB + 1));
        assert!(!room.stats().refuses);
        room.observe(sample(32 * MIB));
        assert!(room.stats().refuses && room.admit(0).is_err());
        room.observe(sample(33 * MIB));
        assert!(room.stats().refuses, "no flutter");
        room.observe(sample(37 * MIB));
        assert!(!room.stats().refuses && room.admit(1).is_ok());
        room.observe(Sample {
            headroom: 5 * MIB,
            ..sample(36 * MIB)
        });
        assert!(room.stats().refuses, "the engine will need it");
    }

    #[test]
    fn the_ballast_goes_to_who_starves_and_comes_back_with_room() {
        let room = room();
        assert_eq!(room.observe(sample(0)), BallastMove::Keep);
        let starved = Sample {
            starved: true,
            ..sample(0)
        };
        assert_eq!(room.observe(starved), BallastMove::GiveUp);
        let bare = |free| Sample {
            ballast: 0,
            ..sample(free)
        };
        assert_eq!(room.observe(bare(32 * MIB)), BallastMove::Keep);
        assert!(room.stats().refuses);
        assert_eq!(room.observe(bare(69 * MIB)), BallastMove::TakeBack);
        assert!(!room.stats().refuses);
        assert_eq!(room.observe(sample(37 * MIB)), BallastMove::Keep);
        assert!(!room.stats().refuses, "open as it was before");
    }

    #[test]
    fn without_a_reserve_what_is_free_may_be_used() {
        let room = Room::new(Reserve::default());
        let bare = |free| Sample {
            free,
            headroom: MIB,
            ..Sample::default()
        };
        room.observe(bare(1));
        assert!(!room.stats().refuses);
        for _ in 0..2 {
            room.observe(bare(0));
            assert!(room.stats().refuses, "no flutter");
        }
        room.observe(bare(1));
        assert!(!room.stats().refuses);
    }
}

//! Time as a trait, so that a whole cluster can run on a simulated clock.
//!
//! Timers follow tokio's clock (which a paused runtime drives); a [`Clock`] gives readings. The
//! real one lives in [`crate::shell`], the only place of this crate that reads the system's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A source of readings.
pub trait Clock: Send + Sync + 'static {
    /// Nanoseconds since a fixed, unspecified origin. Never goes backwards.
    fn monotonic_ns(&self) -> u64;

    /// Milliseconds since the Unix epoch. May jump in both directions.
    fn wall_ms(&self) -> u64;
}

/// A clock that follows the timers of a paused tokio runtime, with a wall clock that starts where
/// the test says and can be made to jump.
#[derive(Debug)]
pub struct SimClock {
    origin: Instant,
    wall_origin_ms: AtomicU64,
}

impl SimClock {
    /// A clock that reads `wall_origin_ms` now. Call it inside the runtime.
    pub fn new(wall_origin_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            origin: sim_now(),
            wall_origin_ms: AtomicU64::new(wall_origin_ms),
        })
    }

    /// Moves the wall clock by `delta_ms` against the monotonic one.
    pub fn jump_wall(&self, delta_ms: i64) {
        let _ = self
            .wall_origin_ms
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |origin| {
                Some(origin.saturating_add_signed(delta_ms))
            });
    }

    fn elapsed(&self) -> Duration {
        sim_now().saturating_duration_since(self.origin)
    }
}

impl Clock for SimClock {
    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wall_ms(&self) -> u64 {
        let elapsed_ms = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.wall_origin_ms
            .load(Ordering::SeqCst)
            .saturating_add(elapsed_ms)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a paused runtime's clock is the simulated one"
)]
fn sim_now() -> Instant {
    Instant::now()
}

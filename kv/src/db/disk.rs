//! Looking at the disk a few times a second, so that commits are refused before it is full.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::db::node::Node;
use crate::storage::{BallastMove, Room, Sample, Volume};

/// How often the disk is looked at.
const EVERY: Duration = Duration::from_millis(100);
/// And while so much more is free than must be that nobody can fill it within this.
const EVERY_FAR: Duration = Duration::from_millis(1_000);
/// So many bytes are far from full.
const FAR_BYTES: u64 = 8 << 30;

/// Runs for as long as the node lives.
pub(super) async fn watch(node: Weak<Node>, volume: Arc<dyn Volume>) {
    loop {
        let Some(strong) = node.upgrade() else { return };
        let runtime = strong.runtime.clone();
        strong.look_at_disk(&volume).await;
        let stats = strong.room.stats();
        let above = |free: u64| free.saturating_sub(stats.floor_bytes);
        let far = stats.free_bytes.is_some_and(|free| above(free) > FAR_BYTES);
        drop(strong);
        runtime.sleep(if far { EVERY_FAR } else { EVERY }).await;
    }
}

impl Node {
    /// Takes a sample of the disk and does what follows from it.
    pub(crate) async fn look_at_disk(&self, volume: &Arc<dyn Volume>) {
        let (engine, volume) = (Arc::clone(&self.engine), Arc::clone(volume));
        let (room, log) = (Arc::clone(&self.room), Arc::clone(&self.log));
        let look = move || {
            let needs = engine.prepare_disk();
            let Some(free) = volume.free_bytes() else {
                return;
            };
            let sample = Sample {
                free,
                ballast: volume.ballast_bytes(),
                headroom: needs.headroom_bytes,
                busy: needs.busy,
                starved: needs.starved || log.stats().waits_for_room,
            };
            move_ballast(&room, &*volume, room.observe(sample));
        };
        // Gone only when the runtime is shutting down.
        let _ = self.runtime.blocking(look).await;
    }
}

fn move_ballast(room: &Room, volume: &dyn Volume, what: BallastMove) {
    let bytes = match what {
        BallastMove::Keep => return,
        BallastMove::GiveUp => 0,
        BallastMove::TakeBack => room.reserve().ballast,
    };
    match volume.set_ballast(bytes) {
        Ok(()) if bytes == 0 => tracing::warn!("gave up the ballast file: the disk is full"),
        Ok(()) => tracing::debug!(bytes, "made the ballast file"),
        // Without it commits leave as much more free; it is tried again at the next look.
        Err(error) => tracing::debug!(%error, bytes, "could not change the ballast file"),
    }
}

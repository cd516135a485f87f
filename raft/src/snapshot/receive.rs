//! Putting together the pieces of a snapshot at the receiver.
//!
//! One transfer at a time: the piece with number 0 of another one drops what was there; any other
//! piece must continue the current one, else the sender is told to start again. A piece that comes
//! once more, since its answer was lost or late, changes nothing. While a snapshot is being installed
//! its sender asks after it with the last piece.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::membership::Peer;
use crate::transport::{SnapshotChunk, Vote};

use super::spool::SpooledSnapshot;

/// Where the pieces of a transfer are kept, from the first one on.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Option<Box<dyn SpooledSnapshot>>>>;

/// What a received piece led to.
pub(crate) enum Received {
    /// It is to be kept there.
    Keep(Slot),
    /// It has come before.
    Known,
    /// It was the last one, which is empty.
    Complete(Slot),
    /// It was the last one of a snapshot that is being installed.
    Again(Install),
    /// It does not fit what came before, or is damaged.
    Restart,
}

/// A snapshot that is being installed.
pub(crate) struct Install {
    from: Peer,
    transfer: u64,
    done: BoxFuture<'static, Option<Vote>>,
}

impl Install {
    /// The snapshot whose last piece `chunk` was; `done` ends when it is installed, with the vote of
    /// the replica, or without one when that has stopped.
    pub(crate) fn new(
        from: Peer,
        chunk: &SnapshotChunk,
        done: BoxFuture<'static, Option<Vote>>,
    ) -> Self {
        Self {
            from,
            transfer: chunk.transfer,
            done,
        }
    }

    /// Waits for the end, but not for long.
    pub(crate) async fn wait(&mut self, at_most: Duration) -> Option<Option<Vote>> {
        tokio::time::timeout(at_most, &mut self.done).await.ok()
    }
}

/// The transfer that is under way to a replica, if any.
#[derive(Default)]
pub(crate) struct Staging {
    current: Option<Transfer>,
    installing: Option<Install>,
}

struct Transfer {
    from: Peer,
    id: u64,
    next: u64,
    slot: Slot,
}

impl Staging {
    /// Takes the next piece.
    pub(crate) fn receive(&mut self, from: Peer, chunk: &SnapshotChunk) -> Received {
        let asked = |install: &mut Install| {
            (install.from, install.transfer) == (from, chunk.transfer) && chunk.last
        };
        if let Some(install) = self.installing.take_if(asked) {
            return Received::Again(install);
        }
        let continues =
            |transfer: &Transfer| (transfer.from, transfer.id) == (from, chunk.transfer);
        let known = self.current.as_ref().filter(|known| continues(known));
        if known.is_some_and(|known| chunk.sequence < known.next) {
            return Received::Known;
        }
        if chunk.sequence == 0 {
            self.current = Some(Transfer {
                from,
                id: chunk.transfer,
                next: 0,
                slot: Slot::default(),
            });
        }
        let Some(transfer) = &mut self.current else {
            return Received::Restart;
        };
        let fits = continues(transfer)
            && transfer.next == chunk.sequence
            && crc32c::crc32c(&chunk.data) == chunk.checksum
            && chunk.last == chunk.data.is_empty();
        if !fits {
            self.current = None;
            return Received::Restart;
        }
        transfer.next += 1;
        let slot = Arc::clone(&transfer.slot);
        if chunk.last {
            self.current = None;
            return Received::Complete(slot);
        }
        Received::Keep(slot)
    }

    /// Gives up the transfer whose pieces were to be kept there.
    pub(crate) fn give_up(&mut self, slot: &Slot) {
        self.current
            .take_if(|current| Arc::ptr_eq(&current.slot, slot));
    }

    /// A snapshot is being installed; its sender will ask after it.
    pub(crate) fn installing(&mut self, install: Install) {
        self.installing = Some(install);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::transport::Vote;

    fn chunk(transfer: u64, sequence: u64, last: bool) -> SnapshotChunk {
        let length = if last { 0 } else { 3 };
        let data = Bytes::from(vec![u8::try_from(sequence).unwrap(); length]);
        SnapshotChunk {
            vote: Vote::default(),
            transfer,
            sequence,
            position: None,
            membership: Bytes::new(),
            checksum: crc32c::crc32c(&data),
            data,
            last,
        }
    }

    /// A piece is to be kept.
    fn keeps(staging: &mut Staging, piece: &SnapshotChunk) -> bool {
        let received = staging.receive(Peer::default(), piece);
        matches!(received, Received::Keep(_))
    }

    #[test]
    fn pieces_in_order_make_a_snapshot() {
        let mut staging = Staging::default();
        let from = Peer::default();
        let Received::Keep(first) = staging.receive(from, &chunk(7, 0, false)) else {
            panic!("not kept");
        };
        assert!(keeps(&mut staging, &chunk(7, 1, false)));
        let Received::Complete(slot) = staging.receive(from, &chunk(7, 2, true)) else {
            panic!("not complete");
        };
        assert!(Arc::ptr_eq(&first, &slot));
    }

    #[test]
    fn a_piece_that_comes_again_changes_nothing() {
        let mut staging = Staging::default();
        let from = Peer::default();
        for (sequence, new) in [(0, true), (1, true), (1, false), (0, false), (1, false)] {
            let received = staging.receive(from, &chunk(7, sequence, false));
            match received {
                Received::Keep(_) => assert!(new),
                Received::Known => assert!(!new),
                _ => panic!("not taken"),
            }
        }
        let last = chunk(7, 2, true);
        let received = staging.receive(from, &last);
        assert!(matches!(received, Received::Complete(_)));
        // Whoever asks for another one than is being installed has to begin.
        let done = Box::pin(std::future::ready(Some(Vote::default())));
        staging.installing(Install::new(from, &last, done));
        assert!(matches!(
            staging.receive(from, &chunk(8, 2, true)),
            Received::Restart
        ));
        assert!(matches!(staging.receive(from, &last), Received::Again(_)));
    }

    #[test]
    fn a_gap_another_transfer_or_damage_restarts() {
        let from = Peer::default();
        let begin = || {
            let mut staging = Staging::default();
            assert!(keeps(&mut staging, &chunk(7, 0, false)));
            staging
        };
        let restarts = |mut staging: Staging, piece: &SnapshotChunk| {
            let received = staging.receive(from, piece);
            assert!(matches!(received, Received::Restart));
        };
        restarts(begin(), &chunk(7, 2, false));
        restarts(begin(), &chunk(8, 1, false));
        let mut damaged = chunk(7, 1, false);
        damaged.checksum ^= 1;
        restarts(begin(), &damaged);
        restarts(Staging::default(), &chunk(7, 1, false));
        // What could not be kept is given up, but not what was begun since.
        let mut staging = Staging::default();
        let Received::Keep(slot) = staging.receive(from, &chunk(7, 0, false)) else {
            panic!("not kept");
        };
        let mut begun_anew = begin();
        begun_anew.give_up(&slot);
        assert!(keeps(&mut begun_anew, &chunk(7, 1, false)));
        staging.give_up(&slot);
        restarts(staging, &chunk(7, 1, false));
    }
}

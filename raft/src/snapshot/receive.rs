//! Putting together the pieces of a snapshot at the receiver.
//!
//! One transfer at a time: the piece with number 0 of another one drops what was there; any other
//! piece must continue the current one, else the sender is told to start again. A piece that comes
//! once more, since its answer was lost or late, changes nothing. While a snapshot is being installed
//! its sender asks after it with the last piece.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::membership::Peer;
use crate::transport::{SnapshotChunk, Vote};

use super::data::Staged;

/// What a received piece led to.
pub(crate) enum Received {
    /// More pieces are to come.
    Next,
    /// It was the last one.
    Complete(Staged),
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
    staged: Staged,
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
            return Received::Next;
        }
        if chunk.sequence == 0 {
            self.current = Some(Transfer {
                from,
                id: chunk.transfer,
                next: 0,
                staged: Staged::default(),
            });
        }
        let Some(transfer) = &mut self.current else {
            return Received::Restart;
        };
        let fits = continues(transfer)
            && transfer.next == chunk.sequence
            && crc32c::crc32c(&chunk.data) == chunk.checksum
            && transfer.staged.bytes.saturating_add(chunk.data.len()) <= Staged::BYTES_MAX;
        if !fits {
            self.current = None;
            return Received::Restart;
        }
        transfer.next += 1;
        transfer.staged.bytes += chunk.data.len();
        transfer.staged.chunks.push_back(chunk.data.clone());
        if !chunk.last {
            return Received::Next;
        }
        match self.current.take() {
            Some(transfer) => Received::Complete(transfer.staged),
            None => Received::Restart,
        }
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
        let data = Bytes::from(vec![u8::try_from(sequence).unwrap(); 3]);
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

    #[test]
    fn pieces_in_order_make_a_snapshot() {
        let mut staging = Staging::default();
        let from = Peer::default();
        assert!(matches!(
            staging.receive(from, &chunk(7, 0, false)),
            Received::Next
        ));
        assert!(matches!(
            staging.receive(from, &chunk(7, 1, false)),
            Received::Next
        ));
        let Received::Complete(staged) = staging.receive(from, &chunk(7, 2, true)) else {
            panic!("not complete");
        };
        assert_eq!(staged.bytes, 9);
        assert_eq!(staged.chunks.len(), 3);
    }

    #[test]
    fn a_piece_that_comes_again_changes_nothing() {
        let mut staging = Staging::default();
        let from = Peer::default();
        for sequence in [0, 1, 1, 0, 1] {
            assert!(matches!(
                staging.receive(from, &chunk(7, sequence, false)),
                Received::Next
            ));
        }
        let Received::Complete(staged) = staging.receive(from, &chunk(7, 2, true)) else {
            panic!("not complete");
        };
        assert_eq!(staged.bytes, 9);
        // Whoever asks for another one than is being installed has to begin.
        let last = chunk(7, 2, true);
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
            assert!(matches!(
                staging.receive(from, &chunk(7, 0, false)),
                Received::Next
            ));
            staging
        };
        assert!(matches!(
            begin().receive(from, &chunk(7, 2, false)),
            Received::Restart
        ));
        assert!(matches!(
            begin().receive(from, &chunk(8, 1, false)),
            Received::Restart
        ));
        let mut damaged = chunk(7, 1, false);
        damaged.checksum ^= 1;
        assert!(matches!(begin().receive(from, &damaged), Received::Restart));
        assert!(matches!(
            Staging::default().receive(from, &chunk(7, 1, false)),
            Received::Restart
        ));
    }
}

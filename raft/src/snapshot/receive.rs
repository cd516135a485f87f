//! Putting together the pieces of a snapshot at the receiver.
//!
//! One transfer at a time: a piece with number 0 begins a new one and drops what was there; any
//! other piece must continue the current one, else the sender is told to start again.

use crate::membership::Peer;
use crate::transport::SnapshotChunk;

use super::data::Staged;

/// What a received piece led to.
pub(crate) enum Received {
    /// More pieces are to come.
    Next,
    /// It was the last one.
    Complete(Staged),
    /// It does not fit what came before, or is damaged.
    Restart,
}

/// The transfer that is under way to a replica, if any.
#[derive(Default)]
pub(crate) struct Staging {
    current: Option<Transfer>,
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
        let fits = transfer.from == from
            && transfer.id == chunk.transfer
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

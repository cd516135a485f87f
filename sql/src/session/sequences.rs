//! Sequences: a node takes blocks of values in small transactions of its own, so `nextval` is not
//! undone by a rollback, does not wait for other transactions, and costs no commit each time.
//!
//! A block begins at PostgreSQL's 32 values and grows while the demand is high; what is left of a
//! block when a node stops is lost, as in PostgreSQL after a crash.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use pontoon_kv::{Db, TxnOptions};

use super::cancel::wait;
use crate::catalog::desc::SequenceDesc;
use crate::catalog::rows;
use crate::error::{SqlError, SqlState};

/// Values in a block at rest.
const BLOCK_MIN: i64 = 32;
/// Values in a block when they are used up within [`BUSY`].
const BLOCK_MAX: i64 = 8192;
/// A block used up faster than this is followed by a larger one.
const BUSY: Duration = Duration::from_millis(500);
/// How often a block is tried for when other nodes take theirs at the same time.
const ATTEMPTS_MAX: u32 = 50;

/// Where a sequence stands: the last value and whether it was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) last: i64,
    pub(crate) called: bool,
}

impl Position {
    /// Its bytes in the store.
    pub(crate) fn encode(self) -> Bytes {
        let mut bytes = self.last.to_be_bytes().to_vec();
        bytes.push(u8::from(self.called));
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, SqlError> {
        match (bytes.first_chunk::<8>(), bytes.get(8), bytes.len()) {
            (Some(last), Some(called), 9) => Ok(Self {
                last: i64::from_be_bytes(*last),
                called: *called == 1,
            }),
            _ => Err(rows::damaged("position of a sequence")),
        }
    }

    /// The first value to give, and the position after a block of at most `wanted` values.
    fn take(
        this: Option<Self>,
        sequence: &SequenceDesc,
        wanted: i64,
    ) -> Result<(i64, i64, Self), SqlError> {
        let up = sequence.increment > 0;
        let first = match this {
            None => sequence.start,
            Some(Self {
                last,
                called: false,
            }) => last,
            Some(Self { last, called: true }) => {
                let next = last
                    .checked_add(sequence.increment)
                    .filter(|v| (sequence.min..=sequence.max).contains(v));
                match next {
                    Some(next) => next,
                    None if sequence.cycle && up => sequence.min,
                    None if sequence.cycle => sequence.max,
                    None => {
                        let (word, limit) = if up {
                            ("maximum", sequence.max)
                        } else {
                            ("minimum", sequence.min)
                        };
                        return Err(SqlError::new(
                            SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED,
                            format!(
                                "nextval: reached {word} value of sequence \"{}\" ({limit})",
                                sequence.name
                            ),
                        ));
                    }
                }
            }
        };
        let bound = if up { sequence.max } else { sequence.min };
        let room = i128::from(bound).abs_diff(i128::from(first))
            / u128::from(sequence.increment.unsigned_abs().max(1));
        let more = i64::try_from(room)
            .unwrap_or(i64::MAX)
            .min(wanted.max(1) - 1);
        let last = first.saturating_add(sequence.increment.saturating_mul(more));
        Ok((first, more + 1, Self { last, called: true }))
    }
}

#[derive(Default)]
struct Ready {
    next: i64,
    left: i64,
    size: i64,
    filled: Option<Instant>,
}

#[derive(Default)]
struct Block {
    ready: Mutex<Ready>,
    /// Held while the store is asked.
    refill: tokio::sync::Mutex<()>,
}

/// The blocks of this node.
#[derive(Default)]
pub(crate) struct Sequences {
    blocks: Mutex<HashMap<u32, Arc<Block>>>,
}

impl Sequences {
    fn block(&self, storage: u32) -> Arc<Block> {
        Arc::clone(self.blocks.lock().entry(storage).or_default())
    }

    /// The next value.
    pub(crate) fn next(&self, db: &Db, sequence: &SequenceDesc) -> Result<i64, SqlError> {
        let block = self.block(sequence.storage);
        // The guard must be gone before the refill takes it.
        let ready = give(&mut block.ready.lock(), sequence);
        match ready {
            Some(value) => Ok(value),
            None => wait(refill(db, &block, sequence)),
        }
    }

    /// Sets the position.
    pub(crate) fn set(
        &self,
        db: &Db,
        sequence: &SequenceDesc,
        position: Position,
    ) -> Result<(), SqlError> {
        if !(sequence.min..=sequence.max).contains(&position.last) {
            return Err(SqlError::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                format!(
                    "setval: value {} is out of bounds for sequence \"{}\" ({}..{})",
                    position.last, sequence.name, sequence.min, sequence.max
                ),
            ));
        }
        let block = self.block(sequence.storage);
        wait(async {
            let _refill = block.refill.lock().await;
            let size = block.ready.lock().size;
            *block.ready.lock() = Ready {
                size,
                ..Ready::default()
            };
            alter(db, sequence, |_| Ok((position, ()))).await
        })
    }

    /// Where the sequence stands for this node: what `SELECT last_value` shows.
    pub(crate) async fn position(
        &self,
        db: &Db,
        sequence: &SequenceDesc,
    ) -> Result<Position, SqlError> {
        let block = self.block(sequence.storage);
        let _refill = block.refill.lock().await;
        {
            let ready = block.ready.lock();
            if ready.filled.is_some() {
                return Ok(Position {
                    last: ready.next - sequence.increment,
                    called: true,
                });
            }
        }
        let txn = db
            .begin(TxnOptions {
                read_only: true,
                ..TxnOptions::default()
            })
            .await?;
        match txn.get(&rows::sequence_key(sequence.storage)).await? {
            Some(bytes) => Position::decode(&bytes),
            None => Ok(Position {
                last: sequence.start,
                called: false,
            }),
        }
    }

    /// Forgets what is known of a sequence whose descriptor changed.
    pub(crate) fn forget(&self, storage: u32) {
        self.blocks.lock().remove(&storage);
    }
}

fn give(ready: &mut Ready, sequence: &SequenceDesc) -> Option<i64> {
    if ready.left == 0 {
        return None;
    }
    let value = ready.next;
    ready.left -= 1;
    ready.next = value.saturating_add(sequence.increment);
    Some(value)
}

async fn refill(db: &Db, block: &Block, sequence: &SequenceDesc) -> Result<i64, SqlError> {
    let _refill = block.refill.lock().await;
    let wanted = {
        let mut ready = block.ready.lock();
        if let Some(value) = give(&mut ready, sequence) {
            return Ok(value);
        }
        let busy = ready.filled.is_some_and(|at| at.elapsed() < BUSY);
        let size = if busy {
            ready.size.saturating_mul(2)
        } else {
            BLOCK_MIN
        };
        size.clamp(BLOCK_MIN, BLOCK_MAX).max(sequence.cache)
    };
    let (first, count) = alter(db, sequence, |position| {
        let (first, count, after) = Position::take(position, sequence, wanted)?;
        Ok((after, (first, count)))
    })
    .await?;
    let mut ready = block.ready.lock();
    *ready = Ready {
        next: first,
        left: count,
        size: wanted,
        filled: Some(Instant::now()),
    };
    give(&mut ready, sequence).ok_or_else(|| SqlError::internal("empty block of a sequence"))
}

/// Changes the stored position in a transaction of its own.
async fn alter<T>(
    db: &Db,
    sequence: &SequenceDesc,
    change: impl Fn(Option<Position>) -> Result<(Position, T), SqlError>,
) -> Result<T, SqlError> {
    let key = rows::sequence_key(sequence.storage);
    let mut attempt = 0;
    loop {
        let txn = db.begin(TxnOptions::default()).await?;
        let before = match txn.get(&key).await? {
            Some(bytes) => Some(Position::decode(&bytes)?),
            None => None,
        };
        let (after, result) = change(before)?;
        txn.put(key.clone(), after.encode())?;
        match txn.commit().await {
            Ok(_) => return Ok(result),
            // Values that were perhaps taken are simply not given.
            Err(e) if (e.is_retryable() || e.is_ambiguous()) && attempt < ATTEMPTS_MAX => {
                attempt += 1;
                tokio::task::yield_now().await;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Oid;

    fn sequence(increment: i64, min: i64, max: i64, cycle: bool) -> SequenceDesc {
        SequenceDesc {
            oid: Oid(1),
            name: "s".into(),
            schema: Oid(2200),
            schema_name: "public".into(),
            ty: Oid::INT8,
            start: if increment > 0 { min } else { max },
            increment,
            min,
            max,
            cache: 1,
            cycle,
            owned_by: None,
            owner: Oid(10),
            storage: 7,
            comment: None,
        }
    }

    #[test]
    fn values_come_in_order_and_end_at_the_limit() {
        let db = Db::in_memory();
        let sequences = Sequences::default();
        let s = sequence(1, 1, 70, false);
        let all: Vec<i64> = (0..70).map(|_| sequences.next(&db, &s).unwrap()).collect();
        assert_eq!(all, (1..=70).collect::<Vec<_>>());
        let error = sequences.next(&db, &s).unwrap_err();
        assert_eq!(
            error.message,
            "nextval: reached maximum value of sequence \"s\" (70)"
        );
        sequences
            .set(
                &db,
                &s,
                Position {
                    last: 5,
                    called: false,
                },
            )
            .unwrap();
        assert_eq!(sequences.next(&db, &s).unwrap(), 5);
        assert!(
            sequences
                .set(
                    &db,
                    &s,
                    Position {
                        last: 0,
                        called: true
                    }
                )
                .is_err()
        );
    }

    #[test]
    fn cycles_and_descends() {
        let db = Db::in_memory();
        let sequences = Sequences::default();
        let s = sequence(-2, 1, 5, true);
        let all: Vec<i64> = (0..5).map(|_| sequences.next(&db, &s).unwrap()).collect();
        assert_eq!(all, vec![5, 3, 1, 5, 3]);
    }

    #[test]
    fn another_node_takes_another_block() {
        let db = Db::in_memory();
        let (a, b) = (Sequences::default(), Sequences::default());
        let s = sequence(1, 1, 1000, false);
        assert_eq!(a.next(&db, &s).unwrap(), 1);
        assert_eq!(b.next(&db, &s).unwrap(), 33);
        assert_eq!(a.next(&db, &s).unwrap(), 2);
    }
}
